"""Line 6, the import: what ``import aiopool`` adds to a Python that starts and ends.

Each is a process of its own, by turns, forwards and backwards; the median of each turn. ``names`` is ``from aiopool
import Pool, pmap``, which loads what stands behind them: it is shown, and nothing is promised of it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.speed.figures import order
from benchmarks.speed.subjects import OURS, Contender, Metric, Promise, Size, Subject, Turn

CODES = {"nothing": "pass", "import": "import aiopool", "names": "from aiopool import Pool, pmap"}
TIMES = {Size.TINY: 1, Size.QUICK: 2, Size.FULL: 3}


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """Pythons that start and end."""

    def once(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begun

    def turn() -> dict[str, float]:
        turns = [order(list(CODES.items()), number) for number in range(2 * TIMES[size])]
        taken = [{name: once(code) for name, code in codes} for codes in turns]
        return {name: median(each[name] for each in taken) for name in CODES}

    turn()  # Compiles what was never compiled.
    yield turn


SUBJECT = Subject(
    key="imports",
    title="A Python that imports and ends",
    contenders=(Contender(OURS, ours),),
    metrics={
        "nothing": Metric("`python -c pass`", "seconds"),
        "import": Metric("`import aiopool`", "seconds"),
        "names": Metric("`from aiopool import Pool, pmap`", "seconds"),
    },
    promises=(
        Promise(
            6,
            "what `import aiopool` adds",
            "at most",
            0.03,
            (OURS, "import"),
            (OURS, "nothing"),
            "difference",
            "seconds",
        ),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 3, Size.FULL: 9},
)
