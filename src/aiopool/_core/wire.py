"""One message on a pipe, as bytes. The parser fails closed: whatever is not a frame is a FrameError.

A frame is a header and a body::

    magic 2 | version 1 | kind 1 | length of the body 8 | body

Numbers are little-endian; columns stand as the machine has them, because both ends of a pipe are on one machine. A
body holds fixed fields, then columns: a run of whole numbers travels as a range where it is one, blobs travel as a
column of lengths and their bytes. Values are never looked into here.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiopool._core.frames import (
    AskBack,
    AskStacks,
    Batch,
    Bytes,
    Call,
    Cancel,
    Dropped,
    Environment,
    Failed,
    Forget,
    Frame,
    Function,
    GivenBack,
    HandedBack,
    Held,
    InARow,
    Lent,
    Modules,
    Overdue,
    Ping,
    Pong,
    Put,
    Ready,
    Release,
    Reported,
    Results,
    Setup,
    Stacks,
    StartFailed,
    Turned,
)
from aiopool.errors import FrameError

__all__ = ["Parser", "encode"]

MAGIC = b"ap"
VERSION = 1
LIMIT = 1 << 40
HEADER = struct.Struct("<2sBBQ")

_RANGE, _LIST = 0, 1
_SHARED = -1

_ONE = struct.Struct("<Q")
_FUNCTION = struct.Struct("<QBI")
_BATCH = struct.Struct("<QQII")
_CALL = struct.Struct("<QQBI")
_ASK = struct.Struct("<QQ")
_READY = struct.Struct("<Q")
_RESULTS = struct.Struct("<QQd")
_ONLY = struct.Struct("<QQdQBQdQQ")
"""A result of one plain value up to that: job, batch, no moment, a run of one number, its seconds, the lengths."""

_FAILED = struct.Struct("<QQQdBd")
_ITEM = struct.Struct("<QQQ")
_REPORTED = struct.Struct("<QQQd")
_PONG = struct.Struct("<QQQd")
_TURNED = struct.Struct("<Qd")
_ASK_STACKS = struct.Struct("<QQ")
_COUNT = struct.Struct("<QB")
_PUT = struct.Struct("<QqB")
_FIRST = struct.Struct("<Q")
_LENGTH = struct.Struct("<Q")
_LENGTHS = struct.Struct("<QQ")
_DOUBLE = 8
_EACH = -1.0
"""Where moments would begin: times are not those of items in a row, but of each."""
_SIGN = struct.pack("d", -0.0).index(0x80)
"""In which of its bytes a number with a fraction has its sign."""
_IS_LITTLE = _SIGN == _DOUBLE - 1
"""Whether columns are little-endian, as fields are."""

_FIXED: dict[int, int] = {
    AskBack.kind: _ASK.size,
    AskStacks.kind: _ASK_STACKS.size,
    Cancel.kind: _ONE.size,
    Forget.kind: _ONE.size,
    Ping.kind: _ONE.size,
    Ready.kind: _READY.size,
    Dropped.kind: _ONE.size,
    Held.kind: _ONE.size,
    Overdue.kind: _ITEM.size,
    Pong.kind: _PONG.size,
    Release.kind: _FIRST.size,
    Turned.kind: _TURNED.size,
}
"""How long the bodies of those kinds are that have no columns and no blobs."""


# --- writing ---------------------------------------------------------------------------------------------------------


def encode(frame: Frame) -> list[Bytes]:
    """The bytes of a frame, in parts, so that big blobs are not copied."""
    parts = _ENCODERS[type(frame)](frame)
    length = sum(map(len, parts))
    return [HEADER.pack(MAGIC, VERSION, frame.kind, length), *parts]


def _ints(values: Sequence[int]) -> list[Bytes]:
    if isinstance(values, range) and values.step == 1:
        return [_COUNT.pack(len(values), _RANGE), _FIRST.pack(values.start)]
    return [_COUNT.pack(len(values), _LIST), array("Q", values).tobytes()]


def _blobs(shared: Bytes, blobs: Sequence[Bytes | None]) -> list[Bytes]:
    if not blobs:
        return [_LENGTHS.pack(len(shared), 0), shared]
    lengths = array("q", [_SHARED if blob is None else len(blob) for blob in blobs])
    own = [blob for blob in blobs if blob]
    return [_LENGTHS.pack(len(shared), len(blobs)), lengths.tobytes(), shared, *own]


def _encode_setup(frame: Setup) -> list[Bytes]:
    return [_LENGTH.pack(len(frame.config)), frame.config, frame.initializers]


def _encode_batch(frame: Batch) -> list[Bytes]:
    return [
        _BATCH.pack(frame.job, frame.batch, frame.lanes, frame.attempt),
        *_ints(frame.items),
        *_blobs(frame.shared, frame.blobs),
    ]


def _encode_results(frame: Results) -> list[Bytes]:
    column, since = frame.seconds, _EACH
    if len(column) == 1 and not frame.blobs and type(column) is tuple and type(frame.positions) is range and _IS_LITTLE:
        # One plain value, as of a call: in one go what is done below step by step.
        return [
            _ONLY.pack(
                frame.job, frame.batch, _EACH, 1, _RANGE, frame.positions.start, column[0], len(frame.shared), 0
            ),
            frame.shared,
        ]
    if type(column) is InARow:
        since, column = column.since, column.ends
    return [
        _RESULTS.pack(frame.job, frame.batch, since),
        *_ints(frame.positions),
        # Of a list a third of what it costs to make an array of it.
        column.tobytes() if type(column) is array else struct.pack(f"{len(column)}d", *column),
        *_blobs(frame.shared, frame.blobs),
    ]


_ENCODERS: dict[type, Callable[[Any], list[Bytes]]] = {
    Setup: _encode_setup,
    Function: lambda f: [_FUNCTION.pack(f.job, f.flags, len(f.settings)), f.settings, f.data],
    Batch: _encode_batch,
    Call: lambda f: [_CALL.pack(f.job, f.batch, f.flags, len(f.function)), f.function, f.arguments],
    AskBack: lambda f: [_ASK.pack(f.job, f.count)],
    Cancel: lambda f: [_ONE.pack(f.job)],
    Forget: lambda f: [_ONE.pack(f.job)],
    Environment: lambda f: [f.data],
    AskStacks: lambda f: [_ASK_STACKS.pack(f.number, f.job)],
    Ping: lambda f: [_ONE.pack(f.number)],
    Ready: lambda f: [_READY.pack(f.pid)],
    StartFailed: lambda f: [f.error],
    Results: _encode_results,
    Failed: lambda f: [_FAILED.pack(f.job, f.batch, f.position, f.seconds, f.flags, f.after), f.error],
    HandedBack: lambda f: [_ONE.pack(f.job), *_ints(f.batches), *_ints(f.positions)],
    Dropped: lambda f: [_ONE.pack(f.job)],
    Held: lambda f: [_ONE.pack(f.job)],
    Overdue: lambda f: [_ITEM.pack(f.job, f.batch, f.position)],
    Pong: lambda f: [_PONG.pack(f.number, f.batch, f.position, f.seconds)],
    Reported: lambda f: [_REPORTED.pack(f.job, f.batch, f.position, f.fraction), f.text],
    Modules: lambda f: [f.data],
    Turned: lambda f: [_TURNED.pack(f.number, f.seconds)],
    Stacks: lambda f: [_ONE.pack(f.number), f.data],
    Put: lambda f: [_PUT.pack(f.number, f.offset, f.shared), *_ints(f.lengths), f.data],
    Release: lambda f: [_FIRST.pack(f.number)],
    Lent: lambda f: [_FIRST.pack(f.batch), *_ints(f.places), *_ints(f.offsets), *_ints(f.lengths)],
    GivenBack: lambda f: _ints(f.offsets),
}


# --- reading ---------------------------------------------------------------------------------------------------------


class _Body:
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
        if tag == _RANGE:
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
        ends: array[float] = array("d")
        ends.frombytes(self.take(count * _DOUBLE))
        if not (count and 0 <= since <= ends[-1] < math.inf):
            raise FrameError("values of no item, or of some that took less than no time")
        return InARow(since, ends)

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


def _decode_batch(body: _Body) -> Batch:
    job, batch, lanes, attempt = body.fields(_BATCH)
    items = body.ints()
    shared, blobs = body.blobs()
    _check_column("values", len(blobs) or len(items), len(items))
    return Batch(job, batch, lanes, attempt, items, shared, blobs)


def _decode_call(body: _Body) -> Call:
    job, batch, flags, length = _CALL.unpack(body.take(_CALL.size))
    return Call(job, batch, flags, body.take(length), body.rest())


def _decode_results(body: _Body) -> Results:
    data = body.data
    if len(data) >= _ONLY.size and _IS_LITTLE:
        job, batch, since, count, tag, first, seconds, length, blobs = _ONLY.unpack_from(data)
        whole = since == _EACH and length == len(data) - _ONLY.size
        if whole and count == 1 and tag == _RANGE and not blobs and first < LIMIT:
            # One plain value, as of a call: in one go what is done below step by step.
            if seconds < 0:
                raise FrameError("values of no item, or of one that took less than no time")
            body.at = len(data)
            return Results(job, batch, range(first, first + 1), (seconds,), data[_ONLY.size :], ())
    return _decode_any_results(body)


def _decode_any_results(body: _Body) -> Results:
    job, batch, since = _RESULTS.unpack(body.take(_RESULTS.size))
    positions = body.ints()
    seconds = body.seconds(len(positions)) if since == _EACH else body.row(since, len(positions))
    shared, blobs = body.blobs()
    _check_column("values", len(blobs) or len(positions), len(positions))
    return Results(job, batch, positions, seconds, shared, blobs)


def _decode_handed_back(body: _Body) -> HandedBack:
    (job,) = body.fields(_ONE)
    batches, positions = body.ints(), body.ints()
    _check_column("positions", len(positions), len(batches))
    return HandedBack(job, batches, positions)


def _decode_setup(body: _Body) -> Setup:
    (length,) = body.fields(_LENGTH)
    return Setup(body.take(length), body.rest())


def _decode_function(body: _Body) -> Function:
    job, flags, length = body.fields(_FUNCTION)
    return Function(job, flags, body.take(length), body.rest())


def _decode_failed(body: _Body) -> Failed:
    job, batch, position, seconds, flags, after = _FAILED.unpack(body.take(_FAILED.size))
    if after > Failed.LONGEST:
        raise FrameError(f"an attempt that is to begin in {after} seconds")
    return Failed(job, batch, position, seconds, flags, after, body.rest())


def _decode_reported(body: _Body) -> Reported:
    job, batch, position, fraction = _REPORTED.unpack(body.take(_REPORTED.size))
    if fraction < 0 or fraction > 1:  # not a number is neither
        raise FrameError(f"an item says that {fraction} of it is done")
    return Reported(job, batch, position, fraction, body.rest())


def _decode_pong(body: _Body) -> Pong:
    number, batch, position, seconds = _PONG.unpack(body.take(_PONG.size))
    _check_seconds(seconds)
    return Pong(number, batch, position, seconds)


def _decode_turned(body: _Body) -> Turned:
    number, seconds = _TURNED.unpack(body.take(_TURNED.size))
    _check_seconds(seconds)
    return Turned(number, seconds)


def _decode_lent(body: _Body) -> Lent:
    (batch,) = body.fields(_FIRST)
    places, offsets, lengths = body.ints(), body.ints(), body.ints()
    _check_column("offsets", len(offsets), len(places))
    _check_column("lengths", len(lengths), len(places))
    return Lent(batch, places, offsets, lengths)


def _decode_put(body: _Body) -> Put:
    number, offset, shared = _PUT.unpack(body.take(_PUT.size))
    lengths, data = body.ints(), body.rest()
    # As a run it would say little, and take long to add up.
    if shared > 1 or isinstance(lengths, range) or (offset < 0 and sum(lengths) != len(data)):
        raise FrameError(f"a value in parts that do not make {len(data)} bytes")
    return Put(number, offset, bool(shared), lengths, data)


def _decode_stacks(body: _Body) -> Stacks:
    (number,) = body.fields(_ONE)
    return Stacks(number, body.rest())


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise FrameError(f"something took {seconds} seconds")


def _check_column(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise FrameError(f"{got} {what} for {expected} items")


_DECODERS: dict[int, Callable[[_Body], Frame]] = {
    Setup.kind: _decode_setup,
    Function.kind: _decode_function,
    Batch.kind: _decode_batch,
    Call.kind: _decode_call,
    AskBack.kind: lambda body: AskBack(*body.fields(_ASK)),
    Cancel.kind: lambda body: Cancel(*body.fields(_ONE)),
    Forget.kind: lambda body: Forget(*body.fields(_ONE)),
    Environment.kind: lambda body: Environment(body.rest()),
    AskStacks.kind: lambda body: AskStacks(*body.fields(_ASK_STACKS)),
    Ping.kind: lambda body: Ping(*body.fields(_ONE)),
    Ready.kind: lambda body: Ready(*body.fields(_READY)),
    StartFailed.kind: lambda body: StartFailed(body.rest()),
    Results.kind: _decode_results,
    Failed.kind: _decode_failed,
    HandedBack.kind: _decode_handed_back,
    Dropped.kind: lambda body: Dropped(*body.fields(_ONE)),
    Held.kind: lambda body: Held(*body.fields(_ONE)),
    Overdue.kind: lambda body: Overdue(*body.fields(_ITEM)),
    Pong.kind: _decode_pong,
    Reported.kind: _decode_reported,
    Modules.kind: lambda body: Modules(body.rest()),
    Turned.kind: _decode_turned,
    Stacks.kind: _decode_stacks,
    Put.kind: _decode_put,
    Release.kind: lambda body: Release(*body.fields(_FIRST)),
    Lent.kind: _decode_lent,
    GivenBack.kind: lambda body: GivenBack(body.ints()),
}


def _decode(kind: int, data: bytes | bytearray) -> Frame:
    """The frame of this kind with this body, which it keeps views of."""
    body = _Body(memoryview(data))
    frame = _DECODERS[kind](body)
    body.end()
    return frame


class Parser:
    """Frames out of bytes that come cut anywhere. After a FrameError it takes nothing more."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._kind: int | None = None
        self._length = 0
        self.broken = False

    def feed(self, data: Bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete."""
        if self.broken:
            raise FrameError("bytes after a broken frame")
        try:
            yield from self._feed(memoryview(data))
        except FrameError:
            self.broken = True
            raise

    def _feed(self, data: memoryview) -> Iterator[Frame]:
        at = 0
        if self._kind is None and not self._pending:
            # Frames mostly come whole.
            while (body_at := at + HEADER.size) <= len(data):
                kind, length = self._open(bytes(data[at:body_at]))
                if body_at + length > len(data):
                    break
                at = body_at + length
                yield _decode(kind, bytes(data[body_at:at]))
        while True:
            if self._kind is None:
                at += self._fill(data[at:], HEADER.size)
                if len(self._pending) < HEADER.size:
                    return
                self._kind, self._length = self._open(bytes(self._pending))
                self._pending = bytearray()
            if not self._pending and len(data) - at >= self._length:
                body: bytes | bytearray = bytes(data[at : at + self._length])
                at += self._length
            else:
                at += self._fill(data[at:], self._length)
                if len(self._pending) < self._length:
                    return
                body, self._pending = self._pending, bytearray()
            kind, self._kind = self._kind, None
            yield _decode(kind, body)

    def _fill(self, data: memoryview, size: int) -> int:
        taken = min(size - len(self._pending), len(data))
        self._pending += data[:taken]
        return taken

    def _open(self, header: bytes) -> tuple[int, int]:
        magic, version, kind, length = HEADER.unpack(header)
        if magic != MAGIC or version != VERSION:
            raise FrameError(f"a frame begins with {header[:3]!r} instead of {MAGIC + bytes([VERSION])!r}")
        if kind not in _DECODERS:
            # At once, not after a body that a broken length may make endless.
            raise FrameError(f"no frame is of kind {kind}")
        if length > self._limit:
            raise FrameError(f"a frame of {length} bytes is over the limit of {self._limit}")
        if length != _FIXED.get(kind, length):
            raise FrameError(f"a frame of kind {kind} is of {length} bytes instead of {_FIXED[kind]}")
        return kind, length
