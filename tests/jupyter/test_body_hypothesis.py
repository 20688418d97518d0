"""Whatever a body is made of, it does what the same text does in a cell of its own, here and after a journey."""

from __future__ import annotations

import asyncio
import builtins
import gc
import warnings
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aiopool import everywhere
from aiopool._payload import dump_function, load_function
from aiopool.jupyter.magics.body import Body, read_body
from tests.jupyter import bodies as written

missing_from_notebook = st.sets(st.sampled_from("abcdefg"), max_size=3)


def read(text: str) -> Body:
    """The body; one that cannot be written so is no case."""
    try:
        return read_body(text, filename=written.FILENAME, line=written.FIRST_LINE)
    except SyntaxError as error:
        assume("cannot reach" not in str(error))
        raise


def ends(body: Body, function: Any) -> tuple[Any, ...]:
    """How a call of it ends."""

    def run() -> Any:
        value = function()
        return asyncio.run(value) if body.is_async else value

    return written.outcome(run)


@pytest.fixture(autouse=True)
def without_warnings():
    """What hypothesis writes is not always wise: ``1 is 1``, a coroutine that nobody awaits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        # Such a coroutine often lies in a circle: what collects that would warn in whichever test runs then.
        gc.collect()


@given(written.bodies(), missing_from_notebook)
@settings(deadline=None, max_examples=150)
@example("a = 1\nclass K:\n    a = (a, b)\nK.a", set())
@example("def f():\n    global d\n    d = 1\nf()\nd", {"d"})
@example("try:\n    d\nexcept NameError as a:\n    pass\na", {"d"})
@example("for a in []:\n    pass\nelse:\n    del a\na", set())
@example("while True:\n    b = [a for a in b if (c := a)]\n    break\n(a, c)", set())
def test_a_body_does_what_a_cell_does(text, without):
    """The same value, or an exception of the same type at the same line: also once it was pickled."""
    body = read(text)
    wanted = written.outcome(lambda: written.executed(text, written.notebook(without)))
    assert ends(body, body.function(written.notebook(without))) == wanted
    travelled = load_function(dump_function(body.function(written.notebook(without))).data)
    assert ends(body, travelled) == wanted


@given(written.bodies(), missing_from_notebook, st.sets(st.sampled_from(written.NAMES)))
@settings(deadline=None, max_examples=100)
@example("a: int = 1\nclass K:\n    a = (a, b)\nK.a", set(), set())
@example("def f():\n    global d\n    d = 1\nf()\nd", {"d"}, {"d"})
def test_an_all_body_does_what_a_cell_does(text, without, unsure):
    """Also in what it leaves: the names and values of its namespace are those of the cell's."""
    body = read(text)
    cell, start = written.notebook(without), written.notebook(without)
    wanted = written.outcome(lambda: written.executed(text, cell))
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(everywhere, "names", names)
        function = load_function(
            dump_function(body.for_everyone(written.notebook(without), frozenset(unsure), frozenset(unsure))).data
        )
        assert ends(body, function) == wanted
    if wanted[0] == "value":
        # What it did not come to assign is only in the notebook.
        left = {**{name: value for name, value in start.items() if name in cell}, **names}
        for name in body.assigns:
            assert (name in left) == (name in cell)
            assert written.plain(left.get(name)) == written.plain(cell.get(name))
        made = {name for name in body.assigns if name in names and name not in function.brings}
        assert body.leaves.sure <= names.keys()
        assert made <= body.leaves.sure | body.leaves.perhaps
        assert not body.leaves.gone & names.keys()


@given(written.bodies(), missing_from_notebook, st.sets(st.sampled_from(written.NAMES)))
@settings(deadline=None, max_examples=100)
@example("(lambda: a)()\n[b for b in [c]]\nclass K:\n    d = d\n(K.d, max)", {"f"}, {"a", "c", "max"})
@example("if fuel: e += 1\ne", set(), {"e"})
def test_a_name_that_a_worker_lacks_is_the_notebooks(text, without, unsure):
    """Where an ``--all`` cell has perhaps assigned it, and has not here, the body does what a cell does."""
    body = read(text)
    wanted = written.outcome(lambda: written.executed(text, written.notebook(without)))
    function = body.function(written.notebook(without), unsure, unsure)
    travelled = load_function(dump_function(function).data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(everywhere, "names", {})
        assert ends(body, travelled) == wanted


@given(written.bodies(), missing_from_notebook)
@settings(deadline=None, max_examples=100)
def test_two_items_know_nothing_of_each_other(text, without):
    """What one item assigns, the next of the same function does not see."""
    body = read(text)
    namespace = written.notebook(without)
    before = dict(namespace)
    function = body.function(namespace)
    first = ends(body, function)
    # These two are changed in place, as a global of a function may be.
    namespace["fuel"][:] = written.notebook()["fuel"]
    if "b" in namespace:
        namespace["b"][:] = written.notebook()["b"]
    assert ends(body, function) == first
    namespace.pop("__warningregistry__", None)
    assert namespace == before
