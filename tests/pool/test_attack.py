"""Options of a map where they meet: very long timeouts, values that are on their way, C code in threads."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiopool import Failure, ItemTimeout, WorkerLost
from aiopool._core import frames
from aiopool._worker.clock import Clock
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import still_works

BIG = 30_000_000
"""Bytes of a value that no pipe takes at once."""


@pytest.mark.parametrize("timeout", [30 * 86400.0, 1e12, 1e300])
def test_a_timeout_may_be_as_long_as_one_likes(fresh, timeout: float):
    """A month is more milliseconds than the system waits for at once."""
    pool = fresh(1)

    def item(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    async def coroutine(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    pid = pool.submit(work.pid).result(DEADLINE)
    for function in (item, coroutine):
        # The worker must get to waiting for nothing else than that time.
        assert pool.map(function, [0.01, 1.0], timeout=timeout, rerun_lost=False).result(DEADLINE) == [pid, pid]


def test_what_ends_late_has_timed_out_though_nobody_has_looked():
    """Who looks may have had no turn, because another thread has held the GIL: the attempt's own end looks, too."""
    sent: list[frames.Frame] = []
    clock = Clock(sent.append, lambda: None)
    job = SimpleNamespace(id=1, cancelled=False)
    entry = cast("Any", SimpleNamespace(code=1, job=job, batch=SimpleNamespace(id=2), position=3, is_over=False))
    assert not clock.end(clock.start(entry, DEADLINE))
    assert sent == []
    assert clock.end(clock.start(entry, 1e-9))
    assert sent == [frames.Overdue(1, 2, 3)]


@pytest.mark.parametrize("kind", ["async", "def"])
def test_at_most_once_holds_for_values_that_are_stuck_in_the_pipe(fresh, board: Board, kind: str):
    """Whoever had a value that died with the worker is lost, not run again: a big value before it was being written."""
    pool = fresh(1)

    def item(x: int) -> bytes:
        board.mark("started", x)
        if x == 20:
            os._exit(1)
        # For a def the pool's own thread reads while the next item begins: the big one comes last.
        return bytes(BIG) if x == (10 if kind == "async" else 19) else b""

    async def coroutine(x: int) -> bytes:
        return item(x)

    function: Any = coroutine if kind == "async" else item
    results = pool.map(function, range(30), rerun_lost=False, on_error="return").result(DEADLINE)
    started = board.marks("started")
    assert sorted(started, key=int) == [str(x) for x in range(30)]
    lost = [value for value in results if isinstance(value, Failure)]
    assert 20 in [failure.index for failure in lost]
    assert all(isinstance(failure.error, WorkerLost) for failure in lost)
    assert [failure.index for failure in lost] == list(range(lost[0].index, 21))


def test_a_submit_whose_value_is_stuck_in_the_pipe_is_never_run_again(fresh, board: Board):
    """It has run; that its value died with the worker does not make it run twice."""
    pool = fresh(1)

    async def big() -> bytes:
        board.mark("started")
        return bytes(BIG)

    async def dies() -> None:
        os._exit(1)

    pool.submit(work.pid).result(DEADLINE)
    for handle in [pool.submit(big), pool.submit(big), pool.submit(dies)]:
        until(handle.done)
    assert len(board.marks("started")) == 2
    still_works(pool)


def test_an_item_in_a_thread_that_holds_the_gil_has_timed_out_and_is_tried_again(fresh, board: Board):
    """Its neighbours cannot be told from it; once it has run alone it can."""
    pool = fresh(1, grace=0.5)

    def item(x: int) -> int:
        board.mark(str(x))
        if x == 1 and len(board.marks("tries")) < 2:
            ctypes.PyDLL(None).sleep(3600)
        return x

    results = pool.map(item, range(4), concurrency=4, timeout=1.5, on_error="return").result(2 * DEADLINE)
    assert isinstance(results[1].error, ItemTimeout)
    assert results[1].attempts == 1
    assert [results[x] for x in (0, 2, 3)] == [0, 2, 3]
    still_works(pool)
