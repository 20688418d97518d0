"""Every way in which a worker can die by itself: noticed at once, told by name, and nobody else's loss."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import warnings

import pytest

from aiopool import ItemExited, WorkerLost, testing
from tests.faults import items
from tests.faults.situations import AT_ONCE, pids, struck_alone, struck_among, struck_closing, struck_idle
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import children
from tests.pool.scripts import gone

pytestmark = pytest.mark.usefixtures("afterwards")


def overflow() -> None:
    """Recurse in C until the stack is full, as the parser of the C library's regular expressions lets everybody do."""
    import ctypes

    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b"(" * 400_000, 1)


def fork_and_die() -> None:
    """Leave a child behind that holds the worker's pipes, and die."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # From 3.12 on, that it may deadlock.
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    testing.die()


def close_files() -> None:
    """Close whatever is open beyond the standard streams, and go on as if nothing had happened."""
    os.closerange(3, 4096)
    time.sleep(DEADLINE)


WAYS = {
    "SIGKILL": (testing.die, "SIGKILL", -signal.SIGKILL),
    "SIGTERM": (functools.partial(testing.die, signal.SIGTERM), "SIGTERM", -signal.SIGTERM),
    "segfault": (testing.crash, "SIGSEGV", -signal.SIGSEGV),
    "os._exit": (functools.partial(testing.exit_process, 3), "", 3),
    "abort": (os.abort, "SIGABRT", -signal.SIGABRT),
    "stack overflow": (overflow, "SIGSEGV", -signal.SIGSEGV),
    "fork, then SIGKILL": (fork_and_die, "SIGKILL", -signal.SIGKILL),
    "closes every file": (close_files, None, None),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest):
    """A way to die, the name of the signal, and the exit code; None where the pool ends what is left of the worker."""
    if request.param == "stack overflow" and sys.platform != "linux":
        pytest.skip("this system's regular expressions do not recurse")
    return WAYS[request.param]


def assert_told(error: object, way) -> None:
    """The error says how the worker died."""
    assert isinstance(error, WorkerLost), error
    _, name, code = way
    assert error.pid not in children()
    assert f"pid {error.pid}" in str(error)
    if code is not None:
        assert (error.signal, error.exitcode) == (name, code)
        assert (name or f"code {code}") in str(error)
    if name in ("SIGSEGV", "SIGABRT"):
        assert "Fatal Python error" in error.stderr


def test_an_idle_worker_that_dies_is_noticed_and_replaced(pool, board: Board, way):
    """From the process itself, within a second; nobody's item is lost."""
    pid = struck_idle(pool, board, way[0])
    until(lambda: pid not in pids(pool), what="the death is noticed")
    assert items.since(board) < AT_ONCE


def test_the_only_item_of_a_worker_that_dies_ends_as_worker_lost(pool, board: Board, way):
    """Within a second, with the name of the signal and the last words; the item of the other worker is not touched."""
    error, seconds = struck_alone(pool, board, way[0])
    assert_told(error, way)
    assert seconds < AT_ONCE


def test_of_eight_coroutines_in_flight_only_the_culprit_is_lost(pool, board: Board, way):
    """The innocent finish with their values, wherever they run again."""
    assert_told(struck_among(pool, board, way[0]), way)


def test_a_pool_that_is_closing_bears_it_too(fresh, board: Board, way):
    """The culprit is lost, the others have their values, and the pool ends."""
    assert_told(struck_closing(fresh(2), board, way[0]), way)


# --- what looks like a death, and is none ----------------------------------------------------------------------------


def leave() -> None:
    """End as a script does."""
    sys.exit(3)


def close_streams() -> None:
    """Close standard input, output and error."""
    for fd in (0, 1, 2):
        try:
            os.close(fd)
        except OSError:
            continue  # An item before this one did.


HARMLESS = {"sys.exit": (leave, ItemExited), "closes stdio": (close_streams, None)}


@pytest.mark.parametrize("situation", ["idle", "one item", "eight coroutines", "closing"])
@pytest.mark.parametrize("fault", HARMLESS)
def test_what_ends_a_script_does_not_end_a_worker(pool, fresh, board: Board, fault, situation):
    """SystemExit is its item's error, and closed streams are nobody's loss; in every situation the workers stay."""
    strike, expected = HARMLESS[fault]
    before = pids(pool)
    if situation == "idle":
        assert struck_idle(pool, board, strike) in before
        board.wait("over")
    elif situation == "one item":
        told, _ = struck_alone(pool, board, strike)
        assert isinstance(told, expected) if expected else told is None
    else:
        strike_in = struck_among if situation == "eight coroutines" else struck_closing
        told = strike_in(pool if situation == "eight coroutines" else fresh(2), board, strike)
        assert isinstance(told, expected) if expected else told == items.CULPRIT
    assert pids(pool) == before


# --- killed from outside ---------------------------------------------------------------------------------------------


def test_killing_every_idle_worker_costs_nothing(pool):
    """The next job has its workers, without knowing."""
    killed = set(testing.kill_workers(pool))
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    until(lambda: not killed & pids(pool), what="both deaths are noticed")


def test_a_worker_that_is_killed_while_it_starts_is_replaced(fresh, board: Board):
    """What waited for it runs on another one; that one runs its initializer as well."""

    def slow_to_start(board: Board) -> None:
        board.mark("starting", os.getpid())
        if len(board.marks("starting")) == 1:
            board.wait("never")

    pool = fresh(1, initializer=slow_to_start, initargs=(board,))
    job = pool.map(work.pid, range(3))
    (first,) = board.wait("starting")
    os.kill(int(first), signal.SIGKILL)
    (second,) = set(job.result(DEADLINE))
    assert [int(pid) for pid in board.marks("starting")] == [int(first), second]


def test_a_running_item_of_a_map_runs_again_elsewhere(pool, board: Board):
    """Whoever kills from outside is no reason to lose an item: not even when it strikes all workers at once."""
    job = pool.map(functools.partial(items.in_flight, board=board), items.EIGHT, concurrency=len(items.EIGHT))
    board.wait("running", len(items.EIGHT))
    testing.kill_workers(pool)
    board.mark("go")
    assert job.result(DEADLINE) == list(items.EIGHT)


def test_a_pool_whose_workers_are_killed_while_it_closes_ends_its_jobs(fresh, board: Board):
    """It starts others, for what was still running."""
    pool = fresh(2)
    job = pool.map(functools.partial(items.in_flight, board=board), items.EIGHT, concurrency=len(items.EIGHT))
    board.wait("running", len(items.EIGHT))
    pool.close()
    testing.kill_workers(pool)
    board.mark("go")
    assert job.result(DEADLINE) == list(items.EIGHT)
    pool.join(DEADLINE)


class Large:
    """A result of 64 MB. Its worker is killed some time after it has been pickled: while it is being sent."""

    def __init__(self, board: Board, after: float | None) -> None:
        self.board = board
        self.after = after

    def __reduce__(self):
        if self.after is not None:
            threading.Timer(self.after, testing.die).start()
        return bytes, (b"\1" * (64 << 20),)


@pytest.mark.parametrize("milliseconds", [1, 25])
def test_a_worker_that_dies_while_it_sends_a_large_result_loses_only_that(pool, board: Board, milliseconds):
    """Half a frame is no result: the item runs again, or was there as a whole; the bystander is not touched."""

    def large(number: int) -> Large:
        board.mark("ran", number)
        first = board.marks("ran").count("0") == 1
        return Large(board, milliseconds / 1e3 if number == 0 and first else None)

    results = pool.map(large, range(2), batch=1).result(DEADLINE)
    assert [(len(value), value[:1], value[-1:]) for value in results] == [(64 << 20, b"\1", b"\1")] * 2
    until(lambda: pool.snapshot().workers and len(pids(pool)) <= 2)


def test_the_child_that_a_dead_item_forked_ends_with_its_worker(pool, board: Board):
    """Soon, and by itself: the same user's next item does not find it."""

    def forks(board: Board) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            time.sleep(DEADLINE)
            os._exit(0)
        board.mark("forked", pid)
        testing.die()

    with pytest.raises(WorkerLost):
        pool.submit(forks, board).result(DEADLINE)
    (pid,) = board.wait("forked")
    gone([int(pid)], DEADLINE)
