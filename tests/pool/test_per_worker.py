"""``@per_worker``: opened once per worker, shared by its items, closed with it, and never an item's own affair."""

from __future__ import annotations

import asyncio
import decimal
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from aiopool import (
    Failure,
    JobCancelled,
    NotPicklable,
    Pool,
    current_item,
    current_worker,
    lives,
    per_worker,
    pmap,
    resources,
)
from aiopool._runtime import driver
from aiopool._worker import main
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import children, rested, shortly
from tests.pool.scripts import run, script

# --- four kinds ------------------------------------------------------------------------------------------------------


def of_kind(kind: str, board: Board) -> Any:
    """A resource that marks its opening and, where it can, its closing."""

    @per_worker
    def plain() -> list[int]:
        board.mark("open", os.getpid())
        return [os.getpid()]

    @per_worker
    async def coroutine() -> list[int]:
        await asyncio.sleep(0.01)
        board.mark("open", os.getpid())
        return [os.getpid()]

    @per_worker
    def generator():
        board.mark("open", os.getpid())
        yield [os.getpid()]
        board.mark("close", os.getpid())

    @per_worker
    async def async_generator():
        await asyncio.sleep(0.01)
        board.mark("open", os.getpid())
        yield [os.getpid()]
        await asyncio.sleep(0.01)
        board.mark("close", os.getpid())

    kinds = {"def": plain, "async def": coroutine, "generator": generator, "async generator": async_generator}
    return kinds[kind]


@pytest.mark.parametrize("kind", ["def", "async def", "generator", "async generator"])
def test_a_resource_is_opened_once_per_worker_and_shared_by_its_items(fresh, board: Board, kind):
    """Whatever function it is made of; and what stands behind its yield closes it, with the pool."""
    pool = fresh(2)
    resource = of_kind(kind, board)

    async def use(x: int) -> tuple[int, int, int]:
        shared = await resource() if kind.startswith("async") else resource()
        shared.append(x)
        await asyncio.sleep(0.001)
        return shared[0], id(shared), os.getpid()

    seen = pool.map(use, range(200), concurrency=50, batch=5).result(DEADLINE)
    assert {opened for opened, _, _ in seen} == {pid for _, _, pid in seen}
    assert len({(pid, which) for _, which, pid in seen}) == len({pid for _, _, pid in seen})
    assert sorted(board.marks("open")) == sorted(str(pid) for pid in {pid for _, _, pid in seen})
    assert board.marks("close") == []
    pool.close()
    pool.join(DEADLINE)
    assert sorted(board.marks("close")) == (sorted(board.marks("open")) if "generator" in kind else [])


@pytest.mark.parametrize("kind", ["def", "generator"])
def test_a_sync_resource_serves_functions_too_also_in_threads(fresh, board: Board, kind):
    """One for all threads of a worker, though they ask at the same moment."""
    pool = fresh(1)
    resource = of_kind(kind, board)

    def use(x: int) -> int:
        board.mark("in", x)
        board.wait("in", 8)  # Eight are here at once.
        return id(resource())

    assert len(set(pool.map(use, range(8), concurrency=8, batch=1).result(DEADLINE))) == 1
    assert len(set(pool.map(lambda _: id(resource()), range(10)).result(DEADLINE))) == 1
    assert len(board.marks("open")) == 1


def test_a_resource_of_a_module_travels_by_name(fresh, tmp_path, monkeypatch):
    """As the functions do that stand beside it, with whatever it reads; and is the same one for those of a cell."""
    script(
        tmp_path,
        """
        import threading
        from aiopool import per_worker

        lock = threading.Lock()

        @per_worker
        def model():
            with lock:
                return []

        def use(x):
            model().append(x)
            return len(model())
        """,
        name="aside_of_resources.py",
    )
    monkeypatch.syspath_prepend(tmp_path)
    aside = __import__("aside_of_resources")
    pool = fresh(1)
    assert pool.map(aside.use, range(3)).result(DEADLINE) == [1, 2, 3]
    model = aside.model
    assert pool.map(lambda _: len(model()), range(2)).result(DEADLINE) == [3, 3]


# --- whose affair it is ----------------------------------------------------------------------------------------------


def test_the_opening_belongs_to_no_item(fresh):
    """Neither the item nor its context variables are seen by what is opened for all; the worker is."""
    pool = fresh(1)

    def look() -> list[Any]:
        try:
            item: Any = current_item().index
        except RuntimeError:
            item = None
        return [item, decimal.getcontext().prec, current_worker().index, current_worker().pid]

    @per_worker
    async def later():
        first = look()
        yield first

    @per_worker
    def now() -> list[Any]:
        return look()

    async def use(_: int) -> tuple[list[Any], list[Any], int]:
        decimal.getcontext().prec = 5  # That is a context variable.
        return await later(), now(), os.getpid()

    ((seen_later, seen_now, pid),) = pool.map(use, [7]).result(DEADLINE)
    assert seen_later == seen_now == [None, 28, 0, pid]


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_the_opening_is_not_charged_to_the_timeout_of_an_item(fresh, kind):
    """Its clock stands still meanwhile, and goes on after."""
    pool = fresh(1)

    @per_worker
    async def slow() -> str:
        await asyncio.sleep(1.5)
        return "open"

    @per_worker
    def slow_def() -> str:
        time.sleep(1.5)
        return "open"

    async def use(x: float) -> str:
        value = await slow()
        await asyncio.sleep(x)
        return value

    def use_def(x: float) -> str:
        value = slow_def()
        time.sleep(x)
        return value

    fn = use if kind == "async def" else use_def
    assert pool.map(fn, [0, 0.01], timeout=1).result(DEADLINE) == ["open", "open"]
    late = pool.map(fn, [30], timeout=0.4, on_error="return").result(DEADLINE)[0]
    assert isinstance(late, Failure)
    assert isinstance(late.error, TimeoutError)


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_the_cancel_of_a_job_waits_until_its_resource_is_open(fresh, board: Board, kind):
    """However long that takes: the worker is not killed, what was being opened serves the next job."""
    pool = fresh(1, grace=2.5)

    @per_worker
    async def slow() -> str:
        board.mark("opening", os.getpid())
        await board.wait_async("go")
        return "open"

    @per_worker
    def slow_def() -> str:
        board.mark("opening", os.getpid())
        board.wait("go")
        return "open"

    async def use(x: int) -> str:
        value = await slow()
        board.mark("got it", x)
        await asyncio.sleep(30 if x == 0 else 0)
        return value

    def use_def(x: int) -> str:
        value = slow_def()
        board.mark("got it", x)
        time.sleep(30 if x == 0 else 0)
        return value

    fn = use if kind == "async def" else use_def
    job = pool.map(fn, [0])
    (pid,) = board.wait("opening")
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    stays(lambda: int(pid) in children(), 3.5, "the worker lives")
    board.mark("go")
    assert pool.map(fn, [1, 2]).result(DEADLINE) == ["open"] * 2
    assert board.marks("opening") == [pid]


def test_an_item_that_gives_up_waiting_leaves_the_opening_to_the_others(fresh, board: Board):
    """Its own ``asyncio.timeout`` ends its wait, and nothing else."""
    pool = fresh(1)

    @per_worker
    async def slow() -> str:
        board.mark("opening")
        await board.wait_async("gave up")
        return "open"

    async def use(x: int) -> str:
        try:
            async with asyncio.timeout(0.05 if x else None):
                return await slow()
        except TimeoutError:
            board.mark("gave up")
            return "gave up"

    assert pool.map(use, [0, 1]).result(DEADLINE) == ["open", "gave up"]
    assert len(board.marks("opening")) == 1


# --- failing ---------------------------------------------------------------------------------------------------------


def failing_once(board: Board, kind: str) -> Any:
    """A resource that cannot be opened the first time, and only tries when three have asked."""

    def attempt() -> str:
        board.mark("attempts")
        if len(board.marks("attempts")) == 1:
            raise ConnectionError("no route")
        return "open"

    @per_worker
    async def later() -> str:
        await board.wait_async("asked", 3)
        return attempt()

    @per_worker
    async def later_generator():
        await board.wait_async("asked", 3)
        yield attempt()

    @per_worker
    def now() -> str:
        return attempt()

    @per_worker
    def now_generator():
        yield attempt()

    kinds = {"async def": later, "async generator": later_generator, "def": now, "generator": now_generator}
    return kinds[kind]


@pytest.mark.parametrize("kind", ["async def", "async generator"])
def test_a_failed_opening_goes_to_those_who_wait_and_the_next_item_tries_again(fresh, board: Board, kind):
    """Each of them gets the original type, with a traceback to the line in the opener."""
    pool = fresh(1)
    resource = failing_once(board, kind)

    async def use(_: int) -> Any:
        board.mark("asked")
        return await resource()

    failures = pool.map(use, range(3), on_error="return", batch=1).result(DEADLINE)
    for failure in failures:
        assert (type(failure.error), str(failure.error)) == (ConnectionError, "no route")
        assert [frame.name for frame in traceback_of(failure.error)] == ["use", resource.__name__, "attempt"]
    assert pool.map(use, [1]).result(DEADLINE) == ["open"]
    assert len(board.marks("attempts")) == 2


@pytest.mark.parametrize("kind", ["def", "generator"])
def test_a_sync_opening_that_fails_is_the_error_of_the_item_that_tried(fresh, board: Board, kind):
    """The next one tries again, in the same job."""
    pool = fresh(1)
    resource = failing_once(board, kind)

    def use(_: int) -> Any:
        return resource()

    failure, *others = pool.map(use, range(3), on_error="return").result(DEADLINE)
    assert (type(failure.error), str(failure.error)) == (ConnectionError, "no route")
    assert [frame.name for frame in traceback_of(failure.error)] == ["use", resource.__name__, "attempt"]
    assert others == ["open", "open"]


def traceback_of(error: BaseException | None) -> list[traceback.FrameSummary]:
    """Its lines in code of ours and of users, the outermost first."""
    assert error is not None
    lines = list(traceback.extract_tb(error.__traceback__))
    worker = [frame for frame in lines if "/src/aiopool/" not in frame.filename]
    return worker[1:] if worker and worker[0].name.startswith("test_") else worker


def threads_that_wait() -> int:
    """How many threads of this process wait until somebody else has opened something."""
    stacks = [[frame.f_code for frame, _ in traceback.walk_stack(top)] for top in sys._current_frames().values()]
    return sum(lives.SyncLife.wait.__code__ in stack for stack in stacks)


def test_threads_that_wait_for_an_opening_that_fails_get_its_error(fresh, board: Board):
    """All who wait at that moment, not only the one in whose thread it was tried."""
    pool = fresh(1)

    @per_worker
    def model() -> str:
        board.mark("opening")
        until(lambda: threads_that_wait() == 3)
        raise ConnectionError("no route")

    def use(x: int) -> str:
        if x:
            board.wait("opening")
        return model()

    failures = pool.map(use, range(4), concurrency=4, batch=1, on_error="return").result(DEADLINE)
    assert [type(failure.error) for failure in failures] == [ConnectionError] * 4
    assert len(board.marks("opening")) == 1


def may_come_up_late(pool: Pool) -> Pool:
    """Let only what workers open be short of time, and not the start of their processes."""
    pool._driver._ledger._team._start_timeout = DEADLINE
    return pool


def test_an_opening_that_takes_longer_than_start_timeout_fails_and_says_so(fresh, board: Board):
    """Whoever waits gets a TimeoutError that shows where it stood; the next item tries again."""
    pool = may_come_up_late(fresh(1, start_timeout=3))

    @per_worker
    async def stuck() -> str:
        board.mark("opening")
        if len(board.marks("opening")) == 1:
            await asyncio.Event().wait()
        return "open"

    async def use(_: int) -> str:
        return await stuck()

    failures = pool.map(use, range(3), on_error="return").result(DEADLINE)
    assert {str(failure.error) for failure in failures} == {
        "stuck was not open within 3 s. Give it more time with Pool(start_timeout=...)"
    }
    assert all(type(failure.error) is TimeoutError for failure in failures)
    assert traceback_of(failures[0].error.__cause__)[0].name == "stuck"
    assert pool.map(use, [1]).result(DEADLINE) == ["open"]


def test_an_opening_that_will_not_be_cancelled_is_given_up(fresh):
    """It swallows the cancellation; those who wait get their error all the same."""
    pool = may_come_up_late(fresh(1, start_timeout=2))

    @per_worker
    async def stubborn() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)

    async def use(_: int) -> None:
        await stubborn()

    (failure,) = pool.map(use, [1], on_error="return").result(DEADLINE)
    assert isinstance(failure.error, TimeoutError)
    pool.terminate()


@pytest.mark.parametrize("raised", ["raise SystemExit(3)", "raise asyncio.CancelledError"])
def test_an_exit_or_a_cancellation_in_the_opener_is_an_error_of_those_who_wait(fresh, raised):
    """It ends neither the worker nor, unnoticed, an item."""
    pool = fresh(1)
    namespace: dict[str, Any] = {"asyncio": asyncio}
    exec(f"async def leaving():\n    {raised}\n", namespace)
    leaving = per_worker(namespace["leaving"])

    async def use(_: int) -> None:
        await leaving()

    before = pool.submit(work.pid).result(DEADLINE)
    (failure,) = pool.map(use, [1], on_error="return").result(DEADLINE)
    assert type(failure.error) is RuntimeError
    assert "leaving was not opened: " in str(failure.error)
    assert pool.submit(work.pid).result(DEADLINE) == before


def test_a_generator_must_yield_once(fresh, capfd):
    """One that ends before its yield could not be opened; one that yields twice is closed, with a complaint."""
    pool = fresh(1)

    @per_worker
    def empty():
        if os.getpid() < 0:
            yield 1

    @per_worker
    async def empty_later():
        if os.getpid() < 0:
            yield 1

    @per_worker
    def twice():
        yield 1
        yield 2

    @per_worker
    async def twice_later():
        yield 1
        yield 2

    async def use(resource: Any) -> Any:
        value = resource()
        return await value if hasattr(value, "__await__") else value

    failures = pool.map(use, [empty, empty_later], on_error="return").result(DEADLINE)
    assert [str(failure.error) for failure in failures] == [
        f"{name} has ended without a yield: it must yield the resource, once" for name in ("empty", "empty_later")
    ]
    assert pool.map(use, [twice, twice_later]).result(DEADLINE) == [1, 1]
    pool.close()
    pool.join(DEADLINE)
    told = capfd.readouterr()
    for name in ("twice", "twice_later"):
        assert f"{name} yields more than once" in told.out + told.err


# --- closing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "resize", "restart", "idle"])
def test_a_resource_is_closed_when_its_worker_retires(fresh, board: Board, how):
    """Whatever makes it retire."""
    pool = fresh(1, idle_timeout=0.2 if how == "idle" else None)
    resource = of_kind("async generator", board)

    async def use(_: int) -> int:
        return len(await resource())

    pool.map(use, range(3)).result(DEADLINE)
    if how == "close":
        pool.close()
        pool.join(DEADLINE)
    elif how == "restart":
        pool.restart().result(DEADLINE)
        pool.map(use, range(3)).result(DEADLINE)
        assert len(board.marks("open")) == 2
    elif how == "resize":
        pool.resize(2).result(DEADLINE)
        pool.broadcast(use, 0).result(DEADLINE) if False else pool.broadcast(lambda: use(0)).result(DEADLINE)
        assert len(board.marks("open")) == 2
        pool.resize(1).result(DEADLINE)
    assert board.wait("close")[0] in board.marks("open")


def test_resources_may_use_each_other_and_close_in_reverse_order(fresh, board: Board):
    """The one that stands on another is closed first, sync and async mixed."""
    pool = fresh(1)

    @per_worker
    def settings():
        board.mark("order", "open settings")
        yield {"url": "local"}
        board.mark("order", "close settings")

    @per_worker
    async def connection():
        board.mark("order", f"open connection to {settings()['url']}")
        yield ["connection"]
        await asyncio.sleep(0)
        board.mark("order", "close connection")

    @per_worker
    async def session():
        mine = await connection()
        board.mark("order", "open session")
        yield [*mine, "session"]
        assert mine == ["connection"]
        board.mark("order", "close session")

    async def use(_: int) -> list[str]:
        return await session()

    assert pool.map(use, range(5)).result(DEADLINE) == [["connection", "session"]] * 5
    pool.close()
    pool.join(DEADLINE)
    assert board.marks("order") == [
        "open settings",
        "open connection to local",
        "open session",
        "close session",
        "close connection",
        "close settings",
    ]


def test_a_resource_that_needs_itself_is_refused(fresh):
    """It would wait for ever."""
    pool = fresh(1)

    @per_worker
    async def hen() -> str:
        return "hen of " + await egg()

    @per_worker
    async def egg() -> str:
        return "egg of " + await hen()

    @per_worker
    def self() -> str:
        return self()

    async def use(_: int) -> str:
        return await hen()

    (failure,) = pool.map(use, [1], on_error="return").result(DEADLINE)
    assert str(failure.error).endswith("cannot be opened: while it opens, it waits for itself to be open")
    (failure,) = pool.map(lambda _: self(), [1], on_error="return").result(DEADLINE)
    assert str(failure.error) == "self cannot be opened: while it opens, it waits for itself to be open"


def test_an_error_in_closing_is_printed_and_harms_nobody(fresh, board: Board, capfd):
    """Neither the others nor the pool's end."""
    pool = fresh(1)

    @per_worker
    async def sound():
        yield 1
        board.mark("closed")

    @per_worker
    async def broken():
        yield 2
        raise ValueError("broken at the end")

    @per_worker
    def broken_def():
        yield 3
        raise ValueError("broken at the end, too")

    async def use(_: int) -> tuple[int, int, int]:
        return await sound(), await broken(), broken_def()

    assert pool.map(use, range(3)).result(DEADLINE) == [(1, 2, 3)] * 3
    pool.close()
    pool.join(DEADLINE)
    assert board.marks("closed") == [""]
    captured = capfd.readouterr()
    told = captured.out + captured.err
    assert "closing the per-worker resource broken failed:" in told
    assert "ValueError: broken at the end\n" in told
    assert "closing the per-worker resource broken_def failed:" in told
    assert "ValueError: broken at the end, too\n" in told


def take_six_seconds_to_close() -> None:
    """An initializer: on a busy machine, too, there is time for what does not hang."""
    resources.CLOSE_SECONDS = 6.0


def test_closing_that_hangs_is_given_up_and_the_others_are_closed(fresh, board: Board, capfd, monkeypatch):
    """The pool ends before it loses patience, and says which one it was, and where."""
    assert resources.CLOSE_SECONDS + lives.MERCY_SECONDS + main.SHUTDOWN_SECONDS < driver.PART_SECONDS
    monkeypatch.setattr(driver, "PART_SECONDS", DEADLINE)
    pool = fresh(1, initializer=take_six_seconds_to_close)

    @per_worker
    async def sound():
        yield 1
        await asyncio.sleep(0.05)
        board.mark("closed")

    @per_worker
    async def hanging():
        yield 2
        await asyncio.Event().wait()

    async def use(_: int) -> tuple[int, int]:
        return await sound(), await hanging()

    pool.map(use, [1]).result(DEADLINE)
    began = time.monotonic()
    pool.close()
    pool.join(DEADLINE)
    assert time.monotonic() - began < 15
    assert board.marks("closed") == [""]
    captured = capfd.readouterr()
    told = captured.out + captured.err
    assert "closing the per-worker resource hanging took too long" in told
    assert "await asyncio.Event().wait()" in told


def test_a_worker_that_was_killed_closes_nothing_and_its_replacement_opens_anew(fresh, board: Board):
    """The items go on as if nothing had been."""
    pool = fresh(1)
    resource = of_kind("async generator", board)

    async def use(x: int) -> int:
        (await resource()).append(x)
        if x == 5 and len(board.marks("open")) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    assert pool.map(use, range(10)).result(DEADLINE) == list(range(10))
    assert len(set(board.marks("open"))) == 2
    assert board.marks("close") == []


# --- edits -----------------------------------------------------------------------------------------------------------


def edition(board: Board, number: int, kind: str = "async", **more: object) -> Any:
    """A cell that defines a resource ``session`` and a function ``use``, as it stands after an edit."""
    source = f"""
@per_worker
{"async " if kind == "async" else ""}def session():
    board.mark("open", (KEY, {number}))
    board.mark("order", "open {number}")
    mine = [KEY, {number}]
    yield mine
    board.mark("order", "close {number}")
    board.mark("close", tuple(mine))

{"async " if kind == "async" else ""}def use(x):
    return {"await " if kind == "async" else ""}session()

async def hold(x):
    value = {"await " if kind == "async" else ""}session()
    board.mark("holding")
    await board.wait_async("go")
    return value
"""
    namespace: dict[str, Any] = {"__name__": "__main__", "per_worker": per_worker, "board": board, "KEY": "a", **more}
    exec(source, namespace)
    return SimpleNamespace(**namespace)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_an_edited_resource_is_opened_anew_and_the_old_one_closed(fresh, board: Board, kind):
    """Other code or another value of a global it reads; the same again stays open, from job to job."""
    pool = fresh(1)

    def used(*edited: Any, **more: Any) -> Any:
        return pool.map(edition(board, *edited, kind, **more).use, range(3)).result(DEADLINE)

    assert used(1) == used(1) == [["a", 1]] * 3
    assert board.marks("open") == ["('a', 1)"]
    assert used(2) == [["a", 2]] * 3
    assert board.wait("close") == ["('a', 1)"]
    assert used(2, KEY="b", UNREAD=1) == [["b", 2]] * 3
    assert board.wait("close", 2) == ["('a', 1)", "('a', 2)"]
    assert used(2, KEY="b", UNREAD=2) == [["b", 2]] * 3
    assert board.marks("open") == ["('a', 1)", "('a', 2)", "('b', 2)"]


def test_the_old_one_is_closed_when_the_jobs_that_used_it_have_ended(fresh, board: Board):
    """What still runs with it keeps it; both are open meanwhile, and neither is opened again."""
    pool = fresh(1)
    old, new = edition(board, 1), edition(board, 2)
    job = pool.map(old.hold, range(2))
    board.wait("holding", 2)
    assert pool.map(new.use, range(3)).result(DEADLINE) == [["a", 2]] * 3
    # The new one stays in use, too: the worker may notice a moment later that a job has ended.
    other = pool.map(new.hold, range(1))
    board.wait("holding", 3)
    assert board.marks("close") == []
    more = pool.map(old.use, range(3)).result(DEADLINE)
    assert more == [["a", 1]] * 3
    assert pool.map(new.use, range(3)).result(DEADLINE) == [["a", 2]] * 3
    board.mark("go")
    assert job.result(DEADLINE) == [["a", 1]] * 2
    assert other.result(DEADLINE) == [["a", 2]]
    assert board.wait("close") == ["('a', 1)"]
    assert board.marks("open") == ["('a', 1)", "('a', 2)"]


def test_jobs_that_are_gone_leave_nothing_open_behind(fresh, board: Board):
    """Ten editions, one open."""
    pool = fresh(1)
    for number in range(10):
        pool.map(edition(board, number).use, range(3)).result(DEADLINE)
    assert board.wait("close", 9) == [f"('a', {number})" for number in range(9)]


# --- what goes wrong in the writing ----------------------------------------------------------------------------------


@per_worker
async def session() -> AsyncIterator[dict[str, str]]:
    """Something to be used wrongly."""
    yield {"key": "value"}


def test_an_async_resource_in_a_def_is_a_clear_error(pool):
    """It says what to write instead."""
    (failure,) = pool.map(lambda _: session(), [1], on_error="return").result(DEADLINE)
    assert type(failure.error) is RuntimeError
    assert str(failure.error) == (
        "session is async, and no event loop runs in this thread: use it in an `async def` (x = await session()), "
        "or make the resource itself a `def`"
    )


async def test_a_forgotten_call_or_await_is_told():
    """Where the attribute is missed; nothing is opened by that."""
    with pytest.raises(AttributeError, match=r"session is a per-worker resource: write \(await session\(\)\).get$"):
        _ = session.get  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"session\(\) must be awaited: write \(await session\(\)\).get$"):
        _ = session().get  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"none of which may close it: x = await session\(\)$"):
        async with session():  # type: ignore[attr-defined]
            pass
    assert repr(session) == "<per-worker resource session>"


def test_what_cannot_be_a_resource_is_refused_where_it_is_written():
    """With what to write."""
    with pytest.raises(TypeError, match=r"model\(path, size\) needs arguments.*read `path` from a global"):

        @per_worker  # type: ignore[arg-type]
        def model(path, *rest, size, scale=1, **more): ...

    with pytest.raises(TypeError, match="stands above a function, not a class"):

        @per_worker
        class Model: ...


def test_what_cannot_travel_is_found_inside_the_opener(pool):
    """The message names it, and not the resource alone."""
    lock = threading.Lock()

    @per_worker
    def guarded():
        return lock

    def use(_: int) -> Any:
        return guarded()

    with pytest.raises(NotPicklable, match=r"`use` uses `guarded`.*uses `lock` of the enclosing function"):
        pool.map(use, [1])


def test_a_big_global_that_only_the_opener_reads_is_named(fresh):
    """The warning of a function that carries a lot along names the table, not the resource that reads it."""
    pool = fresh(1)
    table = bytes(12_000_000)

    @per_worker
    def size() -> int:
        return len(table)

    def use(_: int) -> int:
        return size()

    with pytest.warns(UserWarning, match=r"`use` uses `table` of the enclosing function \(bytes, 12.0 MB\)"):
        job = pool.map(use, [1])
    assert job.result(DEADLINE) == [12_000_000]


# --- loops of their own ----------------------------------------------------------------------------------------------


def test_a_loop_that_an_item_runs_itself_has_its_own(fresh, board: Board):
    """Inside ``asyncio.run`` in a ``def`` item; it is closed when that loop ends."""
    pool = fresh(1)
    resource = of_kind("async generator", board)

    def use(x: int) -> int:
        async def main() -> int:
            await asyncio.gather(*(resource() for _ in range(5)))
            board.mark("closed before", len(board.marks("close")))
            return x

        return asyncio.run(main())

    assert pool.map(use, range(3)).result(DEADLINE) == [0, 1, 2]
    assert len(board.marks("open")) == len(board.marks("close")) == 3
    assert board.marks("closed before") == ["0", "1", "2"]


def test_a_sync_resource_can_be_used_from_a_thread_of_a_coroutine(fresh, board: Board):
    """``asyncio.to_thread`` in an item."""
    pool = fresh(1)
    resource = of_kind("generator", board)

    async def use(_: int) -> int:
        return id(await asyncio.to_thread(resource))

    assert len(set(pool.map(use, range(20)).result(DEADLINE))) == 1
    assert len(board.marks("open")) == 1


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_map_inside_an_item_uses_what_its_worker_has_opened(fresh, board: Board, kind):
    """From a coroutine the very same; from a ``def`` one for the loop on which the map inside runs, closed with it."""
    pool = fresh(1)
    resource = of_kind("async generator", board)

    async def inner(_: int) -> int:
        return id(await resource())

    async def outer(_: int) -> bool:
        return set(await pmap(inner, range(10))) == {id(await resource())}

    def outer_def(_: int) -> bool:
        return len(set(pmap(inner, range(10)).result(DEADLINE))) == 1

    assert pool.map(outer if kind == "async def" else outer_def, range(3)).result(DEADLINE) == [True] * 3
    assert len(board.marks("open")) == 1
    pool.close()
    pool.join(DEADLINE)
    assert len(board.marks("close")) == 1


# --- outside of a pool -----------------------------------------------------------------------------------------------


async def test_it_works_where_the_function_is_tried_by_hand(board: Board):
    """Once per loop, shared by whoever asks at once."""
    resource = of_kind("async generator", board)
    first, *others = await asyncio.gather(*(resource() for _ in range(5)))
    assert all(other is first for other in others)
    assert await resource() is first
    assert len(board.marks("open")) == 1


def test_each_loop_outside_of_a_pool_has_its_own_and_closes_it(board: Board):
    """Also after one that was closed without a word."""
    resource = of_kind("async generator", board)

    async def use() -> None:
        assert await resource() is await resource()

    for _ in range(2):
        asyncio.run(use())
    assert len(board.marks("open")) == len(board.marks("close")) == 2
    abandoned = asyncio.new_event_loop()
    abandoned.run_until_complete(use())
    abandoned.close()
    asyncio.run(use())
    assert (len(board.marks("open")), len(board.marks("close"))) == (4, 3)


async def test_a_global_that_is_assigned_anew_reopens_it_outside_of_a_pool(board: Board):
    """And closes the old one; the same cell run again keeps it."""
    cell = edition(board, 1)
    assert await cell.use(0) is await cell.use(0)
    assert await edition(board, 1).use(0) is await cell.use(0)
    cell.use.__globals__["KEY"] = "b"
    assert await cell.use(0) == ["b", 1]
    await board.wait_async("close")
    assert (board.marks("open"), board.marks("close")) == (["('a', 1)", "('b', 1)"], ["('a', 1)"])


@pytest.mark.parametrize(
    "ended_by",
    [
        "asyncio.run(main())",
        "asyncio.new_event_loop().run_until_complete(main())",
        # As a kernel's loop at its end: stopped once more than it runs.
        "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.call_soon(loop.stop)",
    ],
)
def test_a_script_that_used_them_by_hand_ends_without_a_word(tmp_path, ended_by):
    """No task was destroyed, no coroutine ignored anything, under ``-W error``; both sorts are closed."""
    file = script(
        tmp_path,
        f"""
        import asyncio
        from aiopool import per_worker

        @per_worker
        async def session():
            yield 1
            print("session closed")

        @per_worker
        async def helper():
            await asyncio.sleep(0)
            return 1

        @per_worker
        def model():
            yield 2
            print("model closed")

        async def main():
            print(await session(), await helper(), model())

        {ended_by}
        """,
    )
    told = run("-W", "error", "-W", "ignore::ResourceWarning", file, cwd=tmp_path)  # The loop itself is left open.
    assert sorted(told.splitlines()) == ["1 1 2", "model closed", "session closed"]


def test_a_loop_that_is_dropped_takes_its_resource_along_without_a_word(tmp_path):
    """Closed under it, and collected."""
    file = script(
        tmp_path,
        """
        import asyncio, gc
        from aiopool import per_worker

        @per_worker
        async def session():
            yield 1

        async def main():
            return await session()

        for _ in range(2):
            loop = asyncio.new_event_loop()
            print(loop.run_until_complete(main()))
            loop.close()
            del loop
            gc.collect()
        """,
    )
    assert run("-W", "error", file, cwd=tmp_path) == "1\n1\n"


# --- the two examples ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def server(board: Board) -> AsyncIterator[str]:
    """An HTTP/1.1 server on this machine that keeps connections alive and marks each of them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        board.mark("connections")
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                body = f"you asked for {request.split()[1]}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            board.mark("hung up")
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def test_an_http_session_is_shared_by_the_items_of_a_worker(fresh, board: Board):
    """Its connections are kept alive from item to item and job to job, and hung up when the pool closes."""
    pool = fresh(2)

    @per_worker
    async def client():
        import aiohttp

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as opened:
            yield opened

    async def fetch(url: str) -> str:
        s = await client()
        async with s.get(url) as response:
            return await response.text()

    async with server(board) as url:
        for _ in range(2):
            pages = await shortly(pool.map(fetch, [f"{url}/{n}" for n in range(300)], concurrency=20))
            assert pages == [f"you asked for /{n}" for n in range(300)]
        assert 1 <= len(board.marks("connections")) <= 8
        await rested_async(pool)
        pool.close()
        await shortly(asyncio.to_thread(pool.join))
        await board.wait_async("hung up", len(board.marks("connections")))


async def rested_async(pool: Any) -> None:
    """Wait for a pool to be idle, while the loop turns."""
    await shortly(asyncio.to_thread(rested, pool))


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_model_of_200_mb_is_loaded_once_per_worker_and_shared(fresh, board: Board, kind):
    """The worker's memory is that of one model, and flat over a hundred items."""
    pool = fresh(2)

    @per_worker
    def model() -> bytearray:
        board.mark("load", os.getpid())
        loaded = bytearray(200_000_000)
        loaded[::4096] = b"x" * len(range(0, len(loaded), 4096))
        return loaded

    def score(x: int) -> tuple[int, int, int, int]:
        weights = model()
        return weights[x * 4096], len(weights), os.getpid(), psutil.Process().memory_info().rss

    async def score_later(x: int) -> tuple[int, int, int, int]:
        await asyncio.sleep(0)
        return score(x)

    fn = score if kind == "def" else score_later
    scores = pool.map(fn, range(100), batch=1).result(DEADLINE)
    assert {(value, size) for value, size, _, _ in scores} == {(ord("x"), 200_000_000)}
    pids = {pid for _, _, pid, _ in scores}
    assert sorted(board.marks("load")) == sorted(map(str, pids))
    for pid in pids:
        sizes = [rss for _, _, each, rss in scores if each == pid]
        assert sizes[0] > 200_000_000
        assert sizes[-1] - sizes[0] < 20_000_000


def test_an_edited_model_does_not_stand_beside_the_old_one(fresh, board: Board):
    """The old one is closed before the new one is loaded: there may be no room for two."""
    pool = fresh(1)
    for number in (1, 2):
        pool.map(edition(board, number, "sync").use, range(3)).result(DEADLINE)
    for number in (3, 4):
        pool.map(edition(board, number).use, range(3)).result(DEADLINE)
    assert board.marks("order") == [
        *("open 1", "close 1", "open 2", "close 2", "open 3", "close 3", "open 4"),
    ]
