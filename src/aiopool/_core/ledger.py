"""The only place where items meet workers: told what happened and when, it orders what to do.

It holds no value and no process, so it can be driven with neither. It works per batch, never per item, except where an
item fails or is lost. How it decides, in the order of the questions:

1. *Who may take it?* A ready worker that holds items of the same kind or none, and has room: fewer items of the job
   than lanes, which are its share of the job's concurrency, as far as others have given up theirs. When it ends some it
   may take more than it has lanes, for a tenth of a second of work.
2. *Which of them?* The one with the fewest items of this job, then with the fewest at all. While others are starting,
   nobody gets more than an even part.
3. *Both kinds want workers?* They get what they need, and at least a half each; workers that have to change drain
   first. A kind that waits for longer than a second gets a worker beyond the pool's size.
4. *A worker idles, or most of its lanes do, while another one has items that have not started?* It gets half of them.
5. *A worker died?* What had not started goes elsewhere. What ran runs again: the item at work first, alone, and only
   if it proves innocent the others, in halves on workers that have nothing else. Whoever dies alone is lost.
6. *An attempt failed?* Where another one may mend it, and some are left, the item rests, at no worker, and then runs
   again.
7. *An item does not end in time?* Its worker told it to. If it does not heed that, the worker is replaced, then killed,
   and so is one that does not even answer: that was the item's attempt, and nobody else's.
8. *A job has a rate?* A batch goes only to who can begin all of it at once, and only when its time has come.
9. *A worker has begun as many items as it may, or takes too much memory?* It takes nothing new, and another one its
   place. If it takes far too much it is killed: for its only item, or for nobody knows which, as in question 5.

Questions 1, 2, 4 and 8 are answered in ``spread``, 3, 7 and 9 in ``team``, 5 in ``deaths`` and ``suspects``, 6 in
``attempts``; ``jobs`` tells how a job begins and ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.attempts import Attempts
from aiopool._core.books import ALL, Books
from aiopool._core.deaths import Deaths
from aiopool._core.facts import Kind
from aiopool._core.items import BatchBook, JobBook
from aiopool._core.jobs import Jobs
from aiopool._core.spread import Spread
from aiopool._core.suspects import Suspects
from aiopool._core.team import Team
from aiopool._core.workers import WorkerBook
from aiopool.errors import FrameError


class Ledger:
    """The books of one pool. ``size`` is how many workers it may have; times are in seconds on one monotonic clock.

    No worker begins more than ``max_tasks`` items, each attempt counted.
    """

    def __init__(
        self,
        size: int,
        *,
        start_timeout: float = 60.0,
        grace: float = 2.0,
        idle_timeout: float | None = None,
        max_tasks: int | None = None,
    ) -> None:
        self._books = Books(size, max_tasks)
        self._team = Team(self._books, start_timeout=start_timeout, grace=grace, idle_timeout=idle_timeout)
        self._spread = Spread(self._books, self._team)
        self._attempts = Attempts(self._books, self._spread)
        self._suspects = Suspects(self._books, self._spread, self._attempts)
        self._jobs = Jobs(self._books, self._spread, self._attempts, self._suspects, grace=grace)
        self._deaths = Deaths(self._books, self._jobs, self._attempts, self._suspects)
        self._handlers: dict[type, Callable[[Any], None]] = {
            f.JobOpened: self._job_opened,
            f.Departed: self._departed,
            f.Supplied: self._jobs.supplied,
            f.Refused: self._jobs.refused,
            f.InputEnded: self._jobs.input_ended,
            f.InputBroken: self._jobs.input_broken,
            f.CancelAsked: self._jobs.cancel_asked,
            f.PauseAsked: self._jobs.pause_asked,
            f.ResumeAsked: self._jobs.resume_asked,
            f.WorkerReady: self._worker_ready,
            f.WorkerBroken: self._worker_broken,
            f.WorkerGone: self._worker_gone,
            f.Finished: self._finished,
            f.ItemFailed: self._item_failed,
            f.ItemOverdue: self._item_overdue,
            f.WorkerAnswered: self._worker_answered,
            f.WorkerHeavy: self._worker_heavy,
            f.WorkersOutdated: self._workers_outdated,
            f.Returned: self._returned,
            f.Cleared: self._cleared,
            f.CancelHeld: self._cancel_held,
            f.Resized: self._resized,
            f.RestartAsked: self._restart_asked,
            f.WorkerRestartAsked: self._worker_restart_asked,
            f.WarmUpAsked: self._warm_up_asked,
            f.StartChanged: lambda _: self._team.try_again(),
            f.CloseAsked: self._close_asked,
            f.TerminateAsked: self._terminate_asked,
            f.TimePassed: self._time_passed,
        }

    def tell(self, fact: f.Fact, now: float) -> list[f.Command]:
        """Take in a fact and return what has to be done about it, in order.

        Raises FrameError, and changes nothing, where a worker says what cannot be. Nothing is told of a worker after
        its WorkerGone.
        """
        return self.tell_all((fact,), now)

    def tell_all(self, facts: Sequence[f.Fact], now: float) -> list[f.Command]:
        """The same of facts that come together: who gets what is asked once, when all of them are known."""
        books = self._books
        books.now = now
        books.orders = []
        for fact in facts:
            self._handlers[type(fact)](fact)
        self._settle()
        if books.stayed and books.let_go_again():
            self._settle()
        return books.orders

    # --- calls that it is not told of --------------------------------------------------------------------------------

    def takers(self, kind: Kind, most: int) -> list[int]:
        """Up to so many workers that calls which came now would find without items, if these were all there is to do.

        They would find them at any later moment, too, before which nothing is told. So calls may be sent first and told
        as Departed when somebody tells something, or looks; and of those that have ended by then, only :meth:`passed`
        need be told. Where there would be other workers than there are, there is none.
        """
        books = self._books
        if books.state != "open" or books.jobs or books.roster.total or books.max_tasks is not None:
            return []
        if not self._team.is_calm:
            return []
        return [worker.id for worker in islice((each for each in books.roster if each.serves(kind)), most)]

    def ahead(self, kind: Kind) -> int:
        """How many such calls one of these workers may have at a time."""
        return self._spread.ahead(kind)

    def passed(self, number: int, kind: Kind, count: int, seconds: float, now: float) -> None:
        """Calls, which took so long together, have ended at a worker that :meth:`takers` named; nothing was told since.

        There is at least one.
        """
        self._books.now = now
        worker = self._heard(number)
        worker.done += count
        worker.idle_since = now
        self._team.try_again()
        self._deaths.in_a_row = 0
        if kind == "def":
            self._spread.learn_single(seconds, count)

    # --- to be looked at ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many workers there may be."""
        return self._books.size

    @property
    def state(self) -> Literal["open", "closing", "closed"]:
        """Whether the pool takes jobs, ends them, or has ended."""
        return self._books.state

    @property
    def workers(self) -> Mapping[int, WorkerBook]:
        """The workers that there are, by number."""
        return self._books.workers

    @property
    def jobs(self) -> Mapping[int, JobBook]:
        """The jobs that have not ended, by number."""
        return self._books.jobs

    def batch(self, worker: int, batch: int) -> BatchBook:
        """The batch that this worker holds under this number; FrameError where it holds none."""
        return self._books.batch(self._books.worker(worker), batch)

    # --- after every fact --------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._team.dismiss()
        while True:
            self._team.staff()
            if self._team.is_stuck:
                self._give_up()
            self._spread.run()
            if not (self._books.spent and self._team.renew()):
                break
        self._team.watch()
        if self._books.state == "closing" and not self._books.jobs:
            self._part()

    def _give_up(self) -> None:
        """Workers cannot start: whoever waits is told, instead of trying for ever."""
        for job in [job for job in self._books.jobs.values() if job.need]:
            self._jobs.close(job)
            self._books.orders.append(f.EndStartFailed(job.id))

    def _part(self) -> None:
        for worker in list(self._books.workers.values()):
            self._team.retire(worker)
        if not self._books.workers:
            self._books.state = "closed"
            self._books.orders.append(f.PoolEnded())

    # --- facts about workers -----------------------------------------------------------------------------------------

    def _job_opened(self, fact: f.JobOpened) -> None:
        if not self._books.jobs:
            # Not at every job: a stream of them must not keep alive the hope that workers can start.
            self._team.try_again()
            self._deaths.in_a_row = 0
        self._jobs.opened(fact)

    def _departed(self, fact: f.Departed) -> None:
        self._job_opened(fact.opened)
        self._jobs.departed(fact)

    def _heard(self, number: int) -> WorkerBook:
        """The worker that has said something."""
        worker = self._books.worker(number)
        worker.heard_at, worker.pinged_at = self._books.now, None
        return worker

    def _worker_ready(self, fact: f.WorkerReady) -> None:
        worker = self._heard(fact.worker)
        # It may have said so just before it was killed.
        if worker.state == "starting":
            self._team.arrived(worker)
            self._spread.free(worker)

    def _worker_broken(self, fact: f.WorkerBroken) -> None:
        worker = self._heard(fact.worker)
        if worker.state == "starting" and fact.hopeless:
            self._team.not_started(hopeless=True)
        self._team.kill(worker, "it could not be set up")

    def _worker_answered(self, fact: f.WorkerAnswered) -> None:
        self._heard(fact.worker)

    def _worker_heavy(self, fact: f.WorkerHeavy) -> None:
        # It was seen from outside, perhaps in its last moment.
        worker = self._books.workers.get(fact.worker)
        if worker is not None:
            self._team.heavy(worker, far=fact.far)

    def _workers_outdated(self, fact: f.WorkersOutdated) -> None:
        for number in fact.workers:
            worker = self._books.workers.get(number)
            if worker is not None and worker.state == "ready":
                self._team.retire(worker)

    def _finished(self, fact: f.Finished) -> None:
        worker = self._heard(fact.worker)
        batch = self._books.batch(worker, fact.batch)
        _check_seconds(fact.seconds)
        self._books.close(worker, batch, fact.positions)
        job, count = batch.job, len(fact.positions)
        worker.done += count
        if not job.over:
            self._deaths.in_a_row = 0
            if batch.trial is not None:
                self._suspects.ended(batch, fact.positions)
            if batch.attempt > 1:
                job.settle(batch.indices(fact.positions))
            job.ended += count
            job.measure(fact.seconds, count)
            if job.opened.single and job.kind == "def":
                self._spread.learn_single(fact.seconds, count)
            if job.complete:
                self._jobs.progressed(job)
            else:
                self._books.weigh(job)
        self._spread.refill(worker, job)

    def _item_failed(self, fact: f.ItemFailed) -> None:
        worker = self._heard(fact.worker)
        batch = self._books.batch(worker, fact.batch)
        _check_seconds(fact.seconds)
        _check_seconds(fact.after or 0.0)
        if fact.timed_out:
            _check_timeout(batch)
        self._books.close(worker, batch, (fact.position,))
        job = batch.job
        worker.done += 1
        if not job.over:
            self._deaths.in_a_row = 0
            job.measure(fact.seconds, 1)
            index = batch.items[fact.position]
            self._suspects.cleared(job, index)
            again = fact.may_retry and self._attempts.try_again(job, index, after=fact.after, chance=fact.chance)
            if not again:
                self._books.orders.append(f.SettleFailed(job.id, index, job.begun(index)))
                job.settle((index,))
                self._jobs.failed_in(job)
        self._spread.refill(worker, job)

    def _item_overdue(self, fact: f.ItemOverdue) -> None:
        worker = self._heard(fact.worker)
        batch = worker.batches.get(fact.batch)
        # It may have ended while the worker said so.
        if batch is not None and fact.position in batch.pending:
            _check_timeout(batch)
            self._jobs.overdue(worker, batch, fact.position)

    def _returned(self, fact: f.Returned) -> None:
        worker = self._heard(fact.worker)
        asks = worker.asks.get(fact.job)
        if not asks:
            raise FrameError(f"worker {worker.id} hands back items of job {fact.job} without being asked")
        batches = self._named(worker, fact)
        asked = asks.pop(0)
        if not asks:
            del worker.asks[fact.job]
        again: list[int] = []
        for batch, positions in batches:
            self._books.close(worker, batch, positions)
            self._books.forgive(worker, len(positions))
            again.extend(batch.indices(positions))
        job = self._books.jobs.get(fact.job)
        if job is not None:
            if asked >= ALL or (asked and not again):
                worker.barren.add(job.id)
            if again and job.opened.single:
                job.came_from = worker.id
            if again and job.opened.single and worker.state != "dying":
                # A worker forgets the function of a submit by itself only when it has run it.
                self._books.orders.append(f.ForgetOn(worker.id, job.id))
            self._attempts.rerun(job, again)
            self._spread.refill(worker, job)
        else:
            self._spread.free(worker)
        if not again:
            self._books.curious = True

    def _named(self, worker: WorkerBook, fact: f.Returned) -> list[tuple[BatchBook, list[int]]]:
        """The batches and positions that an answer names; FrameError if one of them cannot be."""
        if len(fact.batches) != len(fact.positions):
            raise FrameError(f"{len(fact.batches)} batches for {len(fact.positions)} positions")
        named: dict[int, tuple[BatchBook, list[int]]] = {}
        for number, position in zip(fact.batches, fact.positions, strict=True):
            if number not in named:
                batch = self._books.batch(worker, number)
                if batch.job.id != fact.job:
                    raise FrameError(f"batch {number} is not of job {fact.job}")
                named[number] = batch, []
            named[number][1].append(position)
        for batch, positions in named.values():
            batch.check(positions)
        return list(named.values())

    def _cancel_held(self, fact: f.CancelHeld) -> None:
        worker = self._heard(fact.worker)
        if fact.job in worker.cancelling:
            # The grace is for feeling the cancel; it must not cost the one who keeps others from it.
            self._jobs.grant_grace(worker, fact.job)

    def _cleared(self, fact: f.Cleared) -> None:
        worker = self._heard(fact.worker)
        if worker.cancelling.pop(fact.job, None) is None:
            raise FrameError(f"worker {worker.id} drops job {fact.job}, which was not cancelled there")
        for batch in [batch for batch in worker.batches.values() if batch.job.id == fact.job]:
            left = batch.pending
            self._books.close(worker, batch, left if isinstance(left, range) else tuple(left))
        self._spread.free(worker)

    # --- question 5: a worker died -----------------------------------------------------------------------------------

    def _worker_gone(self, fact: f.WorkerGone) -> None:
        worker = self._books.worker(fact.worker)
        starting, ordered = worker.state == "starting", worker.state == "dying" or worker.hung_up
        self._team.gone(worker)
        for job in worker.jobs.values():
            job.part(worker.id)
            self._spread.touch(job)
        if starting:
            self._team.not_started()
        innocent = self._deaths.salvage(worker, fact, ordered=starting or ordered)
        began = worker.done or fact.running or fact.stepping
        if self._deaths.in_a_row >= policy.DEATHS and not (innocent or began):
            # It died before it began anything, as those before it: the function's very arrival may kill.
            self._give_up()

    # --- the pool ----------------------------------------------------------------------------------------------------

    def _resized(self, fact: f.Resized) -> None:
        self._books.size = fact.size
        self._team.try_again()
        self._team.resize(fact.token)

    def _restart_asked(self, fact: f.RestartAsked) -> None:
        self._team.try_again()
        self._replace(list(self._books.workers.values()), fact)

    def _worker_restart_asked(self, fact: f.WorkerRestartAsked) -> None:
        self._team.try_again()
        # It may be gone by now.
        worker = self._books.workers.get(fact.worker)
        self._replace([worker] if worker is not None else [], fact)

    def _replace(self, workers: Sequence[WorkerBook], fact: f.RestartAsked | f.WorkerRestartAsked) -> None:
        """One that is starting is new already."""
        old = [worker for worker in workers if worker.state != "starting"]
        self._team.replace(old, fact.token, now=fact.now)

    def _warm_up_asked(self, fact: f.WarmUpAsked) -> None:
        if self._books.state == "open":
            self._team.warm_up(fact.count)

    def _close_asked(self, _: f.CloseAsked) -> None:
        if self._books.state == "open":
            self._books.state = "closing"

    def _terminate_asked(self, _: f.TerminateAsked) -> None:
        self._close_asked(f.CloseAsked())
        # Workers first: a dying one need not be told to drop jobs.
        for worker in list(self._books.workers.values()):
            self._team.kill(worker, "the pool is terminated")
        for job in list(self._books.jobs.values()):
            self._jobs.end(job, "cancelled")

    def _time_passed(self, _: f.TimePassed) -> None:
        come = self._books.woken()
        if "workers" in come:
            self._team.tick()
        if "jobs" in come:
            self._attempts.tick()
        if "idle" in come:
            self._books.curious = True
        if "suspects" in come:
            self._suspects.tick()


def _check_timeout(batch: BatchBook) -> None:
    if batch.job.opened.timeout is None:
        raise FrameError(f"an item of batch {batch.id} is late, and has no time limit")


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise FrameError(f"an item took {seconds} seconds")
