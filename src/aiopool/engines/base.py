"""What the pool asks of an engine: start a worker, carry bytes to and from it, say when it has died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Death", "Engine", "Events", "Link", "Marks"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a dead worker had in hand, as its mark page says: codes of (batch, position)."""

    stepping: int | None = None
    running: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended. ``exitcode`` is negative for a signal, as in :mod:`multiprocessing`."""

    exitcode: int | None
    marks: Marks = field(default_factory=Marks)


class Events(Protocol):
    """What an engine reports of one worker, always on the pool's own loop, in this order: bytes, then the death."""

    def received(self, data: memoryview) -> None:
        """Bytes of frames have come from the worker, cut anywhere. The view is valid during the call only."""

    def printed(self, data: bytes) -> None:
        """The worker's process wrote this to its standard output or error, in this order."""

    def died(self, death: Death) -> None:
        """The process is gone and everything that it had written was delivered."""


class Link(Protocol):
    """The pool's end of one worker."""

    @property
    def pid(self) -> int | None:
        """The process id, for messages."""

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Queue the bytes of a frame; never blocks."""

    def drain_output(self) -> None:
        """Report what the process has printed so far, now."""

    def hang_up(self) -> None:
        """Close the way to the worker once everything queued is written: it ends when its work has ended."""

    def kill(self) -> None:
        """End the process now."""


class Engine(Protocol):
    """A maker of workers. All methods are called on the pool's own loop."""

    name: str

    def start(self, index: int, events: Events, variables: Mapping[str, str]) -> Link:
        """Start a worker for place ``index`` of the pool, with these environment variables, and return at once."""

    def close(self) -> None:
        """Every worker has died; give back what the engine itself holds."""
