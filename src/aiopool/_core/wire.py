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
from collections.abc import Callable, Iterator
from typing import Any

from aiopool._core.columns import EACH, IS_LITTLE, LIMIT, RANGE, Body, blobs, ints, times
from aiopool._core.frames import (
    ONLY,
    AskBack,
    AskStacks,
    Batch,
    Bytes,
    Call,
    Calls,
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
HEADER = struct.Struct("<2sBBQ")

_ONE = struct.Struct("<Q")
_FUNCTION = struct.Struct("<QBI")
_BATCH = struct.Struct("<QQII")
_CALL = struct.Struct("<QQBI")
_CALLS = struct.Struct("<BI")
_ASK = struct.Struct("<QQ")
_READY = struct.Struct("<Q")
_RESULTS = struct.Struct("<QQd")
_ONLY = struct.Struct("<QQdQBQdQQ")
"""A result of one plain value up to that: job, batch, no moment, a run of one number, its seconds, the lengths."""
_WHOLE = struct.Struct(HEADER.format + _ONLY.format[1:])

SMALL = 4096
"""Bytes that are copied into one piece, which costs less than to write them in several."""

_FAILED = struct.Struct("<QQQdBd")
_ITEM = struct.Struct("<QQQ")
_REPORTED = struct.Struct("<QQQd")
_PONG = struct.Struct("<QQQd")
_TURNED = struct.Struct("<Qd")
_ASK_STACKS = struct.Struct("<QQ")
_PUT = struct.Struct("<QqB")
_FIRST = struct.Struct("<Q")
_LENGTH = struct.Struct("<Q")
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
    if type(frame) is Results and (whole := _value_of_one(frame)) is not None:
        return [whole]
    parts = _ENCODERS[type(frame)](frame)
    length = sum(map(len, parts))
    return [HEADER.pack(MAGIC, VERSION, frame.kind, length), *parts]


def _encode_setup(frame: Setup) -> list[Bytes]:
    return [_LENGTH.pack(len(frame.config)), frame.config, frame.initializers]


def _encode_batch(frame: Batch) -> list[Bytes]:
    return [
        _BATCH.pack(frame.job, frame.batch, frame.lanes, frame.attempt),
        *ints(frame.items),
        *blobs(frame.shared, frame.blobs),
    ]


def _encode_calls(frame: Calls) -> list[Bytes]:
    return [
        _CALLS.pack(frame.flags, len(frame.function)),
        frame.function,
        *ints(frame.jobs),
        *ints(frame.batches),
        *blobs(b"", frame.arguments),
    ]


def _value_of_one(frame: Results) -> bytes | None:
    """If that is one plain value, as of a call, and a small one: in one go what is done below step by step."""
    job, batch, positions, column, shared = frame.job, frame.batch, frame.positions, frame.seconds, frame.shared
    if len(column) != 1 or frame.blobs or type(column) is not tuple or type(positions) is not range or not IS_LITTLE:
        return None
    if (size := len(shared)) > SMALL:
        return None
    length = _ONLY.size + size
    head = MAGIC, VERSION, Results.kind, length, job, batch, EACH, 1, RANGE, positions.start, column[0], size, 0
    return _WHOLE.pack(*head) + shared


def _encode_results(frame: Results) -> list[Bytes]:
    column = frame.seconds
    return [
        _RESULTS.pack(frame.job, frame.batch, column.since if type(column) is InARow else EACH),
        *ints(frame.positions),
        *times(column),
        *blobs(frame.shared, frame.blobs),
    ]


_ENCODERS: dict[type, Callable[[Any], list[Bytes]]] = {
    Setup: _encode_setup,
    Function: lambda f: [_FUNCTION.pack(f.job, f.flags, len(f.settings)), f.settings, f.data],
    Batch: _encode_batch,
    Call: lambda f: [_CALL.pack(f.job, f.batch, f.flags, len(f.function)), f.function, f.arguments],
    Calls: _encode_calls,
    AskBack: lambda f: [_ASK.pack(f.job, f.parts)],
    Cancel: lambda f: [_ONE.pack(f.job)],
    Forget: lambda f: [_ONE.pack(f.job)],
    Environment: lambda f: [f.data],
    AskStacks: lambda f: [_ASK_STACKS.pack(f.number, f.job)],
    Ping: lambda f: [_ONE.pack(f.number)],
    Ready: lambda f: [_READY.pack(f.pid)],
    StartFailed: lambda f: [f.error],
    Results: _encode_results,
    Failed: lambda f: [_FAILED.pack(f.job, f.batch, f.position, f.seconds, f.flags, f.after), f.error],
    HandedBack: lambda f: [_ONE.pack(f.job), *ints(f.batches), *ints(f.positions)],
    Dropped: lambda f: [_ONE.pack(f.job)],
    Held: lambda f: [_ONE.pack(f.job)],
    Overdue: lambda f: [_ITEM.pack(f.job, f.batch, f.position)],
    Pong: lambda f: [_PONG.pack(f.number, f.batch, f.position, f.seconds)],
    Reported: lambda f: [_REPORTED.pack(f.job, f.batch, f.position, f.fraction), f.text],
    Modules: lambda f: [f.data],
    Turned: lambda f: [_TURNED.pack(f.number, f.seconds)],
    Stacks: lambda f: [_ONE.pack(f.number), f.data],
    Put: lambda f: [_PUT.pack(f.number, f.offset, f.shared), *ints(f.lengths), f.data],
    Release: lambda f: [_FIRST.pack(f.number)],
    Lent: lambda f: [_FIRST.pack(f.batch), *ints(f.places), *ints(f.offsets), *ints(f.lengths)],
    GivenBack: lambda f: ints(f.offsets),
}


# --- reading ---------------------------------------------------------------------------------------------------------


def _decode_batch(body: Body) -> Batch:
    job, batch, lanes, attempt = body.fields(_BATCH)
    items = body.ints()
    shared, blobs = body.blobs()
    _check_column("values", len(blobs) or len(items), len(items))
    return Batch(job, batch, lanes, attempt, items, shared, blobs)


def _decode_call(body: Body) -> Call:
    job, batch, flags, length = _CALL.unpack(body.take(_CALL.size))
    return Call(job, batch, flags, body.take(length), body.rest())


def _decode_calls(body: Body) -> Calls:
    flags, length = body.fields(_CALLS)
    function = body.take(length)
    jobs, batches = body.ints(), body.ints()
    _, each = body.blobs()
    _check_column("jobs", len(jobs), len(each))
    _check_column("batches", len(batches), len(each))
    arguments = [blob for blob in each if blob is not None]
    _check_column("arguments", len(arguments), len(each))
    return Calls(flags, function, jobs, batches, arguments)


def _decode_results(body: Body) -> Results:
    job, batch, since = _RESULTS.unpack(body.take(_RESULTS.size))
    positions = body.ints()
    seconds = body.seconds(len(positions)) if since == EACH else body.row(since, len(positions))
    shared, blobs = body.blobs()
    _check_column("values", len(blobs) or len(positions), len(positions))
    return Results(job, batch, positions, seconds, shared, blobs)


def _decode_handed_back(body: Body) -> HandedBack:
    (job,) = body.fields(_ONE)
    batches, positions = body.ints(), body.ints()
    _check_column("positions", len(positions), len(batches))
    return HandedBack(job, batches, positions)


def _decode_setup(body: Body) -> Setup:
    (length,) = body.fields(_LENGTH)
    return Setup(body.take(length), body.rest())


def _decode_function(body: Body) -> Function:
    job, flags, length = body.fields(_FUNCTION)
    return Function(job, flags, body.take(length), body.rest())


def _decode_failed(body: Body) -> Failed:
    job, batch, position, seconds, flags, after = _FAILED.unpack(body.take(_FAILED.size))
    if after > Failed.LONGEST:
        raise FrameError(f"an attempt that is to begin in {after} seconds")
    return Failed(job, batch, position, seconds, flags, after, body.rest())


def _decode_reported(body: Body) -> Reported:
    job, batch, position, fraction = _REPORTED.unpack(body.take(_REPORTED.size))
    if fraction < 0 or fraction > 1:  # not a number is neither
        raise FrameError(f"an item says that {fraction} of it is done")
    return Reported(job, batch, position, fraction, body.rest())


def _decode_pong(body: Body) -> Pong:
    number, batch, position, seconds = _PONG.unpack(body.take(_PONG.size))
    _check_seconds(seconds)
    return Pong(number, batch, position, seconds)


def _decode_turned(body: Body) -> Turned:
    number, seconds = _TURNED.unpack(body.take(_TURNED.size))
    _check_seconds(seconds)
    return Turned(number, seconds)


def _decode_lent(body: Body) -> Lent:
    (batch,) = body.fields(_FIRST)
    places, offsets, lengths = body.ints(), body.ints(), body.ints()
    _check_column("offsets", len(offsets), len(places))
    _check_column("lengths", len(lengths), len(places))
    return Lent(batch, places, offsets, lengths)


def _decode_put(body: Body) -> Put:
    number, offset, shared = _PUT.unpack(body.take(_PUT.size))
    lengths, data = body.ints(), body.rest()
    # As a run it would say little, and take long to add up.
    if shared > 1 or isinstance(lengths, range) or (offset < 0 and sum(lengths) != len(data)):
        raise FrameError(f"a value in parts that do not make {len(data)} bytes")
    return Put(number, offset, bool(shared), lengths, data)


def _decode_stacks(body: Body) -> Stacks:
    (number,) = body.fields(_ONE)
    return Stacks(number, body.rest())


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise FrameError(f"something took {seconds} seconds")


def _check_column(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise FrameError(f"{got} {what} for {expected} items")


_DECODERS: dict[int, Callable[[Body], Frame]] = {
    Setup.kind: _decode_setup,
    Function.kind: _decode_function,
    Batch.kind: _decode_batch,
    Call.kind: _decode_call,
    Calls.kind: _decode_calls,
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
    body = Body(memoryview(data))
    frame = _DECODERS[kind](body)
    body.end()
    return frame


def _value_of_call(data: memoryview, at: int) -> tuple[int, Results] | None:
    """If that comes next, where it ends, and the frame: in one go what is done below step by step.

    Any frame of one plain value.
    """
    if len(data) - at < _WHOLE.size or not IS_LITTLE:
        return None
    *header, job, batch, since, count, tag, first, seconds, size, blobs = _WHOLE.unpack_from(data, at)
    end = at + _WHOLE.size + size
    if (
        header != [MAGIC, VERSION, Results.kind, _ONLY.size + size]
        or (since, count, tag, first, blobs) != (EACH, 1, RANGE, 0, 0)
        or not seconds >= 0
        or end > len(data)
    ):
        return None
    return end, Results(job, batch, ONLY, (seconds,), bytes(data[end - size : end]), ())


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
                if (done := _value_of_call(data, at)) is not None:
                    at, frame = done
                    yield frame
                    continue
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
