"""Tracebacks as data: read where an exception was raised, built again where it is shown.

Built frames carry the positions of the real ones, so that IPython prints "Cell In[2], line 5" with the arrow at that
line, and a plain traceback prints the line and its carets. A frame can only be made by running code: each is made by
a tiny function, compiled with the file name and positions of the original, that raises at once.
"""

from __future__ import annotations

import ast
import functools
import itertools
import os
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import cloudpickle

__all__ = [
    "Frame",
    "build",
    "from_users_line",
    "is_library",
    "is_own",
    "is_plumbing",
    "last_own",
    "own",
    "read",
    "user_part",
    "without_library_frames",
]

_LIBRARY = tuple(
    os.path.dirname(path) + os.sep  # noqa: PTH120 - compared with the file names of code, which are strings
    for path in (os.path.dirname(__file__), cloudpickle.__file__)  # noqa: PTH120
)
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_PYTHONS_OWN = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as above
_MOST_FRAMES = 200
_PLUMBING = {
    os.path.join("asyncio", "base_events.py"): {"run_forever", "run_until_complete", "_run_once"},  # noqa: PTH118
    os.path.join("asyncio", "events.py"): {"_run"},  # noqa: PTH118
    os.path.join("asyncio", "runners.py"): {"run"},  # noqa: PTH118
    "nest_asyncio2.py": {"run", "run_forever", "run_until_complete", "_run_once"},
    "selectors.py": {"select"},
    "threading.py": {"_bootstrap", "_bootstrap_inner", "run"},
}
_PLUMBING_FILES = tuple(os.sep + name for name in _PLUMBING)


class Frame(NamedTuple):
    """One line of a traceback."""

    filename: str
    name: str
    qualname: str
    module: str
    first_line: int
    line: int
    end_line: int | None
    column: int | None
    end_column: int | None


def is_library(filename: str) -> bool:
    """Whether a file is ours or cloudpickle's; a user need not see those."""
    return filename.startswith(_LIBRARY)


def is_own(filename: str) -> bool:
    """Whether a file is a user's own: a cell, a script, a module of theirs; nothing that was installed."""
    return not (
        is_library(filename)
        or filename.startswith((_PYTHONS_OWN, "<frozen ", "<__array_function__"))
        or any(folder in filename for folder in _INSTALLED)
    )


def is_plumbing(filename: str, name: str) -> bool:
    """Whether a line of a thread's stack only says that a loop turns, or that a thread has begun."""
    return filename.endswith(_PLUMBING_FILES) and any(
        name in names for end, names in _PLUMBING.items() if filename.endswith(os.sep + end)
    )


def user_part(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The same traceback without the library's frames; the given one is left alone."""
    kept = []
    while tb is not None:
        if not is_library(tb.tb_frame.f_code.co_filename):
            kept.append(tb)
        tb = tb.tb_next
    last: types.TracebackType | None = None
    for each in reversed(kept):
        last = types.TracebackType(last, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return last


def from_users_line(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The same traceback without its outermost frames, as long as they are ours or only say that a loop turns."""
    while tb is not None:
        code = tb.tb_frame.f_code
        if not is_library(code.co_filename) and not is_plumbing(code.co_filename, code.co_name):
            break
        tb = tb.tb_next
    return tb


def without_library_frames(error: BaseException) -> BaseException:
    """Shorten the traceback of an exception that is about to be shown as the cause of ours."""
    return BaseException.with_traceback(error, user_part(error.__traceback__))


# --- reading -------------------------------------------------------------------------------------------------------


def read(tb: types.TracebackType | None) -> tuple[Frame, ...]:
    """The user's frames, outermost first. Of a deep recursion, both ends."""
    found = []
    while tb is not None:
        if not is_library(tb.tb_frame.f_code.co_filename):
            found.append(tb)
        tb = tb.tb_next
    if len(found) > _MOST_FRAMES:
        found[_MOST_FRAMES // 2 : -_MOST_FRAMES // 2] = []
    return tuple(map(_read_one, found))


def _read_one(tb: types.TracebackType) -> Frame:
    code = tb.tb_frame.f_code
    line = tb.tb_lineno or code.co_firstlineno
    positions = next(itertools.islice(code.co_positions(), max(tb.tb_lasti, 0) // 2, None), (None,) * 4)
    _, end_line, column, end_column = positions
    module = dict.get(tb.tb_frame.f_globals, "__name__")
    return Frame(
        code.co_filename,
        code.co_name,
        code.co_qualname,
        module if type(module) is str else "",
        code.co_firstlineno,
        line,
        end_line,
        column,
        end_column,
    )


def own(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Those in files of the user's; where there are none, all of them."""
    return [frame for frame in frames if is_own(frame.filename)] or frames


def last_own(tb: types.TracebackType | None) -> tuple[str, int, str] | None:
    """File, line and function of the user's last line, of the last line of all where none is the user's.

    As ``own(read(tb))[-1]``, but cheap: it is asked of every failure.
    """
    found = found_own = None
    while tb is not None:
        filename = tb.tb_frame.f_code.co_filename
        if not is_library(filename):
            found = tb
            if is_own(filename):
                found_own = tb
        tb = tb.tb_next
    last = found_own or found
    if last is None:
        return None
    code = last.tb_frame.f_code
    return code.co_filename, last.tb_lineno or code.co_firstlineno, code.co_name


# --- building ------------------------------------------------------------------------------------------------------


class _HereError(Exception):
    """Raised by the tiny function, for its traceback."""


def build(frames: Sequence[Frame]) -> types.TracebackType | None:
    """A traceback of those frames. One that cannot be made is left out."""
    last: types.TracebackType | None = None
    for frame in reversed(frames):
        try:
            made = _run(_compile(frame), frame)
        except Exception:  # noqa: BLE001, S112 - positions that no source has; the message matters more than this line
            continue
        last = types.TracebackType(last, made.tb_frame, made.tb_lasti, frame.line)
    return last


def _run(code: types.CodeType, frame: Frame) -> types.TracebackType:
    namespace = {"__name__": frame.module, "__file__": frame.filename, "_HereError": _HereError}
    try:
        types.FunctionType(code, namespace)()
    except _HereError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            return error.__traceback__.tb_next
    raise RuntimeError("a function that only raises has not raised")


@functools.lru_cache(maxsize=512)
def _compile(frame: Frame) -> types.CodeType:
    """``def name(): raise _HereError``, with the ``raise`` at the frame's positions."""
    known = frame.column is not None and frame.end_column is not None and frame.end_line is not None
    where: dict[str, Any] = {
        "lineno": frame.line,
        "col_offset": frame.column if known else 0,
        "end_lineno": frame.end_line if known else frame.line,
        "end_col_offset": frame.end_column if known else 0,
    }
    start: dict[str, Any] = {"lineno": frame.first_line, "col_offset": 0}
    start |= {"end_lineno": frame.first_line, "end_col_offset": 0, "type_params": []}  # The last is for 3.12 and later.
    raising = ast.Raise(exc=ast.Name(id="_HereError", ctx=ast.Load(), **where), cause=None, **where)
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef(name="_", args=nothing, body=[raising], decorator_list=[], **start)
    module = compile(ast.Module([function], []), frame.filename, "exec", dont_inherit=True)
    code = next(constant for constant in module.co_consts if isinstance(constant, types.CodeType))
    return code.replace(co_name=frame.name, co_qualname=frame.qualname, co_firstlineno=frame.first_line)
