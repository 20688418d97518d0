"""Jobs whose end cannot be shown end all the same."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from aiopool import Pool
from aiopool._runtime.groups import Groups
from aiopool._runtime.labelling import MOST_ASKED, Labeller, Labels
from aiopool._runtime.telling import message
from tests.pool.board import DEADLINE

HUGE = 10**6000
"""Python refuses to write a number of so many digits."""


class Refuses:
    """Cannot travel, and says so with a number that cannot be written."""

    def __reduce__(self) -> Any:
        raise ValueError(HUGE)


def same(x: object) -> object:
    """Nothing is done."""
    return x


def test_an_error_with_a_number_that_cannot_be_written_has_no_message() -> None:
    """It is asked on the pool's own thread, which must not raise."""
    assert message(ValueError(HUGE)) == ""
    with Pool(workers=1) as pool:
        job = pool.map(same, [Refuses(), 2], on_error="return")
        job.result(DEADLINE)
        assert [group.count for group in job.snapshot().failures] == [1]


def test_a_job_whose_end_cannot_be_shown_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would ever end it, and whoever awaits it would wait for ever."""

    def raises(*_: object) -> None:
        raise ZeroDivisionError

    with Pool(workers=1) as pool, caplog.at_level(logging.ERROR, "aiopool"):
        monkeypatch.setattr(Groups, "picture", raises)
        assert list(pool.map(same, range(3)).result(DEADLINE)) == [0, 1, 2]
        monkeypatch.undo()
    assert "cannot be shown" in caplog.text


def test_a_repr_that_exits_does_not_end_the_thread_of_labels() -> None:
    """Others would have none any more."""
    labeller, made = Labeller(), threading.Event()

    def exits(_: object) -> str:
        raise SystemExit

    labels = Labels(lambda _: None, exits, is_own=True)
    labeller.ask(labels, 0)
    labeller.ask_all(labels, [1], made.set)
    assert made.wait(DEADLINE)
    labeller.stop()
    assert labels.look(0) == ""


def test_a_label_that_hangs_does_not_hold_thousands_of_jobs() -> None:
    """Each that failed would wait for its turn, with all its results."""
    labeller, go = Labeller(), threading.Event()

    def hangs(_: object) -> str:
        go.wait(DEADLINE)
        return ""

    for _ in range(3 * MOST_ASKED):
        labeller.ask_all(Labels(lambda _: None, hangs, is_own=True), [0], lambda: None)
    assert labeller._work.qsize() <= MOST_ASKED
    go.set()
    labeller.stop()
