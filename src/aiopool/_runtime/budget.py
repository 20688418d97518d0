"""How many bytes of arguments may wait for workers: what is read ahead must not fill the memory."""

from __future__ import annotations

from aiopool import _payload

__all__ = ["Budget"]

MOST_BYTES = 64 * 1024 * 1024
"""Of one job, on the way to items that have not ended."""

FIRST = 16
"""Items that are read before it is known how big they are."""


class Budget:
    """The budget of one job. It is counted in items of the size of late: what waits is not weighed one by one."""

    def __init__(self) -> None:
        self._taken = 0
        self._mean = 0.0
        self._granted = 0

    def take(self, count: int, encoded: _payload.EncodedItems) -> None:
        """So many items have been read and pickled."""
        if not count:
            return
        size = encoded.in_pages + len(encoded.shared) + sum([len(blob) for blob in encoded.blobs if blob is not None])
        self._mean = size / count if not self._taken else (self._mean + size / count) / 2
        self._taken += count

    def take_back(self, count: int) -> None:
        """So many are about to be pickled another time, and are not new when they come."""
        self._taken -= count

    def grant(self, upto: int, *, ended: int, at_least: int) -> int:
        """How far to read at most, of ``upto`` items in all; ``at_least`` so many may always be on their way."""
        if self._taken:
            afford = max(at_least, int(MOST_BYTES / max(self._mean, 1.0)))
            upto = min(upto, max(self._taken, ended + afford))
        else:
            upto = min(upto, max(FIRST, at_least))
        # Never back: the feeder may be under way to where it was allowed to go.
        self._granted = max(self._granted, upto)
        return self._granted
