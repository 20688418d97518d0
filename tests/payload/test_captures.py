"""A function that carries a lot along says so, by the name and the size of what it carries."""

from __future__ import annotations

import functools
import warnings

import pytest

from aiopool import _payload as payload
from aiopool._payload import captures
from aiopool._payload.refs import Ref

BIG = "bytes(12_000_000)"


@pytest.fixture(autouse=True)
def as_if_nothing_had_been_told(monkeypatch):
    """Each test hears its own warnings."""
    monkeypatch.setattr(captures, "_warned", set())


def told(function):
    """The warnings that pickling it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        payload.dump_function(function)
    return caught


def test_a_big_global_is_named_with_its_size_and_what_to_write(notebook):
    """The names are enough to find it, the sentence to mend it, and the line is that of the call."""
    notebook.cell(f"table = {BIG}\nsmall = bytes(1000)\ndef f(x): return table, small")
    (warning,) = told(notebook["f"])
    assert warning.category is UserWarning
    assert warning.filename == __file__
    assert str(warning.message) == (
        "`f` uses the global `table` (bytes, 12.0 MB), which is sent to every worker with each job. Make `table` an "
        "argument of the function and put it once (ref = aiopool.get_pool().put(table); "
        "pmap(functools.partial(f, table=ref), data)), or load it in the worker, in a function with "
        "@aiopool.per_worker above it."
    )


def test_what_it_says_to_write_gives_no_warning(notebook, child):
    """And works: in a worker the value stands where the ref was passed."""
    notebook.cell(f"table = {BIG}\ndef f(x, table): return x + len(table)")
    function = functools.partial(notebook["f"], table=Ref(notebook["table"]))
    assert told(function) == []
    assert child.run(function, 1) == [12_000_001]


def test_the_biggest_are_named_first_wherever_they_are_used(notebook):
    """In a helper, a closure, a method of a class of a cell; small ones are left out."""
    notebook.cell(
        """
        small, middle, big, bigger = (bytes(n) for n in (999, 2_000_000, 4_000_000, 6_000_000))
        def helper(): return big, small
        class Scorer:
            def score(self): return middle
        def make(inner):
            def f(x): return inner, helper(), Scorer()
            return f
        f = make(bigger)
        """
    )
    (warning,) = told(notebook["f"])
    assert (
        "`f` uses `inner` of the enclosing function (bytes, 6.0 MB), the global `big` (bytes, 4.0 MB), "
        "the global `middle` (bytes, 2.0 MB), which are sent" in str(warning.message)
    )


def test_it_is_said_once(notebook):
    """A loop over calls repeats nothing; another variable is another matter."""
    notebook.cell(f"table = {BIG}\ndef f(x): return table")
    assert len(told(notebook["f"])) == 1
    assert told(notebook["f"]) == []
    notebook.cell(f"other = {BIG}\ndef f(x): return table, other")
    (warning,) = told(notebook["f"])
    assert "`other`" in str(warning.message)
    assert "`table`" not in str(warning.message)


def test_where_warnings_are_errors_it_is_one_each_time(notebook):
    """The call is refused until the code is mended."""
    notebook.cell(f"table = {BIG}\ndef f(x): return table")
    for _ in range(2):
        with pytest.raises(UserWarning, match="`table`"):
            payload.dump_function(notebook["f"])


def test_what_was_given_on_purpose_is_not_named(notebook):
    """An argument of a partial, the object of a method, a ref: it was written so."""
    notebook.cell(
        f"""
        class Model:
            def __init__(self): self.weights = {BIG}
            def predict(self, x): ...
        def f(x, table): ...
        table = {BIG}
        def g(x): return ref
        """
    )
    notebook.names["ref"] = Ref(notebook["table"])
    assert told(notebook["g"]) == []
    assert told(functools.partial(notebook["f"], table=notebook["table"])) == []
    assert told(notebook["Model"]().predict) == []
