"""Question 5 of the ledger, a worker died: what becomes of the items that it held.

Whose time was over when it was killed for that is known to be the culprit, and has had an attempt. Otherwise the one at
work is the first suspect. Nobody else's death counts as an attempt.
"""

from __future__ import annotations

from typing import Literal

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.attempts import Attempts
from aiopool._core.books import Books
from aiopool._core.items import BatchBook, JobBook
from aiopool._core.jobs import Jobs
from aiopool._core.workers import WorkerBook

Spot = tuple[int, int]
Fate = Literal["again", "suspected", "lost", "late"]


class Deaths:
    """Finds who is to blame. ``in_a_row`` counts deaths that nobody ordered since an item ended."""

    def __init__(self, books: Books, jobs: Jobs, attempts: Attempts) -> None:
        self._books = books
        self._jobs = jobs
        self._attempts = attempts
        self.in_a_row = 0

    def salvage(self, worker: WorkerBook, fact: f.WorkerGone, *, ordered: bool) -> bool:
        """See to what the worker held. Whether its death was innocent: ordered, and known to be nobody's or whose."""
        late = self._late(worker, fact)
        innocent = ordered and (bool(late) or not worker.mute)
        self.in_a_row += not innocent
        for batch in worker.batches.values():
            if not batch.job.over:
                self._salvage(batch, fact, late, innocent=innocent)
        return innocent

    def _late(self, worker: WorkerBook, fact: f.WorkerGone) -> set[Spot]:
        """The items whose time was over: that the worker told of, or the one that kept it from telling."""
        late = set(worker.overdue)
        # An item in a thread is not seen being stepped, but where it ran alone it was at work.
        spot = next(iter(fact.running)) if fact.stepping is None and len(fact.running) == 1 else fact.stepping
        batch = worker.batches.get(spot[0]) if worker.mute and spot is not None else None
        if batch is not None and spot is not None and worker.is_silent_about(batch, self._books.now):
            late.add(spot)
        return late

    def _salvage(self, batch: BatchBook, fact: f.WorkerGone, late: set[Spot], *, innocent: bool) -> None:
        job = batch.job
        fates: dict[Fate, list[int]] = {"again": [], "suspected": [], "lost": [], "late": []}
        for position in sorted(batch.pending):
            spot = batch.id, position
            fate = self._fate(batch, spot, fact, is_late=spot in late, innocent=innocent)
            index = batch.items[position]
            fates[fate].append(index)
            if fate == "suspected":
                job.losses[index] = job.losses.get(index, 0) + 1
                if spot == fact.stepping or spot in late or job.losses[index] > 1:
                    job.quarantine.add(index)
        self._attempts.rerun(job, fates["again"] + fates["suspected"])
        for index in fates["lost"]:
            self._settle(job, f.SettleLost(job.id, index, fact.worker, job.begun(index)))
        for index in fates["late"]:
            if not self._again(job, index, fact.chance):
                self._settle(job, f.SettleTimedOut(job.id, index, fact.worker, job.begun(index)))

    def _fate(self, batch: BatchBook, spot: Spot, fact: f.WorkerGone, *, is_late: bool, innocent: bool) -> Fate:
        rerun_lost = batch.job.opened.rerun_lost
        if is_late and (innocent or not rerun_lost):
            return "late"
        if spot not in fact.running and spot != fact.stepping and not is_late:
            return "again"
        if not rerun_lost:
            return "lost"
        if innocent:
            return "again"
        return "lost" if batch.alone or self.in_a_row >= policy.DEATHS else "suspected"

    def _again(self, job: JobBook, index: int, chance: float) -> bool:
        mended = job.opened.retry_timeouts and not job.over
        return mended and self._attempts.try_again(job, index, after=None, chance=chance)

    def _settle(self, job: JobBook, order: f.SettleLost | f.SettleTimedOut) -> None:
        # Another one of the batch may have been the end of the job.
        if not job.over:
            self._books.orders.append(order)
            job.settle((order.index,))
            self._jobs.failed_in(job)
