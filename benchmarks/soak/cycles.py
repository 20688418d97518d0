"""Pools that are opened, used and closed, some with a worker killed inside: nothing is left behind, nothing grows."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from pathlib import Path

import psutil

from aiopool import Pool
from benchmarks.soak.report import Report, slope

SHM = Path("/dev/shm")
WARM_UP = 20
KILL_EVERY = 5
SAMPLE_EVERY = 10
BYTES_PER_CYCLE = 1024
ALLOWANCE = 1 << 20
"""Bytes that a process may have grown besides: the allocator keeps what it once had."""


def double(x: int) -> int:
    """Double it."""
    return 2 * x


async def double_later(x: int) -> int:
    """Double it, a turn of the loop later."""
    await asyncio.sleep(0)
    return 2 * x


def nap(seconds: float) -> float:
    """Block for a while."""
    time.sleep(seconds)
    return seconds


def taken() -> dict[str, int]:
    """How much this process has."""
    gc.collect()
    return {
        "file descriptors": psutil.Process().num_fds(),
        "threads": threading.active_count(),
        "children": len(psutil.Process().children(recursive=True)),
    }


def named() -> set[str]:
    """What has a name in shared memory, on the whole machine."""
    return {entry.name for entry in SHM.iterdir()} if SHM.exists() else set()


def cycle(number: int) -> None:
    """Open a pool of two, use it, close it; every fifth loses a worker meanwhile."""
    with Pool(workers=2) as pool:
        if number % KILL_EVERY:
            fn = double if number % 2 else double_later
            if pool.map(fn, range(8)).result(60) != list(range(0, 16, 2)):
                raise RuntimeError("wrong results")
            return
        job = pool.map(nap, [0.05, 0.05], batch=1)
        while not (busy := [worker.pid for worker in pool.snapshot().workers if worker.in_flight and worker.pid]):
            time.sleep(0.002)
        os.kill(busy[0], signal.SIGKILL)
        if job.result(60) != [0.05, 0.05]:
            raise RuntimeError("wrong results")


def run(count: int) -> Report:
    """Do it so often."""
    report = Report("cycles")
    for number in range(WARM_UP):
        cycle(number)
    before, names = taken(), named()
    me = psutil.Process()
    memory = [(0.0, float(me.memory_info().rss))]
    for number in range(1, count + 1):
        begun = time.monotonic()
        cycle(number)
        report.time("a cycle with a kill" if number % KILL_EVERY == 0 else "a cycle", time.monotonic() - begun)
        report.count("cycles with a kill" if number % KILL_EVERY == 0 else "cycles")
        if number % SAMPLE_EVERY == 0:
            gc.collect()
            memory.append((float(number), float(me.memory_info().rss)))
    after = taken()
    for what, had in before.items():
        report.promise(
            f"{what} are back to the start", kept=after[what] == had, found=f"{had} before, {after[what]} after"
        )
    new = sorted(named() - names)
    report.promise("nothing is left in /dev/shm", kept=not new, found=new or "nothing was")
    growth = memory[-1][1] - memory[0][1]
    report.counts["bytes of memory per cycle, by least squares"] = round(slope(memory))
    report.promise(
        "memory does not grow by more than 1 KiB a cycle (and 1 MiB)",
        kept=growth <= BYTES_PER_CYCLE * count + ALLOWANCE,
        found=f"{growth / 1024:,.0f} KiB in {count:,} cycles",
    )
    return report
