"""What the items of a job print, on its way to where the job shows itself: not more than somebody can read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aiopool._runtime.output import Event, Picture, Text, Warned
from aiopool._runtime.views import on_surface
from aiopool.stacks import cell_name
from aiopool.surfaces import Displayed, Printed, Surface

if TYPE_CHECKING:
    from aiopool._core.workers import WorkerBook
    from aiopool._runtime.proxy import WorkerProxy
    from aiopool._runtime.runs import Runs

__all__ = ["Voice", "Voices"]

BURST_LINES = 2_000
LINES_PER_SECOND = 500
BURST_CHARS = 1 << 20
CHARS_PER_SECOND = 256 * 1024
"""What of a job is shown at once, and then every second. The rest is counted."""

PICTURE_LINES = 20
PICTURE_SHARE = 16
"""What a picture counts for: so many lines, and a part of its characters, which nobody has to read."""

MOST_WARNINGS = 1_000
"""How many different warnings of a job are known; others are only counted."""

TOLD_WARNINGS = 3

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?=: )")


class Voice:
    """What one job has to say. It may be used after the job's end, for what its workers print on their own.

    ``of_items``: not of a function that runs once on every worker. ``unshown`` counts lines that nobody saw.
    """

    def __init__(self, surface: Surface | None, *, of_items: bool) -> None:
        self.surface = surface
        self.unshown = 0
        self._of_items = of_items
        self._lines = float(BURST_LINES)
        self._chars = float(BURST_CHARS)
        self._at = time.monotonic()
        self._waiting: list[Printed] = []
        self._warnings: dict[str, int] = {}
        self._more_warnings = 0
        self._pictures = 0

    def say(self, worker: int, item: int | None, lines: Sequence[str], *, error: bool) -> None:
        """Lines of an item, or of the worker itself."""
        if count := self._room(lines):
            item = item if self._of_items else None
            self._waiting += [Printed(worker, item, line, error) for line in lines[:count]]
        if count < len(lines):
            if not self.unshown:
                limit = f"more than {LINES_PER_SECOND:,} lines or {CHARS_PER_SECOND // 1024} KiB a second"
                self._note(f"{limit}: from here on not all of them are shown")
            self.unshown += len(lines) - count

    def warn(self, worker: int, item: int | None, text: str) -> None:
        """A warning: shown if it is the first of its like."""
        if text in self._warnings:
            self._warnings[text] += 1
        elif len(self._warnings) >= MOST_WARNINGS:
            self._more_warnings += 1
        else:
            self._warnings[text] = 0
            self.say(worker, item, _placed(text).split("\n"), error=True)

    def show(self, worker: int, item: int | None, content: bytes) -> None:
        """Something that was displayed."""
        self._refill()
        if self._lines < PICTURE_LINES or self._chars <= 0:
            self._pictures += 1
            return
        try:
            # NaN and the like are no JSON, and a browser has no place for them.
            told = json.loads(content, parse_constant=lambda _: None)
            item = item if self._of_items else None
            data, metadata = dict(told["data"]), dict(told["metadata"])
            shown = Displayed(worker, item, data, metadata, str(told["display_id"]), bool(told["update"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            self._pictures += 1  # It was not our code that has sent this.
            return
        self._lines -= PICTURE_LINES
        self._chars -= len(content) / PICTURE_SHARE
        self.flush()
        on_surface(self.surface, "display", shown)

    def flush(self) -> None:
        """Pass on what was said."""
        if self._waiting:
            lines, self._waiting = self._waiting, []
            on_surface(self.surface, "write", lines)

    def end(self) -> None:
        """The job has ended: say what was not shown of it."""
        if not (self.unshown or self._pictures or self._warnings or self._more_warnings):
            self.flush()
            return
        if self.unshown:
            self._note(f"{self.unshown:,} lines were not shown")
        if self._pictures:
            self._note(f"{self._pictures:,} displays were not shown: there were too many")
        repeated = [(text, count) for text, count in self._warnings.items() if count]
        for text, count in repeated[:TOLD_WARNINGS]:
            first, *_ = _placed(text).split("\n")
            self._note(f"{_times(count)} more: {first}")
        if rest := sum(count for _, count in repeated[TOLD_WARNINGS:]) + self._more_warnings:
            self._note(f"{rest:,} more warnings, most of them like those above")
        self.flush()

    def _note(self, text: str) -> None:
        self._waiting.append(Printed(0, None, text, error=True, name="aiopool"))

    def _refill(self) -> None:
        now = time.monotonic()
        seconds, self._at = now - self._at, now
        self._lines = min(BURST_LINES, self._lines + seconds * LINES_PER_SECOND)
        self._chars = min(BURST_CHARS, self._chars + seconds * CHARS_PER_SECOND)

    def _room(self, lines: Sequence[str]) -> int:
        """How many of these lines may be shown now; they are taken off what may be shown."""
        self._refill()
        most = min(len(lines), int(self._lines))
        count = 0
        while count < most and self._chars > 0:
            self._chars -= len(lines[count]) + 1
            count += 1
        self._lines -= count
        return count


def _placed(warning: str) -> str:
    """A warning as Python shows it, with the name of the cell in the place of its file."""
    found = _PLACE.match(warning)
    cell = cell_name(found["file"]) if found is not None else None
    return f"{cell}, line {found['line']}{warning[found.end() :]}" if found is not None and cell else warning


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


class Voices:
    """Gives what workers print to the jobs that it belongs to. ``books`` are the ledger's."""

    def __init__(self, runs: Runs, books: Mapping[int, WorkerBook]) -> None:
        self._runs = runs
        self._get = runs.get
        self._books = books

    def take(self, worker: WorkerProxy, events: Sequence[Event]) -> None:
        """Pass on what a worker has printed."""
        touched: dict[int, Voice] = {}
        for event in events:
            run = self._get(event.job) if event.job else None
            voice = run.voice if run is not None else self._own(worker)
            if voice is None:
                continue
            item = event.item if run is not None else None
            touched[id(voice)] = voice
            if isinstance(event, Text):
                voice.say(worker.index, item, event.lines, error=event.error)
            elif isinstance(event, Warned):
                voice.warn(worker.index, item, event.text)
            elif isinstance(event, Picture):
                voice.show(worker.index, item, event.content)
        for voice in touched.values():
            voice.flush()

    def _own(self, worker: WorkerProxy) -> Voice | None:
        """What is no item's goes to the job that the worker was given last."""
        book = self._books.get(worker.id)
        if book is not None and book.batches:
            run = self._get(next(reversed(book.batches.values())).job.id)
            if run is not None:
                worker.voice = run.voice
        elif worker.voice is None:
            # It prints before its first item, in an initializer: shown with the job that had it started.
            worker.voice = next((run.voice for run in self._runs), None)
        return worker.voice
