"""The engine of a map inside a worker: its one worker is this very process, beside the item that called the map.

Coroutines run as Tasks of the loop on which the map was called, functions are called in threads. Frames come and go
as with any engine, but what they carry are references: nothing is copied, and nothing has to be pickled.

There is no process to kill. A coroutine is cancelled; a function cannot be: when its job ends or its time is up, nobody
waits for its thread any more, which ends when the function does.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
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

    def start(self, _: int, events: Events, __: Mapping[str, str]) -> InsideLink:
        """Begin; there is nothing to set up, and nothing that could take time."""
        return InsideLink(self._place, events)

    def close(self) -> None:
        """Nothing is held."""


class InsideLink:
    """The worker, which looks from the pool like any other. All but ``answer`` is called on the pool's thread."""

    def __init__(self, place: Place, events: Events) -> None:
        self._place = place
        self._events: Events | None = events
        self._parser = wire.Parser()
        self._crews: dict[int, Crew] = {}
        self._handlers: dict[type, Callable[[Any], object]] = {
            frames.Function: self._know,
            frames.Batch: lambda frame: self._crews[frame.job].add(frame),
            frames.AskBack: lambda frame: self._crews[frame.job].hand_back(frame.count),
            frames.Cancel: self._cancel,
            frames.Forget: lambda frame: self._crews.pop(frame.job, None),
            frames.Ping: lambda _: self.answer(frames.Pong()),
            frames.Environment: lambda _: None,
        }
        self.answer(frames.Ready(os.getpid()))

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take in frames."""
        for frame in self._parser.feed(b"".join(parts)):
            self._handlers[type(frame)](frame)

    def _know(self, frame: frames.Function) -> None:
        crew = Coroutines if frame.flags & frames.Function.ASYNC else Threads
        self._crews[frame.job] = crew(frame, self._place, self.answer)

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

    __slots__ = ("_crew", "attempt", "batch", "due", "held", "held_at", "index", "lost", "on_loop", "position",
                 "settled", "started", "timed_out", "timer", "value")  # fmt: skip

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
        self.timer: asyncio.TimerHandle | None = None
        self.held = 0
        self.held_at = 0.0
        self.lost = 0.0
        self.due = False
        self.on_loop = False

    # --- as aiopool.inside sees it ---------------------------------------------------------------------------------

    @property
    def job(self) -> object:
        """What it is one of."""
        return self._crew

    def told(self) -> inside.CurrentItem:
        """Tell which one it is: its index is that in the input of the map inside."""
        seed = self._crew.seed
        return inside.CurrentItem(self.index, self.attempt, None if seed is None else inside.seed_of(seed, self.index))

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
        if due:
            self._crew.strike_late(self)

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

    def _give_back(self, count: int) -> None:
        back = [self._queue.pop() for _ in range(min(count, len(self._queue)))]
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


class Coroutines(Crew):
    """Each item a Task on the loop where the map was called, ``lanes`` at a time.

    What has an underscore runs on that loop.
    """

    def __init__(self, frame: frames.Function, place: Place, answer: Callable[[frames.Frame], None]) -> None:
        super().__init__(frame, place, answer)
        self._tasks: dict[Entry, asyncio.Task[None]] = {}

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

    def strike_late(self, entry: Entry) -> None:
        """What should have struck the item while it was held strikes now."""
        self._post(self._cancel_one if self._over else self._time_out, entry)

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
            self._launch(entry, self._begin(entry), self._context(entry))

    async def _begin(self, entry: Entry) -> None:
        entry.started = perf_counter()
        if self.timeout is not None:
            entry.timer = self._place.loop.call_later(self.timeout, self._time_out, entry)
        try:
            coroutine = self._call(entry)
        except BaseException as error:  # noqa: BLE001  # the call itself, with arguments that it does not take, say
            self._end(entry, None, error)
        else:
            await self._finish(entry, coroutine)

    async def _finish(self, entry: Entry, awaitable: Awaitable[object]) -> None:
        try:
            value = await awaitable
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            self._end(entry, None, error)
        else:
            self._end(entry, value)

    def _launch(self, entry: Entry, run: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        task = self._tasks[entry] = self._place.loop.create_task(run, context=context)
        # A loop holds its tasks weakly, and this crew may be forgotten before the last of them has cleaned up.
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(functools.partial(self._leave, entry))

    def _leave(self, entry: Entry, _: object = None) -> None:
        """Nobody waits for its task any more: it is done, or does not care that its time is up.

        If it has not told how it ended, it was cancelled before it began, as at the end of ``asyncio.run()``.
        """
        self._tasks.pop(entry, None)
        self._end(entry, None, asyncio.CancelledError())
        self._fill()

    def _end(self, entry: Entry, value: object, error: BaseException | None = None) -> bool:
        """Settle the item; False if that was done."""
        if entry.settled:
            return False
        entry.settled = True
        if entry.timer is not None:
            entry.timer.cancel()
        self._settle(entry, value, error)
        return True

    def _cancel(self) -> None:
        self._queue.clear()
        for entry in list(self._tasks):
            if not entry.is_held():
                self._cancel_one(entry)

    def _cancel_one(self, entry: Entry) -> None:
        if (task := self._tasks.get(entry)) is not None:
            task.cancel()

    def _strike(self, entry: Entry) -> None:
        entry.timed_out = True
        self._cancel_one(entry)
        self._place.loop.call_later(END_SECONDS, self._leave, entry)


_tasks: set[asyncio.Task[None]] = set()


class Threads(Coroutines):
    """Daemon threads, each of which calls the function with one item after another, as long as there are any.

    What is often passed is a lambda around a coroutine function, as in ``lambda url: client.get(url)``: the coroutine
    goes to the loop, where its client lives, and the thread takes the next item. So ``lanes`` items may be under way,
    while there are no more than ``threads`` threads.
    """

    def __init__(self, frame: frames.Function, place: Place, answer: Callable[[frames.Frame], None]) -> None:
        super().__init__(frame, place, answer)
        self._threads = self._held.threads
        self._lock = threading.Lock()
        self._serving = 0
        self._under_way = 0

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch, and start threads for them."""
        with self._lock:
            self._take_in(frame)
        self._fill()

    def hand_back(self, count: int) -> None:
        """Give back what has not started."""
        with self._lock:
            self._give_back(count)

    def cancel(self) -> None:
        """Start nothing more, cancel what waits on the loop; functions that run are forgotten."""
        with self._lock:
            self._over = True
            self._queue.clear()
        if self._under_way:
            self._post(self._cancel)

    def strike_late(self, entry: Entry) -> None:
        """What should have struck the item while it was held strikes now."""
        if self._over:
            self._post(self._cancel_one, entry)
        else:
            self._place.io.call(self._time_out, entry)

    def _fill(self) -> None:
        with self._lock:
            free = min(self._threads - self._serving, self._lanes - self._under_way)
            count = max(0, min(free, len(self._queue)))
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
                self._under_way += len(left)
        for entry in left:
            entry.started = perf_counter()
            self._end(entry, None, error)

    def _next(self) -> Entry | None:
        with self._lock:
            if self._over or not self._queue or self._serving > self._threads or self._under_way >= self._lanes:
                self._serving -= 1
                return None
            self._under_way += 1
            return self._queue.popleft()

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            entry.started = perf_counter()
            if self.timeout is not None:
                self._place.io.call(self._time_out, entry)
            if not self._serve_one(entry):
                return  # Too late: another thread has taken this one's place.

    def _serve_one(self, entry: Entry) -> bool:
        context = self._context(entry)
        try:
            value = context.run(self._call, entry)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; the thread serves on
            return self._end(entry, None, error)
        if not isinstance(value, Coroutine):
            return self._end(entry, value)
        with self._lock:
            if entry.settled:
                value.close()
                return False
            entry.on_loop = True
        self._post(self._go_on, entry, value, context)
        return True

    def _go_on(self, entry: Entry, coroutine: Coroutine[Any, Any, object], context: contextvars.Context) -> None:
        if self._over:
            coroutine.close()
        else:
            self._launch(entry, self._finish(entry, coroutine), context)

    def _end(self, entry: Entry, value: object, error: BaseException | None = None) -> bool:
        with self._lock:
            if entry.settled:
                return False
            entry.settled = True
            self._under_way -= 1
        if entry.timer is not None:
            self._place.io.call(entry.timer.cancel)
        self._settle(entry, value, error)
        return True

    def _strike(self, entry: Entry) -> None:
        """On the pool's thread, which looks after the clocks here."""
        with self._lock:
            entry.timed_out = not entry.settled
            waits = entry.on_loop
        if waits:
            self._post(super()._strike, entry)
        elif self._end(entry, None):
            with self._lock:
                self._serving -= 1
            self._fill()


def _timed_out(seconds: float, cause: BaseException | None) -> ItemTimeout:
    error = ItemTimeout(f"it did not end within {seconds:g} s")
    error.__cause__ = cause
    return error
