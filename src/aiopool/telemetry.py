"""Snapshots of pool and jobs: frozen pictures, taken when somebody looks."""

from __future__ import annotations

from typing import Any, Literal

from aiopool.frozen import frozen

__all__ = ["Block", "CallsSnapshot", "FailureGroup", "JobSnapshot", "PoolSnapshot", "WorkerInfo"]

JobState = Literal["running", "paused", "done", "failed", "cancelled", "stopped"]
WorkerState = Literal["starting", "idle", "busy", "blocked", "stuck", "retiring", "lost"]

RESTING = "waiting to run again"
"""What is said of items whose last attempt has failed, and whose next one has not come."""


def clock(seconds: float) -> str:
    """A duration as people say it: ``0.4 s``, ``12 s``, ``3:07``, ``2:03:10``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """A number of bytes as people say it: ``0.4 MB``, ``310 MB``, ``3.1 GB``."""
    megabytes = count / 1e6
    if megabytes >= 999.5:
        return f"{megabytes / 1e3:,.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 9.95 else f"{megabytes:.1f} MB"


@frozen
class WorkerInfo:
    """One worker at one moment. ``index`` is its stable place in the pool; ``in_flight`` and ``done`` count items.

    ``blocked``: a coroutine has held the worker's loop for more than a second; ``stuck``: the worker does not answer,
    because something there holds the interpreter, or because it was stopped.

    ``fraction``, from 0 to 1, and ``text`` are what an item there reported last of how far it is. Measured once a
    second while items run, None before: ``memory`` in bytes, of the process itself without its children; ``cpu`` in
    percent of one core; ``lag``, the seconds that the loop of a worker of coroutines took to come round.

    ``item`` is the index of the item that the process is inside of, with the ``seconds`` for which it is known to be:
    of a ``def``, and of a coroutine that holds its loop. Of coroutines that wait, and of functions in threads, it is
    the one that has run longest, with the ``seconds`` since it was first seen there: workers are looked at once a
    second, and whenever somebody looks. ``job`` is the number of its job, ``label`` how its input is shown: empty until
    that is known, for ``label=`` and ``__repr__`` are code of the user's, which runs elsewhere meanwhile.
    """

    index: int
    pid: int | None
    state: WorkerState
    in_flight: int
    done: int
    fraction: float | None = None
    text: str = ""
    memory: int | None = None
    cpu: float | None = None
    lag: float | None = None
    item: int | None = None
    seconds: float | None = None
    job: int | None = None
    label: str = ""

    def __str__(self) -> str:
        """One line, like a status bar."""
        pid = "" if self.pid is None else f" (pid {self.pid})"
        parts = [f"worker {self.index}{pid} {self.state}"]
        if self.item is not None and self.seconds is not None and self.seconds >= 1:
            parts.append(f"item {self.item} for {clock(self.seconds)}")
        if self.memory is not None:
            parts.append(size(self.memory))
        parts += [f"{self.in_flight:,} in flight", f"{self.done:,} done"]
        report = f"{self.fraction:.0%} {self.text}".strip() if self.fraction is not None else self.text
        return ", ".join([*parts, report] if report else parts)

    def __repr__(self) -> str:
        return f"<{self}>"

    def _repr_html_(self) -> str:
        from aiopool import reprs  # only who looks at it pays for it

        return reprs.worker_html([self])


@frozen
class FailureGroup:
    """Failures of one job that have the type and the line in common, ``count`` of them.

    ``where`` is the last line of the user's own in the traceback, as ``Cell In[3], line 4, in fetch`` or ``parse.py,
    line 4, in parse``; where none is the user's, the last of all; empty where there is no traceback. ``message``, one
    line, and ``traceback`` are those of the first: the user's lines with the right one marked, those of what caused the
    error before them. ``items`` are the indices of the first three, ``labels`` how their inputs are shown, ``""`` until
    that is known. There are twenty groups at most; what else has failed is counted in one more, named ``others``.
    """

    type_name: str
    where: str
    message: str
    count: int
    items: tuple[int, ...]
    labels: tuple[str, ...]
    traceback: str


@frozen
class Block:
    """What one worker did for a while: ``count`` items of one job, of which ``failed`` have failed.

    ``start`` and ``end`` are in seconds of the monotonic clock; ``item`` is the index of the first, ``name`` the job's.
    Items that end within a moment are one block, and so are calls of one function by ``submit``: ``job`` is the first
    one's then. Blocks of coroutines lie upon each other.
    """

    worker: int
    job: int
    name: str
    item: int
    count: int
    failed: int
    start: float
    end: float


@frozen
class JobSnapshot:
    """One job at one moment.

    ``total`` is None while an unsized input has not ended; ``in_flight`` counts items that run, not those that wait in
    a worker for their turn; ``elapsed`` is in seconds; ``taken_over`` of the ``done`` items come from the job of which
    this one is a retry. ``retried`` counts attempts beyond an item's first, ``lost``
    the workers that died by themselves after they had been given items of it. ``failures`` are in groups, the most
    frequent first. ``waits_for_reader``: so many results wait for somebody to read them that nothing more is started.
    ``unshown`` counts lines that were printed, and not shown, because they were too many; ``resting`` items whose last
    attempt has failed, and whose next one has not come.
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
    lost: int = 0
    failures: tuple[FailureGroup, ...] = ()
    waits_for_reader: bool = False
    unshown: int = 0
    resting: int = 0

    @property
    def title(self) -> str:
        """Its name, and whether it is a retry: otherwise two lines of a panel would say different things of one job."""
        return f"{self.name} (retry)" if self.taken_over else self.name

    @property
    def finished(self) -> int:
        """Items that have ended, as a value or as a failure."""
        return self.done + self.failed

    @property
    def rate(self) -> float:
        """Items that ended per second since the job began; a panel shows that of the last seconds."""
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
        # In the end what is done and what has failed are two figures; before, what has failed is part of how far it is.
        count = self.finished if self.state in ("running", "paused") else self.done
        parts = [f"{self.title}: {count:,}{of}{state}"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.retried:
            parts.append(f"{self.retried:,} retried")
        if self.lost:
            parts.append(f"{self.lost:,} worker{'' if self.lost == 1 else 's'} lost")
        if self.in_flight and self.state in ("running", "paused"):
            parts.append(f"{self.in_flight:,} in flight")
        if self.resting:
            parts.append(f"{self.resting:,} {RESTING}")
        parts.append(f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.2g}/s")
        parts.append(clock(self.elapsed))
        if (remaining := self.remaining) is not None and remaining > 0:
            parts.append(f"{clock(remaining)} left")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Job {self}>"

    def _repr_html_(self) -> str:
        from aiopool import reprs

        return reprs.job_html(self)


@frozen
class CallsSnapshot:
    """Calls of one function by ``submit`` that have not ended, counted: so many are ``open``.

    ``elapsed`` is in seconds since the first of them began; ``at_work`` are the numbers of those that workers are
    inside of, as far as their rows tell.
    """

    name: str
    open: int
    elapsed: float
    at_work: tuple[int, ...] = ()


@frozen
class PoolSnapshot:
    """One pool at one moment: its workers and the jobs that have not ended.

    ``size`` is how many workers it may have; ``lost`` counts those that died without having been told to. One that
    has just died so has a row, in state ``lost``, for three seconds, or until another one in its place is up.

    ``jobs`` are all there are where somebody asks, with ``pool.snapshot()``. Views are shown a pool ten times a second:
    for them two and more calls of one function by ``submit`` are counted in ``calls``, and not among the ``jobs``.
    """

    name: str
    state: Literal["open", "closing", "closed"]
    size: int
    workers: tuple[WorkerInfo, ...]
    jobs: tuple[JobSnapshot, ...]
    lost: int = 0
    calls: tuple[CallsSnapshot, ...] = ()

    @property
    def open_jobs(self) -> int:
        """How many jobs have not ended, each call by ``submit`` counted."""
        return len(self.jobs) + sum(calls.open for calls in self.calls)

    @property
    def names(self) -> dict[int, str]:
        """What the jobs are called, by number; of calls that are only counted, those that workers are inside of."""
        counted = {number: calls.name for calls in self.calls for number in calls.at_work}
        return {job.id: job.name for job in self.jobs} | counted

    def __str__(self) -> str:
        """One line, like a status bar."""
        states = [worker.state for worker in self.workers]
        told = ", ".join(
            f"{states.count(state)} {state}"
            for state in ("busy", "blocked", "stuck", "idle", "starting", "retiring")
            if state in states
        )
        workers = f"{len(states)} of {self.size} workers" + (f" ({told})" if told else "")
        jobs = f"{self.open_jobs:,} job{'' if self.open_jobs == 1 else 's'}"
        return f"{self.name} {self.state} | {workers} | {jobs}"

    def __repr__(self) -> str:
        return f"<Pool {self}>"

    def _repr_html_(self) -> str:
        from aiopool import reprs

        return reprs.pool_html(self)

    def _repr_pretty_(self, printer: Any, _: bool) -> None:  # noqa: FBT001 - as IPython calls it
        from aiopool import reprs

        reprs.pretty(printer, repr(self), lambda: reprs.pool_text(self))
