"""How long the link thread waits for Python's lock while functions run in the main thread.

By default whoever holds the lock is asked to let go of it after five milliseconds
(https://docs.python.org/3/library/sys.html#sys.setswitchinterval). So long it takes until a function hears that it is
cancelled, and until the link thread hands back what has not started, for which a worker without work waits: several
times in a row, at the end of an uneven map. Functions that do next to nothing would be the slower for it.

An interval that is not the default is somebody's will, and stays.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["as_by_default", "sooner"]

P = ParamSpec("P")
T = TypeVar("T")

BY_DEFAULT = 5000
SOON = 500
"""Microseconds: that is how it is kept."""


def sooner(do: Callable[P, T]) -> Callable[P, T]:
    """Have it done while others wait less."""
    return _while(do, BY_DEFAULT, SOON)


def as_by_default(do: Callable[P, T]) -> Callable[P, T]:
    """Have it done, as a part of what is done so, while others wait as ever."""
    return _while(do, SOON, BY_DEFAULT)


def _while(do: Callable[P, T], usual: int, other: int) -> Callable[P, T]:
    @functools.wraps(do)
    def done(*args: P.args, **kwargs: P.kwargs) -> T:
        changed = _change(usual, other)
        try:
            return do(*args, **kwargs)
        finally:
            if changed:
                _change(other, usual)

    return done


def _change(usual: int, other: int) -> bool:
    if round(sys.getswitchinterval() * 1e6) != usual:
        return False
    sys.setswitchinterval(other * 1e-6)
    return True
