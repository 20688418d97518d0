"""The workers of a pool: on demand, resized, restarted, spoken to all at once, retired, and ended."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref

import pytest

from aiopool import JobCancelled, OptionError, Pool, PoolClosed, WouldDeadlock
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import children, shortly, still_works


def pids(pool: Pool) -> set[int]:
    """The workers that are ready."""
    return {info.pid for info in pool.snapshot().workers if info.state in ("idle", "busy") and info.pid is not None}


# --- on demand -------------------------------------------------------------------------------------------------------


def test_no_worker_starts_before_there_is_work_and_never_more_than_there_is(fresh):
    """Opening costs no process; one item starts one worker of four."""
    pool = fresh(4)
    assert pool.snapshot().workers == ()
    assert pool.submit(work.double, 1).result(DEADLINE) == 2
    assert len(pool.snapshot().workers) == 1
    assert pool.map(work.double, [1, 2]).result(DEADLINE) == [2, 4]
    assert len(pool.snapshot().workers) <= 2


def test_a_worker_without_work_retires_after_the_idle_timeout(fresh):
    """The pool stays open and starts another one when there is work again."""
    pool = fresh(2, idle_timeout=0.2)
    first = pool.submit(work.pid).result(DEADLINE)
    until(lambda: first not in children(), what="the idle worker has left")
    assert pool.submit(work.pid).result(DEADLINE) != first


@pytest.mark.parametrize("wait", [Board.wait, Board.wait_async], ids=["def", "async def"])
def test_a_busy_worker_does_not_retire(fresh, board: Board, wait):
    """However long its item takes, and whether it is at work or waits."""
    pool = fresh(1, idle_timeout=0.1)
    handle = pool.submit(wait, board, "go")
    until(lambda: pids(pool), what="it has come up")
    (pid,) = pids(pool)
    stays(lambda: [(info.pid, info.state == "retiring") for info in pool.snapshot().workers] == [(pid, False)], 0.5)
    board.mark("go")
    handle.result(DEADLINE)


def test_workers_tell_who_they_are(fresh, board: Board):
    """Index, pid, state, items; in one line that reads like a status bar."""
    pool = fresh(2)
    handle = pool.submit(board.wait, "go")
    until(lambda: [info.state for info in pool.snapshot().workers] == ["busy"])
    (worker,) = pool.workers
    assert (worker.info.index, worker.info.in_flight, worker.info.done) == (0, 1, 0)
    assert (worker.index, worker.pid, worker.state) == (0, worker.info.pid, "busy")
    until(lambda: worker.memory, what="its memory was measured")
    # Its memory stands between them once it was measured.
    assert repr(worker).startswith(f"<worker 0 (pid {worker.info.pid}) busy, ")
    assert repr(worker).endswith("1 in flight, 0 done>")
    assert "1 of 2 workers (1 busy) | 1 job>" in repr(pool)
    board.mark("go")
    handle.result(DEADLINE)
    until(lambda: worker.info.state == "idle")
    assert worker.info.done == 1
    pool.terminate()
    pool.join(DEADLINE)
    assert worker.info.state == worker.state == "lost"
    assert worker.pid == worker.info.pid
    assert worker.memory is None
    assert "closed" in repr(pool)


# --- resize ----------------------------------------------------------------------------------------------------------


def test_resize_up_lets_more_items_run_at_once(fresh, board: Board):
    """A job that runs already gets the new workers, too."""
    pool = fresh(1)
    job = pool.map(lambda x: board.mark("in") or board.wait("go"), range(3), concurrency=3, batch=1)
    board.wait("in")
    pool.resize(3).result(DEADLINE)
    assert pool.size == 3
    until(lambda: len(pids(pool)) == 3, what="three workers are there")
    board.mark("go")
    job.result(DEADLINE)


async def test_resize_down_lets_the_leaving_workers_end_their_items(fresh, board: Board):
    """The handle ends when they are gone; nothing of the job is lost or run twice."""
    pool = fresh(3)

    def held(x: int) -> int:
        board.mark("started", x)
        board.wait("go")
        return x

    job = pool.map(held, range(3), batch=1)
    await board.wait_async("started", 3)
    handle = pool.resize(1)
    assert not handle.done()
    board.mark("go")
    assert await shortly(handle) is None
    assert await shortly(job) == [0, 1, 2]
    assert sorted(board.marks("started")) == ["0", "1", "2"]
    assert len(pool.snapshot().workers) == 1
    still_works(pool)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_that_cannot_be_is_refused_in_the_call(pool, workers):
    """For a pool and for its resize."""
    with pytest.raises(OptionError, match="workers"):
        pool.resize(workers)
    with pytest.raises(OptionError, match="workers"):
        Pool(workers=workers)


# --- restart ---------------------------------------------------------------------------------------------------------


async def test_restart_replaces_workers_beside_their_running_items(fresh, board: Board):
    """The old ones end what they run, new ones take what comes, and the handle ends when the old ones are gone."""
    pool = fresh(2)
    old = set(await shortly(pool.broadcast(work.pid)))

    def held(x: int) -> int:
        board.mark("started", x)
        board.wait("go")
        return os.getpid()

    job = pool.map(held, range(2), batch=1)
    await board.wait_async("started", 2)
    handle = pool.restart()
    new = await shortly(pool.submit(work.pid))
    assert new not in old
    assert not handle.done()
    board.mark("go")
    await shortly(handle)
    assert set(await shortly(job)) <= old
    assert len(board.marks("started")) == 2
    assert not set(await shortly(pool.broadcast(work.pid))) & old


async def test_restart_now_kills_and_runs_the_items_of_maps_again(fresh, board: Board):
    """What a map ran is not lost."""
    pool = fresh(2)

    def held(x: int) -> int:
        board.mark("started", x)
        if len(board.marks("started")) <= 2:
            time.sleep(3600)
        return x

    job = pool.map(held, range(2), batch=1)
    await board.wait_async("started", 2)
    before = {worker.info.pid for worker in pool.workers}
    await shortly(pool.restart(now=True))
    assert await shortly(job) == [0, 1]
    assert not before & children()


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [work.pid, work.pid_later], ids=["def", "async def"])
def test_a_broadcast_runs_once_on_every_worker(fresh, fn):
    """It starts all of them, and its values stand in the order of their places."""
    pool = fresh(3)
    found = pool.broadcast(fn).result(DEADLINE)
    assert found == [worker.info.pid for worker in pool.workers]
    assert len(set(found)) == 3
    assert pool.broadcast(fn).result(DEADLINE) == found


def test_a_broadcast_reaches_workers_that_are_busy(fresh, board: Board):
    """It waits for each, and never runs twice on one."""
    pool = fresh(2)
    job = pool.map(lambda x: board.wait("go"), range(2), batch=1)
    cast = pool.broadcast(work.pid)
    board.mark("go")
    assert len(set(cast.result(DEADLINE))) == 2
    job.result(DEADLINE)


def test_a_broadcast_with_keep_runs_on_later_workers_before_their_first_item(fresh):
    """After a restart and a resize, too; without ``keep`` it does not."""
    pool = fresh(1)

    def remember() -> None:
        import builtins

        builtins.kept = getattr(builtins, "kept", 0) + 1  # type: ignore[attr-defined]

    def forget_me() -> None:
        import builtins

        builtins.once = True  # type: ignore[attr-defined]

    def look(_: object = None) -> tuple[int, bool]:
        import builtins

        return getattr(builtins, "kept", 0), hasattr(builtins, "once")

    pool.broadcast(remember, keep=True).result(DEADLINE)
    pool.broadcast(forget_me).result(DEADLINE)
    assert pool.submit(look).result(DEADLINE) == (1, True)
    pool.resize(2).result(DEADLINE)
    assert pool.broadcast(look).result(DEADLINE) == [(1, True), (1, False)]
    pool.restart().result(DEADLINE)
    assert pool.broadcast(look).result(DEADLINE) == [(1, False), (1, False)]


def test_a_broadcast_that_raises_raises_at_the_await(fresh):
    """As a map would."""
    pool = fresh(2)
    with pytest.raises(ZeroDivisionError):
        pool.broadcast(lambda: 1 / 0).result(DEADLINE)
    still_works(pool)


# --- values that are put ---------------------------------------------------------------------------------------------


def test_a_ref_is_its_value_wherever_it_stands_in_a_worker(pool):
    """As an argument, inside a structure, and in a closure; in the kernel it is ``ref.value``."""
    table = {"a": [1, 2, 3]}
    ref = pool.put(table)
    number = pool.put(7)
    assert ref.value is table
    assert "dict" in repr(ref)
    assert pool.submit(lambda t: t["a"], ref).result(DEADLINE) == [1, 2, 3]
    assert pool.submit(lambda: (ref["a"], number + 1)).result(DEADLINE) == ([1, 2, 3], 8)
    assert pool.map(lambda pair: pair[0] * pair[1]["n"], [(2, {"n": number}), (3, {"n": number})]).result(DEADLINE) == [
        14,
        21,
    ]
    assert pool.submit(lambda **kw: kw["x"]["a"], x=ref).result(DEADLINE) == [1, 2, 3]


def test_a_value_is_pickled_when_it_is_put(pool):
    """Later changes here do not travel; what cannot travel is refused at once."""
    values = [1]
    ref = pool.put(values)
    values.append(2)
    assert pool.submit(len, ref).result(DEADLINE) == 1
    with pytest.raises(TypeError, match="lock"):
        pool.put(threading.Lock())


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_leaving_async_with_waits_for_the_jobs(board: Board):
    """And for the workers to be gone."""
    before = children()
    async with asyncio.timeout(DEADLINE), Pool(workers=2) as pool:
        job = pool.map(work.nap, [0.05] * 4)
        until(lambda: children() - before)
    assert job.done()
    assert len(job.result()) == 4
    assert children() <= before


def test_leaving_with_waits_for_the_jobs():
    """From a script."""
    with Pool(workers=2) as pool:
        job = pool.map(work.nap, [0.05] * 4)
    assert len(job.result(0)) == 4


async def test_leaving_through_an_exception_terminates(board: Board):
    """The exception arrives as it was, soon, and what had finished stays on the job."""

    def held(x: int) -> int:
        board.mark("started")
        if x:
            time.sleep(3600)
        return x

    jobs = []

    async def fails() -> None:
        async with Pool(workers=2) as pool:
            jobs.append(pool.map(held, range(3), batch=1))
            await board.wait_async("started", 3)
            raise ZeroDivisionError

    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        await fails()
    assert time.monotonic() - begun < 15
    (job,) = jobs
    assert job.partial(None)[0] == 0
    with pytest.raises(JobCancelled):
        await job


def test_leaving_with_through_an_exception_terminates(board: Board):
    """The same in a script."""

    def fails() -> None:
        with Pool(workers=1) as pool:
            pool.map(lambda x: board.mark("started") or time.sleep(3600), range(3))
            board.wait("started")
            raise ZeroDivisionError

    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fails()
    assert time.monotonic() - begun < 15


def test_a_closed_pool_takes_no_new_jobs_and_ends_with_those_it_has(fresh, board: Board):
    """``close`` and ``join``; nothing is lost."""
    pool = fresh(2)
    job = pool.map(lambda x: board.wait("go") and x, range(20))
    with pytest.raises(PoolClosed, match="close"):
        pool.join()
    pool.close()
    assert pool.closed
    for late in (
        lambda: pool.map(work.double, [1]),
        lambda: pool.submit(work.double, 1),
        lambda: pool.broadcast(work.pid),
        lambda: pool.put(1),
        lambda: pool.resize(3),
        pool.restart,
    ):
        with pytest.raises(PoolClosed, match="closed"):
            late()
    with pytest.raises(TimeoutError):
        pool.join(0.05)
    board.mark("go")
    pool.join(DEADLINE)
    assert job.result(0) == list(range(20))
    pool.close()
    pool.terminate()
    pool.join(DEADLINE)


def test_terminate_cancels_the_jobs_and_kills_the_workers(fresh, board: Board):
    """At once, whatever they do."""
    pool = fresh(2, grace=30)
    job = pool.map(lambda x: board.mark("started") or time.sleep(3600), range(10), batch=1)
    board.wait("started", 2)
    begun = time.monotonic()
    pool.terminate()
    pool.join(DEADLINE)
    assert time.monotonic() - begun < 15
    with pytest.raises(JobCancelled, match="cancelled"):
        job.result(DEADLINE)


def test_closing_a_pool_that_never_had_work_ends_it(fresh):
    """Nothing was started, nothing is left."""
    pool = fresh(2)
    pool.close()
    pool.join(DEADLINE)


async def test_a_pool_ends_while_its_workers_are_starting(board: Board):
    """Whether it is closed or terminated."""
    for end in (Pool.terminate, Pool.close):
        pool = Pool(workers=2)
        handle = pool.submit(work.double, 1)
        end(pool)
        pool.join(DEADLINE)
        if end is Pool.close:
            assert await shortly(handle) == 2


def test_a_blocking_wait_on_the_pools_own_thread_is_refused(pool):
    """It could never return; the message says what to write instead."""
    told: list[BaseException] = []
    called = threading.Event()
    job = pool.map(work.double, range(3))
    other = pool.map(work.double, range(3))

    def callback(_: object) -> None:
        try:
            pool.submit(work.nap, 0.05).result()
        except WouldDeadlock as error:
            told.append(error)
        called.set()

    threading.Thread(target=job.add_done_callback, args=(callback,)).start()
    assert called.wait(DEADLINE)
    other.result(DEADLINE)
    if told:  # The callback ran on the pool's own thread, unless the job had ended before it was added.
        assert "await it instead" in str(told[0])


def test_a_pool_inside_a_worker_is_refused(pool):
    """Pools do not nest."""

    def nested() -> None:
        Pool(workers=1)

    with pytest.raises(OptionError, match="pools do not nest"):
        pool.submit(nested).result(DEADLINE)


def test_a_pool_that_is_dropped_ends_its_workers():
    """Nobody closed it, nobody holds it: its processes do not stay."""
    import gc

    before = children()
    pool = Pool(workers=2)
    assert pool.submit(work.double, 1).result(DEADLINE) == 2
    mine = children() - before
    assert mine
    from aiopool.registry import registry

    dropped = weakref.ref(pool)
    del pool
    registry.last = None
    with pytest.warns(ResourceWarning, match="was never closed"):
        # Its own thread may let go a moment later.
        until(lambda: gc.collect() < 0 or dropped() is None, what="it is collected")
    until(lambda: not mine & children(), what="the dropped pool's workers are gone")
