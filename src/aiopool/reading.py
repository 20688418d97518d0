"""What all who read one job share: how to wait for it, how to stop it, what it has to say in the end."""

from __future__ import annotations

import asyncio
import functools
from typing import Final, NoReturn, Protocol

from aiopool._runtime.results import Results
from aiopool._runtime.waits import Look, wait_in_thread, wait_on_loop
from aiopool.errors import InternalError, JobCancelled, JobStopped, ResultsConsumed, WouldDeadlock
from aiopool.failures import Failures
from aiopool.stacks import Stacks
from aiopool.telemetry import JobSnapshot
from aiopool.terminal import interrupted

__all__ = ["SLICE", "JobControl", "Reading", "progress_of"]

SLICE = 0.005
"""Seconds for which a reader's loop may load values before everybody else on it has a turn.

In one step of the loop this may come twice, and other threads may hold the GIL for as long each time that it is let go.
"""


def progress_of(done: int, failed: int, total: int | None) -> str:
    """How far a job is: ``412 of 50,000 done, 3 failed``. What has failed has no value, and is not done."""
    of = "" if total is None else f" of {total:,}"
    return f"{done:,}{of} done{f', {failed:,} failed' if failed else ''}"


class JobControl(Protocol):
    """What a job asks of the pool's own thread. Any thread may call, and every call returns at once."""

    def cancel(self, job: int, *, stopped: bool) -> None:
        """End the job early, however often it is said; ``stopped``: somebody who waited for it was interrupted."""

    def pause(self, job: int) -> None:
        """Start nothing new of this job."""

    def resume(self, job: int) -> None:
        """Start items again."""

    def snapshot_job(self, job: int) -> JobSnapshot | None:
        """Tell how far the job is; None when it has ended."""

    def stacks(self, job: int, name: str) -> Stacks:
        """Tell where its items stand; blocks for a moment."""

    def must_not_block(self, job: int) -> bool:
        """Tell whether the job needs this very thread to go on."""


class Reading:
    """One job from its readers' side: a :class:`Job` and the iterators over it stand on this."""

    def __init__(
        self,
        control: JobControl,
        id: int,  # noqa: A002 - what it is called everywhere
        name: str,
        results: Results,
        failures: Failures,
        *,
        returns_failures: bool,
        is_single: bool,
    ) -> None:
        self.control: Final = control
        self.id: Final = id
        self.name: Final = name
        self.results: Final = results
        self.failures: Final = failures
        self.returns_failures: Final = returns_failures
        self.is_single: Final = is_single
        self.asked_to_end = False
        # Where the next iteration goes on: the next item; the next arrival, with a place in it.
        self.next_item = 0
        self.next_arrival = (0, 0)
        self.read_out = False
        self._gave_up = False

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def until(self, wants: int, look: Look) -> None:
        """Wait on the running loop. To cancel this is to stop the job, and the very same CancelledError goes on."""
        __tracebackhide__ = True
        try:
            await wait_on_loop(self.results, wants, look)
        except asyncio.CancelledError as error:
            self.stop(error)
            raise

    async def breathe(self) -> None:
        """Let everybody else on the loop have a turn; to cancel this, too, is to stop the job."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            self.stop(error)
            raise

    def block_until(self, wants: int, look: Look, seconds: float | None = None) -> bool:
        """Wait in a blocking call. To interrupt this is to stop the job. False: the time is up."""
        __tracebackhide__ = True
        try:
            in_time, interrupted = wait_in_thread(
                self.results,
                wants,
                look,
                seconds,
                before_blocking=self.refuse_to_block,
                on_interrupt=functools.partial(self.end, stopped=True),
            )
        except KeyboardInterrupt as error:
            # Not by way of our handler: raised into this thread by somebody, or no handler could be installed.
            self.stop(error)
            raise
        if interrupted:
            self.raise_stopped()
        return in_time

    def raise_stopped(self) -> NoReturn:
        """A blocking call was interrupted."""
        __tracebackhide__ = True
        stopped = JobStopped(self.stop_line())
        self.stop(stopped)
        raise stopped

    def refuse_to_block(self) -> None:
        """Raise where this very thread is needed for the job to go on."""
        __tracebackhide__ = True
        if self.control.must_not_block(self.id):
            raise WouldDeadlock(
                f"{self.name} needs this very thread to go on, so a blocking wait for it would never end. "
                f"await it instead"
            )

    def load(self, seconds: float | None = None, until: int = -1) -> None:
        """Load values that have come. One that cannot be loaded is a failure, and may have to end the job."""
        results = self.results
        results.load(seconds, until)
        if results.spoilt is not None and not self.returns_failures and results.ending is None and not self._gave_up:
            self._gave_up = True
            self.control.cancel(self.id, stopped=False)

    # --- ending it early --------------------------------------------------------------------------------------------

    def end(self, *, stopped: bool) -> bool:
        """End the job early; False if it has ended already."""
        if self.results.ending is not None:
            return False
        if not self.asked_to_end:
            # Not noted before it is done: Stop may strike in between, and nobody could end the job any more.
            self.control.cancel(self.id, stopped=stopped)
            self.asked_to_end = True
        return True

    def stop(self, error: BaseException) -> None:
        """Somebody who waited was interrupted: so the job ends, and IPython shows one line for the exception."""
        self.end(stopped=True)
        interrupted()
        # Not a lambda, so that the exception can still be pickled.
        error._render_traceback_ = functools.partial(list, (self.stop_line(),))  # type: ignore[attr-defined]

    def stop_line(self) -> str:
        """What is shown for a stop."""
        if self.is_single:
            return f"Stopped: {self.name}"
        return f"Stopped: {self.progress()}: aiopool.last_job().partial(), .retry()"

    # --- what it has to say -----------------------------------------------------------------------------------------

    def progress(self) -> str:
        """How far it is, in words."""
        results = self.results
        failed = len(results.failures)
        # The pool's thread notes a failure before it counts it.
        return progress_of(max(0, results.finished - failed), failed, results.total)

    def hear(self) -> None:
        """Somebody looks how it has ended, if it has: nobody need be told of it any more."""
        if self.results.ending is not None:
            self.results.news.heard = True

    def raise_unless_done(self) -> None:
        """Raise what the ended job has to say, unless that is its results."""
        __tracebackhide__ = True
        if (ending := self.results.ending) is None:
            return
        self.results.news.heard = True
        self.failures.raise_verdict(of_items=self._gave_up or (ending.how == "done" and not self.returns_failures))
        if ending.how != "done":
            what_now = "" if self.is_single else "; job.partial() has them, job.retry() runs the rest"
            raise JobCancelled(f"{self.name} was {ending.how}: {self.progress()}{what_now}")

    def refuse_consumed(self) -> None:
        """Raise if results were let go: all of them can no longer be had."""
        __tracebackhide__ = True
        if consumed := self.results.consumed:
            raise ResultsConsumed(
                f"{consumed:,} results of {self.name} were handed out by an iteration and are not kept, because its "
                f"input has no length. job.partial() has the others; pass list(...) to read results twice."
            )

    def hole(self, index: int) -> object:
        """Tell what stands where there is no value in a job that is done: the failure."""
        if index not in self.failures:
            raise InternalError(f"the job {self.name} is done, but its item {index} is not")
        return self.failures[index]
