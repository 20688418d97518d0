"""Line 8, streams: a generator of 10,000,000 items, read by ``async for``.

The parent's greatest resident memory in the second half of the items, divided by that in the first half; it is looked
at every thousandth part. What grows with the items grows from half to half.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.speed.items import echo
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 10_000, Size.QUICK: 1_000_000, Size.FULL: 10_000_000}
LOOKS = 1_000


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``async for value in pool.map(echo, generator)``."""
    from aiopool import Pool

    async def read(count: int) -> dict[str, float]:
        own = psutil.Process()
        peaks = [0, 0]
        seen = 0
        begun = time.perf_counter()
        async for value in pool.map(echo, (x for x in range(count)), progress=False):
            assert value == seen
            if seen % (count // LOOKS) == 0:
                half = 2 * seen // count
                peaks[half] = max(peaks[half], own.memory_info().rss)
            seen += 1
        assert seen == count
        return {"first": peaks[0], "second": peaks[1], "rate": count / (time.perf_counter() - begun)}

    with Pool(workers=WORKERS) as pool, asyncio.Runner() as runner:
        runner.run(read(LOOKS))
        yield lambda: runner.run(read(ITEMS[size]))


SUBJECT = Subject(
    key="streams",
    title="A generator of 10,000,000 items, read by `async for`",
    contenders=(Contender(OURS, ours),),
    metrics={
        "first": Metric("the parent's peak in the first half", "bytes"),
        "second": Metric("in the second half", "bytes"),
        "rate": Metric("items", "per second"),
    },
    promises=(
        Promise(
            8,
            "10,000,000 streamed items: the parent's memory, half to half",
            "at most",
            1.05,
            (OURS, "second"),
            (OURS, "first"),
        ),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 1, Size.FULL: 1},
    limit=900.0,
)
