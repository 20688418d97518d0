"""What a fact costs, counted in lines of code that run: no clock, so the counts are the same on every machine.

It must not depend on the number of workers, of items in a batch, or of jobs that have nothing to do with it.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from types import FrameType

import pytest

from aiopool._core import facts as f
from aiopool._core.ledger import Ledger


class Counted:
    """A ledger of which every line that runs is counted, and a world that is prompt."""

    def __init__(self, size: int) -> None:
        self.ledger = Ledger(size)
        self.lines = 0
        self.sent: deque[f.SendBatch] = deque()
        self.batches = itertools.count(1)
        self.starting: list[int] = []

    def tell(self, fact: f.Fact, now: float = 0.0) -> int:
        """Tell the ledger; how many lines that took."""
        self.lines = 0
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            orders = self.ledger.tell(fact, now)
        finally:
            sys.settrace(before)
        self.sent.extend(order for order in orders if isinstance(order, f.SendBatch))
        self.starting.extend(order.worker for order in orders if isinstance(order, f.StartWorker))
        return self.lines

    def _enter(self, frame: FrameType, _: str, __: object) -> object:
        return self._count if "_core" in frame.f_code.co_filename else None

    def _count(self, _: FrameType, event: str, __: object) -> object:
        self.lines += event == "line"
        return self._count

    def open(self, job: int, kind: f.Kind = "def", **options: int | bool | None) -> int:
        """Open a job, of one item per worker if it does not say otherwise."""
        return self.tell(f.JobOpened(job, kind, None, options.pop("concurrency", None), **options))

    def supply(self, job: int, count: int, first: int = 0) -> int:
        """One batch of so many items is ready."""
        return self.tell(f.Supplied(job, next(self.batches), range(first, first + count)))

    def start(self) -> None:
        """Every worker is ready."""
        while self.starting:
            self.tell(f.WorkerReady(self.starting.pop()))

    def finish(self, count: int) -> int:
        """The batch that was sent first ends; it took a second."""
        order = self.sent.popleft()
        return self.tell(f.Finished(order.worker, order.batch, range(count), 1.0))

    def fail(self, rest: float) -> int:
        """The item that was sent first fails, and rests for so long."""
        order = self.sent.popleft()
        return self.tell(f.ItemFailed(order.worker, order.batch, 0, 1.0, may_retry=True, after=rest))


def busy(size: int, count: int, kind: f.Kind = "def", concurrency: int | None = None) -> Counted:
    """A pool of so many workers, each of which has a batch, with more that wait for them."""
    pool = Counted(size)
    pool.open(1, kind, concurrency=concurrency, batch=count, window=1 << 40)
    for _ in range(3 * size):
        pool.supply(1, count)
    pool.start()
    assert len(pool.sent) >= size
    return pool


def settled(pool: Counted, count: int) -> list[int]:
    """What the end of a batch costs once all have ended some."""
    for _ in range(pool.ledger.size):
        pool.finish(count)
        pool.supply(1, count)
    return sorted(pool.finish(count) + pool.supply(1, count) for _ in range(20))


@pytest.mark.parametrize(("kind", "lanes"), [("def", None), ("def", 1), ("async", 500)])
def test_the_end_of_a_batch_costs_the_same_with_256_workers_as_with_two(kind, lanes):
    """And so does the next batch that is supplied."""
    few, many = (settled(busy(size, 1000, kind, lanes and lanes * size), 1000)[10] for size in (2, 256))
    assert many <= 1.2 * few


def test_the_end_of_a_batch_costs_the_same_whatever_its_size():
    """The ledger works per batch, never per item."""
    small, large = (settled(busy(2, count), count)[10] for count in (4, 4000))
    assert large <= 1.2 * small


def test_the_end_of_a_batch_costs_the_same_with_a_thousand_other_jobs():
    """They wait for their inputs, or for workers, and are nobody's business."""
    alone = settled(busy(2, 10), 10)[10]
    crowded = busy(2, 10)
    for job in range(2, 1002):
        crowded.open(job)
    assert settled(crowded, 10)[10] <= 1.2 * alone


def test_the_last_batches_of_a_job_cost_the_same_with_256_workers_as_with_sixteen():
    """Whoever has nothing to do any more does not look through all the others each time that one more ends."""

    def cost(size: int) -> float:
        pool = Counted(size)
        pool.open(1, "async", concurrency=size, batch=10, window=1 << 40)
        for number in range(size):
            pool.supply(1, 10, 10 * number)
        pool.start()
        pool.tell(f.InputEnded(1, 10 * size))
        orders = list(pool.sent)
        assert {order.worker for order in orders} == pool.ledger.workers.keys()
        now, lines = 1.0, 0
        for order in orders[:-1]:
            now += 1e-4
            lines += pool.tell(f.Finished(order.worker, order.batch, range(10), 0.001), now)
        return lines / size

    assert cost(256) <= 1.2 * cost(16)


def test_an_item_that_rests_costs_the_same_with_a_thousand_others_that_do():
    """When it fails and when its rest is over; and while it rests, nothing."""

    def cost(resting: int) -> tuple[int, int]:
        pool = Counted(2)
        pool.open(1, concurrency=2, batch=1, window=1 << 40, retries=1)
        for number in range(resting + 4):
            pool.supply(1, 1, number)
        pool.start()
        for number in range(resting):
            pool.fail(1000.0 + number)
        return pool.fail(10.0), pool.tell(f.TimePassed(), 10.0)

    few, many = cost(10), cost(1000)
    assert many[0] <= 1.2 * few[0]
    assert many[1] <= 1.2 * few[1]


def test_an_alarm_of_a_job_that_has_a_rate_costs_the_same_with_64_workers_as_with_two():
    """There may be a hundred of them in a second, and workers are looked at when one of them is late."""

    def cost(size: int) -> int:
        pool = busy(size, 10)
        pool.open(2, concurrency=size, batch=1, window=1 << 40, rate=100.0)
        pool.supply(2, 1)
        while pool.sent[-1].job == 1:
            pool.finish(10)
        return pool.tell(f.TimePassed(), 0.01)

    assert cost(64) <= 1.2 * cost(2)


@pytest.mark.parametrize("kind", ["def", "async"])
def test_each_of_a_thousand_submits_costs_as_much_as_each_of_five_hundred(kind):
    """Nobody looks for one among all the others."""

    def cost(submits: int) -> float:
        pool = Counted(4)
        lines = 0
        for job in range(1, submits + 1):
            lines += pool.open(job, kind, single=True, concurrency=1)
            lines += pool.supply(job, 1)
            lines += pool.tell(f.InputEnded(job, 1))
        pool.start()
        while pool.sent:
            lines += pool.finish(1)
        assert not pool.ledger.jobs
        return lines / submits

    assert cost(1000) <= 1.2 * cost(500)


@pytest.mark.parametrize("kind", ["def", "async"])
def test_cancelling_each_of_a_thousand_submits_costs_as_much_as_each_of_five_hundred(kind):
    """In the order in which they came, and in the opposite one."""

    def cost(submits: int) -> float:
        pool = Counted(4)
        for job in range(1, submits + 1):
            pool.open(job, kind, single=True, concurrency=1)
            pool.supply(job, 1)
        pool.start()
        numbers = [*range(1, submits // 2), *range(submits, submits // 2 - 1, -1)]
        lines = sum(pool.tell(f.CancelAsked(job, "cancelled")) for job in numbers)
        assert not pool.ledger.jobs
        return lines / submits

    assert cost(1000) <= 1.2 * cost(500)


def test_a_job_with_a_million_items_in_line_is_cancelled_in_a_few_hundred_lines():
    """Stop works at once."""
    pool = Counted(4)
    pool.open(1, "async", concurrency=100, batch=1000, window=1 << 40)
    for _ in range(1000):
        pool.supply(1, 1000)
    pool.start()
    assert pool.tell(f.CancelAsked(1, "stopped")) < 300
