"""The book on one worker: its state, what it holds, what it was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from aiopool._core import policy
from aiopool._core.facts import Kind
from aiopool._core.items import BatchBook, JobBook

State = Literal["starting", "ready", "retiring", "dying"]


@dataclass(slots=True, eq=False)
class WorkerBook:
    """What the ledger knows of one worker.

    ``starting`` becomes ``ready`` when the worker says so; ``retiring`` takes nothing new and hangs up when it is
    empty; ``dying`` was ordered to end at once, ``heavy``: because of its memory. ``extra``: it stands beyond the
    pool's size.

    ``kind`` is that of the items it holds, ``reserved`` the only kind that it may take, ``place`` its number among
    those that share a job's concurrency. ``alone``: it runs suspects, and nothing else until ``alone_until``.
    ``claim``: it takes nothing until it is empty, and then an item of this job. ``tasks`` is how many items it may
    still begin; ``spent``: too few for a batch, so it has taken its last. ``waits_for`` is one that had its place
    before and runs its last items: no function runs here while one does there. ``jobs`` are those whose function it
    knows. ``asks`` are, job by job, the parts of each AskBack that it has not answered, ``barren`` the jobs of which it
    holds nothing that has not started.

    ``cancelling`` says until when it may take to drop jobs that have ended, ``overdue`` until when items, by batch and
    position, may take to end whose time is over. ``heard_at`` is when it last said anything, ``pinged_at`` when it was
    asked to, if it has not since; ``mute``: it is killed for that.
    """

    id: int
    index: int
    state: State = "starting"
    extra: bool = False
    reserved: Kind | None = None
    place: int = 0
    kind: Kind | None = None
    batches: dict[int, BatchBook] = field(default_factory=dict)
    jobs: dict[int, JobBook] = field(default_factory=dict)
    load: int = 0
    singles: int = 0
    done: int = 0
    asks: dict[int, list[int]] = field(default_factory=dict)
    barren: set[int] = field(default_factory=set)
    cancelling: dict[int, float] = field(default_factory=dict)
    overdue: dict[tuple[int, int], float] = field(default_factory=dict)
    heard_at: float = 0.0
    pinged_at: float | None = None
    mute: bool = False
    heavy: bool = False
    tasks: float = math.inf
    spent: bool = False
    waits_for: WorkerBook | None = None
    heir: WorkerBook | None = None
    alone: bool = False
    alone_until: float = math.inf
    claim: JobBook | None = None
    hung_up: bool = False
    started_at: float = 0.0
    idle_since: float | None = None

    @property
    def staying(self) -> bool:
        """Whether it counts as one of the pool's workers, now or soon."""
        return self.state in {"starting", "ready"}

    @property
    def doomed_at(self) -> float | None:
        """When it will be killed, if what shall end there has not ended by then."""
        return min((*self.cancelling.values(), *self.overdue.values()), default=None)

    def is_silent_about(self, batch: BatchBook, now: float) -> bool:
        """Whether an item of the batch may have had its time since the worker last said anything."""
        timeout = batch.job.opened.timeout
        return timeout is not None and max(self.heard_at, batch.sent_at) + timeout <= now

    @property
    def silent_at(self) -> float | None:
        """When it should have told of an item whose time is over, at the latest; None while no item has a limit."""
        limits = [
            max(self.heard_at, batch.sent_at) + batch.job.opened.timeout
            for batch in self.batches.values()
            if batch.job.opened.timeout is not None and not batch.job.over
        ]
        return min(limits) + policy.SILENCE_SECONDS if limits else None

    @property
    def open_minded(self) -> bool:
        """Whether it may take anything at all."""
        return self.state == "ready" and not (self.alone or self.spent) and self.claim is None

    @property
    def may_give(self) -> bool:
        """Whether what has not started there may go elsewhere. One that has taken its last may keep others waiting."""
        return self.open_minded or (self.spent and not self.alone and not self.hung_up and self.state != "dying")

    def suits(self, kind: Kind) -> bool:
        """Whether it neither holds nor is reserved for the other kind."""
        return (self.kind is None or self.kind == kind) and (self.reserved is None or self.reserved == kind)

    def serves(self, kind: Kind) -> bool:
        """Whether an item of this kind may be sent to it, room aside.

        Not before it has dropped what was cancelled: C code that holds it would hold what is sent now, too.
        """
        free = self.open_minded and not self.cancelling and not (kind == "def" and self._is_kept_waiting)
        return free and self.suits(kind)

    @property
    def _is_kept_waiting(self) -> bool:
        return self.waits_for is not None and self.waits_for.kind == "def"
