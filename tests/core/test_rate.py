"""Question 8 of the ledger: a job has a rate. The world checks at every batch that it is kept over any time."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, loads, ready_pool


def starts(world: World) -> int:
    """How many items were sent so far."""
    return sum(len(world.batches[order.batch][1]) for order in world.orders(f.SendBatch))


def play(world: World, seconds: float, *, take: float = 0.01) -> int:
    """Let this time pass; what starts ends as soon as nothing more can start. How many items were sent."""
    end, before = world.now + seconds, starts(world)
    while True:
        world.calm()
        while world.finish_one(seconds=take):
            world.calm()
        if world.alarm is None or world.alarm > end:
            break
        world.ring()
    world.now = end
    return starts(world) - before


@pytest.mark.parametrize(
    ("rate", "kind", "seconds"), [(0.5, "def", 10.0), (3.0, "async", 10.0), (50.0, "def", 3.0), (1000.0, "async", 1.0)]
)
def test_a_job_starts_as_many_items_a_second_as_its_rate_says(rate, kind, seconds):
    """The first at once, and then no fewer."""
    world = ready_pool(4, kind)
    world.open(kind, 100_000, rate=rate)
    batch = max(1, int(rate * policy.RATED_SECONDS))
    expected = rate * seconds
    assert expected - batch <= play(world, seconds) <= expected + batch


def test_a_batch_of_a_job_with_a_rate_is_a_hundredth_of_a_second_also_where_the_user_says_more():
    """Whatever is sent together starts together."""
    world = ready_pool(1, "async")
    world.open("async", 1000, concurrency=200, rate=500.0, batch=100)
    play(world, 0.5)
    assert {len(items) for job, items in world.batches.values() if job.opened.rate} == {5}


def test_no_batch_is_larger_than_what_its_worker_steps_at_once():
    """What waits for a lane would start when nobody counts."""
    world = ready_pool(2, "async")
    world.open("async", 1000, concurrency=6, rate=1000.0)
    play(world, 0.2)
    assert {len(items) for job, items in world.batches.values() if job.opened.rate} == {1, 3}


@pytest.mark.parametrize("batch", [None, 2])
def test_what_is_sent_at_a_rate_finds_lanes_for_all_of_it_also_where_items_end_one_by_one(batch):
    """World checks it at every batch."""
    world = ready_pool(2, "async")
    job = world.open("async", 60, concurrency=6, rate=1000.0, batch=batch)
    for _ in range(200):
        world.calm()
        world.now += 0.001
        world.ring()
        world.finish_one(seconds=1e-4)
    world.play_out()
    assert job.how == "done"


def test_nothing_waits_in_line_at_a_worker():
    """However short its items are known to be."""
    world = ready_pool(1)
    world.open("def", 1000, rate=20.0)
    play(world, 3.0, take=1e-4)
    world.calm()
    world.ring()
    world.calm()
    assert loads(world) == [1]


def test_alarms_that_come_a_little_late_do_not_add_up():
    """A rate of fifty is fifty, also where the pool's own thread is slow. What is later than that is lost."""
    for late, expected in ((0.008, 50), (0.02, 25)):
        world = ready_pool(1, "async")
        world.open("async", 10_000, rate=50.0)
        world.calm()
        begun = world.now
        while world.now < begun + 5.0:
            world.now, world.alarm = world.alarm + late, None
            world.tell(f.TimePassed())
            world.calm()
            while world.finish_one():
                world.calm()
        assert starts(world) == pytest.approx(5 * expected, abs=3)


def test_a_pause_saves_up_nothing():
    """An hour later it goes on as slowly as before."""
    world = ready_pool(4, "async")
    job = world.open("async", 10_000, rate=10.0)
    play(world, 2.0)
    world.pause(job)
    assert play(world, 3600.0) == 0
    world.resume(job)
    assert play(world, 1.0) in {10, 11}


def test_a_time_in_which_the_job_could_not_use_its_rate_saves_up_nothing():
    """One item that took an hour is not followed by a burst."""
    world = ready_pool(1)
    world.open("def", 10_000, rate=10.0)
    world.calm()
    world.now += 3600.0
    world.tell(f.TimePassed())
    assert play(world, 1.0) in {10, 11}


def test_every_attempt_counts():
    """Retries are starts as any others; hammering is what a rate is for."""
    world = ready_pool(1, "async")
    job = world.open(
        "async", 10, rate=2.0, retries=1, backoff=0.0, flaky=dict.fromkeys(range(10), 1), stop_on_failure=False
    )
    begun = world.now
    world.play_out()
    assert job.how == "done"
    assert starts(world) == 20
    assert world.now - begun >= 19 / 2.0


def test_items_that_have_rested_travel_in_batches_as_small_as_others():
    """A hundred that failed together do not come back together."""
    world = ready_pool(1, "async")
    flaky = dict.fromkeys(range(100), 1)
    job = world.open("async", 200, concurrency=200, rate=500.0, retries=1, backoff=0.5, flaky=flaky)
    world.play_out()
    assert job.how == "done"
    assert max(len(items) for book, items in world.batches.values() if book is job) == 5


def test_an_item_of_a_job_with_a_rate_runs_alone_too_when_it_is_a_suspect():
    """Others of its job do not overtake it at every turn."""
    world = ready_pool(1, "async")
    job = world.open("async", 30, rate=5.0, poison=frozenset({2}), stop_on_failure=False)
    for _ in range(400):
        world.calm()
        world.ready()
        if not (world.ring() if world.alarm is not None and world.now < world.alarm else world.finish_one()):
            world.finish_one()
    world.play_out()
    assert job.how == "done"
    assert job.ends[2] == ["lost"]


def test_a_suspect_of_a_job_with_a_rate_is_not_overtaken_by_others_of_its_job():
    """Each of them would take the moment for which a worker was emptied."""
    world = ready_pool(2, "async")
    other = world.open("async", 2)
    world.calm()
    job = world.open("async", 50, rate=1.0)
    world.calm()
    worker = next(worker for worker in world.workers.values() if job.id in worker.running.values())
    world.die(worker, stepping=next(spot for spot, number in worker.running.items() if number == job.id))
    world.calm()
    world.ready()
    world.calm()
    world.open("async", 2)
    world.calm()
    world.now += 1.0
    world.tell(f.TimePassed())
    world.calm()
    staying = next(worker for worker in world.workers.values() if world.ledger.workers[worker.id].claim)
    world.finish(staying, list(staying.running))
    world.calm()
    assert list(staying.running.values()) == [job.id]
    world.play_out()
    assert (other.how, job.how) == ("done", "done")


def test_an_idle_worker_asks_for_nothing_that_runs_already():
    """What was sent at a rate has started; asking for it back would only cost another start."""
    world = ready_pool(2, "async")
    job = world.open("async", 6, concurrency=100, rate=300.0)
    while starts(world) < 6:
        world.calm()
        assert world.ring()
    world.calm()
    worker = world.at(0)
    for spot in list(worker.running):
        world.finish(worker, [spot])
    world.calm()
    assert loads(world) == [0, 3]
    assert job.how is None
    assert world.orders(f.SendAskBack) == []


def test_a_worker_with_fewer_lanes_than_a_batch_has_items_takes_it_when_it_has_nothing():
    """The pool grew after the batch was made: it must not wait for ever."""
    world = ready_pool(1, "async")
    job = world.open("async", 60, concurrency=6, rate=300.0)
    world.calm()
    world.resize(3)
    world.ready()
    world.play_out()
    assert job.how == "done"


def test_a_job_that_waits_for_its_time_keeps_no_worker_from_others():
    """Workers are free for whoever has something to do."""
    world = ready_pool(2)
    world.open("def", 100, rate=0.1)
    other = world.open("def", 100)
    world.calm()
    while world.finish_one():
        world.calm()
    assert other.how == "done"
