"""Who dies with whom: the children that items started with their worker, the workers with their pool's process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from aiopool import Pool, WorkerLost
from aiopool._runtime import reaper
from aiopool._runtime.family import VARIABLE
from aiopool._runtime.family import marked as marked_with
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import rested
from tests.pool.scripts import alive, script, start

GONE_WITHIN = 12.0
"""Seconds, of which a slow machine needs some: the last resort of a worker, which is not meant here, takes 16."""


@pytest.fixture(autouse=True)
def nobody_stays(board: Board) -> Iterator[None]:
    """Whatever a test finds out, the processes that its items have started do not outlive it."""
    yield
    for pid in family(board):
        # It may be about to end.
        with contextlib.suppress(ProcessLookupError):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def family(board: Board) -> list[int]:
    """Who was started by items."""
    return [int(pid) for pid in board.marks("family")]


def survivors(board: Board) -> list[int]:
    """Who of them may still do something: of who is about to be a zombie the memory has gone, and with it the name."""
    left = []
    for pid in family(board):
        with contextlib.suppress(psutil.Error):
            left += [pid] * bool(psutil.Process(pid).cmdline())
    return left


def gone(pids: list[int], seconds: float = GONE_WITHIN) -> None:
    """Wait until none of them is left."""
    assert pids
    until(lambda: not [pid for pid in pids if alive(pid)], seconds, f"of {pids} nobody is left")


# --- what an item may start -------------------------------------------------------------------------------------------


def a_program(board: Board) -> None:
    """As most do it."""
    board.mark("family", subprocess.Popen(["sleep", "1000"]).pid)


def one_in_its_own_session(board: Board) -> None:
    """Neither its group nor its terminal leads to it."""
    board.mark("family", subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)


def a_grandchild(board: Board) -> None:
    """A shell that starts a program and ends: nobody's child any more."""
    shell = "sleep 1000 >/dev/null 2>&1 & echo $!"
    told = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True, start_new_session=True)
    board.mark("family", told.stdout.strip())


def a_fork(board: Board) -> None:
    """The worker itself, twice, with its pipes."""
    if os.fork() == 0:
        board.mark("family", os.getpid())
        time.sleep(1000)
        os._exit(0)
    board.wait("family")


def processes(board: Board) -> None:
    """As multiprocessing does it."""
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,), daemon=True)
    child.start()
    board.mark("family", child.pid)


CHILDREN = {
    "a program": a_program,
    "one in its own session": one_in_its_own_session,
    "a grandchild": a_grandchild,
    "a fork": a_fork,
    "multiprocessing": processes,
}


# --- how a worker may end ---------------------------------------------------------------------------------------------


def killed(pool: Pool, pid: int) -> None:
    """From outside."""
    os.kill(pid, signal.SIGKILL)


def crashed(pool: Pool, pid: int) -> None:
    """By a fault of its own."""
    os.kill(pid, signal.SIGSEGV)


def closed(pool: Pool, _: int) -> None:
    """When everything is done."""
    pool.close()
    pool.join(DEADLINE)


def terminated(pool: Pool, _: int) -> None:
    """Whatever it does."""
    pool.terminate()
    pool.join(DEADLINE)


def retired(pool: Pool, _: int) -> None:
    """Because another one takes its place."""
    pool.restart().result(DEADLINE)


def resized(pool: Pool, pid: int) -> None:
    """There are to be fewer."""
    pool.resize(2).result(DEADLINE)
    pool.resize(1).result(DEADLINE)
    if alive(pid):
        pool.restart(now=True).result(DEADLINE)


ENDS = {"SIGKILL": killed, "a crash": crashed, "close": closed, "terminate": terminated, "restart": retired}
PAIRS = [(end, "one in its own session") for end in (*ENDS, "resize")] + [("SIGKILL", child) for child in CHILDREN]


@pytest.mark.parametrize(("end", "child"), PAIRS)
def test_what_an_item_has_started_dies_with_its_worker(fresh, board: Board, end, child):
    """However the worker ends, also long after the item; and whatever it was that the item started."""
    pool = fresh(1)
    begin = CHILDREN[child]
    pid = pool.submit(lambda: begin(board) or os.getpid()).result(DEADLINE)
    assert [each for each in family(board) if alive(each)] == family(board)
    (ENDS | {"resize": resized})[end](pool, pid)
    gone(family(board))


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_what_an_item_has_started_dies_with_the_worker_that_is_killed_for_it(fresh, board: Board, how):
    """An item that does not listen; the pool works on."""
    pool = fresh(1, grace=0.1)

    def deaf(_: int) -> None:
        a_program(board)
        one_in_its_own_session(board)
        while True:
            try:
                board.mark("deaf")
                time.sleep(1000)
            except BaseException:  # noqa: BLE001  # that is what it is about
                continue

    # Before it is deaf it must not be struck.
    job = pool.map(deaf, [1], timeout=3 if how == "timeout" else None, on_error="return")
    board.wait("deaf")
    if how == "cancel":
        job.cancel()
    gone(family(board))
    assert pool.submit(abs, -1).result(DEADLINE) == 1


def test_the_family_is_gone_before_the_item_runs_again(fresh, board: Board):
    """Two attempts, and what they have started, are never there at once."""
    pool = fresh(1)

    def item(_: int) -> int:
        first = not board.marks("family")
        left = survivors(board)
        one_in_its_own_session(board)
        if first:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(left)

    assert pool.map(item, [1]).result(DEADLINE) == [0]


def test_when_the_pool_has_ended_so_has_everybody(board: Board):
    """Leaving ``with`` is the end of the workers, and of those that they have left."""
    with Pool(workers=2) as pool:
        pool.map(lambda _: one_in_its_own_session(board), range(4), batch=1).result(DEADLINE)
    assert len(family(board)) == 4
    assert not survivors(board)


def test_what_goes_on_forking_dies_too(fresh, board: Board):
    """A child that is replaced as soon as it ends, faster than anybody looks."""
    pool = fresh(1)

    def chain() -> None:
        if os.fork():
            return
        while True:
            board.mark("links", os.getpid())
            if os.fork():
                time.sleep(0.002)
                os._exit(0)

    pool.submit(chain).result(DEADLINE)
    board.wait("links", 5)
    pool.terminate()
    pool.join(DEADLINE)
    links = len(board.marks("links"))
    stays(lambda: len(board.marks("links")) == links, 0.2, "nobody is left to fork")


def test_the_children_of_other_workers_live(fresh, board: Board):
    """Only the family of the one that died."""
    pool = fresh(2)
    mine = Board(board.folder / "mine")
    mine.folder.mkdir()

    def item(x: int) -> int:
        one_in_its_own_session(mine if x else board)
        board.mark("there")
        board.wait("there", 2)
        return os.getpid()

    pids = pool.map(item, range(2), batch=1).result(DEADLINE)
    assert len(set(pids)) == 2
    os.kill(pids[1], signal.SIGKILL)
    gone(family(mine))
    until(lambda: pids[1] not in [info.pid for info in pool.snapshot().workers if info.state != "lost"])
    assert all(map(alive, family(board)))


def test_a_program_without_the_variable_outlives_its_worker(fresh, board: Board):
    """The documented way to start a server that shall stay."""
    pool = fresh(1)

    def serve() -> None:
        variables = {name: value for name, value in os.environ.items() if name != "AIOPOOL_WORKER"}
        board.mark("family", subprocess.Popen(["sleep", "1000"], env=variables, start_new_session=True).pid)

    pool.submit(serve).result(DEADLINE)
    pool.close()
    pool.join(DEADLINE)
    assert all(map(alive, family(board)))


def test_the_kernels_variables_do_not_take_the_cookie_away(fresh, board: Board, monkeypatch):
    """Workers take over what is changed in ``os.environ``; that is not among it."""
    pool = fresh(1)
    pool.submit(abs, 1).result(DEADLINE)
    monkeypatch.setenv("AIOPOOL_WORKER", "somebody")
    monkeypatch.setenv("SOMETHING", "else")
    told = pool.submit(lambda: (os.environ.get("SOMETHING"), os.environ["AIOPOOL_WORKER"])).result(DEADLINE)
    assert told[0] == "else"
    assert told[1] not in ("", "somebody")


def test_a_pool_in_a_program_that_an_item_started_dies_with_the_outer_worker(fresh, board: Board, tmp_path):
    """Cookies add up: the inner workers' children are the outer worker's, too, and gone before its item runs again."""
    pool = fresh(1)
    inner = script(
        tmp_path,
        f"""
        import subprocess, time
        from aiopool import Pool
        from tests.pool.board import Board
        board = Board({str(board.folder)!r})
        def item():
            board.mark("family", subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
        pool = Pool(workers=1)
        pool.submit(item).result(20)
        time.sleep(1000)
        """,
    )
    roots = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])

    def item(_: int) -> list[int]:
        if family(board):
            return survivors(board)
        board.mark("family", subprocess.Popen([sys.executable, str(inner)], env=os.environ | {"PYTHONPATH": roots}).pid)
        board.wait("family", 2)
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    assert pool.map(item, [1]).result(DEADLINE) == [[]]
    assert len(family(board)) == 2


def test_cookies_add_up(monkeypatch):
    """Who is under two workers, one in a program that an item of the other has started, dies with either."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert marked_with({"A": "1"}, "mine") == {"A": "1", VARIABLE: "mine"}
    monkeypatch.setenv(VARIABLE, "outer")
    assert marked_with({}, "mine") == {VARIABLE: "outer:mine"}


# --- the reaper -------------------------------------------------------------------------------------------------------


def carrier(*cookies: str, program: str = "import time; time.sleep(1000)") -> subprocess.Popen[bytes]:
    """A process that carries cookies."""
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", program], env={reaper.VARIABLE: ":".join(cookies)})
    until(lambda: Path(f"/proc/{child.pid}/environ").read_bytes().startswith(b"AIOPOOL") or child.poll() is not None)
    return child


@pytest.fixture(params=["with pidfd", "without pidfd"] if hasattr(os, "pidfd_open") else ["without pidfd"])
def pidfd(request, monkeypatch) -> None:
    """With pidfd, where there is one, and without."""
    if request.param == "without pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.usefixtures("pidfd")
def test_the_reaper_kills_whoever_carries_a_cookie_and_nobody_else():
    """Among several cookies, and not by a part of one."""
    mine, both, other = carrier("aa"), carrier("bb", "aa"), carrier("aab", "baa")
    try:
        assert reaper.end_family(frozenset([b"aa"]))
        assert (mine.wait(DEADLINE), both.wait(DEADLINE)) == (-signal.SIGKILL, -signal.SIGKILL)
        assert other.poll() is None
    finally:
        for child in (mine, both, other):
            child.kill()
            child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_reaper_lets_a_resource_tracker_clean_up_first():
    """It removes shared memory of the dead when they are gone; one that does not end is killed all the same."""
    tracker = carrier("cc", program="import time; time.sleep(1000)  # resource_tracker")
    try:
        assert not reaper.end_family(frozenset([b"cc"]), reaper.TRACKER_SECONDS / 2)
        assert tracker.poll() is None
        assert reaper.end_family(frozenset([b"cc"]))
        assert tracker.wait(DEADLINE) == -signal.SIGKILL
    finally:
        tracker.kill()
        tracker.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_number_that_has_become_somebody_elses_is_not_killed(monkeypatch):
    """Between the look and the kill the process may have ended, and another one have its number."""
    other = carrier("dd")
    try:
        reaper._kill(other.pid, frozenset([b"ee"]))
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        reaper._kill(other.pid, frozenset([b"ee"]))
        stays(lambda: other.poll() is None, 0.2, "it lives")
    finally:
        other.kill()
        other.wait()


# --- the pool's own process is killed ---------------------------------------------------------------------------------

BEGIN = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from aiopool import Pool
from tests.pool.board import Board
from tests.pool.test_family import CHILDREN
board = Board({folder!r})
def item(x):
    CHILDREN["a program"](board)
    CHILDREN["one in its own session"](board)
    CHILDREN["a grandchild"](board)
    board.mark("workers", os.getpid())
    {item}
pool = Pool(workers=2)
job = pool.map(item, range(2), batch=1)
board.wait("workers", 2)
{then}
print("ready", flush=True)
time.sleep(1000)
"""

AT_WORK = {
    "idle": "",
    "in time.sleep": "time.sleep(1000)",
    "in a Python loop": "while True: pass",
    "holding the GIL": "sum(range(10**12))",
    "holding the GIL, with a handler of SIGALRM": "signal.signal(14, lambda *_: None); sum(range(10**12))",
    "deaf to signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); sum(range(10**12))",
}


def running(tmp_path: Path, item: str, then: str = "") -> subprocess.Popen[str]:
    """A script whose workers are at that."""
    root = str(Path(__file__).parents[2])
    source = BEGIN.format(root=root, folder=str(tmp_path), item=item or "return x", then=then)
    process = start("-W", "ignore", script(tmp_path, source), cwd=tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", process.communicate(timeout=DEADLINE)
    return process


def marked(board: Board) -> list[int]:
    """The workers and their family."""
    return [*map(int, board.marks("workers")), *family(board)]


@pytest.mark.parametrize("at_work", AT_WORK)
def test_a_killed_script_takes_its_workers_and_their_family_along(tmp_path, board: Board, at_work):
    """Whatever the workers do then; C code that holds the interpreter's lock is no shelter."""
    if "GIL" in at_work and sys.platform != "linux":
        pytest.skip("needs glibc")
    process = running(tmp_path, AT_WORK[at_work])
    try:
        process.kill()
        gone(marked(board))
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def test_without_the_c_librarys_help_the_link_thread_does_it(tmp_path, board: Board, monkeypatch):
    """On another system than Linux with glibc; only C code that holds the interpreter's lock is a shelter there."""
    monkeypatch.setenv("AIOPOOL_WITHOUT", "aio")
    process = running(tmp_path, AT_WORK["in a Python loop"])
    try:
        process.kill()
        gone(marked(board))
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


FORKS = {
    "os.fork": "board.mark('forked', os.fork() or time.sleep(1000))",
    "multiprocessing": """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,), daemon=True)
child.start()
board.mark("forked", child.pid)
""",
}


@pytest.mark.parametrize("at_work", ["in a Python loop", "idle"])
@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_of_the_script_is_not_taken_for_it(tmp_path, board: Board, fork, at_work):
    """It has inherited the pipes, and lives on."""
    process = running(tmp_path, AT_WORK[at_work], FORKS[fork])
    try:
        process.kill()
        gone(marked(board))
        assert [alive(int(pid)) for pid in board.marks("forked")] == [True]
    finally:
        process.kill()
        for pid in board.marks("forked"):
            os.kill(int(pid), signal.SIGKILL)
        process.communicate(timeout=DEADLINE)


# --- a fork that holds the pipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["with pidfd", "without pidfd"])
def test_the_death_of_a_worker_whose_fork_holds_the_pipes_is_noticed(fresh, board: Board, monkeypatch, watch):
    """At once, from the process itself, and not when the pipes come to their end; the fork does not stay."""
    if watch == "without pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    pool = fresh(1)
    rested(pool)

    def item(_: int) -> None:
        a_fork(board)
        board.mark("dies", time.monotonic())
        os.kill(os.getpid(), signal.SIGKILL)

    (failure,) = pool.map(item, [1], on_error="return", rerun_lost=False).result(DEADLINE)
    took = time.monotonic() - float(board.marks("dies")[0])
    assert isinstance(failure.error, WorkerLost)
    assert took < GONE_WITHIN
    gone(family(board))


# --- descriptors that an item closes ----------------------------------------------------------------------------------


def everything() -> None:
    """As a daemon does."""
    os.closerange(0, 65536)


CLOSES: dict[str, Callable[[], None]] = {
    "at its end": lambda: None,
    "and goes on": lambda: time.sleep(1000),
    "and opens other files": lambda: [os.open("/dev/null", os.O_WRONLY) for _ in range(50)] and None,
}


@pytest.mark.parametrize("kind", ["def", "async def", "def in threads"])
@pytest.mark.parametrize("then", CLOSES)
def test_an_item_that_closes_every_descriptor_costs_itself(fresh, kind, then):
    """Its worker ends by itself, and says why; the others get their values."""
    pool = fresh(2)
    go_on = CLOSES[then]

    def item(x: int) -> int:
        if x == 1:
            everything()
            go_on()
        return x

    async def later(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return item(x)

    fn = later if kind == "async def" else item
    job = pool.map(fn, range(4), on_error="return", concurrency=4 if "threads" in kind else None)
    results = job.result(DEADLINE)
    assert [results[0], *results[2:]] == [0, 2, 3]
    assert isinstance(results[1].error, WorkerLost)
    assert results[1].error.exitcode == 71
    assert "the item's code closed the pool's pipes" in str(results[1].error)
    rested(pool)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_item_that_closes_what_the_loop_waits_on_ends_its_worker(fresh, kind):
    """The pipes have higher numbers than most code looks at, and stay: what has ended counts, and nothing hangs."""
    pool = fresh(1)
    pid = pool.submit(os.getpid).result(DEADLINE)
    pool.map(work.double_later, [1]).result(DEADLINE)  # From now on there is a loop.

    def item(x: int) -> int:
        os.closerange(3, 512)
        return x

    async def later(x: int) -> int:
        return item(x)

    assert pool.map(item if kind == "def" else later, [7]).result(DEADLINE) == [7]
    until(lambda: not alive(pid), what="the worker has ended")
    assert pool.map(work.double_later, range(3)).result(DEADLINE) == [0, 2, 4]


def test_a_function_that_closes_all_but_the_pipes_harms_nobody_where_there_is_no_loop(fresh):
    """A worker that has had functions only waits on nothing that could be closed."""
    pool = fresh(1)
    pid = pool.submit(os.getpid).result(DEADLINE)
    assert pool.map(lambda x: os.closerange(3, 512) or x, [7]).result(DEADLINE) == [7]
    assert pool.submit(os.getpid).result(DEADLINE) == pid


def test_an_item_that_closes_the_standard_ones_harms_nobody(fresh):
    """What it prints from then on is lost, or raises in it."""
    pool = fresh(1)
    assert pool.map(lambda x: os.closerange(0, 3) or x, range(3)).result(DEADLINE) == [0, 1, 2]
    assert pool.map(lambda x: x, range(3)).result(DEADLINE) == [0, 1, 2]
    pid = pool.submit(os.getpid).result(DEADLINE)
    assert pool.snapshot().workers[0].pid == pid


def test_nothing_of_ours_is_written_into_files_that_have_our_numbers(fresh, board: Board):
    """An item puts a file of its own in the place of everything that it finds open."""
    pool = fresh(1)
    file = board.folder / "mine"

    def item(_: int) -> str:
        mine = os.open(file, os.O_RDWR | os.O_CREAT)
        for number in range(3, 1100):
            if number != mine:
                os.dup2(mine, number)
        return "a text that is long enough to be found"

    (failure,) = pool.map(item, [1], on_error="return", rerun_lost=False).result(DEADLINE)
    assert isinstance(failure.error, WorkerLost)
    assert failure.error.exitcode == 71
    assert file.read_bytes() == b""
