"""Which jobs a session holds: the last one, those that run, and the last that did not end well."""

from __future__ import annotations

import threading
from typing import Any

from aiopool._runtime.results import Results
from aiopool._runtime.waiters import Callback
from aiopool.job import Job

__all__ = ["registry"]


class Registry:
    """Holds jobs so that a user who let go of one finds it again. Finished ones are let go, their results with them."""

    def __init__(self) -> None:
        self.last: Job[Any] | None = None
        # Entered again by a finaliser of the user's that starts a job.
        self._lock = threading.RLock()
        self._running: dict[int, Job[Any]] = {}
        self._unwell: Job[Any] | None = None

    def add(self, job: Job[Any], results: Results) -> None:
        """A job was started."""
        self.last = job
        try:
            with self._lock:
                self._running[id(job)] = job
            # In the pool's own thread, and not on the loop that started it: that one may be blocked, or closed by then.
            callback = Callback(self._ended, job, loop=None, asks=False)
            if not results.add(callback):
                callback.call()
        except BaseException:
            # Stop, before anybody was asked to tell of the end.
            self._ended(job)
            raise

    def _ended(self, job: Job[Any]) -> None:
        with self._lock:
            if self._running.pop(id(job), None) is not None and job.is_worth_keeping:
                self._unwell = job

    def listing(self) -> list[Job[Any]]:
        """All that are held, in the order in which they were started."""
        running = self.running()
        with self._lock:
            held = {id(job): job for job in (self._unwell, *running, self.last) if job is not None}
        return sorted(held.values(), key=lambda job: job.started)

    def running(self) -> list[Job[Any]]:
        """Those that run, in the order in which they were started."""
        for job in self._running.copy().values():
            # Several presses of Stop may strike while a job is being registered, before anybody was asked to tell.
            if job.done():
                self._ended(job)
        with self._lock:
            return sorted(self._running.values(), key=lambda job: job.started)


registry = Registry()
