"""Line 1, watched: what is left of the same throughput in a cell with its panel.

One kernel; in each round a cell that awaits a job with a panel and one without, by turns, each of two seconds or so:
the panel appears half a second in. ``make bench-panel`` looks closer, with functions and 64 workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.speed.kernels import kernel
from benchmarks.speed.subjects import Contender, Metric, Promise, Size, Subject, Turn

IN_A_KERNEL = "aiopool, in a kernel"
SECONDS = {Size.TINY: 0.7, Size.QUICK: 1.2, Size.FULL: 3.0}

SETUP = """
import time
from aiopool import Pool
from benchmarks.speed.items import echo
pool = Pool(workers=2)
async def run(count, progress):
    start = time.perf_counter()
    await pool.map(echo, range(count), progress=progress)
    return count / (time.perf_counter() - start)
await run(10_000, False)
count = int({seconds} * await run(200_000, False))
"""


@contextmanager
def watched(size: Size) -> Iterator[Turn]:
    """A cell with, a cell without."""
    with kernel() as cells:
        cells.run(SETUP.format(seconds=SECONDS[size]))
        turns = 0

        def turn() -> dict[str, float]:
            nonlocal turns
            turns += 1
            names = ["with", "without"] if turns % 2 else ["without", "with"]
            return {name: cells.run(f"tell(await run(count, {name == 'with'}))") for name in names}

        yield turn


SUBJECT = Subject(
    key="panel",
    title="Coroutines that do nothing, in a cell with its panel",
    contenders=(Contender(IN_A_KERNEL, watched),),
    metrics={"with": Metric("with the panel", "per second"), "without": Metric("without", "per second")},
    promises=(
        Promise(
            1,
            "with the panel on, of the rate without",
            "at least",
            0.95,
            (IN_A_KERNEL, "with"),
            (IN_A_KERNEL, "without"),
        ),
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 20},
)
