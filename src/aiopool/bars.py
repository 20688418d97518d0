"""Bars at the foot of a terminal: of all jobs that run in this process, one below the other, and lines above them."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from aiopool import writers
from aiopool.html import in_one_line
from aiopool.telemetry import RESTING, JobSnapshot

__all__ = ["Bars", "bars", "is_terminal", "say"]

EVERY = 0.05
"""Seconds between two drawings: pools move their bars each on a thread of its own."""

MOST = 10
"""Bars that are drawn; those of other jobs are counted."""

QUIET = 3.0
"""Seconds after an interrupt in which its jobs have ended, and the traceback stands undisturbed."""

NAME = 40

NARROW = 50
SHORT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt}{postfix}"
"""What is shown where there is no room for a bar."""


class Bars:
    """The lines at the cursor, drawn again and again; the cursor stays at the end of the last of them. Any thread.

    tqdm makes the text. It does not draw: of several bars of which one ends it leaves a torn picture, and it starts a
    thread. Where a bar of the user's own is drawn by tqdm, that shows how far things are, and these stay away.
    """

    def __init__(self) -> None:
        self._bars: dict[object, tuple[JobSnapshot, float | None]] = {}
        self._left: dict[object, float] = {}
        self._drawn: list[int] = []
        self._next = 0.0

    def move(self, key: object, snapshot: JobSnapshot, rate: float | None) -> None:
        """Show a job as it is now; ``rate``: items per second."""
        now = time.monotonic()
        with writers.lock:
            if now < self._left.get(key, 0.0):
                return
            self._bars[key] = snapshot, rate
            # Where nobody reads only the newest picture matters, once somebody does.
            if now >= self._next and not writers.is_behind(sys.stderr):
                self._next = now + EVERY
                self._draw()

    def close(self, key: object, snapshot: JobSnapshot) -> None:
        """The job has ended: its line stays, above those of the others; nothing of a job that was never shown."""
        with writers.lock:
            self._left.pop(key, None)
            if self._bars.pop(key, None) is not None and not _others():
                # What the user reads at last is the average.
                last = _line(snapshot, snapshot.rate, _width(sys.stderr))
                self.above(lambda: writers.write(sys.stderr, f"{last}\n"))
        writers.settle(sys.stderr)

    def above(self, write: Callable[[], object]) -> None:
        """Call ``write``, which writes whole lines, with the bars out of the way."""
        with writers.lock:
            self._erase()
            write()
            if self._bars and not writers.is_behind(sys.stderr):
                self._draw()

    def leave(self) -> None:
        """Somebody was interrupted, and will say so: leave the bars as they are, and a line of its own for that."""
        with writers.lock:
            if self._drawn:
                writers.write(sys.stderr, "\n")
            self._drawn = []
            self._left = dict.fromkeys(self._bars, time.monotonic() + QUIET)
            self._bars.clear()
        writers.settle(sys.stderr)

    def forget(self) -> None:
        """This is a forked child: the bars are the parent's."""
        self.__init__()  # type: ignore[misc]  # all there is to it

    def _draw(self) -> None:
        if _others():
            self._erase()
            return
        _part_with_bars_first()
        width, height = _width(sys.stderr), _height(sys.stderr)
        room = max(1, min(MOST, height - 2))
        shown = list(self._bars.values())[: room if len(self._bars) <= room else room - 1]
        lines = [_line(snapshot, rate, width) for snapshot, rate in shown]
        if len(self._bars) > len(shown):
            lines.append(f"... {len(self._bars) - len(shown)} more jobs"[:width])
        ends = "\x1b[K\n".join(lines)
        writers.write(sys.stderr, f"{self._home()}{ends}\x1b[J")
        self._drawn = [len(line) for line in lines]

    def _erase(self) -> None:
        if self._drawn:
            writers.write(sys.stderr, f"{self._home()}\x1b[J")
            self._drawn = []

    def _home(self) -> str:
        """What moves the cursor to the beginning of the first line."""
        width = _size(sys.stderr)[0]
        # In a window that was made narrower meanwhile a line takes several.
        rows = sum(max(1, -(-length // width)) for length in self._drawn)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")


bars = Bars()
os.register_at_fork(after_in_child=bars.forget)


@functools.cache
def _part_with_bars_first() -> None:
    """Have the traceback of what nobody catches begin on a line of its own, as of Ctrl-C in the body of a loop."""
    shown = sys.excepthook

    @functools.wraps(shown)
    def excepthook(*error: Any) -> None:
        bars.leave()
        shown(*error)

    sys.excepthook = excepthook


def say(text: str, stream: TextIO | None) -> None:
    """Write whole lines to standard output or standard error, above all bars."""
    if is_terminal(stream) and _others():
        from tqdm.std import tqdm

        writers.write_by(functools.partial(tqdm.write, file=stream, end=""), stream, text)
    elif is_terminal(stream):
        bars.above(functools.partial(writers.write, stream, text))
    else:
        writers.write(stream, text)
    writers.settle(stream)


def is_terminal(stream: Any) -> bool:
    """Whether somebody sits in front of it. A script may have closed it, or put anything with ``write`` there."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def _line(snapshot: JobSnapshot, rate: float | None, width: int) -> str:
    from tqdm.std import tqdm  # only a job worth watching pays for it

    notes = [] if snapshot.state in ("running", "done") else [str(snapshot.state)]
    notes += [
        f"{count:,} {what}"
        for count, what in ((snapshot.failed, "failed"), (snapshot.retried, "retried"), (snapshot.resting, RESTING))
        if count
    ]
    notes += ["waiting for a reader"] if snapshot.waits_for_reader and snapshot.state == "running" else []
    noted = ", ".join(notes)
    text: str = tqdm.format_meter(
        snapshot.finished,
        snapshot.total,
        snapshot.elapsed,
        ncols=width,
        prefix=in_one_line(snapshot.title, NAME),
        ascii=not (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf"),
        rate=rate,
        postfix=noted,
        initial=snapshot.taken_over,
        bar_format=SHORT if width - len(noted) < NARROW and snapshot.total else None,
    )
    return text


def _others() -> bool:
    """Whether a bar of the user's own is drawn."""
    std: Any = sys.modules.get("tqdm.std")
    return bool(std is not None and len(getattr(std.tqdm, "_instances", ())))


def _width(stream: Any) -> int:
    # In the last column some terminals go on to the next line; and they echo ^C.
    return max(10, _size(stream)[0] - 3)


def _height(stream: Any) -> int:
    return _size(stream)[1]


def _size(stream: Any) -> tuple[int, int]:
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return 80, 24
    return columns or 80, lines or 24
