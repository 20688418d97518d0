"""An async input is read on the loop that called ``pmap``. What happens when that closes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import pytest

from aiopool import InputLost, Pool
from tests.pool import work
from tests.pool.board import DEADLINE, until
from tests.pool.pools import shortly, still_works


class Numbers:
    """An async input that gives so many numbers and then waits for ever."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.all_given = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[int]:
        """Give them."""
        for number in range(self.count):
            yield number
        self.all_given.set()
        await asyncio.Event().wait()


def begun(pool: Pool, source: Numbers, loop: asyncio.AbstractEventLoop):
    """A job over it that has read all that there is, on a loop that stands still now."""

    async def begin():
        job = pool.map(work.double, source, progress=False)
        await asyncio.wait_for(source.all_given.wait(), DEADLINE)
        return job

    job = loop.run_until_complete(begin())
    until(lambda: job.snapshot().done == source.count)
    return job


@pytest.fixture
def loop():
    """A loop that a test closes."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("count", [0, 5])
def test_a_job_whose_input_is_on_a_loop_that_is_closed_says_so_to_who_blocks(pool, loop, count):
    """``run_until_complete`` and ``close``: nothing is cancelled by that, and the job ends as ``InputLost``."""
    job = begun(pool, Numbers(count), loop)
    loop.close()
    with pytest.raises(InputLost, match=f"after {count} items: .* has been closed"):
        job.result(DEADLINE)
    assert [job.partial()[index] for index in range(count)] == [0, 2, 4, 6, 8][:count]
    still_works(pool)


def test_who_closes_the_loop_of_an_input_is_told_by_the_job_and_by_nothing_else(pool, loop, caplog):
    """Asyncio does not complain of the task that was reading."""
    job = begun(pool, Numbers(3), loop)
    loop.close()
    with pytest.raises(InputLost):
        job.result(DEADLINE)
    del job
    until(lambda: not pool._driver._feeders)
    gc.collect()
    assert not caplog.records


def test_who_waits_on_another_loop_hears_that_the_one_of_the_input_is_closed(pool, loop):
    """Whoever begins to wait after it."""
    job = begun(pool, Numbers(3), loop)
    loop.close()
    assert asyncio.run(shortly(job.wait(DEADLINE)))
    assert job.snapshot().state == "failed"


def test_who_waited_before_the_loop_of_the_input_was_closed_hears_of_it(pool, loop):
    """In another thread: no job waits for ever."""
    job = begun(pool, Numbers(3), loop)
    errors: list[BaseException] = []

    async def wait() -> None:
        waits.set()
        await job

    def waiting() -> None:
        try:
            asyncio.run(wait())
        except InputLost as error:
            errors.append(error)

    waits = threading.Event()
    thread = threading.Thread(target=waiting)
    thread.start()
    assert waits.wait(DEADLINE)
    loop.close()
    thread.join(DEADLINE)
    assert [type(error) for error in errors] == [InputLost]


def test_a_job_hears_of_it_on_a_loop_that_keeps_its_calendar(pool, loop):
    """As a loop of another make may: at the latest when somebody blocks."""
    job = begun(pool, Numbers(3), loop)
    kept = loop._scheduled.copy()
    loop.close()
    assert kept
    with pytest.raises(InputLost):
        job.result(DEADLINE)


def test_a_loop_keeps_nothing_of_a_job_whose_input_has_ended(pool, loop):
    """Not even in its calendar."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def read() -> None:
        assert await shortly(pool.map(work.double, numbers(), progress=False)) == [0, 2, 4]

    loop.run_until_complete(read())
    kept = [handle for handle in loop._scheduled if handle.when() > loop.time() + DEADLINE]
    assert all(handle.cancelled() for handle in kept)
