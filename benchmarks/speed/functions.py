"""Line 2: functions that do nothing.

Items per second of one map over integers, from the call to the list. ``mp.Pool.map`` cuts them into eight chunks for
two processes by itself; executors get the same ``chunksize``. joblib makes batches of its own and gets a tenth of the
items, dask has no batches and gets a thousandth.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.speed.items import echo_def
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 10_000, Size.QUICK: 1_000_000, Size.FULL: 1_000_000}
CHUNKS = 4 * WORKERS


def _turn(run: Callable[[range], list[int]], count: int) -> Turn:
    """Warm up, and have a turn that measures."""
    run(range(100))

    def turn() -> dict[str, float]:
        begun = time.perf_counter()
        values = run(range(count))
        seconds = time.perf_counter() - begun
        assert values == list(range(count))
        return {"rate": count / seconds}

    return turn


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pmap(echo_def, data)``."""
    import aiopool

    aiopool.configure(workers=WORKERS)

    async def run(data: range) -> list[int]:
        return await aiopool.pmap(echo_def, data, progress=False)

    with asyncio.Runner() as runner:
        yield _turn(lambda data: runner.run(run(data)), ITEMS[size])
    aiopool.get_pool().terminate()


@contextmanager
def multiprocessing_pool(size: Size) -> Iterator[Turn]:
    """``Pool(2).map(echo_def, data)``."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield _turn(lambda data: pool.map(echo_def, data), ITEMS[size])


@contextmanager
def executor(size: Size) -> Iterator[Turn]:
    """``list(executor.map(echo_def, data, chunksize=...))``."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield _turn(lambda data: list(pool.map(echo_def, data, chunksize=len(data) // CHUNKS)), ITEMS[size])


@contextmanager
def loky(size: Size) -> Iterator[Turn]:
    """The same, of joblib's executor."""
    from loky import get_reusable_executor

    with get_reusable_executor(max_workers=WORKERS, timeout=600) as pool:
        yield _turn(lambda data: list(pool.map(echo_def, data, chunksize=len(data) // CHUNKS)), ITEMS[size])


@contextmanager
def joblib(size: Size) -> Iterator[Turn]:
    """``Parallel(n_jobs=2)(delayed(echo_def)(x) for x in data)``."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS) as parallel:
        yield _turn(lambda data: parallel(delayed(echo_def)(x) for x in data), ITEMS[size] // 10)


@contextmanager
def dask(size: Size) -> Iterator[Turn]:
    """``client.gather(client.map(echo_def, data))``."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR") as cluster,
        Client(cluster) as client,
    ):
        yield _turn(lambda data: client.gather(client.map(echo_def, data, pure=False)), max(100, ITEMS[size] // 1_000))


SUBJECT = Subject(
    key="functions",
    title="Functions that do nothing",
    contenders=(
        Contender(OURS, ours),
        Contender("mp.Pool", multiprocessing_pool),
        Contender("executor", executor),
        Contender("loky", loky, "loky", slow=True),
        Contender("joblib", joblib, "joblib", slow=True),
        Contender("dask", dask, "distributed", slow=True),
    ),
    metrics={"rate": Metric("no-op functions", "per second", drawn=True)},
    promises=(
        Promise(
            2, "`pmap` over no-op functions, of `mp.Pool.map`", "at least", 0.8, (OURS, "rate"), ("mp.Pool", "rate")
        ),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 15},
)
