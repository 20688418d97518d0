"""The results of one job: filled on the pool's thread, read by any thread and any loop.

What arrives is put down as it came, in bytes. A reader loads it, in the order of arrival and in slices, so that the
pool's thread never runs code of the user's and a reader's loop never stands still for long. Each value is loaded once;
every reader gets the same object. One that cannot be loaded is its item's failure from then on.
"""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from aiopool import _payload
from aiopool._runtime.waiters import ANYTHING, BACKLOG, Callback, Waiter
from aiopool.errors import InternalError, ItemExited, WouldDeadlock
from aiopool.telemetry import News

__all__ = ["EMPTY", "GONE", "Arrival", "Ending", "RawFailure", "Results", "Segment", "harmless"]

EMPTY: Final = object()
"""In the place of a value: there is none, because the item has not ended or has failed."""
GONE: Final = object()
"""In the place of a value: it was handed out and is not kept, because the input was unsized."""

WAKE_FOR_BYTES = 256 * 1024
UNREAD_LIMIT = 256 * 1024 * 1024
TRIM_AT = 1024


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class RawFailure:
    """How an item failed. ``error`` in bytes is what the worker dumped; ``worker`` None: it never got to one."""

    index: int
    error: bytes | BaseException
    attempts: int = 1
    worker: int | None = None
    pid: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How the job ended. ``error`` is set where it failed as a whole; without it the first failed item's is raised."""

    how: Literal["done", "failed", "cancelled", "stopped"]
    error: BaseException | None = None


@dataclass(slots=True)
class Arrival:
    """Items that arrived together, in the order of arrival; ``segment`` until its values are loaded."""

    items: Sequence[int]
    seconds: Sequence[float]
    worker: int | None
    segment: Segment | None
    size: int
    attempts: int = 1


class Pass(Protocol):
    """Somebody who reads one result after another."""

    @property
    def is_open(self) -> bool:
        """Whether it has begun, and may go on: so it will hear of the end."""


def harmless(error: BaseException) -> Exception:
    """The error itself, unless raising it would end or confuse whoever waits; then an :class:`ItemExited` of it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    name = type(error).__qualname__
    return ItemExited(f"{name}: {error}" if str(error) else name, type_name=name)


class Results:
    """The store of one job. The methods of the pool's thread come first, all others are for readers.

    What only one side writes needs no lock against the other: the pool's thread appends to the arrivals and counts,
    readers, one at a time, load from there. ``_reading`` stands between readers, ``_door`` before who waits. Both may
    be entered again by their own thread: the garbage collector may run a finaliser of the user's at any line.
    """

    def __init__(self, size: int | None, *, prefilled: Mapping[int, object] | None = None) -> None:
        """``size`` None: unsized, and a result is let go once an iteration has handed it out."""
        self.total = size
        self.kept: Final = size is not None
        self.ending: Ending | None = None
        self.ended_at: float | None = None
        self.finished = 0
        self.retried = 0
        self.failures: dict[int, RawFailure] = {}
        self.first_failure: int | None = None
        self.spoilt: int | None = None
        self.consumed = 0
        self.on_room: Callable[[], object] = _ignore
        self.on_arrival: Callable[[], object] | None = None
        self._slots: list[object] = [EMPTY] * (size or 0)
        self._shares: list[float] = []
        self._base = 0
        self._low = 0
        self._arrivals: list[Arrival] = []
        self._arrived = 0
        self._loaded = 0
        self._trimmed = 0
        self._arrived_bytes = 0
        self._loaded_bytes = 0
        self._released_bytes = 0.0
        self._eager = self.kept
        self._full = False
        self._loading = False
        self._reading = threading.RLock()
        self._door = threading.RLock()
        self._waiters: tuple[Waiter, ...] = ()
        self._passes: weakref.WeakSet[Pass] = weakref.WeakSet()
        self.news: Final = News()
        self.prefilled: Final = len(prefilled or ())
        if prefilled:
            items = sorted(prefilled)
            self._put(items, [prefilled[index] for index in items], 0)
            self._arrive(Arrival(items, (), None, None, 0))
            self._loaded = 1

    # --- the pool's thread ------------------------------------------------------------------------------------------

    def deliver(self, segment: Segment) -> None:
        """Values have arrived. They stay pickled until somebody reads."""
        if self.ending is None:
            size = len(segment.shared)
            if segment.blobs and segment.blobs.count(None) < len(segment.blobs):
                size += sum([len(blob) for blob in segment.blobs if blob is not None])
            self._arrived_bytes += size
            self._arrive(Arrival(segment.items, segment.seconds, segment.worker, segment, size, segment.attempts))

    def fail(self, failure: RawFailure) -> None:
        """An item has failed for good."""
        if self.ending is None:
            if self.first_failure is None:
                self.first_failure = failure.index
            self.failures[failure.index] = failure
            self._arrive(Arrival((failure.index,), (failure.seconds,), failure.worker, None, 0))

    def set_total(self, total: int) -> None:
        """The input has ended with this many items."""
        self.total = total

    def end(self, ending: Ending) -> None:
        """The job has ended: nothing arrives any more, and everybody is told. Only the first ending counts."""
        with self._door:
            if self.ending is not None:
                return
            self.ended_at = time.monotonic()
            self.ending = ending
            waiters, self._waiters = self._waiters, ()
            if any(waiter.asks for waiter in waiters) or any(each.is_open for each in self._passes):
                self.news.heard = True
        # Callbacks may run right here: they come after those whose latency somebody feels.
        for waiter in sorted(waiters, key=_is_callback):
            waiter.tell()

    def room(self) -> bool:
        """May more of the input be started, or should it wait for a reader? After a False, ``on_room`` is called once.

        A sized input and one that somebody awaits always have room. ``on_room`` is called in a reader's thread.
        """
        # Raised before the look: a reader that makes room in between then sees it, and calls.
        self._full = True
        if self._has_room():
            self._full = False
        return not self._full

    def _arrive(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._arrived += 1
        self.finished += len(arrival.items)
        if self.on_arrival is not None:
            self.on_arrival()
        with self._door:
            waiters = self._waiters
        if not waiters:
            return
        backlog = self._arrived_bytes - self._loaded_bytes >= WAKE_FOR_BYTES
        for waiter in waiters:
            wants = waiter.wants
            if wants in arrival.items if wants >= 0 else wants == ANYTHING or (wants == BACKLOG and backlog):
                waiter.tell()

    # --- who waits --------------------------------------------------------------------------------------------------

    def add(self, waiter: Waiter) -> bool:
        """Have this one told; look at the job after this, not before. False: it has ended, nobody will be told."""
        with self._door:
            if self.ending is not None:
                return False
            self._waiters = (*self._waiters, waiter)
            return True

    def begin_pass(self, reader: Pass) -> None:
        """This one reads; held weakly."""
        with self._door:
            self._passes.add(reader)

    def discard(self, waiter: Waiter) -> None:
        """Tell this one no more."""
        with self._door:
            self._waiters = tuple([other for other in self._waiters if other is not waiter])

    def read_everything(self) -> None:
        """Somebody waits for all results: from now on nothing is held back."""
        if not self._eager:
            self._eager = True
            self._offer_room()

    def _has_room(self) -> bool:
        return self._eager or self._arrived_bytes - self._released_bytes < UNREAD_LIMIT

    def _offer_room(self) -> None:
        if self._full and self._has_room():
            self._full = False
            self.on_room()

    # --- loading ----------------------------------------------------------------------------------------------------

    @property
    def all_loaded(self) -> bool:
        """Nothing has arrived that was not loaded yet."""
        return self._loaded >= self._arrived

    def load(self, seconds: float | None = None, until: int = -1) -> None:
        """Load what has arrived, for about so long, or until there is news of one item; ``all_loaded`` tells which."""
        stop_at = None if seconds is None else time.monotonic() + seconds
        while not self.all_loaded:
            self._load_next()
            if until >= 0 and (until in self.failures or self.look(until) is not EMPTY):
                return
            if stop_at is not None and time.monotonic() >= stop_at:
                return

    def _load_next(self) -> None:
        with self._reading:
            if self._loading:
                raise WouldDeadlock("a value, while it was being loaded, read the job that it is a result of")
            if self.all_loaded:
                return
            arrival = self._arrivals[self._loaded - self._trimmed]
            if (segment := arrival.segment) is not None:
                self._loading = True
                try:
                    values = self._values(segment)
                finally:
                    self._loading = False
                self._put(segment.items, values, arrival.size)
                self._loaded_bytes += arrival.size
                arrival.segment = None
            self._loaded += 1

    def _values(self, segment: Segment) -> list[object]:
        """The values of a segment, in order; EMPTY where one cannot be loaded."""
        items, blobs = segment.items, segment.blobs or [None] * len(segment.items)
        try:
            if len(blobs) != len(items):
                blobs = [None] * len(items)
                raise InternalError(f"{len(segment.blobs)} pickles came for {len(items)} items")
            plain = blobs.count(None)
            values = _payload.load_shared(segment.shared) if plain else []
            if len(values) != plain:
                raise InternalError(f"{len(values)} values came for {plain} items")
        except BaseException as error:  # noqa: BLE001 - only the item may fail, whatever its pickle does
            mended = self._unloadable(error)
            values = [self._spoil(i, mended, segment) for i, blob in zip(items, blobs, strict=True) if blob is None]
        if len(values) == len(items):
            return values
        rest = iter(values)
        return [
            next(rest) if blob is None else self._value(index, blob, segment)
            for index, blob in zip(items, blobs, strict=True)
        ]

    def _value(self, index: int, blob: bytes | memoryview, segment: Segment) -> object:
        try:
            return _payload.load_value(blob)
        except BaseException as error:  # noqa: BLE001 - the same
            return self._spoil(index, self._unloadable(error), segment)

    @staticmethod
    def _unloadable(error: BaseException) -> Exception:
        """The error as a failure; but a true interrupt is raised on, and the value is loaded another time.

        Only Python's own handler of SIGINT makes one, and only in the main thread. A KeyboardInterrupt that comes out
        of a pickle must not pass: inside a task it would end a kernel's loop.
        """
        if (
            isinstance(error, KeyboardInterrupt)
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            raise error
        mended = harmless(error)
        mended.add_note("the value came back from its worker, but cannot be loaded here")
        return mended

    def _spoil(self, index: int, error: Exception, segment: Segment) -> object:
        if self.spoilt is None:
            self.spoilt = index
        self.failures[index] = RawFailure(index, error, worker=segment.worker)
        return EMPTY

    def _put(self, items: Sequence[int], values: list[object], size: int) -> None:
        run = isinstance(items, range) and items.step == 1 and len(values) == len(items)
        self._reach(items[-1] if run else max(items, default=-1))
        if run:
            first = items[0] - self._base
            self._slots[first : first + len(items)] = values
        else:
            for index, value in zip(items, values, strict=False):
                self._slots[index - self._base] = value
        if not self.kept and items:
            # Its share of the bytes, as good as it can be known.
            share = size / len(items)
            for index in items:
                self._shares[index - self._base] = share

    def _reach(self, index: int) -> None:
        """Make sure that there is a place for this item."""
        if (more := index + 1 - self._base - len(self._slots)) > 0:
            self._slots.extend([EMPTY] * more)
        if not self.kept and (more := index + 1 - self._base - len(self._shares)) > 0:
            self._shares.extend([0.0] * more)

    # --- reading ----------------------------------------------------------------------------------------------------

    def look(self, index: int) -> object:
        """What is in an item's place: its value, EMPTY or GONE."""
        if self.kept:
            return self._slots[index] if index < len(self._slots) else EMPTY
        with self._reading:
            if index < self._base:
                return GONE
            at = index - self._base
            return self._slots[at] if at < len(self._slots) else EMPTY

    def handed_out(self, index: int) -> None:
        """An iteration has handed out this item's value or failure; what is not kept is let go."""
        if self.kept:
            return
        with self._reading:
            at = index - self._base
            if at >= len(self._slots):
                self._reach(index)
            if at < 0 or self._slots[at] is GONE:
                return
            self._slots[at] = GONE
            self._released_bytes += self._shares[at]
            self.consumed += 1
            self._trim()
        self._offer_room()

    def _trim(self) -> None:
        """Forget the first items, which are gone, many at a time: an endless input must not fill the memory."""
        slots = self._slots
        while self._low - self._base < len(slots) and slots[self._low - self._base] is GONE:
            self._low += 1
        gone = self._low - self._base
        if gone < TRIM_AT or 2 * gone < len(slots):
            return
        del self._shares[:gone]
        del slots[:gone]
        self._base = self._low
        old = 0
        while old < self._loaded - self._trimmed and _last(self._arrivals[old].items) < self._low:
            old += 1
        del self._arrivals[:old]
        self._trimmed += old

    def arrival(self, number: int) -> tuple[int, Arrival] | None:
        """The arrival of this number, or the oldest after it that is not forgotten; None: not there or not loaded."""
        with self._reading:
            number = max(number, self._trimmed)
            return (number, self._arrivals[number - self._trimmed]) if number < self._loaded else None

    def arrivals(self) -> list[Arrival]:
        """Everything that has arrived and is not forgotten, loaded or not."""
        with self._reading:
            return self._arrivals[:]

    def listing(self, hole: Callable[[int], object]) -> list[object]:
        """All values in input order, but for those handed out; ``hole(index)`` stands in for one that is not there."""
        with self._reading:
            base, failed = self._base, self.failures.copy()
            end = max(base + len(self._slots), max(failed, default=-1) + 1) if self.total is None else self.total
            values = self._slots[: max(end - base, 0)]
            whole = self.all_loaded and not failed and self.finished == end and not self.consumed
        if whole:
            return values
        values.extend([EMPTY] * (end - base - len(values)))
        return [hole(base + at) if value is EMPTY else value for at, value in enumerate(values) if value is not GONE]


def _last(items: Sequence[int]) -> int:
    return items[-1] if isinstance(items, range) else max(items, default=-1)


def _is_callback(waiter: Waiter) -> bool:
    return isinstance(waiter, Callback)


def _ignore() -> None:
    """Nobody cares about room."""
