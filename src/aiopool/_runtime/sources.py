"""What a user passed as data, made ready to be read: checked, copied where it is small, and kept for error messages."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import (
    AsyncIterable,
    Callable,
    ItemsView,
    Iterable,
    KeysView,
    Mapping,
    Sequence,
    Sized,
    ValuesView,
)
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from aiopool._runtime.feeder import Feeder
from aiopool.errors import InputError

COPIED = (list, tuple, deque, AbstractSet, Mapping, KeysView, ValuesView, ItemsView)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input. ``size`` is None where it has no length; ``keep`` is told what was read, ``forget`` what has ended."""

    size: int | None
    value_of: Callable[[int], object]
    feed: Callable[[Feeder], None]
    keep: Callable[[int, Sequence[object]], None] | None = None
    forget: Callable[[Sequence[int]], None] | None = None


def source_of(iterables: Sequence[object], *, example: str) -> Source:
    """The input of a map over these; several are zipped. ``example`` is how the call is written, for messages."""
    if not iterables:
        raise InputError(f"there is nothing to map over: write {example}")
    for iterable in iterables:
        _check(iterable, example)
    if len(iterables) > 1:
        if any(isinstance(iterable, AsyncIterable) for iterable in iterables):
            raise InputError("an async iterator cannot be zipped with other inputs: zip them in one async generator")
        ready = [_copied(iterable) for iterable in iterables]
        sizes = [len(values) if isinstance(values, Sized) else None for values in ready]
        known = [size for size in sizes if size is not None]
        zipped: Iterable[object] = zip(*ready, strict=False)
        return _read_once(zipped, min(known) if len(known) == len(sizes) else None)
    (iterable,) = iterables
    if isinstance(iterable, AsyncIterable):
        return _async(iterable)
    values = _copied(iterable)
    if isinstance(values, list | tuple | range):
        return _sequence(values)
    return _read_once(values, len(values) if isinstance(values, Sized) else None)


def chosen(indices: Sequence[int], value_of: Callable[[int], object]) -> Source:
    """Some items of another input, under their own numbers: what a retry runs."""
    values = [value_of(index) for index in indices]
    return Source(size=len(indices), value_of=value_of, feed=lambda feeder: feeder.start_sized(tuple(indices), values))


def _sequence(values: Sequence[object]) -> Source:
    return Source(
        size=len(values),
        value_of=values.__getitem__,
        feed=lambda feeder: feeder.start_sized(range(len(values)), values),
    )


def _read_once(values: Iterable[object], size: int | None) -> Source:
    """An input that is kept as it is read: wholly where it has a length, else until each item has ended."""
    kept: dict[int, object] = {}

    def keep(first: int, chunk: Sequence[object]) -> None:
        kept.update(zip(range(first, first + len(chunk)), chunk, strict=True))

    def forget(items: Sequence[int]) -> None:
        for index in items:
            kept.pop(index, None)

    if size is None:
        return Source(
            size=None,
            value_of=kept.__getitem__,
            feed=lambda feeder: feeder.start_unsized(values),
            keep=keep,
            forget=forget,
        )
    return Source(
        size=size,
        value_of=kept.__getitem__,
        feed=lambda feeder: feeder.start_sized(range(size), values),
        keep=keep,
    )


def _async(values: AsyncIterable[object]) -> Source:
    source = _read_once((), None)
    return Source(
        size=None,
        value_of=source.value_of,
        feed=lambda feeder: feeder.start_async(values),
        keep=source.keep,
        forget=source.forget,
    )


def _copied(iterable: Any) -> Iterable[object]:
    """A shallow copy of what its owner may change while the job runs; anything else as it is."""
    if isinstance(iterable, range):
        return iterable
    return list(iterable) if isinstance(iterable, COPIED) else iterable


def _check(iterable: object, example: str) -> None:
    """Refuse what would be iterated to nobody's use, saying what to write instead."""
    name = type(iterable).__name__
    if isinstance(iterable, str | bytes | bytearray):
        raise InputError(f"a single {name} would be taken apart character by character; pass [value] to map over one")
    if name == "DataFrame" and hasattr(iterable, "columns"):
        raise InputError(
            "a DataFrame would be iterated over its column names; pass df.itertuples(index=False) for its rows, "
            'df.to_dict("records") for rows as dicts, or df["column"] for one column'
        )
    if inspect.iscoroutine(iterable):
        raise InputError("a coroutine was passed as the data: await it first")
    if inspect.isroutine(iterable):
        raise InputError(f"a function was passed as the data; call it, or write {example} with the function first")
    if not isinstance(iterable, Iterable | AsyncIterable) and not hasattr(iterable, "__getitem__"):
        raise InputError(f"{name} cannot be iterated: pass a list, a generator or another iterable, as in {example}")
