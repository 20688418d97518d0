"""Line 1: coroutines that do nothing.

Items per second of one map over integers, results and all, from the call to the list; the pools are up and know the
function. ``gather`` is what a user writes without a pool: ``await asyncio.gather(*[echo(x) for x in data])`` in one
process. Options are everybody's defaults, with two processes. dask gets a hundredth of the items: the rest would take
minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from benchmarks.speed.items import echo
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 2_000, Size.QUICK: 30_000, Size.FULL: 200_000}


async def _measured(run: Callable[[range], Awaitable[list[int]]], count: int) -> dict[str, float]:
    begun = time.perf_counter()
    values = await run(range(count))
    seconds = time.perf_counter() - begun
    assert values == list(range(count))
    return {"rate": count / seconds}


@contextmanager
def gather(size: Size) -> Iterator[Turn]:
    """One process, no pool."""

    async def run(data: range) -> list[int]:
        return await asyncio.gather(*[echo(x) for x in data])

    with asyncio.Runner() as runner:
        yield lambda: runner.run(_measured(run, ITEMS[size]))


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pmap(echo, data)``."""
    import aiopool

    aiopool.configure(workers=WORKERS)

    async def run(data: range) -> list[int]:
        return await aiopool.pmap(echo, data, progress=False)

    with asyncio.Runner() as runner:
        runner.run(_measured(run, 2_000))
        yield lambda: runner.run(_measured(run, ITEMS[size]))
    aiopool.get_pool().terminate()


@contextmanager
def aiomultiprocess(size: Size) -> Iterator[Turn]:
    """``await pool.map(echo, data)``, as its documentation shows it."""
    from aiomultiprocess import Pool

    async def opened() -> Pool:
        return Pool(processes=WORKERS)

    with asyncio.Runner() as runner:
        pool = runner.run(opened())

        async def run(data: range) -> list[int]:
            return await pool.map(echo, data)

        runner.run(_measured(run, 100))
        yield lambda: runner.run(_measured(run, ITEMS[size]))
        pool.terminate()


@contextmanager
def dask(size: Size) -> Iterator[Turn]:
    """``await client.gather(client.map(echo, data))``, on its own loop."""
    from distributed import Client, LocalCluster

    async def run(data: range) -> list[int]:
        return await asyncio.to_thread(lambda: client.gather(client.map(echo, data, pure=False)))

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR") as cluster,
        Client(cluster) as client,
        asyncio.Runner() as runner,
    ):
        runner.run(_measured(run, 100))
        yield lambda: runner.run(_measured(run, max(100, ITEMS[size] // 100)))


SUBJECT = Subject(
    key="coroutines",
    title="Coroutines that do nothing",
    contenders=(
        Contender(OURS, ours),
        Contender("gather", gather),
        Contender("aiomultiprocess", aiomultiprocess, "aiomultiprocess"),
        Contender("dask", dask, "distributed", slow=True),
    ),
    metrics={"rate": Metric("no-op coroutines", "per second", drawn=True)},
    promises=(
        Promise(
            1, "`pmap` over no-op coroutines, of `asyncio.gather`", "at least", 3, (OURS, "rate"), ("gather", "rate")
        ),
        Promise(1, "the same, of aiomultiprocess", "at least", 10, (OURS, "rate"), ("aiomultiprocess", "rate")),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 21},
)
