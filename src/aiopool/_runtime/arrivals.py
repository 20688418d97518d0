"""What arrives of a job: values that came together, in bytes until a reader loads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiopool.frozen import frozen

__all__ = ["Arrival", "Segment"]


@frozen
class Segment:
    """Values of one job that arrived together, still pickled.

    ``shared`` is one pickle of a list: the plain values, in order. ``blobs`` has an entry per item, None where the
    value is the next of ``shared``; or it is empty, and all of them are. ``worker`` is its index in the pool, and each
    item took so many ``attempts``.
    """

    items: Sequence[int]
    seconds: Sequence[float]
    shared: bytes | memoryview
    blobs: Sequence[bytes | memoryview | None]
    worker: int
    attempts: int = 1


@dataclass(slots=True)
class Arrival:
    """Items that arrived together, in the order of arrival; ``segment`` until its values are loaded.

    ``values`` are there while that has begun, and goes on later: so many as ``loaded`` says are those of their items.
    """

    items: Sequence[int]
    seconds: Sequence[float]
    worker: int | None
    segment: Segment | None
    size: int
    attempts: int = 1
    values: list[object] | None = None
    loaded: int = 0
