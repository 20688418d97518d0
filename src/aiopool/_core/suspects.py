"""Suspects: items that ran when a worker died, and may have been the reason.

Whoever was at work is the first suspect and runs again alone on a worker, while the others are held. If it dies there,
it was to blame, and the others run again as before. If it ends in whatever way, they are halved: each half is a group
on a worker that has nothing else, and where one dies, only those of it that ran are suspects from then on. So who kills
is found in as many deaths as its neighbours can be halved, and two where it was at work.

Groups are of one job and one attempt, because so are batches: items of several jobs make several groups. Nobody waits
for ever: the others for the first suspect's end, suspects for an empty worker, and whoever else wants a worker for
suspects who outlive what killed before; they are acquitted then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from aiopool._core import policy
from aiopool._core.attempts import Attempts
from aiopool._core.books import Books
from aiopool._core.items import BatchBook, JobBook, Suspicion, Trial
from aiopool._core.spread import Spread
from aiopool._core.workers import WorkerBook


class Suspects:
    """Holds, tries, halves and acquits them."""

    def __init__(self, books: Books, spread: Spread, attempts: Attempts) -> None:
        self._books = books
        self._spread = spread
        self._attempts = attempts
        self._open: list[Suspicion] = []

    # --- after a death -----------------------------------------------------------------------------------------------

    def accuse(self, first: tuple[JobBook, int] | None, others: Sequence[tuple[JobBook, int]], survived: float) -> None:
        """One of these killed a worker, the first one most likely, if anything is known.

        ``survived`` is for how many seconds they had run. Who waits for one of them already, waits on.
        """
        suspicion = Suspicion([], min(survived, policy.SURVIVED_MOST), self._books.now + policy.TRIAL_SECONDS)
        for job, index in others if first is None else (*others, first):
            trial = job.trials.pop(index, None)
            if trial is not None and trial.suspicion is not None:
                suspicion.held += self._take(trial.suspicion)
        suspicion.held += [(job, index) for job, index in others if not job.over]
        for job, index in suspicion.held:
            job.suspended.add(index)
        if first is None or first[0].over:
            self._halve(suspicion)
            return
        job, index = first
        job.trials[index] = Trial(suspicion.survived, suspicion=suspicion)
        self._open.append(suspicion)
        self._books.due(suspicion.until, "suspects")
        self._attempts.rerun(job, (index,))

    def ended(self, batch: BatchBook, positions: Iterable[int]) -> None:
        """Suspects have ended, as a value or as a failed attempt: they killed nobody."""
        for position in positions:
            self.cleared(batch.job, batch.items[position])

    def cleared(self, job: JobBook, index: int) -> None:
        """The item is no suspect any more; if it was the first one, the others are."""
        trial = job.trials.pop(index, None)
        if trial is not None and trial.suspicion is not None:
            self._halve(trial.suspicion)

    def dismissed(self, job: JobBook, index: int) -> None:
        """The item is no suspect any more, nor is anybody who waited for its verdict: it is known who is to blame."""
        trial = job.trials.pop(index, None)
        if trial is not None and trial.suspicion is not None:
            for other, items in self._released(trial.suspicion):
                self._attempts.rerun(other, items)

    def forget(self, job: JobBook) -> None:
        """The job has ended; those of other jobs need not wait for its items."""
        for index in list(job.trials):
            self.cleared(job, index)
        job.suspended.clear()

    # --- halves ------------------------------------------------------------------------------------------------------

    def _take(self, suspicion: Suspicion) -> list[tuple[JobBook, int]]:
        """Those that are held. They are no longer."""
        held, suspicion.held = suspicion.held, []
        if suspicion in self._open:
            self._open.remove(suspicion)
        for job, index in held:
            job.suspended.discard(index)
        return [(job, index) for job, index in held if not job.over]

    def _released(self, suspicion: Suspicion) -> Iterator[tuple[JobBook, list[int]]]:
        """Those that were held, job by job and attempt by attempt."""
        apart: dict[tuple[JobBook, int], list[int]] = {}
        for job, index in self._take(suspicion):
            apart.setdefault((job, job.begun(index)), []).append(index)
        for (job, _), items in apart.items():
            yield job, sorted(items)

    def _halve(self, suspicion: Suspicion) -> None:
        for job, items in self._released(suspicion):
            size = min(-(-len(items) // 2), self._most(job))
            for start in range(0, len(items), size):
                trial = Trial(suspicion.survived)
                job.trials.update(dict.fromkeys(items[start : start + size], trial))
            self._attempts.rerun(job, items)

    def _most(self, job: JobBook) -> int:
        """How many items of the job may travel together."""
        if job.opened.pinned or job.opened.single:
            return 1
        most = min(policy.BATCH_MOST[job.kind], self._books.largest)
        return most if job.opened.rate is None else min(most, job.size_told or 1)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """See who has waited for long enough, and order the next alarm."""
        now, due = self._books.now, self._books.due
        for suspicion in list(self._open):
            if now >= suspicion.until:
                self._halve(suspicion)
            else:
                due(suspicion.until, "suspects")
        for job in self._books.jobs.values():
            if job.trials:
                self._look(job)
        for worker in self._books.workers.values():
            if worker.alone and now >= worker.alone_until:
                self._acquit(worker)
            elif worker.alone:
                due(worker.alone_until, "suspects")

    def _look(self, job: JobBook) -> None:
        """Let suspects run beside others that have waited for an empty worker for long."""
        now = self._books.now
        for trial in dict.fromkeys(job.trials.values()):
            if now >= trial.until:
                if job.paused:
                    trial.until = now + policy.TRIAL_SECONDS
                else:
                    trial.until, trial.beside = math.inf, True
            if trial.until < math.inf:
                self._books.due(trial.until, "suspects")
        waiting = [batch for batch in job.alone if not batch.alone]
        if waiting:
            job.alone = deque(batch for batch in job.alone if batch.alone)
            job.ready.extendleft(reversed(waiting))
            self._spread.unclaim_beyond(job)
            self._spread.touch(job)

    def _acquit(self, worker: WorkerBook) -> None:
        """They have outlived what killed before: the worker takes other work again."""
        worker.alone = False
        for batch in list(worker.batches.values()):
            if not batch.job.over:
                self.ended(batch, batch.pending)
            batch.trial = None
        self._spread.free(worker)
