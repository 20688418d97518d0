"""What a pool tells of its workers while items run, and that it does not look at them when none does."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psutil
import pytest

from aiopool import Pool
from aiopool._core import frames, wire
from aiopool._core.workers import WorkerBook
from aiopool._runtime import vitals
from aiopool._runtime.lending import Lending
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.vitals import LATE_SECONDS, LOOK_SECONDS, SILENT_SECONDS, Vitals
from aiopool.telemetry import WorkerInfo, size
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import looks_at_nobody, rested, still_works


def of(pool: Pool, pid: str | int) -> WorkerInfo:
    """The worker that is this process."""
    return next(info for info in pool.snapshot().workers if info.pid == int(pid))


def held(board: Board, seconds: float = DEADLINE) -> None:
    """Wait in a worker until the test lets go; what waits here holds its loop, and lets the GIL go."""
    board.mark("at work", os.getpid())
    board.wait("go", seconds=seconds)


@pytest.fixture
def pool(pool):
    """Both workers up, and nothing left of the test before."""
    rested(pool)
    return pool


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_function_that_computes_is_busy_with_its_index_and_age(pool, board: Board):
    """However long it does: one item at a time is what a worker of functions is for."""

    def item(x: int) -> None:
        if x == 3:
            began = time.monotonic()
            board.mark("began", began)
            board.mark("at work", os.getpid())
            while not board.marks("go") and time.monotonic() - began < DEADLINE:
                sum(range(10_000))

    job = pool.map(item, range(6), batch=2)
    (pid,) = board.wait("at work")
    began = float(board.marks("began")[0])
    infos: list[WorkerInfo] = []

    def is_told() -> bool:
        infos.append(info := of(pool, pid))
        late = time.monotonic() - began - (info.seconds or 0)
        # However much later it was first looked at. On a busy machine an answer may be late, but it comes.
        return (info.seconds or 0) > SILENT_SECONDS + LOOK_SECONDS and late < 1 and info.state == "busy"

    until(is_told, what="its age was measured")
    info = infos[-1]
    assert info.item == 3
    assert info.lag is None
    assert info.memory is not None
    assert info.cpu is not None
    assert 0.5 < info.memory / psutil.Process(int(pid)).memory_info().rss < 2
    assert info.cpu > 0
    assert f"busy, item 3 for {info.seconds:.1f} s, {size(info.memory)}, " in str(info)
    board.mark("go")
    job.result(DEADLINE)
    until(lambda: of(pool, pid).state == "idle", what="it is idle")
    assert (of(pool, pid).item, of(pool, pid).seconds, of(pool, pid).cpu) == (None, None, None)


def test_a_coroutine_that_holds_its_loop_blocks_it_and_is_named(pool, board: Board):
    """Its neighbours are in flight and not to blame; when it lets go, the worker is busy again, then idle."""

    async def item(x: int) -> None:
        await asyncio.sleep(0)
        if x == 3:
            held(board)
        elif x != 1:
            await board.wait_async("end")

    job = pool.map(item, range(8), concurrency=8)
    (pid,) = board.wait("at work")
    infos: list[WorkerInfo] = []

    def is_now(state: str, seconds: float = 0.0) -> bool:
        infos.append(of(pool, pid))
        return infos[-1].state == state and (infos[-1].seconds or 0) >= seconds

    until(lambda: is_now("blocked", SILENT_SECONDS), what="it is called blocked, and its age was measured")
    info = infos[-1]
    assert info.item == 3
    assert info.lag is not None
    assert info.lag > SILENT_SECONDS
    assert "blocked, item 3 for " in str(info)

    def is_other_busy() -> bool:
        infos[:] = [each for each in pool.snapshot().workers if each.pid != int(pid)]
        return [each.state for each in infos] == ["busy"] and infos[0].lag is not None

    # On a busy machine a loop may come round late, but it comes.
    until(is_other_busy, what="the other one is busy")
    assert infos[0].item in {0, 2, 4, 5, 6, 7}, "one that waits there"
    board.mark("go")
    until(lambda: is_now("busy"), what="it is busy again")
    # That is what its loop took to come round, by its own clock: it was asked a little later than the pool thinks.
    assert (infos[-1].lag or 0) > SILENT_SECONDS / 2
    board.mark("end")
    job.result(DEADLINE)
    until(lambda: of(pool, pid).state == "idle", what="it is idle")


def test_a_worker_that_was_stopped_is_stuck_until_it_goes_on(pool, board: Board):
    """It does not answer, so the item comes from the page that worker and pool share."""

    def item(x: int) -> int:
        if x == 2:
            held(board)
        return x

    job = pool.map(item, range(4))
    (pid,) = board.wait("at work")
    until(lambda: of(pool, pid).memory, what="it was looked at")
    os.kill(int(pid), signal.SIGSTOP)
    try:
        until(lambda: of(pool, pid).state == "stuck", what="it is called stuck")
        info = of(pool, pid)
        assert info.item == 2
        assert info.seconds is not None
        assert info.seconds > SILENT_SECONDS
        assert f"stuck, item 2 for {info.seconds:.1f} s, " in str(info)
        assert "1 stuck" in str(pool.snapshot())
    finally:
        os.kill(int(pid), signal.SIGCONT)
    until(lambda: of(pool, pid).state == "busy", what="it answers again")
    board.mark("go")
    assert job.result(DEADLINE) == [0, 1, 2, 3]
    until(lambda: of(pool, pid).state == "idle", what="it is idle")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_c_code_that_holds_the_interpreter_makes_its_worker_stuck(pool, board: Board, kind):
    """From the first moment of its item on; a cancel ends it, by way of the grace, and the pool has its workers."""

    def item(x: int) -> int:
        board.mark("at work", os.getpid())
        return 3 ** (10**8) & 1 if x == 1 else x

    async def item_later(x: int) -> int:
        return item(x)

    job = pool.map(item if kind == "def" else item_later, range(2), concurrency=1)
    (_, pid) = board.wait("at work", 2)
    until(lambda: of(pool, pid).state == "stuck", what="it is called stuck")
    assert of(pool, pid).item == 1
    job.cancel()
    until(lambda: int(pid) not in [info.pid for info in pool.snapshot().workers], what="it was killed")
    still_works(pool)


def test_coroutines_that_wait_are_busy_and_the_one_that_has_run_longest_is_told(pool, board: Board):
    """However long they wait, no worker is called blocked: its loop comes round at once."""

    async def item(_: int) -> None:
        await board.wait_async("go")

    began = time.monotonic()
    job = pool.map(item, range(20))
    until(lambda: all(info.lag is not None for info in pool.snapshot().workers), what="all were looked at")
    time.sleep(SILENT_SECONDS + LOOK_SECONDS)
    # On a busy machine a loop may come round late, but it comes.
    until(lambda: all(info.state == "busy" for info in pool.snapshot().workers), what="nobody is called blocked")
    first, second = sorted(pool.snapshot().workers, key=lambda info: info.item)
    assert (first.item, first.job, first.label) == (0, job.id, "0")
    assert (second.job, second.label) == (job.id, str(second.item))
    assert all(SILENT_SECONDS < info.seconds < time.monotonic() - began for info in (first, second))
    until(lambda: all(info.lag < SILENT_SECONDS for info in pool.snapshot().workers), what="no lag is told")
    board.mark("go")
    job.result(DEADLINE)


def test_the_long_turns_of_functions_are_nobodys_lag(pool, board: Board):
    """A worker's loop turns only after its last function: coroutines that follow must not be told of that."""

    def long(_: int) -> None:
        held(board)

    job = pool.map(long, range(2))
    board.wait("at work", 2)
    stays(lambda: all(info.lag is None for info in pool.snapshot().workers), SILENT_SECONDS + LOOK_SECONDS / 2)
    board.mark("go")
    job.result(DEADLINE)

    async def item(_: int) -> None:
        await board.wait_async("end")

    began = time.monotonic()
    job = pool.map(item, range(4))
    until(lambda: all(info.lag is not None for info in pool.snapshot().workers), what="all were looked at")
    lags = [info.lag for info in pool.snapshot().workers]
    # Where the machine has stood still since they came, that is theirs.
    assert max(lags) < max(SILENT_SECONDS, time.monotonic() - began)
    board.mark("end")
    job.result(DEADLINE)


# --- when it is looked -----------------------------------------------------------------------------------------------


def test_an_idle_pool_looks_at_nobody(fresh, monkeypatch, board: Board):
    """After the last item it looks once more at most, and never again until there is work."""
    looks: list[float] = []
    real = Vitals._look
    pool = fresh(2)

    def look(self):
        if self is pool._driver._vitals:  # The pool of the tests before may look for the last time.
            looks.append(time.monotonic())
        real(self)

    monkeypatch.setattr(Vitals, "_look", look)
    assert pool.map(work.double, range(4)).result(DEADLINE) == [0, 2, 4, 6]
    job = pool.submit(lambda: held(board))
    until(lambda: len(looks) >= 2, what="it looks while an item runs")
    board.mark("go")
    job.result(DEADLINE)
    until(lambda: looks_at_nobody(pool), what="it has stopped looking")
    count = len(looks)
    stays(lambda: len(looks) == count, 2 * LOOK_SECONDS)
    job = pool.submit(lambda: board.wait("end"))
    until(lambda: len(looks) > count, what="it looks again")
    board.mark("end")
    job.result(DEADLINE)


def test_an_idle_pool_takes_no_processor_time(fresh):
    """Neither here nor in its workers: two seconds of nothing cost a tick or two of each process's clock at most."""
    pool = fresh(2)
    rested(pool)
    until(lambda: looks_at_nobody(pool), what="it has stopped looking")
    workers = [psutil.Process(info.pid) for info in pool.snapshot().workers]

    def spent() -> float:
        return time.process_time() + sum(sum(worker.cpu_times()[:2]) for worker in workers)

    costs = []
    for _ in range(3):  # Somebody else in this process may have had something to do.
        before = spent()
        time.sleep(2)
        costs.append(spent() - before)
    assert min(costs) < 0.065


# --- fairness --------------------------------------------------------------------------------------------------------


class Clock:
    """A loop and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, object]] = []

    def monotonic(self) -> float:
        """The clock."""
        return self.now

    def call_later(self, seconds, call):
        """The loop."""
        self.calls.append((self.now + seconds, call))
        return self

    def cancel(self) -> None:
        """Nothing is kept of it."""

    def come(self, *, late: float = 0.0) -> None:
        """Let the next call's time come."""
        due, call = self.calls.pop()
        self.now = due + late
        call()


class Wire:
    """The pool's end of a worker that does not answer."""

    pid = os.getppid()

    def __init__(self) -> None:
        self.unsent = 0
        self.parser = wire.Parser()
        self.sent: list[frames.Frame] = []

    def send(self, parts) -> None:
        """Keep it."""
        self.sent.extend(self.parser.feed(memoryview(b"".join(parts))))

    def at_work(self) -> int:
        """Nothing is marked."""
        return 0

    def running(self) -> tuple[int, ...]:
        """The same."""
        return ()


@pytest.fixture
def silent(monkeypatch):
    """Vitals over one busy worker that never answers, moved by hand: ``(clock, state, wire, vitals, proxy)``."""
    clock, link = Clock(), Wire()
    monkeypatch.setattr(vitals, "time", clock)
    proxy = WorkerProxy(1, 0, lambda *_: None, lambda *_: None, lambda *_: None)
    proxy.desk = Lending(None, None).desk(proxy)
    proxy.link = link
    book = WorkerBook(1, 0, "ready", kind="async", load=1)
    looking = Vitals(clock, {1: proxy}, {1: book}, lambda _: None, None)
    looking.begin(proxy)
    return clock, lambda: looking.picture(proxy).state, link, looking, proxy


def test_a_sandbox_that_shows_nothing_of_a_process_is_no_trouble(silent, monkeypatch):
    """There is a number of its memory, or there is none."""
    clock, _, _, _, proxy = silent

    def absent(_: object) -> None:
        raise FileNotFoundError("/proc/1/statm")

    monkeypatch.setattr(psutil.Process, "memory_info", absent)
    clock.come()
    assert proxy.memory is None
    assert clock.calls


def test_of_a_worker_whose_items_have_ended_nothing_but_its_memory_is_measured(silent, monkeypatch):
    """Once more: its processor time is told of nobody who has nothing to do."""
    clock, _, _, looking, proxy = silent
    asked: list[psutil.Process] = []
    cpu_times = psutil.Process.cpu_times
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda process: asked.append(process) or cpu_times(process))
    clock.come()
    assert len(asked) == 1
    looking._books[proxy.id].load, proxy.memory = 0, None
    clock.come()
    assert proxy.memory
    assert len(asked) == 1
    # A stream of calls, each of which has ended before anybody looks, keeps it busy.
    looking.begin(proxy, in_short=True)
    clock.come()
    assert len(asked) == 2


def test_a_worker_is_stuck_when_it_has_not_answered_for_a_second(silent):
    """One ping is enough: nothing is sent to who does not answer."""
    clock, state, link, *_ = silent
    clock.come()
    assert link.sent == [frames.Ping(1)]
    assert state() == "busy"
    clock.come()
    assert state() == "stuck"
    clock.come()
    assert link.sent == [frames.Ping(1)]


def test_time_in_which_the_pool_was_slow_itself_does_not_count(silent):
    """A kernel cell that holds the interpreter for a minute makes no worker stuck: its answer was not read yet."""
    clock, state, *_ = silent
    clock.come()
    for _ in range(5):
        clock.come(late=LATE_SECONDS + 60)
        assert state() == "busy"
    clock.come()
    assert state() == "stuck"


def test_a_ping_that_waits_behind_big_frames_is_not_unanswered(silent):
    """As long as the pipe takes something of what is before it."""
    clock, state, link, *_ = silent
    clock.come()
    for left in range(9, 0, -1):
        link.unsent = left
        clock.come()
        assert state() == "busy"
    clock.come()
    assert state() == "stuck"


def test_a_loop_that_does_not_come_round_is_blocked_only_while_the_worker_answers(silent):
    """A turn that is late because the whole process stood still is not the loop's."""
    clock, state, link, looking, proxy = silent
    clock.come()
    looking.answered(proxy, frames.Pong(link.sent[-1].number))
    clock.come()
    looking.answered(proxy, frames.Pong(link.sent[-1].number))
    assert state() == "blocked"
    looking.turned(proxy, frames.Turned(1, 1.2))
    assert state() == "busy"
    clock.come()
    clock.come()
    assert state() == "stuck"
    looking.answered(proxy, frames.Pong(link.sent[-1].number))
    assert state() == "busy"


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_times_that_cannot_be_are_refused(silent, seconds):
    """As anything else that a worker sends and that makes no sense: it is given up for it."""
    *_, looking, proxy = silent
    with pytest.raises(vitals.FrameError):
        looking.answered(proxy, frames.Pong(1, 1, 0, seconds))
    with pytest.raises(vitals.FrameError):
        looking.turned(proxy, frames.Turned(1, seconds))


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_worker_in_one_line():
    """What was not measured is not there."""
    plain = WorkerInfo(2, 812, "idle", 0, 1234)
    assert str(plain) == "worker 2 (pid 812) idle, 0 in flight, 1,234 done"
    stuck = WorkerInfo(2, 812, "stuck", 1, 4, 0.4, "epoch 4", memory=310_000_000, item=17, seconds=12.3)
    assert str(stuck) == "worker 2 (pid 812) stuck, item 17 for 12 s, 310 MB, 1 in flight, 4 done, 40% epoch 4"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (400_000, "0.4 MB"),
        (9_940_000, "9.9 MB"),
        (9_960_000, "10 MB"),
        (310_200_000, "310 MB"),
        (999_600_000, "1.0 GB"),
        (3_140_000_000, "3.1 GB"),
        (1_234_000_000_000, "1,234.0 GB"),
    ],
)
def test_sizes_as_people_say_them(count, told):
    """In the units that max_memory_per_worker takes."""
    assert size(count) == told
