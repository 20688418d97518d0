"""The seconds of items in a row: sent as the moments at which they ended, each worked out when somebody asks."""

from __future__ import annotations

import math
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool._core import frames, wire
from aiopool.errors import FrameError


def results(since: float, ends: list[float], sizes: bytes = b"") -> frames.Results:
    """Of a batch of so many items."""
    count = sum(sizes) or len(ends)
    return frames.Results(1, 2, range(count), frames.InARow(since, ends, sizes), b"values", ())


def there(frame: frames.Results) -> frames.Results:
    """As it arrives."""
    (arrived,) = wire.Parser().feed(b"".join(wire.encode(frame)))
    assert isinstance(arrived, frames.Results)
    return arrived


def calls(do: Callable[[], object]) -> Counter[str]:
    """How many functions, of Python and of C, it calls."""
    counts: Counter[str] = Counter()

    def count(_: object, event: str, __: Any) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(None)
    return counts


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30).map(sorted))
def test_each_has_its_own_seconds_and_all_of_them_what_they_took(moments):
    """By number, from the end, in slices, and one after another."""
    since, *ends = moments
    frame = there(results(since, ends))
    each = [end - begin for begin, end in zip(moments, ends, strict=False)]
    row = frame.seconds
    assert isinstance(row, frames.InARow)
    assert len(row) == len(ends)
    assert list(row) == each == [row[at] for at in range(len(row))]
    assert row[-1] == each[-1]
    assert row[1:] == each[1:]
    assert frame.took == ends[-1] - since
    with pytest.raises(IndexError):
        row[len(ends)]


@given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 255)), min_size=1, max_size=20))
def test_items_of_a_group_have_taken_equal_shares(groups):
    """By number, in slices, and one after another; and all of them what they took."""
    since, ends, each = 5.0, [], []
    for seconds, size in groups:
        before = ends[-1] if ends else since
        ends.append(before + seconds)
        each += [(ends[-1] - before) / size] * size
    frame = there(results(since, ends, bytes(size for _, size in groups)))
    row = frame.seconds
    assert len(row) == len(each)
    assert list(row) == each == [row[at] for at in range(len(row))]
    assert row[3:9] == each[3:9]
    assert frame.took == ends[-1] - since


@given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(0, 20)), min_size=1, max_size=20))
def test_time_between_two_rows_is_nobodys(groups):
    """It is in nobody's seconds, nor in those of all of them. What comes after it may have begun before it."""
    since, ends, each = 5.0, [], []
    for seconds, size in [*groups, (1.0, 1)]:
        ends.append((ends[-1] if ends else since) + seconds)
        each += [seconds / size] * size if size else []
    frame = there(results(since, ends, bytes([*(size for _, size in groups), 1])))
    assert list(frame.seconds) == pytest.approx(each)
    assert len(frame.seconds) == len(each)
    assert frame.took == pytest.approx(sum(each), abs=1e-9)
    back = frames.InARow(9.0, [10.0, 3.0, 4.0], b"\2\0\1")
    assert (list(back), back.total) == ([0.5, 0.5, 1.0], 2.0)


@pytest.mark.parametrize("sizes", [[2, 0], [2, 2], [1], [4, 255]])
def test_groups_that_are_not_those_of_the_items_are_no_frame(sizes):
    """Their sizes do not add up to their number."""
    frame = frames.Results(1, 2, range(3), frames.InARow(1.0, [2.0] * len(sizes), bytes(sizes)), b"values", ())
    with pytest.raises(FrameError, match="in groups"):
        there(frame)


def test_what_they_took_is_known_without_a_look_at_each():
    """The pool's own thread asks with every frame."""

    class Ends(list[float]):
        looked: ClassVar[list[Any]] = []

        def __getitem__(self, at: Any) -> Any:
            self.looked.append(at)
            return super().__getitem__(at)

        def __iter__(self) -> Any:
            raise AssertionError

    many = frames.Results(1, 2, range(4000), frames.InARow(1.0, Ends(range(4000))), b"", ())
    assert many.took == 3998
    assert Ends.looked == [-1]


def test_the_seconds_of_many_are_worked_out_without_python_of_ours_for_each():
    """Where such items are sent together with others."""
    for sizes in (1, 16):
        few, many = (
            frames.InARow(0.0, [float(at) for at in range(size)], bytes([sizes] * size) if sizes > 1 else b"")
            for size in (10, 4000)
        )
        assert calls(lambda row=few: list(row))["call"] == calls(lambda row=many: list(row))["call"]


def test_items_that_are_no_row_take_what_each_took():
    """As coroutines do, that run side by side."""
    frame = there(frames.Results(1, 2, range(3), [0.5, 0.25, 1.0], b"values", ()))
    assert list(frame.seconds) == [0.5, 0.25, 1.0]
    assert frame.took == 1.75


@pytest.mark.parametrize(
    ("since", "ends"),
    [
        (2.0, [3.0, 1.0]),
        (math.nan, [1.0]),
        (1.0, [math.nan]),
        (1.0, [2.0, math.inf]),
        (-2.0, [1.0]),
        (math.inf, [math.inf]),
        (1.0, []),
    ],
)
def test_a_row_that_ends_before_it_began_is_no_frame(since, ends):
    """Nor one that never ends, nor one of nothing."""
    with pytest.raises(FrameError, match="less than no time"):
        there(results(since, ends))


def test_moments_that_are_out_of_order_make_no_negative_seconds():
    """Only the last one is looked at when a frame comes; a broken worker may have put anything before it."""
    row = there(results(1.0, [9.0, math.nan, 2.0, 3.0])).seconds
    assert all(seconds >= 0 for seconds in row)
    assert all(row[at] >= 0 for at in range(len(row)))


def test_a_row_that_is_cut_off_is_no_frame():
    """Moments that its numbers promise are missing."""
    _, *parts = wire.encode(results(1.0, [2.0, 3.0]))
    body = b"".join(parts)[: -len(b"values") - 8 - struct.calcsize("<QQ")]
    header = wire.HEADER.pack(wire.MAGIC, wire.VERSION, frames.Results.kind, len(body))
    with pytest.raises(FrameError, match="before its contents"):
        list(wire.Parser().feed(header + body))
