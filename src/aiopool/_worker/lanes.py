"""Coroutine items: a few real, long-lived Tasks per job, each stepping one item after another in its own Context.

A Task of its own would cost an item 7 to 8 us; a lane costs 0.7 us. ``asyncio.timeout``, ``TaskGroup`` and context
variables see a real Task and are right.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator
from time import perf_counter
from typing import Any, Protocol

from aiopool._worker.outbox import Outbox
from aiopool._worker.work import Entry, JobRun, MarkPage

TURN_SECONDS = 0.005
"""How long the lanes of a job may go on with items that never wait, before they let the loop turn."""


class Host(Protocol):
    """What a lane needs of the thread that it runs in."""

    loop: asyncio.AbstractEventLoop
    context: contextvars.Context
    marks: MarkPage
    outbox: Outbox
    stepping: Entry | None
    stepping_job: JobRun | None

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
        self._task = host.loop.create_task(self._run())
        job.tasks.add(self._task)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._host.marks.give(self._slot)
        self._job.tasks.discard(task)
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
            if self._task.cancelling() or self._job.cancelled:
                return
            self._reused = True
            # Shared by the job's lanes: each of them takes its turn before anybody else has one.
            if ended - turn > TURN_SECONDS / len(self._job.tasks):
                await asyncio.sleep(0)
                turn = perf_counter()

    async def _item(self, entry: Entry) -> float:
        job, outbox = self._job, self._host.outbox
        started = perf_counter()
        self._host.marks.slots[self._slot] = entry.code
        try:
            called = job.call(entry)
            if not isinstance(called, types.CoroutineType):
                called = _awaited(called)
            value = await stepped(self._host, job, entry, called)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            now = perf_counter()
            if job.cancelled:
                entry.batch.done += 1
            elif isinstance(error, asyncio.CancelledError) and self._reused and job.may_rerun:
                # Nobody of ours ordered it; an earlier item of this lane may have left it behind. In a Task of its
                # own the item shows whether it is its own doing.
                job.queue.appendleft(entry._replace(fresh=True))
            else:
                outbox.error(job, entry, error, now - started)
        else:
            now = perf_counter()
            outbox.value(job, entry, value, now - started, now)
        self._host.marks.slots[self._slot] = 0
        return now


@types.coroutine
def stepped(
    host: Host, job: JobRun, entry: Entry, coroutine: Coroutine[Any, Any, object]
) -> Generator[Any, Any, object]:
    """Step the item in a Context of its own, and let the Task that runs here wait for whatever the item waits for."""
    context = host.context.copy()
    slots, code = host.marks.slots, entry.code
    step = coroutine.send
    thrown: BaseException | None = None
    first = True
    while True:
        if job.cancelled and thrown is None and (task := asyncio.current_task()) not in job.told:
            # Before its loop came round to it; another step might hold the loop for as long as it likes.
            job.told.add(task)
            thrown = asyncio.CancelledError()
        host.stepping = entry
        host.stepping_job = job
        slots[0] = code
        try:
            waits_for = context.run(step, None) if thrown is None else context.run(coroutine.throw, thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            # An exception that was thrown in holds this frame: kept, it would keep the item's locals alive.
            thrown = None
            host.stepping_job = None
            host.stepping = None
            slots[0] = 0
        if first:
            first = False
            host.open_lane(job)
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001  # cancellation included: it is thrown into the item
            thrown = error


async def _awaited(value: Any) -> object:
    return await value
