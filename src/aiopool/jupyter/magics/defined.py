"""What ``%%aiopool --all`` cells have defined in the workers of each pool, as the notebook knows it."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiopool.jupyter.magics.leaves import NOTHING, Known, Leaves
from aiopool.pool import Pool

__all__ = ["Defined", "defined"]


@dataclass(eq=False, slots=True)
class _OfPool:
    """What is known of one pool. Of cells that still run it is told as if they had ended well."""

    done: dict[str, Known] = field(default_factory=dict)
    begun: dict[int, tuple[Leaves, str, bool]] = field(default_factory=dict)  # in order; and whether it has ended
    failed: frozenset[int] = frozenset()
    editions: dict[str, tuple[int, Leaves]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def known(self) -> dict[str, Known]:
        """The names, each with its cell."""
        found = self.done
        for leaves, cell, _ in self.begun.values():
            found = leaves.after(found, cell)
        return found

    def let_go(self) -> None:
        """Of the cells that have ended, as far as none before them still runs, only the names are needed."""
        for number, (leaves, cell, has_ended) in list(self.begun.items()):
            if not has_ended:
                return
            self.done = leaves.after(self.done, cell)
            del self.begun[number]


class Defined:
    """By pool, the names that its workers have, each with the cell that defined it last.

    A cell that runs in the background counts from its start: an item that is sent after it waits until it has ended. A
    pool that ends takes the names with it; that they once were there is remembered, to say which cell must run again.
    """

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Pool, _OfPool] = weakref.WeakKeyDictionary()
        self._last: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # Jobs in the background end in threads of their own.

    def begin(self, pool: Pool, number: int, leaves: Leaves, cell: str) -> None:
        """The cell of that number runs now on every worker of the pool, and will on those that start later."""
        with self._lock:
            self._pool(pool).begun[number] = leaves, cell, False

    def note(self, pool: Pool, number: int) -> None:
        """It went well on all of them."""
        with self._lock:
            known = self._pool(pool)
            if number in known.begun:
                leaves, cell, _ = known.begun[number]
                known.begun[number] = leaves, cell, True
                known.let_go()
                self._last |= dict.fromkeys(leaves.sure | leaves.perhaps, cell)

    def note_failure(self, pool: Pool, number: int) -> None:
        """It has failed in a worker: where it went well, it must be taken back."""
        with self._lock:
            known = self._pool(pool)
            known.begun.pop(number, None)
            known.failed |= {number}
            known.let_go()

    def next_number(self) -> int:
        """A number for a cell, unlike those of all others."""
        return next(self._numbers)

    def edition(self, pool: Pool, cell_id: str, leaves: Leaves) -> str:
        """What stays the same while a cell is edited and run again, as long as it defines all that it did before.

        A worker that starts later then needs its last edition only. ``leaves`` has nothing if what it does builds on
        what it did before; then, and for a cell without an id, this is empty.
        """
        if not cell_id or not leaves.sure | leaves.perhaps:
            return ""
        with self._lock:
            editions = self._pool(pool).editions
            number, before = editions.get(cell_id, (0, NOTHING))
            if not leaves.leaves_all_of(before):
                number += 1
            editions[cell_id] = number, leaves
            return f"{cell_id} {number}"

    def failed(self, pool: Pool) -> frozenset[int]:
        """The cells that have failed."""
        with self._lock:
            return self._pool(pool).failed

    def pending(self, pool: Pool) -> frozenset[int]:
        """The cells that still run, and may fail."""
        with self._lock:
            return frozenset(number for number, (_, _, has_ended) in self._pool(pool).begun.items() if not has_ended)

    def of(self, pool: Pool) -> Mapping[str, str]:
        """The names that the pool's workers have, each with the cell that defined it last."""
        with self._lock:
            return {name: known.cell for name, known in self._pool(pool).known().items()}

    def unsure(self, pool: Pool) -> frozenset[str]:
        """Those of them that a worker need not have: its cell assigns them on some ways only, or deletes them."""
        with self._lock:
            return frozenset(name for name, known in self._pool(pool).known().items() if not known.is_sure)

    def cell_of(self, name: str) -> str | None:
        """The cell that defined a name last, in whatever pool; None where none did."""
        return self._last.get(name)

    def wins_first(self, pool: Pool, name: str) -> bool:
        """Whether this is the first time that a name of this pool wins over the notebook's."""
        with self._lock:
            told = self._pool(pool).told
            is_new = name not in told
            told.add(name)
            return is_new

    def _pool(self, pool: Pool) -> _OfPool:
        return self._of.setdefault(pool, _OfPool())


defined = Defined()
