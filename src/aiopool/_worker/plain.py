"""JSON without the module ``json``, whose patterns take a fresh worker a millisecond to compile.

The same C code does it as always, and the module comes in where there is something wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_make_scanner: Any
_quoted: Any
try:
    from _json import encode_basestring_ascii as _quoted
    from _json import make_scanner as _make_scanner
except ImportError:  # of another Python
    from json import dumps as _quoted

    _make_scanner = None

__all__ = ["dumps", "loads"]


class _AsUsual:
    """What ``json.JSONDecoder`` tells its scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


_scan = None if _make_scanner is None else _make_scanner(_AsUsual)


def loads(data: bytes | bytearray | memoryview) -> Any:
    """What ``json.dumps(...).encode()`` was made of; ValueError where it is not that."""
    text = str(data, "utf-8")
    if _scan is not None:
        try:
            value, end = _scan(text, 0)
        except (StopIteration, SystemError):
            # The latter up to Python 3.11, which does not import the exception that it would raise.
            end = -1
        if end == len(text):
            return value
    # White space, or what is wrong with it.
    import json

    return json.loads(text)


def dumps(value: str | int | Sequence[Any]) -> str:
    """A text of whole numbers, texts and lists of them."""
    if isinstance(value, str):
        return str(_quoted(value))
    return f"[{','.join(map(dumps, value))}]" if isinstance(value, list | tuple) else str(value)
