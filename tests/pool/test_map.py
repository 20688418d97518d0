"""A map from its call to its results: every way to read them, with real workers."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import aiopool
from aiopool import MISSING, Failure, Pool
from aiopool.registry import registry
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, rested, shortly

# --- all at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [work.double, work.double_later], ids=["def", "async def"])
async def test_awaiting_a_job_gives_the_results_in_input_order(pool, fn):
    """However they were spread over the workers."""
    assert await shortly(pool.map(fn, range(1000))) == list(range(0, 2000, 2))


@pytest.mark.parametrize("fn", [work.double, work.double_later], ids=["def", "async def"])
def test_result_gives_the_same_list_to_sync_code(pool, fn):
    """``.result()`` is the ``await`` of scripts."""
    assert pool.map(fn, range(1000)).result(DEADLINE) == list(range(0, 2000, 2))


async def test_result_works_inside_a_running_loop(pool):
    """Sync code that a cell calls may wait for a job, although a loop runs in its thread."""
    assert pool.map(work.double_later, [1, 2]).result(DEADLINE) == [2, 4]


def test_items_that_end_in_another_order_keep_their_places(pool, board: Board):
    """The first item ends last."""

    def late(x: int) -> int:
        if x == 0:
            board.wait("others", 3)
        else:
            board.mark("others")
        return x

    assert pool.map(late, range(4)).result(DEADLINE) == [0, 1, 2, 3]


async def test_a_job_may_be_awaited_twice_and_by_many(pool):
    """Every value is made once, and everybody gets the same object."""
    job = pool.map(lambda x: [x], range(20))
    several = await shortly(asyncio.gather(*(job_of(job) for _ in range(3))))
    again = await shortly(job_of(job))
    assert [[id(value) for value in values] for values in several] == [[id(value) for value in again]] * 3


async def job_of(job):
    """Await it in a task of its own."""
    return await job


async def test_threads_and_loops_may_wait_for_one_job(pool, board: Board):
    """Any thread and any event loop."""
    job = pool.map(lambda x: board.wait("go") and x, [1, 2])
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(job.result(DEADLINE))),
        threading.Thread(target=lambda: got.append(asyncio.run(job_of(job)))),
    ]
    for thread in threads:
        thread.start()
    board.mark("go")
    assert await shortly(job) == [1, 2]
    for thread in threads:
        thread.join(DEADLINE)
    assert got == [[1, 2], [1, 2]]


def test_a_timeout_of_result_cancels_nothing(pool, board: Board):
    """The job goes on, and says so."""
    job = pool.map(lambda x: board.wait("go") and x, [1])
    with pytest.raises(TimeoutError, match=r"still running, 0 of 1 done; it goes on"):
        job.result(0.05)
    assert not job.done()
    board.mark("go")
    assert job.result(DEADLINE) == [1]


async def test_wait_tells_whether_the_end_has_come_and_raises_nothing(pool, board: Board):
    """Neither the job's error nor, when its time is up, anything else; and it never cancels."""

    def wait_and_raise(x: int) -> None:
        board.wait("go")
        raise ValueError("bad")

    job = pool.map(wait_and_raise, [1])
    assert await job.wait(0.05) is False
    waiting = asyncio.create_task(job.wait())
    await board.wait_async("go", 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not job.done()
    board.mark("go")
    assert await shortly(job.wait(DEADLINE)) is True
    assert job.done()


# --- one after another -----------------------------------------------------------------------------------------------


def test_a_for_loop_reads_results_in_input_order_as_they_come(pool, board: Board):
    """The first is there before the last has begun."""

    def held(x: int) -> int:
        if x == 5:
            board.wait("first was read")
        return 2 * x

    seen = []
    for value in pool.map(held, range(6), batch=1):
        board.mark("first was read")
        seen.append(value)
    assert seen == [0, 2, 4, 6, 8, 10]


async def test_an_async_for_loop_reads_results_in_input_order_as_they_come(pool, board: Board):
    """The same on the caller's loop, which turns meanwhile."""

    async def held(x: int) -> int:
        if x == 5:
            await board.wait_async("first was read")
        return 2 * x

    seen = []
    async with asyncio.timeout(DEADLINE):
        async for value in pool.map(held, range(6)):
            board.mark("first was read")
            seen.append(value)
    assert seen == [0, 2, 4, 6, 8, 10]


def test_as_completed_reads_pairs_in_the_order_of_completion(pool, board: Board):
    """The held item comes last, and each result carries its index."""

    def held(x: int) -> int:
        if x == 0:
            board.wait("others were read", 5)
        return 10 * x

    seen = []
    for index, value in pool.map(held, range(6), batch=1).as_completed():
        board.mark("others were read")
        seen.append((index, value))
    assert seen[-1] == (0, 0)
    assert sorted(seen) == [(i, 10 * i) for i in range(6)]


async def test_as_completed_works_with_async_for(pool, board: Board):
    """The same on the caller's loop."""

    async def held(x: int) -> int:
        if x == 0:
            await board.wait_async("others were read", 5)
        return 10 * x

    seen = []
    async with asyncio.timeout(DEADLINE):
        async for index, value in pool.map(held, range(6)).as_completed():
            board.mark("others were read")
            seen.append((index, value))
    assert seen[-1] == (0, 0)
    assert sorted(seen) == [(i, 10 * i) for i in range(6)]


async def test_break_cancels_nothing_and_the_next_loop_goes_on(pool):
    """A reader that was left is taken up where it stood."""
    job = pool.map(work.double, range(10))
    async for value in job:
        if value == 6:
            break
    rest = [value async for value in job]
    assert rest == [8, 10, 12, 14, 16, 18]
    assert await shortly(job) == list(range(0, 20, 2))


async def test_leaving_an_async_with_block_of_a_job_cancels_it(pool, board: Board):
    """Whoever wants a loop's end to be the job's end says so."""
    async with pool.map(lambda x: board.wait("never") if x else x, range(3)) as job:
        async for value in job:
            assert value == 0
            break
    await shortly(job.wait())
    assert job.snapshot().state == "cancelled"


# --- several iterables, tuples, mappings -----------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [work.add, work.add_later], ids=["def", "async def"])
def test_several_iterables_are_zipped(pool, fn):
    """``fn(x, y)``; the shortest one ends the job."""
    assert pool.map(fn, [1, 2, 3], [10, 20, 30]).result(DEADLINE) == [11, 22, 33]
    job = pool.map(fn, [1, 2, 3], (x for x in [10, 20]))
    assert job.result(DEADLINE) == [11, 22]
    job = pool.map(fn, [1, 2, 3], [10, 20])
    assert len(job) == 2
    assert job.result(DEADLINE) == [11, 22]


@pytest.mark.parametrize("fn", [work.add, work.add_later], ids=["def", "async def"])
def test_starmap_and_unpack_spread_tuples_and_mappings(pool, fn):
    """A tuple becomes ``*args``, a mapping ``**kwargs``."""
    pairs = [(1,), (1, 2), {"x": 1, "y": 2, "times": 3}]
    assert pool.starmap(fn, pairs).result(DEADLINE) == [2, 3, 9]
    assert pool.map(fn, pairs, unpack=True).result(DEADLINE) == [2, 3, 9]
    assert pool.map(len, [(1,), (1, 2)]).result(DEADLINE) == [1, 2]


def test_a_tuple_that_does_not_fit_costs_its_item_only(pool):
    """The TypeError of the call is that item's failure."""
    one, two = pool.starmap(work.add, [(1, 2), (1, 2, 3, 4)], on_error="return").result(DEADLINE)
    assert one == 3
    assert isinstance(two.error, TypeError)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_whatever_the_size_of_batches_the_results_are_the_same(pool, batch):
    """``batch`` is about speed alone."""
    assert pool.map(work.double, range(100), batch=batch).result(DEADLINE) == list(range(0, 200, 2))
    assert pool.map(work.double_later, iter(range(100)), batch=batch).result(DEADLINE) == list(range(0, 200, 2))


def test_desc_and_total_are_what_a_snapshot_shows(pool, board: Board):
    """So that the bar of an unsized input knows its length, and the job its name."""
    job = pool.map(lambda x: board.wait("go") and x, iter(range(3)), desc="sweep", total=3)
    snapshot = job.snapshot()
    assert (job.name, snapshot.name, snapshot.total, snapshot.state) == ("sweep", "sweep", 3, "running")
    board.mark("go")
    assert job.result(DEADLINE) == [0, 1, 2]
    snapshot = job.snapshot()
    assert (snapshot.done, snapshot.failed, snapshot.state, snapshot.in_flight) == (3, 0, "done", 0)
    assert str(snapshot).startswith("sweep: 3 done")


def test_label_shows_an_input_without_its_secret(pool):
    """In the note of the error."""
    with pytest.raises(ValueError, match="odd") as caught:
        pool.map(work.refuse, [4242421], label=lambda x: f"the {str(x)[:2]}th").result(DEADLINE)
    (note,) = caught.value.__notes__
    assert note.startswith("item 0 (the 42th), worker ")


# --- what a job tells while it runs ----------------------------------------------------------------------------------


async def test_partial_and_records_and_failures_tell_what_there_is(fresh, board: Board):
    """During the run, with holes filled, and afterwards."""
    pool = fresh(2)  # In one that was used before there may be a third, in the place of one that was slow to obey.

    async def mixed(x: int) -> int:
        if x == 2:
            await board.wait_async("go")
        return work.refuse(x)

    job = pool.map(mixed, [0, 1, 2], on_error="return")
    until(lambda: len([value for value in job.partial() if value is not MISSING]) == 2)
    assert job.partial(fill=None)[0] == 0
    assert job.partial(fill=None)[2] is None
    assert isinstance(job.partial()[1], Failure)
    (failure,) = job.failures
    assert (failure.index, failure.input, str(failure.error)) == (1, 1, "odd: 1")
    board.mark("go")
    results = await shortly(job)
    assert (results[0], results[1], results[2]) == (0, failure, 2)
    rows = job.records()
    assert [(row["index"], row["input"], row["value"], row["attempts"]) for row in rows] == [
        (0, 0, 0, 1),
        (1, 1, None, 1),
        (2, 2, 2, 1),
    ]
    assert rows[1]["error"] is failure.error
    assert all(row["seconds"] >= 0 and row["worker"] in (0, 1) for row in rows)
    assert "value" not in job.records(values=False)[0]


async def test_done_callbacks_run_on_the_loop_of_whoever_added_them(pool):
    """And at once where the job has ended."""
    job = pool.map(work.double, range(3))
    called: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()
    job.add_done_callback(lambda it: called.set_result((threading.get_ident(), it.done())))
    assert await shortly(called) == (threading.get_ident(), True)
    later: list[object] = []
    job.add_done_callback(later.append)
    assert later == [job]


def test_len_is_the_number_of_items_where_it_is_known(pool):
    """An unsized input has no length before it has ended."""
    assert len(pool.map(work.double, range(17))) == 17
    job = pool.map(work.double, iter(range(17)))
    job.result(DEADLINE)
    assert len(job) == 17
    endless = pool.map(work.double, iter(int, 1))
    with pytest.raises(TypeError, match="no length"):
        len(endless)
    endless.cancel()


# --- many, big, deep -------------------------------------------------------------------------------------------------


def test_a_million_plain_numbers_arrive(pool):
    """In order, none lost, and in seconds."""
    started = time.monotonic()
    results = pool.map(work.double, range(1_000_000)).result(50)
    assert results == list(range(0, 2_000_000, 2))
    assert time.monotonic() - started < 30


def test_a_result_of_fifty_megabytes_arrives(pool):
    """Both ways, as do its small neighbours."""
    results = pool.map(bytes, [3, 50_000_000, 5]).result(DEADLINE)
    assert [len(value) for value in results] == [3, 50_000_000, 5]
    assert pool.map(len, results, [None], unpack=False).name == "len"
    assert pool.map(len, results).result(DEADLINE) == [3, 50_000_000, 5]


@pytest.mark.parametrize("depth", [300, 200_000])
def test_a_deeply_nested_result_arrives_or_is_refused_by_name(pool, depth):
    """Whether pickle can take it or not, only its item is concerned, and the worker lives."""

    def nest(x: int) -> object:
        value: object = x
        for _ in range(depth if x else 0):
            value = [value]
        return value

    rested(pool)
    before = {worker.info.pid for worker in pool.workers}
    zero, one = pool.map(nest, [0, 1], on_error="return").result(DEADLINE)
    assert zero == 0
    if depth == 300:
        while isinstance(one, list):
            (one,) = one
        assert one == 1
    else:
        assert isinstance(one, Failure)
        assert "too deeply" in str(one.error)
        assert isinstance(one.error, aiopool.NotPicklable)
    assert before <= {worker.info.pid for worker in pool.workers}


# --- the session's shared pool ---------------------------------------------------------------------------------------


@pytest.fixture
def session(monkeypatch):
    """A session of this test's own, whose shared pool has two workers and is closed at the end."""
    from aiopool import session

    monkeypatch.setattr(session, "_session", session._Session())
    for name, value in vars(type(registry)()).items():
        monkeypatch.setattr(registry, name, value)
    aiopool.configure(workers=2)
    yield
    if session._session.pool is not None:
        ended(session._session.pool)


async def test_pmap_runs_on_the_shared_pool_which_is_opened_once(session):
    """``get_pool()`` is where every ``pmap`` runs."""
    assert await shortly(aiopool.pmap(work.double, [1, 2])) == [2, 4]
    pool = aiopool.get_pool()
    assert await shortly(aiopool.pmap(work.add_later, [1, 2], [3, 4])) == [4, 6]
    assert aiopool.get_pool() is pool
    assert (pool.size, pool.snapshot().name) == (2, "shared")


async def test_a_closed_shared_pool_is_replaced(session):
    """Whoever closes it gets a new one at the next ``pmap``."""
    first = aiopool.get_pool()
    first.close()
    assert await shortly(aiopool.pmap(work.double, [1])) == [2]
    assert aiopool.get_pool() is not first
    first.join(DEADLINE)


async def test_configure_sets_the_defaults_of_the_session(session, board: Board):
    """The workers of a pool that is open, and the concurrency of each ``pmap`` that says none."""
    pool = aiopool.get_pool()
    aiopool.configure(workers=3, concurrency=2)
    assert pool.size == 3

    async def counted(x: int) -> int:
        with board.counted("inside"):
            if x < 2:  # Whatever starts first, and however late the other worker comes.
                board.mark("begun")
                await board.wait_async("begun", 2)
            await asyncio.sleep(0.01)
        return x

    await shortly(aiopool.pmap(counted, range(30)))
    assert board.most("inside") == 2


async def test_last_job_and_jobs_find_what_nobody_holds(session, board: Board):
    """The last one started, and every running one; one that ended well is let go."""
    held = aiopool.pmap(lambda x: board.wait("go"), [1])
    ended_well = aiopool.pmap(work.double, [1])
    assert aiopool.last_job() is ended_well
    await shortly(ended_well)
    last = aiopool.pmap(work.double, [2])
    await shortly(last)
    assert aiopool.jobs() == [held, last]
    with pytest.raises(ValueError, match="odd"):
        await shortly(aiopool.pmap(work.refuse, [1]))
    failed = aiopool.last_job()
    await shortly(aiopool.pmap(work.double, [3]))
    assert aiopool.jobs() == [held, failed, aiopool.last_job()]
    board.mark("go")
    await shortly(held)


def test_another_engine_must_exist(session):
    """The error names those that do."""
    with pytest.raises(aiopool.OptionError, match="'local'"):
        Pool(workers=1, engine="cloud")
