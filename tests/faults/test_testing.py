"""The fault injectors that users are given: each does what it says, where it is meant to, and nowhere else."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from aiopool import Failure, ItemTimeout, NotPicklable, Pool, WorkerLost, testing
from tests.faults.conftest import GRACE, give_time
from tests.faults.situations import pids
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, our_threads
from tests.pool.scripts import environment, run, script

pytestmark = pytest.mark.usefixtures("afterwards")

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


# --- faults of an item -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "exitcode"),
    [
        (testing.die, -signal.SIGKILL),
        (functools.partial(testing.die, signal.SIGTERM), -signal.SIGTERM),
        (testing.crash, -signal.SIGSEGV),
        (functools.partial(testing.exit_process, 3), 3),
    ],
)
def test_what_ends_a_worker_ends_it_in_its_way(pool, fault, exitcode):
    """And its call as WorkerLost."""
    with pytest.raises(WorkerLost) as caught:
        pool.submit(fault).result(DEADLINE)
    assert caught.value.exitcode == exitcode


@pytest.mark.parametrize("fault", [testing.die, testing.crash, testing.exit_process])
def test_what_ends_a_worker_ends_nothing_else(fault):
    """A function may be tried by hand, in a notebook, without ending the kernel."""
    with pytest.raises(RuntimeError, match="no worker"):
        fault()


def test_hang_is_deaf_if_it_is_told_to(pool, board: Board, monkeypatch):
    """Both kinds, and both ways: whether a timeout costs the worker shows it."""

    async def later(_: int, *, deaf: bool) -> None:
        await testing.ahang(3600, deaf=deaf)

    def at_once(_: int, *, deaf: bool) -> None:
        testing.hang(3600, deaf=deaf)

    for fn in (at_once, later):
        for deaf in (False, True):
            give_time(pool, monkeypatch, GRACE if deaf else DEADLINE)
            before = pids(pool)
            job = pool.map(functools.partial(fn, deaf=deaf), [1], timeout=0.2, on_error="return")
            (failure,) = job.result(DEADLINE)
            assert isinstance(failure.error, ItemTimeout)
            assert len(before - pids(pool)) == int(deaf)
            until(lambda: pool.broadcast(work.pid).result(DEADLINE))


def test_hang_and_hold_the_gil_take_the_time_that_they_are_told(pool):
    """No more and no less; while the second one does, no other thread of its worker runs."""

    def held(seconds: float) -> int:
        turns = 0
        over = threading.Event()

        def turn() -> None:
            nonlocal turns
            while not over.wait(0.001):
                turns += 1

        thread = threading.Thread(target=turn)
        thread.start()
        testing.hold_the_gil(seconds)
        seen = turns
        over.set()
        thread.join()
        return seen

    for fn in (testing.hang, functools.partial(testing.hang, deaf=False), testing.ahang, testing.hold_the_gil):
        begun = time.monotonic()
        pool.submit(fn, 0.2).result(DEADLINE)
        assert 0.2 <= time.monotonic() - begun < 5
    assert pool.submit(held, 1.0).result(DEADLINE) < 200


def test_leak_takes_memory_for_good(pool):
    """As much as it says, for as long as the worker lives."""

    def taken(size: int) -> int:
        before = psutil.Process().memory_info().rss
        testing.leak(size)
        return psutil.Process().memory_info().rss - before

    assert pool.submit(taken, 50_000_000).result(DEADLINE) > 40_000_000


def test_flood_prints_so_many_lines(pool):
    """Each with its number."""

    def item() -> None:
        testing.flood(1000)
        testing.die()

    with pytest.raises(WorkerLost) as caught:
        pool.submit(item).result(DEADLINE)
    assert "a line of a chatty library 999" in caught.value.stderr


def test_what_cannot_travel_is_told_by_its_name(pool):
    """A result that cannot be pickled, and one that cannot be loaded."""
    with pytest.raises(NotPicklable, match="lock"):
        pool.submit(testing.unpicklable).result(DEADLINE)
    with pytest.raises(ValueError, match="cannot be loaded"):
        pool.submit(testing.Unloadable).result(DEADLINE)
    with pytest.raises(KeyError, match="mine"):
        pool.submit(lambda: testing.Unloadable(KeyError("mine"))).result(DEADLINE)


# --- functions that fail now and then --------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [work.double, work.double_later])
def test_faulty_strikes_every_so_many_items(pool, fn):
    """Those with the indices 4, 9, 14 and so on, and no others; the function keeps its kind and its name."""

    def fault() -> None:
        raise ValueError("struck")

    results = pool.map(testing.faulty(fn, fault, every=5), range(20), on_error="return").result(DEADLINE)
    assert [x for x, value in enumerate(results) if isinstance(value, Failure)] == [4, 9, 14, 19]
    assert results[:4] == [0, 2, 4, 6]
    assert testing.faulty(fn).__name__ == fn.__name__


@pytest.mark.parametrize("fn", [work.double, work.double_later])
@pytest.mark.parametrize("fault", [testing.die, testing.crash])
def test_once_strikes_an_item_in_its_first_run_only(pool, tmp_path, fn, fault):
    """On whatever worker the next one is: a map loses nothing by it."""
    shaky = testing.faulty(fn, testing.once(fault, tmp_path / "made"), every=7)
    assert pool.map(shaky, range(30)).result(DEADLINE) == list(range(0, 60, 2))
    assert len(list((tmp_path / "made").iterdir())) == 4


def test_once_with_an_error_is_mended_by_a_retry(pool, tmp_path):
    """As what fails now and then is."""

    def fault() -> None:
        raise ConnectionError("reset by peer")

    job = pool.map(testing.faulty(work.double, testing.once(fault, tmp_path), every=1), range(10), retries=1, backoff=0)
    assert job.result(DEADLINE) == list(range(0, 20, 2))
    assert {row["attempts"] for row in job.records()} == {2}


def test_an_async_fault_needs_an_async_function(pool):
    """Said when it is put in, not when it strikes."""
    lazy = testing.faulty(work.double_later, functools.partial(testing.ahang, 0.01), every=2)
    assert pool.map(lazy, range(4)).result(DEADLINE) == [0, 2, 4, 6]
    with pytest.raises(TypeError, match="async def"):
        testing.faulty(work.double, testing.ahang)
    with pytest.raises(ValueError, match="every=0"):
        testing.faulty(work.double, every=0)


# --- on a pool, from outside -----------------------------------------------------------------------------------------


def test_kill_worker_ends_the_worker_of_a_place(pool):
    """That one, and says which it was."""
    places = {info.index: info.pid for info in pool.snapshot().workers}
    assert testing.kill_worker(pool, 1) == places[1]
    until(lambda: places[1] not in pids(pool))
    assert places[0] in pids(pool)


def test_kill_worker_says_where_there_is_none(fresh):
    """A pool starts workers when there is work; the message says how to have them."""
    pool = fresh(2)
    with pytest.raises(LookupError, match=r"no worker runs at place 0 \(none does\).*broadcast"):
        testing.kill_worker(pool)
    pool.broadcast(os.getpid).result(DEADLINE)
    with pytest.raises(LookupError, match="those that do: 0, 1"):
        testing.kill_worker(pool, 7)


def test_kill_workers_ends_all_of_them(pool):
    """And says which they were."""
    before = pids(pool)
    assert set(testing.kill_workers(pool)) == before
    until(lambda: not before & pids(pool))


def test_stop_worker_lets_it_go_on_afterwards(pool):
    """Also if it was killed in between."""
    with testing.stop_worker(pool, 1) as pid:
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    until(lambda: psutil.Process(pid).status() != psutil.STATUS_STOPPED)
    with testing.stop_worker(pool, 1) as pid:
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in pids(pool))


# --- nothing is left -------------------------------------------------------------------------------------------------


def test_a_pool_that_was_ended_leaves_nothing():
    """Whatever it did."""
    with testing.check_leaks(), Pool(workers=2, grace=0.2) as other:
        assert other.map(testing.faulty(work.double, every=3), range(6), on_error="return").result(DEADLINE)


def test_check_leaks_names_what_is_left():
    """Processes, threads and files; and it waits no longer than it is told."""
    with pytest.raises(AssertionError) as caught, testing.check_leaks(0.3):  # noqa: PT012  # what is left is inside
        # Several: it goes by numbers, and meanwhile a thread may end that was idle, or a process that was to end.
        others = [Pool(workers=1, name="left open") for _ in range(4)]
        for other in others:
            other.submit(work.double, 1).result(DEADLINE)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    for other in others:
        ended(other)
    until(lambda: not [name for name in our_threads() if "left open" in name])
    told = str(caught.value)
    assert told.startswith("still there 0.3 s after the end: process ")
    for what in ("thread 'aiopool-left open'", "file descriptor", "pipe:" if sys.platform == "linux" else "file"):
        assert what in told


@pytest.mark.parametrize("what", ["file", "process", "memory"])
def test_check_leaks_sees_each_kind(tmp_path, what):
    """A file that stays open, a program that runs on, a name in shared memory."""
    name = Path("/dev/shm") / f"left-{os.getpid()}"
    if what == "memory" and not name.parent.is_dir():
        pytest.skip("this system shows no names of shared memory")
    with pytest.raises(AssertionError) as caught, testing.check_leaks(0.2):  # noqa: PT012  # what is left is inside
        # Several, as above.
        if what == "file":
            files = [(tmp_path / f"left-{number}.txt").open("w") for number in range(5)]
        elif what == "process":
            programs = [subprocess.Popen(["sleep", "60"]) for _ in range(5)]
        else:
            name.touch()
    if what == "file":
        for file in files:
            file.close()
            assert Path(file.name).name in str(caught.value) or sys.platform != "linux"
    elif what == "process":
        for program in programs:
            program.kill()
            program.wait()
            assert f"process {program.pid} (sleep 60)" in str(caught.value)
    else:
        name.unlink()
        assert f"shared memory {name}" in str(caught.value)


def test_an_error_inside_check_leaks_is_passed_on():
    """It is why things are left, and says more."""
    with pytest.raises(ZeroDivisionError), testing.check_leaks(0):
        raise ZeroDivisionError


# --- in a user's hands -----------------------------------------------------------------------------------------------


def test_importing_it_needs_neither_pytest_nor_psutil(tmp_path):
    """A worker that imports it because an item uses it stays light."""
    file = script(
        tmp_path,
        """
        import sys
        import aiopool
        aiopool.testing.once
        from aiopool import testing
        assert testing is aiopool.testing
        print({"pytest", "psutil", "ctypes", "multiprocessing"} & sys.modules.keys())
        sys.modules["pytest"] = None
        try:
            from aiopool.testing import no_leaks
        except ImportError as error:
            print(error)
        """,
    )
    assert run(file, cwd=tmp_path).splitlines() == [
        "set()",
        "no_leaks is a fixture of pytest, which is not installed. `with testing.check_leaks():` does without",
    ]


def pytest_of_user(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, in a folder of theirs."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"],
        check=False,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_the_fixture_no_leaks_finds_the_test_that_leaves_a_pool_open(tmp_path):
    """And no other one."""
    (tmp_path / "conftest.py").write_text("from aiopool.testing import no_leaks\n")
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            from aiopool import Pool, testing

            testing.check_leaks.__wrapped__.__defaults__ = (0.5,)  # not five seconds
            kept = []

            def test_closes(no_leaks):
                with Pool(workers=1) as pool:
                    assert pool.map(abs, [-1], progress=False).result(20) == [1]

            def test_forgets(no_leaks):
                kept.append(Pool(workers=1))
                assert kept[0].map(abs, [-1], progress=False).result(20) == [1]
            """
        )
    )
    done = pytest_of_user(tmp_path)
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR test_mine.py::test_forgets" in done.stdout
    assert "thread 'aiopool-pool-2'" in done.stdout


def test_the_examples_of_the_page_run(tmp_path):
    """As they stand: each block that names its file is that file."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert {name for name, _ in blocks} >= {"conftest.py", "pipeline.py", "test_pipeline.py"}
    for name, text in blocks:
        with (tmp_path / name).open("a") as file:
            file.write(text)
    done = pytest_of_user(tmp_path)
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_the_page_names_everything_that_is_public():
    """And nothing that is not there."""
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"testing\.([A-Za-z_]+)", text))
    assert {*testing.__all__, "no_leaks"} - named == set()
    assert [name for name in named if not hasattr(testing, name)] == []
