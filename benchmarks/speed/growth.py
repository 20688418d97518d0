"""Line 10: whether an item costs more where there are more workers.

A job over so many workers that are none (:mod:`benchmarks.panel.simulated`): they answer at once, on the pool's own
thread, so that what is left is the pool itself. Its processor time per item, of the whole process: others who use the
machine do not count. Concurrency is the default, which grows with the workers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.speed.items import echo, echo_def
from benchmarks.speed.subjects import Contender, Metric, Promise, Size, Subject, Turn

ITEMS = {Size.TINY: 20_000, Size.QUICK: 1_000_000, Size.FULL: 1_000_000}
FEW, MANY = 2, 256


@contextmanager
def simulated(workers: int, size: Size) -> Iterator[Turn]:
    """So many of them."""
    from aiopool import Pool
    from benchmarks.panel.simulated import register

    register()
    with Pool(workers=workers, engine="simulated") as pool:

        def cost(function: Callable[[int], Any], count: int) -> float:
            begun = time.process_time()
            values = pool.map(function, range(count), progress=False).result()
            assert len(values) == count
            return (time.process_time() - begun) / count

        for function in (echo, echo_def):
            cost(function, 20_000)
        yield lambda: {"coroutines": cost(echo, ITEMS[size]), "functions": cost(echo_def, ITEMS[size])}


TITLES = {number: f"{number} simulated workers" for number in (FEW, MANY)}

SUBJECT = Subject(
    key="growth",
    title="Simulated workers",
    contenders=tuple(Contender(title, functools.partial(simulated, number)) for number, title in TITLES.items()),
    metrics={
        "coroutines": Metric("processor time of a coroutine in the parent", "seconds"),
        "functions": Metric("of a function", "seconds"),
    },
    promises=tuple(
        Promise(
            10,
            f"1,000,000 {kind} over 256 simulated workers: cost of each, of that over 2",
            "at most",
            1.2,
            (TITLES[MANY], kind),
            (TITLES[FEW], kind),
        )
        for kind in ("coroutines", "functions")
    ),
    rounds={Size.TINY: 2, Size.QUICK: 3, Size.FULL: 9},
)
