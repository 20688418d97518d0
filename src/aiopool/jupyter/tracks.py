"""What a panel knows of each job: as it is now, or as it ended. Without a kernel, and without the job's results."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from aiopool.jupyter.view import CallsView, JobView, RowView
from aiopool.labels import literal
from aiopool.pace import Pace
from aiopool.telemetry import FailureGroup, JobSnapshot

if TYPE_CHECKING:
    from aiopool.jupyter.panel import Panel

__all__ = ["CallsTrack", "MapTrack", "Track"]

FEW = 3
"""Failed inputs of one kind that are named."""

MOST_GROUPS = 20
OTHERS = "others"
"""Kinds of failures of all calls of one function that are told apart, and what the rest is called."""

_keys = itertools.count(1)


class Track(Protocol):
    """One row, in all ``panels`` that show it. Its job is held by others: it would keep all results of a session."""

    key: str
    name: str
    asked_to_end: bool
    panels: list[Panel]

    @property
    def live(self) -> bool:
        """Whether it runs."""

    @property
    def threads(self) -> Collection[int]:
        """Those of the pools on which it runs, if it does."""

    @property
    def view(self) -> RowView | None:
        """As it is to be shown; None before there is anything to show."""

    def look(self, pictures: Mapping[int, JobSnapshot], thread: int) -> None:
        """Take in how things are on the pool of that thread."""

    def jobs(self) -> Iterable[Any]:
        """The jobs, as far as somebody holds them."""


class MapTrack:
    """One map."""

    def __init__(self, name: str) -> None:
        self.key = str(next(_keys))
        self.name = name
        self.live = False
        self.asked_to_end = False
        self.retried = False
        self.panels: list[Panel] = []
        self.snapshot: JobSnapshot | None = None
        self._place = (0, 0)
        self._pace = Pace()
        self._job: weakref.ref[Any] | None = None
        self._call = ""
        self._literals: dict[int, str] | None = None
        self._began = time.monotonic()
        self._ended = False

    def hold(self, job: Any) -> None:
        """This is the job."""
        self._job, self._call = weakref.ref(job), job.call
        # Where the user says how inputs are shown, they are not shown in another way.
        self._literals = None if job.labelled else {}
        self.live = not self._ended

    def begin(self, thread: int, number: int) -> None:
        """It has begun, under that number on the pool of that thread."""
        self._place = thread, number
        self.live = not self._ended

    def look_at(self, job: Any) -> None:
        """Ask the job itself how it is, before its pool tells."""
        if self.snapshot is None:
            self.snapshot = job.snapshot()

    def look(self, pictures: Mapping[int, JobSnapshot], thread: int) -> None:
        """Take in how it is."""
        if self.live and self._place[0] == thread and (snapshot := pictures.get(self._place[1])) is not None:
            self.snapshot = snapshot
            self._pace.note(snapshot)

    @property
    def threads(self) -> tuple[int]:
        """That of its pool."""
        return (self._place[0],)

    def close(self, snapshot: JobSnapshot, _: int = 0) -> None:
        """It has ended."""
        self._ended, self.live, self.snapshot = True, False, snapshot

    def amend(self, snapshot: JobSnapshot) -> None:
        """The same end, told better."""
        self.snapshot = snapshot

    def jobs(self) -> list[Any]:
        """The job, if somebody holds it."""
        job = self._job and self._job()
        return [job] if job is not None else []

    @property
    def view(self) -> JobView | None:
        """As it is to be shown."""
        if self.snapshot is None:
            return None
        self._write_inputs()
        return JobView(
            key=self.key,
            snapshot=self.snapshot,
            rate=self._pace.rate,
            call=self._call,
            literals=self._literals or {},
            held_as=self._name_of_job(),
            began=self._began,
            asked_to_end=self.asked_to_end,
            may_retry=not self.retried and bool(self.jobs()),
        )

    def _write_inputs(self) -> None:
        """Know how the failed inputs that are shown are written in code, as long as somebody holds the job."""
        if self.snapshot is None or not self.snapshot.failures or self._literals is None:
            return
        missing = {group.items[0] for group in self.snapshot.failures if group.items} - self._literals.keys()
        for job in self.jobs() if missing else ():
            for index in missing:
                self._literals[index] = literal(job._failures.input(index))  # noqa: SLF001 - one of those around a job

    def _name_of_job(self) -> str:
        """A variable of the user's that is the job."""
        if self.snapshot is None or not self.snapshot.failures:
            return ""
        for job in self.jobs():
            names = list(vars(sys.modules["__main__"]).items())
            return next((name for name, value in names if value is job and not name.startswith("_")), "")
        return ""


class CallsTrack:
    """All calls of one function: by ``submit``, of which there may be thousands, and by ``broadcast``."""

    def __init__(self, name: str) -> None:
        self.key = str(next(_keys))
        self.name = name
        self.asked_to_end = False
        self.panels: list[Panel] = []
        self._open = self._done = self._failed = self._cancelled = self._unshown = 0
        self._began = self._ended = time.monotonic()
        self._failures: dict[tuple[str, str], FailureGroup] = {}
        self._jobs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._running: Counter[int] = Counter()
        # They begin in the thread of a cell, and end on that of a pool.
        self._lock = threading.RLock()

    @property
    def live(self) -> bool:
        """Whether one of them runs."""
        return self._open > 0

    def enter(self) -> None:
        """Another one has begun."""
        with self._lock:
            if not self._open:
                self.asked_to_end = False
            self._open += 1

    def hold(self, job: Any) -> None:
        """This is its job."""
        with self._lock:
            self._jobs.add(job)

    def begin(self, thread: int, _: int) -> None:
        """One has begun on the pool of that thread. Those that end at once are not told of."""
        with self._lock:
            self._running[thread] += 1

    @property
    def threads(self) -> list[int]:
        """Those of the pools on which some run."""
        return list(self._running)

    def close(self, snapshot: JobSnapshot, thread: int = 0) -> None:
        """One has ended; ``thread``: where it began, if that was told."""
        with self._lock:
            self._open -= 1
            self._running[thread] -= 1
            if self._running[thread] <= 0:
                del self._running[thread]
            self._done += snapshot.done
            # Workers that do not start fail a call without an item that has failed.
            self._failed += max(snapshot.failed, snapshot.state == "failed")
            self._cancelled += snapshot.state in ("cancelled", "stopped")
            self._unshown += snapshot.unshown
            self._ended = time.monotonic()
            for group in snapshot.failures:
                self._count(group)

    def _count(self, group: FailureGroup) -> None:
        key = group.type_name, group.where
        if key not in self._failures and len(self._failures) >= MOST_GROUPS:
            # As of one map: thousands of kinds would be sorted and sent ten times a second.
            key = OTHERS, ""
            group = dataclasses.replace(group, type_name=OTHERS, where="", message="", traceback="")
        known = self._failures.get(key)
        self._failures[key] = group if known is None else _joined(known, group)

    def amend(self, snapshot: JobSnapshot) -> None:
        """The same end of one of them, with labels that were missing."""
        with self._lock:
            for group in snapshot.failures:
                known = self._failures.get((group.type_name, group.where))
                if known is not None:
                    self._failures[group.type_name, group.where] = _joined(known, dataclasses.replace(group, count=0))

    def look(self, pictures: Mapping[int, JobSnapshot], thread: int) -> None:
        """Calls are counted as they begin and end."""

    def jobs(self) -> list[Any]:
        """Those that run."""
        with self._lock:
            return [job for job in self._jobs if not job.done()]

    @property
    def view(self) -> CallsView:
        """As it is to be shown."""
        groups = list(self._failures.values())
        return CallsView(
            key=self.key,
            name=self.name,
            open=self._open,
            done=self._done,
            failed=self._failed,
            cancelled=self._cancelled,
            unshown=self._unshown,
            elapsed=(time.monotonic() if self._open else self._ended) - self._began,
            failures=tuple(sorted(groups, key=lambda group: (group.type_name == OTHERS, -group.count))),
            asked_to_end=self.asked_to_end,
        )


def _joined(known: FailureGroup, group: FailureGroup) -> FailureGroup:
    labels = tuple(filter(None, (*known.labels, *group.labels)))[:FEW]  # Empty ones are amended, and must find room.
    items = (*known.items, *group.items)[:FEW]
    return dataclasses.replace(known, count=known.count + group.count, items=items, labels=labels)
