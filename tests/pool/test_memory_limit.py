"""``max_memory_per_worker``: who has too much takes nothing new; who has far too much is ended, and its item named."""

from __future__ import annotations

import os
import time

import pytest

import aiopool
from aiopool import Failure, OptionError, Pool, WorkerLost, WorkerStartFailed, session
from aiopool._core import facts as f
from aiopool._core.workers import WorkerBook
from aiopool._runtime.lending import Lending
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.vitals import FAR, LIMITED_SECONDS, Vital, Vitals
from aiopool.telemetry import size
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import still_works

MB = 10**6
LIMIT = 200 * MB
TOO_MUCH = 180 * MB
"""With the 40 MB of a worker that has imported this module: in the middle between too much and far too much."""

FAR_TOO_MUCH = 300 * MB


def keep(size: int) -> None:
    """Take so much memory and never give it back, as code does that leaks."""
    import builtins

    vars(builtins).setdefault("leaked", []).append(b"x" * size)


def states(pool: Pool) -> dict[int | None, str]:
    """What each worker does, by its process."""
    return {info.pid: info.state for info in pool.snapshot().workers}


# --- over the limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_worker_over_the_limit_ends_its_items_and_is_replaced(fresh, board: Board, kind):
    """Nothing is lost and nothing is run twice: another worker takes what it has not begun."""

    def item(x: int) -> tuple[int, int]:
        board.mark("begun", x)
        if x == 2:
            keep(TOO_MUCH)
            board.mark("heavy", os.getpid())
            board.wait("go")
        return x, os.getpid()

    async def item_later(x: int) -> tuple[int, int]:
        if x == 2:
            board.mark("begun", x)
            keep(TOO_MUCH)
            board.mark("heavy", os.getpid())
            await board.wait_async("go")
            return x, os.getpid()
        return item(x)

    pool = fresh(1, max_memory_per_worker="200 MB")
    job = pool.map(item if kind == "def" else item_later, range(12), concurrency=1)
    (heavy,) = board.wait("heavy")
    until(lambda: states(pool).get(int(heavy)) == "retiring", what="it takes nothing new")
    board.mark("go")
    values = job.result(DEADLINE)
    assert [x for x, _ in values] == list(range(12))
    pids = [pid for _, pid in values]
    assert pids[2] == int(heavy)
    assert pids[-1] != int(heavy)
    assert sorted(map(int, board.marks("begun"))) == list(range(12))
    until(lambda: int(heavy) not in states(pool), what="it has ended")
    still_works(pool)


def test_an_idle_worker_over_the_limit_is_replaced(fresh):
    """What its last item left behind is seen after the item has ended, by one more look."""
    pool = fresh(1, max_memory_per_worker=LIMIT)
    pid = pool.submit(work.pid).result(DEADLINE)
    pool.submit(keep, TOO_MUCH).result(DEADLINE)
    until(lambda: pid not in states(pool), what="it has ended")
    assert pool.submit(work.pid).result(DEADLINE) != pid
    still_works(pool)


def test_workers_within_the_limit_stay(fresh):
    """What an item gives back does not count afterwards."""

    def item(x: int) -> int:
        taken = b"x" * (TOO_MUCH // 2)
        time.sleep(2 * LIMITED_SECONDS)
        return x + len(taken) - len(taken)

    pool = fresh(2, max_memory_per_worker=LIMIT)
    pids = set(pool.broadcast(work.pid).result(DEADLINE))
    assert pool.map(item, range(8)).result(DEADLINE) == list(range(8))
    assert set(pool.broadcast(work.pid).result(DEADLINE)) == pids


# --- far over the limit ----------------------------------------------------------------------------------------------


def test_an_item_that_takes_far_too_much_ends_as_worker_lost(fresh, board: Board):
    """At once, for it ran alone: with the reason, its memory, and what the limit is; the others have their values."""

    def item(x: int) -> int:
        if x == 2:
            board.mark("heavy", os.getpid())
            keep(FAR_TOO_MUCH)
            board.wait("never")
        return x

    pool = fresh(2, max_memory_per_worker=LIMIT)
    values = pool.map(item, range(8), on_error="return").result(DEADLINE)
    failure = values.pop(2)
    assert values == [0, 1, 3, 4, 5, 6, 7]
    assert isinstance(failure, Failure)
    error = failure.error
    assert isinstance(error, WorkerLost)
    (heavy,) = board.marks("heavy")
    assert (error.reason, error.signal, error.pid) == ("memory", "SIGKILL", int(heavy))
    assert error.memory > FAR * LIMIT
    assert error.hint == ""
    first, second = str(error).splitlines()
    assert first.startswith(
        f"worker {failure.worker} (pid {heavy}, {size(error.memory)}) was killed by SIGKILL while it "
    )
    assert ", because it took far more memory " in first
    assert second.startswith("max_memory_per_worker is 200 MB, and with a quarter more a worker is killed: ")
    still_works(pool)


def test_of_several_coroutines_the_one_that_takes_far_too_much_is_found(fresh, board: Board):
    """Those beside it run again and have their values: a kill says whose worker it was, not which item's memory."""

    async def item(x: int) -> int:
        if x == 3:
            board.mark("heavy", os.getpid())
            keep(FAR_TOO_MUCH)
            await board.wait_async("never")
        else:
            await board.wait_async("go")
        return x

    pool = fresh(1, max_memory_per_worker=LIMIT)
    job = pool.map(item, range(8), concurrency=8, on_error="return")
    heavy = board.wait("heavy")[0]
    until(lambda: int(heavy) not in states(pool), what="it was killed")
    board.mark("go")
    values = job.result(DEADLINE)
    error = values.pop(3).error
    assert values == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(error, WorkerLost)
    assert error.reason == "memory"
    still_works(pool)


def test_a_limit_below_what_a_fresh_worker_takes_is_one_clear_error(fresh):
    """Not a stream of workers that are replaced as soon as they are up."""
    pool = fresh(2, max_memory_per_worker="10 MB")
    with pytest.raises(WorkerStartFailed, match=r"before its first item, and max_memory_per_worker is 10 MB"):
        pool.map(work.double, range(5)).result(DEADLINE)
    until(lambda: not pool.snapshot().workers, what="no worker is being started any more")


# --- what is told, and when ------------------------------------------------------------------------------------------


@pytest.fixture
def weighed() -> tuple[WorkerProxy, list[f.Fact], Vitals]:
    """A worker that may have 100 bytes, and what the ledger is told."""
    proxy = WorkerProxy(7, 0, lambda *_: None, lambda *_: None, lambda *_: None)
    proxy.desk = Lending(None, None).desk(proxy)
    told: list[f.Fact] = []
    return proxy, told, Vitals(None, {7: proxy}, {7: WorkerBook(7, 0, "ready", load=1)}, told.append, 100)


def test_the_ledger_is_told_once_of_each(weighed):
    """That it is too much, and that it is far too much; not again and again, and not that it has become less."""
    proxy, told, looking = weighed
    vital = Vital()
    for memory in (90, 100, 101, 120, 90, 124, 125):
        proxy.memory = memory
        looking._weigh(proxy, vital)
    assert told == [f.WorkerHeavy(7)]
    for memory in (126, 50, 300):
        proxy.memory = memory
        looking._weigh(proxy, vital)
    assert told == [f.WorkerHeavy(7), f.WorkerHeavy(7, far=True)]


def test_memory_that_comes_at_once_is_far_too_much_at_once(weighed):
    """It need not have been too much before."""
    proxy, told, looking = weighed
    proxy.memory = 126
    looking._weigh(proxy, Vital())
    assert told == [f.WorkerHeavy(7, far=True)]


# --- how it is said --------------------------------------------------------------------------------------------------


def test_the_limits_are_defaults_of_the_session(monkeypatch):
    """With sizes as people write them; another value is for another pool, None takes it back."""
    monkeypatch.setattr(session, "_session", session._Session())
    aiopool.configure(max_memory_per_worker="1.5 GB", max_tasks_per_worker=100)
    options = session._session.options
    assert (options["max_memory_per_worker"], options["max_tasks_per_worker"]) == (1_500_000_000, 100)
    aiopool.configure(workers=1)
    assert session._session.options == options
    pool = aiopool.get_pool()
    assert pool._options.max_memory_per_worker == 1_500_000_000
    assert pool._options.max_tasks_per_worker == 100
    aiopool.configure(max_memory_per_worker=1.5e9)
    assert aiopool.get_pool() is pool
    aiopool.configure(max_memory_per_worker=None, max_tasks_per_worker=None)
    until(lambda: pool.closed, what="the old pool has ended")
    assert aiopool.get_pool() is not pool
    assert session._session.options["max_memory_per_worker"] is None
    for opened in (pool, aiopool.get_pool()):
        opened.terminate()
        opened.join(DEADLINE)


@pytest.mark.parametrize("value", ["2 gigs", "", 0, -1, True, "0 MB", 2, 9e6])
def test_a_size_that_cannot_be_is_refused_with_what_to_write(value):
    """In the call."""
    with pytest.raises(OptionError, match=r'a number of bytes, such as 2e9, or a text such as "2 GB"'):
        aiopool.configure(max_memory_per_worker=value)
