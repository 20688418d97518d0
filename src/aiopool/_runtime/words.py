"""What a worker prints: as it is shown at once, and its last words, short enough to be read in an error's message."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from aiopool._payload.tracebacks import is_plumbing
from aiopool.stacks import cell_name

KEPT_LINES = 300
TOLD_LINES = 20
TOLD_CHARS = 4000
LINE_CHARS = 1000
"""How much is told of one line: there is little room, and the others say something, too."""
MOST_HELD = 10_000
"""Lines of a crash that are held back: with so many it is that of a program, which talks on."""
BEFORE_LINES = 4
"""Lines that are told of what came before a crash."""

_OURS = str(Path(__file__).parents[1] / "_worker")
_LINK = str(Path(_OURS) / "link.py")
_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")
_FRAME = re.compile(r'  (File "(?P<file>.*)", line (\d+|\?\?\?) in (?P<name>.*)|<.*>|\.\.\.)$')
_FATAL = "Fatal Python error: "
_CRASH = re.compile(rf"({_FATAL}|Timeout \(\d+:\d+:\d+)")
_MODULES = "Extension modules: "
_AFTER_FATAL = re.compile(rf"$|  |Thread 0x|Current thread(?: 0x|'s C stack)|Python runtime state: |{_MODULES}")
_STARTERS = ("<string>", "threading.py")


class Shown:
    """Sifts what is shown at once: of a crash its headline. The rest is for the error of whoever is to blame.

    The rest is held back until the worker has died. If it goes on, the crash was that of a program which it has
    started, and all of it is shown.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._in_crash = False

    def sift(self, lines: Iterable[str]) -> list[str]:
        """Of these lines, and of those that were held, the ones to show now."""
        shown: list[str] = []
        for line in lines:
            if self._in_crash and len(self._held) < MOST_HELD and _AFTER_FATAL.match(line):
                self._held.append(line)
            else:
                shown += [*self.release(), line]
                self._in_crash = line.startswith(_FATAL)
        return shown

    @property
    def holds(self) -> bool:
        """Whether something is held, or would be if it came now."""
        return self._in_crash or bool(self._held)

    def release(self) -> list[str]:
        """What is held, where the worker has not died of it."""
        held, self._held, self._in_crash = self._held, [], False
        return held


class LastWords:
    """Keeps the last lines."""

    def __init__(self) -> None:
        self.count = 0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def add(self, lines: Sequence[str]) -> None:
        """Take in what it has printed."""
        self.count += len(lines)
        self._lines.extend(lines)

    def __str__(self) -> str:
        """The end of it; of a crash its beginning, which says what happened and where."""
        return self.after(0)

    def after(self, count: int) -> str:
        """The same of what came after so many lines."""
        known = islice(self._lines, max(0, count - (self.count - len(self._lines))), None)
        lines = [line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}..." for line in _without_ours(known)]
        crash = max((place for place, line in enumerate(lines) if _CRASH.match(line)), default=None)
        if crash is None:
            return "\n".join(lines[-TOLD_LINES:])[-TOLD_CHARS:]
        return "\n".join(lines[max(0, crash - BEFORE_LINES) :][: BEFORE_LINES + TOLD_LINES])[:TOLD_CHARS]


def _without_ours(lines: Iterable[str]) -> Iterator[str]:
    """Of what faulthandler writes leave the frames of the user's code, and the threads that have some."""
    thread: list[str] | None = None
    for line in lines:
        if _THREAD.match(line):
            yield from _told(thread)
            thread = [line]
        elif thread is not None and (not line or _FRAME.match(line) or line.startswith("Extension modules: ")):
            thread.append(line)
        else:
            yield from _told(thread)
            yield line
            # What follows is an empty line and threads.
            thread = [] if _CRASH.match(line) else None
    yield from _told(thread)


def _told(thread: list[str] | None) -> list[str]:
    """A thread's headline and those of its frames that are not ours; nothing, if none is, or if it is our own."""
    if not thread:
        return []
    frames = [frame for line in thread[1:] if (frame := _FRAME.match(line)) and frame["file"]]
    if any(frame["file"] == _LINK for frame in frames):
        return []
    told = [found for found in frames if not found["file"].startswith(_OURS) and not found["file"].endswith(_STARTERS)]
    # The outermost come last. Those of asyncio that stand above others are the user's affair.
    while told and is_plumbing(told[-1]["file"], told[-1]["name"]):
        told.pop()
    return [thread[0], *map(_named, told)] if told else []


def _named(frame: re.Match[str]) -> str:
    """The line of a frame, with the name of the cell in the place of its file."""
    cell = cell_name(frame["file"])
    return frame[0] if cell is None else frame[0].replace(f'File "{frame["file"]}"', cell, 1)
