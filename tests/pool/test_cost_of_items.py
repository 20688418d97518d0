"""What an item costs in the parent, counted in lines of ours that run and in bytes: without a clock, the same anywhere.

Nothing on its way from the input to the caller is done per item in Python: what a batch of 4,000 costs is what one of
40 does. What is done per item in C is told by benchmarks.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import tracemalloc
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import aiopool
from aiopool._core import frames, wire
from aiopool._payload import EncodedItems, dump_items, dump_shared
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.recoder import Recoder
from aiopool._runtime.results import Results
from aiopool._runtime.sources import source_of
from tests.job.driver import Driver
from tests.pool.board import DEADLINE, until

FEW, MANY = 40, 4_000

OURS = str(Path(aiopool.__file__).parent) + os.sep


class Lines:
    """Counts the lines of ours that run in this thread and in those that start meanwhile."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, work: Callable[[], object]) -> int:
        """How many this takes."""
        self.count = 0
        # What the collector may find just then, of other tests, runs lines of ours in its end.
        gc.collect()
        gc.disable()
        before = sys.gettrace()
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            work()
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]  # None ends it
            gc.enable()
        return self.count

    def _enter(self, frame: FrameType, _: str, __: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, _: FrameType, event: str, __: object) -> Any:
        self.count += event == "line"
        return self._line


def costs(work: Callable[[int], Callable[[], object]]) -> tuple[int, int]:
    """What it takes with few items, and with many; once before, for what is made but once."""
    work(FEW)()
    return Lines().of(work(FEW)), Lines().of(work(MANY))


class AtOnce(Recoder):
    """Pickles on the thread that asks for it: how often others find each other at work is chance."""

    def _begin_thread(self) -> None:
        self._run(0.0)


class Sink:
    """Takes what a feeder makes."""

    def __init__(self) -> None:
        self.items = 0
        self.ended = threading.Event()

    def supplied(self, _: int, items: Sequence[int], __: EncodedItems) -> None:
        """Count it."""
        self.items += len(items)

    def nudged(self, _: int) -> None:
        """Nobody waits."""

    def input_ended(self, _: int, __: int) -> None:
        """The end."""
        self.ended.set()

    input_broken: Any = None


@pytest.mark.parametrize("kind", ["a list", "a range", "pairs", "an iterator with a length", "a generator"])
def test_to_read_and_pickle_a_batch_costs_the_same_whatever_its_size(kind):
    """Whatever the input is; of two batches each."""

    def work(size: int) -> Callable[[], object]:
        count = 2 * size
        values: Any = {
            "a list": list(range(count)),
            "a range": range(count),
            "pairs": [(number, "x") for number in range(count)],
            "an iterator with a length": dict.fromkeys(range(count)),
            "a generator": iter(list(range(count))),
        }[kind]
        source = source_of((values,), example="")
        sink = Sink()
        recoder = AtOnce(sink)
        feeder = Feeder(1, sink, recoder, dump_items, source.keep)
        feeder.credit.grant(1 << 40, size, hungry=False)

        def read() -> None:
            source.feed(feeder)
            feeder.join()
            assert sink.ended.wait(DEADLINE)
            recoder.stop()
            assert sink.items == count
            if source.forget is not None:
                source.forget(range(count))

        return read

    few, many = costs(work)
    assert many <= 1.1 * few


def test_frames_are_written_and_read_at_the_same_cost_whatever_their_size():
    """Of batches, and of results, whose values are plain."""

    def work(size: int) -> Callable[[], object]:
        encoded = dump_items(list(range(size)))
        batch = frames.Batch(1, 2, 3, 1, range(size), encoded.shared, encoded.blobs)
        seconds = array("d", [1e-6]) * size
        results = frames.Results(1, 2, range(size), seconds, dump_shared(list(range(size))), ())

        def there_and_back() -> None:
            data = b"".join([*wire.encode(batch), *wire.encode(results)])
            assert len(list(wire.Parser().feed(data))) == 2

        return there_and_back

    few, many = costs(work)
    assert many == few


def test_an_item_on_its_way_takes_no_more_bytes_than_its_value_and_its_seconds_do():
    """Not a length of its own, not a number of its own."""
    values = list(range(100_000, 100_000 + MANY))
    encoded = dump_items(values)
    there = sum(map(len, wire.encode(frames.Batch(1, 2, 3, 1, range(MANY), encoded.shared, encoded.blobs))))
    assert there <= len(dump_shared(values)) + 100
    seconds = array("d", [1e-6]) * MANY
    back = sum(map(len, wire.encode(frames.Results(1, 2, range(MANY), seconds, dump_shared(values), ()))))
    assert back <= there + 8 * MANY


@pytest.mark.parametrize("size", ["known", "unknown"])
def test_results_are_put_down_loaded_and_listed_at_the_same_cost_however_many_come_together(size):
    """From the frame to the list."""

    def work(count: int) -> Callable[[], object]:
        results = Results(count if size == "known" else None)
        segment = Segment(range(count), array("d", [1e-6]) * count, dump_shared(list(range(count))), (), 0)

        def take() -> None:
            results.deliver(segment)
            results.set_total(count)
            results.load()
            assert len(results.listing(lambda _: None)) == count

        return take

    few, many = costs(work)
    assert many == few


def test_to_await_a_job_costs_the_same_however_many_items_its_segments_have(monkeypatch):
    """All that is done on the caller's loop, in one slice of time: 20 segments with 800 items, and with 80,000."""
    monkeypatch.setattr("aiopool.job.SLICE", DEADLINE)

    def work(each: int) -> Callable[[], object]:
        count = 20 * each
        with Driver(count) as driver:
            for start in range(0, count, each):
                driver.deliver(range(start, start + each))
            driver.end()

        async def cell() -> None:
            assert len(await driver.job) == count

        return lambda: asyncio.run(cell())

    few, many = costs(work)
    assert many == few


def test_a_list_of_results_with_a_failure_in_it_costs_the_same_whatever_its_length():
    """Only the failure is looked at."""

    def work(count: int) -> Callable[[], object]:
        with Driver(count) as driver:
            driver.deliver(range(count - 1))
            driver.fail(count - 1, ValueError("no"))
            driver.end()
        results = driver.results
        results.load()

        def take() -> None:
            assert results.listing(lambda _: "hole")[-1] == "hole"

        return take

    few, many = costs(work)
    assert many == few


def test_nobody_loads_for_a_second_slice_of_time_in_the_same_step_of_the_loop(monkeypatch):
    """Whether the job is awaited or read: here each slice is over after one value, and others have a turn then."""
    for module in ("job", "readers"):
        monkeypatch.setattr(f"aiopool.{module}.SLICE", 0.0)
    count = 50
    step, loads = 0, []

    async def ticks() -> None:
        nonlocal step
        while True:
            step += 1
            await asyncio.sleep(0)

    async def read(job: Any, way: str) -> int:
        ticking = asyncio.create_task(ticks())
        try:
            return len(await job if way == "await" else [value async for value in job])
        finally:
            ticking.cancel()

    for way in ("await", "async for"):
        with Driver(count) as driver:
            load = driver.results._value

            def counted(*args: Any, load: Callable[..., object] = load) -> object:
                loads.append(step)
                return load(*args)

            monkeypatch.setattr(driver.results, "_value", counted)
            driver.deliver_blobs(range(count), [dump_shared([number]) for number in range(count)])
            driver.end()
            driver.flush()
            assert asyncio.run(read(driver.job, way)) == count
        assert len(loads) == count
        assert len(set(loads)) == count
        loads.clear()


def test_a_job_that_waits_has_pickled_no_more_of_a_million_items_than_workers_may_hold(pool, monkeypatch):
    """So a cancel has little to undo. They sleep, and nothing is known of how long they take."""
    pickled = 0

    def values() -> Iterator[int]:
        nonlocal pickled
        for number in range(1_000_000):
            pickled += 1
            yield number

    class Counted:
        def __len__(self) -> int:
            return 1_000_000

        def __iter__(self) -> Iterator[int]:
            return values()

    job = pool.map(sleeps, Counted(), progress=False)
    until(lambda: job.snapshot().in_flight >= 100)
    job.cancel()
    until(job.done)
    assert pickled < 10_000


def test_a_huge_job_takes_next_to_no_memory_for_items_that_have_not_ended(pool):
    """Of 50,000,000: a place for each would be a list that holds everybody up whenever the collector goes through."""
    tracemalloc.start()
    try:
        job = pool.map(sleeps, range(50_000_000), progress=False)
        until(lambda: job.snapshot().in_flight >= 100)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    job.cancel()
    until(job.done)
    assert most < 20_000_000


async def sleeps(_: int) -> None:
    """Longer than anybody waits."""
    await asyncio.sleep(3600)


async def test_a_generator_that_is_read_leaves_nothing_behind(pool):
    """100,000 items: no more is kept of them than is read ahead, which is a thousand, and waits for the reader."""
    job = pool.map(same, (number for number in range(100_000)), progress=False)
    results = job._results
    shelf, kept = results._shelf, job._failures._value_of.__self__._kept
    expected = 0
    async for value in job:
        assert value == expected
        expected += 1
        if not expected % 500:
            held = max(len(shelf._values), len(shelf._shares), len(results._arrivals))
            assert held <= 2 * (results.finished - expected) + 3000
            assert len(kept) <= 2000
    assert expected == 100_000
    until(lambda: not kept)


def same(number: int) -> int:
    """The number."""
    return number
