"""Sends functions and items to workers, as the ledger orders it. On the pool's own thread."""

from __future__ import annotations

from collections.abc import Mapping

from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._runtime.environment import Snapshot
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.runs import Run, Runs
from aiopool._runtime.vitals import Vitals
from aiopool.errors import InternalError

__all__ = ["Dispatch"]


class Dispatch:
    """What goes to workers is queued there until they are flushed."""

    def __init__(self, runs: Runs, workers: Mapping[int, WorkerProxy], vitals: Vitals) -> None:
        self._runs = runs
        self._workers = workers
        self._vitals = vitals

    def worker(self, number: int) -> WorkerProxy:
        """The worker of this number, which must not be gone."""
        return self._workers[number]

    def send_function(self, order: f.SendFunction) -> None:
        """The worker gets a job's function, after what has changed of this process; a call's goes with its item."""
        run = self._run(order.job)
        spec, worker = run.spec, self._workers[order.worker]
        self.send_environment(worker, run.environment)
        if spec.refs:
            worker.desk.known.tell(spec.refs)
        if not run.is_call:
            worker.send(frames.Function(order.job, spec.flags, spec.settings, spec.function))

    @staticmethod
    def send_environment(worker: WorkerProxy, environment: Snapshot) -> None:
        """The worker gets what has changed of this process since it was last told."""
        if worker.environment < environment.version:
            worker.environment = environment.version
            worker.send(frames.Environment(environment.data))

    def send_batch(self, order: f.SendBatch) -> None:
        """The worker gets items."""
        run = self._run(order.job)
        items, encoded = run.batches.pop(order.batch)
        worker = self._workers[order.worker]
        self.begin(worker, run)
        if encoded.in_pages or encoded.refs:
            worker.desk.lend(order.batch, encoded)
        if run.is_call:
            worker.send(run.frame(order.batch))
        else:
            lanes = min(order.lanes, frames.MOST_LANES)
            shared, blobs = encoded.shared, encoded.blobs
            worker.send(frames.Batch(order.job, order.batch, lanes, order.attempt, items, shared, blobs))

    def begin(self, worker: WorkerProxy, run: Run, since: int | None = None) -> None:
        """The worker is given items of this job, or has them ``since`` it had said so many lines."""
        run.workers.add(worker.id)
        worker.begin(run.id, since)
        worker.voice = run.voice  # Also for what it prints when it has nothing to do.
        self._vitals.begin(worker)

    def _run(self, job: int) -> Run:
        run = self._runs.get(job)
        if run is None:
            raise InternalError(f"job {job} has ended, but the ledger still sends it")
        return run
