"""A map inside a worker: the same Job with all its options, over items that run in that very process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import re
import sys
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest

import aiopool
from aiopool import Failure, ItemTimeout, JobCancelled, OptionError, Pool, Retry, WouldDeadlock, current_item, pmap
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, shortly, still_works
from tests.pool.scripts import beside_progress


def inside(pool: Pool, fn: Any, value: Any = None, **options: Any) -> Any:
    """What one item of a map returns, in which the test itself calls maps."""
    return pool.map(fn, [value], **options).result(DEADLINE)[0]


# --- where items run -------------------------------------------------------------------------------------------------


def test_coroutines_of_a_coroutine_run_on_the_workers_own_loop(pool):
    """Concurrently, in the process and the thread of the item that called the map; results in input order."""

    async def where(x: int) -> tuple[int, int, int, int]:
        await asyncio.sleep(0.01 * (3 - x))
        return x, os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())

    async def outer(_: None) -> tuple[Any, ...]:
        return await where(9), await pmap(where, range(4))

    (_, *here), results = inside(pool, outer)
    assert results == [(x, *here) for x in range(4)]


def test_coroutines_of_a_def_run_on_one_other_threads_loop(pool):
    """The same for every map and every item of the worker, so that what they keep open there goes on."""

    async def where(_: int) -> tuple[int, int, int]:
        await asyncio.sleep(0)
        return os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())

    def outer(_: None) -> tuple[Any, ...]:
        return os.getpid(), threading.get_ident(), pmap(where, range(4)).result(), list(pmap(where, range(4)))

    pid, thread, results, others = inside(pool, outer)
    assert len({*results, *others}) == 1
    assert results[0][0] == pid
    assert results[0][1] != thread


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_defs_run_in_a_thread_beside_the_item(pool, kind):
    """One after another, unless told otherwise; the loop of a coroutine turns meanwhile."""
    beats: list[float] = []

    def where(x: int) -> tuple[int, str]:
        if kind == "async def":
            until(lambda: len(beats) > x)
        return os.getpid(), threading.current_thread().name

    async def heartbeat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.001)

    async def outer_later(_: None) -> tuple[Any, ...]:
        heart = asyncio.create_task(heartbeat())
        results = await pmap(where, [len(beats) + each for each in range(1, 9)])
        heart.cancel()
        return os.getpid(), results, len(beats)

    def outer(_: None) -> tuple[Any, ...]:
        return os.getpid(), pmap(where, range(8)).result(), 1000

    pid, results, beats = inside(pool, outer_later if kind == "async def" else outer)
    assert {process for process, _ in results} == {pid}
    assert not {name for _, name in results} & {"MainThread", "aiopool-link"}
    assert beats > 8


@pytest.mark.parametrize("kind", ["async def", "def", "lambda"])
def test_concurrency_is_a_limit_inside_too(pool, board: Board, kind):
    """So many at once, and not more; a ``def`` is one at a time by default."""

    async def counted_later(topic: str) -> None:
        with board.counted(topic):
            await board.wait_async(topic, 12 if topic == "default" else 3)  # So many begin before the first one ends.
            await asyncio.sleep(0.01)

    def counted(topic: str) -> None:
        with board.counted(topic):
            board.wait(topic, 1 if topic == "default" else 3)
            time.sleep(0.01)

    async def outer(_: None) -> None:
        wrapped = lambda topic: counted_later(topic)  # noqa: E731, PLW0108 - that is the point
        inner = {"async def": counted_later, "def": counted, "lambda": wrapped}[kind]
        await pmap(inner, ["three"] * 12, concurrency=3)
        await pmap(inner, ["default"] * 12)

    inside(pool, outer)
    assert board.most("three") == 3
    assert board.most("default") == (1 if kind == "def" else 12)


def test_nothing_is_pickled(pool):
    """A live client, a lock, a lambda, an object of a class of the function's own: what is passed is what comes."""

    class Client:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.event = asyncio.Event()

        async def get(self, thing: object) -> object:
            with self.lock:
                return self, thing

    async def outer(_: None) -> bool:
        client = Client()
        things = [threading.Lock(), object(), 10**6, "text" * 100, lambda: 1]
        results = await pmap(client.get, things)
        (task,) = await aiopool.get_pool().map(lambda x: x, [asyncio.current_task()])
        same = all(got[0] is client and got[1] is thing for got, thing in zip(results, things, strict=True))
        return same and task is asyncio.current_task()

    assert inside(pool, outer)


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_lambda_around_a_coroutine_function_runs_as_what_it_returns(pool, board: Board, kind):
    """``lambda url: client.get(url)``: on the loop on which its client lives, and many at a time."""

    class Client:
        def __init__(self) -> None:
            self.loops: set[int] = set()
            self.gate = asyncio.Event()

        async def get(self, x: int) -> int:
            with board.counted("inside"):
                self.loops.add(id(asyncio.get_running_loop()))
                if x == 19:
                    self.gate.set()
                await self.gate.wait()
            return 2 * x

    async def outer(_: None) -> tuple[Any, ...]:
        client = Client()
        results = await pmap(lambda x: client.get(x), range(20))  # noqa: PLW0108 - that is the point
        late = await pmap(lambda _: asyncio.sleep(3600), [1], timeout=1, on_error="return")
        return results, client.loops == {id(asyncio.get_running_loop())}, type(late[0].error)

    def outer_def(_: None) -> tuple[Any, ...]:
        client = Client()
        results = pmap(lambda x: client.get(x), range(20)).result()  # noqa: PLW0108
        late = pmap(lambda _: asyncio.sleep(3600), [1], timeout=1, on_error="return").result()
        return results, len(client.loops) == 1, type(late[0].error)

    expected = list(range(0, 40, 2)), True, ItemTimeout
    assert inside(pool, outer if kind == "async def" else outer_def) == expected
    assert board.most("inside") == 20


def test_the_context_of_the_call_is_seen(pool):
    """A variable that the outer item has set; what a nested item sets stays its own."""

    async def outer(_: None) -> tuple[list[str], list[str], str]:
        inherited = contextvars.ContextVar("inherited", default="nothing")
        inherited.set("outer's")

        async def inner(x: int) -> str:
            seen = inherited.get()
            inherited.set(f"of {x}")
            await asyncio.sleep(0)
            return seen

        return await pmap(inner, range(3)), await pmap(lambda _: inherited.get(), range(2)), inherited.get()

    assert inside(pool, outer) == (["outer's"] * 3, ["outer's"] * 2, "outer's")


def test_maps_within_maps_never_wait_for_room(pool):
    """Three deep, of both kinds in every order, with one item at a time on every level."""

    def leaf(x: int) -> int:
        return x + 1

    async def leaf_later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    def low(x: int) -> int:
        return sum(pmap(leaf_later, range(x), concurrency=1).result()) + sum(pmap(leaf, range(x)).result())

    async def low_later(x: int) -> int:
        return sum(await pmap(leaf_later, range(x), concurrency=1)) + sum(await pmap(leaf, range(x)))

    def high(x: int) -> list[int]:
        return [*pmap(low, range(x)).result(), *pmap(low_later, range(x), concurrency=1).result()]

    async def high_later(x: int) -> list[int]:
        return [*await pmap(low, range(x)), *await pmap(low_later, range(x), concurrency=1)]

    expected = [0, 2, 6, 12, 20] * 2
    assert pool.map(high, [5] * 4).result(DEADLINE) == [expected] * 4
    assert pool.map(high_later, [5] * 20).result(DEADLINE) == [expected] * 20


# --- options ---------------------------------------------------------------------------------------------------------


def test_the_options_of_a_map_hold_inside(pool):
    """What failed stands in its place, tuples are unpacked, inputs are zipped, a wrong option raises in the call."""

    async def outer(_: None) -> tuple[Any, ...]:
        failed = await pmap(work.refuse, range(3), on_error="return")
        added = await pmap(work.add_later, [(1, 2), {"x": 3, "y": 4}], unpack=True)
        zipped = await pmap(work.add, [1, 2], [10, 20])
        starred = await aiopool.get_pool().starmap(work.add, [(1, 2)])
        with pytest.raises(TypeError, match="positional argument"):
            await pmap(work.double_later, [(1, 2)], unpack=True)
        with pytest.raises(OptionError, match=r"max_workers.*concurrency"):
            pmap(work.double, [1], max_workers=2)
        with pytest.raises(aiopool.InputError, match="function comes first"):
            pmap([1, 2], work.double)
        return [repr(each) for each in failed], added, zipped, starred

    failed, added, zipped, starred = inside(pool, outer)
    assert failed == ["0", "Failure(item 1, ValueError('odd: 1'))", "2"]
    assert (added, zipped, starred) == ([3, 7], [11, 22], [3])


def test_results_inside_outlive_the_job_and_its_function(pool):
    """An iterator over them is enough to hold them, also when everything has ended and nothing was loaded."""

    def outer(_: None) -> list[tuple[int, int]]:
        job = pmap(work.double_later, range(4))
        reader, results = job.as_completed(), job._results
        while results.ending is None:
            time.sleep(0.001)
        del job, results
        time.sleep(0.1)
        gc.collect()
        return sorted(reader)

    assert inside(pool, outer) == [(0, 0), (1, 2), (2, 4), (3, 6)]


def test_every_input_and_every_way_to_read_works_inside(pool, board: Board):
    """Generators, async generators on the calling loop, ``break`` and going on, the order of completion."""

    async def numbers(loop: object) -> AsyncIterator[int]:
        for x in range(4):
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            yield x

    async def later(x: int) -> int:
        loop = f"{os.getpid()} {id(asyncio.get_running_loop())}"
        if x < 3:
            await board.wait_async(f"{loop} {x + 1}")
        board.mark(f"{loop} {x}")
        return x

    async def outer(_: None) -> tuple[Any, ...]:
        of_async = await pmap(work.double_later, numbers(asyncio.get_running_loop()))
        of_generator = await pmap(work.double, (x for x in range(4)))
        first, rest = [], []
        job = pmap(work.double_later, range(6))
        async for value in job:
            first.append(value)
            if len(first) == 2:
                break
        async for value in job:
            rest.append(value)  # noqa: PERF401
        completed = [pair async for pair in pmap(later, range(4)).as_completed()]
        return of_async, of_generator, first, rest, completed

    def outer_def(_: None) -> tuple[Any, ...]:
        job = pmap(work.double_later, (x for x in range(6)))
        completed = list(pmap(later, range(4)).as_completed())
        return list(pmap(work.double, iter(range(4)))), [next(iter(job)), *job], completed

    backwards = [(3, 3), (2, 2), (1, 1), (0, 0)]
    assert inside(pool, outer) == ([0, 2, 4, 6], [0, 2, 4, 6], [0, 2], [4, 6, 8, 10], backwards)
    assert inside(pool, outer_def) == ([0, 2, 4, 6], [0, 2, 4, 6, 8, 10], backwards)


def test_a_job_inside_can_be_cancelled_and_retried(pool):
    """What has finished stays, what has not runs again, and the second result is the whole list."""

    async def outer(_: None) -> tuple[Any, ...]:
        gate = asyncio.Event()

        async def gated(x: int) -> int:
            if x > 1:
                await gate.wait()
            return 2 * x

        job = pmap(gated, range(4))
        async for _, value in job.as_completed():
            if value == 2:
                break
        job.cancel()
        with pytest.raises(JobCancelled):
            await job
        partial = job.partial(fill=None)
        gate.set()
        return partial, await job.retry(), [f.index for f in job.failures], job.records()[0]["worker"]

    place = inside(pool, lambda _: aiopool.current_worker().index)
    partial, again, failures, worker = inside(pool, outer)
    assert (partial, again, failures) == ([0, 2, None, None], [0, 2, 4, 6], [])
    assert worker in {place, 1 - place}


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_job_inside_can_be_paused(pool, board: Board, kind):
    """What runs ends, nothing new starts, and after ``resume`` it goes on where it was."""

    def marked(x: int) -> int:
        board.mark("started", x)
        board.wait("go")
        return x

    async def marked_later(x: int) -> int:
        board.mark("started", x)
        await board.wait_async("go")
        return x

    async def outer(_: None) -> tuple[Any, ...]:
        job = pmap(marked if kind == "def" else marked_later, range(8), concurrency=2)
        await board.wait_async("started", 2)
        job.pause()
        assert job.snapshot().state == "paused"  # From here on nothing new starts.
        board.mark("go")
        async for index, _ in job.as_completed():
            if index:
                break
        state, started = job.snapshot().state, len(board.marks("started"))
        await asyncio.sleep(0.1)
        later = len(board.marks("started"))
        job.resume()
        return state, started == later < 8, await job

    assert inside(pool, outer) == ("paused", True, list(range(8)))


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_timeouts_hold_inside(pool, board: Board, kind):
    """A coroutine is cancelled; a ``def`` cannot be, so nobody waits for it any more. The others are not touched."""

    async def slow_later(x: int) -> int:
        try:
            await asyncio.sleep(3600 if x == 1 else 0)
        except asyncio.CancelledError:
            board.mark("cancelled", x)
            raise
        return x

    def slow(x: int) -> int:
        if x == 1:
            board.wait("go")
        return x

    async def outer(_: None) -> list[Any]:
        inner = slow_later if kind == "async def" else slow
        results = await pmap(inner, range(4), timeout=1, on_error="return")
        return [type(each.error) if isinstance(each, Failure) else each for each in results]

    assert inside(pool, outer) == [0, ItemTimeout, 2, 3]
    if kind == "async def":
        board.wait("cancelled")
    assert board.marks("cancelled") == (["1"] if kind == "async def" else [])
    board.mark("go")
    still_works(pool)


def test_a_coroutine_that_does_not_care_that_its_time_is_up_holds_nobody_up(pool, board: Board):
    """Its job waits for it for a while, and then no more."""

    async def stubborn(x: int) -> int:
        while x == 1 and not board.marks("go"):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                board.mark("ignored")
        return x

    async def outer(_: None) -> list[Any]:
        results = await pmap(stubborn, range(3), timeout=1, on_error="return", concurrency=1)
        return [type(each.error) if isinstance(each, Failure) else each for each in results]

    assert inside(pool, outer) == [0, ItemTimeout, 2]
    assert len(board.marks("ignored")) == 1
    board.mark("go")
    still_works(pool)


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_retries_and_seeds_hold_inside(pool, kind):
    """An attempt fails, the next one is told its number; ``Retry`` asks for one whatever ``retry_on`` says."""

    def attempt(x: int) -> tuple[int, int, int | None]:
        item = current_item()
        if x == 1 and item.attempt < 3:
            raise ConnectionError("again")
        if x == 2 and item.attempt < 2:
            raise Retry(after=0.01)
        return item.index, item.attempt, item.seed

    async def attempt_later(x: int) -> tuple[int, int, int | None]:
        await asyncio.sleep(0)
        return attempt(x)

    async def outer(_: None) -> tuple[Any, ...]:
        inner = attempt_later if kind == "async def" else attempt
        results = await pmap(inner, range(4), retries=2, backoff=0, retry_on=ConnectionError, seed=7)
        with pytest.raises(ConnectionError):
            await pmap(inner, range(4), retries=2, backoff=0, retry_on=ValueError)
        return results, current_item().index

    results, index = inside(pool, outer)
    assert [result[:2] for result in results] == [(0, 1), (1, 3), (2, 2), (3, 1)]
    assert [result[2] for result in results] == [aiopool.inside.seed_of(7, x) for x in range(4)]
    assert index == 0


def test_a_coroutine_that_was_made_and_never_began_is_closed(fresh, board: Board, capfd):
    """Its job was cancelled first: nothing is said of a coroutine that nobody awaited."""

    async def nothing() -> None:
        """Never begun."""

    async def outer(board: Board) -> bool:
        made = []

        def make(_: int) -> Any:
            made.append(nothing())
            board.mark("made")
            return made[-1]

        job = pmap(make, range(3))
        board.wait("made", 3)  # The loop stands still meanwhile, so none of them can begin.
        job.cancel()
        while not job.done():
            time.sleep(0.001)  # noqa: ASYNC251
        async with asyncio.timeout(DEADLINE):
            while any(inspect.getcoroutinestate(each) != inspect.CORO_CLOSED for each in made):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return len(made) == 3

    assert inside(fresh(1), outer, board)
    assert beside_progress(capfd.readouterr().err) == ""


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_timed_out_attempt_inside_is_followed_by_another(pool, board: Board, kind):
    """By default, and where ``retry_on`` names it."""

    def slow(x: int) -> int:
        if x == 1 and current_item().attempt == 1:
            board.wait("go")
        return current_item().attempt

    async def slow_later(x: int) -> int:
        if x == 1 and current_item().attempt == 1:
            await asyncio.sleep(3600)
        return current_item().attempt

    async def outer(_: None) -> list[int]:
        inner = slow if kind == "def" else slow_later
        return await pmap(inner, range(3), timeout=1, retries=1, backoff=0, retry_on=TimeoutError)

    assert inside(pool, outer) == [1, 2, 1]
    board.mark("go")


def test_an_endless_input_waits_for_its_reader(pool):
    """Results have no size that could be known inside, so their number is limited."""

    async def outer(_: None) -> tuple[int, list[int]]:
        read = 0

        def numbers() -> Iterator[int]:
            nonlocal read
            while True:
                read += 1
                yield read

        job = pmap(work.double_later, numbers())
        async with asyncio.timeout(DEADLINE):
            while not job.snapshot().waits_for_reader:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        before = read
        values = []
        async for value in job:
            values.append(value)
            if len(values) == 3000:
                break
        job.cancel()
        return before, values

    before, values = inside(pool, outer)
    assert 1000 <= before < 10_000
    assert values == list(range(2, 6002, 2))


# --- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["await", "background", "def"])
def test_what_an_item_started_ends_with_it(fresh, board: Board, how):
    """Cancelled from outside, a nested job is cancelled too; one that nobody awaits when its item ends, as well."""
    pool = fresh(1, grace=DEADLINE / 2)  # Who obeys late must not be killed.

    async def endless(x: int) -> None:
        board.mark("started", x)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            board.mark("cancelled", x)
            raise

    async def outer(_: None) -> None:
        job = pmap(endless, range(3))
        if how == "await":
            await job
        await board.wait_async("started", 3)

    def outer_def(_: None) -> None:
        pmap(endless, range(3)).result()

    job = pool.map(outer_def if how == "def" else outer, [None])
    board.wait("started", 3)
    if how == "background":
        job.result(DEADLINE)
    else:
        job.cancel()
    board.wait("cancelled", 3)
    until(lambda: not pool.snapshot().jobs, what="the job is gone")
    pid = pool.workers[0].info.pid
    still_works(pool)
    assert pool.map(work.pid, [0]).result(DEADLINE) == [pid]


def test_a_blocking_wait_that_would_never_end_is_refused(pool):
    """In a coroutine, because what it waits for needs the loop that would stand still; a job that has ended is read."""

    async def outer(_: None) -> list[int]:
        job = pmap(work.double_later, range(3))
        with pytest.raises(WouldDeadlock, match="await it instead"):
            job.result()
        with pytest.raises(WouldDeadlock, match="await it instead"):
            list(job)
        go_on = threading.Event()
        defs = pmap(lambda x: go_on.wait(DEADLINE) and 2 * x, range(3))
        with pytest.raises(WouldDeadlock, match="await it instead"):
            defs.result()
        go_on.set()
        assert await defs == await job
        return defs.result()

    assert inside(pool, outer) == [0, 2, 4]


def test_a_coroutine_that_a_def_runs_may_map(pool):
    """On the loop of its ``asyncio.run``; what is left of the job when that loop closes is given up, and refused."""

    async def main() -> list[int]:
        return await pmap(work.double_later, range(3))

    async def leaves_it() -> Any:
        return pmap(work.doze, [3600])

    def outer(_: None) -> list[int]:
        left = asyncio.run(leaves_it())
        with pytest.raises((WouldDeadlock, aiopool.ItemExited, JobCancelled)):
            left.result()
        return asyncio.run(main())

    assert pool.map(outer, [None] * 3).result(DEADLINE) == [[0, 2, 4]] * 3


def test_a_worker_that_mapped_inside_ends_at_once(fresh):
    """Neither the threads of maps inside nor what runs in them keep it."""
    pool = fresh(1)

    def outer(_: None) -> int:
        pmap(work.double_later, range(3)).result()
        pmap(work.nap, [3600])
        return os.getpid()

    pid = inside(pool, outer)
    began = time.monotonic()
    pool.close()
    pool.join(DEADLINE)
    assert time.monotonic() - began < 15
    until(lambda: not psutil.pid_exists(pid), what="the worker is gone")


def test_results_are_not_kept_by_anybody_else(fresh):
    """When the item lets go of a job, its results, inputs and function are free, and what ran it is gone."""

    class Big:
        pass

    async def outer(_: None) -> list[bool]:
        from aiopool import nested

        made: list[weakref.ref[Any]] = []

        def make(x: Any) -> Big:
            big = Big()
            made.extend([weakref.ref(big), weakref.ref(x)])
            return big

        job = pmap(make, [Big() for _ in range(3)])
        made.append(weakref.ref(make))
        await job
        del job, make
        for _ in range(1000):
            gc.collect()
            if not any(ref() for ref in made) and not nested._house.drivers:
                break
            await asyncio.sleep(0.02)
        return [ref() is None for ref in made] + [not nested._house.drivers]

    assert inside(fresh(1), outer) == [True] * 8


def test_what_was_handed_out_of_an_unsized_input_is_let_go(pool):
    """While the job goes on: neither what was read nor what came of it stays."""

    class Big:
        pass

    async def outer(_: None) -> int:
        made: list[weakref.ref[Any]] = []

        def numbers() -> Iterator[Big]:
            for _ in range(3000):
                big = Big()
                made.append(weakref.ref(big))
                yield big

        async def make(_: Big) -> Big:
            big = Big()
            made.append(weakref.ref(big))
            return big

        job = pmap(make, numbers(), concurrency=10, window=20)
        read = 0
        async for _ in job:
            read += 1
            if read == 2900:
                break
        return len([ref for ref in made if ref() is not None])

    assert inside(pool, outer) < 1500


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_inside_is_the_very_exception(pool):
    """Also one that could not be pickled; it can be caught by its class and has its attributes."""

    class OddError(Exception):
        def __init__(self, code: int, lock: Any) -> None:
            super().__init__(code)
            self.lock = lock

    async def outer(_: None) -> bool:
        raised = OddError(1, threading.Lock())

        async def refuse(_: int) -> None:
            raise raised

        try:
            await pmap(refuse, [1])
        except OddError as error:
            return error is raised and "item 0 (1)" in error.__notes__[0]
        return False

    assert inside(pool, outer)


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_traceback_shows_both_levels(pool, kind):
    """The line of the item that called the map, the line of the nested item, both notes, and nothing of ours."""

    async def inner(x: int) -> float:
        await asyncio.sleep(0)
        return 1 / x  # the nested line

    async def outer(values: list[int]) -> list[float]:
        return await pmap(inner, values)  # the outer line

    def outer_def(values: list[int]) -> list[float]:
        return pmap(inner, values).result()  # the outer line

    job = pool.map(outer if kind == "async def" else outer_def, [[1, 2], [2, 0]])
    with pytest.raises(ZeroDivisionError) as caught:
        job.result(DEADLINE)
    lines = [line.line for line in traceback.extract_tb(caught.value.__traceback__)]
    assert [line.partition("# ")[2] for line in lines[-2:]] == ["the outer line", "the nested line"]
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [name for name in frames[frames.index(__file__, 1) :] if "aiopool" in name]
    nested, own = caught.value.__notes__
    assert nested.startswith("item 1 (0), worker")
    assert own.startswith("item 1 ([2, 0]), worker")
    assert re.findall(r"worker \d+ \(pid \d+\)", nested) == re.findall(r"worker \d+ \(pid \d+\)", own)


def test_exits_inside_are_the_items_errors(pool):
    """SystemExit, KeyboardInterrupt and a raw CancelledError of a nested item end neither worker nor loop."""

    async def exits(error: BaseException) -> None:
        raise error

    def exits_def(error: BaseException) -> None:
        raise error

    async def outer(_: None) -> list[str]:
        errors = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(1)]
        results = [
            *await pmap(exits, errors[:3], on_error="return"),
            *await pmap(exits_def, errors, on_error="return"),
        ]
        return [str(each.error) for each in results]

    told = ["SystemExit: 3", "KeyboardInterrupt", "CancelledError"]
    assert inside(pool, outer) == [*told, *told, "StopIteration: 1"]
    still_works(pool)


# --- what is around it -----------------------------------------------------------------------------------------------


def test_an_item_inside_knows_which_it_is(pool):
    """Its index is that in the nested input, the worker is the same; the outer item is itself again afterwards."""

    async def who(_: str) -> tuple[int, aiopool.CurrentWorker]:
        aiopool.report(0.5, "not shown")
        await asyncio.sleep(0)
        return current_item().index, aiopool.current_worker()

    async def outer(_: str) -> tuple[Any, ...]:
        nested = await pmap(who, ["a", "c"])
        return nested, await pmap(lambda _: current_item().index, range(2)), await who("")

    first, second = pool.map(outer, ["x", "y"]).result(DEADLINE)
    for index, (nested, of_def, own) in enumerate([first, second]):
        assert own[0] == index
        assert nested == [(0, own[1]), (1, own[1])]
        assert of_def == [0, 1]


def test_prints_inside_go_where_the_workers_prints_go(fresh, capfd):
    """And a map inside shows nothing of its own, however long it takes."""

    async def talk(x: int) -> None:
        print(f"nested {x}")  # noqa: T201
        await asyncio.sleep(0.7)

    async def outer(_: None) -> list[None]:
        return await pmap(talk, range(2), progress=True)

    inside(fresh(1), outer)
    out, err = capfd.readouterr()
    assert out == "[item 0] nested 0\n[item 0] nested 1\n"
    assert not [line for line in err.splitlines() if not line.startswith("outer: ")]


def test_a_failure_inside_for_which_nobody_waits_is_said_once(fresh, capfd):
    """Among the worker's prints; one that was waited for is not."""

    async def outer(_: None) -> None:
        with pytest.raises(ValueError, match="odd: 3"):
            await pmap(work.refuse, [3])
        unheard = pmap(work.refuse, [5])
        while not unheard.done():  # noqa: ASYNC110 - to wait for it would be to ask
            await asyncio.sleep(0.01)

    pool = fresh(1)
    inside(pool, outer)
    pool.close()
    pool.join(DEADLINE)
    out, err = capfd.readouterr()
    assert "odd: 3" not in out
    assert out == ""
    told = "[worker 0] refuse failed: ValueError: odd: 5 (item 0). Nobody waited for it.\n"
    assert beside_progress(err) == told


def test_pools_do_not_nest_but_what_maps_does(pool):
    """``Pool()`` says what to write; ``get_pool()`` maps and submits here; ``configure`` is for nobody and harmless."""

    async def outer(_: None) -> tuple[Any, ...]:
        with pytest.raises(OptionError, match=r"pools do not nest.*pmap"):
            Pool(workers=2)
        nested = aiopool.get_pool()
        for refused in (
            lambda: nested.broadcast(os.getpid),
            lambda: nested.resize(2),
            lambda: nested.workers,
            nested.close,
        ):
            with pytest.raises(OptionError, match=r"pools do not nest.*submit"):
                refused()
        aiopool.configure(workers=3, concurrency=50)
        submitted = await nested.submit(work.add_later, 1, y=2), await nested.submit(os.getpid)
        return repr(nested), submitted, os.getpid(), aiopool.last_job(), aiopool.jobs()

    told, (three, nested_pid), pid, last, jobs = inside(pool, outer)
    assert re.fullmatch(r"<Pool inside worker \d>", told)
    assert (three, nested_pid, last, jobs) == (3, pid, None, [])


def test_a_map_inside_costs_little(pool):
    """A thousand coroutines that do nothing cost some times what they cost as bare tasks: a hundredth of a second."""

    async def nothing(x: int) -> int:
        return x

    async def outer(_: None) -> float:
        await pmap(nothing, range(2))
        costs = []
        for _ in range(5):
            # Processor time, because others run beside, and in relation, because of this machine's mood.
            began = time.process_time()
            async with asyncio.TaskGroup() as group:
                for x in range(1000):
                    group.create_task(nothing(x))
            bare = time.process_time()
            await pmap(nothing, range(1000))
            costs.append((time.process_time() - bare) / (bare - began))
        return min(costs)

    assert inside(pool, outer) < 8


def test_the_first_map_inside_imports_only_what_it_needs(fresh):
    """Nothing of somebody else's, no processes: it takes some hundredths of a second."""

    async def outer(_: None) -> set[str]:
        before = set(sys.modules)
        from aiopool import pmap

        await pmap(work.double_later, range(2))
        return {module.partition(".")[0] for module in set(sys.modules) - before} - sys.stdlib_module_names

    assert inside(fresh(1), outer) <= {"aiopool", "tests"}


def test_a_forked_child_of_a_worker_may_map(pool):
    """It starts its own threads."""

    def outer(_: None) -> int:
        pmap(work.double_later, range(3)).result()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = pmap(work.double_later, [21]).result(DEADLINE)[0]
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert inside(pool, outer) == 42


async def test_the_same_function_works_in_the_kernel_first(pool):
    """``await fetch(x)`` by hand, where the map inside runs on the shared pool, and then over many."""

    async def fetch(x: int) -> int:
        return sum(await pmap(work.double_later, range(x)))

    aiopool.configure(workers=1)
    try:
        assert await shortly(fetch(3)) == 6
        assert await shortly(pool.map(fetch, [3, 4])) == [6, 12]
    finally:
        ended(aiopool.get_pool())
