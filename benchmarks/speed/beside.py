"""Line 11: a job that runs beside a cell which does something else.

In a kernel: items of a background job that end per second while a cell awaits ``asyncio.sleep``, while it blocks in
``time.sleep``, and while it computes in Python, by turns; of items that do nothing and of items that sleep 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.speed.kernels import kernel
from benchmarks.speed.subjects import Contender, Metric, Promise, Size, Subject, Turn

IN_A_KERNEL = "aiopool, in a kernel"
SECONDS = {Size.TINY: 0.3, Size.QUICK: 0.7, Size.FULL: 2.0}

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
job = pool.map({function}, range(20_000_000), progress=False)
await asyncio.sleep(0.3)
before, begun = job.snapshot().done, time.perf_counter()
{body}
taken = time.perf_counter() - begun
tell((job.snapshot().done - before) / taken)
job.cancel()
try:
    await job
except JobCancelled:
    pass
job = None
"""

BODIES = {
    "awaiting": "await asyncio.sleep({seconds})",
    "sleeping": "time.sleep({seconds})",
    "computing": "x = 1\nwhile time.perf_counter() - begun < {seconds}:\n    x = x * 3 % 1001",
}
CASES = {
    f"{name}, {body}": (function, body)
    for name, function, bodies in (
        ("nothing", "echo", ("awaiting", "sleeping")),
        ("10 ms", "nap", ("awaiting", "sleeping", "computing")),
    )
    for body in bodies
}


@contextmanager
def cells(size: Size) -> Iterator[Turn]:
    """One cell of each kind, the order turned round each time."""
    with kernel() as shell:
        shell.run(SETUP)
        turns = 0

        def turn() -> dict[str, float]:
            nonlocal turns
            turns += 1
            found = {}
            for name in list(CASES)[:: 1 if turns % 2 else -1]:
                function, body = CASES[name]
                found[name] = shell.run(CELL.format(function=function, body=BODIES[body].format(seconds=SECONDS[size])))
            return found

        yield turn


def _promise(text: str, bound: float, ours: str, theirs: str) -> Promise:
    return Promise(11, text, "at least", bound, (IN_A_KERNEL, ours), (IN_A_KERNEL, theirs))


SUBJECT = Subject(
    key="beside",
    title="Beside a cell",
    contenders=(Contender(IN_A_KERNEL, cells),),
    metrics={name: Metric(f"items: {name.replace(', ', ', cell ')}", "per second") for name in CASES},
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
