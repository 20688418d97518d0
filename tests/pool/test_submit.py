"""Single calls: arguments, at most once, what their handle says."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from aiopool import JobCancelled, NotPicklable, OptionError, WorkerLost
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import shortly, still_works


@pytest.mark.parametrize("fn", [work.add, work.add_later], ids=["def", "async def"])
async def test_a_submit_takes_arguments_of_every_sort(pool, fn):
    """Positional and by name, and gives one value to ``await`` and to ``result()``."""
    assert await shortly(pool.submit(fn, 1)) == 2
    assert await shortly(pool.submit(fn, 1, 2, times=3)) == 9
    assert pool.submit(fn, x="a", y="b").result(DEADLINE) == "ab"


async def test_a_submit_may_use_the_names_of_options_for_its_own_arguments(pool):
    """``submit`` has no options, so no name is taken; not even ``fn``."""

    def echo(**given):
        return given

    given = {"fn": 1, "self": 2, "concurrency": 3, "timeout": 4, "n_jobs": 5}
    assert await shortly(pool.submit(echo, **given)) == given


async def test_a_handle_says_whether_it_is_done_and_its_repr_reads_like_a_status(pool, board: Board):
    """While it runs and after."""
    handle = pool.submit(board.wait, "go")
    assert not handle.done()
    assert "wait" in repr(handle)
    board.mark("go", "now")
    assert await shortly(handle) == ["now"]
    assert handle.done()
    assert handle.cancel() is False


async def test_many_submits_run_beside_each_other(pool, board: Board):
    """Two that wait for one another end, on two workers and on one loop."""

    def meet(mine: str, other: str) -> str:
        board.mark(mine)
        board.wait(other)
        return mine

    async def meet_later(mine: str, other: str) -> str:
        board.mark(mine)
        await board.wait_async(other)
        return mine

    pair = [pool.submit(meet, "a", "b"), pool.submit(meet, "b", "a")]
    assert await shortly(asyncio.gather(*(ending(handle) for handle in pair))) == ["a", "b"]
    names = [f"n{i}" for i in range(50)]
    ring = [pool.submit(meet_later, mine, other) for mine, other in zip(names, names[1:] + names[:1], strict=True)]
    assert await shortly(asyncio.gather(*(ending(handle) for handle in ring))) == names


async def ending(handle):
    """Await it in a task of its own."""
    return await handle


async def test_an_error_of_a_submit_names_the_call(pool):
    """And is the original."""
    with pytest.raises(ValueError, match="odd: 3") as caught:
        await shortly(pool.submit(work.refuse, 3))
    (note,) = caught.value.__notes__
    assert note.startswith("the call (")
    assert "worker " in note


async def test_an_argument_or_result_that_cannot_travel_is_named(pool):
    """In the error of that call, and the pool goes on."""
    with pytest.raises(NotPicklable, match="generator"):
        await shortly(pool.submit(work.double, (x for x in [1])))
    with pytest.raises(NotPicklable, match="generator"):
        await shortly(pool.submit(lambda: (x for x in [1])))
    still_works(pool)


async def test_a_submit_is_never_run_again(pool, board: Board):
    """Its worker dies: it ends as WorkerLost and has run once."""

    def fatal() -> None:
        board.mark("ran")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerLost) as caught:
        await shortly(pool.submit(fatal))
    assert caught.value.exitcode == -signal.SIGKILL
    assert len(board.marks("ran")) == 1
    still_works(pool)


async def test_a_submit_that_has_not_started_survives_the_death_of_its_worker(fresh, board: Board):
    """It waited behind one that dies; nothing of it had run."""
    pool = fresh(1)

    def fatal() -> None:
        board.wait("queued")
        os.kill(os.getpid(), signal.SIGKILL)

    first = pool.submit(fatal)
    others = [pool.submit(work.double, x) for x in range(5)]
    board.mark("queued")
    with pytest.raises(WorkerLost):
        await shortly(first)
    assert [await shortly(handle) for handle in others] == [0, 2, 4, 6, 8]


async def test_cancelling_a_submit_ends_it_for_whoever_waits(lenient, board: Board):
    """With JobCancelled, and its item feels it."""

    async def sleeper() -> None:
        board.mark("started")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            board.mark("felt it")
            raise

    handle = lenient.submit(sleeper)
    await board.wait_async("started")
    assert handle.cancel() is True
    with pytest.raises(JobCancelled, match=r"sleeper was cancelled"):
        await shortly(handle)
    await board.wait_async("felt it")
    still_works(lenient)


async def test_a_submit_has_no_options_and_can_be_retried(pool, board: Board):
    """``retry`` runs the call again, also with a mended function."""
    handle = pool.submit(work.refuse, 3)
    with pytest.raises(ValueError, match="odd"):
        await shortly(handle)
    assert await shortly(handle.retry(work.double)) == 6
    with pytest.raises(OptionError, match="submit has no options"):
        handle.retry(concurrency=3)


async def test_a_thousand_submits_in_a_row_leave_nothing_in_workers(pool):
    """The worker forgets the function of a call that has ended."""

    def jobs_held() -> int:
        import gc

        from aiopool._worker.work import JobRun

        gc.collect()
        return sum(isinstance(thing, JobRun) for thing in gc.get_objects())

    for x in range(300):
        assert await pool.submit(work.double, x) == 2 * x
        assert await pool.submit(work.double_later, x) == 2 * x
    until(lambda: not pool.snapshot().jobs)
    assert max(pool.broadcast(jobs_held).result(DEADLINE)) <= 2
