"""What the options of a map do together: retries and their waits, rates, pauses, seeds; with real workers."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import signal
import time
from dataclasses import fields

import pytest

from aiopool import Failure, ItemTimeout, Pool, Retry, current_item, current_worker, pmap
from aiopool.options import MapKeywords, MapOptions
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import shortly


def started_at(board: Board) -> list[float]:
    """When attempts began, in order."""
    return sorted(map(float, board.marks("started")))


def test_every_way_to_write_a_map_has_every_option():
    """In the signatures that editors read, in those that type checkers read, and in the checks."""
    options = [field.name for field in fields(MapOptions)]
    for function, first in ((pmap, 2), (Pool.map, 3)):
        assert list(inspect.signature(function).parameters)[first:-1] == options
    assert {*MapKeywords.__annotations__, "on_error", "unpack"} == set(options)


# --- concurrency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2])
def test_below_the_number_of_workers_a_job_sticks_to_so_many(fresh, concurrency):
    """Another job has the others."""
    pool = fresh(3)
    pool.broadcast(work.pid).result(DEADLINE)
    used = set(
        pool.map(lambda _: (time.sleep(0.005), os.getpid())[1], range(30), concurrency=concurrency).result(DEADLINE)
    )
    assert len(used) <= concurrency


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_item_is_tried_again_until_it_succeeds(pool, kind):
    """And says how many attempts it took; those that succeeded at once took one."""

    def flaky(x: int) -> int:
        if current_item().attempt <= x:
            raise ConnectionError(x)
        return current_item().attempt

    async def flaky_async(x: int) -> int:
        await asyncio.sleep(0)
        return flaky(x)

    job = pool.map(flaky if kind == "def" else flaky_async, range(4), retries=3, backoff=0)
    assert job.result(DEADLINE) == [1, 2, 3, 4]
    assert [row["attempts"] for row in job.records()] == [1, 2, 3, 4]
    assert job.snapshot().retried == 6


def test_what_cannot_mend_itself_is_not_tried_again(pool):
    """A name that does not exist, a module that does not; and what ``retry_on`` leaves out."""

    def fail(which: str) -> None:
        if which == "name":
            undefined_name  # noqa: B018, F821
        if which == "import":
            import no_such_module_anywhere  # noqa: F401
        if which == "syntax":
            compile("1 +", "cell", "exec")
        raise {"key": KeyError, "connection": ConnectionError}[which](which)

    options = {
        "retries": 2,
        "backoff": 0,
        "on_error": "return",
        "retry_on": (OSError, NameError, ImportError, SyntaxError),
    }
    failures = pool.map(fail, ["name", "import", "syntax", "key", "connection"], **options).result(DEADLINE)
    assert [failure.attempts for failure in failures] == [1, 1, 1, 1, 3]


def test_a_notebooks_own_exception_class_is_known_where_it_is_raised(pool):
    """It travels with the function, as one and the same class."""

    class Busy(Exception):
        pass

    def busy(x: int) -> int:
        if current_item().attempt < 3:
            raise Busy(x)
        return x

    assert pool.map(busy, range(3), retries=2, backoff=0, retry_on=Busy).result(DEADLINE) == [0, 1, 2]


def test_the_wait_between_attempts_is_what_the_option_or_the_item_says(pool, board: Board):
    """A constant ``backoff``, or ``Retry(after=...)``; meanwhile the slot is for others."""

    def try_twice(x: int) -> str:
        if x == 2:
            return "beside"
        board.mark(str(x), time.monotonic())
        if current_item().attempt == 1:
            raise Retry(after=0.5) if x else ConnectionError
        return "again"

    job = pool.map(try_twice, range(3), retries=1, backoff=0.3, concurrency=1, batch=1)
    assert job.result(DEADLINE) == ["again", "again", "beside"]
    waits = [float(board.marks(x)[1]) - float(board.marks(x)[0]) for x in "01"]
    assert waits[0] >= 0.3
    assert waits[1] >= 0.5
    order = [row["index"] for row in sorted(job.records(), key=lambda row: row["attempts"])]
    assert order[0] == 2


def test_retry_of_the_last_attempt_is_the_items_error(pool):
    """There is nothing left to wait for."""
    with pytest.raises(Retry, match="after 3600 s") as caught:
        pool.map(lambda _: (_ for _ in ()).throw(Retry(after=3600)), [1], retries=0).result(DEADLINE)
    assert caught.value.after == 3600


# --- timeouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_attempt_that_takes_too_long_is_tried_again(pool, kind):
    """Each attempt has its own time."""

    def slow_at_first(x: int) -> int:
        if current_item().attempt == 1:
            time.sleep(3600)
        return x

    async def slow_at_first_async(x: int) -> int:
        if current_item().attempt == 1:
            await asyncio.sleep(3600)
        return x

    fn = slow_at_first if kind == "def" else slow_at_first_async
    job = pool.map(fn, range(2), timeout=1, retries=1, backoff=0)
    assert job.result(DEADLINE) == [0, 1]
    assert [row["attempts"] for row in job.records()] == [2, 2]
    failed = pool.map(fn, [7], timeout=1, on_error="return").result(DEADLINE)
    assert isinstance(failed[0], Failure)
    assert isinstance(failed[0].error, ItemTimeout)
    assert isinstance(failed[0].error, TimeoutError)


# --- rate ------------------------------------------------------------------------------------------------------------


def test_a_rate_counts_every_attempt(pool, board: Board):
    """Forty starts at fifty a second: half of them are second attempts."""

    async def start(x: int) -> int:
        board.mark("started", time.monotonic())
        if current_item().attempt == 1:
            raise ConnectionError
        return x

    began = time.monotonic()
    assert pool.map(start, range(20), rate=50, retries=1, backoff=0).result(DEADLINE) == list(range(20))
    starts = started_at(board)
    assert len(starts) == 40
    # Between when one is sent and when it begins lies a machine's mood, but none begins before its time.
    assert all(start - began >= number / 50 - 0.02 for number, start in enumerate(starts))


def test_nothing_is_saved_up_while_a_rated_job_is_paused(pool, board: Board):
    """After the pause they start as before it, one by one."""

    async def start(x: int) -> int:
        board.mark("started", time.monotonic())
        return x

    job = pool.map(start, range(24), rate=20)
    board.wait("started", 3)
    job.pause()
    until(lambda: job.snapshot().state == "paused" and job.snapshot().in_flight == 0)
    before = len(board.marks("started"))
    stays(lambda: len(board.marks("started")) == before, 0.5)
    resumed = time.monotonic()
    job.resume()
    assert job.result(DEADLINE) == list(range(24))
    after = started_at(board)[before:]
    # One that was begun late may be followed by the next one at once, but not the last one begin early.
    assert after[-1] - resumed >= (len(after) - 1) / 20 - 0.02


# --- pause -----------------------------------------------------------------------------------------------------------


def test_a_pause_holds_retries_back_too_and_clocks_of_what_runs_go_on(pool, board: Board):
    """What was to be tried again waits for the resume; an attempt that runs has its time all the same."""

    async def twice(x: int) -> int:
        board.mark("started", x)
        if x == 0:
            await asyncio.sleep(3600)
        if current_item().attempt == 1:
            await board.wait_async("paused")
            raise Retry(after=0.1)
        return x

    job = pool.map(twice, range(2), timeout=3, retries=1, backoff=0.1, on_error="return")
    board.wait("started", 2)
    job.pause()
    assert job.snapshot().state == "paused"
    board.mark("paused")
    until(lambda: job.snapshot().in_flight == 0, what="the time of the one that hangs is up")
    stays(lambda: len(board.marks("started")) == 2, 0.4)
    job.resume()
    hung, again = job.result(DEADLINE)
    assert again == 1
    assert isinstance(hung.error, ItemTimeout)
    assert hung.attempts == 2
    assert sorted(board.marks("started")) == ["0", "0", "1", "1"]


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_seeded_results_are_the_same_on_any_number_of_workers_and_after_any_accident(fresh, board: Board):
    """One, two and five workers, with attempts that fail and a worker that is killed in between."""

    def draw(_: int) -> float:
        import numpy as np

        rng = np.random.default_rng(current_item().seed)
        value = float(rng.normal())
        if current_item().attempt == 1 and rng.random() < 0.2:
            raise ConnectionError
        return value

    def draw_or_die(x: int) -> float:
        if x == 5 and not board.marks("died"):
            board.mark("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(x)

    results = [
        fresh(workers).map(draw, range(40), seed=7, retries=2, backoff=0).result(DEADLINE) for workers in (1, 2, 5)
    ]
    results.append(fresh(2).map(draw_or_die, range(40), seed=7, retries=2, backoff=0).result(DEADLINE))
    assert board.marks("died")
    assert all(one == other for one, other in itertools.pairwise(results))
    assert len(set(results[0])) == 40
    assert fresh(1).map(draw, range(40), seed=8, retries=2).result(DEADLINE) != results[0]


# --- where an item runs ----------------------------------------------------------------------------------------------


async def test_a_worker_has_a_stable_place(fresh):
    """From 0 on; the one that replaces it has the same."""
    pool = fresh(2)
    before = await shortly(pool.broadcast(current_worker))
    assert [worker.index for worker in before] == [0, 1]
    await shortly(pool.restart())
    after = await shortly(pool.broadcast(current_worker))
    assert [worker.index for worker in after] == [0, 1]
    assert not {worker.pid for worker in before} & {worker.pid for worker in after}
