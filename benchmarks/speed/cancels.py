"""Line 10, cancel: a job with 1,000,000 items that wait.

Seconds from ``job.cancel()`` until a task that awaits the job has heard of it, with two workers full of coroutines that
sleep; ``call`` is how long the call itself takes, during which the loop stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.speed.items import echo, long_nap
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 10_000, Size.QUICK: 1_000_000, Size.FULL: 1_000_000}


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``job.cancel()``."""
    from aiopool import JobCancelled, Pool

    async def turn() -> dict[str, float]:
        job = pool.map(long_nap, list(range(ITEMS[size])), progress=False)

        async def wait() -> float:
            with contextlib.suppress(JobCancelled):
                await job
            return time.perf_counter()

        waiter = asyncio.create_task(wait())
        while not job.snapshot().in_flight:  # noqa: ASYNC110 - a job tells nobody when its first item begins
            await asyncio.sleep(0.01)
        begun = time.perf_counter()
        job.cancel()
        called = time.perf_counter()
        return {"call": called - begun, "heard": await waiter - begun}

    with Pool(workers=WORKERS) as pool, asyncio.Runner() as runner:
        pool.map(echo, range(1_000), progress=False).result()
        yield lambda: runner.run(turn())
        pool.terminate()


SUBJECT = Subject(
    key="cancels",
    title="1,000,000 items that wait are cancelled",
    contenders=(Contender(OURS, ours),),
    metrics={"call": Metric("`job.cancel()`", "seconds"), "heard": Metric("until who awaits has heard", "seconds")},
    promises=(
        Promise(10, "cancelling 1,000,000 queued items", "at most", 0.05, (OURS, "heard"), how="alone", unit="seconds"),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 5, Size.FULL: 15},
)
