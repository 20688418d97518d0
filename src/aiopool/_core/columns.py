"""Columns of a frame's body, as bytes: runs of whole numbers, times, and blobs by their lengths."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence

from aiopool._core.frames import Bytes, InARow
from aiopool.errors import FrameError

__all__ = ["EACH", "IS_LITTLE", "LIMIT", "RANGE", "Body", "blobs", "ints", "times"]

LIMIT = 1 << 40
"""No frame is longer, in bytes, and no number of an item higher."""

RANGE, _LIST = 0, 1
_SHARED = -1
_COUNT = struct.Struct("<QB")
_FIRST = struct.Struct("<Q")
_LENGTHS = struct.Struct("<QQ")
_GROUPS = struct.Struct("<I")
_DOUBLE = 8
EACH = -1.0
"""Where moments would begin: times are not those of items in a row, but of each."""
_SIGN = struct.pack("d", -0.0).index(0x80)
"""In which of its bytes a number with a fraction has its sign."""
IS_LITTLE = _SIGN == _DOUBLE - 1
"""Whether columns are little-endian, as fields are."""


def ints(values: Sequence[int]) -> list[Bytes]:
    """Whole numbers, as :meth:`Body.ints` reads them."""
    if isinstance(values, range) and values.step == 1:
        return [_COUNT.pack(len(values), RANGE), _FIRST.pack(values.start)]
    return [_COUNT.pack(len(values), _LIST), array("Q", values).tobytes()]


def times(column: Sequence[float]) -> list[Bytes]:
    """What each took, as :meth:`Body.seconds` and :meth:`Body.row` read it."""
    sizes = [_GROUPS.pack(len(column.sizes)), column.sizes] if type(column) is InARow else []
    values = column.ends if type(column) is InARow else column
    # Of a list a third of what it costs to make an array of it.
    return [*sizes, values.tobytes() if type(values) is array else struct.pack(f"{len(values)}d", *values)]


def blobs(shared: Bytes, each: Sequence[Bytes | None]) -> list[Bytes]:
    """What values have in common, and each one's own, as :meth:`Body.blobs` reads them."""
    if not each:
        return [_LENGTHS.pack(len(shared), 0), shared]
    lengths = array("q", [_SHARED if blob is None else len(blob) for blob in each])
    own = [blob for blob in each if blob]
    return [_LENGTHS.pack(len(shared), len(each)), lengths.tobytes(), shared, *own]


class Body:
    """A cursor over the body of one frame; running past the end is a FrameError."""

    __slots__ = ("at", "data")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> memoryview:
        end = self.at + length
        if end > len(self.data):
            raise FrameError(f"a frame ends {end - len(self.data)} bytes before its contents do")
        part = self.data[self.at : end]
        self.at = end
        return part

    def rest(self) -> memoryview:
        return self.take(len(self.data) - self.at)

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))

    def ints(self) -> Sequence[int]:
        count, tag = self.fields(_COUNT)
        if tag == RANGE:
            (first,) = self.fields(_FIRST)
            if first + count > LIMIT:
                raise FrameError(f"a run of {count} numbers from {first} is beyond what a job can hold")
            return range(first, first + count)
        if tag != _LIST:
            raise FrameError(f"numbers are marked {tag}, which is neither a range nor a list")
        return self.column("Q", count)

    def column(self, code: str, count: int) -> array[int]:
        column: array[int] = array(code)
        column.frombytes(self.take(count * 8))
        return column

    def seconds(self, count: int) -> array[float]:
        """A column of times, none of which is negative; that they are numbers is seen when they are added up."""
        data = self.take(count * _DOUBLE)
        seconds: array[float] = array("d")
        seconds.frombytes(data)
        # Signs are looked at where they stand: to make a float of each would cost more than all the rest.
        if not count or not (seconds.tobytes()[_SIGN::_DOUBLE].isascii() or min(seconds) >= 0):
            raise FrameError("values of no item, or of one that took less than no time")
        return seconds

    def row(self, since: float, count: int) -> InARow:
        """The same of items in a row. That each moment is behind the one before it is seen to where that matters."""
        (groups,) = self.fields(_GROUPS)
        sizes = bytes(self.take(groups))
        ends: array[float] = array("d")
        ends.frombytes(self.take((groups or count) * _DOUBLE))
        row = InARow(since, ends, sizes)
        if len(row) != count:
            raise FrameError(f"{count} items are said to have run in groups of {len(row)} together")
        if not (count and 0 <= since <= ends[-1] < math.inf and 0 <= row.total < math.inf):
            raise FrameError("values of no item, or of some that took less than no time")
        return row

    def blobs(self) -> tuple[memoryview, list[Bytes | None]]:
        shared_length, count = self.fields(_LENGTHS)
        blobs: list[Bytes | None] = []
        if not count:
            return self.take(shared_length), blobs
        lengths = self.column("q", count)
        shared = self.take(shared_length)
        data, at = self.data, self.at
        for length in lengths:
            if length > _SHARED:
                end = at + length
                blobs.append(data[at:end])
                at = end
            elif length == _SHARED:
                blobs.append(None)
            else:
                raise FrameError(f"a blob of {length} bytes")
        self.take(at - self.at)  # Looked at once, for all of them: beyond the end there is nothing to be had.
        return shared, blobs

    def end(self) -> None:
        if self.at != len(self.data):
            raise FrameError(f"a frame has {len(self.data) - self.at} bytes more than its contents")
