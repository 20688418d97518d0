"""Tracebacks as the kernel shows them: they end at the user's line, not at ours."""

from __future__ import annotations

import functools
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from aiopool.errors import AiopoolError, InternalError

__all__ = ["end_at_users_lines", "name_of_cell"]

OUR_FOLDER = f"{Path(__file__).parent.parent}/"


def end_at_users_lines(shell: Any) -> None:
    """Leave out our frames at the end of a traceback.

    IPython hides frames that ask for it, but never the last one. That one is ours when an item failed where Python has
    no frames, as in ``pmap(int, ["x"])``, and when an error is our own.
    """
    shown = shell.InteractiveTB.structured_traceback
    parts_of_cause = shell.InteractiveTB.get_parts_of_chained_exception
    shown_syntax_error = shell.SyntaxTB.structured_traceback

    @functools.wraps(shown)
    def structured_traceback(kind: Any, error: Any, tb: Any = None, *args: Any, **kwargs: Any) -> Any:
        return shown(kind, error, _users_part(error, tb), *args, **kwargs)

    @functools.wraps(parts_of_cause)
    def get_parts_of_chained_exception(error: Any) -> Any:
        # The cancel of an await of ours is the cause of the TimeoutError of an `asyncio.timeout` around it.
        found = parts_of_cause(error)
        return found and (found[0], found[1], _users_part(found[1], found[2]))

    @functools.wraps(shown_syntax_error)
    def structured_syntax_error(kind: Any, error: Any, frames: Any = None, *args: Any, **kwargs: Any) -> Any:
        # IPython hides nothing here. An item meets one when it imports a module that is being edited.
        if isinstance(frames, traceback.StackSummary):
            frames = [each for each in frames if not each.filename.startswith(OUR_FOLDER)]
            if frames and frames[-1].filename == getattr(error, "filename", None):
                frames = None  # Of a cell that is its own text: as where Python finds the error, nothing has run.
        return shown_syntax_error(kind, error, frames, *args, **kwargs)

    shell.InteractiveTB.structured_traceback = structured_traceback
    shell.InteractiveTB.get_parts_of_chained_exception = get_parts_of_chained_exception
    shell.SyntaxTB.structured_traceback = structured_syntax_error


def name_of_cell(shell: Any, filename: str) -> str | None:
    """What a traceback calls the file of a cell, as in ``Cell In[3]``; None for what is no cell."""
    # Older ones of IPython do not know; a file name is shown then.
    named = getattr(shell.compile, "format_code_name", lambda _: None)(filename)
    return None if named is None else " ".join(named)


def _users_part(error: object, tb: TracebackType | None) -> TracebackType | None:
    told_in_full = isinstance(error, AiopoolError | KeyboardInterrupt) and not isinstance(error, InternalError)
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    kept = len(frames)
    # An error of another kind that comes from a line of ours which hides nothing is a bug; its frames are needed.
    while kept and _is_ours(frames[kept - 1]) and (told_in_full or _asks_to_be_hidden(frames[kept - 1])):
        kept -= 1
    if not kept or kept == len(frames):
        return frames[0] if frames else None
    last: TracebackType | None = None
    for each in reversed(frames[:kept]):
        last = TracebackType(last, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return last


def _is_ours(tb: TracebackType) -> bool:
    # By the module's name: what a dataclass writes for itself has no file.
    return str(tb.tb_frame.f_globals.get("__name__")).partition(".")[0] == "aiopool"


def _asks_to_be_hidden(tb: TracebackType) -> bool:
    return bool(tb.tb_frame.f_locals.get("__tracebackhide__"))
