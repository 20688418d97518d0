"""Workers that are none: they answer at once, on the pool's own thread. So many can be had of them on any machine.

What they leave to be measured is the pool's own thread, which is never idle then: the worst case for who is watched.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache

from aiopool import _payload
from aiopool._core import frames, wire
from aiopool.engines import registry
from aiopool.engines.base import Death, Events, Marks

LANES = 100
ITEM_SECONDS = 2e-5


class SimulatedEngine:
    """Makes them."""

    name = "simulated"
    files = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(self, _: int, events: Events, __: Mapping[str, str]) -> SimulatedLink:
        """Another one."""
        return SimulatedLink(self._loop, events)

    def close(self) -> None:
        """Nothing is held."""


class SimulatedLink:
    """One worker: every batch has ended by the next turn of the loop, with None for each item."""

    unsent = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        self.pid = os.getppid()  # Of a process that can be measured, as a worker is.
        self._loop = loop
        self._events: Events | None = events
        self._parser = wire.Parser()
        self._running: list[int] = []
        self._answer(frames.Ready(self.pid))

    def at_work(self) -> int | None:
        """The first of those that run."""
        return self._running[0] if self._running else None

    def running(self) -> Sequence[int]:
        """As many as there would be lanes."""
        return self._running

    def marks(self) -> Marks:
        """Nothing."""
        return Marks()

    def begin_dump(self) -> str:
        """It cannot."""
        return "is none"

    def dumped(self) -> str:
        """Nothing."""
        return ""

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take in frames, and answer them later."""
        for frame in self._parser.feed(memoryview(b"".join(parts))):
            match frame:
                case frames.Batch():
                    count = len(frame.items)
                    self._running = [frames.mark_of(frame.batch, at) for at in range(min(count, LANES))]
                    seconds = (ITEM_SECONDS,) * count
                    self._answer(frames.Results(frame.job, frame.batch, range(count), seconds, _nothing(count), ()))
                case frames.AskBack():
                    self._answer(frames.HandedBack(frame.job, (), ()))
                case frames.Cancel():
                    self._answer(frames.Dropped(frame.job))
                case frames.Ping() if frame.number:
                    self._answer(frames.Pong(frame.number))
                    self._answer(frames.Turned(frame.number, 0.0))
                case frames.Ping():
                    self._answer(frames.Pong())

    def _answer(self, frame: frames.Frame) -> None:
        self._loop.call_soon(self._deliver, b"".join(bytes(part) for part in wire.encode(frame)))

    def _deliver(self, data: bytes) -> None:
        if self._events is not None:
            self._events.received(memoryview(data))

    def drain_output(self) -> None:
        """It prints nothing."""

    def hang_up(self) -> None:
        """Go."""
        self._loop.call_soon(self._die, 0)

    def kill(self) -> None:
        """The same."""
        self._loop.call_soon(self._die, -9)

    def _die(self, exitcode: int) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.died(Death(exitcode))


@lru_cache
def _nothing(count: int) -> bytes:
    return bytes(_payload.dump_shared([None] * count))


def register() -> None:
    """Let pools say ``engine="simulated"``."""
    registry._ENGINES["simulated"] = f"{__name__}:SimulatedEngine"  # noqa: SLF001 - it is for nobody else
