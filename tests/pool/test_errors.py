"""What an item raises: the original, with a note that names it; whatever it is, it costs that item only."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from aiopool import Failure, ItemExited, NotPicklable, RemoteError
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import read_into, rested, shortly, still_works

# --- raise or return -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_the_first_failure_in_completion_order_stops_the_job_and_is_raised(pool, board: Board, kind):
    """The original type and message, with a note that says which item; what runs is cancelled."""

    def fails(x: int) -> int:
        if x == 3:
            board.wait("others", 1)
            raise ValueError(f"odd: {x}")
        board.mark("others")
        return x

    async def fails_async(x: int) -> int:
        if x == 3:
            raise ValueError(f"odd: {x}")
        await asyncio.sleep(3600)
        return x

    job = pool.map(fails if kind == "def" else fails_async, range(100))
    with pytest.raises(ValueError, match="odd: 3") as caught:
        await shortly(job)
    assert caught.value.__notes__[-1].startswith("item 3 (3), worker ")
    assert job.done()
    assert job.snapshot().state == "failed"
    with pytest.raises(ValueError, match="odd: 3") as again:
        job.result(DEADLINE)
    assert again.value is caught.value
    assert len(job.partial()) == 100
    still_works(pool)


@pytest.mark.parametrize("fn", [work.refuse, None], ids=["def", "async def"])
async def test_with_return_a_failure_stands_in_its_place(pool, fn):
    """In every way of reading, and the job ends well."""

    async def refuse_later(x: int) -> int:
        await asyncio.sleep(0)
        return work.refuse(x)

    fn = fn or refuse_later
    job = pool.map(fn, range(6), on_error="return")
    results = await shortly(job)
    assert results[::2] == [0, 2, 4]
    assert [(type(f), f.index, f.input, str(f.error), f.attempts) for f in results[1::2]] == [
        (Failure, i, i, f"odd: {i}", 1) for i in (1, 3, 5)
    ]
    assert job.failures == results[1::2]
    assert [value async for value in job] == results
    assert sorted([pair[0] async for pair in job.as_completed()]) == list(range(6))
    assert job.snapshot().state == "done"
    assert (job.snapshot().done, job.snapshot().failed) == (3, 3)


async def test_async_for_yields_what_has_finished_before_the_error(pool, board: Board):
    """The unbroken run of results from where it stands, then the error."""

    def last_fails(x: int) -> int:
        if x == 4:
            board.wait("others have come")
            raise ValueError("bad")
        return x

    job = pool.map(last_fails, range(5), batch=1)
    until(lambda: job.snapshot().done == 4)
    board.mark("others have come")
    seen: list[int] = []
    with pytest.raises(ValueError, match="bad"):
        await shortly(read_into(seen, job))
    assert seen == [0, 1, 2, 3]


# --- any exception ---------------------------------------------------------------------------------------------------


def raiser(make):
    """Make an item that raises what ``make()`` gives."""

    def item(x: int) -> int:
        if x == 1:
            raise make()
        return x

    return item


def async_raiser(make):
    """The same in a coroutine."""

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        if x == 1:
            raise make()
        return x

    return item


EXITS = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": lambda: asyncio.CancelledError("mine"),
    "StopIteration": lambda: StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
}


@pytest.mark.parametrize("make", [raiser, async_raiser], ids=["def", "async def"])
@pytest.mark.parametrize("name", EXITS)
async def test_what_would_end_a_loop_arrives_wrapped(pool, make, name):
    """The item fails with an ItemExited that names it; its neighbours and the worker live."""
    rested(pool)  # Else one that was killed in a test before may be among them.
    before = {worker.info.pid for worker in pool.workers}
    zero, one, two = await shortly(pool.map(make(EXITS[name]), range(3), on_error="return"))
    assert (zero, two) == (0, 2)
    if name in ("StopIteration", "StopAsyncIteration") and make is async_raiser:
        # Python itself makes a RuntimeError of these inside a coroutine, but not of StopAsyncIteration.
        assert isinstance(one.error, ItemExited | RuntimeError)
    else:
        assert isinstance(one.error, ItemExited)
        assert one.error.type_name.rpartition(".")[2] == name
    assert name in str(one.error) + repr(one.error.__cause__)
    with pytest.raises((ItemExited, RuntimeError)):
        await shortly(pool.submit(make(EXITS[name]), 1))
    still_works(pool)
    assert before <= {worker.info.pid for worker in pool.workers}


class Two(Exception):
    """Pickle cannot rebuild it by itself."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


def test_an_exception_with_two_arguments_keeps_its_type_and_attributes(pool):
    """One that a worker can import."""
    with pytest.raises(work.TwoArgumentsError, match="404: gone") as caught:
        pool.map(raiser(lambda: work.TwoArgumentsError(404, "gone")), [1]).result(DEADLINE)
    assert (caught.value.code, caught.value.why) == (404, "gone")


def test_an_exception_of_the_caller_s_own_class_is_caught_by_that_class(pool):
    """A class that exists only here."""

    class Mine(Exception):
        pass

    def fails(x: int) -> None:
        raise Mine(x)

    with pytest.raises(Mine):
        pool.map(fails, [1]).result(DEADLINE)


def test_an_exception_that_cannot_travel_says_the_same(pool):
    """A RemoteError with the original's text, or the original type without the part that stayed behind."""

    def fails(x: int) -> None:
        error = ValueError("the lock is jammed")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    with pytest.raises((ValueError, RemoteError), match="the lock is jammed"):
        pool.map(fails, [1]).result(DEADLINE)


def test_causes_contexts_groups_and_notes_travel(pool):
    """The whole chain."""

    def fails(x: int) -> None:
        try:
            {}["missing"]
        except KeyError as error:
            late = ValueError("bad")
            late.add_note("mine")
            raise ExceptionGroup("several", [late, OSError(2, "gone")]) from error

    with pytest.raises(ExceptionGroup) as caught:
        pool.map(fails, [1]).result(DEADLINE)
    assert isinstance(caught.value.__cause__, KeyError)
    first, second = caught.value.exceptions
    assert (str(first), first.__notes__, second.errno) == ("bad", ["mine"], 2)


def test_an_endless_recursion_is_an_error_of_its_item(pool):
    """Not the end of the worker."""

    def deep(x: int) -> int:
        return deep(x + 1)

    async def deep_async(x: int) -> int:
        return await deep_async(x + 1)

    for fn in (deep, deep_async):
        with pytest.raises(RecursionError):
            pool.map(fn, [1]).result(DEADLINE)
    still_works(pool)


def test_an_exception_that_fails_when_it_is_looked_at_is_still_an_error_of_its_item(pool):
    """Whatever its ``__str__``, ``__repr__`` and ``__reduce__`` do."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit(1)

        __repr__ = __str__

        def __reduce__(self):
            raise KeyboardInterrupt

    def fails(x: int) -> None:
        raise Hostile

    zero = pool.map(fails, [1], on_error="return").result(DEADLINE)[0]
    assert "Hostile" in f"{type(zero.error).__name__} {zero.error!s:.500}"
    still_works(pool)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", ["def", "async def"])
def test_a_result_that_cannot_travel_costs_its_item_only(pool, fn):
    """The error names what it was, and says what to return instead."""

    def odd_ones(x: int) -> object:
        return {1: threading.Lock(), 2: open, 3: (y for y in [1]), 4: {"deep": [threading.Lock()]}}.get(x, x)

    async def odd_ones_async(x: int) -> object:
        return odd_ones(x)

    results = pool.map(odd_ones if fn == "def" else odd_ones_async, range(6), on_error="return").result(DEADLINE)
    assert [results[0], results[2], results[5]] == [0, open, 5]
    for index, named in ((1, "lock"), (3, "generator"), (4, "'deep'")):
        assert isinstance(results[index].error, NotPicklable)
        assert named in str(results[index].error)
    still_works(pool)


async def test_a_result_that_fails_to_load_is_that_items_failure(pool):
    """For every reader the same one; it is not tried again, and its neighbours arrive."""

    def odd_one(x: int) -> object:
        return work.Unloadable() if x == 1 else [x]

    job = pool.map(odd_one, range(3), on_error="return")
    zero, one, two = await shortly(job)
    assert (zero, two) == ([0], [2])
    assert "explodes when it is loaded" in str(one.error)
    assert (await shortly(job))[1].error is one.error
    with pytest.raises(ValueError, match="explodes"):
        await shortly(pool.map(odd_one, range(3)))
    with pytest.raises(ValueError, match="explodes"):
        await shortly(pool.submit(odd_one, 1))
    still_works(pool)


def test_results_of_cell_classes_leave_the_callers_classes_untouched(pool):
    """``isinstance`` holds, and methods that were changed here meanwhile are the changed ones."""
    cell = {"__name__": "__main__"}
    exec("class Page:\n    def __init__(self, x): self.x = x\ndef make(x): return Page(x)", cell)
    kept = cell["Page"]
    pages = pool.map(cell["make"], range(3)).result(DEADLINE)
    assert cell["Page"] is kept
    assert all(type(page) is kept for page in pages)
    assert [page.x for page in pages] == [0, 1, 2]


# --- what an item does to its process --------------------------------------------------------------------------------


def test_an_item_that_closes_its_standard_streams_harms_nobody(fresh):
    """File descriptors 0, 1 and 2 are its own business."""
    pool = fresh(1)

    def closes(_: int) -> None:
        import os

        for fd in (0, 1, 2):
            os.close(fd)

    pool.submit(closes, 1).result(DEADLINE)
    still_works(pool)


def test_an_item_that_replaces_sys_modules_and_streams_harms_nobody(fresh):
    """Code that patches its process goes on patching, and the worker goes on answering."""
    pool = fresh(1)

    def patches(_: int) -> None:
        import io
        import time

        sys.stdout = io.StringIO()
        sys.stderr = None
        time.time = lambda: 0
        time.monotonic = lambda: 0
        time.sleep = lambda s: None

    pool.submit(patches, 1).result(DEADLINE)
    still_works(pool)


def test_prints_of_items_arrive_labelled(fresh, capfd):
    """Before the job ends; a flood does not stop it, and what nobody would read of it is counted."""
    pool = fresh(1)

    def prints(x: int) -> int:
        print(f"hello {x}")  # noqa: T201  # that is the subject
        if x == 2:
            print("x" * 300_000)  # noqa: T201
            print("flood\n" * 20_000, end="")  # noqa: T201
        return x

    assert pool.map(prints, range(3)).result(DEADLINE) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert "[item 0] hello 0\n" in out
    assert "[item 2] hello 2\n" in out
    shown = out.count("[item 2] flood")
    assert 1_000 < shown < 19_000
    assert f"[aiopool] {20_000 - shown:,} lines were not shown" in err


def test_an_item_that_forks_and_dies_does_not_keep_the_pool_waiting(fresh):
    """Its child holds the pipes; the death is known from the process."""
    pool = fresh(1)

    def forks(_: int) -> None:
        import os
        import signal
        import time

        if os.fork() == 0:
            time.sleep(2 * DEADLINE)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    handle = pool.submit(forks, 1)
    until(handle.done, what="the death is noticed although a grandchild holds the pipes")
    still_works(pool)
