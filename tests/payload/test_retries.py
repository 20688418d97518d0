"""Which errors may be tried again: the classes of ``retry_on`` travel with the function, and are the ones it raises."""

from __future__ import annotations

import abc
import asyncio
from typing import Self

import pytest

from aiopool import _payload as payload
from aiopool.errors import NotPicklable


def judged(child, function, value, retry_on=None):
    """Whether the job's ``retry_on``, as the worker has it, matches what the function raises there."""
    child.get("load", payload.dump_function(function, retry_on).data)
    return child.get("judge", value)


def test_a_class_of_a_cell_is_the_one_that_the_function_raises(notebook, child):
    """Only one pickle makes them the same: function and class are known to each other, and to subclasses."""
    notebook.cell(
        """
        class Flaky(Exception): ...
        class VeryFlaky(Flaky): ...
        class Other(Exception): ...
        def f(x): raise {1: Flaky, 2: VeryFlaky, 3: Other}[x]("again")
        """
    )
    assert [judged(child, notebook["f"], x, (notebook["Flaky"],)) for x in (1, 2, 3)] == [True, True, False]


def test_a_class_of_a_cell_that_the_function_does_not_name_is_that_of_its_inputs(notebook, child):
    """A method of an input raises it: three pickles, one class."""
    notebook.cell(
        """
        class Flaky(Exception): ...
        class Page:
            def get(self): raise Flaky("again")
        def f(page): return page.get()
        """
    )
    blob = payload.dump_function(notebook["f"], (notebook["Flaky"],))
    child.get("load", blob.data)
    (encoded,) = payload.dump_items([notebook["Page"]()], blob).blobs
    assert child.get("judge_item", encoded)


def test_without_retry_on_every_exception_is_one_to_try_again_after(notebook, child):
    """The default is Exception; what ends a process is none."""
    notebook.cell("import asyncio\ndef f(x): raise {1: ValueError, 2: SystemExit, 3: asyncio.CancelledError}[x]")
    assert [judged(child, notebook["f"], x) for x in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize("code", ["missing_name", "import no_such_module", "compile('1 +', 'x', 'exec')"])
def test_a_mistake_in_the_code_is_never_tried_again(code, notebook, child):
    """A misspelt name fails a thousand times in the same way, also when everything is to be tried again."""
    notebook.cell(f"def f(x): {code}")
    assert not judged(child, notebook["f"], 1, (BaseException,))


def test_a_result_that_cannot_travel_is_never_tried_again():
    """The next attempt would return the same kind of thing."""
    assert not payload.may_retry(NotPicklable("no"), (Exception,))


def test_no_code_of_the_users_runs_while_it_is_judged():
    """As in an ``except`` clause: a class with opinions about its instances is not asked."""

    class Meta(abc.ABCMeta):
        def __instancecheck__(cls, _: object) -> bool:
            raise SystemExit

        def __subclasscheck__(cls, _: object) -> bool:
            raise SystemExit

    class Strange(Exception, metaclass=Meta):
        def __getattribute__(self, name: str) -> object:
            raise SystemExit

    assert payload.may_retry(Strange(), (ValueError, Strange))
    assert not payload.may_retry(ValueError(), (Strange,))


def test_an_exception_class_that_cannot_travel_is_named(notebook):
    """Not the function is to blame, but what stands in ``retry_on``."""
    notebook.cell(
        """
        import threading
        class Flaky(Exception):
            lock = threading.Lock()
        def f(x): ...
        """
    )
    with pytest.raises(NotPicklable) as caught:
        payload.dump_function(notebook["f"], (ValueError, notebook["Flaky"]))
    assert str(caught.value).startswith(
        "`retry_on` holds a value at [1], which has the attribute `lock` (_thread.lock), which cannot travel"
    )


TOLD = {
    "an error": (ValueError("boom"), "ValueError: boom"),
    "without a text": (ValueError(), "ValueError"),
    "several lines": (ValueError("a\n  b\tc"), "ValueError: a b c"),
    "what is not for terminals": (ValueError("\x1b[31mred\udc80"), "ValueError: \\x1b[31mred\\udc80"),
    "an exit": (asyncio.CancelledError("gone"), "asyncio.exceptions.CancelledError: gone"),
}


@pytest.mark.parametrize("kind", TOLD)
def test_an_error_as_data_is_told_in_one_line(kind):
    """For a line under a cell: type and text, nothing that moves a cursor."""
    error, line = TOLD[kind]
    assert payload.told(payload.dump_error(error)) == line


def test_a_long_error_is_told_in_200_characters():
    """Its beginning says what it is."""
    line = payload.told(payload.dump_error(ValueError("x" * 1000)))
    assert line == "ValueError: " + "x" * 185 + "..."
    assert len(payload.told(payload.dump_error(ValueError("\x00" * 1000)))) == 200


def test_telling_an_error_runs_no_code_of_the_users():
    """Its type is not made again; a line under a cell must not have effects."""
    data = payload.dump_error(Loud("boom"))
    Loud.made = 0
    assert payload.told(data) == "tests.payload.test_retries.Loud: boom"
    assert Loud.made == 0


class Loud(Exception):
    """Counts how often one is made."""

    made = 0

    def __new__(cls, *args: object) -> Self:
        """As any other."""
        cls.made += 1
        return super().__new__(cls, *args)


def test_damaged_data_is_told_too():
    """The line is for display; it never raises."""
    assert payload.told(b"no pickle").startswith("an error that cannot be read: ")
