"""Line 7: what a pool costs that has nothing to do.

Clock ticks (of 10 ms) of processor time in 30 seconds, of that process of a contender which takes most, after a job;
shorter looks are counted up. In a kernel, less what the same kernel takes without a pool: it is never quite still. All
contenders are looked at in the same 30 seconds: it is their own time that counts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed.items import echo, noop
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

SECONDS = {Size.TINY: 1.0, Size.QUICK: 5.0, Size.FULL: 30.0}
SETTLE = {Size.TINY: 0.2, Size.QUICK: 2.0, Size.FULL: 5.0}
WINDOW = 30.0
TICK = 0.01


def _taken(process: psutil.Process) -> float:
    """Its processor time in seconds, to the nanosecond where the system tells it so, of all its threads."""
    try:
        texts = [file.read_text() for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    except OSError:
        texts = []
    if texts:
        return sum(int(text.split()[0]) for text in texts) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def ticks(processes: list[psutil.Process], seconds: float) -> float:
    """Of the one that takes most, in half a minute."""
    # This process is the first of them, or none: what it takes to look is outside of what it is looked at for.
    before = [_taken(process) for process in reversed(processes)][::-1]
    time.sleep(seconds)
    after = [_taken(process) for process in processes]
    most = max(late - early for early, late in zip(before, after, strict=True))
    return most / TICK * WINDOW / seconds


@contextmanager
def _pool(begin: Callable[[ExitStack], Any], size: Size) -> Iterator[Turn]:
    with ExitStack() as stack:
        begin(stack)

        def turn() -> dict[str, float]:
            time.sleep(SETTLE[size])
            # Not this process's own children alone: a pool may have put one between.
            own = psutil.Process()
            return {"ticks": ticks([own, *own.children(recursive=True)], SECONDS[size])}

        yield turn


def ours(stack: ExitStack) -> None:
    """A pool that had work."""
    from aiopool import Pool

    pool = stack.enter_context(Pool(workers=WORKERS))
    pool.map(echo, range(1_000), progress=False).result()


def executor(stack: ExitStack) -> None:
    """The standard library's."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")))
    for future in [pool.submit(noop) for _ in range(100)]:
        future.result()


def multiprocessing_pool(stack: ExitStack) -> None:
    """The standard library's other one."""
    import multiprocessing

    pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(WORKERS))
    pool.apply(noop)


def loky(stack: ExitStack) -> None:
    """The executor of joblib."""
    from loky import get_reusable_executor

    pool = stack.enter_context(get_reusable_executor(max_workers=WORKERS, timeout=600))
    for future in [pool.submit(noop) for _ in range(100)]:
        future.result()


def aiomultiprocess(stack: ExitStack) -> None:
    """Its pool, on a loop that turns in a thread, as it would in a program that awaits something else."""
    import asyncio
    import threading

    from aiomultiprocess import Pool

    async def begin() -> Pool:
        pool = Pool(processes=WORKERS)
        await pool.apply(echo, (1,))
        return pool

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    pool = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    stack.callback(loop.call_soon_threadsafe, loop.stop)
    stack.callback(pool.terminate)


def dask(stack: ExitStack) -> None:
    """A cluster of this machine."""
    from distributed import Client, LocalCluster

    cluster = stack.enter_context(
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR")
    )
    stack.enter_context(Client(cluster)).submit(noop).result()


@contextmanager
def in_a_kernel(job: str, size: Size) -> Iterator[Turn]:
    """A kernel, in which a cell has run a job, or none."""
    from benchmarks.speed.kernels import kernel

    with kernel() as cells:
        cells.run("import time")
        if job:
            cells.run(
                "from aiopool import Pool\n"
                "from benchmarks.speed.items import echo\n"
                f"pool = Pool(workers={WORKERS})\n"
                f"await pool.map({job})"
            )
        pid = cells.run("import os; tell(os.getpid())")

        def turn() -> dict[str, float]:
            time.sleep(SETTLE[size])
            process = psutil.Process(pid)
            return {"ticks": ticks([process, *process.children(recursive=True)], SECONDS[size])}

        yield turn


QUIET = "echo, range(1_000), progress=False"
# Long enough for the panel to come.
WATCHED = "lambda x: time.sleep(0.1), range(20)"
KERNEL, WITHOUT, WITH = "a kernel without a pool", "aiopool, in a kernel", "aiopool, in a kernel, with a panel"

SUBJECT = Subject(
    key="idle",
    title="Nothing to do",
    contenders=(
        Contender(OURS, functools.partial(_pool, ours)),
        Contender(WITHOUT, functools.partial(in_a_kernel, QUIET)),
        Contender(WITH, functools.partial(in_a_kernel, WATCHED)),
        Contender(KERNEL, functools.partial(in_a_kernel, "")),
        Contender("executor", functools.partial(_pool, executor)),
        Contender("mp.Pool", functools.partial(_pool, multiprocessing_pool)),
        Contender("loky", functools.partial(_pool, loky), "loky"),
        Contender("aiomultiprocess", functools.partial(_pool, aiomultiprocess), "aiomultiprocess"),
        Contender("dask", functools.partial(_pool, dask), "distributed", slow=True),
    ),
    metrics={"ticks": Metric("idle for 30 s: the busiest process", "ticks", drawn=True)},
    promises=(
        Promise(7, "idle for 30 s, per process", "at most", 2, (OURS, "ticks"), how="alone", unit="ticks"),
        Promise(
            7,
            "the same in a kernel, more than the kernel's own",
            "at most",
            2,
            (WITHOUT, "ticks"),
            (KERNEL, "ticks"),
            "difference",
            "ticks",
        ),
        Promise(
            7,
            "the same with the panel of a finished job",
            "at most",
            2,
            (WITH, "ticks"),
            (KERNEL, "ticks"),
            "difference",
            "ticks",
        ),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3},
    at_once=True,
)
