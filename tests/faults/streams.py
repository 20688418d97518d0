"""Streams of frames with something wrong with them: the same ones for the same seed."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator, Sequence

from aiopool._core import frames, wire
from aiopool._core.frames import Bytes, Frame

LENGTHS = [0, 1, 255, 1 << 16, 1 << 20, 1 << 39, 1 << 40, (1 << 40) + 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def written(*sent: Frame) -> bytes:
    """The bytes of these frames."""
    return b"".join(bytes(part) for frame in sent for part in wire.encode(frame))


# --- frames ----------------------------------------------------------------------------------------------------------


def _small(chance: random.Random) -> int:
    return chance.choice([0, 1, 2, chance.randrange(100), chance.randrange(1 << 32)])


def _large(chance: random.Random) -> int:
    return chance.choice([0, 1, 2, chance.randrange(100), chance.randrange(1 << 64)])


def _seconds(chance: random.Random) -> float:
    return chance.choice([0.0, 0.5, chance.random()])


def _blob(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 3, chance.randrange(30)]))


def _ints(chance: random.Random, count: int) -> Sequence[int]:
    if chance.randrange(2):
        first = chance.choice([0, 1, chance.randrange(1 << 30)])
        return range(first, first + count)
    return [_large(chance) for _ in range(count)]


def _blobs(chance: random.Random, count: int) -> Sequence[Bytes | None]:
    if chance.randrange(2):
        return ()
    return [None if chance.randrange(2) else _blob(chance) for _ in range(count)]


def _batch(chance: random.Random) -> frames.Batch:
    count = chance.randrange(5)
    first = _large(chance), _large(chance), _small(chance), _small(chance)
    return frames.Batch(*first, _ints(chance, count), _blob(chance), _blobs(chance, count))


def _results(chance: random.Random) -> frames.Results:
    count = chance.randrange(1, 5)
    seconds = [_seconds(chance) for _ in range(count)]
    columns = _ints(chance, count), seconds, _blob(chance), _blobs(chance, count)
    return frames.Results(_large(chance), _large(chance), *columns)


def _failed(chance: random.Random) -> frames.Failed:
    item = _large(chance), _large(chance), _large(chance)
    return frames.Failed(*item, _seconds(chance), chance.randrange(4), _seconds(chance), _blob(chance))


def _handed_back(chance: random.Random) -> frames.HandedBack:
    count = chance.randrange(5)
    return frames.HandedBack(_large(chance), _ints(chance, count), _ints(chance, count))


def _lent(chance: random.Random) -> frames.Lent:
    count = chance.randrange(5)
    return frames.Lent(_large(chance), _ints(chance, count), _ints(chance, count), _ints(chance, count))


def _calls(chance: random.Random) -> frames.Calls:
    count = chance.randrange(5)
    arguments = [_blob(chance) for _ in range(count)]
    return frames.Calls(chance.randrange(32), _blob(chance), _ints(chance, count), _ints(chance, count), arguments)


KINDS: dict[type, Callable[[random.Random], Frame]] = {
    frames.Setup: lambda c: frames.Setup(_blob(c), _blob(c)),
    frames.Function: lambda c: frames.Function(_large(c), c.randrange(32), _blob(c), _blob(c)),
    frames.Batch: _batch,
    frames.Call: lambda c: frames.Call(_large(c), _large(c), c.randrange(32), _blob(c), _blob(c)),
    frames.Calls: _calls,
    frames.AskBack: lambda c: frames.AskBack(_large(c), _large(c)),
    frames.Cancel: lambda c: frames.Cancel(_large(c)),
    frames.Forget: lambda c: frames.Forget(_large(c)),
    frames.Environment: lambda c: frames.Environment(_blob(c)),
    frames.Ping: lambda c: frames.Ping(_large(c)),
    frames.AskStacks: lambda c: frames.AskStacks(_large(c), _large(c)),
    frames.Ready: lambda c: frames.Ready(_large(c)),
    frames.StartFailed: lambda c: frames.StartFailed(_blob(c)),
    frames.Results: _results,
    frames.Failed: _failed,
    frames.HandedBack: _handed_back,
    frames.Dropped: lambda c: frames.Dropped(_large(c)),
    frames.Held: lambda c: frames.Held(_large(c)),
    frames.Overdue: lambda c: frames.Overdue(_large(c), _large(c), _large(c)),
    frames.Pong: lambda c: frames.Pong(_large(c), _large(c), _large(c), _seconds(c)),
    frames.Put: lambda c: frames.Put(_large(c), c.randrange(1 << 40), c.random() < 0.5, [c.randrange(1 << 30)], b""),
    frames.Release: lambda c: frames.Release(_large(c)),
    frames.Reported: lambda c: frames.Reported(_large(c), _large(c), _large(c), _seconds(c), _blob(c)),
    frames.Modules: lambda c: frames.Modules(_blob(c)),
    frames.Turned: lambda c: frames.Turned(_large(c), _seconds(c)),
    frames.Stacks: lambda c: frames.Stacks(_large(c), _blob(c)),
    frames.Lent: _lent,
    frames.GivenBack: lambda c: frames.GivenBack(_ints(c, c.randrange(5))),
}
"""How to make one of each kind. Frames of the pipe in both directions."""


def samples(chance: random.Random, of_each: int) -> list[bytes]:
    """Frames of every kind, as bytes."""
    return [written(make(chance)) for make in KINDS.values() for _ in range(of_each)]


# --- what may be wrong with them -------------------------------------------------------------------------------------


def flip(stream: bytearray, chance: random.Random) -> None:
    """One bit."""
    if stream:
        stream[chance.randrange(len(stream))] ^= 1 << chance.randrange(8)


def overwrite(stream: bytearray, chance: random.Random) -> None:
    """Eight bytes become a length, most often an absurd one."""
    at = chance.randrange(len(stream) + 1)
    stream[at : at + 8] = struct.pack("<Q", chance.choice(LENGTHS))


def lengthen(stream: bytearray, chance: random.Random) -> None:
    """The length of the first frame is another one."""
    if len(stream) >= wire.HEADER.size:
        stream[4:12] = struct.pack("<Q", chance.choice([*LENGTHS, chance.randrange(200)]))


def rename(stream: bytearray, chance: random.Random) -> None:
    """The first frame says that it is of another kind."""
    if len(stream) >= wire.HEADER.size:
        stream[3] = chance.choice([*(kind.kind for kind in KINDS), 0, 99, 255])  # type: ignore[attr-defined]


def cut_out(stream: bytearray, chance: random.Random) -> None:
    """A few bytes, or many, are missing."""
    at = chance.randrange(len(stream) + 1)
    del stream[at : at + chance.choice([1, 4, 8, 12, len(stream)])]


def insert(stream: bytearray, chance: random.Random) -> None:
    """Bytes that belong to nothing."""
    at = chance.randrange(len(stream) + 1)
    stream[at:at] = chance.randbytes(chance.randint(1, 20))


def double(stream: bytearray, chance: random.Random) -> None:
    """A piece comes twice."""
    at = chance.randrange(len(stream) + 1)
    stream[at:at] = stream[at : at + chance.randint(1, 60)]


def swap(stream: bytearray, chance: random.Random) -> None:
    """Two pieces change places."""
    first, second, third = sorted(chance.randrange(len(stream) + 1) for _ in range(3))
    stream[first:third] = stream[second:third] + stream[first:second]


def zero(stream: bytearray, chance: random.Random) -> None:
    """A piece is empty, as after a hole in a file."""
    at = chance.randrange(len(stream) + 1)
    size = len(stream[at : at + chance.randint(1, 30)])
    stream[at : at + size] = bytes(size)


DAMAGE = [flip, flip, overwrite, lengthen, rename, cut_out, insert, double, swap, zero]


def damaged(stream: bytes, chance: random.Random) -> bytes:
    """The stream with up to three things wrong with it; with none, now and then."""
    changed = bytearray(stream)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        chance.choice(DAMAGE)(changed, chance)
    return bytes(changed)


def pieces(stream: bytes, chance: random.Random) -> list[bytes]:
    """The stream, cut in a few places."""
    edges = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randint(0, 6)))
    return [stream[start:stop] for start, stop in itertools.pairwise([0, *edges, len(stream)])]


def one_by_one(stream: bytes) -> list[bytes]:
    """The stream, byte by byte."""
    return [stream[at : at + 1] for at in range(len(stream))]


def bad_streams(seed: int, known: Sequence[bytes]) -> Iterator[tuple[bytes, random.Random]]:
    """Without end: a stream of one to four of these frames, damaged, and chance for whoever reads it."""
    chance = random.Random(seed)
    while True:
        stream = b"".join(chance.choice(known) for _ in range(chance.choice([1, 1, 2, 4])))
        yield damaged(stream, chance), chance
