"""Question 6 of the ledger: an attempt failed, and another one may mend it."""

from __future__ import annotations

import pytest

from aiopool._core import facts as f
from aiopool._core import policy
from tests.core.world import World, load, loads, ready_pool


def fail_all(world: World, **error) -> None:
    """Everything that runs fails, with an error that another attempt may mend."""
    for worker in list(world.workers.values()):
        for spot in list(worker.running):
            world.finish(worker, [spot], fail=True, **({"may_retry": True} | error))
        world.deliver(worker)


def test_an_item_that_fails_twice_has_its_value_at_the_third_attempt():
    """The worker is told which attempt each is, and nothing is settled before the last."""
    world = ready_pool(1)
    job = world.open("def", 3, retries=2, flaky={1: 2})
    world.play_out()
    assert job.how == "done"
    assert job.ends == {0: ["value"], 1: ["value"], 2: ["value"]}
    assert [job.starts[index] for index in range(3)] == [1, 3, 1]
    assert world.orders(f.SettleFailed) == []
    assert sorted(order.attempt for order in world.orders(f.SendBatch)) == [1, 1, 1, 2, 3]


def test_an_item_that_fails_at_its_last_attempt_ends_with_that_error():
    """And with how many attempts there were."""
    world = ready_pool(1)
    job = world.open("def", 2, retries=2, flaky={0: 99}, stop_on_failure=False)
    world.play_out()
    assert job.how == "done"
    assert world.orders(f.SettleFailed) == [f.SettleFailed(job.id, 0, 3)]


def test_an_error_that_no_attempt_can_mend_is_the_end_of_its_item():
    """The worker has looked at it: retry_on does not name it."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=5)
    world.calm()
    fail_all(world, may_retry=False)
    assert job.how == "failed"
    assert world.orders(f.SettleFailed) == [f.SettleFailed(job.id, 0, 1)]


@pytest.mark.parametrize(
    ("options", "error", "wait"),
    [
        ({}, {"chance": 0.5}, 0.25),
        ({"backoff": 7.0}, {"chance": 0.5}, 7.0),
        ({"backoff": 7.0}, {"chance": 0.5, "after": 30.0}, 30.0),
        ({}, {"after": 0.0}, 0.0),
    ],
)
def test_an_item_rests_for_as_long_as_it_says_or_the_user_or_chance(options, error, wait):
    """What the item asks for comes first; without a constant the wait has full jitter."""
    world = ready_pool(1)
    world.open("def", 1, retries=1, **options)
    world.calm()
    failed = world.now
    fail_all(world, **error)
    assert world.orders(f.Recode) == []
    assert world.alarm == failed + wait
    world.ring()
    assert len(world.orders(f.Recode)) == 1


def test_waits_double_up_to_thirty_seconds_and_spread_from_nothing_to_all_of_that():
    """Half a second first; chance is below 1."""
    assert [policy.backoff(attempt, 1.0) for attempt in (1, 2, 3, 6, 7, 1000)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]
    assert policy.backoff(5, 0.0) == 0.0


def test_an_item_that_rests_takes_no_lane_and_keeps_its_job_alive():
    """Others run meanwhile, and the job ends when it has."""
    world = ready_pool(1)
    job = world.open("def", 5, concurrency=1, batch=1, retries=1, backoff=60.0)
    world.calm()
    fail_all(world)
    world.calm()
    for _ in range(4):
        assert load(world.at(0)) >= 1
        world.finish_one(seconds=1.0)
        world.calm()
    assert load(world.at(0)) == 0
    assert job.how is None
    assert len(world.ledger.jobs[job.id].rest) == 1
    world.play_out()
    assert job.how == "done"


def test_an_idle_worker_retires_while_nothing_is_left_but_items_that_rest():
    """And another one starts when they have rested."""
    world = ready_pool(1, idle_timeout=10.0)
    job = world.open("def", 1, retries=1)
    world.calm()
    fail_all(world, after=3600.0)
    world.ring()
    world.calm()
    assert world.workers == {}
    world.ring()
    assert len(world.workers) == 1
    world.play_out()
    assert job.how == "done"


def test_a_worker_does_not_retire_to_be_replaced_at_once():
    """It idles beside one that runs several items, and the pool would want as many workers as before."""
    world = ready_pool(2, "async", idle_timeout=10.0)
    world.open("async", 4)
    world.calm()
    worker = world.at(0)
    for spot in list(worker.running):
        world.finish(worker, [spot])
    world.calm()
    assert loads(world) == [0, 2]
    for _ in range(5):
        world.ring()
        world.calm()
    assert world.orders(f.StartWorker, f.HangUp) == []
    while world.finish_one():
        world.calm()
    while world.workers:
        assert world.ring()
        world.calm()


def test_items_that_have_rested_together_share_a_batch_if_they_are_at_the_same_attempt():
    """A batch has one number."""
    world = ready_pool(1, "async")
    job = world.open("async", 40, concurrency=40, batch=10, retries=3, backoff=1.0, stop_on_failure=False)
    world.calm()
    fail_all(world)
    world.ring()
    world.calm()
    assert [order.attempt for order in world.orders(f.SendBatch)] == [1] * 4 + [2] * 4
    world.play_out()
    assert job.how == "done"


def test_items_that_have_rested_together_travel_apart_where_they_are_at_different_attempts():
    """The worker tells each item which attempt it is."""
    world = ready_pool(1, "async")
    job = world.open("async", 2, concurrency=2, batch=10, retries=3, backoff=1.0, flaky={0: 2, 1: 1})
    world.calm()
    worker = world.at(0)
    world.finish(worker, [min(worker.running)])
    world.deliver(worker)
    world.ring()
    world.calm()
    for spot in list(worker.running):
        world.finish(worker, [spot])
    world.deliver(worker)
    world.ring()
    assert [order.items for order in world.orders(f.Recode)] == [(0,), (0,), (1,)]
    world.play_out()
    assert sorted(order.attempt for order in world.orders(f.SendBatch)) == [1, 2, 2, 3]
    assert job.how == "done"


def test_an_item_that_cannot_be_made_into_a_batch_again_has_ended():
    """Its argument has changed meanwhile, say: nothing of it is remembered."""
    world = ready_pool(1)
    job = world.open("def", 2, retries=1, backoff=0.0, flaky={0: 1}, stop_on_failure=False)
    world.calm()
    world.finish_one()
    world.ring()
    world.feed(job, refuse_again=True)
    assert job.ends[0] == ["refused"]
    assert world.ledger.jobs[job.id].attempts == {}
    world.play_out()
    assert job.how == "done"


def test_what_fails_bit_by_bit_is_looked_for_a_hundred_times_a_second_at_most():
    """A thousand items with waits of their own are not a thousand alarms in half a second."""
    world = ready_pool(1, "async")
    job = world.open("async", 500, concurrency=500, retries=1)
    world.calm()
    worker = world.at(0)
    for number, spot in enumerate(list(worker.running)):
        world.finish(worker, [spot], fail=True, may_retry=True, chance=number / 500)
    world.deliver(worker)
    alarms = 0
    while world.ledger.jobs[job.id].rest:
        assert world.ring()
        alarms += 1
    assert alarms <= 0.5 / policy.REST_SECONDS + 1


def test_nothing_that_has_rested_starts_while_its_job_is_paused():
    """It does when the job is resumed."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=1, backoff=5.0)
    world.calm()
    fail_all(world)
    world.pause(job)
    world.now += 100.0
    world.tell(f.TimePassed())
    world.calm()
    assert world.orders(f.Recode) == []
    world.resume(job)
    world.calm()
    assert len(world.at(0).running) == 1


def test_an_item_that_fails_while_its_job_is_paused_rests_on():
    """The clock does not stand still: what is over by then starts at once."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=1, backoff=5.0)
    world.calm()
    world.pause(job)
    fail_all(world)
    world.now += 3.0
    world.resume(job)
    world.calm()
    assert loads(world) == [0]
    world.ring()
    world.calm()
    assert loads(world) == [1]


def test_cancelling_a_job_drops_what_rests():
    """No alarm of it is left either."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=1, backoff=5.0)
    world.calm()
    fail_all(world)
    world.cancel(job)
    assert job.how == "cancelled"
    world.ring()
    assert world.orders(f.Recode) == []
    assert not world.ledger._books.waking


def test_a_run_that_a_death_cut_short_does_not_count_as_an_attempt():
    """The item is not to blame: it runs again under the same number, and has as many attempts left."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=1, flaky={0: 99})
    world.calm()
    fail_all(world)
    world.ring()
    world.calm()
    world.restart(now=True)
    world.ready()
    world.play_out()
    assert [order.attempt for order in world.orders(f.SendBatch)] == [1, 2, 2]
    assert world.orders(f.SettleFailed) == [f.SettleFailed(job.id, 0, 2)]


def test_an_item_that_is_lost_says_at_which_attempt():
    """Retries are not for that."""
    world = ready_pool(1)
    job = world.open("def", 1, retries=3, rerun_lost=False)
    world.calm()
    fail_all(world)
    world.ring()
    world.calm()
    world.die(world.at(0))
    world.calm()
    assert job.how == "failed"
    assert [order.attempts for order in world.orders(f.SettleLost)] == [2]


def test_a_suspect_that_fails_and_rests_is_a_suspect_no_more():
    """It has ended, so it kills nobody."""
    world = ready_pool(1, "async")
    job = world.open("async", 3, retries=1)
    world.calm()
    worker = world.at(0)
    world.die(worker, stepping=next(iter(worker.running)))
    world.calm()
    world.ready()
    world.calm()
    assert world.ledger.jobs[job.id].trials.keys() == {0}
    fail_all(world)
    assert world.ledger.jobs[job.id].trials.keys() == {1, 2}
    world.play_out()
    assert job.how == "done"


def test_how_often_an_item_was_tried_is_forgotten_when_it_has_ended():
    """A stream of items that fail once must not fill the memory."""
    world = ready_pool(1)
    job = world.open("def", 20, retries=1, flaky=dict.fromkeys(range(10), 1))
    for _ in range(100):
        world.calm()
        if job.read == 20 and not world.ledger.jobs[job.id].rest:
            break
        if not world.finish_one():
            world.ring()
    book = world.ledger.jobs[job.id]
    assert book.retried == 10
    while job.running and len(job.ends) < 19:
        world.finish_one()
        world.calm()
    assert len(book.attempts) <= 1


def test_reading_goes_on_while_items_rest_but_not_without_end():
    """They hold up nobody; but a stream of which everything fails is not kept as a whole."""
    world = ready_pool(1, "async")
    job = world.open("async", 1000, sized=False, concurrency=4, window=10, retries=1, backoff=1000.0)
    for _ in range(100):
        world.calm()
        fail_all(world)
    assert job.read == 20
    assert len(world.ledger.jobs[job.id].rest) == 20
