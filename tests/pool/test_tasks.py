"""``max_tasks_per_worker``: a worker begins so many items, and a fresh process goes on."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest

from aiopool import Failure, WorkerLost
from tests.pool import work
from tests.pool.board import DEADLINE, Board


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("function", [work.pid, work.pid_later])
def test_no_process_begins_more_items_than_it_may(fresh, workers, most, function):
    """Whatever the kind of function; and few begin fewer."""
    pool = fresh(workers, max_tasks_per_worker=most)
    count = 12
    pids = pool.map(function, range(count)).result(DEADLINE)
    begun = Counter(pids)
    assert begun.total() == count
    assert max(begun.values()) <= most
    assert len(begun) <= -(-count // most) + 2 * workers


def test_each_submit_counts_as_one(fresh):
    """One after another, and several at once."""
    pool = fresh(2, max_tasks_per_worker=2)
    pids = [pool.submit(work.pid).result(DEADLINE) for _ in range(4)]
    pids += [job.result(DEADLINE) for job in [pool.submit(work.pid_later) for _ in range(6)]]
    assert max(Counter(pids).values()) <= 2


def test_an_attempt_that_fails_counts(fresh, board: Board):
    """What leaks leaks when it fails, too."""

    def item(x: int) -> int:
        board.mark("began", os.getpid())
        if len(board.marks("began")) % 2:
            raise ValueError
        return os.getpid()

    pool = fresh(1, max_tasks_per_worker=1)
    pool.map(item, range(3), retries=5, backoff=0).result(DEADLINE)
    begun = board.marks("began")
    assert len(begun) == len(set(begun)) >= 6


def test_a_broadcast_reaches_every_place_and_kills_nothing(fresh):
    """Its items count, too; so each finds a fresh worker."""
    pool = fresh(2, max_tasks_per_worker=1)
    first, second = (pool.broadcast(work.pid).result(DEADLINE) for _ in range(2))
    assert len({*first, *second}) == 4


def test_who_kills_its_worker_is_found_among_workers_of_one_item_each(fresh):
    """It is always alone, and so are its neighbours."""

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        if x == 5:
            os._exit(1)
        return x

    pool = fresh(2, max_tasks_per_worker=4)
    results = pool.map(item, range(20), on_error="return").result(DEADLINE)
    assert [index for index, value in enumerate(results) if isinstance(value, Failure)] == [5]
    assert isinstance(results[5].error, WorkerLost)


def test_prints_of_every_process_arrive(fresh, capfd):
    """Also the last words of one that has begun its last item."""

    def item(x: int) -> int:
        os.write(1, f"this is item {x}\n".encode())
        return x

    pool = fresh(1, max_tasks_per_worker=1)
    assert pool.map(item, range(4), progress=True).result(DEADLINE) == list(range(4))
    pool.close()
    pool.join(DEADLINE)
    printed = capfd.readouterr()
    assert all(f"this is item {x}" in printed.out + printed.err for x in range(4))
