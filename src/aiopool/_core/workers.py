"""The ledger's book on one worker: its state, what it holds, what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aiopool._core.facts import Kind
from aiopool._core.items import BatchBook

State = Literal["starting", "ready", "retiring", "dying"]


@dataclass(slots=True, eq=False)
class WorkerBook:
    """What the ledger knows of one worker.

    ``starting`` becomes ``ready`` when the worker says so; ``retiring`` takes nothing new and hangs up when it is
    empty; ``dying`` was ordered to end at once. ``kind`` is that of the items it holds, ``reserved`` the only kind
    that it may take. A worker that runs a suspect alone takes nothing beside it.
    """

    id: int
    index: int
    state: State = "starting"
    extra: bool = False
    reserved: Kind | None = None
    kind: Kind | None = None
    batches: dict[int, BatchBook] = field(default_factory=dict)
    load: int = 0
    singles: int = 0
    done: int = 0
    knows: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    barren: set[int] = field(default_factory=set)
    cancelling: dict[int, float] = field(default_factory=dict)
    alone: bool = False
    awaits_alone: bool = False
    hung_up: bool = False
    started_at: float = 0.0
    idle_since: float | None = None

    @property
    def staying(self) -> bool:
        """Whether it counts as one of the pool's workers, now or soon."""
        return self.state in ("starting", "ready")

    def serves(self, kind: Kind) -> bool:
        """Whether an item of this kind may be sent to it, room aside."""
        return (
            self.state == "ready"
            and not self.alone
            and not self.awaits_alone
            and self.kind in (None, kind)
            and self.reserved in (None, kind)
        )
