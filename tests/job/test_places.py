"""Each value is in its place, in whatever order values come, also beyond the places that were made at first."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool._runtime import shelf
from aiopool._runtime.shelf import EMPTY, Shelf


@st.composite
def parts(draw: st.DrawFn) -> list[list[int]]:
    """A number of items, in runs and in loose handfuls, in any order."""
    count = draw(st.integers(0, 60))
    cuts = sorted(draw(st.sets(st.integers(1, max(count - 1, 1)))))
    runs = [list(range(a, b)) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    runs = [draw(st.permutations(run)) if len(run) > 1 and draw(st.booleans()) else run for run in runs]
    return [list(run) for run in draw(st.permutations(runs))]


@given(parts(), st.integers(0, 70), st.booleans())
def test_each_value_is_in_its_place(runs: list[list[int]], places: int, sized: bool) -> None:  # noqa: FBT001
    """Those that have come, and nothing in the places of others; of an input with a length, and without."""
    count = sum(map(len, runs))
    with mock.patch.object(shelf, "PLACES", places):
        store = Shelf(count if sized else None)
    came: dict[int, str] = {}
    for run in runs:
        items = range(run[0], run[-1] + 1) if run and run == list(range(run[0], run[-1] + 1)) else run
        store.put(items, [f"value {index}" for index in run], 10)
        came |= {index: f"value {index}" for index in run}
        assert [store.look(index) for index in range(count)] == [came.get(index, EMPTY) for index in range(count)]
    first, values = store.all(count)
    assert (first, values) == (0, [f"value {index}" for index in range(count)])
    for index in range(count):
        assert store.take(index) == f"value {index}"
    assert store.released == pytest.approx(0 if sized else 10 * sum(1 for run in runs if run))
