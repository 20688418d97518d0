"""The ledger against everything that can happen, in any order: hypothesis plays the world, a model checks.

What is checked at every order stands in :mod:`tests.core.model`, what is checked after every fact in
:mod:`tests.core.audit`. In the end everything plays fair, and then every job must end, and the pool.
"""

from __future__ import annotations

import copy
import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aiopool._core import facts as f
from tests.core.conftest import PROFILE
from tests.core.model import Spot
from tests.core.world import Job, Worker, World

few = st.integers(0, 7)
errors = st.fixed_dictionaries(
    {
        "may_retry": st.sampled_from([True, True, False]),
        "after": st.sampled_from([None, None, 0.0, 0.7, 40.0]),
        "chance": st.sampled_from([0.0, 0.3, 0.99]),
    }
)
ends = st.tuples(st.sampled_from([False] * 4 + [True]), st.sampled_from([0.0, 1e-4, 0.05, 3.0]), errors)


def pick(things, number):
    """One of these."""
    return things[number % len(things)]


def left_by(ledger):
    """What a ledger knows of its workers, and who would get what comes next."""
    workers = [
        (each.id, each.state, each.kind, each.reserved, each.load, each.singles, each.done, each.tasks, each.idle_since)
        for each in ledger.workers.values()
    ]
    return workers, set(ledger._books.idle), ledger._books.need, ledger._books.loaded, ledger._spread._single_mean


class LedgerMachine(RuleBasedStateMachine):
    """Runtime, feeders, workers and clock, all at odds. ``few`` numbers choose among what there is."""

    @initialize(
        size=st.integers(1, 4),
        grace=st.sampled_from([0.0, 2.0]),
        idle_timeout=st.sampled_from([None, 5.0]),
        max_tasks=st.sampled_from([None, None, 1, 3, 20]),
    )
    def begin(self, size, grace, idle_timeout, max_tasks=None):
        """A pool of some size, with or without patience; its workers may be good for a few items only."""
        self.world = World(size, grace=grace, idle_timeout=idle_timeout, max_tasks=max_tasks)

    # --- choosing ----------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Jobs that have not ended."""
        return [job for job in self.world.jobs.values() if job.running]

    def hungry(self) -> list[Job]:
        """Jobs whose feeder has something to do."""
        return [
            job
            for job in self.jobs()
            if job.recodes or not (job.input_told or (job.read == job.upto and job.read < job.length))
        ]

    def alive(self) -> list[Worker]:
        """Workers whose process is there."""
        return [worker for worker in self.world.workers.values() if not worker.dead]

    def starting(self) -> list[Worker]:
        """Workers that have said nothing yet."""
        return [worker for worker in self.alive() if not worker.said_ready]

    def reading(self) -> list[Worker]:
        """Workers that have an order to read."""
        return [worker for worker in self.alive() if worker.said_ready and worker.inbox and not worker.frozen]

    def eager(self) -> list[Worker]:
        """Workers that could start an item."""
        return [worker for worker in self.alive() if self.world.startable(worker)]

    def busy(self) -> list[Worker]:
        """Workers that run something, and may end it."""
        return [worker for worker in self.alive() if worker.running and not worker.frozen]

    def too_slow(self) -> list[tuple[Worker, Spot]]:
        """Items whose time may be over, and nobody has said so."""
        return [
            (worker, spot)
            for worker in self.busy()
            for spot, job in worker.running.items()
            if self.world.jobs[job].opened.timeout is not None and spot not in worker.late
        ]

    def late(self) -> list[tuple[Worker, Spot]]:
        """Items that were told to end, because their time is over."""
        return [(worker, spot) for worker in self.busy() for spot in sorted(worker.late)]

    def talking(self) -> list[Worker]:
        """Workers of which the ledger has not heard everything."""
        return [worker for worker in self.world.workers.values() if worker.outbox]

    def unwinding(self) -> list[Worker]:
        """Workers that run items of a cancelled job and will end them."""
        return [worker for worker in self.busy() if worker.cancelled and not worker.stubborn]

    # --- users -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.jobs()) < 6)
    @rule(
        kind=st.sampled_from(["async", "def"]),
        length=st.sampled_from([0, 1, 2, 3, 5, 9, 30]),
        concurrency=st.sampled_from([None, 1, 2, 3, 7]),
        sized=st.booleans(),
        batch=st.sampled_from([None, None, 1, 3, 50]),
        window=st.sampled_from([None, 1, 3, 20]),
        rerun_lost=st.booleans(),
        stop_on_failure=st.booleans(),
        refused=st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({1, 4})]),
        breaks=st.sampled_from([False, False, False, True]),
        poison=st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({1, 2, 7})]),
        hidden=st.sampled_from([frozenset(), frozenset(), frozenset({2}), frozenset({0, 5})]),
        hogs=st.sampled_from([frozenset(), frozenset(), frozenset({3}), frozenset({0, 4})]),
        flaky=st.sampled_from([{}, {}, {0: 1}, {1: 2, 3: 9, 5: 1}]),
        attempts=st.sampled_from([{}, {"retries": 1}, {"retries": 3, "backoff": 0.2}, {"retries": 2, "backoff": 0.0}]),
        timeout=st.sampled_from([None, None, 0.5, 20.0]),
        retry_timeouts=st.booleans(),
        rate=st.sampled_from([None, None, 0.5, 20.0, 150.0]),
    )
    def open_map(self, attempts=None, **options):
        """A user maps."""
        self.world.open(**options, **(attempts or {}))

    @precondition(lambda self: len(self.jobs()) < 12)
    @rule(kind=st.sampled_from(["async", "def"]), times=st.integers(1, 5), rerun_lost=st.booleans())
    def submit(self, kind, times, rerun_lost):
        """A user submits, several times."""
        for _ in range(times):
            self.world.submit(kind, rerun_lost=rerun_lost)

    @precondition(lambda self: len(self.jobs()) < 6)
    @rule(kind=st.sampled_from(["async", "def"]), beyond=st.integers(0, 2), rerun_lost=st.booleans())
    def broadcast(self, kind, beyond, rerun_lost):
        """A user broadcasts, to more places than there are perhaps."""
        self.world.open(kind, self.world.ledger.size + beyond, pinned=True, rerun_lost=rerun_lost)

    @precondition(jobs)
    @rule(number=few, how=st.sampled_from(["cancelled", "stopped"]))
    def cancel(self, number, how):
        """A user cancels."""
        self.world.cancel(pick(self.jobs(), number), how)

    @precondition(jobs)
    @rule(number=few)
    def pause_or_resume(self, number):
        """A user pauses what runs, resumes what is paused."""
        job = pick(self.jobs(), number)
        (self.world.resume if job.paused else self.world.pause)(job)

    @rule(size=st.integers(1, 5))
    def resize(self, size):
        """A user resizes."""
        self.world.resize(size)

    @rule(now=st.booleans())
    def restart(self, now):
        """A user restarts."""
        self.world.restart(now=now)

    @rule(count=st.integers(1, 5))
    def warm_up(self, count):
        """Somebody will want workers soon; no more than the pool may have come, and none while none can start."""
        before = len(self.world.orders(f.StartWorker))
        self.world.warm_up(count)
        ledger = self.world.ledger
        own = [worker for worker in ledger.workers.values() if worker.staying and not worker.extra]
        hopeless = ledger._team.is_hopeless or ledger.state != "open"
        assert len(own) >= min(count, ledger.size) or hopeless
        assert not hopeless or len(self.world.orders(f.StartWorker)) == before

    @rule()
    def start_changes(self):
        """Workers that could not start may be able to now."""
        self.world.change_start()

    @rule(number=few, now=st.booleans(), gone=st.sampled_from([False] * 4 + [True]))
    def restart_one(self, number, now, gone):
        """A user restarts one worker, which may be starting, leaving or gone, or never have been."""
        workers = list(self.world.ledger.workers)
        chosen = 10**9 if gone or not workers else pick(workers, number)
        token = self.world.restart_worker(chosen, now=now)
        assert self.world.tokens[token] or chosen in workers, "nobody waits for who is not there"

    @precondition(lambda self: len(self.world.log) > 100)
    @rule(number=few)
    def close(self, number):
        """A user closes the pool; seldom, because little happens after it."""
        if number == 0:
            self.world.close()

    @precondition(lambda self: len(self.world.log) > 200)
    @rule(number=few)
    def terminate(self, number):
        """A user ends the pool; seldom, too."""
        if number == 0:
            self.world.terminate()

    # --- feeders -----------------------------------------------------------------------------------------------------

    @precondition(hungry)
    @rule(number=few, most=st.sampled_from([None, 1, 2]), refuse_again=st.sampled_from([False] * 9 + [True]))
    def feed(self, number, most, refuse_again):
        """A feeder makes a batch, perhaps a part of one; an item that runs again may be refused."""
        self.world.feed(pick(self.hungry(), number), most=most, refuse_again=refuse_again)

    @precondition(hungry)
    @rule(number=few)
    def feed_all(self, number):
        """A feeder makes all that it may."""
        job = pick(self.hungry(), number)
        while self.world.feed(job):
            pass

    # --- workers -----------------------------------------------------------------------------------------------------

    @precondition(starting)
    @rule(number=few, tell=st.booleans())
    def worker_is_ready(self, number, tell):
        """A worker is up; the ledger hears of it now or later."""
        worker = pick(self.starting(), number)
        self.world.say_ready(worker)
        if tell:
            self.world.deliver(worker)

    @precondition(starting)
    @rule(tell=st.booleans())
    def workers_are_ready(self, tell):
        """All are up."""
        for worker in self.starting():
            self.world.say_ready(worker)
            if tell:
                self.world.deliver(worker)

    @precondition(starting)
    @rule(number=few, luck=st.integers(0, 3), hopeless=st.booleans())
    def worker_is_broken(self, number, luck, hopeless):
        """An initializer raises; it may be one that the next worker does not run any more."""
        if luck == 0:
            worker = pick(self.starting(), number)
            self.world.say_broken(worker, hopeless=hopeless)
            self.world.deliver(worker)

    @precondition(reading)
    @rule(number=few, count=st.sampled_from([1, 2, 99]))
    def worker_reads(self, number, count):
        """Orders arrive at a worker."""
        worker = pick(self.reading(), number)
        while count and self.world.read(worker):
            count -= 1

    @precondition(eager)
    @rule(number=few, count=st.sampled_from([1, 3, 99]))
    def worker_starts(self, number, count):
        """A worker starts items."""
        worker = pick(self.eager(), number)
        while count and (jobs := self.world.startable(worker)):
            self.world.start(worker, jobs[number % len(jobs)])
            count -= 1

    @precondition(busy)
    @rule(number=few, which=few, count=st.sampled_from([1, 2, 99]), end=ends, tell=st.booleans())
    def worker_ends_items(self, number, which, count, end, tell):
        """Items of one batch end, as values or as errors."""
        fail, seconds, error = end
        worker = pick(self.busy(), number)
        first = pick(list(worker.running), which)
        same = [spot for spot in worker.running if spot[0] == first[0]][:count]
        self.world.finish(worker, same, fail=fail, seconds=seconds, **error)
        if tell:
            self.world.deliver(worker)

    @precondition(unwinding)
    @rule(number=few)
    def worker_unwinds(self, number):
        """What ran of a cancelled job has ended."""
        worker = pick(self.unwinding(), number)
        for job in list(worker.cancelled & set(worker.running.values())):
            self.world.unwind(worker, job)

    @precondition(unwinding)
    @rule(number=few)
    def cancel_is_held(self, number):
        """What runs of a cancelled job cannot feel it yet, because another job's item is in the way."""
        worker = pick(self.unwinding(), number)
        worker.outbox.extend(f.CancelHeld(worker.id, job) for job in worker.cancelled)

    @precondition(talking)
    @rule(number=few, count=st.sampled_from([1, 2, 99]))
    def worker_is_heard(self, number, count):
        """The ledger hears a part of what a worker has sent."""
        self.world.deliver(pick(self.talking(), number), count)

    @rule(rounds=st.integers(1, 3))
    def everybody_is_busy(self, rounds):
        """Much at once, or the interesting moments would be rare."""
        while rounds and self.world.bustle():
            rounds -= 1

    @precondition(alive)
    @rule(number=few)
    def worker_is_quick(self, number):
        """A worker does all that it can, but ends nothing."""
        self.world._stir(pick(self.alive(), number))

    @precondition(alive)
    @rule(number=few, which=st.integers(-1, 7), tell=st.booleans())
    def worker_dies(self, number, which, tell):
        """A process is gone, whatever it ran."""
        worker = pick(self.busy() or self.alive(), number)
        stepping = pick(list(worker.running), which) if which >= 0 and worker.running else None
        self.world.die(worker, stepping=stepping)
        if tell:
            self.world.deliver(worker)

    @precondition(alive)
    @rule(number=few, far=st.booleans(), choosy=st.booleans())
    def worker_is_heavy(self, number, far, choosy):
        """A worker takes too much memory, whatever it is at; or it did, and is gone."""
        self.world.be_heavy(pick((choosy and self.busy()) or self.alive(), number), far=far)
        self.world.tell(f.WorkerHeavy(10**9, far))

    @precondition(busy)
    @rule(number=few)
    def worker_will_not_be_cancelled(self, number):
        """What runs there ignores to be cancelled."""
        pick(self.busy(), number).stubborn = True

    @precondition(too_slow)
    @rule(number=few, tell=st.booleans())
    def time_is_over(self, number, tell):
        """An item's time is over; the ledger hears of it now or later."""
        worker, spot = pick(self.too_slow(), number)
        self.world.be_late(worker, spot)
        if tell:
            self.world.deliver(worker)

    @precondition(late)
    @rule(number=few)
    def item_ends_just_in_time(self, number):
        """An item was told to end, and has a value after all."""
        self.world.just_in_time(*pick(self.late(), number))

    @precondition(busy)
    @rule(number=few)
    def worker_freezes(self, number):
        """What runs there holds all of the process."""
        pick(self.busy(), number).frozen = True

    @rule()
    def worker_thaws(self):
        """And lets go of it."""
        self.world.thaw()

    @precondition(alive)
    @rule(numbers=st.lists(st.integers(1, 12), max_size=4))
    def modules_change(self, numbers):
        """Some workers, which may not be there any more, have imported what has been edited since."""
        self.world.tell(f.WorkersOutdated(numbers))

    # --- calls that it is told of later, or never --------------------------------------------------------------------

    @precondition(alive)
    @rule(kind=st.sampled_from(["async", "def"]), seconds=st.sampled_from([1e-5, 0.2]))
    def a_call_goes_before_it_is_told(self, kind, seconds):
        """Who is named for it gets it, and nothing else follows; whether told or not, it leaves the same behind."""
        ledger, now, number = self.world.ledger, self.world.now, 10**6
        takers = ledger.takers(kind, 1)
        if not takers:
            return
        (taker,) = takers
        told, passed = copy.deepcopy(ledger), copy.deepcopy(ledger)
        opened = f.JobOpened(number, kind, 1, 1, rerun_lost=False, single=True)
        orders = told.tell_all((opened, f.Supplied(number, number, (0,))), now)
        assert orders == [f.SendFunction(taker, number), f.SendBatch(taker, number, number, 1)]
        end, *others = told.tell(f.Finished(taker, number, range(1), seconds), now)
        assert end == f.End(number, "done", 0)
        assert {type(order) for order in others} <= {f.WakeAt}
        passed.passed(taker, kind, 1, seconds, now)
        assert left_by(passed) == left_by(told)

    @precondition(lambda self: self.alive() and len(self.jobs()) < 12)
    @rule(kind=st.sampled_from(["async", "def"]), times=st.integers(1, 5), rerun_lost=st.booleans())
    def calls_depart(self, kind, times, rerun_lost):
        """Several go before they are told, and are told before they end: from then on they are as any other."""
        self.world.depart(kind, times, rerun_lost=rerun_lost)

    # --- the clock ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0, 30.0, 1e6]), alarm=st.booleans())
    def time_passes(self, seconds, alarm):
        """The clock jumps. An alarm may come early, which does no harm."""
        self.world.now += seconds
        due = self.world.alarm is not None and self.world.now >= self.world.alarm
        if due or alarm:
            self.world.alarm = None
            self.world.tell(f.TimePassed())

    # --- what cannot be ----------------------------------------------------------------------------------------------

    @precondition(alive)
    @rule(number=few, what=st.integers(0, 9))
    def worker_talks_nonsense(self, number, what):
        """A worker says what cannot be: it is refused, and nothing has changed."""
        worker = pick([worker for worker in self.alive() if worker.held] or self.alive(), number)
        self.world.refuse(f.Finished(worker.id, 10**9, range(1), 0.1))
        self.world.refuse(f.Cleared(worker.id, 10**9))
        self.world.refuse(f.Returned(worker.id, 10**9, (), ()))
        batch = next(iter(worker.held), None)
        if batch is not None:
            self.world.refuse(self._nonsense(worker, batch, what))

    def _nonsense(self, worker: Worker, batch: int, what: int) -> f.Fact:
        size = len(self.world.batches[batch][1])
        position = min(worker.held[batch])
        job = self.world.batches[batch][0].id
        asked = self.world.asks[worker.id, job] > 0
        return [
            f.Finished(worker.id, batch, (position, position), 0.1),
            f.Finished(worker.id, batch, (position, size), 0.1),
            f.Finished(worker.id, batch, range(position, size + 1), 0.1),
            f.Finished(worker.id, batch, range(1 << 39), 0.1),
            f.Finished(worker.id, batch, (position,), math.nan),
            f.ItemFailed(worker.id, batch, size, 0.1),
            f.ItemFailed(worker.id, batch, position, -1.0),
            f.ItemFailed(worker.id, batch, position, 0.1, may_retry=True, after=math.nan),
            f.Returned(worker.id, job, (batch, batch), (position, position)),
            f.Returned(worker.id, job, range(batch, batch + (1 << 39)), range(1 << 39))
            if not asked or batch + 1 not in worker.held
            else f.Returned(worker.id, job, (batch,), ()),
        ][what]

    def teardown(self):
        """Everything plays fair: every job ends, and then the pool."""
        if hasattr(self, "world"):
            self.world.play_to_the_end()


LedgerMachine.TestCase.settings = settings(
    settings.get_profile(PROFILE), stateful_step_count=50, report_multiple_bugs=False
)
TestLedger = LedgerMachine.TestCase


def test_a_suspect_that_waits_for_a_worker_keeps_nobody_else_from_the_others():
    """A job of one item per worker has a lane for each: one that is being emptied for it leaves the others theirs."""
    state = LedgerMachine()
    state.begin(size=2, grace=0.0, idle_timeout=None)
    usual = {"batch": None, "breaks": False, "concurrency": None, "kind": "def", "refused": frozenset()}
    usual |= {"sized": False, "stop_on_failure": False, "window": None}
    state.everybody_is_busy(rounds=1)
    state.open_map(length=5, poison=frozenset({1, 2}), rerun_lost=True, **usual)
    state.everybody_is_busy(rounds=1)
    state.open_map(length=3, poison=frozenset(), rerun_lost=False, **usual)
    state.teardown()
