"""The messages on a pipe, as values. Their bytes are :mod:`aiopool._core.wire`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "AskBack",
    "Batch",
    "Cancel",
    "Dropped",
    "Environment",
    "Failed",
    "Forget",
    "Frame",
    "Function",
    "HandedBack",
    "Held",
    "Modules",
    "Overdue",
    "Ping",
    "Pong",
    "Ready",
    "Reported",
    "Results",
    "Setup",
    "StartFailed",
]

Bytes = bytes | memoryview

MOST_LANES = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Setup:
    """To a worker, first: how to make its process like the parent's. ``config`` is JSON, ``initializers`` functions."""

    kind: ClassVar[int] = 1
    config: Bytes
    initializers: Bytes


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class AskBack:
    """To a worker: hand back up to ``count`` items of this job that have not started. Answered by HandedBack."""

    kind: ClassVar[int] = 4
    job: int
    count: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a worker: drop what has not started of this job and cancel what runs. Answered by Dropped."""

    kind: ClassVar[int] = 5
    job: int


@dataclass(frozen=True, slots=True)
class Forget:
    """To a worker: the job has ended, its function is not needed any more."""

    kind: ClassVar[int] = 6
    job: int


@dataclass(frozen=True, slots=True)
class Environment:
    """To a worker: make its process like the kernel's is now, before anything that follows. ``data`` is JSON."""

    kind: ClassVar[int] = 7
    data: Bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To a worker: say that you are there. Answered by Pong."""

    kind: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it is set up and waits for work."""

    kind: ClassVar[int] = 16
    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """From a worker: it could not be set up. ``error`` is an exception as data."""

    kind: ClassVar[int] = 17
    error: Bytes


@dataclass(frozen=True, slots=True)
class Results:
    """From a worker: values, with the seconds each took. ``blobs`` may be empty, then every value is in ``shared``."""

    kind: ClassVar[int] = 18
    job: int
    batch: int
    positions: Sequence[int]
    seconds: Sequence[float]
    shared: Bytes
    blobs: Sequence[Bytes | None]


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: one item raised. ``error`` is the exception as data.

    MAY_RETRY: the error is one that another attempt may mend. TIMED_OUT: the attempt took too long, whatever it ended
    with. ``after`` is how many seconds to wait before the next attempt, where the item said so, else negative.
    """

    kind: ClassVar[int] = 19
    MAY_RETRY: ClassVar[int] = 1
    TIMED_OUT: ClassVar[int] = 2
    job: int
    batch: int
    position: int
    seconds: float
    flags: int
    after: float
    error: Bytes


@dataclass(frozen=True, slots=True)
class HandedBack:
    """From a worker: these have not started and will not. Column by column, ``positions[i]`` is of ``batches[i]``."""

    kind: ClassVar[int] = 20
    job: int
    batches: Sequence[int]
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Dropped:
    """From a worker: nothing of the cancelled job is left here."""

    kind: ClassVar[int] = 21
    job: int


@dataclass(frozen=True, slots=True)
class Held:
    """From a worker: items of the cancelled job cannot feel it yet, because another job's item holds their loop."""

    kind: ClassVar[int] = 22
    job: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """From a worker: this attempt has had its time, and was told to end. How it ended follows, unless it is deaf."""

    kind: ClassVar[int] = 23
    job: int
    batch: int
    position: int


@dataclass(frozen=True, slots=True)
class Pong:
    """From a worker: it is there."""

    kind: ClassVar[int] = 24


@dataclass(frozen=True, slots=True)
class Reported:
    """From a worker: how far an item says it is. ``fraction`` is from 0 to 1, or not a number; ``text`` is UTF-8."""

    kind: ClassVar[int] = 25
    job: int
    batch: int
    position: int
    fraction: float
    text: Bytes


@dataclass(frozen=True, slots=True)
class Modules:
    """From a worker: files of the user's own modules that it has imported since it last said so. ``data`` is JSON."""

    kind: ClassVar[int] = 26
    data: Bytes


Frame = (
    Setup | Function | Batch | AskBack | Cancel | Forget | Environment | Ping
    | Ready | StartFailed | Results | Failed | HandedBack | Dropped | Held | Overdue | Pong | Reported | Modules
)  # fmt: skip
