"""``%%aiopool HEAD`` with a body becomes a call that the cell awaits: a magic itself cannot await.

Where a cell cannot either, because another cell magic runs it, or because of ``%autoawait off``, the call blocks.
"""

from __future__ import annotations

import asyncio
import re
import sys
from types import FrameType
from typing import Any, Final

from IPython.core.async_helpers import _asyncio_runner

__all__ = ["MAGIC", "Transformer", "call_of", "head_at"]

MAGIC: Final = "%%aiopool"

_HEAD = re.compile(rf"([ \t]*){MAGIC}(?=\s|$)")
_NOTHING = re.compile(r"\s*(#.*)?$")


def head_at(lines: list[str]) -> int | None:
    """The place of the line that begins with ``%%aiopool``; None where something else than comments comes first."""
    for at, line in enumerate(lines):
        if _HEAD.match(line):
            return at
        if not _NOTHING.match(line):
            return None
    return None


def call_of(text: str, *, awaits: bool) -> str:
    """The expression that stands for a cell. It needs no name of the notebook, which may have any, or have lost it."""
    function = "run_cell" if awaits else "run_cell_blocking"
    return f"{'await ' * awaits}__import__({__package__!r}, fromlist=[{function!r}]).{function}({text!r})\n"


class Transformer:
    """What IPython has go over the lines of every cell, before it looks for magics itself."""

    has_side_effects = True
    """So it is left out when IPython asks whether a cell is complete: that is answered as for every cell magic."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines of a cell, as Python reads them."""
        at = head_at(lines)
        if at is None:
            return lines
        # Comments, because IPython takes out empty lines at the beginning: the head stays in the line where it was.
        return ["#\n"] * at + [call_of("".join(_dedented(lines, at)), awaits=_may_await(self._shell))]


def _dedented(lines: list[str], at: int) -> list[str]:
    """As IPython does with every cell: what stands before the head is taken from all lines."""
    match = _HEAD.match(lines[at])
    indentation = match[1] if match else ""
    return [line.removeprefix(indentation) for line in lines]


def _may_await(shell: Any) -> bool:
    """Whether what runs the cell that is read here awaits it, on an asyncio loop."""
    if not shell.autoawait or shell.loop_runner is not _asyncio_runner:
        return False
    if getattr(shell, "kernel", None) is None and _loop_runs():
        return False  # IPython would start another one in this thread, which cannot be.
    # Another magic runs this one's cell, or code of the user: both call it from a cell that runs, and do not await.
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way there is
    while frame is not None:
        if frame.f_globals is shell.user_global_ns:
            return False
        frame = frame.f_back
    return True


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
