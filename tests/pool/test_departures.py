"""Calls that whoever makes them sends to a worker, while the pool's thread is at something else, or asleep."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aiopool import JobCancelled, Pool, WorkerLost
from aiopool.engines.local import LocalLink
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.scripts import alive


def offered(pool: Pool) -> None:
    """One worker is offered to the next call, and the pool's thread rests."""
    driver = pool._driver

    def is_offered() -> bool:
        # Not after one that took long, as the first does.
        assert pool.submit(work.double, 1).result(DEADLINE) == 2
        return driver._express._offer is not None and driver._io.is_quiet

    until(is_offered, what="a worker is offered")


@contextmanager
def held(pool: Pool) -> Iterator[None]:
    """The pool's thread does nothing meanwhile, and has been called for nothing; one worker is offered to a call."""
    driver, gate = pool._driver, threading.Event()

    def hold(reached: threading.Event, gate: threading.Event) -> None:
        reached.set()
        gate.wait(DEADLINE)

    def is_held() -> bool:
        # It looks after its workers now and then, and withdraws the offer for that.
        nonlocal gate
        gate.set()
        offered(pool)
        reached, gate = threading.Event(), threading.Event()
        driver._io.loop.call_soon_threadsafe(hold, reached, gate)
        assert reached.wait(DEADLINE)
        return driver._express._offer is not None and driver._io.is_quiet

    until(is_held, what="it is held while a worker is offered")
    try:
        yield
    finally:
        gate.set()


def test_a_call_runs_although_the_pools_thread_stands_still(fresh, board: Board):
    """It was sent in the thread that made it. The next one waits for its turn, and the pool's thread meets both."""
    pool = fresh(1)
    with held(pool):
        first = pool.submit(board.mark, "in", 1)
        second = pool.submit(board.mark, "in", 2)
        assert board.wait("in") == ["1"]
    first.result(DEADLINE)
    second.result(DEADLINE)
    assert board.marks("in") == ["1", "2"]


def test_what_was_asked_for_before_comes_before_a_call(fresh):
    """A restart, and a worker that took the call in between would be an old one."""
    pool = fresh(1)
    old = pool.submit(work.pid).result(DEADLINE)
    with held(pool):
        restarted = pool.restart()
        call = pool.submit(work.pid)
    assert call.result(DEADLINE) != old
    restarted.result(DEADLINE)


def test_what_is_asked_for_afterwards_finds_the_call(fresh, board: Board):
    """A snapshot has it, and a cancel ends it."""
    pool = fresh(1)
    with held(pool):
        call = pool.submit(board.wait, "never")
    assert [job.id for job in pool.snapshot().jobs] == [call.id]
    assert call.cancel()
    with pytest.raises(JobCancelled):
        call.result(DEADLINE)
    assert pool.submit(work.double, 4).result(DEADLINE) == 8


@pytest.mark.parametrize("when", ["before", "after"])
def test_stop_while_a_call_is_being_sent_leaves_none_behind(fresh, monkeypatch, when):
    """Whether the worker has got it or not: it is cancelled, and the next one runs."""
    pool = fresh(1)
    real = LocalLink.send_at_once
    struck: list[bool] = []

    def sending(self: LocalLink, data: bytes) -> bool:
        if not struck:
            struck.append(when == "before" or real(self, data))
            raise KeyboardInterrupt
        return real(self, data)

    with held(pool):
        monkeypatch.setattr(LocalLink, "send_at_once", sending)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(work.double, 2)
    until(lambda: not pool.snapshot().jobs, what="nothing is open")
    assert struck == [True]
    assert [pool.submit(work.double, x).result(DEADLINE) for x in range(5)] == [0, 2, 4, 6, 8]


def test_a_call_for_a_worker_that_has_just_died_ends(fresh):
    """With a value from another one, or as lost with this one; and the pool goes on."""
    pool = fresh(1)
    with held(pool):
        (pid,) = [worker.pid for worker in pool._driver._workers.values()]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), what="it is dead")
        call = pool.submit(work.double, 3)
    try:
        assert call.result(DEADLINE) == 6
    except WorkerLost as error:
        assert error.pid == pid  # noqa: PT017 - either may be
    assert pool.submit(work.double, 4).result(DEADLINE) == 8


def test_the_last_words_of_a_call_are_its_own(fresh):
    """Also those that it says before the pool's thread has met it; and not those of the call before it."""
    pool = fresh(1)

    def say(text: str, code: int | None = None) -> None:
        os.write(2, f"{text}\n".encode())
        if code is not None:
            os._exit(code)

    pool.submit(say, "earlier").result(DEADLINE)
    with held(pool):
        (pid,) = [worker.pid for worker in pool._driver._workers.values()]
        call = pool.submit(say, "the last words", 3)
        until(lambda: not alive(pid), what="it is dead")
    with pytest.raises(WorkerLost) as caught:
        call.result(DEADLINE)
    assert "the last words" in str(caught.value)
    assert "earlier" not in str(caught.value)


async def later(text: str) -> int:
    """Of the other kind."""
    await asyncio.sleep(0)
    return len(text)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("fn", [len, later])
def test_a_call_that_does_not_fit_the_offer_goes_the_usual_way(fresh, size, fn: Callable[..., int]):
    """One that is big, or a coroutine after a function."""
    pool = fresh(1)
    for _ in range(3):
        offered(pool)
        assert pool.submit(fn, "x" * size).result(DEADLINE) == size


def test_calls_of_many_threads_get_their_own_values(fresh):
    """While others look at the pool, and it is resized now and then."""
    pool = fresh(2)
    offered(pool)
    wrong: list[object] = []

    def call(first: int) -> None:
        try:
            values = [pool.submit(work.double, x).result(DEADLINE) for x in range(first, first + 60)]
            assert values == [2 * x for x in range(first, first + 60)]
        except BaseException as error:  # noqa: BLE001 - told below
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(1_000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for at in range(20):
        pool.snapshot()
        if at % 5 == 0:
            pool.resize(1 + at % 2)
    for thread in threads:
        thread.join(2 * DEADLINE)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)


def test_a_child_that_was_forked_sends_nothing_to_the_parents_workers(fresh):
    """Its own pool's thread is not there; what it was offered is its parent's."""
    pool = fresh(1)
    offered(pool)
    pool._driver._io.disown()
    try:
        assert not pool._driver._io.is_quiet
    finally:
        pool._driver._io._foreign = False
