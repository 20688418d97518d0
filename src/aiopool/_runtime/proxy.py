"""One worker as the pool's thread holds it: frames in and out, what it prints, how it died."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiopool._core import frames, wire
from aiopool._runtime.lending import Desk
from aiopool._runtime.output import Event, Output
from aiopool._runtime.voices import Voice
from aiopool.engines.base import Death, Link
from aiopool.errors import FrameError
from aiopool.telemetry import size

log = logging.getLogger("aiopool")

JOINED_MOST = 128 * 1024
"""So many bytes of frames are copied into one part at most."""


AT_ONCE = 0.001
"""What a worker is given within so many seconds it is given at the same time, as far as that matters to last words."""


class Report(NamedTuple):
    """How far an item is, as it says itself; None as its ``spot``, the batch and the position: some item says it."""

    fraction: float | None
    text: str
    spot: tuple[int, int] | None


class WorkerProxy:
    """Turns an engine's events into frames, lines and one death.

    ``on_read`` is called when all is taken that was read at a time, of which ``reading`` says that more may come.
    ``link`` is None before its process is made; ``unwanted``: by then nobody wants it any more.
    """

    def __init__(
        self,
        number: int,
        index: int,
        on_frame: Callable[[WorkerProxy, frames.Frame], None],
        on_death: Callable[[WorkerProxy], None],
        on_output: Callable[[WorkerProxy, Sequence[Event]], None],
    ) -> None:
        self.id = number
        self.index = index
        self.link: Link | None = None
        self.environment = 0
        self.voice: Voice | None = None
        self.report: Report | None = None
        self.why = ""
        self.unwanted = False
        # What has ended with a value that cannot be read here is marked no more: anything may have begun.
        self.unreadable = False
        self.exitcode: int | None = None
        self.heard = 0
        self.ready = False
        self.memory: int | None = None
        self.desk: Desk  # The driver's, who knows which pages there are.
        self.hint = ""
        self.advice = ""
        self._death: Death | None = None
        self._on_frame = on_frame
        self._on_death = on_death
        self._on_output = on_output
        self._parser = wire.Parser()
        self._parts: list[frames.Bytes] = []
        self._drained = False
        self._drained_at = -math.inf
        self.reading = False
        self.on_read: Callable[[], object] = _nothing
        self.output = Output(self._take_status)

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
            # Headers, columns and small values of however many frames go as one; what is big is not copied.
            if len(parts) > 1 and sum(map(len, parts)) <= JOINED_MOST:
                parts = [b"".join(parts)]
            self.link.send(parts)

    def hang_up(self) -> None:
        """Let it end by itself."""
        self.unwanted = True
        if self.link is not None and self._death is None:
            self.link.hang_up()

    def kill(self, why: str = "it did not end when it was asked to") -> None:
        """End it now."""
        self.unwanted = True
        if self._death is None:
            self.why = self.why or why
            if self.link is not None:
                self.link.kill()

    def give_no_more_time(self) -> None:
        """It was hung up on, and should have ended by itself by now."""
        if self.link is not None and self._death is None and not self.why:
            log.warning(
                "worker %d (pid %s) did not end in time when its work was done, and is killed: "
                "what it was closing is not closed",
                self.index,
                self.pid,
            )
        self.kill()

    def drain_output(self) -> None:
        """Take in what it has printed so far."""
        if self.link is not None and self._death is None:
            self._drained, self._drained_at = True, time.monotonic()
            self.link.drain_output()

    def drain_before(self) -> bool:
        """Take in what it has printed before it sent what was read last; False: that was done."""
        if self._drained:
            return False
        self.drain_output()
        return True

    # --- from the worker, through its engine -----------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        """Bytes of frames."""
        self.heard += 1
        if self._parser.broken:
            return
        self._drained, self.reading = False, True
        try:
            for frame in self._parser.feed(data):
                self._on_frame(self, frame)
        except FrameError as error:
            self._parser.broken = True
            self.output.add(f"aiopool: {error}")
            self.kill(f"it sent what is not a frame ({error})")
        finally:
            self.reading = False
            self.on_read()

    def printed(self, data: bytes) -> None:
        """Bytes that the process printed."""
        self._pass_on(self.output.take(data))

    def end_line(self) -> None:
        """Pass on what it has printed of a line, and what was held back: what comes next is somebody else's."""
        self._pass_on(self.output.end_line(dead=self._death is not None))

    def _pass_on(self, events: Sequence[Event]) -> None:
        if events:
            self._on_output(self, events)

    def _take_status(self, text: str) -> None:
        code = self.link.at_work() if self.link is not None else None
        self.report = Report(None, text, frames.spot_of(code) if code else None)

    def take_report(self, frame: frames.Reported) -> None:
        """What an item of it says of how far it is."""
        fraction = None if math.isnan(frame.fraction) else frame.fraction
        self.report = Report(fraction, bytes(frame.text).decode("utf-8", "replace"), (frame.batch, frame.position))

    def items_ended(self) -> None:
        """Some items have ended: it is not known whether what some item said is said of another one."""
        if self.report is not None and self.report.spot is None:
            self.report = None

    def died(self, death: Death) -> None:
        """The process is gone."""
        self._death = death
        self.exitcode = death.exitcode
        self.end_line()
        self._on_death(self)

    def give_up(self) -> None:
        """There is no process, and there will be none."""
        self._on_death(self)

    # --- what is known of its death --------------------------------------------------------------------------------

    def running(self) -> frozenset[tuple[int, int]]:
        """The (batch, position) of items that had started and not ended."""
        if self.unreadable:
            return frozenset((frames.ANY_SPOT,))
        return frozenset(map(frames.spot_of, self._death.marks.running)) if self._death else frozenset()

    def stepping(self) -> tuple[int, int] | None:
        """The (batch, position) of the item at work."""
        code = self._death.marks.stepping if self._death else None
        return frames.spot_of(code) if code is not None else None

    @property
    def is_busy(self) -> bool:
        """Whether something is on the way to it, or will be: pages that it shall look at, or its end."""
        return bool(self.unwanted or self._parts or self.link is None or self.link.unsent)

    def begin(self, job: int, since: int | None = None) -> None:
        """It is given items of this job, the first ones or more; or somebody has given it ``since`` it had said that.

        That is, so many lines.
        """
        if since is not None:
            self.output.begin(job, since)
        elif not self.output.knows(job):
            self.drain_before_items()
            self.output.begin(job, self.output.said)

    def drain_before_items(self) -> None:
        """It is about to be given items: what it has printed before is no last word for their job."""
        # Calls come by the thousand, and are all the same.
        if time.monotonic() - self._drained_at > AT_ONCE:
            self.drain_output()

    def tail(self, job: int = 0) -> str:
        """The last lines that it printed since it was given its first item of the job, or where it crashed."""
        return self.output.last_words(job)

    @property
    def peak(self) -> int | None:
        """The most memory that it ever had, in bytes, once it has died; None where that is not known."""
        return self._death.peak if self._death is not None else None

    def obituary(self, job: int) -> str:
        """How it ended while it ran an item: a line that says it, what points at memory, and its last words."""
        memory = f", {size(self.memory)}" if self.memory is not None else ""
        lines = [f"worker {self.index} (pid {self.pid}{memory}) {self.fate()} while it ran this item"]
        if self.why:
            lines[0] += f", because {self.why}"
        return "\n".join([*lines, *self.testimony(job)])

    def fate(self) -> str:
        """How its process ended, in a few words."""
        if self.exitcode is None:
            return "ended"
        if self.exitcode < 0:
            return f"was killed by {signal_name(self.exitcode)}"
        if self.exitcode == frames.PIPES_CLOSED:
            return f"ended (exit code {self.exitcode}): the item's code closed the pool's pipes"
        return f"exited with code {self.exitcode}"

    def testimony(self, job: int = 0) -> list[str]:
        """What else there is to say of its end, in lines; of what it printed as :meth:`tail`."""
        tail = self.tail(job)
        words = f"The last lines of worker {self.index}:\n{tail}" if tail else ""
        return [line for line in (self.hint, self.advice, words) if line]


def _nothing() -> None:
    """Nobody wants to know."""


def signal_name(exitcode: int | None) -> str:
    """The name of the signal that a process died of, by its exit code; empty where it died of none."""
    if exitcode is None or exitcode >= 0:
        return ""
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"
