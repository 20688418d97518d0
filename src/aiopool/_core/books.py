"""What the parts of the ledger share: the books on jobs and workers, sums over them, the orders of this moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.facts import Kind
from aiopool._core.items import BatchBook, JobBook, Member
from aiopool._core.roster import Roster
from aiopool._core.workers import WorkerBook
from aiopool.errors import FrameError, InternalError

KINDS: tuple[Kind, Kind] = ("async", "def")
OTHER: dict[Kind, Kind] = {"async": "def", "def": "async"}

Whose = Literal["workers", "jobs", "suspects", "idle"]

ALL = 1 << 40
"""More items than a job may have: of so many parts of them none has any."""


class Books:
    """Everything that is known, without a will of its own. Its sums make the questions of every moment cheap.

    ``need``: items of a kind that could run at once; ``reading``: jobs of a kind that are not read to the end;
    ``loaded``: workers that hold items of a kind; ``open_singles``: submits of a kind that have not ended; ``waiting``
    and ``singles``: jobs and submits with something that has no worker; ``stayed``: submits that came back to a worker
    which had handed them back, and wait there for workers to change; ``idle``: workers that have nothing;
    ``waking``: jobs that wait for a time; ``spent``: workers that stay and have taken their last, because nobody begins
    more than ``max_tasks`` items. No batch is larger than ``largest``. ``curious`` says that something has happened
    after which an idle worker may ask others for work, ``changed_sides`` that a worker has ended the last item of a
    kind for which it is not reserved any more, or for which another one has waited.
    """

    def __init__(self, size: int, max_tasks: int | None = None) -> None:
        self.size = size
        self.max_tasks = max_tasks
        self.largest = policy.largest_batch(max_tasks)
        self.spent: dict[int, WorkerBook] = {}
        self.state: Literal["open", "closing", "closed"] = "open"
        self.now = 0.0
        self.orders: list[f.Command] = []
        self.jobs: dict[int, JobBook] = {}
        self.workers: dict[int, WorkerBook] = {}
        self.roster = Roster()
        self.need: dict[Kind, int] = {"async": 0, "def": 0}
        self.reading: dict[Kind, int] = {"async": 0, "def": 0}
        self.loaded: dict[Kind, int] = {"async": 0, "def": 0}
        self.open_singles: dict[Kind, int] = {"async": 0, "def": 0}
        self.waiting: dict[Kind, dict[int, JobBook]] = {"async": {}, "def": {}}
        # Taken from the front by the thousand, which a plain dict does in O(n) each.
        self.singles: dict[Kind, OrderedDict[int, JobBook]] = {"async": OrderedDict(), "def": OrderedDict()}
        self.idle: dict[int, WorkerBook] = {}
        self.waking: dict[int, JobBook] = {}
        self.curious = False
        self.stayed: list[tuple[WorkerBook, JobBook]] = []
        self._stayed_under: list[object] = []
        self.changed_sides = False
        self._dates: dict[Whose, float] = {}
        self._wake: float | None = None

    # --- looking up --------------------------------------------------------------------------------------------------

    def worker(self, number: int) -> WorkerBook:
        """The worker of this number, which must not be gone."""
        try:
            return self.workers[number]
        except KeyError:
            raise InternalError(f"a fact about worker {number}, which is gone or never was") from None

    def batch(self, worker: WorkerBook, number: int) -> BatchBook:
        """The batch that the worker holds under this number; FrameError where it holds none."""
        try:
            return worker.batches[number]
        except KeyError:
            raise FrameError(f"worker {worker.id} speaks of batch {number}, which it does not hold") from None

    def is_short(self, kind: Kind) -> bool:
        """Whether something of this kind has no worker."""
        return bool(self.waiting[kind] or self.singles[kind])

    def wants(self, kind: Kind) -> bool:
        """Whether items of this kind are to be sent, or are running and more will come."""
        return self.need[kind] > 0 and (self.reading[kind] > 0 or self.is_short(kind))

    # --- keeping the sums --------------------------------------------------------------------------------------------

    def weigh(self, job: JobBook) -> None:
        """What the job needs may have changed."""
        need, reading = job.weight()
        if need != job.need:
            self.need[job.kind] += need - job.need
            job.need = need
        if reading != job.reading:
            self.reading[job.kind] += 1 if reading else -1
            job.reading = reading

    def line_up(self, job: JobBook) -> None:
        """What waits of the job may have changed: put it where it will be found, or take it away."""
        eager = not (job.over or job.paused)
        single = job.opened.single
        if eager and (job.alone or (job.ready and not single)):
            self.waiting[job.kind][job.id] = job
        else:
            self.waiting[job.kind].pop(job.id, None)
        if single:
            if eager and job.ready:
                self.singles[job.kind][job.id] = job
            else:
                self.singles[job.kind].pop(job.id, None)

    def enter(self, worker: WorkerBook, batch: BatchBook, lanes: int) -> None:
        """The batch goes to the worker."""
        job = batch.job
        if worker.kind is None:
            worker.kind = job.kind
            self.loaded[job.kind] += 1
        worker.idle_since = None
        self.idle.pop(worker.id, None)
        worker.batches[batch.id] = batch
        batch.sent_at = self.now
        self.roster.change(worker, len(batch.items))
        worker.tasks -= len(batch.items)
        if worker.tasks < self.largest:
            worker.spent = True
            self.spent[worker.id] = worker
        worker.singles += job.opened.single
        worker.barren.discard(job.id)
        if job.id in worker.asks:
            # What it answers was asked before it got this, and says nothing about it.
            worker.asks[job.id] = [0] * len(worker.asks[job.id])
        job.crew.setdefault(worker.id, Member())
        job.take(worker.id, len(batch.items), lanes)

    def close(self, worker: WorkerBook, batch: BatchBook, positions: Sequence[int]) -> None:
        """These have ended or left; FrameError, and nothing has changed, where that cannot be."""
        batch.close(positions)
        job = batch.job
        self.roster.change(worker, -len(positions))
        if worker.overdue:
            for position in positions:
                worker.overdue.pop((batch.id, position), None)
        if not job.over:
            job.give(worker.id, len(positions))
        if not batch.pending:
            del worker.batches[batch.id]
            if job.opened.single:
                worker.singles -= 1
                if worker.jobs.pop(job.id, None) is not None:
                    job.part(worker.id)
        if not worker.load:
            self._empty(worker)

    def _empty(self, worker: WorkerBook) -> None:
        if worker.kind is not None:
            self.loaded[worker.kind] -= 1
            self.changed_sides |= worker.reserved not in {None, worker.kind}
            worker.kind = None
        worker.alone = False
        worker.idle_since = self.now
        self.free_heir(worker)
        if worker.state == "ready":
            self.idle[worker.id] = worker
            self.curious = True

    def free_heir(self, worker: WorkerBook) -> None:
        """The worker runs nothing any more: who has its place now may begin what it likes."""
        if worker.heir is not None:
            worker.heir.waits_for, worker.heir = None, None
            self.changed_sides = True

    def forgive(self, worker: WorkerBook, count: int) -> None:
        """So many of its items it has not begun and will not."""
        worker.tasks += count
        if worker.state == "ready" and worker.tasks >= self.largest:
            worker.spent = False
            self.spent.pop(worker.id, None)

    def release(self, worker: WorkerBook) -> JobBook | None:
        """The worker is not emptied for a job any more; the job."""
        job, worker.claim = worker.claim, None
        if job is not None:
            job.claims -= 1
        return job

    # --- orders ------------------------------------------------------------------------------------------------------

    def ask_back(self, worker: WorkerBook, job: JobBook, parts: int) -> None:
        """Order the worker to keep one of so many parts of what has not started, unless it was asked for that."""
        asks = worker.asks.get(job.id, [])
        if job.id not in worker.barren and parts not in asks:
            worker.asks[job.id] = [*asks, parts]
            self.orders.append(f.SendAskBack(worker.id, job.id, parts))

    def let_go_again(self) -> bool:
        """Have submits asked for once more that came back to the worker which had handed them back; whether that is so.

        Whoever asks for one is a worker without work; and as long as the workers are what they were when it came back,
        it would come back again.
        """
        workers = self.workers.values()
        arranged: list[object] = [
            (each.id, each.reserved, each.kind, each.load > 0, each.open_minded) for each in workers
        ]
        if not self._stayed_under:
            self._stayed_under = arranged
        if arranged == self._stayed_under:
            return False
        for worker, job in self.stayed:
            worker.barren.discard(job.id)
        self.stayed.clear()
        self._stayed_under = []
        self.curious = True
        return True

    def drain(self, worker: WorkerBook, *, for_good: bool = False) -> None:
        """Order the worker to hand back what has not started; ``for_good``: it will never take anything again.

        Else it keeps items that belong there, pinned ones and suspects: they would only come back, and two kinds could
        drive each other out of a worker for ever.
        """
        suspected = {batch.job.id for batch in worker.batches.values() if batch.trial is not None}
        for job in list(worker.jobs.values()):
            if job.crew[worker.id].out and (for_good or not (job.opened.pinned or job.id in suspected)):
                self.ask_back(worker, job, ALL)

    def wait(self, job: JobBook, time: float) -> None:
        """The job waits for this time."""
        self.waking[job.id] = job
        self.due(time, "jobs")

    def due(self, time: float, whose: Whose = "workers") -> None:
        """Workers or jobs have to be looked at then: order an alarm, unless one comes before."""
        self._dates[whose] = min(time, self._dates.get(whose, time))
        if self._wake is None or time < self._wake:
            self._wake = time
            self.orders.append(f.WakeAt(time))

    def woken(self) -> list[Whose]:
        """The alarm has come, for these: of them whoever still waits for a time must say so again."""
        self._wake = None
        come = [whose for whose, date in self._dates.items() if date <= self.now]
        for whose in come:
            del self._dates[whose]
        for whose, date in self._dates.items():
            self.due(date, whose)
        return come
