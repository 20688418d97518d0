"""The ten commonest mistakes of newcomers, in one place: each is told in the call, and with what to write instead.

In a plain script; tests/kernel/test_mistakes.py sees the same ten under a cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import queue
import threading
import warnings
from collections.abc import AsyncIterator

import numpy as np
import pandas as pd
import pytest

import aiopool
from aiopool import InputError, NotPicklable, OptionError, Pool, PoolClosed, per_worker
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import shortly, still_works
from tests.pool.scripts import run, script

# --- 1: await forgotten ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda pages: pages[0],
        lambda pages: pages[:2],
        lambda pages: pages + [1],  # noqa: RUF005 - that is the mistake
        lambda pages: [1] + pages,  # noqa: RUF005
        lambda pages: pages * 2,
        lambda pages: 3 in pages,
        reversed,
    ],
    ids=["[0]", "[:2]", "+ list", "list +", "*", "in", "reversed"],
)
def test_a_job_that_was_not_awaited_says_so_when_it_is_taken_for_a_list(pool, use):
    """``pages = pmap(...)`` and then ``pages[0]``: the message has the word that is missing, and nothing is lost."""
    pages = pool.map(work.double, [1, 2, 3])
    with pytest.raises(TypeError, match=r"`results = await pmap\(\.\.\.\)`.*`results = pmap\(\.\.\.\)\.result\(\)`"):
        use(pages)
    assert list(pages) == [2, 4, 6]


def test_a_job_that_was_not_awaited_says_so_when_it_is_asked_what_a_list_has(pool):
    """``pages.append(...)``; but tools that look for a protocol of their own get Python's own answer."""
    pages = pool.map(work.double, [1, 2, 3])
    with pytest.raises(
        AttributeError, match=r"a Job has no append\. It is not its results.*`await pmap|await it first"
    ):
        pages.append(4)
    assert not hasattr(pages, "shape")
    with pytest.raises(AttributeError, match=r"^a Job has no _repr_html_$"):
        pages._repr_html_()
    assert pages.result(DEADLINE) == [2, 4, 6]


def test_what_reads_a_job_from_its_beginning_may_take_it_for_a_list(pool):
    """``for``, ``sum``, numpy and pandas wait for the results, as often as one likes."""
    pages = pool.map(work.double, [1, 2, 3])
    assert [sum(pages), max(pages), sorted(pages), [*pages], len(pages)] == [12, 6, [2, 4, 6], [2, 4, 6], 3]
    assert np.array(pages).tolist() == [2, 4, 6]
    assert pd.Series(pages).tolist() == [2, 4, 6]
    assert pd.DataFrame({"page": pages})["page"].tolist() == [2, 4, 6]


# --- 2: the function called instead of passed ------------------------------------------------------------------------


async def fetch(url):
    """What newcomers call it."""
    return url


@pytest.mark.parametrize(
    ("mistake", "write"),
    [
        (lambda pool: pool.map(fetch("a"), ["a"]), r"fetch was called.*Pass the function itself: pmap\(fetch, data\)"),
        (lambda pool: pool.map(work.double(3), [3]), r"int was passed.*not what it returns: pmap\(fn, data\)"),
        (lambda pool: pool.map(["a"], fetch), r"list was passed. The function comes first.*pmap\(fn, data\)"),
        (lambda pool: pool.map(x for x in [1]), r"generator was passed. The function comes first, and is not called"),
        (lambda pool: pool.map(None, [1]), r"NoneType was passed.*pmap\(fn, data\)"),
        (lambda pool: pool.submit(fetch("a")), r"Pass the function itself"),
    ],
    ids=["a coroutine", "a value", "data first", "a generator expression", "None", "submit"],
)
def test_a_function_that_was_called_is_to_be_passed(pool, mistake, write):
    """As everywhere in Python; and no warning that a coroutine was never awaited follows."""
    with pytest.raises(InputError, match=write):
        mistake(pool)


def test_coroutines_as_data_are_each_refused(pool):
    """``pmap(print, [fetch(u) for u in urls])``, as it was with gather: what the function takes is the data."""
    coroutines = [fetch("a")]
    with pytest.raises(NotPicklable, match=r"Pass what its function takes, and that function.*pmap\(fn, data\)"):
        pool.map(print, coroutines).result(DEADLINE)
    coroutines[0].close()


# --- 3: a generator used twice ---------------------------------------------------------------------------------------


async def later():
    """An async source."""
    for x in range(3):
        yield x


def test_a_generator_that_is_used_up_is_refused(pool):
    """Not taken for an empty input: the second map would silently return nothing."""
    urls = (x for x in range(3))
    assert pool.map(work.double, urls).result(DEADLINE) == [0, 2, 4]
    with pytest.raises(InputError, match=r"<genexpr> has been used up.*values = list\(\.\.\.\)"):
        pool.map(work.double, urls)
    with pytest.raises(InputError, match="has been used up"):
        pool.map(work.add, [1, 2, 3], urls)


async def test_an_async_generator_that_is_used_up_is_refused(pool):
    """The same for ``async for``'s kind."""
    urls = later()
    assert await shortly(pool.map(work.double, urls)) == [0, 2, 4]
    with pytest.raises(InputError, match="async generator later has been used up"):
        pool.map(work.double, urls)


def test_a_generator_that_was_begun_gives_the_rest(pool):
    """Skipping a header is no mistake."""
    rows = iter(["name", "a", "b"])
    assert next(rows) == "name"
    assert pool.map(work.double, rows).result(DEADLINE) == ["aa", "bb"]
    lines = (row for row in ["name", "a", "b"])
    next(lines)
    assert pool.map(work.double, lines).result(DEADLINE) == ["aa", "bb"]


@pytest.mark.parametrize("wrap", [iter, lambda source: map(int, source)], ids=["a generator", "a map object"])
def test_a_generator_that_another_job_reads_is_refused_until_that_has_ended(pool, board: Board, wrap):
    """Each of the two would get some of its values. What the first has left is free again."""

    def source():
        yield 1
        board.wait("the second has come")
        yield 2
        yield from range(3, 1000)

    urls = wrap(source())
    job = pool.map(work.double, urls, window=2)
    board.mark("the first has begun")
    with pytest.raises(InputError, match=r"is being read already.*values = list\(\.\.\.\)"):
        pool.map(work.double, urls)
    board.mark("the second has come")
    assert next(iter(job)) == 2
    job.cancel()
    asyncio.run(job.wait(DEADLINE))
    still_works(pool)


async def test_an_async_generator_that_another_job_reads_is_refused(pool):
    """Python itself would say ``asynchronous generator is already running``, to one of the two."""
    urls = later()
    job = pool.map(work.double, urls)
    with pytest.raises(InputError, match="async generator later is being read already"):
        pool.map(work.double, urls)
    assert await shortly(job) == [0, 2, 4]


def test_the_rest_of_a_generator_can_be_mapped_when_its_first_job_was_stopped(pool):
    """What nobody reads any more is nobody's."""
    numbers = iter(range(1_000_000))
    job = pool.map(work.double, numbers, window=10)
    assert next(iter(job)) == 0
    job.cancel()
    asyncio.run(job.wait(DEADLINE))
    rest = pool.map(work.double, numbers, window=10)
    assert next(iter(rest)) > 0
    rest.cancel()
    still_works(pool)


def test_one_generator_zipped_with_itself_is_no_mistake(pool):
    """That is how pairs are made."""
    numbers = iter(range(6))
    assert pool.map(work.add, numbers, numbers).result(DEADLINE) == [1, 5, 9]


# --- 4 and 5: locks and clients --------------------------------------------------------------------------------------


def test_a_lock_that_an_initializer_uses_is_named(fresh):
    """As of any function: of how its arguments are bound nobody need know."""
    lock = threading.Lock()

    def init(path):
        lock.acquire()

    with pytest.raises(NotPicklable, match=r"^`init` uses `lock` of the enclosing function \(_thread.lock\)"):
        fresh(1, initializer=init, initargs=("path",))


def test_a_captured_lock_is_named(pool):
    """By variable and type, whether it is a global or of an enclosing function."""
    lock = threading.Lock()

    def guarded(x):
        with lock:
            return x

    with pytest.raises(
        NotPicklable,
        match=r"`guarded` uses `lock` of the enclosing function \(_thread.lock\).*inside the function.*per_worker",
    ):
        pool.map(guarded, [1])


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[asyncio.StreamWriter]:
    """What an async client is at its heart: a connection that this loop serves."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield writer
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_captured_async_client_is_to_be_made_per_worker(pool):
    """It belongs to the caller's loop; inside a worker it would fail in strange ways, if it came there at all."""
    async with connected() as client:

        async def get(url):
            client.write(url)
            await client.drain()

        told = r"`client` of the enclosing function \(asyncio.streams.StreamWriter\).*event loop.*@aiopool.per_worker"
        with pytest.raises(NotPicklable, match=told):
            pool.map(get, [b"/"])


async def test_a_client_as_an_argument_is_refused_by_name(pool):
    """``pmap(get, urls, [client] * 3)`` is no way either."""
    async with connected() as client:
        told = r"holds a value at \[1\] \(asyncio.streams.StreamWriter\).*@aiopool.per_worker"
        with pytest.raises(NotPicklable, match=told):
            await shortly(pool.map(work.add, [b"/"], [client]))


async def test_what_the_messages_say_about_locks_and_clients_works(pool):
    """One per worker: made there, on that worker's loop, and no part of what is sent."""

    @per_worker
    async def client():
        return {"lock": asyncio.Lock(), "loop": asyncio.get_running_loop()}

    async def get(url):
        mine = await client()
        async with mine["lock"]:
            return url, mine["loop"] is asyncio.get_running_loop()

    assert await shortly(pool.map(get, ["a", "b", "c"])) == [("a", True), ("b", True), ("c", True)]


# --- 6: data that cannot be iterated ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "write"),
    [
        (3, r"int cannot be iterated: pass a list.*pmap\(double, data\)"),
        ("https://example.org", r"pass \[value\]"),
        (np.array(3.0), r"pass \[value\]"),
        (pd.DataFrame({"a": [1]}), r"df.itertuples\(index=False\)"),
        (list, "the class list was passed as the data: pass what it makes"),
        (later, "a function was passed as the data; call it"),
        (queue.Queue(), r"pass iter\(queue.get, None\)"),
        (queue.SimpleQueue(), r"pass iter\(queue.get, None\)"),
        (asyncio.Queue(), r"async def items\(\):.*await queue.get\(\)"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_data_that_cannot_be_iterated_is_refused_with_what_to_pass(pool, data, write):
    """A number, a bare string, a table, a class, a function, a queue."""
    with pytest.raises(InputError, match=write):
        pool.map(work.double, data)


def test_a_queue_of_multiprocessing_is_refused_with_what_to_pass(pool):
    """Apart, because it must be closed; of this context, because another one starts a process of its own."""
    tasks = multiprocessing.get_context("fork").SimpleQueue()
    with pytest.raises(InputError, match=r"SimpleQueue cannot be iterated; pass iter\(queue.get, None\)"):
        pool.map(work.double, tasks)
    tasks.close()


async def test_what_the_messages_say_about_queues_works(pool):
    """Both ways, until None comes."""
    tasks: queue.Queue[int | None] = queue.Queue()
    for x in (1, 2, None):
        tasks.put(x)
    assert await shortly(pool.map(work.double, iter(tasks.get, None))) == [2, 4]
    waiting: asyncio.Queue[int | None] = asyncio.Queue()

    async def items():
        while (item := await waiting.get()) is not None:
            yield item

    job = pool.map(work.double, items())
    for x in (1, 2, None):
        await waiting.put(x)
    assert await shortly(job) == [2, 4]


def test_a_closed_file_is_refused(tmp_path, pool):
    """Its ``with`` block was left before the map."""
    (tmp_path / "urls.txt").write_text("a\nb\n")
    with (tmp_path / "urls.txt").open() as file:
        pass
    with pytest.raises(InputError, match="the file is closed: open it again"):
        pool.map(work.double, file)


# --- 7: a huge global captured by accident ---------------------------------------------------------------------------


def test_a_huge_variable_is_named_with_its_size(pool):
    """The job runs all the same; the warning stands at the line of the call."""
    table = bytes(16_000_000)

    def score(x):
        return x + len(table)

    with pytest.warns(UserWarning, match=r"`table` of the enclosing function \(bytes, 16.0 MB\)") as caught:
        job = pool.map(score, [1])
    assert job.result(DEADLINE) == [16_000_001]
    # Beside it may stand what the garbage collector says at that moment of others' sockets and loops.
    (warning,) = [each for each in caught if each.category is UserWarning]
    assert warning.filename == __file__
    assert "get_pool().put(table)" in str(warning.message)
    assert "@aiopool.per_worker" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pool.map(score, [1]).result(DEADLINE) == [16_000_001]  # Said once.


# --- 8: an option misspelt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "write"),
    [
        ("concurency", "concurrency="),
        ("n_jobs", "concurrency="),
        ("chunksize", "batch="),
        ("return_exceptions", 'on_error="return"'),
        ("session", r"functools.partial\(double, session=|functools.partial\(fn, session="),
    ],
)
def test_an_option_that_does_not_exist_names_the_right_one(pool, option, write):
    """In the call, before anything runs."""
    with pytest.raises(OptionError, match=write):
        pool.map(work.double, [1], **{option: 2})


@pytest.mark.parametrize(
    ("call", "option", "told"),
    [
        (Pool, "maxtasksperchild", r"of a pool; write max_tasks_per_worker="),
        (Pool, "max_workers", r"of a pool; write workers="),
        (Pool, "mp_context", r"of a pool; leave it out: every worker is a fresh process"),
        (Pool, "initializer_args", r"of a pool; write initargs=\(\.\.\.\)"),
        (Pool, "timeout", r"of a pool; it is one of a map: pmap\(fn, data, timeout="),
        (Pool, "idle_timout", r"of a pool; did you mean idle_timeout="),
        (Pool, "colour", r"of a pool; there are workers, engine, initializer, "),
        (aiopool.configure, "max_memory", r"of configure; write max_memory_per_worker="),
        (aiopool.configure, "processes", r"of configure; write workers="),
        (aiopool.configure, "initializer", r"of configure; write Pool\(initializer="),
    ],
)
def test_an_option_of_a_pool_that_does_not_exist_names_the_right_one(call, option, told):
    """As in other libraries, or misspelt; nothing is opened or set."""
    with pytest.raises(OptionError, match=f"^{option} is not an option {told}"):
        call(**{option: 2})


def test_the_signature_of_a_pool_has_its_options():
    """For people who ask their editor; what looks for near misses does not stand before it."""
    parameters = list(inspect.signature(Pool).parameters)
    assert parameters[:2] == ["workers", "engine"]
    assert "unknown" not in parameters


# --- 9: a closed pool ------------------------------------------------------------------------------------------------


def test_a_closed_pool_says_that_another_one_is_to_be_opened(fresh):
    """After its ``with`` block, mostly."""
    with fresh(1) as pool:
        pass
    for call in (pool.map, pool.submit):
        with pytest.raises(PoolClosed, match=r"open another one with Pool\(\)"):
            call(work.double, [1])


# --- 10: a semaphore that would limit nothing ------------------------------------------------------------------------


def test_a_captured_semaphore_is_refused_for_it_would_limit_nothing(pool):
    """Each worker would have its own; the option is named that limits the job."""
    limit = asyncio.Semaphore(5)

    async def get(url):
        async with limit:
            return url

    with pytest.raises(
        NotPicklable,
        match=r"`limit` of the enclosing function \(asyncio.locks.Semaphore\).*pmap\(\.\.\., concurrency=N\)",
    ):
        pool.map(get, ["a"])
    with pytest.raises(NotPicklable, match=r"\(asyncio.locks.Semaphore\).*concurrency=N"):
        pool.submit(work.double, limit).result(DEADLINE)


# --- all of them, as a newcomer meets them ---------------------------------------------------------------------------


def test_a_script_with_each_mistake_says_ten_things_and_ends_well(tmp_path):
    """No warning, no worker that stays, nothing on standard error but what the script itself prints."""
    file = script(
        tmp_path,
        """
        import asyncio, threading, warnings
        import aiopool
        from aiopool import Pool, pmap

        aiopool.configure(workers=2)
        lock, limit, table, urls = threading.Lock(), asyncio.Semaphore(5), bytes(12_000_000), ["a", "b"]
        used = (url for url in urls)
        list(used)
        with Pool(workers=1) as closed:
            pass

        class Client:
            def __init__(self):
                self.loop = asyncio.get_running_loop()

        async def make():
            return Client()

        client = asyncio.run(make())

        async def fetch(url): return url
        async def locked(url): return lock
        async def limited(url): return limit
        async def by_client(url): return client
        async def score(url): return len(table)

        warnings.simplefilter("error")
        for mistake in (
            lambda: pmap(fetch, urls)[0],
            lambda: pmap(fetch("a"), urls),
            lambda: pmap(fetch, used),
            lambda: pmap(locked, urls),
            lambda: pmap(by_client, urls),
            lambda: pmap(fetch, 10),
            lambda: pmap(score, urls),
            lambda: pmap(fetch, urls, concurency=3),
            lambda: closed.map(fetch, urls),
            lambda: pmap(limited, urls),
        ):
            try:
                mistake()
            except Exception as error:
                print(f"{type(error).__name__}: {error}")
        print(pmap(fetch, urls).result())
        """,
    )
    told = run(file, cwd=tmp_path).splitlines()
    expected = [
        ("TypeError", "await pmap("),
        ("InputError", "pmap(fetch, data)"),
        ("InputError", "values = list(...)"),
        ("NotPicklable", "the global `lock` (_thread.lock)"),
        ("NotPicklable", "the global `client`, which has the attribute `loop`"),
        ("InputError", "pass a list"),
        ("UserWarning", "the global `table` (bytes, 12.0 MB)"),
        ("OptionError", "concurrency="),
        ("PoolClosed", "Pool()"),
        ("NotPicklable", "concurrency=N"),
    ]
    assert told.pop() == "['a', 'b']"
    assert len(told) == len(expected)
    for line, (kind, words) in zip(told, expected, strict=True):
        assert line.startswith(f"{kind}: ")
        assert words in line
