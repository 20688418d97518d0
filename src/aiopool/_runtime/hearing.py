"""What workers say: each frame to whom it is for, as a fact or as what a job has got. On the pool's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._core.items import BatchBook
from aiopool._core.ledger import Ledger
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.endings import Endings
from aiopool._runtime.express import Express
from aiopool._runtime.pictures import Pictures
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.runs import Runs
from aiopool._runtime.starts import Starts
from aiopool._runtime.vitals import Vitals
from aiopool.errors import FrameError

__all__ = ["Hearing"]

Heard = Callable[[WorkerProxy, Any], None]


class CarryOut(Protocol):
    """Carries out what the ledger orders; ``later``: who waits for jobs that end is told with others."""

    def __call__(self, orders: Sequence[f.Command], *, later: bool = False) -> None:
        """Do it."""


class Hearing:
    """Takes frames. ``tell`` takes facts to the ledger, ``others`` are frames for whom this need not know."""

    def __init__(  # noqa: PLR0917 - each is of a type of its own
        self,
        ledger: Ledger,
        runs: Runs,
        express: Express,
        endings: Endings,
        pictures: Pictures,
        vitals: Vitals,
        starts: Starts,
        *,
        tell: Callable[..., None],
        carry_out: CarryOut,
        chance: Callable[[], float],
        others: Mapping[type, Heard],
    ) -> None:
        self._ledger = ledger
        self._runs = runs
        self._express = express
        self._endings = endings
        self._pictures = pictures
        self._vitals = vitals
        self._starts = starts
        self._tell = tell
        self._carry_out = carry_out
        self._chance = chance
        self._heard: dict[type, Heard] = {
            frames.Ready: self._on_ready,
            frames.StartFailed: self._on_start_failed,
            frames.Results: self._on_results,
            frames.Failed: self._on_failed,
            frames.HandedBack: lambda worker, frame: tell(
                f.Returned(worker.id, frame.job, frame.batches, frame.positions)
            ),
            frames.Dropped: lambda worker, frame: tell(f.Cleared(worker.id, frame.job)),
            frames.Held: lambda worker, frame: tell(f.CancelHeld(worker.id, frame.job)),
            frames.Overdue: lambda worker, frame: tell(f.ItemOverdue(worker.id, frame.batch, frame.position)),
            frames.Pong: vitals.answered,
            frames.Turned: vitals.turned,
            frames.Lent: lambda worker, frame: worker.desk.expect(frame),
            frames.GivenBack: lambda worker, frame: worker.desk.take_back(frame),
            frames.Reported: WorkerProxy.take_report,
            **others,
        }

    def hear(self, worker: WorkerProxy, frame: frames.Frame) -> None:
        """Take a frame."""
        heard = self._heard.get(type(frame))
        if heard is None:
            raise FrameError(f"a worker does not send {type(frame).__name__}")
        heard(worker, frame)
        if worker.desk.known.used and (book := self._ledger.workers.get(worker.id)) is not None:
            worker.desk.known.look(book.batches)

    def _on_ready(self, worker: WorkerProxy, _: frames.Ready) -> None:
        if self._vitals.starts_within_limit(worker):
            self._endings.started(worker)
        self._starts.ended(worker)
        self._tell(f.WorkerReady(worker.id))

    def _on_start_failed(self, worker: WorkerProxy, frame: frames.StartFailed) -> None:
        self._tell(f.WorkerBroken(worker.id, hopeless=self._starts.failed(worker, bytes(frame.error))))

    def _held(self, worker: WorkerProxy, frame: frames.Results | frames.Failed) -> BatchBook:
        """The batch that a frame is about; FrameError where the worker holds none such."""
        self._express.settle()
        batch = self._ledger.batch(worker.id, frame.batch)
        if batch.job.id != frame.job:
            raise FrameError(f"batch {frame.batch} is not of job {frame.job}")
        return batch

    def _on_results(self, worker: WorkerProxy, frame: frames.Results) -> None:
        if worker.desk.next is None and self._express.takes(worker, frame):
            return
        batch = self._held(worker, frame)
        if worker.desk.next is not None:
            worker.desk.unpack(frame)
        run = self._runs.get(batch.job.id)
        took = frame.took
        orders = self._ledger.tell(f.Finished(worker.id, frame.batch, frame.positions, took), time.monotonic())
        if run is not None:
            items = batch.indices(frame.positions)
            segment = Segment(items, frame.seconds, frame.shared, frame.blobs, worker.index, batch.attempt)
            run.results.deliver(segment)
            # Functions come one after another, coroutines run side by side, where they have to wait.
            in_a_row = batch.job.kind == "def" or type(frame.seconds) is frames.InARow
            self._pictures.ended(worker, run, items, took if in_a_row else max(frame.seconds))
            if run.spec.forget is not None:
                run.spec.forget(items)
        self._carry_out(orders, later=worker.reading)

    def _on_failed(self, worker: WorkerProxy, frame: frames.Failed) -> None:
        batch = self._held(worker, frame)
        run = self._runs.get(frame.job)
        worker.drain_output()  # What it has printed is a part of its failure.
        # The ledger says whether this was the item's last attempt; only then is the error wanted.
        self._endings.failed = worker, frame
        try:
            self._tell(
                f.ItemFailed(
                    worker.id,
                    frame.batch,
                    frame.position,
                    frame.seconds,
                    may_retry=bool(frame.flags & frames.Failed.MAY_RETRY),
                    timed_out=bool(frame.flags & frames.Failed.TIMED_OUT),
                    after=frame.after if frame.after >= 0 else None,
                    chance=self._chance(),
                )
            )
        finally:
            self._endings.failed = None
        if run is not None:  # Only now it is known that there is such an item.
            item = (batch.items[frame.position],)
            self._pictures.ended(worker, run, item, frame.seconds, failed=1)
            worker.output.forget(frame.job, batch.items[frame.position])
