"""The messages on a pipe, as values. Their bytes are :mod:`aiopool._core.wire`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from operator import sub, truediv
from typing import ClassVar, overload

from aiopool.frozen import frozen

__all__ = [
    "AskBack",
    "AskStacks",
    "Batch",
    "Call",
    "Calls",
    "Cancel",
    "Dropped",
    "Environment",
    "Failed",
    "Forget",
    "Frame",
    "Function",
    "GivenBack",
    "HandedBack",
    "Held",
    "InARow",
    "Lent",
    "Modules",
    "Overdue",
    "Ping",
    "Pong",
    "Put",
    "Ready",
    "Release",
    "Reported",
    "Results",
    "Setup",
    "Stacks",
    "StartFailed",
    "Turned",
    "mark_of",
    "spot_of",
]

Bytes = bytes | memoryview

ONLY = range(1)
"""The only item of a job or of a batch, by index and by position."""

MOST_LANES = (1 << 32) - 1

PIPES_CLOSED = 71
"""The exit code of a worker that finds its pipes closed by an item's code."""


ANY_MARK = (1 << 64) - 1
"""On a mark page: any item that the worker holds may have begun, there are too many to name them all."""


def mark_of(batch: int, position: int) -> int:
    """How an item is named on a worker's mark page; never 0."""
    return batch << 32 | position + 1


def spot_of(mark: int) -> tuple[int, int]:
    """The batch and the position that a mark names."""
    return mark >> 32, (mark & 0xFFFFFFFF) - 1


ANY_SPOT = spot_of(ANY_MARK)
"""What that is as a batch and a position: there is no such item."""


@frozen
class Setup:
    """To a worker, first: how to make its process like the parent's. ``config`` is JSON, ``initializers`` functions."""

    kind: ClassVar[int] = 1
    config: Bytes
    initializers: Bytes


@frozen
class Function:
    """To a worker, once a job: the function, and in ``flags`` how to call it.

    ASYNC: it is a coroutine function. ONCE: a single item uses it. UNPACK: a tuple becomes ``*args``, a mapping
    ``**kwargs``. CALL: the item is ``(args, kwargs)``. NEVER_AGAIN: no item may be begun twice.

    ``settings`` is empty or JSON: ``timeout`` in seconds per attempt, ``seed``, ``name``.
    """

    kind: ClassVar[int] = 2
    ASYNC: ClassVar[int] = 1
    ONCE: ClassVar[int] = 2
    UNPACK: ClassVar[int] = 4
    CALL: ClassVar[int] = 8
    NEVER_AGAIN: ClassVar[int] = 16
    job: int
    flags: int
    settings: Bytes
    data: Bytes


@frozen
class Batch:
    """To a worker: items to run. ``blobs`` may be empty, then every value is in ``shared``.

    ``attempt`` is 1 for items that run for the first time.
    """

    kind: ClassVar[int] = 3
    job: int
    batch: int
    lanes: int
    attempt: int
    items: Sequence[int]
    shared: Bytes
    blobs: Sequence[Bytes | None]


@frozen
class Call:
    """To a worker: the function and the only item of a job, as Function and Batch would bring them, in one frame.

    ``flags`` are those of Function, ``arguments`` is a pickle.
    """

    kind: ClassVar[int] = 10
    job: int
    batch: int
    flags: int
    function: Bytes
    arguments: Bytes


@frozen
class Calls:
    """To a worker: several of these with the same function, each with its job, its batch and its arguments."""

    kind: ClassVar[int] = 31
    flags: int
    function: Bytes
    jobs: Sequence[int]
    batches: Sequence[int]
    arguments: Sequence[Bytes]


@frozen
class AskBack:
    """To a worker: hand back what has not started of this job, but for one of ``parts`` equal parts.

    Answered by HandedBack. A part and no number, because only the worker knows how many have not started.
    """

    kind: ClassVar[int] = 4
    job: int
    parts: int

    def of(self, waiting: int) -> int:
        """How many of so many that have not started."""
        return waiting - waiting // max(1, self.parts)


@frozen
class Cancel:
    """To a worker: drop what has not started of this job and cancel what runs. Answered by Dropped."""

    kind: ClassVar[int] = 5
    job: int


@frozen
class Forget:
    """To a worker: the job has ended, its function is not needed any more."""

    kind: ClassVar[int] = 6
    job: int


@frozen
class Environment:
    """To a worker: make its process like the kernel's is now, before anything that follows. ``data`` is JSON."""

    kind: ClassVar[int] = 7
    data: Bytes


@frozen
class Ping:
    """To a worker: say that you are there. Answered by Pong, and by Turned when its loop has come round, if ever.

    ``number`` is of the asker's choice; 0 asks for no Turned.
    """

    kind: ClassVar[int] = 8
    number: int = 0


@frozen
class AskStacks:
    """To a worker: tell where everything stands that runs of this job, 0 for all of it. Answered by Stacks."""

    kind: ClassVar[int] = 9
    number: int
    job: int


@frozen
class Put:
    """To a worker, before what first names it: a value that was put, of ``lengths`` parts, the pickle first.

    They stand at ``offset`` of the pool's shared pages, or, where that is negative, in ``data``. ``shared``: nobody may
    write there.
    """

    kind: ClassVar[int] = 12
    number: int
    offset: int
    shared: bool
    lengths: Sequence[int]
    data: Bytes


@frozen
class Release:
    """To a worker: nothing names this value that was put any more."""

    kind: ClassVar[int] = 13
    number: int


@frozen
class Ready:
    """From a worker: it is set up and waits for work."""

    kind: ClassVar[int] = 16
    pid: int


@frozen
class StartFailed:
    """From a worker: it could not be set up. ``error`` is an exception as data."""

    kind: ClassVar[int] = 17
    error: Bytes


class InARow(Sequence[float]):
    """The seconds of items that ran one right after the other: the moments at which they ended, from ``since`` on.

    So what they took together is known at once. What each took is worked out when somebody asks. Where there are
    ``sizes``, one for each moment, so many have ended since the one before, and have taken equal shares; where that is
    0, what lies between is nobody's.
    """

    __slots__ = ("ends", "since", "sizes")

    def __init__(self, since: float, ends: Sequence[float], sizes: bytes = b"") -> None:
        self.since = since
        self.ends = ends
        self.sizes = sizes

    @property
    def total(self) -> float:
        """What all of them took."""
        total, ends, sizes = self.ends[-1] - self.since, self.ends, self.sizes
        gap = sizes.find(0)
        while gap >= 0:
            total -= ends[gap] - (ends[gap - 1] if gap else self.since)
            gap = sizes.find(0, gap + 1)
        return max(0.0, total)

    def __len__(self) -> int:
        if not self.sizes:
            return len(self.ends)
        # Most are 1, and to add them up would cost more than all the rest.
        return self.sizes.count(1) + sum(self.sizes.translate(None, b"\0\1"))

    def __iter__(self) -> Iterator[float]:
        took = map(max, repeat(0.0), map(sub, self.ends, chain((self.since,), self.ends)))
        if not self.sizes:
            return took
        shares = map(truediv, took, self.sizes.replace(b"\0", b"\1"))
        return chain.from_iterable(map(repeat, shares, self.sizes))

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        return list(self)[index]


@frozen
class Results:
    """From a worker: values, with the seconds each took. ``blobs`` may be empty, then every value is in ``shared``."""

    kind: ClassVar[int] = 18
    job: int
    batch: int
    positions: Sequence[int]
    seconds: Sequence[float]
    shared: Bytes
    blobs: Sequence[Bytes | None]

    @property
    def took(self) -> float:
        """What all of them took together."""
        return self.seconds.total if type(self.seconds) is InARow else sum(self.seconds)


@frozen
class Failed:
    """From a worker: one item raised. ``error`` is the exception as data.

    MAY_RETRY: the error is one that another attempt may mend. TIMED_OUT: the attempt took too long, whatever it ended
    with. ``after`` is how many seconds to wait before the next attempt, where the item said so, else negative; LONGEST
    is some centuries.
    """

    kind: ClassVar[int] = 19
    MAY_RETRY: ClassVar[int] = 1
    TIMED_OUT: ClassVar[int] = 2
    LONGEST: ClassVar[float] = 1e10
    job: int
    batch: int
    position: int
    seconds: float
    flags: int
    after: float
    error: Bytes


@frozen
class HandedBack:
    """From a worker: these have not started and will not. Column by column, ``positions[i]`` is of ``batches[i]``."""

    kind: ClassVar[int] = 20
    job: int
    batches: Sequence[int]
    positions: Sequence[int]


@frozen
class Dropped:
    """From a worker: nothing of the cancelled job is left here."""

    kind: ClassVar[int] = 21
    job: int


@frozen
class Held:
    """From a worker: items of the cancelled job cannot feel it yet, because another job's item holds their loop."""

    kind: ClassVar[int] = 22
    job: int


@frozen
class Overdue:
    """From a worker: this attempt has had its time, and was told to end. How it ended follows, unless it is deaf."""

    kind: ClassVar[int] = 23
    job: int
    batch: int
    position: int


@frozen
class Pong:
    """From a worker: it is there, and its main thread has been inside this item for so many seconds.

    ``batch`` is 0 where it is inside of none.
    """

    kind: ClassVar[int] = 24
    number: int = 0
    batch: int = 0
    position: int = 0
    seconds: float = 0.0


@frozen
class Reported:
    """From a worker: how far an item says it is. ``fraction`` is from 0 to 1, or not a number; ``text`` is UTF-8."""

    kind: ClassVar[int] = 25
    job: int
    batch: int
    position: int
    fraction: float
    text: Bytes


@frozen
class Modules:
    """From a worker: files of the user's own modules that it has imported since it last said so. ``data`` is JSON."""

    kind: ClassVar[int] = 26
    data: Bytes


@frozen
class Turned:
    """From a worker: after the Ping of this number its loop took so long to come round."""

    kind: ClassVar[int] = 27
    number: int
    seconds: float


@frozen
class Lent:
    """Either way, before a Batch or Results: parts of some of its blobs stand in the sender's shared pages.

    Column by column: ``places`` among the blobs, and at which ``offsets`` of the file how many bytes, ``lengths``.
    """

    kind: ClassVar[int] = 29
    batch: int
    places: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]


@frozen
class GivenBack:
    """Either way: what was lent of the receiver's shared pages at these offsets is not looked at any more."""

    kind: ClassVar[int] = 30
    offsets: Sequence[int]


@frozen
class Stacks:
    """From a worker: where everything stands. ``data`` is JSON."""

    kind: ClassVar[int] = 28
    number: int
    data: Bytes


Frame = (
    Setup | Function | Batch | Call | Calls | AskBack | AskStacks | Cancel | Forget | Environment | Ping
    | Ready | StartFailed | Results | Failed | HandedBack | Dropped | Held | Overdue | Pong | Reported | Modules
    | Turned | Stacks | Lent | GivenBack | Put | Release
)  # fmt: skip
