"""Worker processes: spawn, on our own terms.

A ``multiprocessing`` process whose Popen starts a fresh interpreter on the light ``_worker`` entry point, with the
same API and meaning (pid, sentinel, exitcode, terminate). What spawn does besides is left out: a second run of the
user's main module, and a resource-tracker process that makes every kernel restart take 2.6 s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import process, spawn
from pathlib import Path

from aiopool._payload import where

_BOOT = """
import sys
sys.path[:0] = {path!r}
from aiopool._worker.main import main
main({commands}, {answers}, {marks}, {parent})
"""


def boot_path() -> list[str]:
    """Where a worker finds the standard library, us and cloudpickle, in this order.

    The standard library comes first: a ``types.py`` beside us must not stand in for it.
    """
    library = Path(os.__file__).parent
    ours = str(Path(__file__).parents[2])
    return [str(library), str(library / "lib-dynload"), *dict.fromkeys((ours, where.folder()))]


class Popen:
    """What :class:`multiprocessing.process.BaseProcess` asks of a process that was started."""

    method = "spawn"

    def __init__(self, worker: WorkerProcess) -> None:
        commands, answers, marks, output = worker.fds
        boot = _BOOT.format(path=boot_path(), commands=commands, answers=answers, marks=marks, parent=os.getpid())
        # -P: a signal.py in the notebook's folder would otherwise be imported in place of the standard library's.
        self._child = subprocess.Popen(  # noqa: S603  # our own interpreter, our own code
            [os.fsdecode(spawn.get_executable()), *_flags(), "-P", "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(commands, answers, marks),
            env=worker.variables,
        )
        self.pid = self._child.pid
        self.sentinel = _open_sentinel(self.pid)

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
    """One worker, over four inherited file descriptors: commands, answers, marks, and its output."""

    _start_method = "spawn"

    def __init__(self, index: int, fds: tuple[int, int, int, int], variables: Mapping[str, str]) -> None:
        super().__init__(name=f"aiopool worker {index}", daemon=True)
        self.fds = fds
        self.variables = variables

    @staticmethod
    def _Popen(worker: WorkerProcess) -> Popen:  # noqa: N802  # the name that multiprocessing looks for
        return Popen(worker)
