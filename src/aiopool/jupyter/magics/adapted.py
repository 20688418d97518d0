"""What is changed in the tree of a body, so that in a function it does what it does in a cell of its own."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn, TypeVar

from aiopool.jupyter.magics.scopes import scope_of_function

__all__ = ["adapt", "at", "declarations", "made_global"]

Node = TypeVar("Node", bound=ast.AST)
Refuse = Callable[[int, int, str], NoReturn]


def at(node: Node, place: ast.AST) -> Node:
    """The node and all new ones below it, at the place of another one."""
    for each in ast.walk(node):
        if not hasattr(each, "lineno"):
            ast.copy_location(each, place)
    return node


def declarations(names: Iterable[str]) -> Iterator[ast.stmt]:
    """``name: None``, which makes it a variable of the function, and does nothing."""
    place = ast.Pass(lineno=1, end_lineno=1, col_offset=0, end_col_offset=0)
    for name in names:
        yield at(ast.AnnAssign(ast.Name(name, ast.Store()), ast.Constant(None), None, 1), place)


class _Adapt(ast.NodeTransformer):
    """What a function does not do as a cell does.

    - ``global x`` of a nested function becomes ``nonlocal x``, that of the body itself goes.
    - A class that binds a name and reads it before looks for it among the globals, where the body's variables are not:
      ``url = url`` in a class becomes ``url = (lambda: url)()``. Where the class may have bound it or not, as in an
      ``if``, that cannot be said, and it is left to the globals.
    """

    def __init__(self, around: AbstractSet[ast.Name], refuse: Refuse) -> None:
        self.declared: dict[str, None] = {}
        self._around = around
        self._refuse = refuse
        self._scopes: list[tuple[str, set[str]]] = []

    def visit_Global(self, node: ast.Global) -> ast.stmt:
        self.declared.update(dict.fromkeys(node.names))
        if not self._scopes:
            return at(ast.Pass(), node)
        for title, own in self._scopes[:-1]:
            for name in own.intersection(node.names):
                self._refuse(
                    node.lineno,
                    node.col_offset,
                    f"`global {name}` cannot reach the `{name}` of the body here, because `{title}` around it has "
                    "another one: give one of them another name",
                )
        return at(ast.Nonlocal(node.names), node)

    def _visit_scope(self, node: Any) -> Any:
        # What a class binds cannot be seen from the functions in it.
        own: set[str] = set() if isinstance(node, ast.ClassDef) else scope_of_function(node).own
        self._scopes.append((node.name, own))
        self.generic_visit(node)
        self._scopes.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_scope  # noqa: N815 - as ast asks for it

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._asked_around(node) if node in self._around else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | list[ast.stmt]:
        target = node.target
        if not isinstance(target, ast.Name) or target not in self._around:
            self.generic_visit(node)
            return node
        node.value = self.visit(node.value)
        first = ast.Assign([ast.Name(target.id, ast.Store())], self._asked_around(target))
        return [at(first, node), node]

    @staticmethod
    def _asked_around(node: ast.Name) -> ast.expr:
        none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        return at(ast.Call(ast.Lambda(none, ast.Name(node.id, ast.Load())), [], []), node)


def adapt(statements: list[ast.stmt], around: AbstractSet[ast.Name], refuse: Refuse) -> tuple[str, ...]:
    """Change the statements in place; the names that they declare ``global``, which are to be the function's own.

    ``around`` are the names in classes that must be looked for around them; ``refuse`` raises a SyntaxError.
    """
    change = _Adapt(around, refuse)
    statements[:] = [change.visit(statement) for statement in statements]
    return tuple(change.declared)


class _Global(ast.NodeTransformer):
    """An annotation of a variable goes, since a global one cannot have any; so does the body's own ``global``."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Name):
            return node
        return at(ast.Pass() if node.value is None else ast.Assign([node.target], node.value), node)

    def visit_Global(self, node: ast.Global) -> ast.stmt:
        return at(ast.Pass(), node)

    def _leave(self, node: Any) -> Any:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave  # noqa: N815 - as ast asks


def made_global(statements: list[ast.stmt], names: list[str]) -> list[ast.stmt]:
    """The statements of a function that assigns these names to its globals."""
    change = _Global()
    changed = [change.visit(statement) for statement in statements]
    return [at(ast.Global(names), changed[0]), *changed] if names else changed
