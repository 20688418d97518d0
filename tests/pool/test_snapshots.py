"""What a picture of a pool says of workers and jobs, and that it costs little to take one."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from aiopool import Pool, PoolClosed
from aiopool._runtime import pictures, results
from aiopool._runtime.labelling import MOST_ASKED, MOST_KEPT, Labeller, Labels
from aiopool._runtime.pictures import LOST_SECONDS
from aiopool.labels import is_plain
from aiopool.telemetry import WorkerInfo
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import rested, still_works


def rows(pool: Pool) -> list[tuple[int, str]]:
    """Place and state of every worker in a picture."""
    return [(info.index, info.state) for info in pool.snapshot().workers]


def link_of(pool: Pool, place: int = 0):
    """The pool's end of one worker."""
    return next(proxy.link for proxy in pool._driver._workers.values() if proxy.index == place)


# --- items -----------------------------------------------------------------------------------------------------------


def test_a_worker_of_functions_tells_the_item_at_work_its_job_and_its_label(fresh, board: Board):
    """By name and by number; nothing of it is left when it has ended."""
    pool = fresh(1)

    def item(name: str) -> None:
        if name == "wait":
            board.mark("at work")
            board.wait("go")

    job = pool.map(item, ["a", "b", "wait", "d"])
    board.wait("at work")
    (info,) = pool.snapshot().workers
    assert (info.job, info.item, info.label) == (job.id, 2, "'wait'")
    board.mark("go")
    job.result(DEADLINE)
    until(lambda: rows(pool) == [(0, "idle")], what="it is idle")
    (info,) = pool.snapshot().workers
    assert (info.job, info.item, info.label, info.seconds) == (None, None, "", None)


def test_a_worker_of_coroutines_tells_the_one_that_has_run_longest(fresh, board: Board):
    """When that has ended, the next one, with an age of its own. A call is shown by its arguments."""
    pool = fresh(1)

    async def item(x: int) -> None:
        board.mark("begun")
        await board.wait_async(f"go {x}")

    job = pool.map(item, range(10, 15), concurrency=5)
    board.wait("begun", 5)
    until(lambda: (pool.snapshot().workers[0].seconds or 0) > 0.5, what="it has aged")
    info = pool.snapshot().workers[0]
    assert (info.job, info.item, info.label) == (job.id, 0, "10")
    told = time.monotonic()
    board.mark("go 10")
    board.mark("go 11")
    seen = [info]
    until(lambda: seen.append(pool.snapshot().workers[0]) or seen[-1].item == 2, what="the next but one is the oldest")
    assert seen[-1].seconds < time.monotonic() - told, "as the oldest it was seen after that"
    for x in (12, 13, 14):
        board.mark(f"go {x}")
    job.result(DEADLINE)
    call = pool.submit(item, 99)
    board.wait("begun", 6)
    until(lambda: pool.snapshot().workers[0].label == "99", what="the call's argument is shown")
    board.mark("go 99")
    call.result(DEADLINE)


def test_an_item_that_is_left_in_the_end_is_found_wherever_it_runs(fresh, board: Board):
    """Also where the lanes before its own have ended. It is done ten times a second, for sixty-four workers."""
    pool = fresh(1)

    async def item(x: int) -> None:
        board.mark("begun")
        await board.wait_async("first" if x < 150 else "second", seconds=DEADLINE)

    job = pool.map(item, range(300), concurrency=300)
    board.wait("begun", 300)
    link = link_of(pool)
    assert len(link.running()) == 300
    began = time.thread_time()
    for _ in range(100):
        link.running()
    assert (time.thread_time() - began) / 100 < 2e-3
    # On a machine that is slow the loop may be called blocked: then it is the item that holds it.
    until(lambda: pool.snapshot().workers[0].item == 0, what="the oldest is the first one")
    board.mark("first")
    until(lambda: pool.snapshot().workers[0].item == 150, what="the oldest is one of those that are left")
    board.mark("second")
    job.result(DEADLINE)
    until(lambda: link.running() == [], what="the page is clear")


def test_what_is_shown_of_an_item_is_not_asked_again_once_it_is_gone(fresh, board: Board):
    """A label of the user's is made of an item that is still there at the second look, and of no other."""
    pool = fresh(1)

    def label(x: int) -> str:
        board.mark("labels", x)
        return f"number {x}"

    def item(x: int) -> None:
        if x == 5:
            board.mark("at work")
            board.wait("go")

    job = pool.map(item, range(10), label=label, progress=False)  # Nobody else looks.
    board.wait("at work")
    assert pool.snapshot().workers[0].label == ""
    stays(lambda: not board.marks("labels"), 0.2, "one look asks for nothing")
    assert pool.snapshot().workers[0].item == 5
    until(lambda: pool.snapshot().workers[0].label == "number 5", what="it is made")
    board.mark("go")
    job.result(DEADLINE)
    assert board.marks("labels") == ["5"]


def test_no_more_labels_are_kept_than_anybody_can_look_at():
    """Nor asked for: a label that hangs holds those behind it."""
    labels = Labels(lambda index: index, str, is_own=True)
    for index in range(3 * MOST_KEPT):
        labels.make(index)
    assert len(labels._made) == MOST_KEPT
    assert labels.look(3 * MOST_KEPT - 1) == str(3 * MOST_KEPT - 1)
    assert labels.look(0) is None
    labeller = Labeller()
    labeller._put = lambda _: True
    for index in range(3 * MOST_ASKED):
        labeller.ask(labels, index)
    assert len(labeller._asked) == MOST_ASKED


def test_an_item_that_is_not_kept_any_more_has_an_empty_label():
    """It has ended meanwhile, and its input was let go of."""
    labels = Labels({}.__getitem__, str)
    assert labels.look(3) == ""
    labels.make(3)
    assert labels.look(3) == ""


class Named(str):
    """A text that must not be asked for its repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("the user's code")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("text", True),
        (b"x" * 10**6, True),
        (3, True),
        ([3**10**4], False),
        (None, True),
        (("a", 1), True),
        ({"url": "http://x", "page": [1, 2]}, True),
        (list(range(1000)), False),
        ({"a": {"b": {"c": {"d": 1}}}}, False),
        (Named("x"), False),
        ([Named("x")], False),
        ({Named("x"): 1}, False),
        (object(), False),
        (type("Path", (), {})(), False),
    ],
)
def test_what_is_shown_at_once_has_no_code_of_the_users(value, plain):
    """By its exact type, and as deep as that can be seen in no time."""
    assert is_plain(value) is plain


# --- readers ---------------------------------------------------------------------------------------------------------


def test_a_job_says_that_it_waits_for_a_reader(fresh, monkeypatch):
    """As long as it does."""
    monkeypatch.setattr(results, "UNREAD_LIMIT", 100_000)
    pool = fresh(2)

    begin = threading.Event()

    def endless():
        assert begin.wait(DEADLINE)
        while True:
            yield 1

    job = pool.map(lambda _: b"x" * 1000, endless())
    assert not job.snapshot().waits_for_reader
    begin.set()
    until(lambda: job.snapshot().waits_for_reader, what="it waits for a reader")
    assert "waits_for_reader=True" in repr(pool.snapshot().jobs[0]) or pool.snapshot().jobs[0].waits_for_reader
    reader = iter(job)
    for _ in range(5000):
        next(reader)
        if not job.snapshot().waits_for_reader:
            break
    else:
        pytest.fail("it still waits")
    until(lambda: job.snapshot().waits_for_reader, what="it waits again")
    job.cancel()
    until(job.done, what="it has ended")
    assert not job.snapshot().waits_for_reader


# --- items between two attempts ---------------------------------------------------------------------------------------


def test_a_job_says_how_many_items_wait_to_run_again(fresh):
    """Nothing is in flight meanwhile, and nobody would know why nothing moves. Also while it is paused."""
    pool = fresh(2)

    def fails(x: int) -> int:
        if x:
            raise ValueError
        return x

    job = pool.map(fails, [0, 1, 2], retries=1, backoff=3600.0)
    until(lambda: job.snapshot().resting == 2, what="two of them rest")
    shown = job.snapshot()
    assert (shown.finished, shown.in_flight) == (1, 0)
    assert "1 of 3, 2 waiting to run again" in str(shown)
    job.pause()
    until(lambda: job.snapshot().state == "paused", what="it is paused")
    assert job.snapshot().resting == 2
    assert job.cancel()
    until(job.done, what="it has ended")
    assert job.snapshot().resting == 0
    again = pool.map(fails, [0, 1, 2], retries=1, backoff=0.0, on_error="return")
    again.result(DEADLINE)
    assert again.snapshot().resting == 0


# --- workers that die ------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_by_itself_has_a_row_until_another_one_is_up(fresh, monkeypatch):
    """One row a place. It is counted, and its row is that of a dead process."""
    monkeypatch.setattr(pictures, "LOST_SECONDS", 2 * DEADLINE)  # However long another one takes to start.
    pool = fresh(2)
    rested(pool)
    before = {info.index: info.pid for info in pool.snapshot().workers}
    os.kill(before[0], signal.SIGKILL)
    until(lambda: rows(pool) == [(0, "lost"), (1, "idle")], what="its death is shown")
    lost = pool.snapshot().workers[0]
    assert (lost.pid, lost.in_flight, lost.item) == (before[0], 0, None)
    assert lost.done == 1
    assert pool.snapshot().lost == 1
    seen = set()

    def replaced() -> bool:
        found = pool.snapshot().workers
        seen.add(tuple((info.index, info.state if info.index == 0 else "") for info in found))
        return found[0].state in ("idle", "busy")

    job = pool.broadcast(work.pid)
    until(replaced, what="another one is up in its place")
    assert {len(each) for each in seen} == {2}, "no row comes or goes meanwhile"
    assert "starting" not in {states[0][1] for states in seen}
    assert job.result(DEADLINE)[1] == before[1]
    assert [info.index for info in pool.snapshot().workers] == [0, 1]
    assert pool.snapshot().workers[0].pid != before[0]
    assert pool.snapshot().lost == 1


def test_the_row_of_a_dead_worker_that_nobody_replaces_goes_after_three_seconds(fresh):
    """There is nothing for another one to do."""
    pool = fresh(1)
    pid = pool.submit(os.getpid).result(DEADLINE)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(lambda: rows(pool) == [(0, "lost")], what="its death is shown")
    assert pool.workers[0].stack().more == 0
    until(lambda: rows(pool) == [], what="its row has gone")
    assert LOST_SECONDS < time.monotonic() - began < LOST_SECONDS + 10
    assert pool.snapshot().lost == 1


def test_a_job_says_how_many_workers_it_has_lost_although_it_is_done(fresh, board: Board):
    """Its own, and not those that the pool has lost before; the line that is left says it, too."""
    pool = fresh(2)

    def dies_once(x: int) -> int:
        if x == 3 and not board.marks("died"):
            board.mark("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    job = pool.map(dies_once, range(20))
    assert job.result(DEADLINE) == list(range(20))
    assert job.snapshot().lost == 1
    assert ", 1 worker lost, " in str(job.snapshot())
    after = pool.map(work.double, range(20))
    assert after.result(DEADLINE) == [2 * x for x in range(20)]
    assert (after.snapshot().lost, pool.snapshot().lost) == (0, 1)


def test_workers_that_were_told_to_end_are_not_lost(fresh, board: Board):
    """By a restart, a resize, a cancel that had to kill, the end of their time, a timeout."""
    pool = fresh(2, idle_timeout=0.3)
    pool.broadcast(work.pid).result(DEADLINE)
    pool.restart().result(DEADLINE)
    pool.broadcast(work.pid).result(DEADLINE)
    pool.restart(now=True).result(DEADLINE)
    pool.broadcast(work.pid).result(DEADLINE)
    pool.resize(1).result(DEADLINE)
    job = pool.map(signal_proof, [str(board.folder)])
    board.wait("at work")
    job.cancel()
    until(lambda: rows(pool) in ([], [(0, "idle")]), what="it was killed")
    still_works(pool)
    until(lambda: rows(pool) == [], what="the last one has left")
    assert pool.snapshot().lost == 0


def signal_proof(folder: str) -> None:
    """Ignore to be cancelled."""
    from pathlib import Path

    board = Board(Path(folder))
    board.mark("at work")
    until_then = time.monotonic() + DEADLINE
    while time.monotonic() < until_then:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001
            continue


# --- one worker is restarted -----------------------------------------------------------------------------------------


async def test_one_worker_is_restarted_beside_its_running_item(fresh, board: Board):
    """The handle ends when it has left; the other one goes on, and what ran was run once."""
    pool = fresh(2)
    rested(pool)
    before = {worker.index: worker for worker in pool.workers}

    def item(x: int) -> int:
        board.mark("begun", f"{x} {os.getpid()}")
        board.wait(f"go {x}")
        return os.getpid()

    job = pool.map(item, range(4), batch=1)
    board.wait("begun", 2)
    on = {int(pid): int(x) for x, pid in (line.split() for line in board.marks("begun"))}
    handle = before[0].restart()
    until(lambda: len(board.marks("begun")) == 3, what="another one has begun the next item")
    assert not handle.done()
    assert pool.workers[0].pid == before[0].pid
    board.mark(f"go {on[before[0].pid]}")
    assert await asyncio.wait_for(asyncio.shield(_awaited(handle)), DEADLINE) is None
    assert before[0].state == "lost"
    for x in range(4):
        board.mark(f"go {x}")
    pids = await asyncio.wait_for(_awaited(job), DEADLINE)
    assert pids[on[before[0].pid]] == before[0].pid
    assert len(board.marks("begun")) == 4
    assert before[1].pid in {worker.pid for worker in pool.workers}
    assert pool.snapshot().lost == 0


async def _awaited(handle):
    return await handle


def test_one_worker_is_killed_and_what_it_ran_runs_again(fresh, board: Board):
    """With now: for one that hangs. Its neighbour is left alone."""
    pool = fresh(2)
    rested(pool)
    first, second = pool.workers

    def item(x: int) -> int:
        board.mark("begun", f"{x} {os.getpid()}")
        if x == 0 and len([line for line in board.marks("begun") if line.startswith("0 ")]) == 1:
            board.wait("never", seconds=DEADLINE)
        board.wait("go")
        return x

    job = pool.map(item, range(2), batch=1)
    board.wait("begun", 2)
    on = {line.split()[0]: int(line.split()[1]) for line in board.marks("begun")}
    hanging, other = (first, second) if first.pid == on["0"] else (second, first)
    assert hanging.restart(now=True).result(DEADLINE) is None
    board.mark("go")
    assert job.result(DEADLINE) == [0, 1]
    assert other.pid in {worker.pid for worker in pool.workers}
    assert hanging.pid not in {worker.pid for worker in pool.workers}
    assert [line.split()[0] for line in board.marks("begun")].count("0") == 2


def test_a_worker_that_is_gone_is_restarted_at_once(fresh):
    """Whoever holds it may be late; the one that has its place now is left alone."""
    pool = fresh(1)
    rested(pool)
    (old,) = pool.workers
    old.restart().result(DEADLINE)
    rested(pool)
    (new,) = pool.workers
    assert new.pid != old.pid
    assert old.restart().result(DEADLINE) is None
    assert old.restart(now=True).result(DEADLINE) is None
    stays(lambda: pool.workers[0].pid == new.pid and pool.workers[0].state == "idle", 0.3)
    pool.close()
    with pytest.raises(PoolClosed):
        new.restart()


# --- cost ------------------------------------------------------------------------------------------------------------


def test_a_picture_of_a_pool_is_taken_in_no_time(fresh, board: Board):
    """Two workers with a hundred coroutines each: some thousandths of a second at most, on a busy machine."""
    pool = fresh(2)

    async def item(_: int) -> None:
        board.mark("begun")
        await board.wait_async("go")

    job = pool.map(item, range(200), concurrency=200)
    board.wait("begun", 200)
    took = []

    def measured() -> None:
        for _ in range(200):
            began = time.thread_time()
            pool._driver._pictures.pool()
            took.append(time.thread_time() - began)

    pool._driver._io.ask(measured)
    assert sorted(took)[100] < 2e-3
    board.mark("go")
    job.result(DEADLINE)


def test_the_handle_of_a_restart_says_what_it_is_of_and_whether_that_is_done(fresh, board: Board):
    """It has no items, so it speaks neither of how many are done nor of how fast."""
    pool = fresh(1)

    def item() -> None:
        board.mark("begun")
        board.wait("go")

    call = pool.submit(item)
    board.wait("begun")
    handle = pool.restart()
    assert repr(handle) == "<Handle restart: not yet done>"
    board.mark("go")
    call.result(DEADLINE)
    handle.result(DEADLINE)
    assert repr(handle) == "<Handle restart: done>"


def test_a_worker_in_one_line_says_for_how_long_its_oldest_item_has_run():
    """Of coroutines as of functions."""
    info = WorkerInfo(0, 7, "busy", 100, 3, item=12, seconds=14.2, job=1, label="'http://x'")
    assert str(info) == "worker 0 (pid 7) busy, item 12 for 14 s, 100 in flight, 3 done"
