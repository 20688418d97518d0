"""Throughput in windows of time that are watched and windows that are not, by turns, and what the one is to the other.

Both are of one run, so that a machine that others use, too, is as slow for the one as for the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

PROMISE = 0.95
"""So much of the throughput is left when a panel is on."""

SETTLE = 0.15
"""Seconds between two windows, in which the panel comes or goes."""


@dataclass(frozen=True)
class Window:
    """So many ``items`` have ended in so many ``seconds``; ``watched``: with a panel."""

    watched: bool
    items: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds


@dataclass(frozen=True)
class Ratio:
    """What is left of the throughput when a panel is on: the ``median`` of the pairs, and the quartiles.

    ``rate`` is that of items without it; ``looks`` is how often the panel was refreshed, ``size`` how many bytes it was
    told at most, ``share`` the part of its time for which the pool's thread was at that, in its own processor time.
    """

    name: str
    median: float
    low: float
    high: float
    rate: float
    pairs: int
    looks: int = 0
    size: int = 0
    share: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the promise is."""
        return self.median >= PROMISE

    def __str__(self) -> str:
        told = f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f}, {self.pairs} pairs)"
        more = f"{self.rate:>11,.0f} items/s without, {self.looks} looks"
        more += f" of up to {self.size:,} bytes" if self.size else ""
        more += f", {self.share:.1%} of the pool's thread" if self.share is not None else ""
        return f"{self.name:<34} {told:<36} {more}" + ("" if self.is_kept else f"   BROKEN: less than {PROMISE}")


def turns(pairs: int) -> Iterator[bool]:
    """Watched or not, so many pairs: first the one, then the other comes first, so that a drift strikes both."""
    for number in range(pairs):
        yield from (True, False) if number % 2 else (False, True)


def ratio(name: str, windows: Sequence[Window], *, looks: int = 0, size: int = 0, share: float | None = None) -> Ratio:
    """Pairs of neighbouring windows, each of one that was watched and one that was not."""
    pairs = [windows[at : at + 2] for at in range(0, len(windows) - 1, 2)]
    found = []
    for pair in pairs:
        watched, alone = sorted(pair, key=lambda window: not window.watched)
        if (watched.watched, alone.watched) != (True, False):
            raise ValueError(f"{name}: a pair must be of a window that was watched and one that was not")
        if watched.items and alone.items:
            found.append(watched.rate / alone.rate)
    if not found:
        raise ValueError(f"{name}: nothing ended in any pair of windows")
    low, _, high = quantiles(found, n=4) if len(found) > 1 else found * 3
    rate = median(window.rate for window in windows if not window.watched)
    return Ratio(name, median(found), low, high, rate, len(found), looks, size, share)


def measured(
    count: Callable[[], int], watch: Callable[[bool], Any], *, pairs: int, seconds: float, settle: float = SETTLE
) -> list[Window]:
    """Look at a counter while it is watched, and while it is not; ``watch(on)`` turns the panel on and off."""
    windows = []
    for watched in turns(pairs):
        watch(watched)
        time.sleep(settle)
        began, before = time.perf_counter(), count()
        time.sleep(seconds)
        windows.append(Window(watched, count() - before, time.perf_counter() - began))
    watch(False)  # noqa: FBT003 - off
    return windows
