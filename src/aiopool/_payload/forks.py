"""Forked children: they share what was mapped, until they end or become another program.

Each gets the one end of a pipe that it has no other use for, as do the children that it forks in turn, and what starts
another program closes it. When the last of them has let go the other end says so. Only in a process that has something
mapped when it forks; what is started without a fork, as workers and most programs are, shares nothing.
"""

from __future__ import annotations

import os
import threading

from aiopool._payload import system
from aiopool._payload.files import identity

__all__ = ["are_looking", "count", "mapped", "mappings", "unmapped"]

MOST_WATCHED = 64
"""So many descriptors at most; further children are there as long as there are any."""

_Watch = tuple[int, tuple[int, int]] | None  # the reading end, and which pipe that is

_forks = 0
_mapped = 0
_made: dict[int, tuple[int, int]] = {}
"""Pipes by the threads that fork just now."""
_watched: dict[int, _Watch] = {}
"""By which fork it was; None where there is no pipe."""


def mapped() -> None:
    """One more mapping, which those who are forked now will share."""
    global _mapped  # noqa: PLW0603
    _mapped += 1


def unmapped() -> None:
    """One less."""
    global _mapped  # noqa: PLW0603
    _mapped -= 1


def mappings() -> int:
    """How many there are in this process."""
    return _mapped


def count() -> int:
    """How often this process has forked."""
    return _forks


def are_looking(since: int) -> bool:
    """Whether there may be children that were forked after that many forks. Any thread, at any line."""
    return any(_is_there(number, watch) for number, watch in list(_watched.items()) if number > since)


def _is_there(number: int, watch: _Watch) -> bool:
    if watch is None:
        there = system.has_children()
    else:
        try:
            # Code of the user's may close what it finds open; another file may have the number now.
            there = identity(watch[0]) != watch[1] or os.read(watch[0], 1) != b""
        except OSError:  # Nothing to read, so there is somebody who could write; or it was closed, and who knows.
            there = True
    # Another thread may have seen the same: only one of them closes it.
    if not there and _watched.pop(number, None) is not None and watch is not None:
        os.close(watch[0])
    return there


def _before() -> None:
    if _mapped and len(_watched) < MOST_WATCHED:
        try:
            _made[threading.get_ident()] = os.pipe()
        except OSError:
            return  # No descriptors left.


def _after_in_parent() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1
    ends = _made.pop(threading.get_ident(), None)
    if ends is not None:
        os.close(ends[1])
        os.set_blocking(ends[0], False)
        _watched[_forks] = ends[0], identity(ends[0])
    elif _mapped:
        _watched[_forks] = None


def _after_in_child() -> None:
    # The writing end stays open, for good. All others are the parent's.
    others = [watch[0] for watch in _watched.values() if watch is not None and _is(watch)]
    ends = _made.pop(threading.get_ident(), None)
    for fd in others if ends is None else [*others, ends[0]]:
        os.close(fd)
    _watched.clear()
    _made.clear()


def _is(watch: tuple[int, tuple[int, int]]) -> bool:
    try:
        return identity(watch[0]) == watch[1]
    except OSError:
        return False


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
