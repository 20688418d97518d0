"""Faults to put into a function or a pool, and checks that nothing is left: for tests of code that uses a pool.

::

    from aiopool import testing

    def test_the_pipeline_survives_workers_that_die(tmp_path):
        shaky = testing.faulty(score, testing.once(testing.die, tmp_path), every=10)
        assert pmap(shaky, images).result(60) == [score(image) for image in images]

A *fault* is anything that can be called without arguments: ``testing.die``, ``lambda: testing.leak(10**9)``. Those that
end a process do so in a worker only: called anywhere else, as when a function is tried by hand, they raise.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from aiopool import inside

if TYPE_CHECKING:
    from aiopool.pool import Pool

__all__ = [
    "Fault",
    "FragileError",
    "Unloadable",
    "ahang",
    "check_leaks",
    "crash",
    "die",
    "exit_process",
    "faulty",
    "flood",
    "hang",
    "hold_the_gil",
    "kill_worker",
    "kill_workers",
    "leak",
    "once",
    "stop_worker",
    "unpicklable",
]  # and no_leaks, which only pytest can make: it is missing here so that `import *` works without pytest

P = ParamSpec("P")
R = TypeVar("R")

Fault = Callable[[], object]
"""What goes wrong: a function without arguments, which is called where the item runs."""

LOOK_EVERY = 0.01

_leaked: list[bytes] = []


# --- what an item may do to its worker -------------------------------------------------------------------------------


def die(sig: int = signal.SIGKILL) -> None:
    """End this worker by a signal, as the system does that has run out of memory.

    ``die(signal.SIGTERM)`` ends it as an administrator would. The item ends as :class:`~aiopool.errors.WorkerLost`.
    """
    _only_in_a_worker("die()")
    os.kill(os.getpid(), sig)


def crash() -> None:
    """Read the address 0, as a bug in an extension module does: the worker ends by SIGSEGV."""
    _only_in_a_worker("crash()")
    import ctypes  # only who crashes needs it

    ctypes.string_at(0)


def exit_process(code: int = 1) -> NoReturn:
    """End this worker at once with an exit code, as ``os._exit`` and ``exit()`` in C code do."""
    _only_in_a_worker("exit_process()")
    os._exit(code)


def hang(seconds: float = 3600.0, *, deaf: bool = True) -> None:
    """Block for so many seconds. ``deaf``: swallow the CancelledError by which a cancel or a timeout asks for the end.

    For a ``def``; a coroutine that calls it holds its worker's loop. A deaf one costs its worker after ``grace``.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except asyncio.CancelledError:
            if not deaf:
                raise


async def ahang(seconds: float = 3600.0, *, deaf: bool = True) -> None:
    """As :func:`hang`, for an ``async def``: the loop turns meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            if not deaf:
                raise


def hold_the_gil(seconds: float) -> None:
    """Compute for so many seconds in C, without letting any other thread run, and deaf to signals until the end.

    As ``3**10**8`` and many a regular expression do. The pool shows such a worker as ``stuck``.
    """
    # Not one step of it is Python's: neither a signal handler nor another thread comes in between.
    all(map((time.monotonic() + seconds).__gt__, iter(time.monotonic, None)))


def leak(size: int) -> None:
    """Take so many bytes of memory and never give them back, as long as the worker lives."""
    _leaked.append(b"\1" * size)


def flood(lines: int = 100_000, text: str = "a line of a chatty library") -> None:
    """Print so many lines."""
    for number in range(lines):
        sys.stdout.write(f"{text} {number}\n")


# --- what cannot travel ----------------------------------------------------------------------------------------------


def unpicklable() -> object:
    """Make something that cannot be pickled: a lock. As a result it ends its item as ``NotPicklable``."""
    return threading.Lock()


class Unloadable:
    """A value that can be pickled, and raises ``error`` when it is loaded on the other side."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error if error is not None else ValueError("this value cannot be loaded")

    def __reduce__(self) -> tuple[Callable[[BaseException], NoReturn], tuple[BaseException]]:
        return _raise, (self.error,)


class FragileError(Exception):
    """An error that pickle takes apart and cannot put together again, as many a library's: it wants two arguments."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


def _raise(error: BaseException) -> NoReturn:
    raise error


# --- functions that fail now and then --------------------------------------------------------------------------------


def faulty(fn: Callable[P, R], fault: Fault = die, *, every: int = 10) -> Callable[P, R]:
    """A function like ``fn`` that meets a fault before every tenth item: items 9, 19, 29 and so on of its map.

    ``every=1`` strikes all of them. ``fn`` may be a ``def`` or an ``async def``; only for the latter may the fault be
    one, too. A fault that returns lets the item go on: ``faulty(fetch, lambda: testing.leak(10**8))``.
    """
    if every < 1:
        raise ValueError(f"every={every!r}: it is a number of items, 1 or more")

    # Not the function's own: by that a worker would import the one without faults, where a test has put this one into
    # the module in its place.
    qualname = f"faulty({getattr(fn, '__qualname__', type(fn).__name__)})"

    def strikes() -> bool:
        return (inside.current_item().index + 1) % every == 0

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def faulty_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            if strikes() and inspect.isawaitable(struck := fault()):
                await struck
            return await fn(*args, **kwargs)

        faulty_async.__qualname__ = qualname
        return faulty_async  # type: ignore[return-value]  # for an async def, R is what its call gives: an awaitable

    if inspect.iscoroutinefunction(fault):
        raise TypeError("the fault is an async def, and the function is not: it could not await it")

    @functools.wraps(fn)
    def faulty_def(*args: P.args, **kwargs: P.kwargs) -> R:
        if strikes():
            fault()
        return fn(*args, **kwargs)

    faulty_def.__qualname__ = qualname
    return faulty_def


def once(fault: Fault, folder: str | os.PathLike[str]) -> Fault:
    """A fault that strikes each item once: the first run fails, the next one succeeds, on whatever worker.

    ``folder`` is where that is remembered, such as pytest's ``tmp_path``: one folder for each map and fault.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    return functools.partial(_once, fault, str(Path(folder).resolve()))


def _once(fault: Fault, folder: str) -> object:
    try:
        # Before the fault, which may end this process; and in one step, for two may run the item at the same time.
        (Path(folder) / f"struck-{inside.current_item().index}").touch(exist_ok=False)
    except FileExistsError:
        return None
    return fault()


def _only_in_a_worker(call: str) -> None:
    if not inside.is_worker():
        raise RuntimeError(f"{call} would end this process, which is no worker: call it in a function that a pool runs")


# --- on a pool, from outside -----------------------------------------------------------------------------------------


def kill_worker(pool: Pool, index: int = 0, sig: int = signal.SIGKILL) -> int:
    """Send the worker at this place of the pool a signal, by default one that ends it; its process id.

    The pool starts workers when there is work: where this one does not run, LookupError is raised.
    """
    pid = _pid(pool, index)
    os.kill(pid, sig)
    return pid


def kill_workers(pool: Pool, sig: int = signal.SIGKILL) -> list[int]:
    """Send every worker of the pool that runs a signal; their process ids."""
    pids = sorted(_running(pool).values())
    for pid in pids:
        # One of them may be ending by itself.
        with suppress(ProcessLookupError):
            os.kill(pid, sig)
    return pids


@contextmanager
def stop_worker(pool: Pool, index: int = 0) -> Iterator[int]:
    """Stop the worker at this place, as a debugger or a machine without memory does, and let it go on afterwards.

    ::

        with testing.stop_worker(pool) as pid:
            ...                                   # it neither works nor answers
    """
    pid = kill_worker(pool, index, signal.SIGSTOP)
    try:
        yield pid
    finally:
        # It may have been killed meanwhile, because it did not answer.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _running(pool: Pool) -> dict[int, int]:
    """The process ids of the workers that run, by place."""
    infos = pool.snapshot().workers
    return {info.index: info.pid for info in infos if info.pid is not None and info.state != "lost"}


def _pid(pool: Pool, index: int) -> int:
    running = _running(pool)
    if index not in running:
        there = f"those that do: {', '.join(map(str, sorted(running)))}" if running else "none does"
        raise LookupError(
            f"no worker runs at place {index} ({there}). A pool starts workers when there is work: "
            "pool.broadcast(os.getpid).result() starts them all"
        )
    return running[index]


# --- nothing is left -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Taken:
    """What this process has, by kind, each with what it is called in a message."""

    processes: dict[object, str]
    threads: dict[object, str]
    files: dict[object, str]
    memory: dict[str, str]

    @classmethod
    def now(cls) -> _Taken:
        gc.collect()  # What nobody holds any more ends with its last holder.
        return cls(_processes(), _threads(), _files(), _shared_memory())

    def beyond(self, before: _Taken) -> list[str]:
        """What is there now in addition. By number: a worker that was replaced is as good as the one before.

        But for shared memory, where names come and go that are none of ours.
        """
        kinds = (
            (self.processes, before.processes),
            (self.threads, before.threads),
            (self.files, before.files),
        )
        left = [name for now, then in kinds if len(now) > len(then) for key, name in now.items() if key not in then]
        new = self.memory.keys() - before.memory.keys()
        return left + [self.memory[name] for name in sorted(new - _in_use_elsewhere(new))]


@contextmanager
def check_leaks(deadline: float = 5.0) -> Iterator[None]:
    """Check that what is done inside leaves nothing behind; needs no pytest, where it is the fixture ``no_leaks``.

    ::

        with testing.check_leaks():
            with Pool(workers=2) as pool:
                pool.map(work, data).result()

    Child processes, threads of a pool, open file descriptors and names in ``/dev/shm`` must be back to as many as there
    were, ``deadline`` seconds later at the latest; otherwise AssertionError names those that are new. An exception
    inside is passed on, and nothing checked. The pool that all cells share is one that stays: close it first.
    """
    before = _Taken.now()
    yield
    until = time.monotonic() + deadline
    while left := _Taken.now().beyond(before):
        if time.monotonic() >= until:
            raise AssertionError(f"still there {deadline:g} s after the end: {'; '.join(left)}")
        time.sleep(LOOK_EVERY)


def _processes() -> dict[object, str]:
    import psutil  # only who looks for leaks needs it

    found: dict[object, str] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(" ".join(child.cmdline()).split())[:60] or f"{child.name()}, {child.status()}"
        except psutil.NoSuchProcess:
            continue
        found[child.pid] = f"process {child.pid} ({command})"
    return found


def _threads() -> dict[object, str]:
    return {
        thread.ident: f"thread {thread.name!r}" for thread in threading.enumerate() if thread.name.startswith("aiopool")
    }


def _files() -> dict[object, str]:
    found: dict[object, str] = {}
    folder = next((folder for folder in (Path("/proc/self/fd"), Path("/dev/fd")) if folder.exists()), None)
    for entry in folder.iterdir() if folder is not None else ():
        try:
            # The system's own name for it, where there is one: it says what the file is.
            target = str(entry.readlink()) if entry.is_symlink() else oct(entry.stat().st_mode)
        except OSError:
            continue  # It was the one through which the folder was read.
        found[entry.name, target] = f"file descriptor {entry.name} ({target})"
    return found


def _shared_memory() -> dict[str, str]:
    folder = Path("/dev/shm")  # noqa: S108  # where shared memory has its names
    return {entry.name: f"shared memory {entry}" for entry in folder.iterdir()} if folder.is_dir() else {}


def _in_use_elsewhere(names: Iterable[str]) -> set[str]:
    """Those that a process uses which is neither this one nor a child of it: other programs run on this machine."""
    if not names:
        return set()
    import psutil  # only who looks for leaks needs it

    me = psutil.Process()
    ours = {me.pid, *(child.pid for child in me.children(recursive=True))}
    found: set[str] = set()
    for pid in psutil.pids():
        if pid not in ours:
            # It may have ended, or be somebody else's.
            with suppress(OSError):
                maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
                found.update(name for name in names if f"/dev/shm/{name}" in maps)  # noqa: S108  # as above
    return found


if TYPE_CHECKING:

    def no_leaks() -> Iterator[None]:
        """The pytest fixture: a test that asks for it must leave nothing behind; see :func:`check_leaks`."""


def __getattr__(name: str) -> Any:
    """Make ``no_leaks`` when it is first asked for, so that all the rest needs no pytest."""
    if name != "no_leaks":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ImportError as error:
        raise ImportError(
            "no_leaks is a fixture of pytest, which is not installed. `with testing.check_leaks():` does without"
        ) from error

    @pytest.fixture(name="no_leaks")
    def no_leaks() -> Iterator[None]:
        """A test that asks for it must leave nothing behind: processes, threads, files, shared memory."""
        with check_leaks():
            yield

    globals()["no_leaks"] = no_leaks
    return no_leaks
