"""Workers that come up before there is work, and those whose start was the wrong one."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, ready_pool

# --- warming up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count", "come"), [(8, 4, 4), (2, 4, 2), (1, 1, 1)])
def test_so_many_workers_come_up_although_nothing_is_to_do(size, count, come):
    """No more than the pool may have, in its first places."""
    world = World(size)
    world.warm_up(count)
    assert [worker.index for worker in world.workers.values()] == list(range(come))
    world.ready()
    world.calm()
    assert all(worker.state == "ready" for worker in world.ledger.workers.values())


def test_workers_that_are_there_are_not_started_again():
    """Whether they idle, work, or start."""
    world = ready_pool(3)
    world.warm_up(2)
    assert world.orders(f.StartWorker) == []
    starting = World(3)
    starting.open("def", 1)
    starting.warm_up(2)
    starting.warm_up(2)
    assert [order.index for order in starting.orders(f.StartWorker)] == [0, 1]


def test_a_warm_worker_takes_the_first_item_at_once():
    """Nobody is started for it."""
    world = World(4)
    world.warm_up(2)
    world.ready()
    job = world.open("def", 2)
    world.feed(job)
    world.play_out()
    assert job.how == "done"
    assert len(world.orders(f.StartWorker)) == 2


def test_warm_workers_go_when_they_have_idled_for_long_enough():
    """As any other, and nobody takes their place."""
    world = World(4, idle_timeout=10.0)
    world.warm_up(3)
    world.ready()
    world.calm()
    began = world.now
    while world.workers:
        assert world.ring()
        world.calm()
    assert world.now == pytest.approx(began + 10.0)
    assert len(world.orders(f.StartWorker)) == 3


def test_what_keeps_a_warm_worker_from_starting_is_said_by_the_first_job():
    """Nobody tries again before, and the job does."""
    world = World(2)
    world.warm_up(2)
    for worker in list(world.workers.values()):
        world.say_broken(worker)
        world.deliver(worker)
    world.calm()
    assert world.workers == {}
    assert len(world.orders(f.StartWorker)) == 2
    world.warm_up(2)
    assert len(world.orders(f.StartWorker)) == 2, "it is hopeless"
    job = world.open("def", 1)
    (worker,) = world.workers.values()
    world.say_broken(worker)
    world.deliver(worker)
    assert job.how == "start failed"


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_that_ends_is_not_warmed_up(end):
    """It has ended, and stays so."""
    world = World(2)
    getattr(world, end)()
    assert world.ended
    world.warm_up(2)
    assert world.orders(f.StartWorker) == []


# --- a start that was the wrong one ----------------------------------------------------------------------------------


def test_a_worker_that_failed_at_what_none_runs_any_more_does_not_count():
    """However many there are: the next one is another one."""
    world = World(1)
    job = world.open("def", 1)
    for _ in range(2 * policy.START_FAILURES):
        worker = world.at(0)
        world.say_broken(worker, hopeless=False)
        world.deliver(worker)
        world.calm()
        assert job.how is None
    world.play_out()
    assert job.how == "done"


def test_when_the_start_has_changed_workers_are_started_that_could_not_before():
    """At once, while a job goes on with those there are."""
    world = World(2)
    job = world.open("def", 9)
    world.ready(0)
    broken = world.at(1)
    world.say_broken(broken)
    world.deliver(broken)
    world.calm()
    assert len(world.orders(f.StartWorker)) == 2
    world.change_start()
    assert len(world.orders(f.StartWorker)) == 3
    world.play_out()
    assert job.how == "done"
