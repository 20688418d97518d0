"""Who gets what: questions 1, 2 and 4 of the ledger, and how far its input is read for them."""

from __future__ import annotations

import itertools

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, load, loads, ready_pool

# --- question 1: who may take it? ------------------------------------------------------------------------------------


def test_workers_are_started_when_there_is_work_and_no_more_than_there_is_work():
    """An idle pool costs nothing, and two items do not start eight processes."""
    world = World(8)
    assert world.workers == {}
    world.open("def", 2)
    assert len(world.workers) == 2
    world.open("async", 1)
    assert len(world.workers) == 3
    world.open("async", 1000)
    assert len(world.workers) == 8


def test_an_unsized_input_starts_workers_as_its_items_come():
    """Nobody knows how many there will be, so each item that waits may start a worker."""
    world = World(4)
    job = world.open("def", 9, sized=False)
    assert world.workers == {}
    world.feed(job, most=1)
    assert len(world.workers) == 1
    world.feed(job, most=1)
    assert len(world.workers) == 2


def test_two_functions_on_two_workers_run_at_once_although_one_worker_was_ready_first():
    """An unmeasured def may take minutes: it does not queue behind another one while a worker is about to come."""
    world = World(2)
    world.open("def", 2)
    world.calm()
    world.ready(0)
    world.calm()
    assert load(world.at(0)) == 1
    world.ready(1)
    world.calm()
    assert loads(world) == [1, 1]


def test_nothing_queues_at_a_worker_until_it_is_known_how_long_an_item_takes():
    """Then work for a tenth of a second waits there."""
    world = World(1)
    world.open("def", 100)
    world.calm()
    world.ready()
    world.calm()
    assert loads(world) == [1]
    for _ in range(2):
        world.finish_one(seconds=0.01)
        world.calm()
    assert loads(world) == [11]


def test_a_job_with_fewer_lanes_than_workers_uses_that_many_workers():
    """concurrency=2 on four workers is two items at a time."""
    world = ready_pool(4)
    world.open("def", 20, concurrency=2)
    world.calm()
    assert sum(bool(worker.running) for worker in world.workers.values()) == 2


def test_lanes_are_shared_out_so_that_they_sum_up_to_the_concurrency():
    """concurrency=10 on four workers: 3, 3, 2, 2."""
    world = ready_pool(4, "async")
    world.open("async", 100, concurrency=10)
    world.calm()
    assert sorted(len(worker.running) for worker in world.workers.values()) == [2, 2, 3, 3]


@pytest.mark.parametrize("kind", ["async", "def"])
def test_a_job_never_runs_more_than_its_concurrency_while_the_pool_is_restarted(kind):
    """New workers get only the lanes that the retiring ones have given up."""
    world = ready_pool(2, kind)
    job = world.open(kind, 40, concurrency=2 if kind == "def" else 8)
    world.calm()
    before = sum(len(worker.running) for worker in world.workers.values())
    assert before == job.opened.concurrency
    world.restart()
    world.ready()
    world.calm()
    # World.start() asserts on every item that no more run.
    new = [worker for worker in world.workers.values() if world.ledger.workers[worker.id].state == "ready"]
    assert sum(len(worker.running) for worker in new) == 0
    world.finish_one()
    world.calm()
    assert sum(len(worker.running) for worker in new) == 1
    world.play_out()


def test_a_job_of_one_item_per_worker_has_a_lane_on_every_worker_that_comes():
    """What a def does that says nothing of concurrency: it grows with the pool, and does not wait for who leaves it."""
    world = ready_pool(1)
    world.open("def", 50)
    world.calm()
    world.resize(3)
    world.ready()
    world.calm()
    assert [len(worker.running) for worker in world.workers.values()] == [1, 1, 1]
    world.restart()
    world.ready()
    world.calm()
    assert [len(worker.running) for worker in world.workers.values()] == [1] * 6


def test_a_worker_whose_share_has_shrunk_gets_nothing_until_its_share_is_all_that_runs():
    """One worker with all lanes, then a second one comes: half of the lanes move as their items end."""
    world = ready_pool(1, "async")
    world.open("async", 100, concurrency=8, batch=1)
    world.calm()
    assert len(world.at(0).running) == 8
    world.resize(2)
    world.calm()
    world.ready()
    world.calm()
    assert len(world.at(1).running) == 0
    for ended in range(1, 5):
        worker = world.at(0)
        world.finish(worker, [next(iter(worker.running))])
        world.calm()
        assert len(world.at(1).running) == ended
    assert [len(world.at(index).running) for index in (0, 1)] == [4, 4]


def test_a_function_goes_to_a_worker_once_per_job():
    """Not once per batch, and to nobody who gets none of its items."""
    world = ready_pool(2)
    job = world.open("def", 50)
    world.play_out()
    sent = [(order.worker, order.job) for order in world.orders(f.SendFunction)]
    assert sorted(sent) == [(1, job.id), (2, job.id)]


# --- question 2: which of them? --------------------------------------------------------------------------------------


def test_sixteen_blocking_coroutines_are_spread_over_four_workers_that_idle():
    """Each could hold them all, and would run one after the other."""
    world = ready_pool(4, "async")
    world.open("async", 16)
    world.calm()
    assert loads(world) == [4, 4, 4, 4]


def test_sixteen_blocking_coroutines_are_spread_over_four_workers_that_start_one_after_another():
    """Whoever is ready first leaves the others their part."""
    world = World(4)
    world.open("async", 16)
    world.calm()
    for index in range(4):
        world.ready(index)
        world.calm()
        assert load(world.at(index)) == 4
    assert loads(world) == [4, 4, 4, 4]


@pytest.mark.parametrize("kind", ["async", "def"])
def test_submits_are_spread_over_workers_that_start_one_after_another(kind):
    """Each submit is a job of its own, and still they know of each other."""
    world = World(4)
    for _ in range(16):
        world.submit(kind)
    for index in range(4):
        world.ready(index)
        world.calm()
    assert loads(world) == ([4, 4, 4, 4] if kind == "async" else [1, 1, 1, 1])


def test_a_submit_goes_to_the_worker_that_has_least_to_do():
    """Whatever the others run."""
    world = ready_pool(3, "async")
    world.open("async", 2)
    world.calm()
    assert sorted(loads(world)) == [0, 1, 1]
    idle = next(worker for worker in world.workers.values() if not worker.held)
    world.submit("async")
    assert load(idle) == 1


def test_a_short_job_beside_a_long_one_is_not_starved():
    """It gets to every worker at once, and not behind everything that the long one has supplied."""
    world = ready_pool(2)
    world.open("def", 10_000)
    world.calm()
    world.finish_one(seconds=0.001)
    world.calm()
    short = world.open("def", 2)
    world.calm()
    holding = {worker.index for worker in world.workers.values() if short.id in worker.queues}
    assert holding == {0, 1}


def test_an_item_behind_a_long_one_of_another_job_goes_to_a_worker_that_idles():
    """However few items of its job wait there."""
    world = ready_pool(2)
    long = world.open("def", 2, concurrency=2)
    world.calm()
    short = world.open("def", 2, concurrency=2)
    world.calm()
    assert loads(world) == [2, 2]
    worker = world.at(0)
    world.finish(worker, [spot for spot, job in worker.running.items() if job == long.id])
    world.calm()
    world.finish(worker, [spot for spot, job in worker.running.items() if job == short.id])
    world.calm()
    assert [list(world.at(index).running.values()) for index in (0, 1)] == [[short.id], [long.id]]


def test_items_that_come_back_go_first():
    """Whoever reads results in order waits for them."""
    world = ready_pool(1)
    job = world.open("def", 5)
    world.calm()
    world.die(world.at(0))
    world.calm()
    world.ready()
    world.calm()
    assert world.batches[next(iter(world.at(0).running))[0]] == (job, (0,))


# --- question 4: a worker idles --------------------------------------------------------------------------------------


def test_an_idle_worker_gets_half_of_what_has_not_started_elsewhere():
    """The last items of a job do not wait in line while a worker has nothing to do."""
    world = ready_pool(2)
    world.open("def", 9, batch=9)
    world.calm()
    assert sorted(loads(world)) == [4, 5]
    assert [order.parts for order in world.orders(f.SendAskBack)] == [2]


def test_a_worker_that_had_nothing_to_give_is_not_asked_again_until_it_gets_something():
    """Hundreds of idle workers at the end of a job do not ask in circles."""
    world = ready_pool(4, "async")
    world.open("async", 8)
    world.calm()
    for index in range(3):
        worker = world.at(index)
        while worker.running:
            world.finish(worker, [next(iter(worker.running))])
            world.calm()
    assert loads(world) == [0, 0, 0, 2]
    asked = [order.worker for order in world.orders(f.SendAskBack)]
    assert len(asked) == len(set(asked)) <= 4


@pytest.mark.parametrize("crossing", [False, True])
def test_a_worker_that_had_nothing_to_give_is_asked_again_when_it_has_got_something(crossing):
    """Also when that was on its way while it answered, to a question that was asked before."""
    world = ready_pool(2, "async")
    job = world.open("async", 100, sized=False, concurrency=4, batch=6)
    for _ in range(2):
        world.feed(job, most=2)
    world.bustle_workers()
    full, idle = world.at(0), world.at(1)
    world.finish(idle, list(idle.running))
    world.deliver(idle)
    assert [order.worker for order in world.orders(f.SendAskBack)] == [full.id]
    if not crossing:
        world.bustle_workers()
    world.finish(full, list(full.running)[:1])
    world.deliver(full)
    for _ in range(2):
        world.feed(job)
    world.bustle_workers()
    assert loads(world) == [7, 6]
    while idle.running:
        world.finish(idle, [next(iter(idle.running))])
        world.bustle_workers()
    assert [order.worker for order in world.orders(f.SendAskBack)] == [full.id, full.id]


def test_what_several_idle_workers_ask_for_is_shared_among_them():
    """Seven items behind a slow one, three idle workers: nobody waits."""
    world = ready_pool(4)
    job = world.open("def", 8, batch=8, concurrency=4)
    world.calm()
    assert [len(worker.running) for worker in world.workers.values()] == [1, 1, 1, 1]
    assert sorted(loads(world)) == [2, 2, 2, 2]
    assert len(world.orders(f.SendAskBack)) <= 3
    assert job.starts.total() == 4


def test_among_many_workers_whoever_idles_asks_for_work_again_after_a_while():
    """Not with every batch that ends, for that is many; but nobody has to say anything for it."""
    world = ready_pool(policy.WIDE)
    world.open("def", 4 * policy.WIDE, batch=4 * policy.WIDE)
    world.calm()
    assert len(world.orders(f.SendAskBack)) <= 1
    begun = world.now
    while 0 in loads(world):
        assert world.ring(), "nobody will ask again"
        world.calm()
    assert world.now - begun <= 0.1


def test_what_queues_behind_items_that_take_for_ever_goes_to_a_worker_with_free_lanes():
    """One of its own takes for ever, too, so it never idles."""
    world = ready_pool(2)
    world.open("def", 80, concurrency=8)
    world.calm()
    while sum(loads(world)) < 40:
        world.finish_one(seconds=0.0001)
        world.calm()
    stuck, busy = world.at(0), world.at(1)
    assert load(stuck) > len(stuck.running) == 4
    one = next(iter(busy.running))
    while others := [spot for spot in busy.running if spot != one]:
        world.finish(busy, others[:1], seconds=0.0001)
        world.calm()
    assert loads(world) == [4, 1]


# --- reading on ------------------------------------------------------------------------------------------------------


def test_an_unsized_input_is_read_no_further_than_its_window():
    """Whatever the workers could take."""
    world = ready_pool(2, "async")
    job = world.open("async", 1000, sized=False, window=5, concurrency=100)
    world.calm()
    assert job.read == 5
    world.finish_one()
    world.calm()
    assert job.read == 6
    world.play_out()
    assert job.how == "done"


def test_reading_goes_ahead_of_the_workers_but_not_far():
    """A million items are not pickled before the first has run."""
    world = ready_pool(2)
    job = world.open("def", 1_000_000)
    world.calm()
    assert 2 < job.read < 20


def test_batches_grow_with_what_is_learnt_about_the_items():
    """From one item to thousands, by eight at most at a time."""
    world = ready_pool(1)
    world.open("def", 1_000_000)
    world.calm()
    sizes = []
    for _ in range(40):
        worker = world.at(0)
        batch = next(iter(worker.running))[0]
        sizes.append(len(world.batches[batch][1]))
        while worker.queues and any(spot[0] == batch for queue in worker.queues.values() for spot in queue):
            queue = next(iter(worker.queues.values()))
            worker.running[queue.popleft()] = 2
        world.finish(worker, [spot for spot in worker.running if spot[0] == batch], seconds=1e-6)
        world.calm()
    assert sizes[0] == 1
    assert max(sizes) == policy.BATCH_MOST["def"]
    assert all(later <= earlier * policy.GROWTH for earlier, later in itertools.pairwise(sizes))


def test_a_fixed_batch_size_is_kept():
    """batch=7 is what travels, but for the end of the input."""
    world = ready_pool(2)
    world.open("def", 50, batch=7)
    world.play_out()
    assert {len(items) for _, items in list(world.batches.values())[2:]} <= set(range(1, 8))
