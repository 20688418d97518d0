"""What a cell does, and a body once did not."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from aiopool._payload import dump_function, load_function
from aiopool.jupyter.magics.body import read_body

FILENAME = "<a cell>"


def run(text: str, item: object, target: str = "x", **names: Any) -> Any:
    """The body's value for an item, after a journey."""
    body = read_body(text, filename=FILENAME, target=target)
    namespace = {"__name__": "__main__", "__builtins__": builtins, **names}
    assert body.missing(namespace) == []
    return load_function(dump_function(body.function(namespace)).data)(item)


def test_a_target_may_be_spelt_in_any_way_that_python_takes_for_the_same_name() -> None:
    """The sign for micro and the Greek letter are one name, as in every other place."""
    micro, mu = "\u00b5", "\u03bc"
    assert micro != mu
    assert run(f"{micro} * 2", 1.5, target=micro) == 3.0
    assert run(f"{mu} * 2", 1.5, target=micro) == 3.0


@pytest.mark.parametrize("change", ["n += x", "n = n + x"])
def test_a_nested_function_may_add_to_a_global(change: str) -> None:
    """It begins with the notebook's value, also where nothing else reads it, and the body sees the sum."""
    bump = f"def bump():\n    global n\n    {change}\nbump()\n"
    assert run(f"{bump}x", 5, n=10) == 5
    assert run(f"{bump}n", 5, n=10) == 15
    assert run(f"n = 1\n{bump}n", 5, n=10) == 6


def test_a_class_may_read_what_python_gives_it() -> None:
    """Its own name and module, and what more this Python knows; the notebook needs no such variable."""
    text = "class A:\n    a: int\n    found = __module__, list(__annotations__)\nA.found"
    assert run(text, 1) == ("__main__", ["a"])
    assert run("class A:\n    class B:\n        name = __qualname__\nA.B.name == A.B.__qualname__", 1) is True
    assert run("def f():\n    class A:\n        name = __qualname__\n    return A\nf().name", 1).endswith("A")
    if sys.version_info >= (3, 12):
        assert len(run("class A[T]:\n    found = __type_params__\nA.found", 1)) == 1
    if sys.version_info >= (3, 13):
        assert run("class A:\n    found = __firstlineno__\nA.found", 1) == 2


def test_elsewhere_than_in_a_class_these_are_names_as_any_other() -> None:
    """A function in a class sees them as little as the class's own variables."""
    for text in ("__qualname__", "class A:\n    def m(self): return __qualname__"):
        (found,) = read_body(text, filename=FILENAME).missing({})
        assert found.name == "__qualname__"


@pytest.mark.parametrize("word", ["else", "elif x"])
@pytest.mark.parametrize("indent", ["", "    "])
def test_a_branch_that_belongs_to_nothing_is_refused(word: str, indent: str) -> None:
    """Also below a body that is indented, where it would belong to what the body is put into."""
    with pytest.raises(SyntaxError, match="invalid syntax") as caught:
        read_body(f"{indent}5\n{word}:\n{indent}    6", filename=FILENAME, line=3)
    assert (caught.value.lineno, caught.value.offset) == (4, 1)
    assert (caught.value.text or "").startswith(word)
