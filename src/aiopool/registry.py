"""Which jobs a session holds: the last one, those that run, and the last that did not end well."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from aiopool._runtime.calls import Call
from aiopool._runtime.results import Results
from aiopool._runtime.waiters import END
from aiopool.job import Job

__all__ = ["registry"]

log = logging.getLogger("aiopool")


class _Held:
    """Waits for the end of a job that is held, and does not ask how that was.

    It hears of it in the pool's own thread, and not on the loop that started it, which may be blocked, or closed by
    then. There may be thousands, so each is as little as it can be.
    """

    __slots__ = ("_job", "_registry")

    wants = END
    asks = False

    def __init__(self, registry: Registry, job: Job[Any]) -> None:
        self._registry = registry
        self._job = job

    def tell(self) -> None:
        """It has ended."""
        try:
            self._registry.ended(self._job)
        except Exception:
            log.exception("the end of %s cannot be noted", self._job.name)


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
            if not results.add(_Held(self, job)):
                self.ended(job)
        except BaseException:
            # Stop, before anybody was asked to tell of the end.
            self.ended(job)
            raise

    def hold(self, job: Job[Any], call: Call) -> None:
        """A call is about to start, of which nothing is to be kept once it has ended."""
        # First this: Stop may come at any line, and who lets go of it goes by that.
        call.key, call.held_in = id(job), self._running
        self._running[call.key] = job

    def ended(self, job: Job[Any]) -> None:
        """A job has ended."""
        with self._lock:
            if self._running.pop(id(job), None) is not None and job.is_worth_keeping:
                self._unwell = job

    def forget(self) -> None:
        """This is a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()

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
                self.ended(job)
        with self._lock:
            return sorted(self._running.values(), key=lambda job: job.started)


registry = Registry()
os.register_at_fork(after_in_child=registry.forget)
