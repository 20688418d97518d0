"""One item among thousands kills its worker: it is found in seconds, and nobody else is lost."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time

import pytest

from aiopool import Failure, WorkerLost
from tests.pool.board import Board
from tests.pool.pools import still_works

MANY = 5000


@pytest.fixture
def pool(fresh, board: Board):
    """Two workers that write down who they are."""
    return fresh(2, initializer=lambda: board.mark("spawned", os.getpid()))


def only_lost(results: list[object]) -> int:
    """The one item that has no value of its own."""
    (failure,) = [value for value in results if isinstance(value, Failure)]
    assert isinstance(failure.error, WorkerLost)
    assert failure.error.signal in ("", "SIGKILL")
    assert [value for value in results if value is not failure] == [x for x in range(MANY) if x != failure.index]
    return failure.index


def test_who_kills_while_it_is_at_work_costs_two_workers_of_five_thousand_in_flight(pool, board: Board):
    """All others were in flight, and have their values."""

    async def item(x: int) -> int:
        await asyncio.sleep(0.2)
        if x == 3210:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    begun = time.monotonic()
    results = pool.map(item, range(MANY), concurrency=MANY, on_error="return").result(150)
    assert time.monotonic() - begun < 100
    assert only_lost(results) == 3210
    assert len(board.marks("spawned")) <= 2 + 2
    still_works(pool)


def test_who_kills_while_others_are_at_work_is_found_among_five_thousand_in_flight(pool, board: Board):
    """A thread that it has left behind does it: the mark page never names it."""

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        if x == 3210:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            await asyncio.sleep(3600)
        await asyncio.sleep(0.3)
        return x

    begun = time.monotonic()
    results = pool.map(item, range(MANY), concurrency=MANY, on_error="return").result(150)
    assert time.monotonic() - begun < 140
    assert only_lost(results) == 3210
    # Of each group that dies one may have been at work, which is tried first, and costs nobody anything.
    assert len(board.marks("spawned")) <= 2 + 2 + math.ceil(math.log2(MANY))
    still_works(pool)


def test_functions_in_threads_are_found_although_nobody_is_seen_at_work(pool, board: Board):
    """Eight at a time in each worker; a thread has no place where it stands."""

    def item(x: int) -> int:
        time.sleep(0.05)
        if x == 33:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    results = pool.map(item, range(64), concurrency=16, on_error="return").result(150)
    assert [value for value in results if not isinstance(value, Failure)] == [x for x in range(64) if x != 33]
    assert isinstance(results[33].error, WorkerLost)
    assert len(board.marks("spawned")) <= 2 + 5
    still_works(pool)


def test_another_job_goes_on_while_suspects_are_tried(pool):
    """It shares their workers, and loses nothing."""

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        if x == 7:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
            await asyncio.sleep(3600)
        await asyncio.sleep(0.2)
        return x

    async def neighbour(x: int) -> int:
        await asyncio.sleep(0.05)
        return x

    bad = pool.map(item, range(200), concurrency=200, on_error="return")
    good = pool.map(neighbour, range(400), concurrency=100)
    assert good.result(150) == list(range(400))
    results = bad.result(150)
    assert [index for index, value in enumerate(results) if isinstance(value, Failure)] == [7]
