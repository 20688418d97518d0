"""Shared pages as a worker has them: the parent's arguments to read, a file of its own for results to write.

What it takes to map and to write is imported when the first big value comes.
"""

from __future__ import annotations

import functools
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from aiopool._core import frames
from aiopool._payload import parcels
from aiopool._worker.pipes import moved
from aiopool.errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopool._payload.pages import Lease, Lent, Reader

SETTLE = -1
"""In the place of an offset: the mapping of one is to be seen to first, which takes the item's own thread too long."""

IDLE_SECONDS = 60.0
"""How long memory that held results is kept for the next ones, when none come: the system takes long to give anew."""


class SharedPages:
    """Tells the parent what it may read and what it has back; the link thread's, but for :meth:`announce`.

    ``next`` is what was told of the batch that comes next. ``over`` are offsets of arguments that nothing here looks at
    any more. ``due``: when to look whether the memory of results is still needed.
    """

    def __init__(self, files: Sequence[int], send: Callable[[frames.Frame], None], wake: Callable[[], None]) -> None:
        self._arguments, results = (moved(fd) for fd in files)
        self._send = send
        self._wake = wake
        self._writer = parcels.Writer(results)
        self._reader: Reader | None = None
        self._lent: Lent | None = None
        self.next: tuple[frames.Lent, list[Lease]] | None = None
        self._used = 0.0
        self.over: deque[int] = deque()
        self.due = inf
        parcels.write_results_to(self._writer)

    # --- arguments ---------------------------------------------------------------------------------------------------

    def expect(self, frame: frames.Lent) -> None:
        """Of the batch that comes next some values stand in the parent's pages."""
        self.next = frame, [self.claim(*place) for place in zip(frame.offsets, frame.lengths, strict=True)]

    def claim(self, offset: int, length: int) -> Lease:
        """Take what the parent has told of."""
        if self._reader is None:
            from aiopool._payload.pages import Reader

            self._reader = Reader(self._arguments, self._is_over, functools.partial(self._is_over, SETTLE))
        return self._reader.claim(offset, length)

    def _is_over(self, offset: int) -> None:
        # Any thread, at any line: where the last view of an argument goes.
        self.over.append(offset)
        self._wake()

    def unpack(self, frame: frames.Batch) -> None:
        """Put what came before this batch into its places."""
        if self.next is not None:
            (told, leases), self.next = self.next, None
            if told.batch != frame.batch:
                raise FrameError(f"pages of batch {told.batch} came before batch {frame.batch}")
            parcels.unpack(cast("list[Any]", frame.blobs), told.places, leases)

    def give_back(self) -> None:
        """Say what is over."""
        if self._reader is not None:
            self._reader.settle()
        over = [self.over.popleft() for _ in range(len(self.over))]
        if offsets := [offset for offset in over if offset != SETTLE]:
            self._send(frames.GivenBack(offsets))

    # --- results -----------------------------------------------------------------------------------------------------

    def announce(self, frame: frames.Results) -> None:
        """Before these are sent: tell where those stand that were written to the pages. Any thread."""
        if self._writer.count == self._writer.told:
            return
        if packed := parcels.packed_among(frame.blobs):
            self._writer.told += len(packed)
            if self._lent is None:
                from aiopool._payload.pages import Lent

                self._lent = Lent()
            self._send(frames.Lent(frame.batch, *self._lent.lend(packed)))

    def take_back(self, frame: frames.GivenBack) -> None:
        """The parent has let go of some."""
        if self._lent is None:
            raise FrameError("shared pages came back, and none were lent")
        self._lent.back(frame.offsets)
        self._writer.tidy()
        self._used = monotonic()
        if self.due == inf:
            self.due = self._used + IDLE_SECONDS

    def look(self, now: float) -> None:
        """Give memory back to the system that nobody has needed for a while."""
        if now >= self._used + IDLE_SECONDS:
            self._writer.tidy(0)
            self.due = inf
        else:
            self.due = self._used + IDLE_SECONDS
