"""One message on a pipe, as bytes. The parser fails closed: whatever is not a frame is a FrameError.

A frame is a header and a body::

    magic 2 | version 1 | kind 1 | length of the body 8 | body

Numbers are little-endian; columns stand as the machine has them, because both ends of a pipe are on one machine. A
body holds fixed fields, then columns: a run of whole numbers travels as a range where it is one, blobs travel as a
column of lengths and their bytes. Values are never looked into here.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiopool._core.frames import (
    AskBack,
    Batch,
    Bytes,
    Cancel,
    Dropped,
    Environment,
    Failed,
    Forget,
    Frame,
    Function,
    HandedBack,
    Held,
    Modules,
    Overdue,
    Ping,
    Pong,
    Ready,
    Reported,
    Results,
    Setup,
    StartFailed,
)
from aiopool.errors import FrameError

__all__ = ["Parser", "encode"]

MAGIC = b"ap"
VERSION = 1
LIMIT = 1 << 40
HEADER = struct.Struct("<2sBBQ")

_RANGE, _LIST = 0, 1
_SHARED = -1

_ONE = struct.Struct("<I")
_FUNCTION = struct.Struct("<IBI")
_BATCH = struct.Struct("<IQII")
_ASK = struct.Struct("<IQ")
_READY = struct.Struct("<Q")
_RESULTS = struct.Struct("<IQ")
_FAILED = struct.Struct("<IQQdBd")
_ITEM = struct.Struct("<IQQ")
_REPORTED = struct.Struct("<IQQd")
_COUNT = struct.Struct("<QB")
_FIRST = struct.Struct("<Q")
_LENGTH = struct.Struct("<Q")


# --- writing ---------------------------------------------------------------------------------------------------------


def encode(frame: Frame) -> list[Bytes]:
    """The bytes of a frame, in parts, so that big blobs are not copied."""
    parts = _ENCODERS[type(frame)](frame)
    length = sum(len(part) for part in parts)
    return [HEADER.pack(MAGIC, VERSION, frame.kind, length), *parts]


def _ints(values: Sequence[int]) -> list[Bytes]:
    if isinstance(values, range) and values.step == 1:
        return [_COUNT.pack(len(values), _RANGE), _FIRST.pack(values.start)]
    return [_COUNT.pack(len(values), _LIST), array("Q", values).tobytes()]


def _blobs(shared: Bytes, blobs: Sequence[Bytes | None]) -> list[Bytes]:
    lengths = array("q", [_SHARED if blob is None else len(blob) for blob in blobs])
    own = [blob for blob in blobs if blob]
    return [_LENGTH.pack(len(shared)), _LENGTH.pack(len(blobs)), lengths.tobytes(), shared, *own]


def _encode_setup(frame: Setup) -> list[Bytes]:
    return [_LENGTH.pack(len(frame.config)), frame.config, frame.initializers]


def _encode_batch(frame: Batch) -> list[Bytes]:
    return [
        _BATCH.pack(frame.job, frame.batch, frame.lanes, frame.attempt),
        *_ints(frame.items),
        *_blobs(frame.shared, frame.blobs),
    ]


def _encode_results(frame: Results) -> list[Bytes]:
    return [
        _RESULTS.pack(frame.job, frame.batch),
        *_ints(frame.positions),
        array("d", frame.seconds).tobytes(),
        *_blobs(frame.shared, frame.blobs),
    ]


_ENCODERS: dict[type, Callable[[Any], list[Bytes]]] = {
    Setup: _encode_setup,
    Function: lambda f: [_FUNCTION.pack(f.job, f.flags, len(f.settings)), f.settings, f.data],
    Batch: _encode_batch,
    AskBack: lambda f: [_ASK.pack(f.job, f.count)],
    Cancel: lambda f: [_ONE.pack(f.job)],
    Forget: lambda f: [_ONE.pack(f.job)],
    Environment: lambda f: [f.data],
    Ping: lambda _: [],
    Ready: lambda f: [_READY.pack(f.pid)],
    StartFailed: lambda f: [f.error],
    Results: _encode_results,
    Failed: lambda f: [_FAILED.pack(f.job, f.batch, f.position, f.seconds, f.flags, f.after), f.error],
    HandedBack: lambda f: [_ONE.pack(f.job), *_ints(f.batches), *_ints(f.positions)],
    Dropped: lambda f: [_ONE.pack(f.job)],
    Held: lambda f: [_ONE.pack(f.job)],
    Overdue: lambda f: [_ITEM.pack(f.job, f.batch, f.position)],
    Pong: lambda _: [],
    Reported: lambda f: [_REPORTED.pack(f.job, f.batch, f.position, f.fraction), f.text],
    Modules: lambda f: [f.data],
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

    def blobs(self) -> tuple[memoryview, list[Bytes | None]]:
        (shared_length,) = self.fields(_LENGTH)
        (count,) = self.fields(_LENGTH)
        lengths = self.column("q", count)
        shared = self.take(shared_length)
        blobs: list[Bytes | None] = []
        for length in lengths:
            if length < _SHARED:
                raise FrameError(f"a blob of {length} bytes")
            blobs.append(None if length == _SHARED else self.take(length))
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


def _decode_results(body: _Body) -> Results:
    job, batch = body.fields(_RESULTS)
    positions = body.ints()
    seconds = body.column("d", len(positions))
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
    return Failed(job, batch, position, seconds, flags, after, body.rest())


def _decode_reported(body: _Body) -> Reported:
    job, batch, position, fraction = _REPORTED.unpack(body.take(_REPORTED.size))
    return Reported(job, batch, position, fraction, body.rest())


def _check_column(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise FrameError(f"{got} {what} for {expected} items")


_DECODERS: dict[int, Callable[[_Body], Frame]] = {
    Setup.kind: _decode_setup,
    Function.kind: _decode_function,
    Batch.kind: _decode_batch,
    AskBack.kind: lambda body: AskBack(*body.fields(_ASK)),
    Cancel.kind: lambda body: Cancel(*body.fields(_ONE)),
    Forget.kind: lambda body: Forget(*body.fields(_ONE)),
    Environment.kind: lambda body: Environment(body.rest()),
    Ping.kind: lambda _: Ping(),
    Ready.kind: lambda body: Ready(*body.fields(_READY)),
    StartFailed.kind: lambda body: StartFailed(body.rest()),
    Results.kind: _decode_results,
    Failed.kind: _decode_failed,
    HandedBack.kind: _decode_handed_back,
    Dropped.kind: lambda body: Dropped(*body.fields(_ONE)),
    Held.kind: lambda body: Held(*body.fields(_ONE)),
    Overdue.kind: lambda body: Overdue(*body.fields(_ITEM)),
    Pong.kind: lambda _: Pong(),
    Reported.kind: _decode_reported,
    Modules.kind: lambda body: Modules(body.rest()),
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
        return kind, length
