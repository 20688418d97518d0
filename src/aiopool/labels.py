"""How an input is shown: short, on one line, and never an error of its own."""

from __future__ import annotations

import cmath
import reprlib
import threading
from collections.abc import Callable
from pathlib import Path, PurePath

__all__ = ["is_plain", "label", "literal", "make_label"]

LIMIT = 60
OWN_LIMIT = 120
LITERAL = 400

PLAIN = frozenset((str, bytes, bool, float, complex, type(None), *map(type, (PurePath(), Path()))))
LONG_NUMBER = 256
MOST_PARTS = 16

_short = reprlib.Repr()
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = LIMIT


def label(value: object) -> str:
    """A short text for a value: ``'https://…'``, ``DataFrame 120x3``, ``array (512, 512, 3) uint8``, a file's name.

    Whatever the value's ``__repr__`` does, this returns a text, without control characters.
    """
    try:
        return _clip(_told(value), LIMIT)
    except BaseException as error:  # noqa: BLE001 - a __repr__ may do anything
        _unless_interrupted(error)
        return _kind(value)


def is_plain(value: object, depth: int = 3) -> bool:
    """Whether :func:`label` of this runs no code of a user's, and takes no time: text, numbers, paths, a few of them.

    Told by the exact types: a subclass may have a ``__repr__`` of its own.
    """
    kind = type(value)
    if kind in PLAIN:
        return True
    if kind is int:
        return int.bit_length(value) <= LONG_NUMBER  # type: ignore[arg-type]  # just seen
    if not depth:
        return False
    if kind is tuple or kind is list:
        return len(value) <= MOST_PARTS and all(is_plain(each, depth - 1) for each in value)  # type: ignore[arg-type, attr-defined]
    if kind is dict:
        pairs = list(value.items()) if len(value) <= MOST_PARTS else [(value, value)]  # type: ignore[arg-type, attr-defined]
        return len(pairs) < MOST_PARTS and all(is_plain(each, depth - 1) for pair in pairs for each in pair)
    return False


def literal(value: object) -> str:
    """A plain value as it is written in code, in one line that is not long; empty for all others.

    Text, numbers, None, and tuples, lists and dicts of such: nothing for which something has to be imported.
    """
    if not is_plain(value) or _length(value) > LITERAL or not _is_written_as_shown(value):
        return ""
    text = repr(value)
    return text if len(text) <= LITERAL else ""


def _is_written_as_shown(value: object) -> bool:
    """Whether the ``repr`` of a plain value is the code for it: not that of a path, nor of what is no number.

    Not tried out with :mod:`ast`: on Python 3.11 a parser in one thread can break that of another, and the kernel's
    parses while it shows a traceback.
    """
    if isinstance(value, dict):
        return all(_is_written_as_shown(each) for pair in value.items() for each in pair)
    if isinstance(value, tuple | list):
        return all(map(_is_written_as_shown, value))
    if isinstance(value, float | complex):
        return cmath.isfinite(value)
    return not isinstance(value, PurePath)


def _length(value: object) -> int:
    """About how long the ``repr`` of a plain value is at least, without making it: of a text it may take long."""
    if isinstance(value, dict):
        return sum(_length(each) for pair in value.items() for each in pair)
    if isinstance(value, tuple | list):
        return sum(map(_length, value))
    return len(value) if isinstance(value, str | bytes) else 1


def make_label(user: Callable[[object], str] | None) -> Callable[[object], str]:
    """How items are shown with the option ``label=user``.

    Where the user's function fails, only the item's type is shown: the function may be there to hide a secret.
    """
    if user is None:
        return label

    def own(value: object) -> str:
        try:
            return _clip(str(user(value)), OWN_LIMIT)
        except BaseException as error:  # noqa: BLE001 - and so may this
            _unless_interrupted(error)
            return f"{_kind(value)}, label= raised {_clip(type(error).__name__, LIMIT)}"

    return own


def _told(value: object) -> str:
    kind = type(value)
    if isinstance(value, PurePath):
        return value.name or str(value)
    if isinstance(value, bytes | bytearray):
        # reprlib would make the whole text first.
        return repr(value) if len(value) <= LIMIT // 2 else f"{value[: LIMIT // 4]!r}... {len(value):,} bytes"
    # Asked of the type, because a mock or a lazy object has every attribute.
    if hasattr(kind, "shape"):
        shape = value.shape  # type: ignore[attr-defined]  # just seen
        if isinstance(shape, tuple) and shape:
            name = kind.__name__
            if name == "DataFrame":
                return f"{name} {'x'.join(map(str, shape))}"
            dtype = f" {value.dtype}" if hasattr(kind, "dtype") else ""  # type: ignore[attr-defined]  # just seen
            return f"{'array' if name == 'ndarray' else name} {shape}{dtype}"
    return _short.repr(value)


def _clip(text: str, limit: int) -> str:
    """The text in one line of printable characters; from a long one the middle is left out."""
    if len(text) > limit:
        tail = (limit - 3) // 3
        text = f"{text[: limit - 3 - tail]}...{text[-tail:]}"
    if text.isprintable():
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def _kind(value: object) -> str:
    """The type alone, read where no metaclass can interfere."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return f"<{_clip(name, LIMIT - 2)}>"


def _unless_interrupted(error: BaseException) -> None:
    """Raise an interrupt on. Labels are made on other threads, where a KeyboardInterrupt is the ``__repr__``'s own."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
