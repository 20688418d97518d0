"""How items and jobs end: what the ledger decides about them, put into their results."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Mapping

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._core import frames, policy
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.proxy import WorkerProxy, signal_name
from aiopool._runtime.results import Ending, RawFailure
from aiopool._runtime.runs import Run, Runs
from aiopool.errors import ItemTimeout, WorkerLost, WorkerStartFailed

NOT_STARTED = "it did not start"
"""How the ledger's reason begins to kill a worker that has used up its time to start."""

HOPELESS = (
    f"Workers have died {policy.DEATHS} times in a row with nothing finished, so it was not tried again; "
    "it need not be the culprit."
)

MOST_STILLBORN = 10


class Endings:
    """Settles items and ends jobs. On the pool's own thread.

    ``failed`` is the failure that the ledger is being told of, which may be an item's last. ``start_error`` is why
    workers cannot start, in bytes as one of them has dumped it, ``start_failed`` what was done when it came.
    """

    def __init__(self, runs: Runs, workers: Mapping[int, WorkerProxy], feeders: dict[int, Feeder]) -> None:
        self.failed: tuple[WorkerProxy, frames.Failed] | None = None
        self.start_error: BaseException | bytes | None = None
        self.start_failed = ""
        self._runs = runs
        self._workers = workers
        self._feeders = feeders
        self._stillborn: deque[WorkerProxy] = deque(maxlen=MOST_STILLBORN)
        self._last_dead: WorkerProxy | None = None

    # --- items -----------------------------------------------------------------------------------------------------

    def settle_failed(self, order: f.SettleFailed) -> None:
        """This was its last attempt."""
        run = self._runs.get(order.job)
        if run is None or self.failed is None:
            return
        worker, frame = self.failed
        error, kin = _payload.parted(frame.error)
        failure = RawFailure(
            order.index,
            error,
            attempts=order.attempts,
            worker=worker.index,
            pid=worker.pid,
            seconds=frame.seconds,
            prints=worker.output.prints(order.job, order.index),
        )
        run.results.fail(failure, kin)

    def settle_timed_out(self, order: f.SettleTimedOut) -> None:
        """Its worker had to be killed for it, or died of it."""
        run = self._runs.get(order.job)
        if run is not None:
            worker = self._workers[order.worker]
            killed = ", took no notice of that, and its worker was killed"
            told = killed if worker.why else f"; its worker {worker.fate()}"
            self._settle_by_death(run, order, ItemTimeout(f"it did not end within {run.spec.timeout:g} s{told}"))

    def settle_lost(self, order: f.SettleLost) -> None:
        """Its worker died, and it is to blame or may not run again."""
        run, worker = self._runs.get(order.job), self._workers[order.worker]
        if run is not None:
            message = worker.obituary(order.job)
            if order.hopeless:
                head, *rest = message.split("\n")
                message = "\n".join([head, HOPELESS, *rest])
            error = WorkerLost(
                message,
                worker.pid,
                worker.exitcode,
                worker.tail(order.job),
                signal=signal_name(worker.exitcode),
                memory=worker.memory,
                reason=order.reason,
                hint=worker.hint,
            )
            self._settle_by_death(run, order, error)

    def _settle_by_death(self, run: Run, order: f.SettleTimedOut | f.SettleLost, error: Exception) -> None:
        worker = self._workers[order.worker]
        failure = RawFailure(
            order.index,
            error,
            attempts=order.attempts,
            worker=worker.index,
            pid=worker.pid,
            prints=worker.output.prints(order.job, order.index),
        )
        run.results.fail(failure)

    # --- jobs ------------------------------------------------------------------------------------------------------

    def end(self, order: f.End) -> None:
        """The job is over, in one way or another."""
        run = self._runs.get(order.job)
        if run is None:
            return
        run.results.retried = order.retried
        of_item = run.spec.stop_on_failure and run.results.first_failure is not None
        error = run.broken if order.how == "failed" and not of_item else None
        self.finish(run, Ending(order.how, error))

    def end_start_failed(self, order: f.EndStartFailed) -> None:
        """The job is over because it gets no workers."""
        run = self._runs.get(order.job)
        if run is not None:
            error, cause = WorkerStartFailed("workers cannot start" + self._start_story()), self.start_error
            if isinstance(cause, BaseException):
                error.__cause__, cause = cause, None
            self.finish(run, Ending("failed", error, cause))

    # --- workers that do not start ---------------------------------------------------------------------------------

    def started(self, worker: WorkerProxy) -> None:
        """A worker is up: what kept others from it is over."""
        worker.ready = True
        self.start_may_work()

    def start_may_work(self) -> None:
        """What kept workers from starting is over."""
        self.start_error = None
        self._stillborn.clear()

    def gone(self, worker: WorkerProxy) -> None:
        """A worker has died."""
        if not worker.why:
            self._last_dead = worker
        if not worker.ready and (not worker.why or worker.why.startswith(NOT_STARTED)):
            self._stillborn.append(worker)

    def _start_story(self) -> str:
        if isinstance(self.start_error, bytes):
            return f": {self.start_failed} {_payload.said(self.start_error)}"
        if self.start_error is not None:
            return f": {self.start_failed} {type(self.start_error).__name__}: {self.start_error}"
        # The last of them may have been told to die just now.
        dying = [worker for worker in self._workers.values() if worker.why.startswith(NOT_STARTED)]
        tried = [*self._stillborn, *(worker for worker in dying if worker not in self._stillborn)]
        if not tried and self._last_dead is not None:
            # They do come up, and die of the first item, as where what all items need cannot be imported.
            tried = [self._last_dead]
        if not tried:
            return ""
        for worker in tried:
            worker.drain_output()
        last = next((worker for worker in reversed(tried) if worker.testimony()), tried[-1])
        fate = f"was killed, because {last.why}" if last.why else last.fate()
        if last.exitcode == -signal.SIGKILL and not last.why:
            fate += ", and not by the pool"
        ends = "did not" if any(worker.why for worker in tried) else "died"
        count = f", {len(tried)} in a row {ends}" if len(tried) > 1 else ""
        return "\n".join([f"{count}: worker {last.index} (pid {last.pid}) {fate}", *last.testimony()])

    def finish(self, run: Run, ending: Ending) -> None:
        """Tell everybody that the job is over."""
        # What a worker printed before its result must not come after the end.
        for number in run.workers:
            if (worker := self._workers.get(number)) is not None:
                worker.drain_before() if run.is_call else worker.drain_output()
                worker.output.end(run.id)
                if worker.voice is run.voice:
                    worker.end_line()
        run.voice.end()
        self._feeders.pop(run.id, None)
        self._runs.end(run, ending)
