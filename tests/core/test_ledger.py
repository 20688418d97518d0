"""What the ledger decides, question by question. The world around it is played by :mod:`tests.core.world`."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.ledger import Ledger
from aiopool.errors import FrameError, InternalError
from tests.core.world import Worker, World


def load(worker: Worker) -> int:
    """How many items the worker holds."""
    return sum(map(len, worker.held.values()))


def loads(world: World) -> list[int]:
    """How many items each worker holds, by place."""
    return [load(worker) for worker in sorted(world.workers.values(), key=lambda worker: worker.index)]


def ready_pool(size: int, kind: f.Kind = "def", **options) -> World:
    """A pool whose workers are all up and idle."""
    world = World(size, **options)
    job = world.open(kind, size, concurrency=size)
    world.calm()
    world.ready()
    world.play_out()
    assert job.how == "done"
    world.log.clear()
    return world


# --- question 1: who may take it? ----------------------------------------------------------------------------------


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


# --- question 3: both kinds want workers? --------------------------------------------------------------------------


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
    """What it runs, runs to its end; what it has not started goes to the other one."""
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


def test_an_async_stream_without_items_does_not_keep_the_only_worker_from_functions():
    """It is reserved for coroutines, so functions wait a second for a worker of their own."""
    world = ready_pool(1, "async")
    stream = world.open("async", 50, sized=False)
    world.feed(stream, most=1)
    world.calm()
    world.play_out()
    world = ready_pool(1, "async")
    stream = world.open("async", 50, sized=False)
    world.tell(f.PauseAsked(999))
    job = world.open("def", 2, sized=False)
    world.feed(job, most=1)
    if job.id not in world.at(0).queues:
        world.ring()
    world.ready()
    for _ in range(3):
        world.feed(job, most=1)
        for worker in list(world.workers.values()):
            world._stir(worker)
        world.finish_one()
    assert len(job.ends) == 2


# --- question 4: a worker idles ----------------------------------------------------------------------------------------


def test_an_idle_worker_gets_half_of_what_has_not_started_elsewhere():
    """The last items of a job do not wait in line while a worker has nothing to do."""
    world = World(2)
    job = world.open("def", 17, batch=8)
    world.calm()
    world.ready(0)
    world.calm()
    assert load(world.at(0)) == 8
    world.ready(1)
    world.calm()
    worker = world.at(1)
    assert load(worker) == 8
    for _ in range(9):
        if worker.running:
            world.finish(worker, list(worker.running))
        world.calm()
    assert job.ends.keys() >= set(range(8, 17))
    # It had ended all of its own and asked for some of the other one's seven.
    assert load(world.at(0)) in {4, 5}


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


def test_what_several_idle_workers_ask_for_is_shared_among_them():
    """Seven items behind a slow one, three idle workers: nobody waits."""
    world = ready_pool(4)
    job = world.open("def", 8, batch=8, concurrency=4)
    world.calm()
    assert sorted(len(worker.running) for worker in world.workers.values()) == [1, 1, 1, 1]
    assert job.how is None


# --- question 5: a worker died? ----------------------------------------------------------------------------------------


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


def test_with_nobody_known_to_be_at_work_all_that_ran_are_suspects_the_second_time():
    """Killed from outside twice: the same items then run one by one, and none is lost."""
    world = ready_pool(1, "async")
    job = world.open("async", 4, concurrency=4)
    world.calm()
    world.die(world.at(0))
    world.calm()
    world.ready()
    world.calm()
    assert len(world.at(0).running) == 4
    world.die(world.at(0))
    world.calm()
    world.ready()
    world.calm()
    assert len(world.at(0).running) == 1
    world.play_out()
    assert [hows for _, hows in sorted(job.ends.items())] == [["value"]] * 4


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


# --- starting ----------------------------------------------------------------------------------------------------------


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


# --- time --------------------------------------------------------------------------------------------------------------


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


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_cancelled_job_ends_at_once_and_its_workers_drop_it():
    """Results that were on their way are nobody's any more."""
    world = ready_pool(2, "async")
    job = world.open("async", 10)
    world.calm()
    worker = world.at(0)
    world.finish(worker, [next(iter(worker.running))])
    world.cancel(job, "stopped")
    assert job.how == "stopped"
    assert {order.worker for order in world.orders(f.CancelOn)} == {1, 2}
    world.deliver(worker)
    for worker in world.workers.values():
        world.read(worker)
        world.unwind(worker, job.id)
    world.calm()
    assert loads(world) == [0, 0]
    assert world.orders(f.Kill) == []


def test_a_worker_that_does_not_drop_a_cancelled_job_is_killed_and_replaced():
    """After the grace; neighbours run again."""
    world = ready_pool(1, "async", grace=2.0)
    stuck = world.open("async", 1)
    world.calm()
    other = world.open("async", 3)
    world.calm()
    world.at(0).stubborn = True
    world.cancel(stuck)
    world.calm()
    assert world.orders(f.Kill) == []
    asked = world.now
    world.ring()
    assert world.now == asked + 2.0
    assert len(world.orders(f.Kill)) == 1
    assert len(world.orders(f.StartWorker)) == 1, "the replacement starts beside the one that is dying"
    world.play_out()
    assert other.how == "done"


def test_a_worker_forgets_a_job_that_has_ended():
    """Its function may be large."""
    world = ready_pool(2)
    job = world.open("def", 4)
    world.play_out()
    assert sorted((order.worker, order.job) for order in world.orders(f.ForgetOn)) == [(1, job.id), (2, job.id)]


def test_a_submit_that_comes_back_unstarted_is_forgotten_by_the_worker_that_had_it():
    """A worker drops a submit's function by itself only once it has run."""
    world = ready_pool(1)
    world.submit("def")
    held_back = world.submit("def")
    world.calm()
    world.finish_one(seconds=0.001)
    world.calm()
    third = world.submit("def")
    assert third.how is None
    world.play_out()
    assert held_back.how == "done"
    assert world.orders(f.ForgetOn) == []
    running, waiting = world.submit("def"), world.submit("def")
    world.tell(f.PauseAsked(running.id))
    world.calm()
    assert waiting.how is None


def test_a_pause_brings_back_what_has_not_started_and_lets_run_what_runs():
    """And resume goes on."""
    world = ready_pool(1)
    job = world.open("def", 100)
    world.calm()
    world.finish_one(seconds=0.001)
    world.calm()
    assert load(world.at(0)) > 1
    world.pause(job)
    world.calm()
    assert load(world.at(0)) == 1
    world.finish_one()
    world.calm()
    assert load(world.at(0)) == 0
    assert job.how is None
    world.resume(job)
    world.play_out()
    assert job.how == "done"


def test_the_first_failure_ends_a_job_unless_it_shall_go_on():
    """on_error decides, here as stop_on_failure."""
    for stop in (True, False):
        world = ready_pool(1)
        job = world.open("def", 5, stop_on_failure=stop)
        world.calm()
        worker = world.at(0)
        world.finish(worker, list(worker.running), fail=True)
        world.deliver(worker)
        assert job.how == ("failed" if stop else None)
        world.play_out()
        assert job.how == ("failed" if stop else "done")


def test_an_input_that_breaks_fails_the_job_after_what_was_read_has_ended():
    """Results before the error stand."""
    world = ready_pool(1)
    job = world.open("def", 5, sized=False, breaks=True)
    world.play_out()
    assert job.how == "failed"
    assert sorted(job.ends) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sized", [True, False])
def test_an_empty_input_is_done_at_once(sized):
    """And starts nobody."""
    world = World(2)
    job = world.open("def", 0, sized=sized)
    world.calm()
    assert job.how == "done"
    assert world.workers == {}


def test_close_ends_the_pool_when_its_jobs_have_ended():
    """No new jobs meanwhile."""
    world = ready_pool(2)
    job = world.open("def", 10)
    world.calm()
    world.close()
    late = world.open("def", 1)
    assert late.how == "cancelled"
    assert job.how is None
    world.play_out()
    world.calm()
    assert job.how == "done"
    assert world.ended
    assert world.ledger.state == "closed"


def test_terminate_ends_the_pool_now():
    """Jobs are cancelled, workers killed, also those that are starting."""
    world = World(2)
    job = world.open("def", 10)
    world.calm()
    world.ready(0)
    world.terminate()
    assert job.how == "cancelled"
    assert len(world.orders(f.Kill)) == 2
    assert world.orders(f.CancelOn) == []
    world.calm()
    assert world.ended


# --- the pool ------------------------------------------------------------------------------------------------------------


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
    assert {world.orders(f.StartWorker)[0].worker if world.orders(f.StartWorker) else None} == {None}


def test_a_broadcast_ends_although_the_pool_shrinks():
    """What is left of it runs where there is somebody."""
    world = World(4)
    job = world.open("def", 4, pinned=True)
    world.ready(0)
    world.calm()
    world.resize(1)
    world.play_out()
    assert job.how == "done"


# --- reading on ----------------------------------------------------------------------------------------------------------


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
    assert max(sizes) == policy.BATCH_MOST
    assert all(later <= earlier * policy.GROWTH for earlier, later in zip(sizes, sizes[1:], strict=False))


def test_a_fixed_batch_size_is_kept():
    """batch=7 is what travels, but for the end of the input."""
    world = ready_pool(2)
    world.open("def", 50, batch=7)
    world.play_out()
    assert {len(items) for _, items in list(world.batches.values())[2:]} <= set(range(1, 8))


# --- what cannot be ------------------------------------------------------------------------------------------------------


def test_what_a_worker_cannot_know_is_refused_and_changes_nothing():
    """The pool gives up the worker that says it, and nobody else."""
    world = ready_pool(1)
    job = world.open("def", 5, batch=5)
    world.calm()
    batch = next(iter(world.at(0).held))
    worker = world.at(0).id
    for fact in (
        f.Finished(worker, 999, (0,), 0.1),
        f.Finished(worker, batch, (0, 0), 0.1),
        f.Finished(worker, batch, (5,), 0.1),
        f.Finished(worker, batch, range(6), 0.1),
        f.Finished(worker, batch, (0,), float("inf")),
        f.ItemFailed(worker, batch, 9, 0.1),
        f.ItemFailed(worker, batch, 0, float("nan")),
        f.Returned(worker, job.id, (batch,), (1,)),
        f.Cleared(worker, job.id),
    ):
        world.refuse(fact)
    world.tell(f.PauseAsked(job.id))
    for batches, positions in (((batch,), ()), ((batch, batch), (1, 1)), ((999,), (0,)), ((batch, 999), (1, 0))):
        world.refuse(f.Returned(worker, job.id, batches, positions))
    with pytest.raises(FrameError, match="does not hold"):
        world.ledger.batch(worker, 999)


def test_a_batch_of_another_job_cannot_come_back():
    """Else the items of that one would be run twice."""
    world = ready_pool(1)
    one, two = world.open("def", 5, batch=5), world.open("def", 5, batch=5)
    world.calm()
    batches = {world.batches[batch][0].id: batch for batch in world.at(0).held}
    world.pause(one)
    world.refuse(f.Returned(world.at(0).id, one.id, (batches[two.id],), (1,)))


def test_nothing_is_told_of_a_worker_that_is_gone():
    """The runtime tells bytes first and the death last; anything else is our own mistake, and not silent."""
    ledger = Ledger(1)
    with pytest.raises(InternalError, match="worker 5"):
        ledger.tell(f.WorkerReady(5), 0.0)


def test_a_worker_may_say_that_it_is_ready_just_before_it_is_killed():
    """Its word and the order cross: it stays killed."""
    world = World(1)
    job = world.open("def", 1)
    worker = world.at(0)
    world.say_ready(worker)
    world.cancel(job)
    world.terminate()
    assert worker.killed
    world.deliver(worker)
    assert world.orders(f.HangUp) == []
