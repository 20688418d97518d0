"""What runs the items of a map inside a worker: Tasks of the loop on which the map was called, or threads.

A coroutine is cancelled. A function cannot be: when its job ends or its time is up, nobody waits for its thread any
more, which ends when the function does.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from time import perf_counter
from typing import Any

from aiopool._core import frames
from aiopool._worker.gathered import Gathered, Line
from aiopool._worker.stacks import awaits, of_thread, running, users
from aiopool.engines.entries import Crew, Entry, Place

__all__ = ["Coroutines", "Threads"]

END_SECONDS = 2.0
"""How long a coroutine whose time is up may take to end, before nobody waits for it any more."""


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

    def hand_back(self, ask: frames.AskBack) -> None:
        """Give back what has not started."""
        self._post(self._give_back, ask)

    def cancel(self) -> None:
        """Cancel the tasks; they end when their loop comes round to them."""
        self._over = True
        self._post(self._cancel)

    def strike_late(self, entry: Entry) -> None:
        """What should have struck the item while it was held strikes now."""
        self._post(self._cancel_one if self._over else self._time_out, entry)

    def stand(self, gathered: Gathered, threads: Iterable[list[types.FrameType]]) -> None:
        """Say where the items are; ``threads`` are the stacks of this process."""
        for entry, task in list(self._tasks.items()):
            coroutine = task.get_coro()
            if entry.started and isinstance(coroutine, types.CoroutineType):
                lines = running(coroutine, threads) if coroutine.cr_running else users(awaits(coroutine))
                self._stands(gathered, entry, "running" if coroutine.cr_running else "waiting", lines)

    def _stands(self, gathered: Gathered, entry: Entry, state: str, lines: list[Line]) -> None:
        gathered.item((self._job, entry.index), state, perf_counter() - entry.started, lines)

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

    def _launch(self, entry: Entry, run: Coroutine[Any, Any, None], context: contextvars.Context) -> asyncio.Task[None]:
        task = self._tasks[entry] = self._place.loop.create_task(run, context=context)
        # A loop holds its tasks weakly, and this crew may be forgotten before the last of them has cleaned up.
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(functools.partial(self._leave, entry))
        return task

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

    def hand_back(self, ask: frames.AskBack) -> None:
        """Give back what has not started."""
        with self._lock:
            self._give_back(ask)

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

    def stand(self, gathered: Gathered, threads: Iterable[list[types.FrameType]]) -> None:
        """Say where the items are: those on the loop, and those in threads."""
        super().stand(gathered, threads)
        for stack in threads:
            for at, frame in enumerate(stack):
                entry = frame.f_locals.get("entry") if frame.f_code is Threads._serve_one.__code__ else None
                if isinstance(entry, Entry) and entry.job is self and not entry.on_loop:
                    self._stands(gathered, entry, "running", of_thread(stack[at + 1 :]))

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
            task = self._launch(entry, self._finish(entry, coroutine), context)
            # Its task may have been cancelled before it began.
            task.add_done_callback(lambda _: coroutine.close())

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
