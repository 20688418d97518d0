"""Suspects: how the one of thousands that kills its worker is found, and what the others are put through for it."""

from __future__ import annotations

import math

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, loads, ready_pool


def deaths(world: World) -> int:
    """How many workers have died."""
    return sum(isinstance(fact, f.WorkerGone) for fact in world.log)


def play(world: World, job) -> None:
    """Items end in the order in which they began; while all do, the clock stands still."""
    for _ in range(50_000):
        world.calm()
        world.ready()
        world.calm()
        if not job.running or not world.finish_one():
            return


def only_lost(job) -> list[int]:
    """Which items ended as WorkerLost; all others have values."""
    assert all(hows in (["value"], ["lost"]) for hows in job.ends.values())
    return [index for index, hows in job.ends.items() if hows == ["lost"]]


def in_flight(size: int, count: int, **options) -> tuple[World, object]:
    """A pool of which every worker is full of one job's coroutines."""
    world = ready_pool(size, "async")
    job = world.open("async", count, concurrency=count, stop_on_failure=False, **options)
    world.calm()
    assert sum(loads(world)) == count
    return world, job


@pytest.mark.parametrize("size", [1, 3])
def test_who_kills_while_it_is_at_work_costs_two_deaths_among_six_hundred(size):
    """It runs again alone, while the others are held; they are never suspected."""
    world, job = in_flight(size, 600, poison=frozenset({234}))
    play(world, job)
    assert (job.how, only_lost(job), deaths(world)) == ("done", [234], 2)
    assert job.starts[234] == 2
    assert max(job.starts.values()) == 2


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("culprit", [0, 234, 599])
def test_who_kills_while_others_are_at_work_is_found_in_halves(size, culprit):
    """Its neighbours run as often as they can be halved, and each who was at work then once more alone."""
    world, job = in_flight(size, 600, hidden=frozenset({culprit}))
    play(world, job)
    assert (job.how, only_lost(job)) == ("done", [culprit])
    assert 2 <= deaths(world) <= 2 + math.log2(600)


def test_the_others_are_held_until_the_first_suspect_has_ended():
    """Nothing else is lost if it dies again; and whoever has not started waits for nobody."""
    world, job = in_flight(1, 8)
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    world.ready()
    world.calm()
    assert loads(world) == [1]
    assert world.ledger.jobs[job.id].suspended == set(range(1, 8))
    world.finish_one()
    world.calm()
    assert world.ledger.jobs[job.id].suspended == set()
    assert loads(world) == [4]
    assert {batch.alone for batch in world.ledger.workers[world.at(0).id].batches.values()} == {True}


def test_a_first_suspect_that_dies_again_acquits_the_others():
    """They run as before, beside others."""
    world, job = in_flight(1, 8)
    for _ in range(2):
        worker = world.at(0)
        world.die(worker, stepping=next(iter(worker.running)))
        world.calm()
        world.ready()
        world.calm()
    assert job.ends == {0: ["lost"]}
    assert not world.ledger.jobs[job.id].trials
    assert loads(world) == [7]


def test_the_others_wait_no_longer_for_a_suspect_of_an_hour():
    """After a while they go on without its verdict, in halves."""
    world, job = in_flight(2, 8)
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    world.ready()
    world.calm()
    assert len(world.ledger.jobs[job.id].suspended) == 3
    before = world.now
    while world.ledger.jobs[job.id].suspended:
        assert world.ring()
    assert world.now - before == policy.VERDICT_SECONDS
    world.play_out()
    assert job.how == "done"


def test_what_outlives_what_killed_before_keeps_its_worker_no_longer():
    """Items that had run for so long when it died are given as much again: then others may have the worker."""
    world, job = in_flight(1, 2)
    world.now += 20.0
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    world.ready()
    other = world.open("async", 5)
    world.calm()
    sent = world.now
    assert loads(world) == [1]
    while loads(world) == [1]:
        assert world.ring()
        world.calm()
    assert world.now - sent == policy.VERDICT_SECONDS + 20.0
    assert other.id in world.at(0).running.values()
    world.play_out()
    assert (job.how, other.how) == ("done", "done")


def test_suspects_that_find_no_empty_worker_run_beside_others():
    """The only one is kept by an item of an hour."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, concurrency=2)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.deliver(worker)
    world.ready()
    hour = world.submit("async")
    world.bustle_workers()
    world.calm()
    before = world.now
    while len(world.at(0).running) < 2:
        assert world.ring()
        world.calm()
    assert set(world.at(0).running.values()) == {job.id, hour.id}
    assert world.now - before == policy.TRIAL_SECONDS
    world.play_out()


def test_suspects_beside_others_are_suspects_still():
    """Who dies there again while it is at work was to blame, and those beside it are not."""
    world = ready_pool(1, "async")
    job = world.open("async", 1, stop_on_failure=False)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.deliver(worker)
    world.ready()
    hour = world.submit("async")
    world.bustle_workers()
    world.calm()
    assert world.ledger.workers[world.at(0).id].claim is not None
    while len(world.at(0).running) < 2:
        assert world.ring()
        world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(spot for spot, number in worker.running.items() if number == job.id))
    world.calm()
    assert job.ends == {0: ["lost"]}
    assert not world.ledger.jobs[hour.id].trials
    world.play_out()
    assert hour.how == "done"


def test_a_group_goes_where_all_of_it_runs_at_once():
    """One after another its items would not be together when one of them kills."""
    world = ready_pool(2, "async")
    job = world.open("async", 100, concurrency=8, batch=1)
    world.calm()
    world.restart()
    world.ready()
    world.calm()
    old, staying = [worker for worker in world.workers.values() if worker.running]
    world.die(old)
    world.calm()
    assert {len(job.batches[batch.id]) for batch in world.ledger.jobs[job.id].alone} == {2}
    world.log.clear()
    for worker in [staying, *world.workers.values()]:
        while worker.running:
            world.finish(worker, list(worker.running)[:1])
            world.deliver(worker)
    groups = [order for order in world.orders(f.SendBatch) if len(world.batches[order.batch][1]) == 2]
    assert groups
    assert all(order.lanes >= 2 for order in groups)
    world.play_out()
    assert job.how == "done"


def test_items_of_two_jobs_are_suspects_together():
    """The first suspect is of one, those who wait for it are of both; nobody forgets the other's."""
    world = ready_pool(1, "async")
    one = world.open("async", 6)
    two = world.open("async", 6, hidden=frozenset({3}), stop_on_failure=False)
    world.calm()
    assert loads(world) == [12]
    play(world, two)
    world.play_out()
    assert (one.how, only_lost(one)) == ("done", [])
    assert (two.how, only_lost(two)) == ("done", [3])
    assert deaths(world) <= 2 + math.log2(12) + 1


@pytest.mark.parametrize("act", ["cancel", "refuse", "fail"])
def test_whatever_becomes_of_the_first_suspect_the_others_do_not_wait_for_ever(act):
    """Its job is cancelled; it cannot be made into a batch any more; it fails."""
    world = ready_pool(1, "async")
    one = world.open("async", 1, stop_on_failure=False)
    two = world.open("async", 4)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(spot for spot, job in worker.running.items() if job == one.id))
    world.deliver(worker)
    assert len(world.ledger.jobs[two.id].suspended) == 4
    if act == "cancel":
        world.cancel(one)
    elif act == "refuse":
        world.feed(one, refuse_again=True)
    else:
        world.calm()
        world.ready()
        world.calm()
        world.finish(world.at(0), list(world.at(0).running), fail=True)
        world.deliver(world.at(0))
    assert not world.ledger.jobs[two.id].suspended
    world.play_out()
    assert two.how == "done"


def test_a_paused_job_has_its_suspects_when_it_goes_on():
    """Held or about to be tried: nothing of it is sent while it is paused, and nothing is forgotten."""
    world, job = in_flight(1, 6, poison=frozenset({0}))
    world.finish_one()
    world.pause(job)
    for _ in range(5):
        world.calm()
        world.ready()
        world.ring()
    assert loads(world) in ([], [0])
    world.resume(job)
    world.play_out()
    assert (job.how, only_lost(job), deaths(world)) == ("done", [0], 2)


def test_a_group_of_which_a_worker_is_restarted_is_a_group_again():
    """That death was ordered, and tells nothing of them."""
    world, job = in_flight(1, 8, hidden=frozenset({7}))
    for _ in range(3):
        world.calm()
        world.ready()
        world.calm()
        world.finish_one()
        world.restart(now=True)
    play(world, job)
    assert (job.how, only_lost(job)) == ("done", [7])


def test_items_with_a_rate_are_suspects_in_groups_as_large_as_it_allows():
    """The rate is the user's promise to somebody else."""
    world = ready_pool(1, "async")
    job = world.open("async", 12, concurrency=12, rate=100.0, hidden=frozenset({5}), stop_on_failure=False)
    for _ in range(400):
        world.calm()
        world.ready()
        if sum(job.starts.values()) >= 12 and not world.finish_one() and not world.ring():
            break
        if sum(job.starts.values()) < 12:
            world.ring()
    world.play_out()
    assert (job.how, only_lost(job)) == ("done", [5])


def test_attempts_of_different_numbers_are_groups_of_their_own():
    """A batch has one number of its attempt."""
    world = ready_pool(1, "async")
    job = world.open("async", 8, concurrency=8, retries=1, backoff=0.0, flaky={0: 1, 1: 1, 2: 1})
    world.calm()
    worker = world.at(0)
    for spot in list(worker.running)[:3]:
        world.finish(worker, [spot])
    world.deliver(worker)
    world.ring()
    world.calm()
    assert len(world.at(0).running) == 8
    world.die(world.at(0))
    world.play_out()
    assert (job.how, only_lost(job)) == ("done", [])


def test_workers_that_are_all_killed_at_once_cost_no_innocent_item():
    """Sixteen deaths in a row, but nobody's second one."""
    world = ready_pool(16)
    job = world.open("def", 16, stop_on_failure=False)
    world.calm()
    world.now += 1.0
    for worker in list(world.workers.values()):
        world.die(worker, stepping=next(iter(worker.running)))
        world.deliver(worker)
    world.play_out()
    assert (job.how, only_lost(job)) == ("done", [])


def test_deaths_that_leave_fewer_suspects_are_no_reason_to_give_up():
    """Ten in a row would be, though nothing has ended between them."""
    world = ready_pool(1, "async")
    job = world.open("async", 4096, concurrency=20 * 4096, stop_on_failure=False)
    world.calm()
    world.resize(20)
    count = 0
    while not job.ends and count < 30:
        world.calm()
        world.ready()
        world.calm()
        world.die(next(w for w in world.workers.values() if 0 in [world.batches[s[0]][1][s[1]] for s in w.running]))
        count += 1
        world.bustle_workers()
    assert job.ends == {0: ["lost"]}
    assert policy.DEATHS < count == 2 + math.log2(4096) - 1
