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
import termios
import threading
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from aiopool._payload.files import anonymous
from aiopool._runtime.dumps import takes
from aiopool._runtime.family import Family
from aiopool._runtime.process import WorkerProcess
from aiopool._worker.dump import DUMP_SIGNAL
from aiopool.engines.base import Death, Events, Files, Marks

READ_SIZE = 1 << 20
FIRST_READ = 1 << 16
"""So much is read at first: for more the system is asked for memory, and gets it back, which takes 50 us each time."""

PIPE_SIZE = 1 << 18
MARK_BYTES = (1 << 16) * 8
DUMP_BYTES = 1 << 20
LOOK_EVERY = 0.05
"""Seconds from look to look whether a worker lives, where neither the system nor a thread tells of its death."""

NO_MARKS = bytes(128 * 8)
MOST_LOOKED_AT = 4096 * 8
"""Of more coroutines at once some are not looked at: this is done ten times a second, for every worker."""


class LocalEngine:
    """Spawns worker processes. Lives on the pool's own loop."""

    name = "local"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lifeline: tuple[int, int] | None = None
        self._family = Family(loop)
        self.files = Files(anonymous("arguments"))
        self._close_files = weakref.finalize(self, os.close, self.files.arguments)
        self._close_files.atexit = False
        _engines.add(self)

    def start(self, index: int, events: Events, variables: Mapping[str, str]) -> LocalLink:
        """Start a worker; its death, also that of one that never came up, is reported through ``events``."""
        if self._lifeline is None:
            self._lifeline = os.pipe()
        link = LocalLink(
            self._loop, index, events, variables, lifeline=self._lifeline[0], family=self._family, files=self.files
        )
        # While the first one comes up. Others need it later, by when the path may have a folder with a psutil.py of
        # the user's.
        import psutil  # noqa: F401

        return link

    def close(self) -> None:
        """Let go of what workers know by that this process lives."""
        self._family.close()
        self.let_go()

    def let_go(self) -> None:
        """Close it. In a forked child, too: workers must not take that for their parent."""
        lifeline, self._lifeline = self._lifeline, None
        for fd in lifeline or ():
            os.close(fd)
        self._close_files()


class LocalLink:
    """The pool's end of one worker process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        index: int,
        events: Events,
        variables: Mapping[str, str],
        *,
        lifeline: int,
        family: Family,
        files: Files,
    ) -> None:
        self._loop = loop
        self._family = family
        self._events = events
        self._backlog: deque[memoryview] = deque()
        self._sending = threading.RLock()
        self._hanging_up = False
        self._read_size = FIRST_READ
        self._is_writer = False
        with contextlib.ExitStack() as ours:
            # The child's ends are closed here at once: as long as we held one, its death would bring no EOF.
            with contextlib.ExitStack() as theirs:
                commands, self._commands = _pipe(theirs, ours)
                self._answers, answers = _pipe(ours, theirs)
                self._output, output = _pipe(ours, theirs)
                marks = _anonymous_file(MARK_BYTES)
                theirs.callback(os.close, marks)
                self._dump = os.dup(marks)
                ours.callback(os.close, self._dump)
                self._marks = mmap.mmap(marks, MARK_BYTES)
                ours.callback(self._marks.close)  # It has a descriptor of its own, and an error that is kept keeps us.
                self.results = anonymous("results")
                ours.callback(os.close, self.results)
                pages = (files.arguments, self.results)
                self._process = WorkerProcess(index, (commands, answers, marks, output, lifeline, *pages), variables)
                self._process.start()
            ours.pop_all()
        self._open = {self._commands, self._answers, self._output}
        _links.add(self)
        for fd in self._open:
            os.set_blocking(fd, False)
            _widen(fd)
        self._open.add(self.results)
        loop.add_reader(self._answers, self._on_answers)
        loop.add_reader(self._output, self._on_output)
        self._watch()

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid

    @property
    def unsent(self) -> int:
        """How many parts of frames the pipe has not taken yet."""
        return len(self._backlog)

    def at_work(self) -> int | None:
        """What its mark page says now, which needs no answer of the worker's."""
        return int.from_bytes(self._marks[:8], sys.byteorder) or None if not self._marks.closed else None

    def running(self) -> list[int]:
        """What its page says, as far as lanes mostly go. The last of a job may stand behind empty parts."""
        found: list[int] = []
        if self._marks.closed:
            return found
        for first in range(8, MOST_LOOKED_AT, len(NO_MARKS)):
            data = self._marks[first : first + len(NO_MARKS)]
            if data != NO_MARKS:
                found.extend(filter(None, memoryview(data).cast("Q")))
        return found

    def marks(self) -> Marks:
        """What its mark page says now."""
        return Marks() if self._marks.closed else self._read_marks()

    def begin_dump(self) -> str:
        """Have faulthandler write behind the marks in their file. At which place is for both processes to say."""
        if DUMP_SIGNAL is None or self._marks.closed:
            return "there is no signal for it"
        if not takes(self._process.pid or 0, DUMP_SIGNAL):
            return "is about to start or to end, or an item of it has taken its signals away"
        os.ftruncate(self._dump, MARK_BYTES)
        os.lseek(self._dump, MARK_BYTES, os.SEEK_SET)
        self._process.send_signal(DUMP_SIGNAL)
        return ""

    def dumped(self) -> str:
        """What stands there."""
        return "" if self._marks.closed else os.pread(self._dump, DUMP_BYTES, MARK_BYTES).decode("utf-8", "replace")

    # --- to the worker ---------------------------------------------------------------------------------------------

    def send(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write what the pipe takes now, and the rest when it takes more."""
        if self._commands not in self._open:
            return  # the worker is dead or dying; its items are dealt with when that is declared
        views = [view for part in parts if len(view := memoryview(part))]
        with self._sending:
            waiting = bool(self._backlog)
            self._backlog.extend(views)
            if not waiting:
                self._write_on()
                if self._backlog and self._commands in self._open:
                    self._is_writer = True
                    self._loop.add_writer(self._commands, self._write)

    def send_at_once(self, data: bytes) -> bool:
        """Write it, unless something waits. The pipe takes it as a whole or not at all."""
        with self._sending:
            if self._backlog or self._hanging_up or self._commands not in self._open:
                return False
            try:
                return os.write(self._commands, data) == len(data)
            except (BlockingIOError, BrokenPipeError):
                return False

    def _write(self) -> None:
        with self._sending:
            self._write_on()

    def _write_on(self) -> None:
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
        if self._is_writer:
            self._is_writer = False
            self._loop.remove_writer(self._commands)
        if self._hanging_up:
            self._close(self._commands)

    def hang_up(self) -> None:
        """Close the way to the worker once everything is written; an idle worker ends then."""
        with self._sending:
            self._hanging_up = True
            if not self._backlog:
                self._close(self._commands)

    def kill(self) -> None:
        """SIGKILL. The death is noticed and reported like any other."""
        self._process.kill()

    def let_go(self) -> None:
        """This is a forked child: its worker must notice when the parent hangs up. The loop is not ours to tell."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

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
            data = os.read(fd, self._read_size)
        except BlockingIOError:
            return False
        # What fills it is a part of more, which is taken in one go.
        self._read_size = READ_SIZE if len(data) >= FIRST_READ else FIRST_READ
        if not data:
            self._close(fd)
            return False
        take(data)
        return True

    def _close(self, fd: int) -> None:
        # Whoever sends at once must not find another file under the number.
        with self._sending:
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

        try:
            threading.Thread(target=wait, name=f"aiopool-wait-{self.pid}", daemon=True).start()
        except RuntimeError:
            # There are too many threads, or the interpreter ends: then it starts none any more, and pools end then.
            self._look()

    def _look(self) -> None:
        if self._process.is_alive():
            self._loop.call_later(LOOK_EVERY, self._look)
        else:
            self._on_death()

    def _on_death(self) -> None:
        if self._process.sentinel >= 0:
            self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._family.end(self._process.cookie, self._declare)

    def _declare(self) -> None:
        """Drain, then declare: results that were written before the death count."""
        exitcode = self._process.exitcode
        try:
            self._drain(self._answers, lambda data: self._events.received(memoryview(data)))
            self.drain_output()
        finally:
            marks = self._read_marks()
            self._marks.close()
            os.close(self._dump)
            for fd in list(self._open):
                self._close(fd)
            # Not BaseProcess.close(), which would forget the exit code.
            self._process._popen.close()  # type: ignore[attr-defined]  # noqa: SLF001
            self._events.died(Death(exitcode, marks, self._process.peak))

    def _read_marks(self) -> Marks:
        page = self._marks[:].rstrip(b"\0")
        slots = array("Q")
        slots.frombytes(page + bytes(-len(page) % 8) or bytes(8))
        stepping = slots[0] or None
        return Marks(stepping, frozenset(code for code in set(slots) if code))


_engines: weakref.WeakSet[LocalEngine] = weakref.WeakSet()
_links: weakref.WeakSet[LocalLink] = weakref.WeakSet()


def _let_go() -> None:
    for let_go in (*(engine.let_go for engine in _engines), *(link.let_go for link in _links)):
        # One that was about to be closed when the process forked.
        with contextlib.suppress(OSError):
            let_go()


os.register_at_fork(after_in_child=_let_go)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, each end of which is closed with its stack."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _readable(fd: int) -> int:
    """How many bytes the pipe holds."""
    # There where somebody makes many calls: this thread would wait for that one each time that it lets go of the GIL.
    # That one may be in the middle of the import.
    keeping_gil = getattr(sys.modules.get("aiopool._runtime.keeping"), "readable", None)
    if keeping_gil is not None and (held := cast("int", keeping_gil(fd))) >= 0:
        return held
    count = array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _anonymous_file(size: int) -> int:
    """A file without a name, gone with its last holder; inheritable only where it is passed on by hand."""
    try:
        # Missing on some platforms, and refused in some sandboxes.
        fd = os.memfd_create("aiopool-marks")
    except (AttributeError, OSError):
        import tempfile  # with all that it knows of copying and packing

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
