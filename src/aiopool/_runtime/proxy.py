"""One worker as the pool's thread holds it: frames in and out, what it prints, how it died."""

from __future__ import annotations

import codecs
import math
import signal
from collections import deque
from collections.abc import Callable

from aiopool._core import frames, wire
from aiopool.engines.base import Death, Link
from aiopool.errors import FrameError
from aiopool.telemetry import Surface

TAIL_LINES = 20
TAIL_CHARS = 4000
LINE_CHARS = 4000


class WorkerProxy:
    """Turns an engine's events into frames, lines and one death."""

    def __init__(
        self,
        number: int,
        index: int,
        on_frame: Callable[[WorkerProxy, frames.Frame], None],
        on_death: Callable[[WorkerProxy], None],
        on_output: Callable[[WorkerProxy, str], None],
    ) -> None:
        self.id = number
        self.index = index
        self.link: Link | None = None
        self.environment = 0
        self.surface: Surface | None = None
        self.report: tuple[float | None, str] | None = None
        self.why = ""
        self.exitcode: int | None = None
        self._death: Death | None = None
        self._on_frame = on_frame
        self._on_death = on_death
        self._on_output = on_output
        self._parser = wire.Parser()
        self._parts: list[frames.Bytes] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def pid(self) -> int | None:
        """The process id, as long as there is a process and after."""
        return self.link.pid if self.link is not None else None

    # --- to the worker ---------------------------------------------------------------------------------------------

    def send(self, frame: frames.Frame) -> None:
        """Queue a frame; what is queued goes out together with :meth:`flush`."""
        self._parts.extend(wire.encode(frame))

    def flush(self) -> None:
        """Send what is queued."""
        if self._parts and self.link is not None:
            parts, self._parts = self._parts, []
            self.link.send(parts)

    def hang_up(self) -> None:
        """Let it end by itself."""
        if self.link is not None and self._death is None:
            self.link.hang_up()

    def kill(self, why: str = "it did not end when it was asked to") -> None:
        """End it now."""
        if self.link is not None and self._death is None:
            self.why = self.why or why
            self.link.kill()

    def drain_output(self) -> None:
        """Take in what it has printed so far."""
        if self.link is not None and self._death is None:
            self.link.drain_output()

    # --- from the worker, through its engine -----------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        """Bytes of frames."""
        if self._parser.broken:
            return
        try:
            for frame in self._parser.feed(data):
                self._on_frame(self, frame)
        except FrameError as error:
            self._parser.broken = True
            self._tail.append(f"aiopool: {error}")
            self.kill(f"it sent what is not a frame ({error})")

    def printed(self, data: bytes) -> None:
        """Bytes that the process printed: whole lines are passed on."""
        text = self._line + self._decoder.decode(data)
        *lines, self._line = text.split("\n")
        if len(self._line) > LINE_CHARS:
            lines.append(self._line)
            self._line = ""
        if lines:
            self._tail.extend(lines)
            self._on_output(self, "".join(f"{line}\n" for line in lines))

    def end_line(self) -> None:
        """Pass on what it has printed of a line: what comes next is somebody else's."""
        if self._line:
            self.printed(b"\n")

    def take_report(self, fraction: float, text: bytes) -> None:
        """What an item of it says of how far it is."""
        self.report = (None if math.isnan(fraction) else fraction), text.decode("utf-8", "replace")

    def died(self, death: Death) -> None:
        """The process is gone."""
        self._death = death
        self.exitcode = death.exitcode
        self.end_line()
        self._on_death(self)

    # --- what is known of its death --------------------------------------------------------------------------------

    def running(self) -> frozenset[tuple[int, int]]:
        """The (batch, position) of items that had started and not ended."""
        return frozenset(map(_decode, self._death.marks.running)) if self._death else frozenset()

    def stepping(self) -> tuple[int, int] | None:
        """The (batch, position) of the item at work."""
        code = self._death.marks.stepping if self._death else None
        return _decode(code) if code is not None else None

    def tail(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._tail)[-TAIL_CHARS:]

    def obituary(self) -> str:
        """One sentence on how it ended, with its last words."""
        how = _told(self.exitcode) + (f", because {self.why}" if self.why else "")
        tail = self.tail()
        last = f"\nThe last lines of worker {self.index}:\n{tail}" if tail else ""
        return f"worker {self.index} (pid {self.pid}) {how} while it ran this item{last}"


def _decode(code: int) -> tuple[int, int]:
    return code >> 32, (code & 0xFFFFFFFF) - 1


def _told(exitcode: int | None) -> str:
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
