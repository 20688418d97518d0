"""Which names a body binds, reads, and may read before it has assigned them. No pool, no notebook."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings

from aiopool.jupyter.magics.names import Names, names_of
from tests.jupyter.bodies import bodies


def of(text: str, *given_names: str) -> Names:
    """What is known of a body."""
    return names_of(ast.parse(text).body, given_names)


def outside(names: Names) -> set[str]:
    """What it reads that is no builtin."""
    return names.reads.keys() - vars(builtins).keys()


BINDS = {
    "x = 1": "x",
    "x, (y, *z) = 1, (2, 3)": "x y z",
    "x += 1": "x",
    "x: int = 1": "x",
    "x: int": "x",
    "(x := 1)": "x",
    "[(x := i) for i in range(3)]": "x",
    "[i for i in range(3)]": "",
    "for x in []: pass": "x",
    "with open('a') as x, open('b') as (y, z): pass": "x y z",
    "try: pass\nexcept OSError as x: pass": "x",
    "import x": "x",
    "import x.y": "x",
    "import x.y as z": "z",
    "from x import y, z as w": "y w",
    "def x(y): z = 1": "x",
    "async def x(): pass": "x",
    "class x:\n  y = 1\n  def z(self): pass": "x",
    "match 1:\n  case [x, *y]: pass\n  case {'k': z, **w}: pass\n  case int() as v: pass\n  case u: 1": "x y z w v u",
    "del x": "x",
    "global x": "x",
    "def f():\n  global x\n  x = 1": "f x",
    "def f():\n  x = 1\n  def g():\n    nonlocal x\n    x = 2": "f",
    "lambda x: (y := x)": "",
    "a.x = 1; b[0] = 2": "",
}


@pytest.mark.parametrize(("text", "names"), BINDS.items())
def test_a_body_assigns(text, names):
    """Every way to bind a name is known, and what is bound in an inner scope is not the body's."""
    assert of(text).assigns == set(names.split())


READS = {
    "x": "x",
    "x = y + z": "y z",
    "f'{x} {y!r:>{z}}'": "x y z",
    "x.y[z](w, *v, k=u, **t)": "x z w v u t",
    "[x for y in z if w]": "x z w",
    "[x for x in x]": "x",
    "{x: y for x, y in z for w in y}": "z",
    "(x for x in y for z in x)": "y",
    "lambda x, y=z: x + w": "z w",
    "def f(a, b=x, *c, d: y = z, **e) -> w:\n  return a, b, c, d, e, v": "x y z w v",
    "@x\ndef f(): return f": "x",
    "@x\nclass A(y, k=z):\n  a = w\n  b = a\n  c: v = 1\n  def m(self): return a, u": "x y z w v a u",
    "class A:\n  __x = 1\n  def m(self): return __x, self.__x": "_A__x",
    "class A:\n  def m(self): return super().m(), __class__": "",
    "def f():\n  class A:\n    x = 1\n    def m(self): return x, __class__": "x",
    "x: y = 1": "",
    "x: y": "",
    "(x): y = 1": "",
    "x.y: z = 1": "x",
    "def f():\n  x: y = z": "z",
    "match x:\n  case y.z: pass\n  case A(b=c): pass": "x y A",
    "try: pass\nexcept x: pass": "x",
    "raise x from y": "x y",
    "assert x, y": "x y",
    "import x.y; x.z": "",
    "def f():\n  global x\n  return x": "",
    "def f():\n  def g(): return x\n  x = 1": "",
    "async def f():\n  async with x as y: return [z async for z in y]": "x",
    "print(x)": "x",
    "while x: y = 1\nelse: z": "x z",
    "with x as y: y": "x",
    "def f(x): return [x for _ in y]": "y",
}


@pytest.mark.parametrize(("text", "names"), READS.items())
def test_a_body_reads_from_elsewhere(text, names):
    """What it reads and nobody in it binds must come from the notebook: through every nesting of scopes."""
    assert outside(of(text)) == set(names.split())


def test_type_parameters_are_no_names_of_the_notebook():
    """``[T]`` binds a name for what it stands at. Python knows it from 3.12 on."""
    if sys.version_info < (3, 12):
        with pytest.raises(SyntaxError):
            of("def f[T](): pass")
        return
    assert outside(of("def f[T: x](a: T) -> T: return T, y")) == {"x", "y"}
    assert outside(of("class A[T](B[T]):\n  a: T = T\n  def m[S](self, s: S) -> T: return S")) == {"B"}
    assert outside(of("type X[T] = dict[T, y]")) == {"y"}
    assert of("type X = int").assigns == {"X"}


STARTS = {
    # the plain ones
    "x = 1; x": "",
    "x; x = 1": "x",
    "x += 1": "x",
    "x = x + 1": "x",
    "x[0] = 1; x = 2": "x",
    "del x": "x",
    "x = 1; del x; x": "x",
    "x: int\nx": "x",
    "x, y = y, x": "x y",
    "f'{x}'; x = 1": "x",
    # branches
    "if a: x = 1\nx": "x",
    "if a: x = 1\nelse: x = 2\nx": "",
    "if a: x = 1\nelse: raise E\nx": "",
    "if a: return\nelse: x = 1\nx": "",
    "a and (x := 1)\nx": "x",
    "if (x := 1) and (y := 2): x, y": "",
    "if not ((x := 1) and (y := 2)): x\nelse: y": "",
    "(x := 1) or (y := 2); x": "",
    "if a or (x := 1): x": "x",
    "x if (x := 1) else x": "",
    "(x := 1) if a else (x := 2); x": "",
    "(x := 1) if a else 2; x": "x",
    "1 < (x := 2) < (y := 3); x": "",
    "1 < (x := 2) < (y := 3); y": "y",
    "assert (x := 1); x": "",
    "{(x := 1): x}": "",
    "{a: x, (x := 1): 2}": "x",
    # loops
    "for x in a: x": "",
    "for x in a: pass\nx": "x",
    "for i in a: x = 1\nx": "x",
    "for i in a:\n  x = 1\n  break\nelse: x = 2\nx": "",
    "for i in a:\n  if b: break\nelse: x = 2\nx": "x",
    "while a: x = 1\nx": "x",
    "while True:\n  x = 1\n  if a: break\nx": "",
    "while True:\n  if a: break\n  x = 1\nx": "x",
    "while (x := a): pass\nx": "",
    "while True: pass\nx\nx = 1": "",
    "for i in a:\n  if b: continue\n  x = 1\n  x": "",
    "for i in a:\n  if b: x\n  x = 1": "x",
    "x = 1\nfor i in a:\n  x\n  del x": "x",
    "x = 1\nwhile a:\n  x\n  if b: del x": "x",
    # exceptions
    "try: x = a()\nexcept E: x = None\nx": "",
    "try: x = a()\nexcept E: pass\nx": "x",
    "try: x = a()\nexcept E: raise\nx": "",
    "try: x = a()\nfinally: x": "x",
    "try: a()\nfinally: x = 1\nx": "",
    "try: x = a()\nfinally: b()\nx": "",
    "try: a()\nexcept E: return\nelse: x = 1\nx": "",
    "try: a()\nexcept E as x: x": "",
    "try: a()\nexcept E as x: pass\nx": "x",
    "x = 1\ntry: a()\nexcept E as x: pass\nx": "x",
    "x = 1\ntry:\n  del x\n  a()\nexcept E: x": "x",
    "with a as x: y = x\ny": "",
    "with suppress(E): x = 1\nx": "x",
    "with contextlib.suppress(E): x = 1\nx": "x",
    "with pytest.raises(E) as e: x = 1\nx": "x",
    "with suppress(E): return\nx = 1\nx": "",
    # patterns
    "match a:\n  case [x]: x\n  case _: x = 1\nx": "",
    "match a:\n  case [x]: pass\nx": "x",
    "match a:\n  case [x]: pass\n  case x: pass\nx": "",
    "match a:\n  case x if x: pass\n  case _: x\nx": "x",
    "match a:\n  case (1 as x) | (2 as x): x": "",
    # scopes
    "def f(): return x\nx = 1": "x",
    "x = 1\ndef f(): return x": "",
    "x = 1\ndef f(): return x\ndel x": "x",
    "def f(): return f()\nf()": "",
    "@d\ndef f(): return f()\nf()": "f",
    "def f(): return g()\ndef g(): return f()": "g",
    "lambda: x; x = 1": "x",
    "x = 1; lambda: x": "",
    "[x for i in a]; x = 1": "x",
    "[x for x in a]; x = 1": "",
    "[(x := i) for i in a]; x": "x",
    "[x for i in a if (x := i)]": "",
    "class A:\n  y = x\nx = 1": "x",
    "x = 1\nclass A:\n  x = x": "",
    "def f():\n  global x\n  x = 1\nf(); x": "x",
    "x = 0\ndef f():\n  global x\n  x += 1\nf(); x": "",
    "import a.b; a.b": "",
    "@x\ndef f(): pass\nx = 1": "x",
    "def f(a=x): pass\nx = 1": "x",
    "def f(a: x): pass\nx = 1": "x",
}


@pytest.mark.parametrize(("text", "names"), STARTS.items())
def test_a_name_begins_with_the_notebooks_value(text, names):
    """One that a body assigns, and may read before, on whatever way; the value of another would travel in vain."""
    assert of(text).starts.keys() == set(names.split())


def test_a_target_of_the_head_is_assigned_before():
    """It is the parameter: it never begins with the notebook's value."""
    names = of("url = url.strip()\nurl", "url")
    assert not names.starts
    assert not names.meant
    assert not names.reads


MEANT = {
    "count += 1": "count",
    "for x in xs: total = total + x": "total",
    "best = max(best, score)": "best",
    "global state\nstate = 1": "state",
    "def f():\n  global state\n  state = 1\nf()": "state",
    "if a: y = 1\nprint(y)": "",
    "x = 1; x += 1": "",
    "def f(): return g()\ndef g(): pass": "",
    "del cache": "cache",
}


@pytest.mark.parametrize(("text", "names"), MEANT.items())
def test_a_variable_of_the_notebook_looks_as_if_it_was_meant_to_change(text, names):
    """One that is read before it can have been assigned, and then is; and what is declared global."""
    assert of(text).meant == tuple(names.split())


def test_changes_in_place_are_noted_with_their_kind():
    """A method may do anything on an object of another kind; an item that is set is a change whatever it is."""
    text = "results.append(1)\ntable[0] = 1\nframe.loc[0] = 2\nawait queue.pop()\nown = []\nown.append(1)\nx = a.pop()"
    assert of(text).changed == {"results": True, "table": False, "frame": False, "queue": True}
    assert of("results.append(1)\nresults[0] = 1").changed == {"results": False}
    assert of("results[0] = 1\nresults.append(1)").changed == {"results": False}
    assert of("[results.append(x) for x in xs]\nrow.append(1)", "row").changed == {}


def test_a_name_whose_absence_is_caught_may_be_missing():
    """``try: display`` with ``except NameError`` asks whether there is one; any other mention says that there is."""
    asked = "try: fancy\nexcept {}: pass"
    assert of(asked.format("NameError")).guarded == {"fancy"}
    assert of(asked.format("(NameError, ImportError)")).guarded == {"fancy"}
    assert of(asked.format("Exception")).guarded == set()
    assert of(asked.format("NameError") + "\nfancy").guarded == set()
    assert of("class A:\n  if b: x = 1\n  y = x").guarded == {"x"}


@given(bodies())
@settings(deadline=None, max_examples=150)
def test_python_sees_the_same_scopes(text):
    """What Python's own table of symbols says about a function with that body."""
    assume("global" not in text)
    tree = ast.parse(text)
    names = names_of(tree.body)
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    table = symtable.symtable(f"async def body():\n{indented}\n", "<body>", "exec").get_children()[0]
    # Variables of comprehensions are the function's there.
    inlined = {"x", "y", "z"} if sys.version_info >= (3, 12) else set()
    assert names.assigns - inlined == {each.get_name() for each in table.get_symbols() if each.is_local()} - inlined
    unresolved = set(_read_globals(table)) - inlined
    # Nor has a comprehension in a class a table there, though it cannot see the names of the class.
    hidden = set(_locals_of_classes(table)) if sys.version_info >= (3, 12) else set()
    assert names.reads.keys() - names.guarded - inlined - hidden <= unresolved
    # Python also counts the annotations of a function's variables, which it does not evaluate.
    assert unresolved - names.reads.keys() - names.assigns <= {"int"}


def _locals_of_classes(table: symtable.SymbolTable) -> Iterator[str]:
    for inner in table.get_children():
        if inner.get_type() == "class":
            yield from (symbol.get_name() for symbol in inner.get_symbols() if symbol.is_local())
        yield from _locals_of_classes(inner)


def _read_globals(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _read_globals(inner)
