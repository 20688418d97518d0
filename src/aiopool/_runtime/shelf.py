"""The values of one job in their places: put there by whoever loads them, handed out to readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

__all__ = ["EMPTY", "GONE", "Shelf"]

EMPTY: Final = object()
"""In the place of a value: there is none, because the item has not ended or has failed."""
GONE: Final = object()
"""In the place of a value: it was handed out and is not kept, because the input was unsized."""

TRIM_AT = 1024
"""When so many of the first are gone their places are forgotten."""

MANY = 1 << 17
"""To let go of so many, or to make a list of them, is a step of a loop by itself: of a million either takes 10 ms."""

IN_A_STEP = 1 << 15
"""So many are let go of in a step."""

PLACES = 1 << 20
"""So many places are made at once, where that many items may come; further ones when something comes to them.

All places of a huge job would hold everybody up while the garbage collector goes through them, which it does three
times before it takes a list for old: 4 ms for a million, each time.
"""

PLACE_BYTES = 48
"""What a value takes beside its bytes: of a small one that is most."""

LITTLE = 1 << 27
"""More bytes than this are let go of at once: who needs them must not wait for a loop that is busy."""


class Shelf:
    """The places. ``size`` None: of an unsized input, what was handed out is let go.

    ``consumed`` counts that, and ``released`` its bytes. The lock may be entered again by its own thread: the garbage
    collector may run a finaliser of the user's at any line, and a value that is let go may be the last of something.
    """

    __slots__ = ("_base", "_lock", "_low", "_shares", "_size", "_values", "consumed", "kept", "released")

    def __init__(self, size: int | None) -> None:
        self.kept = size is not None
        self.consumed = 0
        self.released = 0.0
        self._values: list[object] = [EMPTY] * min(size or 0, PLACES)
        self._size = 0
        self._shares: list[float] = []
        self._base = 0
        self._low = 0
        self._lock = threading.RLock()

    def __del__(self) -> None:
        # Not where it could not even be made, for want of memory.
        values: list[object] = getattr(self, "_values", [])
        if len(values) > MANY and self._size + PLACE_BYTES * len(values) < LITTLE:
            with suppress(RuntimeError):  # no loop runs here
                _empty(asyncio.get_running_loop(), values)

    def disown(self) -> None:
        """This is a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()

    @property
    def low(self) -> int:
        """All items before this one are gone."""
        return self._base + self._low

    def put(self, items: Sequence[int], values: list[object], size: int) -> None:
        """Put values in the places of these items; ``size`` is how many bytes they were together."""
        with self._lock:
            self._size += size
            if isinstance(items, range) and items.step == 1 and len(values) == len(items):
                # Past the end of a list, a slice of it grows by what is assigned to it.
                self._reach(items.start - 1)
                first = items.start - self._base
                if not self.kept and items:
                    # Its share of the bytes, as good as it can be known. Before the values: Stop may come in between.
                    self._shares[first : first + len(items)] = [size / len(items)] * len(items)
                self._values[first : first + len(items)] = values
                return
            self._reach(max(items, default=-1))
            for index, value in zip(items, values, strict=False):
                self._values[index - self._base] = value
                if not self.kept:
                    self._shares[index - self._base] = size / len(items)

    def _reach(self, index: int) -> None:
        """Make sure that there is a place for this item."""
        if (more := index + 1 - self._base - len(self._values)) > 0:
            self._values.extend([EMPTY] * more)
        if not self.kept and (more := index + 1 - self._base - len(self._shares)) > 0:
            self._shares.extend([0.0] * more)

    def look(self, index: int) -> object:
        """What is in an item's place: its value, EMPTY or GONE."""
        if self.kept:
            return self._values[index] if index < len(self._values) else EMPTY
        with self._lock:
            at = index - self._base
            if at < 0:
                return GONE
            return self._values[at] if at < len(self._values) else EMPTY

    def take(self, index: int) -> object:
        """The same, and a value is handed out: what is not kept is let go."""
        if self.kept:
            return self._values[index] if index < len(self._values) else EMPTY
        with self._lock:
            at = index - self._base
            if at < 0:
                return GONE
            if at >= len(self._values):
                return EMPTY
            value = self._values[at]
            if value is EMPTY or value is GONE:
                return value
            self._let_go(at)
        return value

    def hand_out(self, index: int) -> None:
        """This item's value or failure was handed out: what is not kept is let go."""
        if self.kept:
            return
        with self._lock:
            self._reach(index)
            at = index - self._base
            if at < 0 or self._values[at] is GONE:
                return
            self._let_go(at)

    def _let_go(self, at: int) -> None:
        values = self._values
        values[at] = GONE
        self.released += self._shares[at]
        self.consumed += 1
        if at == self._low:
            count = len(values)
            at += 1
            while at < count and values[at] is GONE:
                at += 1
            if at < TRIM_AT or 2 * at < count:
                self._low = at
                return
            # The first are forgotten many at a time: an endless input must not fill the memory.
            # All of it at once: Stop, which may come at any line, must not leave values in places of others.
            self._low, self._base, self._values, self._shares = 0, self._base + at, values[at:], self._shares[at:]

    def all(self, total: int | None) -> tuple[int, list[object]]:
        """The number of the first that is not forgotten, and all from there; of ``total`` items, if it is known."""
        with self._lock:
            return self._base, self._values[: None if total is None else max(total - self._base, 0)]


def _empty(loop: asyncio.AbstractEventLoop, values: list[object]) -> None:
    del values[-IN_A_STEP:]
    if values:
        loop.call_soon(_empty, loop, values)
