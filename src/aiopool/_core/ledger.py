"""The only place where items meet workers: told what happened and when, it orders what to do.

It holds no value and no process, so it can be driven with neither. It works per batch, never per item, except where an
item fails or is lost. How it decides, in the order of the questions:

1. *Who may take it?* A ready worker that holds items of the same kind or none, and has room: fewer items of the job
   than the job's lanes there and the tenth of a second of work that may wait.
2. *Which of them?* The one with the fewest items of this job, then with the fewest at all.
3. *Both kinds want workers?* They get a half each; the workers that have to change drain first. A kind that waits for
   longer than a second gets a worker beyond the pool's size.
4. *A worker idles while another one has items that have not started?* It gets half of them.
5. *A worker died?* What had not started goes elsewhere. What ran runs again: the item at work alone, the others
   beside others once more and then alone. Whoever dies alone is lost.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.items import BatchBook, JobBook
from aiopool._core.workers import WorkerBook
from aiopool.errors import FrameError

ALL = 1 << 40


class Ledger:
    """The books of one pool. ``size`` is how many workers it may have; times are in seconds on one monotonic clock."""

    def __init__(
        self, size: int, *, start_timeout: float = 60.0, grace: float = 2.0, idle_timeout: float | None = None
    ) -> None:
        self.size = size
        self.state: Literal["open", "closing", "closed"] = "open"
        self.workers: dict[int, WorkerBook] = {}
        self.jobs: dict[int, JobBook] = {}
        self._start_timeout = start_timeout
        self._grace = grace
        self._idle_timeout = idle_timeout
        self._now = 0.0
        self._orders: list[f.Command] = []
        self._worker_ids = itertools.count(1)
        self._demand: Counter[f.Kind] = Counter()
        self._waiting: dict[int, JobBook] = {}
        self._singles: deque[JobBook] = deque()
        self._single_mean: float | None = None
        self._stalled: dict[f.Kind, float] = {}
        self._tokens: dict[int, set[int]] = {}
        self._start_failures = 0
        self._deaths = 0
        self._wake: float | None = None

    def tell(self, fact: f.Fact, now: float) -> list[f.Command]:
        """Take in a fact and return what has to be done about it, in order.

        Raises FrameError, and changes nothing, where a worker says what cannot be.
        """
        self._now = now
        self._orders = []
        handler: Callable[[Ledger, Any], None] = _HANDLERS[type(fact)]
        handler(self, fact)
        self._set_alarm()
        return self._orders

    def batch(self, worker: int, batch: int) -> BatchBook:
        """The batch that this worker holds under this number."""
        book = self.workers[worker].batches.get(batch)
        if book is None:
            raise FrameError(f"worker {worker} speaks of batch {batch}, which it does not hold")
        return book

    # --- jobs ------------------------------------------------------------------------------------------------------

    def _job_opened(self, fact: f.JobOpened) -> None:
        job = JobBook(fact)
        self.jobs[fact.job] = job
        self._start_failures = 0
        if self.state != "open":
            self._end(job, "cancelled")
            return
        self._want(job.kind, +1)
        self._supply(job)

    def _supplied(self, fact: f.Supplied) -> None:
        job = self.jobs.get(fact.job)
        if job is None:
            return
        if job.recoding and fact.items[0] in job.recoding:
            job.recoding.difference_update(fact.items)
        else:
            job.supplied += len(fact.items)
        alone = fact.items[0] in job.quarantine
        (job.alone if alone else job.ready).append(BatchBook(fact.batch, job, fact.items, alone=alone))
        self._dispatch(job)

    def _refused(self, fact: f.Refused) -> None:
        job = self.jobs.get(fact.job)
        if job is None:
            return
        if fact.index in job.recoding:
            job.recoding.discard(fact.index)
        else:
            job.supplied += 1
        self._item_failed_in(job)
        self._progressed(job)

    def _input_ended(self, fact: f.InputEnded) -> None:
        job = self.jobs.get(fact.job)
        if job is not None:
            job.total = fact.total
            self._progressed(job)

    def _input_broken(self, fact: f.InputBroken) -> None:
        job = self.jobs.get(fact.job)
        if job is not None:
            job.total, job.broken = fact.total, True
            self._progressed(job)

    def _cancel_asked(self, fact: f.CancelAsked) -> None:
        job = self.jobs.get(fact.job)
        if job is not None:
            self._end(job, fact.how)

    def _pause_asked(self, fact: f.PauseAsked) -> None:
        job = self.jobs.get(fact.job)
        if job is None or job.paused:
            return
        job.paused = True
        self._unqueue(job)
        for worker in self._holders(job):
            self._ask_back(worker, job, ALL)
        self._want(job.kind, -1)

    def _resume_asked(self, fact: f.ResumeAsked) -> None:
        job = self.jobs.get(fact.job)
        if job is None or not job.paused:
            return
        job.paused = False
        self._want(job.kind, +1)
        self._supply(job)
        self._dispatch(job)

    def _progressed(self, job: JobBook) -> None:
        if job.over:
            return
        if job.complete:
            self._end(job, "failed" if job.broken else "done")
        else:
            self._supply(job)

    def _item_failed_in(self, job: JobBook) -> None:
        job.ended += 1
        job.failed += 1
        if job.opened.stop_on_failure:
            self._end(job, "failed")

    def _end(self, job: JobBook, how: f.How) -> None:
        """The job is over for whoever waits; workers that still hold items of it are told to drop them."""
        self._retire_job(job)
        self._orders.append(f.End(job.id, how))
        self._after_job(job)

    def _retire_job(self, job: JobBook) -> None:
        job.over = True
        self.jobs.pop(job.id, None)
        self._unqueue(job)
        for worker in self.workers.values():
            if job.id not in worker.knows:
                continue
            worker.knows.discard(job.id)
            member = job.crew.get(worker.id)
            if member is not None and member.out and worker.state != "dying":
                worker.cancelling[job.id] = self._now + self._grace
                self._orders.append(f.CancelOn(worker.id, job.id))
            elif not job.opened.single:
                self._orders.append(f.ForgetOn(worker.id, job.id))

    def _after_job(self, job: JobBook) -> None:
        if not job.paused:
            self._want(job.kind, -1)
        self._check_end()

    # --- workers ---------------------------------------------------------------------------------------------------

    def _worker_ready(self, fact: f.WorkerReady) -> None:
        worker = self.workers[fact.worker]
        if worker.state != "starting":
            return
        self._start_failures = 0
        worker.state = "ready"
        worker.idle_since = self._now
        if self._both():
            self._arrange()
        self._refill(worker)

    def _worker_broken(self, fact: f.WorkerBroken) -> None:
        self._kill(self.workers[fact.worker], "it could not be set up")
        self._give_up()

    def _worker_gone(self, fact: f.WorkerGone) -> None:
        worker = self.workers.pop(fact.worker)
        ordered = worker.state == "dying"
        if worker.state == "starting":
            self._start_failures += 1
        for batch in worker.batches.values():
            self._salvage(worker, batch, fact, ordered=ordered)
        for job in list(self.jobs.values()):
            job.crew.pop(worker.id, None)
        self._pass_tokens(worker.id)
        if self._start_failures >= policy.START_FAILURES:
            self._give_up()
        if self._both():
            self._arrange()
        self._staff()
        self._check_end()

    def _salvage(self, worker: WorkerBook, batch: BatchBook, fact: f.WorkerGone, *, ordered: bool) -> None:
        """Question 5 for one batch of a dead worker."""
        job = batch.job
        if job.over:
            return
        running = [position for position in sorted(batch.pending) if (batch.id, position) in fact.running]
        waiting = sorted(batch.pending.difference(running))
        if running and not ordered:
            self._deaths += 1
        lost: list[int] = []
        alone: list[int] = []
        again = list(batch.indices(waiting))
        for position in running:
            index = batch.items[position]
            if not job.opened.rerun_lost:
                lost.append(index)
            elif ordered:
                again.append(index)
            elif batch.alone or self._deaths >= policy.DEATHS:
                lost.append(index)
            else:
                losses = job.losses[index] = job.losses.get(index, 0) + 1
                suspect = fact.stepping == (batch.id, position) or losses > 1
                (alone if suspect else again).append(index)
        self._rerun(job, again, alone)
        for index in lost:
            self._orders.append(f.SettleLost(job.id, index, worker.id))
            if not job.over:
                self._item_failed_in(job)
        self._progressed(job)

    def _rerun(self, job: JobBook, again: Sequence[int], alone: Sequence[int] = ()) -> None:
        if again:
            job.recoding.update(again)
            self._orders.append(f.Recode(job.id, tuple(again)))
        for index in alone:
            job.recoding.add(index)
            job.quarantine.add(index)
            self._orders.append(f.Recode(job.id, (index,)))

    def _finished(self, fact: f.Finished) -> None:
        worker, batch = self.workers[fact.worker], self.batch(fact.worker, fact.batch)
        count = len(fact.positions)
        self._close(worker, batch, fact.positions)
        worker.done += count
        job = batch.job
        if not job.over:
            self._deaths = 0
            job.ended += count
            job.measure(fact.seconds, count)
            if job.opened.single and job.kind == "def":
                self._single_mean = policy.smoothed(self._single_mean, fact.seconds, count)
            self._progressed(job)
        self._refill(worker)

    def _item_failed(self, fact: f.ItemFailed) -> None:
        worker, batch = self.workers[fact.worker], self.batch(fact.worker, fact.batch)
        self._close(worker, batch, (fact.position,))
        job = batch.job
        if not job.over:
            self._deaths = 0
            job.measure(fact.seconds, 1)
            self._item_failed_in(job)
            self._progressed(job)
        self._refill(worker)

    def _returned(self, fact: f.Returned) -> None:
        worker = self.workers[fact.worker]
        worker.asked.discard(fact.job)
        again: list[int] = []
        for number, pairs in itertools.groupby(zip(fact.batches, fact.positions, strict=True), lambda pair: pair[0]):
            batch = self.batch(fact.worker, number)
            positions = [position for _, position in pairs]
            self._close(worker, batch, positions)
            again.extend(batch.indices(positions))
        job = self.jobs.get(fact.job)
        if job is not None:
            if not again:
                worker.barren.add(job.id)
            self._rerun(job, again)
        self._refill(worker)

    def _cleared(self, fact: f.Cleared) -> None:
        worker = self.workers[fact.worker]
        worker.cancelling.pop(fact.job, None)
        for batch in [batch for batch in worker.batches.values() if batch.job.id == fact.job]:
            self._close(worker, batch, tuple(batch.pending))
        self._refill(worker)

    def _close(self, worker: WorkerBook, batch: BatchBook, positions: Sequence[int]) -> None:
        batch.close(positions)
        count = len(positions)
        worker.load -= count
        member = batch.job.crew.get(worker.id)
        if member is not None:
            member.out -= count
        worker.barren.discard(batch.job.id)
        if not batch.pending:
            del worker.batches[batch.id]
            worker.singles -= batch.job.opened.single
            if batch.job.opened.single:
                worker.knows.discard(batch.job.id)

    # --- who gets what ---------------------------------------------------------------------------------------------

    def _room(self, worker: WorkerBook, job: JobBook) -> bool:
        """Question 1."""
        if not worker.serves(job.kind):
            return False
        member = job.crew.get(worker.id)
        if job.opened.pinned:
            team = [other.id for other in self.workers.values() if other.staying and not other.extra]
            return not worker.extra and (member is None or all(other in job.crew for other in team))
        if job.opened.single:
            return job.kind == "async" or worker.singles <= policy.queued("def", 1, self._single_mean)
        if member is None and self._occupied(job) >= self._width(job):
            return False
        share = self._lanes(job, worker)
        return (member.out if member else 0) < share + policy.queued(job.kind, share, job.mean)

    def _occupied(self, job: JobBook) -> int:
        """Workers that have a part in the job: they hold items of it, or may be sent some."""
        return sum(
            member.out > 0 or ((worker := self.workers.get(number)) is not None and worker.serves(job.kind))
            for number, member in job.crew.items()
        )

    def _width(self, job: JobBook) -> int:
        """How many workers share the job's concurrency."""
        able = self.size
        if self._both():
            able = max(1, sum(w.reserved in (None, job.kind) for w in self.workers.values() if w.staying))
        return max(1, min(able, job.opened.concurrency))

    def _lanes(self, job: JobBook, worker: WorkerBook) -> int:
        member = job.crew.get(worker.id)
        width = self._width(job)
        rank = min(member.rank if member else len(job.crew), width - 1)
        return max(1, policy.lanes(job.opened.concurrency, width, rank))

    def _dispatch(self, job: JobBook) -> None:
        """Send what is ready of the job to whoever has room, and start workers for the rest."""
        if job.over or job.paused:
            return
        if job.alone:
            self._isolate(job)
        while job.ready:
            able = [worker for worker in self.workers.values() if self._room(worker, job)]
            if not able:
                break
            worker = min(able, key=lambda w: ((m := job.crew.get(w.id)) is not None and m.out, w.load))
            self._send(worker, job.ready.popleft())
        if job.ready or job.alone:
            self._queue(job)
            self._staff()
            if self._both():
                self._stalled.setdefault(job.kind, self._now)
        else:
            self._waiting.pop(job.id, None)

    def _isolate(self, job: JobBook) -> None:
        """Find a worker for a suspect: one that is empty, or else the emptiest, which takes nothing until it is."""
        while job.alone:
            able = [worker for worker in self.workers.values() if worker.serves(job.kind)]
            if not able:
                return
            worker = min(able, key=lambda worker: worker.load)
            if worker.load:
                worker.awaits_alone = True
                return
            worker.alone = True
            self._send(worker, job.alone.popleft())

    def _refill(self, worker: WorkerBook) -> None:
        """The worker has ended or given back something: give it more, of every job that waits."""
        if not worker.load:
            worker.kind = None
            worker.alone = worker.awaits_alone = False
            worker.idle_since = self._now
            for job in list(self._waiting.values()):
                if job.alone:
                    self._isolate(job)
        if worker.state == "retiring":
            self._part(worker)
            return
        for job in list(self._waiting.values()):
            while job.ready and self._room(worker, job):
                self._send(worker, job.ready.popleft())
            if not job.ready and not job.alone:
                del self._waiting[job.id]
        while self._singles and self._room(worker, self._singles[0]):
            self._send(worker, self._singles.popleft().ready.popleft())
        if not worker.load and worker.state == "ready":
            self._take_over(worker)

    def _queue(self, job: JobBook) -> None:
        if not job.opened.single or job.alone:
            self._waiting[job.id] = job
        elif job not in self._singles:
            self._singles.append(job)

    def _unqueue(self, job: JobBook) -> None:
        self._waiting.pop(job.id, None)
        if job.opened.single and job in self._singles:
            self._singles.remove(job)

    def _send(self, worker: WorkerBook, batch: BatchBook) -> None:
        job = batch.job
        lanes = 1 if job.opened.single else self._lanes(job, worker)
        member = job.join(worker.id)
        worker.kind = job.kind
        worker.idle_since = None
        worker.batches[batch.id] = batch
        worker.load += len(batch.items)
        worker.singles += job.opened.single
        member.out += len(batch.items)
        self._stalled.pop(job.kind, None)
        if job.id not in worker.knows:
            worker.knows.add(job.id)
            self._orders.append(f.SendFunction(worker.id, job.id))
        self._orders.append(f.SendBatch(worker.id, job.id, batch.id, lanes))

    def _take_over(self, idle: WorkerBook) -> None:
        """Question 4: ask the fullest worker for half of what may not have started there."""
        victims = [w for w in self.workers.values() if w.load > 1 and w.state == "ready" and not w.alone]
        for victim in sorted(victims, key=lambda w: -w.load):
            for batch in reversed(victim.batches.values()):
                job = batch.job
                if job.id in victim.asked or job.id in victim.barren or not self._wants_help(job, idle):
                    continue
                spare = victim.load - 1 if job.opened.single else job.crew[victim.id].out - 1
                if spare > 0:
                    self._ask_back(victim, job, 1 if job.opened.single else -(-spare // 2))
                    return

    def _wants_help(self, job: JobBook, idle: WorkerBook) -> bool:
        read = job.total is not None or job.opened.size is None
        return read and not job.over and not job.paused and not job.ready and self._room(idle, job)

    def _ask_back(self, worker: WorkerBook, job: JobBook, count: int) -> None:
        worker.asked.add(job.id)
        self._orders.append(f.SendAskBack(worker.id, job.id, count))

    def _holders(self, job: JobBook) -> list[WorkerBook]:
        return [self.workers[number] for number, member in job.crew.items() if member.out and number in self.workers]

    def _supply(self, job: JobBook) -> None:
        """Let the feeder read as far ahead as keeps everybody busy, and no further."""
        opened = job.opened
        if opened.single or opened.pinned or job.total is not None or job.over or job.paused:
            return
        width = self._width(job)
        share = max(1, opened.concurrency // width)
        size = opened.batch or policy.batch_size(
            job.kind, opened.concurrency, width, opened.size, job.mean, job.size_told
        )
        ahead = width * (share + policy.queued(job.kind, share, job.mean) + 2 * size)
        if opened.size is None and opened.window is not None:
            ahead = min(ahead, opened.window)
        upto = max(job.upto_told, job.ended + ahead)
        hungry = not job.ready and job.supplied - job.ended < width * share
        if upto - job.upto_told >= size or hungry != job.hungry_told:
            job.size_told, job.upto_told, job.hungry_told = size, upto, hungry
            self._orders.append(f.Supply(job.id, upto, size, hungry))

    # --- how many workers, and for whom ----------------------------------------------------------------------------

    def _both(self) -> bool:
        return self._demand["async"] > 0 and self._demand["def"] > 0

    def _want(self, kind: f.Kind, change: int) -> None:
        both = self._both()
        self._demand[kind] += change
        if self._both() != both:
            self._arrange()

    def _arrange(self) -> None:
        """Question 3: reserve workers for the kinds."""
        team = [worker for worker in self.workers.values() if worker.staying and not worker.extra]
        if not self._both():
            self._stalled.clear()
            for worker in team:
                worker.reserved = None
            for worker in [w for w in self.workers.values() if w.extra and w.staying]:
                self._retire(worker)
            for job in list(self.jobs.values()):
                self._dispatch(job)
            return
        quota: Counter[f.Kind] = Counter({"async": self.size // 2, "def": self.size - self.size // 2})
        if self.size == 1:
            first: f.Kind = next((w.kind for w in team if w.kind), next(iter(self.jobs.values())).kind)
            quota = Counter({first: 1})
        for worker in sorted(team, key=lambda worker: worker.kind is None):
            kept = worker.kind if worker.kind and quota[worker.kind] > 0 else None
            kind = kept or max(quota, key=lambda kind: quota[kind])
            quota[kind] -= 1
            worker.reserved = kind
            if worker.kind not in (None, kind):
                self._drain(worker)

    def _drain(self, worker: WorkerBook) -> None:
        for job in {batch.job.id: batch.job for batch in worker.batches.values()}.values():
            if not job.over and job.id not in worker.asked:
                self._ask_back(worker, job, ALL)

    def _staff(self) -> None:
        """Start workers while there is more work than workers, and places are free."""
        if self.state == "closed":
            return
        team = sum(worker.staying and not worker.extra for worker in self.workers.values())
        if team >= self.size:
            return
        need = 0
        for job in self.jobs.values():
            if not job.paused:
                need += min(job.opened.concurrency, job.supplied - job.ended)
            if need >= self.size:
                break
        for _ in range(min(self.size, need) - team):
            self._start()

    def _start(self, *, extra_for: f.Kind | None = None) -> None:
        taken = {worker.index for worker in self.workers.values() if worker.staying}
        first = self.size if extra_for else 0
        index = next(index for index in itertools.count(first) if index not in taken)
        number = next(self._worker_ids)
        self.workers[number] = WorkerBook(
            number, index, extra=extra_for is not None, reserved=extra_for, started_at=self._now
        )
        self._orders.append(f.StartWorker(number, index))
        if extra_for is None and self._both():
            self._arrange()

    def _retire(self, worker: WorkerBook) -> None:
        if not worker.staying:
            return
        if worker.state == "starting":
            self._kill(worker, "it is not needed any more")
            return
        worker.state = "retiring"
        self._drain(worker)
        self._part(worker)

    def _part(self, worker: WorkerBook) -> None:
        if not worker.load and not worker.hung_up:
            worker.hung_up = True
            self._orders.append(f.HangUp(worker.id))

    def _kill(self, worker: WorkerBook, why: str) -> None:
        if worker.state != "dying":
            worker.state = "dying"
            worker.cancelling.clear()
            self._orders.append(f.Kill(worker.id, why))
            self._staff()

    def _give_up(self) -> None:
        """Workers cannot start: whoever waits is told, instead of trying for ever."""
        for job in list(self.jobs.values()):
            self._retire_job(job)
            self._orders.append(f.EndStartFailed(job.id))
            self._after_job(job)

    # --- the pool --------------------------------------------------------------------------------------------------

    def _resized(self, fact: f.Resized) -> None:
        self.size = fact.size
        team = [worker for worker in self.workers.values() if worker.staying and not worker.extra]
        surplus = sorted(team, key=lambda worker: (worker.load > 0, -worker.index))[: max(0, len(team) - fact.size)]
        self._replace(surplus, fact.token, now=False)

    def _restart_asked(self, fact: f.RestartAsked) -> None:
        old = [worker for worker in self.workers.values() if worker.state != "starting"]
        self._replace(old, fact.token, now=fact.now)

    def _replace(self, workers: Sequence[WorkerBook], token: int, *, now: bool) -> None:
        self._tokens[token] = {worker.id for worker in workers}
        for worker in workers:
            if now:
                self._kill(worker, "the pool is restarted")
            else:
                self._retire(worker)
        self._pass_tokens(None)
        if self._both():
            self._arrange()
        self._staff()
        for job in list(self.jobs.values()):
            self._supply(job)
            self._dispatch(job)

    def _pass_tokens(self, gone: int | None) -> None:
        for token, left in list(self._tokens.items()):
            if gone is not None:
                left.discard(gone)
            if not left:
                del self._tokens[token]
                self._orders.append(f.Reached(token))

    def _close_asked(self, _: f.CloseAsked) -> None:
        if self.state == "open":
            self.state = "closing"
        self._check_end()

    def _terminate_asked(self, _: f.TerminateAsked) -> None:
        if self.state == "open":
            self.state = "closing"
        for job in list(self.jobs.values()):
            self._end(job, "cancelled")
        for worker in list(self.workers.values()):
            self._kill(worker, "the pool is terminated")
        self._check_end()

    def _check_end(self) -> None:
        if self.state != "closing" or self.jobs:
            return
        for worker in list(self.workers.values()):
            self._retire(worker)
        if not self.workers:
            self.state = "closed"
            self._orders.append(f.PoolEnded())

    # --- time ------------------------------------------------------------------------------------------------------

    def _time_passed(self, _: f.TimePassed) -> None:
        self._wake = None
        for worker in list(self.workers.values()):
            if worker.state == "starting" and self._now >= worker.started_at + self._start_timeout:
                self._start_failures += 1
                self._kill(worker, f"it did not start within {self._start_timeout:g} s")
            elif any(self._now >= until for until in worker.cancelling.values()):
                self._kill(worker, f"a cancelled item did not end within {self._grace:g} s")
            elif self._idle_timeout and worker.state == "ready" and worker.idle_since is not None:
                if self._now >= worker.idle_since + self._idle_timeout:
                    self._retire(worker)
        if self._start_failures >= policy.START_FAILURES:
            self._give_up()
        for kind, since in list(self._stalled.items()):
            if self._now >= since + policy.DRAIN_SECONDS:
                del self._stalled[kind]
                self._relieve(kind)

    def _relieve(self, kind: f.Kind) -> None:
        if not any(w.staying and w.reserved == kind and w.kind in (None, kind) for w in self.workers.values()):
            self._start(extra_for=kind)

    def _set_alarm(self) -> None:
        """Ask to be woken for the nearest deadline; one that moved away needs no order, an early alarm is harmless."""
        times = [since + policy.DRAIN_SECONDS for since in self._stalled.values()]
        for worker in self.workers.values():
            if worker.state == "starting":
                times.append(worker.started_at + self._start_timeout)
            elif worker.cancelling:
                times.append(min(worker.cancelling.values()))
            elif self._idle_timeout and worker.state == "ready" and worker.idle_since is not None:
                times.append(worker.idle_since + self._idle_timeout)
        nearest = min(times, default=None)
        if nearest is not None and (self._wake is None or nearest < self._wake):
            self._wake = nearest
            self._orders.append(f.WakeAt(nearest))


_HANDLERS: dict[type, Callable[[Ledger, Any], None]] = {
    f.JobOpened: Ledger._job_opened,
    f.Supplied: Ledger._supplied,
    f.Refused: Ledger._refused,
    f.InputEnded: Ledger._input_ended,
    f.InputBroken: Ledger._input_broken,
    f.CancelAsked: Ledger._cancel_asked,
    f.PauseAsked: Ledger._pause_asked,
    f.ResumeAsked: Ledger._resume_asked,
    f.WorkerReady: Ledger._worker_ready,
    f.WorkerBroken: Ledger._worker_broken,
    f.WorkerGone: Ledger._worker_gone,
    f.Finished: Ledger._finished,
    f.ItemFailed: Ledger._item_failed,
    f.Returned: Ledger._returned,
    f.Cleared: Ledger._cleared,
    f.Resized: Ledger._resized,
    f.RestartAsked: Ledger._restart_asked,
    f.CloseAsked: Ledger._close_asked,
    f.TerminateAsked: Ledger._terminate_asked,
    f.TimePassed: Ledger._time_passed,
}
