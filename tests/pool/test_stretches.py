"""Laps without a process around them: who takes what of a stretch, and when what has ended is sent."""

from __future__ import annotations

import contextvars
import functools
import gc
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, ClassVar

import pytest

from aiopool import _payload, inside
from aiopool._core import frames, wire
from aiopool._worker import laps, outbox
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
        self.open.pop(entry.code, None)


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
        self.prints = prints
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


@pytest.fixture(params=[math.inf, 1e-7], ids=["one by one", "in groups"])
def bench(tmp_path, request) -> Iterator[Callable[..., Bench]]:
    """A maker of benches, where it is not known how short items are, or known that they are very short."""
    made = []

    def make(size: int, function: Callable[[Any], Any] = abs) -> Bench:
        page = os.open(tmp_path / "page", os.O_RDWR | os.O_CREAT)
        os.truncate(page, MarkPage.SLOTS * 8)
        made.append(Bench(page, size, function))
        made[-1].job.pace = request.param
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
    """Nothing becomes too old while it waits, and nothing takes unusually long, however slow the machine is."""
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", math.inf)
    monkeypatch.setattr(laps, "UNUSUAL", math.inf)


@pytest.fixture
def told(bench, timeless) -> Callable[..., Bench]:
    """A maker of benches whose link thread knows already that something may have to be sent before long."""

    def make(size: int, function: Callable[[Any], Any] = abs) -> Bench:
        here = bench(size, function)
        here.outbox._told = True
        return here

    return make


@pytest.mark.usefixtures("timeless")
def test_a_batch_is_one_frame_one_pickle_and_one_wake(bench, monkeypatch):
    """It is sent when its last item has ended; the link thread was told that something might have to be sent before.

    But for the first one of a job, which is cut where it is known how short its items are.
    """
    pickled: list[int] = []
    dump = _payload.dump_shared
    here = bench(2000)
    here.run()
    here.sent.clear()
    monkeypatch.setattr(_payload, "dump_shared", lambda values: pickled.append(len(values)) or dump(values))
    here.job.add(frames.Batch(1, 8, 1, 1, range(2000, 6000), dump(list(range(4000))), ()))
    here.run()
    assert here.results == list(range(4000))
    assert len(here.sent) == 1
    assert pickled == [4000]
    assert here.wakes == 1
    assert here.marks.slots[0] == 0


def test_between_two_items_no_python_of_ours_is_called(told):
    """And of C six functions: the clock, two looks whether the item was asked for anything, and what is put down."""
    costs = []
    for size in (2000, 5000):
        here = told(size, lambda x: x)
        # As long as this, however much longer they take while they are counted.
        learnt = here.job.pace = min(here.job.pace, 1.0)
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
    assert many["c_call"] - few["c_call"] <= (6 if learnt == 1.0 else 4) * 3000 + 10


# --- how long each has taken ------------------------------------------------------------------------------------------


class Clockwork:
    """The time: an item takes as long as it says, and all else takes none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.looks = 0
        monkeypatch.setattr(laps, "perf_counter", self.look)
        monkeypatch.setattr(outbox, "perf_counter", lambda: self.now)

    def look(self) -> float:
        """What those look at who run items."""
        self.looks += 1
        return self.now


@pytest.fixture
def clockwork(monkeypatch) -> Clockwork:
    """Time passes inside items only."""
    return Clockwork(monkeypatch)


def seconds_of(here: Bench) -> list[float]:
    """What each item is said to have taken, in the order of their numbers; as the parent reads it."""
    took = [
        (at, seconds)
        for frame in wire.Parser().feed(b"".join(part for sent in here.sent for part in wire.encode(sent)))
        if isinstance(frame, frames.Results)
        for at, seconds in zip(frame.positions, frame.seconds, strict=True)
    ]
    assert min(took, key=itemgetter(1), default=(0, 0.0))[1] >= 0
    return [seconds for _, seconds in sorted(took)]


def test_short_items_are_timed_in_groups_once_it_is_known_that_they_are_short(bench, clockwork):
    """The clock costs as much as an item that does nothing. They are said to have taken the same."""

    def run(x: int) -> int:
        clockwork.now += 1e-7 if x % 2 else 3e-7
        return x

    here = bench(20_000, run)
    is_known = here.job.pace < math.inf
    here.run()
    assert here.results == list(range(20_000))
    took = seconds_of(here)
    assert sum(took) == pytest.approx(20_000 * 2e-7)
    assert all(seconds == pytest.approx(2e-7, rel=0.51) for seconds in took)
    one_by_one = 1 if is_known else laps.TRIAL + 1
    assert clockwork.looks < one_by_one + (20_000 - one_by_one) / laps.MOST + 20


def test_items_that_are_not_short_are_timed_one_by_one(bench, clockwork):
    """From two microseconds on a look at the clock is not felt."""
    times = [2e-6 * (1 + x % 3) for x in range(5000)]

    def run(x: int) -> int:
        clockwork.now += times[x]
        return x

    here = bench(5000, run)
    here.job.pace = math.inf
    here.run()
    assert seconds_of(here) == pytest.approx(times)


def test_short_items_that_become_long_are_timed_one_by_one_from_then_on(bench, clockwork):
    """But for the group in which the first long one is: all of that are said to have taken equal parts."""
    times = [1e-7] * 5000 + [2e-4] * 1000

    def run(x: int) -> int:
        clockwork.now += times[x]
        return x

    here = bench(6000, run)
    here.run()
    took = seconds_of(here)
    wrong = [x for x, seconds in enumerate(took) if seconds != pytest.approx(times[x], rel=0.01)]
    assert len(wrong) <= laps.MOST
    assert all(5000 - laps.MOST < x < 5000 + laps.MOST for x in wrong)
    assert sum(took) == pytest.approx(sum(times))


def test_now_and_then_a_long_one_among_short_ones_shares_with_its_neighbours_at_most(bench, clockwork):
    """And when there are two of them close to each other, the second one has its own time."""
    long = {3000: 0.001, 3100: 0.002, 9000: 0.003}

    def run(x: int) -> int:
        clockwork.now += long.get(x, 1e-7)
        return x

    here = bench(12_000, run)
    here.run()
    took = seconds_of(here)
    assert took[3100] == pytest.approx(0.002)
    for x in (3000, 9000):
        around = range(x - laps.MOST, x + laps.MOST)
        assert sum(took[at] for at in around) == pytest.approx(long[x], rel=0.01)
        assert took[x] >= long[x] / laps.MOST
    assert sum(took) == pytest.approx(sum(long.values()) + 12_000e-7, rel=0.001)


def test_rows_of_a_batch_and_what_ended_between_them_are_one_frame_with_the_seconds_of_each(bench, clockwork):
    """What the clock has gone on between two rows is nobody's."""
    variable = contextvars.ContextVar("variable")
    begin = outbox.Outbox.begin

    def later(self: Outbox, *args: Any) -> outbox.Run:
        clockwork.now += 0.001
        return begin(self, *args)

    def run(x: int) -> int:
        clockwork.now += 1e-5
        if x % 500 == 0:
            variable.set(x)
        return x

    here = bench(4000, run)
    here.outbox._flushed = math.inf
    here.outbox._told = True
    here.outbox.begin = functools.partial(later, here.outbox)
    here.job.pace = math.inf
    here.run()
    (frame,) = here.sent
    assert isinstance(frame, frames.Results)
    assert frame.positions == range(4000)
    assert not frame.blobs
    assert list(frame.seconds) == pytest.approx([1e-5] * 4000)
    assert frame.took == pytest.approx(0.04)


def test_items_that_waited_beside_others_are_no_row():
    """Together they would seem to have taken longer than the time that has passed."""
    row = frames.InARow(1.0, [1.1, 1.2])
    done = [(1, 7, range(2), row, [0, 1], None), (1, 7, 2, 30.0, 2, None), (1, 7, 5, 30.0, 5, None)]
    frame = outbox._results(1, 7, done)
    assert type(frame.seconds) is tuple
    assert frame.seconds == pytest.approx((0.1, 0.1, 30.0, 30.0))
    assert frame.positions == (0, 1, 2, 5)
    assert _payload.load_shared(frame.shared) == [0, 1, 2, 5]


def test_a_row_need_not_come_first_nor_have_no_holes():
    """Items are numbered as they were, and each has what it took."""
    row = frames.InARow(100.0, [100.1, 100.2])
    done = [(1, 7, 9, 0.01, "nine", None), (1, 7, range(2), row, [0, 1], None), (1, 7, 3, 0.005, 3, None)]
    frame = outbox._results(1, 7, done)
    assert frame.positions == [9, 0, 1, 3]
    assert list(frame.seconds) == pytest.approx([0.01, 0.1, 0.1, 0.005])
    assert frame.took == pytest.approx(0.215)
    assert _payload.load_shared(frame.shared) == ["nine", 0, 1, 3]


def test_items_that_become_long_are_timed_one_by_one_also_in_small_batches(bench, clockwork):
    """Batches of long items are small: two or three of them are no group, though thousands before them were short."""
    times = [1e-7] * 5000 + [0.001 * (1 + x % 3) for x in range(60)]

    def run(x: int) -> int:
        clockwork.now += times[x]
        return x

    here = bench(5000, run)
    here.run()
    for first in range(5000, 5060, 3):
        values = _payload.dump_shared(list(range(first, first + 3)))
        here.job.add(frames.Batch(1, first, 1, 1, range(first, first + 3), values, ()))
        here.run()
    here.outbox.flush()
    took = [
        seconds
        for frame in here.sent
        if isinstance(frame, frames.Results) and frame.batch >= 5003
        for seconds in frame.seconds
    ]
    assert took == pytest.approx(times[5003:])


def test_after_a_pause_items_are_as_short_as_before(bench, clockwork):
    """Another process may have had the processor. It is tried again how long they take."""
    pauses = {1999}

    def run(x: int) -> int:
        clockwork.now += 0.05 if x in pauses else 2e-7
        return x

    here = bench(4000, run)
    here.run()
    pauses.clear()
    values = _payload.dump_shared(list(range(4000)))
    here.job.add(frames.Batch(1, 8, 1, 1, range(4000), values, ()))
    looks = clockwork.looks
    here.run()
    assert here.job.pace == pytest.approx(2e-7)
    assert clockwork.looks - looks < laps.TRIAL + 4000 / laps.MOST + 20


@pytest.mark.parametrize("pace", [1e-9, 9e-7])
def test_items_that_end_a_lap_take_no_less_than_no_time(bench, clockwork, monkeypatch, pace):
    """However wrong it is how long those before them in their group are believed to have taken."""
    ends: list[float] = []

    def run(x: int) -> Any:
        clockwork.now += 1e-8
        if x % 211 == 7:
            raise ValueError(x)
        return [x] if x % 97 == 5 else x

    here = bench(4000, run)
    # The lap is looked at some time after it was left.
    monkeypatch.setattr(outbox, "perf_counter", lambda: clockwork.now + 1e-5)
    raised = here.raised
    here.raised = lambda job, entry, error, seconds: (ends.append(seconds), raised(job, entry, error, seconds))
    while (stretch := here.job.stretch()) is not None:
        here.job.pace = pace
        here.must_turn = True
        run_lap(here, here.job, stretch, run)
    here.outbox.flush()
    took = seconds_of(here)
    assert len(took) + len(ends) == 4000
    assert min(ends) >= 0
    assert sum(took) + sum(ends) == pytest.approx(4000e-8)


def test_an_item_that_ends_while_it_is_asked_what_has_ended_keeps_its_moment(bench, clockwork, monkeypatch):
    """Else what comes next would end before it began: no frame that the parent takes."""
    here = bench(10)
    batch = here.job.stretch().batch
    run = outbox.Run(here.job, batch, 0, math.inf)
    run.each, run.since, run.values, here.job.pace = 16, 1000.0, [0, 1, 2], 1e-6
    clock = [clockwork.now]

    def look() -> float:
        # The main thread, between any two lines of the other one: as late as it may be, with the moment it has noted.
        run.values.append(3)
        run.sizes.append(16)
        run.ends.append(clock[0])
        monkeypatch.setattr(outbox, "perf_counter", lambda: clock[0] + 1e-6)
        return clock[0] + 1e-6

    clock[0] = 1000.0 + 1e-7
    monkeypatch.setattr(outbox, "perf_counter", look)
    here.sent = [
        outbox._results(1, 7, done) for done in (run.taken(over=True), run.taken(over=True, left=True)) if done
    ]
    assert len(seconds_of(here)) == 4


def test_values_before_an_item_that_hangs_are_sent_though_others_are_sent_all_the_time(bench, clockwork):
    """Of another job, from threads of this worker."""

    def hang(x: int) -> int:
        clockwork.now += 1e-7
        if x == 2500:
            clockwork.now += 60
            here.outbox._flushed = clockwork.now - 0.001
            assert not here.outbox.flush_late()
            assert here.results == list(range(2500))
        return x

    here = bench(4000, hang)
    here.run()
    here.outbox.flush()
    assert here.results == list(range(4000))
    assert seconds_of(here)[2500] == pytest.approx(60, rel=1e-6)


def test_values_before_an_item_that_hangs_are_sent_and_their_time_is_not_that_items(bench, clockwork):
    """Who waits for them does not wait for it, and its hours are its own."""

    def hang(x: int) -> int:
        clockwork.now += 1e-7
        if x == 2500:
            clockwork.now += 60
            assert not here.outbox.flush_late()
            assert here.results == list(range(2500))
            clockwork.now += 3600
        return x

    here = bench(4000, hang)
    here.run()
    here.outbox.flush()
    took = seconds_of(here)
    assert here.results == list(range(4000))
    assert took[2500] == pytest.approx(3660, rel=1e-6)
    assert max(took[:2500] + took[2501:]) < 2e-6


def test_an_item_that_ends_a_lap_in_the_middle_of_a_group_has_its_own_time(bench, clockwork):
    """It fails, or has a value that is not plain, after so long; those before it in the group were short."""
    ends: list[float] = []

    def run(x: int) -> Any:
        clockwork.now += 1e-7
        if x in {2500, 2600}:
            clockwork.now += 10
        if x == 2600:
            raise ValueError(x)
        return [x] if x == 2500 else x

    here = bench(4000, run)
    raised = here.raised
    here.raised = lambda job, entry, error, seconds: (ends.append(seconds), raised(job, entry, error, seconds))
    here.run()
    here.outbox.flush()
    took = seconds_of(here)
    assert took[2500] == pytest.approx(10, rel=1e-6)
    assert ends == pytest.approx([10], rel=1e-6)
    assert max(took[:2500] + took[2501:]) < 2e-6


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


def test_between_two_groups_the_mark_is_that_of_the_item_that_has_ended_or_of_the_next(bench, monkeypatch):
    """There a signal handler, another thread or a finaliser may look which item runs."""
    looks = []

    def looking(*args: Any) -> Any:
        run = here.outbox._run
        looks.append(frames.spot_of(here.marks.slots[0])[1] - run.end)
        return islice(*args)

    monkeypatch.setattr(laps, "islice", looking)
    here = bench(100)
    here.run()
    assert looks
    assert set(looks) <= {-1, 0}


class Asking(list[float]):
    """The moments at which items have ended: with each, and so between two items, somebody asks which one runs."""

    told: ClassVar[list[Any]] = []

    def append(self, moment: float) -> None:
        """As a signal handler that prints."""
        super().append(moment)
        running: Any = inside.running.get()
        self.told.append(running.outermost)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Which items those are."""

    class AskedRun(outbox.Run):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.ends = Asking()

    monkeypatch.setattr(outbox, "Run", AskedRun)
    Asking.told = []
    yield Asking.told
    Asking.told = []


def test_who_asks_between_two_items_is_told_of_one_that_has_ended(bench, asked):
    """And keeps it; it is not taken for the next one."""
    here = bench(100)
    here.run()
    assert asked
    assert all(entry.is_over for entry in asked)
    here.outbox.flush()
    assert here.results == list(range(100))


def test_an_item_that_fails_after_somebody_has_asked_is_the_one_that_fails(bench, asked):
    """Not the one before, and those that follow keep their places."""

    def fail(x: int) -> int:
        if x % 16 == 0:
            raise ValueError(x)
        return x

    here = bench(100, fail)
    here.run()
    here.outbox.flush()
    assert asked
    assert [(position, error.args) for position, error in here.errors] == [(x, (x,)) for x in range(0, 100, 16)]
    assert here.results == [x for x in range(100) if x % 16]


@pytest.mark.parametrize("every", [1, 2, 7, 10])
def test_what_is_kept_for_an_item_ends_with_it_whenever_it_was_asked_for(bench, monkeypatch, every):
    """A signal handler that prints may come just when it was looked whether anybody has asked."""
    calls = 0

    def count(what: object) -> int:
        nonlocal calls
        found = sys.getrefcount(what)
        calls += 1
        running: Any = inside.running.get(None)
        if running is not None and calls % every == 0 and not (entry := running.outermost).is_over:
            said.add(entry.position)
            here.prints.open[entry.code] = True
        return found

    monkeypatch.setattr(laps, "getrefcount", count)
    said: set[int] = set()
    here = bench(100)
    here.run()
    here.outbox.flush()
    assert sorted(here.results) == list(range(100))
    assert len(said) > 5
    assert not here.prints.open


def test_a_copy_that_is_left_behind_the_last_item_is_nobodys(bench, asked, monkeypatch):
    """It keeps neither the job nor any value, and what runs in it later does so for no item."""
    copies = []
    append = Asking.append

    def copying(moments: Asking, moment: float) -> None:
        append(moments, moment)
        if here.outbox._run.end == 100:
            copies.append(contextvars.copy_context())

    monkeypatch.setattr(Asking, "append", copying)
    here = bench(100)
    here.run()
    (copy,) = copies
    cursor = copy[inside.running]
    assert cursor.run is None
    assert cursor.is_over
    assert cursor.outermost.is_over


def test_who_asks_when_the_lap_is_over_is_told_of_some_item_of_the_batch(bench):
    """The link thread may hold it for longer than it runs: whatever it reads then, it must be able to send it."""
    here = bench(100)
    cursor = laps.Place(here, here.job.stretch().batch).cursor
    cursor.run = here.outbox.begin(here.job, cursor.batch, 0)
    for low in (0, 5000):
        here.marks.low[0] = low
        assert 0 <= frames.spot_of(cursor.code)[1] < 100
        assert 0 <= cursor.item < 100


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

            class Values(list):
                def append(self, value: object) -> None:
                    super().append(value)
                    if len(self) == 4:
                        raise KeyError("from a handler")

            run.values = Values()
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

            class Values(list):
                def append(self, value: object) -> None:
                    if len(self) == 4:
                        raise KeyError("from a handler")
                    super().append(value)

            run.values = Values()
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
