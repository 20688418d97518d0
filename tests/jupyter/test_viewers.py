"""Who looks at a dashboard, as far as a kernel can know."""

from __future__ import annotations

import pytest

from aiopool.jupyter.viewers import UNSEEN, VANISHED, Viewers


class Room:
    """A clock, and whether a cell runs."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.busy = False
        self.viewers = Viewers(lambda: self.busy, lambda: self.time)

    def after(self, seconds: float) -> bool:
        """Whether somebody looks, so much later."""
        self.time += seconds
        return self.viewers.there


@pytest.fixture
def room() -> Room:
    """A dashboard that was just made."""
    return Room()


def test_two_browsers_look_until_both_have_gone(room: Room) -> None:
    """One that is closed or hidden takes nothing from the other, and to say it twice changes nothing."""
    assert room.viewers.note("a", seen=True) is False  # It counted as seen from its making on.
    assert room.viewers.note("b", seen=True) is False
    room.viewers.note("a", seen=False)
    room.viewers.note("a", seen=False)
    assert room.viewers.there
    room.viewers.note("b", seen=False)
    assert not room.viewers.there
    assert room.viewers.note("a", seen=True) is True


def test_it_is_seen_for_a_minute_before_anybody_can_say_so(room: Room) -> None:
    """And no longer, where no browser shows it."""
    assert room.after(UNSEEN - 1)
    assert not room.after(2)


def test_a_browser_that_has_vanished_is_forgotten(room: Room) -> None:
    """Each says again and again that it is there; one that no longer does is gone, and the others are not."""
    for view in "ab":
        room.viewers.note(view, seen=True)
    for _ in range(10):
        assert room.after(VANISHED - 1)
        room.viewers.note("b", seen=True)
    room.viewers.note("b", seen=False)
    assert not room.viewers.there


def test_nobody_is_forgotten_while_a_cell_runs(room: Room) -> None:
    """The kernel may hear nothing then; when it has ended each has as long as ever to say that it is there."""
    room.viewers.note("a", seen=True)
    room.busy = True
    assert all(room.after(VANISHED / 2) for _ in range(20))
    room.busy = False
    assert room.after(VANISHED - 1)
    assert not room.after(2)


def test_a_cell_brings_nobody_back(room: Room) -> None:
    """Who has gone stays gone, whatever runs."""
    room.viewers.note("a", seen=True)
    room.viewers.note("a", seen=False)
    room.busy = True
    assert not room.after(1)
