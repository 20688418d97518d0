"""The books on one job: its batches, who holds how many of its items, what has ended."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiopool._core import policy
from aiopool._core.facts import JobOpened, Kind
from aiopool.errors import FrameError


@dataclass(slots=True, eq=False)
class Suspicion:
    """Items that ran when a worker died, as job and index, and are held until the first suspect has ended or died.

    ``survived`` is for how many seconds they had run, ``until`` when they go on without a verdict.
    """

    held: list[tuple[JobBook, int]]
    survived: float
    until: float


@dataclass(slots=True, eq=False)
class Trial:
    """Items of one job that shall run together on a worker that has nothing else: whether it dies of them.

    ``until`` is how long they wait for such a worker; ``beside``: they have waited for long enough, and run beside
    others. ``suspicion`` is the one of which this is the first suspect.
    """

    survived: float
    until: float = math.inf
    beside: bool = False
    suspicion: Suspicion | None = None


class BatchBook:
    """One batch: which items it names, and which positions of it are still open.

    Whoever takes a batch from its first item to its last, as a worker mostly does, costs nothing per item: what is
    open is a range then, and a set only from the first gap on. ``attempt`` is that of all its items, ``trial`` says of
    suspects what they are suspected of.
    """

    __slots__ = ("attempt", "id", "items", "job", "pending", "sent_at", "trial")

    def __init__(
        self, batch: int, job: JobBook, items: Sequence[int], *, trial: Trial | None = None, attempt: int = 1
    ) -> None:
        self.id = batch
        self.job = job
        self.items = items
        self.pending: range | set[int] = range(len(items))
        self.trial = trial
        self.attempt = attempt
        self.sent_at = 0.0

    @property
    def alone(self) -> bool:
        """Whether it goes to a worker that has nothing else."""
        return self.trial is not None and not self.trial.beside

    def check(self, positions: Sequence[int]) -> None:
        """Raise FrameError unless each of these is open and named once."""
        if not self._is_head(positions):
            self._chosen(positions)

    def close(self, positions: Sequence[int]) -> None:
        """These have ended or left. Raises FrameError, and closes none, where one is not open or named twice."""
        if self._is_head(positions):
            self.pending = self.pending[len(positions) :]  # type: ignore[index]  # a head is one of a range
            return
        chosen = self._chosen(positions)
        if isinstance(self.pending, range):
            self.pending = set(self.pending)
        self.pending -= chosen

    def indices(self, positions: Sequence[int]) -> Sequence[int]:
        """The items at these positions, as a range where they are one."""
        if isinstance(positions, range) and positions.step == 1:
            return self.items[positions.start : positions.stop]
        return tuple([self.items[position] for position in positions])

    def _is_head(self, positions: Sequence[int]) -> bool:
        """Whether they are the first of what is open."""
        pending = self.pending
        return (
            isinstance(positions, range)
            and isinstance(pending, range)
            and positions.step == 1
            and positions.start == pending.start
            and positions.stop <= pending.stop
        )

    def _chosen(self, positions: Sequence[int]) -> set[int]:
        # Counted first: a range that a broken worker names may be longer than any memory.
        if len(positions) <= len(self.pending):
            chosen = set(positions)
            if len(chosen) == len(positions) and chosen.issubset(self.pending):
                return chosen
        raise FrameError(
            f"batch {self.id} of {len(self.items)} items has {len(self.pending)} open; "
            f"{len(positions)} were named that are not all of them, or not once: {positions[:10]!r}"
        )


@dataclass(slots=True)
class Member:
    """A worker's part in a job: items that are there, and how many of them it may step at a time."""

    out: int = 0
    lanes: int = 0

    @property
    def held(self) -> int:
        """How many items of the job may be running there at most."""
        return min(self.lanes, self.out)


@dataclass(slots=True, eq=False)
class JobBook:
    """What the ledger knows of one job.

    ``ready`` and ``alone`` wait for a worker, the second one for a worker that has nothing else. ``recoding`` are
    items that were at a worker and are being made into batches again. Of those that ran when a worker died ``trials``
    are suspects, and ``suspended`` in no batch until more is known. ``attempts`` says of items that are begun again,
    or will be, how many attempts have failed; ``rest`` is a heap of when which of them may be begun, ``retried``
    counts those that were. From ``next_at`` on its rate lets it start something. ``held`` is how many lanes are taken
    of the job's concurrency, ``claims`` how many workers are being emptied for it. ``need`` and ``reading`` are its
    weight, as the pool's sums know it. ``measured`` is how much ``mean`` weighs, ``came_from`` the worker that a submit
    was handed back by.
    """

    opened: JobOpened
    id: int = field(init=False)
    kind: Kind = field(init=False)
    ready: deque[BatchBook] = field(default_factory=deque)
    alone: deque[BatchBook] = field(default_factory=deque)
    crew: dict[int, Member] = field(default_factory=dict)
    recoding: set[int] = field(default_factory=set)
    trials: dict[int, Trial] = field(default_factory=dict)
    suspended: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    rest: list[tuple[float, int]] = field(default_factory=list)
    retried: int = 0
    next_at: float = -math.inf
    in_flight: int = 0
    held: int = 0
    claims: int = 0
    supplied: int = 0
    ended: int = 0
    failed: int = 0
    total: int | None = None
    mean: float | None = None
    measured: float = 0.0
    came_from: int = 0
    size_told: int | None = None
    upto_told: int = 0
    hungry_told: bool = False
    broken: bool = False
    paused: bool = False
    over: bool = False
    need: int = 0
    reading: bool = False

    def __post_init__(self) -> None:
        """Note what is asked for more often than all the rest."""
        self.id, self.kind = self.opened.job, self.opened.kind

    @property
    def limit(self) -> int:
        """How many of its items may be in flight over the whole job."""
        concurrency = self.opened.concurrency
        return policy.UNLIMITED if concurrency is None else concurrency

    @property
    def running(self) -> int:
        """How many of its items may be running now, as a user counts; the rest of those at workers wait for a lane.

        A worker that leaves has no lanes any more, and takes nothing new: what is there runs.
        """
        return sum(member.held if member.lanes else member.out for member in self.crew.values())

    @property
    def complete(self) -> bool:
        """Whether every item of the input has ended."""
        return self.total is not None and self.ended >= self.total

    @property
    def may_bring_more(self) -> bool:
        """Whether its input has items that have not been supplied, as far as anybody knows."""
        return self.reading and (self.opened.size is None or self.supplied < self.opened.size)

    @property
    def left(self) -> int:
        """Items that have not ended and do not rest, as far as anybody knows."""
        known = self.total if self.total is not None else max(self.opened.size or 0, self.supplied)
        return known - self.ended - len(self.rest)

    def begun(self, index: int) -> int:
        """Which attempt of the item is the present one, or the next if none is. Runs that a death cut short are one."""
        return self.attempts.get(index, 0) + 1

    def settle(self, items: Sequence[int]) -> None:
        """These have ended for good: how often they were tried need not be known any more."""
        for index in items:
            self.attempts.pop(index, None)

    def may_start(self, now: float) -> bool:
        """Whether its rate lets it start something now."""
        return self.opened.rate is None or now >= self.next_at

    def free_for(self, worker: int) -> int:
        """How many lanes the other workers leave to this one."""
        member = self.crew.get(worker)
        return self.limit - self.held - self.claims + (member.held if member else 0)

    def weight(self) -> tuple[int, bool]:
        """How many of its items could run at once now, and whether more are to be read."""
        if self.over or self.paused:
            return 0, False
        if self.opened.pinned:
            return (0 if self.complete else max(self.opened.size or 0, self.supplied)), False
        reading = self.total is None and not self.opened.single
        return min(self.limit, self.left), reading

    def take(self, worker: int, count: int, lanes: int) -> None:
        """Items go to a worker, which may step so many at a time from now on."""
        member = self.crew[worker]
        self.held -= member.held
        member.lanes = lanes
        member.out += count
        self.held += member.held
        self.in_flight += count

    def give(self, worker: int, count: int) -> None:
        """Items have ended at a worker or left it."""
        member = self.crew[worker]
        self.held -= member.held
        member.out -= count
        self.held += member.held
        self.in_flight -= count

    def forgo(self, worker: int) -> None:
        """The worker leaves, and the lanes of its items are nobody else's business: a new one has lanes of its own."""
        member = self.crew[worker]
        self.held -= member.held
        member.lanes = 0

    def part(self, worker: int) -> None:
        """The worker does not know the job any more."""
        member = self.crew.pop(worker)
        self.held -= member.held
        self.in_flight -= member.out

    def measure(self, seconds: float, count: int) -> None:
        """Learn from items that ended how long one takes."""
        if count:
            self.mean, self.measured = policy.smoothed(self.mean or 0.0, self.measured, seconds, count)
