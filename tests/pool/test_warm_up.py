"""The shared pool is warmed up: workers come up before anybody has asked for anything."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from aiopool import session
from tests.pool.board import DEADLINE, until
from tests.pool.scripts import run, script


def test_workers_of_the_shared_pool_come_up_without_a_word(tmp_path):
    """They take the first items, and nobody else is started for those."""
    file = script(
        tmp_path,
        """
        import os, time
        import aiopool
        from aiopool import session
        aiopool.configure(workers=3)
        session.warm_up()
        pool = aiopool.get_pool()
        until = time.monotonic() + 20
        while [info.state for info in pool.snapshot().workers] != ["idle"] * 3 and time.monotonic() < until:
            time.sleep(0.005)
        snapshot = pool.snapshot()
        assert [info.state for info in snapshot.workers] == ["idle"] * 3, snapshot
        assert snapshot.jobs == () and aiopool.jobs() == [] and aiopool.last_job() is None
        warm = {info.pid for info in snapshot.workers}
        session.warm_up()
        assert set(aiopool.pmap(lambda _: os.getpid(), range(20)).result(20)) <= warm
        assert {info.pid for info in pool.snapshot().workers} == warm
        """,
    )
    assert run(file, cwd=tmp_path) == ""


def test_nobody_waits_for_it(monkeypatch):
    """It returns before there is a pool, and before anything was imported for one."""
    go, opened = threading.Event(), threading.Event()

    def get_pool() -> SimpleNamespace:
        go.wait(DEADLINE)
        return SimpleNamespace(warm_up=lambda count: counts.append(count) or opened.set())

    counts: list[int] = []
    monkeypatch.setattr(session, "get_pool", get_pool)
    took = []
    for _ in range(20):
        began = time.thread_time()
        session.warm_up()
        took.append(time.thread_time() - began)
    assert sorted(took)[10] < 0.005
    assert not opened.is_set()
    go.set()
    until(lambda: counts == [session.WARM_WORKERS] * 20, what="each of them has opened it")


def test_no_more_than_four_workers_are_warmed_up_and_idle_ones_end(tmp_path):
    """A machine has many cores, and each worker takes memory. They obey the idle timeout, as any other."""
    file = script(
        tmp_path,
        """
        import time
        import aiopool
        from aiopool import session
        session.IDLE_SECONDS = 0.5
        aiopool.configure(workers=7)
        session.warm_up()
        pool = aiopool.get_pool()
        until = time.monotonic() + 20
        seen = []
        while not (seen and not seen[-1]) and time.monotonic() < until:
            seen += [len(pool.snapshot().workers)]
            if not seen[-1] and max(seen) == 0:
                seen.clear()
            time.sleep(0.005)
        assert (max(seen), seen[-1]) == (4, 0), seen
        """,
    )
    assert run(file, cwd=tmp_path) == ""


def test_what_keeps_workers_from_starting_is_said_by_the_first_job(tmp_path):
    """Not before; and when it is mended, jobs run."""
    file = script(
        tmp_path,
        """
        import sys, time
        from multiprocessing import spawn
        import aiopool
        from aiopool import session
        aiopool.configure(workers=2)
        pool = aiopool.get_pool()
        spawn.set_executable("/no/such/python")
        session.warm_up()
        until = time.monotonic() + 20
        while not pool._driver._endings.start_error and time.monotonic() < until:
            time.sleep(0.005)
        assert pool._driver._endings.start_error
        try:
            aiopool.pmap(abs, [1]).result(20)
        except aiopool.WorkerStartFailed as error:
            assert "/no/such/python" in str(error)
        else:
            raise AssertionError("it ran")
        spawn.set_executable(sys.executable)
        assert aiopool.pmap(abs, [-1]).result(20) == [1]
        """,
    )
    assert run(file, cwd=tmp_path) == ""


def test_a_worker_warms_nothing_up(pool):
    """It has no pool of its own."""

    def inside(_: int) -> list[object]:
        asked: list[object] = []
        session.get_pool = lambda: asked.append(1)
        session._thread = SimpleNamespace(start_new_thread=lambda function, args: function(*args))
        session.warm_up()
        return asked

    assert pool.map(inside, [1]).result(20) == [[]]


@pytest.mark.parametrize("where", ["the thread", "the pool"])
def test_it_never_raises(monkeypatch, where):
    """Whoever needs the pool is told."""
    called = threading.Event()

    def fail(*_: object) -> None:
        called.set()
        raise RuntimeError("can't start new thread")

    if where == "the thread":
        monkeypatch.setattr(session._thread, "start_new_thread", fail)
    else:
        monkeypatch.setattr(session, "get_pool", fail)
    session.warm_up()
    assert called.wait(DEADLINE)
