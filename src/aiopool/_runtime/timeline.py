"""What the workers of a pool did in the last minutes: a ring of blocks, one or more for each message of a worker.

Nothing is done per item. Blocks that are too short to be seen become one with their neighbours, so that however fast
items are, and however many workers there are, some minutes fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import overload

from aiopool.telemetry import Block

__all__ = ["Blocks", "Timeline"]

MOST_BLOCKS = 16_000
MOST_OPEN = 1_000
SECONDS = 180.0
"""So long shall the ring last, if every worker is at work all the time."""

SHORTEST = 0.05
GAP = 0.05
"""Blocks of one worker and job that are closer than that are neighbours."""

FRESH = 0.3
"""For so long a block may still grow, unless it is long enough."""


class _Open:
    """A block that may grow."""

    __slots__ = ("count", "end", "failed", "item", "job", "name", "start", "worker")

    def __init__(  # noqa: PLR0917 - as it is stored
        self, worker: int, job: int, name: str, item: int, count: int, failed: int, start: float, end: float
    ) -> None:
        self.worker = worker
        self.job = job
        self.name = name
        self.item = item
        self.count = count
        self.failed = failed
        self.start = start
        self.end = end


class Blocks(Sequence[Block]):
    """Some blocks, in the order in which they were closed. They are made when they are looked at: many views do not."""

    def __init__(self, rows: Sequence[_Open]) -> None:
        self._rows = rows
        self._made: list[Block] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | Sequence[Block]:
        if self._made is None:
            self._made = [
                Block(row.worker, row.job, row.name, row.item, row.count, row.failed, row.start, row.end)
                for row in self._rows
            ]
        return self._made[index]


NO_BLOCKS = Blocks(())


class Timeline:
    """The ring of one pool. On the pool's own thread."""

    def __init__(self) -> None:
        self._ring: deque[_Open] = deque(maxlen=MOST_BLOCKS)
        self._open: dict[tuple[int, int | str], _Open] = {}
        self._closed = 0
        self._workers = 0
        self._long = SHORTEST
        self._handed: tuple[int, int, Blocks] = (0, 0, NO_BLOCKS)

    def add(
        self, worker: int, job: int, name: str, *, of_call: bool, item: int, count: int, failed: int,
        seconds: float, now: float,
    ) -> None:  # fmt: skip
        """Items have ended, which took so many seconds until now. Calls of one function by ``submit`` are one job."""
        key = worker, name if of_call else job
        start = now - seconds
        last = self._open.get(key)
        if last is not None:
            if last.end + GAP >= start and now - min(start, last.start) < self._long:
                last.end = now
                last.start = min(start, last.start)
                last.count += count
                last.failed += failed
                return
            self._close(last)
        elif len(self._open) >= MOST_OPEN:
            self._close_all()
        if worker >= self._workers:
            # The more workers, the longer a block must be.
            self._workers = worker + 1
            self._long = max(SHORTEST, self._workers * SECONDS / MOST_BLOCKS)
        self._open[key] = _Open(worker, job, name, item, count, failed, start, now)

    def since(self, number: int, now: float) -> tuple[int, Sequence[Block]]:
        """The blocks that have come since this number was given, and the number for the next time; 0: all there are."""
        for key in [key for key, block in self._open.items() if block.end + FRESH <= now or self._is_long(block)]:
            self._close(self._open.pop(key))
        if number >= self._closed:
            return self._closed, NO_BLOCKS
        if self._handed[:2] != (number, self._closed):
            count = min(self._closed - number, len(self._ring))
            rows = list(islice(reversed(self._ring), count))[::-1]
            self._handed = number, self._closed, Blocks(rows)
        return self._closed, self._handed[2]

    def _is_long(self, block: _Open) -> bool:
        return block.end - block.start >= self._long

    def _close(self, block: _Open) -> None:
        self._ring.append(block)
        self._closed += 1

    def _close_all(self) -> None:
        for block in self._open.values():
            self._close(block)
        self._open.clear()
