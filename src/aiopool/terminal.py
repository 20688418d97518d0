"""How a job shows itself in a script: a bar in a terminal, now and then a line in a log; and what its workers print."""

from __future__ import annotations

import contextvars
import itertools
import os
import sys
import weakref
from collections.abc import Sequence
from typing import Any, Self

from aiopool.bars import bars, is_terminal, say
from aiopool.html import plain
from aiopool.pace import Pace
from aiopool.surfaces import Displayed, News, Printed, Progress, View
from aiopool.telemetry import Block, JobSnapshot, PoolSnapshot

__all__ = ["TerminalSurface", "interrupted"]

FIRST_LINE = 5.0
LONGEST = 30.0
"""Seconds until the first line in a log, which are also those until the second; then more and more, up to these."""


def interrupted() -> None:
    """Somebody who waited for a job was interrupted, and an exception is about to say so on a line of its own."""
    bars.leave()


class _Bar:
    """A view: a bar at the foot of the terminal, half a second in."""

    is_open = True

    def __init__(self) -> None:
        self.number = 0
        self._pace = Pace()

    def refresh(self, pool: PoolSnapshot, _: Sequence[Block]) -> None:
        """Move it."""
        for snapshot in pool.jobs:
            if snapshot.id == self.number:
                bars.move(self, snapshot, self._pace.note(snapshot))

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave it as it is in the end."""
        bars.close(self, snapshot)


class _Lines:
    """A view: lines on standard error, for a file, a pipe, the log of a CI. A short job writes none."""

    is_open = True

    def __init__(self) -> None:
        self.number = 0
        self._due = self._gap = FIRST_LINE

    def refresh(self, pool: PoolSnapshot, _: Sequence[Block]) -> None:
        """Write one, if it is time."""
        for snapshot in pool.jobs:
            if snapshot.id == self.number and snapshot.elapsed >= self._due:
                self._write(snapshot)
                self._due = snapshot.elapsed + self._gap
                self._gap = min(LONGEST, self._gap * 1.5)

    def close(self, snapshot: JobSnapshot) -> None:
        """Write how it has ended, if there is a line of how it went."""
        if self._due > FIRST_LINE:
            self._write(snapshot)

    def _write(self, snapshot: JobSnapshot) -> None:
        waits = ", waiting for a reader" if snapshot.waits_for_reader and snapshot.state == "running" else ""
        say(f"{plain(str(snapshot))}{waits}\n", sys.stderr)


class TerminalSurface:
    """Shows a job on standard error; lines of its workers go where they would go without workers."""

    owner: str | None = None

    def __init__(self, name: str, *, view: _Bar | _Lines | None = None, as_one: bool = False) -> None:
        self.view: View | None = view
        self.is_silent = view is None
        self._shown = view
        self._call = name if as_one else ""

    @classmethod
    def of(cls, name: str, *, progress: Progress, of_call: bool = False, as_one: bool = False) -> Self:
        """The surface of a job in this script; calls by submit show nothing."""
        if not progress or of_call or sys.stderr is None:
            return cls(name, as_one=as_one)
        bar = progress != "text" and is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        return cls(name, view=_Bar() if bar else _Lines(), as_one=as_one)

    def hold(self, job: Any) -> None:
        """There are no buttons here."""

    def begin(self, number: int) -> None:
        """Know the job by its number."""
        if self._shown is not None:
            self._shown.number = number

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave one line."""
        if self._shown is not None:
            self._shown.close(snapshot)

    def amend(self, snapshot: JobSnapshot) -> None:
        """No labels are shown here."""

    def write(self, lines: Sequence[Printed]) -> None:
        """Print the lines, above the bars, each with who said it in front."""
        for error, some in itertools.groupby(lines, key=lambda line: line.error):
            text = "".join(f"[{line.label(self._call)}] {line.text}\n" for line in some)
            say(text, sys.stderr if error else sys.stdout)

    def display(self, shown: Displayed) -> None:
        """Print the text that stands for it."""
        text = str(shown.data.get("text/plain", ""))
        self.write([Printed(shown.worker, shown.item, line) for line in text.splitlines()])

    def complain(self, news: News) -> None:
        """Say it on standard error: of a call when its handle is let go of, or at the end of the script."""
        holder = news.holder and news.holder()
        if holder is None:
            _complain(news)
        else:
            weakref.finalize(holder, _complain, news)


def _complain(news: News) -> None:
    if news.heard or sys.stderr is None:
        return
    news.heard = True
    what_now = "Nobody waited for it." if news.of_call else "aiopool.jobs() has the job: .failures, .retry()"
    # In a worker this is nobody's line, and not that of the item in which the collector happens to run.
    contextvars.Context().run(say, f"{news.text}. {what_now}\n", sys.stderr)
