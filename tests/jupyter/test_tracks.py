"""What a panel knows of its jobs, without a kernel."""

from __future__ import annotations

from types import SimpleNamespace

from aiopool.jupyter.panel import Panel
from aiopool.jupyter.rows import CallsView
from aiopool.jupyter.tracks import CallsTrack, MapTrack
from aiopool.jupyter.view import panel_state
from aiopool.telemetry import CallsSnapshot
from tests.jupyter.pictures import job, pool, worker


def test_lines_of_calls_that_were_not_shown_are_counted():
    """Of all calls of the function that have ended; the panel says how many."""
    track = CallsTrack("fetch")
    for _ in range(3):
        track.enter()
    for unshown in (1000, 0, 234):
        track.close(job(1, total=1, state="done", unshown=unshown))
    assert isinstance(track.view, CallsView)
    assert (track.view.done, track.view.unshown) == (3, 1234)


def test_a_retry_that_raises_whatever_it_may_is_told_and_can_be_tried_again():
    """It runs in a thread of its own: nobody else would hear of it, and the button would do nothing for ever."""
    told: list[str] = []

    def run_as(_: object, call) -> None:
        call()

    def retry() -> None:
        raise SystemExit("no licence")

    panel = SimpleNamespace(_stage=SimpleNamespace(run_as=run_as), cell=None, _say=told.append)
    track = MapTrack("fetch")
    track.retried = True
    Panel._retry_now(panel, track, SimpleNamespace(retry=retry))  # type: ignore[arg-type]
    assert told == ["SystemExit: no licence"]
    assert not track.retried


def test_beside_an_item_of_a_call_stands_its_function_where_several_jobs_run():
    """Also where the calls are only counted."""
    at_work = worker(0, job=7, item=0, label="'a'")
    calls = CallsSnapshot("score", 2, 1.0, (7,))
    state = panel_state([], [pool(at_work, calls=(calls,))])
    assert state["workers"][0]["item"] == "score, item 0: 'a'"
    alone = panel_state([], [pool(at_work, jobs=(job(0, id=7, total=1),))])
    assert alone["workers"][0]["item"] == "item 0: 'a'"
