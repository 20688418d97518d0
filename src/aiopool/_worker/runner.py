"""The main thread of a worker: it owns the user's loop and runs ``def`` items between two runs of it.

So a ``def`` item may call ``asyncio.run``; coroutines are not served meanwhile, and the ledger never sends both kinds.
"""

from __future__ import annotations

import contextvars
import errno
import queue
import signal
import threading
import types
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiopool._core import frames
from aiopool._worker.clock import Attempt, Clock
from aiopool._worker.laps import are_possible, run_lap
from aiopool._worker.loops import LoopOnDemand
from aiopool._worker.marks import MarkPage
from aiopool._worker.outbox import Outbox
from aiopool._worker.pipes import end_without_pipes
from aiopool._worker.prints import Prints
from aiopool._worker.reports import Reports
from aiopool._worker.striking import must_not_be_struck
from aiopool._worker.switching import sooner
from aiopool._worker.work import Entry, JobRun, Stepped
from aiopool.errors import FrameError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

CANCEL_SIGNAL = signal.SIGURG
"""Ignored by default, so that it harms nobody should it come early, and hardly used by libraries."""


class Runner:
    """Runs items. ``stepping`` is the one that the main thread is inside of; the link thread reads it.

    ``began`` is when that began, or its lap, some ms before. ``_turning``: it is called to ``def`` items that wait.
    """

    def __init__(
        self,
        send: Callable[[frames.Frame], None],
        wake: Callable[[], None],
        marks: MarkPage,
        until_written: Callable[[Callable[[], Callable[[], object]]], None],
        prints: Prints,
    ) -> None:
        self.calls = LoopOnDemand()
        self.context = contextvars.copy_context()
        self.marks = marks
        self.clock = Clock(send, wake)
        self.reports = Reports(send, wake)
        self.outbox = Outbox(send, wake, self.clock, self.reports, self._mark_until_written, prints=prints)
        self.stepping: Stepped | None = None
        self.began = 0.0
        self.interrupted: Stepped | None = None
        self.jobs: dict[int, JobRun] = {}
        self.setup: queue.SimpleQueue[frames.Setup] = queue.SimpleQueue()
        self.ready = self.closing = False
        self._send = send
        self._wake = wake
        self._until_written = until_written
        self._prints = prints
        self._main = threading.get_ident()
        self._turns: deque[JobRun] = deque()
        self._cancels: deque[JobRun] = deque()
        self._in_def = self._turning = False
        self.has_laps = are_possible(self.context)
        self._counting_threads = threading.Lock()
        self._new_lane: Callable[[Runner, JobRun], object] = _first_lane
        signal.signal(CANCEL_SIGNAL, self._on_cancel_signal)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The user's event loop; in the main thread, because asking for it may make it."""
        return self.calls.get()

    def run(self) -> None:
        """Serve until the parent hangs up."""
        while not self.closing:
            try:
                self.calls.run_forever()
            except (SystemExit, KeyboardInterrupt):
                pass  # A task that an item started raised it: the item fails with it as well, and the worker goes on.
            except BaseException as error:  # noqa: BLE001  # a signal handler of the user's, between two items
                if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.EINVAL):
                    # An item has closed what the loop waits on. What has ended is told before.
                    self.outbox.flush()
                    end_without_pipes()
                import traceback  # with the reader of Python files

                traceback.print_exc()
            self._turning = False  # What lowers it may have been struck.
            self._run_defs()

    # --- called by the link thread -----------------------------------------------------------------------------

    def know(self, frame: frames.Function) -> JobRun:
        """A job's function has come; its items follow."""
        job = self.jobs[frame.job] = JobRun(frame, self)
        return job

    def add(self, frame: frames.Batch) -> None:
        """Queue a batch and wake the main thread."""
        job = self.jobs.get(frame.job)
        if job is None:
            raise FrameError(f"a batch of job {frame.job}, which is not known here")
        job.add(frame)
        self.serve(job)

    def cancel(self, job: JobRun) -> None:
        """Drop what has not started, cancel what runs; Dropped is sent when nothing is left."""
        job.cancelled = True
        job.drop()
        # What only waited is gone at once, also while the main thread is busy with something else.
        self._drop_if_empty(job)
        self._cancels.append(job)
        self.calls.call_soon_threadsafe(self._process_cancels)
        if not job.is_async:
            self.interrupt()

    def must_interrupt(self) -> bool:
        """Whether the main thread is inside an item that shall end and has not felt a signal yet.

        For a coroutine that holds its loop, too: a moment after the end that its loop could not deliver.
        """
        entry = self.stepping
        return entry is not None and entry is not self.interrupted and self._shall_end(entry)

    def _shall_end(self, entry: Stepped) -> bool:
        if entry.code in self.clock.held:
            return False
        if (job := entry.job) is not None and job.cancelled:
            return True
        attempt = self.clock.attempts.get(entry.code)
        return attempt is not None and attempt.overdue

    def held(self) -> list[JobRun]:
        """Cancelled jobs that have not felt it: an item of another job holds the main thread, or they are held."""
        entry = self.stepping
        jobs = {job for held, _ in list(self.clock.held.values()) if (job := held.job) is not None and job.cancelled}
        if entry is not None and (stepped := entry.job) is not None and not stepped.cancelled:
            jobs.update(waiting for waiting in list(self._cancels) if self.jobs.get(waiting.id) is waiting)
        return list(jobs)

    def look_at_clock(self) -> None:
        """Some attempt may be due."""
        if self.clock.look(self.stepping):
            self.calls.call_soon_threadsafe(self._end_overdue)
        # If the main thread is inside of it, there is nothing to wait for.
        self.interrupt()

    def released(self, job: JobRun) -> None:
        """An item is not held any more: its job's cancel, or its timeout, is due now."""
        if job.cancelled:
            self._cancels.append(job)
            self.calls.call_soon_threadsafe(self._process_cancels)
            self._wake()

    def interrupt(self) -> bool:
        """Send the main thread a signal if it must be interrupted; True: look again in a moment whether it was."""
        if not self.must_interrupt():
            return False
        signal.pthread_kill(self._main, CANCEL_SIGNAL)
        return True

    def close(self) -> bool:
        """The parent has hung up: True where nothing is left here, as it should be, and the main thread ends now."""
        if not self.ready or any(
            job.waits or job.tasks or job.threads or job.running for job in list(self.jobs.values())
        ):
            return False
        self.closing = True
        self.calls.call_soon_threadsafe(self.calls.stop)
        return True

    # --- cancelling ------------------------------------------------------------------------------------------------

    def _on_cancel_signal(self, _: int, frame: types.FrameType | None) -> None:
        """Raise in the item that is being run, and only while its own frames are on top.

        Where that would do harm nothing happens; the link thread then tries again, and so does what the item prints.
        """
        entry = self.stepping
        if entry is None or not self.must_interrupt():
            return
        if frame is None or must_not_be_struck(frame):
            self._prints.late = self._on_cancel_signal
            return
        import asyncio  # a worker that has had functions only may not know it yet

        self.interrupted = entry
        job = entry.job
        task = asyncio.current_task(self.calls.made) if self.calls.made is not None else None
        if job is not None and task is not None:
            if task in job.told:
                return  # Its loop came first; this would strike its cleaning up.
            job.told.add(task)
        error = asyncio.CancelledError()
        if (attempt := self.clock.attempts.get(entry.code)) is not None:
            attempt.struck = error
        try:
            raise error
        finally:
            # It and this frame would hold each other, and the item's arguments with them.
            del error

    def _end_overdue(self) -> None:
        for attempt in self.clock.struck():
            if (job := attempt.entry.job) is not None:
                self._tell(job, attempt.task)

    def _process_cancels(self) -> None:
        for _ in range(len(self._cancels)):
            job = self._cancels.popleft()
            for task, slot in list(job.tasks.items()):
                if self.marks.slots[slot] not in self.clock.held:
                    self._tell(job, task)
            self._drop_if_empty(job)

    def _tell(self, job: JobRun, task: asyncio.Task[Any] | None) -> None:
        if task is not None and task not in job.told:
            job.told.add(task)
            task.cancel()

    def _drop_if_empty(self, job: JobRun) -> None:
        """Say so when nothing is left of a cancelled job. Any thread.

        Whoever takes an entry counts itself first and looks at ``cancelled`` second; the link thread sets that first
        and looks at the counts second. So nothing starts after this was said.
        """
        empty = job.cancelled and not job.tasks and not job.threads and not job.running
        if empty and self._forget(job):
            # Values that wait here are of batches that the parent forgets with this.
            self.outbox.flush()
            self._send(frames.Dropped(job.id))

    def _mark_until_written(self, entry: Stepped) -> None:
        """An item that may not be begun twice has ended: until that is in the pipe, it dies with this process."""

        def mark() -> Callable[[], object]:
            slot = self.marks.take()
            self.marks.slots[slot] = entry.code
            return lambda: self.marks.give(slot)

        self._until_written(mark)

    # --- coroutines ------------------------------------------------------------------------------------------------

    def open_lane(self, job: JobRun) -> None:
        """Start one more lane if there is something for it to do; it opens the next one when its item first waits."""
        if job.is_async and job.waits and len(job.tasks) < job.lanes and not job.cancelled:
            self._new_lane(self, job)

    def lane_ended(self, job: JobRun) -> None:
        """A lane is gone: cancelled with its item, or out of work."""
        self._drop_if_empty(job)
        if not job.cancelled:
            self._forget_single(job)
            self.open_lane(job)

    def _forget_single(self, job: JobRun) -> None:
        if job.once and not job.waits and not job.tasks and not job.running and not job.threads:
            self._forget(job)

    def _forget(self, job: JobRun) -> bool:
        """Let go of a job; False if that was done, or if it has come back as another one of the same number."""
        return self.jobs.get(job.id) is job and self.jobs.pop(job.id, None) is job

    # --- functions -------------------------------------------------------------------------------------------------

    def serve(self, job: JobRun) -> None:
        """See to it that queued items are run: ``def`` ones in the main thread, or in threads. Any thread."""
        if job.is_async:
            self.calls.call_soon_threadsafe(self.open_lane, job)
            return
        if job.lanes > 1 or job.threads:
            self._open_threads(job)
            return
        if not job.in_turns:
            job.in_turns = True
            self._turns.append(job)
        if not self._turning or self.calls.made is not None:  # A loop may swallow what has struck there.
            self._turning = True  # Lowered before the turns are looked at, so that none is overlooked.
            self.calls.call_soon_threadsafe(self._turn_to_defs)

    def _turn_to_defs(self) -> None:
        self._turning = False
        # Inside a def item the loop runs for a coroutine that it returned: items that have come wait for its end.
        if not self._in_def:
            self.calls.stop()

    @sooner
    def _run_defs(self) -> None:
        """Run ``def`` items until none is left, one of each job in turn, or some ms of quick ones."""
        while self._turns and not self.closing:
            job = self._turns[0]
            if job.lanes > 1:
                # Fewer workers share the job than before: from now on it runs in threads.
                self._turns.popleft()
                job.in_turns = False
                self._open_threads(job)
                continue
            self._in_def = True
            went_on = self._run_next(job)
            self._in_def = False
            if went_on:
                self._process_cancels()
                self._drop_if_empty(job)
            if not went_on or (job.once and not job.queue):
                self._turns.popleft()
                job.in_turns = False
                # The link thread queues first and looks at in_turns second; so look at the queue once more.
                if job.waits and not job.in_turns:
                    job.in_turns = True
                    self._turns.append(job)
                else:
                    self._forget_single(job)
            elif len(self._turns) > 1 and job.waits:
                # One of which nothing is left leaves first: what it has used may be closed for the next one.
                self._turns.rotate(-1)

    def _run_next(self, job: JobRun) -> bool:
        """Run the job's next item, or many in a lap; False if none is left."""
        # A function is loaded as a part of its first item.
        function = job.in_laps if self.has_laps else None
        stretch = job.stretch() if function is not None and not job.queue else None
        if function is not None and stretch is not None and stretch.batch.plain:
            run_lap(self, job, stretch, function)
            return True
        if (entry := job.take()) is None:
            return False
        self._run_def(job, entry)
        return True

    @property
    def must_turn(self) -> bool:
        """Whether a lap should end here: another job wants its turn, or somebody was cancelled."""
        return len(self._turns) > 1 or bool(self._cancels) or self.closing

    def _run_def(self, job: JobRun, entry: Entry) -> None:
        job.running += 1
        self.marks.slots[0] = entry.code
        attempt: Attempt | None = None
        self.began = started = perf_counter()
        try:
            self.stepping = entry
            try:
                if job.cancelled:
                    return
                if job.timeout is not None:
                    if not job.loaded:
                        job.load()  # Not its first item's time: a function may import a lot.
                    attempt = self.clock.start(entry, job.timeout)
                value = self._value(job, entry, attempt)
            finally:
                self.stepping = self.interrupted = None
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
            self.raised(job, entry, error, perf_counter() - started, attempt)
        else:
            now = perf_counter()
            self.outbox.value(job, entry, value, now - started, now, attempt=attempt)
        finally:
            self.marks.slots[0] = 0
            job.running -= 1

    def raised(
        self, job: JobRun, entry: Stepped, error: BaseException, seconds: float, attempt: Attempt | None = None
    ) -> None:
        """An item has ended with an error."""
        overdue = attempt is not None and self.clock.end(attempt)
        if job.cancelled:
            self.outbox.dropped(entry)
        elif overdue and attempt is not None:
            self.outbox.timed_out(job, entry, attempt, error, seconds)
        else:
            self.outbox.error(job, entry, error, seconds)

    def _value(self, job: JobRun, entry: Entry, attempt: Attempt | None) -> object:
        context = self.context.copy()
        value = context.run(job.call, entry)
        # A lambda or wrapper around a coroutine function looks like a def.
        return self._complete(context, job, entry, value, attempt) if isinstance(value, types.CoroutineType) else value

    def complete(
        self, context: contextvars.Context, job: JobRun, entry: Stepped, coroutine: Any, seconds: float
    ) -> None:
        """An item of a lap has returned a coroutine after so many seconds: run it to its end."""
        started = perf_counter() - seconds
        try:
            value = self._complete(context, job, entry, coroutine, None)
        except BaseException as error:  # noqa: BLE001  # the same
            self.raised(job, entry, error, perf_counter() - started)
        else:
            now = perf_counter()
            self.outbox.value(job, entry, value, now - started, now)

    def _complete(
        self,
        context: contextvars.Context,
        job: JobRun,
        entry: Stepped,
        coroutine: types.CoroutineType[Any, Any, object],
        attempt: Attempt | None,
    ) -> object:
        """Run a coroutine in the worker's own loop to its end, as a lane would: it can be cancelled there."""
        from aiopool._worker.lanes import stepped  # with asyncio

        async def run() -> object:
            return await stepped(self, job, entry, coroutine, attempt)

        self.stepping = None
        slot = self.marks.take()
        self.marks.slots[slot] = entry.code
        task = self.loop.create_task(run(), context=context)
        job.tasks[task] = slot
        if attempt is not None:
            self.clock.wait_in_loop(attempt, task)
        try:
            return self.loop.run_until_complete(task)
        finally:
            job.tasks.pop(task, None)
            job.told.discard(task)
            self.marks.give(slot)

    # --- functions in threads, for a concurrency above the number of workers ---------------------------------------

    def _open_threads(self, job: JobRun) -> None:
        """Start threads for what is queued, beside what the main thread still runs. Any thread."""
        job.spread()
        with self._counting_threads:
            count = max(0, min(job.lanes - job.threads - job.running, len(job.queue)))
            job.threads += count
        for started in range(count):
            thread = threading.Thread(target=self._thread, args=(job,), name=f"aiopool-item-{job.id}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system gives no more of them: those that there are do the work, or the main thread does.
                self._do_with(job, fewer=count - started)
                return

    def _do_with(self, job: JobRun, *, fewer: int) -> None:
        with self._counting_threads:
            job.threads -= fewer
            job.lanes = max(1, job.threads)
        if not job.threads:
            self.serve(job)

    def _thread(self, job: JobRun) -> None:
        slot = self.marks.take()
        while not job.cancelled and job.threads <= job.lanes:
            try:
                entry = job.queue.popleft()
            except IndexError:
                break
            self.marks.slots[slot] = entry.code
            self._run_in_thread(job, entry)
            self.marks.slots[slot] = 0
        self.marks.give(slot)
        with self._counting_threads:
            job.threads -= 1
        self._drop_if_empty(job)
        # Something may have been queued between the look at the queue and the count.
        if job.queue and not job.cancelled:
            self.serve(job)

    def _run_in_thread(self, job: JobRun, entry: Entry) -> None:
        """Nothing can be raised in a thread: what takes too long is ended with the worker, by the parent."""
        attempt: Attempt | None = None
        started = perf_counter()
        try:
            context = self.context.copy()
            if job.timeout is not None:
                if not job.loaded:
                    job.load()
                attempt = self.clock.start(entry, job.timeout)
            value = context.run(job.call, entry)
            if isinstance(value, types.CoroutineType):
                import asyncio  # few that run in threads return one

                value = context.run(asyncio.run, value)
        except BaseException as error:  # noqa: BLE001  # an item may raise anything; the thread serves on
            self.raised(job, entry, error, perf_counter() - started, attempt)
        else:
            now = perf_counter()
            self.outbox.value(job, entry, value, now - started, now, attempt=attempt)


def _first_lane(runner: Runner, job: JobRun) -> None:
    from aiopool._worker.lanes import Lane  # with asyncio: only who is given coroutines

    runner._new_lane = Lane  # noqa: SLF001  # it is the runner's own
    Lane(runner, job)
