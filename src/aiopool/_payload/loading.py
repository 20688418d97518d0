"""The half of this room that a fresh worker needs: functions and arguments are loaded, plain values dumped.

Without cloudpickle and all that it asks for, which takes longer to import than the rest of a worker: pickles that need
it name it, and it is imported when the first one comes.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiopool._payload.known import parts_of
from aiopool._payload.parcels import Parcel
from aiopool.errors import NotPicklable

__all__ = [
    "PLAIN_TYPES",
    "Classes",
    "dump_shared",
    "is_simple",
    "load_call",
    "load_function",
    "load_item",
    "load_job",
    "load_shared",
    "may_retry",
]

Classes = tuple[type[BaseException], ...]

PLAIN_TYPES: frozenset[type] = frozenset({int, float, bool, str, bytes, type(None)})
"""Values of exactly these types always travel and always load, so they may share a pickle."""

FEW = 16

SHORT = 255
"""Bytes of a text that a pickle has a short form for."""

_NEVER_RETRIED = (NameError, ImportError, SyntaxError, NotPicklable)
"""What fails once fails every time: the code itself is at fault."""

_named: tuple[bytes, Any] = b"", pickle.loads
"""The function of a module that the last call had, and how it came."""

_mro = type.__dict__["__mro__"]  # The plain descriptor: a metaclass may have its own ideas.


def load_function(data: bytes) -> Callable[..., Any]:
    """Make the function in a worker, with its globals, classes and source lines."""
    return load_job(data)[0]


def load_call(data: bytes) -> Callable[..., Any]:
    """The function of a call, of which thousands may follow each other.

    One of a module travels as its name: as long as it bears that it need not be looked up again.
    """
    global _named  # noqa: PLW0603
    known, fn = _named
    if known != data or not _bears_its_name(fn):
        fn = load_job(data)[0]
        if type(fn) is types.FunctionType and _bears_its_name(fn) and _is_named_in(data, fn):
            _named = data, fn
    return cast("Callable[..., Any]", fn)


def _bears_its_name(fn: Any) -> bool:
    module = sys.modules.get(fn.__module__)
    return isinstance(module, types.ModuleType) and vars(module).get(fn.__name__) is fn


def _is_named_in(data: bytes, fn: types.FunctionType) -> bool:
    """Whether it was loaded by its own name. By another one it may have been put there for a while only."""
    module, name = fn.__module__.encode(), fn.__qualname__.encode()
    if fn.__qualname__ != fn.__name__ or max(len(module), len(name)) > SHORT:
        return False
    return b"\x8c%c%b\x94\x8c%c%b\x94\x93" % (len(module), module, len(name), name) in data


def load_job(data: bytes) -> tuple[Callable[..., Any], Classes]:
    """The function, and the classes of the exceptions after which an item may be tried again."""
    stream = io.BytesIO(data)
    lines = pickle.load(stream)  # noqa: S301 - bytes of our own kernel, over an inherited pipe
    arrays: Iterable[Any] = ()
    if type(lines) is tuple:
        number, lines = lines
        arrays = parts_of(number)
    if lines:
        from aiopool._payload import sources  # with the reader of Python files

        sources.install(lines)
    function, classes = pickle.load(stream, buffers=arrays)  # noqa: S301
    return function, (Exception,) if classes is None else classes


def may_retry(error: BaseException, retry_on: Classes) -> bool:
    """Whether an item that raised this may be tried again. Judged as an ``except`` clause does: no user's code is run.

    Never after NameError, ImportError or SyntaxError, nor after a result that cannot travel. That a function or an
    argument could not be loaded is for the caller to know.
    """
    ancestors = _mro.__get__(type(error))
    return any(cls in ancestors for cls in retry_on) and not any(cls in ancestors for cls in _NEVER_RETRIED)


def is_simple(value: object) -> bool:
    """Whether it is a small container of plain values: any pickler would make the same of it, and none would fail."""
    kind = type(value)
    if kind is tuple or kind is list:
        return len(value) <= FEW and PLAIN_TYPES.issuperset(map(type, value))  # type: ignore[arg-type,call-overload]
    if kind is dict:
        return (
            len(value) <= FEW  # type: ignore[arg-type]
            and PLAIN_TYPES.issuperset(map(type, value))  # type: ignore[call-overload]
            and PLAIN_TYPES.issuperset(map(type, value.values()))  # type: ignore[attr-defined]
        )
    return False


def dump_shared(values: list[object]) -> bytes:
    """Plain values together."""
    return pickle.dumps(values, protocol=5)


def load_shared(data: bytes | memoryview) -> list[Any]:
    """What :func:`dump_shared` made. Arguments may be a range, which stands for its numbers."""
    values: list[Any] = pickle.loads(data)  # noqa: S301 - bytes of our own kernel, over an inherited pipe
    return values


def load_item(data: bytes | memoryview | Parcel) -> object:
    """One argument that has its own pickle. Classes of the notebook that are here already stay as they are."""
    if isinstance(data, Parcel):
        return data.load()
    return pickle.loads(data)  # noqa: S301 - bytes of our own kernel, over an inherited pipe
