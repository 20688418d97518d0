"""Forks of the process that has pools: what the child may do with them, what it cannot harm, and its own."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopool
from aiopool import Pool, PoolClosed, pmap
from aiopool._runtime.inquiry import WAIT_SECONDS
from aiopool.registry import registry
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, rested, still_works
from tests.pool.scripts import alive, run, script

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_child(do: Callable[[], object], seconds: float = DEADLINE) -> str:
    """Run this in a forked child; what went wrong there, empty if nothing did."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "it ended"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                do()
                gc.collect()
            told = ""
        except BaseException:  # noqa: BLE001  # told, and ended
            told = traceback.format_exc()
        finally:
            os.write(write, told.encode()[:60_000])
            os._exit(0)
    os.close(write)
    deadline = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(read)
            return f"it did not end within {seconds} s"
        time.sleep(0.005)
    with os.fdopen(read, "rb") as told:
        return told.read().decode()


USES: dict[str, Callable[[Pool], object]] = {
    "map": lambda pool: pool.map(abs, [1]),
    "starmap": lambda pool: pool.starmap(divmod, [(1, 2)]),
    "submit": lambda pool: pool.submit(abs, 1),
    "broadcast": lambda pool: pool.broadcast(os.getpid),
    "put": lambda pool: pool.put([1]),
    "resize": lambda pool: pool.resize(3),
    "restart": lambda pool: pool.restart(),
    "join": lambda pool: (pool.close(), pool.join(DEADLINE)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("state", ["used", "unused"])
def test_a_pool_says_that_it_belongs_to_the_parent(fresh, use, state):
    """At once, and what to write instead; the parent's pool notices nothing."""
    pool = fresh(1)
    if state == "used":
        rested(pool)

    def child() -> None:
        with pytest.raises(PoolClosed, match=r"forked.*Pool\(\)"):
            USES[use](pool)

    assert in_child(child) == ""
    still_works(pool)


def test_looking_at_a_pool_and_ending_it_harms_nobody(fresh):
    """A picture of how it was; close, terminate and the end of ``with`` do nothing."""
    pool = fresh(1)
    rested(pool)
    job = pool.map(work.nap, [3600])
    until(lambda: job.snapshot().in_flight)

    def child() -> None:
        assert pool.closed
        assert len(pool.workers) == 1
        assert pool.workers[0].info.pid
        assert "1" in repr(pool)
        assert pool.size == 1
        assert pool.snapshot().name == pool.snapshot().name
        with pool:
            pass
        with pytest.raises(KeyError), pool:
            raise KeyError
        pool.close()
        pool.terminate()

        async def leave() -> None:
            async with pool:
                pass

        asyncio.run(leave())

    pids = [info.pid for info in pool.snapshot().workers]
    assert in_child(child) == ""
    assert job.snapshot().in_flight == 1
    assert not pool.closed
    assert [info.pid for info in pool.snapshot().workers] == pids
    assert all(map(alive, pids))


async def _iterate(job: Any) -> list[object]:
    return [value async for value in job]


async def _await(job: Any) -> object:
    return await job


WAITS: dict[str, Callable[[Any], object]] = {
    "result": lambda job: job.result(DEADLINE),
    "await": lambda job: asyncio.run(_await(job)),
    "for": list,
    "async for": lambda job: asyncio.run(_iterate(job)),
    "as_completed": lambda job: list(job.as_completed()),
    "retry": lambda job: job.retry(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_job_of_the_parents_says_so_instead_of_waiting_for_ever(fresh, board: Board, wait):
    """Its results come to the parent, which gets them all."""
    pool = fresh(1)
    job = pool.map(lambda _: board.wait("go"), range(2))

    def child() -> None:
        with pytest.raises(PoolClosed, match=r"forked.*Pool\(\)"):
            WAITS[wait](job)

    assert in_child(child) == ""
    board.mark("go")
    assert len(job.result(DEADLINE)) == 2


def test_what_asks_a_job_without_waiting_is_harmless(fresh):
    """It has ended, as far as the child is concerned; what had come until then is there."""
    pool = fresh(1)
    job = pool.map(lambda x: time.sleep(0 if x == 0 else 3600) or x, range(2), batch=1)
    until(lambda: job.snapshot().done == 1)

    def child() -> None:
        assert job.done()
        assert job.cancel() is False
        job.pause()
        job.resume()
        assert asyncio.run(job.wait()) is True
        assert job.partial(fill=None) == [0, None]
        assert job.failures == []
        assert [row["value"] for row in job.records()] == [0]
        assert job.snapshot().state == "failed"
        assert repr(job)
        assert job in aiopool.jobs()
        with job:
            pass
        called: list[object] = []
        job.add_done_callback(called.append)
        assert called == [job]

    called: list[object] = []
    job.add_done_callback(called.append)
    assert in_child(child) == ""
    assert not job.done()
    assert called == []


def test_asking_where_things_stand_waits_for_no_answer(fresh):
    """None would come to the child."""
    pool = fresh(1)
    rested(pool)

    def child() -> None:
        began = time.monotonic()
        assert len(pool.workers[0].stack()) == 0
        assert time.monotonic() - began < WAIT_SECONDS

    assert in_child(child) == ""


class _Held:
    """A value that takes until after the fork to be loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[()]]:
        return _wait_for_the_fork, ()


_loading = threading.Event()
_forked: list[bool] = []
"""Not an event: whoever waits for one may hold its lock when the process forks."""


def _wait_for_the_fork() -> str:
    _loading.set()
    until(lambda: _forked)
    return f"loaded {_forked[0]}"


def test_what_another_thread_was_loading_can_be_loaded_in_the_child(fresh):
    """That thread is not there, and what it held is nobody's."""
    job = fresh(1).map(lambda _: _Held(), range(1))
    until(job.done)
    loading = threading.Thread(target=job.result)
    loading.start()
    assert _loading.wait(DEADLINE)

    def child() -> None:
        _forked.append(True)
        assert job.result(DEADLINE) == ["loaded True"]

    try:
        assert in_child(child) == ""
    finally:
        _forked.append(True)
        loading.join(DEADLINE)


def test_a_job_that_had_ended_can_be_read_in_the_child(fresh):
    """Its values are data."""
    job = fresh(1).map(work.double, range(3))
    until(job.done)

    def child() -> None:
        assert job.result(DEADLINE) == [0, 2, 4]
        assert list(job) == [0, 2, 4]

    assert in_child(child) == ""


def test_dropping_a_pool_in_the_child_ends_nothing():
    """Nor does it complain that nobody has closed it."""
    pools = [Pool(workers=1)]
    rested(pools[0])
    pids = [info.pid for info in pools[0].snapshot().workers]
    here = weakref.ref(pools[0])

    def child() -> None:
        registry.last = None
        pools.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert here() is None
        assert not [each for each in caught if "never closed" in str(each.message)]

    assert in_child(child) == ""
    assert all(map(alive, pids))
    assert pools[0].submit(abs, -1).result(DEADLINE) == 1
    ended(pools[0])


def test_what_the_child_opens_stays_open_in_its_own_child(pool):
    """The parent's descriptors are let go of once: whatever gets their numbers afterwards is somebody else's."""
    rested(pool)

    def opens() -> None:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]
        assert in_child(lambda: [os.fstat(fd) for fd in opened]) == ""

    assert in_child(opens) == ""


def test_pmap_in_the_child_has_workers_of_its_own(board: Board):
    """Also while the parent's are at work, and again in the child's child."""
    aiopool.configure(workers=1)
    job = pmap(lambda x: board.wait("go") and os.getpid(), range(2))
    until(lambda: job.snapshot().in_flight)

    def use(depth: int) -> None:
        assert pmap(work.double, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
        pool = aiopool.get_pool()
        (pid,) = pool.broadcast(os.getpid).result(DEADLINE)
        board.mark("theirs", pid)
        if depth:
            assert in_child(lambda: use(depth - 1)) == ""
        ended(pool)

    try:
        assert in_child(lambda: use(1)) == ""
        board.mark("go")
        mine = set(job.result(DEADLINE))
        theirs = set(map(int, board.marks("theirs")))
        assert len(mine) == 1
        assert len(theirs) == 2
        assert not mine & theirs
    finally:
        ended(aiopool.get_pool())
        aiopool.configure(workers=None)


def test_many_forks_while_everything_is_in_motion(fresh):
    """Whatever the pool's threads were in the middle of, the child has no lock that nobody gives back."""
    pool = fresh(2)
    job = pool.map(work.double, iter(range(10**9)), window=500)
    values = job.as_completed()
    other = pool.submit(work.nap, 3600)

    def child() -> None:
        with pytest.raises(PoolClosed):
            other.result(DEADLINE)
        with pytest.raises(PoolClosed):
            pool.map(work.double, range(3))
        next(values)
        assert job in aiopool.jobs()
        assert job.snapshot().state == "failed"

    for number in range(1, 13):
        for _ in range(50):
            next(values)
        until(lambda number=number: job.snapshot().done > 50 * number, what="one is there that the child can read")
        assert in_child(child) == ""
    job.cancel()


def with_multiprocessing(pool: Pool, answers: Any) -> None:
    """What a process of multiprocessing does."""
    try:
        pool.submit(abs, 1)
    except PoolClosed as error:
        answers.put(str(error))
    answers.put(pmap(abs, [-3]).result(DEADLINE))


def test_the_same_with_multiprocessing(fresh):
    """Which ends its children in another way, and joins what they have."""
    pool = fresh(1)
    rested(pool)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=with_multiprocessing, args=(pool, answers))
    process.start()
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert "forked" in answers.get()
    assert answers.get() == [3]
    process.close()
    answers.close()
    still_works(pool)


def test_a_child_that_ends_as_scripts_do_leaves_the_parents_workers_alone(tmp_path):
    """With ``sys.exit``, through every handler that is run at exit, silently; so do ``with`` blocks that it leaves."""
    file = script(
        tmp_path,
        """
        import os, sys, time, warnings
        from aiopool import Pool, pmap
        warnings.simplefilter("ignore", DeprecationWarning)
        job = pmap(abs, range(3))
        assert job.result(20) == [0, 1, 2]
        with Pool(workers=1) as pool:
            before = pool.submit(os.getpid).result(20)
            slow = pool.submit(time.sleep, 0.5)
            child = os.fork()
            if child == 0:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            slow.result(20)
            assert pool.submit(os.getpid).result(20) == before
        print("done")
        """,
    )
    assert run(file, cwd=tmp_path) == "done\n"


def test_a_child_forked_by_the_script_may_outlive_it_with_its_own_pool(tmp_path, board: Board):
    """Its workers are its own, and live with it."""
    file = script(
        tmp_path,
        f"""
        import os, sys, time, warnings
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from aiopool import Pool, pmap
        from tests.pool.board import Board
        warnings.simplefilter("ignore", DeprecationWarning)
        board = Board({str(board.folder)!r})
        assert pmap(abs, range(3)).result(20) == [0, 1, 2]
        if os.fork() == 0:
            os.close(1), os.close(2)
            with Pool(workers=1) as pool:
                pool.submit(abs, 1).result(20)
                board.wait("parent has ended")
                board.mark("child", pool.map(abs, [-5]).result(20))
            os._exit(0)
        """,
    )
    run(file, cwd=tmp_path)
    board.mark("parent has ended")
    assert board.wait("child") == ["[5]"]


if sys.platform == "darwin":  # pragma: no cover
    pytestmark = [pytestmark, pytest.mark.skip("forking a process with threads is not safe on macOS")]
