"""``timeout``: every attempt ends in time, whatever it does, at the cost of nobody else."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import traceback
from typing import Any

import pytest

from aiopool import ItemTimeout, JobCancelled, inside
from aiopool._core import policy
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import rested, shortly, still_works

SOON = 0.3
"""The timeout of most of these tests."""

LATER = 1.5
"""That of items which have to end before it, on a machine that may stand still for a second."""


@pytest.fixture
def pool(pool):
    """The pool that the test before has let something time out on, with both workers up."""
    rested(pool)
    return pool


def pids(pool) -> set[int | None]:
    """Who the workers are."""
    return {worker.info.pid for worker in pool.workers if worker.info.state != "lost"}


def errors(job) -> list[BaseException]:
    """What the items of a job that returns its failures failed with."""
    return [failure.error for failure in job.result(DEADLINE)]


# --- where it may strike ---------------------------------------------------------------------------------------------


async def sleeps(_: int) -> None:
    """Wait in the loop."""
    await asyncio.sleep(3600)  # here


async def spins(_: int) -> None:
    """Hold the loop in Python."""
    await asyncio.sleep(0)
    while True:  # here
        pass


async def blocks(_: int) -> None:
    """Hold the loop in C."""
    time.sleep(3600)  # noqa: ASYNC251  # here


async def waits_for_its_task(_: int) -> None:
    """Wait for a task, which gets the cancel first."""
    task = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    await task  # here


async def shields(_: int) -> None:
    """Wait for what goes on without it."""
    await asyncio.shield(asyncio.sleep(3600))  # here


async def in_a_timeout_of_its_own(_: int) -> None:
    """Wait within a longer one."""
    async with asyncio.timeout(3600):
        await asyncio.sleep(3600)  # here


async def in_a_group(_: int) -> None:
    """Wait for two tasks of a group."""
    async with asyncio.TaskGroup() as group:  # here
        group.create_task(asyncio.sleep(3600))
        group.create_task(asyncio.sleep(3600))


async def gathers(_: int) -> None:
    """Wait for several at once."""
    await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))  # here


async def swallows(_: int) -> str:
    """Catch the cancel, and return."""
    try:
        await asyncio.sleep(3600)  # here
    except asyncio.CancelledError:
        return "late"
    return "never"


async def changes(_: int) -> None:
    """Make another error of the cancel."""
    try:
        await asyncio.sleep(3600)  # here
    except asyncio.CancelledError:
        raise ValueError("instead") from None


async def waits_in_finally(_: int) -> None:
    """Be over, but for the cleaning up."""
    try:
        await asyncio.sleep(0)
    finally:
        await asyncio.sleep(3600)  # here


async def spins_in_finally(_: int) -> None:
    """Hold the loop while cleaning up."""
    try:
        await asyncio.sleep(0)
    finally:
        while True:  # here
            pass


def def_sleeps(_: int) -> None:
    """Block in C."""
    time.sleep(3600)  # here


def def_spins(_: int) -> None:
    """Compute in Python."""
    while True:  # here
        pass


def def_waits_for_a_lock(_: int) -> None:
    """Block in a lock."""
    threading.Event().wait()  # here


def def_waits_for_a_process(_: int) -> None:
    """Wait for a child."""
    subprocess.run(["sleep", "20"], check=True)  # here


def def_swallows(_: int) -> str:
    """Catch the cancel, and return."""
    try:
        time.sleep(3600)  # here
    except asyncio.CancelledError:
        return "late"
    return "never"


def def_runs_a_loop(_: int) -> None:
    """Call asyncio.run."""
    asyncio.run(asyncio.sleep(3600))  # here


def returns_a_coroutine(_: int) -> Any:
    """Look like a def."""
    return sleeps(0)


ALL = [
    *(sleeps, spins, blocks, waits_for_its_task, shields, in_a_timeout_of_its_own, in_a_group, gathers, swallows),
    *(changes, waits_in_finally, spins_in_finally, def_sleeps, def_spins, def_waits_for_a_lock),
    *(def_waits_for_a_process, def_swallows, def_runs_a_loop, returns_a_coroutine),
]


@pytest.mark.parametrize("fn", ALL, ids=lambda fn: fn.__name__)
def test_what_takes_too_long_ends_as_item_timeout_and_its_worker_lives(lenient, fn):
    """Its traceback says at which line it hung; whatever it makes of the cancel counts no more."""
    before = pids(lenient)
    begun = time.monotonic()
    found = errors(lenient.map(fn, range(2), timeout=SOON, on_error="return", batch=1))
    assert time.monotonic() - begun >= SOON
    for error in found:
        assert type(error) is ItemTimeout
        assert isinstance(error, TimeoutError)
        assert str(error) == "it did not end within 0.3 s"
        assert "# here" in "".join(traceback.format_tb(error.__traceback__))
    if fn is changes:
        assert isinstance(found[0].__context__, ValueError)
    still_works(lenient)
    assert pids(lenient) == before


def test_cleaning_up_may_await_and_is_struck_by_nothing_else(lenient, board: Board):
    """One CancelledError: not a second one from the signal, nor from the job's cancel."""

    async def careful(x: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            board.mark("cleaning")
            time.sleep(0.12)  # noqa: ASYNC251  # longer than the signal waits for a loop
            await board.wait_async("cancelled")
            for _ in range(20):
                await asyncio.sleep(0.005)
            board.mark("cleaned")

    def careful_def(x: int) -> None:
        try:
            time.sleep(3600)
        finally:
            board.mark("cleaning")
            board.wait("cancelled", 2)
            time.sleep(0.2)
            board.mark("cleaned")

    for times, fn in enumerate((careful, careful_def), 1):
        job = lenient.map(fn, range(2), timeout=0.5, batch=1)
        board.wait("cleaning", 2 * times)
        job.cancel()
        board.mark("cancelled")
        with pytest.raises(JobCancelled):
            job.result(DEADLINE)
        board.wait("cleaned", 2 * times)
    still_works(lenient)


def test_the_item_after_one_that_was_struck_still_feels_its_jobs_cancel(fresh, board: Board):
    """A lane that had its CancelledError by the signal is not used again."""
    pool = fresh(1, grace=DEADLINE / 2)

    async def item(x: int) -> None:
        while x == 0:
            pass
        board.mark("waiting")
        try:
            await asyncio.sleep(3600)
        finally:
            board.mark("felt it")

    job = pool.map(item, range(2), timeout=1.5, concurrency=1, batch=2, on_error="return")
    board.wait("waiting")
    job.cancel()
    board.wait("felt it")
    still_works(pool)


async def test_a_timeout_of_the_items_own_is_an_ordinary_error(pool):
    """It is the TimeoutError that asyncio raises, also where ours would come a moment later."""

    async def own(x: float) -> None:
        async with asyncio.timeout(x):
            await asyncio.sleep(3600)

    found = await shortly(pool.map(own, [0.01] * 5, timeout=5, on_error="return"))
    assert [type(failure.error) for failure in found] == [TimeoutError] * 5


async def test_what_ends_in_time_is_not_touched(pool):
    """However many wait at once, and however often a lane or a worker is used again."""
    assert len(await shortly(pool.map(work.doze, [0.05] * 2000, timeout=10, concurrency=1000))) == 2000
    assert await shortly(pool.map(work.double, range(3000), timeout=10)) == list(range(0, 6000, 2))
    assert await shortly(pool.map(work.double_later, range(3000), timeout=10)) == list(range(0, 6000, 2))


async def test_some_of_many_time_out_and_the_others_do_not(pool):
    """Each by its own clock, in lanes that are used again and again."""

    async def item(x: int) -> int:
        await asyncio.sleep(3600 if x % 7 == 0 else 0.001)
        async with asyncio.timeout(DEADLINE):
            await asyncio.sleep(0)
        return x

    results = await shortly(pool.map(item, range(140), timeout=4, on_error="return", concurrency=40))
    assert [x for x in range(140) if results[x] == x] == [x for x in range(140) if x % 7]
    assert all(isinstance(failure.error, ItemTimeout) for failure in results[::7])


async def test_a_thousand_time_out_at_once(pool):
    """In about the time that one takes."""
    results = await shortly(pool.map(sleeps, range(1000), timeout=1, on_error="return", concurrency=1000), 50)
    assert all(isinstance(failure.error, ItemTimeout) for failure in results)


def test_waiting_in_a_queue_is_no_attempt(pool):
    """The time begins when an item is begun."""
    assert len(pool.map(work.nap, [0.5] * 16, timeout=3, batch=8).result(DEADLINE)) == 16


def test_loading_the_function_is_no_items_time(pool, board: Board):
    """It may import a lot, once per worker."""
    job = pool.map(SlowToLoad(), range(4), timeout=LATER)
    assert job.result(DEADLINE) == [0, 2, 4, 6]


class SlowToLoad:
    """A callable that takes its time to be made."""

    def __call__(self, x: int) -> int:
        """Stand here, to be taken for a function."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_slowly, (1.5 * LATER,)


def _load_slowly(seconds: float) -> Any:
    time.sleep(seconds)
    return work.double


# --- threads ---------------------------------------------------------------------------------------------------------


def test_a_value_that_comes_late_is_discarded(fresh, board: Board):
    """Nothing can be raised in a thread; one that ends by itself, but too late, has timed out."""
    pool = fresh(1, grace=10)

    def late(x: int) -> str:
        if x == 0:
            board.mark("begun")
            board.wait("go")
        return "value"

    job = pool.map(late, range(4), timeout=LATER, concurrency=4, on_error="return")
    board.wait("begun")
    until(lambda: job.snapshot().done == 3)
    time.sleep(LATER + SOON)  # its deadline passes
    board.mark("go")
    results = job.result(DEADLINE)
    assert isinstance(results[0].error, ItemTimeout)
    assert results[1:] == ["value"] * 3


def test_a_thread_that_does_not_end_costs_its_worker_and_nobody_else(fresh, board: Board):
    """The worker is killed; its neighbours run again for free."""
    pool = fresh(1)

    def item(x: int) -> int:
        board.mark("ran", x)
        time.sleep(0.3 if x else 3600)
        return x

    results = pool.map(item, range(45), timeout=3, concurrency=4, on_error="return").result(DEADLINE)
    assert isinstance(results[0].error, ItemTimeout)
    assert str(results[0].error) == "it did not end within 3 s, took no notice of that, and its worker was killed"
    assert results[1:] == list(range(1, 45))
    ran = board.marks("ran")
    assert ran.count("0") == 1
    assert len(ran) >= 45  # some were struck down with it, unless they had all ended by then


# --- a loop that is held ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timed", [True, False])
def test_the_clocks_of_its_neighbours_stand_still_while_an_item_holds_the_loop(fresh, board: Board, timed):
    """It waits a little itself, and much longer for others: that is not its time, nor anybody's fault."""
    pool = fresh(1)

    async def waits(x: int) -> str:
        board.mark("waiting")
        await asyncio.sleep(0.2)
        return "in time"

    async def holds(x: int) -> str:
        await board.wait_async("waiting")
        for _ in range(4):
            time.sleep(0.3)  # noqa: ASYNC251  # that is the point
            await asyncio.sleep(0)
        return "held"

    holding = pool.map(holds, range(2), concurrency=2, **({"timeout": 10} if timed else {}))
    begun = time.monotonic()
    assert pool.map(waits, range(1), timeout=0.8).result(DEADLINE) == ["in time"]
    assert holding.result(DEADLINE) == ["held"] * 2
    assert time.monotonic() - begun > 2.4


def test_an_item_that_holds_the_loop_again_and_again_uses_up_its_own_time(fresh):
    """What it holds is charged to itself."""
    pool = fresh(1)

    async def holds(x: int) -> None:
        for _ in range(100):
            time.sleep(0.1)  # noqa: ASYNC251  # that is the point
            await asyncio.sleep(0)

    rested(pool)  # To come up takes its time, too.
    begun = time.monotonic()
    (failure,) = pool.map(holds, range(1), timeout=0.5, on_error="return").result(DEADLINE)
    assert isinstance(failure.error, ItemTimeout)
    assert time.monotonic() - begun < 5


def test_a_task_that_holds_the_loop_for_good_does_not_hide_from_the_timeout(fresh, board: Board):
    """No item is being stepped, so nobody else can be charged: its worker is given up."""
    pool = fresh(1)

    async def hides(x: int) -> None:
        async def child() -> None:
            time.sleep(3600)  # noqa: ASYNC251  # that is the point

        await asyncio.create_task(child())

    (failure,) = pool.map(hides, range(1), timeout=SOON, on_error="return").result(DEADLINE)
    assert isinstance(failure.error, ItemTimeout)
    still_works(pool)


# --- held items ------------------------------------------------------------------------------------------------------


HELD = LATER + 0.1
"""For how long an item is held, twice: each time longer than it may take."""


def opens(board: Board, kind: str) -> Any:
    """Make a function that may not be struck for a while, twice over."""

    def begin() -> Any:
        item = inside.running.get()
        item.hold()
        item.hold()
        board.mark("holding")
        return item

    async def later(x: int) -> str:
        item = begin()
        await asyncio.sleep(HELD)
        item.release()
        await asyncio.sleep(HELD)
        board.mark("releasing")
        item.release()
        await asyncio.sleep(0.05 if x else 3600)
        return "opened"

    def now(x: int) -> str:
        item = begin()
        time.sleep(HELD)
        item.release()
        time.sleep(HELD)
        board.mark("releasing")
        item.release()
        time.sleep(0.05 if x else 3600)
        return "opened"

    async def blocking(x: int) -> str:
        return now(x)

    return {"async def": later, "def": now, "async def that blocks": blocking}[kind]


KINDS = ["async def", "def", "async def that blocks"]


@pytest.mark.parametrize("kind", [*KINDS, "def in threads"])
def test_a_held_item_has_a_clock_that_stands_still(pool, board: Board, kind):
    """As often as it was held, it must be released."""
    fn = opens(board, kind.removesuffix(" in threads"))
    job = pool.map(fn, [1] * 4, timeout=LATER, concurrency=4 if "threads" in kind or "async" in kind else 2)
    assert job.result(DEADLINE) == ["opened"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_after_its_release_an_item_times_out_as_any_other(lenient, board: Board, kind):
    """And not before."""
    job = lenient.map(opens(board, kind), [0, 0], timeout=LATER, batch=1, on_error="return")
    assert all(isinstance(error, ItemTimeout) for error in errors(job))
    assert len(board.marks("releasing")) == 2
    still_works(lenient)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jobs_cancel_waits_for_the_release(fresh, monkeypatch, board: Board, kind):
    """Longer than the grace, and no worker is killed for it; then it strikes."""
    # Who obeys must not be given up, on a machine that stands still for a second.
    monkeypatch.setattr(policy, "DEAF_SECONDS", LATER)
    pool = fresh(2, grace=LATER)
    rested(pool)
    before = pids(pool)
    job = pool.map(opens(board, kind), [0, 0], batch=1)
    board.wait("holding", 2)
    job.cancel()
    board.wait("releasing", 2)
    still_works(pool)
    assert pids(pool) == before


# --- and again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async def", "def", "def in threads"])
def test_a_timeout_is_retried_where_retry_on_says_so(fresh, board: Board, kind):
    """The next attempt begins when the one before has ended."""
    # Who can obey has time to; who runs in a thread cannot.
    pool = fresh(2, grace=0.3 if kind == "def in threads" else DEADLINE / 2)

    def item(x: int) -> int:
        attempt = inside.current_item().attempt
        with board.counted(f"item {x}"):
            if attempt < 3:
                time.sleep(3600)
        return attempt

    async def later(x: int) -> int:
        attempt = inside.current_item().attempt
        with board.counted(f"item {x}"):
            if attempt < 3:
                await asyncio.sleep(3600)
        return attempt

    options: dict[str, Any] = {"timeout": LATER, "retries": 3, "backoff": 0}
    if kind == "def in threads":
        options["concurrency"] = 4
    fn = later if kind == "async def" else item
    assert pool.map(fn, range(4), **options).result(DEADLINE) == [3] * 4
    if kind != "def in threads":  # A worker that was killed did not count down.
        assert [board.most(f"item {x}") for x in range(4)] == [1] * 4
    failure, *_ = pool.map(fn, range(2), **{**options, "retry_on": ValueError}, on_error="return").result(DEADLINE)
    assert (type(failure.error), failure.attempts) == (ItemTimeout, 1)


def test_the_item_that_waits_leaves_nothing_behind_in_the_worker(pool):
    """Neither its argument nor its job is kept by the timers of asyncio that it has cancelled."""

    async def times(x: Any) -> int:
        async with asyncio.timeout(3600):
            await asyncio.sleep(0)
        return len(x)

    def count() -> int:
        import gc

        gc.collect()
        return sum(type(each) is Kept for each in gc.get_objects())

    assert pool.map(times, [Kept() for _ in range(20)], timeout=60).result(DEADLINE) == [1] * 20
    until(lambda: pool.broadcast(count).result(DEADLINE) == [0, 0], what="the arguments are gone")


class Kept(list):  # type: ignore[type-arg]
    """An argument that can be counted."""

    def __init__(self, items: Any = (1,)) -> None:
        super().__init__(items)
