"""What must be true of a ledger's orders: a model that follows what it is told, and checks each of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.ledger import Ledger
from aiopool.errors import FrameError
from tests.core.audit import audit, portrait


@dataclass
class Job:
    """One job and its feeder. ``places`` says where each item is, ``ends`` how it ended, each time it did.

    ``poison`` are items that kill their worker, the ``hidden`` ones while another one is at work, the ``hogs`` by the
    memory that they take. ``flaky`` says how often an item fails before it has a value. ``fails``
    are attempts that failed, ``rests`` says until when an item rests, ``sent`` are the times at which something was.
    """

    opened: f.JobOpened
    length: int
    refused: frozenset[int] = frozenset()
    breaks: bool = False
    poison: frozenset[int] = frozenset()
    flaky: Mapping[int, int] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()
    hogs: frozenset[int] = frozenset()
    read: int = 0
    upto: int = 0
    size: int = 1
    hungry: bool = False
    input_told: bool = False
    paused: bool = False
    asked_to_end: bool = False
    how: str | None = None
    recodes: deque[tuple[int, ...]] = field(default_factory=deque)
    batches: dict[int, tuple[int, ...]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    ends: dict[int, list[str]] = field(default_factory=dict)
    starts: Counter[int] = field(default_factory=Counter)
    deaths: Counter[int] = field(default_factory=Counter)
    fails: Counter[int] = field(default_factory=Counter)
    rests: dict[int, float] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    sent: list[tuple[float, int]] = field(default_factory=list)

    @property
    def id(self) -> int:
        """Its number."""
        return self.opened.job

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.how is None

    def end_item(self, index: int, how: str) -> None:
        """An item has ended."""
        self.ends.setdefault(index, []).append(how)
        self.places[index] = "ended"

    def fail_item(self, index: int, now: float, *, again: bool, after: float | None, chance: float) -> bool:
        """An attempt has failed: the item rests; False if that was its last."""
        self.fails[index] += 1
        if not again or self.fails[index] > self.opened.retries:
            return False
        if after is None:
            after = self.opened.backoff
        if after is None:
            after = chance * min(30.0, 0.5 * 2 ** (self.fails[index] - 1))
        self.rests[index] = now + after
        self.places[index] = "resting"
        return True


Spot = tuple[int, int]


@dataclass
class Worker:
    """One worker process. ``held`` is what the ledger was not yet told to have ended, by batch.

    ``stubborn``: nothing there ends that shall end. ``frozen``: code in C holds all of it. ``late`` are items of which
    it has said that their time is over, ``overdue`` those of which the ledger knows it.
    """

    id: int
    index: int
    said_ready: bool = False
    told_ready: bool = False
    killed: bool = False
    hung_up: bool = False
    dead: bool = False
    stubborn: bool = False
    frozen: bool = False
    mute: bool = False
    heavy: bool = False
    started: int = 0
    heard_at: float = 0.0
    pinged_at: float | None = None
    late: set[Spot] = field(default_factory=set)
    overdue: set[Spot] = field(default_factory=set)
    inbox: deque[f.Command] = field(default_factory=deque)
    outbox: deque[f.Fact] = field(default_factory=deque)
    knows: set[int] = field(default_factory=set)
    functions: set[int] = field(default_factory=set)
    lanes: dict[int, int] = field(default_factory=dict)
    queues: dict[int, deque[Spot]] = field(default_factory=dict)
    running: dict[Spot, int] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    held: dict[int, set[int]] = field(default_factory=dict)
    sent_at: dict[int, float] = field(default_factory=dict)


class Model:
    """A ledger, what it was told and what it ordered, and what must be true of that."""

    def __init__(self, size: int = 2, **options: float) -> None:
        self.ledger = Ledger(size, **options)
        self.now = 100.0
        self.alarm: float | None = None
        self.jobs: dict[int, Job] = {}
        self.workers: dict[int, Worker] = {}
        self.batches: dict[int, tuple[Job, tuple[int, ...]]] = {}
        self.tokens: dict[int, bool] = {}
        self.ended = False
        self.start_troubles = 0
        self.deaths = 0
        self.max_tasks = options.get("max_tasks")
        self.memory_deaths: dict[int, int] = {}
        self.asks = Counter[tuple[int, int]]()
        self.log: list[f.Fact | f.Command] = []
        self._on_order = {
            f.StartWorker: self._on_start_worker,
            f.SendFunction: self._on_send_function,
            f.SendBatch: self._on_send_batch,
            f.SendAskBack: self._on_send_ask_back,
            f.SendPing: self._on_send_ping,
            f.CancelOn: self._on_cancel_on,
            f.ForgetOn: self._on_forget_on,
            f.HangUp: self._on_hang_up,
            f.Kill: self._on_kill,
            f.Supply: self._on_supply,
            f.Recode: self._on_recode,
            f.SettleFailed: self._on_settle_failed,
            f.SettleTimedOut: self._on_settle_timed_out,
            f.SettleLost: self._on_settle_lost,
            f.End: self._on_end,
            f.EndStartFailed: self._on_end_start_failed,
            f.Reached: self._on_reached,
            f.PoolEnded: self._on_pool_ended,
            f.WakeAt: self._on_wake_at,
        }

    # --- the runtime -------------------------------------------------------------------------------------------------

    def tell(self, fact: f.Fact) -> list[f.Command]:
        """Tell the ledger, carry out what it orders, check both."""
        self.log.append(fact)
        self._note(fact)
        orders = self.ledger.tell(fact, self.now)
        self.log.extend(orders)
        for order in orders:
            self._on_order[type(order)](order)
        self._check()
        return orders

    def refuse(self, fact: f.Fact) -> None:
        """Tell the ledger what cannot be: it says so and nothing has changed, but that it has heard something."""
        before = portrait(self.ledger)
        with pytest.raises(FrameError):
            self.ledger.tell(fact, self.now)
        assert portrait(self.ledger) == before
        worker = self.workers[fact.worker]
        worker.heard_at, worker.pinged_at = self.now, None

    def _note(self, fact: f.Fact) -> None:
        """What the model knows already when the ledger is told."""
        worker = self.workers.get(getattr(fact, "worker", -1))
        if worker is None:
            return
        if not isinstance(fact, f.WorkerGone | f.WorkerHeavy | f.WorkerRestartAsked | f.Departed):
            worker.heard_at, worker.pinged_at = self.now, None
        match fact:
            case f.WorkerReady():
                worker.told_ready = True
            case f.WorkerBroken(_, hopeless):
                self.start_troubles += hopeless
            case f.WorkerHeavy(_, far):
                worker.heavy |= far and worker.told_ready and not worker.killed
                self.start_troubles += not worker.held
            case f.WorkerGone():
                self._gone(self.workers.pop(worker.id), fact)
            case _:
                self._note_items(worker, fact)

    def _note_items(self, worker: Worker, fact: f.Fact) -> None:
        match fact:
            case f.Finished(_, batch, positions):
                self._ended(worker.id, batch, positions, "value")
            case f.ItemFailed():
                self._failed(fact)
            case f.ItemOverdue(_, batch, position):
                if position in worker.held.get(batch, ()):
                    worker.overdue.add((batch, position))
            case f.Returned(_, job, batches, positions):
                self.asks[worker.id, job] -= 1
                for batch, position in zip(batches, positions, strict=True):
                    self._left(worker.id, batch, position, "back")
            case f.Cleared(_, job):
                for batch in [batch for batch in worker.held if self.batches[batch][0].id == job]:
                    del worker.held[batch]

    def _ended(self, worker: int, batch: int, positions, how: str) -> None:
        job, items = self.batches[batch]
        for position in positions:
            self._left(worker, batch, position, "ended")
            if job.running:
                job.end_item(items[position], how)
                self.deaths = 0

    def _failed(self, fact: f.ItemFailed) -> None:
        self._left(fact.worker, fact.batch, fact.position, "ended")
        job, items = self.batches[fact.batch]
        if job.running:
            index, again = items[fact.position], fact.may_retry
            if not job.fail_item(index, self.now, again=again, after=fact.after, chance=fact.chance):
                job.end_item(index, "failed")
            self.deaths = 0

    def _left(self, worker: int, batch: int, position: int, place: str) -> None:
        held = self.workers[worker].held
        self.workers[worker].overdue.discard((batch, position))
        held[batch].remove(position)
        if not held[batch]:
            del held[batch]
        job, items = self.batches[batch]
        job.places[items[position]] = place

    def _gone(self, worker: Worker, fact: f.WorkerGone) -> None:
        if not worker.told_ready or not fact.running:
            self.start_troubles += 1
        late = self._late(worker, fact)
        innocent = (worker.killed or worker.hung_up) and (bool(late) or not (worker.mute or worker.heavy))
        if worker.heavy:
            self.memory_deaths[worker.id] = len(fact.running)
        elif worker.told_ready and not innocent:
            self.deaths += 1
        for ask in [ask for ask in self.asks if ask[0] == worker.id]:
            del self.asks[ask]
        for batch, positions in worker.held.items():
            job, items = self.batches[batch]
            for position in positions:
                spot, index = (batch, position), items[position]
                if spot in late and job.running and (innocent or not job.opened.rerun_lost):
                    again = job.opened.retry_timeouts
                    if not job.fail_item(index, self.now, again=again, after=None, chance=fact.chance):
                        job.places[index] = "late"
                else:
                    job.places[index] = "lost" if spot in fact.running or spot in late else "back"

    def _late(self, worker: Worker, fact: f.WorkerGone) -> set[Spot]:
        late = {spot for spot in worker.overdue if self.batches[spot[0]][0].running}
        spot = fact.stepping
        if spot is None and len(fact.running) == 1:
            (spot,) = fact.running
        if worker.mute and spot is not None and self._had_its_time(worker, spot):
            late.add(spot)
        return late

    def _had_its_time(self, worker: Worker, spot: Spot) -> bool:
        timeout = self.batches[spot[0]][0].opened.timeout
        silent_since = max(worker.heard_at, worker.sent_at[spot[0]])
        return timeout is not None and spot[1] in worker.held.get(spot[0], ()) and silent_since + timeout <= self.now

    def _check(self) -> None:
        audit(self.ledger)
        for job in self.jobs.values():
            if job.running:
                held = self.ledger.jobs[job.id].suspended
                assert all(job.places[index] == "lost" for index in held)
                stranded = {index for index, place in job.places.items() if place in {"back", "lost", "late"}} - held
                assert not stranded, f"nobody cares for items {stranded} of job {job.id}"

    # --- what the ledger orders --------------------------------------------------------------------------------------

    def _on_start_worker(self, order: f.StartWorker) -> None:
        assert order.worker not in self.workers
        assert not self.ended
        self.workers[order.worker] = Worker(order.worker, order.index)

    def _listening(self, worker: int) -> Worker:
        book = self.workers[worker]
        assert book.told_ready, "nothing is sent to a worker that is starting"
        assert not book.killed, "nothing is sent to a worker that was killed"
        assert not book.hung_up, "nothing is sent to a worker that was hung up on"
        return book

    def _running_job(self, number: int) -> Job:
        assert self.jobs[number].running, "nothing of a job follows its end"
        return self.jobs[number]

    def _on_send_function(self, order: f.SendFunction) -> None:
        worker, job = self._listening(order.worker), self._running_job(order.job)
        assert order.job not in worker.knows or job.opened.single
        worker.knows.add(order.job)
        worker.inbox.append(order)

    def _on_send_batch(self, order: f.SendBatch) -> None:
        worker, job = self._listening(order.worker), self._running_job(order.job)
        assert self.ledger.workers[worker.id].state == "ready" or self.ledger.workers[worker.id].spent
        assert order.job in worker.knows, "the function comes before the first batch"
        assert not job.paused, "nothing of a paused job is sent"
        kinds = {self.batches[batch][0].opened.kind for batch in worker.held}
        assert kinds <= {job.opened.kind}, "both kinds at one worker"
        items = job.batches.pop(order.batch)
        assert order.lanes >= 1
        if job.opened.pinned:
            self._check_pinned(worker, items)
        for index in items:
            assert job.places[index] == "ready"
            job.places[index] = "sent"
        assert {job.fails[index] + 1 for index in items} == {order.attempt}
        if job.opened.rate is not None:
            self._check_rate(worker, job, len(items), order.lanes)
        worker.held[order.batch] = set(range(len(items)))
        worker.sent_at[order.batch] = self.now
        worker.inbox.append(order)

    def _check_rate(self, worker: Worker, job: Job, count: int, lanes: int) -> None:
        """Over any time that ends now no more has started than the rate allows, and one batch.

        But for what an alarm was late, so that many that are a little late do not add up.
        """
        rate, started = job.opened.rate, 0
        assert count <= max(1, rate * policy.RATED_SECONDS)
        for time, before in reversed(job.sent):
            started += before
            assert started <= rate * (self.now - time + policy.RATED_SECONDS) + 1e-6, "more starts than the rate allows"
        job.sent.append((self.now, count))
        out = sum(len(held) for batch, held in worker.held.items() if self.batches[batch][0] is job)
        assert out == 0 or out + count <= lanes, "what is sent at a rate starts when it is sent"

    def _check_pinned(self, worker: Worker, items: tuple[int, ...]) -> None:
        assert len(items) == 1
        own = [book for book in self.ledger.workers.values() if book.staying and not book.extra]
        assert worker.id in {book.id for book in own} or self.ledger.workers[worker.id].spent
        assert worker.index == items[0] or items[0] not in {book.index for book in own}, "the item has its own place"

    def _on_send_ask_back(self, order: f.SendAskBack) -> None:
        assert order.parts > 1
        self._running_job(order.job)
        self.asks[order.worker, order.job] += 1
        self._listening(order.worker).inbox.append(order)

    def _on_send_ping(self, order: f.SendPing) -> None:
        worker = self._listening(order.worker)
        assert worker.pinged_at is None, "it is asked once"
        limits = [
            max(worker.heard_at, worker.sent_at[batch]) + job.opened.timeout
            for batch in worker.held
            if (job := self.batches[batch][0]).opened.timeout is not None and job.running
        ]
        assert self.now >= min(limits) + policy.SILENCE_SECONDS
        worker.pinged_at = self.now
        worker.inbox.append(order)

    def _on_cancel_on(self, order: f.CancelOn) -> None:
        worker = self._listening(order.worker)
        self._running_job(order.job)
        worker.knows.remove(order.job)
        worker.inbox.append(order)

    def _on_forget_on(self, order: f.ForgetOn) -> None:
        worker = self._listening(order.worker)
        self._running_job(order.job)
        worker.knows.remove(order.job)
        worker.inbox.append(order)

    def _on_hang_up(self, order: f.HangUp) -> None:
        worker = self._listening(order.worker)
        assert not worker.held, "a worker that holds something is not hung up on"
        worker.hung_up = True
        worker.inbox.append(order)

    def _on_kill(self, order: f.Kill) -> None:
        worker = self.workers[order.worker]
        assert not worker.killed
        assert order.why
        worker.killed = True
        if "does not answer" in order.why:
            worker.mute = True
            assert worker.pinged_at is not None
            assert self.now >= worker.pinged_at + policy.ANSWER_SECONDS
        assert ("far more memory" in order.why) == worker.heavy
        self.start_troubles += "start" in order.why and not worker.told_ready

    def _on_supply(self, order: f.Supply) -> None:
        job = self._running_job(order.job)
        assert order.upto >= job.upto
        assert order.size >= 1
        job.upto, job.size, job.hungry = order.upto, order.size, order.hungry

    def _on_recode(self, order: f.Recode) -> None:
        job = self._running_job(order.job)
        assert order.items
        for index in order.items:
            assert job.places[index] in {"back", "lost", "resting"}
            assert job.places[index] != "lost" or job.opened.rerun_lost, "it may have started, and may only once"
            if job.places[index] == "resting":
                assert not job.paused
                assert self.now >= job.rests[index], "it rests"
            job.places[index] = "recoding"
        job.recodes.append(tuple(order.items))

    def _on_settle_failed(self, order: f.SettleFailed) -> None:
        job = self._running_job(order.job)
        assert job.ends[order.index] == ["failed"]
        self._check_settled(job, order.index, order.attempts)

    def _on_settle_timed_out(self, order: f.SettleTimedOut) -> None:
        job = self._running_job(order.job)
        assert job.opened.timeout is not None
        assert job.places[order.index] == "late"
        job.end_item(order.index, "timed out")
        self._check_settled(job, order.index, order.attempts)

    @staticmethod
    def _check_settled(job: Job, index: int, attempts: int) -> None:
        assert attempts == job.fails[index] <= job.opened.retries + 1
        assert index not in job.settled
        job.settled.add(index)

    def _on_settle_lost(self, order: f.SettleLost) -> None:
        job = self._running_job(order.job)
        assert job.places[order.index] == "lost"
        assert order.attempts == job.fails[order.index] + 1
        # Among others, then alone; or nobody gets another chance any more.
        convicted = job.deaths[order.index] >= 2 or self.deaths >= policy.DEATHS
        assert (order.reason == "memory") == (order.worker in self.memory_deaths)
        assert convicted or not job.opened.rerun_lost or self.memory_deaths.get(order.worker) == 1
        job.end_item(order.index, "lost")

    def _on_end(self, order: f.End) -> None:
        job = self._running_job(order.job)
        job.how = order.how
        failures = [how for hows in job.ends.values() for how in hows if how != "value"]
        if order.how in {"cancelled", "stopped"}:
            assert job.asked_to_end
        elif order.how == "failed" and failures and job.opened.stop_on_failure:
            assert len(failures) == 1
        else:
            assert job.input_told
            assert order.how == ("failed" if job.breaks else "done")
            assert sorted(job.ends) == list(range(job.read)), "every item has ended"
        failed = {index for index, hows in job.ends.items() if hows in (["failed"], ["timed out"])}
        assert job.asked_to_end or job.settled == failed, "how it ended is told of everything that failed"
        self._check_ends(job)

    def _on_end_start_failed(self, order: f.EndStartFailed) -> None:
        assert self.start_troubles
        self._running_job(order.job).how = "start failed"
        self._check_ends(self.jobs[order.job])

    @staticmethod
    def _check_ends(job: Job) -> None:
        assert all(len(hows) == 1 for hows in job.ends.values()), "no item ends twice"

    def _on_reached(self, order: f.Reached) -> None:
        assert not self.tokens[order.token]
        self.tokens[order.token] = True

    def _on_pool_ended(self, _: f.PoolEnded) -> None:
        assert not self.ended
        assert not self.workers
        assert not any(job.running for job in self.jobs.values())
        assert all(self.tokens.values())
        self.ended = True

    def _on_wake_at(self, order: f.WakeAt) -> None:
        self.alarm = order.time
