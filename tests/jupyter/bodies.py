"""Bodies of cells as hypothesis writes them, and what the same text does in a cell of its own."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dis
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

FILENAME = "<a cell>"
FIRST_LINE = 4

FUNCTIONS = ("f", "g")
NAMES = ("a", "b", "c", "d", "e", "max")
DELETED = NAMES[:-1]  # A variable that hides a builtin and is deleted, in a function hides it still.

Lines = list[str]


async def later(value: Any = None) -> Any:
    """Give it back a turn of the loop later."""
    await asyncio.sleep(0)
    return value


async def each_later(values: Any) -> AsyncIterator[Any]:
    """Give its elements."""
    for value in values:
        await asyncio.sleep(0)
        yield value


@contextlib.contextmanager
def holding(value: Any) -> Iterator[Any]:
    """Give it back for a while."""
    yield value


@contextlib.asynccontextmanager
async def holding_later(value: Any) -> AsyncIterator[Any]:
    """The same with ``async with``."""
    await asyncio.sleep(0)
    yield value


def seven() -> int:
    """A function of the notebook."""
    return 7


def notebook(without: Iterable[str] = ()) -> dict[str, Any]:
    """The namespace of a notebook. ``fuel`` ends each loop and each recursion."""
    names = {
        "__name__": "__main__",
        "__builtins__": __builtins__,
        "a": 1,
        "b": [1, 2],
        "c": {"x": (1, 2)},
        "d": "d",
        "e": 2.5,
        "f": seven,
        "g": seven,
        "fuel": [0] * 12,
        **{each.__name__: each for each in (later, each_later, holding, holding_later)},
        "suppress": contextlib.suppress,
    }
    return {name: value for name, value in names.items() if name not in without}


# --- writing -------------------------------------------------------------------------------------------------------


class Writer:
    """Writes statements and expressions; ``pick(n)`` is a number below ``n``."""

    def __init__(self, pick: Callable[[int], int], *, awaits: bool, returns: bool) -> None:
        self.pick = pick
        self.awaits = awaits
        self.returns = returns
        self.classes = 0

    def one_of(self, *choices: Any) -> Any:
        """One of them."""
        return choices[self.pick(len(choices))]

    def name(self) -> str:
        """A name that the notebook may have or not."""
        return str(self.one_of(*NAMES))

    def any_name(self) -> str:
        """A name that may be a function, too."""
        return str(self.one_of(*NAMES, *FUNCTIONS))

    # --- expressions ----------------------------------------------------------------------------------------------

    def expression(self, depth: int = 2, *, where: str = "body") -> str:  # noqa: C901, PLR0911, PLR0912 - a grammar
        """``where`` is "body", "function", "async" or "class"."""
        kinds = ["name", "name", "constant"]
        if depth:
            kinds += ["pair", "walrus", "list", "text", "lambda", "choice", "and", "or", "call", "compare", "dict"]
            kinds += ["generator", "item"]
            if self.awaits and where in ("body", "async"):
                kinds += ["await", "async list"]
        kind = self.one_of(*kinds)

        def inner(place: str = where) -> str:
            return self.expression(depth - 1, where=place)

        match kind:
            case "name":
                return self.any_name()
            case "constant":
                return str(self.one_of("0", "1", "None", "[3, 4]", "'t'"))
            case "pair":
                return f"({inner()}, {inner()})"
            case "walrus" if where.endswith("class"):
                return "2"
            case "walrus":
                return f"({self.name()} := {inner()})"
            case "list" | "generator":
                return self.comprehension(depth, where, lazy=kind == "generator")
            case "dict":
                name = self.of_comprehension()
                return f"{{{name}: {self.name()} for {name} in [{inner(self.below(where))}, 1]}}"
            case "text":
                return f"f'{{type({self.any_name()}).__name__}} {{{self.name()} is None!r:>{{3}}}}'"
            case "lambda":
                parameter = self.one_of("", "", f"{self.name()}=1", f"p={self.name()}")
                return f"(lambda {parameter}: {inner('function')})()"
            case "choice":
                return f"({inner()} if {inner()} else {inner()})"
            case "and" | "or":
                return f"({inner()} {kind} {inner()})"
            case "call":
                return f"{self.one_of(*FUNCTIONS)}()"
            case "compare":
                return f"({inner()} is {inner()} is {inner()})"
            case "item":
                return f"{self.name()}[0]"
            case "await":
                return f"(await later({inner()}))"
            case _:
                name = self.of_comprehension()
                return f"[{self.one_of(name, self.name())} async for {name} in each_later([1, {inner()}])]"

    def of_comprehension(self) -> str:
        """The variable of a comprehension.

        In Python 3.12 and 3.13 one that has the name of a variable of the function may spoil that: the function of a
        ``def`` too, so this is no matter of bodies.
        """
        return self.name() if sys.version_info < (3, 12) else "x"

    def below(self, where: str) -> str:
        """Where the parts of a comprehension are."""
        return "comprehension in class" if where.endswith("class") else where

    def comprehension(self, depth: int, where: str, *, lazy: bool) -> str:
        """A list comprehension or a generator."""
        below = "function" if lazy else self.below(where)
        if where.endswith("class"):
            below = "comprehension in class"
        name = self.one_of("x", "y", "z")  # What a walrus in it binds must be another one.
        element = self.expression(depth - 1, where=below)
        condition = f" if {self.expression(depth - 1, where=below)}" if self.one_of(0, 1) else ""
        shown = self.one_of(element, f"({name}, {element})")
        text = f"{shown} for {name} in [{self.name()}, 2]{condition}"
        return f"list({text})" if lazy else f"[{text}]"

    # --- statements -----------------------------------------------------------------------------------------------

    def block(self, depth: int, where: str, *, loop: bool = False, most: int = 3) -> Lines:
        """Indented statements."""
        count = 1 + self.pick(most)
        return [f"    {line}" for _ in range(count) for line in self.statement(depth, where, loop=loop)]

    def statement(self, depth: int, where: str, *, loop: bool = False) -> Lines:
        """One statement, of several lines."""
        kinds = ["assign", "assign", "assign", "add", "expression", "del", "import", "unpack", "annotated", "pass"]
        if loop:
            kinds += ["break", "continue"]
        if self.returns or where in ("function", "async"):
            kinds += ["return"] if where != "class" else []
        if depth:
            kinds += ["if", "for", "while", "try", "with", "match", "function", "class", "raising"]
            if self.awaits and where in ("body", "async"):
                kinds += ["async for", "async with", "async function"]
        return self.written(self.one_of(*kinds), depth, where, loop=loop)

    def written(self, kind: str, depth: int, where: str, *, loop: bool) -> Lines:  # noqa: C901, PLR0911, PLR0912 - a grammar
        """A statement of that kind."""

        def value() -> str:
            return self.expression(where=where)

        def block(*, inside_loop: bool = loop) -> Lines:
            return self.block(depth - 1, where, loop=inside_loop)

        def orelse(word: str = "else") -> Lines:
            return [f"{word}:", *block()] if self.one_of(0, 1) else []

        match kind:
            case "assign":
                return [f"{self.name()} = {value()}"]
            case "add":
                return [f"{self.name()} += {self.one_of('1', '[1]', self.name())}"]
            case "expression" | "raising":
                return [value()]
            case "del":
                return [f"del {self.one_of(*DELETED)}"]
            case "import":
                return [self.one_of(f"import os.path as {self.name()}", f"from json import dumps as {self.name()}")]
            case "unpack":
                return [f"{self.name()}, *{self.name()} = {value()}, 2, {self.name()}"]
            case "annotated":
                return [self.one_of(f"{self.name()}: int = {value()}", f"{self.name()}: int")]
            case "pass" | "break" | "continue":
                return [kind]
            case "return":
                return [f"return {value()}"]
            case "if":
                return [f"if {value()}:", *block(), *orelse()]
            case "for" | "async for":
                values = f"[1, {value()}]"
                head = (
                    f"for {self.name()} in {values}:"
                    if kind == "for"
                    else (f"async for {self.name()} in each_later({values}):")
                )
                return [head, *block(inside_loop=True), *orelse()]
            case "while":
                test = self.one_of("True", f"fuel and {value()}", "fuel")
                return [f"while {test}:", "    fuel.pop()", *block(inside_loop=True), *orelse()]
            case "try":
                return self.tried(block)
            case "with":
                manager = self.one_of(
                    f"holding({value()}) as {self.name()}", "suppress(NameError, TypeError)", f"holding({value()})"
                )
                return [f"with {manager}:", *block()]
            case "async with":
                return [f"async with holding_later({value()}) as {self.name()}:", *block()]
            case "match":
                return self.matched(value(), block)
            case "class":
                return self.class_(depth)
            case _:
                return self.function(depth, where, "async " if kind == "async function" else "")

    def tried(self, block: Any) -> Lines:
        """A ``try`` in one of its forms."""
        name = self.one_of("", "", f" as {self.one_of(*DELETED)}")
        kinds = self.one_of("NameError", "(TypeError, IndexError)", "Exception")
        handled = [f"except {kinds}{name}:", *block()]
        ending = ["finally:", *block()]
        orelse = ["else:", *block()] if self.one_of(0, 1) else []
        return ["try:", *block(), *self.one_of(handled + orelse, handled + orelse + ending, ending)]

    def matched(self, subject: str, block: Any) -> Lines:
        """A ``match``."""
        lines = [f"match {subject}:"]
        for _ in range(1 + self.pick(2)):
            name = self.name()
            other = self.one_of(*(each for each in NAMES if each != name))
            pattern = self.one_of(
                *(f"[{name}, *{other}]", f"int() as {name}", "None", f"{{'x': {name}, **{other}}}"),
                f"[{name}] | [{name}, _]",
            )
            guard = self.one_of("", f" if {self.expression(1)}")
            lines += [f"    case {pattern}{guard}:", *(f"    {line}" for line in block())]
        if self.one_of(0, 1):
            lines += [f"    case {self.one_of('_', self.name())}:", *(f"    {line}" for line in block())]
        return lines

    def class_(self, depth: int) -> Lines:
        """A class, perhaps with a method.

        Its own lines have no blocks: of a name that a class may have bound or not, a body knows less than a cell.
        """
        self.classes += 1
        name = f"K{self.classes}"
        method = ["    def m(self):", *(f"    {line}" for line in self.block(depth - 1, "function"))]
        method = self.one_of([], method)
        lines = [f"class {name}:", *self.block(0, "class"), *method]
        used = self.one_of([], [f"{self.name()} = {name}().__class__.__name__"], [f"{name}().m()"] if method else [])
        return [*lines, *used]

    def function(self, depth: int, where: str, prefix: str) -> Lines:
        """A function, perhaps with a global name."""
        inside = "async" if prefix else "function"
        name = self.one_of(*FUNCTIONS)
        parameter = self.one_of("", "", f"{self.name()}={self.expression(1, where=where)}", f"p: {self.name()} = 1")
        body = self.block(depth - 1, inside)
        declared: Lines = []
        if (kind := self.one_of(0, 0, 1)) and kind:
            changed = self.name()
            if f"{changed}=" not in parameter:
                declared = [f"    global {changed}"]
        decorator = self.one_of([], [], ["@(lambda function: function)"])
        return [*decorator, f"{prefix}def {name}({parameter}):", *declared, "    fuel.pop()", *body]


def written(pick: Callable[[int], int], *, awaits: bool, returns: bool, most: int = 6) -> str:
    """The text of a body, which need not compile."""
    writer = Writer(pick, awaits=awaits, returns=returns)
    lines = [line for _ in range(1 + pick(most)) for line in writer.statement(2, "body")]
    ending = writer.one_of([], [writer.expression()], [f"({writer.name()}, {writer.name()})"])
    return "\n".join([*lines, *ending])


@st.composite
def bodies(draw: Any) -> str:
    """The text of a body that compiles as a cell."""
    awaits, returns = draw(st.booleans()), draw(st.booleans())
    text = written(lambda below: draw(st.integers(0, below - 1)), awaits=awaits, returns=returns)
    assume(compiles(text))
    return text


# --- running -------------------------------------------------------------------------------------------------------


class Returned(BaseException):
    """What ``return`` becomes in a cell, which has none."""


class _Returns(ast.NodeTransformer):
    def visit_Return(self, node: ast.Return) -> ast.stmt:
        value = node.value or ast.Constant(None)
        made = ast.Raise(ast.Call(ast.Name("__returned__", ast.Load()), [value], []), None)
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_FunctionDef(self, node: Any) -> Any:
        return node

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815 - as ast asks for it


def compiled(text: str) -> types.CodeType:
    """The body as a cell: what its last expression gives is in ``__value__``. Raises SyntaxError."""
    tree = ast.parse("\n" * (FIRST_LINE - 1) + text, FILENAME)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        made = ast.Assign([ast.Name("__value__", ast.Store())], last.value)
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(made, last))
    tree = _Returns().visit(tree)
    return compile(tree, FILENAME, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def compiles(text: str) -> bool:
    """Whether it is a cell at all."""
    try:
        compiled(text)
    except SyntaxError:
        return False
    return True


def executed(text: str, namespace: dict[str, Any]) -> Any:
    """Run it as a cell, in this namespace."""
    namespace["__returned__"] = Returned
    try:
        running = eval(compiled(text), namespace)
        if inspect.iscoroutine(running):
            asyncio.run(running)
    except Returned as returned:
        return returned.args[0]
    return namespace.pop("__value__", None)


def outcome(run: Any) -> tuple[Any, ...]:
    """What running it gives: a value without addresses, or the class of an exception and the line of the cell."""
    try:
        return "value", plain(run())
    except Exception as error:  # noqa: BLE001 - whatever it raises is compared
        lines = []
        tb = error.__traceback__
        while tb is not None:
            if tb.tb_frame.f_code.co_filename == FILENAME:
                lines.append(line_of(tb))
            tb = tb.tb_next
        kind = NameError if isinstance(error, NameError) else type(error)
        return kind.__name__, lines[-1]


def line_of(tb: types.TracebackType) -> int:
    """The line at which it stands.

    Python 3.11 joins the store that ends a line and the load that begins the next one as soon as code is warm, and
    names the first line if the second fails.
    """
    code, at = tb.tb_frame.f_code, tb.tb_lasti
    if sys.version_info < (3, 12) and "STORE_FAST__LOAD_FAST" in (
        each.opname for each in dis.get_instructions(code, adaptive=True) if each.offset == at
    ):
        return next(line for first, end, line in code.co_lines() if first <= at + 2 < end and line is not None)
    return tb.tb_lineno


def plain(value: Any) -> Any:
    """What can be compared across runs."""
    if isinstance(value, list | tuple | set):
        return type(value).__name__, [plain(each) for each in value]
    if isinstance(value, dict):
        return [(plain(key), plain(each)) for key, each in value.items()]
    if isinstance(value, types.FunctionType | type | types.ModuleType | types.BuiltinFunctionType):
        return value.__name__
    if isinstance(value, int | float | str | None):
        return value
    return type(value).__name__
