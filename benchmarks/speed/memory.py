"""Line 8: a worker that rests.

Resident memory of the fattest worker that has run a no-op coroutine or function and now waits, beside a spawned child
of multiprocessing that has imported cloudpickle and asyncio, and waits.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import psutil

from benchmarks.speed.items import echo, noop
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

SETTLE = 0.5


def _resident(pids: list[int]) -> dict[str, float]:
    time.sleep(SETTLE)
    return {"resident": float(max(psutil.Process(pid).memory_info().rss for pid in pids))}


@contextmanager
def ours(_: Size) -> Iterator[Turn]:
    """A worker, after coroutines."""
    from aiopool import Pool

    with Pool(workers=WORKERS) as pool:
        pool.map(echo, range(1_000), progress=False).result()
        yield lambda: _resident([worker.info.pid for worker in pool.workers])


@contextmanager
def executor(_: Size) -> Iterator[Turn]:
    """The executor's, which knows neither coroutines nor functions of a cell."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(noop).result()
        yield lambda: _resident(list(pool._processes))  # noqa: SLF001 - it does not tell otherwise


@contextmanager
def loky(_: Size) -> Iterator[Turn]:
    """joblib's, which knows functions of a cell."""
    from loky import get_reusable_executor

    with get_reusable_executor(max_workers=WORKERS, timeout=600) as pool:
        pool.submit(noop).result()
        yield lambda: _resident(list(pool._processes))  # noqa: SLF001 - it does not tell otherwise


def _import_and_wait(end: Connection) -> None:
    for name in ("asyncio", "cloudpickle"):
        importlib.import_module(name)
    end.send(None)
    end.recv()


@contextmanager
def spawned(_: Size) -> Iterator[Turn]:
    """A child that has what a worker for coroutines of a cell must have."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=_import_and_wait, args=(there,))
    child.start()
    here.recv()
    yield lambda: _resident([child.pid or 0])
    here.send(None)
    child.join()


SPAWNED = "floor: a spawned child"

SUBJECT = Subject(
    key="memory",
    title="A worker that rests",
    contenders=(
        Contender(OURS, ours),
        Contender("executor", executor),
        Contender("loky", loky, "loky"),
        Contender(SPAWNED, spawned),
    ),
    metrics={"resident": Metric("memory of a worker at rest", "bytes", drawn=True)},
    promises=(
        Promise(
            8,
            "a worker at rest, of a spawned child with cloudpickle and asyncio",
            "at most",
            1.15,
            (OURS, "resident"),
            (SPAWNED, "resident"),
        ),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 2, Size.FULL: 5},
)
