"""JSON as a worker reads it, without the module."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool._worker import plain

texts = st.text() | st.sampled_from(["\ud800", "tab\t", 'quote"', "back\\slash"])
told = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(told)
def test_what_the_pool_says_is_read_as_it_was(value):
    """Also numbers without end and halves of characters."""
    assert plain.loads(json.dumps(value).encode()) == value


@given(st.lists(st.tuples(texts, st.integers(), st.integers())))
def test_what_a_worker_says_is_read_as_it_was(value):
    """Lists of names of files and numbers."""
    assert json.loads(plain.dumps(value)) == [list(each) for each in value]


@pytest.mark.parametrize("data", [b"", b"{", b"[1,]", b"\xff", b"nul", b"1 2", b'{"a" 1}'])
def test_what_is_not_json_is_a_value_error(data):
    """As from the module, with its words."""
    with pytest.raises(ValueError, match=r"line 1|codec"):
        plain.loads(data)


def test_white_space_is_read_over():
    """By the module."""
    assert plain.loads(b' {"a": [1 , 2]} ') == {"a": [1, 2]}
