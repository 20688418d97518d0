"""Everything around a ledger, played in memory: users, feeders, pipes, workers, the clock.

A worker here is two pipes and what stands between them, so that facts and orders may cross: a batch arrives at a worker
that has been asked to drop its job, an item ends while it is asked back. Whoever drives the world says what happens
next; :meth:`World.play_out` plays fair until nothing more can happen.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Mapping

from aiopool._core import facts as f
from aiopool._core import frames
from tests.core.model import Job, Model, Spot, Worker


class World(Model):
    """A ledger and everything that it thinks it commands."""

    def __init__(self, size: int = 2, **options: float) -> None:
        super().__init__(size, **options)
        self.started: dict[tuple[int, Spot], None] = {}
        self._rings = 0
        self._job_ids = itertools.count(1)
        self._batch_ids = itertools.count(1)
        self._token_ids = itertools.count(1)

    # --- what a user does --------------------------------------------------------------------------------------------

    def open(
        self,
        kind: f.Kind = "async",
        length: int = 10,
        *,
        concurrency: int | None = None,
        sized: bool = True,
        refused: frozenset[int] = frozenset(),
        breaks: bool = False,
        poison: frozenset[int] = frozenset(),
        hidden: frozenset[int] = frozenset(),
        hogs: frozenset[int] = frozenset(),
        flaky: Mapping[int, int] | None = None,
        **options,
    ) -> Job:
        """Open a job.

        An item in ``poison`` kills its worker before it can end, so does one in ``hidden`` while another one is at
        work, and one in ``hogs`` by its memory. One in ``flaky`` fails so often.
        """
        single, pinned = options.get("single", False), options.get("pinned", False)
        if single:
            length, concurrency = 1, 1
        if concurrency is None and pinned:
            concurrency = self.ledger.size
        elif concurrency is None and kind == "async":
            concurrency = 100
        if not any(job.running for job in self.jobs.values()):
            self.deaths = 0
        number = next(self._job_ids)
        opened = f.JobOpened(number, kind, length if sized or single or pinned else None, concurrency, **options)
        job = self.jobs[number] = Job(opened, length, refused, breaks, poison, flaky or {}, hidden, hogs)
        job.asked_to_end = self.ledger.state != "open"
        self.tell(opened)
        if single or pinned:
            for index in range(length):
                job.read += 1
                self._supply(job, (index,))
            self._end_input(job)
        return job

    def submit(self, kind: f.Kind = "def", **options) -> Job:
        """Open a job of one item."""
        return self.open(kind, single=True, **options)

    def depart(self, kind: f.Kind, count: int, **options) -> list[Job]:
        """Send calls to the workers that the ledger names, and tell it afterwards; none where it names none."""
        takers = self.ledger.takers(kind, count)
        return [self._depart(kind, takers[at % len(takers)], options) for at in range(count)] if takers else []

    def _depart(self, kind: f.Kind, worker: int, options: dict) -> Job:
        number, batch = next(self._job_ids), next(self._batch_ids)
        opened = f.JobOpened(number, kind, 1, 1, single=True, **options)
        job = self.jobs[number] = Job(opened, 1)
        job.read, job.input_told = 1, True
        self.batches[batch] = job, (0,)
        job.batches[batch] = (0,)
        job.places[0] = "ready"
        self._on_send_function(f.SendFunction(worker, number))
        self._on_send_batch(f.SendBatch(worker, number, batch, 1))
        self.tell(f.Departed(opened, worker, batch))
        return job

    def cancel(self, job: Job, how: str = "cancelled") -> None:
        """Cancel a job."""
        job.asked_to_end = True
        self.tell(f.CancelAsked(job.id, how))

    def pause(self, job: Job) -> None:
        """Pause a job."""
        job.paused = True
        self.tell(f.PauseAsked(job.id))

    def resume(self, job: Job) -> None:
        """Resume a job."""
        job.paused = False
        self.tell(f.ResumeAsked(job.id))

    def resize(self, size: int) -> int:
        """Resize the pool; the token."""
        token = next(self._token_ids)
        self.tokens[token] = False
        self.tell(f.Resized(size, token))
        return token

    def restart(self, *, now: bool = False) -> int:
        """Restart the pool; the token."""
        token = next(self._token_ids)
        self.tokens[token] = False
        self.tell(f.RestartAsked(token, now=now))
        return token

    def restart_worker(self, worker: int, *, now: bool = False) -> int:
        """Restart one worker, which may be gone; the token."""
        token = next(self._token_ids)
        self.tokens[token] = False
        self.tell(f.WorkerRestartAsked(worker, token, now=now))
        return token

    def warm_up(self, count: int) -> None:
        """Have workers before there is work."""
        self.tell(f.WarmUpAsked(count))

    def change_start(self) -> None:
        """Workers do something else when they start."""
        self.tell(f.StartChanged())

    def close(self) -> None:
        """Close the pool."""
        self.tell(f.CloseAsked())

    def terminate(self) -> None:
        """End the pool."""
        for job in self.jobs.values():
            job.asked_to_end = True
        self.tell(f.TerminateAsked())

    # --- feeders -----------------------------------------------------------------------------------------------------

    def feed(self, job: Job, *, most: int | None = None, refuse_again: bool = False) -> bool:
        """Let the job's feeder do one thing; False when it has nothing to do."""
        if not job.running:
            return False
        if job.recodes:
            items = job.recodes.popleft()
            if refuse_again:
                self._refuse(job, items[0])
                items = items[1:]
            self._supply(job, items)
            return True
        if job.input_told:
            return False
        if job.read == job.length:
            self._end_input(job)
            return True
        count = min(job.size, most or job.size, job.upto - job.read, job.length - job.read)
        if count <= 0:
            return False
        items = tuple(range(job.read, job.read + count))
        job.read += count
        for index in items:
            if index in job.refused:
                self._refuse(job, index)
        self._supply(job, tuple(index for index in items if index not in job.refused))
        return True

    def _supply(self, job: Job, items: tuple[int, ...]) -> None:
        if items and job.running:
            batch = next(self._batch_ids)
            self.batches[batch] = job, items
            job.batches[batch] = items
            job.places.update(dict.fromkeys(items, "ready"))
            contiguous = items == tuple(range(items[0], items[0] + len(items)))
            self.tell(f.Supplied(job.id, batch, range(items[0], items[0] + len(items)) if contiguous else items))

    def _refuse(self, job: Job, index: int) -> None:
        if job.running:
            job.end_item(index, "refused")
            self.tell(f.Refused(job.id, index))

    def _end_input(self, job: Job) -> None:
        if job.running:
            job.input_told = True
            self.tell((f.InputBroken if job.breaks else f.InputEnded)(job.id, job.read))

    # --- workers -----------------------------------------------------------------------------------------------------

    def say_ready(self, worker: Worker) -> None:
        """The process is up."""
        worker.said_ready = True
        worker.outbox.append(f.WorkerReady(worker.id))

    def ready(self, *indices: int) -> None:
        """The workers at these places, or all, are up, and the ledger knows."""
        for worker in list(self.workers.values()):
            if not worker.said_ready and not worker.killed and (not indices or worker.index in indices):
                self.say_ready(worker)
                self.deliver(worker)

    def say_broken(self, worker: Worker, *, hopeless: bool = True) -> None:
        """The initializer raised."""
        worker.said_ready = True
        worker.stubborn = True
        worker.outbox.append(f.WorkerBroken(worker.id, hopeless=hopeless))

    def read(self, worker: Worker) -> bool:
        """The worker reads one order; False where there is none."""
        if worker.dead or worker.frozen or not worker.said_ready or not worker.inbox:
            return False
        order = worker.inbox.popleft()
        match order:
            case f.SendFunction(_, job):
                worker.functions.add(job)
                worker.cancelled.discard(job)
            case f.SendBatch(_, job, batch, lanes, _):
                assert job in worker.functions
                worker.lanes[job] = lanes
                spots = ((batch, position) for position in range(len(self.batches[batch][1])))
                worker.queues.setdefault(job, deque()).extend(spots)
            case f.SendAskBack(_, job, parts):
                queue = worker.queues.get(job, deque())
                back = [queue.pop() for _ in range(frames.AskBack(job, parts).of(len(queue)))]
                worker.outbox.append(
                    f.Returned(worker.id, job, tuple(spot[0] for spot in back), tuple(spot[1] for spot in back))
                )
            case f.CancelOn(_, job):
                worker.queues.pop(job, None)
                worker.cancelled.add(job)
                if job not in worker.running.values():
                    self.unwind(worker, job)
            case f.ForgetOn(_, job):
                worker.functions.remove(job)
                assert not worker.queues.pop(job, None)
            case f.SendPing():
                worker.outbox.append(f.WorkerAnswered(worker.id))
            case f.HangUp():
                assert not worker.running
                assert not any(worker.queues.values())
                self.die(worker)
        return True

    def unwind(self, worker: Worker, job: int) -> None:
        """What ran of a cancelled job has ended."""
        worker.running = {spot: number for spot, number in worker.running.items() if number != job}
        worker.late &= set(worker.running)
        worker.cancelled.discard(job)
        worker.functions.discard(job)
        worker.outbox.append(f.Cleared(worker.id, job))

    def startable(self, worker: Worker) -> list[int]:
        """Jobs of which the worker could start an item."""
        if worker.dead or worker.frozen:
            return []
        running = Counter(worker.running.values())
        able = [job for job, queue in worker.queues.items() if queue and running[job] < worker.lanes[job]]
        # One thread runs what shall run one by one.
        main = any(self._is_for_main(worker, job) for job in running)
        return [job for job in able if not (main and self._is_for_main(worker, job))]

    def _is_for_main(self, worker: Worker, job: int) -> bool:
        return self.jobs[job].opened.kind == "def" and worker.lanes[job] == 1

    def start(self, worker: Worker, job: int) -> Spot:
        """The worker starts an item."""
        spot = worker.queues[job].popleft()
        worker.running[spot] = job
        worker.started += 1
        assert worker.started <= (self.max_tasks or worker.started), "it begins more items than it may"
        self.started[worker.id, spot] = None
        book, items = self.batches[spot[0]]
        index = items[spot[1]]
        book.starts[index] += 1
        if book.running:
            attempt = book.fails[index] + 1
            assert attempt <= book.opened.retries + 1
            assert book.starts[index] <= attempt + book.deaths[index]
            assert book.starts[index] == attempt or book.opened.rerun_lost, "an item of a job that runs items once"
            assert self._runs_of(book, index) == 1, "two attempts of an item at once"
            counted = [worker] if book.opened.concurrency is None else list(self.workers.values())
            running = sum(number == job for other in counted for number in other.running.values())
            assert running <= (book.opened.concurrency or 1), "more items run than the job's concurrency allows"
        return spot

    def _runs_of(self, job: Job, index: int) -> int:
        return sum(
            number == job.id and self.batches[batch][1][position] == index
            for other in self.workers.values()
            for (batch, position), number in other.running.items()
        )

    def finish(
        self, worker: Worker, spots: list[Spot], *, fail: bool = False, seconds: float = 0.01, **error: float | None
    ) -> None:
        """These items, of one batch, end. If one of them is poison, the worker does.

        ``error`` says what an ItemFailed shall say. An item that is late fails, and so does one that is flaky.
        """
        batch = spots[0][0]
        book, items = self.batches[batch]
        if any(self._kills(worker, book, spot) for spot in spots):
            return
        positions = []
        for spot in sorted(spots):
            del worker.running[spot]
            index = items[spot[1]]
            if spot in worker.late:
                worker.late.remove(spot)
                again = bool(error.get("may_retry", book.opened.retry_timeouts))
                worker.outbox.append(
                    f.ItemFailed(worker.id, *spot, seconds, **(error | {"may_retry": again, "timed_out": True}))
                )
            elif fail or book.fails[index] < book.flaky.get(index, 0):
                worker.outbox.append(f.ItemFailed(worker.id, *spot, seconds, **({"may_retry": not fail} | error)))
            else:
                positions.append(spot[1])
        if positions:
            self._say_finished(worker, batch, positions, seconds)
        if book.opened.single:
            worker.functions.discard(book.id)
        if book.id in worker.cancelled and book.id not in worker.running.values():
            self.unwind(worker, book.id)

    def _kills(self, worker: Worker, book: Job, spot: Spot) -> bool:
        """Whether this item, instead of ending, ends its worker."""
        index = self.batches[spot[0]][1][spot[1]]
        if index in book.poison:
            self.die(worker, stepping=spot)
        elif index in book.hidden:
            self.die(worker, stepping=next((other for other in worker.running if other != spot), None))
        elif index in book.hogs:
            self.be_heavy(worker, far=True)
        return index in book.poison | book.hidden | book.hogs

    @staticmethod
    def _say_finished(worker: Worker, batch: int, positions: list[int], seconds: float) -> None:
        whole = positions == list(range(positions[0], positions[-1] + 1))
        named = range(positions[0], positions[-1] + 1) if whole else tuple(positions)
        worker.outbox.append(f.Finished(worker.id, batch, named, seconds * len(positions)))

    def be_late(self, worker: Worker, spot: Spot) -> None:
        """The item's time is over: the worker says so, and tells it to end."""
        worker.late.add(spot)
        worker.outbox.append(f.ItemOverdue(worker.id, *spot))

    def be_heavy(self, worker: Worker, *, far: bool = False) -> None:
        """The worker takes too much memory, which is seen from outside; what the ledger kills for that dies."""
        self.tell(f.WorkerHeavy(worker.id, far=far))
        if worker.killed:
            self.die(worker, stepping=next(iter(worker.running), None))

    def just_in_time(self, worker: Worker, spot: Spot) -> None:
        """An item ends with a value in the moment in which it was told to end."""
        worker.late.discard(spot)
        self.finish(worker, [spot])

    def die(self, worker: Worker, *, stepping: Spot | None = None, chance: float = 0.5) -> None:
        """The process is gone; what it had sent is told first."""
        if worker.dead:
            return
        worker.dead = True
        for spot, job in worker.running.items():
            self.jobs[job].deaths[self.batches[spot[0]][1][spot[1]]] += 1
        worker.outbox.append(f.WorkerGone(worker.id, frozenset(worker.running), stepping, chance))
        worker.inbox.clear()
        worker.running = {}
        worker.queues = {}
        worker.late = set()

    def deliver(self, worker: Worker, count: int = 1 << 30) -> bool:
        """Tell the ledger what the worker has sent; False where there is nothing."""
        told = False
        while worker.outbox and count:
            self.tell(worker.outbox.popleft())
            told = True
            count -= 1
        return told

    # --- fair play ---------------------------------------------------------------------------------------------------

    def bustle(self) -> bool:
        """Feeders feed, workers read and start what they may, the ledger hears of it; no item ends. False: all calm."""
        moved = False
        for job in list(self.jobs.values()):
            while self.feed(job):
                moved = True
        return self.bustle_workers() or moved

    def bustle_workers(self) -> bool:
        """The same, with all feeders asleep."""
        moved = False
        for worker in list(self.workers.values()):
            moved |= self._stir(worker)
        return moved

    def _stir(self, worker: Worker) -> bool:
        moved = False
        if worker.killed and not worker.dead:
            # What holds all of a process is what it is at.
            self.die(worker, stepping=next(iter(worker.running), None) if worker.frozen else None)
        while self.read(worker):
            moved = True
        while jobs := self.startable(worker):
            self.start(worker, jobs[0])
            moved = True
        return self.deliver(worker) or moved

    def calm(self) -> None:
        """Let everything happen that takes no time."""
        for _ in range(10_000):
            if not self.bustle():
                return
        raise AssertionError("it never comes to rest")

    def finish_one(self, *, seconds: float = 0.01) -> bool:
        """The item that has run for longest ends, if it is not stubborn; False where none runs."""
        for number, spot in list(self.started):
            worker = self.workers.get(number)
            if worker is None or worker.dead or spot not in worker.running:
                del self.started[number, spot]
            elif not (worker.frozen or (worker.stubborn and self._shall_end(worker, spot))):
                self.finish(worker, [spot], seconds=seconds)
                self.deliver(worker)
                return True
        return False

    @staticmethod
    def _shall_end(worker: Worker, spot: Spot) -> bool:
        return worker.running[spot] in worker.cancelled or spot in worker.late

    def thaw(self) -> bool:
        """What holds all of a worker's process lets go of it; False where nothing does."""
        for worker in self.workers.values():
            if worker.frozen and not worker.dead:
                worker.frozen = False
                return True
        return False

    def go_on(self) -> bool:
        """The next thing happens that takes time; False where nothing does."""
        if self.finish_one():
            self._rings = 0
            return True
        self._rings += 1
        # What holds a worker is given the time in which it may be found out.
        return (self._rings > 20 and self.thaw()) or self.ring() or self.thaw()

    def play_out(self) -> None:
        """Play fair until every job has ended."""
        for job in self.jobs.values():
            if job.paused and job.running:
                self.resume(job)
        for _ in range(10_000):
            self.calm()
            self.ready()
            self.calm()
            if not self.go_on():
                break
            if not any(job.running for job in self.jobs.values()) and not any(self.asks.values()):
                break
        assert {job.id: job.how for job in self.jobs.values() if job.running} == {}, "a job hangs"
        assert not any(self.asks.values()), "an AskBack is not answered"

    def play_to_the_end(self) -> None:
        """Play fair until every job has ended; close the pool, and play on until it has."""
        self.play_out()
        self.close()
        for _ in range(10_000):
            self.calm()
            if self.ended:
                break
            if not self.go_on():
                break
        assert self.ended, "the pool does not end"

    def ring(self) -> bool:
        """Let time pass until the alarm; False where none is set."""
        if self.alarm is None:
            return False
        self.now, self.alarm = max(self.now, self.alarm), None
        self.tell(f.TimePassed())
        return True

    # --- to be looked at ---------------------------------------------------------------------------------------------

    def at(self, index: int) -> Worker:
        """The worker at this place that came last."""
        return [worker for worker in self.workers.values() if worker.index == index][-1]

    def orders(self, *kinds: type) -> list[f.Command]:
        """What was ordered so far, of these kinds."""
        return [order for order in self.log if isinstance(order, kinds)]


def load(worker: Worker) -> int:
    """How many items the worker holds."""
    return sum(map(len, worker.held.values()))


def loads(world: World) -> list[int]:
    """How many items each worker holds, by place."""
    return [load(worker) for worker in sorted(world.workers.values(), key=lambda worker: worker.index)]


def ready_pool(size: int, kind: f.Kind = "def", **options) -> World:
    """A pool whose workers are all up and idle."""
    world = World(size, **options)
    job = world.open(kind, size, concurrency=size)
    world.calm()
    world.ready()
    world.play_out()
    assert job.how == "done"
    world.log.clear()
    return world
