"""Line 9: work of which some takes long.

Functions that keep a core busy, with durations of a Pareto distribution; the same for all. The makespan, from the call
to the list, divided by that of the greedy scheduler which gives out one item at a time, in the same order, at no cost:
computed on the durations that the workers measured in that very run. ``steps``: 20,000 items of 20 us, and 60 of 30 ms
behind them: a batch that is right for the one is wrong for the other. Nobody here sets ``batch``; who must set a
``chunksize`` is shown with what its documentation has (``mp.Pool.map``, by itself: eight chunks) and with one by one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.speed.figures import greedy
from benchmarks.speed.items import spin
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 50, Size.QUICK: 150, Size.FULL: 1_000}
SHAPE = 1.5
LEAST, MOST = 0.002, 0.3
"""Seconds."""
TINY, LONG = 2e-5, 0.03
SEED = 7


def _pareto(count: int) -> list[float]:
    chance = random.Random(SEED)
    return [min(MOST, LEAST * chance.paretovariate(SHAPE)) for _ in range(count)]


def _steps(size: Size) -> list[float]:
    share = {Size.TINY: 20, Size.QUICK: 2, Size.FULL: 1}[size]
    return [TINY] * (20_000 // share) + [LONG] * (60 // share)


def _loops_per_second() -> float:
    return 200_000 / min(spin(200_000) for _ in range(5))


def _turn(run: Callable[[list[int]], list[float]], size: Size) -> Turn:
    """Warm up, and have a turn that measures both."""
    speed = _loops_per_second()
    run([1_000] * 100)

    def over(seconds: list[float]) -> float:
        loops = [max(1, int(each * speed)) for each in seconds]
        begun = time.perf_counter()
        durations = run(loops)
        return (time.perf_counter() - begun) / greedy(durations, WORKERS)

    return lambda: {"pareto": over(_pareto(ITEMS[size])), "steps": over(_steps(size))}


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pmap(spin, data)``."""
    import aiopool

    aiopool.configure(workers=WORKERS)

    async def run(data: list[int]) -> list[float]:
        return await aiopool.pmap(spin, data, progress=False)

    with asyncio.Runner() as runner:
        yield _turn(lambda data: runner.run(run(data)), size)
    aiopool.get_pool().terminate()


@contextmanager
def chunked(size: Size) -> Iterator[Turn]:
    """``mp.Pool.map``."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield _turn(lambda data: pool.map(spin, data), size)


@contextmanager
def one_by_one(size: Size) -> Iterator[Turn]:
    """``mp.Pool.map(..., chunksize=1)``."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield _turn(lambda data: pool.map(spin, data, chunksize=1), size)


@contextmanager
def executor(size: Size) -> Iterator[Turn]:
    """``executor.map``, one by one as it does by itself."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield _turn(lambda data: list(pool.map(spin, data)), size)


@contextmanager
def joblib(size: Size) -> Iterator[Turn]:
    """``Parallel(n_jobs=2)``, with batches of its own."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS) as parallel:
        yield _turn(lambda data: parallel(delayed(spin)(x) for x in data), size)


SUBJECT = Subject(
    key="uneven",
    title="Uneven work: the makespan, of what nobody can beat",
    contenders=(
        Contender(OURS, ours),
        Contender("mp.Pool", chunked),
        Contender("mp.Pool, one by one", one_by_one),
        Contender("executor", executor, slow=True),
        Contender("joblib", joblib, "joblib", slow=True),
    ),
    metrics={
        "pareto": Metric("Pareto durations: makespan", "times", drawn=True),
        "steps": Metric("short items, then long ones: makespan", "times", drawn=True),
    },
    promises=(
        Promise(9, "Pareto durations: makespan, of greedy at no cost", "at most", 1.05, (OURS, "pareto"), how="alone"),
        Promise(9, "short items, then long ones: the same", "at most", 1.05, (OURS, "steps"), how="alone"),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 2, Size.FULL: 7},
)
