"""Everything that can be mapped over, in every way it can end; and what is refused, with what to write instead."""

from __future__ import annotations

import array
import asyncio
import collections
import contextvars
import itertools
import threading

import numpy as np
import pandas as pd
import pytest

from aiopool import InputError, InputLost, NotPicklable, OptionError, ResultsConsumed, WouldDeadlock
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import read_into, shortly, still_works

# --- what may be passed ----------------------------------------------------------------------------------------------


class Sized:
    """An input of a user's own, with a length and an iterator."""

    def __len__(self):
        return 3

    def __iter__(self):
        return iter([1, 2, 3])


class Indexed:
    """The old protocol: ``__getitem__`` alone."""

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError
        return index + 1


SIZED = {
    "list": [1, 2, 3],
    "tuple": (1, 2, 3),
    "set": {1, 2, 3},
    "frozenset": frozenset((1, 2, 3)),
    "dict": {1: "a", 2: "b", 3: "c"},
    "keys": {1: "a", 2: "b", 3: "c"}.keys(),
    "values": {"a": 1, "b": 2, "c": 3}.values(),
    "range": range(1, 4),
    "range with a step": range(3, 0, -1),
    "deque": collections.deque([1, 2, 3]),
    "array": array.array("i", [1, 2, 3]),
    "numpy array": np.array([1, 2, 3]),
    "pandas Series": pd.Series([1, 2, 3], index=["x", "y", "z"]),
    "an object of the user's": Sized(),
}


@pytest.mark.parametrize("data", SIZED.values(), ids=SIZED)
@pytest.mark.parametrize("fn", [work.double, work.double_later], ids=["def", "async def"])
def test_a_sized_input_of_every_kind_gives_its_results_in_its_own_order(pool, data, fn):
    """As ``[fn(x) for x in data]`` would, and the job has the length of the data."""
    job = pool.map(fn, data)
    assert len(job) == 3
    assert job.result(DEADLINE) == [2 * x for x in data]


def test_items_of_a_dict_view_are_pairs(pool):
    """One argument, unless unpacked."""
    items = {"a": 1, "b": 2}.items()
    assert pool.map(lambda pair: pair, items).result(DEADLINE) == [("a", 1), ("b", 2)]
    assert pool.starmap(lambda key, value: key * value, items).result(DEADLINE) == ["a", "bb"]


def test_rows_of_a_matrix_and_of_a_table_are_items(pool):
    """As iterating over them gives them."""
    assert pool.map(lambda row: float(row.sum()), np.ones((3, 4))).result(DEADLINE) == [4.0] * 3
    table = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    assert pool.map(lambda row: row.a + row.b, table.itertuples(index=False)).result(DEADLINE) == [4, 6]
    assert pool.map(lambda row: row["a"], table.to_dict("records")).result(DEADLINE) == [1, 2]


UNSIZED = {
    "generator": lambda: (x for x in [1, 2, 3]),
    "iterator": lambda: iter([1, 2, 3]),
    "map": lambda: map(int, "123"),
    "zip": lambda: (pair[0] for pair in zip([1, 2, 3], "abc", strict=True)),
    "islice": lambda: itertools.islice(itertools.count(1), 3),
    "__getitem__ alone": Indexed,
}


@pytest.mark.parametrize("data", UNSIZED.values(), ids=UNSIZED)
@pytest.mark.parametrize("fn", [work.double, work.double_later], ids=["def", "async def"])
def test_an_unsized_input_of_every_kind_gives_its_results_in_its_own_order(pool, data, fn):
    """And the job knows its length in the end."""
    job = pool.map(fn, data())
    assert job.result(DEADLINE) == [2, 4, 6]
    assert len(job) == 3


def test_a_sized_input_that_goes_on_is_an_error_that_says_so(pool):
    """``tqdm(rows, total=3)`` has a guess for its length. Nothing is left out without a word; what was read stands."""

    class Long(Sized):
        def __len__(self):
            return 2

    job = pool.map(work.double, Long())
    with pytest.raises(InputError, match=r"more items than its len\(\) says, which is 2"):
        job.result(DEADLINE)
    assert job.partial() == [2, 4]
    assert pool.map(work.double, iter(Long())).result(DEADLINE) == [2, 4, 6]
    with pytest.raises(InputError, match="more items"):
        pool.map(lambda x, y: x + y, Long(), Long()).result(DEADLINE)


def test_a_sized_input_without_an_iterator_of_its_own_ends_where_its_length_says(pool):
    """As a data set for machine learning, which gives an item for any number."""

    class Endless:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return index

    assert pool.map(work.double, Endless()).result(DEADLINE) == [0, 2, 4]
    assert pool.map(lambda x, y: x + y, Endless(), Endless()).result(DEADLINE) == [0, 2, 4]


async def numbers(count=3, *, fails=False):
    """Yield so many, and perhaps raise."""
    for x in range(1, count + 1):
        await asyncio.sleep(0)
        yield x
    if fails:
        raise OSError("the source has dried up")


async def test_an_async_generator_is_read_on_the_callers_loop(pool):
    """It may use what belongs to that loop."""
    loop = asyncio.get_running_loop()
    read_on = []

    async def source():
        async for x in numbers():
            read_on.append(asyncio.get_running_loop())
            yield x

    assert await shortly(pool.map(work.double, source())) == [2, 4, 6]
    assert await shortly(pool.map(work.double_later, source())) == [2, 4, 6]
    assert set(read_on) == {loop}


def test_an_async_generator_works_from_sync_code(pool):
    """Where no loop runs, the job's feeder runs one."""
    assert pool.map(work.double, numbers()).result(DEADLINE) == [2, 4, 6]
    assert pool.map(work.double_later, numbers()).result(DEADLINE) == [2, 4, 6]


async def test_a_big_async_input_is_read_in_parts(pool):
    """Beyond the window, and while results are read."""
    seen = 0
    async with asyncio.timeout(DEADLINE):
        async for value in pool.map(work.double, numbers(5000), window=50):
            seen += 1
            assert value == 2 * seen
    assert seen == 5000


EMPTY = {
    "list": list,
    "dict": dict,
    "range": lambda: range(0),
    "array": lambda: np.array([]),
    "Series": lambda: pd.Series([], dtype=float),
    "generator": lambda: (x for x in ()),
    "async generator": lambda: numbers(0),
}


@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY)
async def test_an_empty_input_gives_an_empty_list(pool, data):
    """However it is read."""
    assert await shortly(pool.map(work.double, data())) == []
    assert [value async for value in pool.map(work.double_later, data())] == []
    assert [pair async for pair in pool.map(work.double, data()).as_completed()] == []


def test_an_empty_input_starts_no_worker(fresh):
    """There is nothing to do."""
    pool = fresh(2)
    assert pool.map(work.double, []).result(DEADLINE) == []
    assert pool.map(work.double, [], [1, 2]).result(DEADLINE) == []
    assert pool.snapshot().workers == ()


# --- the caller's own objects ----------------------------------------------------------------------------------------


def test_a_list_that_changes_after_the_call_does_not_change_the_job(pool):
    """It was copied in the call: list, set and dict."""
    for data in ([1, 2, 3], {1, 2, 3}, {1: 0, 2: 0, 3: 0}, collections.deque([1, 2, 3])):
        job = pool.map(work.double, data)
        data.clear()
        assert job.result(DEADLINE) == [2, 4, 6]


def test_an_input_is_read_on_a_thread_of_its_own_in_the_callers_context(pool):
    """Not on the caller's, which may be busy, and not on the pool's."""
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    seen = set()

    def source():
        for x in range(3):
            seen.add((threading.current_thread().name, variable.get()))
            yield x

    assert pool.map(work.double, source()).result(DEADLINE) == [0, 2, 4]
    ((thread, value),) = seen
    assert thread.startswith("aiopool-feeder")
    assert value == "the caller's"


def test_an_iterator_that_is_bound_to_its_thread_says_what_to_pass_instead(pool):
    """A cursor of sqlite3 refuses to be read on the feeder's thread."""
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        rows = connection.execute("select 1 union select 2")
        with pytest.raises(sqlite3.ProgrammingError) as caught:
            pool.map(work.double, rows).result(DEADLINE)
        assert "list(...)" in " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert pool.map(lambda row: row[0], list(connection.execute("select 1 union select 2"))).result(DEADLINE) == [
            1,
            2,
        ]
    connection.close()


# --- slow, endless, broken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [work.double, work.double_later], ids=["def", "async def"])
def test_an_item_is_computed_while_the_generator_blocks_in_the_next(pool, board: Board, fn):
    """The generator waits for the very result of what it has yielded."""

    def source():
        yield 1
        board.wait("one is done")
        yield 2

    results = iter(pool.map(fn, source()))
    assert next(results) == 2
    board.mark("one is done")
    assert next(results) == 4


async def test_an_item_is_computed_while_the_async_generator_waits(pool):
    """The same with an async generator on the reader's own loop."""
    done = asyncio.Event()

    async def source():
        yield 1
        await done.wait()
        yield 2

    seen = []
    async with asyncio.timeout(DEADLINE):
        async for value in pool.map(work.double, source()):
            seen.append(value)
            done.set()
    assert seen == [2, 4]


def test_an_endless_input_can_be_left_by_break_and_cancel(pool):
    """No more than a window is read beyond what workers have done, and results are handed out in order.

    How far a slow reader may lag behind the workers is counted in bytes.
    """
    read = itertools.count()
    job = pool.map(work.double, read, window=100)
    for expected, value in enumerate(job):
        assert value == 2 * expected
        if value >= 20_000:
            break
    ahead = next(read) - job.snapshot().done
    job.cancel()
    assert ahead < 2 * 100 + 10
    with pytest.raises(ResultsConsumed, match="pass list"):
        job.result(DEADLINE)
    still_works(pool)


async def test_an_endless_async_input_can_be_cancelled(pool):
    """And its generator is not read on."""
    read = 0

    async def source():
        nonlocal read
        while True:
            read += 1
            yield read
            await asyncio.sleep(0)

    job = pool.map(work.double, source(), window=100)
    async with asyncio.timeout(DEADLINE):
        async for value in job:
            if value >= 1000:
                break
    job.cancel()
    await shortly(job.wait())
    for _ in range(300):
        await asyncio.sleep(0)
    before = read
    for _ in range(300):
        await asyncio.sleep(0)
    assert read == before


@pytest.mark.parametrize("data", ["generator", "sized", "async generator"])
async def test_an_input_that_raises_lets_the_results_before_it_stand(pool, data):
    """The error surfaces at its place, for every way of reading."""

    def source():
        yield from [1, 2, 3]
        raise OSError("the source has dried up")

    class Broken(Sized):
        def __len__(self):
            return 5

        def __iter__(self):
            return source()

    make = {"generator": source, "sized": Broken, "async generator": lambda: numbers(fails=True)}[data]
    job = pool.map(work.double, make())
    with pytest.raises(OSError, match="dried up"):
        await shortly(job)
    assert job.partial()[:3] == [2, 4, 6]
    seen = []
    job = pool.map(work.double_later, make())
    with pytest.raises(OSError, match="dried up"):
        await shortly(read_into(seen, job))
    assert seen == [2, 4, 6]
    seen = []
    with pytest.raises(OSError, match="dried up"):
        await shortly(read_into(seen, pool.map(work.double, make()).as_completed()))
    assert sorted(seen) == [(0, 2), (1, 4), (2, 6)]
    still_works(pool)


async def test_with_failures_returned_the_error_of_the_input_is_still_its_own(pool):
    """An item that failed before it stays a Failure, and does not stand in for it."""

    def source():
        yield from [0, 1]
        raise OSError("the source has dried up")

    job = pool.map(work.refuse, source(), on_error="return")
    with pytest.raises(OSError, match="dried up"):
        await shortly(job)
    zero, one = job.partial()
    assert (zero, str(one.error)) == (0, "odd: 1")


def test_a_sized_input_that_ends_early_has_as_many_items_as_it_gives(pool):
    """``__len__`` was a guess; what was read counts."""

    class Short(Sized):
        def __len__(self):
            return 5

    job = pool.map(work.double, Short())
    assert job.result(DEADLINE) == [2, 4, 6]
    assert len(job) == 3


def test_an_unsized_input_waits_for_a_reader_when_too_many_bytes_wait(pool, monkeypatch):
    """Whoever reads, or waits for all, lets it run on; nothing is lost."""
    from aiopool._runtime import results

    monkeypatch.setattr(results, "UNREAD_LIMIT", 1_000_000)
    read = itertools.count()
    job = pool.map(lambda x: bytes(100_000), (x for x, _ in zip(read, range(300), strict=False)), window=10)
    until(lambda: job.snapshot().done >= 10)
    stays(lambda: job.snapshot().done < 50, 0.3, "it waits for a reader")
    assert len(job.result(DEADLINE)) == 300


def test_leaving_a_pool_reads_everything_whatever_waits_for_a_reader(fresh, monkeypatch):
    """Or it would wait for a reader that cannot come."""
    from aiopool._runtime import results

    monkeypatch.setattr(results, "UNREAD_LIMIT", 1_000_000)
    pool = fresh(1)
    job = pool.map(lambda x: bytes(100_000), (x for x in range(100)), window=10)
    until(lambda: job.snapshot().done >= 10)
    pool.close()
    pool.join(DEADLINE)
    assert len(job.partial()) == 100


async def test_an_input_whose_loop_ends_breaks_the_job_by_name(pool, board: Board):
    """The loop that fed it is gone: the job does not wait for ever."""

    async def start():
        async def source():
            yield 1
            await asyncio.sleep(3600)
            yield 2

        return pool.map(work.double, source())

    def in_another_loop():
        return asyncio.run(start())

    job = await asyncio.to_thread(in_another_loop)
    with pytest.raises(InputLost):
        await shortly(job)


async def test_blocking_on_the_loop_that_must_feed_the_job_is_refused(pool):
    """It could never return; the message says what to write instead."""
    job = pool.map(work.double, numbers(10))
    with pytest.raises(WouldDeadlock, match="await it instead"):
        job.result(5)
    with pytest.raises(WouldDeadlock, match="await it instead"):
        next(iter(job))
    assert await shortly(job) == [2 * x for x in range(1, 11)]
    assert job.result(0) == await job


def test_blocking_while_the_loop_that_must_feed_the_job_does_not_run_is_refused(pool):
    """It would start again only after the wait."""

    async def start():
        return pool.map(work.double, numbers(10))

    loop = asyncio.new_event_loop()
    job = loop.run_until_complete(start())
    with pytest.raises(WouldDeadlock, match="await it instead"):
        job.result(5)
    assert loop.run_until_complete(job.wait(DEADLINE))
    assert job.result(0) == [2 * x for x in range(1, 11)]
    loop.close()


async def test_leaving_a_pool_by_blocking_the_loop_that_must_feed_it_is_refused(fresh):
    """``with`` instead of ``async with``, and ``join()``."""
    pool = fresh(1)
    job = pool.map(work.double, numbers(10))
    pool.close()
    with pytest.raises(WouldDeadlock, match="await it instead"):
        pool.join(5)
    assert await shortly(job) == [2 * x for x in range(1, 11)]
    pool.join(DEADLINE)


def test_results_of_an_unsized_input_are_dropped_as_they_are_handed_out(pool):
    """``partial()`` has the others; whoever wants them twice passes a list."""
    job = pool.map(work.double, iter(range(5)))
    until(lambda: job.snapshot().done == 5)
    reader = iter(job)
    assert [next(reader), next(reader)] == [0, 2]
    assert job.partial() == [4, 6, 8]
    with pytest.raises(ResultsConsumed, match="2 results"):
        job.result(DEADLINE)


# --- arguments that cannot travel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [list, iter], ids=["sized", "unsized"])
def test_an_argument_that_cannot_travel_costs_its_item_only(pool, wrap):
    """The error names what is to blame, and says what to write instead; the others are computed."""
    data = [1, threading.Lock(), 3, {"deep": [open]}, {"deep": [threading.Lock()]}]
    results = pool.map(lambda x: type(x).__name__, wrap(data), on_error="return").result(DEADLINE)
    assert [results[0], results[2], results[3]] == ["int", "int", "dict"]
    assert isinstance(results[1].error, NotPicklable)
    assert results[1].worker is None
    assert "lock" in str(results[1].error)
    assert "'deep'" in str(results[4].error)
    assert results[4].index == 4


# --- what is refused in the call -------------------------------------------------------------------------------------


async def coroutine():
    """Somebody forgot to await this."""


REFUSED = {
    "a bare string": ("https://example.org", r"pass \[value\]"),
    "bytes": (b"abc", r"pass \[value\]"),
    "a DataFrame": (pd.DataFrame({"a": [1]}), r"df.itertuples\(index=False\)"),
    "a function": (work.double, "a function was passed as the data"),
    "a number": (3, "cannot be iterated"),
    "None": (None, "cannot be iterated"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_iterated_to_nobodys_use_is_refused_in_the_call(pool, data, message):
    """With what to write instead; as the second input, too."""
    with pytest.raises(InputError, match=message):
        pool.map(work.double, data)
    with pytest.raises(InputError, match=message):
        pool.map(work.add, [1], data)


def test_a_coroutine_as_data_or_function_is_refused_in_the_call(pool):
    """With "await it first", or "pass the function itself"; and no warning about it follows."""
    forgotten = coroutine()
    with pytest.raises(InputError, match="await it first"):
        pool.map(work.double, forgotten)
    forgotten.close()
    with pytest.raises(InputError, match="Pass the function itself"):
        pool.map(coroutine(), [1, 2])
    with pytest.raises(InputError, match="first argument must be a function"):
        pool.map([1, 2], work.double)
    with pytest.raises(InputError, match="first argument must be a function"):
        pool.submit(work.double(3), 4)


def test_no_data_at_all_is_refused_in_the_call(pool):
    """With an example."""
    with pytest.raises(InputError, match=r"pmap\(double, data\)"):
        pool.map(work.double)


NEAR_MISSES = {
    "n_jobs": "concurrency=",
    "max_workers": "concurrency=",
    "processes": "concurrency=",
    "workers": "concurrency=",
    "chunksize": "batch=",
    "buffersize": "window=",
    "return_exceptions": 'on_error="return"',
    "concurency": "concurrency=",
    "flavour": "functools.partial",
}


@pytest.mark.parametrize(("name", "right"), NEAR_MISSES.items())
def test_an_option_that_does_not_exist_names_the_right_one(pool, name, right):
    """In the call, wherever options are taken."""
    for call in (pool.map, pool.starmap):
        with pytest.raises(OptionError, match=right):
            call(work.double, [1], **{name: 2})


WRONG = {
    "concurrency": [0, -1, 1.5, True, "4"],
    "on_error": ["ignore", None, True],
    "batch": [0, "big", 1.0],
    "window": [0, "x"],
    "total": [-1, "x"],
    "unpack": ["yes", 1],
    "label": ["name"],
    "progress": ["bar"],
    "rerun_lost": ["no"],
    "desc": [3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_that_an_option_cannot_have_is_refused_in_the_call(pool, name, value):
    """Naming the option and what it must be."""
    with pytest.raises(OptionError, match=f"{name}.*must be"):
        pool.map(work.double, [1], **{name: value})
