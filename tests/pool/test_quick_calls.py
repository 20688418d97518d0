"""What one call by submit costs: pickles, frames, writes, wake-ups, and what the ledger is asked. No clock is read."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiopool import Pool
from aiopool._core import facts as f
from aiopool._core import frames, wire
from aiopool._core.ledger import Ledger
from aiopool._core.spread import Spread
from aiopool._payload import calls, functions, items, load_item
from aiopool._runtime.express import Express
from aiopool._runtime.thread import IOThread
from aiopool._runtime.waiters import Bridge
from aiopool.engines.local import LocalLink
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import shortly


@pytest.fixture
def counted(monkeypatch) -> Callable[[type, str], Counter[str]]:
    """Counts the calls of a method from now on."""
    seen: Counter[str] = Counter()

    def count(owner: Any, name: str) -> Counter[str]:
        real = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            seen[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(owner, name, counting)
        return seen

    return count


@pytest.fixture
def unwatched(monkeypatch) -> None:
    """Nobody looks by himself, however slow the machine is: a call is under way until this test does something."""
    monkeypatch.setattr("aiopool._runtime.express.MOMENT", 3600.0)
    monkeypatch.setattr("aiopool._runtime.vitals.FIRST_SECONDS", 3600.0)
    monkeypatch.setattr("aiopool._runtime.vitals.LOOK_SECONDS", 3600.0)


def warm(pool: Pool) -> None:
    """Its workers are up and rest, and the kernel has nothing new to tell them."""
    assert pool.broadcast(work.pid).result(DEADLINE)
    until(lambda: not pool._driver._ledger.jobs, what="nothing is open")


# --- pickles ---------------------------------------------------------------------------------------------------------


def test_a_function_of_a_module_is_pickled_once_however_often_it_is_submitted(fresh, counted):
    """And plain arguments need no pickler of their own."""
    pool = fresh(1)
    assert pool.submit(work.double, 1).result(DEADLINE) == 2
    made = counted(functions, "FunctionPickler")
    counted(items, "InputPickler")
    assert [pool.submit(work.double, x).result(DEADLINE) for x in range(50)] == [2 * x for x in range(50)]
    assert made == {}


def test_a_function_of_a_cell_is_pickled_each_time_because_what_it_reads_may_have_changed(fresh):
    """A list that it holds is as it was in the call."""
    pool = fresh(1)
    held = [1]

    def total() -> int:
        return sum(held)

    assert pool.submit(total).result(DEADLINE) == 1
    held.append(2)
    assert pool.submit(total).result(DEADLINE) == 3


@pytest.fixture
def module(monkeypatch) -> Iterator[types.ModuleType]:
    """A module with a function, which only this process can import."""
    made = types.ModuleType("aiopool_test_named")
    exec("def f(): return 1", vars(made))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_what_bears_the_name_of_a_known_function_is_not_taken_for_it(module):
    """It was defined anew, taken out, or given other code: each is looked at anew, and so is the older one."""
    first = module.f
    known = functions.dump_function(first)
    assert functions.dump_function(first) is known
    exec("async def f(): return 2", vars(module))
    assert functions.dump_function(module.f).is_async
    assert len(functions.dump_function(first).data) > len(known.data), "its name is another one's: it travels by value"
    module.f = first
    assert functions.dump_function(first) is known
    first.__code__ = (lambda: asyncio.sleep(0)).__code__
    assert functions.dump_function(first) is not known
    del sys.modules[module.__name__]
    assert len(functions.dump_function(first).data) > len(known.data)


def test_a_module_that_is_to_travel_by_value_does_so_from_then_on(module, monkeypatch):
    """As cloudpickle is told."""
    known = functions.dump_function(module.f)
    monkeypatch.setattr(functions.innards, "_PICKLE_BY_VALUE_MODULES", {module.__name__})
    assert len(functions.dump_function(module.f).data) > len(known.data)


def test_a_known_function_is_let_go(module):
    """Nothing of it stays behind."""
    functions.dump_function(module.f)
    number = id(module.f)
    assert number in functions._named
    del module.f
    assert number not in functions._named


class Name(str):
    """Not plain: the other side must know the class."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("call", "is_plain"),
    [
        (((), {}), True),
        (((1, "a", None, b"c", 1.5, True), {"x": 2}), True),
        ((([1],), {}), False),
        (((1,), {"x": [1]}), False),
        (((Name("a"),), {}), False),
        (((), {Name("a"): 1}), False),
    ],
)
def test_only_calls_of_plain_values_are_pickled_the_short_way(call, is_plain):
    """What is not plain needs what arguments of a map need: classes, refusals, shared pages."""
    encoded = calls.dump_plain_call(call)
    assert (encoded is not None) == is_plain
    if encoded is not None:
        assert load_item(encoded.blobs[0]) == call


# --- one after another -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unwatched")
def test_calls_one_after_another_cost_two_frames_and_the_ledger_nothing(fresh, counted):
    """One there and one back, one write; the ledger only notes that each has passed."""
    pool = fresh(1)
    warm(pool)
    told = counted(Ledger, "tell_all")
    counted(Ledger, "passed")
    counted(LocalLink, "send")
    counted(wire, "encode")
    counted(wire, "_decode")

    async def trips() -> None:
        for x in range(20):
            assert await shortly(pool.submit(work.double, x)) == 2 * x

    asyncio.run(trips())
    # A machine that stands still for some ms makes a call one that takes long, and then it is told.
    assert told["passed"] >= 10
    assert told["tell_all"] <= 2 * (20 - told["passed"]) + 2
    assert told["send"] <= 25
    assert told["encode"] <= 25
    assert told["_decode"] <= 25
    assert pool.workers[0].info.done == 20 + 1


@pytest.mark.usefixtures("unwatched")
def test_a_call_under_way_is_seen_by_whoever_looks(fresh, board: Board):
    """By a snapshot, by a view of the workers and by who asks where it stands, however short it has been there."""
    pool = fresh(1)
    warm(pool)

    def held() -> int:
        board.mark("in")
        board.wait("go")
        return 7

    call = pool.submit(held)
    board.wait("in")
    assert not pool._driver._express.is_empty, "nobody has looked yet"
    assert [job.id for job in pool.snapshot().jobs] == [call.id]
    assert pool._driver._express.is_empty
    assert pool.workers[0].info.state == "busy"
    assert "held" in str(call.stacks())
    board.mark("go")
    assert call.result(DEADLINE) == 7
    assert pool.workers[0].info.state == "idle"


def test_a_call_that_takes_longer_is_told_to_the_ledger_by_itself(fresh, board: Board):
    """Without anybody looking: its worker is looked after, and its view comes."""
    pool = fresh(1)
    warm(pool)
    call = pool.submit(board.wait, "go")
    until(lambda: pool._driver._express.is_empty and call.id in pool._driver._ledger.jobs, what="it is told")
    board.mark("go")
    call.result(DEADLINE)


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("how", ["cancelled", "killed", "terminated"])
def test_a_call_under_way_ends_as_any_other(fresh, board: Board, how):
    """Cancelled, with its worker, or with its pool."""
    from aiopool import JobCancelled, WorkerLost

    pool = fresh(1)
    warm(pool)

    def held() -> None:
        board.mark("in")
        board.wait("go")

    call = pool.submit(held)
    board.wait("in")
    assert not pool._driver._express.is_empty
    if how == "cancelled":
        assert call.cancel()
    elif how == "terminated":
        pool.terminate()
    else:
        import os
        import signal

        (pid,) = [worker.pid for worker in pool._driver._workers.values()]
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLost if how == "killed" else JobCancelled):
        call.result(DEADLINE)


@pytest.mark.usefixtures("unwatched")
def test_calls_side_by_side_go_to_different_workers(fresh, board: Board):
    """The second one comes while the first is under way, and the ledger is told of that first."""
    pool = fresh(2)
    warm(pool)

    def held(_: int) -> int:
        board.mark("in")
        board.wait("go")
        return work.pid()

    running = [pool.submit(held, x) for x in range(2)]
    board.wait("in", 2)
    board.mark("go")
    assert len({call.result(DEADLINE) for call in running}) == 2


def test_a_worker_that_answers_for_a_call_it_does_not_have_is_no_better_off(fresh, monkeypatch):
    """Another batch, another job or a second position is none of the call's: the ledger judges it."""
    pool = fresh(1)
    warm(pool)
    judged: list[frames.Results] = []
    real = Express.takes

    def takes(self: Express, worker: Any, frame: frames.Results) -> bool:
        if not self.is_empty:
            wrong = [
                frames.Results(frame.job + 1, frame.batch, frame.positions, frame.seconds, frame.shared, frame.blobs),
                frames.Results(frame.job, frame.batch + 1, frame.positions, frame.seconds, frame.shared, frame.blobs),
                frames.Results(frame.job, frame.batch, range(1, 2), frame.seconds, frame.shared, frame.blobs),
                frames.Results(frame.job, frame.batch, range(2), frame.seconds, frame.shared, frame.blobs),
            ]
            judged.extend(each for each in wrong if real(self, worker, each))
        return real(self, worker, frame)

    monkeypatch.setattr(Express, "takes", takes)
    assert [pool.submit(work.double, x).result(DEADLINE) for x in range(5)] == [0, 2, 4, 6, 8]
    assert judged == []


# --- many at once ----------------------------------------------------------------------------------------------------


def test_a_thousand_calls_at_once_are_told_sent_and_answered_in_a_few_goes(fresh, counted, monkeypatch):
    """The pool's thread comes round when all are there: one opening, few writes, few wake-ups of the caller's loop."""
    pool = fresh(2)
    warm(pool)
    gate = threading.Event()
    seen = counted(Express, "take")
    counted(LocalLink, "send")
    counted(IOThread, "_wake")
    woken: list[object] = []
    real = Bridge._wake_told
    monkeypatch.setattr(Bridge, "_wake_told", lambda self: (woken.append(self), real(self)))
    # However long the first of them take: how many are sent ahead goes by that.
    learn = Spread.learn_single
    monkeypatch.setattr(Spread, "learn_single", lambda self, _, count: learn(self, 1e-5 * count, count))

    async def burst() -> list[Any]:
        pool._driver._io.call(gate.wait, DEADLINE)
        running = [pool.submit(work.double, x) for x in range(1_000)]
        answers = asyncio.gather(*running)
        await asyncio.sleep(0)
        # All of them are awaited. The loop is busy: how often one that is not is woken goes by how quick everybody is.
        gate.set()
        until(lambda: all(call.done() for call in running), what="all have ended")
        return await answers

    assert asyncio.run(burst()) == [2 * x for x in range(1_000)]
    assert seen["take"] == 1
    assert seen["_wake"] <= 3
    # Two workers: how many calls go at a time depends on who is how quick, but never each for itself.
    assert seen["send"] <= 250
    assert len(woken) <= 2


def test_calls_begin_in_the_order_in_which_they_were_made(fresh, board: Board):
    """Also those that the pool's thread meets together."""
    pool = fresh(1)
    warm(pool)

    def note(x: int) -> None:
        board.mark("order", x)

    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    running = [pool.submit(note, x) for x in range(50)]
    gate.set()
    for call in running:
        call.result(DEADLINE)
    assert board.marks("order") == [str(x) for x in range(50)]


def test_a_call_that_cannot_travel_harms_none_of_those_beside_it(fresh):
    """It is refused, in its place."""
    pool = fresh(1)
    warm(pool)
    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    bad = threading.Lock()
    running = [pool.submit(work.double, x if x != 3 else bad) for x in range(6)]
    gate.set()
    values = []
    for call in running:
        try:
            values.append(call.result(DEADLINE))
        except TypeError as error:
            values.append(type(error).__name__)
    assert values == [0, 2, 4, "NotPicklable", 8, 10]


def test_facts_that_come_together_are_as_good_as_one_by_one():
    """The same workers get the same calls, and who is first is first."""
    ledgers = Ledger(2), Ledger(2)
    for ledger in ledgers:
        ledger.tell(f.WarmUpAsked(2), 0.0)
        for number in (1, 2):
            ledger.tell(f.WorkerReady(number), 0.0)
    facts = [
        fact
        for job in range(1, 7)
        for fact in (f.JobOpened(job, "def", 1, 1, rerun_lost=False, single=True), f.Supplied(job, job, (0,)))
    ]
    together = ledgers[0].tell_all(facts, 1.0)
    one_by_one = [order for fact in facts for order in ledgers[1].tell(fact, 1.0)]
    sent = [[order for order in orders if isinstance(order, f.SendBatch)] for orders in (together, one_by_one)]
    assert sent[0] == sent[1]
    assert [order.job for order in sent[0]] == [1, 2]
