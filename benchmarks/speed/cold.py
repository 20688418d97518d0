"""Line 6: from nothing to the first result.

Seconds from the making of a pool of two, in a process that has imported it, to the first result of a no-op; a new
process for each round. The function's module imports nothing. Coroutines come beside it: whoever runs them must import
asyncio first. The floor is a Python that starts and ends.
"""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.speed.nothing import noop
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

First = Callable[[ExitStack], Any]
"""Opens a pool in the stack, and waits for a first result."""


@contextmanager
def _timed(prepare: Callable[[], First], _: Size) -> Iterator[Turn]:
    first = prepare()
    with ExitStack() as stack:

        def turn() -> dict[str, float]:
            begun = time.perf_counter()
            first(stack)
            return {"first": time.perf_counter() - begun}

        yield turn


def ours() -> First:
    """``Pool(workers=2)``, ``pool.submit(noop).result()``."""
    from aiopool import Pool

    return lambda stack: stack.enter_context(Pool(workers=WORKERS)).submit(noop).result()


def coroutine() -> First:
    """The same of a coroutine."""
    from aiopool import Pool
    from benchmarks.speed.items import echo

    return lambda stack: stack.enter_context(Pool(workers=WORKERS)).submit(echo, 1).result()


def executor() -> First:
    """``ProcessPoolExecutor(2)`` under spawn, ``submit(noop).result()``."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")
    return lambda stack: stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=spawn)).submit(noop).result()


def multiprocessing_pool() -> First:
    """``Pool(2)`` under spawn, ``apply(noop)``."""
    import multiprocessing

    return lambda stack: stack.enter_context(multiprocessing.get_context("spawn").Pool(WORKERS)).apply(noop)


def loky() -> First:
    """``get_reusable_executor(2)``, ``submit(noop).result()``."""
    from loky import get_reusable_executor

    return lambda stack: stack.enter_context(get_reusable_executor(max_workers=WORKERS)).submit(noop).result()


def aiomultiprocess() -> First:
    """``Pool(processes=2)``, ``await pool.apply(echo)``."""
    from aiomultiprocess import Pool

    from benchmarks.speed.items import echo

    async def first() -> None:
        pool = Pool(processes=WORKERS)
        await pool.apply(echo, (1,))
        pool.terminate()

    return lambda _: asyncio.run(first())


def dask() -> First:
    """``LocalCluster(n_workers=2)``, ``client.submit(noop).result()``."""
    from distributed import Client, LocalCluster

    def first(stack: ExitStack) -> None:
        cluster = stack.enter_context(
            LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR")
        )
        stack.enter_context(Client(cluster)).submit(noop).result()

    return first


def python() -> First:
    """``python -c pass``."""
    return lambda _: subprocess.run([sys.executable, "-c", "pass"], check=True)


def _contender(title: str, prepare: Callable[[], First], distribution: str = "", *, slow: bool = False) -> Contender:
    return Contender(title, functools.partial(_timed, prepare), distribution, fresh=True, slow=slow)


SUBJECT = Subject(
    key="cold",
    title="A cold pool's first result",
    contenders=(
        _contender(OURS, ours),
        _contender("executor", executor),
        _contender("mp.Pool", multiprocessing_pool),
        _contender("loky", loky, "loky", slow=True),
        _contender("aiopool, a coroutine", coroutine),
        _contender("aiomultiprocess, a coroutine", aiomultiprocess, "aiomultiprocess", slow=True),
        _contender("dask", dask, "distributed", slow=True),
        _contender("floor: python -c pass", python),
    ),
    metrics={"first": Metric("a cold pool's first result", "seconds", drawn=True)},
    promises=(
        Promise(
            6,
            "cold pool to first result, of the executor under spawn",
            "at most",
            1.0,
            (OURS, "first"),
            ("executor", "first"),
        ),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 7, Size.FULL: 21},
)
