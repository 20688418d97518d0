"""Ending a job early, whatever its items do: the pool is usable at once, and what had finished stays."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import threading
import time

import pytest

from aiopool import MISSING, AiopoolError, ItemTimeout, JobCancelled
from aiopool._core import policy
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import rested, shortly, still_works

SOON = 2.0
"""Seconds within which a stop takes effect: 0.3 is the promise, the rest is for a busy machine."""


@pytest.fixture
def pool(pool):
    """The pool that the test before has stopped something on, with both workers up."""
    rested(pool)
    return pool


def pids(pool):
    """Who the workers are."""
    return {worker.info.pid for worker in pool.workers if worker.info.state != "lost"}


def stopped(job, board: Board, items: int) -> float:
    """Cancel a job once so many items run; how long it took until it had ended."""
    board.wait("running", items)
    begun = time.monotonic()
    assert job.cancel() is True
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    return time.monotonic() - begun


# --- what items may be doing -----------------------------------------------------------------------------------------


def test_sleeping_coroutines_get_a_cancelled_error(lenient, board: Board):
    """Each of them, and no worker dies for it."""

    async def sleeper(x: int) -> None:
        board.mark("running")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            board.mark("felt it")
            raise

    before = pids(lenient)
    job = lenient.map(sleeper, range(500), concurrency=100)
    assert stopped(job, board, 100) < SOON
    board.wait("felt it", 100)
    still_works(lenient)
    assert len(board.marks("running")) == 100
    assert pids(lenient) == before


def sleeps(board: Board):
    """Make a ``def`` that sleeps in C."""

    def item(x: int) -> None:
        board.mark("running")
        time.sleep(3600)

    return item


def spins(board: Board):
    """Make a ``def`` that computes in Python."""

    def item(x: int) -> None:
        board.mark("running")
        while True:
            pass

    return item


def joins(board: Board):
    """Make a ``def`` that waits for a lock."""

    def item(x: int) -> None:
        board.mark("running")
        threading.Event().wait()

    return item


def waits_for_process(board: Board):
    """Make a ``def`` that waits for a process."""

    def item(x: int) -> None:
        board.mark("running")
        subprocess.run(["sleep", "20"], check=True)

    return item


def blocks_loop(board: Board):
    """Make a coroutine that holds its loop in C."""

    async def item(x: int) -> None:
        board.mark("running")
        time.sleep(3600)  # noqa: ASYNC251  # that is the point

    return item


def spins_loop(board: Board):
    """Make a coroutine that holds its loop in Python."""

    async def item(x: int) -> None:
        await asyncio.sleep(0)
        board.mark("running")
        while True:
            pass

    return item


def lambda_of_coroutine(board: Board):
    """Make a ``def`` that returns a coroutine."""

    async def later(x: int) -> None:
        board.mark("running")
        await asyncio.sleep(3600)

    return lambda x: later(x)  # noqa: PLW0108  # it must look like a def


def own_loop(board: Board):
    """Make a ``def`` that calls asyncio.run."""

    def item(x: int) -> None:
        async def inside() -> None:
            board.mark("running")
            await asyncio.sleep(3600)

        asyncio.run(inside())

    return item


UNWIND = {
    "sleeping def": sleeps,
    "spinning def": spins,
    "def that waits for a lock": joins,
    "def that waits for a process": waits_for_process,
    "def that calls asyncio.run": own_loop,
    "lambda of a coroutine": lambda_of_coroutine,
    "coroutine that blocks its loop": blocks_loop,
    "coroutine that spins": spins_loop,
}


@pytest.mark.parametrize("make", UNWIND.values(), ids=UNWIND)
def test_what_runs_unwinds_and_its_worker_lives(lenient, board: Board, make):
    """A signal raises in a ``def`` and in a coroutine that holds its loop; nobody has to be killed."""
    before = pids(lenient)
    job = lenient.map(make(board), range(20))
    assert stopped(job, board, 2) < SOON
    still_works(lenient)
    assert pids(lenient) == before


def test_finally_blocks_of_an_interrupted_def_run(lenient, board: Board):
    """As they would for any exception; and a second signal does not strike them."""

    def careful(x: int) -> None:
        try:
            board.mark("running")
            time.sleep(3600)
        finally:
            time.sleep(0.1)
            board.mark("cleaned up")

    job = lenient.map(careful, range(2), batch=1)
    stopped(job, board, 2)
    board.wait("cleaned up", 2)
    still_works(lenient)


def test_many_coroutines_that_each_hold_their_loop_are_gone_within_the_grace(lenient, board: Board):
    """Only the first has to be struck: those that wait for their turn get no further step."""

    async def spins_in_turn(x: int) -> None:
        await asyncio.sleep(0)
        board.mark("running")
        while True:
            pass

    before = pids(lenient)
    job = lenient.map(spins_in_turn, range(200), concurrency=200)
    assert stopped(job, board, 2) < SOON
    still_works(lenient)
    assert pids(lenient) == before
    assert len(board.marks("running")) == 2


@pytest.mark.parametrize("how", ["waits", "blocks"])
def test_a_coroutine_gets_one_cancelled_error_and_may_await_while_it_cleans_up(lenient, board: Board, how):
    """Whether its loop delivers it, or a signal; a second one would strike its ``finally``."""

    async def careful(x: int) -> None:
        await asyncio.sleep(0)
        try:
            board.mark("running")
            if how == "waits":
                await asyncio.sleep(3600)
            time.sleep(3600)  # noqa: ASYNC251  # that is the point
        finally:
            for _ in range(5):
                await asyncio.sleep(0.005)
            board.mark("cleaned up")

    before = pids(lenient)
    job = lenient.map(careful, range(2), concurrency=2)
    assert stopped(job, board, 2) < SOON
    board.wait("cleaned up", 2)
    still_works(lenient)
    assert pids(lenient) == before


def swallows(board: Board):
    """Make a coroutine that will not go."""

    async def item(x: int) -> None:
        board.mark("running")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                board.mark("swallowed")

    return item


def swallows_in_def(board: Board):
    """Make a ``def`` that will not go."""

    def item(x: int) -> None:
        board.mark("running")
        while True:
            try:
                time.sleep(3600)
            except BaseException:  # noqa: BLE001  # it will not go
                board.mark("swallowed")

    return item


def in_threads(board: Board):
    """Make a ``def`` for a concurrency above the workers."""

    def item(x: int) -> None:
        board.mark("running")
        time.sleep(3600)

    return item


@pytest.mark.parametrize("make", [swallows, swallows_in_def, in_threads])
def test_what_will_not_go_is_killed_after_the_grace(pool, board: Board, make):
    """The awaiter does not wait for that, and the pool has its workers back."""
    before = pids(pool)
    running = 6 if make is in_threads else 2  # On both workers: who has begun nothing is not killed.
    job = pool.map(make(board), range(6), concurrency=running)
    assert stopped(job, board, running) < SOON
    begun = time.monotonic()
    still_works(pool)
    assert time.monotonic() - begun < 20
    until(lambda: not before & pids(pool), what="those that would not go were killed")


def test_innocent_neighbours_of_a_killed_item_run_again(fresh, board: Board):
    """The killed job's item took its worker along; the other job's items on it lose nothing."""
    pool = fresh(1, grace=0.3)

    async def waits(x: int) -> int:
        board.mark("neighbours", x)
        await board.wait_async("go")
        return x

    neighbours = pool.map(waits, range(5))
    board.wait("neighbours", 5)
    stubborn = pool.map(swallows(board), range(1))
    stopped(stubborn, board, 1)
    board.wait("neighbours", 10)
    board.mark("go")
    assert neighbours.result(DEADLINE) == list(range(5))


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_cancelling_what_only_waits_in_a_queue_harms_nobody(fresh, board: Board, kind, monkeypatch):
    """A job behind a call that takes longer than the grace: the call is not killed for it."""
    monkeypatch.setattr(policy, "DEAF_SECONDS", 2.0)  # Nor is its worker replaced, on a machine that stands still.
    pool = fresh(1, grace=2)

    def long() -> str:
        board.mark("running")
        board.wait("go")
        return "survived"

    async def long_async() -> str:
        return long()

    call = pool.submit(long if kind == "def" else long_async)
    board.wait("running")
    before = pids(pool)
    job = pool.map(work.double if kind == "def" else work.double_later, range(10))
    until(lambda: job.snapshot().in_flight > 0 or job.snapshot().elapsed > 0.3)
    job.cancel()
    stays(lambda: pids(pool) == before, 2.5, "the worker is left alone for longer than the grace")
    board.mark("go")
    assert call.result(DEADLINE) == "survived"
    assert pids(pool) == before


def test_cancelling_coroutines_that_wait_does_not_cost_the_call_that_holds_their_loop(fresh, board: Board):
    """They cannot feel their cancel before it lets go; the grace is theirs, not the innocent call's."""
    pool = fresh(1, grace=2)

    async def waits(x: int) -> None:
        board.mark("waiting")
        await asyncio.sleep(3600)

    async def holds() -> str:
        board.mark("holding")
        board.wait("go")
        return "survived"

    job = pool.map(waits, range(3))
    board.wait("waiting", 3)
    call = pool.submit(holds)
    board.wait("holding")
    job.cancel()
    stays(lambda: not call.done(), 2.5, "the call goes on for longer than the grace")
    board.mark("go")
    assert call.result(DEADLINE) == "survived"
    still_works(pool)


# --- what is left ----------------------------------------------------------------------------------------------------


async def test_what_had_finished_stays_and_a_retry_runs_the_rest(pool, board: Board):
    """Its result is the complete list; nothing that had a value runs again."""

    async def half(x: int) -> int:
        board.mark("ran", x)
        if x >= 10 and not board.marks("mended"):
            await asyncio.sleep(3600)
        return x * 10

    job = pool.map(half, range(20))
    board.wait("ran", 20)
    until(lambda: job.snapshot().done == 10)
    job.cancel()
    with pytest.raises(JobCancelled, match="10 of 20 done"):
        await shortly(job)
    assert job.partial() == [x * 10 for x in range(10)] + [MISSING] * 10
    assert [row["index"] for row in job.records()] == list(range(10))
    board.mark("mended")
    again = job.retry()
    assert len(again) == 20
    assert await shortly(again) == [x * 10 for x in range(20)]
    ran = [int(x) for x in board.marks("ran")]
    assert sorted(ran) == sorted([*range(20), *range(10, 20)])


async def test_a_retry_after_a_failure_takes_a_mended_function_and_other_options(pool):
    """Those that failed and those that never ran are run with it."""
    job = pool.map(work.refuse, range(6), batch=1, concurrency=1)
    with pytest.raises(ValueError, match="odd: 1"):
        await shortly(job)
    again = job.retry(work.double, on_error="return")
    assert await shortly(again) == [0, 2, 4, 6, 8, 10]
    returned = pool.map(work.refuse, range(6), on_error="return")
    await shortly(returned)
    assert await shortly(returned.retry(work.double)) == [0, 2, 2, 6, 4, 10]
    third = returned.retry(work.double)
    await shortly(third)
    assert await shortly(third.retry()) == [0, 2, 2, 6, 4, 10]


async def test_a_retry_of_a_starmap_and_of_a_zip_calls_as_the_first_did(pool):
    """``unpack`` is kept."""
    job = pool.starmap(work.add, [(1, 2), ("a", 2), (3, 4)], on_error="return")
    assert (await shortly(job))[::2] == [3, 7]
    assert await shortly(job.retry(lambda x, y: f"{x}{y}")) == [3, "a2", 7]
    job = pool.map(work.add, [1, "a"], [2, 3], on_error="return")
    await shortly(job)
    assert await shortly(job.retry(lambda x, y: f"{x}{y}")) == [3, "a3"]


async def test_a_retry_of_a_running_job_is_refused(pool, board: Board):
    """Await it or cancel it first; right after ``cancel()`` it is allowed."""
    job = pool.map(lambda x: board.wait("go") and x, [1, 2])
    with pytest.raises(AiopoolError, match="still running"):
        job.retry()
    job.cancel()
    board.mark("go")
    assert await shortly(job.retry()) == [1, 2]


async def test_a_retry_of_an_unsized_input_runs_what_was_read_and_has_no_value(pool):
    """The items are kept until they have ended."""
    job = pool.map(work.refuse, iter(range(6)), on_error="return")
    await shortly(job)
    assert await shortly(job.retry(work.double)) == [0, 2, 2, 6, 4, 10]


def test_cancelling_twice_or_after_the_end_is_no_error(pool):
    """It says False when there was nothing to do."""
    job = pool.map(work.double, [1])
    assert job.result(DEADLINE) == [2]
    assert job.cancel() is False
    assert job.result(DEADLINE) == [2]
    slow = pool.map(work.nap, [DEADLINE] * 10)
    slow.cancel()
    slow.cancel()
    with pytest.raises(JobCancelled):
        slow.result(DEADLINE)
    assert slow.cancel() is False


def test_a_job_can_be_cancelled_at_any_moment(lenient):
    """Hundreds of jobs, cancelled after any number of steps: every one ends, and no worker is lost for it."""
    pool = lenient
    before = pids(pool)
    for i in range(150):
        fn = (work.double, work.double_later)[i % 2]
        data = (range(50), iter(range(50)))[i // 2 % 2]
        job = pool.map(fn, data, batch=1 + i % 7)
        for _ in range(i % 12):
            job.snapshot()
        job.cancel()
        until(job.done)
    still_works(pool)
    assert pids(pool) == before


# --- from the awaiting side ------------------------------------------------------------------------------------------


async def test_cancelling_the_awaiting_task_cancels_the_job(pool, board: Board):
    """And the await raises the very CancelledError that it was given."""

    async def sleeper(x: int) -> None:
        board.mark("running")
        await asyncio.sleep(3600)

    job = pool.map(sleeper, range(10))
    caught: list[asyncio.CancelledError] = []

    async def waits() -> None:
        try:
            await job
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)  # It is at its await now.
    await board.wait_async("running", 10)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as seen:
        await task
    assert type(caught[0]) is asyncio.CancelledError
    assert seen.value is caught[0] or sys.version_info < (3, 13)
    assert caught[0].args == ("enough",)
    assert caught[0]._render_traceback_()[0].startswith("Stopped: 0 of 10 done")
    assert await shortly(job.wait())
    assert job.snapshot().state == "stopped"
    with pytest.raises(JobCancelled):
        await job
    still_works(pool)


async def test_asyncio_timeout_around_an_await_cancels_the_job_and_raises_timeout_error(pool, board: Board):
    """And a TaskGroup that is cancelled ends in order, too."""
    job = pool.map(work.doze, [3600] * 4)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await job
    await shortly(job.wait())
    assert job.snapshot().state == "stopped"

    async def fails() -> None:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def waits(job) -> None:
        await job

    second = pool.map(work.doze, [3600] * 4)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits(second))
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    await shortly(second.wait())
    still_works(pool)


async def test_stopping_one_loop_over_a_job_stops_it_for_the_others_by_name(pool, board: Board):
    """They get JobCancelled, an Exception."""
    job = pool.map(work.doze, [3600] * 4)

    async def reads():
        async for _ in job:
            raise AssertionError("there is nothing to read")

    reader, other = asyncio.create_task(reads()), asyncio.create_task(_await(job))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    with pytest.raises(JobCancelled):
        await shortly(other)


async def _await(job):
    return await job


def test_a_cancel_from_another_thread_ends_a_blocking_wait(pool, board: Board):
    """The waiting thread gets JobCancelled."""
    job = pool.map(sleeps(board), range(4))
    threading.Thread(target=lambda: board.wait("running") and job.cancel()).start()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    still_works(pool)


def test_the_workers_of_a_stopped_job_were_not_children_of_the_signal(pool):
    """SIGINT to the whole process group, as a kernel's Stop does it: workers ignore it."""
    import signal

    before = pids(pool)
    job = pool.map(work.nap, [0.05] * 8)
    for pid in before:
        os.kill(pid, signal.SIGINT)
    assert len(job.result(DEADLINE)) == 8
    assert pids(pool) == before


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_an_import_is_not_torn_in_two(fresh, tmp_path, monkeypatch, how):
    """A module that is half imported when its item is told to end can be imported by the next item all the same."""
    board = Board(tmp_path)
    package = tmp_path / f"half_{how}"
    package.mkdir()
    (package / "_part.py").write_text("names = ['a']\n")
    (package / "__init__.py").write_text(
        f"""
from tests.pool.board import Board
from {package.name}._part import *
Board({str(tmp_path)!r}).mark("importing")
Board({str(tmp_path)!r}).wait("go")
names = _part.names
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    pool = fresh(1, grace=20)
    name = package.name

    def use(_: object = None) -> tuple[int, list[str]]:
        return os.getpid(), importlib.import_module(name).names

    worker = pool.submit(work.pid).result(DEADLINE)
    # It must have begun to import by then, also on a slow machine.
    job = pool.map(use, [1], timeout=2 if how == "timeout" else None)
    board.wait("importing")
    if how == "cancel":
        job.cancel()
    else:
        (book,) = pool._driver._ledger.workers.values()
        until(lambda: book.overdue, what="its time is over")
    # Twice as long as it takes to be told; less than it takes until the worker is given up.
    stays(lambda: not board.marks("importing")[1:], 0.12)
    board.mark("go")
    with pytest.raises(JobCancelled if how == "cancel" else ItemTimeout):
        job.result(DEADLINE)
    pid, names = pool.submit(use).result(DEADLINE)
    assert names == ["a"]
    assert pid == worker or len(board.marks("importing")) == 2, "the same worker, or one that began anew"
