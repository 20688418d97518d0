"""Signals from outside: a stopped worker loses nothing, SIGTERM ends one at once, SIGINT ends none."""

from __future__ import annotations

import functools
import os
import signal
import time

import psutil
import pytest

from aiopool import JobCancelled, Pool, WorkerLost, testing
from tests.faults import items
from tests.faults.items import EIGHT
from tests.faults.situations import AT_ONCE, pids, timed
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until

pytestmark = pytest.mark.usefixtures("afterwards")

STOPPED = {"idle": 1.0, "one item": 1.0, "eight coroutines": 3.0, "closing": 3.0}
"""The situations, and for how many seconds a worker stands still in each."""


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def eight_in_flight(pool: Pool, board: Board):
    """A job with eight coroutines in flight on each worker, which end when told to."""
    job = pool.map(functools.partial(items.in_flight, board=board), EIGHT, concurrency=len(EIGHT))
    board.wait("running", len(EIGHT))
    return job


# --- SIGSTOP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", STOPPED)
def test_a_worker_that_is_stopped_for_some_seconds_loses_nothing(pool, fresh, board: Board, situation):
    """Nothing runs twice, nobody is killed, and what was sent to it meanwhile is done when it goes on."""
    if situation == "closing":
        pool = fresh(2)
        pool.broadcast(work.pid).result(DEADLINE)
    before = pids(pool)
    job = later = None
    if situation == "one item":
        job = pool.map(items.held, [board] * 2, batch=1)
        board.wait("running", 2)
    elif situation != "idle":
        job = eight_in_flight(pool, board)
    with testing.stop_worker(pool) as pid:
        until(lambda: is_stopped(pid))
        if situation == "closing":
            pool.close()
        else:
            later = pool.map(work.double, range(20))
        board.mark("go")
        stays(lambda: is_stopped(pid), STOPPED[situation], "nobody wakes or kills it")
    if job is not None:
        expected = list(EIGHT) if situation != "one item" else [int(pid) for pid in board.marks("running")]
        assert sorted(job.result(DEADLINE)) == sorted(expected)
        assert len(board.marks("running")) == len(expected)
    if later is not None:
        assert later.result(DEADLINE) == list(range(0, 40, 2))
        # If the other one took a second to end its coroutines, functions have had one more, which goes again.
        assert before <= pids(pool)
        until(lambda: pids(pool) == before)
    else:
        pool.join(DEADLINE)


def test_the_other_worker_does_the_work_of_one_that_is_stopped(pool):
    """What has not started on it, as far as it was not sent yet: the job is nearly done when the worker goes on."""
    with testing.stop_worker(pool) as pid:
        until(lambda: is_stopped(pid))
        job = pool.map(work.nap, [0.001] * 200)
        until(lambda: job.snapshot().done >= 100, what="half of the items are done by one worker")
    assert len(job.result(DEADLINE)) == 200


def test_a_job_on_a_stopped_worker_can_be_cancelled(pool, board: Board):
    """At once for whoever waits; the worker is killed after the grace."""
    job = eight_in_flight(pool, board)
    with testing.stop_worker(pool) as pid:
        until(lambda: is_stopped(pid))
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(5)
        until(lambda: pid not in pids(pool))


# --- SIGTERM ---------------------------------------------------------------------------------------------------------


def test_an_idle_worker_obeys_sigterm(pool, board: Board):
    """As any process does."""
    pid = testing.kill_worker(pool, sig=signal.SIGTERM)
    until(lambda: pid not in pids(pool), AT_ONCE)


def test_a_busy_worker_obeys_sigterm_at_once(pool, board: Board):
    """Also while its item blocks: the call ends as WorkerLost, and says what it was."""
    call = pool.submit(items.alone, board, testing.hang)
    (pid,) = board.wait("running")
    board.mark("go")
    board.wait("struck")
    board.mark("struck", time.monotonic())
    os.kill(int(pid), signal.SIGTERM)
    error, seconds = timed(call, board)
    assert isinstance(error, WorkerLost)
    assert (error.signal, error.exitcode) == ("SIGTERM", -signal.SIGTERM)
    assert seconds < AT_ONCE


@pytest.mark.parametrize("situation", ["eight coroutines", "closing"])
def test_sigterm_loses_no_item_of_a_map(pool, fresh, board: Board, situation):
    """They run again elsewhere, also in a pool that is closing."""
    pool = pool if situation != "closing" else fresh(2)
    job = eight_in_flight(pool, board)
    if situation == "closing":
        pool.close()
    testing.kill_workers(pool, signal.SIGTERM)
    board.mark("go")
    assert job.result(DEADLINE) == list(EIGHT)
    if situation == "closing":
        pool.join(DEADLINE)


# --- SIGINT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", ["idle", "one item", "eight coroutines", "closing"])
def test_sigint_to_all_workers_is_ignored(pool, fresh, board: Board, situation):
    """Stop goes to the kernel's whole process group: it is the kernel that decides what it means."""
    if situation == "closing":
        pool = fresh(2)
        pool.broadcast(work.pid).result(DEADLINE)
    before = pids(pool)
    job = None
    if situation == "one item":
        job = pool.map(items.held, [board] * 2, batch=1)
        board.wait("running", 2)
    elif situation != "idle":
        job = eight_in_flight(pool, board)
    if situation == "closing":
        pool.close()
    for _ in range(3):
        testing.kill_workers(pool, signal.SIGINT)
    board.mark("go")
    if job is not None:
        assert len(job.result(DEADLINE)) == len(board.marks("running"))
    if situation == "closing":
        pool.join(DEADLINE)
    else:
        assert pool.broadcast(work.pid).result(DEADLINE)
        assert pids(pool) == before
