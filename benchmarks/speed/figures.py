"""Pure arithmetic: ratios of rounds, medians, quartiles, whether a promise holds; and the makespan nobody can beat."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeVar

from benchmarks.speed.subjects import Promise

T = TypeVar("T")

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""By contender and metric: one value per round, in their order. One who failed has fewer."""

HOLDS = "holds"
FAILS = "fails"
UNSURE = "unsure"
UNKNOWN = "not measured"


@dataclass(frozen=True)
class Spread:
    """Of some values: the median, the lower and upper quartile, and how many there are."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Verdict:
    """Whether a promise holds: by its median. It is unsure where the quartiles lie on both sides of the bound."""

    promise: Promise
    spread: Spread | None
    word: str
    why: str = ""


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError where there are none."""
    if not values:
        raise ValueError("nothing was measured: there must be one value at least")
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(median(values), low, high, len(values))


def paired(promise: Promise, rounds: Rounds) -> list[float]:
    """What the promise is about, of each round in which both were measured."""
    ours = _values(rounds, promise.ours)
    if promise.theirs is None:
        return list(ours)
    pairs = zip(ours, _values(rounds, promise.theirs), strict=False)
    if promise.how == "difference":
        return [mine - theirs for mine, theirs in pairs]
    return [mine / theirs for mine, theirs in pairs if theirs]


def judged(promise: Promise, rounds: Rounds, failed: Mapping[str, str]) -> Verdict:
    """The verdict; ``failed`` says of contenders why they have no values."""
    values = paired(promise, rounds)
    if not values:
        sides = (promise.ours, promise.theirs)
        why = [f"{side[0]}: {failed.get(side[0], 'no value')}" for side in sides if side and not _values(rounds, side)]
        return Verdict(promise, None, UNKNOWN, "; ".join(why))
    found = spread(values)
    kept, low_is, high_is = (_kept(promise, value) for value in (found.median, found.low, found.high))
    if low_is != high_is:
        return Verdict(promise, found, UNSURE, f"the median {HOLDS if kept else FAILS}")
    return Verdict(promise, found, HOLDS if kept else FAILS)


def order(contenders: Sequence[T], number: int) -> list[T]:
    """Who comes when in a round: forwards, then backwards, so that whatever grows with time strikes all alike."""
    return list(contenders) if number % 2 == 0 else list(reversed(contenders))


def greedy(durations: Iterable[float], workers: int) -> float:
    """The makespan of items that are given out one by one, in this order, to whoever is free, at no cost at all."""
    free = [0.0] * workers
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _kept(promise: Promise, value: float) -> bool:
    return value >= promise.bound if promise.word == "at least" else value <= promise.bound


def _values(rounds: Rounds, side: tuple[str, str]) -> Sequence[float]:
    contender, metric = side
    return rounds.get(contender, {}).get(metric, ())
