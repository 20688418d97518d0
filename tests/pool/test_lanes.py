"""Coroutines in a worker: each has a real Task under it, a Context of its own, and no trace of the one before."""

from __future__ import annotations

import asyncio
import contextvars
import time

import pytest

from aiopool import ItemExited
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import shortly, still_works

# Few lanes and many items, so that a lane steps one after another.
REUSED = {"concurrency": 2}


async def test_asyncio_timeout_is_right_in_every_item(pool):
    """It ends what takes too long with TimeoutError, and touches nothing else, however often a lane was used."""

    async def limited(x: int) -> str:
        try:
            async with asyncio.timeout(0.02 if x % 3 == 0 else 5):
                await asyncio.sleep(3600 if x % 3 == 0 else 0.001)
        except TimeoutError:
            return "late"
        return "in time"

    expected = ["in time" if x % 3 else "late" for x in range(30)]
    assert await shortly(pool.map(limited, range(30))) == expected
    assert await shortly(pool.map(limited, range(30), **REUSED)) == expected


async def test_a_timeout_that_is_not_caught_is_that_items_error(pool):
    """And its lane's next item is not touched."""

    async def limited(x: int) -> int:
        async with asyncio.timeout(0.02 if x == 1 else 5):
            await asyncio.sleep(3600 if x == 1 else 0)
        return x

    results = await shortly(pool.map(limited, range(10), on_error="return", concurrency=1))
    assert isinstance(results[1].error, TimeoutError)
    assert [value for i, value in enumerate(results) if i != 1] == [0, 2, 3, 4, 5, 6, 7, 8, 9]


async def test_wait_for_and_nested_timeouts_are_right(pool):
    """The inner one ends first."""

    async def nested(x: int) -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.wait_for(asyncio.sleep(3600), 0.01)
        except TimeoutError:
            return "inner"
        return "none"

    assert await shortly(pool.map(nested, range(20), **REUSED)) == ["inner"] * 20


async def test_a_task_group_is_right_in_every_item(pool):
    """Its children run, and the failure of one cancels the others and is raised as a group."""

    async def family(x: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(work.double_later(i)) for i in range(x)]
            if x == 3:
                group.create_task(asyncio.sleep(3600))
                group.create_task(asyncio.wait_for(asyncio.sleep(3600), 0.01))
        return [child.result() for child in children]

    results = await shortly(pool.map(family, range(6), on_error="return", **REUSED))
    assert [value for i, value in enumerate(results) if i != 3] == [[0, 2, 4, 6, 8][:i] for i in (0, 1, 2, 4, 5)]
    assert isinstance(results[3].error, ExceptionGroup)
    assert isinstance(results[3].error.exceptions[0], TimeoutError)


async def test_context_variables_are_isolated_per_item(pool):
    """What one item sets, neither its neighbours nor its lane's next one sees."""

    def make():
        # Here, not in the test module: a ContextVar cannot travel.
        import builtins

        if not hasattr(builtins, "test_variable"):
            builtins.test_variable = contextvars.ContextVar("test_variable", default="unset")
        return builtins.test_variable

    async def sets(x: int) -> list[str]:
        variable = make()
        seen = [variable.get()]
        variable.set(f"item {x}")
        await asyncio.sleep(0.001)
        seen.append(variable.get())
        seen.append(await asyncio.create_task(reads()))
        return seen

    async def reads() -> str:
        return make().get()

    def sets_def(x: int) -> list[str]:
        variable = make()
        seen = [variable.get()]
        variable.set(f"item {x}")
        return [*seen, variable.get(), f"item {x}"]

    expected = [["unset", f"item {x}", f"item {x}"] for x in range(40)]
    assert await shortly(pool.map(sets, range(40))) == expected
    assert await shortly(pool.map(sets, range(40), **REUSED)) == expected
    assert await shortly(pool.map(sets_def, range(40))) == expected
    assert await shortly(pool.map(sets_def, range(40), concurrency=8)) == expected


async def test_the_current_task_is_a_real_one(pool):
    """It has a name and a loop, is among all tasks, and is not the same for two items at once."""

    async def looks(x: int) -> tuple[bool, bool, bool]:
        task = asyncio.current_task()
        await asyncio.sleep(0.001)
        return (
            isinstance(task, asyncio.Task),
            asyncio.current_task() is task and task in asyncio.all_tasks(),
            task.get_loop() is asyncio.get_running_loop(),
        )

    assert await shortly(pool.map(looks, range(20))) == [(True, True, True)] * 20


async def test_an_item_that_cancels_its_own_task_costs_itself_only(pool):
    """Its lane is discarded with it: before Python 3.13 a Task that was cancelled stays poisoned."""

    async def suicidal(x: int) -> int:
        if x % 5 == 0:
            asyncio.current_task().cancel()
        await asyncio.sleep(0.001)
        return x

    results = await shortly(pool.map(suicidal, range(30), on_error="return", **REUSED))
    assert [value for i, value in enumerate(results) if i % 5] == [x for x in range(30) if x % 5]
    for failure in results[::5]:
        assert isinstance(failure.error, ItemExited)
        assert failure.error.type_name.endswith("CancelledError")


async def test_an_item_that_leaves_a_cancel_behind_does_not_poison_the_next(pool):
    """It asks for the cancel of its own task in its very last step, or of a task that it has saved."""

    async def leaves(x: int) -> int:
        await asyncio.sleep(0)
        if x % 4 == 0:
            asyncio.current_task().cancel()
        return x

    async def leaves_later(x: int) -> int:
        await asyncio.sleep(0)
        if x % 4 == 0:
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        return x

    async def timeouts(x: int) -> int:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return x

    for fn in (leaves, leaves_later):
        assert await shortly(pool.map(fn, range(40), **REUSED)) == list(range(40))
        assert await shortly(pool.map(timeouts, range(40), **REUSED)) == list(range(40))
    still_works(pool)


async def test_an_item_that_catches_its_cancel_and_goes_on_is_right(pool):
    """``uncancel`` included."""

    async def stubborn(x: int) -> int:
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            task.uncancel()
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return x

    assert await shortly(pool.map(stubborn, range(20), **REUSED)) == list(range(20))


async def test_at_most_once_holds_for_a_stray_cancel_too(pool, board: Board):
    """With ``rerun_lost=False`` an item that was struck by another one's cancel fails, instead of running twice."""

    async def leaves(x: int) -> int:
        board.mark("ran", x)
        await asyncio.sleep(0)
        if x % 4 == 0:
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        return x

    await shortly(pool.map(leaves, range(40), rerun_lost=False, on_error="return", **REUSED))
    ran = board.marks("ran")
    assert len(ran) == len(set(ran))


async def test_tasks_that_an_item_leaves_behind_run_on_and_harm_nobody(pool, board: Board):
    """Fire and forget is allowed."""

    async def forgets(x: int) -> int:
        async def later() -> None:
            await asyncio.sleep(0.01)
            board.mark("later")

        async def fails() -> None:
            raise ValueError("nobody looks")

        tasks = asyncio.get_running_loop()
        tasks.kept = [*getattr(tasks, "kept", []), tasks.create_task(later()), tasks.create_task(fails())]
        return x

    assert await shortly(pool.map(forgets, range(5))) == list(range(5))
    await board.wait_async("later", 5)
    still_works(pool)


async def test_a_task_that_an_item_started_may_raise_system_exit(pool):
    """Asyncio lets it out of the loop; the item fails with it, and the worker goes on."""

    async def exits(x: int) -> int:
        async def child() -> None:
            raise SystemExit(3)

        await asyncio.create_task(child())
        return x

    before = set(await shortly(pool.broadcast(work.pid)))
    (failure,) = await shortly(pool.map(exits, [1], on_error="return"))
    assert isinstance(failure.error, ItemExited)
    still_works(pool)
    assert before == set(await shortly(pool.broadcast(work.pid)))


async def test_two_thousand_coroutines_wait_at_once(pool):
    """They take about as long as one."""
    await shortly(pool.broadcast(work.pid))
    started = time.monotonic()
    assert len(await shortly(pool.map(work.doze, [1.0] * 2000, concurrency=2000))) == 2000
    assert time.monotonic() - started < 10


async def test_items_that_never_wait_let_the_others_have_their_turn(pool, board: Board):
    """A long run of coroutines without an await does not freeze one that waits."""

    async def ticks(x: int) -> float:
        # The worker's own time: other programs may have the processor meanwhile.
        longest, last = 0.0, time.process_time()
        board.mark("ticking")
        while not board.marks("enough"):
            await asyncio.sleep(0.005)
            now = time.process_time()
            longest, last = max(longest, now - last), now
        return longest

    async def spins(x: int) -> int:
        return sum(range(20_000))

    ticking = pool.map(ticks, range(2), concurrency=2)
    await board.wait_async("ticking", 2)
    await shortly(pool.map(spins, range(3000)))
    board.mark("enough")
    assert max(await shortly(ticking)) < 0.3


async def test_async_generators_and_contexts_of_an_item_are_closed(lenient, board: Board):
    """Also when it is cancelled."""

    async def held(x: int) -> None:
        try:
            board.mark("in")
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            board.mark("closed")

    job = lenient.map(held, range(5))
    await board.wait_async("in", 5)
    job.cancel()
    await board.wait_async("closed", 5)
    await shortly(job.wait())


def test_a_coroutine_that_awaits_nothing_but_blocks_is_an_item_like_any_other(pool):
    """Values come while the loop of their worker is held by the next."""
    job = pool.map(work.blocking_coroutine, [0.05] * 6)
    assert len(job.result(DEADLINE)) == 6


@pytest.mark.parametrize("concurrency", [1, 2, 100])
async def test_loops_are_one_per_worker_and_stay(pool, concurrency):
    """A client that an item keeps for the next works there."""

    async def keeps(x: int) -> bool:
        import builtins

        loop = asyncio.get_running_loop()
        builtins.kept_loop = getattr(builtins, "kept_loop", loop)
        await asyncio.sleep(0)
        return builtins.kept_loop is loop

    assert all(await shortly(pool.map(keeps, range(50), concurrency=concurrency)))
    await shortly(pool.map(work.double, range(10)))
    assert all(await shortly(pool.map(keeps, range(50), concurrency=concurrency)))
