"""Iterating over a job while it runs: in input order, or in the order of completion; with ``for`` or ``async for``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, Self, TypeVar, cast

from aiopool._runtime.arrivals import Arrival
from aiopool._runtime.results import EMPTY, GONE
from aiopool._runtime.waiters import ANYTHING
from aiopool._runtime.waits import Step
from aiopool.reading import SLICE, Reading

__all__ = ["Completed", "InOrder", "Reader", "Watch", "watch_readers"]

R = TypeVar("R")
T = TypeVar("T")

NOT_YET: Final = object()
MORE: Final = object()
OVER: Final = object()


class Watch(Protocol):
    """Looks after one reader, for a notebook, where Stop in the body of a loop means the job too."""

    def dropped(self) -> None:
        """Nobody holds it any more, and it has not come to its end: ``break``, or an exception in the loop's body."""


_watches: list[Callable[[Reader[Any]], Watch | None]] = []


def watch_readers(watch: Callable[[Reader[Any]], Watch | None]) -> None:
    """Have every reader looked after; called where it is made, and where a loop over it begins."""
    _watches.append(watch)


class Reader(Generic[T]):
    """One pass over the results of a job.

    To look is not yet to take: between the two an interrupt may come, and it must not lose a result. ``break`` leaves
    the place with the job, and the next pass goes on from there.
    """

    def __init__(self, reading: Reading) -> None:
        if reading.read_out:
            reading.refuse_consumed()
        self._reading = reading
        self._results = reading.results
        self._seen: object = NOT_YET
        self._turn = time.monotonic()
        self._watch: Watch | None = None
        reading.results.begin_pass(self)
        self._begin_loop()

    @property
    def reading(self) -> Reading:
        """The job that it reads."""
        return self._reading

    @property
    def is_open(self) -> bool:
        """Whether it has handed out a result, and has not come to the end: a loop may be in its body."""
        seen = self._seen
        return seen is not NOT_YET and seen is not MORE and seen is not OVER

    def _begin_loop(self) -> None:
        if _watches:
            self._watch = _watches[-1](self)

    def __del__(self) -> None:
        if (watch := getattr(self, "_watch", None)) is not None and self.is_open:
            watch.dropped()

    def _peek(self) -> object:
        """Return the next item, or OVER, or raise the job's error when that is next.

        NOT_YET: wait for news. MORE: it may be among what has come and is not loaded yet, by this reader or by another
        at the same time; so whether all is loaded must be asked before the look, never after it.
        """
        raise NotImplementedError

    def _advance(self) -> None:
        """Take the item that was seen."""
        raise NotImplementedError

    def _wants(self) -> int:
        """Say what to wait for."""
        raise NotImplementedError

    def _rewind(self) -> None:
        """This pass has come to the end: let the next one begin at the beginning."""
        raise NotImplementedError

    def _next_ready(self) -> object:
        """Take the next item, if it is a value that is there already; NOT_YET if that takes a closer look."""
        raise NotImplementedError

    def _look(self) -> Step:
        __tracebackhide__ = True
        self._seen = self._peek()
        if self._seen is MORE:
            return Step.AGAIN
        return Step.WAIT if self._seen is NOT_YET else Step.READY

    def _take(self) -> bool:
        """Take the item that was seen; False: it was the end."""
        if self._seen is not OVER:
            self._advance()
            return True
        self._reading.read_out = True
        if self._results.kept:
            self._rewind()
        return False

    def __iter__(self) -> Self:
        self._begin_loop()
        return self

    def __next__(self) -> T:
        __tracebackhide__ = True
        try:
            if (ready := self._next_ready()) is not NOT_YET:
                return cast("T", ready)
            if self._look() is not Step.READY:
                self._reading.block_until(self._wants(), self._look)
        except KeyboardInterrupt as error:
            # Where results are there already nothing waits, and so nothing but Python's own handler is at work.
            self._reading.stop(error)
            raise
        if not self._take():
            raise StopIteration
        return cast("T", self._seen)

    def __aiter__(self) -> Self:
        self._begin_loop()
        return self

    async def __anext__(self) -> T:
        __tracebackhide__ = True
        # A long run of results that are there already must not shut out everybody else on the loop, nor a cancel.
        if time.monotonic() - self._turn > SLICE:
            self._turn = time.monotonic()
            await self._reading.breathe()
        if (ready := self._next_ready()) is not NOT_YET:
            return cast("T", ready)
        if (step := self._look()) is not Step.READY:
            if step is Step.AGAIN:
                await self._reading.breathe()
            await self._reading.until(self._wants(), self._look)
            self._turn = time.monotonic()
        if not self._take():
            raise StopAsyncIteration
        return cast("T", self._seen)


class InOrder(Reader[R]):
    """A pass in input order."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._at = reading.next_item

    def _wants(self) -> int:
        return self._at

    def _next_ready(self) -> object:
        at = self._at
        value = self._results.take(at)
        if value is EMPTY or value is GONE:
            return NOT_YET
        self._seen = value
        self._at = self._reading.next_item = at + 1
        return value

    def _peek(self) -> object:
        __tracebackhide__ = True
        reading, results, at = self._reading, self._results, self._at
        # The ending first of all: what is not there after the end will never be.
        ending = results.ending
        all_loaded = True
        if (value := results.look(at)) is EMPTY:
            reading.load(SLICE, until=at)
            all_loaded = results.all_loaded
            value = results.look(at)
        if value is GONE:
            reading.refuse_consumed()
        if value is not EMPTY:
            return value
        if reading.returns_failures and at in reading.failures:
            return reading.failures[at]
        if not all_loaded:
            return MORE
        if ending is None:
            return NOT_YET
        reading.raise_unless_done()
        return reading.hole(at) if results.total is not None and at < results.total else OVER

    def _advance(self) -> None:
        self._results.handed_out(self._at)
        self._at += 1
        self._reading.next_item = self._at

    def _rewind(self) -> None:
        self._reading.next_item = 0


class Completed(Reader[tuple[int, R]]):
    """A pass in the order of completion, over pairs of index and result."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._number, self._place = reading.next_arrival
        self._arrival: Arrival | None = None

    def _wants(self) -> int:
        return ANYTHING

    def _next_ready(self) -> object:
        if (arrival := self._arrival) is None or self._place >= len(arrival.items):
            return NOT_YET
        index = arrival.items[self._place]
        value = self._results.take(index)
        if value is EMPTY or value is GONE:
            return NOT_YET
        self._seen = index, value
        self._place += 1
        self._reading.next_arrival = (self._number, self._place)
        return self._seen

    def _peek(self) -> object:
        __tracebackhide__ = True
        while True:
            # The ending first of all: what is not there after the end will never be.
            ending = self._results.ending
            all_loaded = self._results.all_loaded
            if (arrival := self._arrival or self._next_arrival()) is not None:
                for place in range(self._place, len(arrival.items)):
                    if (value := self._result(arrival.items[place])) is not EMPTY:
                        self._place = place
                        return arrival.items[place], value
                self._number, self._place, self._arrival = self._number + 1, 0, None
            elif not all_loaded:
                self._reading.load(SLICE)
                if self._next_arrival() is None and not self._results.all_loaded:
                    return MORE
            elif ending is None:
                return NOT_YET
            else:
                self._reading.raise_unless_done()
                return OVER

    def _next_arrival(self) -> Arrival | None:
        if (found := self._results.arrival(self._number)) is None:
            return None
        number, self._arrival = found
        if number != self._number:
            self._number, self._place = number, 0
        return self._arrival

    def _result(self, index: int) -> object:
        """Return a result to hand out; EMPTY where there is none, or where it was handed out already."""
        reading = self._reading
        value = self._results.look(index)
        if value is EMPTY and reading.returns_failures and index in reading.failures:
            return reading.failures[index]
        return EMPTY if value is GONE else value

    def _advance(self) -> None:
        index, _ = cast("tuple[int, object]", self._seen)
        self._results.handed_out(index)
        self._place += 1
        self._reading.next_arrival = (self._number, self._place)

    def _rewind(self) -> None:
        self._reading.next_arrival = (0, 0)
