"""What was put for the workers of one pool: kept once, in its shared pages, and named by a number wherever it is used.

A value that is used may not go: whoever mentions it on the way to a worker holds its :class:`Stored`. When the last of
them is gone the pool is told, and tells its workers; see :mod:`aiopool._runtime.told`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pickle import PickleBuffer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopool._payload.pages import Grant
    from aiopool._payload.parcels import Writer

__all__ = ["Flat", "Store", "Stored"]

LEAST = 64 << 10
"""So many bytes stand in the pages; what is smaller is told to each worker as it is."""

_numbers = itertools.count(1)
"""Of all pools: a worker knows each by its number."""


class Flat:
    """Asked by the pickler for each buffer that it meets: flat ones of at least ``least`` bytes stay out of it."""

    def __init__(self, least: int = 0) -> None:
        self.taken: list[memoryview] = []
        self._least = least

    def __call__(self, buffer: PickleBuffer) -> bool:
        """True: it goes into the pickle."""
        try:
            flat = buffer.raw()
        except BufferError:
            return True  # With gaps; its owner copies it together.
        if flat.nbytes < self._least:
            return True
        self.taken.append(flat)
        return False


class Stored:
    """One value that was put. It stands at ``offset`` of the pages, else in ``data``, in parts of these ``lengths``.

    ``shared``: all who read it read the same memory, and nobody may write there. ``needs`` are others that are part of
    it.
    """

    __slots__ = ("__weakref__", "_store", "data", "grant", "lengths", "needs", "number", "shared")

    def __init__(
        self, store: Store, parts: Sequence[memoryview], needs: Sequence[Stored] = (), *, shared: bool = True
    ) -> None:
        self._store = store
        self.number = next(_numbers)
        self.lengths = [part.nbytes for part in parts]
        self.needs = tuple(needs)
        self.shared = shared
        self.grant: Grant | None = store.pages.write(parts) if sum(self.lengths) >= LEAST else None
        # There may also be no room: then each worker gets its own copy.
        self.data = b"" if self.grant is not None else b"".join(parts)

    def __del__(self) -> None:
        # Whatever has kept the constructor from its end: nobody knows it yet.
        if hasattr(self, "data"):
            self._store.over(self.number)

    def is_in(self, store: Store) -> bool:
        """Whether that pool's workers can be told of it."""
        return self._store is store

    @property
    def offset(self) -> int:
        """Where in the pages it stands, -1 where it does not."""
        return -1 if self.grant is None else self.grant.offset


class Store:
    """Keeps what is put. ``over`` is called with a number that nobody names any more: in any thread, at any line."""

    def __init__(self, pages: Writer, over: Callable[[int], object]) -> None:
        self.pages = pages
        self.over = over

    def put(self, parts: Sequence[memoryview], needs: Mapping[int, Stored], *, shared: bool = True) -> Stored:
        """Copy these parts of a value, which mentions others."""
        return Stored(self, parts, tuple(needs.values()), shared=shared)
