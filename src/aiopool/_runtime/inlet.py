"""The way from feeders, on threads of their own, to the pool's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiopool import _payload
from aiopool._runtime.runs import Runs
from aiopool._runtime.thread import IOThread

__all__ = ["Inlet"]


class Inlet:
    """Where feeders put what they make; see :class:`~aiopool._runtime.feeder.Sink`. Any thread."""

    def __init__(self, io: IOThread, runs: Callable[[], Runs]) -> None:
        """``runs`` is asked when the first feeder has something: it needs this one to be made."""
        self._io = io
        self._runs = runs

    def supplied(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """A feeder has made a batch."""
        self._io.call(self._runs().take_supply, job, items, encoded)

    def nudged(self, job: int) -> None:
        """A feeder has begun a part of a batch."""
        self._io.call(self._runs().collect, job)

    def input_ended(self, job: int, total: int) -> None:
        """A feeder has come to the end."""
        self._io.call(self._runs().end_input, job, total)

    def input_broken(self, job: int, total: int, error: BaseException) -> None:
        """Reading raised."""
        self._io.call(self._runs().break_input, job, total, error)
