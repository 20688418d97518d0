"""Laps without a process around them: who takes what of a stretch, and when what has ended is sent."""

from __future__ import annotations

import contextvars
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiopool import _payload
from aiopool._core import frames
from aiopool._worker import outbox
from aiopool._worker.clock import Clock
from aiopool._worker.laps import are_possible, run_lap
from aiopool._worker.marks import MarkPage
from aiopool._worker.outbox import Outbox
from aiopool._worker.reports import Reports
from aiopool._worker.work import JobRun, Stepped
from tests.pool.board import DEADLINE, until


class Silent:
    """Nobody prints here."""

    def __init__(self) -> None:
        self.open: dict[int, Any] = {}

    def end(self, entry: Stepped, *, failed: bool) -> None:
        """Nothing is left to be said."""


class Bench:
    """A main thread's part of a worker, with the test in the place of the link thread and of the parent."""

    def __init__(self, page: int, size: int, function: Callable[[Any], Any] = abs) -> None:
        self.sent: list[frames.Frame] = []
        self.wakes = 0
        self.served = 0
        self.errors: list[tuple[int, BaseException]] = []
        self.began = 0.0
        self.interrupted: Stepped | None = None
        self.stepping: Stepped | None = None
        self.context = contextvars.Context()
        self.marks = MarkPage(page)
        self.clock = Clock(self.sent.append, self.wake)
        self.reports = Reports(self.sent.append, self.wake)
        prints: Any = Silent()
        self.outbox = Outbox(self.sent.append, self.wake, self.clock, self.reports, lambda _: None, prints=prints)
        self.must_turn = False
        self.turn = 0
        self.job = JobRun(frames.Function(1, 0, b"", _payload.dump_function(abs).data), self)
        self.job.load()
        self.job._function = function  # as it is here, so that a test can look into it
        values = _payload.dump_shared(list(range(size)))
        self.job.add(frames.Batch(1, 7, 1, 1, range(size), values, ()))

    def wake(self) -> None:
        """Somebody wants the link thread to look around."""
        self.wakes += 1

    def serve(self, job: JobRun) -> None:
        """Something has been put back."""
        self.served += 1

    def released(self, job: JobRun) -> None:
        """Nothing is held here."""

    def raised(self, job: JobRun, entry: Stepped, error: BaseException, seconds: float) -> None:
        """Note who has failed."""
        self.errors.append((entry.position, error))

    def complete(self, *_: Any) -> None:
        """Nothing here returns a coroutine."""
        raise AssertionError

    def run(self) -> None:
        """Run all there is, as the main thread does."""
        while (stretch := self.job.stretch()) is not None:
            function = self.job.in_laps
            assert function is not None
            run_lap(self, self.job, stretch, function)

    @property
    def results(self) -> list[int]:
        """The positions of which values were sent."""
        return [at for frame in self.sent if isinstance(frame, frames.Results) for at in frame.positions]


@pytest.fixture
def bench(tmp_path) -> Iterator[Callable[..., Bench]]:
    """A maker of benches."""
    made = []

    def make(size: int, function: Callable[[Any], Any] = abs) -> Bench:
        page = os.open(tmp_path / "page", os.O_RDWR | os.O_CREAT)
        os.truncate(page, MarkPage.SLOTS * 8)
        made.append(Bench(page, size, function))
        os.close(page)
        return made[-1]

    yield make
    for each in made:
        # What is called after a fork holds it for good.
        each.marks.slots.release()
        each.marks.low.release()
        each.marks._map.close()


# --- what an item costs: no clock, so the counts are the same on every machine ----------------------------------------


@pytest.fixture
def timeless(monkeypatch):
    """Nothing becomes too old while it waits, however slow the machine is."""
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", float("inf"))


@pytest.mark.usefixtures("timeless")
def test_a_batch_is_one_frame_one_pickle_and_one_wake(bench, monkeypatch):
    """It is sent when its last item has ended; the link thread was told that something might have to be sent before."""
    pickled: list[int] = []
    dump = _payload.dump_shared
    here = bench(4000)
    monkeypatch.setattr(_payload, "dump_shared", lambda values: pickled.append(len(values)) or dump(values))
    here.run()
    assert here.results == list(range(4000))
    assert len(here.sent) == 1
    assert pickled == [4000]
    assert here.wakes == 1
    assert here.marks.slots[0] == 0


@pytest.mark.usefixtures("timeless")
def test_between_two_items_no_python_of_ours_is_called(bench):
    """And of C six functions: the clock, two looks whether the item was asked for anything, and what is put down."""
    costs = []
    for size in (1000, 4000):
        here = bench(size, lambda x: x)
        item = here.job.in_laps.__code__
        counts = Counter()

        def count(frame: Any, event: str, _: object, counts: Any = counts, item: Any = item) -> None:
            counts[event] += frame.f_code is not item

        # What else this process has left behind would be freed, and be counted, at some item.
        gc.collect()
        gc.disable()
        sys.setprofile(count)
        try:
            here.run()
        finally:
            sys.setprofile(None)
            gc.enable()
        costs.append(counts)
    few, many = costs
    assert many["call"] - few["call"] < 10
    assert many["c_call"] - few["c_call"] <= 6 * 3000 + 10


# --- whose is what ----------------------------------------------------------------------------------------------------


def test_an_item_is_marked_while_it_runs(bench):
    """As the parent reads it when the process is dead."""
    marks = []

    def look(x: int) -> int:
        marks.append(frames.spot_of(here.marks.slots[0]))
        return x

    here = bench(100, look)
    here.run()
    assert marks == [(7, position) for position in range(100)]


def test_what_is_put_down_after_the_link_thread_has_looked_is_told_anew(bench, monkeypatch):
    """Else a value that ends just then would wait for as long as the next item takes, were it an hour."""
    wakes = []

    def fire(x: int) -> int:
        if x == 50:
            # The link thread comes while this item runs, and has found nothing sent for some time.
            here.outbox._flushed -= 1.0
            assert not here.outbox.flush_late()
            wakes.append(here.wakes)
            # Not for long, by the main thread's own clock.
            here.outbox._flushed += 3600.0
        if x == 51:
            wakes.append(here.wakes)
        return x

    here = bench(100, fire)
    here.run()
    assert here.results == list(range(100))
    assert wakes[1] == wakes[0] + 1


@pytest.mark.usefixtures("timeless")
def test_the_link_thread_looks_again_as_long_as_somebody_sends(bench):
    """It need not be woken for every batch then."""
    here = bench(10)
    here.run()
    assert here.outbox.flush_late()
    assert here.outbox.waiting
    here.outbox._flushed = float("-inf")
    assert not here.outbox.flush_late()
    assert not here.outbox.waiting


def test_what_is_handed_back_is_what_has_not_started(bench):
    """From the end, while an item runs; the rest is still run."""
    back: list[int] = []
    left: list[int] = []

    def ask(x: int) -> int:
        if x == 10:
            for count in (5, 30):
                back.extend(here.job.hand_back(count).positions)
                left.append(here.job.waiting)
        return x

    here = bench(100, ask)
    here.run()
    assert sorted(back) == list(range(65, 100))
    assert left == [84, 54]
    assert here.results == list(range(65))
    assert here.served == 2


def test_more_is_asked_for_than_there_is(bench):
    """Then that is what is handed back, and the item that runs is none of it."""
    back: list[int] = []
    here = bench(100, lambda x: (back.extend(here.job.hand_back(1000).positions) if x == 98 else None, x)[1])
    here.run()
    assert back == [99]
    assert here.results == list(range(99))


def test_a_cancel_leaves_nothing_to_be_begun(bench):
    """The item that runs is the last one."""
    begun = []

    def cancel(x: int) -> int:
        begun.append(x)
        if x == 10:
            here.job.cancelled = True
            here.job.drop()
        return x

    here = bench(100, cancel)
    here.run()
    assert begun == list(range(11))
    assert not here.job.waits
    assert not here.job.running


def test_a_lap_is_left_when_somebody_else_has_something_to_do(bench):
    """After some ms at the latest, here after its first item; what is left is run in the next turn."""
    turns = []

    def run(x: int) -> int:
        turns.append(here.turn)
        return x

    here = bench(100, run)
    here.must_turn = True
    while (stretch := here.job.stretch()) is not None:
        here.turn += 1
        run_lap(here, here.job, stretch, run)
    assert here.results == list(range(100))
    assert turns[:2] == [1, 2]


def test_items_that_go_to_threads_are_those_that_have_not_started(bench):
    """Fewer workers share the job than before; in the order in which they came."""

    def spread(x: int) -> int:
        if x == 10:
            here.job.spread()
        return x

    here = bench(100, spread)
    here.run()
    assert [entry.position for entry in here.job.queue] == list(range(11, 100))


def test_what_the_job_takes_one_by_one_is_not_run_in_a_lap(bench):
    """As its first item, with which the function is loaded."""
    here = bench(100)
    taken = [here.job.take() for _ in range(3)]
    here.run()
    here.outbox.flush()
    assert [entry.position for entry in taken if entry is not None] == [0, 1, 2]
    assert here.results == list(range(3, 100))


def test_what_comes_behind_a_batch_of_one_item_begins_behind_it(bench):
    """It does not slow down those that come after it. The older ones are the first."""
    here = bench(1)
    values = _payload.dump_shared(list(range(1, 100)))
    here.job.add(frames.Batch(1, 8, 1, 1, range(1, 100), values, ()))
    assert not here.job.queue
    taken = [here.job.take() for _ in range(3)]
    assert [entry.item for entry in taken if entry is not None] == [0, 1, 2]


def test_an_error_between_two_items_is_nobodys(bench, capfd):
    """As a signal handler of the user's may raise. It is printed, and nothing is lost."""
    here = bench(10)
    begin = here.outbox.begin

    def sly_begin(*args: Any) -> Any:
        run = begin(*args)
        run.due = float("inf")
        if run.begin == 0:

            class Ends(list):
                def append(self, end: float) -> None:
                    super().append(end)
                    if len(self) == 4:
                        raise KeyError("from a handler")

            run.ends = Ends()
        return run

    here.outbox.begin = sly_begin
    here.run()
    assert here.results == list(range(10))
    assert here.errors == []
    assert "from a handler" in capfd.readouterr().err


def test_an_error_before_an_item_was_put_down_is_that_items(bench):
    """The next one is the next one."""
    here = bench(10)
    begin = here.outbox.begin

    def sly_begin(*args: Any) -> Any:
        run = begin(*args)
        run.due = float("inf")
        if run.begin == 0:

            class Ends(list):
                def append(self, end: float) -> None:
                    if len(self) == 4:
                        raise KeyError("from a handler")
                    super().append(end)

            run.ends = Ends()
        return run

    here.outbox.begin = sly_begin
    here.run()
    here.outbox.flush()
    assert [position for position, _ in here.errors] == [4]
    assert here.results == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_no_item_is_both_run_and_cut_off(bench):
    """Whatever the two threads are at, when either of them is interrupted."""
    begun: list[int] = []
    back: list[int] = []
    done = threading.Event()

    def run(x: int) -> int:
        begun.append(x)
        if x == 100:  # Unless this, too, was handed back.
            until(lambda: back, what="the other thread has come to its turn")
        return x

    here = bench(20_000, run)

    def disturb() -> None:
        while not done.is_set():
            back.extend(here.job.hand_back(3).positions)
            here.job.come_out()
            here.outbox.flush()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        other = threading.Thread(target=disturb)
        other.start()
        while here.job.waits:
            here.run()
        done.set()
        other.join(DEADLINE)
        here.run()
    finally:
        sys.setswitchinterval(before)
    here.outbox.flush()
    assert Counter(begun) + Counter(back) == Counter(range(20_000))
    assert sorted(here.results) == sorted(begun)
    assert back


def test_laps_need_a_context_with_nothing_else_in_it():
    """Otherwise the cursor might be in a part of the mapping that one which is made of it shares."""
    empty = contextvars.Context()
    assert are_possible(empty)
    variable = contextvars.ContextVar("variable")
    empty.run(variable.set, 1)
    assert not are_possible(empty)
