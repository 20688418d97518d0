"""What a process that does not answer tells all the same: how the system has it, and what faulthandler wrote."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aiopool._payload.tracebacks import is_library, is_plumbing
from aiopool.stacks import StackFrame

__all__ = ["Thread", "has_ended", "is_stopped", "read_dump", "takes"]

_LINE = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_BOTTOM = re.compile(r'  File "<string>", line \d+ in <module>\n\Z')

_STEPS = {"stepped", "_run_def", "_run_in_thread", "run_in_a_row", "run_in_groups"}
"""Functions of the worker's, on a stack of its, above which an item's own lines begin."""


MOST_LINES = 100
"""How many lines faulthandler writes of one thread."""

_LEFT_OUT = StackFrame("", 0, "", "the outer lines are left out")


class Thread(NamedTuple):
    """One thread of a dump. ``in_item``: it runs one; ``frames`` are the user's lines, outermost first.

    Threads of ours, such as the one that would have answered, are none of them.
    """

    is_main: bool
    in_item: bool
    frames: tuple[StackFrame, ...]


def is_stopped(pid: int) -> bool:
    """Whether the system lets the process stand still, by SIGSTOP, Ctrl-Z, or a debugger."""
    import psutil  # who only maps inside a worker asks nobody else

    try:
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except (psutil.Error, OSError):
        return False


def takes(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal; where that cannot be known, that it is harmless.

    One that has not set itself up yet has none, nor has one in which an item called ``exec``.
    """
    if sys.platform != "linux":
        return True
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def has_ended(text: str) -> bool:
    """Whether the dump is whole. The main thread comes last, and with it the line that started the worker."""
    return _BOTTOM.search(text) is not None


def read_dump(text: str) -> Iterator[Thread]:
    """The threads of a dump that are inside of the user's code. The main one comes last."""
    sections = re.split(r"^(?:Current thread|Thread) .*\n", text, flags=re.MULTILINE)[1:]
    for number, section in enumerate(sections, 1):
        found = [_frame(match) for match in _LINE.finditer(section)]
        # Not every version says so with an ellipsis.
        is_cut = len(found) >= MOST_LINES and found[-1].file != "<string>"
        found.reverse()
        ours = [at for at, frame in enumerate(found) if is_library(frame.file) and frame.function in _STEPS]
        frames = found[ours[-1] + 1 :] if ours else found
        is_main = bool(found) and (found[0].file == "<string>" or (is_cut and number == len(sections)))
        users = tuple(
            frame
            for frame in frames
            if not is_library(frame.file) and not is_plumbing(frame.file, frame.function) and frame.file != "<string>"
        )
        if is_cut and not ours:
            users = (_LEFT_OUT, *users)
        first = next((frame for frame in found if not is_plumbing(frame.file, frame.function)), None)
        if ours or (users and (is_main or first is None or not is_library(first.file))):
            yield Thread(is_main, bool(ours), users)


def _frame(match: re.Match[str]) -> StackFrame:
    return StackFrame(_unescaped(match["file"]), int(match["line"]), _unescaped(match["name"]))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2] or found[3], 16)), text)
