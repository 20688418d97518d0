"""How fast a job is at present, and not on the average since its beginning."""

from __future__ import annotations

from collections import deque

from aiopool.telemetry import JobSnapshot

__all__ = ["Pace"]

SECONDS = 10.0
ITEMS = 20
"""The present is so many seconds, or as long as so many items took, whichever is more."""

APART = 0.5
"""Seconds between two moments that are remembered."""


class Pace:
    """Follows the snapshots of one job.

    Workers take a second to start, a server slows down, the last items are the long ones: a rate since the beginning
    tells of this too late. That of a moment jumps. This one is of the last ten seconds, or, where items take long, of
    the last twenty items. While a job is paused it has none, and the time until the first item begins is left out.
    """

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int]] = deque()
        self._paused = False
        self.rate: float | None = None
        """Items that end per second; None where that is not known yet."""

    def note(self, snapshot: JobSnapshot) -> float | None:
        """Look at the job as it is now, and return the rate."""
        now = snapshot.elapsed, snapshot.finished
        if snapshot.state == "paused":
            self._paused, self.rate = True, None
            return None
        if self._paused:
            self._moments.clear()
        moments = self._moments
        if not moments:
            moments.append(now if self._paused else (0.0, snapshot.taken_over))
            self._paused = False
        if len(moments) == 1 and now[1] == snapshot.taken_over and not snapshot.in_flight:
            moments[0] = now  # Workers start.
        if now[1] > moments[-1][1] and now[0] - moments[-1][0] >= APART:
            moments.append(now)
        while len(moments) > 1 and now[0] - moments[1][0] >= SECONDS and now[1] - moments[1][1] >= ITEMS:
            moments.popleft()
        seconds, items = now[0] - moments[0][0], now[1] - moments[0][1]
        self.rate = items / seconds if items > 0 and seconds > 0 else None
        return self.rate
