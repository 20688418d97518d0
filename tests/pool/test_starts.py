"""Workers are started one after another, and the pool's thread has time for others in between."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from aiopool._core import facts as f
from aiopool._core import wire
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.starts import Customs, Starts
from aiopool.engines.local import LocalEngine
from aiopool.options import PoolOptions
from aiopool.pool import Worker
from aiopool.telemetry import WorkerInfo
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import rested


class Place:
    """A loop's turns, an engine that takes its time, and what became of each worker."""

    def __init__(self, *, takes: float = 0.0, broken: frozenset[int] = frozenset()) -> None:
        self.takes = takes
        self.broken = broken
        self.seen: list[str | int] = []
        self.dead: list[int] = []
        self.sent: dict[int, bytes] = {}
        self.endings = SimpleNamespace(start_error=None, start_failed="")
        loop = asyncio.get_running_loop()
        vitals = SimpleNamespace(expect=lambda: None)
        self.starts = Starts(loop, self, PoolOptions(workers=64, start_timeout=7.0), Customs(), self.endings, vitals)  # type: ignore[arg-type]

    def start(self, index: int, proxy: WorkerProxy, _: object) -> Any:
        """Start a worker."""
        self.seen.append(index)
        time.sleep(self.takes)
        asyncio.get_running_loop().call_soon(self.seen.append, "others")
        if index in self.broken:
            raise OSError("no process")
        sent = self.sent
        return SimpleNamespace(send=lambda parts: sent.__setitem__(index, b"".join(parts)), kill=lambda: None)

    def proxy(self, index: int) -> WorkerProxy:
        """A worker that is to be started."""
        proxy = WorkerProxy(index + 1, index, print, lambda worker: self.dead.append(worker.index), print)
        self.starts.line_up(proxy, 64)
        return proxy

    async def settled(self) -> None:
        """Everybody has had their turn."""
        for _ in range(200):
            await asyncio.sleep(0)

    def setup(self, index: int) -> dict[str, Any]:
        """What a worker was told first."""
        (frame,) = wire.Parser().feed(memoryview(self.sent[index]))
        return dict(json.loads(bytes(frame.config)))


async def test_between_two_starts_others_have_their_turn():
    """Sixty-four workers are sixty-four turns: nobody waits for more than one of them."""
    place = Place()
    for index in range(64):
        place.proxy(index)
    assert place.seen == [], "not even the first within the turn in which it is ordered"
    await place.settled()
    # What came up with the first one has its turn with the second one, and so on.
    assert place.seen == [0, *(each for index in range(1, 64) for each in (index, "others")), "others"]


@pytest.mark.parametrize("end", ["kill", "hang_up"])
async def test_a_worker_that_is_given_up_before_its_turn_is_never_made(end):
    """It has died when its turn comes, once; the others come up."""
    place = Place()
    proxies = [place.proxy(index) for index in range(4)]
    for index in (0, 2):
        getattr(proxies[index], end)()
        assert not place.dead, "the ledger is told of a death at a moment of its own"
    await place.settled()
    assert [each for each in place.seen if each != "others"] == [1, 3]
    assert place.dead == [0, 2]
    assert place.sent.keys() == {1, 3}


async def test_a_worker_whose_process_cannot_be_made_has_died_and_the_next_one_is_started():
    """Why is kept for whoever waits."""
    place = Place(broken=frozenset({0}))
    for index in range(3):
        place.proxy(index)
    await place.settled()
    assert place.dead == [0]
    assert str(place.endings.start_error) == "no process"
    assert place.sent.keys() == {1, 2}


async def test_the_time_to_start_runs_from_when_it_was_ordered():
    """As that of the ledger does: what a worker that hangs writes must be there when it is killed."""
    place = Place(takes=0.02)
    before = time.monotonic()
    for index in range(10):
        place.proxy(index)
    ordered = time.monotonic()
    await place.settled()
    assert time.monotonic() > before + 0.2
    for index in range(10):
        assert before <= place.setup(index)["start_by"] - 7.0 <= ordered


async def test_workers_that_are_lined_up_while_one_is_started_have_their_turn():
    """Nobody is forgotten, and nobody comes twice."""
    place = Place()
    start, late = place.start, iter(range(10, 13))

    def start_and_order(index: int, proxy: WorkerProxy, variables: object) -> Any:
        if index < 3:
            place.proxy(next(late))
        return start(index, proxy, variables)

    place.start = start_and_order  # type: ignore[method-assign]
    for index in range(3):
        place.proxy(index)
        await asyncio.sleep(0)
    await place.settled()
    assert sorted(each for each in place.seen if each != "others") == [0, 1, 2, 10, 11, 12]


# --- in a pool -------------------------------------------------------------------------------------------------------


def test_a_pool_that_ends_while_its_workers_are_being_started_makes_no_more_of_them(fresh, monkeypatch):
    """Sixteen were ordered; when the first is there the pool is terminated, and ends at once."""
    made: list[int] = []
    start = LocalEngine.start
    pool = fresh(16)

    def started(engine: LocalEngine, index: int, *args: Any) -> Any:
        made.append(index)
        if len(made) == 1:
            pool._driver._io.loop.call_soon(pool._driver._tell, f.TerminateAsked())
        return start(engine, index, *args)

    monkeypatch.setattr(LocalEngine, "start", started)
    job = pool.map(work.nap, [0.0] * 64, batch=1)
    until(lambda: pool._driver.closed.ending is not None, what="the pool has ended")
    assert job.done()
    assert len(made) <= 2


def test_a_pool_with_workers_that_wait_for_their_start_can_be_resized(fresh, monkeypatch, board: Board):
    """Those that are not needed any more are not made, and the pool works."""
    made: list[int] = []
    start = LocalEngine.start
    pool = fresh(8)

    def started(engine: LocalEngine, index: int, *args: Any) -> Any:
        made.append(index)
        if len(made) == 1:
            pool._driver._io.loop.call_soon(pool._driver._tell, f.Resized(2, 10**6))
        return start(engine, index, *args)

    monkeypatch.setattr(LocalEngine, "start", started)
    pool._driver._reached[10**6] = SimpleNamespace(end=lambda _: board.mark("resized"))  # type: ignore[assignment]
    job = pool.map(work.nap, [0.01] * 32, batch=1)
    assert len(job.result(DEADLINE)) == 32
    board.wait("resized")
    assert sorted(set(made)) == [0, 1]
    assert [info.index for info in pool.snapshot().workers] == [0, 1]
    assert pool.snapshot().lost == 0, "they were told not to come"


def test_a_worker_that_was_about_to_start_is_the_one_that_came(fresh):
    """It had no process yet when it was asked for; its line says nothing of one."""
    pool = fresh(1)
    about_to = WorkerInfo(0, None, "starting", 0, 0)
    assert str(about_to) == "worker 0 starting, 0 in flight, 0 done"
    worker = Worker(pool, about_to)
    assert (worker.pid, worker.state) == (None, "lost"), "nobody came"
    worker = Worker(pool, about_to)
    rested(pool)
    pid = pool.workers[0].pid
    assert (worker.state, worker.pid) == ("idle", pid)
    # Who has not started is new already, and no other worker is meant.
    assert Worker(pool, about_to).restart(now=True).result(DEADLINE) is None
    assert pool.workers[0].pid == pid
    pool.restart().result(DEADLINE)
    rested(pool)
    assert (worker.state, worker.pid) == ("lost", pid)


def test_a_worker_that_waits_for_its_start_is_restarted_at_once(fresh, monkeypatch):
    """Nobody else is taken for it: it has no process id, and neither have the others that wait."""
    pool = fresh(3)
    handles, seen = [], []
    start = LocalEngine.start

    def started(engine: LocalEngine, index: int, *args: Any) -> Any:
        if not handles:
            seen.extend(info.pid for info in pool.snapshot().workers)
            handles.append(pool.workers[2].restart())
        return start(engine, index, *args)

    monkeypatch.setattr(LocalEngine, "start", started)
    job = pool.map(work.nap, [0.01] * 9, batch=1)
    assert len(job.result(DEADLINE)) == 9
    assert seen == [None] * 3
    assert handles[0].result(DEADLINE) is None
    assert pool.snapshot().lost == 0
