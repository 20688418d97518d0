"""Arguments: plain ones together, each other one by itself, and what cannot travel costs itself alone."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import pathlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiopool import _payload as payload
from aiopool.errors import NotPicklable


class Level(int):
    """Not exactly an int, so it has a pickle of its own."""


class Refusing:
    """Cannot travel, and says why."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self):
        raise self.error


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
own = st.one_of(
    st.lists(plain, max_size=3),
    st.tuples(plain, plain),
    st.dictionaries(st.text(max_size=3), plain, max_size=3),
    st.frozensets(st.integers(), max_size=3),
    st.builds(Level, st.integers()),
    st.dates(),
    st.decimals(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.builds(pathlib.PurePosixPath, st.sampled_from("abc")),
)
refused = st.builds(Refusing, st.sampled_from([ValueError("no"), SystemExit(3), RecursionError(), StopIteration(1)]))


@settings(deadline=None)
@given(st.lists(st.one_of(plain, own, refused), max_size=20))
@example([])
@example([True, 1, 1.0, "1", b"1", None])
@example([Level(1)])
def test_every_value_is_in_exactly_one_place(values):
    """Shared in order, or own at its position, or refused with its position: and equal and of the same type after."""
    encoded = payload.dump_items(values)
    blobs = encoded.blobs or (None,) * len(values)
    refusals = dict(encoded.refused)
    shared = iter(payload.load_shared(encoded.shared))
    for position, (value, blob) in enumerate(zip(values, blobs, strict=True)):
        if isinstance(value, Refusing):
            assert blob is None
            assert isinstance(refusals[position], NotPicklable)
        else:
            assert position not in refusals
            assert (blob is None) == (type(value) in payload.PLAIN_TYPES or type(value) is tuple)
            got = next(shared) if blob is None else payload.load_item(memoryview(blob))
            assert got == value
            assert type(got) is type(value)
    assert list(shared) == []


@settings(deadline=None)
@given(st.lists(plain, max_size=20))
def test_plain_values_make_one_pickle(values):
    """Nothing is looked at one by one."""
    encoded = payload.dump_items(tuple(values))
    assert encoded.shared == payload.dump_shared(values)
    assert not encoded.blobs


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("not today"), "ValueError: not today"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(7), "StopIteration: 7"),
        (TypeError("cannot pickle 'thing' object"), ""),
    ],
)
def test_a_refusal_keeps_its_real_message(error, said):
    """Whatever a user's ``__reduce__`` raises is this item's refusal, caused by that."""
    values = [1, Refusing(error), {"a": Refusing(error)}, "x"]
    encoded = payload.dump_items(values)
    assert [position for position, _ in encoded.refused] == [1, 2]
    assert payload.load_shared(encoded.shared) == [1, "x"]
    first, second = (refusal for _, refusal in encoded.refused)
    colon = f": {said}" if said else ""
    name = f"{__name__}.Refusing"
    advice = "Pass what it is made from (a path, a URL, plain values), and create it inside the function."
    assert str(first) == f"the input ({name}) cannot travel to another process{colon}. {advice}"
    assert str(second) == (
        f"the input (dict) holds, under the key 'a', a value ({name}), which cannot travel to another "
        f"process{colon}. {advice}"
    )
    assert first.__cause__ is error


def test_an_interrupt_is_nobodys_refusal():
    """Stop stops the pickling."""
    with pytest.raises(KeyboardInterrupt):
        payload.dump_items([Refusing(KeyboardInterrupt())])


def test_advice_fits_the_thing(notebook):
    """A generator, a file, a coroutine, a lock: each with what to write instead."""
    notebook.cell(
        """
        import threading
        async def co(): ...
        async def agen(): yield 1
        file = open("/dev/null")
        coroutine = co()
        things = [(i for i in "ab"), agen(), coroutine, file, threading.Lock()]
        """
    )
    with notebook["file"]:
        refusals = [str(error) for _, error in payload.dump_items(notebook["things"]).refused]
        notebook["coroutine"].close()
    endings = (
        "list(...).",
        "[x async for x in ...].",
        "Or await it first.",
        "inside the function.",
        "@aiopool.per_worker.",
    )
    assert len(refusals) == len(endings)
    for refusal, ending in zip(refusals, endings, strict=True):
        assert refusal.endswith(ending)


def test_a_deep_value_is_refused_and_the_next_one_travels():
    """200,000 lists in each other end no process."""
    deep = []
    for _ in range(200_000):
        deep = [deep]
    encoded = payload.dump_items([deep, 1])
    assert "nested too deeply" in str(encoded.refused[0][1])
    assert payload.load_shared(encoded.shared) == [1]


def test_usual_values_of_the_standard_library_travel(notebook, child):
    """There and back, equal and of the same type."""
    Color = enum.Enum("Color", "RED GREEN", module=__name__)  # noqa: N806
    globals()["Color"] = Color
    values = [
        pathlib.Path("a/b"),
        dt.datetime.now(dt.UTC),
        decimal.Decimal("1.10"),
        collections.OrderedDict(a=1),
        collections.Counter("abca"),
        collections.deque([1, 2], maxlen=3),
        collections.defaultdict(list, a=[1]),
        range(3),
        slice(1, 2),
        bytearray(b"abc"),
        {1: {2: (3, [4, {5}])}},
        ...,
        NotImplemented,
        int,
        len,
        type(None),
        1j,
    ]
    notebook.cell("def f(x): return x")
    back = child.run(notebook["f"], *values)
    assert back == values
    assert list(map(type, back)) == list(map(type, values))


def test_numpy_arrays_and_frames_travel(notebook, child):
    """As they are, inside containers too."""
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    notebook.cell("def f(x): return x")
    array, frame = child.run(notebook["f"], np.arange(12).reshape(3, 4), pd.DataFrame({"a": [1, 2]}))
    assert array.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert frame.equals(pd.DataFrame({"a": [1, 2]}))
