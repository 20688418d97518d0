"""The rows of a panel and of a dashboard: a job, a worker, a line that was printed, failures of one kind. Pure.

Every text is ready to be shown: in one line, of bounded length, without colours and controls, and without halves of
characters, which no message can carry.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from aiopool.html import clipped, in_one_line, plain
from aiopool.jupyter.state import Button, FailureRow, JobRow, PrintRow, RowState, WorkerRow
from aiopool.surfaces import Printed
from aiopool.telemetry import RESTING, FailureGroup, JobSnapshot, PoolSnapshot, WorkerInfo, clock, size

__all__ = [
    "AlikeView",
    "CallsView",
    "JobView",
    "RowView",
    "counted",
    "failure_key",
    "failure_row",
    "failures_of",
    "is_live",
    "is_over",
    "job_row",
    "print_label",
    "print_row",
    "worker_row",
    "workers_in_words",
]

NAME, LABEL, MESSAGE, LINE = 60, 80, 200, 200
"""Characters of each kind of text."""

FIGURE_SPACE = "\N{FIGURE SPACE}"
"""As wide as a digit: what stands behind a number does not move when it grows."""

_WAITS = "waiting for a reader: nothing more is started until somebody reads the results"
_BAD_ENDS: tuple[RowState, ...] = ("failed", "cancelled", "stopped")
_WORKER_STATES = ("busy", "blocked", "stuck", "idle", "starting", "retiring", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    key: str
    """Names the row in clicks. Its failures are under keys that begin with it."""

    note: str = ""
    """A sentence of its own beside the row; empty: the view says what there is to say."""

    call: str = ""
    """How one of its items is tried here, with ``{}`` for the input: ``await fetch({})``. Empty: nobody knows."""

    held_as: str = ""
    """A variable of the user's that is the job, for :attr:`call`; empty: none is known."""

    asked_to_end: bool = False
    """Whether Cancel was clicked, and the end has not come yet: it says ``cancelling``, and has no buttons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView(_Row):
    """What is known of one map. ``rate``: items per second at present, of a :class:`~aiopool.pace.Pace`.

    ``may_retry``: whether somebody is there who can retry it; a button appears if there is also something to retry.
    ``began``: when, in seconds of the monotonic clock. ``literals``: inputs, by index, as they are written in code.
    """

    snapshot: JobSnapshot
    rate: float | None = None
    may_retry: bool = True
    began: float | None = None
    literals: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsView(_Row):
    """All calls of one function by ``submit``: so many are ``open``, ``done``, ``failed`` and ``cancelled``.

    ``elapsed``: seconds from the start of the first until now, or until the end of the last. ``unshown``: lines that
    those have printed that have ended, and that were not shown.
    """

    name: str
    open: int
    done: int
    failed: int = 0
    cancelled: int = 0
    unshown: int = 0
    elapsed: float = 0.0
    failures: tuple[FailureGroup, ...] = ()


RowView: TypeAlias = JobView | CallsView


@dataclass(frozen=True, slots=True)
class AlikeView:
    """Maps of one name that have ended, and of which nothing can be retried, as one row."""

    views: tuple[JobView, ...]


# --- jobs ----------------------------------------------------------------------------------------------------------


def job_row(row: RowView | AlikeView) -> JobRow:
    """One row of a panel or of a dashboard."""
    if isinstance(row, AlikeView):
        return _alike_row(row)
    return _calls_row(row) if isinstance(row, CallsView) else _map_row(row)


def _map_row(row: JobView) -> JobRow:
    job = row.snapshot
    live = is_live(row)
    total = job.finished if job.state == "done" and job.total is None else job.total
    facts = [_speed(row.rate if live else job.rate), clock(job.elapsed)]
    if job.state == "running" and row.rate and total is not None and total > job.finished:
        facts.append(f"{clock(max(1.0, round((total - job.finished) / row.rate)))} left".replace(".0 s", " s"))
    facts += _counts((job.failed, "failed"), (job.retried, "retried"))
    facts += _counts((job.in_flight, "in flight"), (job.resting, RESTING)) if live else []
    facts += [f"{counted(job.lost, 'worker')} lost"] if job.lost else []
    waits = _WAITS if job.waits_for_reader and live else ""
    return JobRow(
        key=row.key,
        name=in_one_line(job.title, NAME),
        state=job.state,
        word=_word(row, job.state),
        count=_count(job.finished, total),
        fraction=None if total is None else min(1.0, job.finished / total) if total else 1.0,
        failed=min(1.0, job.failed / total) if total else 0.0,
        facts=[fact for fact in facts if fact],
        note=in_one_line(row.note or waits, MESSAGE),
        summary=in_one_line(str(job), 2 * MESSAGE),
        buttons=_buttons(row, job, total),
    )


def _buttons(row: JobView, job: JobSnapshot, total: int | None) -> list[Button]:
    if not is_live(row):
        unfinished = job.failed > 0 or total is None or job.done < total
        return ["retry"] if row.may_retry and unfinished else []
    if row.asked_to_end:
        return []
    return ["resume" if job.state == "paused" else "pause", "cancel"]


def _calls_row(row: CallsView) -> JobRow:
    ended = row.done + row.failed + row.cancelled
    total = ended + row.open
    state: RowState = "running" if row.open else "done"
    if not row.open and not row.done:
        state = "failed" if row.failed else "cancelled"
    name = in_one_line(row.name, NAME)
    counts = _counts((row.failed, "failed"), (row.cancelled, "cancelled"))
    if row.open:
        told = [f"{ended:,} of {counted(total, 'call')}", *counts]
    else:  # As of a map: in the end what is done, what has failed and what was cancelled are figures of their own.
        ends = [end for end in ((row.done, "done"), (row.failed, "failed"), (row.cancelled, "cancelled")) if end[0]]
        (count, what), *others = ends or [(0, "done")]
        told = [f"{counted(count, 'call')} {what}", *_counts(*others)]
    return JobRow(
        key=row.key,
        name=name,
        state=state,
        word=_word(row, state),
        count=_count(ended, total),
        fraction=ended / total if total else None,
        failed=row.failed / total if total else 0.0,
        facts=["calls", clock(row.elapsed), *counts, *_counts((row.open, "open"))],
        note=in_one_line(row.note, MESSAGE),
        summary=f"{name}: {', '.join([*told, clock(row.elapsed)])}",
        buttons=["cancel"] if row.open and not row.asked_to_end else [],
    )


def _alike_row(row: AlikeView) -> JobRow:
    jobs = [view.snapshot for view in row.views]
    name = in_one_line(jobs[0].title, NAME)
    done, failed, retried = (sum(getattr(job, each) for job in jobs) for each in ("done", "failed", "retried"))
    count, lost, seconds = counted(len(jobs), "job"), sum(job.lost for job in jobs), _together(row.views)
    ends = Counter(job.state for job in jobs)
    counts = _counts((failed, "failed"), (retried, "retried"))
    counts += [f"{counted(lost, 'worker')} lost"] if lost else []
    # What of a single one is its state is said of so many of them.
    counts += [f"{counted(ends[state], 'job')} {state}" for state in _BAD_ENDS if ends[state]]
    finished = done + failed - sum(job.taken_over for job in jobs)
    return JobRow(
        key=f"{row.views[0].key}-alike",
        name=name,
        state=next((state for state in _BAD_ENDS if ends[state] == len(jobs)), "done"),
        word=count,
        count=f"{done + failed:,}",
        fraction=1.0,
        failed=failed / (done + failed) if failed else 0.0,
        facts=[fact for fact in (_speed(finished / seconds if seconds else None), clock(seconds), *counts) if fact],
        note="",
        summary=in_one_line(
            ", ".join([f"{name}: {count}", f"{done:,} done in {clock(seconds)}", *counts]), 2 * MESSAGE
        ),
        buttons=[],
    )


def _together(views: Sequence[JobView]) -> float:
    """The seconds from the begin of the first to the end of the last; where that is not known, those of each, added."""
    began = [view.began for view in views if view.began is not None]
    if len(began) < len(views):
        return sum(view.snapshot.elapsed for view in views)
    return max(start + view.snapshot.elapsed for start, view in zip(began, views, strict=True)) - min(began)


def _word(row: RowView, state: str) -> str:
    return "cancelling" if row.asked_to_end and is_live(row) else state


def _count(finished: int, total: int | None) -> str:
    if total is None:
        return f"{finished:,}"
    of = f"{total:,}"
    # A comma is narrower than a digit: not quite still, but nearly.
    return f"{f'{finished:,}'.rjust(len(of), FIGURE_SPACE)} / {of}"


def _counts(*counts: tuple[int, str]) -> list[str]:
    return [f"{count:,} {what}" for count, what in counts if count]


def counted(count: int, what: str) -> str:
    """``1 job``, ``1,234 jobs``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _speed(rate: float | None) -> str:
    """A rate as people say it: ``1,234/s``, ``1.2/s``, ``3.0/min``; nothing where there is none."""
    if not rate:
        return ""
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 0.95:
            return f"{rate * seconds:,.0f}/{unit}" if rate * seconds >= 9.95 else f"{rate * seconds:.1f}/{unit}"
    return f"{rate * 3600:.1f}/h"


def is_over(row: RowView) -> bool:
    """Whether it is a map that has ended, and of which nobody can retry anything."""
    return isinstance(row, JobView) and not is_live(row) and not _map_row(row)["buttons"]


def is_live(row: RowView | AlikeView) -> bool:
    """Whether something of it may still run."""
    if isinstance(row, AlikeView):
        return False
    return row.open > 0 if isinstance(row, CallsView) else row.snapshot.state in ("running", "paused")


# --- failures ------------------------------------------------------------------------------------------------------


def failures_of(rows: Sequence[RowView]) -> list[tuple[RowView, FailureGroup]]:
    """All groups of failures, each with the row to which it belongs."""
    return [
        (row, group)
        for row in rows
        for group in (row.failures if isinstance(row, CallsView) else row.snapshot.failures)
    ]


def failure_key(row: RowView, group: FailureGroup) -> str:
    """The same as long as the group is there, whichever place it has."""
    return f"{row.key}-{zlib.crc32(f'{group.type_name} {group.where}'.encode(errors='replace')):08x}"


def failure_row(row: RowView, group: FailureGroup, *, named: bool) -> FailureRow:
    """One group; ``named`` says of which job it is."""
    title = f"{group.count:,} \N{MULTIPLICATION SIGN} {group.type_name}" if group.count > 1 else group.type_name
    if named:
        title = f"{row.name if isinstance(row, CallsView) else row.snapshot.title}: {title}"
    labels = (*group.labels, *[""] * len(group.items))
    # Of a call the label is its arguments, and it has no number.
    named_items = [f"item {item}" if isinstance(row, JobView) else "" for item in group.items]
    inputs = [": ".join(filter(None, pair)) for pair in zip(named_items, labels, strict=False)]
    inputs = [in_one_line(text, LABEL) for text in inputs if text]
    more = group.count - len(inputs)
    return FailureRow(
        key=failure_key(row, group),
        title=in_one_line(title, NAME + LABEL),
        where=in_one_line(group.where, MESSAGE),
        message=in_one_line(group.message, MESSAGE),
        inputs=inputs,
        more=f"and {more:,} more" if inputs and more > 0 else "",
        hint=_hint(row, group),
    )


def _hint(row: RowView, group: FailureGroup) -> str:
    """How to try the first one here, as a line for a cell: with the input itself, if that is short and plain.

    Else it is found in the job: under the user's name for that, or among those that the session holds, by its number,
    which stays right when others are started. ``failures[0]`` is the first in the order of the input, so it stands for
    the only group; an item of one among several groups is found by its index.
    """
    if isinstance(row, CallsView) or not group.items:
        return ""
    index = group.items[0]
    if literal := row.literals.get(index):
        found = literal
    elif not row.held_as:
        job = f"for j in aiopool.jobs() if j.id == {row.snapshot.id}"
        found = f"next(f.input {job} for f in j.failures if f.index == {index})"
    elif len(row.snapshot.failures) == 1 and group.count == row.snapshot.failed:
        found = f"{row.held_as}.failures[0].input"
    else:
        found = f"next(f.input for f in {row.held_as}.failures if f.index == {index})"
    call = row.call
    if "(*{})" in call and group.labels and group.labels[0].startswith("{"):
        call = call.replace("(*{})", "(**{})")  # A mapping is unpacked as keywords.
    return call.replace("{}", found) if call else found


# --- workers -------------------------------------------------------------------------------------------------------


def worker_row(worker: WorkerInfo, names: dict[int, str] | None = None) -> WorkerRow:
    """One worker. ``names`` of jobs by their number: given where several run, so that an item says of which it is."""
    item = "" if worker.item is None else f"item {worker.item}"
    told = ": ".join(filter(None, (item, in_one_line(worker.label, LABEL))))
    if names and worker.job in names and (told or worker.in_flight):
        told = ", ".join(filter(None, (in_one_line(names[worker.job], NAME // 2), told)))
    age = worker.seconds if worker.in_flight or worker.item is not None else None
    return WorkerRow(
        index=worker.index,
        pid="" if worker.pid is None else str(worker.pid),
        state=worker.state,
        word=worker.state,
        in_flight=f"{worker.in_flight:,}",
        done=f"{worker.done:,}",
        item=told,
        # Shorter than that it would only flicker.
        age=clock(age) if age is not None and age >= 1 else "",
        cpu="" if worker.cpu is None else f"{worker.cpu:.0f} %",
        memory="" if worker.memory is None else size(worker.memory),
        lag="" if worker.lag is None else clock(worker.lag),
        fraction=_fraction(worker.fraction),
        text=in_one_line(worker.text, LABEL),
    )


def _fraction(reported: float | None) -> float | None:
    # An item may have reported anything, and JSON has no word for what is no number.
    if reported is None or not math.isfinite(reported):
        return None
    return round(min(1.0, max(0.0, reported)), 4)


def workers_in_words(pool: PoolSnapshot, *, lost: int = 0) -> str:
    """``8 workers, 7 busy, 1 idle, 2 lost, 310 MB``; ``2 of 8 workers`` where not all have started.

    ``lost``: how many have died; their rows go when others take their places.
    """
    states = [worker.state for worker in pool.workers]
    lost = max(lost, states.count("lost"))
    told = [f"{states.count(state)} {state}" for state in _WORKER_STATES if state in states and state != "lost"]
    told += [f"{lost:,} lost"] if lost else []
    memory = sum(worker.memory or 0 for worker in pool.workers)
    told += [size(memory)] if memory else []
    living = len(states) - states.count("lost")
    of = f"{living:,} of " if living != pool.size else ""
    return ", ".join([f"{of}{counted(pool.size, 'worker')}", *told])


# --- prints ---------------------------------------------------------------------------------------------------------


def print_label(line: Printed, call: str = "") -> str:
    """Who printed it: ``item 7``, ``worker 2``, or the ``call``, the name of the function, where it was submitted."""
    return line.label(call)


def print_row(line: Printed, call: str = "") -> PrintRow:
    """One of the last lines. Make it once, when the line comes."""
    return PrintRow(label=in_one_line(print_label(line, call), NAME), text=_line_of(line.text), error=line.error)


def _line_of(text: str) -> str:
    # Blanks are kept: they line up tables.
    return clipped(plain(clipped(text, 4 * LINE)).replace("\n", " "), LINE)
