"""Workers as processes of this machine, over two one-way pipes each, a third for what they print, and a mark page.

Not a socketpair: there a result that was already delivered can be dropped when the parent writes to the dead worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
import termios
import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from aiopool._runtime.process import WorkerProcess
from aiopool.engines.base import Death, Events, Marks

READ_SIZE = 1 << 20
PIPE_SIZE = 1 << 18
MARK_BYTES = (1 << 16) * 8


class LocalEngine:
    """Spawns worker processes. Lives on the pool's own loop."""

    name = "local"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(self, index: int, events: Events, variables: Mapping[str, str]) -> LocalLink:
        """Start a worker; its death, also that of one that never came up, is reported through ``events``."""
        return LocalLink(self._loop, index, events, variables)

    def close(self) -> None:
        """Nothing is held beyond the workers."""


class LocalLink:
    """The pool's end of one worker process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, index: int, events: Events, variables: Mapping[str, str]
    ) -> None:
        self._loop = loop
        self._events = events
        self._backlog: deque[memoryview] = deque()
        self._hanging_up = False
        with contextlib.ExitStack() as ours:
            # The child's ends are closed here at once: as long as we held one, its death would bring no EOF.
            with contextlib.ExitStack() as theirs:
                commands, self._commands = _pipe(theirs, ours)
                self._answers, answers = _pipe(ours, theirs)
                self._output, output = _pipe(ours, theirs)
                marks = _anonymous_file(MARK_BYTES)
                theirs.callback(os.close, marks)
                self._marks = mmap.mmap(marks, MARK_BYTES)
                self._process = WorkerProcess(index, (commands, answers, marks, output), variables)
                self._process.start()
            ours.pop_all()
        self._open = {self._commands, self._answers, self._output}
        for fd in self._open:
            os.set_blocking(fd, False)
            _widen(fd)
        loop.add_reader(self._answers, self._on_answers)
        loop.add_reader(self._output, self._on_output)
        self._watch()

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid

    # --- to the worker ---------------------------------------------------------------------------------------------

    def send(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write what the pipe takes now, and the rest when it takes more."""
        if self._commands not in self._open:
            return  # the worker is dead or dying; its items are dealt with when that is declared
        waiting = bool(self._backlog)
        self._backlog.extend(view for part in parts if len(view := memoryview(part)))
        if not waiting:
            self._write()
            if self._backlog:
                self._loop.add_writer(self._commands, self._write)

    def _write(self) -> None:
        while self._backlog:
            parts = [self._backlog[i] for i in range(min(len(self._backlog), 64))]
            try:
                written = os.writev(self._commands, parts)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._backlog.clear()
                self._close(self._commands)
                return
            for part in parts:
                if written < len(part):
                    self._backlog[0] = part[written:]
                    break
                written -= len(part)
                self._backlog.popleft()
        self._loop.remove_writer(self._commands)
        if self._hanging_up:
            self._close(self._commands)

    def hang_up(self) -> None:
        """Close the way to the worker once everything is written; an idle worker ends then."""
        self._hanging_up = True
        if not self._backlog:
            self._close(self._commands)

    def kill(self) -> None:
        """SIGKILL. The death is noticed and reported like any other."""
        self._process.kill()

    # --- from the worker -------------------------------------------------------------------------------------------

    def _on_answers(self) -> None:
        self._read(self._answers, lambda data: self._events.received(memoryview(data)))

    def _on_output(self) -> None:
        self._read(self._output, self._events.printed)

    def drain_output(self) -> None:
        """Report what has been printed so far."""
        self._drain(self._output, self._events.printed)

    def _drain(self, fd: int, take: Callable[[bytes], None]) -> None:
        """Take what is in the pipe now, and no more: a grandchild that holds it may write for ever."""
        if fd in self._open:
            left = _readable(fd)
            while left > 0 and fd in self._open:
                data = os.read(fd, min(left, READ_SIZE))
                left = left - len(data) if data else 0
                take(data)

    def _read(self, fd: int, take: Callable[[bytes], None]) -> bool:
        """Read once; True if there may be more."""
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._close(fd)
            return False
        take(data)
        return True

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)

    # --- its death -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Learn of the death from the process, not from EOF: a grandchild can hold the pipes."""
        if self._process.sentinel >= 0:
            self._loop.add_reader(self._process.sentinel, self._on_death)
            return

        def wait() -> None:
            self._process.join()
            # A loop that has closed takes no call any more: the pool ended before its worker did.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_death)

        threading.Thread(target=wait, name=f"aiopool-wait-{self.pid}", daemon=True).start()

    def _on_death(self) -> None:
        """Drain, then declare: results that were written before the death count."""
        if self._process.sentinel >= 0:
            self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        exitcode = self._process.exitcode
        try:
            self._drain(self._answers, lambda data: self._events.received(memoryview(data)))
            self.drain_output()
        finally:
            marks = self._read_marks()
            for fd in list(self._open):
                self._close(fd)
            # Not BaseProcess.close(), which would forget the exit code.
            self._process._popen.close()  # type: ignore[attr-defined]  # noqa: SLF001
            self._events.died(Death(exitcode, marks))

    def _read_marks(self) -> Marks:
        page = self._marks[:].rstrip(b"\0")
        self._marks.close()
        slots = array("Q")
        slots.frombytes(page + bytes(-len(page) % 8) or bytes(8))
        stepping = slots[0] or None
        return Marks(stepping, frozenset(code for code in set(slots) if code))


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, each end of which is closed with its stack."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _readable(fd: int) -> int:
    """How many bytes the pipe holds."""
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _anonymous_file(size: int) -> int:
    """A file without a name, gone with its last holder; inheritable only where it is passed on by hand."""
    try:
        # Missing on some platforms, and refused in some sandboxes.
        fd = os.memfd_create("aiopool-marks")
    except (AttributeError, OSError):
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _widen(fd: int) -> None:
    """A pipe that takes more at once, where the system allows it: fewer turns for big frames."""
    if sys.platform == "linux":
        # EPERM: this user's pipes are over their share; the usual size will do.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
