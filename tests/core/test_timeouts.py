"""Question 7 of the ledger: an item does not end in time. And workers that have imported what is no more."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.model import Job, Spot
from tests.core.world import World, ready_pool


def index_of(world: World, spot: Spot) -> int:
    """Which item of its job this is."""
    return world.batches[spot[0]][1][spot[1]]


def late(world: World, job: Job, index: int) -> Spot:
    """This item's time is over, and the ledger hears of it."""
    worker = world.at(0)
    spot = next(spot for spot, number in worker.running.items() if number == job.id and index_of(world, spot) == index)
    world.be_late(worker, spot)
    world.deliver(worker)
    return spot


def silence(world: World, job: Job) -> None:
    """Time passes until the worker is asked whether it is there."""
    heard = world.now
    while not world.orders(f.SendPing):
        assert world.ring()
    assert world.now == pytest.approx(heard + job.opened.timeout + policy.SILENCE_SECONDS)


# --- items that were told to end -------------------------------------------------------------------------------------


def test_an_item_that_ends_when_it_is_told_to_costs_nobody_its_worker():
    """It is that item's failure."""
    world = ready_pool(1, "async")
    job = world.open("async", 3, timeout=5.0, stop_on_failure=False)
    world.calm()
    late(world, job, 1)
    world.play_out()
    assert job.how == "done"
    assert job.ends == {0: ["value"], 1: ["failed"], 2: ["value"]}
    assert world.orders(f.SettleFailed) == [f.SettleFailed(job.id, 1, 1)]
    world.ring()
    assert world.orders(f.Kill, f.HangUp) == []


def test_an_item_that_ends_just_before_it_is_told_to_has_its_value():
    """Both are on their way."""
    world = ready_pool(1, "async")
    job = world.open("async", 1, timeout=5.0)
    world.calm()
    spot = late(world, job, 0)
    world.just_in_time(world.at(0), spot)
    world.calm()
    assert job.how == "done"


def test_word_of_an_item_that_has_ended_meanwhile_is_no_news():
    """The worker's threads know of each other's doings a little later."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, timeout=5.0)
    world.calm()
    worker = world.at(0)
    spot = next(iter(worker.running))
    world.finish(worker, [spot])
    worker.outbox.append(f.ItemOverdue(worker.id, *spot))
    world.calm()
    assert not world.ledger.workers[worker.id].overdue
    world.play_out()
    assert job.how == "done"


def test_a_worker_whose_item_does_not_end_is_replaced_then_killed_and_the_item_has_timed_out():
    """Its neighbours run again, without suspicion and without using an attempt."""
    world = ready_pool(1, "async", grace=2.0)
    job = world.open("async", 3, timeout=5.0, stop_on_failure=False)
    world.calm()
    world.at(0).stubborn = True
    late(world, job, 1)
    told = world.now
    world.ring()
    assert world.now == told + policy.DEAF_SECONDS
    assert len(world.orders(f.StartWorker)) == 1
    assert world.orders(f.Kill) == []
    world.ring()
    assert world.now == told + 2.0
    assert ["after its timeout" in order.why for order in world.orders(f.Kill)] == [True]
    killed = world.at(0) if world.at(0).killed else next(iter(world.workers.values()))
    world.play_out()
    assert world.orders(f.SettleTimedOut) == [f.SettleTimedOut(job.id, 1, killed.id, 1)]
    assert job.ends == {0: ["value"], 1: ["timed out"], 2: ["value"]}
    assert job.deaths == {0: 1, 1: 1, 2: 1}
    assert world.orders(f.SettleLost) == []
    assert {order.attempt for order in world.orders(f.SendBatch)} == {1}


@pytest.mark.parametrize("grace", [0.0, 2.0])
def test_a_timeout_that_needed_a_kill_may_be_mended_by_another_attempt(grace):
    """Which starts when the worker is gone, and not before."""
    world = ready_pool(1, grace=grace)
    job = world.open("def", 1, timeout=5.0, retries=1, backoff=3.0)
    world.calm()
    world.at(0).stubborn = True
    late(world, job, 0)
    while not world.orders(f.Kill):
        assert world.ring()
    assert world.orders(f.Recode) == []
    world.calm()
    killed = world.now
    world.ready()
    while not world.orders(f.Recode):
        assert world.ring()
    assert world.now == killed + 3.0
    world.play_out()
    assert job.how == "done"
    assert [order.attempt for order in world.orders(f.SendBatch)] == [1, 2]


def test_an_item_that_times_out_at_its_last_attempt_ends_so():
    """And nothing of it is remembered."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, timeout=5.0, retries=1, backoff=0.0, stop_on_failure=False)
    world.calm()
    for _ in range(2):
        worker = world.at(0)
        worker.stubborn = True
        late(world, job, 0)
        while not worker.killed:
            assert world.ring()
        world.calm()
        world.ready()
        world.ring()
        world.calm()
    assert world.orders(f.SettleTimedOut) == [f.SettleTimedOut(job.id, 0, worker.id, 2)]
    assert world.ledger.jobs[job.id].attempts == {}
    world.play_out()
    assert job.how == "done"


def test_two_items_that_were_late_at_a_worker_are_one_failure_of_a_job_that_ends_at_the_first():
    """Nothing of a job follows its end."""
    world = ready_pool(1, "async")
    job = world.open("async", 3, timeout=5.0)
    world.calm()
    worker = world.at(0)
    worker.stubborn = True
    late(world, job, 0)
    late(world, job, 2)
    while not worker.killed:
        assert world.ring()
    world.calm()
    assert job.how == "failed"
    assert world.orders(f.SettleTimedOut) == [f.SettleTimedOut(job.id, 0, worker.id, 1)]


def test_a_timeout_that_retry_on_does_not_name_is_the_end_of_its_item():
    """However many attempts were left."""
    world = ready_pool(1)
    job = world.open("def", 1, timeout=5.0, retries=3, retry_timeouts=False)
    world.calm()
    worker = world.at(0)
    worker.stubborn = True
    late(world, job, 0)
    world.play_out()
    assert job.how == "failed"
    assert world.orders(f.SettleTimedOut) == [f.SettleTimedOut(job.id, 0, worker.id, 1)]


def test_an_item_that_may_run_once_and_whose_neighbour_timed_out_is_lost():
    """Nobody knows how far it was."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, timeout=5.0, rerun_lost=False, stop_on_failure=False)
    world.calm()
    world.at(0).stubborn = True
    late(world, job, 0)
    while not world.orders(f.Kill):
        assert world.ring()
    world.play_out()
    assert job.ends == {0: ["timed out"], 1: ["lost"]}


def test_a_death_by_itself_makes_suspects_and_who_was_late_is_the_first():
    """That its time was over does not tell who killed."""
    world = ready_pool(1, "async")
    job = world.open("async", 3, timeout=5.0)
    world.calm()
    late(world, job, 2)
    world.die(world.at(0))
    world.calm()
    assert world.ledger.jobs[job.id].trials.keys() == {2}
    world.play_out()
    assert job.how == "done"


def test_who_was_late_and_may_run_once_has_timed_out_whoever_killed_its_worker():
    """That much is known."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, timeout=5.0, rerun_lost=False, stop_on_failure=False)
    world.calm()
    late(world, job, 0)
    world.die(world.at(0))
    world.play_out()
    assert job.ends == {0: ["timed out"], 1: ["lost"]}


def test_cancelling_a_job_forgets_that_its_items_were_late():
    """They have the grace of a cancel."""
    world = ready_pool(1, "async", grace=2.0)
    job = world.open("async", 1, timeout=5.0)
    world.calm()
    world.at(0).stubborn = True
    late(world, job, 0)
    world.now += 0.1
    world.cancel(job)
    while not world.orders(f.Kill):
        assert world.ring()
    assert ["a cancelled item" in order.why for order in world.orders(f.Kill)] == [True]


# --- workers that do not answer --------------------------------------------------------------------------------------


def test_a_worker_that_says_nothing_is_asked_and_killed_and_the_item_at_work_has_timed_out():
    """C code that holds the lock of the interpreter keeps even the worker's own watch from running."""
    world = ready_pool(1, "async", grace=2.0)
    job = world.open("async", 3, timeout=5.0, stop_on_failure=False)
    world.calm()
    world.at(0).frozen = True
    silence(world, job)
    assert world.orders(f.Kill) == []
    asked = world.now
    world.ring()
    assert world.now == asked + policy.ANSWER_SECONDS
    assert ["does not answer" in order.why for order in world.orders(f.Kill)] == [True]
    world.play_out()
    assert job.ends == {0: ["timed out"], 1: ["value"], 2: ["value"]}


def test_a_worker_that_answers_is_watched_on():
    """Its items wait for something, and it would have said if their time were over."""
    world = ready_pool(1, "async")
    world.open("async", 3, timeout=5.0)
    world.calm()
    for asked in (1, 2, 3):
        while len(world.orders(f.SendPing)) < asked:
            assert world.ring()
        world.calm()
    assert world.orders(f.Kill) == []
    world.at(0).frozen = True
    while not world.orders(f.Kill):
        assert world.ring()


def test_a_worker_that_speaks_of_other_things_is_not_asked():
    """Whatever it says says that it is there."""
    world = ready_pool(1, "async")
    world.open("async", 1, timeout=5.0)
    world.open("async", 100)
    world.calm()
    worker = world.at(0)
    for _ in range(20):
        world.now += 1.0
        if world.alarm is not None and world.now >= world.alarm:
            world.ring()
        other = [spot for spot, job in worker.running.items() if world.jobs[job].opened.timeout is None]
        world.finish(worker, other[:1])
        world.calm()
    assert world.orders(f.SendPing) == []


def test_silence_is_no_news_of_a_job_that_has_no_timeout():
    """Code in C may run for an hour."""
    world = ready_pool(1)
    world.open("def", 3)
    world.calm()
    world.at(0).frozen = True
    while world.ring():
        world.calm()
    assert world.orders(f.SendPing, f.Kill) == []


def test_who_holds_a_worker_and_has_no_timeout_is_a_suspect_and_not_the_one_that_has():
    """Its neighbour's time is over because of it. It runs again alone, where nobody waits for it."""
    world = ready_pool(1, "async")
    holder = world.open("async", 1)
    world.calm()
    other = world.open("async", 1, timeout=5.0)
    world.calm()
    world.at(0).frozen = True
    silence(world, other)
    world.ring()
    world.calm()
    assert world.ledger.jobs[holder.id].trials.keys() == {0}
    assert world.ledger.jobs[other.id].trials.keys() == set()
    world.play_out()
    assert (holder.how, other.how) == ("done", "done")


def test_who_holds_a_worker_and_has_not_had_its_own_time_has_not_timed_out():
    """Its neighbour's limit is not its own."""
    world = ready_pool(1, "async")
    holder = world.open("async", 1, timeout=600.0)
    world.calm()
    other = world.open("async", 1, timeout=5.0)
    world.calm()
    world.at(0).frozen = True
    silence(world, other)
    world.ring()
    world.calm()
    assert world.ledger.jobs[holder.id].trials.keys() == {0}
    world.play_out()
    assert (holder.how, other.how) == ("done", "done")


def test_an_item_that_has_just_arrived_is_given_its_time_at_a_worker_that_was_silent_before():
    """An hour of silence in a job without a timeout says nothing about one with."""
    world = ready_pool(1, "async")
    world.open("async", 1)
    world.calm()
    world.now += 3600.0
    job = world.open("async", 1, timeout=5.0)
    world.calm()
    world.at(0).frozen = True
    silence(world, job)


# --- what has been edited --------------------------------------------------------------------------------------------


def test_workers_that_have_imported_what_was_edited_end_their_items_and_are_replaced():
    """Others, those that start, and those that are gone are left alone."""
    world = ready_pool(2)
    job = world.open("def", 6, concurrency=2, batch=1)
    world.calm()
    old = world.at(0)
    world.tell(f.WorkersOutdated((old.id, 999)))
    assert world.ledger.workers[old.id].state == "retiring"
    assert len(world.orders(f.StartWorker)) == 1
    world.tell(f.WorkersOutdated((world.at(0).id,)))
    assert len(world.orders(f.StartWorker)) == 1
    assert world.orders(f.Kill) == []
    world.play_out()
    assert job.how == "done"
    assert [order.worker for order in world.orders(f.HangUp)] == [old.id]
    assert job.starts == dict.fromkeys(range(6), 1)
