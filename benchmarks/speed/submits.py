"""Line 3: one call, there and back.

``trip``: the median of calls that follow one another, each awaited in a running loop; ``blocking``: the same without a
loop, in the main thread. ``burst``: calls per second of 1,000 that are started together and awaited together. The pipe
is the floor: a byte to a process and back, with nothing around it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from benchmarks.speed.items import noop
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

SECONDS = {Size.TINY: 0.2, Size.QUICK: 0.3, Size.FULL: 2.0}
"""After which there are no further trips: those who are a hundred times as slow need not be asked as often."""
TRIPS = {Size.TINY: 20, Size.QUICK: 200, Size.FULL: 500}
BURST = 1_000


async def _awaited(submit: Callable[[], Awaitable[Any]], size: Size) -> dict[str, float]:
    seconds: list[float] = []
    while len(seconds) < TRIPS[size] and sum(seconds) < SECONDS[size]:
        begun = time.perf_counter()
        await submit()
        seconds.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    await asyncio.gather(*[submit() for _ in range(BURST)])
    return {"trip": median(seconds), "burst": BURST / (time.perf_counter() - begun)}


def _blocking(call: Callable[[], Any], size: Size) -> dict[str, float]:
    seconds: list[float] = []
    while len(seconds) < TRIPS[size] and sum(seconds) < SECONDS[size]:
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return {"blocking": median(seconds)}


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pool.submit(noop)``, and ``pool.submit(noop).result()``."""
    from aiopool import Pool

    with Pool(workers=WORKERS) as pool, asyncio.Runner() as runner:
        runner.run(_awaited(lambda: pool.submit(noop), Size.TINY))
        yield lambda: {
            **runner.run(_awaited(lambda: pool.submit(noop), size)),
            **_blocking(lambda: pool.submit(noop).result(), size),
        }


def _with(pool: Executor, size: Size) -> Iterator[Turn]:
    with pool, asyncio.Runner() as runner:
        runner.run(_awaited(lambda: asyncio.wrap_future(pool.submit(noop)), Size.TINY))
        yield lambda: {
            **runner.run(_awaited(lambda: asyncio.wrap_future(pool.submit(noop)), size)),
            **_blocking(lambda: pool.submit(noop).result(), size),
        }


@contextmanager
def executor(size: Size) -> Iterator[Turn]:
    """``await asyncio.wrap_future(executor.submit(noop))``, and ``executor.submit(noop).result()``."""
    yield from _with(ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")), size)


@contextmanager
def loky(size: Size) -> Iterator[Turn]:
    """The same, of joblib's executor."""
    from loky import get_reusable_executor

    yield from _with(get_reusable_executor(max_workers=WORKERS, timeout=600), size)


@contextmanager
def multiprocessing_pool(size: Size) -> Iterator[Turn]:
    """``pool.apply(noop)``: it cannot be awaited."""
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.apply(noop)
        yield lambda: _blocking(lambda: pool.apply(noop), size)


@contextmanager
def aiomultiprocess(size: Size) -> Iterator[Turn]:
    """``await pool.apply(noop)``, of a coroutine, since it takes no others."""
    from aiomultiprocess import Pool

    from benchmarks.speed.items import echo

    async def opened() -> Pool:
        return Pool(processes=WORKERS)

    with asyncio.Runner() as runner:
        pool = runner.run(opened())
        runner.run(_awaited(lambda: pool.apply(echo, (1,)), Size.TINY))
        yield lambda: runner.run(_awaited(lambda: pool.apply(echo, (1,)), size))
        pool.terminate()


@contextmanager
def dask(size: Size) -> Iterator[Turn]:
    """``client.submit(noop).result()``."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR") as cluster,
        Client(cluster) as client,
    ):
        client.submit(noop, pure=False).result()
        yield lambda: _blocking(lambda: client.submit(noop, pure=False).result(), size)


def _answer(there: Connection) -> None:
    while there.recv_bytes():
        there.send_bytes(b".")


@contextmanager
def pipe(size: Size) -> Iterator[Turn]:
    """A byte each way."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_answer, args=(there,))
    child.start()

    def call() -> None:
        here.send_bytes(b".")
        here.recv_bytes()

    call()
    yield lambda: _blocking(call, size)
    here.send_bytes(b"")
    child.join()


EXECUTOR = "executor"

SUBJECT = Subject(
    key="submits",
    title="One call",
    contenders=(
        Contender(OURS, ours),
        Contender(EXECUTOR, executor),
        Contender("mp.Pool", multiprocessing_pool),
        Contender("loky", loky, "loky", slow=True),
        Contender("aiomultiprocess", aiomultiprocess, "aiomultiprocess", slow=True),
        Contender("dask", dask, "distributed", slow=True),
        Contender("floor: a pipe", pipe),
    ),
    metrics={
        "trip": Metric("one call, awaited", "seconds", drawn=True),
        "blocking": Metric("one call, blocking", "seconds", drawn=True),
        "burst": Metric("1,000 calls at once", "per second", drawn=True),
    },
    promises=(
        Promise(
            3, "`await pool.submit(noop)`, of an awaited executor", "at most", 1.0, (OURS, "trip"), (EXECUTOR, "trip")
        ),
        Promise(
            3,
            "the same, of the executor's blocking `.result()`",
            "at most",
            1.5,
            (OURS, "trip"),
            (EXECUTOR, "blocking"),
        ),
        Promise(
            3, "1,000 concurrent submits, of the executor's rate", "at least", 4, (OURS, "burst"), (EXECUTOR, "burst")
        ),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 21},
)
