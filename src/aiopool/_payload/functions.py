"""A job's function: pickled in the call, once a job, with all that it reaches and the source lines of that."""

from __future__ import annotations

import functools
import inspect
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiopool._payload import sources
from aiopool._payload.classes import FunctionPickler, new_epoch
from aiopool._payload.culprits import blame_function
from aiopool._payload.tracebacks import without_library_frames
from aiopool.errors import NotPicklable

__all__ = ["FunctionBlob", "dump_function", "load_function"]

_CachedFunction = type(functools.cache(len))


@dataclass(frozen=True, slots=True)
class FunctionBlob:
    """A function on its way: ``data`` for :func:`load_function`, the rest for whoever shows or schedules it.

    ``classes`` are the ids of the classes of cells that come with it; its job's arguments need not bring them again.
    """

    data: bytes
    name: str
    is_async: bool
    classes: frozenset[str] = frozenset()


def dump_function(fn: Callable[..., Any]) -> FunctionBlob:
    """Pickle a function as it is now. A job starts with this: classes of cells are read anew for its arguments too.

    Raises :class:`~aiopool.errors.NotPicklable`, which names the part that cannot travel and says what to write.
    """
    name = name_of(fn)
    known = new_epoch()
    stream = io.BytesIO()
    pickler = FunctionPickler(stream, known)
    try:
        pickler.dump(fn)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        message = blame_function(name, fn, error, lambda part: FunctionPickler(_Sink(), known).dump(part))
        raise NotPicklable(message) from without_library_frames(error)
    lines = pickle.dumps(sources.collect(pickler.files), protocol=5)
    return FunctionBlob(lines + stream.getvalue(), name, is_async(fn), frozenset(pickler.classes))


def load_function(data: bytes) -> Callable[..., Any]:
    """Make the function in a worker, with its globals, classes and source lines."""
    stream = io.BytesIO(data)
    sources.install(pickle.load(stream))  # noqa: S301 - bytes of our own kernel, over an inherited pipe
    function: Callable[..., Any] = pickle.load(stream)  # noqa: S301
    return function


def name_of(fn: Any) -> str:
    """What people call a function: ``fetch``, ``Client.get``, the class of a callable object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None)
    if not isinstance(name, str):
        name = type(fn).__qualname__
    return name.rpartition("<locals>.")[2]


def is_async(fn: Any) -> bool:
    """Whether calling it gives a coroutine: ``async def``, also inside a partial, a cache or a callable object."""
    while isinstance(fn, functools.partial | _CachedFunction):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__wrapped__
    call = inspect.getattr_static(type(fn), "__call__", None)  # How an object of a class with that method is called.
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)


class _Sink:
    """A file for trying whether something can be pickled at all."""

    def write(self, data: Any) -> int:
        return len(data)
