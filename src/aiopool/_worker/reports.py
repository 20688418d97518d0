"""What items say of how far they are, on its way to the parent: ten times a second at most."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from math import inf, nan
from time import monotonic
from typing import TYPE_CHECKING

from aiopool._core import frames

if TYPE_CHECKING:
    from aiopool._worker.work import Entry

PAUSE_SECONDS = 0.1
"""What passes between two reports of a worker: nobody reads faster."""

LONGEST_TEXT = 1000


class Reports:
    """The latest report of each item that had to wait for its turn. Any thread may put one down.

    ``busy`` is raised while one is being sent. Whoever ends an item marks it as over first and looks at ``busy``
    second; the sender raises it first and looks at the item second. So nothing is said of an item after its end.
    """

    def __init__(self, send: Callable[[frames.Frame], None], wake: Callable[[], None]) -> None:
        self.due = inf
        self.busy = False
        self._send = send
        self._wake = wake
        self._lock = threading.RLock()
        self._waiting: dict[int, tuple[Entry, float | None, str]] = {}
        self._next = 0.0
        self._is_clone = False
        os.register_at_fork(after_in_child=self._be_a_clone)

    def _be_a_clone(self) -> None:
        # An item forked: in the clone its code may say what it likes, but not in the worker's name.
        self._is_clone = True

    def put(self, entry: Entry, fraction: float | None, text: str) -> None:
        """Send it, or keep it in place of what this item said before until it is its turn."""
        if self._is_clone:
            return
        with self._lock:
            now = monotonic()
            if now >= self._next and not self._waiting:
                self._say(entry, fraction, text, now)
                return
            self._waiting[entry.code] = entry, fraction, text
            told = self.due != inf
            self.due = self._next
        if not told:
            self._wake()

    def flush(self, now: float) -> None:
        """Send the one that has waited longest. For the link thread, when it is due."""
        with self._lock:
            while self._waiting and now >= self._next:
                entry, fraction, text = self._waiting.pop(next(iter(self._waiting)))
                self._say(entry, fraction, text, now)
            self.due = self._next if self._waiting else inf

    def settle(self) -> None:
        """Wait for the moment that a report takes to be sent."""
        with self._lock:
            return

    def _say(self, entry: Entry, fraction: float | None, text: str, now: float) -> None:
        self.busy = True
        try:
            if not entry.is_over:
                batch = entry.batch
                said = text[:LONGEST_TEXT].encode("utf-8", "backslashreplace")
                done = nan if fraction is None else fraction
                self._send(frames.Reported(batch.job_id, batch.id, entry.position, done, said))
                self._next = now + PAUSE_SECONDS
        finally:
            self.busy = False
