"""Worker processes: spawn, on our own terms.

A ``multiprocessing`` process whose Popen starts a fresh interpreter on the light ``_worker`` entry point, with the
same API and meaning (pid, sentinel, exitcode, terminate). What spawn does besides is left out: a second run of the
user's main module, and a resource-tracker process that makes every kernel restart take 2.6 s.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import process
from pathlib import Path

from aiopool._payload import where
from aiopool._runtime.family import interpreter, marked, new_cookie, reaper_line

_BOOT = """
import gc, sys
gc.disable()
sys.path[:0] = {path!r}
from aiopool._worker.main import main
main({commands}, {answers}, {marks}, lifeline={lifeline}, parent={parent}, reaper={reaper!r}, pages={pages})
"""


def boot_path() -> list[str]:
    """Where a worker finds the standard library, us and cloudpickle, in this order.

    The standard library comes first: a ``types.py`` beside us must not stand in for it.
    """
    library = Path(os.__file__).parent
    ours = str(Path(__file__).parents[2])
    return [str(library), str(library / "lib-dynload"), *dict.fromkeys((ours, where.folder()))]


class _Child(subprocess.Popen[bytes]):
    """A child that is reaped together with what the system has counted of it."""

    peak: int | None = None

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            pid, status, usage = os.wait4(self.pid, wait_flags)
        except ChildProcessError:
            # Somebody else has reaped it; as the library takes it then.
            return self.pid, 0
        if pid:
            self.peak = _peak(usage.ru_maxrss)
        return pid, status


def _peak(maxrss: int) -> int | None:
    """The most memory that a child had, in bytes, where it can be told from what its parent had when it was made.

    The system counts what a process had before it became another program, and until then a child of ours is a copy of
    us: only what goes beyond our own most is certainly the child's.
    """
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maxrss * (1 if sys.platform == "darwin" else 1024) if maxrss > ours else None


class Popen:
    """What :class:`multiprocessing.process.BaseProcess` asks of a process that was started."""

    method = "spawn"

    def __init__(self, worker: WorkerProcess) -> None:
        commands, answers, marks, output, lifeline, *pages = worker.fds
        boot = _BOOT.format(
            path=boot_path(),
            commands=commands,
            answers=answers,
            marks=marks,
            lifeline=lifeline,
            parent=os.getpid(),
            reaper=reaper_line(worker.cookie),
            pages=pages,
        )
        # -P: a signal.py in the notebook's folder would otherwise be imported in place of the standard library's.
        self._child = _Child(  # our own interpreter, our own code
            [interpreter(), *_flags(), "-P", "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(commands, answers, marks, lifeline, *pages),
            env=marked(worker.variables, worker.cookie),
            cwd=_folder(),
        )
        self.pid = self._child.pid
        self.sentinel = _open_sentinel(self.pid)

    @property
    def peak(self) -> int | None:
        """The most memory that it had at any time, in bytes, once it is reaped; None where that is not known."""
        return self._child.peak

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, or None while the process runs."""
        return self._child.returncode

    def poll(self) -> int | None:
        """Look whether it has ended, and reap it."""
        return self._child.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, up to ``timeout`` seconds."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._child.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._child.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give back what is held here."""
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1


def _folder() -> str | None:
    """Where to start it, None for where we are: an interpreter does not start in a folder that was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return "/"
    return None


def _flags() -> list[str]:
    """Our interpreter's own options (-W, -X, -O and such), as multiprocessing passes them on."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return flags


def _open_sentinel(pid: int) -> int:
    """A file descriptor that becomes readable when the process ends; -1 where the platform has none."""
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        # A sandbox or an old kernel may refuse what the library offers.
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


class WorkerProcess(process.BaseProcess):
    """One worker, over inherited descriptors.

    These are commands, answers, marks, its output, the lifeline; and the shared pages of arguments and of its results.
    """

    _start_method = "spawn"

    def __init__(self, index: int, fds: tuple[int, ...], variables: Mapping[str, str]) -> None:
        super().__init__(name=f"aiopool worker {index}", daemon=True)
        self.fds = fds
        self.variables = variables
        self.cookie = new_cookie()

    @property
    def peak(self) -> int | None:
        """The most memory that it had at any time, in bytes, once it has ended; None where that is not known."""
        peak: int | None = self._popen.peak  # type: ignore[attr-defined]
        return peak

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._popen.send_signal(number)  # type: ignore[attr-defined]

    @staticmethod
    def _Popen(worker: WorkerProcess) -> Popen:  # noqa: N802  # the name that multiprocessing looks for
        return Popen(worker)


def _disown() -> None:
    """This is a forked child: were the parent's workers among its own, multiprocessing would end them at its exit."""
    children: set[object] = process._children  # type: ignore[attr-defined]  # noqa: SLF001  # nothing public forgets one
    children.difference_update([child for child in children if isinstance(child, WorkerProcess)])


os.register_at_fork(after_in_child=_disown)
