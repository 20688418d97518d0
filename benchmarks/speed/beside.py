"""Line 11: a job that runs beside a cell which does something else.

In a kernel: items of a background job that end per second while a cell awaits ``asyncio.sleep``, while it blocks in
``time.sleep``, and while it computes in Python; of items that do nothing and of items that sleep 10 ms. The cell does
each by turns, a fraction of a second at a time, while one and the same job runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.speed.kernels import kernel
from benchmarks.speed.subjects import Contender, Metric, Promise, Size, Subject, Turn

IN_A_KERNEL = "aiopool, in a kernel"
SECONDS = {Size.TINY: 0.3, Size.QUICK: 0.175, Size.FULL: 0.25}
TURNS = {Size.TINY: 1, Size.QUICK: 4, Size.FULL: 8}

SETUP = """
import asyncio, time
from aiopool import JobCancelled, Pool
from benchmarks.speed.items import echo
pool = Pool(workers=2)
async def nap(x):
    await asyncio.sleep(0.01)
await pool.map(nap, range(1000), progress=False)
"""

CELL = """
job = pool.map({function}, range(100_000_000), progress=False)
await asyncio.sleep(0.3)
done, taken = dict.fromkeys({bodies}, 0), dict.fromkeys({bodies}, 0.0)
for turn in range({turns}):
    for body in {bodies}[:: -1 if turn % 2 else 1]:
        before, begun = job.snapshot().done, time.perf_counter()
        if body == "awaiting":
            await asyncio.sleep({seconds})
        elif body == "sleeping":
            time.sleep({seconds})
        else:
            x = 1
            while time.perf_counter() - begun < {seconds}:
                x = x * 3 % 1001
        taken[body] += time.perf_counter() - begun
        done[body] += job.snapshot().done - before
tell({{body: done[body] / taken[body] for body in done}})
job.cancel()
try:
    await job
except JobCancelled:
    pass
job = None
"""

CASES = {
    "nothing": ("echo", ("awaiting", "sleeping")),
    "10 ms": ("nap", ("awaiting", "sleeping", "computing")),
}


@contextmanager
def cells(size: Size) -> Iterator[Turn]:
    """One cell of each kind of items."""
    with kernel() as shell:
        shell.run(SETUP)

        def turn() -> dict[str, float]:
            found = {}
            for name, (function, bodies) in CASES.items():
                cell = CELL.format(function=function, bodies=bodies, turns=TURNS[size], seconds=SECONDS[size])
                found |= {f"{name}, {body}": rate for body, rate in shell.run(cell).items()}
            return found

        yield turn


def _promise(text: str, bound: float, ours: str, theirs: str) -> Promise:
    return Promise(11, text, "at least", bound, (IN_A_KERNEL, ours), (IN_A_KERNEL, theirs))


SUBJECT = Subject(
    key="beside",
    title="Beside a cell",
    contenders=(Contender(IN_A_KERNEL, cells),),
    metrics={
        f"{name}, {body}": Metric(f"items: {name}, cell {body}", "per second")
        for name, (_, bodies) in CASES.items()
        for body in bodies
    },
    promises=(
        _promise(
            "beside a sleeping cell, no-op coroutines, of the rate alone",
            0.95,
            "nothing, sleeping",
            "nothing, awaiting",
        ),
        _promise("beside a sleeping cell, items that sleep 10 ms", 0.95, "10 ms, sleeping", "10 ms, awaiting"),
        _promise("beside a computing cell, items that sleep 10 ms", 0.9, "10 ms, computing", "10 ms, awaiting"),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 5, Size.FULL: 11},
)
