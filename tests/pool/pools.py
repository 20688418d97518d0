"""What tests of pools share: looking at what is there, waiting with a deadline, and whether a pool still works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable
from typing import Any

import psutil

from aiopool import Pool
from tests.pool import work
from tests.pool.board import DEADLINE, until


def our_threads() -> set[str]:
    """The threads that are not the test's own."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("aiopool", "asyncio_"))}


def children() -> set[int]:
    """Processes that were started from here and are not gone."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def ended(pool: Pool) -> None:
    """End a pool, whatever a test has left in it."""
    pool.terminate()
    pool.join(DEADLINE)


def still_works(pool: Pool) -> None:
    """The same pool runs twenty items of both kinds right, and has no more workers than it may."""
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    assert pool.map(work.double_later, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    until(lambda: not pool.snapshot().jobs, what="no job is left")
    assert len([worker for worker in pool.snapshot().workers if worker.state != "lost"]) <= pool.size


def rested(pool: Pool) -> None:
    """Wait until nothing is left of what was done on a pool before, and all its workers are up and idle."""
    until(lambda: not pool.snapshot().jobs, what="no job is left")
    pool.broadcast(work.pid).result(DEADLINE)
    until(lambda: [info.state for info in pool.snapshot().workers] == ["idle"] * pool.size, what="all workers idle")


async def read_into(seen: list[Any], reader: AsyncIterable[Any]) -> None:
    """Append what a job hands out, one by one: what was seen before an error stands."""
    async for value in reader:
        seen.append(value)  # noqa: PERF401  # extend() would lose it


async def shortly(awaitable: Awaitable[Any], seconds: float = DEADLINE) -> Any:
    """Await something that must not take long."""
    async with asyncio.timeout(seconds):
        return await awaitable
