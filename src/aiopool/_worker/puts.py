"""What was put, in a worker: taken in when the pool tells of it, let go of when the pool says that nothing names it."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from typing import TYPE_CHECKING

from aiopool._payload import known

if TYPE_CHECKING:
    from aiopool._core import frames
    from aiopool._payload.pages import Lease
    from aiopool._worker.loops import LoopOnDemand
    from aiopool._worker.pages import SharedPages

__all__ = ["Puts"]


class Puts:
    """Called on the link thread. What is let go of goes on the main thread: the user's code may run when it does."""

    def __init__(self, pages: SharedPages, loop: LoopOnDemand) -> None:
        self._pages = pages
        self._loop = loop
        self._leases: dict[int, weakref.ref[Lease]] = {}

    def know(self, frame: frames.Put) -> None:
        """The pool tells of a value."""
        if frame.offset < 0:
            data = memoryview(frame.data).toreadonly() if frame.shared else memoryview(bytearray(frame.data))
            known.know(frame.number, known.Known(functools.partial(known.pieces, data, frame.lengths)))
            return
        from aiopool._payload.pages import laid_out  # with what it takes to map

        lease = self._pages.claim(frame.offset, laid_out(frame.lengths)[1])
        self._leases[frame.number] = weakref.ref(lease)
        known.know(frame.number, known.Known(functools.partial(lease.buffers, frame.lengths, shared=frame.shared)))

    def forget(self, frame: frames.Release) -> None:
        """Nothing names it any more."""
        gone = [known.forget(frame.number)]
        lease = self._leases.pop(frame.number, None)

        def drop() -> None:
            gone.clear()
            if lease is not None and lease() is not None:
                # A function that calls itself, or a class, is garbage that only the collector finds: it may be long
                # before it looks, and this may be most of the machine's memory.
                gc.collect()

        # The loop may have closed: the worker is at its end.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(drop)
