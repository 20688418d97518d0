"""Bad payloads: each costs its own item, with a typed error and the real message, however the job is read."""

from __future__ import annotations

import asyncio
import os
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiopool import Failure, ItemExited, ItemTimeout, Pool, WorkerLost
from tests.faults import zoo
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import shortly

UNLUCKY = 3
ITEMS = 6
GOOD = [0, 1, 2, 4, 5]

FUNCTIONS = """
import asyncio
def f(x):
    return bad() if x == 3 else x
async def f_later(x):
    await asyncio.sleep(0)
    return bad() if x == 3 else x
def given(x):
    return x
async def given_later(x):
    await asyncio.sleep(0)
    return x
"""


def cell(source: str) -> dict[str, Any]:
    """Run a notebook's cell; its functions travel by value."""
    names: dict[str, Any] = {"__name__": "__main__", "HERE": os.getpid()}
    exec(textwrap.dedent(source) + FUNCTIONS, names)
    return names


def is_told(error: BaseException, kind: str | None, said: str | None) -> None:
    """Of this type, with these words, and harmless to a loop."""
    assert isinstance(error, Exception)
    assert kind is None or type(error).__name__ == kind
    if said is not None:
        assert said in str(error)


async def every_way(start: Callable[..., Any], kind: str | None, said: str | None) -> None:
    """Read a job in each way that there is; its item 3 has failed, and nobody else."""
    ends = start(on_error="return").result(DEADLINE)
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    assert isinstance(ends[UNLUCKY], Failure)
    is_told(ends[UNLUCKY].error, kind, said)

    ends = await shortly(start(on_error="return"))
    assert isinstance(ends[UNLUCKY], Failure)

    job, seen = start(on_error="return"), {}
    async with asyncio.timeout(DEADLINE):
        async for index, end in job.as_completed():
            seen[index] = end  # noqa: PERF403 - it is the loop that is tried
    assert {index for index, end in seen.items() if isinstance(end, Failure)} == {UNLUCKY}
    assert len(seen) == ITEMS
    assert [failure.index for failure in job.failures] == [UNLUCKY]

    seen_by_for = list(start(on_error="return"))
    assert [isinstance(end, Failure) for end in seen_by_for] == [index == UNLUCKY for index in range(ITEMS)]

    for read in (shortly, read_all, read_by_for, lambda job: job.result(DEADLINE)):
        with pytest.raises(Exception) as caught:  # noqa: PT012 - looked at closely below
            ends = read(start(on_error="raise"))
            if isinstance(ends, Awaitable):
                await ends
        is_told(caught.value, kind, said)


async def read_all(job: Any) -> None:
    """By ``async for``."""
    async with asyncio.timeout(DEADLINE):
        async for value in job:
            assert value in GOOD


def read_by_for(job: Any) -> None:
    """By ``for``."""
    for value in job:
        assert value in GOOD


@pytest.fixture(params=["def", "async def"])
def suffix(request: pytest.FixtureRequest) -> str:
    """Which function of the cell."""
    return "" if request.param == "def" else "_later"


@pytest.mark.parametrize(("source", "kind", "said"), zoo.RAISED.values(), ids=zoo.RAISED.keys())
async def test_what_an_item_raises_is_its_own_failure(pool: Pool, source: str, kind: str, said: str, suffix: str):
    """With its type, or as a RemoteError with all its words, or as an ItemExited where it would end a loop."""
    function = cell(source)[f"f{suffix}"]
    await every_way(lambda **options: pool.map(function, range(ITEMS), batch=ITEMS, **options), kind, said)


@pytest.mark.parametrize(("source", "kind", "said"), zoo.RETURNED.values(), ids=zoo.RETURNED.keys())
async def test_what_an_item_returns_is_its_own_failure(pool: Pool, source: str, kind: str, said: str, suffix: str):
    """Whether it cannot leave its worker or cannot arrive."""
    function = cell(source)[f"f{suffix}"]
    await every_way(lambda **options: pool.map(function, range(ITEMS), batch=ITEMS, **options), kind, said)


@pytest.mark.parametrize(("source", "kind", "said"), zoo.GIVEN.values(), ids=zoo.GIVEN.keys())
async def test_what_an_item_is_given_is_its_own_failure(pool: Pool, source: str, kind: str, said: str, suffix: str):
    """Whether it cannot leave the notebook or cannot arrive."""
    names = cell(source)
    inputs = [names["bad"]() if index == UNLUCKY else index for index in range(ITEMS)]
    await every_way(lambda **options: pool.map(names[f"given{suffix}"], inputs, batch=ITEMS, **options), kind, said)


# --- what comes out of a task that the item started ------------------------------------------------------------------

TASKS = {
    "in a TaskGroup": """
        async def bad():
            async with asyncio.TaskGroup() as group:
                group.create_task(raises())
                await asyncio.sleep(3600)
        """,
    "under gather": """
        async def bad(): await asyncio.gather(raises(), asyncio.sleep(3600))
        """,
    "in a task that is awaited": """
        async def bad(): await asyncio.create_task(raises())
        """,
    "under a timeout": """
        async def bad():
            async with asyncio.timeout(10): await raises()
        """,
    "in a nested run": """
        async def bad(): await asyncio.to_thread(asyncio.run, raises())
        """,
}
ENDS = {
    "SystemExit": ("raise SystemExit('said')", "SystemExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt('said')", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit('said')", "GeneratorExit"),
    "StopIteration": ("raise StopIteration('said')", "StopIteration"),
    "a cancel of its own": ("asyncio.current_task().cancel('said')\n    await asyncio.sleep(0)", "Cancel"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("where", TASKS.values(), ids=TASKS.keys())
async def test_what_a_task_of_an_item_raises_is_the_items_failure(pool: Pool, where: str, end: tuple[str, str]):
    """Its worker lives, also where asyncio lets it out of the loop; coroutines beside it get through."""
    raises, told = end
    if "TaskGroup" in where and told == "Cancel":
        where = where.replace("await asyncio.sleep(3600)", "raise ValueError('Cancel')")  # A group lets its tasks go.
    names = cell(f"import asyncio\nasync def raises():\n    {raises}\n{textwrap.dedent(where)}")
    exec("async def f(x):\n    return await bad() if x == 3 else await asyncio.sleep(0.01, x)", names)
    before = {worker.info.pid for worker in pool.workers}
    ends = await shortly(pool.map(names["f"], range(ITEMS), concurrency=12, on_error="return"))
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    error = ends[UNLUCKY].error
    assert isinstance(error, Exception)
    shown = f"{type(error).__name__} {error} {getattr(error, 'exceptions', '')}"
    assert told in shown
    assert {worker.info.pid for worker in pool.workers} == before
    with pytest.raises(Exception):  # noqa: B017 - the same one; and nothing that would end this loop
        await shortly(pool.map(names["f"], range(ITEMS), concurrency=12))


# --- what ends or holds up whoever loads or pickles it ---------------------------------------------------------------

LETHAL = {
    "exits": "os._exit(7)",
    "crashes": "__import__('ctypes').string_at(0)",
    "is killed": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("how", LETHAL.values(), ids=LETHAL.keys())
def test_a_result_whose_pickling_ends_the_worker_is_that_items_failure(pool: Pool, how: str, suffix: str):
    """Its neighbours in the same batch get their values."""
    source = f"import os\nclass Bomb:\n    def __reduce__(self): {how}\ndef bad(): return Bomb()"
    function = cell(source)[f"f{suffix}"]
    ends = pool.map(function, range(ITEMS), batch=ITEMS, on_error="return").result(DEADLINE)
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    assert isinstance(ends[UNLUCKY].error, WorkerLost)


HANGS = "while True: time.sleep(0.01)"


def test_a_result_whose_pickling_hangs_is_ended_by_its_timeout(pool: Pool, suffix: str):
    """To pickle it is part of the attempt."""
    source = f"import time\nclass Slow:\n    def __reduce__(self):\n        {HANGS}\ndef bad(): return Slow()"
    job = pool.map(cell(source)[f"f{suffix}"], range(ITEMS), batch=ITEMS, on_error="return", timeout=2)
    ends = job.result(DEADLINE)
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    assert isinstance(ends[UNLUCKY].error, ItemTimeout)


def test_a_result_whose_pickling_hangs_is_ended_by_a_cancel(pool: Pool, board: Board, suffix: str):
    """What had come stands; the worker is there again."""
    source = f"""
import time
class Slow:
    def __init__(self, board): self.board = board
    def __reduce__(self):
        self.board.mark("pickling")
        {HANGS}
def bad(): return Slow(board)
"""
    names = cell(source)
    names["board"] = board
    job = pool.map(names[f"f{suffix}"], range(ITEMS), batch=1)
    board.wait("pickling")
    until(lambda: job.snapshot().done)
    job.cancel()
    assert {*GOOD, None} >= {*job.partial(fill=None)} > {None}


def test_an_argument_whose_loading_hangs_is_ended_by_its_timeout(pool: Pool, suffix: str):
    """To load it is part of the attempt, too."""
    source = f"""
import os, time
def load():
    if os.getpid() != HERE:
        {HANGS}
class Slow:
    def __reduce__(self): return load, ()
def bad(): return Slow()
"""
    names = cell(source)
    inputs = [names["bad"]() if index == UNLUCKY else index for index in range(ITEMS)]
    job = pool.map(names[f"given{suffix}"], inputs, batch=ITEMS, on_error="return", timeout=2)
    ends = job.result(DEADLINE)
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    assert isinstance(ends[UNLUCKY].error, ItemTimeout)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_an_argument_whose_pickling_hangs_holds_up_its_own_job_only(fresh: Callable[..., Pool], how: str):
    """It is pickled on that job's own thread: others go on, and ending the job or the pool does not wait for it."""
    held = threading.Event()

    class Slow:
        def __reduce__(self) -> tuple[Any, ...]:
            assert held.wait(DEADLINE)
            return int, ()

    pool = fresh(1)
    try:
        job = pool.map(id, iter([Slow(), Slow()]))
        assert pool.map(abs, range(-3, 0)).result(DEADLINE) == [3, 2, 1]
        began = time.monotonic()
        if how == "cancel":
            job.cancel()
            until(job.done)
            assert pool.map(abs, range(-3, 0)).result(DEADLINE) == [3, 2, 1]
        else:
            pool.terminate()
            until(job.done)
            pool.join(DEADLINE)
        assert time.monotonic() - began < 5
    finally:
        held.set()


def test_a_result_whose_loading_hangs_holds_up_its_readers_only(pool: Pool):
    """A value is loaded by whoever reads it. The pool, other jobs and the end of the pool never wait for that.

    Here the hanging code is the user's own, in the user's own thread: Stop ends it as it ends any code.
    """
    import __main__

    reading, go_on = threading.Event(), threading.Event()

    def load_slowly() -> str:
        reading.set()
        assert go_on.wait(DEADLINE)
        return "loaded"

    names = cell("class Slow:\n    def __reduce__(self): return eval, ('__import__(\"__main__\").load_slowly()',)")
    exec("def f(x): return Slow() if x == 3 else x", names)
    __main__.load_slowly = load_slowly  # type: ignore[attr-defined]
    try:
        job = pool.map(names["f"], range(ITEMS))
        got: list[Any] = []
        reader = threading.Thread(target=lambda: got.append(job.result(DEADLINE)))
        reader.start()
        assert reading.wait(DEADLINE)
        assert pool.map(abs, range(-3, 0)).result(DEADLINE) == [3, 2, 1]
        until(job.done)
        assert job.snapshot().done == ITEMS
        go_on.set()
        reader.join(DEADLINE)
        assert got == [[0, 1, 2, "loaded", 4, 5]]
    finally:
        go_on.set()
        del __main__.load_slowly  # type: ignore[attr-defined]


# --- functions that do not load --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration"])
def test_a_function_whose_globals_do_not_load_is_an_error_of_every_item(pool: Pool, kind: str, suffix: str):
    """By name, and at once; the worker lives."""
    names = cell(
        f"""
import os
def there():
    if os.getpid() != HERE: raise {kind}('this global will not load')
class Config:
    def __reduce__(self): return there, ()
config = Config()
def f(x): return config
async def f_later(x): return config
"""
        + FUNCTIONS.replace("def f(x)", "def unused(x)").replace("def f_later(x)", "def unused_later(x)")
    )
    exec("def f(x): return config\nasync def f_later(x): return config", names)
    before = {worker.info.pid for worker in pool.workers}
    ends = pool.map(names[f"f{suffix}"], range(ITEMS), on_error="return").result(DEADLINE)
    for end in ends:
        assert isinstance(end.error, ItemExited if kind != "ValueError" else ValueError)
        assert "this global will not load" in str(end.error)
    with pytest.raises(Exception, match="this global will not load"):
        pool.submit(names[f"f{suffix}"], 1).result(DEADLINE)
    assert {worker.info.pid for worker in pool.workers} == before


# --- what is only shown ----------------------------------------------------------------------------------------------


class Shy:
    """An input that does not want to be looked at."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        raise SystemExit("no repr")

    __str__ = __len__ = __format__ = __repr__  # type: ignore[assignment]


class Loud(Shy):
    """An input that says ten megabytes of itself."""

    def __repr__(self) -> str:
        return "loud " * 2_000_000


def fails(shy: Shy) -> int:
    """Fail for one of them."""
    if shy.index == UNLUCKY:
        raise ValueError("the real message")
    return shy.index


def exits(_: object) -> str:
    """A label that ends everything."""
    raise SystemExit("no label")


LABELS: dict[str, Any] = {
    "none": None,
    "raises": lambda _: 1 / 0,
    "exits": exits,
    "is no text": lambda _: 7,
    "is long": lambda _: "x" * 10_000_000,
    "is not printable": lambda _: "\x1b[31m\0\ud800",
}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", [Shy, Loud])
async def test_what_cannot_be_shown_does_not_hide_what_happened(pool: Pool, kind: type[Shy], label: Any):
    """Neither the input nor its label; and nobody's note is ten megabytes long."""
    inputs = [kind(index) for index in range(ITEMS)]
    ends = await shortly(pool.map(fails, inputs, on_error="return", label=label))
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    error = ends[UNLUCKY].error
    assert str(error) == "the real message"
    assert all(len(note) < 2000 for note in error.__notes__)
    assert len(repr(ends[UNLUCKY])) < 3000
    with pytest.raises(ValueError, match="the real message"):
        await shortly(pool.map(fails, inputs, label=label))
    with pytest.raises(ValueError, match="the real message"):
        pool.map(fails, inputs, label=label).result(DEADLINE)


def test_an_input_that_interrupts_when_it_is_pickled_is_told_and_nobody_hangs(pool: Pool):
    """A KeyboardInterrupt out of a ``__reduce__`` on the job's own thread is no Stop."""

    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            raise KeyboardInterrupt("said")

    for inputs in ([0, 1, 2, Bad(), 4, 5], iter([0, 1, 2, Bad(), 4, 5])):
        with pytest.raises(Exception, match="said"):
            pool.map(str, inputs).result(DEADLINE)


@pytest.mark.parametrize("made", ["Bad", "BadState"])
def test_a_result_that_interrupts_when_it_is_loaded_is_no_stop(pool: Pool, made: str):
    """In the main thread, under Python's own handler, where Stop looks the same: the value is a failure."""
    assert threading.current_thread() is threading.main_thread()
    names = cell(f"{zoo.LOADED_HERE}\ndef bad(): return {made}(KeyboardInterrupt)")
    job = pool.map(names["f"], range(ITEMS), batch=ITEMS, on_error="return")
    until(job.done)
    ends = list(job)
    assert [isinstance(end, Failure) for end in ends] == [index == UNLUCKY for index in range(ITEMS)]
    for look in (job.partial, job.result, lambda: [failure.error for failure in job.failures]):
        assert len(look()) in (1, ITEMS)
    assert isinstance(ends[UNLUCKY].error, ItemExited)
    job = pool.map(names["f"], range(ITEMS), batch=ITEMS)
    until(job.done)
    with pytest.raises(ItemExited, match="KeyboardInterrupt"):
        list(job)
    assert job.failures


# --- large ones ------------------------------------------------------------------------------------------------------

LARGE = 1 << int(os.environ.get("AIOPOOL_LARGE", "25"))
"""Bytes: ``AIOPOOL_LARGE=30`` for a gibibyte, which takes some ten seconds each, and three times as much memory."""


@pytest.mark.parametrize("made", ["bytes(LARGE)", "bytearray(LARGE)", "'x' * LARGE", "[bytes(LARGE // 2)] * 3"])
def test_a_large_result_arrives_and_holds_nobody_up_for_good(pool: Pool, made: str):
    """Whole, beside its neighbours."""
    names = cell(f"def bad(): return {made}")
    names["LARGE"] = LARGE
    ends = pool.map(names["f"], range(ITEMS), batch=ITEMS).result(600)
    assert ends[:UNLUCKY] + ends[UNLUCKY + 1 :] == GOOD
    assert ends[UNLUCKY] == eval(made, {"LARGE": LARGE})
