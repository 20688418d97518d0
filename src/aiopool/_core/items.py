"""The ledger's book on one job: its batches, who holds how many of its items, what has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiopool._core import policy
from aiopool._core.facts import JobOpened, Kind
from aiopool.errors import FrameError


class BatchBook:
    """One batch: which items it names and which of them are still open."""

    __slots__ = ("alone", "id", "items", "job", "pending")

    def __init__(self, batch: int, job: JobBook, items: Sequence[int], *, alone: bool = False) -> None:
        self.id = batch
        self.job = job
        self.items = items
        self.pending = set(range(len(items)))
        self.alone = alone

    def close(self, positions: Sequence[int]) -> None:
        """These have ended or left; a position that was not open is the worker's error."""
        before = len(self.pending)
        self.pending.difference_update(positions)
        if before - len(self.pending) != len(positions):
            raise FrameError(f"batch {self.id} of {len(self.items)} items: not open, or named twice: {positions!r}")

    def indices(self, positions: Sequence[int]) -> Sequence[int]:
        """The items at these positions, as a range where they are one."""
        if isinstance(positions, range):
            return self.items[positions.start : positions.stop]
        return tuple(self.items[position] for position in positions)


@dataclass(slots=True)
class Member:
    """A worker's part in a job: its rank among those that share the concurrency, and its items."""

    rank: int
    out: int = 0


@dataclass(slots=True, eq=False)
class JobBook:
    """What the ledger knows of one job."""

    opened: JobOpened
    ready: deque[BatchBook] = field(default_factory=deque)
    alone: deque[BatchBook] = field(default_factory=deque)
    crew: dict[int, Member] = field(default_factory=dict)
    recoding: set[int] = field(default_factory=set)
    losses: dict[int, int] = field(default_factory=dict)
    quarantine: set[int] = field(default_factory=set)
    supplied: int = 0
    ended: int = 0
    failed: int = 0
    total: int | None = None
    mean: float | None = None
    size_told: int | None = None
    upto_told: int = 0
    hungry_told: bool = False
    broken: bool = False
    paused: bool = False
    over: bool = False

    @property
    def id(self) -> int:
        """Its number."""
        return self.opened.job

    @property
    def kind(self) -> Kind:
        """Whether its function is a coroutine function."""
        return self.opened.kind

    @property
    def in_flight(self) -> int:
        """Items that are at a worker, running or waiting there."""
        return sum(member.out for member in self.crew.values())

    @property
    def complete(self) -> bool:
        """Whether every item of the input has ended."""
        return self.total is not None and self.ended >= self.total

    @property
    def known(self) -> int | None:
        """How many items there will be, as far as anybody knows."""
        return self.total if self.total is not None else self.opened.size

    def join(self, worker: int) -> Member:
        """The worker's part in this job; a new one takes the lowest free rank."""
        member = self.crew.get(worker)
        if member is None:
            taken = {other.rank for other in self.crew.values()}
            rank = next(rank for rank in range(len(taken) + 1) if rank not in taken)
            member = self.crew[worker] = Member(rank)
        return member

    def measure(self, seconds: float, count: int) -> None:
        """Learn from items that ended how long one takes."""
        if count:
            self.mean = policy.smoothed(self.mean, seconds, count)
