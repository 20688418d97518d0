"""What items wrote down when they started and ended, who was killed when, and whether that fits the promises.

An item that runs in a worker says so with one append to a file; nothing that happens afterwards can take that back.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNSENT = 0.25
"""Seconds: an item that ended so shortly before its worker was killed may not have got its value out."""

STOPPED = 4.0
"""The same, for a worker that was stopped for a while: it had no time of its own meanwhile."""


def note(journal: str, word: str, item: int) -> None:
    """Write one line, in one piece."""
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"{word} {item} {os.getpid()} {time.monotonic():.4f}\n".encode())
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Line:
    """One line of a journal."""

    word: str
    item: int
    pid: int
    at: float


def read(journal: Path) -> list[Line]:
    """Read all lines that items wrote."""
    if not journal.exists():
        return []
    parts = (line.split() for line in journal.read_text().splitlines())
    return [Line(word, int(item), int(pid), float(at)) for word, item, pid, at in parts]


@dataclass
class Deaths:
    """Who was killed when, by process id, and who was ever stopped; times by the monotonic clock."""

    killed: dict[int, float] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)


@dataclass
class Verdict:
    """How many items of a job fared how; ``examples`` of what broke a promise.

    ``unseen``: a ``WorkerLost`` with one death too few, which can be: its worker was killed between the moment at which
    it took the item and the item's first line.
    """

    values: int = 0
    worker_lost: int = 0
    other_errors: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    too_often: int = 0
    unearned: int = 0
    unseen: int = 0
    run_again: int = 0
    examples: list[str] = field(default_factory=list)


def deaths_under(lines: Iterable[Line], deaths: Deaths) -> Counter[int]:
    """How often the worker of an item was killed while the item ran in it, or had only just ended."""
    ended: dict[tuple[int, int], float] = {}
    started: list[Line] = []
    for line in lines:
        if line.word == "end":
            ended[line.item, line.pid] = line.at
        else:
            started.append(line)
    under: Counter[int] = Counter()
    for line in started:
        killed = deaths.killed.get(line.pid)
        if killed is None:
            continue
        margin = STOPPED if line.pid in deaths.stopped else UNSENT
        if ended.get((line.item, line.pid), killed) > killed - margin:
            under[line.item] += 1
    return under


def judge(size: int, *, rerun: bool, lines: list[Line], deaths: Deaths, delivered: list[tuple[int, object]]) -> Verdict:
    """Compare what a job delivered, ``(index, value or error)`` in any order, with what its items wrote down.

    With ``rerun``, an item may start once more for each worker that was killed under it, and ends as ``WorkerLost``
    after two. Without, it starts once at most, and one death is enough.
    """
    verdict = Verdict()
    found: Mapping[int, list[object]] = defaultdict(list)
    for index, value in delivered:
        found[index].append(value)
    starts = Counter(line.item for line in lines if line.word == "start")
    under = deaths_under(lines, deaths)
    for index in range(size):
        answers = found.get(index, [])
        told = f"item {index}: started {starts[index]} times, {under[index]} deaths under it, delivered {answers}"
        for what in _judge_one(index, answers, starts[index], under[index], rerun=rerun):
            setattr(verdict, what, getattr(verdict, what) + 1)
            if what in ("other_errors", "lost", "twice", "wrong", "too_often", "unearned") and (
                len(verdict.examples) < 10
            ):
                verdict.examples.append(f"{what}: {told}")
        verdict.run_again += max(0, starts[index] - 1)
    return verdict


def _judge_one(index: int, answers: list[object], starts: int, under: int, *, rerun: bool) -> Iterable[str]:
    if not answers:
        yield "lost"
    if len(answers) > 1:
        yield "twice"
    if starts > (1 + under if rerun else 1):
        yield "too_often"
    for answer in answers[:1]:
        if not isinstance(answer, BaseException):
            yield "values" if answer == index else "wrong"
        elif type(answer).__name__ != "WorkerLost":
            yield "other_errors"
        else:
            yield "worker_lost"
            needed = 2 if rerun else 1
            if under == needed - 1:
                yield "unseen"
            elif under < needed:
                yield "unearned"
