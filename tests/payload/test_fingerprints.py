"""The digest of a function tells an edited one from the same one that was defined, or came, again."""

from __future__ import annotations

import functools
import pickle
import textwrap
import threading

import numpy as np
import pytest

from aiopool._payload import dump_function, load_function
from aiopool._payload.fingerprints import fingerprint

CELL = """
    import functools, json
    from dataclasses import dataclass
    from enum import Enum
    import numpy as np

    KEY, LIMITS, NAMES, WEIGHTS = "abc", {"a": [1, 2]}, {"x", "y", "z"}, np.arange(4.0)
    COUNT = 0

    @dataclass
    class Config:
        path: str
        def full(self):
            return "/" + self.path

    class Colour(Enum):
        RED = 1

    CONFIG = Config("models")

    @functools.lru_cache
    def helper(x):
        return x + 1

    def other(x):
        return json.dumps(KEY), helper(x)

    def opener(default=1):
        global COUNT
        COUNT += 1
        class Inner:
            value = LIMITS
        return other(default), NAMES, WEIGHTS, CONFIG.full(), Colour.RED, [Inner for _ in range(3)]
    """


def defined(source: str, **more: object):
    """Run a cell, and return its ``opener``."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(textwrap.dedent(source), namespace)
    namespace.update(more)
    return namespace["opener"]


def test_a_cell_that_was_run_again_defines_the_same_function():
    """Also when other lines stand above it, and when a name was used in between."""
    first, again = defined(CELL), defined("\n# a comment\n\n" + textwrap.dedent(CELL))
    again()
    assert fingerprint(again).digest == fingerprint(first).digest


def test_a_function_that_travelled_twice_is_the_same():
    """Each job brings it in a pickle of its own; what is changed by running it does not count."""
    fn = defined(CELL)
    data = dump_function(fn).data
    loaded = load_function(data)
    digest = fingerprint(loaded).digest
    loaded()
    assert {fingerprint(load_function(each)).digest for each in (data, dump_function(fn).data)} == {digest}


EDITS = {
    "a global that the body of a class reads": ('"a": [', '"b": ['),
    "its code": ("default), NAMES", "default + 1), NAMES"),
    "a constant": ("range(3)", "range(4)"),
    "a default": ("default=1", "default=2"),
    "a global": ('"abc"', '"abd"'),
    "a value inside a global": ("[1, 2]", "[1, 3]"),
    "a member of a set": ('"z"}', '"w"}'),
    "an array": ("np.arange(4.0)", "np.arange(5.0)"),
    "the type of a number": ("np.arange(4.0)", "np.arange(4)"),
    "an attribute of an object": ('Config("models")', 'Config("data")'),
    "a method of a class": ('"/" + self', '"." + self'),
    "a member of an enum": ("RED = 1", "RED = 2"),
    "a helper": ("x + 1", "x + 2"),
    "what a helper of a helper calls": ("json.dumps(KEY)", "json.loads(KEY)"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_of_what_it_does_makes_it_another_one(edit):
    """Wherever that stands."""
    assert edit[0] in CELL
    assert fingerprint(defined(CELL.replace(*edit))).digest != fingerprint(defined(CELL)).digest


def test_a_variable_of_the_enclosing_function_counts():
    """As a global does."""

    def make(value):
        return lambda: value

    assert fingerprint(make(1)).digest == fingerprint(make(1)).digest
    assert fingerprint(make(1)).digest != fingerprint(make(2)).digest


def test_a_global_that_was_assigned_anew_is_seen_without_hashing_it():
    """Of a helper too, and one that was not there before; not one that the function assigns itself."""
    fn = defined(CELL)
    taken = fingerprint(fn)
    fn()
    assert taken.is_current()
    fn.__globals__["KEY"] = "abd"
    assert not taken.is_current()


def test_what_cannot_be_pickled_counts_by_its_type():
    """Nobody could tell whether it is the same."""
    lock = {"LOCK": threading.Lock()}
    one = fingerprint(defined("def opener():\n    return LOCK", **lock)).digest
    assert one == fingerprint(defined("def opener():\n    return LOCK", LOCK=threading.Lock())).digest
    assert one != fingerprint(defined("def opener():\n    return LOCK", LOCK=threading.RLock())).digest


def test_things_that_hold_each_other_end():
    """A list in itself, a function that calls itself, and a depth that no stack has."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    ring: list[object] = []
    ring.append(ring)
    fingerprint(defined("def opener():\n    return opener, RING, DEEP", RING=ring, DEEP=deep))


def test_it_does_not_matter_which_equal_parts_are_one_object():
    """Of strings and tuples that is up to the interpreter, and a pickle may join or part them."""
    pair = ("a", "b")
    joined = fingerprint(defined("def opener():\n    return P", P=[pair, pair])).digest
    assert joined == fingerprint(defined("def opener():\n    return P", P=[pair, tuple(map(str, pair))])).digest


def test_a_big_array_is_hashed_where_it_is():
    """No copy of it is made."""
    import tracemalloc

    fn = defined("def opener():\n    return WEIGHTS", WEIGHTS=np.zeros(20_000_000 // 8))
    tracemalloc.start()
    try:
        fingerprint(fn)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_importable_things_count_by_their_names():
    """Their code is not looked at: who edits a module of theirs gets new workers."""
    one = fingerprint(defined("def opener():\n    return F, M", F=functools.partial(pickle.loads), M=textwrap)).digest
    assert (
        one
        != fingerprint(defined("def opener():\n    return F, M", F=functools.partial(pickle.load), M=textwrap)).digest
    )
    assert (
        one
        != fingerprint(defined("def opener():\n    return F, M", F=functools.partial(pickle.loads), M=pickle)).digest
    )
