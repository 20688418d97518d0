"""The lives of jobs: opened, supplied, paused, ended."""

from __future__ import annotations

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.attempts import Attempts
from aiopool._core.books import ALL, Books
from aiopool._core.items import BatchBook, JobBook
from aiopool._core.spread import Spread
from aiopool._core.suspects import Suspects
from aiopool._core.workers import WorkerBook


class Jobs:
    """Takes in the facts about jobs. ``grace`` is how long a worker may take to drop a job that was cancelled."""

    def __init__(self, books: Books, spread: Spread, attempts: Attempts, suspects: Suspects, *, grace: float) -> None:
        self._books = books
        self._spread = spread
        self._attempts = attempts
        self._suspects = suspects
        self._grace = grace

    def opened(self, fact: f.JobOpened) -> None:
        """A new job: read its input, start workers; refuse it where the pool takes none."""
        books = self._books
        job = books.jobs[fact.job] = JobBook(fact)
        if fact.single:
            job.total = 1
            books.open_singles[fact.kind] += 1
        if books.state != "open":
            self.end(job, "cancelled")
            return
        books.weigh(job)
        if not fact.single:  # Of a submit nothing can be sent before its item is supplied.
            self._spread.touch(job)

    def departed(self, fact: f.Departed) -> None:
        """A submit, which was opened just now, is at a worker already."""
        books, job = self._books, self._books.jobs[fact.opened.job]
        worker = books.worker(fact.worker)
        job.supplied = 1
        worker.jobs[job.id] = job
        books.enter(worker, BatchBook(fact.batch, job, range(1)), 1)
        books.weigh(job)
        # Others may have had nothing to do all the time.
        books.curious = True

    def supplied(self, fact: f.Supplied) -> None:
        """A batch is ready, of items that were read or that run again."""
        job = self._books.jobs.get(fact.job)
        if job is None:
            return
        trial = job.trials.get(fact.items[0])
        batch = BatchBook(fact.batch, job, fact.items, trial=trial, attempt=job.begun(fact.items[0]))
        if fact.items[0] in job.recoding:
            job.recoding.difference_update(fact.items)
            if batch.alone:
                job.alone.append(batch)
            else:
                # Whoever reads results in order waits for these.
                job.ready.appendleft(batch)
            self._books.curious = True
        else:
            job.supplied += len(fact.items)
            job.ready.append(batch)
        self._books.weigh(job)
        if job.opened.single:
            # In the order in which they come; who has others before him is found by way of the first of them.
            self._books.line_up(job)
            if next(iter(self._books.singles[job.kind].values()), job) is not job:
                return
        self._spread.touch(job)

    def refused(self, fact: f.Refused) -> None:
        """An item has ended before it could be sent."""
        job = self._books.jobs.get(fact.job)
        if job is None:
            return
        if fact.index in job.recoding:
            job.recoding.discard(fact.index)
            job.attempts.pop(fact.index, None)
            self._suspects.cleared(job, fact.index)
            self._books.curious = True
        else:
            job.supplied += 1
        self.failed_in(job)

    def input_ended(self, fact: f.InputEnded) -> None:
        """There are so many items in all."""
        self._know_total(fact.job, fact.total, broken=False)

    def input_broken(self, fact: f.InputBroken) -> None:
        """There are so many items, and then the input raised."""
        self._know_total(fact.job, fact.total, broken=True)

    def _know_total(self, number: int, total: int, *, broken: bool) -> None:
        job = self._books.jobs.get(number)
        if job is not None:
            job.total, job.broken = total, broken
            self._books.curious = True
            self.progressed(job)

    def cancel_asked(self, fact: f.CancelAsked) -> None:
        """Somebody wants the job to end now."""
        if (job := self._books.jobs.get(fact.job)) is not None:
            self.end(job, fact.how)

    def pause_asked(self, fact: f.PauseAsked) -> None:
        """Start nothing more: what waits at workers comes back."""
        job = self._books.jobs.get(fact.job)
        if job is None or job.paused:
            return
        job.paused = True
        self._withdraw(job)
        for number, member in job.crew.items():
            worker = self._books.workers[number]
            if member.out and worker.state != "dying":
                self._books.ask_back(worker, job, ALL)

    def resume_asked(self, fact: f.ResumeAsked) -> None:
        """Go on where the pause began."""
        job = self._books.jobs.get(fact.job)
        if job is not None and job.paused:
            job.paused = False
            self._books.weigh(job)
            self._attempts.look(job)
            self._spread.touch(job)

    def _withdraw(self, job: JobBook) -> None:
        """Nothing of the job is to be sent: nobody waits for it or is emptied for it."""
        self._books.weigh(job)
        self._books.line_up(job)
        while job.claims:
            self._spread.unclaim(job)

    def failed_in(self, job: JobBook) -> None:
        """An item has ended without a value."""
        job.ended += 1
        job.failed += 1
        if job.opened.stop_on_failure:
            self.end(job, "failed")
        else:
            self.progressed(job)

    def progressed(self, job: JobBook) -> None:
        """Items have ended, or how many there are became known: the job may be complete."""
        if job.complete:
            self.end(job, "failed" if job.broken else "done")
        else:
            self._books.weigh(job)
            self._spread.touch(job)

    def end(self, job: JobBook, how: f.How) -> None:
        """The job has ended, for whoever waits for it too."""
        self.close(job)
        self._books.orders.append(f.End(job.id, how, job.retried))

    def grant_grace(self, worker: WorkerBook, job: int) -> None:
        """From now on the worker has so long to drop the job."""
        worker.cancelling[job] = self._doom()

    def overdue(self, worker: WorkerBook, batch: BatchBook, position: int) -> None:
        """An item's time is over: from now on it has so long to end."""
        if not batch.job.over:
            worker.overdue.setdefault((batch.id, position), self._doom())

    def _doom(self) -> float:
        self._books.due(self._books.now + min(self._grace, policy.DEAF_SECONDS))
        return self._books.now + self._grace

    def close(self, job: JobBook) -> None:
        """Nothing of the job is to be done any more; workers that still hold items of it are told to drop them."""
        books = self._books
        job.over = True
        del books.jobs[job.id]
        books.waking.pop(job.id, None)
        self._suspects.forget(job)
        books.open_singles[job.kind] -= job.opened.single
        self._withdraw(job)
        for number, member in job.crew.items():
            worker = books.workers[number]
            worker.jobs.pop(job.id, None)
            worker.barren.discard(job.id)
            for spot in [spot for spot in worker.overdue if worker.batches[spot[0]].job is job]:
                del worker.overdue[spot]
            if worker.state == "dying" or worker.hung_up:
                continue
            if member.out:
                self.grant_grace(worker, job.id)
                books.orders.append(f.CancelOn(worker.id, job.id))
            else:
                books.orders.append(f.ForgetOn(worker.id, job.id))
