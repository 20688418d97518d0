"""Reading a job one result after another: in input order or as completed, from sync and from async code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiopool import _payload
from aiopool.errors import InputLost, JobCancelled, ResultsConsumed, WouldDeadlock
from aiopool.job import Failure
from tests.job.driver import DEADLINE, Driver, Poison, eventually

WAYS = ["for", "async for"]


def take(reader: Any, way: str, count: int | None = None) -> list[Any]:
    """So many results of a reader, or all; a ``break`` after the last."""
    if way == "for":
        return _take(iter(reader), count)
    return asyncio.run(_take_async(aiter(reader), count))


def _take(results: Iterator[Any], count: int | None) -> list[Any]:
    taken: list[Any] = []
    if count == 0:
        return taken
    for result in results:
        taken.append(result)
        if len(taken) == count:
            break
    return taken


async def _take_async(results: AsyncIterator[Any], count: int | None) -> list[Any]:
    taken: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        async for result in results:
            taken.append(result)
            if len(taken) == count:
                break
    return taken


@pytest.mark.parametrize("way", WAYS)
def test_a_loop_gets_the_results_in_input_order_as_they_come(way: str) -> None:
    """The first is handed out while the others are still computed."""
    with Driver(4) as driver:
        driver.after_somebody_waits()
        driver.deliver([2])
        driver.deliver([0])
        driver.after(lambda: driver.job._reading.next_item == 1)
        driver.deliver([1])
        driver.after(lambda: driver.job._reading.next_item == 3)
        driver.deliver([3])
        driver.end()
        assert take(driver.job, way) == [0, 1, 4, 9]


@pytest.mark.parametrize("way", WAYS)
def test_as_completed_gives_pairs_in_the_order_of_completion(way: str) -> None:
    """Of index and result, each as soon as it is there."""
    with Driver(4) as driver:
        driver.after_somebody_waits()
        driver.deliver([2, 0])
        driver.after(lambda: driver.job._reading.next_arrival == (0, 2))
        driver.deliver([3])
        driver.deliver([1])
        driver.end()
        assert take(driver.job.as_completed(), way) == [(2, 4), (0, 0), (3, 9), (1, 1)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("completed", [False, True])
@pytest.mark.parametrize("size", [10, None])
def test_after_a_break_a_new_loop_goes_on_where_the_last_stopped(
    way: str, *, completed: bool, size: int | None
) -> None:
    """``break`` ends reading and cancels nothing."""
    with Driver(size) as driver:
        driver.deliver(range(4))
        driver.deliver([7, 6, 5, 4])

        def reader() -> Any:
            return driver.job.as_completed() if completed else driver.job

        got = take(reader(), way, 3) + take(reader(), way, 3)
        driver.after_somebody_waits()
        driver.deliver([8, 9])
        driver.total(10)
        driver.end()
        got += take(reader(), way)
        order = [0, 1, 2, 3, 7, 6, 5, 4, 8, 9] if completed else range(10)
        assert got == [(index, index * index) if completed else index * index for index in order]
        assert driver.calls == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("completed", [False, True])
def test_a_sized_input_may_be_read_twice(way: str, *, completed: bool) -> None:
    """Its results are kept; a loop that came to the end is followed by one from the beginning."""
    with Driver(3) as driver:
        driver.deliver([1, 0, 2])
        driver.end()

        def reader() -> Any:
            return driver.job.as_completed() if completed else driver.job

        first = take(reader(), way)
        assert len(first) == 3
        assert take(reader(), way) == first
        assert driver.job.result(0) == [0, 1, 4]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("completed", [False, True])
def test_an_unsized_input_lets_go_what_was_handed_out(way: str, *, completed: bool) -> None:
    """A second reading, an await and a retry say so, and ``partial()`` has the rest."""
    with Driver(None) as driver:
        driver.deliver(range(6))
        driver.total(6)
        driver.end()
        driver.flush()
        reader = driver.job.as_completed() if completed else driver.job
        assert len(take(reader, way, 4)) == 4
        assert driver.job.partial() == [16, 25]
        assert [row["index"] for row in driver.job.records()] == [4, 5]
        for ask in (lambda: driver.job.result(0), lambda: asyncio.run(driver.job._all()), driver.job.retry):
            with pytest.raises(ResultsConsumed, match=r"4 results of fetch .* pass list\(...\)"):
                ask()
        assert len(take(driver.job.as_completed() if completed else driver.job, way)) == 2
        with pytest.raises(ResultsConsumed):
            take(driver.job.as_completed() if completed else driver.job, way)
        assert driver.job.partial() == []


def test_what_as_completed_took_of_an_unsized_input_is_missed_in_input_order() -> None:
    """Nothing is skipped in silence."""
    with Driver(None) as driver:
        driver.deliver([1])
        assert take(driver.job.as_completed(), "for", 1) == [(1, 1)]
        driver.deliver([0, 2])
        driver.total(3)
        driver.end()
        driver.flush()
        reader = iter(driver.job)
        assert next(reader) == 0
        with pytest.raises(ResultsConsumed):
            next(reader)
        assert take(driver.job.as_completed(), "for") == [(2, 4)]


def test_the_memory_of_an_endless_input_stays_flat() -> None:
    """What was handed out is forgotten, values and bookkeeping alike."""
    with Driver(None) as driver:
        reader = iter(driver.job)
        for start in range(0, 100_000, 10):
            driver.deliver(range(start, start + 10))
            for index in range(start, start + 10):
                assert next(reader) == index * index
        results = driver.results
        shelf = results._shelf
        assert max(len(shelf._values), len(shelf._shares), len(results._arrivals)) < 5000
        assert abs(results._arrived_bytes - shelf.released) < 1
        driver.total(100_000)
        driver.end()
        assert list(reader) == []


@pytest.mark.parametrize("completed", [False, True])
def test_nobody_reads_so_an_unsized_input_waits_for_a_reader(*, completed: bool, monkeypatch: Any) -> None:
    """There is room up to a limit in bytes; a reader that takes enough makes room again, and the pool is told once."""
    monkeypatch.setattr("aiopool._runtime.results.UNREAD_LIMIT", 10_000)
    with Driver(None) as driver:
        told = []
        driver.results.on_room = lambda: told.append(driver.results.consumed)
        big = _payload.dump_value("x" * 1000)
        for index in range(9):
            driver.deliver_blobs([index], [big])
        driver.flush()
        assert driver.results.room()
        driver.deliver_blobs([9], [big])
        driver.deliver_blobs([10], [big])
        driver.flush()
        assert not driver.results.room()
        assert told == []
        assert len(take(driver.job.as_completed() if completed else driver.job, "for", 2)) == 2
        assert told == [2]
        assert driver.results.room()
        for index in range(11, 20):
            driver.deliver_blobs([index], [big])
        driver.flush()
        assert not driver.results.room()
        assert asyncio.run(driver.job.wait(0)) is False
        assert told == [2, 2]
        assert driver.results.room()
        driver.end("cancelled")


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_is_raised_after_the_unbroken_run_of_results(way: str) -> None:
    """Item 4 fails first while 2 is still running: 0 and 1 are handed out, then the failure is raised, each time."""
    with Driver(6) as driver:
        driver.deliver([0, 1, 3])
        driver.after_somebody_waits()
        driver.fail(4, ValueError("bad"), worker=1, pid=42, attempts=2)
        driver.end("failed")
        got: list[Any] = []
        with pytest.raises(ValueError, match="bad"):
            for_all(driver.job, way, got)
        assert got == [0, 1]
        with pytest.raises(ValueError, match="bad") as caught:
            for_all(driver.job, way, got)
        assert got == [0, 1]
        assert caught.value.__notes__ == ["item 4 (40), worker 1 (pid 42), attempt 2"]


@pytest.mark.parametrize("way", WAYS)
def test_as_completed_gives_all_that_finished_before_it_raises(way: str) -> None:
    """Also what finished after the failure."""
    with Driver(6) as driver:
        driver.deliver([3])
        driver.fail(4, ValueError("bad"))
        driver.deliver([1])
        driver.end("failed")
        got: list[Any] = []
        with pytest.raises(ValueError, match="bad"):
            for_all(driver.job.as_completed(), way, got)
        assert got == [(3, 9), (1, 1)]


@pytest.mark.parametrize("way", WAYS)
def test_returned_failures_stand_in_their_places(way: str) -> None:
    """With ``on_error="return"`` nothing is raised."""
    with Driver(3, on_error="return") as driver:
        driver.after_somebody_waits()
        driver.deliver([2])
        driver.fail(1, ValueError("bad"))
        driver.deliver([0])
        driver.end()
        one, failure, other = take(driver.job, way)
        assert (one, other) == (0, 4)
        assert isinstance(failure, Failure)
        assert take(driver.job.as_completed(), way) == [(2, 4), (1, failure), (0, 0)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("completed", [False, True])
def test_a_value_that_cannot_be_loaded_ends_the_loop_and_the_job(way: str, *, completed: bool) -> None:
    """It is its item's failure: results before it are handed out, and the job is not left running."""
    with Driver(4) as driver:
        driver.deliver_blobs([0, 1], [None, _payload.dump_value(Poison(OSError))], ["zero"])
        got: list[Any] = []
        with pytest.raises(OSError, match="will not load"):
            for_all(driver.job.as_completed() if completed else driver.job, way, got)
        assert got == ([(0, "zero")] if completed else ["zero"])
        assert driver.calls == [("cancel", 7, False)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("completed", [False, True])
def test_a_cancelled_job_gives_what_is_there_and_then_raises(way: str, *, completed: bool) -> None:
    """The unbroken run in input order, everything as completed."""
    with Driver(4) as driver:
        driver.deliver([0, 2])
        driver.after_somebody_waits()
        driver.do(driver.job.cancel)
        got: list[Any] = []
        with pytest.raises(JobCancelled):
            for_all(driver.job.as_completed() if completed else driver.job, way, got)
        assert got == ([(0, 0), (2, 4)] if completed else [0])


@pytest.mark.parametrize("way", WAYS)
def test_an_input_that_raises_does_so_at_its_place(way: str) -> None:
    """Results before it stand."""
    with Driver(None) as driver:
        driver.deliver([0, 1])
        driver.total(2)
        driver.end("failed", InputLost("the loop is gone"))
        got: list[Any] = []
        with pytest.raises(InputLost):
            for_all(driver.job, way, got)
        assert got == [0, 1]


def for_all(reader: Any, way: str, got: list[Any]) -> None:
    """Read everything into a list that stays when an error ends it."""

    async def read() -> None:
        async with asyncio.timeout(DEADLINE):
            async for result in reader:
                got.append(result)  # noqa: PERF401 - it stays when an error ends the loop

    if way == "for":
        got.extend(reader)
    else:
        asyncio.run(read())


def test_two_readers_of_a_sized_input_both_see_all_of_it() -> None:
    """Each has a place of its own."""
    with Driver(3) as driver:
        driver.deliver(range(3))
        driver.end()
        assert list(zip(driver.job, driver.job, strict=True)) == [(0, 0), (1, 1), (4, 4)]


def test_a_thread_and_a_loop_may_read_at_once() -> None:
    """Neither loses a result to the other."""
    with Driver(2000) as driver:
        got: list[list[Any]] = []
        threads = [threading.Thread(target=lambda way=way: got.append(take(driver.job, way))) for way in WAYS]
        for thread in threads:
            thread.start()
        driver.after_somebody_waits(2)
        for index in range(1999, -1, -1):
            driver.deliver([index])
        driver.end()
        for thread in threads:
            thread.join(DEADLINE)
        assert got == [[index * index for index in range(2000)]] * 2


async def test_results_that_are_there_do_not_shut_out_the_loop() -> None:
    """A long run of them gives others a turn every few milliseconds, and a cancel arrives."""
    with Driver(200_000) as driver:
        for start in range(0, 200_000, 1000):
            driver.deliver(range(start, start + 1000))
        driver.flush()
        read = 0

        async def reader() -> None:
            nonlocal read
            async for _ in driver.job:
                read += 1

        task = asyncio.create_task(reader())
        await asyncio.sleep(0)
        while not read:  # noqa: ASYNC110  # its first turn may have been over before its first result
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 < read < 200_000
        assert driver.calls == [("cancel", 7, True)]
        assert driver.job._reading.next_item == read


async def test_leaving_the_block_of_a_job_cancels_it() -> None:
    """``async with`` and ``with``, through a break as well; one that has ended is left alone."""
    with Driver(3) as driver:
        async with driver.job as job:
            assert job is driver.job
        assert driver.calls == [("cancel", 7, False)]
        driver.flush()
        with driver.job:
            pass
        async with driver.job:
            pass
        assert driver.calls == [("cancel", 7, False)]
    with Driver(3) as driver:
        with driver.job as job:
            assert not job.done()
        assert driver.calls == [("cancel", 7, False)]


def test_a_blocking_read_on_a_thread_that_the_job_needs_says_await_it() -> None:
    """Instead of waiting for ever. What is there already is handed out."""
    with Driver(2) as driver:
        driver.needs.add(threading.get_ident())
        driver.deliver([0])
        driver.flush()
        reader = iter(driver.job)
        assert next(reader) == 0
        with pytest.raises(WouldDeadlock, match="await it instead"):
            next(reader)
        with pytest.raises(WouldDeadlock, match="await it instead"):
            driver.job.result()
        driver.deliver([1])
        driver.end()
        driver.flush()
        assert next(reader) == 1
        assert driver.job.result() == [0, 1]


def test_a_place_is_not_lost_when_the_wait_for_it_is_cancelled() -> None:
    """The loop that follows begins with that very result."""
    with Driver(2) as driver, asyncio.Runner() as runner:

        async def first() -> None:
            await anext(aiter(driver.job))

        driver._ends_when_cancelled = False
        task = runner.get_loop().create_task(first())
        runner.run(asyncio.sleep(0))
        eventually(lambda: len(driver.results._waiters) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            runner.get_loop().run_until_complete(task)
        driver.deliver([0, 1])
        driver.end()
        assert take(driver.job, "for") == [0, 1]
