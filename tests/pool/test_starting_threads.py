"""The thread of a pool, whose start is struck by Stop or by the end of the item that needs it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from aiopool._runtime import process
from aiopool._runtime import thread as thread_of
from aiopool._runtime.thread import IOThread
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until


class Common(IOThread):
    """One that many use, as those of maps inside a worker: nobody may stop it."""

    def stop(self) -> None:
        """Others go on."""


@pytest.mark.parametrize("kind", [IOThread, Common])
def test_a_thread_that_comes_late_after_its_start_was_struck_ends_without_a_word(monkeypatch, kind):
    """Whoever waited for it to begin is struck before it does: the loop is closed by then, and it leaves that alone."""
    late: list[Callable[[], None]] = []
    loops = []

    class Late(threading.Thread):
        def start(self) -> None:
            late.append(self.run)
            raise KeyboardInterrupt

    new_loop = thread_of.asyncio.new_event_loop
    monkeypatch.setattr(thread_of.asyncio, "new_event_loop", lambda: loops.append(new_loop()) or loops[-1])
    monkeypatch.setattr(thread_of.threading, "Thread", Late)
    with pytest.raises(KeyboardInterrupt):
        kind("late")
    monkeypatch.undo()
    (loop,), (run,) = loops, late
    assert loop.is_closed()
    # In a thread, as it would: an error there is a warning, which is an error here.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", [IOThread, Common])
def test_a_thread_whose_start_was_struck_after_it_began_ends(monkeypatch, kind):
    """Nobody was given it, so nobody could end it; also one that ends for nobody else."""
    begun: list[threading.Thread] = []
    loops = []

    class Struck(threading.Thread):
        def start(self) -> None:
            begun.append(self)
            super().start()
            turned = threading.Event()
            loops[-1].call_soon_threadsafe(turned.set)
            assert turned.wait(DEADLINE)
            raise KeyboardInterrupt

    new_loop = thread_of.asyncio.new_event_loop
    monkeypatch.setattr(thread_of.asyncio, "new_event_loop", lambda: loops.append(new_loop()) or loops[-1])
    monkeypatch.setattr(thread_of.threading, "Thread", Struck)
    with pytest.raises(KeyboardInterrupt):
        kind("struck")
    monkeypatch.undo()
    (thread,) = begun
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert loops[0].is_closed()


class Odd:
    """Whose label is made by code of the user's."""

    def __repr__(self) -> str:
        """As any other."""
        return "odd"


def test_a_pool_that_gets_no_thread_besides_its_own_and_its_inputs_works(fresh, board: Board, monkeypatch):
    """There are too many, or the interpreter ends: deaths are noticed, items run again, labels are left out."""
    started: list[str] = []
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if thread.name.startswith(("aiopool-wait", "aiopool-recoder", "aiopool-labels")):
            started.append(thread.name.rstrip("-0123456789"))
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    monkeypatch.setattr(process, "_open_sentinel", lambda pid: -1)  # As where the system tells of no death.
    pool = fresh(2)

    def once(x: int, _: Odd) -> int:
        if x == 3 and not board.marks("died"):
            board.mark("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return x * 2

    assert pool.map(once, range(20), [Odd()] * 20, retries=1).result(DEADLINE) == [x * 2 for x in range(20)]
    assert len(board.marks("died")) == 1
    waiting = pool.map(lambda _: board.wait("never"), [Odd()])
    until(lambda: pool.snapshot() and "aiopool-labels" in started, what="a label was wanted")
    assert waiting.cancel()
    until(lambda: not pool.snapshot().jobs, what="it is over")
    assert pool.submit(work.double, 2).result(DEADLINE) == 4
    assert {"aiopool-wait", "aiopool-recoder"} <= set(started)
