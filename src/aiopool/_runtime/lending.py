"""Shared pages as the pool's thread has them: its own file for arguments, and one of each worker for results.

The thread only passes on where things stand: those who pickle copy what is big, and those who read map it.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from aiopool._core import frames
from aiopool._payload import EncodedItems, Writer, parcels
from aiopool._runtime.puts import Puts
from aiopool.engines.base import Files
from aiopool.errors import FrameError

if TYPE_CHECKING:
    from aiopool._payload.pages import Grant, Lease, Lent, Reader
    from aiopool._runtime.proxy import WorkerProxy
    from aiopool._runtime.thread import IOThread

IDLE_SECONDS = 60.0
"""How long memory that held arguments is kept for the next ones, when none come: the system takes long to give anew."""


class Lending:
    """What one pool writes for its workers: ``arguments``, None where its engine has no pages."""

    def __init__(self, io: IOThread, files: Files | None) -> None:
        self.arguments = Writer(files.arguments) if files is not None else None
        self.puts = Puts(io, self)
        self._io = io
        self._used = 0.0
        self._looks = False

    def desk(self, worker: WorkerProxy) -> Desk:
        """For one more worker."""
        return Desk(self, self._io, worker)

    def back(self) -> None:
        """Some pages have come back."""
        if self.arguments is not None:
            self.arguments.tidy()
            self._used = self._io.loop.time()
            if not self._looks:
                self._looks = True
                self._io.loop.call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        left = self._used + IDLE_SECONDS - self._io.loop.time()
        if left > 0:
            self._io.loop.call_later(left, self._look)
        elif self.arguments is not None:
            self._looks = False
            self.arguments.tidy(0)

    def close(self) -> None:
        """The pool has ended."""
        if self.arguments is not None:
            self.arguments.close()


class Desk:
    """What was lent to one worker, and what it has lent us."""

    def __init__(self, lending: Lending, io: IOThread, worker: WorkerProxy) -> None:
        self.next: tuple[frames.Lent, list[Lease]] | None = None
        self._lending = lending
        self._io = io
        self._worker = worker
        self._lent: Lent | None = None
        self._reader: Reader | None = None
        self._over: deque[int] = deque()
        self.known = lending.puts.known(worker, self)

    def not_its_own(self, shared: int) -> int:
        """How much of the memory that the worker shares with others is none of its own.

        What it has returned and we still have, and what was put for all workers, as far as it has looked at that.
        """
        borrowed = self._reader.bytes if self._reader is not None else 0
        return borrowed + max(0, min(self.known.bytes, shared - borrowed))

    # --- arguments -------------------------------------------------------------------------------------------------

    def lend(self, batch: int, encoded: EncodedItems) -> None:
        """Before this batch is sent: tell where those of its values stand that were written to the pages."""
        self.known.tell_of_batch(batch, encoded)
        if encoded.in_pages:
            self._worker.send(frames.Lent(batch, *self._book.lend(parcels.packed_among(encoded.blobs))))

    def lend_put(self, grant: Grant) -> None:
        """Before it is told of a value that was put."""
        self._book.note(grant)

    @property
    def _book(self) -> Lent:
        if self._lent is None:
            from aiopool._payload.pages import Lent

            self._lent = Lent()
        return self._lent

    def take_back(self, frame: frames.GivenBack) -> None:
        """The worker has let go of some."""
        if self._lent is None:
            raise FrameError("shared pages came back, and none were lent")
        self._lent.back(frame.offsets)
        self._lending.back()

    # --- results ---------------------------------------------------------------------------------------------------

    def expect(self, frame: frames.Lent) -> None:
        """Of the results that come next some stand in the worker's pages."""
        if self._reader is None:
            link = self._worker.link
            if link is None or link.results is None:
                raise FrameError("a worker without shared pages lends some")
            try:
                from aiopool._payload.pages import Reader

                results = os.dup(link.results)
            except OSError as error:
                # There are too many descriptors here. It costs this worker, and not the pool.
                self._worker.unreadable = True
                raise FrameError(f"what it has returned cannot be read: {error}") from error
            self._reader = Reader(results, functools.partial(_is_over, weakref.ref(self), self._over))
        claim = self._reader.claim
        self.next = frame, [claim(*place) for place in zip(frame.offsets, frame.lengths, strict=True)]

    def unpack(self, frame: frames.Results) -> None:
        """Put what came before these results into their places."""
        if self.next is not None:
            (told, leases), self.next = self.next, None
            if told.batch != frame.batch:
                raise FrameError(f"pages of batch {told.batch} came before results of batch {frame.batch}")
            parcels.unpack(cast("list[Any]", frame.blobs), told.places, leases)

    def tell(self) -> None:
        """Some thread wants the worker to know what is over here."""
        self._io.call(self._give_back)

    def _give_back(self) -> None:
        if offsets := [self._over.popleft() for _ in range(len(self._over))]:
            self._worker.send(frames.GivenBack(offsets))
            self._worker.flush()

    # --- its end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The worker has died, and everything that it had written was taken in."""
        self.next = None
        self.known.close()
        if self._lent is not None:
            self._lent.clear()
            self._lending.back()
        # Who still has something of it holds it; this may be remembered for longer.
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.writer_is_gone()


def _is_over(desk: weakref.ref[Desk], over: deque[int], offset: int) -> None:
    """Any thread, at any line. Values outlive their pool, which they must not hold."""
    over.append(offset)
    if (told := desk()) is not None:
        told.tell()
