"""Which names there are in the workers after an ``--all`` cell has run there. No pool, no notebook."""

from __future__ import annotations

import ast

import pytest

from aiopool.jupyter.magics.defined import Defined
from aiopool.jupyter.magics.leaves import Known, Leaves
from aiopool.jupyter.magics.names import names_of


class Pool:
    """Something that names are noted of."""


def leaves(text: str) -> Leaves:
    """What a body leaves, whose last expression is its value."""
    statements = ast.parse(text).body
    last = statements[-1]
    if isinstance(last, ast.Expr):
        statements[-1] = ast.copy_location(ast.Return(last.value), last)
    return names_of(statements).leaves


LEAVES = {
    # what is there on every way
    "x = 1": ("x", ""),
    "import x.y\ndef f(): pass\nclass A: z = 1": ("x f A", ""),
    "x: int = 1\ny: int": ("x", ""),
    "if a: x = 1\nelse: x = 2\nx": ("x", ""),
    "if a: return 1\nx = 1": ("", "x"),
    "x = 1\nif a: return x\ny = 1\ny": ("x", "y"),
    "try: import x\nexcept ImportError: x = None": ("x", ""),
    "try: import x\nexcept ImportError: raise": ("x", ""),
    "with a as x: y = 1": ("x y", ""),
    "global x\nx = 1": ("x", ""),
    # on some
    "if a: x = 1": ("", "x"),
    "for x in a: y = 1": ("", "x y"),
    "def f():\n  global x\n  x = 1": ("f", "x"),
    "match a:\n  case [x]: pass": ("", "x"),
    "try: import x\nexcept ImportError as e: print(e)": ("", "x"),
    "if a: del x\nelse: x = 1": ("", "x"),
    "x = 1\nif a: return\ndel x": ("", "x"),
    # on none
    "try: a()\nexcept E as e: pass": ("", ""),
    "try: a()\nexcept E as e: x = e\nelse: x = 1": ("x", ""),
    "x: int": ("", ""),
    "x = 1\ny = x\ndel x": ("y", ""),
    "del x, y": ("", ""),
    "[x for x in a]": ("", ""),
    "raise E": ("", ""),
    # the same name, twice
    "e = 1\ntry: a()\nexcept E as e: pass": ("", "e"),
    "x = 1\ndel x\nx = 2": ("", "x"),
}


@pytest.mark.parametrize(("text", "names"), LEAVES.items())
def test_a_body_leaves(text: str, names: tuple[str, str]) -> None:
    """What is assigned on every way through it, what only on some; and nothing that is gone at its end."""
    found = leaves(text)
    assert (found.sure, found.perhaps) == tuple(frozenset(each.split()) for each in names)


def test_what_workers_have_depends_on_all_cells_so_far() -> None:
    """A cell may delete what another one has defined, surely or not, and may define perhaps what is there anyway."""
    known = leaves("a = b = c = d = 1").after({}, "first")
    known = leaves("del a\nif x: del b\nif x: c = 2\nif x: e = 1").after(known, "second")
    assert known == {
        "b": Known("first", is_sure=False),
        "c": Known("second", is_sure=True),
        "d": Known("first", is_sure=True),
        "e": Known("second", is_sure=False),
    }


def test_a_cell_that_has_begun_counts_until_it_fails() -> None:
    """In the order in which they began, whichever ends first."""
    defined, pool = Defined(), Pool()
    one, other, third = (defined.next_number() for _ in range(3))
    defined.begin(pool, one, leaves("a = b = 1"), "one")
    defined.begin(pool, other, leaves("b = c = 1"), "other")
    defined.begin(pool, third, leaves("d = 1"), "third")
    everything = {"a": "one", "b": "other", "c": "other", "d": "third"}
    assert defined.of(pool) == everything
    assert defined.pending(pool) == {one, other, third}
    defined.note(pool, other)
    assert defined.of(pool) == everything
    assert defined.pending(pool) == {one, third}
    defined.note_failure(pool, third)
    assert defined.of(pool) == {"a": "one", "b": "other", "c": "other"}
    assert defined.cell_of("d") is None
    defined.note_failure(pool, one)
    assert defined.of(pool) == {"b": "other", "c": "other"}
    assert defined.failed(pool) == {one, third}
    assert defined.cell_of("b") == "other"
    assert not defined.pending(pool)


def test_an_edition_takes_the_place_of_one_whose_names_it_defines() -> None:
    """Not where it only may define them: workers that start later would lack what others have."""
    defined, pool = Defined(), Pool()
    texts = ("x = 1", "x = y = 1", "x = 1\nif a: y = 1", "x = 1\nif a: y = 2", "x = y = 1", "y = 1")
    editions = [defined.edition(pool, "cell", leaves(text)) for text in texts]
    assert editions == ["cell 0", "cell 0", "cell 1", "cell 1", "cell 1", "cell 2"]
    assert defined.edition(pool, "cell", leaves("print()")) == ""
    assert defined.edition(pool, "", leaves("x = 1")) == ""
