"""What a benchmark is made of: a subject, its contenders, what they measure, and what is promised of it.

This is imported into every process that is measured, so it imports nothing that weighs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

WORKERS = 2
"""Of every pool here, whatever the machine: figures of two machines then differ by the machines."""

OURS = "aiopool"

Turn = Callable[[], Mapping[str, float]]
"""Measures once: its metrics, by name."""


class Size(StrEnum):
    """How much is measured. The tiny one shows that a subject runs; its figures mean nothing."""

    TINY = "tiny"
    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True)
class Contender:
    """Somebody who is measured, in a process of its own.

    ``open`` has everything ready, warm, and gives what measures once; ``distribution`` is what must be installed for
    it. ``fresh``: a new process for every round, for what can be measured only once in a process, or does not rest.
    ``slow``: it takes so long, to start if nothing else, that a quick run does without.
    """

    title: str
    open: Callable[[Size], AbstractContextManager[Turn]]
    distribution: str = ""
    fresh: bool = False
    slow: bool = False


@dataclass(frozen=True)
class Metric:
    """What a number is: ``unit`` as in :data:`~benchmarks.speed.words.UNITS`; ``drawn``: it is in the picture."""

    text: str
    unit: str
    drawn: bool = False


@dataclass(frozen=True)
class Promise:
    """A bound, and what it is held against.

    ``ours`` and ``theirs`` are each a contender and a metric. ``how``: the first divided by the second, the first less
    the second, or, without a second, the first alone; of each round, so that both are of the same half minute.
    """

    line: int
    text: str
    word: Literal["at least", "at most"]
    bound: float
    ours: tuple[str, str]
    theirs: tuple[str, str] | None = None
    how: Literal["ratio", "difference", "alone"] = "ratio"
    unit: str = "times"


@dataclass(frozen=True)
class Subject:
    """Contenders that do the same work, by turns, for so many rounds of each size.

    ``at_once``: all of them at the same time, where each only counts its own processes' time and none is busy.
    ``limit`` is in seconds, of one turn.
    """

    key: str
    title: str
    contenders: tuple[Contender, ...]
    metrics: Mapping[str, Metric]
    promises: tuple[Promise, ...]
    rounds: Mapping[Size, int]
    at_once: bool = False
    limit: float = 120.0


SUBJECTS = (
    "coroutines",
    "panel",
    "functions",
    "submits",
    "sleeps",
    "arrays",
    "puts",
    "cold",
    "imports",
    "idle",
    "memory",
    "streams",
    "uneven",
    "growth",
    "cancels",
    "steps",
    "beside",
)
"""In the order of the lines that they belong to."""


def subject(key: str) -> Subject:
    """The subject of that name; each has a module of its own."""
    found: Subject = importlib.import_module(f"benchmarks.speed.{key}").SUBJECT
    return found
