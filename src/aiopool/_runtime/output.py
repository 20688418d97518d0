"""What one worker prints, put together again: lines, and whose they are. On the pool's own thread.

Of each item that runs the last lines are kept, for its failure, whatever becomes of the worker.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from aiopool._core import records
from aiopool._runtime.words import LastWords, Shown
from aiopool.frozen import frozen

__all__ = ["KEPT_LINES", "LINE_CHARS", "Event", "Lines", "Output", "Picture", "Text", "Warned"]

LINE_CHARS = 4000
"""A longer line is cut."""

KEPT_LINES = 50
TOLD_CHARS = 20_000
"""How much of its last lines a failure has at the most."""

MOST_CHARS = 8_000_000
MOST_ITEMS = 100_000
"""What is kept of all items of one worker at the most; of those that have printed longest ago nothing, beyond that."""

MOST_UNFINISHED = 32_000_000
PART_BYTES = 200
"""How many bytes of things that are displayed may wait for their last part; each part counts for so many more."""


@frozen
class Text:
    """Lines that were printed to one stream. ``job`` 0: the worker's own, of C code, of programs."""

    job: int
    item: int
    lines: Sequence[str]
    error: bool


@frozen
class Warned:
    """A warning, as Python shows it."""

    job: int
    item: int
    text: str


@frozen
class Picture:
    """Something that was displayed, as JSON."""

    job: int
    item: int
    content: bytes


Event = Text | Warned | Picture


class Lines:
    """Makes lines of bytes that come in parts; of a long one only the beginning is held."""

    __slots__ = ("_lost", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._lost = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in this."""
        at = data.rfind(b"\n") + 1
        whole, rest = data[:at], data[at:]
        lines: list[str] = []
        if whole and (self._rest or self._lost):
            first, _, whole = whole.partition(b"\n")
            self._hold(first)
            lines.append(_cut(self._rest.decode("utf-8", "replace"), len(self._rest) + self._lost))
            self._rest, self._lost = b"", 0
        if whole:
            lines += whole[:-1].decode("utf-8", "replace").split("\n")
            if len(whole) > LINE_CHARS:
                lines = [line if len(line) <= LINE_CHARS else _cut(line, len(line.encode())) for line in lines]
        if rest:
            self._hold(rest)
        return lines

    def end(self) -> list[str]:
        """The line that has not ended, if there is one."""
        return self.feed(b"\n") if self._rest else []

    @property
    def pending(self) -> bool:
        """Whether a line has not ended."""
        return bool(self._rest)

    def overwritten(self) -> str:
        """Where the cursor went back to the beginning of the line that has not ended: what stands there now."""
        if b"\r" not in self._rest:
            return ""
        shown = _last_of(self._rest.decode("utf-8", "replace"))
        self._rest = b"\r" + shown.encode()
        return shown

    def _hold(self, data: bytes) -> None:
        room = 4 * LINE_CHARS - len(self._rest)
        self._rest += data[:room]
        self._lost += len(data[room:])


def _is_pending(lines: Lines) -> bool:
    return lines.pending


def _cut(line: str, size: int) -> str:
    """A line, of so many bytes, that is short enough to be shown."""
    if size <= LINE_CHARS or (len(line) <= LINE_CHARS and size <= 4 * LINE_CHARS):
        return line
    kept = line[:LINE_CHARS]
    return f"{kept}... ({size - len(kept.encode()):,} bytes more)"


def _last_of(line: str) -> str:
    """What is to be seen of a line in which the cursor went back to its beginning."""
    return next((part.strip() for part in reversed(line.split("\r")) if part.strip()), "")


class _Item:
    """What one item has printed."""

    __slots__ = ("chars", "last", "streams")

    def __init__(self) -> None:
        self.streams = {records.OUT: Lines(), records.ERR: Lines()}
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        self.chars = 0

    def keep(self, lines: Sequence[str]) -> int:
        """Keep the last lines; how many characters more than before these are."""
        before = self.chars
        for line in lines[-KEPT_LINES:]:
            if len(self.last) == KEPT_LINES:
                self.chars -= len(self.last[0])
            self.last.append(line)
            self.chars += len(line)
        return self.chars - before


class Output:
    """Everything that comes out of one worker. ``on_status`` is told the text of a line that is overwritten in place.

    ``token`` is what the worker's records begin with.
    """

    def __init__(self, on_status: Callable[[str], object]) -> None:
        self.token = records.token(os.urandom(records.TOKEN_SIZE))
        self._on_status = on_status
        self._parser = records.Parser(self.token)
        self._raw = Lines()
        self._own = _Item()
        self._items: OrderedDict[tuple[int, int], _Item] = OrderedDict()
        self._chars = 0
        self._parts: dict[bytes, list[bytes]] = {}
        self._unfinished = 0
        self._last_words = LastWords()
        self._begins: dict[int, int] = {}
        self._shown = Shown()

    def take(self, data: bytes) -> list[Event]:
        """Take in what came through the pipe; what there is to show of it, in order."""
        events: list[Event] = []
        for head, payload in self._parser.feed(data):
            if head is None:
                events += self._take_raw(payload)
            else:
                events += self._say_raw(self._shown.release())
                events += self._take_record(head, payload)
        return events

    def end_line(self, *, dead: bool) -> list[Event]:
        """What there is of lines that have not ended; of a dead worker not what was held back of its crash."""
        if not dead and not self.is_amid:
            return []
        rest = self._parser.end() if dead else b""
        events = self._take_raw(rest) if rest else []
        events += self._take_raw(b"\n") if self._raw.pending else []
        for kind, lines in self._own.streams.items():
            events += self._say(records.Head(kind, 0, 0), lines.end())
        if not dead:
            return [*events, *self._say_raw(self._shown.release())]
        for item in list(self._items):
            events += self._end(records.Head(records.FAILED, *item))
        return events

    @property
    def is_amid(self) -> bool:
        """Whether there is anything of a line that has not ended, or held back."""
        return self._raw.pending or self._shown.holds or any(map(_is_pending, self._own.streams.values()))

    def add(self, line: str) -> None:
        """Have this among its last words."""
        self._last_words.add([line])

    def knows(self, job: int) -> bool:
        """Whether it was given an item of this job."""
        return job in self._begins

    @property
    def said(self) -> int:
        """How many lines it has said. Any thread."""
        return self._last_words.count

    def begin(self, job: int, said: int) -> None:
        """It is given its first item of this job: what it had ``said`` before is no matter of that."""
        self._begins[job] = said

    def end(self, job: int) -> None:
        """The job has ended."""
        self._begins.pop(job, None)

    def last_words(self, job: int = 0) -> str:
        """The last lines that it printed since this job came, or ever, or where it crashed."""
        return self._last_words.after(self._begins.get(job, 0))

    # --- items -----------------------------------------------------------------------------------------------------

    def prints(self, job: int, item: int) -> str:
        """The last lines that the item printed in its present attempt."""
        kept = self._items.get((job, item))
        return "\n".join(kept.last)[-TOLD_CHARS:] if kept is not None else ""

    def forget(self, job: int, item: int) -> None:
        """Nobody will ask for it any more."""
        if (kept := self._items.pop((job, item), None)) is not None:
            self._chars -= kept.chars

    def _item(self, job: int, item: int) -> _Item:
        if not job:
            return self._own
        key = job, item
        kept = self._items.get(key)
        if kept is None:
            kept = self._items[key] = _Item()
            if len(self._items) > MOST_ITEMS:
                self.forget(*next(iter(self._items)))
        else:
            self._items.move_to_end(key)
        return kept

    def _say(self, head: records.Head, lines: list[str], *, quietly: bool = False) -> list[Event]:
        if not lines:
            return []
        self._last_words.add(lines)
        if head.job:
            self._chars += self._item(head.job, head.item).keep(lines)
            while self._chars > MOST_CHARS and len(self._items) > 1:
                self.forget(*next(iter(self._items)))
        return [] if quietly else [Text(head.job, head.item, lines, head.kind == records.ERR)]

    # --- what comes through the pipe -------------------------------------------------------------------------------

    def _take_record(self, head: records.Head, payload: bytes) -> list[Event]:
        kind, job, item = head.kind, head.job, head.item
        if kind in (records.OUT, records.ERR):
            return self._say(head, self._item(job, item).streams[kind].feed(payload))
        if kind == records.QUIET:
            return self._say(head, payload.decode("utf-8", "replace").splitlines(), quietly=True)
        if kind == records.WARNED:
            text = payload.decode("utf-8", "replace").rstrip("\n")
            self._say(head, text.split("\n"), quietly=True)
            return [Warned(job, item, text)]
        if kind in (records.PART, records.LAST):
            return self._take_part(head, payload[:8], payload[8:])
        return self._end(head)

    def _end(self, head: records.Head) -> list[Event]:
        """An item has ended, and its lines with it."""
        kept = self._items.get((head.job, head.item))
        if kept is None:
            return []
        events: list[Event] = []
        for kind, lines in kept.streams.items():
            events += self._say(records.Head(kind, head.job, head.item), lines.end())
        if head.kind == records.ENDED:
            self.forget(head.job, head.item)
        return events

    def _take_part(self, head: records.Head, name: bytes, part: bytes) -> list[Event]:
        """Put together what is displayed; the parts of several things may be mixed."""
        parts = self._parts.setdefault(name, [])
        parts.append(part)
        self._unfinished += PART_BYTES + len(part)
        if head.kind == records.LAST:
            self._drop_part(name)
            return [Picture(head.job, head.item, b"".join(parts))]
        while self._unfinished > MOST_UNFINISHED:
            self._drop_part(next(iter(self._parts)))
        return []

    def _drop_part(self, name: bytes) -> None:
        self._unfinished -= sum(PART_BYTES + len(part) for part in self._parts.pop(name))

    def _take_raw(self, data: bytes) -> list[Event]:
        """What C code or a program has printed."""
        lines = self._raw.feed(data)
        status = self._raw.overwritten()
        if lines and b"\r" in data:
            lines = [line.rstrip("\r") for line in lines]
            bars = [line for line in lines if "\r" in line]
            status = status or (_last_of(bars[-1]) if bars else "")
        if status:
            self._on_status(status)
        if not lines:
            return []
        self._last_words.add(lines)
        return self._say_raw(self._shown.sift(line for line in lines if "\r" not in line))

    def _say_raw(self, lines: list[str]) -> list[Event]:
        return [Text(0, 0, lines, error=False)] if lines else []
