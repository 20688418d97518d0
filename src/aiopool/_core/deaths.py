"""Question 5 of the ledger, a worker died: what becomes of the items that it held.

Whose time was over when it was killed for that is known to be the culprit, and has had an attempt; so is the only item
of a worker that took too much memory. Otherwise the one at work is the first suspect. Nobody else's death counts as an
attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from aiopool._core import facts as f
from aiopool._core import frames, policy
from aiopool._core.attempts import Attempts
from aiopool._core.books import Books
from aiopool._core.items import BatchBook, JobBook
from aiopool._core.jobs import Jobs
from aiopool._core.suspects import Suspects
from aiopool._core.workers import WorkerBook

Spot = tuple[int, int]
Fate = Literal["again", "suspected", "lost", "late"]


@dataclass(slots=True)
class Case:
    """One death. ``ran`` are those that had started and not ended, ``late`` those of them whose time was over.

    ``explained``: it was ordered, and it is known for whom, or that it was for nobody. Else one of the ``suspects``
    caused it, the ``first`` one most likely, and certainly if ``culprit``. ``narrowed``: they are fewer than they were.
    ``hopeless`` are those that get no other chance, whoever did it.
    """

    worker: WorkerBook
    chance: float
    ran: set[Spot]
    late: set[Spot]
    explained: bool
    suspects: dict[Spot, BatchBook] = field(default_factory=dict)
    first: Spot | None = None
    culprit: bool = False
    narrowed: bool = False
    hopeless: set[Spot] = field(default_factory=set)


class Deaths:
    """Finds who is to blame.

    ``in_a_row`` counts deaths that nobody ordered since an item ended, but for those that left fewer suspects.
    """

    def __init__(self, books: Books, jobs: Jobs, attempts: Attempts, suspects: Suspects) -> None:
        self._books = books
        self._jobs = jobs
        self._attempts = attempts
        self._suspects = suspects
        self._hopeless_since = 0.0
        self.in_a_row = 0

    def salvage(self, worker: WorkerBook, fact: f.WorkerGone, *, ordered: bool) -> bool:
        """See to what the worker held. Whether its death was innocent: ordered, and known to be nobody's or whose."""
        case = self._case(worker, fact, ordered=ordered)
        if not (case.explained or worker.heavy or case.narrowed):
            self.in_a_row += 1
            if self.in_a_row == policy.DEATHS:
                self._hopeless_since = self._books.now
            self._despair(case)
        for batch in worker.batches.values():
            if not batch.job.over:
                self._salvage(case, batch)
        if case.suspects and not case.culprit:
            self._accuse(case)
        return case.explained or worker.heavy

    # --- what is known -----------------------------------------------------------------------------------------------

    def _case(self, worker: WorkerBook, fact: f.WorkerGone, *, ordered: bool) -> Case:
        late = self._late(worker, fact)
        stepping = {fact.stepping} if fact.stepping is not None and _is_open(worker, fact.stepping) else set[Spot]()
        explained = ordered and (bool(late) or not (worker.mute or worker.heavy))
        case = Case(worker, fact.chance, {*_running(worker, fact), *stepping, *late}, late, explained)
        if explained:
            return case
        at_work = _the_only_one(stepping) or _the_only_one(case.ran) or _the_only_one(late)
        running = {spot: worker.batches[spot[0]] for spot in sorted(case.ran) if _may_rerun(worker, spot)}
        tried = {spot: batch for spot, batch in running.items() if batch.trial is not None}
        if at_work in running:
            case.first = at_work
            case.suspects = {at_work: running[at_work], **(tried or running)}
            case.narrowed = at_work in tried
            # Where somebody took too much memory, others may have taken the most of it.
            case.culprit = len(case.ran) == 1 if worker.heavy else tried.keys() == {at_work}
        elif at_work is None:
            case.suspects = tried or running
            case.narrowed = len(tried) > 1
        # Else whoever was at work may not run again, and takes the blame with it.
        return case

    def _despair(self, case: Case) -> None:
        """After so many deaths in a row nobody gets another chance who was sent after them."""
        if self.in_a_row < policy.DEATHS:
            return
        late_comers = {spot for spot, batch in case.suspects.items() if batch.sent_at >= self._hopeless_since}
        case.hopeless |= late_comers
        case.suspects = {spot: batch for spot, batch in case.suspects.items() if spot not in late_comers}
        if case.first in late_comers:
            case.first = None

    def _late(self, worker: WorkerBook, fact: f.WorkerGone) -> set[Spot]:
        """The items whose time was over: that the worker told of, or the one that kept it from telling."""
        late = set(worker.overdue)
        # An item in a thread is not seen being stepped, but where it ran alone it was at work.
        spot = next(iter(fact.running)) if fact.stepping is None and len(fact.running) == 1 else fact.stepping
        batch = worker.batches.get(spot[0]) if worker.mute and spot is not None else None
        if batch is not None and spot is not None and worker.is_silent_about(batch, self._books.now):
            late.add(spot)
        return late

    # --- what becomes of them ----------------------------------------------------------------------------------------

    def _salvage(self, case: Case, batch: BatchBook) -> None:
        """See to the items of one batch, but for the suspects."""
        job, worker = batch.job, case.worker
        fates: dict[Fate, list[int]] = {"again": [], "suspected": [], "lost": [], "late": []}
        for position in sorted(batch.pending):
            fates[self._fate(case, batch, (batch.id, position))].append(batch.items[position])
        if batch.trial is not None and not case.explained and len(fates["again"]) < len(batch.pending):
            # Of a group that had begun, those that had not are no suspects any more.
            for index in fates["again"]:
                self._suspects.dismissed(job, index)
        self._attempts.rerun(job, fates["again"])
        hopeless_ones = {batch.items[position] for number, position in case.hopeless if number == batch.id}
        for index in fates["lost"]:
            self._suspects.dismissed(job, index)
            reason: Literal["", "memory"] = "memory" if worker.heavy else ""
            hopeless = index in hopeless_ones
            self._settle(job, f.SettleLost(job.id, index, worker.id, job.begun(index), reason, hopeless))
        for index in fates["late"]:
            self._suspects.cleared(job, index)
            if not self._again(job, index, case.chance):
                self._settle(job, f.SettleTimedOut(job.id, index, worker.id, job.begun(index)))

    @staticmethod
    def _fate(case: Case, batch: BatchBook, spot: Spot) -> Fate:
        may_rerun = batch.job.opened.rerun_lost
        if spot in case.late and (case.explained or not may_rerun):
            return "late"
        if spot not in case.ran:
            return "again"
        if not may_rerun or spot in case.hopeless or (case.culprit and spot == case.first):
            return "lost"
        return "suspected" if spot in case.suspects else "again"

    def _accuse(self, case: Case) -> None:
        suspects = {spot: (batch.job, batch.items[spot[1]]) for spot, batch in case.suspects.items()}
        survived = max(self._books.now - batch.sent_at for batch in case.suspects.values())
        first = suspects.pop(case.first) if case.first is not None else None
        self._suspects.accuse(first, list(suspects.values()), survived)

    def _again(self, job: JobBook, index: int, chance: float) -> bool:
        mended = job.opened.retry_timeouts and not job.over
        return mended and self._attempts.try_again(job, index, after=None, chance=chance)

    def _settle(self, job: JobBook, order: f.SettleLost | f.SettleTimedOut) -> None:
        # Another one of the batch may have been the end of the job.
        if not job.over:
            self._books.orders.append(order)
            job.settle((order.index,))
            self._jobs.failed_in(job)


def _the_only_one(spots: set[Spot]) -> Spot | None:
    return next(iter(spots)) if len(spots) == 1 else None


def _running(worker: WorkerBook, fact: f.WorkerGone) -> Iterable[Spot]:
    """What had begun and not ended; where there was too much to tell, all that may have."""
    if frames.ANY_SPOT not in fact.running:
        return fact.running
    return ((batch.id, position) for batch in worker.batches.values() for position in batch.pending)


def _is_open(worker: WorkerBook, spot: Spot) -> bool:
    """Whether the item has not ended, as far as the worker has told. What it was inside of may have."""
    batch = worker.batches.get(spot[0])
    return batch is not None and spot[1] in batch.pending


def _may_rerun(worker: WorkerBook, spot: Spot) -> bool:
    batch = worker.batches.get(spot[0])
    return batch is not None and _is_open(worker, spot) and not batch.job.over and batch.job.opened.rerun_lost
