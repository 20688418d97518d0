"""The results of one job: filled on the pool's thread, read by any thread and any loop.

What arrives is put down as it came, in bytes. A reader loads it, in the order of arrival and in slices, so that the
pool's thread never runs code of the user's and a reader's loop never stands still for long. Each value is loaded once;
every reader gets the same object. One that cannot be loaded is its item's failure from then on.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

from aiopool import _payload
from aiopool._runtime.arrivals import Arrival, Segment
from aiopool._runtime.groups import Groups
from aiopool._runtime.labelling import NO_LABELS, Labels
from aiopool._runtime.shelf import EMPTY, GONE, LITTLE, PLACE_BYTES, Shelf
from aiopool._runtime.stops import Stop, StopToldApart
from aiopool._runtime.waiters import ANYTHING, BACKLOG, Callback, Waiter
from aiopool.errors import InternalError, ItemExited, PoolClosed, WouldDeadlock
from aiopool.frozen import frozen
from aiopool.surfaces import News
from aiopool.telemetry import FailureGroup

__all__ = ["EMPTY", "GONE", "Ending", "RawFailure", "Results", "harmless"]

WAKE_FOR_BYTES = 256 * 1024
UNREAD_LIMIT = 256 * 1024 * 1024

NOT_HERE = (
    "its pool belongs to the process that this one was forked from, where its results come. "
    "What is to run here needs a pool of this process: pmap(...) opens one, and so does Pool()"
)


@frozen
class RawFailure:
    """How an item failed. ``error`` in bytes is what the worker dumped; ``worker`` None: it never got to one.

    ``prints`` are the last lines that it printed.
    """

    index: int
    error: bytes | BaseException
    attempts: int = 1
    worker: int | None = None
    pid: int | None = None
    seconds: float = 0.0
    prints: str = ""


@frozen
class Ending:
    """How the job ended. ``error`` is set where it failed as a whole; without it the first failed item's is raised.

    ``cause`` is the error's own, as a worker dumped it: who raises the error loads it, for that may run a user's code.
    """

    how: Literal["done", "failed", "cancelled", "stopped"]
    error: BaseException | None = None
    cause: bytes | None = None


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
        """``size`` None: unsized, and a result is let go once an iteration has handed it out.

        ``expected`` is what the user has said of an unsized input's length. ``named_by`` is what must live as long as
        results that have not been loaded: inside a worker they only name their values.
        """
        self.total = size
        self.expected: int | None = None
        self.kept: Final = size is not None
        self.ending: Ending | None = None
        self.ended_at: float | None = None
        self.finished = 0
        self.retried = 0
        self.lost = 0
        self.unshown = 0
        self.failures: dict[int, RawFailure] = {}
        self.labels: Labels = NO_LABELS
        self.named_by: object = None
        self.first_failure: int | None = None
        self.spoilt: int | None = None
        self.on_room: Callable[[], object] = _ignore
        self.on_arrival: Callable[[], object] | None = None
        self._groups: Groups | None = None
        self._shelf: Final = Shelf(size)
        self.look: Final = self._shelf.look
        self._arrivals: list[Arrival] = []
        self._arrived = 0
        self._loaded = 0
        self._trimmed = 0
        self._arrived_bytes = 0
        self._loaded_bytes = 0
        self._eager = self.kept
        self._full = False
        self._loading = False
        self._reading = threading.RLock()
        self._door = threading.RLock()
        self._waiters: tuple[Waiter, ...] = ()
        self._passes: weakref.WeakSet[Pass] | None = None
        self.news: Final = News()
        _all.add(self)
        self.prefilled: Final = len(prefilled or ())
        if prefilled:
            items = sorted(prefilled)
            # How large these are nobody knows any more, so they are not taken for little.
            self._shelf.put(items, [prefilled[index] for index in items], LITTLE)
            self._arrive(Arrival(items, (), None, None, 0))
            self._loaded = 1

    # --- the pool's thread ------------------------------------------------------------------------------------------

    def deliver(self, segment: Segment, loaded: list[object] | None = None) -> None:
        """Values have arrived. They stay pickled until somebody reads, but for plain ones that are ``loaded``."""
        if self.ending is None:
            size = len(segment.shared)
            if segment.blobs and segment.blobs.count(None) < len(segment.blobs):
                size += sum([len(blob) for blob in segment.blobs if blob is not None])
            self._arrived_bytes += size
            self._arrive(
                Arrival(segment.items, segment.seconds, segment.worker, segment, size, segment.attempts, loaded)
            )

    def fail(self, failure: RawFailure, kin: bytes = b"") -> None:
        """An item has failed for good; ``kin`` says what its error has in common with others."""
        if self.ending is None:
            if self.first_failure is None:
                self.first_failure = failure.index
            self.failures[failure.index] = failure
            self._group().add(failure.index, failure.error, kin)
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
            asking = [waiter for waiter in waiters if waiter.asks]
            if asking or (self._passes is not None and any(each.is_open for each in self._passes)):
                self.news.heard = True
        # Callbacks may run right here: they come after those whose latency somebody feels.
        for waiter in sorted(waiters, key=_runs_here):
            waiter.tell()

    def disown(self) -> None:
        """This is a forked child: what has not come yet comes to the parent. Another thread may have been loading."""
        self._reading = threading.RLock()
        self._door = threading.RLock()
        self._shelf.disown()
        self.groups.disown()
        self._waiters = ()
        self._loading = False
        self.news.heard = True
        if self.ending is None:
            self.ended_at = time.monotonic()
            self.ending = Ending("failed", PoolClosed(NOT_HERE))

    def room(self) -> bool:
        """May more of the input be started, or should it wait for a reader? After a False, ``on_room`` is called once.

        A sized input and one that somebody awaits always have room. ``on_room`` is called in a reader's thread.
        """
        # Raised before the look: a reader that makes room in between then sees it, and calls.
        self._full = True
        if self._has_room():
            self._full = False
        return not self._full

    @property
    def is_full(self) -> bool:
        """Whether there was no room when it was last asked for, and nobody has made any since."""
        return self._full

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
            if self._passes is None:
                self._passes = weakref.WeakSet()
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
        unread = self.finished - self._shelf.consumed
        return self._eager or self._arrived_bytes - self._shelf.released + unread * PLACE_BYTES < UNREAD_LIMIT

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
            self._load_next(stop_at)
            if until >= 0 and (until in self.failures or self.look(until) is not EMPTY):
                return
            if stop_at is not None and time.monotonic() >= stop_at:
                return

    def _load_next(self, stop_at: float | None) -> None:
        with self._reading:
            if self._loading:
                raise WouldDeadlock("a value, while it was being loaded, read the job that it is a result of")
            if self.all_loaded:
                return
            arrival = self._arrivals[self._loaded - self._trimmed]
            if (segment := arrival.segment) is not None:
                self._loading = True
                try:
                    if segment.blobs:
                        with StopToldApart():
                            values = self._values(arrival, segment, stop_at)
                    else:
                        values = self._plain_values(segment) if arrival.values is None else arrival.values
                except Stop as stop:
                    raise (stop.__cause__ or KeyboardInterrupt()) from None
                finally:
                    self._loading = False
                if values is None:
                    return
                self._shelf.put(segment.items, values, arrival.size)
                self._loaded_bytes += arrival.size
                arrival.segment = arrival.values = None
            self._loaded += 1
            if not self.kept:
                self._forget_arrivals()

    def _values(self, arrival: Arrival, segment: Segment, stop_at: float | None) -> list[object] | None:
        """The values of a segment, in order, EMPTY where one cannot be loaded; None if time is up before the last."""
        if arrival.values is None:
            arrival.values = self._plain_values(segment)
        values = arrival.values
        # Of a segment that does not add up all have failed by now.
        blobs = segment.blobs if len(segment.blobs) == len(values) else ()
        for at in range(arrival.loaded, len(blobs)):
            if (blob := blobs[at]) is None:
                continue
            # Hundreds that take half a millisecond each arrive together, and a loop waits for its turn.
            if stop_at is not None and at > arrival.loaded and time.monotonic() >= stop_at:
                arrival.loaded = at
                return None
            values[at] = self._value(segment.items[at], blob, segment)
        return values

    def _plain_values(self, segment: Segment) -> list[object]:
        """The plain values of a segment in their places; EMPTY where another is to be loaded, or cannot be."""
        items, blobs = segment.items, segment.blobs or [None] * len(segment.items)
        try:
            if len(blobs) != len(items):
                blobs = [None] * len(items)
                raise InternalError(f"{len(segment.blobs)} pickles came for {len(items)} items")
            plain = blobs.count(None)
            values = _payload.load_shared(segment.shared) if plain else []
            if len(values) != plain:
                raise InternalError(f"{len(values)} values came for {plain} items")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not segment.blobs:
                raise  # No plain value raises that: it is Stop, and they are loaded another time.
            mended = self._unloadable(error)
            values = [self._spoil(i, mended, segment) for i, blob in zip(items, blobs, strict=True) if blob is None]
        if len(values) == len(items):
            return values
        rest = iter(values)
        return [next(rest) if blob is None else EMPTY for blob in blobs]

    def _value(self, index: int, blob: bytes | memoryview, segment: Segment) -> object:
        try:
            return _payload.load_value(blob)
        except BaseException as error:  # noqa: BLE001 - the same
            return self._spoil(index, self._unloadable(error), segment)

    @staticmethod
    def _unloadable(error: BaseException) -> Exception:
        """The error as a failure; but a true interrupt is raised on, and the value is loaded another time.

        A KeyboardInterrupt that comes out of a pickle must not pass: inside a task it would end a kernel's loop.
        """
        if type(error) is Stop:
            raise error
        mended = harmless(error)
        mended.add_note("the value came back from its worker, but cannot be loaded here")
        return mended

    def _spoil(self, index: int, error: Exception, segment: Segment) -> object:
        if self.spoilt is None:
            self.spoilt = index
        self.failures[index] = RawFailure(index, error, worker=segment.worker)
        self._group().add(index, error)
        return EMPTY

    @property
    def groups(self) -> Groups:
        """The failures in groups."""
        return self._groups or NO_GROUPS

    def _group(self) -> Groups:
        """The same, to have another failure: made with the first one, which most jobs never have."""
        with self._door:
            if self._groups is None:
                self._groups = Groups()
            return self._groups

    def _forget_arrivals(self) -> None:
        """Forget the oldest of which everything is gone: an endless input must not fill the memory."""
        old, count = 0, self._loaded - self._trimmed
        while old < count and _last(self._arrivals[old].items) < self._shelf.low:
            old += 1
        del self._arrivals[:old]
        self._trimmed += old

    def failure_groups(self) -> tuple[FailureGroup, ...]:
        """The failures in groups, with labels that are made here and now: they may be the user's code."""
        for index in self.groups.missing():
            self.labels.make(index)
        return self.groups.picture(self.labels.look)

    # --- reading ----------------------------------------------------------------------------------------------------

    def take(self, index: int) -> object:
        """Hand out an item's value, if it is there: EMPTY or GONE where it is not."""
        value = self._shelf.take(index)
        if self._full:
            self._offer_room()
        return value

    def handed_out(self, index: int) -> None:
        """An iteration has handed out this item's value or failure; what is not kept is let go."""
        self._shelf.hand_out(index)
        if self._full:
            self._offer_room()

    @property
    def consumed(self) -> int:
        """How many were handed out and let go."""
        return self._shelf.consumed

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
            failed = self.failures.copy()
            base, values = self._shelf.all(self.total)
            end = max(base + len(values), max(failed, default=-1) + 1) if self.total is None else self.total
            ended = self.all_loaded and self.finished == end and not self.consumed
        values.extend([EMPTY] * (end - base - len(values)))
        if ended:
            # Of a million not every one is looked at: that would hold a reader's loop for too long.
            for index in failed:
                values[index] = hole(index)
            return values
        return [hole(base + at) if value is EMPTY else value for at, value in enumerate(values) if value is not GONE]


NO_GROUPS: Final = Groups()

_all: weakref.WeakSet[Results] = weakref.WeakSet()


def _disown() -> None:
    for results in _all:
        results.disown()


os.register_at_fork(after_in_child=_disown)


def _last(items: Sequence[int]) -> int:
    return items[-1] if isinstance(items, range) else max(items, default=-1)


def _runs_here(waiter: Waiter) -> bool:
    return type(waiter) is Callback or not waiter.asks


def _ignore() -> None:
    """Nobody cares about room."""
