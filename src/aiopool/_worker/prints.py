"""What Python code prints in a worker, on its way to the parent: each line under the name of the item that printed it.

``sys.stdout`` and ``sys.stderr`` are text streams of ours. They know the item from its Context, and keep the line that
it has not ended apart from those of all others: a hundred coroutines that print with ``end=""`` never mix. A line, what
was flushed, and what an item has left when it ends go out as records, each in one write that nothing can tear.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from aiopool import inside
from aiopool._core import records

if TYPE_CHECKING:
    from aiopool._worker.streams import Streams
    from aiopool._worker.work import Entry, Stepped

MOST_BYTES = min(select.PIPE_BUF, records.LONGEST)
"""What this system writes to a pipe in one piece, whoever else writes."""

_NOTHING, _BAR, _AFTER_BAR = range(3)
"""What a line is: text, one that is overwritten in place, or the end of such a one, which may bring empty lines."""

_RETURNS = rb"([\r\n])"
_MOVES = rb"\x1b\[[0-9;]*[A-HJKSTfhlsu]"
"""What moves the cursor, or clears the line: nothing of it is text."""
_DECORATION = "\x1b\\[[0-9;]*m|[\b\a]"


class _Said:
    """What one item has printed of lines that have not ended, of either stream. ``entry`` None: the worker itself."""

    __slots__ = ("bars", "begins", "entry", "rests")

    def __init__(self, token: bytes, entry: Entry | None) -> None:
        self.entry = entry
        self.rests = [b"", b""]
        self.bars = [_NOTHING, _NOTHING]
        job, item = (entry.batch.job_id, entry.item) if entry is not None else (0, 0)
        self.begins = (
            records.head(token, records.OUT, job, item),
            records.head(token, records.ERR, job, item),
        )

    def begin(self, kind: int) -> bytes:
        """How its records of this kind begin."""
        first = self.begins[0]
        return first[: records.TOKEN_SIZE] + bytes((kind,)) + first[records.TOKEN_SIZE + 1 :]


class Prints:
    """The way out. Any thread.

    ``open`` are the items that have printed something and not ended. Whoever ends an item marks it as over first and
    looks there second; whoever prints puts it there first and looks whether it is over second: so none stays there.
    The lock may be taken again by the same thread, because a signal handler or a finaliser may print, too.

    ``late`` is what raises in an item that shall end, and could not, because the item was printing: nothing of this is
    torn. So it is called when that is done. An item that does nothing but print would be out of its reach otherwise.
    """

    def __init__(self, streams: Streams) -> None:
        self.open: dict[int, _Said] = {}
        self._streams = streams
        self._token = b""
        self._own = _Said(b"", None)
        self._room = 0
        self._lock = threading.RLock()
        self._is_clone = False
        self.late: Callable[[int, types.FrameType | None], None] | None = None
        self._main = threading.get_ident()
        self._closed: list[Stream] = []
        os.register_at_fork(after_in_child=self._be_a_clone)

    def _be_a_clone(self) -> None:
        # An item forked. What the clone prints is the item's, but what was printed before is not printed twice, and
        # it is not for the clone to say when the item ends.
        self._is_clone = True
        self._lock = threading.RLock()
        for said in (self._own, *self.open.values()):
            said.rests = [b"", b""]

    def begin(self, token: bytes) -> None:
        """Print in records, which begin with this, from now on."""
        if not self._streams.has_output:
            return
        self._token = token
        self._own = _Said(token, None)
        self._room = MOST_BYTES - len(records.record(self._own.begins[0], b""))
        sys.stdout = cast("TextIO", Stream(self, 0))
        sys.stderr = cast("TextIO", Stream(self, 1))
        warnings.showwarning = self._warned

    # --- what is printed -------------------------------------------------------------------------------------------

    def put(self, which: int, data: bytes) -> None:
        """Print to standard output, 0, or error, 1."""
        status = None
        with self._lock:
            said = self._said()
            if b"\r" in data or said.bars[which]:
                status = self._overwrite(said, which, data)
            elif last := data.rfind(b"\n") + 1:
                text, said.rests[which] = said.rests[which] + data[:last], data[last:]
                self._write(which, said.begins[which], text)
            else:
                said.rests[which] += data
            if len(said.rests[which]) > self._room:
                self.flush(which)
        if status and said.entry is not None:
            said.entry.report(None, re.sub(_DECORATION, "", status.decode("utf-8", "replace")).strip())

    def strike(self, frame: types.FrameType) -> None:
        """Something has been printed, from this frame: end the item if that has waited for it."""
        if threading.get_ident() == self._main:
            late, self.late = self.late, None
            if late is not None:
                late(0, frame)

    def flush(self, which: int) -> None:
        """Pass on what has been printed of a line."""
        with self._lock:
            said = self._said()
            if said.rests[which] and said.bars[which] != _BAR:
                text, said.rests[which] = said.rests[which], b""
                self._write(which, said.begins[which], text)

    def end(self, entry: Stepped, *, failed: bool) -> None:
        """An item has ended, and its last lines with it."""
        if self._is_clone or not self.open:
            return
        with self._lock:
            said = self.open.pop(entry.code, None)
            if said is None:
                return
            # It has closed all ways out, or the parent is gone: nobody is left who could be told.
            with suppress(OSError):
                for which in (0, 1):
                    if said.rests[which]:
                        begins = said.begin(records.QUIET) if said.bars[which] == _BAR else said.begins[which]
                        self._write(which, begins, said.rests[which] + b"\n")
                self._write(None, said.begin(records.FAILED if failed else records.ENDED), b"")

    def close(self, stream: Stream) -> None:
        """An item has closed one of the streams."""
        self._closed.append(stream)

    def mend(self) -> None:
        """An item has ended: for others the streams are open."""
        while self._closed:
            self._closed.pop().reopen()

    def send(self, kind: int, payloads: Iterable[bytes]) -> None:
        """Send records of another kind, in order with what this item prints."""
        with self._lock:
            begins = self._said().begin(kind)
        for payload in payloads:
            self._write(None, begins, payload)

    @property
    def room(self) -> int:
        """How many bytes the payload of one record may have; 0: there is nowhere to send one."""
        return self._room

    def _said(self) -> _Said:
        """What the item has said that runs here."""
        running = inside.running.get()
        entry: Any = running.outermost if running is not None else None
        if entry is None:
            return self._own
        code = entry.code
        said = self.open.get(code)
        if said is None:
            said = self.open[code] = _Said(self._token, entry)
            if entry.is_over:
                self.open.pop(code, None)
                return self._own
        return said

    def _overwrite(self, said: _Said, which: int, data: bytes) -> bytes:
        r"""Print where the cursor goes back to the beginning of the line, as progress bars do: what stands there then.

        A line that is begun with ``\r`` is a bar up to its end, and not shown as a line. What is ended with ``\r`` is
        one, too, but what comes next need not be.
        """
        line, bar = said.rests[which], said.bars[which]
        latest, returned = b"", False
        for piece in re.split(_RETURNS, re.sub(_MOVES, b"", data).replace(b"\r\n", b"\n")):
            if piece == b"\r":
                latest, line, bar, returned = (line if line.strip() else latest), b"", _NOTHING, True
            elif piece == b"\n":
                if bar == _BAR:
                    self._write(which, said.begin(records.QUIET), line + b"\n")
                elif bar == _NOTHING or line:
                    self._write(which, said.begins[which], line + b"\n")
                line, bar, returned = b"", (_AFTER_BAR if bar else _NOTHING), False
            elif piece:
                bar = _BAR if returned else _NOTHING if bar == _AFTER_BAR else bar
                line += piece
                returned = False
        said.rests[which], said.bars[which] = line[-self._room :] if bar == _BAR else line, bar
        return line if bar == _BAR and line.strip() else latest

    def _warned(  # noqa: PLR0917  # as it is called
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """In the place of :func:`warnings.showwarning`: where Python would print it, equal ones are counted."""
        text = warnings.formatwarning(message, category, filename, lineno, line)
        into = sys.stderr if file is None else file
        if type(into) is Stream and into.prints is self:
            self.send(records.WARNED, [text.encode("utf-8", "backslashreplace")[: self._room]])
        elif into is not None:
            into.write(text)

    # --- the pipe --------------------------------------------------------------------------------------------------

    def _write(self, which: int | None, begins: bytes, payload: bytes) -> None:
        """Write records, or the mere text where the item has put another file into the place of our pipe."""
        number, is_ours = self._streams.outlet(which)
        if not is_ours:
            while payload:
                payload = payload[_written(number, payload) :]
            return
        if len(payload) <= self._room:
            _written(number, records.record(begins, payload))
            return
        for place in range(0, len(payload), self._room):
            _written(number, records.record(begins, payload[place : place + self._room]))


def _written(fd: int, data: bytes) -> int:
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            # Code that makes a pipe of the process its own has made it so. It takes all of a record, or nothing.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


class Stream(io.TextIOBase):
    """Standard output or error as Python code sees it."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(self, prints: Prints, which: int) -> None:
        super().__init__()
        self.prints = prints
        self.name = ("<stdout>", "<stderr>")[which]
        self.buffer = _Bytes(self)
        self._which = which
        self._closed = False

    def write(self, text: str) -> int:
        """Print; whole lines go out at once."""
        if self._closed:
            _refuse_closed()
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.prints.put(self._which, text.encode("utf-8", "backslashreplace"))
        if self.prints.late is not None:
            self.prints.strike(sys._getframe(1))  # noqa: SLF001  # as a signal handler is given it
        return len(text)

    def write_bytes(self, data: bytes | bytearray | memoryview) -> int:
        """Print what is encoded already."""
        if self._closed:
            _refuse_closed()
        text = bytes(memoryview(data))
        self.prints.put(self._which, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # of text, as its base means it
        """Print them one behind the other."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Pass on a line that has not ended."""
        if self._closed:
            _refuse_closed()
        self.prints.flush(self._which)

    def fileno(self) -> int:
        """The number under which C code prints."""
        return self._which + 1

    def writable(self) -> bool:
        """Yes."""
        return True

    def reconfigure(self, **_: object) -> None:
        """It is as it must be: UTF-8, and line by line."""

    def detach(self) -> NoReturn:
        """The rest of the worker needs it."""
        raise io.UnsupportedOperation("a worker's standard output and error cannot be detached")

    def close(self) -> None:
        """For who does it; the next item finds it open."""
        if not self._closed:
            self._closed = True
            self.prints.close(self)

    def reopen(self) -> None:
        """Another item begins."""
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether this item has closed it."""
        return self._closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r} mode='w' encoding='utf-8'>"


class _Bytes(io.BufferedIOBase):
    """The same for bytes: what is written here keeps its place among what is printed."""

    mode = "wb"

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.raw = cast("Any", self)
        self.name = stream.name
        self._stream = stream

    def write(self, data: Any) -> int:
        """Print bytes."""
        return self._stream.write_bytes(data)

    def flush(self) -> None:
        """Pass on a line that has not ended."""
        if not self._stream.closed:
            self._stream.flush()

    def fileno(self) -> int:
        """The number under which C code prints."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Whoever wraps it closes it at the end of the wrapper, which is no reason to end the worker's output."""

    @property
    def closed(self) -> bool:
        """As the stream."""
        return self._stream.closed


def _refuse_closed() -> NoReturn:
    raise ValueError("I/O operation on closed file.")
