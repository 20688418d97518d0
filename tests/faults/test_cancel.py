"""Cancel is a ladder, whoever climbs it: the caller has its answer at once, remote work stops, and no slot is lost.

A CancelledError for a coroutine, a signal that raises in the main thread for a ``def``, then ``grace``, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import time
from collections.abc import Awaitable, Callable

import psutil
import pytest

from aiopool import ItemTimeout, Job, JobCancelled, Pool
from tests.faults.conftest import GRACE, give_time
from tests.faults.situations import pids
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import shortly

pytestmark = pytest.mark.usefixtures("afterwards")

SOON = 2.0
"""Seconds within which whoever waits has an answer: 0.3 is the promise, the rest is for a busy machine."""

TIME_TO_OBEY = 3.0
"""A grace, in seconds, that is long enough for whoever obeys on a busy machine, beside one that has to be killed."""

KILLED = TIME_TO_OBEY + 10
"""Seconds within which a worker is killed: ordered after the grace, and carried out by a busy machine."""

LIMIT = 1.0
"""Seconds: much more than an item takes that does nothing, however busy the machine is."""


def running(number: int, board: Board) -> None:
    """Say so."""
    board.mark("running", f"{number} {os.getpid()}")


def started(board: Board) -> set[int]:
    """The items that have begun."""
    return {int(line.split()[0]) for line in board.marks("running")}


def ran_on(board: Board) -> set[int]:
    """The workers that they have begun on."""
    return {int(line.split()[1]) for line in board.marks("running")}


def deaf(do: Callable[[], object]) -> None:
    """Do something in C, whatever is raised before it has begun."""
    while True:
        try:
            do()
        except asyncio.CancelledError:
            continue
        return


async def swallows(number: int, board: Board) -> None:
    """Go on after every CancelledError."""
    running(number, board)
    while True:
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            board.mark("felt it")
        board.mark("ticks")


def sleeps(number: int, board: Board) -> None:
    """Wait for an hour, in a ``def``."""
    running(number, board)
    try:
        time.sleep(3600)
    finally:
        board.mark("unwound")


def never_returns(number: int, board: Board) -> None:
    """Wait in C for a lock that nobody opens: signals do not end that."""
    import ctypes

    library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    library.pthread_mutex_lock(lock)
    deaf(lambda: (running(number, board), library.pthread_mutex_lock(lock)))


def holds_the_gil(number: int, board: Board) -> None:
    """Compute in C for minutes: no other thread of the worker runs, and no signal is heard."""
    deaf(lambda: (running(number, board), 3 ** (10**8 + number)))


async def sleeps_in_turn(number: int, board: Board) -> None:
    """Wait for an hour, in a coroutine."""
    running(number, board)
    try:
        await asyncio.sleep(3600)
    finally:
        board.mark("unwound")


async def one_swallows(number: int, board: Board) -> None:
    """Of many that obey, one does not."""
    await (swallows if number == 3 else sleeps_in_turn)(number, board)


async def one_blocks(number: int, board: Board) -> None:
    """Of many, one holds the loop in C for ever."""
    if number != 3:
        await sleeps_in_turn(number, board)
    else:
        while len(started(board)) < 15:  # noqa: ASYNC110  # the others are in other processes, too
            await asyncio.sleep(0.01)
        never_returns(number, board)


ONE = {
    "swallows CancelledError": (swallows, True),
    "def that sleeps": (sleeps, False),
    "C call that never returns": (never_returns, True),
    "holds the GIL": (holds_the_gil, True),
}
"""What a single item does, and whether its worker has to be killed for it."""

EIGHT = {"one of eight swallows": one_swallows, "one of eight never returns": one_blocks}


# --- ways to end it --------------------------------------------------------------------------------------------------


async def by_cancel(job: Job) -> None:
    """``job.cancel()``."""
    assert job.cancel() is True
    with pytest.raises(JobCancelled):
        await shortly(job)


async def by_task(job: Job) -> None:
    """Cancelling the task that awaits."""

    async def waits() -> None:
        await job

    task = asyncio.create_task(waits())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(job: Job) -> None:
    """``asyncio.timeout()`` around the await."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await job


async def by_iteration(job: Job) -> None:
    """Cancelling the task that iterates."""

    async def reads() -> None:
        async for _ in job:
            pytest.fail("nothing ends")

    task = asyncio.create_task(reads())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_leaving(job: Job) -> None:
    """Leaving ``async with job``."""
    async with job:
        pass
    with pytest.raises(JobCancelled):
        await shortly(job)


WAYS = {
    "job.cancel()": by_cancel,
    "cancelling the awaiting task": by_task,
    "asyncio.timeout()": by_timeout,
}
MORE_WAYS = {"cancelling the iterating task": by_iteration, "leaving the job": by_leaving}


async def seen_by_loop(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait, while the loop turns."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)


async def assert_ends(end: Callable[[Job], Awaitable[None]], job: Job) -> None:
    """The caller has its answer soon."""
    begun = time.monotonic()
    await end(job)
    assert time.monotonic() - begun < SOON


async def assert_stopped(pool: Pool, board: Board, *, killed: bool) -> None:
    """Remote work has ended: by the death of the worker, where nothing else helps."""
    if killed:
        await seen_by_loop(lambda: not ran_on(board) & pids(pool), KILLED, "its worker is killed")
    else:
        await seen_by_loop(lambda: len(board.marks("unwound")) == len(started(board)), KILLED, "all have unwound")
        assert ran_on(board) <= pids(pool)
    ticks = len(board.marks("ticks"))
    stays(lambda: len(board.marks("ticks")) == ticks, 0.1, "nothing runs any more")


@pytest.mark.parametrize(
    ("kind", "way"),
    [*itertools.product(ONE, WAYS), *itertools.product(("swallows CancelledError",), MORE_WAYS)],
)
async def test_the_ladder_ends_what_one_item_does(pool, board: Board, monkeypatch, kind, way):
    """Whatever it does, and whoever ends it; then the same workers, or others, run the next job."""
    (fn, killed), end = ONE[kind], {**WAYS, **MORE_WAYS}[way]
    if not killed:
        give_time(pool, monkeypatch)
    job = pool.map(functools.partial(fn, board=board), range(3), concurrency=1)
    await board.wait_async("running")
    await assert_ends(end, job)
    await assert_stopped(pool, board, killed=killed)
    assert started(board) == {0}


@pytest.mark.parametrize("end", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", EIGHT)
async def test_the_ladder_ends_eight_coroutines_in_flight(pool, board: Board, monkeypatch, kind, end):
    """Those that obey unwind; the one that does not costs its worker, and only that one."""
    give_time(pool, monkeypatch, TIME_TO_OBEY)
    job = pool.map(functools.partial(EIGHT[kind], board=board), range(200), concurrency=16)
    await board.wait_async("running", 16)
    before = pids(pool)
    await assert_ends(end, job)
    await seen_by_loop(lambda: len(before - pids(pool)) == 1, KILLED, "one worker is killed")
    ticks = len(board.marks("ticks"))
    stays(lambda: len(board.marks("ticks")) == ticks, 0.1, "nothing runs any more")
    assert len(started(board)) == 16


@pytest.mark.parametrize("kind", [*ONE, "one of eight swallows"])
async def test_a_cancel_ends_a_pool_that_is_closing(fresh, board: Board, kind):
    """Which waits for its jobs, and for nothing else."""
    pool = fresh(2, grace=GRACE)
    fn, items = (ONE[kind][0], 1) if kind in ONE else (EIGHT[kind], 16)
    job = pool.map(functools.partial(fn, board=board), range(items), concurrency=items)
    await board.wait_async("running", items)
    pool.close()
    await assert_ends(by_cancel, job)
    pool.join(KILLED)
    ticks = len(board.marks("ticks"))
    stays(lambda: len(board.marks("ticks")) == ticks, 0.1, "nothing runs any more")


def test_a_cancel_of_what_has_ended_does_nothing(pool):
    """To an idle pool: the job keeps its results."""
    before = pids(pool)
    job = pool.map(work.double, range(20))
    assert job.result(DEADLINE) == list(range(0, 40, 2))
    assert job.cancel() is False
    assert job.result(DEADLINE) == list(range(0, 40, 2))
    assert pids(pool) == before


@pytest.mark.parametrize("kind", [*ONE, "one of eight swallows"])
async def test_an_exception_that_leaves_async_with_pool_ends_everything(board: Board, kind):
    """Whatever runs there is killed, and the exception is passed on."""
    fn, items = (ONE[kind][0], 1) if kind in ONE else (EIGHT[kind], 16)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # it is raised in the block that is left
        async with Pool(workers=2, grace=GRACE) as pool:
            job = pool.map(functools.partial(fn, board=board), range(items), concurrency=items)
            await board.wait_async("running", items)
            workers = pids(pool)
            begun = time.monotonic()
            raise ZeroDivisionError
    assert time.monotonic() - begun < 10
    assert not [pid for pid in workers if psutil.pid_exists(pid)]
    with pytest.raises(JobCancelled):
        await shortly(job)


# --- timeout= --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ONE)
def test_the_option_timeout_climbs_the_same_ladder(pool, board: Board, monkeypatch, kind):
    """The item ends as ItemTimeout, the ones before and after it have their values."""
    fn, killed = ONE[kind]
    if not killed:
        give_time(pool, monkeypatch)

    def item(number: int):
        return fn(number, board) if number == 1 else number

    async def item_async(number: int):
        return await fn(number, board) if number == 1 else number

    job = pool.map(item_async if kind.startswith("swallows") else item, range(4), timeout=LIMIT, on_error="return")
    board.wait("running")
    begun = time.monotonic()
    results = job.result(DEADLINE)
    assert time.monotonic() - begun < LIMIT + KILLED
    assert isinstance(results[1].error, ItemTimeout)
    assert results[:1] + results[2:] == [0, 2, 3]
    until(lambda: (ran_on(board) <= pids(pool)) is not killed)
    assert started(board) == {1}


def test_the_option_timeout_in_a_pool_that_is_closing(fresh, board: Board):
    """Its jobs end, and so does it."""
    pool = fresh(2, grace=GRACE)
    job = pool.map(functools.partial(swallows, board=board), range(2), timeout=LIMIT, on_error="return")
    board.wait("running", 2)
    pool.close()
    assert [type(failure.error) for failure in job.result(DEADLINE)] == [ItemTimeout] * 2
    pool.join(KILLED)


@pytest.mark.parametrize("kind", EIGHT)
def test_the_option_timeout_with_eight_coroutines_in_flight(pool, board: Board, kind):
    """Each of those that take too long has its ItemTimeout, and no other item is lost for them."""
    fn = EIGHT[kind]

    async def item(number: int):
        return await fn(number, board) if number < 16 else number

    job = pool.map(item, range(24), concurrency=24, timeout=1.0, on_error="return")
    results = job.result(DEADLINE)
    assert results[16:] == list(range(16, 24))
    assert {type(failure.error) for failure in results[:16]} == {ItemTimeout}


# --- the replacement -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind, (_, killed) in ONE.items() if killed])
def test_the_replacement_starts_before_the_kill(fresh, board: Board, kind):
    """The next job does not wait for the grace to pass."""
    pool = fresh(1, grace=DEADLINE)
    job = pool.map(functools.partial(ONE[kind][0], board=board), range(1))
    board.wait("running")
    (victim,) = ran_on(board)
    job.cancel()
    begun = time.monotonic()
    assert pool.submit(work.double, 4).result(DEADLINE) == 8
    assert time.monotonic() - begun < 20
    assert psutil.pid_exists(victim)
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
