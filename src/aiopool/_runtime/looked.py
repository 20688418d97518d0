"""The ledger for those who look at it: they see calls, too, of which it is told only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeVar

from aiopool._core.items import JobBook
from aiopool._core.ledger import Ledger
from aiopool._core.workers import WorkerBook

__all__ = ["Looked"]

T = TypeVar("T")


class Looked:
    """The ledger for those who look at it: they see what is under way, too."""

    def __init__(self, ledger: Ledger, settle: Callable[[], object]) -> None:
        self._ledger = ledger
        self.jobs: Mapping[int, JobBook] = _Settled(ledger.jobs, settle)
        self.workers: Mapping[int, WorkerBook] = _Settled(ledger.workers, settle)

    @property
    def size(self) -> int:
        """How many workers there may be."""
        return self._ledger.size

    @property
    def state(self) -> Literal["open", "closing", "closed"]:
        """Whether the pool takes jobs."""
        return self._ledger.state


class _Settled(Mapping[int, T]):
    """Books that are settled before they are opened."""

    def __init__(self, books: Mapping[int, T], settle: Callable[[], object]) -> None:
        self._books = books
        self._settle = settle

    def __getitem__(self, number: int) -> T:
        self._settle()
        return self._books[number]

    def __iter__(self) -> Iterator[int]:
        self._settle()
        return iter(self._books)

    def __len__(self) -> int:
        self._settle()
        return len(self._books)
