"""How a worker answers a ping: at once, with what its main thread is inside of, and again when its loop came round.

Asked about once a second while items run. Nothing of it costs an item anything: how long a step has lasted is counted
from the ping that first met it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from aiopool._core import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopool._worker.runner import Runner


class Pulse:
    """Answers pings. On the link thread, but for ``_turned``."""

    def __init__(self, runner: Runner, send: Callable[[frames.Frame], None]) -> None:
        self._runner = runner
        self._send = send
        self._turning = False
        self._met = 0
        self._met_at = 0.0

    def answer(self, ping: frames.Ping) -> None:
        """Say that this process is there. One that asks for no Turned is told no more than that."""
        if not ping.number:
            self._send(frames.Pong())
            return
        code, seconds = self._at_work()
        batch, position = frames.spot_of(code) if code else (0, 0)
        self._send(frames.Pong(ping.number, batch, position, seconds))
        if not self._turning:
            self._turning = True
            self._runner.calls.call_soon_threadsafe(self._turned, ping.number, perf_counter())

    def _at_work(self) -> tuple[int, float]:
        """The item that the main thread is inside of, and for how long at least."""
        entry, now = self._runner.stepping, perf_counter()
        if entry is None:
            self._met = 0
            return 0, 0.0
        job = entry.job
        if job is not None and not job.is_async:
            return entry.code, max(0.0, now - self._runner.began)
        # Of a coroutine, the very same step as long as the loop has not come round since, which forgets it.
        if entry.code != self._met:
            self._met, self._met_at = entry.code, now
        return entry.code, now - self._met_at

    def _turned(self, number: int, asked: float) -> None:
        """The loop has come round. On the main thread."""
        self._turning, self._met = False, 0
        self._send(frames.Turned(number, perf_counter() - asked))
