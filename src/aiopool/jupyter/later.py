"""Doing something a moment later, from whatever thread: what is shown and printed is sent only so often."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["later"]

log = logging.getLogger("aiopool")


class Later:
    """Calls functions when their time has come, on a thread of its own. They must be quick.

    Not on a pool's thread: that may end before, and a kernel's loop is blocked while a cell computes.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.forget()

    def forget(self) -> None:
        """This is a forked child, or the beginning: there is no thread."""
        # Entered again by a finaliser of the user's that prints, which the collector may run at any line. Not by way of
        # the condition, whose __exit__ is Python: Stop may come at its first line, and would leave the lock taken.
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._thread: threading.Thread | None = None

    def call(self, seconds: float, function: Callable[[], object]) -> None:
        """Call it in so many seconds. What it raises is logged."""
        with self._lock:
            due = time.monotonic() + seconds, next(self._numbers), function
            heapq.heappush(self._due, due)
            if self._thread is None:
                run = contextvars.Context().run  # Not pinned to the cell that happens to need it first.
                thread = threading.Thread(target=run, args=(self._run,), name="aiopool-later", daemon=True)
                thread.start()
                self._thread = thread  # Only now: where no thread can be started, the next call tries again.
            elif self._due[0] is due:  # Else it is awake before.
                self._news.notify()

    def _run(self) -> None:
        # Stop belongs to the main thread, which a signal given to this one would not wake.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while True:
            function = self._next()
            try:
                function()
            except Exception:
                log.exception("what was to be shown later failed")

    def _next(self) -> Callable[[], object]:
        with self._lock:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._news.wait(wait)


later = Later()
os.register_at_fork(after_in_child=later.forget)
