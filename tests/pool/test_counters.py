"""Numbers of jobs and batches, and times, that are larger than what usually holds them."""

from __future__ import annotations

import itertools
import threading

import pytest

from aiopool._runtime import calls, driver, runs
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import still_works


def number_from(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job has this number, whether it is a map or a call."""
    numbers = itertools.count(first)
    for module in (driver, calls):
        monkeypatch.setattr(module, "numbers", numbers)


def test_a_pool_goes_on_beyond_the_job_of_number_four_billion(fresh, board: Board, monkeypatch):
    """Its calls, its maps, its prints, its failures and its cancels."""
    number_from(2**32 - 3, monkeypatch)
    pool = fresh(2)
    for number in range(6):
        assert pool.submit(work.double, number).result(DEADLINE) == 2 * number
    still_works(pool)
    with pytest.raises(ValueError, match="odd"):
        pool.map(work.refuse, range(5)).result(DEADLINE)
    job = pool.map(lambda _: board.wait("never"), range(2), timeout=3600)
    assert job.id > 2**32
    until(lambda: job.snapshot().in_flight)
    assert job.cancel()
    until(job.done)
    still_works(pool)


def test_what_is_printed_in_a_job_of_such_a_number_is_its_own(fresh, heard, monkeypatch):
    """Also where only the lower half of the number would be that of another one."""
    number_from(2**32, monkeypatch)
    pool = fresh(1)
    pool.map(print, ["here"]).result(DEADLINE)
    until(lambda: [line.text for line in heard.lines] == ["here"], what="it is heard")


def test_numbers_of_batches_begin_again_and_none_is_0(fresh):
    """On mark pages they have 32 bits."""
    pool = fresh(2)
    begin_again = itertools.chain.from_iterable(itertools.repeat(range(1, runs.BATCHES)))
    pool._driver._runs._batch_ids = itertools.chain(range(runs.BATCHES - 5, runs.BATCHES), begin_again)
    for number in range(12):
        assert pool.submit(work.double, number).result(DEADLINE) == 2 * number
    assert pool.map(work.double_later, range(50), batch=1).result(DEADLINE) == list(range(0, 100, 2))
    assert pool._driver._runs.new_batch() < 1_000


def test_a_number_that_is_in_use_is_not_given_again(fresh, board: Board, monkeypatch):
    """Of an item that runs while the numbers begin again, and again; and of one that waits for its turn."""
    monkeypatch.setattr(runs, "BATCHES", 64)
    monkeypatch.setattr(runs, "LOOK_BEFORE", 20)
    pool = fresh(2)
    given: list[int] = []
    new_batch = pool._driver._runs.new_batch
    monkeypatch.setattr(pool._driver._runs, "new_batch", lambda: given.append(new_batch()) or given[-1])

    def held(x: int) -> int:
        board.wait("go on")
        return x

    long = pool.map(held, range(3), concurrency=1, batch=1, progress=False)
    until(lambda: long.snapshot().in_flight == 1)
    until(lambda: len(given) == 3)
    kept = set(given)
    for number in range(300):
        assert pool.submit(work.double, number).result(DEADLINE) == 2 * number
    assert not kept & set(given[3:])
    assert set(given[3:]) <= set(range(1, 64))
    board.mark("go on")
    assert long.result(DEADLINE) == [0, 1, 2]
    for number in range(200):
        assert pool.submit(work.double, number).result(DEADLINE) == 2 * number
    assert kept <= set(given[303:])


def test_numbers_are_given_to_one_each_however_many_threads_ask(fresh, monkeypatch):
    """Calls are sent by whoever makes them."""
    monkeypatch.setattr(runs, "BATCHES", 1 << 20)
    given: list[list[int]] = [[] for _ in range(4)]
    of = fresh(1)._driver._runs
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(of.new_batch() for _ in range(20_000))) for mine in given
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len({number for mine in given for number in mine}) == 80_000


@pytest.mark.parametrize("seconds", [1e10, 1e300])
def test_a_worker_may_have_as_long_to_start_as_one_likes(fresh, seconds):
    """What the system cannot count is as good as for ever."""
    pool = fresh(1, start_timeout=seconds)
    assert pool.submit(work.double, 2).result(DEADLINE) == 4
