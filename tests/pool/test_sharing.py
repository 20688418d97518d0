"""Who runs what, and when: spread over the workers, fair between jobs, never more at once than was allowed."""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import threading
import time
from collections import Counter

import pytest

from aiopool import Job, Pool
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, shortly, still_works


@pytest.fixture(scope="module")
def four():
    """Four workers, all of them up."""
    pool = Pool(workers=4, grace=0.3)
    pool.broadcast(work.pid).result(DEADLINE)
    yield pool
    ended(pool)


# --- over the workers ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["def", "async def"])
def in_step(request, board: Board):
    """Block for a while, and then until all four workers have had as many: however slow one is, none gets ahead."""

    def item(seconds: float) -> int:
        time.sleep(seconds)
        board.mark("rounds", os.getpid())
        board.wait("rounds", 4 * board.marks("rounds").count(str(os.getpid())))
        return os.getpid()

    async def item_blocking(seconds: float) -> int:
        return item(seconds)

    return item if request.param == "def" else item_blocking


def test_sixteen_blocking_items_take_four_rounds_on_four_workers(four, in_step):
    """Each worker gets four, instead of all of them the first that asks."""
    per_worker = Counter(four.map(in_step, [0.2] * 16).result(DEADLINE))
    assert sorted(per_worker.values()) == [4, 4, 4, 4]


def test_a_second_map_is_spread_like_the_first(four, in_step):
    """What was learnt of one job's items does not heap another's."""
    four.map(work.double, range(1000)).result(DEADLINE)
    four.map(work.double_later, range(1000)).result(DEADLINE)
    per_worker = Counter(four.map(in_step, [0.2] * 16).result(DEADLINE))
    assert sorted(per_worker.values()) == [4, 4, 4, 4]


def test_sixteen_submits_are_spread_too(four, in_step):
    """Each takes the emptiest worker."""
    handles = [four.submit(in_step, 0.2) for _ in range(16)]
    per_worker = Counter(handle.result(DEADLINE) for handle in handles)
    assert sorted(per_worker.values()) == [4, 4, 4, 4]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_short_items_do_not_wait_behind_a_long_one(four, board: Board, kind):
    """One item takes as long as forty others together, whichever worker they were queued at."""

    def item(x: int) -> None:
        if x == 0:
            board.wait("others", 40)
        else:
            time.sleep(0.01)
            board.mark("others")

    async def item_blocking(x: int) -> None:
        item(x)

    four.map(work.nap if kind == "def" else work.blocking_coroutine, [0.0] * 8).result(DEADLINE)
    four.map(item if kind == "def" else item_blocking, range(41)).result(2 * DEADLINE)
    assert len(board.marks("others")) == 40


def test_what_waits_behind_a_long_item_is_handed_back_to_an_idle_worker(fresh, board: Board):
    """Items that were sent before anybody knew how long the first takes."""
    pool = fresh(2)
    pool.map(work.double, range(2000)).result(DEADLINE)

    def held(x: int) -> int:
        if x == 0:
            board.wait("all others", 199)
        else:
            board.mark("all others")
        return x

    assert pool.map(held, range(200), batch=20).result(DEADLINE) == list(range(200))


# --- concurrency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_never_more_items_at_once_than_concurrency_says(four, board: Board, concurrency, kind):
    """Over the whole job, whatever the batches; and that many where there is enough to do."""
    many = math.ceil(min(concurrency, 8) * 0.75)

    # Nobody leaves before so many have come, however slow they are to come.
    def counted(_: int) -> int:
        with board.counted("inside"):
            board.wait("inside", many)
            time.sleep(0.01)
        return os.getpid()

    async def counted_async(_: int) -> int:
        with board.counted("inside"):
            await board.wait_async("inside", many)
            await asyncio.sleep(0.01)
        return os.getpid()

    fn = counted if kind == "def" else counted_async
    pids = four.map(fn, range(60), concurrency=concurrency, batch=3).result(DEADLINE)
    assert board.most("inside") <= concurrency
    assert board.most("inside") >= many
    assert len(set(pids)) <= concurrency


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_concurrency_below_the_workers_uses_that_many_workers(four, board: Board, kind):
    """So that something may be limited by the machine's processes, too."""

    # The first two wait for each other: none of the two workers can do it all while the other one is slow to begin.
    def item(_: int) -> int:
        board.mark("here")
        board.wait("here", 2)
        time.sleep(0.02)
        return os.getpid()

    async def item_async(_: int) -> int:
        board.mark("here")
        await board.wait_async("here", 2)
        await asyncio.sleep(0.02)
        return os.getpid()

    fn = item if kind == "def" else item_async
    assert len(set(four.map(fn, range(12), concurrency=2).result(DEADLINE))) == 2


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_concurrency_of_one_is_strictly_one_after_another_in_order(four, board: Board, kind):
    """Each begins when the one before it has ended, in input order."""

    def ordered(x: int) -> None:
        board.mark("order", f"begin {x}")
        board.mark("order", f"end {x}")

    async def ordered_async(x: int) -> None:
        board.mark("order", f"begin {x}")
        await asyncio.sleep(0.001)
        board.mark("order", f"end {x}")

    fn = ordered if kind == "def" else ordered_async
    four.map(fn, range(30), concurrency=1).result(DEADLINE)
    assert board.marks("order") == [f"{what} {x}" for x in range(30) for what in ("begin", "end")]


def test_a_def_with_a_concurrency_above_the_workers_runs_in_threads(fresh, board: Board):
    """So many wait at once that the workers alone could not."""
    pool = fresh(2)

    def meet(x: int) -> str:
        board.mark("here")
        board.wait("here", 10)
        return threading.current_thread().name

    names = pool.map(meet, range(10), concurrency=10).result(DEADLINE)
    assert "MainThread" not in names
    assert pool.map(work.thread_name, range(4)).result(DEADLINE) == ["MainThread"] * 4
    still_works(pool)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_concurrency_holds_when_workers_come_and_go(fresh, board: Board, kind):
    """Resized up and down during the job, it is never exceeded, whether a worker then runs its share in threads."""
    pool = fresh(1)

    async def counted_async(x: int) -> int:
        with board.counted("inside"):
            await asyncio.sleep(0.005)
        return x

    def counted(x: int) -> int:
        with board.counted("inside"):
            time.sleep(0.005)
        return x

    job = pool.map(counted if kind == "def" else counted_async, range(400), concurrency=4, batch=2)
    for size in (3, 1, 4, 2, 1):
        seen = job.snapshot().done
        pool.resize(size)
        until(lambda seen=seen: job.done() or job.snapshot().done > seen + 30)
    assert job.result(DEADLINE) == list(range(400))
    assert board.most("inside") <= 4


def test_a_running_job_that_said_no_concurrency_uses_workers_that_were_added(fresh, board: Board):
    """One item per worker is the default, so a bigger pool is a faster job."""
    pool = fresh(1)

    def meet(x: int) -> int:
        board.mark("here")
        if x >= 1:
            board.wait("here", 4)
        return os.getpid()

    job = pool.map(meet, range(5), batch=1)
    board.wait("here", 2)
    pool.resize(3)
    assert len(set(job.result(DEADLINE))) == 3


def test_a_running_job_that_said_no_concurrency_never_runs_in_threads(fresh, board: Board):
    """Also when the pool becomes smaller: only a concurrency above the workers asks for threads."""
    pool = fresh(3)
    pool.broadcast(work.pid).result(DEADLINE)

    def where(x: int) -> str:
        with board.counted("inside"):
            time.sleep(0.01)
        return threading.current_thread().name

    job = pool.map(where, range(90))
    until(lambda: job.snapshot().done > 5)
    pool.resize(1)
    assert set(job.result(DEADLINE)) == {"MainThread"}


# --- fair between jobs -----------------------------------------------------------------------------------------------


def overtaken(pool: Pool, by: Job[int], times: int = 5) -> float:
    """How many items of another job end while a short one runs, in the median."""
    ended = []
    for _ in range(times):
        before = by.snapshot().done
        pool.map(work.double, [1, 2]).result(DEADLINE)
        ended.append(by.snapshot().done - before)
    return statistics.median(ended)


def test_a_short_job_beside_a_long_one_is_not_starved(fresh):
    """It shares at item boundaries: with items of 20 ms on two workers it waits for some of them, not for all 4,000."""
    pool = fresh(2)
    pool.broadcast(work.pid).result(DEADLINE)
    long = pool.map(work.nap, [0.02] * 4000)
    until(lambda: long.snapshot().done > 4)
    assert overtaken(pool, long) < 2 * 10
    assert not long.done()
    long.cancel()


def test_jobs_of_one_kind_share_the_workers(fresh, board: Board):
    """Two long jobs: when the first has ended, the second is well under way."""
    pool = fresh(2)
    pool.broadcast(work.pid).result(DEADLINE)
    # They begin together, however long it takes to make them.
    holding = pool.map(lambda _: board.mark("held") or board.wait("go"), range(2))
    board.wait("held", 2)
    first = pool.map(work.nap, [0.005] * 150)
    second = pool.map(work.nap, [0.005] * 150)
    until(lambda: len(pool._driver._ledger.jobs) == 3, what="all are open")
    books = [pool._driver._ledger.jobs[job.id] for job in (first, second)]
    until(lambda: all(book.supplied > 0 for book in books), what="both have something to do")
    board.mark("go")
    holding.result(DEADLINE)
    first.result(DEADLINE)
    assert second.snapshot().done > 50
    assert len(second.result(DEADLINE)) == 150


def test_many_jobs_at_once_all_end(four):
    """Forty jobs of both kinds."""
    jobs = [four.map(fn, range(30)) for _ in range(20) for fn in (work.double, work.double_later)]
    assert [job.result(DEADLINE) for job in jobs] == [list(range(0, 60, 2))] * 40


@pytest.mark.parametrize("workers", [1, 2])
def test_a_def_never_freezes_another_jobs_coroutines(fresh, board: Board, workers):
    """They tick on beside blocking items, in workers of their own."""
    pool = fresh(workers)

    async def ticks(x: int) -> None:
        board.mark("ticking")
        while not board.marks("enough"):
            await asyncio.sleep(0.01)
            board.mark(f"tick {x}")

    def blocks(_: int) -> None:
        for x in range(4):
            board.wait(f"tick {x}", len(board.marks(f"tick {x}")) + 2)

    ticking = pool.map(ticks, range(4))
    board.wait("ticking", 4)
    blocking = pool.map(blocks, range(4 * workers))
    blocking.result(DEADLINE)  # Each of them has seen all of those tick on.
    board.mark("enough")
    ticking.result(DEADLINE)


@pytest.mark.parametrize("workers", [1, 2])
def test_coroutines_are_not_kept_waiting_by_a_long_def(fresh, board: Board, workers):
    """Every worker is busy with a ``def`` that takes long: a worker beyond the pool's size is started for them."""
    pool = fresh(workers)
    blocking = pool.map(lambda x: board.mark("blocking") or board.wait("go"), range(workers), batch=1)
    board.wait("blocking", workers)
    assert pool.map(work.double_later, range(10)).result(DEADLINE) == list(range(0, 20, 2))
    assert pool.submit(work.double_later, 4).result(DEADLINE) == 8
    assert not blocking.done()
    board.mark("go")
    blocking.result(DEADLINE)
    until(lambda: len(pool.snapshot().workers) <= workers, what="the extra worker has left")
    still_works(pool)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_def_is_not_kept_waiting_by_long_coroutines(fresh, board: Board, workers):
    """The other way round."""
    pool = fresh(workers)

    async def wait(x: int) -> None:
        board.mark("waiting")
        await board.wait_async("go")

    waiting = pool.map(wait, range(4 * workers))
    await board.wait_async("waiting", 4 * workers)
    assert await shortly(pool.map(work.double, range(10))) == list(range(0, 20, 2))
    assert await shortly(pool.submit(work.double, 4)) == 8
    assert not waiting.done()
    board.mark("go")
    await shortly(waiting)


# --- pause -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_after_a_pause_nothing_new_starts_and_after_a_resume_nothing_is_lost(fresh, board: Board, kind):
    """Worker queues included; what runs, runs on."""
    pool = fresh(2)

    def step(x: int) -> int:
        board.mark("started", x)
        board.wait(f"go {x // 10}")
        return x

    async def step_async(x: int) -> int:
        board.mark("started", x)
        await board.wait_async(f"go {x // 10}")
        return x

    pool.map(work.double, range(500)).result(DEADLINE)
    fn, running = (step, 2) if kind == "def" else (step_async, 4)
    job = pool.map(fn, range(30), concurrency=running)
    board.wait("started", running)
    job.pause()
    until(lambda: job.snapshot().state == "paused")
    until(lambda: job.snapshot().in_flight == running, what="what had not started was handed back")
    for part in range(3):
        board.mark(f"go {part}")
    until(lambda: job.snapshot().done == running)
    assert job.snapshot().in_flight == 0
    other = pool.map(work.double, range(100))
    assert other.result(DEADLINE) == list(range(0, 200, 2))
    assert len(board.marks("started")) == running
    job.resume()
    assert job.result(DEADLINE) == list(range(30))
    assert sorted(map(int, board.marks("started"))) == list(range(30))


def test_a_paused_job_can_be_cancelled(fresh):
    """And the pool goes on."""
    pool = fresh(1)
    job = pool.map(work.nap, [0.01] * 100)
    job.pause()
    job.pause()
    job.cancel()
    until(job.done)
    still_works(pool)


def test_a_job_that_is_paused_before_it_began_starts_nothing(fresh, board: Board):
    """Not even a worker for it."""
    pool = fresh(1)
    pool.submit(work.pid).result(DEADLINE)
    blocker = pool.submit(board.wait, "go")
    job = pool.map(lambda x: board.mark("started"), range(5))
    job.pause()
    # What had been sent already is handed back.
    until(lambda: job.snapshot().state == "paused" and job.snapshot().in_flight == 0)
    board.mark("go")
    blocker.result(DEADLINE)
    still_works_beside(pool)
    assert board.marks("started") == []
    job.resume()
    job.result(DEADLINE)
    assert len(board.marks("started")) == 5


def still_works_beside(pool: Pool) -> None:
    """Other jobs run."""
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
