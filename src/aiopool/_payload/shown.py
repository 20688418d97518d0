"""An item's error as text for people, made from what was told of it: no exception is loaded, no user's code runs.

What is shown is what a user wants to see first: their own lines, each with its neighbours where these are known. The
whole traceback is in the exception itself.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType

from aiopool._payload.errors_as_data import Kin, Told, one_line, records_in
from aiopool._payload.kinds import type_name
from aiopool._payload.tracebacks import Frame, last_own, own, read

__all__ = ["kin_of_error", "message_in", "place", "traceback_of", "traceback_text"]

CellName = Callable[[str], str | None]

AROUND = 2
"""How many lines are shown before and behind the one that is marked."""

MOST_FRAMES, FIRST_FRAMES = 12, 4
MOST_ERRORS = 5
LONGEST = 20_000
LONGEST_LINE = 200

_CAUSED = "The above exception was the direct cause of the following exception:"
_DURING = "During handling of the above exception, another exception occurred:"

Lines = Mapping[tuple[str, int], str]


def message_in(data: bytes | memoryview) -> str:
    """The message of an error in one printable line of at most 200 characters."""
    try:
        records, _ = records_in(data)
        return one_line(records[0].text[: 4 * LONGEST_LINE]) if records else ""
    except Exception:  # noqa: BLE001 - damaged records say nothing
        return ""


def place(kin: Kin, cell_name: CellName) -> str:
    """Where the kin's line is: ``Cell In[3], line 4, in fetch``, ``parse.py, line 4, in parse``; empty for none."""
    if not kin.line:
        return ""
    file = cell_name(kin.file) or kin.file.rpartition("/")[2] or kin.file
    return f"{file}, line {kin.line}, in {kin.function}"


def kin_of_error(name: str, tb: TracebackType | None) -> Kin:
    """The kin of an error that is there."""
    spot = last_own(tb)
    return Kin(name, *spot) if spot is not None else Kin(name)


def traceback_text(data: bytes | memoryview, cell_name: CellName) -> str:
    """The user's lines of an error and of what caused it, the right ones marked; at most 20,000 characters."""
    try:
        records, formatted = records_in(data)
        lines = _sources(formatted)
        parts = [part for number, link in _chain(records) for part in _told(records[number], link, lines, cell_name)]
    except Exception as error:  # noqa: BLE001 - damaged records: what is shown is a courtesy
        return f"(the error cannot be shown: {type_name(error)})"
    return _clipped("\n".join(parts))


def traceback_of(tb: TracebackType | None, said: str, cell_name: CellName) -> str:
    """The same of an error that is there, and of which so much may be ``said``."""
    return _clipped("\n".join([*_frames(read(tb), {}, cell_name), said]))


def _chain(records: Sequence[Told]) -> list[tuple[int, str]]:
    """The numbers of the errors to be shown, the last cause first, each with the sentence that follows it."""
    found: list[tuple[int, str]] = []
    number: int | None = 0 if records else None
    link = ""
    met = set()
    while number is not None and number not in met and len(found) < MOST_ERRORS:
        met.add(number)
        found.append((number, link))
        told = records[number]
        if told.cause is not None:
            number, link = told.cause, _CAUSED
        else:
            number, link = (None if told.suppress else told.context), _DURING
    return found[::-1]


def _told(told: Told, link: str, lines: Lines, cell_name: CellName) -> Iterator[str]:
    yield from _frames(told.frames, lines, cell_name)
    yield f"{told.type_name}: {told.text}" if told.text else told.type_name
    yield from told.notes
    if link:
        yield from ("", link, "")


def _frames(frames: Sequence[Frame], lines: Lines, cell_name: CellName) -> Iterator[str]:
    shown = own(frames)
    left_out = len(shown) - MOST_FRAMES
    for number, frame in enumerate(shown):
        if left_out > 0 and FIRST_FRAMES <= number < FIRST_FRAMES + left_out:
            if number == FIRST_FRAMES:
                yield f"... {left_out:,} more lines"
            continue
        file = cell_name(frame.filename) or f'File "{frame.filename}"'
        yield f"{file}, line {frame.line}, in {frame.name}"
        yield from _around(frame, lines.get((frame.filename, frame.line), ""))


def _around(frame: Frame, line: str) -> Iterator[str]:
    """The line, marked, among its neighbours: where this process knows the file, and it says what the worker saw."""
    # Not getlines(), which reads files and asks loaders of modules: this may be the thread that everybody waits for.
    entry = linecache.cache.get(frame.filename)
    known = entry[2] if entry is not None and len(entry) == 4 else []
    at = frame.line - 1
    if at < len(known) and (not line or known[at].strip() == line):
        first, last = max(0, at - AROUND), min(len(known), at + AROUND + 1)
        neighbours = {number: known[number].rstrip() for number in range(first, last)}
    elif line:
        neighbours = {at: line}
    else:
        return
    width = len(str(max(neighbours) + 1))
    for number, text in sorted(neighbours.items()):
        mark = "---->" if number == at else "     "
        yield f"{mark} {number + 1:>{width}} {text[:LONGEST_LINE]}".rstrip()


def _sources(formatted: str) -> Lines:
    """The text of each line that a plain traceback names: the worker knew it, whatever this process knows."""
    found: dict[tuple[str, int], str] = {}
    spot: tuple[str, int] | None = None
    # Line by line: one pattern for all of it looked for ends in a message of many blanks for minutes.
    for line in formatted.split("\n"):
        text = line.lstrip(" ").removeprefix("|").lstrip(" ")
        if (named := _NAMED.match(text)) is not None:
            spot = named[1], int(named[2])
            continue
        if spot is not None and text.strip() and not text.startswith("File "):
            found.setdefault(spot, text)
        spot = None
    return found


_NAMED = re.compile(r'File "(.*)", line (\d{1,9}), in ')


def _clipped(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    head = LONGEST // 4
    return f"{text[:head]}\n[{len(text) - LONGEST:,} characters left out]\n{text[head - LONGEST :]}"
