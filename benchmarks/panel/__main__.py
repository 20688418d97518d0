"""Measure what a panel costs, print the ratios, and fail where less is left than is promised.

::

    make bench-panel                                 # four minutes
    python -m benchmarks.panel --pairs 3 --seconds 0.5 --only 64
    python -m benchmarks.panel --kernel              # in a kernel, with the real widget, too
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from aiopool import JobCancelled, Pool
from benchmarks.panel import kernel, simulated
from benchmarks.panel.ratios import SETTLE, Ratio, measured, ratio
from benchmarks.panel.screen import Screen

ITEMS = 1_000_000
"""Of one job. There is always one, awaited by a thread as a script would: as soon as it has ended another begins."""


async def noop(_: int) -> None:
    """A coroutine that does nothing."""


def noop_def(_: int) -> None:
    """A function that does nothing."""


CASES: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    "coroutines, 2 workers": (noop, {"workers": 2}),
    "functions, 2 workers": (noop_def, {"workers": 2}),
    "coroutines, 64 simulated workers": (noop, {"workers": 64, "engine": "simulated"}),
    "functions, 64 simulated workers": (noop_def, {"workers": 64, "engine": "simulated"}),
}


def compare(name: str, *, pairs: int, seconds: float) -> Ratio:
    """One job that runs all the time, watched and not watched by turns."""
    function, options = CASES[name]
    screen = Screen()
    with Pool(**options) as pool:
        lanes = {"concurrency": 100 * options["workers"]} if function is noop else {}
        stream = Stream(lambda count: pool.map(function, range(count), progress=False, **lanes))
        taken = looks_timed(pool._driver._views)  # noqa: SLF001 - what is measured

        def watch(on: bool) -> None:  # noqa: FBT001 - as it is called
            screen.is_open = on
            if on:
                pool._driver.watch(screen)  # noqa: SLF001 - the entrance for dashboards

        windows = measured(stream.count, watch, pairs=pairs, seconds=seconds)
        stream.end()
        pool.terminate()
    watched = sum(window.seconds for window in windows if window.watched) + SETTLE * pairs
    return ratio(name, windows, looks=screen.looks, size=screen.size, share=sum(taken) / watched)


class Stream:
    """Jobs one after another, and how many items have ended."""

    def __init__(self, start: Callable[[int], Any]) -> None:
        self._start = start
        self._ended = 0
        self._job = start(ITEMS // 10)
        self._job.result()  # The workers are up, and it is known how long an item takes.
        self._going = True
        self._job = start(ITEMS)
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()

    def count(self) -> int:
        """Items that have ended."""
        return self._ended + int(self._job._results.finished)  # noqa: SLF001 - without a look of the pool's

    def end(self) -> None:
        """No further one."""
        self._going = False
        self._job.cancel()
        self._thread.join()

    def _go_on(self) -> None:
        with contextlib.suppress(JobCancelled):
            while self._going:
                self._job.result()
                following = self._start(ITEMS)
                self._ended += ITEMS
                self._job = following


def looks_timed(views: Any) -> list[float]:
    """The processor time that each look takes from now on, pictures included; of the thread, so others do not count."""
    taken: list[float] = []
    look = views._look  # noqa: SLF001 - as above

    def timed() -> None:
        began = time.thread_time()
        look()
        taken.append(time.thread_time() - began)

    views._look = timed  # noqa: SLF001 - as above
    return taken


def main(arguments: list[str] | None = None) -> int:
    """Measure all cases, or those whose names have ``--only`` in them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel")
    parser.add_argument("--pairs", type=int, default=40, help="of windows, one that is watched and one that is not")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each window")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--kernel", action="store_true", help="also in a real kernel, with the real widget")
    options = parser.parse_args(arguments)
    simulated.register()
    kept = True
    for name in CASES:
        if options.only in name:
            found = compare(name, pairs=options.pairs, seconds=options.seconds)
            print(found, flush=True)
            kept = kept and found.is_kept
    if options.kernel and options.only in "kernel":
        for found in kernel.compare(pairs=options.pairs):
            print(found, flush=True)
            kept = kept and found.is_kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
