"""How long a job takes of which every duration is known: in virtual time, so the figures are the same everywhere."""

from __future__ import annotations

import random

import pytest

from aiopool._core import policy
from tests.core.timed import Timed, greedy

COST = 5e-5
"""What the pool's thread needs for a fact, in seconds: so much that many small batches would have to wait for it."""


def pareto(count: int, least: float) -> list[float]:
    """Durations of which a few are very long."""
    chance = random.Random(7)
    return [min(0.3, least * chance.paretovariate(1.5)) for _ in range(count)]


def rare(count: int, long: float, short: float) -> list[float]:
    """Short ones, and now and then a long one."""
    chance = random.Random(3)
    return [long if chance.random() < 0.02 else short for _ in range(count)]


WORK = {
    "Pareto, 6 ms": lambda workers: pareto(500 * workers, 0.002),
    "Pareto, 30 ms": lambda workers: pareto(150 * workers, 0.01),
    "Pareto, 0.3 ms": lambda workers: pareto(2500 * workers, 0.0001),
    "short, then long": lambda workers: [2e-5] * (10_000 * workers) + [0.03] * (30 * workers),
    "long, then short": lambda workers: [0.03] * (30 * workers) + [2e-5] * (10_000 * workers),
    "one in fifty is long": lambda workers: rare(2000 * workers, 0.1, 0.0005),
    "all alike, 1 ms": lambda workers: [0.001] * (1000 * workers),
    "all alike, 20 us": lambda workers: [2e-5] * (50_000 * workers),
    "all alike, 1 s": lambda workers: [1.0] * (10 * workers),
}


def ready(workers: int) -> Timed:
    """A pool whose workers are all there."""
    pool = Timed(workers, cost=COST)
    pool.warm_up()
    return pool


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("work", WORK)
def test_uneven_work_takes_no_longer_than_if_it_were_given_out_one_by_one_at_no_cost(work, workers):
    """But for one part in twenty; and nobody says how large a batch should be."""
    durations = WORK[work](workers)
    assert ready(workers).run(durations) <= 1.05 * greedy(durations, workers)


def test_a_million_short_items_are_no_more_batches_for_256_workers_than_for_two():
    """Each costs the pool's own thread as much, and with many workers that is what they would wait for."""
    durations = [2e-5] * 1_000_000
    few, many = (ready(workers) for workers in (2, 256))
    few.run(durations)
    many.run(durations)
    assert many.ordered["SendBatch"] <= 1.2 * few.ordered["SendBatch"]


@pytest.mark.parametrize(("kind", "first"), [("def", 1), ("async", 4)])
def test_not_every_one_of_256_workers_gets_items_before_it_is_known_that_they_are_short(kind, first):
    """The first to end say it while others are still to be sent some: so these get a large batch at once."""
    pool = ready(256)
    pool.run([2e-5] * 1_000_000, kind, 1024 if kind == "async" else None)
    assert 0 < pool.sizes.count(first) <= 100


@pytest.mark.parametrize(("kind", "lanes"), [("def", 1), ("async", 4)])
def test_256_workers_have_something_to_do_as_soon_as_two_have(kind, lanes):
    """Nobody waits for an item to end that may take for ever: as long as none has, all lanes fill, one after another.

    That is, the thread needs its time for each batch when it comes and when it ends, and some messages go to and fro.
    """
    pool = ready(256)
    seconds = pool.run([1.0] * (256 * lanes), kind, 1024 if kind == "async" else None)
    assert seconds <= lanes * 1.0 + 2 * 256 * COST + 0.01


def test_long_items_travel_one_by_one_and_short_ones_by_the_thousand():
    """Without anybody saying so."""
    pool = ready(2)
    pool.run([0.05] * 100)
    assert max(pool.sizes) == 1
    pool.run([1e-6] * 1_000_000)
    assert max(pool.sizes) == policy.BATCH_MOST["def"]
    assert pool.ordered["SendBatch"] < 300


def test_a_long_item_now_and_then_does_not_make_every_batch_small():
    """What it takes on average is counted by items, not by batches."""
    pool = ready(2)
    durations = rare(20_000, 0.1, 0.0005)
    pool.run(durations)
    assert pool.ordered["SendBatch"] < len(durations) / 4


@pytest.mark.parametrize("workers", [2, 8])
def test_who_is_asked_keeps_its_part_of_what_is_really_left(workers):
    """What has ended lately nobody else knows of: half of what seems to be left may be all, and it would idle next."""
    pool = Timed(workers, cost=COST, deaf=0.005)
    pool.warm_up()
    durations = [2e-5] * (10_000 * workers) + [0.03] * (30 * workers)
    assert pool.run(durations) <= 1.02 * greedy(durations, workers)
    assert pool.ordered["SendAskBack"] < workers


def test_what_is_handed_back_in_the_end_is_not_made_into_a_batch_for_each_item():
    """So many workers idle then, and so many batches there are at most for each question."""
    pool = ready(8)
    pool.run([2e-5] * 80_000 + [0.03] * 240)
    assert pool.ordered["Recode"] <= 8 * pool.told["Returned"]
