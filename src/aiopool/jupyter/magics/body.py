"""The text under ``%%aiopool`` as a function: one that runs once per item, or once on every worker.

It is compiled as it stands: its code has the file name of the cell and the cell's own lines and columns, so that
tracebacks, carets and :mod:`inspect` point at what the user wrote. What a function needs beside that is put into its
tree: the return of the last expression, and at the head's line the unpacking of the item.

The body is a function's, but it should do what the same text does in a cell of its own. So

- a name that it assigns, and may read before, begins with the notebook's value (a default of the function);
- ``global x`` means the body's own ``x``, also in nested functions: what it assigns ends with the item;
- names that ``--all`` cells have defined are looked up in the worker, where the body begins.
"""

from __future__ import annotations

import ast
import builtins
import types
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, cast

from aiopool import everywhere as worker_side
from aiopool._payload import dump_items
from aiopool.jupyter.magics.adapted import adapt, at, declarations, made_global
from aiopool.jupyter.magics.leaves import Leaves
from aiopool.jupyter.magics.names import Names, names_of
from aiopool.jupyter.magics.scopes import own_nodes
from aiopool.jupyter.magics.source import Missing, Source, awaits, refuse_what_no_body_has

__all__ = ["Body", "Missing", "read_body"]

NAME = "body"
"""What the function is called in tracebacks."""

Everywhere = Mapping[str, str] | AbstractSet[str]


def read_body(
    text: str, *, filename: str, line: int = 2, target: str = "", target_line: int = 1, target_column: int = 0
) -> Body:
    r"""Read the body of a cell.

    ``text`` begins at line ``line`` of the cell, whose file is called ``filename``. ``target`` is what stands before
    the ``in`` of the head, at ``target_line`` and, from 0 on, ``target_column``: names, or a tuple of them to unpack
    the item into; empty where there is no ``in``.

    ::

        body = read_body("page = await fetch(url)\nlen(page)", filename="<cell>", target="url")
        body.is_async, body.assigns, body.reads     # True, {"page"}, {"fetch", "len"}
        fn = body.function(globals(), frozenset())  # async def body(url)

    The lines may be indented, all by the same. Raises SyntaxError as Python would for that cell, with file name, line,
    offset and text.
    """
    source = Source(text, filename, line)
    statements = source.statements()
    if not statements:
        source.refuse(line, 0, "the body is empty: write below this line what is to be done")
    refuse_what_no_body_has(statements, source)
    head = _head(target, filename, target_line, target_column, taken=source.words)
    is_async = any(map(awaits, statements))
    # Python's own checks, before anything is changed.
    source.compile(head.function(statements, is_async=is_async))
    try:
        names = names_of(statements, head.binds)
    except RecursionError:
        source.refuse(line, 0, "an expression of the body is nested too deeply. Make it flatter")
    declared = adapt(statements, names.around, source.refuse)
    source.compile(head.function([*declarations(declared), *statements], is_async=is_async))
    return Body(source, head, tuple(statements), declared, is_async, names)


@dataclass(frozen=True, slots=True)
class Body:
    """A body that has been read: what it needs, and the functions made of it.

    Below, ``namespace`` is that of the notebook. ``everywhere`` are the names that ``--all`` cells have defined; where
    it is a mapping, its values say in which cell, for the error of a worker that has it not. Those of them that are
    ``unsure`` need not exist in every worker: where they do not, the notebook's value takes their place.
    """

    _source: Source
    _head: _Head
    _statements: tuple[ast.stmt, ...]
    _declared: tuple[str, ...]
    is_async: bool
    """Whether it has an ``await``, ``async with``, ``async for`` or async comprehension of its own."""
    _names: Names

    @property
    def gives_value(self) -> bool:
        """Whether it may give a value: that of its last expression, or of a ``return`` that has one."""
        nodes = (node for statement in self._statements for node in own_nodes(statement))
        return any(isinstance(node, ast.Return) and node.value is not None for node in nodes)

    @property
    def ends_in_semicolon(self) -> bool:
        """Whether it ends in an expression that gives no value, for the semicolon behind it."""
        return isinstance(self._statements[-1], ast.Expr)  # All others have become a return.

    @property
    def assigns(self) -> frozenset[str]:
        """The names that it assigns, imports, defines or deletes. The target of the head is not among them."""
        return self._names.assigns

    @property
    def leaves(self) -> Leaves:
        """Those of them that exist when it has run on every worker."""
        return self._names.leaves

    @property
    def reads(self) -> frozenset[str]:
        """The names that must come from somewhere else: the notebook, ``--all`` cells, builtins."""
        return frozenset(self._names.reads)

    @property
    def starts(self) -> frozenset[str]:
        """The names that it assigns and may read before: an item begins with the notebook's value, if there is one."""
        return frozenset(self._names.starts)

    @property
    def meant(self) -> tuple[str, ...]:
        """The names for which it looks as if a variable of the notebook was meant to change, whatever that holds."""
        return (*self._names.meant, *self._names.changed)

    def meant_in(self, namespace: Mapping[str, Any], everywhere: Everywhere = frozenset()) -> tuple[str, ...]:
        """Those of them that exist in the notebook, and are of a kind that the body would change.

        ``x += 1`` and ``x[k] = 1`` count for all, ``x.append(1)`` for lists, dicts, sets and what derives from them.
        """
        kinds = (list, dict, set)
        found = [*self._names.meant]
        for name, by_method in self._names.changed.items():
            if not by_method or issubclass(type(namespace.get(name)), kinds):
                found.append(name)
        return tuple(name for name in found if name in namespace and name not in everywhere)

    def missing(self, namespace: Mapping[str, Any], everywhere: Everywhere = frozenset()) -> list[Missing]:
        """The names that it reads and that exist nowhere, in the order of the text.

        Not those that are only read where a NameError is caught.
        """
        found = [
            self._source.place(name, node)
            for name, node in self._names.reads.items()
            if name not in self._names.guarded and name not in namespace and name not in everywhere
        ]
        return sorted((each for each in found if each.name not in vars(builtins)), key=lambda each: each[1:])

    def function(
        self,
        namespace: dict[str, Any],
        everywhere: Everywhere = frozenset(),
        unsure: AbstractSet[str] = frozenset(),
        way: worker_side.LookUp | None = None,
    ) -> Callable[..., Any]:
        """``def body(item)``, or ``async def``, for a map; without a target ``def body()``.

        Its globals are ``namespace`` itself. A single name as target is the very name of its parameter. ``way`` is the
        way to the names of ``everywhere``.
        """
        needed = [name for name in (*self._names.reads, *sorted(self._names.starts)) if name in everywhere]
        instead = [name for name in needed if name in unsure]
        begins = self._begins_with(namespace) | self._travelling(namespace, instead)
        defaults = {name: value for name, value in begins.items() if name not in everywhere or name in unsure}
        begin: list[ast.stmt] = [*declarations(name for name in self._declared if name not in defaults)]
        if needed:
            look_up = _unlike("everywhere", self._source.words | self._head.binds | {self._head.parameter})
            defaults[look_up] = way or worker_side.LookUp()
            where = everywhere if isinstance(everywhere, Mapping) else {}
            begin += [
                self._look_up_if_there(look_up, name) if name in unsure else self._look_up(look_up, name, where)
                for name in needed
            ]
        tree = self._head.function([*begin, *self._statements], is_async=self.is_async, defaults=defaults)
        function = self._function(tree, namespace)
        function.__kwdefaults__ = defaults
        return function

    def for_everyone(
        self,
        namespace: Mapping[str, Any],
        everywhere: Everywhere = frozenset(),
        unsure: AbstractSet[str] = frozenset(),
    ) -> worker_side.Body:
        """For ``pool.broadcast(fn, keep=True)``: what the body assigns stays in the worker.

        It brings along what it reads of the notebook, if that is not defined everywhere.
        """
        statements = self._source.statements()
        spare = self._travelling(namespace, [name for name in self._names.reads if name in unsure])
        needed = [name for name in self._names.reads if name not in everywhere]
        needed += [name for name in self._begins_with(namespace) if name not in everywhere or name in unsure]
        brings = [*(name for name in needed if name in namespace), *(name for name in spare if name in namespace)]
        tree = self._head.function(made_global(statements, sorted(self.assigns)), is_async=self.is_async)
        known = {"__name__": "__main__", "__builtins__": builtins, **{name: namespace[name] for name in brings}}
        made = worker_side.AsyncBody if self.is_async else worker_side.Body
        return made(self._function(tree, known), brings, self.assigns, unsure)

    def _begins_with(self, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """The values with which the names begin that it assigns and may read before.

        Most that only may be read never are: they hold what is left from trying the body by hand. So one that cannot
        travel is left out, and where it would be read after all, Python says so.
        """
        return self._travelling(namespace, sorted(self.starts), surely_read=self._names.meant)

    @staticmethod
    def _travelling(
        namespace: Mapping[str, Any], names: Sequence[str], surely_read: Collection[str] = ()
    ) -> dict[str, Any]:
        known = {name: namespace[name] for name in names if name in namespace}
        builtin = {name: getattr(builtins, name) for name in names if name in vars(builtins)}
        return builtin | {
            name: value for name, value in known.items() if name in surely_read or not dump_items([value]).refused
        }

    def _function(self, tree: ast.stmt, namespace: dict[str, Any]) -> types.FunctionType:
        function = types.FunctionType(self._source.compile(tree), namespace, NAME)
        function.__qualname__ = NAME
        function.__module__ = "__main__"
        function.__doc__ = None  # A string at its begin is an expression, as in a cell.
        return function

    def _look_up(self, function: str, name: str, where: Mapping[str, str]) -> ast.stmt:
        """``name = look_up("name", "Cell In[3]")``, at the place where the name is first read."""
        arguments: list[ast.expr] = [ast.Constant(name), *([ast.Constant(where[name])] if name in where else [])]
        value = ast.Call(ast.Name(function, ast.Load()), arguments, [])
        made = ast.Assign([ast.Name(name, ast.Store())], value)
        return at(made, (self._names.reads | self._names.starts)[name])

    def _look_up_if_there(self, function: str, name: str) -> ast.stmt:
        """``for name in look_up.found("name"): pass``, which else leaves what it begins with, if that is anything."""
        found = ast.Attribute(ast.Name(function, ast.Load()), "found", ast.Load())
        values = ast.Call(found, [ast.Constant(name)], [])
        made = ast.For(ast.Name(name, ast.Store()), values, [ast.Pass()], [])
        return at(made, (self._names.reads | self._names.starts)[name])


# --- the head ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Head:
    """The line of ``def body(item)``: its parameter, and the statement that unpacks it, if it is no single name."""

    line: int
    parameter: str
    unpacking: ast.Assign | None

    @property
    def binds(self) -> frozenset[str]:
        """The names of the target."""
        if self.unpacking is None:
            return frozenset({self.parameter} if self.parameter else ())
        return frozenset(_bound_by(self.unpacking))

    def function(
        self, statements: Sequence[ast.stmt], *, is_async: bool, defaults: Collection[str] = ()
    ) -> ast.FunctionDef | ast.AsyncFunctionDef:
        """The function with this head and this body. ``defaults`` are names of parameters that are never passed."""
        place = ast.Constant(None, lineno=self.line, col_offset=0, end_lineno=self.line, end_col_offset=0)
        arguments = ast.arguments(
            posonlyargs=[],
            args=[at(ast.arg(self.parameter), place)] if self.parameter else [],
            vararg=None,
            kwonlyargs=[at(ast.arg(name), place) for name in defaults],
            kw_defaults=[None] * len(defaults),
            kwarg=None,
            defaults=[],
        )
        kind = ast.AsyncFunctionDef if is_async else ast.FunctionDef
        begin: list[ast.stmt] = [self.unpacking] if self.unpacking else []
        made = kind(NAME, arguments, [*begin, *statements], [], None)
        # From the first line of the cell on, as code of a module is: see what becomes of its name in `compile`.
        made.lineno, made.col_offset, made.end_lineno, made.end_col_offset = 1, 0, self.line, 0
        setattr(made, "type_params", [])  # noqa: B010 - asked for from Python 3.12 on
        return made


def _head(target: str, filename: str, line: int, column: int, *, taken: AbstractSet[str]) -> _Head:
    """The parameter, and what unpacks it. Its name is none of those that are ``taken``."""
    target = target.strip()
    if not target or target.isidentifier():
        # As Python reads names: there are two signs for micro.
        return _Head(line, unicodedata.normalize("NFKC", target), None)
    assign = cast("ast.Assign", ast.parse(f"{target} = item", filename).body[0])
    name = _unlike("item", taken | set(_bound_by(assign)))
    width = len(target.encode())
    for node in ast.walk(assign):
        if isinstance(node, ast.expr | ast.stmt):
            node.lineno, node.end_lineno = line, line
            node.col_offset += column
            node.end_col_offset = column + min(width, node.end_col_offset or 0)
    assign.value = at(ast.Name(name, ast.Load()), assign.targets[0])
    return _Head(line, name, assign)


def _bound_by(assign: ast.Assign) -> list[str]:
    return [node.id for node in ast.walk(assign.targets[0]) if isinstance(node, ast.Name)]


def _unlike(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
