"""What strikes at an odd moment: another thread, a finaliser, an interrupt, the end of the pool or of descriptors."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest

from aiopool import JobCancelled, WorkerLost
from aiopool._runtime import environment, family, sources
from aiopool._runtime.shelf import GONE, TRIM_AT, Shelf
from aiopool.reading import Reading
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until


def struck(function: Any, call: Callable[[], object]) -> int:
    """Make the call once for each line of the function, with Stop before that line; how many there were."""
    code, lines = function.__code__, 0
    while _is_struck(code, lines, call):
        lines += 1
    return lines


def _is_struck(code: CodeType, line: int, call: Callable[[], object]) -> bool:
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code is code and event == "line":
            seen += 1
            if seen > line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace if frame.f_code is code or event == "call" else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# --- other threads ---------------------------------------------------------------------------------------------------


class Fleeting(dict[bytes, bytes]):
    """Variables of which one is taken away while they are gone through."""

    def __iter__(self) -> Any:
        for name in list(super().__iter__()):
            self.pop(b"FLEETING", None)
            yield name

    def copy(self) -> dict[bytes, bytes]:
        """All at once, as that of a dict."""
        return dict(super().items())


def test_a_variable_that_another_thread_takes_away_does_no_harm(monkeypatch):
    """As ``mock.patch.dict(os.environ)`` does, in the very moment in which they are read."""
    variables = Fleeting({b"STAYS": b"1", b"FLEETING": b"2"})
    monkeypatch.setattr(os.environ, "_data", variables)
    with pytest.raises(KeyError):
        list(os.environ.items())
    variables[b"FLEETING"] = b"2"
    assert environment.all_variables() == {"STAYS": "1", "FLEETING": "2"}


def test_a_death_is_declared_whatever_keeps_us_from_looking_for_its_children(fresh, monkeypatch, caplog):
    """Else the pool would wait for it for ever, also at its end."""
    pool = fresh(1)
    pid = pool.submit(os.getpid).result(DEADLINE)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(family.subprocess, "Popen", fail)
        os.kill(pid, signal.SIGKILL)
        until(lambda: "left running" in caplog.text, what="it could not be looked for")
        until(lambda: all(info.pid != pid for info in pool.infos()), what="the death is declared")
    assert pool.submit(work.double, 2).result(DEADLINE) == 4
    assert not pool.closed


# --- finalisers ------------------------------------------------------------------------------------------------------


def test_a_finaliser_may_start_a_job_while_the_environment_is_read(monkeypatch):
    """It runs in the very thread that reads, and gets a snapshot; none has the number of another one."""
    reader = environment._Reader()
    taken: list[environment.Snapshot] = []
    real = environment._variables

    def variables() -> dict[str, str]:
        if not taken:
            taken.append(environment.Snapshot(0, {}, b""))
            monkeypatch.setenv("OF_THE_FINALISER", "1")
            taken[0] = reader.take()
        return real()

    monkeypatch.setattr(environment, "_variables", variables)
    done: list[environment.Snapshot] = []
    thread = threading.Thread(target=lambda: done.append(reader.take()), daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert done, "it waits for itself"
    assert "OF_THE_FINALISER" in taken[0].state["environ"]
    assert "OF_THE_FINALISER" in done[0].state["environ"]
    assert (done[0] is taken[0]) == (done[0].version == taken[0].version)


def test_a_finaliser_may_map_over_an_iterator_while_another_one_is_claimed(fresh):
    """Whatever line the garbage collector comes at."""
    pool = fresh(1)
    made: list[Any] = []
    gc.collect()
    # The job that failed last, somewhere else, is held with its input.
    before = set(sources._claims)

    class Owner:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            made.append(pool.map(abs, iter([-1]), progress=False))

    def run() -> None:
        for x in range(100):
            Owner()
            assert pool.map(abs, iter([-x]), progress=False).result(DEADLINE) == [x]

    thresholds = gc.get_threshold()
    gc.set_threshold(20, 10, 10)
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(DEADLINE)
        assert not thread.is_alive(), "it waits for itself"
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert [job.result(DEADLINE) for job in made] == [[1]] * 100
    made.clear()
    gc.collect()
    until(lambda: set(sources._claims) <= before, what="nothing is claimed any more")


# --- interrupts ------------------------------------------------------------------------------------------------------


def test_stop_at_any_line_of_a_cancel_leaves_a_job_that_can_be_cancelled(fresh, board: Board):
    """The first press strikes in the middle; the second one ends the job."""
    pool = fresh(1)

    def cancel_struck() -> None:
        job = pool.map(board.wait, ["never"], progress=False)
        try:
            job._reading.end(stopped=True)
        finally:
            sys.settrace(None)
            assert job.cancel() or job.done()
            with pytest.raises(JobCancelled):
                job.result(DEADLINE)

    assert struck(Reading.end, cancel_struck) >= 4


def test_stop_at_any_line_leaves_each_value_in_its_own_place():
    """Of an input without a length the first places are forgotten, many at a time."""
    shelves: list[Shelf] = []
    count = TRIM_AT + 500

    def take_the_last_that_keeps_the_others() -> None:
        shelf = Shelf(None)
        shelves.append(shelf)
        shelf.put(range(count), list(range(count)), 0)
        shelf._low = TRIM_AT - 1
        shelf._values[: shelf._low] = [GONE] * shelf._low
        shelf.take(shelf._low)

    assert struck(Shelf._let_go, take_the_last_that_keeps_the_others) >= 8
    assert shelves[-1].low == TRIM_AT
    for shelf in shelves:
        assert [shelf.look(index) for index in range(TRIM_AT, count)] == list(range(TRIM_AT, count))


# --- the end of a pool, and tasks of the user's ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["resize", "restart", "restart_worker"])
def test_what_is_asked_of_a_pool_that_has_just_ended_ends(fresh, monkeypatch, what: str):
    """Another thread closes it between the look whether it is open and the question."""
    pool = fresh(1)
    driver = pool._driver
    (info,) = (pool.submit(work.double, 1).result(DEADLINE), pool.infos())[1]
    real = getattr(driver, what)

    def late(*args: Any, **options: Any) -> None:
        driver.terminate()
        driver.join(DEADLINE)
        real(*args, **options)

    monkeypatch.setattr(driver, what, late)
    handle = {
        "resize": lambda: pool.resize(3),
        "restart": pool.restart,
        "restart_worker": lambda: pool.restart_of(info, now=False),
    }[what]()
    with pytest.raises(JobCancelled):
        handle.result(DEADLINE)


def test_a_callback_of_the_users_finds_no_loop_of_the_pools(fresh, board: Board):
    """A task that it makes there, and that fails, would be a failure of the pool's."""
    pool = fresh(2)
    found: list[object] = []

    def callback(_: object) -> None:
        try:
            found.append(asyncio.get_running_loop())
        except RuntimeError as error:
            found.append(error)

    other = pool.map(board.wait, ["go"], progress=False)
    job = pool.map(abs, [-1], progress=False)
    job.add_done_callback(callback)
    job.result(DEADLINE)
    until(lambda: found, what="it was called")
    assert isinstance(found[0], RuntimeError)
    board.mark("go")
    other.result(DEADLINE)


def test_a_task_of_the_users_that_fails_on_the_pools_loop_costs_nobody_anything(fresh, board: Board, caplog):
    """It can be had there, by whoever looks for it; what it raises is logged by asyncio, as everywhere."""
    pool = fresh(1)
    other = pool.map(board.wait, ["go"], progress=False)

    async def fails() -> None:
        raise ValueError("of the user's")

    loop = pool._driver._io.loop
    loop.call_soon_threadsafe(lambda: loop.create_task(fails()) and None)
    until(lambda: (gc.collect(), "of the user's" in caplog.text)[1], what="it is logged")
    assert not pool.closed
    board.mark("go")
    other.result(DEADLINE)


def test_a_pool_that_fails_is_closed_for_those_who_are_told_first(fresh, board: Board, caplog):
    """So who begins anew at once does not begin with it."""
    pool = fresh(1)
    job = pool.map(board.wait, ["never"], progress=False)
    seen: list[bool] = []
    job.add_done_callback(lambda _: seen.append(pool.closed))

    def fail() -> None:
        raise ValueError("a bug")

    pool._driver._io.loop.call_soon_threadsafe(fail)
    until(lambda: seen, what="somebody was told")
    assert seen == [True]
    assert "internal error" in caplog.text


# --- limits ----------------------------------------------------------------------------------------------------------


def test_results_that_cannot_be_mapped_for_want_of_descriptors_cost_their_worker_only(fresh, monkeypatch, board: Board):
    """The pool goes on, and another worker begins with what that one had."""
    numpy = pytest.importorskip("numpy")
    pool = fresh(2)
    pool.broadcast(os.getpid).result(DEADLINE)
    failed: list[int] = []
    real = os.dup

    def dup(fd: int) -> int:
        if not failed:
            failed.append(fd)
            raise OSError(24, "Too many open files")
        return real(fd)

    other = pool.map(board.wait, ["go"], progress=False)
    until(lambda: any(info.state == "busy" for info in pool.infos()), what="it is at work")
    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(WorkerLost, match="Too many open files"):
        pool.submit(numpy.zeros, 1 << 20).result(DEADLINE)
    assert pool.submit(numpy.zeros, 1 << 20).result(DEADLINE).nbytes == 8 << 20
    board.mark("go")
    other.result(DEADLINE)


class Heavy:
    """Takes long to be loaded."""

    def __reduce__(self) -> Any:
        """By a function that takes its time."""
        return _after_a_while, ()


def _after_a_while() -> Heavy:
    time.sleep(0.05)
    return Heavy()


def test_a_timeout_holds_while_values_are_loaded(fresh):
    """What is loaded by then stays so, and the next one goes on from there."""
    pool = fresh(1)
    job = pool.map(lambda _: Heavy(), range(100), progress=False)
    until(job.done, what="all of it has come")
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        job.result(0.2)
    assert time.monotonic() - begun < 4, "it has loaded them all"
    assert len(job.result(DEADLINE)) == 100
