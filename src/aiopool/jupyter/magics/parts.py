"""A part of a head, from one flag or arrow to the next: how it is read as Python, and what is said if it cannot be."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile

from aiopool.html import in_one_line
from aiopool.jupyter.magics.flags import OPTIONS, OWN, instead_of, written
from aiopool.jupyter.magics.heads import HeadError
from aiopool.jupyter.magics.pieces import Piece
from aiopool.options import NEAR_MISSES

__all__ = ["Part", "is_sign", "is_word", "shown", "tree_of"]

_SINGLE_DASH = re.compile(r"-(?P<name>[^\W\d]\w*(?:-\w+)*)")
_VALUES = ("None", "True", "False")
_JOINING = ("and", "or", "not", "in", "is", "if", "else")


def tree_of(source: str) -> ast.expr | None:
    """The expression, or None if it is none. What Python says about it is worded anew in every version."""
    with warnings.catch_warnings():
        # Whoever compiles the expression passes warnings on; here they would be said a second time.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None


def shown(text: str) -> str:
    """A text of the user's in a message: of a very long one the beginning."""
    return in_one_line(text, 100)


def is_word(piece: Piece, *words: str) -> bool:
    """Whether it is one of these words."""
    return piece.kind == "word" and piece.text in words


def is_sign(piece: Piece, *signs: str) -> bool:
    """Whether it is one of these signs."""
    return piece.kind == "sign" and piece.text in signs


def _is_operand(piece: Piece) -> bool:
    """Whether it is a value, whole by itself."""
    if piece.kind == "word":
        return piece.text in _VALUES or not keyword.iskeyword(piece.text)
    return piece.kind in ("number", "string", "brackets")


def _is_out_of_place(before: Piece, piece: Piece) -> bool:
    """Whether no expression has these two side by side, the first of which is an operand."""
    if piece.kind == "brackets":
        return piece.text.startswith("{")
    if piece.kind == "word":
        return piece.text not in _JOINING
    return piece.kind == "number" or (piece.kind == "string" and before.kind != "string")


def _runs_there(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs where the expression runs: none of a lambda's body."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


@dataclass(frozen=True, slots=True)
class Part:
    """Pieces that belong together, and the flag or arrow before them; none is before the clause."""

    line: str
    opener: Piece | None
    pieces: list[Piece]

    @property
    def start(self) -> int:
        """Where its first piece begins in the line."""
        return self.pieces[0].start

    @property
    def text(self) -> str:
        """The source, as it was written."""
        return self.line[self.pieces[0].start : self.pieces[-1].end] if self.pieces else ""

    def of(self, pieces: list[Piece]) -> Part:
        """Some of its pieces."""
        return Part(self.line, self.opener, pieces)

    def behind(self, end: int) -> Part:
        """The pieces that begin there or later."""
        return self.of([piece for piece in self.pieces if piece.start >= end])

    def value(self) -> Part:
        """The pieces without the equals sign of ``--timeout=10``."""
        return self.of(self.pieces[1:]) if self.pieces and is_sign(self.pieces[0], "=") else self

    def has_lambda(self) -> bool:
        """Whether a colon, an equals sign or a comma may be one of a lambda."""
        return any(is_word(piece, "lambda") for piece in self.pieces)

    def error(self, message: str, *where: Piece) -> HeadError:
        """One that points at these pieces; at all of them if none is named."""
        pieces = where or tuple(self.pieces)
        return HeadError.at(self.line, pieces[0].start, pieces[-1].end, message)

    # --- what is refused wherever it stands --------------------------------------------------------------------------

    def refuse_colon(self) -> None:
        """Nothing ends the head but the end of its line."""
        last = self.pieces[-1] if self.pieces else None
        if last is not None and is_sign(last, ":", ";"):
            sign = "colon" if last.text == ":" else "semicolon"
            raise self.error(f"leave out the {sign}: the head of a cell ends without one", last)

    def refuse_single_dash(self, *, at_start: bool) -> None:
        """``-c 5`` reads like a flag; what else it may be, a difference, is written with blanks on both sides.

        ``at_start``: nothing negative can stand at the beginning.
        """
        for index, piece in enumerate(self.pieces):
            found = _SINGLE_DASH.match(self.line, piece.start)
            if found is None:
                continue
            before = self.pieces[index - 1] if index else None
            if not at_start if before is None else not _is_operand(before) or before.end == piece.start:
                continue
            rest = self.behind(found.end())
            hint = instead_of(found["name"], rest.text if len(rest.pieces) == 1 else None)
            if before is not None and not rest.pieces:
                hint = f"{hint}, or a difference as {before.text} - {found['name']}"
            message = f"{found[0]} is no flag, which has two minus signs and a whole word: {hint}"
            raise HeadError.at(self.line, found.start(), found.end(), message)

    def refuse_equals(self) -> None:
        """``timeout=10`` is written as a flag, ``pages = ...`` with an arrow."""
        for index, (before, piece) in enumerate(pairwise(self.pieces)):
            if not is_sign(piece, "=") or self.has_lambda():
                continue
            if not index and before.text not in (*OPTIONS, *OWN, *NEAR_MISSES):
                message = f"the name of the results stands behind an arrow at the end: -> {shown(before.text)}"
                raise self.error(message, piece)
            value = self.of(list(takewhile(lambda each: not is_sign(each, ","), self.behind(piece.end).pieces))).text
            hint = instead_of(before.text, value if tree_of(value) is not None else None)
            raise self.error(f"options are flags: {hint}", before)

    # --- expressions -------------------------------------------------------------------------------------------------

    def read_value(self, flag: str, *, several: bool) -> None:
        """Refuse what cannot be a flag's value. ``several``: a tuple needs no brackets."""
        tree = tree_of(self.text)
        if tree is None:
            # An equals sign of the flag's own is no piece of its value.
            self.refuse_equals()
            raise self.unreadable(f"the value of {flag}")
        if isinstance(tree, ast.Compare) and isinstance(tree.ops[0], ast.In) and len(self.pieces) > 1:
            raise self.error(f"the input stands before all flags: {shown(self.text)} {flag}")
        if isinstance(tree, ast.Tuple) and len(self.pieces) > 1 and not several:
            comma = next(piece for piece in self.pieces if is_sign(piece, ","))
            raise self.error("leave out the comma: blanks stand between flags, and a tuple stands in brackets", comma)
        self.refuse_yield(tree)
        if any(isinstance(node, ast.Await) or getattr(node, "is_async", 0) for node in _runs_there(tree)):
            raise self.error(f"the value of {flag} cannot be awaited: do so in a cell before, and write its name here")

    def refuse_yield(self, tree: ast.expr) -> None:
        """No generator could be made of the head."""
        if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _runs_there(tree)):
            raise self.error('"yield" has no meaning in the head of a cell: leave it out')

    def unreadable(self, what: str) -> HeadError:
        """Say what is wrong with an expression, from what people write, and in the same words in every Python."""
        for before, piece in pairwise(self.pieces):
            if is_sign(before, "-") and is_sign(piece, ">"):
                return self.error("the arrow is written without a blank: ->", before, piece)
            if _is_operand(before) and _is_out_of_place(before, piece):
                hint = self.option_hint(piece) or self.hint_behind(piece)
                whole = shown(self.line[self.start : before.end])
                return self.error(f"{shown(piece.text)} cannot stand behind {whole}: {hint}", piece)
        for piece in self.pieces:
            if is_sign(piece, *"?$!`"):
                return self.error(f"{piece.text} is no sign of Python: leave it out", piece)
            if is_sign(piece, ":") and not self.has_lambda():
                hint = "the body stands in the lines below" if self.opener is None else "a blank stands there"
                return self.error(f"leave out the colon: {hint}", piece)
        last = self.pieces[-1]
        if not _is_operand(last):
            return self.error(f"something is missing behind {last.text}", last)
        return self.error(f"{what} is no expression of Python: {shown(self.text)}")

    def option_hint(self, piece: Piece) -> str:
        """What is said where an option stands as in a call: ``timeout=10``."""
        if piece.text not in OPTIONS:
            return ""
        rest = self.behind(piece.end).text.removeprefix("=").strip()
        return f"options are flags, {written(piece.text)} {shown(rest)}".rstrip()

    def hint_behind(self, piece: Piece) -> str:
        """What may have been meant by a second operand."""
        again = any(is_word(each, "in") for each in self.pieces)
        if again and self.opener is not None:
            return "the input stands before all flags"
        if again:
            return "there is one input, so for several write x, y in zip(xs, ys)"
        if self.opener is not None and self.opener.text in ("--retry-on", "--retry_on"):
            return "several classes stand in brackets, (ConnectionError, TimeoutError)"
        if piece.kind == "word" and not keyword.iskeyword(piece.text):
            return f"-> {piece.text} gives the results that name, and a flag begins with --"
        return "something is missing between them, or the two minus signs of a flag"
