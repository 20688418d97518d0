"""Who gets what: batches go to workers, and back where another worker idles.

Two measures keep it cheap. A job whose lanes are all taken need not look for a worker: one of those that hold its items
will end one, and take what waits. And a worker that has ended an item is offered this job's, not everybody's, unless
it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.books import KINDS, Books
from aiopool._core.facts import Kind
from aiopool._core.items import BatchBook, JobBook, Trial
from aiopool._core.team import Team
from aiopool._core.workers import WorkerBook


class Spread:
    """Matches what waits with who has room, after every fact: for what the fact has touched."""

    def __init__(self, books: Books, team: Team) -> None:
        self._books = books
        self._team = team
        self._single_mean: float | None = None
        self._measured = 0.0
        self._touched: dict[int, JobBook] = {}
        self._freed: dict[int, WorkerBook] = {}
        self._ended: list[tuple[WorkerBook, JobBook]] = []
        self._hungry: dict[int, tuple[WorkerBook, JobBook]] = {}
        self._looks_at = -math.inf

    def touch(self, job: JobBook) -> None:
        """Something of this job may find a worker now, or its input may be read on."""
        self._touched[job.id] = job

    def free(self, worker: WorkerBook) -> None:
        """The worker may have room for anybody now."""
        self._freed[worker.id] = worker

    def refill(self, worker: WorkerBook, job: JobBook) -> None:
        """The worker has ended or given back items of this job."""
        self._ended.append((worker, job))

    def unclaim(self, job: JobBook) -> bool:
        """One worker need not become empty for the job any more; False where none was to."""
        for worker in self._books.workers.values():
            if worker.claim is job:
                self._books.release(worker)
                self.free(worker)
                return True
        return False

    def learn_single(self, seconds: float, count: int) -> None:
        """So many submitted functions took so long together."""
        self._single_mean, self._measured = policy.smoothed(self._single_mean or 0.0, self._measured, seconds, count)

    def ahead(self, kind: Kind) -> int:
        """How many submits a worker may have at a time of which the ledger does not know."""
        return policy.UNLIMITED if kind == "async" else policy.ahead(self._single_mean)

    def run(self) -> None:
        """Send what can be sent, until nothing more can."""
        while True:
            if self._team.arrange():
                self._offer_everything()
            elif self._ended:
                self._refill(*self._ended.pop())
            elif self._freed:
                _, worker = self._freed.popitem()
                self._offer_all_to(worker)
            elif self._touched:
                _, job = self._touched.popitem()
                self._offer(job)
                self._feed(job)
            else:
                break
        if self._books.curious:
            self._books.curious = False
            self._take_over()
        while self._hungry:
            _, (worker, job) = self._hungry.popitem()
            self._ask_for_more(worker, job)

    # --- from a job to workers ---------------------------------------------------------------------------------------

    def _offer_everything(self) -> None:
        for kind in KINDS:
            for job in list(self._books.waiting[kind].values()):
                self._offer(job)
            self._offer_singles(kind)
        for job in self._books.jobs.values():
            self._feed(job)

    def _offer(self, job: JobBook) -> None:
        """Find workers for what is ready of a job."""
        if job.over or job.paused:
            return
        if job.opened.pinned:
            self._pin(job)
        elif job.alone:
            self._isolate(job)
        if job.opened.single:
            self._books.line_up(job)
            if next(iter(self._books.singles[job.kind].values()), None) is job:
                self._offer_singles(job.kind)  # Else others wait before it, for whom there is nobody.
            return
        if not job.opened.pinned:
            while self._goes(job) and self._has_lanes(job) and (worker := self._best(job)) is not None:
                self._send(worker, job.ready.popleft())
        self._books.line_up(job)

    def _offer_singles(self, kind: Kind) -> None:
        singles = self._books.singles[kind]
        while singles:
            job = next(iter(singles.values()))
            worker = self._best(job)
            if worker is None:
                return
            self._send(worker, job.ready.popleft())
            self._books.line_up(job)

    def _best(self, job: JobBook) -> WorkerBook | None:
        """Of the workers that can begin an item of the job at once, the one with the fewest of it, then of any."""
        crew, best, least = job.crew, None, 0
        # Where nobody holds anything else, who holds least has fewest of it; nobody behind a full one has room.
        sole, full = job.in_flight == self._books.roster.total, self._most_lanes(job)
        for worker in self._books.roster:
            member = crew.get(worker.id)
            out = member.out if member else 0
            if sole and out >= full:
                break
            if (best is None or out < least) and worker.serves(job.kind) and self._room(worker, job) > 0:
                best, least = worker, out
                if sole or not out:
                    break
        return best

    # --- room --------------------------------------------------------------------------------------------------------

    def _goes(self, job: JobBook) -> bool:
        """Whether something is ready and may be sent, room aside. What must run alone is not overtaken at a rate."""
        if job.opened.rate is None or not job.ready:
            return bool(job.ready)
        return not job.alone and job.may_start(self._books.now)

    def _has_lanes(self, job: JobBook) -> bool:
        """Whether it is worth while to look for a worker. A job of one item per worker has a lane for each of them."""
        concurrency = job.opened.concurrency
        if concurrency is None:
            return job.held < self._team.seats[job.kind]
        return job.held + job.claims < concurrency

    def _most_lanes(self, job: JobBook) -> int:
        """How many of the job's lanes one worker has at most."""
        concurrency = job.opened.concurrency
        return 1 if concurrency is None else -(-concurrency // min(self._team.width[job.kind], concurrency))

    def _share(self, worker: WorkerBook, job: JobBook) -> int:
        """How many of the job's lanes are for this worker."""
        concurrency = job.opened.concurrency
        if concurrency is None:
            return 1
        width = min(self._team.width[job.kind], concurrency)
        return concurrency // width + (worker.place < concurrency % width)

    def _room(self, worker: WorkerBook, job: JobBook, *, queue: bool = False) -> int:
        """How many more items of the job the worker could begin at once, or, with ``queue``, hold.

        A job's concurrency is never exceeded, not even while shares move: a worker whose share has shrunk gets
        nothing until it is certain that no more than its share is running, and one whose share has grown gets nothing
        until others have given up as many lanes as it could use. Lanes are told with a batch only, so with fewer it
        would be slow for the whole batch. What is sent of a job with a rate starts at once, all of it, or at least
        all that the worker could ever begin at once.
        """
        if job.opened.single:
            return self._room_for_single(worker, job.kind, queue=queue)
        share, member = self._share(worker, job), job.crew.get(worker.id)
        out = member.out if member else 0
        if member is not None and out > share < member.lanes:
            return 0
        rated, batch = job.opened.rate is not None, len(job.ready[0].items) if job.ready else 1
        if job.free_for(worker.id) < min(share, out + batch):
            return 0
        coming = self._team.coming[job.kind]
        most = share
        if queue and not rated and (job.mean is not None or not coming):
            most += policy.queued(job.kind, share, job.mean)
        if coming:
            # Whoever is ready first leaves the others, who are starting, their part.
            most = min(most, -(-job.left // self._team.expected[job.kind]))
        return 0 if rated and 0 < out > most - batch else most - out

    def _room_for_single(self, worker: WorkerBook, kind: Kind, *, queue: bool) -> int:
        most = policy.UNLIMITED if kind == "async" else 1
        if queue and kind == "def":
            most += policy.queued("def", 1, self._single_mean)
        if self._team.coming[kind]:
            most = min(most, -(-self._books.open_singles[kind] // self._team.expected[kind]))
        return most - worker.singles

    def _send(self, worker: WorkerBook, batch: BatchBook) -> None:
        job = batch.job
        member = job.crew.get(worker.id)
        # A pinned item goes to its place although that has more lanes than its share by now: those are in use.
        lanes = min(max(self._share(worker, job), member.held if member else 0), job.free_for(worker.id))
        if job.id not in worker.jobs:
            worker.jobs[job.id] = job
            self._books.orders.append(f.SendFunction(worker.id, job.id))
        worker.alone = batch.alone
        self._books.enter(worker, batch, lanes)
        if job.came_from == worker.id:
            # While it waited, whoever had asked for it became the other kind's: it would go to and fro.
            worker.barren.add(job.id)
            if job.kind == "def":
                # But what is before it there may take for ever.
                self._books.stayed.append((worker, job))
        if batch.trial is not None:
            self._try(worker, batch.trial)
        self._books.orders.append(f.SendBatch(worker.id, job.id, batch.id, lanes, batch.attempt))
        if job.opened.rate is not None:
            job.next_at = policy.next_start(job.next_at, self._books.now, len(batch.items), job.opened.rate)
            self._books.wait(job, job.next_at)
        if job.opened.timeout is not None:
            self._books.due(self._books.now + job.opened.timeout + policy.SILENCE_SECONDS)

    def _try(self, worker: WorkerBook, trial: Trial) -> None:
        """Suspects are sent: from now on it is waited so long for what becomes of them."""
        verdict = self._books.now + policy.VERDICT_SECONDS
        trial.until = math.inf
        if trial.suspicion is not None:
            trial.suspicion.until = verdict
        worker.alone_until = verdict + trial.survived
        self._books.due(verdict, "suspects")

    # --- from a worker to jobs ---------------------------------------------------------------------------------------

    def _refill(self, worker: WorkerBook, job: JobBook) -> None:
        """The worker may take more of this job, and if it is empty, of any."""
        if worker.load and worker.open_minded:
            self._offer_one_to(worker, job)
        else:
            self.free(worker)
        if not job.over:
            # Lanes that it gave up and cannot use itself are for others.
            if (job.ready or job.alone) and self._has_lanes(job):
                self.touch(job)
            else:
                self._feed(job)
                member = job.crew.get(worker.id)
                if member is not None and 0 < 2 * member.out <= member.lanes:
                    self._hungry[worker.id] = worker, job

    def _offer_one_to(self, worker: WorkerBook, job: JobBook) -> None:
        """The worker may hold more of this job than it can begin at once: work for a tenth of a second."""
        if job.opened.single:
            singles = self._books.singles[job.kind]
            while singles and worker.serves(job.kind) and self._room_for_single(worker, job.kind, queue=True) > 0:
                single = next(iter(singles.values()))
                self._send(worker, single.ready.popleft())
                self._books.line_up(single)
        elif job.ready and not (job.paused or job.over or job.opened.pinned) and worker.serves(job.kind):
            while self._goes(job) and not worker.spent and self._room(worker, job, queue=True) > 0:
                self._send(worker, job.ready.popleft())
            if not job.ready:
                self._books.line_up(job)

    def _offer_all_to(self, worker: WorkerBook) -> None:
        """The worker may take something of every job: it is empty, or has become free."""
        self._team.part(worker)
        if not worker.load and (claimed := self._books.release(worker)) is not None:
            self._offer(claimed)
        if not worker.open_minded:
            return
        for kind in KINDS:
            for job in list(self._books.waiting[kind].values()):
                if job.alone or job.opened.pinned:
                    self._offer(job)
                else:
                    self._offer_one_to(worker, job)
            if self._books.singles[kind]:
                self._offer_one_to(worker, next(iter(self._books.singles[kind].values())))
        if not worker.load:
            self._team.watch_idle(worker)

    # --- workers that are emptied for one item -----------------------------------------------------------------------

    def _isolate(self, job: JobBook) -> None:
        """Find workers for suspects: empty ones, or else let the emptiest ones become empty."""
        while job.alone and job.may_start(self._books.now):
            able = [worker for worker in self._books.workers.values() if worker.serves(job.kind)]
            worker = min(able, key=lambda worker: worker.load, default=None)
            if worker is None:
                break
            if worker.load:
                if not (self._has_lanes(job) and self._claim(worker, job)):
                    break
            elif (self._has_lanes(job) or self.unclaim(job)) and self._may_try(worker, job):
                self._send(worker, job.alone.popleft())
            else:
                break
        self.unclaim_beyond(job)

    def _may_try(self, worker: WorkerBook, job: JobBook) -> bool:
        """Whether others leave the worker lanes for a whole group: in fewer it would not be seen together."""
        return job.free_for(worker.id) >= min(self._share(worker, job), len(job.alone[0].items))

    def unclaim_beyond(self, job: JobBook) -> None:
        """No more workers need become empty for the job than it has batches for."""
        while job.claims > self._wanted_empty(job):
            self.unclaim(job)

    @staticmethod
    def _wanted_empty(job: JobBook) -> int:
        return len(job.alone) + (len(job.ready) if job.opened.pinned else 0)

    def _pin(self, job: JobBook) -> None:
        """Send each item of a pinned job to the place of its number, whatever the worker there is reserved for."""
        own = {worker.index: worker for worker in self._books.workers.values() if worker.staying and not worker.extra}
        for queue in (job.alone, job.ready):
            for batch in list(queue):
                worker = own.get(batch.items[0]) or self._anywhere(job, own.values())
                if worker is None or not worker.open_minded or not self._has_lanes(job):
                    continue
                if not worker.load or (worker.kind == job.kind and not batch.alone):
                    queue.remove(batch)
                    self._send(worker, batch)
                else:
                    self._claim(worker, job)

    @staticmethod
    def _anywhere(job: JobBook, workers: Iterable[WorkerBook]) -> WorkerBook | None:
        """The pool has shrunk, and the place of an item is no more: it has to go somewhere."""
        able = [worker for worker in workers if worker.open_minded]
        return min(able, key=lambda worker: (worker.kind not in {None, job.kind}, worker.load), default=None)

    def _claim(self, worker: WorkerBook, job: JobBook) -> bool:
        """Let the worker become empty for this job; False where enough workers do already."""
        if job.claims >= self._wanted_empty(job):
            return False
        worker.claim = job
        job.claims += 1
        self._books.drain(worker)
        return True

    # --- who has nothing to do asks others ---------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Let idle workers have some of what has not started elsewhere; one question at a time."""
        books = self._books
        if books.now < self._looks_at:
            books.due(self._looks_at, "idle")
            return
        self._looks_at = books.now + policy.look_again(books.size)
        tried: set[Kind | None] = set()
        for idle in books.idle.values():
            if idle.open_minded and idle.reserved not in tried:
                tried.add(idle.reserved)
                if self._ask_for(idle):
                    return

    def _ask_for(self, idle: WorkerBook) -> bool:
        """Ask the fullest worker that may have something for this one."""
        for victim in reversed(self._books.roster):
            if victim.load <= 1:
                break
            if victim.may_give and (job := self._spare_job(victim, idle)) is not None:
                # So many idle workers and the victim itself get the same part each.
                self._books.ask_back(victim, job, len(self._books.idle) + 1)
                return True
        return False

    def _ask_for_more(self, hungry: WorkerBook, job: JobBook) -> None:
        """Most of its lanes have nothing to do: items that queue elsewhere may do so behind some that take for ever."""
        if job.in_flight == job.held:
            return  # Nothing queues anywhere.
        queues = [(member.out - member.lanes, number) for number, member in job.crew.items() if number != hungry.id]
        surplus, number = max(queues, default=(0, 0))
        if surplus <= 0 or job.over or hungry.id not in self._books.workers:
            return
        victim = self._books.workers[number]
        if victim.may_give and hungry.open_minded and self._may_take(hungry, victim, job):
            self._books.ask_back(victim, job, 2)

    def _spare_job(self, victim: WorkerBook, idle: WorkerBook) -> JobBook | None:
        """The job that came to the victim last and of which it may hold something that has not started."""
        return next((job for job in reversed(victim.jobs.values()) if self._may_take(idle, victim, job)), None)

    def _may_take(self, taker: WorkerBook, victim: WorkerBook, job: JobBook) -> bool:
        """Whether there is sense in taking items of the job from the victim, as far as it has not started them."""
        opened = job.opened
        # What is still to be read, or made into batches again, comes to the other worker without any asking.
        read = job.total is not None or opened.size is None
        return (
            read
            and not (job.ready or job.recoding or job.paused or opened.pinned)
            and job.crew[victim.id].out > 0
            and not (opened.rate is not None and (job.kind == "async" or job.crew[victim.id].lanes > 1))
            and job.id not in victim.barren
            and not victim.asks.get(job.id)
            and taker.serves(job.kind)
            and self._room(taker, job) > 0
        )

    # --- reading on --------------------------------------------------------------------------------------------------

    def _feed(self, job: JobBook) -> None:
        """Let the feeder read as far ahead as keeps everybody busy, and no further."""
        opened = job.opened
        if opened.single or opened.pinned or job.total is not None or job.over or job.paused:
            return
        width = min(self._team.width[job.kind], job.limit)
        share = 1 if opened.concurrency is None else opened.concurrency // width
        size = opened.batch or policy.batch_size(
            job.kind, share=share, width=width, size=opened.size, mean=job.mean, before=job.size_told
        )
        size = min(size, self._books.largest)
        if opened.rate is not None:
            size = min(size, policy.rated_size(opened.rate, share))
        waiting = policy.queued(job.kind, share, job.mean)
        spare = 2 * size * width
        # Where there are few workers a batch of each size is read on the way, and each is a measure for the next.
        grows = width > policy.GROWTH and job.size_told is not None and size >= policy.GROWTH * job.size_told
        if opened.batch is None and opened.rate is None:
            unread = (job.upto_told - job.supplied) // (policy.UNREAD_MOST * width)
            size = max(size, min(unread, self._books.largest, policy.GROWTH * (job.size_told or 1)))
            waiting = 0 if grows else min(waiting, policy.GROWTH * size)
        if grows or job.mean is None:
            # The next batches are larger, and as quick to send. Items at workers that leave keep nobody else busy.
            spare = min(spare, policy.GROWING_MOST * size) + job.in_flight - job.held
        ahead, resting = width * (share + waiting) + spare, len(job.rest)
        if job.mean is None:
            # Among many workers the first have ended some before the last are sent any, which can then be larger.
            ahead = min(ahead, 2 * job.in_flight + policy.GROWING_MOST * size)
        if opened.size is None and opened.window is not None:
            ahead = min(ahead, opened.window)
            size = min(size, ahead)
            # Items that rest hold up nobody, but neither may a whole stream of them be kept.
            resting = min(resting, opened.window)
        upto = max(job.upto_told, job.ended + resting + ahead)
        hungry = not job.ready and job.in_flight < (opened.concurrency or width)
        if not hungry and upto - job.upto_told > size:
            upto -= (upto - job.upto_told) % size  # The rest of a batch would travel by itself.
        more = upto - job.upto_told
        # Less than a batch more is worth an order only if somebody waits and everything that was allowed has come.
        starved = hungry and more > 0 and job.upto_told - job.supplied < size
        # What has been allowed, but not read, is read in batches that are right by now.
        told = job.size_told or size
        if more >= size or starved or hungry != job.hungry_told or not told <= 2 * size <= 4 * told:
            job.size_told, job.upto_told, job.hungry_told = size, upto, hungry
            self._books.orders.append(f.Supply(job.id, upto, size, hungry))
