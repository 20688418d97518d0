"""The worker's ends of the pipes to its parent, which an item's code may close, with whatever it finds open."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from aiopool._core import frames, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopool._worker.guard import Guard

OUT_OF_REACH = 1024 - 64
"""Descriptors that are opened get the lowest number that is free, so this one is rarely given to anything else."""


class Pipes:
    """Both ends of the way to the parent.

    Anybody may send; what the pipe does not take at once, the link thread sends. Code that closes descriptors which are
    not its own (``os.closerange``, as daemons do) may close these, and what it opens next may get their numbers: so
    they have high ones, and what stands under the number is looked at before anything is read or written there.
    """

    def __init__(self, commands: int, answers: int, guard: Guard) -> None:
        self.guard = guard
        wake_read, wake_write = os.pipe()
        self.commands, self.answers, self.wake_read, self._wake_write = numbers = [
            moved(fd) for fd in (commands, answers, wake_read, wake_write)
        ]
        self._identities = {fd: _identity(fd) for fd in numbers}
        for fd in numbers:
            os.set_blocking(fd, False)
        self._are_far = min(numbers) >= OUT_OF_REACH
        os.register_at_fork(after_in_child=self._be_a_clone)
        self._lock = threading.Lock()
        self._backlog: deque[memoryview] = deque()
        self._unwritten: list[Callable[[], object]] = []
        self._is_clone = False

    def _be_a_clone(self) -> None:
        # An item forked. In the clone its code may come back to us and would answer in the worker's name.
        self._is_clone = True

    @property
    def backlog(self) -> bool:
        """Whether something waits for room in the pipe."""
        return bool(self._backlog)

    def send(self, frame: frames.Frame) -> None:
        """Send a frame, or queue it behind what waits already."""
        if self._is_clone:
            os._exit(0)
        parts = wire.encode(frame)
        if len(parts) > 1 and sum(map(len, parts)) <= wire.SMALL:
            parts = [b"".join(parts)]
        with self._lock:
            waiting = bool(self._backlog)
            if not waiting and len(parts) == 1:
                # Mostly it goes as it is.
                left = memoryview(parts[0])[self._put([parts[0]]) :]
                if not left:
                    return
                self._backlog.append(left)
            else:
                self._backlog.extend([memoryview(part) for part in parts if len(part)])
                if not waiting:
                    self._write()
        if not waiting and self._backlog:
            self.wake()

    def until_written(self, begin: Callable[[], Callable[[], object]]) -> None:
        """Begin something unless all that was sent is in the pipe, where it outlives this process.

        What that returns is called when it is. Any thread.
        """
        if self._backlog:
            with self._lock:
                if self._backlog:
                    self._unwritten.append(begin())

    def flush(self) -> None:
        """Send what waits, as far as there is room. For the link thread."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        backlog = self._backlog
        while backlog:
            parts = list(islice(backlog, 64))
            if not (written := self._put(parts)):
                return
            for part in parts:
                if written < len(part):
                    backlog[0] = part[written:]
                    break
                written -= len(part)
                backlog.popleft()
        while self._unwritten:
            self._unwritten.pop()()

    def _put(self, parts: Sequence[frames.Bytes]) -> int:
        """Into the pipe, as far as there is room: how many bytes went."""
        self._must_be_ours(self.answers)
        try:
            return os.writev(self.answers, parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fail(error)

    def read(self, size: int) -> bytes | None:
        """What the parent has sent, empty once it has hung up; None: nothing yet."""
        return self._read(self.commands, size)

    def wake(self) -> None:
        """Make the link thread look around."""
        self._must_be_ours(self._wake_write)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # it is full of wake-ups already
        except OSError as error:
            self._fail(error)

    def drain_wakes(self) -> None:
        """The link thread is awake."""
        self._read(self.wake_read, 4096)

    def _read(self, fd: int, size: int) -> bytes | None:
        self._must_be_ours(fd)
        try:
            return os.read(fd, size)
        except BlockingIOError:
            return None
        except OSError as error:
            self._fail(error)

    def _must_be_ours(self, fd: int) -> None:
        """End this process where the number stands for something else.

        What others open they mostly open to block, or have from dup2 to be inherited, and one of our high numbers they
        get only with a thousand descriptors open. To ask for that keeps the GIL. Looking at the file lets go of it, and
        where an item computes the link thread waits for milliseconds until it has it again.
        """
        try:
            if self._are_far and not (os.get_blocking(fd) or os.get_inheritable(fd)):
                return
            if _identity(fd) == self._identities[fd]:
                return
        except OSError as error:
            self._fail(error)
        end_without_pipes()

    def _fail(self, error: OSError) -> NoReturn:
        if isinstance(error, BrokenPipeError):
            self.guard.end()
        end_without_pipes()


def end_without_pipes() -> NoReturn:
    """What this process needs to go on was closed by code of an item's. The exit code tells the parent."""
    os._exit(frames.PIPES_CLOSED)


def moved(fd: int) -> int:
    """The same under a high number, which no child inherits; under its own where this process may have so few."""
    limit = os.sysconf("SC_OPEN_MAX")
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(limit - 64, OUT_OF_REACH) if limit > 0 else OUT_OF_REACH)
    except OSError:
        os.set_inheritable(fd, False)  # noqa: FBT003  # it takes no names
        return fd
    os.close(fd)
    return moved


def _identity(fd: int) -> tuple[int, int]:
    told = os.fstat(fd)
    return told.st_dev, told.st_ino
