"""Whatever can be called, from wherever; and the worker sees what the caller has now."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import operator
import time

import pytest

from aiopool import NotPicklable
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import shortly, still_works

# --- every kind ------------------------------------------------------------------------------------------------------


class Base:
    """Its subclass calls it through ``super()``."""

    def by(self, x):
        """Double it."""
        return 2 * x


class Derived(Base):
    """A class of a test module, which workers can import."""

    def by(self, x):
        """Ask the base."""
        return super().by(x)


def kinds():  # noqa: C901  # a catalogue
    """Make every kind of function that doubles; those of this function's own travel by value."""
    factor = 2

    def closure(x):
        return factor * x

    async def async_closure(x):
        await asyncio.sleep(0)
        return factor * x

    def recursive(x):
        return 0 if x == 0 else 2 + recursive(x - 1)

    def even(x):
        return 0 if x == 0 else 2 + odd(x - 1)

    def odd(x):
        return 0 if x == 0 else 2 + even(x - 1)

    class LocalBase:
        def by(self, x):
            return factor * x

    class Local(LocalBase):
        def by(self, x):
            return super().by(x)

        def __call__(self, x):
            return self.by(x)

    class LocalAsync:
        async def __call__(self, x):
            return factor * x

    @dataclasses.dataclass
    class Scale:
        by: int = 2

        def apply(self, x):
            return dataclasses.replace(self, by=self.by).by * x

    class Factor(enum.IntEnum):
        TWO = 2

    def with_enum(x):
        return int(Factor.TWO * x)

    @functools.lru_cache
    def cached(x):
        return factor * x

    @functools.wraps(work.double_later)
    def wrapper(x):
        return work.double_later(x)

    def default(x, by=factor):
        return by * x

    def variadic(*args, **kwargs):
        return factor * args[0]

    def generated(x):
        return sum(value for value in iter([x, x]))

    return {
        "def of a module": work.double,
        "async def of a module": work.double_later,
        "builtin": functools.partial(operator.mul, 2),
        "method of a builtin": (2).__mul__,
        "closure": closure,
        "async closure": async_closure,
        "lambda": lambda x: factor * x,
        "lambda of a coroutine": lambda x: work.double_later(x),  # noqa: PLW0108  # that is the kind
        "wrapper of a coroutine": wrapper,
        "recursive": recursive,
        "mutually recursive": even,
        "partial": functools.partial(work.add, times=2, y=0),
        "partial of a coroutine": functools.partial(work.add_later, times=2, y=0),
        "partial of a partial": functools.partial(functools.partial(work.add, y=0), times=2),
        "bound method": work.Doubler().bound,
        "async bound method": work.Doubler().bound_later,
        "class method": work.Doubler.made,
        "static method": work.Doubler.plain,
        "callable object": work.Doubler(),
        "async callable object": work.AsyncDoubler(),
        "partial of an async callable object": functools.partial(work.AsyncDoubler()),
        "super()": Derived().by,
        "local super()": Local().by,
        "local callable object": Local(),
        "local async callable object": LocalAsync(),
        "dataclass": Scale().apply,
        "enum": with_enum,
        "lru_cache": cached,
        "default": default,
        "variadic": variadic,
        "generator expression": generated,
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_function_runs(pool, kind):
    """In a map and in a submit."""
    fn = kinds()[kind]
    assert pool.map(fn, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
    assert pool.submit(fn, 21).result(DEADLINE) == 42


def test_a_class_is_a_function_that_makes_its_instances(pool):
    """They come home as instances of the very same class."""

    @dataclasses.dataclass
    class Point:
        x: int

    (point,) = pool.map(Point, [3]).result(DEADLINE)
    assert point == Point(3)
    assert type(point) is Point


def test_enum_members_keep_their_identity_both_ways(pool):
    """``is`` works on either side."""

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    def other(colour):
        return Colour.BLUE if colour is Colour.RED else Colour.RED

    assert pool.map(other, [Colour.RED, Colour.BLUE]).result(DEADLINE) == [Colour.BLUE, Colour.RED]
    assert pool.submit(other, Colour.RED).result(DEADLINE) is Colour.BLUE


# --- coroutines in unusual places ------------------------------------------------------------------------------------


def test_a_def_may_call_asyncio_run(pool):
    """It runs between two runs of the worker's loop, never inside one."""

    def own_loop(x):
        async def inside():
            await asyncio.sleep(0)
            return 2 * x

        return asyncio.run(inside())

    assert pool.map(own_loop, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
    assert pool.map(work.double_later, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
    assert pool.submit(own_loop, 4).result(DEADLINE) == 8


def test_a_def_may_make_and_leave_a_loop_of_its_own(pool):
    """``new_event_loop`` and ``set_event_loop`` in an item do not disturb the worker's own."""

    def leaves_a_loop(x):
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        value = loop.run_until_complete(work.double_later(x))
        loop.close()
        return value

    assert pool.map(leaves_a_loop, range(4)).result(DEADLINE) == [0, 2, 4, 6]
    assert pool.map(work.double_later, range(5)).result(DEADLINE) == [0, 2, 4, 6, 8]
    still_works(pool)


def test_a_lambda_of_a_coroutine_is_not_taken_for_a_def_with_a_strange_result(pool):
    """It is awaited, and what it awaits may take its time; also with a concurrency above the workers."""
    assert pool.map(lambda x: work.doze(0.01), range(4)).result(DEADLINE)[0] > 0
    assert pool.map(lambda x: work.double_later(1 * x), range(8), concurrency=4).result(DEADLINE) == list(
        range(0, 16, 2)
    )


def test_an_awaitable_that_is_no_coroutine_is_awaited_or_refused_by_name(pool):
    """A ``def`` that returns a future of no loop says what cannot travel."""

    def forgets(x):
        async def inside():
            return x

        return [inside()]

    (failure,) = pool.map(forgets, [1], on_error="return").result(DEADLINE)
    assert isinstance(failure.error, NotPicklable)
    assert "coroutine" in str(failure.error)


# --- once a job ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [None, 8])
def test_a_function_goes_to_a_worker_once_per_job(fresh, board: Board, concurrency):
    """Not once per item: an object that counts how often it is unpickled is loaded once by each worker."""
    pool = fresh(2)
    pool.broadcast(work.pid).result(DEADLINE)
    results = pool.map(work.LoadsCounted(board), range(500), batch=3, concurrency=concurrency).result(DEADLINE)
    assert results == list(range(0, 1000, 2))
    loaded = board.marks("loaded")
    assert 1 <= len(loaded) == len(set(loaded)) <= 2


def test_a_function_that_cannot_be_loaded_fails_each_item_with_its_error(pool):
    """Not the worker."""
    fn = functools.partial(lambda _, x: x, work.Unloadable())
    with pytest.raises(ValueError, match="explodes when it is loaded"):
        pool.map(fn, range(3)).result(DEADLINE)
    failures = pool.map(fn, range(3), on_error="return").result(DEADLINE)
    assert [str(failure.error) for failure in failures] == ["this value explodes when it is loaded"] * 3
    still_works(pool)


def test_a_function_that_cannot_travel_is_refused_in_the_call(pool):
    """Naming the culprit, not an inner type only."""
    import threading

    lock = threading.Lock()

    def guarded(x):
        with lock:
            return x

    with pytest.raises(NotPicklable, match=r"guarded.*lock"):
        pool.map(guarded, [1])
    with pytest.raises(NotPicklable, match=r"guarded.*lock"):
        pool.submit(guarded, 1)


# --- as it is now ----------------------------------------------------------------------------------------------------


def script_namespace(source: str, namespace: dict | None = None) -> dict:
    """Run code as a cell does, in a ``__main__`` of its own."""
    namespace = {"__name__": "__main__"} if namespace is None else namespace
    exec(compile(source, "<cell>", "exec"), namespace)
    return namespace


def test_a_pydantic_model_of_a_cell_travels_both_ways(pool):
    """As an argument, as a result, as a class that a function knows."""
    cell = script_namespace(
        """
import pydantic
class Settings(pydantic.BaseModel):
    depth: int
    @pydantic.field_validator("depth")
    def positive(cls, depth):
        assert depth > 0
        return depth
def deeper(settings):
    assert isinstance(settings, Settings)
    return Settings(depth=settings.depth + 1)
def flat(settings):
    return Settings(depth=settings.depth - 1)
"""
    )
    (settings,) = pool.map(cell["deeper"], [cell["Settings"](depth=1)]).result(DEADLINE)
    assert settings == cell["Settings"](depth=2)
    assert type(settings) is cell["Settings"]
    with pytest.raises(ValueError, match="depth"):
        pool.submit(cell["flat"], settings.model_copy(update={"depth": 1})).result(DEADLINE)


def test_a_redefined_helper_and_a_changed_global_are_seen_by_live_workers(pool):
    """Between jobs, and also by one that is retried with a mended function."""
    cell = script_namespace("RATE = 2\ndef helper(x): return RATE * x\ndef main(x): return helper(x)")
    assert pool.map(cell["main"], [1, 2]).result(DEADLINE) == [2, 4]
    cell["RATE"] = 3
    assert pool.map(cell["main"], [1, 2]).result(DEADLINE) == [3, 6]
    script_namespace("def helper(x): return RATE * x + 1", cell)
    assert pool.map(cell["main"], [1, 2]).result(DEADLINE) == [4, 7]
    script_namespace("async def main(x): return helper(x) * 10", cell)
    assert pool.map(cell["main"], [1, 2]).result(DEADLINE) == [40, 70]


def test_a_job_keeps_the_function_that_it_was_started_with(pool, board: Board):
    """What is redefined while it runs is for the next one."""
    cell = script_namespace("def helper(x): return x\ndef main(x, board): board.wait('go'); return helper(x)")
    job = pool.starmap(cell["main"], [(1, board), (2, board)])
    script_namespace("def helper(x): return -x", cell)
    board.mark("go")
    assert job.result(DEADLINE) == [1, 2]
    assert pool.starmap(cell["main"], [(1, board)]).result(DEADLINE) == [-1]


async def test_a_global_that_an_item_changes_stays_in_its_worker(pool):
    """The caller's own is untouched."""
    cell = script_namespace("COUNT = 0\ndef bump(_):\n    global COUNT\n    COUNT += 1\n    return COUNT")
    await shortly(pool.map(cell["bump"], range(10)))
    assert cell["COUNT"] == 0


def test_a_traceback_points_at_the_line_of_the_function(pool):
    """With the frames of the user's code alone."""
    import traceback

    with pytest.raises(ValueError, match="odd: 1") as caught:
        pool.map(work.refuse, [1]).result(DEADLINE)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "refuse"
    assert frames[-1].line == 'raise ValueError(f"odd: {x}")'
    assert not [frame for frame in frames if "_worker" in frame.filename]


def test_many_jobs_in_a_row_are_quick(pool):
    """A job of one item costs milliseconds, not a process."""
    started = time.monotonic()
    for x in range(100):
        assert pool.map(work.double, [x]).result(DEADLINE) == [2 * x]
    assert time.monotonic() - started < 20
