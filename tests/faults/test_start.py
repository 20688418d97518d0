"""Workers that cannot start: one clear error with the cause for everybody who waits, and no storm of processes.

When the cause is gone, the pool works. A quick run tries some of the ways to fail, ``AIOPOOL_SWEEP=all`` each.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

from aiopool import Pool, WorkerStartFailed
from aiopool._runtime import process
from aiopool.engines.local import LocalEngine
from tests.pool import work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import children, ended, shortly, still_works

MOST_STARTS = 3
"""How often a worker may be started per place of the pool, before it is given up."""


QUICK = [
    "raises", "raises what does not load here", "sys.exit", "os._exit", "last words", "SIGKILL", "floods and raises",
    "sleeps", "never awakes", "holds the GIL",
]  # fmt: skip


def tried(cases: dict[str, Any]) -> dict[str, Any]:
    """Those of the cases that this run tries."""
    everything = os.environ.get("AIOPOOL_SWEEP") == "all"
    return {name: case for name, case in cases.items() if everything or name in QUICK}


class Starts:
    """Counts how often a worker was started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        start = LocalEngine.start

        def counted(*args: Any) -> Any:
            self.count += 1
            return start(*args)

        monkeypatch.setattr(LocalEngine, "start", counted)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    """How often a worker was started in this test."""
    return Starts(monkeypatch)


async def everybody_is_told(pool: Pool, told: str, starts: Starts, seconds: float = 30.0) -> WorkerStartFailed:
    """Two who await one job, a thread, a loop, a submit, a broadcast, an endless input: the same words, in time."""
    begun = time.monotonic()
    job = pool.map(work.double, range(10))

    async def iterate(job: Any) -> None:
        async for _ in job:
            raise AssertionError("nothing can have run")

    waiting = [
        job._all(),
        job._all(),
        asyncio.to_thread(pool.map(work.double_later, range(10)).result, DEADLINE),
        asyncio.to_thread(list, pool.map(work.double, range(3), on_error="return")),
        iterate(pool.map(work.double, iter(range(100)))),
        iterate(pool.map(work.double, range(10)).as_completed()),
        pool.submit(work.double, 1)._all(),  # type: ignore[attr-defined]
        pool.broadcast(work.pid)._all(),
    ]
    errors = await shortly(asyncio.gather(*waiting, return_exceptions=True))
    for error in errors:
        assert isinstance(error, WorkerStartFailed), repr(error)
        assert told in str(error), str(error)
    assert time.monotonic() - begun < seconds
    # Those who come later try again, once, and are told the same.
    with pytest.raises(WorkerStartFailed) as caught:
        await shortly(pool.submit(work.double, 1))
    assert told in str(caught.value)
    until(lambda: not pool.snapshot().workers, what="no worker is being started any more")
    count = starts.count
    assert count <= 4 * MOST_STARTS * pool.size
    stays(lambda: starts.count == count and not pool.snapshot().workers, 0.3, "nobody tries again by itself")
    return caught.value


def is_usable(pool: Pool) -> None:
    """It works, and it can be closed."""
    still_works(pool)
    pool.close()
    pool.join(DEADLINE)
    until(lambda: not pool.snapshot().workers)


def initializer(source: str) -> Callable[..., Any]:
    """A function of a cell, which travels by value. It does no harm any more once the board says so."""
    names: dict[str, Any] = {"__name__": "__main__", "HERE": os.getpid()}
    body = textwrap.indent(textwrap.dedent(source), "    ")
    kind = "async def" if "await" in source else "def"
    exec(
        "import asyncio, os, sys, time, signal\n"
        "class Unloadable(Exception):\n"
        "    def __reduce__(self): return load, ()\n"
        "def load():\n"
        "    if os.getpid() == HERE: raise SystemExit('not here')\n"
        "    return Unloadable('the real message')\n"
        f"{kind} initialize(board):\n    if board.marks('mended'): return\n{body}",
        names,
    )
    return names["initialize"]  # type: ignore[no-any-return]


BAD: dict[str, tuple[str, str]] = {
    "raises": ("raise FileNotFoundError('model.bin is not there')", "FileNotFoundError: model.bin is not there"),
    "raises later": ("await asyncio.sleep(0)\nraise KeyError('licence')", "KeyError: 'licence'"),
    "raises what does not load here": ("raise Unloadable('the real message')", "the real message"),
    "raises a group": ("raise ExceptionGroup('two reasons', [ValueError(1), KeyError(2)])", "two reasons"),
    "sys.exit": ("sys.exit('no licence')", "SystemExit: no licence"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "is cancelled": ("await asyncio.sleep(0)\nraise asyncio.CancelledError('why')", "CancelledError"),
    "os._exit": ("os._exit(9)", "9"),
    "os._exit(0)": ("os._exit(0)", "0"),
    "last words": ("os.write(2, b'CUDA driver is too old\\n')\nos._exit(1)", "CUDA driver is too old"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)", "SIGTERM"),
    "segfault": ("__import__('ctypes').string_at(0)", "SIGSEGV"),
    "forks and dies": ("if os.fork() == 0: time.sleep(60)\nos._exit(9)", "9"),
    "floods and raises": ("for _ in range(20_000): print('x' * 100)\nraise ValueError('at last')", "at last"),
    "closes everything": ("os.closerange(3, 1000)\nraise ValueError('never told')", ""),
}  # fmt: skip


@pytest.mark.parametrize(("source", "told"), tried(BAD).values(), ids=tried(BAD).keys())
async def test_an_initializer_that_fails_is_told_to_everybody(
    fresh: Callable[..., Pool], board: Board, starts: Starts, source: str, told: str
):
    """With its cause; soon; and when it does not fail any more, the pool works."""
    pool = fresh(1, initializer=initializer(source), initargs=(board,))
    await everybody_is_told(pool, told, starts)
    board.mark("mended")
    await asyncio.to_thread(is_usable, pool)


def test_the_error_of_an_initializer_is_loaded_by_who_waits(fresh: Callable[..., Pool], board: Board):
    """Loading runs a user's code, and whatever holds the pool's own thread holds every job."""
    loads = """
        def load():
            board.mark("loaded in", threading.current_thread().name)
            return Told("the real message")
        class Told(Exception):
            def __reduce__(self): return load, ()
        board.mark("loaded in")
        raise Told("the real message")
    """
    pool = fresh(1, initializer=initializer(f"import threading\n{textwrap.dedent(loads)}"), initargs=(board,))
    with pytest.raises(WorkerStartFailed, match=r"the initializer raised Told: the real message$") as caught:
        pool.submit(work.double, 1).result(DEADLINE)
    assert str(caught.value.__cause__) == "the real message"
    assert board.marks("loaded in")[-1] == threading.current_thread().name
    assert not [name for name in board.marks("loaded in") if name.startswith("aiopool")]


HANGS = {
    "sleeps": "time.sleep(3600)",
    "never awakes": "await asyncio.sleep(3600)",
    "spins": "while True: pass",
    "swallows cancels": "while True:\n    try: await asyncio.sleep(3600)\n    except asyncio.CancelledError: pass",
    "holds the GIL": "__import__('ctypes').PyDLL(None).sleep(3600)",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "has forked": "os.fork()\ntime.sleep(3600)",
}


@pytest.mark.parametrize("source", tried(HANGS).values(), ids=tried(HANGS).keys())
async def test_an_initializer_that_hangs_is_told_after_the_start_timeout(
    fresh: Callable[..., Pool], board: Board, starts: Starts, source: str
):
    """However it hangs; and which limit that was."""
    pool = fresh(1, initializer=initializer(source), initargs=(board,), start_timeout=0.3)
    await everybody_is_told(pool, "0.3 s", starts)
    board.mark("mended")
    # A machine under load needs longer for a start than a test can wait for a hanging one.
    pool._driver._io.ask(lambda: setattr(pool._driver._ledger._team, "_start_timeout", 30.0))
    await asyncio.to_thread(is_usable, pool)


GOOD = {
    "forks": "if os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)",
    "floods": "for _ in range(20_000): print('x' * 100)",
    "returns a value": "return object()",
    "returns what is awaited": "await asyncio.sleep(0.01)",
    "closes its streams": "os.close(1); os.close(2)",
    "changes folder": "os.chdir('/')",
    "has a signal handler": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD.keys())
def test_an_initializer_that_is_only_odd_is_none_of_our_business(fresh: Callable[..., Pool], board: Board, source: str):
    """The worker starts, and ends with all that it has started."""
    before = children()
    pool = fresh(2, initializer=initializer(source), initargs=(board,))
    is_usable(pool)
    until(lambda: children() <= before, what="nobody is left")


# --- an environment in which nothing starts ---------------------------------------------------------------------------


@pytest.fixture
def executable() -> Iterator[Callable[[str], None]]:
    """Set which interpreter is started."""
    before = spawn.get_executable()
    yield spawn.set_executable
    spawn.set_executable(before)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/no/such/python", "/no/such/python"),
        ("/etc/passwd", "Permission"),
        ("/bin/false", "1"),
        ("/bin/true", "0"),
    ],
)
async def test_an_interpreter_that_is_none_is_told(
    fresh: Callable[..., Pool], starts: Starts, executable: Callable[[str], None], path: str, told: str
):
    """One that does not exist, is no program, or is another one."""
    executable(path)
    pool = fresh(2)
    error = await everybody_is_told(pool, told, starts)
    if path == "/no/such/python":
        assert isinstance(error.__cause__, FileNotFoundError)
    executable(sys.executable)
    await asyncio.to_thread(is_usable, pool)


async def test_a_program_that_never_answers_is_told_after_the_start_timeout(
    fresh: Callable[..., Pool], starts: Starts, executable: Callable[[str], None], tmp_path: Path
):
    """It is no interpreter of ours, and does not even end."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho I am no python\nexec sleep 3600\n")
    program.chmod(0o755)
    executable(str(program))
    before = children()
    pool = fresh(1, start_timeout=0.5)
    await everybody_is_told(pool, "0.5 s", starts)
    until(lambda: children() <= before, what="nobody is left")


BROKEN: dict[str, tuple[str, str]] = {
    "one raises": ("pickle.py", "raise ImportError('this pickle is broken')"),
    "one has not what is asked for": ("pickle.py", "'''is broken'''; loads"),
    "one ends the process": ("pickle.py", "import os; os.write(2, b'it is broken'); os._exit(3)"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_an_interpreter_that_cannot_import_is_told(
    fresh: Callable[..., Pool], starts: Starts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: tuple[str, str]
):
    """With the last words of one that has tried."""
    name, source = broken
    (tmp_path / name).write_text(source)
    path = process.boot_path()
    with monkeypatch.context() as patched:
        patched.setattr(process, "boot_path", lambda: [str(tmp_path), *path])
        pool = fresh(2)
        await everybody_is_told(pool, "is broken", starts)
    await asyncio.to_thread(is_usable, pool)


def test_a_package_that_only_some_items_need_fails_only_where_they_come(
    fresh: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Functions of a cell need cloudpickle, and so do errors; functions of a module do not."""
    (tmp_path / "cloudpickle.py").write_text("raise ImportError('this cloudpickle is broken')")
    path = process.boot_path()
    monkeypatch.setattr(process, "boot_path", lambda: [str(tmp_path), *path])
    pool = fresh(1)
    assert pool.map(abs, [-1, -2]).result(DEADLINE) == [1, 2]
    with pytest.raises(WorkerStartFailed, match="this cloudpickle is broken"):
        pool.map(lambda x: x, [1]).result(DEADLINE)
    assert pool.map(abs, [-3]).result(DEADLINE) == [3]


async def test_a_wrong_pythonhome_is_told(fresh: Callable[..., Pool], starts: Starts, monkeypatch: pytest.MonkeyPatch):
    """In the words of the interpreter that does not find its own library."""
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONHOME", "/no/such/home")
        pool = fresh(2)
        await everybody_is_told(pool, "encodings", starts)
    await asyncio.to_thread(is_usable, pool)


def test_a_folder_that_is_gone_keeps_nobody_from_starting(
    fresh: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The notebook's folder was removed, or renamed, before the first worker starts."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    is_usable(fresh(2))


@pytest.mark.parametrize("name", ["types.py", "signal.py", "json.py", "cloudpickle.py", "site.py", "sitecustomize.py"])
def test_a_file_beside_the_notebook_that_is_called_like_a_module_keeps_nobody_from_starting(
    fresh: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    """Not even where the folder stands first on the path."""
    (tmp_path / name).write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    is_usable(fresh(1))


async def test_processes_that_cannot_be_made_are_told(
    fresh: Callable[..., Pool], starts: Starts, monkeypatch: pytest.MonkeyPatch
):
    """The user has as many as they may have: EAGAIN."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(process, "_Child", refuse)
        pool = fresh(2)
        error = await everybody_is_told(pool, "Resource temporarily unavailable", starts)
        assert isinstance(error.__cause__, BlockingIOError)
    await asyncio.to_thread(is_usable, pool)


def open_files() -> list[str]:
    """The numbers of this process's open files."""
    return [each.name for each in Path("/proc/self/fd").iterdir()]


@pytest.fixture
def no_number_is_free() -> Iterator[None]:
    """Of the numbers below the highest open file: those would be used first, whatever the limit."""
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while len(open_files()) <= max(map(int, open_files())):
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for filler in fillers:
        os.close(filler)


@pytest.mark.parametrize("left", range(0, 15, 2))
def test_files_that_cannot_be_opened_are_told_and_none_is_left_open(
    fresh: Callable[..., Pool], no_number_is_free: None, left: int
):
    """The process has as many as it may have: EMFILE, whichever pipe or page it is that cannot be made."""
    pool = fresh(1)
    # What a pool holds for as long as it is open is opened with its first worker.
    os.kill(pool.submit(os.getpid).result(DEADLINE), signal.SIGKILL)
    until(lambda: not pool.snapshot().workers, what="nobody is left")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(open_files())
    error: BaseException | None = None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, open_files())) + 1 + left, hard))
        job = pool.submit(work.double, 4)
        try:
            job.result(DEADLINE)
        except WorkerStartFailed as failed:
            error = failed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if error is not None:
        # While the error is held, and with it whatever its frames hold.
        until(lambda: len(open_files()) <= before, what="the files are closed again")
    is_usable(pool)


async def test_one_worker_that_cannot_start_ends_no_job_that_has_another(
    fresh: Callable[..., Pool], board: Board, starts: Starts
):
    """The first one up works, whatever becomes of the second one."""

    def only_once(board: Board) -> None:
        try:
            (board.folder / "taken").mkdir()  # by one of them, however close they come
        except FileExistsError:
            if not board.marks("mended"):
                os._exit(3)

    pool = fresh(2, initializer=only_once, initargs=(board,))
    results = await shortly(pool.map(work.nap, [0.05] * 20))
    assert len(results) == 20
    assert starts.count <= 1 + 2 * MOST_STARTS
    board.mark("mended")
    await asyncio.to_thread(is_usable, pool)


def test_a_pool_whose_workers_hang_in_their_start_ends_at_once(fresh: Callable[..., Pool], board: Board):
    """Terminate does not wait for the start timeout; whoever waits is told."""

    def hang(board: Board) -> None:
        board.mark("hanging")
        time.sleep(3600)

    pool = fresh(2, initializer=hang, initargs=(board,))
    job = pool.map(work.double, range(10))
    board.wait("hanging")
    begun = time.monotonic()
    ended(pool)
    assert job.done()
    assert time.monotonic() - begun < 15


def test_closing_a_pool_whose_workers_cannot_start_ends(fresh: Callable[..., Pool], board: Board):
    """Close waits for the jobs, and those end as they must."""
    pool = fresh(2, initializer=initializer("raise ValueError('never')"), initargs=(board,))
    job = pool.map(work.double, range(10))
    pool.close()
    pool.join(DEADLINE)
    with pytest.raises(WorkerStartFailed, match="never"):
        job.result(DEADLINE)
    until(lambda: not [thread for thread in threading.enumerate() if pool.snapshot().name in thread.name])
