"""What the panel of a cell keeps, of its pools and its jobs, and who keeps the panel; the kernel is a list."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import json
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ipykernel")

from aiopool.jupyter import cells, panel
from aiopool.jupyter.cell import Cell
from aiopool.jupyter.cells import Cells
from aiopool.jupyter.line import Line
from aiopool.jupyter.panel import Panel, panel_of
from aiopool.jupyter.stage import Stage
from aiopool.jupyter.surface import CellSurface
from aiopool.jupyter.tracks import MapTrack
from aiopool.surfaces import Printed
from tests.jupyter.pictures import job, pool, worker

DEADLINE = 10.0


class FakeKernel:
    """Notes what it is to send, as bytes, and is busy with one cell."""

    ident = "kernel"
    iopub_socket = None

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.parent = self.request("cell 1")
        self.session = SimpleNamespace(send=self.send)
        self.shell = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))

    def request(self, cell_id: str, number: int = 0) -> dict[str, Any]:
        """What a front end sends to run a cell, in which nobody answers."""
        return {
            "header": {"msg_type": "execute_request", "msg_id": f"message {number}"},
            "metadata": {"cellId": cell_id},
            "content": {"allow_stdin": False},
        }

    def get_parent(self, _: str) -> dict[str, Any]:
        """The request of the cell that runs."""
        return self.parent

    def send(self, _: object, kind: str, content: dict[str, Any], **__: object) -> None:
        """As a session does, which encodes what it is given."""
        self.sent.append((kind, json.loads(json.dumps(content, ensure_ascii=False).encode())))

    def texts(self) -> list[str]:
        """What was displayed, as text."""
        return [content["data"]["text/plain"] for _, content in self.sent]


class Thread:
    """The thread of a pool: it lives, so that no other has its number."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def __call__(self, function: Callable[..., object], *args: object) -> None:
        """Call it there."""
        self._thread.submit(function, *args).result(DEADLINE)

    def end(self) -> None:
        """It ends."""
        self._thread.shutdown()


@pytest.fixture(autouse=True)
def _nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread for what is shown later lives as long as its process, and tests of leaks would find it."""
    monkeypatch.setattr(panel.later, "call", lambda *_: None)


@pytest.fixture
def threads() -> Iterator[tuple[Thread, Thread]]:
    """Those of two pools."""
    both = Thread(), Thread()
    yield both
    for each in both:
        each.end()


@pytest.fixture
def kernel() -> FakeKernel:
    """A kernel in which a cell runs."""
    return FakeKernel()


@pytest.fixture
def stage(kernel: FakeKernel) -> Stage:
    """Its stage."""
    return Stage(kernel, lambda _, function: function())


@pytest.fixture
def cell(kernel: FakeKernel) -> Cell:
    """The cell."""
    return Cell(kernel, kernel.parent)


def ended(name: str) -> MapTrack:
    """A map that has ended."""
    track = MapTrack(name)
    track.close(job(1, name=name, total=1, state="done", in_flight=0))
    return track


def surface_of(name: str, cell: Cell, stage: Stage, *, of_call: bool) -> CellSurface:
    """What a job of that name shows itself on."""
    return CellSurface(name, True, cell, cell.id, stage, of_call=of_call, as_one=False)  # noqa: FBT003 - the option's value


def seen(shown: Panel) -> str:
    """Which workers it says there are."""
    title: str = shown._look()[0]["workers_title"]
    return title


# --- pools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_call", [False, True], ids=["maps", "calls"])
def test_a_pool_on_which_no_job_runs_any_more_goes(
    monkeypatch: pytest.MonkeyPatch, threads: tuple[Thread, Thread], cell: Cell, stage: Stage, *, of_call: bool
) -> None:
    """While another job of the cell runs on another pool: nobody tells of the first one, which may be closed by now.

    Not in the moment in which the next job may begin there.
    """
    monkeypatch.setattr(panel, "REST_AFTER", 3600.0)  # However long this takes.
    pools = [pool(worker(0), worker(1), name="first"), pool(worker(0), name="second")]
    surfaces = [surface_of("fetch", cell, stage, of_call=of_call) for _ in pools]
    shown = panel_of(cell, stage)
    for thread, surface, picture in zip(threads, surfaces, pools, strict=True):
        thread(surface.begin, 1)
        thread(shown.refresh, picture, ())
    assert seen(shown) == "first: 2 workers, 2 busy, 620 MB; second: 1 worker, 1 busy, 310 MB"
    threads[0](surfaces[0].close, job(1, total=1, state="done"))
    assert seen(shown).startswith("first: ")
    monkeypatch.setattr(panel, "REST_AFTER", 0.0)
    assert seen(shown) == "1 worker, 1 busy, 310 MB"
    threads[0](shown.refresh, pools[0], ())
    assert seen(shown) == "1 worker, 1 busy, 310 MB"


def test_a_call_that_ends_before_its_pool_tells_of_it_does_not_count(
    monkeypatch: pytest.MonkeyPatch, threads: tuple[Thread, Thread], cell: Cell, stage: Stage
) -> None:
    """Beside one that takes longer, on the same pool: its workers stay."""
    monkeypatch.setattr(panel, "REST_AFTER", 0.0)
    long, short = (surface_of("fetch", cell, stage, of_call=True) for _ in range(2))
    thread, _ = threads
    thread(long.begin, 1)
    short._enter()
    thread(short.close, job(1, total=1, state="done"))
    thread(panel_of(cell, stage).refresh, pool(worker(0)), ())
    assert seen(panel_of(cell, stage)) == "1 worker, 1 busy, 310 MB"


# --- who keeps it --------------------------------------------------------------------------------------------------


def test_the_panel_of_a_cell_that_was_run_again_is_let_go_of(kernel: FakeKernel, stage: Stage) -> None:
    """Though somebody holds the job which it showed: each run of a cell that shows a job has a panel of its own."""
    track, panels = ended("fetch"), []
    for number in range(15):
        cell = Cell(kernel, kernel.request("cell 1", number))
        stage.begin_cell(cell)
        panel_of(cell, stage).show(track, lambda _: None)
        panels.append(weakref.ref(panel_of(cell, stage)))
    assert track.panels == [cell.panel]
    gc.collect()
    assert [ref() for ref in panels if ref() is not None] == [cell.panel]


def test_what_a_task_of_the_last_run_starts_does_not_come_back_to_its_panel(cell: Cell, stage: Stage) -> None:
    """Nothing can be seen there: the panel must not be kept by the job."""
    shown = panel_of(cell, stage)
    shown.close()
    surface = surface_of("fetch", cell, stage, of_call=False)
    surface.begin(1)
    assert surface._track.panels == []
    assert not shown.is_open
    surface.close(job(1, total=1, state="done"))
    shown.show(ended("fetch"), lambda _: None)
    assert shown._look()[0]["jobs"] == []


# --- thousands of rows ---------------------------------------------------------------------------------------------


def test_a_row_that_made_room_comes_back_as_a_new_one(
    monkeypatch: pytest.MonkeyPatch, cell: Cell, stage: Stage
) -> None:
    """Of a function that is called again after thousands of other jobs: with what it prints now, each line once."""
    monkeypatch.setattr(panel, "MOST_TRACKS", 3)

    def call() -> CellSurface:
        surface = surface_of("f", cell, stage, of_call=True)
        surface.begin(1)
        surface.write([Printed(0, 0, "hi")])
        surface.close(job(1, name="f", total=1, state="done"))
        return surface

    shown, first = panel_of(cell, stage), call()
    for number in range(3):
        shown.add(ended(f"round {number}"))
    assert first._track.panels == []
    second = call()
    assert second._track.panels == [shown]
    state, _ = shown._look()
    assert [line["text"] for line in state["prints"]] == ["hi", "hi"]
    (row,) = [row for row in state["jobs"] if row["name"] == "f"]
    assert row["summary"].startswith("f: 1 call done")


def test_a_row_that_is_about_to_say_that_it_has_ended_makes_no_room(
    monkeypatch: pytest.MonkeyPatch, cell: Cell, stage: Stage
) -> None:
    """Its pool tells the panel a moment later, which would wait for that for ever."""
    monkeypatch.setattr(panel, "MOST_TRACKS", 1)
    shown, track = panel_of(cell, stage), MapTrack("fetch")
    track.live = True
    shown.add(track)
    track.close(job(1, total=1, state="done"))
    shown.add(ended("another"))
    for each in list(track.panels):
        each.end(track)
    assert not shown.is_open


# --- texts that no message can carry -------------------------------------------------------------------------------

HALF = "h \ud83d x"


def test_a_line_under_a_cell_can_be_sent_whatever_a_job_is_called(kernel: FakeKernel, cell: Cell) -> None:
    """Half of a character is replaced, and colours are left out."""
    line = Line(cell)
    line.begin(1)
    line.refresh(pool(jobs=(job(1, name=f"{HALF} \x1b[31mred", total=4),)), ())
    line.close(job(4, name=HALF, total=4, state="done"))
    first, last = kernel.texts()
    assert "h \N{REPLACEMENT CHARACTER} x red: 1 of 4" in first
    assert last.startswith("h \N{REPLACEMENT CHARACTER} x: 4 done")


def run_twice(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """Run a cell twice: the second run cancels a job of the first one, and the panel of that is returned."""
    mine = SimpleNamespace(owner="cell 1", snapshot=lambda: job(1, name=HALF, total=4), cancel=lambda: True)
    jobs: list[SimpleNamespace] = []
    monkeypatch.setattr(cells, "registry", SimpleNamespace(running=lambda: jobs))
    watched = Cells(kernel)
    shown = panel_of(watched.here()[0], watched.stage)
    track = MapTrack(HALF)
    track.live = True
    shown.add(track)
    jobs.append(mine)
    kernel.parent = kernel.request("cell 1", 1)
    watched._enter()
    with contextlib.suppress(BrokenPipeError):
        watched._begin(None)
    return shown


def test_what_a_cell_that_is_run_again_has_cancelled_can_be_told(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is called: an error would be one of the user's cell."""
    shown = contextvars.copy_context().run(run_twice, kernel, monkeypatch)
    assert not shown.is_open
    assert kernel.texts() == [
        "h \N{REPLACEMENT CHARACTER} x, started by the last run of this cell, was cancelled: 1 of 4 done"
    ]


def test_the_old_panel_of_a_cell_is_closed_whatever_cannot_be_told(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output is gone, and nobody would close it later."""

    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError

    kernel.session.send = fail
    assert not contextvars.copy_context().run(run_twice, kernel, monkeypatch).is_open
