"""The engine of a map inside a worker: its one worker is this very process, beside the item that called the map.

Coroutines run as Tasks of the loop on which the map was called, functions in threads. Frames come and go as with any
engine, but what they carry are references (``_payload.references``): nothing is copied, and nothing has to be pickled.

There is no process to kill. A coroutine is cancelled; a function cannot be: when its job ends or its time is up, nobody
waits for its thread any more, which ends when the function does.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from time import perf_counter
from typing import Any, cast

from aiopool import _payload, inside
from aiopool._core import frames, wire
from aiopool._payload.references import References
from aiopool._runtime.thread import IOThread
from aiopool.engines.base import Death, Events
from aiopool.errors import ItemTimeout

__all__ = ["InsideEngine", "Place"]

END_SECONDS = 2.0
"""How long a coroutine whose time is up may take to end, before nobody waits for it any more."""


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


class InsideEngine:
    """Makes the worker of one job."""

    name = "inside"

    def __init__(self, place: Place) -> None:
        self._place = place

    def start(self, _: int, events: Events) -> InsideLink:
        """Begin; there is nothing that could take time."""
        return InsideLink(self._place, events)

    def close(self) -> None:
        """Nothing is held."""


class InsideLink:
    """The worker, which looks from the pool like any other. Everything but ``answer`` is called on the pool's thread."""

    pid = property(lambda _: os.getpid(), doc="This process.")

    def __init__(self, place: Place, events: Events) -> None:
        self._place = place
        self._events: Events | None = events
        self._parser = wire.Parser()
        self._crews: dict[int, Crew] = {}
        self._handlers: dict[type, Callable[[Any], object]] = {
            frames.Setup: lambda _: self.answer(frames.Ready(os.getpid())),
            frames.Function: self._know,
            frames.Batch: lambda frame: self._crews[frame.job].add(frame),
            frames.AskBack: lambda frame: self._crews[frame.job].hand_back(frame.count),
            frames.Cancel: self._cancel,
            frames.Forget: lambda frame: self._crews.pop(frame.job, None),
            frames.Ping: lambda _: self.answer(frames.Pong()),
            frames.Environment: lambda _: None,
        }

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take in frames."""
        for frame in self._parser.feed(b"".join(parts)):
            self._handlers[type(frame)](frame)

    def _know(self, frame: frames.Function) -> None:
        made = Coroutines if frame.flags & frames.Function.ASYNC else Threads
        self._crews[frame.job] = made(frame, self._place, self.answer)

    def _cancel(self, frame: frames.Cancel) -> None:
        self._crews.pop(frame.job).cancel()
        # At once: what is left of it has been cancelled, or cannot be.
        self.answer(frames.Dropped(frame.job))

    def answer(self, frame: frames.Frame) -> None:
        """Send a frame to the pool. Any thread; never before the pool has done with what it is at."""
        self._place.io.call(self._deliver, frame)

    def _deliver(self, frame: frames.Frame) -> None:
        if self._events is not None:
            self._events.received(memoryview(b"".join(wire.encode(frame))))

    def drain_output(self) -> None:
        """What items print here goes where the worker's own prints go."""

    def hang_up(self) -> None:
        """End, as soon as what was answered has been delivered."""
        self._place.io.call(self._die, 0)

    def kill(self) -> None:
        """The same, whatever still runs."""
        for crew in self._crews.values():
            crew.cancel()
        self._place.io.call(self._die, None)

    def _die(self, exitcode: int | None) -> None:
        events, self._events = self._events, None
        self._crews.clear()
        if events is not None:
            events.died(Death(exitcode))


class Entry:
    """One item from its arrival to its end. What it ended with counts once: with its value or error, or too late."""

    __slots__ = ("_crew", "attempt", "batch", "held", "index", "position", "settled", "spent", "started", "task",
                 "timed_out", "timer", "value")  # fmt: skip

    def __init__(self, crew: Crew, frame: frames.Batch, position: int, value: object) -> None:
        self._crew = crew
        self.batch = frame.batch
        self.attempt = frame.attempt
        self.position = position
        self.index = frame.items[position]
        self.value = value
        self.started = 0.0
        self.settled = False
        self.timed_out = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.held = 0
        self.spent = 0.0

    # --- as aiopool.inside sees it ---------------------------------------------------------------------------------

    def told(self) -> inside.CurrentItem:
        """Tell which one it is: its index is that in the input of the map inside."""
        seed = self._crew.seed
        return inside.CurrentItem(
            self.index, self.attempt, None if seed is None else inside.seed_of(seed, self.index)
        )

    def report(self, fraction: float | None, text: str) -> None:
        """Nothing is shown of a map inside a worker: the item that called it reports for all of it."""

    def hold(self) -> None:
        """Stop its clock."""
        self._crew.hold(self)

    def release(self) -> None:
        """Let its clock go on."""
        self._crew.release(self)


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

    # --- on the pool's thread --------------------------------------------------------------------------------------

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch and see to it that they are run."""
        raise NotImplementedError

    def hand_back(self, count: int) -> None:
        """Give up to ``count`` items back from the end of the queue."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Start nothing more, and end what runs, as far as it can be ended."""
        raise NotImplementedError

    # --- clocks ----------------------------------------------------------------------------------------------------

    def hold(self, entry: Entry) -> None:
        """Stop the item's clock. Any thread."""
        raise NotImplementedError

    def release(self, entry: Entry) -> None:
        """Let it go on. Any thread."""
        raise NotImplementedError

    # --- what they share -------------------------------------------------------------------------------------------

    def _take_in(self, frame: frames.Batch) -> None:
        self._lanes = frame.lanes
        values = _payload.load_shared(frame.shared)
        self._queue.extend(Entry(self, frame, position, value) for position, value in enumerate(values))

    def _give_back(self, count: int) -> None:
        back = [self._queue.pop() for _ in range(min(count, len(self._queue)))]
        self._answer(
            frames.HandedBack(self._job, [entry.batch for entry in back], [entry.position for entry in back])
        )

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


class Coroutines(Crew):
    """Each item a Task on the loop where the map was called, ``lanes`` at a time.

    What has an underscore runs on that loop.
    """

    def __init__(self, frame: frames.Function, place: Place, answer: Callable[[frames.Frame], None]) -> None:
        super().__init__(frame, place, answer)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch."""
        self._post(self._add, frame)

    def hand_back(self, count: int) -> None:
        """Give back what has not started."""
        self._post(self._give_back, count)

    def cancel(self) -> None:
        """Cancel the tasks; they end when their loop comes round to them."""
        self._over = True
        self._post(self._cancel)

    def hold(self, entry: Entry) -> None:
        """Stop the item's clock."""
        self._post(self._hold, entry)

    def release(self, entry: Entry) -> None:
        """Let it go on."""
        self._post(self._release, entry)

    def _post(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._place.loop.call_soon_threadsafe(function, *args, context=contextvars.Context())
        except RuntimeError:
            # The loop has closed, say of an asyncio.run() in the item that called the map: nothing runs there any more.
            if not self._over:
                self._over = True
                self._place.lost()

    def _add(self, frame: frames.Batch) -> None:
        self._take_in(frame)
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._tasks) < self._lanes and not self._over:
            entry = self._queue.popleft()
            task = entry.task = self._place.loop.create_task(self._run(entry), context=self._context(entry))
            self._tasks.add(task)
            # A loop holds its tasks weakly, and this crew may be forgotten before the last of them has cleaned up.
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)
            task.add_done_callback(lambda task, entry=entry: self._ended(task, entry))

    async def _run(self, entry: Entry) -> None:
        entry.started = perf_counter()
        self._watch(entry)
        try:
            value = await self._call(entry)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            self._end(entry, None, error)
        else:
            self._end(entry, value)

    def _end(self, entry: Entry, value: object, error: BaseException | None = None) -> None:
        if not entry.settled:
            entry.settled = True
            if entry.timer is not None:
                entry.timer.cancel()
            self._settle(entry, value, error)

    def _ended(self, task: asyncio.Task[None], entry: Entry) -> None:
        self._tasks.discard(task)
        # Cancelled by somebody else, as at the end of asyncio.run(), before it began.
        self._end(entry, None, asyncio.CancelledError())
        self._fill()

    def _cancel(self) -> None:
        self._queue.clear()
        for task in self._tasks:
            task.cancel()

    # --- clocks ----------------------------------------------------------------------------------------------------

    def _watch(self, entry: Entry) -> None:
        if self.timeout is not None and not entry.held and not entry.settled:
            left = max(0.0, self.timeout - entry.spent)
            entry.spent -= perf_counter()
            entry.timer = self._place.loop.call_later(left, self._time_out, entry)

    def _hold(self, entry: Entry) -> None:
        entry.held += 1
        if entry.held == 1 and entry.timer is not None and not entry.timed_out:
            entry.timer.cancel()
            entry.timer = None
            entry.spent += perf_counter()

    def _release(self, entry: Entry) -> None:
        entry.held -= 1
        if not entry.held and not entry.timed_out:
            self._watch(entry)

    def _time_out(self, entry: Entry) -> None:
        if not entry.settled and entry.task is not None:
            entry.timed_out = True
            entry.task.cancel()
            entry.timer = self._place.loop.call_later(END_SECONDS, self._abandon, entry)

    def _abandon(self, entry: Entry) -> None:
        """It does not care that its time is up; another attempt, and other items, do not wait for it."""
        if entry.task is not None:
            self._tasks.discard(entry.task)
        self._end(entry, None)
        self._fill()


_tasks: set[asyncio.Task[None]] = set()


class Threads(Crew):
    """``lanes`` daemon threads, each of which runs one item after another, as long as there are any."""

    def __init__(self, frame: frames.Function, place: Place, answer: Callable[[frames.Frame], None]) -> None:
        super().__init__(frame, place, answer)
        self._lock = threading.Lock()
        self._serving = 0

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch, and start threads for them."""
        with self._lock:
            self._take_in(frame)
        self._staff()

    def hand_back(self, count: int) -> None:
        """Give back what has not started."""
        with self._lock:
            self._give_back(count)

    def cancel(self) -> None:
        """Start nothing more; what runs is forgotten."""
        with self._lock:
            self._over = True
            self._queue.clear()

    def _staff(self) -> None:
        with self._lock:
            count = max(0, min(self._lanes - self._serving, len(self._queue)))
            self._serving += count
        for started in range(count):
            thread = threading.Thread(target=self._serve, name=f"aiopool-inside-{self._job}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._do_with(count - started, error)
                return

    def _do_with(self, fewer: int, error: RuntimeError) -> None:
        """The system gives no more threads: those that there are do the work; where there is none, it fails."""
        with self._lock:
            self._serving -= fewer
            left = [] if self._serving else list(self._queue)
            if left:
                self._queue.clear()
        for entry in left:
            entry.started = perf_counter()
            self._settle(entry, None, error)

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            entry.started = perf_counter()
            if self.timeout is not None:
                self._place.io.call(self._watch, entry)
            try:
                value, failed = self._context(entry).run(self._value, entry), None
            except BaseException as error:  # noqa: BLE001  # an item may raise anything; the thread serves on
                value, failed = None, error
            if not self._end(entry, value, failed):
                return  # Too late, and another thread has taken this one's place.
            del value, failed

    def _value(self, entry: Entry) -> object:
        value = self._call(entry)
        # A lambda or wrapper around a coroutine function looks like a def.
        return asyncio.run(value) if inspect.iscoroutine(value) else value

    def _next(self) -> Entry | None:
        with self._lock:
            if self._over or not self._queue or self._serving > self._lanes:
                self._serving -= 1
                return None
            return self._queue.popleft()

    def _end(self, entry: Entry, value: object, error: BaseException | None) -> bool:
        """Settle the item; False if that was done."""
        with self._lock:
            if entry.settled:
                return False
            entry.settled = True
        self._settle(entry, value, error)
        return True

    # --- clocks, on the pool's thread ------------------------------------------------------------------------------

    def hold(self, entry: Entry) -> None:
        """Stop the item's clock."""
        self._place.io.call(self._hold, entry)

    def release(self, entry: Entry) -> None:
        """Let it go on."""
        self._place.io.call(self._release, entry)

    def _watch(self, entry: Entry) -> None:
        if self.timeout is not None and not entry.held and not entry.settled:
            now = perf_counter()
            spent = entry.spent or now - entry.started
            entry.spent = spent - now
            entry.timer = self._place.io.loop.call_later(max(0.0, self.timeout - spent), self._time_out, entry)

    def _hold(self, entry: Entry) -> None:
        entry.held += 1
        if entry.held == 1 and entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
            entry.spent += perf_counter()

    def _release(self, entry: Entry) -> None:
        entry.held -= 1
        self._watch(entry)

    def _time_out(self, entry: Entry) -> None:
        entry.timed_out = not entry.settled
        if self._end(entry, None, None):
            with self._lock:
                self._serving -= 1
            self._staff()


def _timed_out(seconds: float, cause: BaseException | None) -> ItemTimeout:
    error = ItemTimeout(f"it did not end within {seconds:g} s")
    error.__cause__ = cause
    return error
