"""``target in source``: the part of a head that reads as a comprehension does behind its ``for``."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from aiopool.jupyter.magics.heads import HeadError
from aiopool.jupyter.magics.parts import Part, is_sign, is_word, shown, tree_of
from aiopool.jupyter.magics.pieces import Piece

__all__ = ["Clause", "read_clause"]

_COMMANDS = ("resize", "restart", "close", "jobs", "cancel", "configure")


@dataclass(frozen=True, slots=True)
class Clause:
    """Target and input as source, and where they begin. Both are empty, or none is."""

    target: str = ""
    target_column: int = 0
    source: str = ""
    source_column: int = 0


def read_clause(part: Part) -> Clause:
    """Target and input. Raises :class:`HeadError` for what is not exactly that."""
    if not part.pieces:
        return Clause()
    _refuse_for(part)
    part.refuse_colon()
    part.refuse_equals()
    place = next((index for index, piece in enumerate(part.pieces) if is_word(piece, "in")), None)
    if place is None:
        part.refuse_single_dash(at_start=True)
        raise _without_in(part)
    target, source = part.of(part.pieces[:place]), part.of(part.pieces[place + 1 :])
    _check_target(target, part.pieces[place])
    _check_source(target, source, part.pieces[place])
    return Clause(target.text, target.start, source.text, source.start)


def _refuse_for(part: Part) -> None:
    first = part.pieces[0]
    if is_word(first, "async") and len(part.pieces) > 1 and is_word(part.pieces[1], "for"):
        message = 'leave out "async for": an asynchronous input is read as any other'
        raise part.error(message, *part.pieces[:2])
    if is_word(first, "for"):
        raise part.error('leave out "for": the head begins with what each item is called, url in urls', first)


def _item_of(text: str) -> str:
    """How one of these may be called."""
    name = text[:-1] if text.endswith("s") and text.isidentifier() else ""
    return "x" if not name or keyword.iskeyword(name) else name


def _without_in(part: Part) -> HeadError:
    text, first = part.text, part.pieces[0]
    if is_word(first, *_COMMANDS):
        return part.error(f"a command has one percent sign: %aiopool {shown(text)}", first)
    tree = tree_of(text)
    if isinstance(tree, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
        return part.error('this is a comprehension: write what stands behind its "for" here, and the rest as the body')
    if isinstance(tree, ast.Compare) and isinstance(tree.ops[0], ast.In):
        return part.error("leave out the brackets around the head")
    if tree is None:
        return part.error('there is no "in": a head reads url in urls -> pages --timeout 10')
    hint = f'"{_item_of(text)} in {shown(text)}", or leave {shown(text)} out: the body then runs once'
    return part.error(f'there is no "in": say what each item is called, {hint}')


# --- target --------------------------------------------------------------------------------------------------------


def _check_target(target: Part, divider: Piece) -> None:
    if not target.pieces:
        raise target.error('no name stands before "in": say what each item is called, url in urls', divider)
    if is_word(target.pieces[-1], "not"):
        message = '"not in" asks a question: say what each item is called, url in urls'
        raise target.error(message, target.pieces[-1], divider)
    target.refuse_single_dash(at_start=True)
    for before, piece in pairwise(target.pieces):
        if is_word(piece, "for"):
            message = 'write what stands behind "for" here, and what is done with each item as the body'
            raise target.error(message, piece)
        if before.kind == piece.kind == "word" and not {before.text, piece.text} & {*keyword.kwlist}:
            raise target.error(f"a comma is missing: {before.text}, {piece.text}", piece)
    # In brackets, so that a star may stand there.
    tree = tree_of(f"({target.text})")
    if tree is None:
        raise target.error(f"{shown(target.text)} is no target: write names, url in urls or i, (a, *rest) in rows")
    _check_names(target, tree)


def _check_names(target: Part, node: ast.expr) -> None:
    """Names, and tuples of names, of which one may have a star."""
    if isinstance(node, ast.Name) and node.id != "__debug__":
        return
    if not isinstance(node, ast.Tuple | ast.List) or not node.elts:
        raise _bad_target(target, node, "an item is assigned to names only: url, or i, url, or a, *rest")
    stars = [each for each in node.elts if isinstance(each, ast.Starred)]
    if len(stars) > 1:
        raise _bad_target(target, stars[1], "only one name can take the rest")
    for each in node.elts:
        _check_names(target, each.value if isinstance(each, ast.Starred) else each)


def _bad_target(target: Part, node: ast.expr, message: str) -> HeadError:
    encoded = f"({target.text})".encode()
    # Python counts bytes, and the first bracket is ours.
    start, end = (len(encoded[:offset].decode()) - 1 for offset in (node.col_offset, node.end_col_offset or 0))
    start, end = max(start, 0), min(end, len(target.text))
    text = shown(target.text[start:end])
    return HeadError.at(target.line, target.start + start, target.start + end, f"{text} is no target: {message}")


# --- input ---------------------------------------------------------------------------------------------------------


def _check_source(target: Part, source: Part, divider: Piece) -> None:
    if not source.pieces:
        raise source.error('no input stands behind "in": url in urls', divider)
    source.refuse_single_dash(at_start=False)
    _refuse_more(target, source)
    tree = tree_of(source.text)
    if tree is None:
        raise source.unreadable("the input")
    if isinstance(tree, ast.Tuple) and len(source.pieces) > 1:
        comma = next(piece for piece in source.pieces if is_sign(piece, ","))
        message = "there is one input: for several write x, y in zip(xs, ys), and brackets around a tuple"
        raise source.error(message, comma)
    source.refuse_yield(tree)
    for value in _last_values(tree):
        if isinstance(value, ast.Compare) or (isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)):
            raise _question(source)


def _refuse_more(target: Part, source: Part) -> None:
    """What may follow in a comprehension or in a statement, but not here."""
    first = source.pieces[0]
    if is_sign(first, "*", "**"):
        raise source.error("leave out the star: the input itself is iterated", first)
    for piece in source.pieces:
        if is_word(piece, "for"):
            message = 'there is one "in": for all pairs write x, y in itertools.product(xs, ys)'
            raise source.error(message, piece)
        if is_word(piece, "as"):
            name = shown(source.behind(piece.end).text) or "pages"
            raise source.error(f"the name of the results stands behind an arrow: -> {name}", piece)
        if is_sign(piece, ":="):
            raise source.error("brackets are missing around what := belongs to", piece)
    ifs = [piece for piece in source.pieces if is_word(piece, "if")]
    if len(ifs) > sum(is_word(piece, "else") for piece in source.pieces):
        name, last = target.text, source.pieces[-1].end
        item = f"({name})" if any(is_sign(piece, ",") for piece in target.pieces) else name
        before, behind = source.line[source.start : ifs[-1].start].strip(), source.line[ifs[-1].start : last]
        message = f"filter the input: {name} in [{item} for {name} in {before} {behind}]"
        raise source.error(shown(message), ifs[-1])


def _last_values(tree: ast.expr) -> Iterator[ast.expr]:
    """What the value of an expression may be, behind all ``and``, ``or`` and ``if else``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.BoolOp):
            waiting.extend(node.values)
        elif isinstance(node, ast.IfExp):
            waiting.extend((node.body, node.orelse))
        else:
            yield node


def _question(source: Part) -> HeadError:
    for piece in source.pieces:
        if is_word(piece, "in"):
            return source.error('there is one "in": for several inputs write x, y in zip(xs, ys)', piece)
        if is_sign(piece, ">"):
            name = shown(source.behind(piece.end).text)
            return source.error(f"the arrow is written with a minus sign: -> {name}", piece)
    return source.error("a comparison is True or False, and no input: write what there is to iterate")
