"""What was put in a pool, and which of its workers know of it. On the pool's own thread, but for what says so."""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from aiopool._core import frames
from aiopool._payload.puts import Store, Stored

if TYPE_CHECKING:
    from aiopool._payload import EncodedItems
    from aiopool._runtime.lending import Desk, Lending
    from aiopool._runtime.proxy import WorkerProxy
    from aiopool._runtime.thread import IOThread

__all__ = ["Known", "Puts"]


class Puts:
    """What was put: ``store`` is where, None where the workers share no pages with this process."""

    def __init__(self, io: IOThread, lending: Lending) -> None:
        pages = lending.arguments
        self.store = Store(pages, self._over) if pages is not None else None
        self._io = io
        self._lending = lending
        self._known: weakref.WeakSet[Known] = weakref.WeakSet()

    def known(self, worker: WorkerProxy, desk: Desk) -> Known:
        """For one more worker."""
        known = Known(worker, desk)
        self._known.add(known)
        return known

    def _over(self, number: int) -> None:
        """Nobody names it any more. Any thread, at any line."""
        self._io.call(self._release, number)

    def _release(self, number: int) -> None:
        for known in list(self._known):
            known.release(number)
        self._lending.back()  # It may have been known to nobody.


class Known:
    """What one worker knows: told of a value before something first names it, and when nothing names it any more.

    ``used`` holds what the batches name that the worker has.
    """

    def __init__(self, worker: WorkerProxy, desk: Desk) -> None:
        self.used: dict[int, tuple[Stored, ...]] = {}
        self._worker = worker
        self._desk = desk
        self._told: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """How long what it knows is that stands in the pages, for all workers to read."""
        return sum(self._told.values())

    def tell(self, named: Iterable[Stored]) -> None:
        """Before what names these is sent."""
        for stored in named:
            if stored.number not in self._told:
                self.tell(stored.needs)
                grant = stored.grant
                self._told[stored.number] = grant.length if grant is not None and stored.shared else 0
                if grant is not None:
                    self._desk.lend_put(grant)
                self._worker.send(frames.Put(stored.number, stored.offset, stored.shared, stored.lengths, stored.data))

    def tell_of_batch(self, batch: int, encoded: EncodedItems) -> None:
        """Before this batch is sent. What it names is held until the worker has done with it."""
        if encoded.refs:
            self.tell(encoded.refs)
            self.used[batch] = encoded.refs

    def look(self, batches: Container[int]) -> None:
        """These are the batches that the worker still has."""
        for batch in [batch for batch in self.used if batch not in batches]:
            del self.used[batch]

    def release(self, number: int) -> None:
        """Nothing names it any more."""
        if self._told.pop(number, None) is not None:
            self._worker.send(frames.Release(number))
            self._worker.flush()

    def close(self) -> None:
        """The worker has died."""
        self.used.clear()
        self._told.clear()
