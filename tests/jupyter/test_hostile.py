"""What workers send that no message can carry, and that must neither take others with it nor fill the memory."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

pytest.importorskip("ipykernel")

from aiopool._core import records
from aiopool._runtime.output import MOST_UNFINISHED, PART_BYTES, Output
from aiopool._runtime.words import MOST_HELD, Shown
from aiopool.jupyter.later import Later
from aiopool.jupyter.outlet import Outlet
from aiopool.jupyter.tracks import MOST_GROUPS, OTHERS, CallsTrack
from aiopool.surfaces import Displayed
from aiopool.telemetry import FailureGroup, JobSnapshot


def failed(number: int, *labels: str) -> JobSnapshot:
    """A call that has failed with an error of a type of its own."""
    group = FailureGroup(f"E{number}", "cell, line 1", "boom", 1, (0,), labels, "a long text")
    return JobSnapshot(1, "call", "failed", 1, 0, 1, 0, 1.0, failures=(group,))


def test_what_cannot_be_sent_does_not_take_what_comes_after_it(caplog: pytest.LogCaptureFixture) -> None:
    """Half of a character makes a session raise; the job must end all the same, and its lines be seen."""
    sent: list[str] = []

    def send(_: str, content: dict[str, Any]) -> None:
        sent.append(json.dumps(content, ensure_ascii=False).encode().decode())

    outlet = Outlet(send)
    with caplog.at_level(logging.ERROR, "aiopool"):
        outlet.put([Displayed(0, 0, {"text/plain": "\ud800"}, {}), ("stdout", "a line\n")])
        outlet.flush()
    assert len(sent) == 1
    assert "a line" in sent[0]
    assert "cannot be shown" in caplog.text


def test_displays_that_are_never_finished_are_let_go_of_even_if_they_are_empty() -> None:
    """Each costs memory, whatever is in it."""
    output = Output(lambda _: None)
    most = MOST_UNFINISHED // PART_BYTES
    beginning = records.head(output.token, records.PART, 1, 1)
    for first in range(0, most + 50_000, 50_000):
        names = range(first, first + 50_000)
        output.take(b"".join(records.record(beginning, name.to_bytes(8, "little")) for name in names))
    assert len(output._parts) <= most


def test_what_looks_like_a_crash_without_an_end_is_shown_after_a_while() -> None:
    """A program that a worker has started may print so for ever."""
    shown = Shown()
    assert shown.sift(["Fatal Python error: Aborted"]) == ["Fatal Python error: Aborted"]
    assert len(shown.sift(["  some line"] * (MOST_HELD + 1))) == MOST_HELD + 1
    assert not shown.release()


def test_calls_that_fail_in_thousands_of_ways_are_told_apart_up_to_some() -> None:
    """The rest is one kind, the last one: a panel looks at all of them ten times a second."""
    track = CallsTrack("call")
    for number in range(MOST_GROUPS + 100):
        track.enter()
        track.close(failed(number, "x"))
    groups = track.view.failures
    assert len(groups) == MOST_GROUPS + 1
    assert (groups[-1].type_name, groups[-1].count) == (OTHERS, 100)


def test_labels_of_calls_that_come_later_are_shown_though_all_have_ended_before() -> None:
    """Empty ones must not take their places."""
    track = CallsTrack("call")
    for _ in range(5):
        track.enter()
        track.close(failed(1, ""))
    track.amend(failed(1, "Thing(3)"))
    assert track.view.failures[0].labels == ("Thing(3)",)
    assert track.view.failures[0].count == 5


def test_where_no_thread_could_be_started_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing would be shown in this kernel any more."""
    later, done = Later(), []

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", refuse)
        with pytest.raises(RuntimeError):
            later.call(0.0, lambda: done.append(1))
    assert later._thread is None
