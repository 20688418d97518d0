"""Items that look at the memory of what they were given. Workers import this."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Mapped(NamedTuple):
    """Where a piece of memory comes from, as the system tells it: ``file`` is its device and number there."""

    pid: int
    file: tuple[str, int]
    offset: int
    rights: str


def mapped(array: Any) -> Mapped | None:
    """Tell of which file an array is a part; None where it is memory of this process's own."""
    return mapped_at(np.asarray(array).__array_interface__["data"][0])


def mapped_at(address: int) -> Mapped | None:
    """Tell of which file the memory at an address is a part."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, offset, device, inode, *_ = line.split()
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last and int(inode):
            return Mapped(os.getpid(), (device, int(inode)), int(offset, 16) + address - first, rights)
    return None


def itself(value: Any) -> Any:
    """Give back what was given."""
    return value


def total(array: Any) -> float:
    """Add it up, all of it."""
    return float(np.asarray(array).sum())


def wipe(array: Any) -> float:
    """Write where one was given something."""
    array[:] = 0
    return float(array.sum())


class Counted:
    """Counts how often it is loaded, in each process."""

    loads = 0

    def __init__(self, array: Any) -> None:
        self.array = array

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Counted.loads += 1


def loads(counted: Counted) -> tuple[int, int]:
    """In which process, and how often it was loaded there."""
    return os.getpid(), type(counted).loads


class Column:
    """Keeps its bytes as arrow does: read-only, with a view of them as the only thing that travels."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data).toreadonly()

    def __reduce_ex__(self, protocol: int) -> Any:
        return Column, (pickle.PickleBuffer(self.data),)


kept: list[Any] = []


def keep(array: Any) -> float:
    """Hold on to it beyond the item."""
    kept.append(array)
    return float(array[0])


def look_at_kept(_: object = None) -> list[float]:
    """Tell what is in those that were kept."""
    return [float(array[0]) for array in kept]


def let_go(_: object = None) -> None:
    """Keep nothing any more."""
    kept.clear()


class Named(np.ndarray):
    """An array that says nothing of how it is pickled."""
