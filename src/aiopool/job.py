"""A job as its user holds it: await it, iterate it, stop it, and keep what it has."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Literal, NoReturn, Protocol, Self, TypeVar, cast

from aiopool import _payload
from aiopool._runtime.results import EMPTY, GONE, Arrival, RawFailure, Results, harmless
from aiopool._runtime.waiters import ANYTHING, BACKLOG, END, Callback, Interrupt, LoopWaiter, ThreadWaiter
from aiopool.errors import AiopoolError, InternalError, JobCancelled, JobStopped, ResultsConsumed, WouldDeadlock
from aiopool.options import OnError
from aiopool.telemetry import JobSnapshot

__all__ = ["MISSING", "Failure", "Handle", "Job", "JobControl"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

SLICE = 0.01
"""Seconds for which a reader's loop may load values before everybody else on it has a turn."""


class _Missing(enum.Enum):
    """The type of ``MISSING``: an enum has one member in every process, and copies and pickles to itself."""

    MISSING = "MISSING"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = _Missing.MISSING
"""In a partial result: this item has not finished. It is false."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failure:
    """How one item failed. With ``on_error="return"`` it stands in its item's place among the results.

    ``input`` is the item itself, MISSING where it is not kept; ``worker`` the index of the last worker that tried it,
    None if none did; ``prints`` what the item printed.
    """

    index: int
    input: object
    error: BaseException
    attempts: int
    worker: int | None
    prints: str

    def __repr__(self) -> str:
        # Without the input: the option label= may be there to hide it.
        text = repr(self.error)
        return f"Failure(item {self.index}, {text if len(text) <= 200 else text[:197] + '...'})"


class Handle(Protocol[R_co]):
    """Something that goes on by itself and ends: await it, or ask it from sync code."""

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait for the end without blocking the loop."""

    def result(self, timeout: float | None = None) -> R_co:
        """Block until the end. A TimeoutError cancels nothing."""

    def done(self) -> bool:
        """Has it ended, in whatever way?"""

    def cancel(self) -> bool:
        """End it early; False if it has ended already."""


class JobControl(Protocol):
    """What a job asks of the pool's own thread. Any thread may call, and every call returns at once."""

    def cancel(self, job: int, *, stopped: bool) -> None:
        """End the job early, as often as it is said; ``stopped``: whoever waited for it was interrupted."""

    def pause(self, job: int) -> None:
        """Start nothing new of this job."""

    def resume(self, job: int) -> None:
        """Start items again."""

    def snapshot_job(self, job: int) -> JobSnapshot | None:
        """How far the job is, or None when it has ended."""

    def must_not_block(self, job: int) -> bool:
        """Is this a thread that the job needs, so that it could never wait for it?"""


Again = Callable[[Callable[..., Any] | None, Mapping[str, Any], Sequence[int], Mapping[int, object]], "Job[Any]"]


class _Step(enum.Enum):
    """What a look at the results told: there it is; look again at once, more is being loaded; or wait for news."""

    READY = 1
    AGAIN = 2
    WAIT = 3


class Job(Generic[R]):
    """One map: its results, as they come or all at once, its failures, and the means to end it.

    It runs from the moment it is made. Any thread and any event loop may wait for it, as often as they like.
    """

    def __init__(
        self,
        control: JobControl,
        id: int,  # noqa: A002 - what it is called everywhere
        name: str,
        results: Results,
        *,
        on_error: OnError,
        is_single: bool,
        value_of: Callable[[int], object],
        label_of: Callable[[int], str],
        started: float,
        again: Again,
    ) -> None:
        self.id: Final = id
        self.name: Final = name
        self._control = control
        self._results = results
        self._returns_failures = on_error == "return"
        self._is_single = is_single
        self._value_of = value_of
        self._label_of = label_of
        self._started = started
        self._again = again
        self._asked_to_end = False
        self._gave_up = False
        self._made: dict[int, Failure] = {}
        self._verdict: tuple[BaseException, TracebackType | None] | None = None
        # Where the next iteration goes on: the next item, and the next arrival with a place in it.
        self._next_item = 0
        self._next_arrival = (0, 0)
        self._read_out = False

    # --- all results at once ----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._all().__await__()

    async def _all(self) -> list[R]:
        __tracebackhide__ = True
        self._refuse_consumed()
        self._results.read_everything()
        try:
            await self._until(BACKLOG, self._all_there)
        except asyncio.CancelledError as error:
            self._stop(error)
            raise
        return self._outcome()

    def result(self, timeout: float | None = None) -> list[R]:
        """Block until the end and return what ``await`` would.

        For scripts, callbacks, and sync code inside a running loop. When ``timeout`` seconds are over, TimeoutError is
        raised and the job goes on.
        """
        __tracebackhide__ = True
        self._refuse_consumed()
        self._results.read_everything()
        if not self._block_until(BACKLOG, self._all_there, timeout):
            raise TimeoutError(f"{self.name} is still running, {self._progress()}; it goes on")
        return self._outcome()

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as in result(timeout)
        """Wait for the end, or so many seconds, and say whether it has come.

        Raises nothing of the job's, and never cancels it, not even when the waiting task is cancelled.
        """
        self._results.read_everything()
        return await self._until(END, self._ended, timeout)

    def _ended(self) -> _Step:
        return _Step.READY if self._results.ending is not None else _Step.WAIT

    def _all_there(self) -> _Step:
        results = self._results
        ending = results.ending
        if ending is not None and (ending.how != "done" or (results.failures and not self._returns_failures)):
            return _Step.READY
        # Before the end too: what has come meanwhile need not be loaded afterwards.
        self._load(SLICE)
        if not results.all_loaded:
            return _Step.AGAIN
        return _Step.WAIT if ending is None else _Step.READY

    def _outcome(self) -> list[R]:
        """The results of a job that has ended and is loaded, or its error."""
        __tracebackhide__ = True
        self._raise_unless_done()
        self._refuse_consumed()
        values = self._results.listing(self._hole)
        # A submit is typed as the Handle of its one value.
        return cast("list[R]", values[0] if self._is_single else values)

    def _hole(self, index: int) -> object:
        """What stands where there is no value, in a job that is done."""
        if index not in self._results.failures:
            raise InternalError(f"the job {self.name} is done, but its item {index} is not")
        return self._failure(index)

    def _refuse_consumed(self) -> None:
        if consumed := self._results.consumed:
            raise ResultsConsumed(
                f"{consumed:,} results of {self.name} were handed out by an iteration and are not kept, because its "
                f"input has no length. job.partial() has the others; pass list(...) to read results twice."
            )

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _until(self, wants: int, look: Callable[[], _Step], seconds: float | None = None) -> bool:
        """Wait on the running loop until the look finds what it looks for. False: the time is up."""
        while (step := look()) is _Step.AGAIN:
            await asyncio.sleep(0)
        if step is _Step.READY:
            return True
        deadline = None if seconds is None else time.monotonic() + seconds
        with LoopWaiter(wants) as waiter:
            alarm = None if seconds is None else waiter.alarm(seconds)
            self._results.add(waiter)
            try:
                while (step := look()) is not _Step.READY:
                    if step is _Step.AGAIN:
                        await asyncio.sleep(0)
                    elif deadline is not None and time.monotonic() >= deadline:
                        return False
                    else:
                        await waiter.news()
            finally:
                self._results.discard(waiter)
                if alarm is not None:
                    alarm.cancel()
        return True

    def _block_until(self, wants: int, look: Callable[[], _Step], seconds: float | None = None) -> bool:
        """The same in a blocking call, which an interrupt ends as well."""
        __tracebackhide__ = True
        deadline = None if seconds is None else time.monotonic() + seconds
        waiter = ThreadWaiter(wants)
        try:
            with Interrupt(waiter.tell) as interrupt:
                in_time = self._block(waiter, interrupt, look, deadline)
        except KeyboardInterrupt:
            # Not from our handler: raised into this thread by somebody, or where no handler may be installed.
            self._control.cancel(self.id, stopped=True)
            raise
        if interrupt.pressed:
            error = JobStopped(self._stop_line())
            self._stop(error)
            raise error
        return in_time

    def _block(
        self, waiter: ThreadWaiter, interrupt: Interrupt, look: Callable[[], _Step], deadline: float | None
    ) -> bool:
        added = False
        try:
            while not interrupt.pressed and (step := look()) is not _Step.READY:
                if step is _Step.AGAIN:
                    continue
                if not added:
                    if self._control.must_not_block(self.id):
                        raise WouldDeadlock(
                            f"{self.name} needs this very thread to go on, so a blocking wait for it would never end. "
                            f"await it instead"
                        )
                    added = True
                    self._results.add(waiter)
                elif deadline is not None and time.monotonic() >= deadline:
                    return False
                else:
                    waiter.wait(interrupt.nap(deadline))
        finally:
            if added:
                self._results.discard(waiter)
        return True

    def _load(self, seconds: float | None = None, until: int = -1) -> None:
        """Load values that have come. One that cannot be loaded is a failure, and may have to end the job."""
        self._results.load(seconds, until)
        if self._results.spoilt is not None and not self._returns_failures and not self._gave_up:
            self._gave_up = True
            if self._results.ending is None:
                self._control.cancel(self.id, stopped=False)

    # --- one result after another -----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[R]:
        return _InOrder(self)

    def __aiter__(self) -> AsyncIterator[R]:
        return _InOrder(self)

    def as_completed(self) -> _Completed[R]:
        """Iterate, with ``for`` or ``async for``, over pairs of index and result in the order of completion."""
        return _Completed(self)

    # --- ending it --------------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Has the job ended, in whatever way?"""
        return self._results.ending is not None

    def cancel(self) -> bool:
        """End the job early; what has finished stays. False if it has ended already."""
        if self.done():
            return False
        self._asked_to_end = True
        self._control.cancel(self.id, stopped=False)
        return True

    def pause(self) -> None:
        """Start nothing new; what runs, runs on."""
        self._control.pause(self.id)

    def resume(self) -> None:
        """Start items again after a pause."""
        self._control.resume(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def add_done_callback(self, function: Callable[[Job[R]], object]) -> None:
        """Call ``function(job)`` at the end: on the loop that runs here now, else in the pool's own thread.

        At once if the job has ended. What the function raises is logged.
        """
        callback = Callback(function, self)
        if not self._results.add(callback):
            callback.call()

    def _stop(self, error: BaseException) -> None:
        """Whoever waited was interrupted: so the job ends, and IPython shows one line for this exception."""
        if not self.done():
            self._asked_to_end = True
            self._control.cancel(self.id, stopped=True)
        # Not a lambda, so that the exception can still be pickled.
        error._render_traceback_ = functools.partial(list, (self._stop_line(),))  # type: ignore[attr-defined]

    def _stop_line(self) -> str:
        if self._is_single:
            return f"Stopped: {self.name}"
        return f"Stopped: {self._progress()}: aiopool.last_job().partial(), .retry()"

    def _progress(self) -> str:
        total = self._results.total
        return f"{self._results.finished:,}{'' if total is None else f' of {total:,}'} done"

    def _raise_unless_done(self) -> None:
        """Raise what the ended job has to say, unless that is its results."""
        __tracebackhide__ = True
        ending = self._results.ending
        if ending is None:
            return
        if self._verdict is None and (error := self._error()) is not None:
            self._verdict = (error, error.__traceback__)
        if self._verdict is not None:
            error, its_traceback = self._verdict
            # Its own traceback, without the frames of those to whom it was raised before.
            raise error.with_traceback(its_traceback)
        if ending.how in ("cancelled", "stopped"):
            raise JobCancelled(
                f"{self.name} was {ending.how}: {self._progress()}; job.partial() has them, job.retry() runs the rest"
            )

    def _error(self) -> BaseException | None:
        """The one error that all who wait get, if there is one."""
        results = self._results
        assert results.ending is not None  # noqa: S101 - for mypy
        how, error = results.ending.how, results.ending.error
        if error is not None:
            return harmless(error)
        if how == "failed" or (how == "done" and not self._returns_failures) or self._gave_up:
            first = results.spoilt if results.first_failure is None else results.first_failure
            if first is not None:
                return self._failure(first).error
        return InternalError(f"the job {self.name} failed without a failure") if how == "failed" else None

    # --- what there is ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self._results.total is None:
            raise TypeError(f"the input of {self.name} has no length, and has not ended yet")
        return self._results.total

    def __bool__(self) -> bool:
        # A job is there, also if it has no items.
        return True

    def partial(self, fill: object = MISSING) -> list[Any]:
        """Everything finished so far in input order, with ``fill`` where there is no result.

        With ``on_error="return"`` failures stand in their places. Of an unsized input, what was handed out is left out.
        """
        self._load()
        if self._returns_failures:
            return self._results.listing(lambda index: self._failure(index) if self._has_failed(index) else fill)
        return self._results.listing(lambda _: fill)

    @property
    def failures(self) -> list[Failure]:
        """The items that have failed so far, in input order."""
        self._load()
        return [self._failure(index) for index in sorted(self._results.failures.copy())]

    def records(self, values: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002 - reads well without a name
        """One dict per item that has ended, in input order: ready for a DataFrame. ``values=False`` leaves out values.

        ``seconds`` is None for a result that was taken over from the job of which this one is a retry.
        """
        self._load()
        rows = [row for arrival in self._results.arrivals() for row in self._rows(arrival, values)]
        return sorted(rows, key=lambda row: cast("int", row["index"]))

    def _rows(self, arrival: Arrival, values: bool) -> Iterator[dict[str, Any]]:  # noqa: FBT001
        for at, index in enumerate(arrival.items):
            value = self._results.look(index)
            if value is GONE or (value is EMPTY and not self._has_failed(index)):
                continue
            failure = self._failure(index) if value is EMPTY else None
            row = {"index": index, "input": self._input(index)}
            if values:
                row["value"] = value if failure is None else None
            row["error"] = None if failure is None else failure.error
            row["seconds"] = arrival.seconds[at] if at < len(arrival.seconds) else None
            row["attempts"] = 1 if failure is None else failure.attempts
            row["worker"] = arrival.worker if failure is None else failure.worker
            yield row

    def retry(self, fn: Callable[..., Any] | None = None, **options: Any) -> Job[Any]:
        """Start a job that runs every item without a value once more; its result is the complete list.

        ``fn`` replaces the function, ``options`` the options of the map.
        """
        if not self.done() and not self._asked_to_end:
            raise AiopoolError(f"{self.name} is still running; await it or cancel it, then retry")
        self._refuse_consumed()
        self._load()
        values = self._results.listing(lambda _: EMPTY)
        have = {index: value for index, value in enumerate(values) if value is not EMPTY}
        missing = [index for index, value in enumerate(values) if value is EMPTY]
        return self._again(fn, options, missing, have)

    def snapshot(self) -> JobSnapshot:
        """How far the job is at this moment."""
        results = self._results
        if results.ending is None and (snapshot := self._control.snapshot_job(self.id)) is not None:
            return snapshot
        ending, failed = results.ending, len(results.failures)
        return JobSnapshot(
            id=self.id,
            name=self.name,
            state="running" if ending is None else ending.how,
            total=results.total,
            done=results.finished - failed,
            failed=failed,
            in_flight=0,
            elapsed=(results.ended_at or time.monotonic()) - self._started,
        )

    def __repr__(self) -> str:
        return f"<Job {self.snapshot()}>"

    # --- failures ---------------------------------------------------------------------------------------------------

    def _has_failed(self, index: int) -> bool:
        return index in self._results.failures

    def _failure(self, index: int) -> Failure:
        """The failure of an item, made when it is first asked for; everybody gets the same."""
        if (made := self._made.get(index)) is not None:
            return made
        raw = self._results.failures[index]
        error = raw.error if isinstance(raw.error, BaseException) else _payload.load_error(raw.error)
        error = harmless(error)
        self._annotate(error, raw)
        return self._made.setdefault(index, Failure(index, self._input(index), error, raw.attempts, raw.worker, ""))

    def _input(self, index: int) -> object:
        try:
            return self._value_of(index)
        except Exception:  # noqa: BLE001 - an input that is not kept is no reason to lose the failure
            return MISSING

    def _annotate(self, error: Exception, raw: RawFailure) -> None:
        """Say in a note which item this was. Once: one error may stand for many items, as when no worker starts."""
        if hasattr(error, "__aiopool_noted__"):
            return
        parts = ["the call" if self._is_single else f"item {raw.index}"]
        # The note is a courtesy: neither a label nor an exception class that refuses attributes may replace the error.
        with contextlib.suppress(Exception):
            parts[0] += f" ({self._label_of(raw.index)})"
        if raw.worker is not None:
            parts.append(f"worker {raw.worker}" + ("" if raw.pid is None else f" (pid {raw.pid})"))
        if raw.attempts > 1:
            parts.append(f"attempt {raw.attempts}")
        with contextlib.suppress(Exception):
            error.add_note(", ".join(parts))
            error.__aiopool_noted__ = True  # type: ignore[attr-defined]
