"""Writing where perhaps nobody reads: into a pipe to ``less``, or to a terminal that Ctrl-S has stopped.

What can be written at once is written by whoever says it, so that nothing comes late where somebody reads. What would
have to wait is left to a thread, in order, and the pool goes on. So much is kept; what comes on top of that is counted,
and the count is said when reading goes on.
"""

from __future__ import annotations

import array
import atexit
import codecs
import contextlib
import fcntl
import io
import logging
import mmap
import os
import select
import signal
import stat
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["is_behind", "lock", "settle", "write", "write_by"]

log = logging.getLogger("aiopool")

MOST_KEPT = 4 << 20
"""Bytes that wait for one reader at the most."""

PATIENCE = 0.25
REST = 5.0
"""Seconds for which one that says something waits until it is out, and then for so long does not: a pool does no work
meanwhile. Where somebody reads, however slowly, lines then stand before those that the script itself prints next."""

GIVE_UP = 3.0
LONGEST = 30.0
"""Seconds for which the end of a script waits while nobody reads on, and at the most."""

TICK = 0.05

PIECE = 4096
PENDING = 2 * io.DEFAULT_BUFFER_SIZE
"""Bytes that a stream of Python may hold back, which are written first."""

_PLAIN_ENCODINGS = frozenset(("utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"))
"""Those of which every text is encoded alike, wherever in a stream it stands."""

OBJECTS = "objects"
"""The one place of all streams that are nothing of Python's: a script may make a thousand, one after the other."""

lock = threading.RLock()
"""Of all that is written and drawn here: one, so that there is no order in which two could be taken. It is entered
again by a finaliser of the user's that has something to say, which the collector may run at any line."""


@dataclass(slots=True, eq=False)
class _Piece:
    """Something that waits: bytes, for a descriptor, or a text, for the ``stream`` or a function that writes it there.

    What is written of it is taken away.
    """

    stream: Any
    data: bytes = b""
    text: str = ""
    function: Callable[[str], object] | None = None
    size: int = 0

    @property
    def lines(self) -> int:
        return self.data.count(b"\n") + self.text.count("\n")


class _Writer:
    """One place to which is written, by however many streams: a terminal, a pipe, an object of the user's."""

    def __init__(self) -> None:
        self.moved = 0
        """Grows with everything that somebody has taken."""
        self._pieces: deque[_Piece] = deque()
        self._at_work: _Piece | None = None
        self._kept = 0
        self._dropped = 0
        self._fd = -1
        self._thread: threading.Thread | None = None
        self._runs = self._gave_up = False
        self._waiting: list[threading.Lock] = []
        self._impatient_until = 0.0

    @property
    def is_behind(self) -> bool:
        """Whether something waits."""
        return self._at_work is not None or bool(self._pieces)

    def put(self, piece: _Piece, fd: int = -1) -> None:
        """Leave it to the thread. Under the lock."""
        piece.size = len(piece.data) + len(piece.text)
        is_too_much = self._dropped or self._kept + piece.size > MOST_KEPT
        if piece.lines and is_too_much and self.is_behind:  # Where nothing waits somebody reads, and nobody would tell.
            # Once some are missing the next ones are, too, until all that waits is out: one gap, and not hundreds.
            self._dropped += piece.lines
            return
        if fd >= 0 and self._fd < 0:
            # Its own: the number may be another file's by the time somebody reads.
            with contextlib.suppress(OSError):
                self._fd = os.dup(fd)
        self._pieces.append(piece)
        self._kept += piece.size
        if not self._runs and not self._start():
            self._write_now()

    def settle(self, seconds: float) -> bool:
        """Wait until all is out, for so long; whether it is. Not under the lock."""
        with lock:
            if not self.is_behind:
                return True
            if self._thread is threading.current_thread():
                return False  # A finaliser that speaks, in the middle of it.
            done = threading.Lock()
            done.acquire()
            self._waiting.append(done)
        return done.acquire(timeout=seconds)

    def settle_soon(self) -> None:
        """Wait for that, but neither long nor often."""
        now = time.monotonic()
        if now >= self._impatient_until and not self.settle(PATIENCE):
            self._impatient_until = time.monotonic() + REST

    def finish(self) -> int:
        """The script ends: wait as long as somebody reads. How many lines are left."""
        end = time.monotonic() + LONGEST
        moved = -1
        while moved != self.moved and time.monotonic() < end:
            moved = self.moved
            if self.settle(GIVE_UP):
                if self._thread is not None:
                    self._thread.join(GIVE_UP)
                return 0
        with lock:
            self._gave_up = True
            pieces = [*self._pieces, *([self._at_work] if self._at_work is not None else [])]
            return self._dropped + sum(piece.lines for piece in pieces)

    # --- the thread ------------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        """Begin a thread, which ends when nothing waits any more: at its end an interpreter finds none that is idle."""
        if _over:
            return False
        thread = self._thread = threading.Thread(target=self._run, name="aiopool-writer", daemon=True)
        self._runs = True
        try:
            thread.start()
        except BaseException as error:
            self._runs = thread.is_alive()
            if not isinstance(error, RuntimeError):  # Not because there are too many, or because the interpreter ends.
                raise
        return self._runs

    def _run(self) -> None:
        # Stop belongs to the main thread, which a signal given to this one would not wake.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while (piece := self._next()) is not None:
            self._do(piece, None)

    def _next(self) -> _Piece | None:
        with lock:
            if self._at_work is not None:
                self._kept -= self._at_work.size
                if not self._pieces and self._dropped:
                    stream, count, self._dropped = self._at_work.stream, self._dropped, 0
                    lines = f"{count:,} line{'' if count == 1 else 's'}"
                    self._pieces.append(_piece(stream, f"[aiopool] {lines} left out here, while nobody read them\n"))
            if self._pieces:
                self._at_work = self._pieces.popleft()
                return self._at_work
            # At once: a finaliser that speaks in between would leave something here, and nobody to write it.
            self._at_work, self._runs, fd, self._fd = None, False, self._fd, -1
            if fd >= 0:
                os.close(fd)
            waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.release()
        return None

    def _write_now(self) -> None:
        """Where no thread can be had: now, as far as somebody reads."""
        while (piece := self._next()) is not None:
            self._do(piece, GIVE_UP)

    def _do(self, piece: _Piece, seconds: float | None) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):  # It was closed, or its reader has gone.
                if piece.function is not None:
                    piece.function(piece.text)
                elif piece.data:
                    self._write_data(piece, seconds)
                else:
                    self._write_text(piece, seconds)
        except BaseException:
            log.exception("a line cannot be shown")
        self.moved += 1

    def _write_data(self, piece: _Piece, seconds: float | None) -> None:
        """Past the stream, and without its lock, in which the end of the interpreter would find this thread."""
        if not _has_room(self._fd, 0, seconds):
            return
        piece.stream.flush()
        while piece.data and _takes(self._fd, seconds) and not self._gave_up:
            with contextlib.suppress(BlockingIOError):
                written = os.write(self._fd, piece.data[:PIECE])
                self.moved += written
                piece.data = piece.data[written:]

    def _write_text(self, piece: _Piece, seconds: float | None) -> None:
        """By an object of the user's: only when the streams beneath it take it, which have locks as well."""
        beneath = list(_beneath(piece.stream))
        while piece.text:
            part = _some_lines(piece.text)
            if not all(_has_room(fd, 4 * len(part), seconds) for fd in beneath) or self._gave_up:
                return
            _write_to(piece.stream, part)
            piece.text = piece.text[len(part) :]
            self.moved += 1


_writers: dict[object, _Writer] = {}
_over = False
"""Whether the script has ended, so that no thread may be started."""


def write(stream: Any, text: str) -> None:
    """Write it, or have it written once somebody reads. Of a stream that is closed or has lost its reader, nothing."""
    if stream is None or not text:
        return
    with contextlib.suppress(OSError, ValueError):
        key, fd = _place(stream)
        if key is None:
            # Without our lock: it may have one of its own.
            _write_to(stream, text)
            return
        with lock:
            writer = _writers.get(key)
            if fd < 0:
                _put(key, _Piece(stream, text=text))
                return
            data = _encoded(stream, text)
            written = 0 if writer is not None and writer.is_behind else _write_what_fits(stream, fd, data)
            if written < len(data):
                _put(key, _Piece(stream, data[written:]), fd)


def write_by(function: Callable[[str], object], stream: Any, text: str) -> None:
    """The same, by a function that writes it to this stream."""
    try:
        key, fd = _place(stream)
    except (OSError, ValueError):
        return
    if key is None or (fd >= 0 and not is_behind(stream) and _takes(fd, 0.0)):
        function(text)
        return
    with lock:
        _put(key, _Piece(stream, text=text, function=function))


def _put(key: object, piece: _Piece, fd: int = -1) -> None:
    if (writer := _writers.get(key)) is None:
        writer = _writers[key] = _Writer()
    writer.put(piece, fd)


def is_behind(stream: Any) -> bool:
    """Whether what was written there is not out yet."""
    writer = _writer_of(stream)
    return writer is not None and writer.is_behind


def settle(stream: Any) -> None:
    """Wait a moment until that is out, unless this was in vain lately. Not under the lock."""
    if (writer := _writer_of(stream)) is not None:
        writer.settle_soon()


def _writer_of(stream: Any) -> _Writer | None:
    if stream is None or not _writers:
        return None
    try:
        return _writers.get(_place(stream)[0])
    except (OSError, ValueError):
        return None


# --- streams ---------------------------------------------------------------------------------------------------------


def _place(stream: Any) -> tuple[object, int]:
    """Where a stream writes, None where that never takes time, and the descriptor, -1 where it is not ours to use.

    Raises ValueError where the stream is closed.
    """
    kind = type(stream)
    if str(kind.__module__).partition(".")[0] == "aiopool":
        return None, -1  # In a worker.
    if not isinstance(stream, io.TextIOWrapper | io.StringIO):
        return OBJECTS, -1
    try:
        fd = stream.fileno()
    except io.UnsupportedOperation:
        return None, -1
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not os.isatty(fd)):
        return None, -1
    is_pythons = kind is io.TextIOWrapper and type(stream.buffer) in (io.BufferedWriter, io.FileIO)
    if not is_pythons or codecs.lookup(stream.encoding).name not in _PLAIN_ENCODINGS:
        return OBJECTS, -1
    return (status.st_dev, status.st_ino, status.st_rdev), fd


def _write_to(stream: Any, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    if (flush := getattr(stream, "flush", None)) is not None:
        flush()


def _beneath(stream: Any, depth: int = 3) -> Iterator[int]:
    """The descriptors of streams of Python's that an object has in its attributes, or in lists there."""
    for held in list(getattr(stream, "__dict__", {}).values()):
        for each in held if isinstance(held, list | tuple) else [held]:
            if isinstance(each, io.TextIOWrapper):
                with contextlib.suppress(OSError, ValueError):
                    fd = each.fileno()
                    if _place(each)[0] is not None:
                        yield fd
            elif depth:
                yield from _beneath(each, depth - 1)


def _some_lines(text: str) -> str:
    """Its first lines, not many."""
    return text[: text.find("\n", PIECE // 4) + 1] or text


def _encoded(stream: io.TextIOWrapper, text: str) -> bytes:
    try:
        return text.encode(stream.encoding, stream.errors or "strict")
    except UnicodeEncodeError:
        return text.encode(stream.encoding, "backslashreplace")


def _piece(stream: Any, text: str) -> _Piece:
    with contextlib.suppress(OSError, ValueError):
        if _place(stream)[1] >= 0:
            return _Piece(stream, _encoded(stream, text))
    return _Piece(stream, text=text)


# --- descriptors -----------------------------------------------------------------------------------------------------


def _takes(fd: int, seconds: float | None) -> int:
    """Wait until something can be written there, if only a little, or fails; what poll says, 0: not in time."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return next((event for _, event in poll.poll(None if seconds is None else seconds * 1000)), 0)


def _has_room(fd: int, count: int, seconds: float | None) -> bool:
    """Wait until so many bytes, and what a stream holds back, can be written there at once, as far as that is known."""
    end = None if seconds is None else time.monotonic() + seconds
    while event := _takes(fd, seconds):
        pipe = _pipe(fd)
        is_broken = event & ~select.POLLOUT  # Its reader has gone, as who tries will hear.
        if is_broken or pipe is None or not pipe[1] or _room(*pipe) >= count + PENDING:
            return True
        if end is not None and time.monotonic() >= end:
            return False
        time.sleep(TICK)  # Of that there is no news.
    return False


def _write_what_fits(stream: io.TextIOWrapper, fd: int, data: bytes) -> int:
    """Write what can be written without waiting; how many bytes."""
    if not (event := _takes(fd, 0.0)):
        return 0
    if os.isatty(fd):
        # What the user's code has printed of a line comes first.
        stream.flush()
        return _write_to_terminal(fd, data)
    pipe = _pipe(fd)
    if event == select.POLLOUT and (pipe is None or _room(*pipe) < len(data) + PENDING):
        return 0
    stream.flush()
    return os.write(fd, data)


def _write_to_terminal(fd: int, data: bytes) -> int:
    # Opened anew, for nobody else must find the script's own descriptor in this mode; and each time, because it belongs
    # to the user, who may part from the terminal.
    own = -1
    for name in (os.ttyname, "/proc/self/fd/{}".format):
        with contextlib.suppress(OSError):
            own = os.open(name(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            break
    if own < 0:
        return 0
    try:
        return os.write(own, data)
    except BlockingIOError:
        return 0
    finally:
        os.close(own)


def _pipe(fd: int) -> tuple[int, int] | None:
    """How many bytes a pipe holds at the most, and now; None where that is not known, or where it is no pipe."""
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        return None
    waiting = array.array("i", [0])
    try:
        size = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        fcntl.ioctl(fd, termios.FIONREAD, waiting)
    except OSError:
        return None
    return size, waiting[0]


def _room(size: int, waiting: int) -> int:
    """How many bytes it takes at once for sure."""
    # It is made of pages. Of two neighbours the second is begun only when the first had no room for the whole of it.
    pages = 2 * waiting // mmap.PAGESIZE + 2
    return size - pages * mmap.PAGESIZE


# --- ends ------------------------------------------------------------------------------------------------------------


def _finish() -> None:
    """The script ends: what waits is written as long as somebody reads it."""
    global _over  # noqa: PLW0603 - there is one end
    _over = True
    for key, writer in list(_writers.items()):
        try:
            left = writer.finish()
        except KeyboardInterrupt:
            return  # Somebody does not want to wait.
        if left:
            _tell(key, left)


def _tell(key: object, left: int) -> None:
    """Say on standard error what was left, if that is not the very place."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None and _place(sys.stderr)[0] != key and not is_behind(sys.stderr):
            what = "1 line was" if left == 1 else f"{left:,} lines were"
            write(sys.stderr, f"[aiopool] nobody read on: the last {what} not shown\n")


def _forget() -> None:
    """This is a forked child: what waits is the parent's, and so are the threads."""
    global lock  # noqa: PLW0603 - a thread of the parent may have held it
    lock = threading.RLock()
    _writers.clear()


atexit.register(_finish)
os.register_at_fork(after_in_child=_forget)
