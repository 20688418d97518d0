"""A call of which nobody asks for more than its value is as little as it can be. What else is asked for is there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import linecache
import os
import signal
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import aiopool
from aiopool import Failure, JobCancelled, Pool, PoolClosed, WorkerLost
from aiopool._core.ledger import Ledger
from aiopool._runtime import environment, keeping
from aiopool._runtime.calls import Call
from aiopool._runtime.dispatch import Dispatch
from aiopool._runtime.express import Express
from aiopool._runtime.pictures import Pictures
from aiopool._runtime.results import Results
from aiopool._runtime.runs import Run
from aiopool._worker.runner import Runner
from aiopool.engines import local
from aiopool.engines.local import LocalLink
from aiopool.errors import InternalError
from aiopool.job import Job
from aiopool.registry import registry
from aiopool.stacks import Stacks
from aiopool.submitted import PARTS, Submitted
from aiopool.surfaces import Printed
from aiopool.terminal import TerminalSurface
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import shortly
from tests.pool.test_departures import offered
from tests.pool.test_forked import in_child
from tests.pool.test_quick_calls import warm


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself, however slow the machine is."""
    monkeypatch.setattr("aiopool._runtime.express.MOMENT", 3600.0)


def in_short(job: object) -> bool:
    """Whether there is nothing of the job but its call."""
    return isinstance(job, Submitted) and not PARTS & vars(job).keys()


# --- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unwatched")
def test_calls_that_are_awaited_and_end_are_never_more_than_calls(fresh: Callable[..., Pool], monkeypatch):
    """One after another or a thousand at once: no store, no job, and the ledger is told of none of them."""
    pool = fresh(2)
    warm(pool)
    made: Counter[str] = Counter()

    def counting(owner: type, name: str) -> Callable[..., Any]:
        real = getattr(owner, name)

        def count(*args: Any) -> Any:
            made[f"{owner.__name__}.{name}"] += 1
            return real(*args)

        return count

    for owner, name in ((Results, "__init__"), (Run, "__init__"), (Job, "__init__"), (Ledger, "tell_all")):
        monkeypatch.setattr(owner, name, counting(owner, name))

    async def all_of_them() -> list[Any]:
        first = [await shortly(pool.submit(work.double, x)) for x in range(20)]
        calls = [pool.submit(work.double, x) for x in range(1_000)]
        assert first == [2 * x for x in range(20)]
        return await shortly(asyncio.gather(*calls))

    assert asyncio.run(all_of_them()) == [2 * x for x in range(1_000)]
    assert pool.submit(work.double, 4).result(DEADLINE) == 8
    assert made == {}


def test_a_job_that_was_let_go_of_is_gone_when_it_has_ended(fresh: Callable[..., Pool]):
    """Its session held it while it ran. Nobody else does, and the last one alone is kept."""
    pool = fresh(1)
    warm(pool)
    calls = [pool.submit(work.double, x) for x in range(50)]
    held = aiopool.jobs()
    assert all(call in held or call.done() for call in calls)
    seen = [weakref.ref(call) for call in calls]
    for call in calls:
        call.result(DEADLINE)
    assert not registry._running
    del calls, call, held
    gc.collect()
    until(lambda: sum(ref() is not None for ref in seen) <= 1, what="they are gone")
    assert aiopool.last_job() is seen[-1]()


# --- whatever is asked for is there ----------------------------------------------------------------------------------


def test_its_parts_are_those_of_a_job(fresh: Callable[..., Pool]):
    """All of them, and nothing else is made."""
    pool = fresh(1)
    job = pool.map(work.double, [1])
    assert vars(job).keys() == PARTS
    call = pool.submit(work.double, 1)
    assert in_short(call)
    assert call.id > job.id
    assert vars(call).keys() == PARTS | {"_call", "_whole"}
    with pytest.raises(AttributeError, match="has no nonsense"):
        call.nonsense  # noqa: B018
    job.result(DEADLINE)


ASKED: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "name": lambda call: call.name,
    "len": len,
    "bool": bool,
    "partial": lambda call: call.partial(),
    "failures": lambda call: call.failures,
    "snapshot": lambda call: call.snapshot().id == call.id,
    "listed": lambda call: call in aiopool.jobs() or call.done(),
    "stacks": lambda call: isinstance(call.stacks(), Stacks),
    "cancel asked late": lambda call: not call.done() or not call.cancel(),
    "a loop": lambda call: next(iter(call)),
    "completed": lambda call: next(iter(call.as_completed())),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("when", ["running", "ended", "awaited"])
def test_whatever_is_asked_of_it_is_answered_as_by_a_job(fresh: Callable[..., Pool], board: Board, ask, when):
    """While it runs, when it has ended, and when its value was read; and its value is there afterwards."""
    pool = fresh(1)
    warm(pool)

    def held() -> str:
        board.mark("in")
        board.wait("go")
        return "value"

    call = pool.submit(held)
    board.wait("in")
    if when == "running":
        if ask in (ASKED["a loop"], ASKED["completed"]):
            threading.Timer(0.05, board.mark, ("go",)).start()
        during = ask(call)
        board.mark("go")
    else:
        board.mark("go")
        until(call.done, what="it has ended")
        if when == "awaited":
            assert call.result(DEADLINE) == "value"
        during = ask(call)
    assert during is not None
    assert during is not False
    assert call.result(DEADLINE) == "value"
    assert [row["value"] for row in call.records()] == ["value"]
    assert call.retry().result(DEADLINE) == "value"


@pytest.mark.parametrize("when", ["before", "after"])
def test_callbacks_are_called_whenever_they_are_added(fresh: Callable[..., Pool], when):
    """In the pool's own thread, or at once where it has ended."""
    pool = fresh(1)
    warm(pool)
    called: list[Any] = []
    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    call = pool.submit(work.double, 3)
    if when == "before":
        call.add_done_callback(called.append)
        gate.set()
    else:
        gate.set()
        until(call.done)
        assert in_short(call)
        call.add_done_callback(called.append)
    until(lambda: called == [call], what="it was called")


def test_every_reader_gets_the_same_value(fresh: Callable[..., Pool]):
    """Also of a kind that could be changed: it is loaded once."""
    pool = fresh(1)
    warm(pool)

    def made() -> list[int]:
        return [1, 2]

    call = pool.submit(made)

    async def read() -> Any:
        return await shortly(call)

    first, second, third = asyncio.run(read()), asyncio.run(read()), call.result(DEADLINE)
    assert first == [1, 2]
    assert first is second is third
    call = pool.submit(work.double, "long text " * 10)
    assert call.result(DEADLINE) == asyncio.run(read()) == call.partial()[0] == "long text " * 20


def test_threads_and_loops_wait_for_one_call_beside_each_other(fresh: Callable[..., Pool], board: Board):
    """However many, and whoever of them asks for more of it meanwhile."""
    pool = fresh(1)
    warm(pool)
    call = pool.submit(board.wait, "go")
    values: list[Any] = []

    async def awaiting() -> None:
        values.append(await call)

    threads = [threading.Thread(target=lambda: values.append(call.result(DEADLINE))) for _ in range(3)]
    threads += [threading.Thread(target=asyncio.run, args=(awaiting(),)) for _ in range(3)]
    threads += [threading.Thread(target=lambda: values.append([call.snapshot() and ""]))]
    for thread in threads:
        thread.start()
    until(lambda: len(call._results._waiters) >= 7, what="all wait, and the registry")
    board.mark("go")
    for thread in threads:
        thread.join(DEADLINE)
    assert values == [[""]] * 7


def test_its_time_may_be_over_before_its_end(fresh: Callable[..., Pool], board: Board):
    """TimeoutError, and it goes on."""
    pool = fresh(1)
    warm(pool)
    call = pool.submit(board.wait, "go")
    with pytest.raises(TimeoutError, match="still running"):
        call.result(0.05)
    board.mark("go")
    assert call.result(DEADLINE) == [""]


def test_a_call_that_fails_says_why_and_which(fresh: Callable[..., Pool]):
    """Its error has the note of a call, and its failure the arguments."""
    pool = fresh(1)
    warm(pool)
    calls = [pool.submit(divmod, x, 2 - x) for x in range(4)]
    with pytest.raises(ZeroDivisionError):
        calls[2].result(DEADLINE)
    (failure,) = calls[2].failures
    assert isinstance(failure, Failure)
    assert failure.label == "2, 0"
    assert [call.result(DEADLINE) for call in calls if call is not calls[2]] == [(0, 0), (1, 0), (-3, 0)]


# --- the pool that it is in ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unwatched")
def test_one_of_many_is_cancelled_and_the_others_are_not(fresh: Callable[..., Pool], board: Board):
    """While the first ones are held, and others wait for them."""
    pool = fresh(2)
    warm(pool)

    def held(x: int) -> int:
        board.mark("in", x)
        board.wait("go")
        return x

    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    calls = [pool.submit(held, x) for x in range(40)]
    gate.set()
    board.wait("in", 2)
    assert calls[7].cancel()
    with pytest.raises(JobCancelled):
        calls[7].result(DEADLINE)
    board.mark("go")
    assert [call.result(DEADLINE) for call in calls if call is not calls[7]] == [x for x in range(40) if x != 7]
    assert "7" not in board.marks("in")


def test_what_waits_behind_a_long_one_goes_to_another_worker(fresh: Callable[..., Pool], board: Board):
    """Nobody asked: after a moment the ledger is told, which has it handed back."""
    pool = fresh(2)
    warm(pool)
    assert [pool.submit(work.double, x).result(DEADLINE) for x in range(50)] == [2 * x for x in range(50)]
    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    first = pool.submit(board.wait, "go")
    calls = [pool.submit(work.double, x) for x in range(300)]
    gate.set()
    assert [call.result(DEADLINE) for call in calls] == [2 * x for x in range(300)]
    assert not first.done()
    board.mark("go")
    first.result(DEADLINE)


@pytest.mark.parametrize("kind", ["def", "async"])
def test_a_worker_that_dies_amid_a_thousand_calls_costs_those_that_ran_there(
    fresh: Callable[..., Pool], board: Board, kind
):
    """Each of the others ends with its value; none has run twice."""
    pool = fresh(2)
    warm(pool)

    def once(x: int) -> int:
        board.mark("began", x)
        if x == 300:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    async def once_async(x: int) -> int:
        return once(x)

    calls = [pool.submit(once if kind == "def" else once_async, x) for x in range(1_000)]
    lost = []
    for x, call in enumerate(calls):
        try:
            assert call.result(DEADLINE) == x
        except WorkerLost:
            lost.append(x)
    assert 300 in lost
    # Of coroutines, which begin together, some may have begun and not ended.
    assert kind == "async" or lost == [300]
    assert set(Counter(board.marks("began")).values()) == {1}


@pytest.mark.parametrize("how", ["terminate", "close"])
def test_a_pool_that_ends_ends_them(fresh: Callable[..., Pool], how):
    """Cancelled, or run."""
    pool = fresh(2)
    warm(pool)
    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    calls = [pool.submit(work.double, x) for x in range(200)]
    getattr(pool, how)()
    gate.set()
    pool.join(DEADLINE)
    assert all(call.done() for call in calls)
    values = [call.partial()[0] for call in calls]
    if how == "close":
        assert values == [2 * x for x in range(200)]
    else:
        # The pool's thread has come to nothing before it was told to end.
        assert values == [aiopool.MISSING] * 200


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_what_comes_to_its_parent(fresh: Callable[..., Pool], board: Board):
    """A call that runs there says so; one that has ended has its value, and so has one that was never asked."""
    pool = fresh(2)
    warm(pool)
    running, ended = pool.submit(board.wait, "go"), pool.submit(work.double, 2)
    until(ended.done, what="it has ended")

    def child() -> None:
        assert ended.result(1) == 4
        assert running.done()
        with pytest.raises(PoolClosed, match="forked"):
            running.result(1)

        async def awaiting() -> None:
            assert await ended == 4
            with pytest.raises(PoolClosed, match="forked"):
                await running

        asyncio.run(awaiting())

    assert in_child(child) == ""
    assert not running.done()
    board.mark("go")
    running.result(DEADLINE)


# --- what is printed -------------------------------------------------------------------------------------------------


def _says(text: str, *, raw: bool) -> None:
    if raw:
        os.write(1, text.encode())
    else:
        sys.stdout.write(text)


@pytest.mark.parametrize("raw", [False, True], ids=["Python", "C"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["a line", "a part of one"])
def test_what_it_prints_is_out_before_its_end(fresh: Callable[..., Pool], monkeypatch, raw, end):
    """Also what is no whole line, of Python or of C; each of many has its own."""
    pool = fresh(1)
    warm(pool)
    lines: list[Printed] = []
    monkeypatch.setattr(TerminalSurface, "write", lambda _, some: lines.extend(some))
    calls = [pool.submit(_says, f"said {x}{end}", raw=raw) for x in range(5)]
    for call in calls:
        call.result(DEADLINE)
    said = "".join(line.text for line in lines)
    assert said == "".join(f"said {x}" for x in range(5))


def test_a_call_in_short_is_what_the_driver_holds(fresh: Callable[..., Pool], monkeypatch):
    """So these tests see what they are about: outside of a kernel, with plain arguments and without."""
    pool = fresh(1)
    warm(pool)
    taken: list[Any] = []
    real = Express.take
    monkeypatch.setattr(Express, "take", lambda self, runs: (taken.extend(runs), real(self, runs))[1])
    calls = [pool.submit(work.double, 2), pool.submit(work.double, [1])]
    assert [call.result(DEADLINE) for call in calls] == [4, [1, 1]]
    assert [type(each) for each in taken] == [Call, Call]


# --- whatever comes in between ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_call_that_is_just_being_sent_runs_once_whoever_looks(
    fresh: Callable[..., Pool], board: Board, monkeypatch, is_sent
):
    """Whether its worker takes it or not: who looks in that moment waits until that is known."""
    pool = fresh(1)
    real = LocalLink.send_at_once
    looks = threading.Event()
    struck: list[bool] = []
    meet = Express._meet

    def meeting(self: Express) -> None:
        looks.set()
        meet(self)

    def sending(self: LocalLink, data: bytes) -> bool:
        if struck:
            return real(self, data)
        struck.append(True)
        monkeypatch.setattr(Express, "_meet", meeting)
        pool._driver.cancel_calls("another")
        assert looks.wait(DEADLINE)
        return real(self, data) if is_sent else False

    offered(pool)
    monkeypatch.setattr(LocalLink, "send_at_once", sending)
    assert pool.submit(board.mark, "ran").result(DEADLINE) is None
    until(lambda: not pool.snapshot().jobs, what="nothing is open")
    assert struck == [True]
    assert len(board.marks("ran")) == 1


def test_stop_at_any_line_of_a_submit_leaves_nothing_that_never_ends(fresh: Callable[..., Pool]):
    """All jobs that there are can be listed and have ended, and the next call runs."""
    pool = fresh(1)
    warm(pool)
    lines = 0
    while True:
        lines += 1
        struck = False
        seen = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal seen, struck
            if "aiopool" not in frame.f_code.co_filename:
                return None
            source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            # Where a `with` is left, and before a `try` is entered, no signal is handled; but lines are told of there.
            if event == "line" and not source.startswith(("with ", "try:")):
                seen += 1
                if seen == lines:  # noqa: B023 - called before the next
                    struck = True
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            pool.submit(work.double, 3)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if not struck:
            break
        assert pool.submit(work.double, 4).result(DEADLINE) == 8
        until(lambda: all(job.done() for job in aiopool.jobs()), what="all have ended")
    assert lines > 50


def test_a_finaliser_that_waits_for_another_call_stops_nobody(fresh: Callable[..., Pool], monkeypatch):
    """It may run while the store of a call is made: the pool's thread needs nothing that is held there."""
    pool = fresh(1)
    warm(pool)
    call = pool.submit(work.double, 2)
    until(call.done)
    waited: list[Any] = []

    def made(size: int) -> Results:
        if not waited:
            waited.append(None)
            waited.append(pool.submit(work.double, 5).result(DEADLINE))
        return Results(size)

    monkeypatch.setattr("aiopool._runtime.calls.Results", made)
    assert call.records()[0]["value"] == 4
    assert waited == [None, 10]


def test_two_threads_that_ask_at_once_get_the_same(fresh: Callable[..., Pool]):
    """Its store and its parts are one, whoever is first; every end is heard."""
    pool = fresh(2)
    warm(pool)
    for _ in range(50):
        call = pool.submit(work.double, 2)
        found: list[Any] = []
        gate = threading.Barrier(4)

        def ask(call: Any = call, found: list[Any] = found, gate: threading.Barrier = gate) -> None:
            gate.wait(DEADLINE)
            found.append((call._results, call._reading, call.result(DEADLINE)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(found) == 4
        assert len({(id(results), id(reading), value) for results, reading, value in found}) == 1


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Express, "_finds_workers_for"),
        (Express, "_meet"),
        (Express, "_give"),
        (Express, "_note_ended"),
        (Dispatch, "send_environment"),
        (Pictures, "passed"),
    ],
)
def test_an_error_of_ours_ends_every_call(fresh: Callable[..., Pool], monkeypatch, caplog, owner, name):
    """Each has its value, or says that the pool failed; none is waited for in vain."""
    pool = fresh(1)
    warm(pool)
    real = getattr(owner, name)
    raised: list[bool] = []

    def failing(*args: Any) -> Any:
        if not raised:
            raised.append(True)
            raise RuntimeError("a bug of ours")
        return real(*args)

    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    calls = [pool.submit(work.double, x) for x in range(40)]
    monkeypatch.setattr(owner, name, staticmethod(failing) if owner is Dispatch else failing)
    gate.set()
    for x, call in enumerate(calls):
        with contextlib.suppress(InternalError):
            assert call.result(DEADLINE) == 2 * x
    assert raised == [True]
    assert "internal error in the pool's thread" in caplog.text


@pytest.mark.parametrize("found", [None, types.ModuleType("half imported")])
def test_a_python_without_ctypes_submits_as_any_other(fresh: Callable[..., Pool], monkeypatch, found):
    """Folder and pipes are asked in the plain way then, and so they are while another thread imports the other way."""
    monkeypatch.setattr(environment, "_folder_keeping_gil", None)
    monkeypatch.setitem(sys.modules, "aiopool._runtime.keeping", found)
    pool = fresh(1)
    warm(pool)
    gate = threading.Event()
    pool._driver._io.call(gate.wait, DEADLINE)
    calls = [pool.submit(os.getcwd) for _ in range(5)]
    gate.set()
    assert {call.result(DEADLINE) for call in calls} == {str(Path.cwd())}


def struck_afterwards(board: Board, *, with_loop: bool) -> int:
    """Have an exception raised in this thread when this has ended, as libraries do that end functions after a time."""
    import ctypes

    if with_loop:
        frame: Any = sys._getframe()
        while not isinstance(frame.f_locals.get("self"), Runner):
            frame = frame.f_back
        assert frame.f_locals["self"].loop is not None
    main = threading.get_ident()
    waits = "select" if with_loop else "run_forever"

    def strike() -> None:
        until(lambda: board.marks("ended") and sys._current_frames()[main].f_code.co_name == waits)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(TimeoutError))
        board.mark("struck")

    threading.Thread(target=strike).start()
    return os.getpid()


@pytest.mark.parametrize("with_loop", [False, True])
def test_an_exception_that_strikes_between_two_calls_leaves_no_worker_deaf(
    fresh: Callable[..., Pool], board: Board, with_loop
):
    """It comes while the main thread waits for the next one, and takes with it what that was to be woken by."""
    pool = fresh(1)
    pid = pool.submit(struck_afterwards, board, with_loop=with_loop).result(DEADLINE)
    board.mark("ended")
    until(lambda: board.marks("struck"))
    assert [pool.submit(os.getpid).result(DEADLINE) for _ in range(3)] == [pid] * 3


def test_how_much_a_pipe_holds_is_the_same_however_it_is_asked_for(monkeypatch):
    """With the GIL held or without; where there is no pipe both say so."""
    reader, writer = os.pipe()
    os.write(writer, b"12345")
    plain = types.ModuleType("without readable")
    for module in (keeping, plain):
        monkeypatch.setitem(sys.modules, "aiopool._runtime.keeping", module)
        assert local._readable(reader) == 5
    os.close(writer)
    os.close(reader)
    for module in (keeping, plain):
        monkeypatch.setitem(sys.modules, "aiopool._runtime.keeping", module)
        with pytest.raises(OSError, match="Bad file descriptor"):
            local._readable(reader)


def test_the_names_of_its_parts_are_listed(fresh: Callable[..., Pool]):
    """For who completes them, before any of them is made."""
    pool = fresh(1)
    call = pool.submit(work.double, 1)
    assert {"id", "name", "started", "result", "cancel"} <= set(dir(call))
    assert in_short(call)
    call.result(DEADLINE)


def test_what_was_read_is_what_its_records_have(fresh: Callable[..., Pool]):
    """The very same object, also where the store is made later."""
    pool = fresh(1)
    call = pool.submit(work.double, 10**20)
    value = call.result(DEADLINE)
    assert call.records()[0]["value"] is value
    assert call.result(DEADLINE) is value
