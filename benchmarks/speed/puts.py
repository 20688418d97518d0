"""Line 5, put: 512 MiB that are put once and used by 1,000 items.

Copies: by how much the memory of all processes together has grown (their proportional share: a page that two have
mapped counts half in each), divided by the size of the data. It is read while both workers hold what they were given.
One copy is the shared one; the caller's own was there before. Where it is more than a few, no 1,000 items are tried.
Only on Linux: others do not tell the share. ``put``: seconds of the put itself; ``copy``: of one copy into fresh pages.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks.speed.items import keep
from benchmarks.speed.subjects import WORKERS, Contender, Metric, Promise, Size, Subject, Turn

BYTES = {Size.TINY: 4 << 20, Size.QUICK: 128 << 20, Size.FULL: 512 << 20}
ITEMS = {Size.TINY: 100, Size.QUICK: 200, Size.FULL: 1_000}
FEW = 2 * WORKERS
"""Items that are tried first."""
MANY = 2.5
"""Copies after these, above which each item is known to carry its own."""


def array(size: int) -> Any:
    """Floats."""
    import numpy as np

    return np.ones(size // 8)


def frame(size: int) -> Any:
    """Four columns of floats."""
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.ones((4, size // 32)).T, columns=list("abcd"))


def table(size: int) -> Any:
    """The same, of arrow."""
    import numpy as np
    import pyarrow as pa

    return pa.table({name: np.ones(size // 32) for name in "abcd"})


def _memory() -> int:
    own = psutil.Process()
    return sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])


@contextmanager
def put(kind: Any, size: Size) -> Iterator[Turn]:
    """``ref = pool.put(data)``, and items that get the ref."""
    from aiopool import Pool

    def turn() -> dict[str, float]:
        data = kind(BYTES[size])
        with Pool(workers=WORKERS) as pool:
            pool.map(keep, [kind(8 << 10)] * FEW, range(FEW), batch=1, progress=False).result()
            before = _memory()
            begun = time.perf_counter()
            ref = pool.put(data)
            took = time.perf_counter() - begun

            def copies(items: int) -> float:
                sums = pool.map(keep, [ref] * items, range(items), batch=1, progress=False).result()
                assert len(set(sums)) == 1
                return (_memory() - before) / BYTES[size]

            found = copies(FEW)
            if found < MANY:
                found = copies(ITEMS[size])
        return {"copies": found, "put": took, "copy": _copied(BYTES[size])}

    yield turn


def _copied(size: int) -> float:
    data = array(size)
    begun = time.perf_counter()
    data.copy()
    return time.perf_counter() - begun


KINDS = {"array": (array, "numpy"), "frame": (frame, "pandas"), "table": (table, "pyarrow")}
TEXTS = {"array": "an array", "frame": "a pandas frame", "table": "an arrow table"}

SUBJECT = Subject(
    key="puts",
    title="512 MiB that are put once and used by 1,000 items",
    contenders=tuple(
        Contender(f"aiopool: {TEXTS[name]}", functools.partial(put, kind), distribution, fresh=True)
        for name, (kind, distribution) in KINDS.items()
    ),
    metrics={
        "copies": Metric("what the memory of all has grown by", "copies"),
        "put": Metric("the put", "seconds"),
        "copy": Metric("floor: one copy", "seconds"),
    },
    promises=tuple(
        Promise(
            5,
            f"512 MiB put, used by 1,000 items: {text}",
            "at most",
            1.1,
            (f"aiopool: {text}", "copies"),
            how="alone",
            unit="copies",
        )
        for text in TEXTS.values()
    ),
    rounds={Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3},
    limit=300.0,
)
