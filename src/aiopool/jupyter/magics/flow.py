"""The ways that the code of a body can take, and what is surely assigned along each: definite assignment.

Where a way cannot be judged, a name counts as not assigned: it then begins with the notebook's value, which is what
the same code in an ordinary cell would see. Only of a ``with`` block it is believed that it does not swallow what its
body raises, unless it says ``suppress`` or ``raises``: most do not, and every name assigned in one would else bring the
notebook's value along.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiopool.jupyter.magics.leaves import NOTHING, Leaves
from aiopool.jupyter.magics.scopes import (
    OF_EVERY_CLASS,
    Comprehension,
    Function,
    Scope,
    elements_of,
    mangled,
    now_of,
    scope_of_alias,
    scope_of_class,
    scope_of_function,
)
from aiopool.jupyter.magics.ways import always_matches, catches_name_error, swallows, taken_away

__all__ = ["Flow", "flow_of"]

Sure = frozenset[str] | None
"""The names that are assigned here on every way that leads here; None where no way leads."""


@dataclass(eq=False, slots=True)
class Flow:
    """What was met on the way, each name with the first node that reads it.

    ``reads`` are names that the body does not assign; ``guarded`` those that may well not exist there. ``early`` are
    names that it assigns and may read before, ``meant`` those of them that it reads before it can have assigned them.
    ``around_class`` are the nodes in classes that are looked for around them. ``leaves`` is what there is at its end.
    """

    reads: dict[str, ast.expr] = field(default_factory=dict)
    guarded: dict[str, ast.expr] = field(default_factory=dict)
    early: dict[str, ast.expr] = field(default_factory=dict)
    meant: dict[str, None] = field(default_factory=dict)
    around_class: set[ast.Name] = field(default_factory=set)
    leaves: Leaves = NOTHING


def flow_of(statements: Sequence[ast.stmt], assigned: frozenset[str], given: frozenset[str]) -> Flow:
    """Go through statements that assign these names; ``given`` are assigned before."""
    walk = _Walk(assigned, given, frozenset(taken_away(statements)))
    for statement in statements:
        walk.visit(statement)
        if isinstance(statement, ast.Delete):
            walk.note_deleted(taken_away([statement]))
    walk.found.leaves = walk.leaves(assigned - given)
    return walk.found


def _join(ways: Iterable[Sure]) -> Sure:
    """What is assigned whichever of these ways was taken."""
    open_ways = [way for way in ways if way is not None]
    return frozenset.intersection(*open_ways) if open_ways else None


class _TypeParameters(frozenset[str]):
    """What ``[T]`` binds; the names of a class are visible beyond it."""


class _Walk(ast.NodeVisitor):
    """Goes through the body in the order in which it runs, and notes what is read while it is not surely assigned."""

    def __init__(self, assigned: frozenset[str], given: frozenset[str], unbound: frozenset[str]) -> None:
        self.found = Flow()
        self._assigned = assigned
        self._unbound = unbound
        self._sure: Sure = given
        self._touched: set[str] = set(given)
        self._kept: set[str] = set()  # what is assigned, but for names of exceptions
        self._gone: set[str] = set()
        self._ends: list[Sure] = []  # at each return
        self._breaks: list[list[Sure]] = []
        self._around: list[Scope | frozenset[str]] = []  # classes and the variables of comprehensions
        self._in_class: list[set[str]] = []  # what the classes around have bound so far
        self._classes = self._made_classes = 0
        self._guards = 0

    # --- what it leaves -------------------------------------------------------------------------------------------

    def note_deleted(self, names: Iterable[str]) -> None:
        """What the body deletes for everyone who comes here."""
        if not self._ends:
            self._gone.update(names)
            self._kept -= self._gone

    def leaves(self, names: frozenset[str]) -> Leaves:
        """Those of these names that there are at its end."""
        sure = names & (self._without_unbound(_join((*self._ends, self._sure))) or frozenset())
        return Leaves(sure, names & self._kept - sure, names & self._unbound, names & self._gone - self._kept)

    # --- names ----------------------------------------------------------------------------------------------------

    @property
    def _class(self) -> Scope | None:
        """The class whose body is being run, if names that are assigned now are its own."""
        innermost = self._around[-1] if self._around else None
        return innermost if isinstance(innermost, Scope) else None

    def _name(self, name: str) -> str:
        return mangled(name, self._private())

    def _bind(self, name: str | None) -> None:
        if name is None:
            return
        name = self._name(name)
        if self._class is not None:
            if name not in self._class.own:
                return  # It is declared global or nonlocal there.
            self._in_class[-1].add(name)
            name = self._of_class(name)
        else:
            self._touched.add(name)
            self._kept.add(name)
        if self._sure is not None:
            self._sure |= {name}

    def _of_class(self, name: str) -> str:
        """How a variable of the class whose body is being run stands among the sure ones."""
        return f"{name}.{self._classes}"

    def _unbind(self, name: str) -> None:
        name = self._name(name)
        if self._sure is not None:
            self._sure -= {name if self._class is None else self._of_class(name)}

    def _read(self, name: str, node: ast.expr, *, later: bool = False) -> None:
        """``later``: in a function that is only defined now."""
        within = self._is_bound_within(name, node, later=later)
        if within is True:
            return
        if name not in self._assigned:
            guarded = within is None or self._guards
            (self.found.guarded if guarded else self.found.reads).setdefault(name, node)
            return
        if self._sure is None or (name in self._sure and not (later and name in self._unbound)):
            return
        self.found.early.setdefault(name, node)
        if not later and name not in self._touched:
            self.found.meant[name] = None

    def _is_bound_within(self, name: str, node: ast.expr, *, later: bool) -> bool | None:
        """Whether it is a variable of a comprehension or class around; None where a class may not have it yet."""
        found: bool | None = False
        nearest = not later  # The names of a class are visible in its own lines only.
        for around in reversed(self._around):
            if isinstance(around, frozenset):
                if name in around:
                    return True
                nearest = nearest and isinstance(around, _TypeParameters)
                continue
            if nearest and name in OF_EVERY_CLASS:
                return True
            if nearest and name in around.own:
                if self._sure is None or self._of_class(name) in self._sure:
                    return True
                found = None
                if name not in self._in_class[-1] and isinstance(node, ast.Name):
                    self.found.around_class.add(node)
            nearest = False
        return found

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        """One after another."""
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) or (isinstance(node.ctx, ast.Del) and self._class is None):
            self._read(self._name(node.id), node)
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        elif isinstance(node.ctx, ast.Del):
            self._unbind(node.id)

    # --- statements that assign -----------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(self._name(node.target.id), node.target)
            self.visit(node.value)
            self._bind(node.target.id)
        else:
            self.visit(node.target)
            self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)
        if self._class is not None:
            self.visit(node.annotation)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self.visit(target)

    def visit_alias(self, node: ast.alias) -> None:
        self._bind(node.asname or node.name.partition(".")[0])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id)

    # --- functions, classes, comprehensions -----------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        with self._type_parameters(node):
            self.visit_all(now_of(node))
            before = self._sure
            if before is not None and not node.decorator_list and self._class is None:
                self._sure = before | {self._name(node.name)}  # When it is called, its own name has been assigned.
            self._read_later(scope_of_function(node, self._private()))
            self._sure = before
        self._bind(node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit_all(now_of(node))
        self._read_later(scope_of_function(node, self._private()))

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self._read_later(scope_of_alias(node, self._private()))
        self.visit(node.name)  # type: ignore[attr-defined]  # From Python 3.12.

    def _private(self) -> str:
        return next((each.private for each in reversed(self._around) if isinstance(each, Scope)), "")

    def _read_later(self, scope: Scope) -> None:
        in_class = any(isinstance(each, Scope) for each in self._around)
        for name, node in scope.free().items():
            if not (in_class and name == "__class__"):
                self._read(name, node, later=True)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        with self._type_parameters(node):
            self.visit_all(now_of(node))
            number = self._classes
            self._classes = self._made_classes = self._made_classes + 1
            self._in_class.append(set())
            with self._within(scope_of_class(node)):
                self.visit_all(node.body)
            self._in_class.pop()
            self._classes = number
        self._bind(node.name)

    @contextmanager
    def _type_parameters(self, node: Function | ast.ClassDef) -> Iterator[None]:
        """``[T]``, from Python 3.12: known to the annotations and the bases, too."""
        parameters = getattr(node, "type_params", ())
        if not parameters:
            yield
            return
        with self._within(_TypeParameters(each.name for each in parameters)):
            self.visit_all(parameters)
            yield

    @contextmanager
    def _within(self, around: Scope | frozenset[str]) -> Iterator[None]:
        self._around.append(around)
        try:
            yield
        finally:
            self._around.pop()

    def _visit_comprehension(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        before = self._sure
        names: frozenset[str] = frozenset(
            self._name(each.id)
            for generator in node.generators
            for each in ast.walk(generator.target)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        )
        with self._within(names):
            for generator in node.generators:
                if generator is not node.generators[0]:
                    self.visit(generator.iter)
                for condition in generator.ifs:
                    self._sure, _ = self._judge(condition)
            self.visit_all(elements_of(node))
        self._sure = before  # It may have had no elements.

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815 - as ast asks for it

    # --- conditions -----------------------------------------------------------------------------------------------

    def _judge(self, node: ast.expr) -> tuple[Sure, Sure]:
        """Evaluate a condition: what is assigned where it holds, and where it does not."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            holds, fails = self._judge(node.operand)
            return fails, holds
        if isinstance(node, ast.BoolOp):
            return self._judge_all(node)
        self.visit(node)
        if isinstance(node, ast.Constant):
            return (self._sure, None) if node.value else (None, self._sure)
        return self._sure, self._sure

    def _judge_all(self, node: ast.BoolOp) -> tuple[Sure, Sure]:
        is_and = isinstance(node.op, ast.And)
        ended: list[Sure] = []
        on: Sure = self._sure
        for value in node.values:
            self._sure = on
            holds, fails = self._judge(value)
            on, off = (holds, fails) if is_and else (fails, holds)
            ended.append(off)
        return (on, _join(ended)) if is_and else (_join(ended), on)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._sure = _join(self._judge_all(node))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        holds, fails = self._judge(node.test)
        self._sure = holds
        self.visit(node.body)
        holds, self._sure = self._sure, fails
        self.visit(node.orelse)
        self._sure = _join((holds, self._sure))

    def visit_Compare(self, node: ast.Compare) -> None:
        self.visit_all((node.left, node.comparators[0]))
        sure = self._sure
        self.visit_all(node.comparators[1:])  # Only as long as the comparisons hold.
        self._sure = sure

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            self.visit_all((key, value))

    def visit_If(self, node: ast.If) -> None:
        holds, fails = self._judge(node.test)
        self._sure = holds
        self.visit_all(node.body)
        holds, self._sure = self._sure, fails
        self.visit_all(node.orelse)
        self._sure = _join((holds, self._sure))

    def visit_Assert(self, node: ast.Assert) -> None:
        holds, self._sure = self._judge(node.test)
        self.visit_all((node.msg,))
        self._sure = holds

    # --- loops and ends -------------------------------------------------------------------------------------------

    def _without_unbound(self, sure: Sure) -> Sure:
        """Here a way leads on which something may have been deleted."""
        return None if sure is None else frozenset(x for x in sure if x.partition(".")[0] not in self._unbound)

    def _visit_for(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        before = self._sure = self._without_unbound(self._sure)
        self._breaks.append([])
        self.visit(node.target)
        self.visit_all(node.body)
        self._sure = before
        self._end_loop(node.orelse)

    visit_For = visit_AsyncFor = _visit_for  # noqa: N815 - as ast asks for it

    def visit_While(self, node: ast.While) -> None:
        self._sure = self._without_unbound(self._sure)
        self._breaks.append([])
        self._sure, fails = self._judge(node.test)
        self.visit_all(node.body)
        self._sure = fails
        self._end_loop(node.orelse)

    def _end_loop(self, orelse: Sequence[ast.stmt]) -> None:
        breaks = self._breaks.pop()
        self.visit_all(orelse)
        self._sure = _join((self._sure, *map(self._without_unbound, breaks)))

    def visit_Break(self, _: ast.Break) -> None:
        self._breaks[-1].append(self._sure)
        self._sure = None

    def visit_Continue(self, _: ast.Continue) -> None:
        self._sure = None

    def visit_Return(self, node: ast.Return) -> None:
        self.visit_all((node.value,))
        self._ends.append(self._sure)
        self._sure = None

    def visit_Raise(self, node: ast.Raise) -> None:
        self.visit_all((node.exc, node.cause))
        self._sure = None

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _visit_try(self, node: ast.Try | ast.TryStar) -> None:
        before = self._without_unbound(self._sure)
        prepared = any(catches_name_error(handler.type) for handler in node.handlers)
        self._guards += prepared
        self.visit_all(node.body)
        self._guards -= prepared
        self.visit_all(node.orelse)
        ways = [self._sure]
        for handler in node.handlers:
            self._sure = before
            self.visit_all((handler.type,))
            kept = self._kept.copy()
            self._bind(handler.name)
            self._kept = kept
            self.visit_all(handler.body)
            if handler.name is not None:
                self._unbind(handler.name)
            ways.append(self._sure)
        joined = _join(ways)
        if node.finalbody:
            self._sure = before
            self.visit_all(node.finalbody)
            joined = self._without_unbound(joined)
            self._sure = None if joined is None or self._sure is None else joined | self._sure
            return
        self._sure = joined

    visit_Try = visit_TryStar = _visit_try  # noqa: N815 - as ast asks for it

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> None:
        swallowed = False
        ways: list[Sure] = []
        for item in node.items:
            self.visit(item.context_expr)
            if swallows(item.context_expr):
                swallowed = True
                ways.append(self._without_unbound(self._sure))
            if item.optional_vars is not None:
                self.visit(item.optional_vars)
        self.visit_all(node.body)
        if swallowed:
            self._sure = _join((*ways, self._sure))

    visit_With = visit_AsyncWith = _visit_with  # noqa: N815 - as ast asks for it

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        unmatched = self._sure
        ways: list[Sure] = []
        for case in node.cases:
            self._sure = unmatched
            self.visit(case.pattern)
            fails: Sure = None if always_matches(case.pattern) else unmatched
            if case.guard is not None:
                self._sure, fails_guard = self._judge(case.guard)
                fails = _join((fails, None if fails_guard is None else fails_guard & (unmatched or frozenset())))
            self.visit_all(case.body)
            ways.append(self._sure)
            unmatched = fails
        self._sure = _join((*ways, unmatched))

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.visit_all((node.pattern,))
        self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.visit_all((*node.keys, *node.patterns))
        self._bind(node.rest)

    def visit_MatchOr(self, node: ast.MatchOr) -> None:
        before = self._sure
        ways: list[Sure] = []
        for pattern in node.patterns:
            self._sure = before
            self.visit(pattern)
            ways.append(self._sure)
        self._sure = _join(ways)
