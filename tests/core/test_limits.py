"""Question 9 of the ledger: a worker takes too much memory, or has begun as many items as it may."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, ready_pool

# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_heavy_worker_ends_its_items_while_another_one_takes_its_place():
    """Nothing is killed, nothing is lost; what it has not begun goes elsewhere."""
    world = ready_pool(1)
    job = world.open("def", 6, batch=3)
    world.calm()
    worker = world.at(0)
    world.be_heavy(worker)
    world.be_heavy(worker)
    assert [order.index for order in world.orders(f.StartWorker)] == [0]
    assert [order.worker for order in world.orders(f.SendAskBack)] == [worker.id]
    assert world.orders(f.Kill) == []
    world.play_out()
    assert job.how == "done"
    assert set(job.starts.values()) == {1}
    assert worker.id not in world.workers


def test_who_alone_takes_far_too_much_is_lost_at_once():
    """There is nobody else whom it can have been, and the next time would be as this one."""
    world = ready_pool(2)
    job = world.open("def", 6, hogs=frozenset({3}), stop_on_failure=False)
    world.play_out()
    assert job.how == "done"
    assert {index: hows for index, hows in job.ends.items() if hows != ["value"]} == {3: ["lost"]}
    assert [order.reason for order in world.orders(f.SettleLost)] == ["memory"]
    assert job.starts[3] == 1
    assert all("memory" in order.why for order in world.orders(f.Kill))


def test_of_several_that_take_far_too_much_together_the_one_is_found_who_does_alone():
    """Each other one gets its value."""
    world = ready_pool(1, "async")
    job = world.open("async", 40, hogs=frozenset({23}), stop_on_failure=False)
    world.play_out()
    assert job.how == "done"
    assert {index: hows for index, hows in job.ends.items() if hows != ["value"]} == {23: ["lost"]}
    assert [order.reason for order in world.orders(f.SettleLost)] == ["memory"]
    assert len(world.orders(f.Kill)) <= 2 + 6


def test_items_that_take_too_much_only_together_all_end():
    """No one of them is to blame: they run in ever smaller groups."""
    world = ready_pool(1, "async")
    job = world.open("async", 32, concurrency=32)
    for _ in range(200):
        world.calm()
        world.ready()
        world.calm()
        worker = world.at(0)
        if len(worker.running) > 6:
            world.be_heavy(worker, far=True)
        elif not world.finish_one() and not world.ring():
            break
    world.play_out()
    assert job.how == "done"
    assert set(map(tuple, job.ends.values())) == {("value",)}


def test_a_heavy_worker_that_runs_nothing_is_nobodys_fault():
    """What waits for it is as new."""
    world = ready_pool(1)
    job = world.open("def", 3, batch=1)
    for _ in range(3):
        while world.feed(job):
            pass
        world.be_heavy(world.at(0), far=True)
        world.calm()
        world.ready()
    world.play_out()
    assert (job.how, set(job.starts.values())) == ("done", {1})


def test_a_worker_that_leaves_may_become_too_heavy_yet():
    """Then it is killed after all."""
    world = ready_pool(1, "async")
    job = world.open("async", 4)
    world.calm()
    worker = world.at(0)
    world.be_heavy(worker)
    world.be_heavy(worker, far=True)
    assert [order.worker for order in world.orders(f.Kill)] == [worker.id]
    world.play_out()
    assert (job.how, [hows for hows in job.ends.values() if hows != ["value"]]) == ("done", [])


@pytest.mark.parametrize("far", [False, True])
def test_a_limit_below_what_a_worker_takes_ends_the_job_and_not_the_evening(far):
    """Workers that are too heavy before they are ready do not start, and nobody tries for ever."""
    world = World(2)
    job = world.open("def", 5)
    for _ in range(30):
        for worker in list(world.workers.values()):
            world.be_heavy(worker, far=far)
            world.deliver(worker)
        world.calm()
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) <= 2 + policy.START_FAILURES


def test_workers_that_are_too_heavy_when_they_are_up_come_to_an_end_too():
    """Being up is no success as long as nothing is begun."""
    world = World(1)
    job = world.open("def", 5)
    for _ in range(30):
        world.ready()
        for worker in list(world.workers.values()):
            world.be_heavy(worker)
            world.bustle_workers()
    assert job.how == "start failed"
    assert len(world.orders(f.StartWorker)) <= policy.START_FAILURES


# --- tasks -----------------------------------------------------------------------------------------------------------


def starts(world: World) -> int:
    """How many workers were started."""
    return len(world.orders(f.StartWorker))


@pytest.mark.parametrize("kind", ["def", "async"])
@pytest.mark.parametrize(("size", "most"), [(1, 1), (1, 3), (3, 1), (3, 5), (2, 40)])
def test_no_worker_begins_more_items_than_it_may(kind, size, most):
    """The world says so; here, that all of them end, and that nearly all that may be begun is."""
    world = World(size, max_tasks=most)
    job = world.open(kind, 60, concurrency=None if kind == "def" else 12)
    world.play_out()
    assert job.how == "done"
    assert set(job.starts.values()) == {1}
    least = most - policy.largest_batch(most) + 1
    assert 60 / most <= starts(world) <= 60 / least + 2 * size


def test_the_next_worker_is_up_when_the_last_item_of_one_ends():
    """It begins nothing before that, though: two processes have one place."""
    world = World(1, max_tasks=1)
    job = world.open("def", 3)
    world.calm()
    world.ready()
    world.calm()
    world.ready()
    world.calm()
    old, new = world.workers.values()
    assert (len(old.running), len(new.held)) == (1, 0)
    world.finish_one()
    world.calm()
    assert len(new.running) == 1
    world.play_out()
    assert job.how == "done"


def test_coroutines_go_to_the_next_worker_as_those_of_the_last_one_end():
    """One of an hour does not keep the others waiting."""
    world = World(1, max_tasks=4)
    job = world.open("async", 20, concurrency=4)
    for _ in range(30):
        world.calm()
        world.ready()
        world.calm()
        hour = world.workers.get(1)
        other = [(worker, spot) for worker in world.workers.values() if worker is not hour for spot in worker.running]
        if len(hour.running) > 1:
            world.finish(hour, list(hour.running)[1:2])
            world.deliver(hour)
        elif other:
            world.finish(other[0][0], [other[0][1]])
            world.deliver(other[0][0])
    assert len(job.ends) == 19
    world.play_out()
    assert job.how == "done"


def test_a_place_has_two_workers_at_most():
    """However many coroutines of an hour there are: each worker has taken its last."""
    world = World(2, max_tasks=1)
    for _ in range(20):
        world.submit("async")
    for _ in range(5):
        world.calm()
        world.ready()
        assert len(world.workers) <= 4
    world.play_out()
    assert {job.how for job in world.jobs.values()} == {"done"}


def test_what_has_not_been_begun_may_be_begun_elsewhere_and_does_not_count():
    """A worker that was asked back for items may take others."""
    world = ready_pool(1, max_tasks=100)
    job = world.open("def", 50, batch=12)
    world.calm()
    before = world.ledger.workers[world.at(0).id].tasks
    world.pause(job)
    world.calm()
    after = world.ledger.workers[world.at(0).id].tasks
    assert after - before == 11
    world.resume(job)
    world.play_out()
    assert job.how == "done"


def test_the_last_worker_is_not_replaced_when_there_is_nothing_more_to_do():
    """As many processes as items, and not one more."""
    world = World(4, max_tasks=1)
    world.open("def", 4)
    world.play_out()
    assert starts(world) == 4


def test_pinned_items_and_both_kinds_have_their_workers_although_each_is_good_for_one_item():
    """Nobody waits for who is not there any more."""
    world = World(2, max_tasks=1)
    jobs = [world.open("def", 2, pinned=True), world.open("async", 7), world.open("def", 5), world.submit("def")]
    jobs.append(world.open("async", 2, pinned=True))
    world.play_out()
    assert {job.how for job in jobs} == {"done"}
    assert starts(world) <= 2 * (2 + 7 + 5 + 1 + 2)
