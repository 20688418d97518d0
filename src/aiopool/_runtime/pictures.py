"""Pictures of a pool, its workers and its jobs, taken when somebody looks. On the pool's own thread.

Nothing is kept up to date for them, and none of the user's code runs for them here: what is not known yet is left out,
and asked for elsewhere.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence

from aiopool._runtime.calls import Shape
from aiopool._runtime.labelling import Labeller
from aiopool._runtime.looked import Looked
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.runs import Run, Runs
from aiopool._runtime.timeline import Timeline
from aiopool._runtime.vitals import Vitals
from aiopool.telemetry import CallsSnapshot, JobSnapshot, PoolSnapshot, WorkerInfo

__all__ = ["LOST_SECONDS", "Pictures"]

LOST_SECONDS = 3.0
"""How long the row of a worker is shown that has died by itself."""


class Pictures:
    """Takes them of one pool."""

    def __init__(  # noqa: PLR0917 - each is of a type of its own
        self,
        name: str,
        ledger: Looked,
        workers: Mapping[int, WorkerProxy],
        runs: Runs,
        vitals: Vitals,
        labeller: Labeller,
        timeline: Timeline,
    ) -> None:
        self._timeline = timeline
        self._name = name
        self._ledger = ledger
        self._workers = workers
        self._runs = runs
        self._vitals = vitals
        self._labeller = labeller
        self._lost = 0
        self._dead: dict[int, tuple[float, WorkerInfo]] = {}
        self._seen: dict[int, tuple[int, int]] = {}

    def pool(self) -> PoolSnapshot:
        """The pool now, with every job."""
        return self._pool(self._runs, ())

    def glance(self) -> PoolSnapshot:
        """The pool now, with calls of one function counted: taken ten times a second, of however many calls."""
        self._runs.meet()
        few = [run for calls in self._runs.calls.values() if len(calls) == 1 for run in calls.values()]
        runs = sorted([*self._runs.maps.values(), *few], key=lambda run: run.id)
        return self._pool(runs, [(name, calls) for name, calls in self._runs.calls.items() if len(calls) > 1])

    def _pool(self, runs: Iterable[Run], many: Iterable[tuple[str, Mapping[int, Run]]]) -> PoolSnapshot:
        workers = self.workers()
        now, at_work = time.monotonic(), [info.job for info in workers if info.job is not None]
        calls = [
            CallsSnapshot(
                name,
                open=len(some),
                elapsed=now - next(iter(some.values())).started,
                at_work=tuple(number for number in at_work if number in some),
            )
            for name, some in many
        ]
        return PoolSnapshot(
            name=self._name,
            state=self._ledger.state,
            size=self._ledger.size,
            workers=workers,
            jobs=tuple(picture for run in runs if (picture := self.job(run.id)) is not None),
            lost=self._lost,
            calls=tuple(calls),
        )

    def job(self, number: int) -> JobSnapshot | None:
        """The job now; None when it has ended."""
        run, book = self._runs.get(number), self._ledger.jobs.get(number)
        if run is None or book is None:
            return None
        run.results.retried = book.retried

        def label_of(index: int) -> str | None:
            return self._label(run, index)

        # Of a paused one everything that is still at workers, until they have handed back what had not started.
        if book.paused:
            return run.picture("paused", book.in_flight, label_of, resting=len(book.rest))
        return run.picture("running", book.running, label_of, resting=len(book.rest))

    # --- workers ---------------------------------------------------------------------------------------------------

    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers now, in the order of their places, with those that have just died."""
        return tuple(sorted(self._rows(), key=lambda info: info.index))

    def _rows(self) -> Sequence[WorkerInfo]:
        now = time.monotonic()
        self._dead = {place: dead for place, dead in self._dead.items() if now < dead[0]}
        rows = []
        for proxy in self._workers.values():
            info = self._worker(proxy)
            if proxy.index in self._dead:
                if info.state == "starting":
                    continue  # The row of the one before it stands for both, so that none jumps.
                if info.state not in ("lost", "retiring"):
                    del self._dead[proxy.index]
            rows.append(info)
        return [*rows, *(info for _, info in self._dead.values())]

    def _worker(self, proxy: WorkerProxy) -> WorkerInfo:
        info = self._vitals.picture(proxy)
        job, item, seconds = info.job, info.item, info.seconds
        if item is None and info.in_flight and (found := self._vitals.longest(proxy)) is not None:
            job, item, seconds = found
        if item is None or job is None:
            self._seen.pop(proxy.id, None)
            return info
        label = None
        if (run := self._runs.get(job)) is not None:
            label = run.results.labels.look(item)
            if label is None and self._seen.get(proxy.id) == (job, item):
                # Seen there before: of one that is gone by the next look none is needed.
                self._labeller.ask(run.results.labels, item)
        self._seen[proxy.id] = job, item
        return dataclasses.replace(info, item=item, seconds=seconds, job=job, label=label or "")

    def _label(self, run: Run, index: int) -> str | None:
        label = run.results.labels.look(index)
        if label is None:
            self._labeller.ask(run.results.labels, index)
        return label

    def died(self, worker: WorkerProxy) -> None:
        """A worker's process is gone, and the ledger does not know it yet."""
        self._seen.pop(worker.id, None)
        book = self._ledger.workers.get(worker.id)
        if book is None or worker.link is None or worker.why or book.state == "dying" or book.hung_up:
            return
        self._lost += 1
        for run in self._runs:
            run.results.lost += worker.id in run.workers
        if book.state != "starting":
            row = WorkerInfo(worker.index, worker.pid, "lost", 0, book.done, memory=worker.memory)
            self._dead[worker.index] = time.monotonic() + LOST_SECONDS, row

    # --- what they did -----------------------------------------------------------------------------------------------

    def ended(self, worker: WorkerProxy, run: Run, items: Sequence[int], seconds: float, *, failed: int = 0) -> None:
        """Items of a job have ended at a worker, which took so many seconds until now."""
        worker.items_ended()
        spec, now = run.spec, time.monotonic()
        self._timeline.add(
            worker.index,
            run.id,
            spec.name,
            of_call=spec.single,
            item=items[0],
            count=len(items),
            failed=failed,
            seconds=min(max(0.0, seconds), now),
            now=now,
        )

    def passed(self, worker: WorkerProxy, shape: Shape, count: int, seconds: float) -> None:
        """Calls of one function have ended at a worker one after another, which took so many seconds until now."""
        worker.items_ended()
        now = time.monotonic()
        self._timeline.add(
            worker.index,
            0,
            shape.name,
            of_call=True,
            item=0,
            count=count,
            failed=0,
            seconds=min(seconds, now),
            now=now,
        )
