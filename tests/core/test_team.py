"""How many workers there are, and for whom: question 3 of the ledger, starting, retiring, time."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.ledger import Ledger
from tests.core.world import World, load, loads, ready_pool

# --- question 3: both kinds want workers? ----------------------------------------------------------------------------


def test_functions_and_coroutines_get_half_of_the_workers_each():
    """World checks at every order that they never meet at one."""
    world = ready_pool(4, "async")
    world.open("async", 1000)
    world.calm()
    world.open("def", 1000)
    for _ in range(400):
        world.finish_one()
        world.calm()
    kinds = [world.ledger.workers[worker.id].kind for worker in world.workers.values()]
    assert sorted(kinds) == ["async", "async", "def", "def"]


def test_a_worker_that_changes_sides_gives_back_what_it_has_not_started():
    """It changes when what runs has ended, and not when its queue has."""
    world = ready_pool(2)
    world.open("def", 10_000)
    for _ in range(4):
        world.calm()
        world.finish_one(seconds=0.001)
    world.calm()
    assert min(loads(world)) > 10
    world.open("async", 100)
    world.calm()
    assert min(loads(world)) == 1 < max(loads(world))
    worker = min(world.workers.values(), key=load)
    world.finish(worker, list(worker.running))
    world.calm()
    assert world.ledger.workers[worker.id].kind == "async"


def test_an_item_that_runs_on_where_coroutines_come_next_takes_no_seat_from_its_job():
    """A job of one item per worker has those that are for functions now, whatever still ends elsewhere."""
    world = ready_pool(2)
    job = world.open("def", 10, sized=False)
    for _ in range(2):
        world.feed(job, most=1)
    world.bustle_workers()
    world.feed(world.open("async", 50))
    (staying,) = [worker for worker in world.ledger.workers.values() if worker.reserved == "def"]
    worker = world.workers[staying.id]
    world.finish(worker, list(worker.running))
    world.deliver(worker)
    assert load(worker) == 0
    world.feed(job, most=1)
    assert load(worker) == 1


def test_one_function_takes_one_worker_from_coroutines():
    """Each kind gets what it needs, as long as that is enough for both."""
    world = ready_pool(4, "async")
    world.open("async", 1000)
    world.calm()
    single = world.submit("def")
    reserved = [worker.reserved for worker in world.ledger.workers.values()]
    assert sorted(reserved) == ["async", "async", "async", "def"]
    for _ in range(400):
        world.finish_one()
        world.calm()
    assert single.how == "done"
    assert [worker.reserved for worker in world.ledger.workers.values()] == [None] * 4


def test_a_coroutine_that_is_late_keeps_one_worker_and_not_half_of_them():
    """A kind that has sent everything reserves nothing."""
    world = ready_pool(4, "async")
    world.open("async", 1)
    world.calm()
    world.open("def", 1000)
    world.calm()
    assert sum(bool(worker.running) for worker in world.workers.values()) == 4


def test_a_job_has_all_its_lanes_beside_a_function_that_runs_for_long():
    """concurrency=10 is ten in flight, on the workers that are left."""
    world = ready_pool(2)
    world.submit("def")
    world.calm()
    world.open("async", 50, concurrency=10)
    world.calm()
    assert sorted(len(worker.running) for worker in world.workers.values()) == [1, 10]


def test_a_kind_that_waits_for_a_second_gets_a_worker_beyond_the_size_and_returns_it():
    """Coroutines that take a minute on every worker do not stop a function."""
    world = ready_pool(2, "async")
    world.open("async", 4)
    world.calm()
    job = world.open("def", 1)
    world.calm()
    asked = world.now
    assert len(world.workers) == 2
    assert world.alarm == pytest.approx(asked + policy.DRAIN_SECONDS)
    world.ring()
    assert [worker.index for worker in world.workers.values()] == [0, 1, 2]
    world.ready(2)
    world.calm()
    world.finish(world.at(2), list(world.at(2).running))
    world.calm()
    assert job.how == "done"
    assert world.ledger.workers[world.at(2).id].state == "ready"
    world.ring()
    world.calm()
    assert [worker.index for worker in world.workers.values()] == [0, 1]
    assert world.now == pytest.approx(asked + policy.DRAIN_SECONDS + policy.LINGER_SECONDS)


def test_the_worker_beyond_the_size_goes_when_one_of_the_pools_own_is_free():
    """What it runs, runs to its end."""
    world = ready_pool(1, "async")
    slow = world.open("async", 1)
    world.calm()
    world.open("def", 3)
    world.calm()
    world.ring()
    world.ready()
    world.calm()
    assert len(world.at(1).running) == 1
    worker = world.at(0)
    world.finish(worker, list(worker.running))
    world.calm()
    assert slow.how == "done"
    assert world.ledger.workers[world.at(1).id].state == "retiring"
    assert [order.worker for order in world.orders(f.StartWorker)] == [world.at(1).id]
    world.play_out()
    world.calm()
    assert [worker.index for worker in world.workers.values()] == [0]


def test_a_place_of_the_pool_is_filled_before_one_beyond_it():
    """Two workers may run, one does, with a coroutine: the function gets the second place and need not wait."""
    world = World(2)
    world.open("async", 1)
    world.ready()
    world.calm()
    world.submit("def")
    assert [worker.index for worker in world.workers.values()] == [0, 1]


@pytest.mark.parametrize("size", [1, 2])
def test_a_stream_that_has_no_items_at_the_moment_reserves_no_worker(size):
    """A background job that waits for its input does not halve the pool."""
    world = ready_pool(size)
    world.open("async", 50, sized=False)
    job = world.open("def", 10)
    while world.feed(job):
        pass
    assert loads(world) == [1] * size


def test_the_only_worker_changes_sides_when_it_is_empty():
    """It is not kept for coroutines that are still being read while a function waits."""
    world = ready_pool(1, "async")
    stream = world.open("async", 50, sized=False)
    world.feed(stream, most=1)
    world.bustle_workers()
    job = world.open("def", 1)
    world.feed(job)
    assert len(world.at(0).running) == 1
    world.finish_one()
    assert world.ledger.workers[1].kind == "def"


# --- starting --------------------------------------------------------------------------------------------------------


def test_three_workers_that_die_while_starting_end_the_jobs():
    """Whoever waits is told, instead of trying for ever; a later job tries again."""
    world = World(1)
    job = world.open("def", 3)
    for _ in range(policy.START_FAILURES):
        assert job.how is None
        worker = world.at(0)
        world.die(worker)
        world.deliver(worker)
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) == policy.START_FAILURES
    again = world.open("def", 3)
    world.play_out()
    assert again.how == "done"


def test_an_initializer_that_raises_ends_the_jobs_as_soon_as_all_have_tried():
    """It said why, and the next one would say the same."""
    world = World(3)
    job = world.open("def", 9)
    for worker in list(world.workers.values()):
        assert job.how is None
        world.say_broken(worker)
        world.deliver(worker)
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) == 3


def test_a_job_goes_on_with_fewer_workers_when_others_cannot_start():
    """It is slower, and it ends."""
    world = World(2)
    job = world.open("def", 9)
    world.calm()
    world.ready(0)
    for _ in range(10):
        for worker in list(world.workers.values()):
            if not worker.said_ready and not worker.killed:
                world.say_broken(worker)
                world.deliver(worker)
        world.calm()
        world.finish_one()
    assert job.how == "done"
    assert len(world.orders(f.StartWorker)) == 2


def test_a_worker_that_does_not_start_in_time_is_killed():
    """And counts as one that cannot."""
    world = World(1, start_timeout=60.0)
    job = world.open("def", 1)
    began = world.now
    for _ in range(policy.START_FAILURES):
        assert world.ring()
        world.calm()
    assert world.now == began + 180.0
    assert job.how == "start failed"
    assert [order.why for order in world.orders(f.Kill)] == ["it did not start within 60 s"] * 3


# --- time ------------------------------------------------------------------------------------------------------------


def test_an_idle_pool_asks_for_no_alarm():
    """Idle, nothing wakes."""
    world = ready_pool(4)
    while world.ring():
        pass
    world.log.clear()
    job = world.open("def", 40)
    world.play_out()
    assert job.how == "done"
    assert world.orders(f.WakeAt) == []


def test_an_alarm_that_comes_early_is_asked_for_again():
    """And nothing else happens."""
    world = World(1, start_timeout=60.0)
    world.open("def", 1)
    assert world.alarm == 160.0
    world.now += 10
    assert world.tell(f.TimePassed()) == [f.WakeAt(160.0)]


def test_only_an_earlier_deadline_moves_the_alarm():
    """A later one is looked at when the alarm has come."""
    world = World(2, start_timeout=60.0, grace=2.0)
    world.open("def", 1)
    world.now += 5
    world.open("def", 1)
    assert world.orders(f.WakeAt) == [f.WakeAt(160.0)]
    world.now = 160.0
    assert f.WakeAt(165.0) in world.tell(f.TimePassed())


def test_workers_that_idle_for_long_retire_and_others_start_when_there_is_work():
    """The shared pool gives memory back after a while."""
    world = ready_pool(2, idle_timeout=600.0)
    began = world.now
    for _ in range(10):
        world.ring()
        world.calm()
        if not world.workers:
            break
    assert world.workers == {}
    assert world.now == pytest.approx(began + 600.0)
    job = world.open("def", 2)
    world.play_out()
    assert job.how == "done"


# --- the pool --------------------------------------------------------------------------------------------------------


def test_resizing_down_is_reached_when_the_surplus_has_ended_its_items_and_itself():
    """They take nothing new; what they have not started goes to the others."""
    world = ready_pool(3)
    job = world.open("def", 30, concurrency=3)
    world.calm()
    token = world.resize(1)
    world.calm()
    assert not world.tokens[token]
    for worker in [world.at(1), world.at(2)]:
        world.finish(worker, list(worker.running))
        world.calm()
    assert world.tokens[token]
    assert [worker.index for worker in world.workers.values()] == [0]
    world.play_out()
    assert job.how == "done"


def test_resizing_up_is_reached_at_once_and_starts_workers_if_there_is_work():
    """On demand, as ever."""
    world = ready_pool(1)
    token = world.resize(4)
    assert world.tokens[token]
    assert len(world.workers) == 1
    world.open("def", 3)
    assert len(world.workers) == 3


def test_a_restart_starts_replacements_beside_and_is_reached_when_the_old_ones_are_gone():
    """Items that run, run to their end."""
    world = ready_pool(2)
    job = world.open("def", 10)
    world.calm()
    token = world.restart()
    assert len(world.workers) == 4
    assert world.orders(f.Kill) == []
    world.calm()
    assert not world.tokens[token]
    world.play_out()
    assert job.how == "done"
    assert world.tokens[token]
    assert set(job.starts.values()) == {1}


def test_a_restart_now_kills_and_runs_items_again():
    """And it is reached when the killed ones are gone."""
    world = ready_pool(2)
    job = world.open("def", 2)
    world.calm()
    token = world.restart(now=True)
    assert len(world.orders(f.Kill)) == 2
    world.calm()
    assert world.tokens[token]
    world.play_out()
    assert job.how == "done"
    assert job.starts == {0: 2, 1: 2}


def test_one_worker_is_restarted_and_the_others_go_on():
    """It takes nothing new and ends what it runs; its replacement is up before that, at the same place."""
    world = ready_pool(2)
    job = world.open("def", 10)
    world.calm()
    old, other = world.at(0), world.at(1)
    token = world.restart_worker(old.id)
    new = world.at(0)
    assert new is not old
    assert world.at(1) is other
    assert world.orders(f.Kill) == []
    world.calm()
    world.ready(0)
    world.calm()
    assert not world.tokens[token]
    assert new.running
    assert len(old.running) == 1
    world.finish(old, list(old.running))
    world.calm()
    assert world.tokens[token]
    assert old.id not in world.workers
    world.play_out()
    assert job.how == "done"
    assert set(job.starts.values()) == {1}
    assert [order.worker for order in world.orders(f.HangUp)] == [old.id]


def test_one_worker_is_killed_and_only_its_items_run_again():
    """With now; whoever asked is told when it is gone."""
    world = ready_pool(2)
    job = world.open("def", 2)
    world.calm()
    old = world.at(0)
    (index,) = [job.batches.get(batch, world.batches[batch][1])[at] for batch, at in old.running]
    token = world.restart_worker(old.id, now=True)
    assert [order.worker for order in world.orders(f.Kill)] == [old.id]
    world.calm()
    assert world.tokens[token]
    world.play_out()
    assert job.how == "done"
    assert job.starts == {index: 2, 1 - index: 1}


def test_a_worker_that_is_gone_or_has_not_started_yet_needs_no_restart():
    """Whoever asks for it need not wait, and nobody is started or ended for it."""
    world = World(1)
    world.open("def", 1)
    starting = world.at(0)
    assert world.tokens[world.restart_worker(starting.id)]
    assert world.tokens[world.restart_worker(10**9, now=True)]
    assert len(world.orders(f.StartWorker)) == 1
    assert world.orders(f.Kill, f.HangUp) == []


def test_a_broadcast_reaches_the_place_of_each_item():
    """Item 3 runs at place 3, whoever is ready first; so the values come in the order of the places."""
    world = World(4)
    job = world.open("def", 4, pinned=True)
    for index in (2, 0, 3, 1):
        world.ready(index)
        world.calm()
    for worker in world.workers.values():
        assert [world.batches[batch] for batch, _ in worker.running] == [(job, (worker.index,))]


def test_a_broadcast_gets_through_to_workers_that_run_the_other_kind():
    """A worker that it needs takes nothing new until it has had its item."""
    world = ready_pool(2, "async")
    world.open("async", 10_000, sized=False)
    world.calm()
    job = world.open("def", 2, pinned=True)
    for _ in range(300):
        world.finish_one()
        world.calm()
    assert job.how == "done"
    assert {how for hows in job.ends.values() for how in hows} == {"value"}


def test_a_broadcast_ends_although_the_pool_shrinks():
    """What is left of it runs where there is somebody."""
    world = World(4)
    job = world.open("def", 4, pinned=True)
    world.ready(0)
    world.calm()
    world.resize(1)
    world.play_out()
    assert job.how == "done"


def test_a_call_behind_a_long_item_is_not_asked_for_again_and_again():
    """As soon as it waits to be sent, whoever has asked for it is wanted by the other kind."""
    world = ready_pool(3)
    world.calm()
    world.open("async", 2, pinned=True)
    world.open("def", 2, pinned=True)
    world.calm()
    world.finish(world.at(1), list(world.at(1).running))
    world.deliver(world.at(1))
    world.open("def", 1)
    call = world.submit("def")
    # The coroutine that ran there has to run at that place again, where it meets a function of the broadcast.
    world.die(world.at(0))
    world.deliver(world.workers[1])
    world.ready()
    world.calm()
    orders = len(world.orders(f.SendAskBack))
    for _ in range(50):
        for worker in list(world.workers.values()):
            world.tell(f.WorkerAnswered(worker.id))
            world.calm()
    assert len(world.orders(f.SendAskBack)) == orders
    world.play_out()
    assert call.how == "done"


def test_grace_begins_anew_while_another_job_keeps_a_cancelled_one_from_feeling_it():
    """A cancel that its loop cannot deliver must not cost the item that holds the loop."""
    ledger = Ledger(1, grace=2.0)
    ledger.tell(f.JobOpened(1, "async", 1, 1, single=True), 0.0)
    ledger.tell(f.Supplied(1, 1, (0,)), 0.0)
    ledger.tell(f.WorkerReady(1), 0.0)
    ledger.tell(f.CancelAsked(1, "cancelled"), 1.0)
    assert not [order for order in ledger.tell(f.CancelHeld(1, 1), 2.5) if isinstance(order, f.Kill)]
    assert not [order for order in ledger.tell(f.TimePassed(), 3.5) if isinstance(order, f.Kill)]
    assert [order.worker for order in ledger.tell(f.TimePassed(), 4.6) if isinstance(order, f.Kill)] == [1]
    assert ledger.tell(f.CancelHeld(1, 99), 4.7) == []
