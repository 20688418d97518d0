"""What tests of pools share: looking at what is there, waiting with a deadline, and whether a pool still works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable
from pathlib import Path
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


def there(pool: Pool) -> list[str]:
    """The states of workers that have not died."""
    return [worker.state for worker in pool.snapshot().workers if worker.state != "lost"]


def still_works(pool: Pool) -> None:
    """The same pool runs twenty items of both kinds right, and has no more workers than it may."""
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    assert pool.map(work.double_later, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    until(lambda: not pool.snapshot().jobs, what="no job is left")
    # One that was to be killed has had another one beside it, and leaves.
    until(lambda: len(there(pool)) <= pool.size, what="no more workers than there may be")


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


def looks_at_nobody(pool: Pool) -> bool:
    """Whether the pool, which asks its workers how they are while items run, has asked for the last time."""
    return pool._driver._io.ask(lambda: pool._driver._vitals._alarm is None)


def names_in_memory() -> set[str]:
    """The names of shared memory, but for those that only others make: tests beside this one, and other programs.

    Semaphores are of multiprocessing, ``left-`` is of a test of leaks, and a browser's begin with a dot.
    """
    folder = Path("/dev/shm")
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    return {name for name in names if not name.startswith(("sem.", "left-", "."))}
