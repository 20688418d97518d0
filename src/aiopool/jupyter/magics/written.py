"""Where a ``%%aiopool`` cell stands: its text as it was written, and its lines in tracebacks."""

from __future__ import annotations

import ast
import io
import linecache
import sys
import tokenize
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from aiopool._payload.tracebacks import Frame, build
from aiopool.jupyter.magics.transform import MAGIC, call_of, head_at
from aiopool.jupyter.tracebacks import name_of_cell

__all__ = ["Written", "written_here", "written_somewhere"]


@dataclass(frozen=True, slots=True)
class Written:
    """The text of a cell. Its head is line ``number`` of ``filename``, as tracebacks count and show them."""

    filename: str
    cell: str
    number: int
    head: str
    body: str

    @property
    def at(self) -> int:
        """Where in its line the head begins, behind ``%%aiopool``."""
        return len(MAGIC)

    def code_of(self, source: str, column: int, flags: int = 0) -> CodeType:
        """An expression of the head as code that knows where it stands there."""
        # In brackets, so that it may be a tuple; the line's end after it, because it may end with a comment.
        tree = ast.parse(f"({source}\n)", self.filename, mode="eval")
        right = len(f"{MAGIC}{self.head}"[:column].encode()) - 1
        for node in ast.walk(tree):
            if isinstance(node, ast.expr | ast.keyword | ast.arg):
                node.lineno += self.number - 1
                node.col_offset += right
                node.end_lineno = node.lineno
                node.end_col_offset = (node.end_col_offset or 0) + right
        code: CodeType = compile(tree, self.filename, "eval", flags=flags, dont_inherit=True)
        return code

    def placed(self, error: SyntaxError) -> SyntaxError:
        """An error in the head, which knows its column, as one that knows its line."""
        line = f"{MAGIC}{self.head}\n"
        return SyntaxError(error.msg, (self.filename, self.number, error.offset, line, self.number, error.end_offset))

    def pointed(self, error: Exception, line: int, column: int, end_column: int) -> Exception:
        """Let an error point at a place in the body, as if it had been raised there."""
        text = f"{self.body}\n".split("\n")[line - self.number - 1]
        start, end = len(text[:column].encode()), len(text[:end_column].encode())
        frame = Frame(self.filename, "<module>", "<module>", "__main__", 1, line, line, start, end)
        return error.with_traceback(build([frame]))


def _read(filename: str, cell: str, text: str, number: int) -> Written:
    """``text`` begins with comments and the head, or with the head; ``number`` is that of its first line."""
    lines = _lines(text)
    at = head_at(lines) or 0
    head = lines[at].rstrip("\r\n").removeprefix(MAGIC)
    return Written(filename, cell, number + at, head, "".join(lines[at + 1 :]))


def written_here(shell: Any, text: str) -> Written:
    """The cell with this text that runs here.

    What Python has compiled is a call that stands for it; what tracebacks and ``In[n]`` show is what was written.
    """
    history = shell.history_manager.input_hist_parsed
    for filename in _users_files(shell):
        if (cell := name_of_cell(shell, filename)) is None:
            continue  # Of a magic that runs its own cell: <timed exec>.
        compiled = "".join(linecache.getlines(filename))
        if any(call_of(text, awaits=awaits) in compiled for awaits in (True, False)):
            _show(filename, text)
            if repr(text) in history[-1] and _has_tokens(text):
                history[-1] = text
            return _read(filename, cell, text, 1)
        whole = _raw(shell)
        if whole.rstrip().endswith(text.rstrip()):
            _show(filename, whole)
            before = whole.rstrip()[: -len(text.rstrip())].count("\n")
            return _read(filename, cell, text, 1 + before)
        break
    return written_somewhere(shell, text)


def written_somewhere(shell: Any, text: str) -> Written:
    """A text that is the cell of nobody, as one under a name of its own."""
    number = max(0, len(shell.history_manager.input_hist_raw) - 1)
    filename = shell.compile.cache(text, number)
    return _read(filename, name_of_cell(shell, filename) or filename, text, 1)


def _users_files(shell: Any) -> list[str]:
    """The files of the notebook's code that runs in this thread, the innermost first."""
    found = []
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way there is
    while frame is not None:
        if frame.f_globals is shell.user_global_ns:
            found.append(frame.f_code.co_filename)
        frame = frame.f_back
    return found


def _has_tokens(text: str) -> bool:
    """Whether IPython can look for a semicolon at the end of the cell, which it does in the history."""
    try:
        list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):
        return False
    return True


def _raw(shell: Any) -> str:
    raw = shell.history_manager.input_hist_raw
    return str(raw[-1]) if raw else ""


def _show(filename: str, text: str) -> None:
    """Have tracebacks show this as the text of a file. Without a time of change it stays, as IPython's own does."""
    lines = [line.rstrip("\r\n") + "\n" for line in _lines(text)]
    linecache.cache[filename] = (len(text), None, lines, filename)


def _lines(text: str) -> list[str]:
    """As Python counts them: a form feed ends none, nor does what Unicode has for that."""
    return io.StringIO(text, newline="").readlines()
