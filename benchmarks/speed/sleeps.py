"""Line 4: 10,000 coroutines that sleep for 0.1 s, all of them at a time.

Seconds from the call to the results. The floor is ``asyncio.gather`` in one process; aiomultiprocess is allowed as many
coroutines per process as are needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.speed.items import nap
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 200, Size.QUICK: 10_000, Size.FULL: 10_000}


async def _measured(run: Callable[[range], Awaitable[Any]], count: int) -> dict[str, float]:
    begun = time.perf_counter()
    values = await run(range(count))
    seconds = time.perf_counter() - begun
    assert len(values) == count
    return {"seconds": seconds}


@contextmanager
def gather(size: Size) -> Iterator[Turn]:
    """One process, no pool."""

    async def run(data: range) -> list[None]:
        return await asyncio.gather(*[nap(x) for x in data])

    with asyncio.Runner() as runner:
        yield lambda: runner.run(_measured(run, ITEMS[size]))


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pmap(nap, data, concurrency=10_000)``."""
    import aiopool

    aiopool.configure(workers=WORKERS)

    async def run(data: range) -> list[None]:
        return await aiopool.pmap(nap, data, concurrency=len(data), progress=False)

    with asyncio.Runner() as runner:
        runner.run(_measured(run, 100))
        yield lambda: runner.run(_measured(run, ITEMS[size]))
    aiopool.get_pool().terminate()


@contextmanager
def aiomultiprocess(size: Size) -> Iterator[Turn]:
    """``await pool.map(nap, data)``."""
    from aiomultiprocess import Pool

    async def opened() -> Pool:
        return Pool(processes=WORKERS, childconcurrency=ITEMS[size] // WORKERS)

    with asyncio.Runner() as runner:
        pool = runner.run(opened())

        async def run(data: range) -> list[None]:
            return await pool.map(nap, data)

        runner.run(_measured(run, 100))
        yield lambda: runner.run(_measured(run, ITEMS[size]))
        pool.terminate()


SUBJECT = Subject(
    key="sleeps",
    title="10,000 coroutines that sleep for 0.1 s",
    contenders=(
        Contender(OURS, ours),
        Contender("gather", gather),
        Contender("aiomultiprocess", aiomultiprocess, "aiomultiprocess"),
    ),
    metrics={"seconds": Metric("10,000 naps of 0.1 s", "seconds", drawn=True)},
    promises=(
        Promise(
            4,
            "10,000 sleeping coroutines, of `asyncio.gather`",
            "at most",
            1.5,
            (OURS, "seconds"),
            ("gather", "seconds"),
        ),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 21},
)
