"""Arguments that wait for workers are bounded in bytes, not only in number."""

from __future__ import annotations

import itertools

import pytest

from aiopool._payload import EncodedItems
from aiopool._runtime.budget import FIRST, MOST_BYTES, Budget
from tests.pool.board import DEADLINE, Board, until

MEGABYTE = 1_000_000
FAR = 10**9


def pickled(size: int) -> EncodedItems:
    """A batch of so many bytes."""
    return EncodedItems(bytes(size), (), ())


def test_small_items_are_read_as_far_as_is_ordered() -> None:
    """After the first few, which tell how small they are."""
    budget = Budget()
    assert budget.grant(1000, ended=0, at_least=2) == FIRST
    assert budget.grant(1000, ended=0, at_least=100) == 100
    budget.take(10, pickled(500))
    assert budget.grant(1000, ended=0, at_least=2) == 1000


def test_big_items_are_read_as_far_as_the_bytes_reach_and_everybody_is_busy() -> None:
    """What ends makes room; what is pickled another time does not count twice."""
    budget = Budget()
    budget.take(4, pickled(4 * 8 * 1024 * 1024))
    assert budget.grant(1000, ended=0, at_least=2) == MOST_BYTES // (8 * 1024 * 1024) == 8
    assert budget.grant(1000, ended=3, at_least=2) == 11
    budget.take_back(2)
    budget.take(2, pickled(2 * 8 * 1024 * 1024))
    assert budget.grant(1000, ended=3, at_least=2) == 11
    assert budget.grant(1000, ended=3, at_least=20) == 23
    assert budget.grant(1000, ended=3, at_least=2) == 23, "a feeder cannot be called back"


def test_the_size_of_late_counts() -> None:
    """A million numbers, and then arrays: the arrays are counted as what they are after a few."""
    budget = Budget()
    for _ in range(100):
        budget.take(1000, pickled(4000))
    assert budget.grant(FAR, ended=0, at_least=2) > 1_000_000
    budget = Budget()
    for _ in range(100):
        budget.take(1000, pickled(4000))
    for _ in range(4):
        budget.take(1, pickled(100 * MEGABYTE))
    assert budget.grant(FAR, ended=100_000, at_least=2) == 100_004


@pytest.mark.parametrize("kind", ["a generator", "data with a length"])
def test_no_more_is_read_than_the_bytes_allow(pool, board: Board, kind):
    """Items of a megabyte that are computed in no time: they wait for the pipes, and the input waits for them."""
    read = itertools.count()
    most = 0

    def pages():
        for number in range(400):
            next(read)
            yield number.to_bytes(2, "big") * (MEGABYTE // 2)

    def first(page):
        return int.from_bytes(page[:2], "big")

    data = pages() if kind == "a generator" else _Sized(pages, 400)
    job = pool.map(first, data, window=400)
    while not job.done():
        most = max(most, int(repr(read)[6:-1]) - job.snapshot().finished)
    assert job.result(DEADLINE) == list(range(400))
    assert most < 150


class _Sized:
    """Data with a length that are made as they are read."""

    def __init__(self, make, length):
        self._make, self._length = make, length

    def __len__(self):
        return self._length

    def __iter__(self):
        return self._make()


def test_a_job_of_big_items_uses_every_worker(pool, board: Board):
    """However big they are: an item that runs is no item that waits."""

    def meet(page):
        board.mark("here", page[0])
        board.wait("go")
        return len(page)

    job = pool.map(meet, (bytes([number]) * 50 * MEGABYTE for number in range(4)))
    until(lambda: len(board.marks("here")) == 2)
    board.mark("go")
    assert job.result(DEADLINE) == [50 * MEGABYTE] * 4
