"""Workers that die: the culprit's item ends with a name, everybody else's goes on, and the pool stays."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback

import psutil
import pytest

from aiopool import Failure, Pool, WorkerLost, WorkerStartFailed
from aiopool._runtime.vitals import Vitals
from aiopool.errors import InternalError
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import children, rested, shortly, still_works


@pytest.fixture
def pool(pool):
    """The pool that the test before has killed workers of, with both of them up."""
    rested(pool)
    return pool


def pids(pool: Pool) -> set[int]:
    """Who the workers are that have a process."""
    infos = [worker.info for worker in pool.workers]
    return {info.pid for info in infos if info.state != "lost" and info.pid is not None}


def nobody_is_suspected(pool: Pool) -> bool:
    """Whether all that ran at a death have ended since: who dies alone, a second time, is to blame."""
    jobs = pool._driver._ledger.jobs
    return pool._driver._io.ask(lambda: not any(job.trials or job.suspended or job.recoding for job in jobs.values()))


def killed_by_oom(_: object) -> None:
    """Die as the kernel's memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def exits(_: object) -> None:
    """End the process without a word."""
    os._exit(3)


def crashes(_: object) -> None:
    """Crash in C."""
    import ctypes

    ctypes.string_at(0)


def aborts(_: object) -> None:
    """End as a failed assertion in C does."""
    os.abort()


WAYS = {
    "SIGKILL": (killed_by_oom, -signal.SIGKILL, "SIGKILL"),
    "os._exit": (exits, 3, "exited with code 3"),
    "segfault": (crashes, -signal.SIGSEGV, "SIGSEGV"),
    "abort": (aborts, -signal.SIGABRT, "SIGABRT"),
}


@pytest.fixture(params=WAYS)
def way(request):
    """A way to die, as a function that travels by value; the exit code; what the message says."""
    fn, code, told = WAYS[request.param]
    namespace = dict(fn.__globals__, __name__="__main__")
    return type(fn)(fn.__code__, namespace, fn.__name__), code, told


# --- one item, one death ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_item_that_ends_its_worker_ends_as_worker_lost(pool, way, kind):
    """With pid, exit code, and the name of the signal; within a second or so; its neighbours get their values."""
    die, code, told = way

    def item(x: int) -> int:
        if x == 2:
            die(x)
        return x

    async def item_async(x: int) -> int:
        await asyncio.sleep(0)
        return item(x)

    begun = time.monotonic()
    before = pids(pool)
    results = pool.map(item if kind == "def" else item_async, range(6), on_error="return").result(DEADLINE)
    took = time.monotonic() - begun
    assert results[:2] + results[3:] == [0, 1, 3, 4, 5]
    lost = results[2].error
    assert isinstance(lost, WorkerLost)
    assert lost.exitcode == code
    assert told in str(lost)
    assert f"pid {lost.pid}" in str(lost)
    assert lost.pid not in children()
    assert before - pids(pool)
    assert took < 20
    still_works(pool)


async def test_with_raise_a_worker_lost_stops_the_job(pool):
    """And names the item in its note."""
    with pytest.raises(WorkerLost) as caught:
        await shortly(pool.map(lambda x: os._exit(1) if x == 3 else x, range(6), label=lambda x: f"page {x}"))
    assert caught.value.__notes__[-1].startswith("item 3 (page 3), worker ")
    still_works(pool)


def test_the_last_words_of_a_worker_are_in_the_error(pool):
    """What it wrote before it died."""

    def speaks(_: int) -> None:
        import sys

        sys.stdout.write("loading the model\n")
        sys.stderr.write("CUDA error: out of memory\n")
        sys.stderr.flush()
        os._exit(1)

    (failure,) = pool.map(speaks, [1], on_error="return").result(DEADLINE)
    assert "CUDA error: out of memory" in str(failure.error)
    assert "CUDA error: out of memory" in failure.error.stderr


@pytest.mark.parametrize("items", [50, 300])
def test_a_poison_item_among_coroutines_is_the_only_one_lost(pool, board: Board, items):
    """Fifty were in flight on its worker: one ends as WorkerLost, the others get their values."""

    async def item(x: int) -> int:
        board.mark("started", x)
        await asyncio.sleep(0.01)
        if x == 17:
            os._exit(1)
        await asyncio.sleep(0.01)
        return x

    results = pool.map(item, range(items), concurrency=100, on_error="return").result(DEADLINE)
    lost = [i for i, value in enumerate(results) if isinstance(value, Failure)]
    assert lost == [17]
    assert isinstance(results[17].error, WorkerLost)
    assert [value for i, value in enumerate(results) if i != 17] == [x for x in range(items) if x != 17]
    assert board.marks("started").count("17") == 2
    still_works(pool)


def test_several_poison_items_are_found_one_by_one(pool):
    """Three of forty."""
    poison = {5, 6, 31}

    async def item(x: int) -> int:
        await asyncio.sleep(0.001)
        if x in poison:
            os._exit(1)
        return x

    results = pool.map(item, range(40), on_error="return").result(DEADLINE)
    assert {i for i, value in enumerate(results) if isinstance(value, Failure)} == poison
    still_works(pool)


def test_a_worker_that_is_killed_from_outside_loses_no_item_of_a_map(pool, board: Board):
    """Nobody's item was to blame: what ran there runs again."""

    def item(x: int) -> int:
        board.mark("started", os.getpid())
        board.wait("go")
        return x

    async def item_async(x: int) -> int:
        board.mark("started async", os.getpid())
        await board.wait_async("go async")
        return x

    for fn, topic, gate, count in ((item, "started", "go", 2), (item_async, "started async", "go async", 20)):
        job = pool.map(fn, range(20), concurrency=count)
        victim = int(board.wait(topic, count)[0])
        os.kill(victim, signal.SIGKILL)
        until(lambda victim=victim: victim not in children())
        board.mark(gate)
        assert job.result(DEADLINE) == list(range(20))


def test_idle_workers_that_are_killed_are_replaced(pool):
    """Nobody notices."""
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    still_works(pool)


def test_killing_every_worker_again_and_again_loses_nothing_of_a_map(pool):
    """Every item ends as a value as long as something is finished between two deaths, and nobody dies of both."""
    job = pool.map(work.nap, [0.01] * 150, batch=2)
    killed: set[int] = set()
    for _ in range(4):
        # What comes from those that were killed before says nothing of the items that they died with.
        until(lambda: len(pids(pool) - killed) == pool.size, what="others are there")  # noqa: B023  # asked at once
        done = job.snapshot().done
        until(lambda done=done: (job.snapshot().done > done + 10 and nobody_is_suspected(pool)) or job.done())
        killed = pids(pool)
        for pid in killed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    assert len(job.result(DEADLINE)) == 150


def test_with_rerun_lost_false_an_item_runs_at_most_once(pool, board: Board):
    """Those that had started end as WorkerLost, the others are run elsewhere; values that were sent count."""

    async def item(x: int) -> int:
        board.mark("started", x)
        await asyncio.sleep(0.005)
        if x == 10:
            os._exit(1)
        await asyncio.sleep(0.01)
        return x

    results = pool.map(item, range(60), concurrency=20, rerun_lost=False, on_error="return").result(DEADLINE)
    started = [int(x) for x in board.marks("started")]
    assert len(started) == len(set(started)) == 60
    lost = {i for i, value in enumerate(results) if isinstance(value, Failure)}
    assert 10 in lost
    assert len(lost) <= 20
    assert all(isinstance(results[i].error, WorkerLost) for i in lost)
    assert all(results[i] == i for i in set(range(60)) - lost)


def test_a_def_in_threads_that_ends_its_worker_is_found(pool):
    """Its neighbours in other threads get their values."""

    def item(x: int) -> int:
        time.sleep(0.02)
        if x == 7:
            os._exit(1)
        return x

    results = pool.map(item, range(16), concurrency=8, on_error="return").result(DEADLINE)
    assert [i for i, value in enumerate(results) if isinstance(value, Failure)] == [7]
    still_works(pool)


def test_an_argument_or_function_that_ends_the_worker_when_it_is_loaded_is_found(pool):
    """Loading is part of running an item."""

    class Bomb:
        def __reduce__(self):
            return os._exit, (1,)

    results = pool.map(lambda x: str(type(x).__name__), [1, Bomb(), 3], on_error="return").result(DEADLINE)
    assert (results[0], results[2]) == ("int", "int")
    assert isinstance(results[1].error, WorkerLost)
    bomb = Bomb()
    with pytest.raises(WorkerLost):
        pool.map(lambda x: (bomb, x), [1]).result(DEADLINE)
    still_works(pool)


def test_a_result_that_ends_the_worker_when_it_is_pickled_is_found(pool):
    """Pickling is part of running an item, too."""

    class Bomb:
        def __reduce__(self):
            os._exit(1)

    def item(x: int) -> object:
        return Bomb() if x == 1 else x

    results = pool.map(item, range(3), on_error="return").result(DEADLINE)
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1].error, WorkerLost)
    still_works(pool)


def test_a_worker_that_writes_nonsense_on_its_pipe_is_given_up(pool):
    """What is not a frame ends that worker only."""

    def vandal(_: int) -> int:
        import stat

        pipes = []
        for fd in range(3, 2048):
            try:
                mode = os.fstat(fd).st_mode
                import fcntl

                if stat.S_ISFIFO(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                    pipes.append(fd)
            except OSError:
                continue
        for fd in pipes:
            os.write(fd, b"this is not a frame, not at all")
        time.sleep(3600)
        return 1

    (failure,) = pool.map(vandal, [1], on_error="return").result(DEADLINE)
    assert isinstance(failure.error, WorkerLost)
    assert "not a frame" in str(failure.error)
    still_works(pool)


def test_a_worker_that_stops_answering_is_still_killed_by_a_cancel(pool, board: Board):
    """SIGSTOP stops its link thread, too."""
    job = pool.map(lambda x: board.mark("started", os.getpid()) or os.kill(os.getpid(), signal.SIGSTOP), range(1))
    (pid,) = board.wait("started")
    until(lambda: psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED)
    job.cancel()
    until(lambda: int(pid) not in children(), what="the stopped worker was killed")
    still_works(pool)


# --- workers that cannot start ---------------------------------------------------------------------------------------


def test_an_initializer_runs_once_in_every_worker_before_its_first_item(fresh, board: Board):
    """With its arguments; a coroutine function, too."""

    def remember(board: Board, value: int) -> None:
        import builtins

        builtins.initialized = value
        board.mark("initialized", os.getpid())

    async def remember_later(board: Board, value: int) -> None:
        await asyncio.sleep(0)
        remember(board, value)

    def look() -> int:
        import builtins

        return builtins.initialized

    for initializer in (remember, remember_later):
        pool = fresh(2, initializer=initializer, initargs=(board, 7))
        assert pool.broadcast(look).result(DEADLINE) == [7, 7]
        assert pool.map(lambda x: look(), range(10)).result(DEADLINE) == [7] * 10
    assert len(board.marks("initialized")) == len(set(board.marks("initialized"))) == 4


def raises_in_start(board: Board) -> None:
    """Cannot find its model."""
    board.mark("tried")
    raise FileNotFoundError("model.bin is not there")


def exits_in_start(board: Board) -> None:
    """Ends its worker."""
    board.mark("tried")
    os.write(1, b"last words\n")
    os._exit(9)


def system_exit_in_start(board: Board) -> None:
    """Raises what must not reach a loop."""
    board.mark("tried")
    raise SystemExit(2)


@pytest.mark.parametrize(
    ("initializer", "told"),
    [
        (raises_in_start, "model.bin is not there"),
        (exits_in_start, "last words"),
        (system_exit_in_start, "SystemExit"),
    ],
)
async def test_an_initializer_that_fails_is_told_to_everybody_who_waits(fresh, board: Board, initializer, told):
    """As WorkerStartFailed with its cause, soon, and without starting one worker after another."""
    namespace = dict(initializer.__globals__, __name__="__main__")
    by_value = type(initializer)(initializer.__code__, namespace, initializer.__name__)
    pool = fresh(2, initializer=by_value, initargs=(board,))
    waiting = [pool.map(work.double, range(10)), pool.submit(work.double, 1), pool.map(work.double_later, iter([1]))]
    for job in waiting:
        with pytest.raises(WorkerStartFailed, match=told):
            await shortly(job)
    with pytest.raises(WorkerStartFailed, match=told):
        await shortly(pool.submit(work.double, 1))
    until(lambda: not pool.snapshot().workers, what="no worker is being started any more")
    tried = len(board.marks("tried"))
    assert tried <= 16
    stays(lambda: len(board.marks("tried")) == tried and not pool.snapshot().workers, 0.3, "nobody tries again")


def test_the_traceback_of_an_initializer_begins_at_its_own_line(fresh):
    """That a loop ran it is our affair."""

    async def init() -> None:
        await asyncio.sleep(0)
        raise FileNotFoundError("model.bin")

    with pytest.raises(WorkerStartFailed) as caught:
        fresh(1, initializer=init).submit(work.double, 1).result(DEADLINE)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert [frame.name for frame in frames] == ["init"]


def test_an_initializer_that_hangs_is_told_after_the_start_timeout(fresh):
    """Not waited for for ever."""
    pool = fresh(1, initializer=time.sleep, initargs=(3600,), start_timeout=0.3)
    with pytest.raises(WorkerStartFailed, match=r"start"):
        pool.submit(work.double, 1).result(DEADLINE)


def test_a_pool_whose_workers_could_not_start_recovers(fresh, board: Board):
    """When the cause has gone, the next job runs."""

    def needs_file(board: Board) -> None:
        if not board.marks("the file"):
            raise FileNotFoundError("the file")

    pool = fresh(1, initializer=needs_file, initargs=(board,))
    with pytest.raises(WorkerStartFailed, match="the file"):
        pool.submit(work.double, 1).result(DEADLINE)
    board.mark("the file")
    still_works(pool)


def test_workers_that_die_as_soon_as_they_have_an_item_end_the_job_instead_of_dying_for_ever(pool, board: Board):
    """Every item kills: each is lost by name; deaths are bounded; who is not tried again for it is told so."""

    def item(x: int) -> None:
        board.mark("died")
        os._exit(1)

    results = pool.map(item, range(16), on_error="return").result(2 * DEADLINE)  # That is some forty workers.
    assert all(isinstance(value.error, WorkerLost) for value in results)
    assert len(board.marks("died")) <= 3 * 16
    given_up = "\nWorkers have died 10 times in a row with nothing finished, so it was not tried again"
    assert given_up not in str(results[0].error)
    assert any(given_up in str(value.error) for value in results)
    still_works(pool)


def test_a_bug_of_ours_at_a_death_ends_the_pool_and_lets_nobody_wait(fresh, monkeypatch, caplog):
    """Its jobs say so, and so does the log; whoever closes the pool gets to its end."""

    def fails(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Vitals, "gone", fails)
    pool = fresh(2)
    rested(pool)
    job = pool.map(work.nap, [3600])
    until(lambda: job.snapshot().in_flight)
    os.kill(pool.snapshot().workers[0].pid, signal.SIGKILL)
    with pytest.raises(InternalError, match="a bug"):
        job.result(DEADLINE)
    pool.close()
    pool.join(DEADLINE)
    assert "internal error in the pool's thread" in caplog.text
