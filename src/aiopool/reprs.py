"""How pools, workers, jobs and failures look as the last expression of a cell: as HTML, and as lines of text.

Nested in a list or a dict they stay as short as their ``repr``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from aiopool.html import clipped, escape, folded, in_one_line, plain, preformatted, table
from aiopool.stacks import StackFrame
from aiopool.telemetry import JobSnapshot, PoolSnapshot, WorkerInfo, clock, size

__all__ = [
    "bar",
    "bar_html",
    "failure_html",
    "failure_text",
    "job_html",
    "pool_html",
    "pool_text",
    "pretty",
    "worker_html",
]

BAR = 24
EIGHTHS = " ▏▎▍▌▋▊▉"
FRAMES = 20
"""Lines of a traceback; of a deep one the innermost."""

MESSAGE, PRINTS = 2_000, 20_000
"""Characters."""


class FailureLike(Protocol):
    """What is shown of a failure."""

    @property
    def index(self) -> int:
        """Of the item."""

    @property
    def label(self) -> str:
        """How the input is shown: what the user allows to be seen."""

    @property
    def error(self) -> BaseException:
        """What it failed with."""

    @property
    def attempts(self) -> int:
        """How often it was tried."""

    @property
    def worker(self) -> int | None:
        """Who tried it last."""

    @property
    def prints(self) -> str:
        """What it printed."""


def pretty(printer: Any, short: str, text: Callable[[], str]) -> None:
    """Show ``text`` in IPython where the object is the value of a cell, and what is ``short`` within another one."""
    if len(getattr(printer, "stack", ())) > 1:
        printer.text(short)
        return
    for at, line in enumerate(text().split("\n")):
        if at:
            printer.break_()
        printer.text(line)


def bar(fraction: float | None) -> str:
    """A bar of blocks, always equally wide; nothing where no total is known."""
    if fraction is None:
        return ""
    full, rest = divmod(round(8 * BAR * min(1.0, max(0.0, fraction))), 8)
    return f"▕{('█' * full + (EIGHTHS[rest] if rest else '')).ljust(BAR)}▏"


def bar_html(fraction: float | None) -> str:
    """The same as HTML, where blanks in a row would be one."""
    if fraction is None:
        return ""
    full = round(BAR * min(1.0, max(0.0, fraction)))
    return f"<code>{'█' * full}{'░' * (BAR - full)}</code> "


# --- jobs and workers ----------------------------------------------------------------------------------------------


def job_html(job: JobSnapshot) -> str:
    """One line, with a bar while it runs."""
    return f"<div>{bar_html(_fraction(job))}{escape(str(job))}</div>"


def worker_html(workers: Iterable[WorkerInfo]) -> str:
    """A row for each."""
    titles = ("worker", "state", "item", "in flight", "done", "CPU", "memory", "lag", "pid")
    return table(titles, map(_cells, workers), numbers=(0, 3, 4, 5, 6, 7, 8))


def _cells(worker: WorkerInfo) -> tuple[str, ...]:
    return (
        str(worker.index),
        worker.state,
        _item(worker),
        f"{worker.in_flight:,}",
        f"{worker.done:,}",
        "" if worker.cpu is None else f"{worker.cpu:.0f} %",
        "" if worker.memory is None else size(worker.memory),
        "" if worker.lag is None else clock(worker.lag),
        "" if worker.pid is None else str(worker.pid),
    )


def _item(worker: WorkerInfo) -> str:
    item = "" if worker.item is None else f"item {worker.item}"
    label = in_one_line(worker.label, 80)
    told = [f"{item}: {label}" if item and label else item or label]
    if told[0] and worker.seconds is not None and worker.seconds >= 1:
        told.append(f"for {clock(worker.seconds)}")
    report = "" if worker.fraction is None else f"{worker.fraction:.0%}"
    told.append(f"{report} {in_one_line(worker.text, 80)}".strip())
    return ", ".join(filter(None, told))


def _fraction(job: JobSnapshot) -> float | None:
    if job.total is None or job.state not in ("running", "paused"):
        return None
    return job.finished / job.total if job.total else 1.0


# --- pools ---------------------------------------------------------------------------------------------------------


def pool_html(pool: PoolSnapshot) -> str:
    """Its line, its jobs, its workers."""
    jobs = "".join(map(job_html, pool.jobs[:FRAMES]))
    more = len(pool.jobs) - FRAMES
    left_out = f"<div>and {more:,} more jobs</div>" if more > 0 else ""
    return f"<div><b>Pool</b> {escape(str(pool))}</div>{jobs}{left_out}{worker_html(pool.workers)}"


def pool_text(pool: PoolSnapshot) -> str:
    """The same as lines of text."""
    more = len(pool.jobs) - FRAMES
    return "\n".join(
        [
            f"<Pool {pool}>",
            *(
                f"  {' '.join(filter(None, (bar(_fraction(job)), in_one_line(str(job), 400))))}"
                for job in pool.jobs[:FRAMES]
            ),
            *([f"  and {more:,} more jobs"] if more > 0 else []),
            *(f"  {in_one_line(str(worker), 400)}" for worker in pool.workers),
        ]
    )


# --- failures ------------------------------------------------------------------------------------------------------


def failure_html(failure: FailureLike) -> str:
    """Type, message and input; the lines of the traceback that are the user's; what the item printed."""
    kind, message = _said(failure.error)
    lines = "\n".join(_frames(failure.error))
    printed = plain(clipped(failure.prints, PRINTS))
    return (
        # A message may have lines: that of a worker which died has the last ones of the process.
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere"><b>{escape(kind)}</b>'
        f"{escape(f': {message}' if message else '')}</div>"
        f"<div>{escape(', '.join(_facts(failure)))}</div>"
        + preformatted(lines)
        + (folded("what it printed", preformatted(printed), is_open=printed.count("\n") < 10) if printed else "")
    )


def failure_text(failure: FailureLike) -> str:
    """The same as lines of text."""
    kind, message = _said(failure.error)
    printed = plain(clipped(failure.prints, PRINTS)).rstrip("\n")
    parts = [f"{kind}: {message}" if message else kind, f"  {', '.join(_facts(failure))}"]
    parts += [f"  {line}" for frame in _frames(failure.error) for line in frame.split("\n")]
    parts += ["  printed:", *(f"    {line}" for line in printed.split("\n"))] if printed else []
    return "\n".join(parts)


def _facts(failure: FailureLike) -> Iterator[str]:
    label = in_one_line(failure.label, 120)
    yield f"item {failure.index}: {label}" if label else f"item {failure.index}"
    if failure.worker is not None:
        yield f"worker {failure.worker}"
    if failure.attempts > 1:
        yield f"{failure.attempts} attempts"


def _said(error: BaseException) -> tuple[str, str]:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a __str__ of a user's may do anything, and this is shown for its failure
        message = "its message cannot be shown"
    return type(error).__name__, clipped(plain(message), MESSAGE)


def _frames(error: BaseException) -> list[str]:
    """Each with its line of source, the innermost last."""
    frames = [
        str(StackFrame(frame.filename, frame.lineno or 0, frame.name, (frame.line or "").strip()))
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return frames if len(frames) <= FRAMES else [f"... {len(frames) - FRAMES:,} more", *frames[-FRAMES:]]
