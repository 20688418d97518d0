"""What every item of a map inside a worker shares, however it is run: its call, its clock, and how it is told."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby
from time import perf_counter
from typing import Any, cast

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._payload.references import References
from aiopool._runtime.thread import IOThread
from aiopool._worker.gathered import Gathered
from aiopool.errors import ItemTimeout

__all__ = ["Crew", "Entry", "Place"]


class Place:
    """Where the map was called: the ``loop`` for its coroutines, the ``context`` that its items get copies of.

    ``io`` is the thread on which its pool lives; ``lost`` is called when the loop turns out to have closed.
    """

    def __init__(
        self,
        io: IOThread,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        lost: Callable[[], object],
    ) -> None:
        self.io = io
        self.loop = loop
        self.context = context
        self.lost = lost


class Entry:
    """One item from its arrival to its end. What it ended with counts once: with its value or error, or too late.

    Contexts of tasks and timers that an item left behind keep this alive, but nothing of its job.
    """

    __slots__ = ("_crew", "_seed", "attempt", "batch", "due", "held", "held_at", "index", "lost", "on_loop", "position",
                 "settled", "started", "timed_out", "timer", "value")  # fmt: skip

    def __init__(self, crew: Crew, frame: frames.Batch, position: int, value: object) -> None:
        self._crew = weakref.ref(crew)
        self._seed = crew.seed
        self.batch = frame.batch
        self.attempt = frame.attempt
        self.position = position
        self.index = frame.items[position]
        self.value = value
        self.started = 0.0
        self.settled = False
        self.timed_out = False
        self.timer: asyncio.TimerHandle | None = None
        self.held = 0
        self.held_at = 0.0
        self.lost = 0.0
        self.due = False
        self.on_loop = False

    # --- as aiopool.inside sees it ---------------------------------------------------------------------------------

    @property
    def job(self) -> object:
        """What it is one of; None when that has gone."""
        return self._crew()

    @property
    def outermost(self) -> inside.Running | None:
        """The item that called the map: what is printed here is printed by that."""
        crew = self._crew()
        caller = crew.caller() if crew is not None else None
        return caller.outermost if caller is not None else None

    def told(self) -> inside.CurrentItem:
        """Tell which one it is: its index is that in the input of the map inside."""
        seed = None if self._seed is None else inside.seed_of(self._seed, self.index)
        return inside.CurrentItem(self.index, self.attempt, seed)

    def report(self, fraction: float | None, text: str) -> None:
        """Nothing is shown of a map inside a worker: the item that called it reports for all of it."""

    def hold(self) -> None:
        """Stop its clock."""
        with _holding:
            self.held += 1
            if self.held == 1:
                self.held_at = perf_counter()

    def release(self) -> None:
        """Let its clock go on."""
        with _holding:
            self.held -= 1
            if self.held:
                return
            self.lost += perf_counter() - self.held_at
            due, self.due = self.due, False
        if due and (crew := self._crew()) is not None:
            crew.strike_late(self)

    def is_held(self) -> bool:
        """Whether it must not be struck now; it will be, once it is released."""
        with _holding:
            self.due = self.due or self.held > 0
            return self.held > 0


_holding = threading.Lock()


def _submitted(function: Callable[..., Any], item: Any) -> Any:
    args, kwargs = item
    return function(*args, **kwargs)


def _unpacked(function: Callable[..., Any], item: Any) -> Any:
    return function(**item) if hasattr(item, "keys") else function(*item)


class Crew:
    """What runs the items of one job."""

    def __init__(self, frame: frames.Function, place: Place, answer: Callable[[frames.Frame], None]) -> None:
        settings = json.loads(bytes(frame.settings)) if len(frame.settings) else {}
        self.timeout: float | None = settings.get("timeout")
        self.seed: int | None = settings.get("seed")
        self._job = frame.job
        self._held = cast("References", _payload.load_item(frame.data))
        self._flags = frame.flags
        self._place = place
        self._answer = answer
        self._queue: deque[Entry] = deque()
        self._lanes = 1
        self._over = False
        self._outcomes: deque[tuple[Entry, float, object, BaseException | None]] = deque()
        self._told = False

    def caller(self) -> inside.Running | None:
        """The item that called the map."""
        return self._place.context.get(inside.running)

    # --- on the pool's thread --------------------------------------------------------------------------------------

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch and see to it that they are run."""
        raise NotImplementedError

    def hand_back(self, ask: frames.AskBack) -> None:
        """Give back what is asked for, from the end of the queue."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Start nothing more, and end what runs, as far as it can be ended."""
        raise NotImplementedError

    def stand(self, gathered: Gathered, threads: Iterable[list[types.FrameType]]) -> None:
        """Say where the items are; ``threads`` are the stacks of this process."""
        raise NotImplementedError

    # --- its clock -------------------------------------------------------------------------------------------------

    def strike_late(self, entry: Entry) -> None:
        """What should have struck the item while it was held strikes now. Any thread."""
        raise NotImplementedError

    def _time_out(self, entry: Entry) -> None:
        """End the item if its time is up, else look again. On the loop that looks after the clocks of this crew."""
        if entry.settled or self.timeout is None or entry.is_held():
            return
        left = self.timeout - (perf_counter() - entry.started - entry.lost)
        if left > 0:
            entry.timer = asyncio.get_running_loop().call_later(left, self._time_out, entry)
        else:
            self._strike(entry)

    def _strike(self, entry: Entry) -> None:
        """Its time is up."""
        raise NotImplementedError

    # --- what they share -------------------------------------------------------------------------------------------

    def _take_in(self, frame: frames.Batch) -> None:
        self._lanes = frame.lanes
        values = _payload.load_shared(frame.shared)
        self._queue.extend(Entry(self, frame, position, value) for position, value in enumerate(values))

    def _give_back(self, ask: frames.AskBack) -> None:
        back = [self._queue.pop() for _ in range(ask.of(len(self._queue)))]
        self._answer(frames.HandedBack(self._job, [entry.batch for entry in back], [entry.position for entry in back]))

    def _call(self, entry: Entry) -> Any:
        function, value = self._held.function, entry.value
        entry.value = None
        if self._flags & frames.Function.CALL:
            return _submitted(function, value)
        return _unpacked(function, value) if self._flags & frames.Function.UNPACK else function(value)

    def _context(self, entry: Entry) -> contextvars.Context:
        """The item's own: what was set where the map was called can be seen, but the item that runs is this one."""
        context = self._place.context.copy()
        context.run(inside.running.set, entry)
        return context

    def _settle(self, entry: Entry, value: object, error: BaseException | None = None) -> None:
        """The item has ended, for whoever waits for it too."""
        inside.end_belongings(entry)
        if self._over:
            return
        seconds = perf_counter() - entry.started
        if entry.timed_out:
            value, error = None, _timed_out(self.timeout or 0.0, error)
        self._outcomes.append((entry, seconds, value, error))
        if not self._told:
            self._told = True
            self._place.io.call(self._tell)

    def _tell(self) -> None:
        """Answer with what has ended. On the pool's thread, once for all that ended meanwhile."""
        self._told = False
        outcomes = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
        for (batch, failed), group in groupby(outcomes, key=lambda each: (each[0].batch, each[3] is not None)):
            entries, seconds, values, errors = zip(*group, strict=True)
            if not failed:
                positions = [entry.position for entry in entries]
                shared = self._held.dump(list(values))
                self._answer(frames.Results(self._job, batch, positions, seconds, shared, ()))
                continue
            for entry, took, error in zip(entries, seconds, errors, strict=True):
                self._answer(self._failed(entry, took, error))

    def _failed(self, entry: Entry, seconds: float, error: BaseException) -> frames.Failed:
        flags, after = 0, -1.0
        if isinstance(error, inside.Retry):
            flags, after = frames.Failed.MAY_RETRY, -1.0 if error.after is None else error.after
        elif _payload.may_retry(error, self._held.retry_on):
            flags = frames.Failed.MAY_RETRY
        if entry.timed_out:
            flags |= frames.Failed.TIMED_OUT
        data = self._held.dump(error, keep=True)
        return frames.Failed(self._job, entry.batch, entry.position, seconds, flags, after, data)


def _timed_out(seconds: float, ended: BaseException | None) -> ItemTimeout:
    """What an item ends with whose time was up; ``ended`` is what it did end with, None for a value."""
    error = ItemTimeout(f"it did not end within {seconds:g} s")
    if ended is not None:
        # It shows the line at which the item hung.
        error.__traceback__ = ended.__traceback__
        error.__context__ = ended.__context__ if isinstance(ended, asyncio.CancelledError) else ended
    return error
