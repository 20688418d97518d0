"""Coroutine items: a few real, long-lived Tasks per job, each stepping one item after another in its own Context.

A Task of its own would cost an item 7 to 8 us; a lane costs 0.7 us. ``asyncio.timeout``, ``TaskGroup`` and context
variables see a real Task and are right.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Generator
from time import perf_counter
from typing import Any, Protocol

from aiopool import inside
from aiopool._worker.clock import Attempt
from aiopool._worker.outbox import Outbox
from aiopool._worker.work import Entry, JobRun, MarkPage
from aiopool._worker.work import Host as JobHost

TURN_SECONDS = 0.005
"""How long the lanes of a job may go on with items that never wait, before they let the loop turn."""


class Host(JobHost, Protocol):
    """What a lane needs of the thread that it runs in."""

    loop: asyncio.AbstractEventLoop
    context: contextvars.Context
    marks: MarkPage
    outbox: Outbox
    stepping: Entry | None

    def open_lane(self, job: JobRun) -> None:
        """Start one more lane for the job, if there is something for it to do."""

    def lane_ended(self, job: JobRun) -> None:
        """One lane is gone."""


class Lane:
    """One long-lived Task and its slot on the mark page."""

    def __init__(self, host: Host, job: JobRun) -> None:
        self._host = host
        self._job = job
        self._slot = host.marks.take()
        self._reused = False
        self._task = host.loop.create_task(self._run(), context=host.context.copy())
        job.tasks[self._task] = self._slot
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._host.marks.give(self._slot)
        self._job.tasks.pop(task, None)
        self._job.told.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._host.loop.call_exception_handler({"message": "a lane failed", "exception": error})
        self._host.lane_ended(self._job)

    async def _run(self) -> None:
        turn = perf_counter()
        while len(self._job.tasks) <= self._job.lanes:
            try:
                entry = self._job.queue.popleft()
            except IndexError:
                return
            if self._reused and entry.fresh:
                self._job.queue.appendleft(entry)
                return
            ended = await self._item(entry)
            # Before 3.13 a Task that was ever cancelled stays poisoned: asyncio.timeout in the next item would see it.
            # One that had its CancelledError from us is spent, too, whichever way that came.
            if self._task.cancelling() or self._job.cancelled or (self._job.told and self._task in self._job.told):
                return
            self._reused = True
            # Shared by the job's lanes: each of them takes its turn before anybody else has one.
            if ended - turn > TURN_SECONDS / len(self._job.tasks):
                await asyncio.sleep(0)
                turn = perf_counter()

    async def _item(self, entry: Entry) -> float:
        job, outbox, clock = self._job, self._host.outbox, self._host.clock
        attempt: Attempt | None = None
        started = perf_counter()
        self._host.marks.slots[self._slot] = entry.code
        try:
            if job.timeout is not None:
                if not job.loaded:
                    clock.charged(None, job.load)  # Not its first item's time: a function may import a lot.
                attempt = clock.start(entry, job.timeout, self._task)
            called = clock.charged(attempt, job.call, entry) if clock.attempts else job.call(entry)
            value = await stepped(self._host, job, entry, called, attempt)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            now = perf_counter()
            overdue = attempt is not None and clock.end(attempt)
            if job.cancelled:
                outbox.dropped(entry)
            elif overdue and attempt is not None:
                outbox.timed_out(job, entry, attempt, error, now - started)
            elif isinstance(error, asyncio.CancelledError) and self._reused and job.may_rerun:
                # Nobody of ours ordered it; an earlier item of this lane may have left it behind. In a Task of its
                # own the item shows whether it is its own doing.
                inside.end_belongings(entry)
                job.queue.appendleft(entry._replace(fresh=True))
            else:
                outbox.error(job, entry, error, now - started)
        else:
            now = perf_counter()
            if not clock.attempts:
                outbox.value(job, entry, value, now - started, now)
            elif attempt is None or not clock.end(attempt):
                clock.charged(None, outbox.value, job, entry, value, now - started, now)
            else:
                outbox.timed_out(job, entry, attempt, None, now - started)
        self._host.marks.slots[self._slot] = 0
        return now


@types.coroutine
def stepped(
    host: Host, job: JobRun, entry: Entry, coroutine: Any, attempt: Attempt | None
) -> Generator[Any, Any, object]:
    """Step the item in a Context of its own, and let the Task that runs here wait for whatever the item waits for.

    The Context is a copy of this Task's, in which :meth:`JobRun.call` has said which item runs.
    """
    if not isinstance(coroutine, types.CoroutineType):
        coroutine = _awaited(coroutine)
    clock = host.clock
    timed = clock.attempts
    context = contextvars.copy_context()
    slots, code = host.marks.slots, entry.code
    step = coroutine.send
    thrown: BaseException | None = None
    first = True
    began = 0.0
    while True:
        if job.cancelled or (attempt is not None and attempt.overdue):
            thrown = _told_to_end(host, job, entry, attempt, thrown)
        if timed:
            began = clock.begun()
        host.stepping = entry
        slots[0] = code
        try:
            waits_for = context.run(step, None) if thrown is None else context.run(coroutine.throw, thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            # An exception that was thrown in holds this frame: kept, it would keep the item's locals alive.
            thrown = None
            host.stepping = None
            slots[0] = 0
            if began:
                clock.stepped(attempt, began)
                began = 0.0
        if first:
            first = False
            host.open_lane(job)
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001  # cancellation included: it is thrown into the item
            thrown = error


def _told_to_end(
    host: Host, job: JobRun, entry: Entry, attempt: Attempt | None, thrown: BaseException | None
) -> BaseException | None:
    """What to throw into an item that shall end: once a CancelledError, if need be before its loop comes round to it.

    Another step might hold the loop for as long as it likes.
    """
    task = asyncio.current_task()
    if thrown is None and task is not None and task not in job.told and entry.code not in host.clock.held:
        job.told.add(task)
        thrown = asyncio.CancelledError()
    if attempt is not None and attempt.struck is None and isinstance(thrown, asyncio.CancelledError):
        attempt.struck = thrown
    return thrown


async def _awaited(value: Any) -> object:
    return await value
