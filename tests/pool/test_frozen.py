"""``@frozen`` makes what ``@dataclass(frozen=True, slots=True)`` makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import ClassVar

import pytest

from aiopool.frozen import frozen


@frozen
class Point:
    """A place."""

    kind: ClassVar[int] = 7
    x: int
    y: float = 0.5

    def doubled(self) -> Point:
        """Twice as far."""
        return Point(self.x * 2, self.y * 2)


@frozen
class Other:
    """The same fields, another thing."""

    x: int
    y: float = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    """What the library makes of the same text."""

    kind: ClassVar[int] = 7
    x: int
    y: float = 0.5


def test_it_takes_its_fields_in_order_or_by_name_and_knows_their_defaults():
    """As the library's does, and an editor is told the same."""
    assert (Point(1).x, Point(1).y, Point(y=2.0, x=1).y) == (1, 0.5, 2.0)
    assert Point.kind == 7
    for wrong in (Point, lambda: Point(1, 2, 3), lambda: Point(1, z=2)):
        with pytest.raises(TypeError, match="__init__"):
            wrong()
    ours, theirs = inspect.signature(Point), inspect.signature(Twin)
    assert ours.parameters == theirs.parameters


def test_it_equals_what_has_the_same_values_and_is_of_the_same_class():
    """A Cancel of job 5 is no Forget of job 5."""
    assert Point(1) == Point(1, 0.5)
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Point(1) != (1, 0.5)
    assert len({Point(1), Point(1), Point(2), Other(1)}) == 3


def test_nobody_changes_a_field_or_adds_one():
    """With the library's own error, which is an AttributeError."""
    point = Point(1)
    for name in ("x", "kind", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(point, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    assert not hasattr(point, "__dict__")


def test_it_shows_itself_travels_and_keeps_its_methods():
    """By pickle and by copy, and its docstring is there."""
    assert repr(Point(1)) == repr(Twin(1)).replace("Twin", "Point")
    assert pickle.loads(pickle.dumps(Point(1))) == copy.deepcopy(Point(1)) == copy.copy(Point(1)) == Point(1)
    assert Point(1, 2.0).doubled() == Point(2, 4.0)
    assert (Point.__doc__, Point.__qualname__, Point.__module__) == ("A place.", "Point", __name__)
    match Point(3):
        case Point(x, y):
            assert (x, y) == (3, 0.5)


def test_what_dataclasses_offers_works_with_it():
    """``replace``, ``asdict``, ``fields``: snapshots are the user's to take apart."""
    point = Point(1)
    assert dataclasses.is_dataclass(point)
    assert dataclasses.replace(point, x=2) == Point(2)
    assert dataclasses.asdict(point) == {"x": 1, "y": 0.5}
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "y"]
    assert [field.default for field in dataclasses.fields(Point)][1] == 0.5
