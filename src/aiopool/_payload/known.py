"""What was put, as a worker knows it: told once, loaded when it is first asked for, the same object from then on.

A pickle that comes later only names it, by its number. Nothing here needs cloudpickle.
"""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable, Sequence

__all__ = ["Known", "forget", "know", "parts_of", "pieces", "value_of"]

Parts = Sequence[memoryview | bytes]  # the pickle, and the buffers that it asks for


class Known:
    """One value. ``parts`` gives what it is made of, and holds on to the memory in which that stands."""

    __slots__ = ("_is_loaded", "_loading", "_value", "parts")

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self.parts = parts
        self._value: object = None
        self._is_loaded = False
        # Items in threads come here together. A value may hold another one that was put.
        self._loading = threading.Lock()

    def value(self) -> object:
        """Make it, if it is not there yet. Raises what its loading raises, to everybody who asks."""
        if not self._is_loaded:
            with self._loading:
                if not self._is_loaded:
                    pickled, *buffers = self.parts()
                    self._value = pickle.loads(pickled, buffers=buffers)  # noqa: S301 - bytes of our own kernel
                    self._is_loaded = True
        return self._value


_all: dict[int, Known] = {}


def know(number: int, known: Known) -> None:
    """The pool tells of it, before anything that names it."""
    _all[number] = known


def forget(number: int) -> Known | None:
    """Nothing will name it any more. The last of it may go with what is returned here."""
    return _all.pop(number, None)


def value_of(number: int) -> object:
    """What stands in pickles in its place."""
    return _find(number).value()


def parts_of(number: int) -> Parts:
    """What it is made of, for whoever makes it himself."""
    return _find(number).parts()


def _find(number: int) -> Known:
    known = _all.get(number)
    if known is None:
        raise LookupError("what was put is not here any more")
    return known


def pieces(data: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """The parts of what stands one behind the other."""
    ends = list(itertools.accumulate(lengths))
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
