"""What a user passed as data, made ready to be read: checked, copied where it is small, and kept for error messages."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import threading
import types
import weakref
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Sized,
    ValuesView,
)
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from aiopool._runtime.feeder import Feeder
from aiopool.errors import InputError

COPIED = (list, tuple, deque, AbstractSet, Mapping, KeysView, ValuesView, ItemsView)
ENDLESS = (itertools.repeat, itertools.count, itertools.cycle)
"""Zipped with these, an input is as long as it is without them, and never waits for them."""

MOST_KEPT = 1_000_000_000
"""A longer input counts as one without a length: its results are let go as they are handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input. ``size`` is None where it has no length; ``keep`` is told what was read, ``forget`` what has ended.

    For a retry: ``read`` tells how many items of an input without a length were read; ``rest`` gives items of one that
    can be read only once, also those to which the first job did not come.
    """

    size: int | None
    value_of: Callable[[int], object]
    feed: Callable[[Feeder], None]
    keep: Callable[[int, Sequence[object]], None] | None = None
    forget: Callable[[Sequence[int]], None] | None = None
    read: Callable[[], int] | None = None
    rest: Callable[[Sequence[int]], Iterator[object]] | None = None


def source_of(iterables: Sequence[object], *, example: str) -> Source:
    """The input of a map over these; several are zipped. ``example`` is how the call is written, for messages."""
    if not iterables:
        raise InputError(f"there is nothing to map over: write {example}")
    for iterable in iterables:
        _check(iterable, example)
    if len(iterables) > 1:
        if any(isinstance(iterable, AsyncIterable) for iterable in iterables):
            raise InputError("an async iterator cannot be zipped with other inputs: zip them in one async generator")
        ready = [_bounded(_copied(iterable)) for iterable in iterables]
        sizes = [_size(values) for values in ready if not isinstance(values, ENDLESS)]
        known = [size for size in sizes if size is not None]
        zipped: Iterable[object] = zip(*ready, strict=False)
        return _claiming(iterables, _read_once(zipped, min(known) if known and len(known) == len(sizes) else None))
    (iterable,) = iterables
    if isinstance(iterable, AsyncIterable):
        return _claiming(iterables, _async(iterable))
    values = _copied(iterable)
    size = _size(values)
    if isinstance(values, list | range) and size is not None:
        return _sequence(values)
    return _claiming(iterables, _read_once(_bounded(values), size))


def chosen(source: Source, indices: Sequence[int]) -> Source:
    """Some items of another input, under their own numbers: what a retry runs."""
    if source.rest is not None:
        values: Iterable[object] = source.rest(indices)
    else:
        try:
            values = [source.value_of(index) for index in indices]
        except KeyError as error:
            raise InputError(
                f"item {error} of the input is not kept any more: it had been computed, and its value was lost on the "
                "way. Pass list(...) where every item must be there for a retry"
            ) from None
    return Source(
        size=len(indices),
        value_of=source.value_of,
        feed=lambda feeder: feeder.start_sized(tuple(indices), values),
        rest=source.rest,
    )


def _sequence(values: Sequence[object]) -> Source:
    return Source(
        size=len(values),
        value_of=values.__getitem__,
        feed=lambda feeder: feeder.start_sized(range(len(values)), values),
    )


def _read_once(values: Iterable[object], size: int | None) -> Source:
    """An input that is kept as it is read: wholly where it has a length, else until each item has ended."""
    if size is None:
        return _Stream().source(lambda feeder: feeder.start_unsized(values))
    once = _Once(values)
    return Source(
        size=size,
        value_of=once.value_of,
        feed=lambda feeder: once.feed(feeder, range(size)),
        keep=once.keep,
        rest=once.rest,
    )


class _Stream:
    """What was read of an input without a length, until each item has ended."""

    def __init__(self) -> None:
        self._kept: dict[int, object] = {}
        self._count = 0
        # Weakly: it has a copy of its caller's context, and a job may be held for long.
        self._feeder: Callable[[], Feeder | None] = _nobody

    def source(self, start: Callable[[Feeder], None]) -> Source:
        """The input itself; ``start`` begins to read it."""

        def feed(feeder: Feeder) -> None:
            self._feeder = weakref.ref(feeder)
            start(feeder)

        return Source(
            size=None, value_of=self._value_of, feed=feed, keep=self._keep, forget=self._forget, read=self._read
        )

    def _keep(self, first: int, chunk: Sequence[object]) -> None:
        self._kept.update(zip(range(first, first + len(chunk)), chunk, strict=True))
        self._count = first + len(chunk)

    def _forget(self, items: Sequence[int]) -> None:
        # A loop in C: this is done on the pool's thread, for every item.
        deque(map(self._kept.pop, items, itertools.repeat(None)), maxlen=0)

    def _value_of(self, index: int) -> object:
        # In the end looked for where it goes: it may be on its way.
        if index not in self._kept and (feeder := self._feeder()) is not None:
            with contextlib.suppress(KeyError):
                return feeder.value_of(index)
        return self._kept[index]

    def _read(self) -> int:
        feeder = self._feeder()
        return max(self._count, feeder.read if feeder is not None else 0)


def _nobody() -> None:
    """No feeder reads it yet."""


class _Once:
    """Values with a length that can be read only once, and what was read of them."""

    def __init__(self, values: Iterable[object]) -> None:
        self._values = values
        self._kept: list[object] = []
        self._iterator: Iterator[object] | None = None
        self._feeder: Feeder | None = None
        self._turn = threading.Lock()

    def __iter__(self) -> Iterator[object]:
        if self._iterator is None:
            self._iterator = iter(self._values)
        return self._iterator

    def value_of(self, index: int) -> object:
        """An item; KeyError where it has not been read."""
        try:
            return self._kept[index]
        except IndexError:
            raise KeyError(index) from None

    def keep(self, _: int, chunk: Sequence[object]) -> None:
        """These are the next that were read."""
        self._kept.extend(chunk)

    def feed(self, feeder: Feeder, indices: range) -> None:
        """Have it read from the beginning."""
        self._feeder = feeder
        feeder.start_sized(indices, self)

    def rest(self, indices: Sequence[int]) -> Iterator[object]:
        """These items: what was read from where it is kept, and after that from where the first job stopped to read."""
        for index in indices:
            if index >= len(self._kept) and self._feeder is not None:
                self._feeder.join()  # It may be in the middle of an item.
            with self._turn:
                while index >= len(self._kept):
                    try:
                        self._kept.append(next(iter(self)))
                    except StopIteration:
                        return
            yield self._kept[index]


def _bounded(values: Any) -> Iterable[object]:
    """The same, of an object that gives items by number as far as its length says: it need not say where it ends."""
    size = None if isinstance(values, Iterable) else _size(values)
    return values if size is None else itertools.islice(values, size)


def _async(values: AsyncIterable[object]) -> Source:
    return _Stream().source(lambda feeder: feeder.start_async(values))


def _copied(iterable: Any) -> Iterable[object]:
    """A shallow copy of what its owner may change while the job runs; anything else as it is."""
    if isinstance(iterable, range):
        return iterable
    if isinstance(iterable, io.TextIOWrapper) and not iterable.isatty():
        return _lines(iterable)
    return list(iterable) if isinstance(iterable, COPIED) else iterable


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text file, as it gives them.

    One that another thread closes in the middle of a read may say that it has ended (CPython raises StopIteration
    without meaning to). Asked once more it gives the next line, or says that it is closed.
    """
    while True:
        yield from file
        try:
            line = next(file)
        except StopIteration:
            return
        yield line


def _size(values: object) -> int | None:
    """How many there are, if that is known, and if so many results can be kept.

    What passes another input on (a progress bar) may have a ``__len__`` that fails.
    """
    try:
        size = len(values) if isinstance(values, Sized) else None
    except Exception:  # noqa: BLE001 - a user's own code; without a length it can still be read
        return None
    return size if size is not None and size <= MOST_KEPT else None


# --- iterators that are being read ---------------------------------------------------------------------------------

_claims: dict[int, tuple[weakref.ref[Feeder], Sequence[object]]] = {}
"""By the feeder's id. Without a lock: a finaliser of the user's, which may run at any line, may start a job as well."""


def _claiming(inputs: Sequence[object], source: Source) -> Source:
    """The same source, which claims its iterators when it begins to be read: two jobs would each get some of them."""
    iterators = [each for each in inputs if isinstance(each, Iterator | AsyncIterator)]
    if not iterators:
        return source

    def feed(feeder: Feeder) -> None:
        number = id(feeder)
        _claims[number] = weakref.ref(feeder, lambda _: _claims.pop(number, None)), iterators
        source.feed(feeder)

    return replace(source, feed=feed)


def _is_claimed(iterable: object) -> bool:
    """Whether a job that has not ended reads this iterator."""
    return any(
        each is iterable and (feeder := reference()) is not None and not feeder.credit.stopped
        for reference, claimed in list(_claims.values())
        for each in claimed
    )


# --- what is refused -----------------------------------------------------------------------------------------------


def _check(iterable: object, example: str) -> None:
    """Refuse what would be iterated to nobody's use, saying what to write instead."""
    kind = type(iterable)
    name = kind.__name__
    if isinstance(iterable, str | bytes | bytearray):
        raise InputError(f"a single {name} would be taken apart character by character; pass [value] to map over one")
    if name == "DataFrame" and hasattr(iterable, "columns"):
        raise InputError(
            "a DataFrame would be iterated over its column names; pass df.itertuples(index=False) for its rows, "
            'df.to_dict("records") for rows as dicts, or df["column"] for one column'
        )
    # Asked of the type, because a mock or a lazy object has every attribute.
    shape = iterable.shape if hasattr(kind, "shape") else None  # type: ignore[attr-defined]  # just seen
    if isinstance(shape, tuple) and not shape:
        raise InputError(f"a single value ({name} without dimensions) cannot be iterated; pass [value] to map over one")
    if inspect.iscoroutine(iterable):
        raise InputError("a coroutine was passed as the data: await it first")
    if inspect.isroutine(iterable):
        raise InputError(f"a function was passed as the data; call it, or write {example}")
    _check_iterator(iterable)
    if isinstance(iterable, Iterable | AsyncIterable) or hasattr(kind, "__getitem__"):
        return
    if isinstance(iterable, type):
        raise InputError(f"the class {iterable.__name__} was passed as the data: pass what it makes, as in {example}")
    if hasattr(kind, "get") and hasattr(kind, "put"):
        raise InputError(_of_queue(iterable))
    raise InputError(f"{name} cannot be iterated: pass a list, a generator or another iterable, as in {example}")


def _check_iterator(iterable: object) -> None:
    """Refuse what gives its values once and has given them, or gives them to somebody else."""
    if isinstance(iterable, io.IOBase) and iterable.closed:
        raise InputError("the file is closed: open it again, and leave its `with` when the results have come")
    state = _state(iterable)
    if state == inspect.GEN_CLOSED:
        raise InputError(
            f"{_called(iterable)} has been used up: it gives its values once. Make another one, or keep them in a "
            "list first: values = list(...)"
        )
    if state == inspect.GEN_RUNNING or _is_claimed(iterable):
        raise InputError(
            f"{_called(iterable)} is being read already, and each reader would get some of its values. Make another "
            "one, or keep them in a list first: values = list(...)"
        )


def _state(iterable: object) -> str:
    """How far a generator is, as :mod:`inspect` calls it; empty for anything else."""
    if isinstance(iterable, types.GeneratorType):
        return inspect.getgeneratorstate(iterable)
    if isinstance(iterable, types.AsyncGeneratorType):
        # As inspect.getasyncgenstate() of Python 3.12.
        if iterable.ag_running:
            return inspect.GEN_RUNNING
        return inspect.GEN_CLOSED if iterable.ag_frame is None else inspect.GEN_SUSPENDED
    return ""


def _called(iterable: object) -> str:
    if isinstance(iterable, types.GeneratorType | types.AsyncGeneratorType):
        kind = "generator" if isinstance(iterable, types.GeneratorType) else "async generator"
        return f"the {kind} {iterable.__qualname__.rpartition('<locals>.')[2]}"
    return f"the iterator ({type(iterable).__name__})"


def _of_queue(queue: Any) -> str:
    name = type(queue).__name__
    if inspect.iscoroutinefunction(queue.get):
        return (
            f"{name} cannot be iterated; write an async generator, `async def items():` with "
            "`while (item := await queue.get()) is not None: yield item`, and pass items()"
        )
    return f"{name} cannot be iterated; pass iter(queue.get, None), which ends when somebody puts None"
