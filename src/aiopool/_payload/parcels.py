"""Values with big buffers: a pickle that travels as ever, and the buffers in shared pages.

What is big in a value is nearly always flat: an array, a column of a table. Pickle's protocol 5 gives such buffers out
of band, and whoever loads the value has them in place. The pickle stands behind a table of their lengths::

    count 4 | lengths 8 each | pickle
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections.abc import MutableSequence, Sequence
from typing import TYPE_CHECKING, Any

from aiopool.errors import FrameError

if TYPE_CHECKING:
    from aiopool._payload.pages import Grant, Lease, Pages

__all__ = ["Buffers", "Packed", "Parcel", "Writer", "packed_among", "results", "unpack", "write_results_to"]

LEAST = 256 << 10
"""Buffers from so many bytes on go through the pages. What is smaller is as fast in the pickle."""

_COUNT = struct.Struct("<I")


class Packed(bytes):
    """The table and the pickle of a value; the range in which its buffers stand is in use as long as this is."""

    grant: Grant


class Buffers:
    """Asked by the pickler for each buffer that it meets: those that are flat and big enough stay out of the pickle."""

    # One is made for every value, and most meet no buffer at all.
    taken: list[memoryview] = []  # noqa: RUF012 - this one stays empty

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """True: it goes into the pickle."""
        try:
            flat = buffer.raw()
        except BufferError:
            return True  # With gaps; its owner copies it together.
        if flat.nbytes < LEAST:
            return True
        if not self.taken:
            self.taken = []
        self.taken.append(flat)
        return False

    def pack(self, pickled: bytes, pages: Writer) -> Packed | None:
        """Write what was taken; None where there is no room for it: then it must go into the pickle after all."""
        grant = pages.write(self.taken)
        if grant is None:
            return None
        lengths = [len(flat) for flat in self.taken]
        packed = Packed(b"".join((_COUNT.pack(len(lengths)), struct.pack(f"<{len(lengths)}Q", *lengths), pickled)))
        packed.grant = grant
        return packed


class Parcel:
    """What came of a :class:`Packed`, on the other side: to be loaded, perhaps more than once, or to be dropped."""

    __slots__ = ("_data", "_lease")

    def __init__(self, data: bytes | memoryview, lease: Lease) -> None:
        self._data = data
        self._lease = lease

    def __len__(self) -> int:
        """How many bytes it stands for."""
        return len(self._data) + self._lease.length

    def load(self) -> object:
        """Make the value, of buffers in place. The range is in use as long as any of them is."""
        data = memoryview(self._data)
        if len(data) < _COUNT.size:
            raise FrameError("a value in shared pages without a table")
        (count,) = _COUNT.unpack_from(data)
        begin = _COUNT.size + 8 * count
        if len(data) < begin:
            raise FrameError(f"a value in shared pages with a table of {count} buffers that is cut off")
        lengths = struct.unpack_from(f"<{count}Q", data, _COUNT.size)
        return pickle.loads(data[begin:], buffers=self._lease.buffers(lengths))  # noqa: S301 - over an inherited pipe


class Writer:
    """The pages of one file, made when something is first written there: most pools never need what they need.

    ``count`` says how many values were written, of which ``told`` were told of.
    """

    def __init__(self, fd: int) -> None:
        self.pages: Pages | None = None
        self.count = 0
        self.told = 0
        self._fd = fd
        self._closed = False
        self._making = threading.Lock()

    def write(self, buffers: Sequence[memoryview]) -> Grant | None:
        """As :meth:`Pages.write`."""
        self.count += 1
        if self.pages is None:
            self._make()
        return self.pages.write(buffers) if self.pages is not None else None

    def _make(self) -> None:
        from aiopool._payload.pages import Pages

        with self._making:
            if self.pages is None and not self._closed:
                self.pages = Pages(self._fd)

    def tidy(self, most: int | None = None) -> None:
        """As :meth:`Pages.tidy`."""
        if self.pages is not None:
            self.pages.tidy(most)

    def close(self) -> None:
        """Write nothing more."""
        with self._making:
            self._closed = True
        if self.pages is not None:
            self.pages.close()


def packed_among(blobs: Sequence[object]) -> list[tuple[int, Packed]]:
    """Those of which something stands in pages, with their places."""
    return [(place, blob) for place, blob in enumerate(blobs) if type(blob) is Packed]


def unpack(blobs: MutableSequence[Any], places: Sequence[int], leases: Sequence[Lease]) -> None:
    """Put parcels in the places of the pickles that these pages belong to; FrameError where there are none such."""
    for place, lease in zip(places, leases, strict=True):
        if place >= len(blobs) or blobs[place] is None or type(blobs[place]) is Parcel:
            raise FrameError(f"shared pages of value {place} of {len(blobs)}, which is not a pickle of its own")
        blobs[place] = Parcel(blobs[place], lease)


results: Writer | None = None
"""In a worker: where big buffers of results are written."""


def write_results_to(writer: Writer | None) -> None:
    """This process is a worker, with these pages for what its items return."""
    global results  # noqa: PLW0603
    results = writer
