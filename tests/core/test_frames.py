"""Frames: what is written is read again, however it is cut; what is not a frame is a FrameError and nothing worse."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
from array import array
from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool._core import frames, wire
from aiopool.errors import FrameError
from tests.core.conftest import PROFILE

MUTATIONS = 100 if PROFILE == "full" else 20

small = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**64 - 1)
blob = st.binary(max_size=40)
seconds = st.floats(0, width=64, allow_nan=False, allow_infinity=False)
delay = st.floats(-1, frames.Failed.LONGEST)
fraction = st.floats(0, 1)
runs = st.builds(lambda first, count: range(first, first + count), st.integers(0, 2**39), st.integers(0, 50))


@st.composite
def values(draw, count: int):
    """The blobs of so many items: none at all, or one each, of which some are shared."""
    if draw(st.booleans()):
        return ()
    return draw(st.lists(st.none() | blob, min_size=count, max_size=count))


@st.composite
def batches(draw):
    """A batch of items."""
    items = draw(runs | st.lists(large, max_size=20))
    return frames.Batch(draw(large), draw(large), draw(small), draw(small), items, draw(blob), draw(values(len(items))))


@st.composite
def results(draw):
    """Values of a batch."""
    positions = draw(runs.filter(len) | st.lists(large, min_size=1, max_size=20))
    took: Sequence[float] = draw(st.lists(seconds, min_size=len(positions), max_size=len(positions)))
    if draw(st.booleans()):
        since, *ends = sorted([draw(seconds), *took])
        took = frames.InARow(since, ends)
        if draw(st.booleans()):
            whole, rest = divmod(len(ends), 3)
            sizes = bytes([3] * whole + [rest] * bool(rest))
            took = frames.InARow(since, ends[len(ends) - len(sizes) :], sizes)
    return frames.Results(draw(large), draw(large), positions, took, draw(blob), draw(values(len(positions))))


@st.composite
def handed_back(draw):
    """Items that have not started."""
    back = draw(st.lists(large, max_size=20))
    positions = draw(st.lists(large, min_size=len(back), max_size=len(back)))
    return frames.HandedBack(draw(large), back, positions)


@st.composite
def lent(draw: st.DrawFn) -> frames.Lent:
    """What parts of values stand in shared pages."""
    count = draw(st.integers(0, 5))
    columns = [draw(st.lists(large, min_size=count, max_size=count)) for _ in range(3)]
    return frames.Lent(draw(large), *columns)


@st.composite
def puts(draw: st.DrawFn) -> frames.Put:
    """A value in the pages, or in the frame itself."""
    offset = draw(st.integers(-1, 1 << 40))
    parts = draw(st.lists(blob, min_size=1, max_size=4))
    data = b"".join(map(bytes, parts)) if offset < 0 else b""
    return frames.Put(draw(large), offset, draw(st.booleans()), [len(part) for part in parts], data)


@st.composite
def calls(draw: st.DrawFn) -> frames.Calls:
    """Calls of one function."""
    count = draw(st.integers(0, 5))
    columns = [draw(st.lists(large, min_size=count, max_size=count)) for _ in range(2)]
    arguments = draw(st.lists(blob, min_size=count, max_size=count))
    return frames.Calls(draw(st.integers(0, 255)), draw(blob), *columns, arguments)


KINDS = {
    frames.Setup: st.builds(frames.Setup, blob, blob),
    frames.Function: st.builds(frames.Function, large, st.integers(0, 255), blob, blob),
    frames.Call: st.builds(frames.Call, large, large, st.integers(0, 255), blob, blob),
    frames.Calls: calls(),
    frames.Batch: batches(),
    frames.AskBack: st.builds(frames.AskBack, large, large),
    frames.Cancel: st.builds(frames.Cancel, large),
    frames.Forget: st.builds(frames.Forget, large),
    frames.Ready: st.builds(frames.Ready, large),
    frames.StartFailed: st.builds(frames.StartFailed, blob),
    frames.Results: results(),
    frames.Failed: st.builds(frames.Failed, large, large, large, seconds, st.integers(0, 255), delay, blob),
    frames.HandedBack: handed_back(),
    frames.Dropped: st.builds(frames.Dropped, large),
    frames.Held: st.builds(frames.Held, large),
    frames.Environment: st.builds(frames.Environment, blob),
    frames.AskStacks: st.builds(frames.AskStacks, large, large),
    frames.Ping: st.builds(frames.Ping, large),
    frames.Overdue: st.builds(frames.Overdue, large, large, large),
    frames.Pong: st.builds(frames.Pong, large, large, large, seconds),
    frames.Turned: st.builds(frames.Turned, large, seconds),
    frames.Stacks: st.builds(frames.Stacks, large, blob),
    frames.Reported: st.builds(frames.Reported, large, large, large, fraction, blob),
    frames.Modules: st.builds(frames.Modules, blob),
    frames.Lent: lent(),
    frames.Put: puts(),
    frames.Release: st.builds(frames.Release, large),
    frames.GivenBack: st.builds(frames.GivenBack, st.lists(large, max_size=5)),
}
every_frame = st.one_of(*KINDS.values())
streams = st.lists(every_frame, min_size=1, max_size=5)


def written(*sent: frames.Frame) -> bytes:
    """The bytes of these frames."""
    return b"".join(bytes(part) for frame in sent for part in wire.encode(frame))


def plain(frame: frames.Frame) -> tuple[object, ...]:
    """A frame as plain values: whether a column is a list, a range or an array says nothing."""
    return type(frame), *(_plain(getattr(frame, field.name)) for field in fields(frame))


def _plain(value: object) -> object:
    if isinstance(value, bytes | memoryview | bytearray):
        return bytes(value)
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    return value


def read(*chunks: bytes) -> list[tuple[object, ...]]:
    """The frames in these bytes."""
    parser = wire.Parser()
    return [plain(frame) for chunk in chunks for frame in parser.feed(chunk)]


# --- there and back --------------------------------------------------------------------------------------------------


def test_every_kind_of_frame_is_tried():
    """A new one is added to the table above."""
    assert set(KINDS) == set(get_args(frames.Frame))


@given(sent=streams)
def test_what_is_written_is_what_is_read(sent):
    """Frames of every kind, one after the other."""
    assert read(written(*sent)) == [plain(frame) for frame in sent]


@given(sent=streams)
def test_bytes_that_come_one_by_one_make_the_same_frames(sent):
    """A pipe may cut anywhere."""
    stream = written(*sent)
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == read(stream)


@given(sent=streams, cuts=st.lists(st.integers(0, 500), max_size=10))
def test_bytes_that_come_in_pieces_make_the_same_frames(sent, cuts):
    """Small ones, empty ones, pieces with several frames."""
    stream = written(*sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
    assert read(*pieces) == read(stream)


def test_every_frame_tells_the_number_of_its_job_in_full():
    """A pool may have had more than 2**32 jobs: ten thousand in a second are that many in five days."""
    job = 2**32 + 7
    sent = (
        frames.Function(job, 0, b"", b""), frames.Batch(job, 1, 1, 1, range(1), b"x", ()),
        frames.Call(job, 1, 0, b"", b""), frames.AskBack(job, 1), frames.Cancel(job), frames.Forget(job),
        frames.AskStacks(1, job),
        frames.Results(job, 1, range(1), [0.5], b"x", ()), frames.Results(job, 1, range(2), [0.5, 0.5], b"x", ()),
        frames.Failed(job, 1, 0, 0.5, 0, -1.0, b""), frames.HandedBack(job, [1], [0]), frames.Dropped(job),
        frames.Held(job), frames.Overdue(job, 1, 0), frames.Reported(job, 1, 0, 0.5, b""),
    )  # fmt: skip
    back = list(wire.Parser().feed(written(*sent)))
    assert [getattr(frame, "job", None) for frame in back] == [job] * len(sent)


def test_a_run_of_numbers_travels_as_a_range_and_arrives_as_one():
    """A batch of a million neighbouring items names them in a few bytes, and nobody makes a list of them."""
    frame = frames.Batch(1, 2, 3, 1, range(10**6), b"values", ())
    stream = written(frame)
    assert len(stream) < 100
    (arrived,) = wire.Parser().feed(stream)
    assert arrived.items == range(10**6)


def test_big_values_are_not_copied_by_writing():
    """They are handed to the pipe as they are."""
    value = bytes(1 << 20)
    parts = wire.encode(frames.Batch(1, 2, 3, 1, range(1), b"", (value,)))
    assert any(part is value for part in parts)


def test_frames_outlive_the_bytes_they_came_from():
    """A reader may reuse its buffer as soon as it has the frames."""
    buffer = bytearray(written(frames.Failed(1, 2, 3, 0.5, 0, -1.0, b"error")))
    (arrived,) = wire.Parser().feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert bytes(arrived.error) == b"error"


# --- what is not a frame ---------------------------------------------------------------------------------------------


def header(kind: int, length: int, *, magic: bytes = wire.MAGIC, version: int = wire.VERSION) -> bytes:
    """The beginning of a frame."""
    return wire.HEADER.pack(magic, version, kind, length)


def framed(kind: int, body: bytes) -> bytes:
    """A frame with this body."""
    return header(kind, len(body)) + body


def numbers(*of: int) -> bytes:
    """Whole numbers of eight bytes."""
    return struct.pack(f"<{len(of)}Q", *of)


def run_of(count: int, first: int = 0) -> bytes:
    """A column that says it is a range."""
    return struct.pack("<QBQ", count, 0, first)


def list_of(count: int, *of: int) -> bytes:
    """A column that says it has ``count`` numbers."""
    return struct.pack("<QB", count, 1) + numbers(*of)


RESULTS = struct.pack("<QQd", 1, 2, -1.0)
BATCH = struct.pack("<QQII", 1, 2, 3, 1)
LIES = {
    "another magic": header(4, 16, magic=b"XX"),
    "another version": header(4, 16, version=9),
    "a kind that is none": header(99, 1 << 39),
    "longer than any frame": header(3, wire.LIMIT + 1),
    "a body that is too short": framed(frames.AskBack.kind, bytes(15)),
    "a body that is too long": framed(frames.AskBack.kind, bytes(17)),
    "an empty body": framed(frames.Ready.kind, b""),
    "a config beyond its frame": framed(frames.Setup.kind, numbers(1 << 60)),
    "more numbers than bytes": framed(frames.HandedBack.kind, numbers(1) + list_of(1 << 60, 1)),
    "columns of two lengths": framed(frames.HandedBack.kind, numbers(1) + list_of(1, 5) + list_of(0)),
    "a column of no kind": framed(frames.HandedBack.kind, struct.pack("<QQB", 1, 1, 7) + numbers(1)),
    "a range beyond any job": framed(frames.Batch.kind, BATCH + run_of(1 << 60) + numbers(0, 0)),
    "a range that begins beyond any job": framed(frames.Batch.kind, BATCH + run_of(1, 1 << 63) + numbers(0, 0)),
    "positions without their seconds": framed(frames.Results.kind, RESULTS + run_of(1 << 39) + numbers(0, 0)),
    "more blobs than bytes": framed(frames.Batch.kind, BATCH + run_of(2) + numbers(0, 1 << 50)),
    "fewer blobs than items": framed(frames.Batch.kind, BATCH + run_of(2) + numbers(0, 1, 0)),
    "a blob beyond its frame": framed(frames.Batch.kind, BATCH + run_of(1) + numbers(0, 1, 1 << 40)),
    "a blob of a negative length": framed(frames.Batch.kind, BATCH + run_of(1) + numbers(0, 1, (1 << 64) - 2)),
    "shared values beyond their frame": framed(frames.Batch.kind, BATCH + run_of(1) + numbers(1 << 50, 0)),
}


@pytest.mark.parametrize("stream", LIES.values(), ids=LIES.keys())
def test_what_is_not_a_frame_is_a_frame_error_and_costs_no_memory(stream):
    """Whatever sizes it speaks of."""
    tracemalloc.start()
    try:
        parser = wire.Parser()
        with pytest.raises(FrameError):
            list(parser.feed(stream))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_after_a_frame_error_nothing_more_is_read():
    """What follows cannot be told from what was broken."""
    parser = wire.Parser()
    with pytest.raises(FrameError):
        list(parser.feed(b"this is not a frame"))
    with pytest.raises(FrameError, match="after"):
        list(parser.feed(written(frames.Ready(1))))


def test_frames_before_a_broken_one_are_read():
    """A worker that breaks down in the middle of a message has said something before."""
    arriving = wire.Parser().feed(written(frames.Ready(7)) + b"this is not a frame")
    assert next(arriving) == frames.Ready(7)
    with pytest.raises(FrameError):
        next(arriving)


def test_a_limit_of_ones_own_is_kept():
    """Who knows how long frames may be says so."""
    with pytest.raises(FrameError, match="over the limit"):
        list(wire.Parser(limit=10).feed(written(frames.StartFailed(bytes(11)))))


def sizes(frame: frames.Frame) -> list[int]:
    """How much a frame takes up: the lengths of its columns and blobs, but for ranges, which take up nothing."""
    found = []
    for field in fields(frame):
        value = getattr(frame, field.name)
        if isinstance(value, array | list | bytes | bytearray | memoryview):
            found.append(len(value))
        if isinstance(value, list):
            found.extend(len(entry) for entry in value if entry is not None)
    return found


@given(sent=streams, seed=st.integers(0, 2**32))
def test_a_stream_that_was_damaged_gives_frames_or_a_frame_error(sent, seed):
    """Bytes changed, cut out, doubled, cut off: nothing else is raised, and no frame is larger than its stream."""
    chance, stream = random.Random(seed), written(*sent)
    for _ in range(MUTATIONS):
        damaged = damage(stream, chance)
        parser = wire.Parser()
        half = chance.randrange(len(damaged) + 1)
        try:
            arrived = [*parser.feed(damaged[:half]), *parser.feed(damaged[half:])]
        except FrameError:
            continue
        assert all(size <= len(damaged) for frame in arrived for size in sizes(frame))


def damage(stream: bytes, chance: random.Random) -> bytes:
    """The stream with one to three things wrong with it."""
    damaged = bytearray(stream)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(damaged) + 1)
        match chance.randrange(5):
            case 0:
                damaged[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                damaged[at : at + 8] = numbers(chance.choice([0, 1, 255, 1 << 20, 1 << 40, (1 << 64) - 1]))
            case 2:
                del damaged[at : at + chance.randint(1, 9)]
            case 3:
                damaged[at:at] = damaged[at : at + chance.randint(1, 20)]
            case 4:
                del damaged[at:]
    return bytes(damaged)


@given(noise=st.binary(max_size=200))
def test_noise_is_a_frame_error_or_the_beginning_of_a_frame(noise):
    """Whether it comes with a right header or without."""
    for stream in (noise, wire.MAGIC + bytes([wire.VERSION]) + noise):
        try:
            list(wire.Parser().feed(stream))
        except FrameError:
            continue


def test_a_big_value_is_not_copied_to_be_sent():
    """It is a part of its own, as it came; a small one travels in one piece with what stands before it."""
    for size, whole in ((wire.SMALL, True), (wire.SMALL + 1, False)):
        shared = bytes(size)
        parts = wire.encode(frames.Results(1, 2, frames.ONLY, (0.5,), shared, ()))
        assert (len(parts) == 1) == whole
        assert any(part is shared for part in parts) == (not whole)
        (frame,) = wire.Parser().feed(b"".join(parts))
        assert isinstance(frame, frames.Results)
        assert bytes(frame.shared) == shared
