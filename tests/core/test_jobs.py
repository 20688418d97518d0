"""How jobs end, what a pause brings back, and what nobody may tell the ledger."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.ledger import Ledger
from aiopool.errors import FrameError, InternalError
from tests.core.world import World, load, loads, ready_pool

# --- calls that were sent before the ledger was told -----------------------------------------------------------------


def test_calls_that_departed_are_shared_as_any_other():
    """Three wait behind a long one: a worker that has had nothing to do all the time gets them, one after another."""
    world = ready_pool(2)
    (busy, _) = world.ledger.takers("def", 2)
    jobs = [world._depart("def", busy, {}) for _ in range(4)]
    world.calm()
    assert [order.worker for order in world.orders(f.SendAskBack)][:1] == [busy]
    other = next(worker for worker in world.workers.values() if worker.id != busy)
    for _ in jobs[1:]:
        world.calm()
        assert other.running, "it has one of them"
        world.finish(other, list(other.running))
    world.calm()
    assert [job.running for job in jobs] == [True, False, False, False]
    assert jobs[0].places[0] == "sent"


def test_nobody_is_named_for_calls_that_would_find_others():
    """Where something is open, where there are fewer workers than there may be, and where some are only for a while."""
    world = World(2)
    assert world.ledger.takers("def", 1) == []
    world = ready_pool(2)
    assert len(world.ledger.takers("def", 9)) == 2
    assert len(world.ledger.takers("async", 1)) == 1
    world.open("def", 1)
    assert world.ledger.takers("def", 1) == []
    assert ready_pool(2, max_tasks=100).ledger.takers("def", 1) == []
    assert ready_pool(1).ledger.ahead("def") == 1
    assert ready_pool(1).ledger.ahead("async") == policy.UNLIMITED


def test_more_calls_go_ahead_the_quicker_they_are():
    """Two milliseconds of them, and no more than so many."""
    world = ready_pool(1)
    ahead = []
    for seconds in (1.0, 0.9e-3, 1e-6, 0.0):
        for _ in range(200):
            world.ledger.passed(1, "def", 32, 32 * seconds, world.now)
        ahead.append(world.ledger.ahead("def"))
    assert ahead[:2] == [1, 3]
    assert ahead[2:] == [policy.AHEAD_MOST] * 2


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
    """Given up first, so that the replacement is there before the grace is over; neighbours run again."""
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
    assert world.now == asked + policy.DEAF_SECONDS
    assert world.orders(f.Kill) == []
    assert len(world.orders(f.StartWorker)) == 1, "the replacement starts beside the one that does not hear"
    world.ring()
    assert world.now == asked + 2.0
    assert len(world.orders(f.Kill)) == 1
    assert len(world.orders(f.StartWorker)) == 1
    world.play_out()
    assert other.how == "done"


def test_a_worker_forgets_a_job_that_has_ended():
    """Its function may be large."""
    world = ready_pool(2)
    job = world.open("def", 4)
    world.play_out()
    assert sorted((order.worker, order.job) for order in world.orders(f.ForgetOn)) == [(1, job.id), (2, job.id)]


def test_a_worker_forgets_a_submit_that_it_has_handed_back():
    """By itself it forgets the function of a submit only when it has run it."""
    world = ready_pool(1)
    first, second, third = world.submit(), world.submit(), world.submit()
    world.calm()
    world.finish_one(seconds=0.001)
    world.calm()
    assert first.how == "done"
    assert second.id in world.at(0).running.values()
    assert third.id in world.at(0).functions
    world.pause(third)
    world.calm()
    assert third.id not in world.at(0).functions
    world.play_out()
    assert third.how == "done"


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


# --- what cannot be --------------------------------------------------------------------------------------------------


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
