"""An engine whose workers are played by the test: they say what no worker says, or what one would."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from aiopool import _payload
from aiopool._core import frames, wire
from aiopool.engines import registry
from aiopool.engines.base import Death, Events, Marks
from tests.faults.streams import written

Act = Callable[["Player", frames.Batch], bytes]
"""What a worker answers to its first batch."""


class Player:
    """A worker. ``act`` is how it answers; None: as an honest one would. All on the pool's own thread."""

    unsent = 0

    def __init__(self, stage: Stage, index: int, events: Events, act: Act | None) -> None:
        self.index = index
        self.results = stage.results
        self.pid = next(stage.pids)
        self.batches: list[frames.Batch] = []
        self.back: list[frames.GivenBack] = []
        self.killed = False
        self._stage = stage
        self._events = events
        self._act = act
        self._parser = wire.Parser()
        self._over = False
        self._say(written(frames.Ready(self.pid)))

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take in what the pool says, some turns later: a pipe never answers within the call."""
        data = b"".join(parts)
        self._stage.loop.call_soon(self._take, data)

    def at_work(self) -> int | None:
        """It has no mark page."""
        return None

    def running(self) -> tuple[int, ...]:
        """The same."""
        return ()

    def drain_output(self) -> None:
        """It prints nothing."""

    def hang_up(self) -> None:
        """Go."""
        self._die(0)

    def kill(self) -> None:
        """Die, as a process does that was killed."""
        self.killed = True
        self._die(-9)

    def _take(self, data: bytes) -> None:
        for frame in self._parser.feed(data):
            if self._over:
                return
            match frame:
                case frames.Batch():
                    self.batches.append(frame)
                    act, self._act = self._act, None
                    self._say(act(self, frame) if act else honest(frame))
                case frames.GivenBack():
                    self.back.append(frame)
                case frames.AskBack():
                    self._say(written(frames.HandedBack(frame.job, (), ())))
                case frames.Cancel():
                    self._say(written(frames.Dropped(frame.job)))
                case frames.Ping():
                    self._say(written(frames.Pong(frame.number), frames.Turned(frame.number, 0.0)))

    def _say(self, data: bytes) -> None:
        self._stage.loop.call_soon(self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self._over and data:
            self._events.received(memoryview(data))

    def _die(self, exitcode: int) -> None:
        if not self._over:
            self._over = True
            running = frozenset(batch.batch << 32 | 1 for batch in self.batches)
            self._stage.loop.call_soon(self._events.died, Death(exitcode, Marks(None, running)))


class Stage:
    """Where they play. ``acts`` are for the workers that start next, one each; later ones are honest."""

    name = "impostor"
    files = None

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.acts: list[Act] = []
        self.players: list[Player] = []
        self.proxies: list[Any] = []
        self.pids = itertools.count(1_000_000_000)
        self.results: int | None = None

    def start(self, index: int, events: Events, _: Mapping[str, str]) -> Player:
        """The next worker enters."""
        self.proxies.append(events)
        self.players.append(Player(self, index, events, self.acts.pop(0) if self.acts else None))
        return self.players[-1]

    def close(self) -> None:
        """The play is over."""


def honest(batch: frames.Batch) -> bytes:
    """What a good worker answers: here, the items' own numbers."""
    shared = _payload.dump_shared(list(batch.items))
    count = len(batch.items)
    return written(frames.Results(batch.job, batch.batch, range(count), [0.001] * count, shared, ()))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Pools with ``engine="impostor"`` get their workers from here."""
    stage = Stage()

    def made(loop: asyncio.AbstractEventLoop) -> Stage:
        stage.loop = loop
        return stage

    def find(name: str) -> Callable[[Any], Any]:
        assert name == "impostor"
        return made

    monkeypatch.setattr(registry, "find", find)
    monkeypatch.setattr("aiopool.pool.find", find)
    return stage
