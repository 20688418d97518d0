"""What workers print and display, on its way to a cell: to which one, and in how many messages."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from aiopool.jupyter.later import later
from aiopool.surfaces import Displayed

__all__ = ["Audience", "Outlet", "audiences", "coloured", "line_of"]

log = logging.getLogger("aiopool")

EVERY = 0.1
"""Seconds between two messages of lines to one cell."""

FEW = 8
"""Changes between standard output and standard error in one message's time up to which their order is kept."""

RESET = "\x1b[0m"

_CONTROLS = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"  # cursors, titles, links
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def coloured(text: str) -> str:
    """One line for a cell: its colours stay, and nothing else in it is obeyed by who shows it."""
    if text.isprintable():
        return text
    text = _CONTROLS.sub(lambda found: found["colour"] or "", text)
    text = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
    # A colour that was not put back would be that of all lines which follow, of other items, too.
    return f"{text}{RESET}" if "\x1b[" in text and not text.endswith((RESET, "\x1b[m")) else text


def line_of(label: str, text: str) -> str:
    """A line as it stands under a cell."""
    return f"[{label}] {coloured(text)}\n"


Part: TypeAlias = tuple[str, str] | Displayed
"""A line with the name of its stream, or what was displayed between lines."""


class Outlet:
    """Sends lines and displays to one cell, in order: at once, and then ten times a second at most. Any thread."""

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._parts: list[Part] = []
        self._free_at = 0.0
        self._alarm = False

    def put(self, parts: Iterable[Part]) -> None:
        """Send these, now or with what comes in the next tenth of a second."""
        with self._lock:
            self._parts += parts
            self._flush_in_time()

    def _flush_in_time(self) -> None:
        wait = self._free_at - time.monotonic()
        if wait <= 0:
            self.flush()
        elif not self._alarm:
            self._alarm = True
            later.call(wait, self._ring)

    def _ring(self) -> None:
        with self._lock:
            self._alarm = False
            if self._parts:  # The alarm may come late, after others have sent.
                self._flush_in_time()

    def flush(self) -> None:
        """Send what waits: a job ends, or the cell."""
        with self._lock:
            if not self._parts:
                return
            parts, self._parts = self._parts, []
            self._free_at = time.monotonic() + EVERY
            lines: list[tuple[str, str]] = []
            for part in parts:
                if isinstance(part, Displayed):
                    self._stream(lines)
                    lines = []
                    self._show(part)
                else:
                    lines.append(part)
            self._stream(lines)

    def _show(self, shown: Displayed) -> None:
        transient = {"display_id": shown.display_id} if shown.display_id else {}
        content = {"data": dict(shown.data), "metadata": dict(shown.metadata), "transient": transient}
        self._try("update_display_data" if shown.update else "display_data", content)

    def _try(self, kind: str, content: dict[str, Any]) -> None:
        """Send it. What no message can carry, such as half of a character, must not take the others with it."""
        try:
            self._send(kind, content)
        except Exception:
            log.exception("what a worker has printed or displayed cannot be shown")

    def _stream(self, lines: list[tuple[str, str]]) -> None:
        if sum(a[0] != b[0] for a, b in itertools.pairwise(lines)) > FEW:
            # Each change is a message, and in the notebook an output of its own.
            lines = sorted(lines, key=lambda line: line[0], reverse=True)
        at = 0
        while at < len(lines):
            name, upto = lines[at][0], at
            while upto < len(lines) and lines[upto][0] == name:
                upto += 1
            self._try("stream", {"name": name, "text": "".join(text for _, text in lines[at:upto])})
            at = upto


class Audience:
    """Where what one job prints goes: to the cell that waits for it, the last one if several do; else to its own."""

    def __init__(self, home: Any) -> None:
        self._home = home
        self._guests: tuple[Any, ...] = ()
        # Entered again by a finaliser of the user's that waits for the job.
        self._lock = threading.RLock()

    @property
    def cell(self) -> Any:
        """The cell."""
        guests = self._guests
        return guests[-1] if guests else self._home

    def join(self, cell: Any) -> Callable[[], None] | None:
        """Somebody begins to wait in this cell; returns what to call when that is over."""
        if cell is self._home and not self._guests:
            return None
        with self._lock:
            before, self._guests = self.cell, (*self._guests, cell)
        before.outlet.flush()  # What comes later there would be read as printed later.
        return functools.partial(self._leave, [cell])

    def _leave(self, once: list[Any]) -> None:
        with self._lock:
            left, once[:] = list(once), []
            for cell in left:
                guests = list(self._guests)
                if cell in guests:
                    guests.reverse()
                    guests.remove(cell)
                    guests.reverse()
                self._guests = tuple(guests)
        for cell in left:
            cell.outlet.flush()


audiences: weakref.WeakKeyDictionary[object, Audience] = weakref.WeakKeyDictionary()
"""Of each job, by its results: what a wait knows of it."""
