"""Snapshots of pool and jobs, and the hook through which something shows a job while it runs.

Views pull: a snapshot is taken when somebody looks, at most ten times a second, and the hot path pays nothing for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["JobSnapshot", "News", "PoolSnapshot", "Surface", "WorkerInfo", "new_surface", "use_surfaces"]

Progress = bool | Literal["text"]
JobState = Literal["running", "paused", "done", "failed", "cancelled", "stopped"]
WorkerState = Literal["starting", "idle", "busy", "retiring", "lost"]


def clock(seconds: float) -> str:
    """A duration as people say it: ``0.4 s``, ``12 s``, ``3:07``, ``2:03:10``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True, slots=True, repr=False)
class WorkerInfo:
    """One worker at one moment. ``index`` is its stable place in the pool; ``in_flight`` and ``done`` count items.

    ``fraction``, from 0 to 1, and ``text`` are what an item there reported last of how far it is.
    """

    index: int
    pid: int | None
    state: WorkerState
    in_flight: int
    done: int
    fraction: float | None = None
    text: str = ""

    def __str__(self) -> str:
        """One line, like a status bar."""
        line = f"worker {self.index} (pid {self.pid}) {self.state}, {self.in_flight:,} in flight, {self.done:,} done"
        report = f"{self.fraction:.0%} {self.text}".strip() if self.fraction is not None else self.text
        return f"{line}, {report}" if report else line

    def __repr__(self) -> str:
        return f"<{self}>"


@dataclass(frozen=True, slots=True, repr=False)
class JobSnapshot:
    """One job at one moment.

    ``total`` is None while an unsized input has not ended; ``in_flight`` counts items that run, not those that wait in
    a worker for their turn; ``elapsed`` is in seconds; ``taken_over`` of the ``done`` items come from the job of which
    this one is a retry. ``retried`` counts attempts beyond an item's first.
    """

    id: int
    name: str
    state: JobState
    total: int | None
    done: int
    failed: int
    in_flight: int
    elapsed: float
    taken_over: int = 0
    retried: int = 0

    @property
    def finished(self) -> int:
        """Items that have ended, as a value or as a failure."""
        return self.done + self.failed

    @property
    def rate(self) -> float:
        """Items that ended per second since the job began."""
        return (self.finished - self.taken_over) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the present rate; None where that cannot be known."""
        if self.total is None or self.rate == 0 or self.state != "running":
            return None
        return (self.total - self.finished) / self.rate

    def __str__(self) -> str:
        """One line, like a status bar."""
        of = "" if self.total is None or self.state == "done" else f" of {self.total:,}"
        state = {"running": "" if of else " so far", "done": " done"}.get(self.state, f", {self.state}")
        parts = [f"{self.name}: {self.finished:,}{of}{state}"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.retried:
            parts.append(f"{self.retried:,} retried")
        if self.in_flight and self.state in ("running", "paused"):
            parts.append(f"{self.in_flight:,} in flight")
        parts.append(f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.2g}/s")
        parts.append(clock(self.elapsed))
        if (remaining := self.remaining) is not None and remaining > 0:
            parts.append(f"{clock(remaining)} left")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Job {self}>"


@dataclass(frozen=True, slots=True, repr=False)
class PoolSnapshot:
    """One pool at one moment: its workers and the jobs that have not ended.

    ``size`` is how many workers it may have.
    """

    name: str
    state: Literal["open", "closing", "closed"]
    size: int
    workers: tuple[WorkerInfo, ...]
    jobs: tuple[JobSnapshot, ...]

    def __str__(self) -> str:
        """One line, like a status bar."""
        states = [worker.state for worker in self.workers]
        told = ", ".join(
            f"{states.count(state)} {state}" for state in ("busy", "idle", "starting", "retiring") if state in states
        )
        workers = f"{len(states)} of {self.size} workers" + (f" ({told})" if told else "")
        jobs = f"{len(self.jobs)} job{'' if len(self.jobs) == 1 else 's'}"
        return f"{self.name} {self.state} | {workers} | {jobs}"

    def __repr__(self) -> str:
        return f"<Pool {self}>"


@dataclass(slots=True, eq=False)
class News:
    """What a job that has failed has to say, in case that nobody asks it.

    ``text`` is a sentence. ``heard`` is set when somebody asks. ``of_call``: the job is a single call. ``holder`` lives
    as long as somebody can ask; None: enough time has passed.
    """

    heard: bool = False
    name: str = ""
    text: str = ""
    of_call: bool = False
    holder: weakref.ref[object] | None = None


class Surface(Protocol):
    """Where one job shows itself. All methods are called on the pool's own thread, never on the caller's.

    ``wanted`` says whether it shows how far the job is; otherwise only lines are passed on. ``owner`` is what the job
    belongs to, None where that is not known: what starts again under the same name ends its jobs first.
    """

    wanted: bool
    owner: str | None

    def update(self, snapshot: JobSnapshot) -> None:
        """Show how far the job is; the first call comes half a second in, then at most ten a second."""

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave one line; called once, and also for a job that was never shown."""

    def write(self, worker: int, text: str) -> None:
        """Pass on whole lines that a worker printed."""

    def complain(self, news: News) -> None:
        """Say that the job has failed, unless somebody asks meanwhile; called some time after its end."""


SurfaceFactory = Callable[[str, Progress], Surface | None]
_factories: list[SurfaceFactory] = []


def use_surfaces(factory: SurfaceFactory) -> None:
    """Register who makes surfaces: ``factory(name, progress)``, called where the job is started. The last one wins.

    A factory that returns None leaves the job to the one registered before it.
    """
    _factories.append(factory)


def new_surface(name: str, progress: Progress) -> Surface | None:
    """Make the surface of a job that is being started in this very thread and cell."""
    for factory in reversed(_factories):
        if (surface := factory(name, progress)) is not None:
            return surface
    return None
