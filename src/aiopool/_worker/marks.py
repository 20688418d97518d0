"""Which items run, where it can be read when this process is dead."""

from __future__ import annotations

import itertools
import mmap
import sys
import threading

from aiopool._core import frames

_LOW = 0 if sys.byteorder == "little" else 4


class MarkPage:
    """A shared page that survives this process: which items run, and which one is at work this very moment.

    Slot 0 is the item being stepped, every other slot an item that has started and not ended. ``low`` is the half of
    slot 0 in which neighbours of one batch differ: what comes after their position. Written without a lock:
    a slot has one writer, and the reader reads when the writer is dead.
    """

    SLOTS = 1 << 16

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, self.SLOTS * 8)
        self.slots = memoryview(self._map).cast("Q")
        self.low = memoryview(self._map)[_LOW : _LOW + 4].cast("I")
        self._given_back: list[int] = []
        self._unused = itertools.count(1)
        self._beyond = 0
        self._counting = threading.RLock()

    def take(self) -> int:
        """A slot for one lane, before its first item begins. The last one is shared by all for whom none is left.

        That says nothing of any of them, so the one before it says meanwhile that whatever is here may have begun.
        """
        try:
            return self._given_back.pop()
        except IndexError:
            slot, shared = next(self._unused), self.SLOTS - 1
        if slot < shared - 1:
            return slot
        with self._counting:
            self._beyond += 1
            self.slots[shared - 1] = frames.ANY_MARK
        return shared

    def give(self, slot: int) -> None:
        """The lane has ended."""
        if slot < self.SLOTS - 1:
            self.slots[slot] = 0
            self._given_back.append(slot)
            return
        with self._counting:
            self._beyond -= 1
            if not self._beyond:
                self.slots[slot] = self.slots[slot - 1] = 0
