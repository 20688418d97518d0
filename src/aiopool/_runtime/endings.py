"""How items and jobs end: what the ledger decides about them, put into their results."""

from __future__ import annotations

from collections.abc import Mapping

from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.results import Ending, RawFailure
from aiopool._runtime.runs import Run, Runs
from aiopool.errors import ItemTimeout, WorkerLost, WorkerStartFailed


class Endings:
    """Settles items and ends jobs. On the pool's own thread.

    ``failed`` is the failure that the ledger is being told of, which may be an item's last. ``start_error`` is why
    workers cannot start, ``start_failed`` what was done when it came.
    """

    def __init__(self, runs: Runs, workers: Mapping[int, WorkerProxy], feeders: dict[int, Feeder]) -> None:
        self.failed: tuple[WorkerProxy, frames.Failed] | None = None
        self.start_error: BaseException | None = None
        self.start_failed = ""
        self._runs = runs
        self._workers = workers
        self._feeders = feeders

    # --- items -----------------------------------------------------------------------------------------------------

    def settle_failed(self, order: f.SettleFailed) -> None:
        """This was its last attempt."""
        run = self._runs.get(order.job)
        if run is None or self.failed is None:
            return
        worker, frame = self.failed
        failure = RawFailure(
            order.index,
            bytes(frame.error),
            attempts=order.attempts,
            worker=worker.index,
            pid=worker.pid,
            seconds=frame.seconds,
        )
        run.results.fail(failure)

    def settle_timed_out(self, order: f.SettleTimedOut) -> None:
        """Its worker had to be killed for it, or died of it."""
        run = self._runs.get(order.job)
        if run is not None:
            self._settle_by_death(run, order, ItemTimeout(f"it did not end within {run.spec.timeout:g} s"))

    def settle_lost(self, order: f.SettleLost) -> None:
        """Its worker died, and it is to blame or may not run again."""
        run, worker = self._runs.get(order.job), self._workers[order.worker]
        if run is not None:
            error = WorkerLost(worker.obituary(), worker.pid, worker.exitcode, worker.tail())
            self._settle_by_death(run, order, error)

    def _settle_by_death(self, run: Run, order: f.SettleTimedOut | f.SettleLost, error: Exception) -> None:
        worker = self._workers[order.worker]
        failure = RawFailure(order.index, error, attempts=order.attempts, worker=worker.index, pid=worker.pid)
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
            error = WorkerStartFailed("workers cannot start" + self._start_story())
            error.__cause__ = self.start_error
            self.finish(run, Ending("failed", error))

    def _start_story(self) -> str:
        if self.start_error is not None:
            return f": {self.start_failed} {type(self.start_error).__name__}: {self.start_error}"
        tails = [tail for worker in self._workers.values() if (tail := worker.tail())]
        return f". The last words of one:\n{tails[-1]}" if tails else ""

    def finish(self, run: Run, ending: Ending) -> None:
        """Tell everybody that the job is over."""
        # What a worker printed before its result must not come after the end.
        for number in run.workers:
            if (worker := self._workers.get(number)) is not None:
                worker.drain_output()
                if worker.surface is run.spec.surface:
                    worker.end_line()
        self._feeders.pop(run.id, None)
        self._runs.end(run, ending)
