"""What a body changes in place: ``results.append(x)``, ``results[k] = x``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from aiopool.jupyter.magics.scopes import own_nodes

__all__ = ["changes_of"]

_METHODS = frozenset(
    {
        *("append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"),
        *("add", "discard", "update", "setdefault", "popitem", "appendleft", "popleft"),
        *("difference_update", "intersection_update", "symmetric_difference_update"),
    }
)
"""Methods of lists, dicts, sets and deques that change them in place."""

_INDEXERS = ("loc", "iloc", "at", "iat", "flat")


def changes_of(statements: Sequence[ast.stmt]) -> dict[str, bool]:
    """The names of what is changed by statements of their own, each with whether that is by a method alone.

    A method may do something else on an object of another kind. What happens in functions that are defined is left out.
    """
    found: dict[str, bool] = {}
    for statement in statements:
        for node in own_nodes(statement):
            for thing, by_method in _changes(node):
                if isinstance(thing, ast.Name):
                    found[thing.id] = by_method and found.get(thing.id, True)
    return found


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    if isinstance(node, ast.Expr | ast.Return):  # The last expression of a body is returned.
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _METHODS:
            yield call.func.value, True
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        through = node.value
        if isinstance(through, ast.Attribute) and through.attr in _INDEXERS:
            through = through.value
        yield through, False
