"""What stays in this process on its way through frames: the pickle only names it, and loading gives the very object.

A map inside a worker runs in the worker itself. Copies of its function, its inputs and its results would be of no use,
and often cannot be made: what is written there is ``pmap(lambda url: client.get(url), urls)`` with a live client.
"""

from __future__ import annotations

import itertools
import pickle
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiopool._payload.functions import FunctionBlob, is_async, name_of
from aiopool._payload.items import EncodedItems

__all__ = ["HeldFunction", "References", "hold_function"]

_numbers = itertools.count(1)


class References:
    """What the frames of one job name: its function, and values by number. They are let go with whoever holds this.

    ``threads`` is how many threads may call the function at the same time, where it is no coroutine function.
    """

    def __init__(self, function: Callable[..., Any], retry_on: tuple[type[BaseException], ...]) -> None:
        self.function = function
        self.retry_on = retry_on
        self.threads = 1
        self._number = next(_numbers)
        self._values: dict[int, object] = {}
        self._value_numbers = itertools.count()
        _known[self._number] = self

    def __reduce__(self) -> tuple[object, tuple[int]]:
        """Travel as a number."""
        return _find, (self._number,)

    def dump(self, value: object, *, keep: bool = False) -> bytes:
        """A pickle that loads as this very object, once; with ``keep`` as often as wanted."""
        number = next(self._value_numbers)
        self._values[number] = value
        return pickle.dumps(_Named(self, number, keep), protocol=5)

    def dump_items(self, values: Sequence[object]) -> EncodedItems:
        """Name arguments: all of them together, because none can be refused."""
        return EncodedItems(self.dump(list(values)), (), ())

    def take(self, number: int, *, keep: bool) -> object:
        """The value, which is let go unless it is to be kept."""
        return self._values[number] if keep else self._values.pop(number)


class _Named:
    """One value of a job, as pickle sees it."""

    def __init__(self, held: References, number: int, keep: bool) -> None:  # noqa: FBT001 - as it is written below
        self._parts = held, number, keep

    def __reduce__(self) -> tuple[object, tuple[References, int, bool]]:
        return _take, self._parts


_known: weakref.WeakValueDictionary[int, References] = weakref.WeakValueDictionary()


def _find(number: int) -> References:
    return _known[number]


def _take(held: References, number: int, keep: bool) -> object:  # noqa: FBT001 - called by pickle
    return held.take(number, keep=keep)


@dataclass(frozen=True, slots=True)
class HeldFunction(FunctionBlob):
    """A function that stays here, with what its jobs refer to. ``data`` loads as ``held``."""

    held: References = None  # type: ignore[assignment]  # after fields with defaults it needs one, and is always given


def hold_function(fn: Callable[..., Any], retry_on: Sequence[type[BaseException]] | None = None) -> HeldFunction:
    """As ``dump_function``, but the function stays, so that nothing can be wrong with it."""
    held = References(fn, (Exception,) if retry_on is None else tuple(retry_on))
    return HeldFunction(pickle.dumps(held, protocol=5), name_of(fn), is_async(fn), held=held)
