"""Scopes as Python has them: what each function, class and comprehension binds, and reads of those around it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "OF_EVERY_CLASS",
    "Comprehension",
    "Function",
    "Scope",
    "elements_of",
    "mangled",
    "now_of",
    "own_nodes",
    "scope_of",
    "scope_of_alias",
    "scope_of_class",
    "scope_of_function",
]

OF_EVERY_CLASS: frozenset[str] = frozenset(
    {"__module__", "__qualname__", "__annotations__"}
    | ({"__type_params__"} if sys.version_info >= (3, 12) else set())
    | ({"__firstlineno__", "__static_attributes__"} if sys.version_info >= (3, 13) else set())
)
"""What the body of a class may read without having assigned it: Python does."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(eq=False, slots=True)
class Scope:
    """What one of them binds and reads, and those within it.

    ``private`` is the class in whose body it stands, for ``__names``. ``reads`` has the first node for each name.
    """

    kind: Literal["function", "class", "comprehension"]
    private: str = ""
    outer: Scope | None = None
    bound: set[str] = field(default_factory=set)
    global_names: set[str] = field(default_factory=set)
    nonlocal_names: set[str] = field(default_factory=set)
    reads: dict[str, ast.expr] = field(default_factory=dict)
    inner: list[Scope] = field(default_factory=list)

    @property
    def own(self) -> set[str]:
        """The names that mean a variable of this scope."""
        return self.bound - self.global_names - self.nonlocal_names

    def free(self) -> dict[str, ast.expr]:
        """What it reads of the scopes around it, each name with the first node that does."""
        own = self.own
        there = own | OF_EVERY_CLASS if self.kind == "class" else own
        found = {name: node for name, node in self.reads.items() if name not in there}
        for each in self.inner:
            for name, node in each.free().items():
                # The names of a class cannot be seen from the functions in it, but for the one that super() needs.
                hidden = name == "__class__" if self.kind == "class" else name in own
                if not hidden:
                    found.setdefault(name, node)
        return found

    def declared_global(self) -> set[str]:
        """What this scope and those within it declare ``global``."""
        return self.global_names.union(*(each.declared_global() for each in self.inner))


def scope_of(statements: Sequence[ast.stmt]) -> Scope:
    """That of a function with this body."""
    scope = Scope("function")
    _Reader(scope).read(statements)
    return scope


def scope_of_function(node: Function, private: str = "", outer: Scope | None = None) -> Scope:
    """That of a function. What is evaluated where it is defined is not in it."""
    scope = Scope("function", private, outer)
    reader = _Reader(scope)
    reader.read_type_parameters(node)
    for argument in _arguments_of(node):
        reader.bind(argument.arg)
    reader.read(node.body if isinstance(node.body, list) else [node.body])
    return scope


def scope_of_class(node: ast.ClassDef, outer: Scope | None = None) -> Scope:
    """That of the body of a class."""
    scope = Scope("class", node.name, outer)
    _Reader(scope).read(node.body)
    return scope


def scope_of_alias(node: ast.AST, private: str = "", outer: Scope | None = None) -> Scope:
    """That of what stands behind ``type X =``, which is evaluated when somebody asks."""
    scope = Scope("function", private, outer)
    reader = _Reader(scope)
    reader.read_type_parameters(node)
    reader.visit(node.value)  # type: ignore[attr-defined]  # From Python 3.12.
    return scope


def mangled(name: str, private: str) -> str:
    """As Python stores ``__name`` in the body of a class."""
    if not private.strip("_") or not name.startswith("__") or name.endswith("__"):
        return name
    return f"_{private.lstrip('_')}{name}"


def now_of(node: Function | ast.ClassDef) -> Iterator[ast.expr]:
    """What is evaluated when a function or class is defined, where it stands, in this order."""
    if not isinstance(node, ast.Lambda):
        yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from node.bases
        yield from (keyword.value for keyword in node.keywords)
        return
    yield from node.args.defaults
    yield from (default for default in node.args.kw_defaults if default is not None)
    if not isinstance(node, ast.Lambda):
        yield from (each.annotation for each in _arguments_of(node) if each.annotation is not None)
        if node.returns is not None:
            yield node.returns


def own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """It and all nodes below that run with it, as they stand; not the bodies of functions and classes it defines."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        yield node
        parts: Iterable[ast.AST]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            parts = now_of(node)
        elif isinstance(node, ast.GeneratorExp):
            parts = [node.generators[0].iter]
        else:
            parts = ast.iter_child_nodes(node)
        todo.extend(reversed(list(parts)))


def elements_of(node: Comprehension) -> Iterator[ast.expr]:
    """What a comprehension evaluates for each of its elements."""
    if isinstance(node, ast.DictComp):
        yield from (node.key, node.value)
    else:
        yield node.elt


def _arguments_of(node: Function) -> list[ast.arg]:
    arguments = node.args
    starred = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


class _Reader(ast.NodeVisitor):
    """Fills one scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def read(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def bind(self, name: str | None) -> None:
        if name is not None:
            self._scope.bound.add(mangled(name, self._scope.private))

    def read_type_parameters(self, node: ast.AST) -> None:
        """``def first[T](...)``: they are visible in it, and what they are bound to is evaluated when asked for."""
        for parameter in getattr(node, "type_params", ()):
            self.bind(parameter.name)
            self.generic_visit(parameter)

    def visit_Name(self, node: ast.Name) -> None:
        name = mangled(node.id, self._scope.private)
        if not isinstance(node.ctx, ast.Store):
            self._scope.reads.setdefault(name, node)
        if not isinstance(node.ctx, ast.Load):
            self._scope.bound.add(name)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):  # It is read, too: of a variable around, where it is declared so.
            self._scope.reads.setdefault(mangled(node.target.id, self._scope.private), node.target)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        home = self._scope
        while home.kind == "comprehension" and home.outer is not None:
            home = home.outer
        home.bound.add(mangled(node.target.id, home.private))

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.global_names.update(mangled(name, self._scope.private) for name in node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.nonlocal_names.update(mangled(name, self._scope.private) for name in node.names)

    def visit_alias(self, node: ast.alias) -> None:
        self.bind(node.asname or node.name.partition(".")[0])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.bind(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.bind(node.rest)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if self._scope.kind == "class":  # In a function the annotation of a variable is not evaluated.
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.bind(node.name)
        self._read_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._read_function(node)

    def _read_function(self, node: Function) -> None:
        around = self._with_type_parameters(node)
        _Reader(around).read(list(now_of(node)))
        around.inner.append(scope_of_function(node, around.private, around))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name)
        around = self._with_type_parameters(node)
        _Reader(around).read(list(now_of(node)))
        around.inner.append(scope_of_class(node, around))

    def _with_type_parameters(self, node: Function | ast.ClassDef) -> Scope:
        """This scope, or one in it, in which ``[T]`` is known."""
        if not getattr(node, "type_params", None):
            return self._scope
        around = Scope("function", self._scope.private, self._scope)
        _Reader(around).read_type_parameters(node)
        self._scope.inner.append(around)
        return around

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self.visit(node.name)  # type: ignore[attr-defined]  # From Python 3.12.
        self._scope.inner.append(scope_of_alias(node, self._scope.private, self._scope))

    def _read_comprehension(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        inner = Scope("comprehension", self._scope.private, self._scope)
        reader = _Reader(inner)
        for generator in node.generators:
            reader.visit(generator.target)
            reader.read([*([] if generator is node.generators[0] else [generator.iter]), *generator.ifs])
        reader.read(list(elements_of(node)))
        self._scope.inner.append(inner)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _read_comprehension  # noqa: N815 - ast's
