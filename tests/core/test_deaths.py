"""Question 5 of the ledger: a worker died."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import frames, policy
from aiopool._core.ledger import Ledger
from tests.core.world import World, loads, ready_pool


def test_an_item_that_kills_its_worker_costs_two_deaths_and_itself():
    """The item at work is the first suspect, runs again alone, and is lost when that worker dies too."""
    world = ready_pool(2, "async")
    job = world.open("async", 30, poison=frozenset({7}), stop_on_failure=False)
    for _ in range(200):
        world.calm()
        world.ready()
        if not world.finish_one():
            break
    assert job.how == "done"
    assert {index: hows for index, hows in job.ends.items() if hows != ["value"]} == {7: ["lost"]}
    assert len(world.orders(f.SettleLost)) == 1
    assert sum(isinstance(fact, f.WorkerGone) for fact in world.log) == 2
    assert job.starts[7] == 2


def test_a_suspect_that_is_innocent_ends_as_any_other():
    """It was at work when the machine ran out of memory for other reasons."""
    world = ready_pool(1)
    job = world.open("def", 3)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.play_out()
    assert job.how == "done"
    assert job.ends == {0: ["value"], 1: ["value"], 2: ["value"]}


def test_a_suspect_runs_alone_on_its_worker():
    """Nothing is sent beside it, and several suspects run on several workers at once."""
    world = ready_pool(2, "async")
    job = world.open("async", 40, stop_on_failure=False)
    world.calm()
    for index in (0, 1):
        worker = world.at(index)
        world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    world.ready()
    world.calm()
    assert [len(worker.running) for worker in world.workers.values()] == [1, 1]
    assert loads(world) == [1, 1]
    world.play_out()
    assert job.how == "done"


@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_suspect_takes_a_worker_that_comes_while_another_one_is_being_emptied_for_it(concurrency):
    """And that one goes on as before."""
    world = ready_pool(2)
    job = world.open("def", 20, concurrency=concurrency, batch=1)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    assert world.ledger.workers[world.at(1).id].claim is not None
    world.ready()
    world.calm()
    assert world.ledger.workers[world.at(0).id].alone
    assert world.ledger.workers[world.at(1).id].claim is None
    world.play_out()
    assert job.how == "done"


def test_with_nobody_known_to_be_at_work_all_that_ran_are_suspects_in_halves():
    """Killed from outside twice: the same items then run one by one, and none is lost."""
    world = ready_pool(1, "async")
    job = world.open("async", 4, concurrency=4)
    world.calm()
    for running in (4, 2, 2):
        assert len(world.at(0).running) == running
        if running == 4 or len(job.ends) == 2:
            world.die(world.at(0))
        else:
            world.finish(world.at(0), list(world.at(0).running))
        world.calm()
        world.ready()
        world.calm()
    assert len(world.at(0).running) == 1
    world.play_out()
    assert [hows for _, hows in sorted(job.ends.items())] == [["value"]] * 4


def test_whoever_was_at_work_and_may_run_once_takes_the_blame_with_it():
    """Its neighbours are no suspects: they run as before."""
    world = ready_pool(1, "async")
    once = world.open("async", 1, rerun_lost=False, stop_on_failure=False)
    job = world.open("async", 5)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(spot for spot, number in worker.running.items() if number == once.id))
    world.calm()
    assert not world.ledger.jobs[job.id].trials
    assert not world.ledger.jobs[job.id].suspended
    world.play_out()
    assert (once.ends, job.how) == ({0: ["lost"]}, "done")


def test_an_item_that_has_ended_already_is_no_suspect_although_it_was_at_work():
    """A worker may die while it still is inside of it; those that run are suspects in halves."""
    world = ready_pool(1, "async")
    job = world.open("async", 5)
    world.calm()
    worker = world.at(0)
    spot = next(iter(worker.running))
    world.finish(worker, [spot])
    world.die(worker, stepping=spot)
    world.calm()
    assert set(world.ledger.jobs[job.id].trials) == {1, 2, 3, 4}
    world.play_out()
    assert job.how == "done"


def test_three_workers_that_die_while_starting_end_the_job():
    """Whatever killed them: the fourth would go the same way."""
    world = World(1)
    job = world.open("def", 3)
    for _ in range(10):
        for worker in list(world.workers.values()):
            world.die(worker)
            world.deliver(worker)
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) == policy.START_FAILURES


def test_an_item_that_may_run_once_is_lost_with_its_worker_and_others_are_not():
    """What has not started is as new."""
    world = ready_pool(1)
    job = world.open("def", 6, batch=6, rerun_lost=False, stop_on_failure=False)
    world.calm()
    world.die(world.at(0))
    world.play_out()
    assert job.ends[0] == ["lost"]
    assert [job.ends[index] for index in range(1, 6)] == [["value"]] * 5
    assert set(job.starts.values()) == {1}


def test_where_it_is_not_known_which_items_had_started_none_that_may_run_once_is_sent_again():
    """More ran at once than a worker has marks for: all that it held count as begun."""
    ledger = Ledger(1)
    opened = f.JobOpened(1, "async", 6, None, batch=6, rerun_lost=False, stop_on_failure=False)
    ledger.tell_all((opened, f.Supplied(1, 1, range(6)), f.InputEnded(1, 6)), 0.0)
    (worker,) = ledger.workers
    orders = ledger.tell(f.WorkerReady(worker), 1.0)
    assert any(isinstance(order, f.SendBatch) for order in orders)
    ledger.tell(f.Finished(worker, 1, range(2), 0.1), 2.0)
    orders = ledger.tell(f.WorkerGone(worker, frozenset({(1, 0), (1, 3), frames.ANY_SPOT})), 3.0)
    assert [order.index for order in orders if isinstance(order, f.SettleLost)] == [2, 3, 4, 5]
    assert not [order for order in orders if isinstance(order, f.Recode)]


def test_a_death_that_was_ordered_makes_no_suspects():
    """restart(now=True) again and again: the items run again, beside others, and none is lost."""
    world = ready_pool(1, "async")
    job = world.open("async", 5)
    for _ in range(4):
        world.calm()
        world.ready()
        world.calm()
        assert len(world.at(0).running) == 5
        world.restart(now=True)
    world.play_out()
    assert job.how == "done"


def test_after_ten_deaths_in_a_row_nobody_gets_another_chance():
    """A function that kills every worker comes to an end."""
    world = ready_pool(1)
    job = world.open("def", 100, batch=1, poison=frozenset(range(100)), stop_on_failure=False)
    world.play_out()
    assert job.how == "done"
    assert {how for hows in job.ends.values() for how in hows} == {"lost"}
    deaths = sum(isinstance(fact, f.WorkerGone) for fact in world.log)
    assert deaths <= 100 + 2 * policy.DEATHS
    lost = world.orders(f.SettleLost)
    assert [order.hopeless for order in lost] == [job.starts[order.index] == 1 for order in lost]
    assert 0 < sum(order.hopeless for order in lost) < 100


def test_workers_that_die_before_they_begin_anything_end_the_job_and_not_the_evening():
    """Such as when the very arrival of the function kills: nothing has started, so no item is to blame."""
    world = World(1)
    job = world.open("def", 3)
    for _ in range(50):
        world.ready()
        while world.feed(job):
            pass
        for worker in list(world.workers.values()):
            world.die(worker)
            world.deliver(worker)
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) <= policy.DEATHS + 1
