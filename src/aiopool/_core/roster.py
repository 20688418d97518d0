"""Workers by how much they hold, so that nobody has to look at all of them to find the one that holds least or most."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from aiopool._core.workers import WorkerBook


class Roster:
    """The workers that hold items, or may, in the order of their load; of those with as much, in that of their numbers.

    It must not change while somebody goes through it. ``total`` is the load of all workers together, of those too that
    are about to die and are in no order any more.
    """

    def __init__(self) -> None:
        self._workers: dict[int, WorkerBook] = {}
        self._loads: list[int] = []
        self._alike: dict[int, list[int]] = {}
        self.total = 0

    def add(self, worker: WorkerBook) -> None:
        """The worker is ready."""
        self._workers[worker.id] = worker
        self._put(worker)

    def drop(self, worker: WorkerBook) -> None:
        """The worker is about to die, if that is not known already."""
        if self._workers.pop(worker.id, None) is not None:
            self._take(worker)

    def forget(self, worker: WorkerBook) -> None:
        """The worker is gone, and what it held is at no worker any more."""
        self.total -= worker.load

    def change(self, worker: WorkerBook, by: int) -> None:
        """The worker holds so many items more, or fewer."""
        self.total += by
        if worker.id in self._workers:
            self._take(worker)
            worker.load += by
            self._put(worker)
        else:
            worker.load += by

    def __iter__(self) -> Iterator[WorkerBook]:
        """Who holds least comes first."""
        for load in self._loads:
            for number in self._alike[load]:
                yield self._workers[number]

    def __reversed__(self) -> Iterator[WorkerBook]:
        """Who holds most comes first."""
        for load in reversed(self._loads):
            for number in self._alike[load]:
                yield self._workers[number]

    def _put(self, worker: WorkerBook) -> None:
        alike = self._alike.get(worker.load)
        if alike is None:
            insort(self._loads, worker.load)
            alike = self._alike[worker.load] = []
        insort(alike, worker.id)

    def _take(self, worker: WorkerBook) -> None:
        alike = self._alike[worker.load]
        del alike[bisect_left(alike, worker.id)]
        if not alike:
            del self._alike[worker.load]
            del self._loads[bisect_left(self._loads, worker.load)]
