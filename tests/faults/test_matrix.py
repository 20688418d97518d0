"""Seventeen faults through which nine other pools were put, of which none bore all: ours does.

The victim has an answer, the bystander on the other worker has its value, and the next call works.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable

import pytest

from aiopool import ItemExited, JobCancelled, NotPicklable, Pool, WorkerLost, WorkerStartFailed, testing
from tests.faults import items
from tests.faults.situations import pids
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import ended, shortly
from tests.pool.scripts import environment, gone

pytestmark = pytest.mark.usefixtures("afterwards")

AT_ONCE = 5.0
"""Seconds until the victim has its answer, on a busy machine; how soon a death is noticed is measured elsewhere."""


class Caught:
    """The answer of a call, whatever it is."""

    value: object = None
    error: BaseException | None = None


def answered(pool: Pool, board: Board, fn: Callable[..., object], *args: object, within: float = AT_ONCE) -> Caught:
    """What a call ends with, while another one runs on the other worker, which then ends with its value."""
    bystander = pool.submit(items.held, board)
    (pid,) = board.wait("running")
    begun = time.monotonic()
    caught = Caught()
    try:
        caught.value = pool.submit(fn, *args).result(DEADLINE)
    except Exception as error:  # noqa: BLE001  # that is what is asked for
        caught.error = error
    assert time.monotonic() - begun < within
    assert not bystander.done()
    board.mark("go")
    assert bystander.result(DEADLINE) == int(pid)
    assert pool.submit(work.double, 21).result(DEADLINE) == 42
    return caught


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_sigkill_while_running(pool, board: Board):
    """Of nine: five answer, three of them at the price of everything else."""
    assert isinstance(answered(pool, board, testing.die).error, WorkerLost)


def test_os_exit(pool, board: Board):
    """With the code that it gave."""
    error = answered(pool, board, testing.exit_process, 3).error
    assert isinstance(error, WorkerLost)
    assert error.exitcode == 3


def test_sys_exit(pool, board: Board):
    """An exception like any other, and no loop ends with it."""
    error = answered(pool, board, sys.exit, 3).error
    assert isinstance(error, ItemExited)


def test_sigkill_of_all_idle_workers(pool, board: Board):
    """The next call has a worker."""
    testing.kill_workers(pool)
    assert answered(pool, board, work.double, 2, within=20).value == 4


def forks_and_dies() -> None:
    """Leave a child that holds the pipes, and die."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # From 3.12 on, that it may deadlock.
        if os.fork() == 0:
            time.sleep(DEADLINE)
            os._exit(0)
    testing.die()


def test_a_task_forks_a_child_and_is_killed(pool, board: Board):
    """The death is seen in the process, not in the pipe that the child holds open."""
    assert isinstance(answered(pool, board, forks_and_dies).error, WorkerLost)


def test_a_task_closes_its_standard_streams(pool, board: Board):
    """It has its value."""

    def closes() -> int:
        for fd in (0, 1, 2):
            os.close(fd)
        return 7

    assert answered(pool, board, closes).value == 7


# --- interrupts ------------------------------------------------------------------------------------------------------


def test_sigint_to_idle_workers(pool, board: Board):
    """As Stop in a notebook sends it to the whole process group."""
    before = pids(pool)
    testing.kill_workers(pool, signal.SIGINT)
    assert answered(pool, board, work.double, 2).value == 4
    assert pids(pool) == before


def test_sigint_to_a_busy_worker(pool, board: Board):
    """It goes on; what Stop means is the kernel's to say."""

    def interrupted() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return 7

    assert answered(pool, board, interrupted).value == 7


# --- payloads --------------------------------------------------------------------------------------------------------


def test_an_exception_with_two_arguments(pool, board: Board):
    """With its type, its text and its attributes."""

    def fails() -> None:
        raise testing.FragileError(404, "not here")

    error = answered(pool, board, fails).error
    assert isinstance(error, testing.FragileError)
    assert (str(error), error.code, error.why) == ("404: not here", 404, "not here")


def test_an_exception_that_holds_a_lock(pool, board: Board):
    """Its message is not replaced by one of pickle's."""

    def fails() -> None:
        raise ValueError("what really happened", threading.Lock())

    assert "what really happened" in str(answered(pool, board, fails).error)


def test_an_argument_that_cannot_be_pickled(pool, board: Board):
    """It is told in the call, or to who waits for it."""
    bystander = pool.submit(items.held, board)
    with pytest.raises(NotPicklable, match="lock"):
        pool.submit(work.double, threading.Lock()).result(DEADLINE)
    board.mark("go")
    assert bystander.result(DEADLINE) in pids(pool)


def test_a_result_that_cannot_be_pickled(pool, board: Board):
    """It is that item's error."""
    assert isinstance(answered(pool, board, testing.unpicklable).error, NotPicklable)


def test_a_result_that_raises_where_it_is_loaded(pool, board: Board):
    """Here, in this process; it is that item's error, under its own name."""
    error = answered(pool, board, lambda: testing.Unloadable(KeyError("not here"))).error
    assert isinstance(error, KeyError)


def test_a_result_that_is_nested_too_deep(pool, board: Board):
    """Whoever pickles it runs out of stack: an error, and no death."""

    def deep() -> list:
        nest: list = []
        for _ in range(200_000):
            nest = [nest]
        return nest

    error = answered(pool, board, deep, within=10).error
    assert error is not None
    assert not isinstance(error, WorkerLost)
    assert "recursion" in str(error) or "nested" in str(error)


# --- the rest --------------------------------------------------------------------------------------------------------


def test_an_initializer_that_raises(fresh):
    """It is told, with its cause, to who waits; nobody tries for ever."""

    def fails() -> None:
        raise FileNotFoundError("model.bin")

    pool = fresh(2, initializer=fails)
    begun = time.monotonic()
    with pytest.raises(WorkerStartFailed, match=r"model\.bin"):
        pool.submit(work.double, 1).result(DEADLINE)
    assert time.monotonic() - begun < 30


async def test_a_cancel_of_a_task_in_blocking_code_on_the_only_worker(fresh, board: Board):
    """The next call does not wait for an hour."""
    pool = fresh(1)
    call = pool.submit(items.alone, board, functools.partial(testing.hang, 3600))
    await board.wait_async("running")
    board.mark("go")
    await board.wait_async("struck")
    call.cancel()
    with pytest.raises(JobCancelled):
        await shortly(call)
    assert await shortly(pool.submit(work.double, 21)) == 42


def test_the_parent_is_killed_while_one_worker_is_busy_and_one_idle(board: Board, tmp_path):
    """Neither is left two seconds later."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, os, sys, time
            from aiopool import Pool
            pool = Pool(workers=2)
            pool.broadcast(os.getpid).result(20)
            job = pool.map(time.sleep, [3600], progress=False)
            while "busy" not in [info.state for info in pool.snapshot().workers]:
                time.sleep(0.01)
            print(json.dumps([info.pid for info in pool.snapshot().workers]), flush=True)
            time.sleep(3600)
            """
        )
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment()) as process:
        workers = json.loads(process.stdout.readline())
        assert len(workers) == 2
        process.kill()
    gone(workers, 2)


def test_nothing_of_this_was_luck(fresh, board: Board):
    """The same faults, one after another, through one pool that nobody has looked after in between."""
    pool = fresh(2)
    faults = [testing.die, functools.partial(testing.exit_process, 3), forks_and_dies, testing.crash]
    calls = [pool.submit(fault) for fault in faults * 3]
    assert pool.map(work.double, range(100)).result(DEADLINE) == list(range(0, 200, 2))
    for call in calls:
        with pytest.raises(WorkerLost):
            call.result(DEADLINE)
    ended(pool)
