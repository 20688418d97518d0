"""Coroutine items: a few real, long-lived Tasks per job, each stepping one item after another in its own Context.

A Task of its own would cost an item 7 to 8 us. ``asyncio.timeout``, ``TaskGroup`` and context variables see a real Task
and are right.

Coroutines that end without waiting, one after the other, are run in laps, as functions are; see
:mod:`aiopool._worker.laps`. The first one that waits keeps the Context, and the lap is over.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import traceback
import types
from collections.abc import Callable, Generator
from sys import getrefcount
from time import perf_counter
from typing import Any, Protocol, TypeVar

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker.clock import Attempt
from aiopool._worker.cursor import Cursor
from aiopool._worker.laps import Left, Place
from aiopool._worker.marks import MarkPage
from aiopool._worker.outbox import Outbox, Run
from aiopool._worker.showing import end_figures
from aiopool._worker.stretches import Stretch
from aiopool._worker.work import Entry, JobRun, Stepped
from aiopool._worker.work import Host as JobHost

T = TypeVar("T")

TURN_SECONDS = 0.005
"""How long the lanes of a job may go on with items that never wait, before they let the loop turn."""

_PLAIN: frozenset[type] = _payload.PLAIN_TYPES


class Host(JobHost, Protocol):
    """What a lane needs of the thread that it runs in."""

    context: contextvars.Context
    has_laps: bool
    marks: MarkPage
    outbox: Outbox
    stepping: Stepped | None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of that thread."""

    def open_lane(self, job: JobRun) -> None:
        """Start one more lane for the job, if there is something for it to do."""

    def lane_ended(self, job: JobRun) -> None:
        """One lane is gone."""


class Lane:
    """One long-lived Task and its slot on the mark page. ``waited``: the item that it is at has waited."""

    __slots__ = ("_host", "_job", "_reused", "_slot", "_task", "waited")

    def __init__(self, host: Host, job: JobRun) -> None:
        self.waited = False
        self._host = host
        self._job = job
        self._slot = host.marks.take()
        self._reused = False
        self._task = host.loop.create_task(self._run(), context=host.context.copy())
        job.tasks[self._task] = self._slot
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._job
        self._host.marks.give(self._slot)
        job.tasks.pop(task, None)
        if job.told:
            job.told.discard(task)
        # A GeneratorExit that an item waited for passes through all coroutines above it, whoever has caught it.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GeneratorExit):
            self._host.loop.call_exception_handler({"message": "a lane failed", "exception": error})
        if job.waits or job.cancelled or job.once:
            self._host.lane_ended(job)

    async def _run(self) -> None:
        job, host = self._job, self._host
        turn = perf_counter()
        while len(job.tasks) <= job.lanes:
            may_lap = job.at_once and host.has_laps and not job.queue and not host.clock.attempts
            stretch = job.stretch() if may_lap else None
            function = job.in_laps
            if stretch is not None and stretch.batch.plain and function is not None:
                ended = await self._lap(stretch, function, turn + TURN_SECONDS / len(job.tasks))
            else:
                entry = job.take()
                if entry is None:
                    return
                if self._reused and entry.fresh:
                    job.queue.appendleft(entry)
                    return
                ended = await self._item(entry)
            # Before 3.13 a Task that was ever cancelled stays poisoned: asyncio.timeout in the next item would see it.
            # One that had its CancelledError from us is spent, too, whichever way that came.
            if self._task.cancelling() or job.cancelled or (job.told and self._task in job.told):
                return
            self._reused = True
            job.at_once = not self.waited
            if self.waited:
                # The loop has turned, and has come back to this lane for one step.
                self.waited = False
                turn = ended
            # Shared by the job's lanes: each of them takes its turn before anybody else has one.
            elif ended - turn > TURN_SECONDS / len(job.tasks):
                await asyncio.sleep(0)
                turn = perf_counter()

    # --- one by one ------------------------------------------------------------------------------------------------

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
            called = self._within(attempt, entry, job.call, entry) if clock.attempts else job.call(entry)
            value = await stepped(self._host, job, entry, called, attempt, lane=self)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            now = perf_counter()
            self._raised(entry, attempt, error, now - started)
        else:
            now = perf_counter()
            if not clock.attempts:
                outbox.value(job, entry, value, now - started, now)
            else:
                put = functools.partial(outbox.value, job, entry, value, now - started, now, attempt=attempt)
                self._within(attempt, entry, put)
        self._host.marks.slots[self._slot] = 0
        return now

    def _raised(self, entry: Stepped, attempt: Attempt | None, error: BaseException, seconds: float) -> None:
        job, outbox = self._job, self._host.outbox
        overdue = attempt is not None and self._host.clock.end(attempt)
        if job.cancelled:
            outbox.dropped(entry)
        elif overdue and attempt is not None:
            outbox.timed_out(job, entry, attempt, error, seconds)
        elif isinstance(error, asyncio.CancelledError) and self._reused and job.may_rerun:
            # Nobody of ours ordered it; an earlier item of this lane may have left it behind. In a Task of its own the
            # item shows whether it is its own doing.
            end_figures(entry, show=False)
            inside.end_belongings(entry)
            job.queue.appendleft(entry.outermost._replace(fresh=True))
        else:
            outbox.error(job, entry, error, seconds)

    def _within(self, attempt: Attempt | None, entry: Entry, do: Callable[..., T], *args: Any) -> T:
        """Do what is no step of the item, but runs its code: load its argument, pickle its value.

        Others wait meanwhile; if it hangs, that is its own fault and not theirs.
        """
        self._host.stepping = entry
        try:
            return self._host.clock.charged(attempt, do, *args)
        finally:
            self._host.stepping = None

    # --- many in a row ---------------------------------------------------------------------------------------------

    async def _lap(self, stretch: Stretch, function: Callable[[Any], Any], until: float) -> float:
        """Run items of the stretch until that time, or until one is not like the others, which ends here as well."""
        host, job, outbox, slots = self._host, self._job, self._host.outbox, self._host.marks.slots
        batch, place = stretch.batch, Place(self._host, stretch.batch)
        entry = place.cursor
        run = outbox.begin(job, batch, stretch.position)
        run.due = min(run.due, until)
        laps = in_a_row(stretch, function, place, run, self._task.cancelling)
        slots[0] = frames.mark_of(batch.id, stretch.position)
        entry.run = run
        left: Left | None = None
        waits_for: Any = None
        host.stepping = entry
        try:
            waits_for = place.context.run(laps.send, None)
            self.waited = True
        except StopIteration as stop:
            left = stop.value
        finally:
            host.stepping = None
        stretch.position = outbox.gather(run)
        now = perf_counter()
        if self.waited:
            # It keeps the Context and the cursor, from now on.
            slots[self._slot] = entry.keep().code
            slots[0] = 0
            stretch.position = entry.position + 1
            outbox.ended(batch, now)
            left = await stepped(host, job, entry, laps, None, lane=self, begun=(place.context, waits_for))
            now = perf_counter()
        elif left is None:
            entry.end()
            outbox.settle(entry.kept)
            slots[0] = 0
            job.used_up(stretch)
            outbox.ended(batch, now)
        if left is not None:
            self._end(stretch, entry, left, max(0.0, left.at - run.since))
            slots[self._slot] = slots[0] = 0
        return now

    def _end(self, stretch: Stretch, cursor: Cursor, left: Left, seconds: float) -> None:
        """End the item for which a lap was left."""
        if not self.waited:
            if left.error is not None and (not left.begun or cursor.position < stretch.position):
                # A signal handler of the user's, between two items.
                traceback.print_exception(left.error)
                cursor.end()
                self._host.outbox.settle(cursor.kept)
                return
            stretch.position += 1
        entry: Stepped = cursor
        cursor.give_up()
        self._host.outbox.settle(cursor.kept, but=cursor.position)
        if left.error is not None:
            self._raised(entry, None, left.error, seconds)
        else:
            if type(left.value) in _PLAIN:
                self._job.returns = type(left.value)
            self._host.outbox.value(self._job, entry, left.value, seconds, perf_counter())


@types.coroutine
def in_a_row(
    stretch: Stretch,
    function: Callable[[Any], Any],
    place: Place,
    run: Run,
    cancelling: Callable[[], int],
) -> Generator[Any, Any, Left | None]:
    """Run coroutines until one is not like the others, or none is left. Stepped in their Context.

    As :func:`aiopool._worker.laps.run_in_a_row` does with functions. If one waits, so does this: what it waits for
    comes out, and what waits is this generator, until that item has ended.
    """
    entry, mapping = place.cursor, place.mapping
    put, ended, low, plain, due = run.values.append, run.ends.append, entry.low, run.job.returns, run.due
    count, clock, coroutine = getrefcount, perf_counter, types.CoroutineType
    argument: Any = run
    of_entry, of_mapping = count(entry), count(mapping)
    run.since = clock()
    try:
        for low[0], argument in stretch.steps:
            called = function(argument)
            value = yield from (called if type(called) is coroutine else _awaited(called))  # type: ignore[misc]
            now = clock()
            if (
                (type(value) is not plain and type(value) not in _PLAIN)
                or count(mapping) != of_mapping
                or count(entry) != of_entry
                or now > due
                or cancelling()
            ):
                apart = count(entry) != of_entry or count(mapping) != of_mapping
                return Left(value, now, apart)
            put(value)
            ended(now)
    except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
        return Left(None, clock(), is_apart=True, error=error, begun=argument is not run)
    return None


@types.coroutine
def stepped(
    host: Host,
    job: JobRun,
    entry: Stepped,
    coroutine: Any,
    attempt: Attempt | None,
    *,
    lane: Lane | None = None,
    begun: tuple[contextvars.Context, Any] | None = None,
) -> Generator[Any, Any, Any]:
    """Step the item in a Context of its own, and let the Task that runs here wait for whatever the item waits for.

    The Context is a copy of this Task's, in which :meth:`JobRun.call` has said which item runs. Of one that was
    ``begun`` already it is given, with what the item waits for.
    """
    if begun is None:
        context = contextvars.copy_context()
        coroutine = coroutine if isinstance(coroutine, types.CoroutineType) else _awaited(coroutine)
    else:
        context, waits_for = begun
    clock = host.clock
    timed = clock.attempts
    slots, code = host.marks.slots, entry.code
    step = coroutine.send
    thrown: BaseException | None = None
    first = True
    while True:
        if begun is None:
            if job.cancelled or (attempt is not None and attempt.overdue):
                thrown = _told_to_end(host, job, entry, attempt, thrown)
            began = clock.begun() if timed else 0.0
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
        begun = None
        if first:
            first = _waits(host, job, lane)
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001  # cancellation included: it is thrown into the item
            thrown = error


def _waits(host: Host, job: JobRun, lane: Lane | None) -> bool:
    """An item waits for the first time: there is time for another one. It will not be the first time again."""
    if lane is not None:
        lane.waited = True
    host.open_lane(job)
    return False


def _told_to_end(
    host: Host, job: JobRun, entry: Stepped, attempt: Attempt | None, thrown: BaseException | None
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
