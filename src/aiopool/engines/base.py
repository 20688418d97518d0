"""What the pool asks of an engine: start a worker, carry bytes to and from it, say when it has died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from aiopool.frozen import frozen

__all__ = ["Death", "Engine", "Events", "Files", "Link", "Marks"]


@frozen
class Marks:
    """What a dead worker had in hand, as its mark page says: codes of (batch, position)."""

    stepping: int | None = None
    running: frozenset[int] = frozenset()


@frozen
class Death:
    """How a worker ended. ``exitcode`` is negative for a signal, as in :mod:`multiprocessing`.

    ``peak`` is the most memory that it had at any time, in bytes, None where that is not known.
    """

    exitcode: int | None
    marks: Marks = Marks()
    peak: int | None = None


@frozen
class Files:
    """The descriptor of the file that an engine's workers have inherited to read shared pages from."""

    arguments: int


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

    @property
    def results(self) -> int | None:
        """The descriptor of the file in which the worker writes shared pages, None where it has none."""

    @property
    def unsent(self) -> int:
        """How many parts of frames wait for room on the way to the worker."""

    def at_work(self) -> int | None:
        """The code of the item that the worker is inside of at this moment, None where there is none."""

    def running(self) -> Sequence[int]:
        """The codes of items that the worker has begun and not ended, of very many not all: to be looked at often."""

    def marks(self) -> Marks:
        """What the worker has in hand at this moment. It needs no answer of the worker's."""

    def begin_dump(self) -> str:
        """Have the process write where its threads are, whatever it does; why it cannot be asked to, else empty."""

    def dumped(self) -> str:
        """What it has written of that so far, in the words of :mod:`faulthandler`."""

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Queue the bytes of a frame; never blocks."""

    def send_at_once(self, data: bytes) -> bool:
        """Write a frame that is not longer than a pipe takes as a whole, behind all others; False: not now. Any thread.

        As :meth:`send`, but for nothing that is told: of a worker that is dead it says the same.
        """

    def drain_output(self) -> None:
        """Report what the process has printed so far, now."""

    def hang_up(self) -> None:
        """Close the way to the worker once everything queued is written: it ends when its work has ended."""

    def kill(self) -> None:
        """End the process now."""


class Engine(Protocol):
    """A maker of workers. All methods are called on the pool's own loop.

    ``files`` are there for as long as it is open, None where workers share no pages with this process.
    """

    name: str
    files: Files | None

    def start(self, index: int, events: Events, variables: Mapping[str, str]) -> Link:
        """Start a worker for place ``index`` of the pool, with these environment variables, and return at once."""

    def close(self) -> None:
        """Every worker has died; give back what the engine itself holds."""
