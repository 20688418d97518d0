"""The text under ``%%aiopool`` as a function: its value, its lines, what it takes along, and what it refuses."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import linecache
import sys
import textwrap
import traceback
from typing import Any

import pytest

from aiopool import everywhere
from aiopool._payload import dump_function, load_function
from aiopool.errors import NotPicklable
from aiopool.jupyter.magics.body import Missing, read_body

FILENAME = "<a cell>"


def notebook(**names: Any) -> dict[str, Any]:
    """A namespace as a notebook has it."""
    return {"__name__": "__main__", "__builtins__": builtins, **names}


def run(text: str, *item: Any, target: str = "", defined: Any = frozenset(), **names: Any) -> Any:
    """The body's value for an item, here and after a journey: both are the same."""
    body = read_body(text, filename=FILENAME, target=target)
    function = body.function(notebook(**names), defined)
    values = []
    for each in (load_function(dump_function(function).data), function):
        value = each(*item)
        values.append(asyncio.run(value) if body.is_async else value)
    assert repr(values[0]) == repr(values[1])
    return values[1]


@pytest.fixture
def everywhere_names(monkeypatch):
    """The namespace of ``--all`` cells, as if this were a worker."""
    names = {"__name__": "__main__", "__builtins__": builtins}
    monkeypatch.setattr(everywhere, "names", names)
    return names


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("x", True),
        ("x = 1", False),
        ("x;", False),
        ("x  # a;", True),
        ("def f():\n    return 1", False),
        ("lambda: 1", True),
        ("if x:\n    return 1", True),
        ("if x:\n    return\ny = 1", False),
        ("for y in x:\n    y", False),
        ("return None", True),
    ],
)
def test_a_body_knows_whether_it_can_give_a_value(text: str, gives: bool) -> None:  # noqa: FBT001
    """That of its last expression, or of a ``return`` of its own."""
    body = read_body(text, filename=FILENAME)
    assert body.gives_value is gives
    assert body.ends_in_semicolon is (text == "x;")


VALUES = {
    "1 + 1": 2,
    "x = 1\nx + 1": 2,
    "x = 1": None,
    "x = 1\nx;": None,
    "x = 1\nx;  # shown? no": None,
    "x = 1\n(x)  # a; b": 1,
    "'a;b'": "a;b",
    "'''a\nb;'''": "a\nb;",
    "('é'\n 'ü')": "éü",
    "'é'; 'ü'": "ü",
    "'é'; 'ü';": None,
    "if True:\n    5": None,
    "for x in [1]: x": None,
    "'a docstring'\n2": 2,
    "'a docstring'": "a docstring",
    "return 3\n4": 3,
    "if True: return 3\n4": 3,
    "pass": None,
    "lambda: 1\n(lambda: 2)()": 2,
    "x: int = 4\nx": 4,
    "def f(n): return n * f(n - 1) if n else 1\nf(4)": 24,
    "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\neven(10)": True,
    "n = 0\ndef add():\n    global n\n    n += 1\nadd(), add()\nn": 2,
    "def make():\n    global made\n    made = 5\nmake()\nmade": 5,
    "x = 1\nclass A:\n    x = x + 1\nA.x": 2,
    "x = 1\nclass A:\n    x += 1\n    x += 1\nA.x, x": (3, 1),
    "x = 1\nclass A:\n    y = [x for _ in range(2)]\n    def m(self): return x\nA.y, A().m()": ([1, 1], 1),
    "class A:\n    global z\n    z = 7\nz": 7,
    "class A:\n    __x = 1\n    def m(self): return self.__x\nA().m()": 1,
    "class A:\n  def m(self): return __class__.__name__\nclass B(A):\n  def m(self): return super().m()\nB().m()": "A",
    "class A: pass\nA.__qualname__, A.__module__": ("body.<locals>.A", "__main__"),
    "import os.path as p\np.basename('a/b')": "b",
    "import os.path\nos.path.basename('a/b')": "b",
    "with open('/dev/null') as f: text = f.read()\ntext": "",
    "[y := 1, y ** 2]": [1, 1],
    "f'{(lambda: 1)()!r:>{2}}'": " 1",
    "len = 3\nlen": 3,
    "list = list(range(2))\nlist": [0, 1],
    "__name__": "__main__",
    "match [1, 2]:\n    case [a, *b]: pass\na, b": (1, [2]),
    "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    kept = e\ntype(kept).__name__": "ZeroDivisionError",
    "for x in []: pass\nelse: y = 1\ny": 1,
    "x = 1\ndef f():\n    nonlocal x\n    x = 2\nf()\nx": 2,
    "async def f(): return 1\nawait f()": 1,
    "import asyncio\nasync with asyncio.timeout(5): x = 1\nx": 1,
    "async def f():\n    yield 1\n[x async for x in f()]": [1],
    "async def f():\n    yield 1\nasync for x in f(): pass\nx": 1,
    "async def f(): return [1]\n[x for x in await f()]": [1],
    "async def f(): return [1]\nlist(x for x in await f())": [1],
    "async def f(): return 1\ndef g(a=await f()): return a\ng()": 1,
    "async def f(): return 1\nclass A(await_ := type('B', (), {})): pass\nawait f()": 1,
}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_the_value_is_that_of_the_last_expression(text, value):
    """As in a cell: also by ``return``, and nothing from within a block or before a semicolon."""
    assert run(text) == value


def test_a_body_is_a_coroutine_function_only_if_it_awaits_itself():
    """An ``await`` of a function that it defines is that function's affair."""

    def is_async(text: str) -> bool:
        body = read_body(text, filename=FILENAME)
        assert inspect.iscoroutinefunction(body.function(notebook())) is body.is_async
        return body.is_async

    assert is_async("await f()")
    assert is_async("if a:\n  x = [y async for y in z]")
    assert is_async("lambda x=await f(): 1")
    assert not is_async("async def f(): await g()")
    assert not is_async("gen = (x async for x in y)")
    assert not is_async("async def f(): return [x async for x in y]")


# --- names of the notebook -----------------------------------------------------------------------------------------


def test_what_it_reads_is_that_of_the_notebook_when_it_is_made():
    """Globals are shipped as those of any function; helpers too."""

    def helper(x):
        return x + 1

    assert run("helper(base) + len(more)", helper=helper, base=1, more=[1]) == 3
    assert read_body("a + len(b)", filename=FILENAME).reads == {"a", "b", "len"}


def test_its_globals_are_those_of_the_notebook():
    """So all that is promised of functions in a notebook holds for bodies."""
    namespace = notebook(x=1)
    function = read_body("x", filename=FILENAME).function(namespace)
    assert function.__globals__ is namespace
    assert function.__module__ == "__main__"
    assert function.__name__ == function.__qualname__ == "body"
    assert read_body("'no docstring'\n1", filename=FILENAME).function(namespace).__doc__ is None
    namespace["x"] = 2
    assert function() == 2


def test_a_name_that_is_changed_begins_with_the_notebooks_value():
    """Each item begins with it; nothing that one assigns is seen by the next, or by the notebook."""
    namespace = notebook(count=3)
    function = read_body("count += 1\ncount", filename=FILENAME).function(namespace)
    assert [function(), function()] == [4, 4]
    assert namespace["count"] == 3


def test_a_global_of_the_body_belongs_to_the_item():
    """``global`` at the top, and in its functions, means the body's own variable."""
    namespace = notebook(total=5)
    function = read_body(
        "global total\ndef add(n):\n    global total\n    total += n\nadd(2)\ntotal", filename=FILENAME
    ).function(namespace)
    assert [function(), function()] == [7, 7]
    assert namespace["total"] == 5


def test_a_mutable_value_is_shared_as_a_global_would_be():
    """It may be a cache that is worth keeping; that it stays in the worker is said elsewhere."""
    namespace = notebook(seen=[])
    function = read_body("if not seen: seen = seen\nseen.append(1)\nlen(seen)", filename=FILENAME).function(namespace)
    assert [function(), function()] == [1, 2]


def test_what_is_surely_assigned_is_not_shipped():
    """The notebook often holds a stale value of that name, big or not to be pickled."""
    stale = open(__file__)  # noqa: SIM115, PTH123
    with stale:
        assert run("page = 'text'\nlen(page)", page=stale) == 4
        assert run("for page in ['text']: pass\nlen(page)", page=stale) == 4  # It might be read, and is not.
        with pytest.raises(UnboundLocalError, match="page"):
            run("if len('a') > 1: page = 1\npage", page=stale)
        with pytest.raises(NotPicklable, match="`page`"):
            run("page = page.read()", page=stale)


@pytest.mark.parametrize("text", ["x\nx = 1", "x += 1", "def f(): return x\nf()\nx = 1", "del x"])
def test_a_name_that_exists_nowhere_is_pythons_error(text):
    """If the body assigns it, only at that line can be said whether it is there."""
    body = read_body(text, filename=FILENAME)
    assert body.missing(notebook()) == []
    with pytest.raises(NameError) as caught:
        body.function(notebook())()
    assert caught.traceback[-1].frame.code.raw.co_filename == FILENAME


# --- missing names -------------------------------------------------------------------------------------------------


def missing(text: str, line: int = 2, defined: Any = frozenset(), **names: Any) -> list[Missing]:
    """Those of a body."""
    return read_body(text, filename=FILENAME, line=line, target="url").missing(notebook(**names), defined)


def test_a_missing_name_is_told_with_its_place():
    """The line of the cell, and the columns of the name, counted in characters."""
    assert missing("x = 1\ny = x + 'é' + nowhere(url)", line=5) == [Missing("nowhere", 6, 14, 21)]
    assert [each.name for each in missing("b + a\nc")] == ["b", "a", "c"]
    assert missing("len(known), url, helper", defined={"helper"}, known=1) == []


def test_a_missing_name_is_found_wherever_it_stands():
    """In nested functions and comprehensions, decorators, defaults, f-strings, patterns and classes."""
    text = """\
        @wrapped
        def f(a: kind, b=default): return inner
        class A(Base):
            x = attribute
            def m(self): return deep
        values = [element for x in f'{shown!r:>{width}} and {x.y["k"] + last}']
        match values:
            case Pattern(): pass
    """
    names = [each.name for each in missing(textwrap.dedent(text))]
    known = "wrapped kind default inner Base attribute deep element shown width x last Pattern"
    assert " ".join(sorted(names)) == " ".join(sorted(known.split()))


@pytest.mark.parametrize(
    "text", ["f'''\n{1}\n{lost}\n'''", "f'a' f'{lost}'", "(f'{1}'\n f'{lost:>3}')", "f'é{lost}'", "f'{f\"{lost}\"}'"]
)
def test_a_missing_name_in_an_f_string_is_found_where_it_stands(text):
    """Python 3.11 itself does not always know the line."""
    (found,) = missing(text)
    assert text.splitlines()[found.line - 2][found.column : found.end_column] == "lost"


def test_a_name_whose_absence_the_body_catches_is_not_missing():
    """Nor one that only exists on some ways."""
    assert missing("try: fancy\nexcept NameError: fancy = None\nfancy") == []
    assert missing("try: fancy\nexcept NameError: pass") == []


# --- variables that were meant to change ---------------------------------------------------------------------------


def test_what_was_meant_to_change_depends_on_the_notebook():
    """It has such a variable, of a kind that would have changed."""
    body = read_body("count += 1\nresults.append(1)\ntable[0] = 1\nsession.update(1)", filename=FILENAME)
    assert body.meant == ("count", "results", "table", "session")
    assert body.meant_in(notebook()) == ()
    known = notebook(count=1, results=[], table=object(), session=object())
    assert body.meant_in(known) == ("count", "results", "table")
    assert body.meant_in(known, {"results": "Cell In[1]"}) == ("count", "table")


# --- the head ------------------------------------------------------------------------------------------------------


def test_a_single_target_is_the_parameter():
    """Tracebacks and signatures show that very name."""
    assert run("url.upper()", "a", target="url") == "A"
    function = read_body("url", filename=FILENAME, target="url").function(notebook())
    assert str(inspect.signature(function)) == "(url)"


def test_a_target_of_several_names_unpacks_the_item():
    """As in a comprehension, nested and starred too."""
    assert run("i, url", (1, "a"), target="i, url") == (1, "a")
    assert run("a, b, c", (1, (2, 3, 4)), target="a, (b, *c)") == (1, 2, [3, 4])
    assert run("a", [1], target="[a]") == 1
    assert run("a", [1], target="a,") == 1


def test_the_parameter_has_a_name_of_its_own():
    """Whatever the body calls its own variables, or reads of the notebook."""
    assert run("item, item_, a", (1, 2), target="a, b", item=3, item_=4) == (3, 4, 1)
    assert run("item", (1, 2), target="item, b") == 1


def test_an_item_that_cannot_be_unpacked_points_at_the_head():
    """At its line, and at the target in it."""
    linecache.cache[FILENAME] = (0, None, ["\n", "%%aiopool  i, url in urls\n", "i\n"], FILENAME)
    body = read_body("i", filename=FILENAME, line=3, target="i, url", target_line=2, target_column=11)
    with pytest.raises(ValueError, match="not enough values") as caught:
        body.function(notebook())((1,))
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.colno, last.end_colno) == (FILENAME, 2, 11, 17)


# --- lines ---------------------------------------------------------------------------------------------------------


def test_an_error_points_at_its_line_and_columns():
    """Of the cell, also in nested functions and after the pickle."""
    text = "x = 1\ndef f():\n    return 'e' + (x / 0)\nf()"
    function = load_function(dump_function(read_body(text, filename=FILENAME, line=4).function(notebook())).data)
    with pytest.raises(ZeroDivisionError) as caught:
        function()
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert [each.lineno for each in frames] == [7, 6]
    assert (frames[-1].colno, frames[-1].end_colno) == (18, 23)
    assert {each.filename for each in frames} == {FILENAME}


def test_lines_are_counted_as_python_does():
    """By line feeds and carriage returns; not by what else may be called the end of a line."""
    for text, line in (("x = '\u2028\\f'\r\n1 / 0", 3), ("x = 1\x0c\n1 / 0", 3), ("x = 1\r1 / 0;", 3)):
        with pytest.raises(ZeroDivisionError) as caught:
            run(text)
        assert caught.traceback[-1].lineno + 1 == line
    assert missing("x = '\u2028'\nlost") == [Missing("lost", 3, 0, 4)]
    assert run("x = 1\r\nx;\r\n") is None


def test_a_form_feed_before_the_first_line_is_no_indentation():
    """Some editors put one between the parts of a text, and Python takes it for nothing."""
    assert read_body("\x0cx = 1\n\x0c\nx + y", filename="<a cell>").function({"y": 2})() == 3


def test_an_indented_body_keeps_its_columns():
    """Somebody wrote it as the body of a loop."""
    body = read_body("# why\n    x = 1\n    '''\ntext'''\n    x / 0", filename=FILENAME, line=2)
    with pytest.raises(ZeroDivisionError) as caught:
        body.function(notebook())()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.lineno, last.colno) == (6, 4)


def test_a_name_of_an_all_cell_that_is_not_here_points_at_its_use(everywhere_names):
    """And says which cell has to run again."""
    body = read_body("x = 1\ny = model(x)", filename=FILENAME)
    function = body.function(notebook(), {"model": "Cell In[3]"})
    with pytest.raises(
        NameError, match=r"'model' is not defined in this worker: the --all cell .*\(Cell In\[3\]\)"
    ) as caught:
        function()
    frames = [each for each in traceback.extract_tb(caught.value.__traceback__) if each.filename == FILENAME]
    assert (frames[-1].lineno, frames[-1].colno) == (3, 4)
    changed = read_body("x = 1\n\nmodel += 1", filename=FILENAME).function(notebook(), {"model"})
    with pytest.raises(NameError, match="the --all cell that assigns it has not") as caught:
        changed()
    assert caught.traceback[1].lineno + 1 == 4


# --- names of --all cells ------------------------------------------------------------------------------------------


def test_names_of_all_cells_win_over_those_of_the_notebook(everywhere_names):
    """They are looked up when the item begins, and seen by all that the body defines."""
    everywhere_names.update(model="theirs", count=5)
    text = "count += 1\nclass A:\n    model = model\ndef f(): return model\nf(), A.model, [model for _ in '1'], count"
    assert run(text, defined={"model", "count"}, model="ours", count=1) == ("theirs", "theirs", ["theirs"], 6)
    assert run("model = 1\nmodel", defined={"model"}) == 1


def test_the_notebooks_value_of_such_a_name_does_not_travel(everywhere_names):
    """It may be what no pickle takes: that is why somebody made it everywhere."""
    everywhere_names["model"] = "theirs"
    with open(__file__) as never:  # noqa: PTH123
        assert run("model", defined={"model"}, model=never) == "theirs"


def test_an_all_body_leaves_its_names_in_the_worker(everywhere_names):
    """As a cell does in its notebook; its functions see what later ones assign."""
    first = "import os.path as p\nbase = start + 1\ndef helper(x): return x + base + later\nclass A: pass\n"
    body = read_body(first + "helper.__qualname__", filename=FILENAME)
    assert body.assigns == {"p", "base", "helper", "A"}
    made = load_function(dump_function(body.for_everyone(notebook(start=1, later=0, helper=7))).data)
    assert made() == "helper"
    assert everywhere_names["A"].__qualname__ == "A"
    second = read_body("later = 100\nbase: int = base * 10\nhelper(1)", filename=FILENAME)
    assert second.for_everyone(notebook(base=0), {"base", "helper"})() == 121


def test_an_all_body_may_await(everywhere_names):
    """It is an ``async def`` then, and known as one."""
    body = read_body("import asyncio\nx = await asyncio.sleep(0, 5)\nx", filename=FILENAME)
    blob = dump_function(body.for_everyone(notebook()))
    assert blob.is_async
    assert blob.name == "body"
    assert asyncio.run(load_function(blob.data)()) == 5
    assert everywhere_names["x"] == 5


def test_an_all_body_brings_only_what_it_reads_before_it_assigns():
    """A stale value of the notebook stays there; one that cannot travel is named as in any function."""
    with open(__file__) as never:  # noqa: PTH123
        dump_function(read_body("x = 1\nx", filename=FILENAME).for_everyone(notebook(x=never)))
        with pytest.raises(NotPicklable, match="`body` uses the global `x`"):
            dump_function(read_body("x.read()", filename=FILENAME).for_everyone(notebook(x=never)))


# --- refusals ------------------------------------------------------------------------------------------------------

REFUSED = {
    "": (4, "the body is empty"),
    "# nothing\n\n   # more": (4, "the body is empty"),
    "x = 1\nyield x": (5, "cannot yield: .*last expression"),
    "x = yield": (4, "cannot yield"),
    "if a:\n  yield from b": (5, "cannot yield"),
    "from os.path import *": (4, r"cannot `from os.path import \*`: .*`from os.path import a, b`"),
    "from __future__ import annotations\nx": (4, "cannot import from __future__"),
    "x = " + "-" * 5000 + "1": (4, "too many nested|too complex|nested too deeply|cannot be read"),
    "x = " + "+".join("a" * 5000): (4, "too many nested|nested too deeply|cannot be read"),
    "x = 1\n%time x": (5, "no magic"),
    "!ls": (4, "no magic, no shell command"),
    "files = !ls": (4, "no shell command"),
    "x = %timeit 1": (4, "no magic"),
    "x?": (4, "no `\\?`"),
    "x = (": (4, "was never closed"),
    "x = 1\n  y = 2": (5, "unexpected indent"),
    "  x = 1\ny = 2": (5, "unindent"),
    "  x = 1\n y = 2": (5, "unindent"),
    "nonlocal x": (4, "no binding for nonlocal 'x'"),
    "def f():\n  await x": (5, "'await' outside async function"),
    "lambda: (await x)": (4, "'await' outside async function"),
    "x = 1\nglobal x": (5, "assigned to before global declaration"),
    "break": (4, "'break' outside loop"),
    "def f():\n  x = 1\n  def g():\n    global x": (7, "`global x` cannot reach .*`f`"),
    "class A:\n  return 1": (5, "'return' outside function"),
    "f(x for x in y, 1)": (4, "Generator expression must be parenthesized"),
    "x = 1\x00": (4, "null"),
    "é = 'ü": (4, "unterminated string"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.items())
def test_what_is_wrong_is_said_at_its_line_of_the_cell(text, told):
    """With the file, the line, a column and the text, so that the caret can be drawn."""
    line, message = told
    with pytest.raises(SyntaxError, match=message) as caught:
        read_body(text, filename=FILENAME, line=4)
    error = caught.value
    assert error.lineno == line
    lines = text.splitlines() or [""]
    assert error.filename == FILENAME
    assert (error.text or "").rstrip("\n") == lines[line - 4]
    assert 1 <= (error.offset or 0) <= len(lines[line - 4]) + 1


def test_a_target_cannot_be_global_in_the_body():
    """Python says so itself."""
    with pytest.raises(SyntaxError, match="parameter and global"):
        read_body("global url", filename=FILENAME, target="url")


def test_a_percent_sign_or_a_question_mark_that_is_no_magic_is_none():
    """Only what Python cannot read is looked at for magics."""
    assert run("x = (7\n%4)\n'''\n%time x\n!ls?\n'''\nx") == 3
    with pytest.raises(SyntaxError) as caught:
        read_body("x = 7 % 4\ny = = 5", filename=FILENAME)
    assert "magic" not in str(caught.value)


def test_the_future_of_this_library_is_not_the_bodys():
    """Annotations are evaluated, as they are in a cell."""
    assert run("def f(a: 1 + 1): pass\nf.__annotations__") == {"a": 2}
    assert sys.version_info < (3, 14)
