"""How inputs are shown: short, in one line, and whatever they do to prevent it."""

from __future__ import annotations

import ast
import asyncio
import importlib
import os
from pathlib import Path, PureWindowsPath
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopool.labels import label, literal, make_label

pd: Any = importlib.import_module("pandas")  # Which has no types of its own.


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        ("https://example.org/a", "'https://example.org/a'"),
        (None, "None"),
        ((1, "b"), "(1, 'b')"),
        (Path("/data/in/file.csv"), "file.csv"),
        (PureWindowsPath("c:\\x\\y.txt"), "y.txt"),
        (Path("/"), "/"),
        (Path(), "."),
        (np.zeros((512, 512, 3), np.uint8), "array (512, 512, 3) uint8"),
        (np.float64(2.5), repr(np.float64(2.5))),
        (pd.DataFrame({"a": range(120), "b": 0, "c": 1}), "DataFrame 120x3"),
        (pd.Series([1, 2], dtype="int64"), "Series (2,) int64"),
        ("two\nlines", r"'two\nlines'"),
        ("\x1b[31mred\u202e", r"'\x1b[31mred\u202e'"),
        (b"abc", "b'abc'"),
    ],
)
def test_common_inputs_have_short_labels(value: object, shown: str) -> None:
    """Arrays and tables by their shape, paths by their name, everything else by a short repr."""
    assert label(value) == shown


@pytest.mark.parametrize(
    "value",
    [3, -2.5, True, None, "it's", "two\nlines \udc80", b"a\x00", (1, "b"), [], {"a": [1, (2.5, None)]}, "x" * 390],
)
def test_plain_inputs_are_written_as_in_code(value: object) -> None:
    """In one line of printable characters, from which Python makes the same again."""
    written = literal(value)
    assert ast.literal_eval(written) == value
    assert written.isprintable()


@pytest.mark.parametrize(
    "value",
    [
        Path("2024"), [Path("7")], float("nan"), (float("inf"),), "x" * 500, {"a": "x" * 10**7}, 10**400,
        np.float64(2.5), np.int64(3), type("Seven", (), {"__repr__": lambda _: "7"})(), type("Text", (str,), {})("a"),
        range(3), {1, 2}, os.environ,
    ],
)  # fmt: skip
def test_what_is_not_plain_is_not_written_as_code(value: object) -> None:
    """However much its label looks like a number, or its name like a text."""
    assert literal(value) == ""


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        b"x" * 10**6,
        bytearray(10**6),
        list(range(10**5)),
        dict.fromkeys(range(1000), "y" * 100),
        10**5000,
        os.environ,
        [[[[[[1]]]]]],
        MagicMock(),
        Path("x" * 300),
    ],
    ids=lambda _: "value",
)
def test_a_big_input_has_a_short_label(value: object) -> None:
    """Its beginning and its end are shown."""
    assert 0 < len(label(value)) <= 60


def test_a_long_text_shows_both_ends() -> None:
    """Addresses and paths differ at the end."""
    shown = label("https://example.org/" + "a" * 100 + "/page-17")
    assert shown.startswith("'https://example.org/")
    assert shown.endswith("/page-17'")


def hostile(repr_: Any) -> object:
    """Make a value with this ``__repr__``."""
    return type("Hostile", (), {"__repr__": repr_})()


def _raise(error: BaseException) -> Any:
    raise error


class _Text(str):
    __slots__ = ()

    def isprintable(self) -> bool:
        raise ValueError


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class _Hidden(metaclass=_Meta):
    def __repr__(self) -> str:
        raise RuntimeError


class _Shape:
    @property
    def shape(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [
        hostile(lambda self: _raise(ValueError("no"))),
        hostile(lambda self: _raise(SystemExit())),
        hostile(lambda self: _raise(asyncio.CancelledError())),
        hostile(lambda self: _raise(GeneratorExit())),
        hostile(lambda self: 3),
        hostile(lambda self: "line\nline\r\x00\x1b[2J\udc80" * 3),
        hostile(lambda self: "x" * 10**6),
        hostile(repr),
        hostile(lambda self: _Text("text")),
        _Hidden(),
        _Shape(),
    ],
    ids=lambda _: "value",
)
def test_no_repr_can_break_a_label(value: object) -> None:
    """Whatever it raises or returns, there is one short printable line."""
    for shown in (label(value), make_label(repr)(value)):
        assert shown.isprintable()
        assert 0 < len(shown) <= 120
        assert type(shown) is str


@given(st.recursive(st.text() | st.binary() | st.floats() | st.integers(), st.lists))
@settings(max_examples=200, deadline=None)
def test_every_label_is_one_short_printable_line(value: object) -> None:
    """For any plain value."""
    shown = label(value)
    assert shown.isprintable()
    assert 0 < len(shown) <= 60


def test_a_label_function_of_the_users_is_used() -> None:
    """Made one line and shortened as well."""
    own = make_label(lambda item: item["name"])  # type: ignore[index]
    assert own({"name": "alpha", "password": "secret"}) == "alpha"
    assert own({"name": "a\nb"}) == r"a\nb"
    assert len(own({"name": "x" * 1000})) == 120
    assert own({"name": 17}) == "17"
    assert make_label(None) is label


def test_a_label_function_that_fails_reveals_nothing() -> None:
    """It may be there to hide a secret; the type is all that is shown then."""
    own = make_label(lambda item: item["name"])  # type: ignore[index]
    assert own({"password": "secret"}) == "<dict>, label= raised KeyError"
