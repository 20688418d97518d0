"""Nothing is left open, and nothing is open to others: processes, threads, file descriptors, memory, sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from aiopool import JobCancelled, Pool
from aiopool._runtime import results
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import children, looks_at_nobody, names_in_memory, our_threads, shortly


def taken() -> tuple[int, int, int, set[str]]:
    """What this process has: file descriptors, threads of ours, children, names of shared memory."""
    gc.collect()
    return psutil.Process().num_fds(), len(our_threads()), len(children()), names_in_memory()


def no_more_than(before: tuple[int, int, int, set[str]]) -> bool:
    """Whether all is back; of what was there before, some may have been let go of since."""
    return all(now <= then for now, then in zip(taken(), before, strict=True))


def cycle(way: str, board: Board) -> None:
    """Open a pool, use it, end it."""
    pool = Pool(workers=1 if way != "idle" else 2, grace=0.2)
    if way == "closed":
        assert pool.map(work.double, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
        assert pool.map(work.double_later, iter(range(5))).result(DEADLINE) == [0, 2, 4, 6, 8]
        pool.close()
    elif way == "terminated":
        job = pool.map(work.nap, [3600])
        until(lambda: job.snapshot().in_flight)
        pool.terminate()
        with pytest.raises(JobCancelled):
            job.result(DEADLINE)
    elif way == "killed":
        go = f"go {time.monotonic_ns()}"
        job = pool.map(lambda _: board.wait(go), range(2))
        until(lambda: [info for info in pool.snapshot().workers if info.state == "busy"])
        for info in pool.snapshot().workers:
            os.kill(info.pid, signal.SIGKILL)
        board.mark(go)
        assert len(job.result(DEADLINE)) == 2
        pool.close()
    elif way == "failed":
        with pytest.raises(ValueError, match="odd"):
            pool.map(work.refuse, range(5)).result(DEADLINE)
        pool.close()
    elif way == "iterated":
        for value in pool.map(work.double, iter(int, 1)):
            assert value == 0
            break
        pool.terminate()
    elif way == "threads":
        pool.map(work.nap, [0.0] * 8, concurrency=4).result(DEADLINE)
        pool.close()
    else:
        pool.close()
    pool.join(DEADLINE)


WAYS = ("closed", "terminated", "killed", "failed", "iterated", "threads", "idle")


def test_after_twenty_pools_everything_is_back(board: Board):
    """File descriptors, threads, processes, shared memory; whatever way they ended."""
    for way in WAYS:
        cycle(way, board)
    until(lambda: taken()[1] == 0)
    before = taken()
    for number in range(21):
        cycle(WAYS[number % len(WAYS)], board)
    until(lambda: no_more_than(before), what=f"what was taken before, {before}, is all there is: {taken()}")


async def test_after_twenty_pools_in_one_loop_everything_is_back():
    """``async with``, awaited, iterated, cancelled."""

    async def use() -> None:
        async with asyncio.timeout(DEADLINE), Pool(workers=1, grace=0.2) as pool:
            assert await pool.map(work.double_later, range(5)) == [0, 2, 4, 6, 8]
            assert [value async for value in pool.map(work.double, range(3))] == [0, 2, 4]
            job = pool.map(work.doze, [3600])
            task = asyncio.create_task(job.wait())
            job.cancel()
            await task

    await use()
    until(lambda: not our_threads())
    before = taken()
    for _ in range(5):
        await use()
    until(lambda: no_more_than(before), what=f"what was taken before, {before}, is all there is: {taken()}")


async def test_many_jobs_leave_nothing_in_the_pool(fresh):
    """What ended is forgotten: in the ledger, in the driver, in the workers."""
    pool = fresh(2)
    await shortly(pool.broadcast(work.pid))

    def held() -> tuple[int, ...]:
        ledger, driver = pool._driver._ledger, pool._driver
        books = sum(len(worker.batches) for worker in ledger.workers.values())
        return len(ledger.jobs), len(list(driver._runs)), books, len(driver._feeders)

    for i in range(60):
        fn = (work.double, work.double_later)[i % 2]
        await shortly(pool.map(fn, range(20) if i % 3 else iter(range(20))))
        job = pool.map(fn, range(20))
        job.cancel()
        await shortly(job.wait())
    until(lambda: held() == (0, 0, 0, 0), what="nothing is held")

    def jobs_in_worker() -> int:
        from aiopool._worker.work import JobRun

        gc.collect()
        return sum(isinstance(thing, JobRun) for thing in gc.get_objects())

    assert max(await shortly(pool.broadcast(jobs_in_worker))) <= 2


def test_results_of_an_endless_input_do_not_fill_the_memory(fresh, monkeypatch):
    """A hundred thousand results are handed out and let go, on either side."""
    # Else a reader that is slow may have more of them waiting for it than this is about.
    monkeypatch.setattr(results, "UNREAD_LIMIT", 5_000_000)
    pool = fresh(1)
    job = pool.map(lambda x: bytes(1000), iter(range(100_000)), window=2000)
    me = psutil.Process()
    for number, _ in enumerate(job):
        if number == 20_000:
            before = me.memory_info().rss
    assert me.memory_info().rss - before < 30_000_000


def doors() -> set[object]:
    """What somebody could connect to, in this process and in its children."""
    me = psutil.Process()
    found: set[object] = set()
    for process in (me, *me.children(recursive=True)):
        look = getattr(process, "net_connections", None) or process.connections
        for connection in look(kind="all"):
            if connection.status == psutil.CONN_LISTEN or (connection.family == socket.AF_UNIX and connection.laddr):
                found.add((connection.family, connection.laddr))
    return found


def test_nothing_listens(fresh, board: Board):
    """No port, no named or abstract socket: neither here nor in a worker."""
    before = doors()
    pool = fresh(2)
    job = pool.map(lambda x: board.mark("in") or board.wait("go"), range(2), batch=1)
    board.wait("in", 2)
    assert doors() <= before
    board.mark("go")
    job.result(DEADLINE)


def test_workers_inherit_no_file_of_their_caller(fresh, tmp_path):
    """Only the pipes and pages that are theirs: a deleted file is free when its owner closes it."""
    pool = fresh(2)
    with (tmp_path / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)  # noqa: FBT003  # it takes no name

        def open_files() -> list[str]:
            names = []
            for fd in Path("/proc/self/fd").iterdir():
                try:
                    names.append(str(fd.readlink()))
                except OSError:
                    continue
            return names

        if not Path("/proc/self/fd").exists():
            pytest.skip("this system has no /proc")
        found = [name for names in pool.broadcast(open_files).result(DEADLINE) for name in names]
        assert str(Path(mine.name).resolve()) not in found


def test_an_idle_pool_sleeps(fresh):
    """Neither its thread nor its workers use the processor while there is nothing to do."""
    pool = fresh(2)
    pool.broadcast(work.pid).result(DEADLINE)
    pool.map(work.double_later, range(100)).result(DEADLINE)
    processes = [psutil.Process(info.pid) for info in pool.snapshot().workers]

    def switches() -> int:
        return sum(process.num_ctx_switches().voluntary for process in processes)

    # What a worker still has to do after its last item is done when it has been still for a moment.
    until(lambda: looks_at_nobody(pool), what="the pool has stopped looking")
    until(lambda: settled(switches), what="the workers come to rest")
    before = switches()
    stays(lambda: switches() - before <= 2, 0.7, "the workers sleep")


def settled(count) -> bool:
    """Whether a number stands still for a moment."""
    before = count()
    time.sleep(0.1)
    return count() == before
