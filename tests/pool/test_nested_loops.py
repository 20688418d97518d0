"""``nested_loops=True``: a coroutine in a worker may call code that says ``asyncio.run`` or ``run_until_complete``."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from aiopool import ItemTimeout, OptionError, Pool, current_item, per_worker
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import children, ended, shortly, still_works


@pytest.fixture(scope="module")
def nesting():
    """Two workers that nest, and have time to obey, on a busy machine, too: who obeys must not be killed."""
    pool = Pool(workers=2, grace=DEADLINE / 2, nested_loops=True, name="nesting")
    yield pool
    ended(pool)


async def later(value: Any, seconds: float = 0.001) -> Any:
    """What is run inside."""
    await asyncio.sleep(seconds)
    return value


def old_code(value: Any, seconds: float = 0.001) -> Any:
    """Code that knows nothing of the loop that it is called in."""
    return asyncio.run(later(value, seconds))


async def nests(x: Any) -> Any:
    """An item that calls such code, before and after it waits itself."""
    first = old_code(x)
    await asyncio.sleep(0.001)
    return first + old_code(1)


# --- what works ------------------------------------------------------------------------------------------------------


def test_without_the_option_it_is_pythons_own_error(pool):
    """As in a cell of a notebook."""

    async def item() -> None:
        inner = later(1)
        try:
            asyncio.run(inner)
        finally:
            inner.close()

    with pytest.raises(RuntimeError, match=r"asyncio.run\(\) cannot be called from a running event loop"):
        pool.submit(item).result(DEADLINE)


async def test_an_item_may_call_asyncio_run(nesting):
    """A submit, a map, and a broadcast."""
    assert await shortly(nesting.submit(nests, 1)) == 2
    assert await shortly(nesting.map(nests, range(10))) == list(range(1, 11))
    assert await shortly(nesting.broadcast(lambda: asyncio.run(later(7)))) == [7, 7]


async def test_an_item_may_run_its_own_loop_until_something_is_done(nesting):
    """A coroutine, a task that runs already, a future; a loop of its own, too."""

    async def item(x: int) -> list[int]:
        loop = asyncio.get_event_loop()
        task = asyncio.ensure_future(later(x))
        future = loop.create_future()
        loop.call_later(0.001, future.set_result, x + 1)
        other = asyncio.new_event_loop()
        values = [
            loop.run_until_complete(task),
            loop.run_until_complete(future),
            loop.run_until_complete(asyncio.gather(later(x + 2), later(0))),
            other.run_until_complete(later(x + 3)),
        ]
        other.close()
        assert asyncio.get_running_loop() is loop
        return values

    assert await shortly(nesting.map(item, [1, 5])) == [[1, 2, [3, 0], 4], [5, 6, [7, 0], 8]]


async def test_a_thousand_items_nest_at_once(nesting):
    """However many: the stack does not overflow, and every one gets its own value."""

    async def item(x: int) -> int:
        await asyncio.sleep(0.01)
        value = old_code(x)
        await asyncio.sleep(0)
        return value + old_code(x)

    job = nesting.map(item, range(1000), concurrency=1000)
    assert await shortly(job, 60) == [2 * x for x in range(1000)]
    still_works(nesting)


def nest_no_deeper_than_one() -> None:
    """An initializer: one nested run at a time."""
    from aiopool._worker import nesting

    nesting.DEEPEST = 1


async def test_at_the_greatest_depth_items_wait_for_one_to_end(fresh):
    """One after another, also where nothing but those that wait is ready when a nested run has ended."""
    pool = fresh(1, nested_loops=True, initializer=nest_no_deeper_than_one)

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        return old_code(x)

    assert await shortly(pool.map(item, range(100), concurrency=50)) == list(range(100))


async def test_items_nest_within_what_is_nested(nesting):
    """Each level turns the loop for all."""

    def down(depth: int) -> int:
        async def step() -> int:
            await asyncio.sleep(0)
            return 1 + down(depth - 1)

        return asyncio.run(step()) if depth else 0

    async def item(depth: int) -> int:
        return down(depth)

    assert await shortly(nesting.map(item, [1, 5, 10])) == [1, 5, 10]


async def test_others_go_on_while_one_nests(nesting, board: Board):
    """And each keeps its own task and context."""

    async def item(x: int) -> int:
        task = asyncio.current_task()
        if x == 0:
            board.mark("inside")
            old_code(None, 0)
            asyncio.run(board.wait_async("done", 9))
        else:
            await board.wait_async("inside")
            await asyncio.sleep(0.001)
            board.mark("done")
        assert asyncio.current_task() is task
        return current_item().index

    job = nesting.map(item, range(10), concurrency=20, batch=10)
    assert await shortly(job) == list(range(10))


async def test_a_resource_of_the_worker_is_the_same_inside(nesting):
    """What is opened in a nested run serves the items outside of it, and the other way round."""

    @per_worker
    async def opened():
        await asyncio.sleep(0.001)
        yield object()

    async def item(x: int) -> bool:
        async def inner() -> object:
            return await opened()

        return asyncio.run(inner()) is await opened()

    assert await shortly(nesting.map(item, range(10))) == [True] * 10


async def test_def_items_run_as_ever(nesting):
    """They may call ``asyncio.run`` in every pool; in threads, too; a lambda that returns a coroutine is run."""
    assert await shortly(nesting.map(old_code, range(5))) == list(range(5))
    assert await shortly(nesting.map(old_code, range(12), concurrency=6)) == list(range(12))
    assert await shortly(nesting.map(lambda x: nests(x + 1), range(5))) == list(range(2, 7))
    assert await shortly(nesting.map(nests, range(5))) == list(range(1, 6))


async def test_a_loop_that_is_told_to_stop_ends_what_is_nested_first(nesting):
    """We stop it ourselves, to run ``def`` items between two runs of it."""

    async def item(x: int) -> int:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)
        if x % 2:
            loop.stop()
        return old_code(x)

    assert await shortly(nesting.map(item, range(20))) == list(range(20))
    mixed = nesting.map(item, range(50), concurrency=4), nesting.map(old_code, range(50))
    assert await shortly(asyncio.gather(*mixed)) == [list(range(50))] * 2
    still_works(nesting)


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_an_error_inside_is_the_items_error(nesting):
    """And the others' values stand."""

    async def fails(x: int) -> int:
        if x % 2:
            raise KeyError(x)
        return x

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        return asyncio.run(fails(x))

    values = await shortly(nesting.map(item, range(6), on_error="return"))
    assert [values[x] for x in (0, 2, 4)] == [0, 2, 4]
    assert [values[x].error.args for x in (1, 3, 5)] == [(1,), (3,), (5,)]


async def test_timeouts_of_asyncio_end_what_is_nested(nesting):
    """Around the nested run and inside of it."""

    async def inner() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            return "inside"
        return "never"

    async def item(_: int) -> list[str]:
        told = [asyncio.run(inner())]
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(0)
                old_code(1, 3600)
        except TimeoutError:
            told.append("around")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return [*told, str(task.cancelling())]

    assert await shortly(nesting.map(item, range(3))) == [["inside", "around", "0"]] * 3


async def test_the_timeout_of_an_item_ends_what_is_nested(nesting):
    """The others, which nest as well, have their values, and the worker lives."""
    pids = set(await shortly(nesting.broadcast(work.pid)))

    async def item(x: int) -> int:
        await asyncio.sleep(0.001)
        return old_code(x, 3600 if x % 4 == 1 else 0.01)

    values = await shortly(nesting.map(item, range(12), timeout=3, on_error="return"))
    assert [type(values[x].error) for x in (1, 5, 9)] == [ItemTimeout] * 3
    assert [values[x] for x in (0, 2, 3, 4, 6, 7, 8, 10, 11)] == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    assert set(await shortly(nesting.broadcast(work.pid))) == pids


async def test_a_task_group_that_fails_ends_what_is_nested(nesting):
    """It cancels the task that waits in it, which cancels what that runs."""

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise KeyError

    async def item(_: int) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                old_code(1, 3600)
        except BaseExceptionGroup as errors:
            return repr(errors.exceptions)
        return "never"

    assert await shortly(nesting.map(item, range(3))) == ["(KeyError(),)"] * 3


async def test_cancelling_the_job_ends_what_is_nested(nesting, board: Board):
    """It feels one CancelledError, may clean up, and its worker lives."""
    pids = set(await shortly(nesting.broadcast(work.pid)))

    async def inner(x: int) -> None:
        board.mark("in")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            board.mark("cancelled")
            await asyncio.sleep(0.01)
            board.mark("cleaned")
            raise

    async def item(x: int) -> None:
        try:
            asyncio.run(inner(x))
        finally:
            board.mark("out")

    job = nesting.map(item, range(10), concurrency=10)
    await board.wait_async("in", 2)
    job.cancel()
    await shortly(job.wait())
    until(lambda: all(worker.in_flight == 0 for worker in nesting.snapshot().workers), what="nothing runs")
    begun = len(board.marks("in"))
    assert [len(board.marks(topic)) for topic in ("cancelled", "cleaned")] == [begun] * 2
    assert len(board.marks("out")) >= begun
    assert set(await shortly(nesting.broadcast(work.pid))) == pids
    still_works(nesting)


async def test_an_item_that_computes_after_it_has_nested_can_be_cancelled(nesting, board: Board):
    """It is the one at work again, so the signal reaches it."""
    pids = set(await shortly(nesting.broadcast(work.pid)))

    async def item(_: int) -> None:
        await asyncio.sleep(0.001)
        old_code(1)
        board.mark("in")
        while True:
            work.nap(0.01)

    job = nesting.map(item, range(2), concurrency=2, batch=1)
    await board.wait_async("in")
    job.cancel()
    await shortly(job.wait())
    until(lambda: all(worker.in_flight == 0 for worker in nesting.snapshot().workers), what="nothing runs")
    assert set(await shortly(nesting.broadcast(work.pid))) == pids


async def test_a_worker_that_dies_after_nesting_charges_the_item_at_work(fresh):
    """Not one whose nested run turned the loop."""
    pool = fresh(1, nested_loops=True)

    async def item(x: int) -> int:
        await asyncio.sleep(0.01)
        old_code(1)
        if x == 3:
            os._exit(7)
        return x

    values = await shortly(pool.map(item, range(6), concurrency=6, on_error="return"))
    assert [values[x] for x in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]
    assert values[3].error.exitcode == 7


def test_a_pool_that_nests_ends_by_itself(fresh):
    """Idle, its workers leave without being killed."""
    before = children()
    pool = fresh(1, nested_loops=True)
    assert pool.submit(nests, 1).result(DEADLINE) == 2
    begun = time.monotonic()
    pool.close()
    pool.join(DEADLINE)
    assert time.monotonic() - begun < 15
    until(lambda: children() <= before, what="nobody is left")


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_switches_are_true_or_false(value):
    """Anything else is refused in the call."""
    for name in ("nested_loops", "reload_modules"):
        with pytest.raises(OptionError, match=name):
            Pool(workers=1, **{name: value})
