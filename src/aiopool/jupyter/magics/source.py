"""The text of a body, and where it stands in its cell: parsed, compiled and refused with the cell's own places."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from aiopool.jupyter.magics.adapted import at
from aiopool.jupyter.magics.scopes import own_nodes

__all__ = ["Missing", "Source", "awaits", "refuse_what_no_body_has"]

_MAGIC = re.compile(r"\s*(?:[\w.,\s()\[\]]+=\s*)?(%{1,2}\s*[a-zA-Z_]|!)|.*\?{1,2}\s*$")


class Missing(NamedTuple):
    """A name that does not exist, and where the body reads it: the line of the cell, and columns from 0 on."""

    name: str
    line: int
    column: int
    end_column: int


class Source:
    """The text of a body, and where it stands in the cell."""

    def __init__(self, text: str, filename: str, line: int) -> None:
        self.filename = filename
        text = text.replace("\r\n", "\n").replace("\r", "\n")  # As Python does; it knows no other ends of lines.
        self._lines = text.split("\n")
        self._line = line
        self.words = frozenset(re.findall(r"\w+", text))
        """All names in it, and more."""
        first = next((each for each in self._lines if each.strip() and not each.lstrip().startswith("#")), "")
        self._indented = first.startswith((" ", "\t"))  # Not so a form feed.
        # Lines before it, so that Python counts as the cell does. A class, because to an `if` an `else` could belong.
        above = "\n" * (line - 2) + "class _:\n" if self._indented and line > 1 else "\n" * (line - 1)
        self._text = f"{above}{text}\n"

    def statements(self) -> list[ast.stmt]:
        """Parse it, and return what its last expression gives. New nodes at each call: they may be changed."""
        null = next((number for number, line in enumerate(self._lines) if "\0" in line), None)
        if null is not None:
            self.refuse(self._line + null, 0, "the body cannot contain null bytes")
        try:
            tree = ast.parse(self._text, self.filename)
        except SyntaxError as error:
            self._explain(error)
            raise
        except (ValueError, RecursionError, MemoryError) as error:
            self.refuse(self._line, 0, f"the body cannot be read: {error}")
        found = tree.body
        if self._indented and found:
            found, left = found[0].body, found[1:]  # type: ignore[attr-defined]
            if left:
                place = left[0]
                self.refuse(place.lineno, place.col_offset, "unindent does not match the first line of the body")
        self._return_last(found)
        return found

    def _return_last(self, statements: list[ast.stmt]) -> None:
        last = statements[-1] if statements else None
        if isinstance(last, ast.Expr) and not self._ends_with_semicolon(last):
            statements[-1] = at(ast.Return(last.value), last)

    def _ends_with_semicolon(self, last: ast.Expr) -> bool:
        lines = self._text.split("\n")[(last.end_lineno or 0) - 1 :]
        lines[0] = lines[0].encode()[last.end_col_offset or 0 :].decode()
        return any(";" in line.partition("#")[0] for line in lines)

    def _explain(self, error: SyntaxError) -> None:
        """Say what to write instead of what IPython understands and Python does not."""
        line = self.text_of(error.lineno or 0)
        if _MAGIC.match(line) is not None:
            error.msg = (
                "the body runs in the workers, as plain Python: no magic, no shell command and no `?` there. Write "
                "these in a cell of their own; for a command, subprocess.run(...)"
            )
            error.args = (error.msg, *error.args[1:])

    def compile(self, definition: ast.stmt) -> types.CodeType:
        """The code of a function."""
        module = ast.Module([definition], type_ignores=[])
        try:
            # Not with the __future__ of this file.
            code = compile(module, self.filename, "exec", dont_inherit=True)
        except SyntaxError as error:
            if error.text is None and error.lineno is not None:
                error.text = self.text_of(error.lineno) or None
            raise
        except RecursionError:
            self.refuse(self._line, 0, "the body is nested too deeply for Python to compile it")
        function = next(each for each in code.co_consts if isinstance(each, types.CodeType))
        # As code of a cell is called: of a function IPython would show the lines of its `def`, and there is none.
        return function.replace(co_name="<module>", co_qualname="<module>")

    def text_of(self, line: int) -> str:
        """One line of the cell, if it is one of the body."""
        number = line - self._line
        return self._lines[number] if 0 <= number < len(self._lines) else ""

    def refuse(self, line: int, column: int, message: str) -> NoReturn:
        """Raise a SyntaxError at a line of the cell, and a column from 0 on."""
        text = self.text_of(line)
        raise SyntaxError(message, (self.filename, line, column + 1, text)) from None

    def place(self, name: str, node: ast.expr) -> Missing:
        """Where a name stands. In f-strings, Python 3.11 does not always know."""
        line = node.lineno
        column = len(self.text_of(line).encode()[: node.col_offset].decode(errors="replace"))
        if not self.text_of(line).startswith(name, column):
            for number in range(line, self._line + len(self._lines)):
                found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", self.text_of(number))
                if found is not None:
                    line, column = number, found.start()
                    break
        return Missing(name, line, column, column + len(name))


def refuse_what_no_body_has(statements: Sequence[ast.stmt], source: Source) -> None:
    """Raise a SyntaxError for what a function could have, or a cell, but not a body."""
    for statement in statements:
        for node in own_nodes(statement):
            if isinstance(node, ast.Yield | ast.YieldFrom):
                message = "a body cannot yield: it gives one result, the value of its last expression, or `return` it"
            elif isinstance(node, ast.ImportFrom) and any(each.name == "*" for each in node.names):
                module = "." * node.level + (node.module or "")
                message = f"a body cannot `from {module} import *`: name what it needs, `from {module} import a, b`"
            elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
                message = "a body cannot import from __future__: it is in the middle of a function. Leave that out"
            else:
                continue
            source.refuse(node.lineno, node.col_offset, message)


def awaits(statement: ast.stmt) -> bool:
    """Whether it has an ``await`` of its own, in any of its forms."""
    return any(
        isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(node, ast.comprehension) and node.is_async)
        for node in own_nodes(statement)
    )
