"""The engine of a map inside a worker: its one worker is this very process, beside the item that called the map.

Frames come and go as with any engine, but what they carry are references: nothing is copied, and nothing has to be
pickled. There is no process to kill, either; how items run and end is told in ``crews``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiopool._core import frames, wire
from aiopool._worker.gathered import Gathered, told
from aiopool._worker.stacks import all_stacks
from aiopool.engines.base import Death, Events, Files, Marks
from aiopool.engines.crews import Coroutines, Threads
from aiopool.engines.entries import Crew, Place

__all__ = ["InsideEngine", "InsideLink"]


class InsideEngine:
    """Makes the worker of one job."""

    name = "inside"
    files: Files | None = None

    def __init__(self, place: Place) -> None:
        self._place = place

    def start(self, _: int, events: Events, __: Mapping[str, str]) -> InsideLink:
        """Begin; there is nothing to set up, and nothing that could take time."""
        return InsideLink(self._place, events)

    def close(self) -> None:
        """Nothing is held."""


class InsideLink:
    """The worker, which looks from the pool like any other. All but ``answer`` is called on the pool's thread."""

    def __init__(self, place: Place, events: Events) -> None:
        self._place = place
        self._events: Events | None = events
        self._parser = wire.Parser()
        self._crews: dict[int, Crew] = {}
        self._handlers: dict[type, Callable[[Any], object]] = {
            frames.Function: self._know,
            frames.Batch: lambda frame: self._crews[frame.job].add(frame),
            frames.AskBack: lambda frame: self._crews[frame.job].hand_back(frame),
            frames.Cancel: self._cancel,
            frames.Forget: lambda frame: self._crews.pop(frame.job, None),
            frames.Ping: lambda frame: self.answer(frames.Pong(frame.number)),
            frames.Environment: lambda _: None,
            frames.AskStacks: self._tell_stacks,
        }
        self.answer(frames.Ready(os.getpid()))

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    @property
    def results(self) -> None:
        """Values are handed over as they are."""

    @property
    def unsent(self) -> int:
        """Nothing waits on the way to oneself."""
        return 0

    def at_work(self) -> None:
        """Nobody looks at these items from outside."""

    def running(self) -> Sequence[int]:
        """The same."""
        return ()

    def marks(self) -> Marks:
        """Nothing is marked for a process that answers to itself."""
        return Marks()

    def begin_dump(self) -> str:
        """This process answers, or nobody is there to ask."""
        return "is this very process"

    def dumped(self) -> str:
        """Nothing."""
        return ""

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take in frames."""
        for frame in self._parser.feed(b"".join(parts)):
            self._handlers[type(frame)](frame)

    def send_at_once(self, _: bytes) -> bool:
        """Frames are taken in on the pool's thread."""
        return False

    def _know(self, frame: frames.Function) -> None:
        crew = Coroutines if frame.flags & frames.Function.ASYNC else Threads
        self._crews[frame.job] = crew(frame, self._place, self.answer)

    def _cancel(self, frame: frames.Cancel) -> None:
        self._crews.pop(frame.job).cancel()
        # At once: what is left of it has been cancelled, or cannot be.
        self.answer(frames.Dropped(frame.job))

    def _tell_stacks(self, frame: frames.AskStacks) -> None:
        def gather(gathered: Gathered) -> None:
            threads = list(all_stacks().values())
            for job, crew in list(self._crews.items()):
                if frame.job in {0, job}:
                    crew.stand(gathered, threads)

        self.answer(frames.Stacks(frame.number, told(gather)))

    def answer(self, frame: frames.Frame) -> None:
        """Send a frame to the pool. Any thread; never before the pool has done with what it is at."""
        self._place.io.call(self._deliver, frame)

    def _deliver(self, frame: frames.Frame) -> None:
        if self._events is not None:
            self._events.received(memoryview(b"".join(wire.encode(frame))))

    def drain_output(self) -> None:
        """What items print here goes where the worker's own prints go."""

    def hang_up(self) -> None:
        """End, as soon as what was answered has been delivered."""
        self._place.io.call(self._die, 0)

    def kill(self) -> None:
        """The same, whatever still runs."""
        for crew in self._crews.values():
            crew.cancel()
        self._place.io.call(self._die, None)

    def _die(self, exitcode: int | None) -> None:
        events, self._events = self._events, None
        self._crews.clear()
        if events is not None:
            events.died(Death(exitcode))
