"""An error in words, as far as Python makes these out of plain values: a ``__str__`` of the user's may do anything."""

from __future__ import annotations

from aiopool._payload.errors_as_data import one_line

PLAIN = (str, int, type(None))
PYTHONS_OWN = (BaseException.__str__, OSError.__str__, KeyError.__str__)


def message(error: BaseException) -> str:
    """What an error says; empty where that would have to be asked of the user's code."""
    args = BaseException.args.__get__(error)  # type: ignore[attr-defined]  # past a property of the user's
    if type(error).__str__ not in PYTHONS_OWN or not all(type(each) in PLAIN for each in args):
        return ""
    try:
        return str(error)
    except ValueError:  # A number of more digits than Python writes.
        return ""


def told(error: BaseException) -> str:
    """An error in a line: its class, and its text where that can be had."""
    return one_line(f"{type(error).__name__}: {message(error)}").removesuffix(":")
