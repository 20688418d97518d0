"""What a broadcast leaves behind: a function that every worker runs when it starts, unless it has failed."""

from __future__ import annotations

import asyncio
import os

import pytest

from aiopool import JobCancelled, Pool, WorkerLost, WorkerStartFailed, _payload, current_worker, per_worker
from aiopool._runtime.results import Ending, Results
from aiopool._runtime.starts import Customs
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.listening import Heard
from tests.pool.pools import rested, shortly, still_works


def started_anew(pool: Pool) -> None:
    """All workers have been replaced."""
    pool.restart().result(DEADLINE)
    pool.broadcast(work.pid).result(DEADLINE)


# --- kept ------------------------------------------------------------------------------------------------------------


def test_what_is_kept_runs_on_workers_that_start_later_in_order_and_before_the_first_item(fresh, board: Board):
    """Each once, and not on those that ran it in the broadcast."""
    pool = fresh(2)
    for name in ("a", "b"):
        pool.broadcast(lambda name=name: board.mark(str(os.getpid()), name), keep=True).result(DEADLINE)
    old = pool.broadcast(os.getpid).result(DEADLINE)
    assert [board.marks(str(pid)) for pid in old] == [["a", "b"]] * 2
    pool.restart().result(DEADLINE)
    for _ in range(4):
        pool.submit(lambda: board.mark(str(os.getpid()), "item")).result(DEADLINE)
    new = pool.broadcast(os.getpid).result(DEADLINE)
    assert not set(new) & set(old)
    assert [board.marks(str(pid))[:2] for pid in new] == [["a", "b"]] * 2
    assert [board.marks(str(pid)) for pid in old] == [["a", "b"]] * 2


def test_the_same_function_is_kept_once_however_often_its_cell_is_run(fresh, board: Board):
    """What was kept in between is run in between."""
    pool = fresh(1)

    def keep(name: str) -> None:
        pool.broadcast(lambda: board.mark(str(os.getpid()), name), keep=True).result(DEADLINE)

    for name in "aaabba":
        keep(name)
    started_anew(pool)
    assert board.marks(str(pool.workers[0].pid)) == ["a", "b", "a"]
    assert len(pool._driver._customs.all) == 3


async def test_a_coroutine_function_is_awaited_there_too(fresh, board: Board):
    """On the worker's own loop, with what it opens in it."""
    pool = fresh(1)

    @per_worker
    async def client():
        board.mark("opened")
        yield asyncio.get_running_loop()

    async def prepare() -> None:
        await asyncio.sleep(0.01)
        assert await client() is asyncio.get_running_loop()
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        board.mark("prepared", current_worker().pid)

    async def item(_: int) -> bool:
        return await client() is asyncio.get_running_loop()

    await shortly(pool.broadcast(prepare, keep=True))
    await shortly(pool.restart())
    assert await shortly(pool.map(item, range(3))) == [True] * 3
    assert len(board.marks("prepared")) == len(board.marks("opened")) == 2
    assert board.marks("prepared")[1] == str(pool.workers[0].pid)


def test_what_it_prints_there_is_a_workers_and_no_items(fresh, heard: Heard):
    """As of an initializer."""
    pool = fresh(1)
    pool.broadcast(lambda: print("hello"), keep=True).result(DEADLINE)  # noqa: T201 - in a worker
    pool.restart().result(DEADLINE)
    heard.all.clear()
    pool.map(work.double, range(3)).result(DEADLINE)
    until(lambda: heard.lines, what="its line")
    assert [(line.text, line.item, line.label()) for line in heard.lines] == [("hello", None, "worker 0")]


def test_a_worker_that_starts_while_the_broadcast_runs_runs_it_first(fresh, board: Board):
    """It is kept from its begin; and nobody runs it twice."""
    pool = fresh(1)

    def prepare() -> None:
        board.mark("prepared", os.getpid())
        board.wait("go")

    job = pool.broadcast(prepare, keep=True)
    board.wait("prepared")
    pool.resize(2).result(DEADLINE)
    later = pool.submit(lambda: (board.mark("item", os.getpid()), os.getpid())[1])
    board.wait("prepared", 2)
    assert not board.marks("item")
    board.mark("go")
    job.result(DEADLINE)
    assert later.result(DEADLINE) in map(int, board.marks("prepared"))
    rested(pool)
    assert sorted(map(int, board.marks("prepared"))) == sorted(worker.pid for worker in pool.workers)


def test_a_worker_beyond_the_pools_size_that_was_there_before_runs_no_later_items_without_it(fresh, board: Board):
    """It has no place, and so no item of the broadcast: another one takes over, which has run it."""
    pool = fresh(1)
    blocking = pool.map(lambda gate: board.mark("blocking") or board.wait(gate), ["first", "second"], batch=1)
    board.wait("blocking")

    async def item(_: int) -> tuple[int, bool]:
        return os.getpid(), str(os.getpid()) in board.marks("kept")

    async def long(_: int) -> int:
        board.mark("begun")
        await asyncio.to_thread(board.wait, "enough")
        return os.getpid()

    ((extra, _),) = pool.map(item, [0]).result(DEADLINE)
    staying = pool.map(long, [0])
    board.wait("begun")
    job = pool.broadcast(lambda: board.mark("kept", os.getpid()), keep=True)
    board.mark("first")
    job.result(DEADLINE)
    ((later, has_run_it),) = pool.map(item, [0]).result(DEADLINE)
    board.mark("enough")
    board.mark("second")
    blocking.result(DEADLINE)
    assert staying.result(DEADLINE) == [extra]
    assert later != extra
    assert has_run_it
    until(lambda: len(pool.snapshot().workers) == 1, what="the extra workers have left")
    still_works(pool)


# --- not kept --------------------------------------------------------------------------------------------------------


def test_what_fails_on_a_worker_is_not_kept(fresh, board: Board):
    """The pool starts workers as before. What had been kept before stays."""
    pool = fresh(2)
    pool.broadcast(lambda: board.mark(str(os.getpid()), "good"), keep=True).result(DEADLINE)

    def bad() -> None:
        board.mark(str(os.getpid()), "bad")
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        pool.broadcast(bad, keep=True).result(DEADLINE)
    started_anew(pool)
    still_works(pool)
    assert [board.marks(str(worker.pid)) for worker in pool.workers] == [["good"]] * 2


def test_what_is_cancelled_is_not_kept(fresh, board: Board):
    """Nothing of it is left."""
    pool = fresh(1)

    def endless() -> None:
        board.mark("begun")
        board.wait("never", seconds=60)

    job = pool.broadcast(endless, keep=True)
    board.wait("begun")
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    started_anew(pool)
    assert len(board.marks("begun")) == 1
    still_works(pool)


def test_what_kills_its_worker_is_not_kept_and_harms_no_job(fresh, board: Board):
    """Nobody runs it again: the next worker would die of it before its first item, and so on."""
    pool = fresh(2)
    rested(pool)
    job = pool.map(lambda x: board.mark("in") or (board.wait("go") and x), range(40), batch=1)
    board.wait("in", 2)

    def deadly() -> None:
        board.mark("deadly")
        os._exit(3)

    broadcast = pool.broadcast(deadly, keep=True)
    board.mark("go")
    with pytest.raises(WorkerLost, match="code 3"):
        broadcast.result(DEADLINE)
    assert job.result(DEADLINE)[-1] == 39
    still_works(pool)
    assert len(board.marks("deadly")) <= 2


def test_a_worker_that_fails_at_what_is_not_kept_any_more_harms_no_job(fresh, board: Board):
    """It had begun to start with it. Another one takes its place, and nobody is told."""
    pool = fresh(1)

    def bad(first: int) -> None:
        if os.getpid() != first:
            board.mark("starting")
            board.wait("go")
        else:
            board.wait("starting")
        raise ValueError("no such file")

    first = pool.submit(os.getpid).result(DEADLINE)
    job = pool.broadcast(lambda: bad(first), keep=True)
    pool.resize(2).result(DEADLINE)
    later = pool.map(work.nap, [0.01] * 10, batch=1)
    board.wait("starting")
    with pytest.raises(ValueError, match="no such file"):
        job.result(DEADLINE)
    os.kill(first, 9)
    board.mark("go")
    assert len(later.result(DEADLINE)) == 10
    still_works(pool)
    until(lambda: [info.index for info in pool.snapshot().workers if info.state == "idle"], what="a worker")


def test_workers_that_could_not_start_because_of_it_are_started_when_it_has_failed(fresh, board: Board):
    """Others need not end first for that: a job that runs gets its second worker back."""
    pool = fresh(1)
    first = pool.submit(os.getpid).result(DEADLINE)

    def bad() -> None:
        if os.getpid() == first:
            board.wait("go")
        board.mark("raises")
        raise ValueError("no such file")

    job = pool.broadcast(bad, keep=True)
    pool.resize(2).result(DEADLINE)
    later = pool.map(lambda _: board.mark("pids", os.getpid()) or board.wait("end"), range(2), batch=1)
    board.wait("raises")
    until(lambda: len(pool.snapshot().workers) == 1, what="the second one has gone")
    board.mark("go")
    with pytest.raises(ValueError, match="no such file"):
        job.result(DEADLINE)
    board.wait("pids", 2)
    assert len(set(board.marks("pids"))) == 2
    board.mark("end")
    later.result(DEADLINE)


def test_workers_that_cannot_start_because_of_it_say_so(fresh, board: Board):
    """It went well once, and does not any more."""
    pool = fresh(1)

    def load() -> None:
        if board.marks("gone"):
            raise ValueError("no such file")

    pool.broadcast(load, keep=True).result(DEADLINE)
    board.mark("gone")
    pool.restart().result(DEADLINE)
    with pytest.raises(WorkerStartFailed, match=r"broadcast\(\.\.\., keep=True\).* raised ValueError: no such file"):
        pool.submit(work.double, 1).result(DEADLINE)


# --- the list --------------------------------------------------------------------------------------------------------


def functions(customs: Customs) -> list[bytes]:
    """What a worker would run."""
    return list(_payload.load_shared(customs.dumped()))  # type: ignore[arg-type]


def test_what_is_the_same_as_one_that_fails_later_stays():
    """Each broadcast stands for itself until it has ended, and workers run it once."""
    customs, dropped = Customs.of([b"initializer"]), []
    first, second = Results(1, prefilled={0: None}), Results(1, prefilled={0: None})
    customs.add(b"same", first, lambda: dropped.append(1))
    customs.add(b"same", second, lambda: dropped.append(2))
    assert functions(customs) == [b"initializer", b"same"]
    second.end(Ending("done"))
    first.end(Ending("cancelled"))
    assert functions(customs) == [b"initializer", b"same"]
    assert dropped == [1]
    again = Results(1, prefilled={0: None})
    customs.add(b"same", again, lambda: dropped.append(3))
    again.end(Ending("failed"))
    assert functions(customs) == [b"initializer", b"same"]
    assert dropped == [1, 3]


def test_of_a_job_that_has_ended_already_is_known_how():
    """A closed pool refuses it at once."""
    customs, dropped = Customs(), []
    refused = Results(1, prefilled={0: None})
    refused.end(Ending("cancelled"))
    customs.add(b"late", refused, lambda: dropped.append(1))
    assert functions(customs) == []
    assert dropped == [1]
