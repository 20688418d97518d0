"""How a job shows itself in a script: a tqdm bar in a terminal, nothing in a pipe; workers' prints in either."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Self

from aiopool.telemetry import JobSnapshot, News, Progress

__all__ = ["TerminalSurface"]


class TerminalSurface:
    """A bar on standard error, made when the job has run for half a second."""

    owner: str | None = None

    def __init__(self, name: str, *, wanted: bool) -> None:
        self.wanted = wanted
        self._name = name
        self._bar: Any = None

    @classmethod
    def of(cls, name: str, progress: Progress) -> Self:
        """The surface of a job in this script."""
        return cls(name, wanted=bool(progress) and sys.stderr is not None and sys.stderr.isatty())

    def update(self, snapshot: JobSnapshot) -> None:
        """Move the bar."""
        if self._bar is None:
            from tqdm import tqdm  # only a job worth watching pays for it

            self._bar = tqdm(desc=self._name, total=snapshot.total, unit="item", file=sys.stderr, dynamic_ncols=True)
        self._bar.total = snapshot.total
        if snapshot.failed:
            self._bar.set_postfix(failed=snapshot.failed, refresh=False)
        self._bar.update(snapshot.finished - self._bar.n)

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave the bar as it is in the end."""
        if self._bar is not None:
            self.update(snapshot)
            self._bar.close()

    def write(self, worker: int, text: str) -> None:
        """Print the lines above the bar, with the worker's place in front."""
        labelled = "".join(f"[{worker}] {line}\n" for line in text.splitlines())
        if self._bar is not None:
            self._bar.write(labelled, file=sys.stdout, end="")
        elif sys.stdout is not None:
            sys.stdout.write(labelled)
            sys.stdout.flush()

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
    sys.stderr.write(f"{news.text}. {what_now}\n")
    sys.stderr.flush()
