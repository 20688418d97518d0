"""What goes beyond a limit has an error that says so, and costs only its own item."""

from __future__ import annotations

import time

import psutil
import pytest

from aiopool import JobCancelled, OptionError, Pool, WorkerLost
from tests.faults.situations import pids, struck_alone, struck_among, struck_closing, struck_idle
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until

pytestmark = pytest.mark.usefixtures("afterwards")


def opens_a_pool() -> None:
    """Open a pool in a worker."""
    Pool(workers=2).map(work.double, range(3)).result(DEADLINE)


def recurses() -> int:
    """Call itself for ever."""
    return recurses() + 1


class Doll:
    """Recurses through C: its repr asks for its own."""

    def __repr__(self) -> str:
        return repr(self)


def recurses_in_c() -> str:
    """Ask for the repr that asks for itself."""
    return repr(Doll())


BEYOND = {
    "nested pool": (opens_a_pool, OptionError, "pools do not nest"),
    "recursion": (recurses, RecursionError, "recursion"),
    "recursion through C": (recurses_in_c, RecursionError, "recursion"),
}


@pytest.mark.parametrize("situation", ["idle", "one item", "eight coroutines", "closing"])
@pytest.mark.parametrize("fault", BEYOND)
def test_what_goes_beyond_a_limit_is_the_error_of_its_item(pool, fresh, board: Board, fault, situation):
    """Under its own name, and with its own text; the workers stay, and so do their other items."""
    strike, kind, told = BEYOND[fault]
    before = pids(pool)
    if situation == "idle":
        # In a thread that an item has left behind it is nobody's error.
        assert struck_idle(pool, board, strike) in before
        board.wait("over")
        error = None
    elif situation == "one item":
        error, _ = struck_alone(pool, board, strike)
    elif situation == "eight coroutines":
        error = struck_among(pool, board, strike)
    else:
        error = struck_closing(fresh(2), board, strike)
    if situation != "idle":
        assert isinstance(error, kind)
        assert not isinstance(error, WorkerLost)
        assert told in str(error)
    assert pids(pool) == before


async def recurses_later() -> int:
    """Await itself for ever."""
    return await recurses_later() + 1


def test_a_coroutine_that_awaits_itself_for_ever_fails_alone(pool):
    """Its neighbours have their values."""

    async def item(number: int) -> int:
        return await recurses_later() if number == 3 else number

    results = pool.map(item, range(16), on_error="return").result(DEADLINE)
    assert isinstance(results[3].error, RecursionError)
    assert results[:3] + results[4:] == [0, 1, 2, *range(4, 16)]


# --- many ------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_items_in_the_queue_are_cancelled_at_once(pool, board: Board):
    """In the time of a few; none of them starts, and the next job does not wait."""

    def item(number: int) -> None:
        board.mark("started", number)
        board.wait("go")

    memory = psutil.Process().memory_info().rss
    job = pool.map(item, range(100_000), on_error="return")
    board.wait("started", 2)
    begun = time.monotonic()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    assert time.monotonic() - begun < 5
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    assert len(board.marks("started")) == 2
    assert psutil.Process().memory_info().rss - memory < 50_000_000


def test_five_thousand_calls_in_the_queue_are_cancelled_one_by_one(pool, board: Board):
    """Each of them has its answer; what was sent ahead to the workers is taken back."""

    def call(number: int) -> None:
        board.mark("started", number)
        board.wait("go")

    calls = [pool.submit(call, number) for number in range(5000)]
    board.wait("started", 2)
    # The last one first: as soon as one that runs is cancelled, the next one in the queue starts.
    assert all(call.cancel() for call in reversed(calls))
    for call in calls:
        with pytest.raises(JobCancelled):
            call.result(DEADLINE)
    until(lambda: not pool.snapshot().jobs)
    assert len(board.marks("started")) == 2


def test_jobs_that_are_cancelled_in_the_step_that_starts_them_leave_nothing(pool):
    """Not one slot, over and over; one that was quicker than the cancel has its results."""
    cancelled = 0
    for fn in (work.double, work.double_later) * 100:
        job = pool.map(fn, range(100))
        job.cancel()
        try:
            assert job.result(DEADLINE) == list(range(0, 200, 2))
        except JobCancelled:
            cancelled += 1
    assert cancelled > 100
    until(lambda: all(info.in_flight == 0 for info in pool.snapshot().workers))
