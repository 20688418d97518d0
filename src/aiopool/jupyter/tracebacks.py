"""Tracebacks as the kernel shows them: they end at the user's line, not at ours."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any

from aiopool.errors import AiopoolError, InternalError

__all__ = ["end_at_users_lines"]


def end_at_users_lines(shell: Any) -> None:
    """Leave out our frames at the end of a traceback.

    IPython hides frames that ask for it, but never the last one. That one is ours when an item failed where Python has
    no frames, as in ``pmap(int, ["x"])``, and when an error is our own.
    """
    shown = shell.InteractiveTB.structured_traceback

    @functools.wraps(shown)
    def structured_traceback(kind: Any, error: Any, tb: Any = None, *args: Any, **kwargs: Any) -> Any:
        return shown(kind, error, _users_part(error, tb), *args, **kwargs)

    shell.InteractiveTB.structured_traceback = structured_traceback


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
