"""A job's function: pickled in the call, once a job, with all that it reaches and the source lines of that.

The exception classes that its job retries travel in the same pickle: in the worker they are the very classes that the
function raises, also where both come from a cell.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiopool._payload import sources
from aiopool._payload.captures import LARGE, warn_of_captures
from aiopool._payload.classes import Definitions, FunctionPickler, new_epoch
from aiopool._payload.culprits import blame_function, blame_retry_on, vain_in_function
from aiopool.errors import NotPicklable

__all__ = ["FunctionBlob", "dump_function", "load_function", "load_job", "may_retry"]

Classes = tuple[type[BaseException], ...]

_NEVER_RETRIED = (NameError, ImportError, SyntaxError, NotPicklable)
"""What fails once fails every time: the code itself is at fault."""

_CachedFunction = type(functools.cache(len))
_mro = type.__dict__["__mro__"]  # The plain descriptor: a metaclass may have its own ideas.


@dataclass(frozen=True, slots=True)
class FunctionBlob:
    """A function on its way: ``data`` for :func:`load_job`, the rest for whoever shows or schedules it.

    ``classes`` are the ids of the classes of cells that come with it; its job's arguments need not bring them again.
    """

    data: bytes
    name: str
    is_async: bool
    classes: frozenset[str] = frozenset()


def dump_function(fn: Callable[..., Any], retry_on: Sequence[type[BaseException]] | None = None) -> FunctionBlob:
    """Pickle a function as it is now. A job starts with this: classes of cells are read anew for its arguments too.

    Raises :class:`~aiopool.errors.NotPicklable`, which names the part that cannot travel and says what to write.
    """
    name = name_of(fn)
    known = new_epoch()
    stream = io.BytesIO()
    pickler = FunctionPickler(stream, known)
    classes = None if retry_on is None else tuple(retry_on)
    try:
        pickler.dump((fn, classes))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        refusal = _blame(name, fn, classes, error, known)
        raise refusal from refusal.__cause__
    if pickler.in_vain and (in_vain := vain_in_function(name, fn)) is not None:
        raise in_vain
    if stream.tell() > LARGE:
        warn_of_captures(name, fn, lambda part: _size(part, known))
    lines = pickle.dumps(sources.collect(pickler.files), protocol=5)
    return FunctionBlob(lines + stream.getvalue(), name, is_async(fn), frozenset(pickler.classes))


def _blame(name: str, fn: object, classes: Classes | None, error: BaseException, known: Definitions) -> NotPicklable:
    def try_part(part: object) -> None:
        FunctionPickler(_Sink(), known).dump(part)

    if classes is not None:
        try:
            try_part(fn)
        except BaseException as its_own:  # noqa: BLE001 - that is the question
            return blame_function(name, fn, its_own, try_part)
        return blame_retry_on(classes, error, try_part)
    return blame_function(name, fn, error, try_part)


def load_function(data: bytes) -> Callable[..., Any]:
    """Make the function in a worker, with its globals, classes and source lines."""
    return load_job(data)[0]


def load_job(data: bytes) -> tuple[Callable[..., Any], Classes]:
    """The function, and the classes of the exceptions after which an item may be tried again."""
    stream = io.BytesIO(data)
    sources.install(pickle.load(stream))  # noqa: S301 - bytes of our own kernel, over an inherited pipe
    function, classes = pickle.load(stream)  # noqa: S301
    return function, (Exception,) if classes is None else classes


def may_retry(error: BaseException, retry_on: Classes) -> bool:
    """Whether an item that raised this may be tried again. Judged as an ``except`` clause does: no user's code is run.

    Never after NameError, ImportError or SyntaxError, nor after a result that cannot travel. That a function or an
    argument could not be loaded is for the caller to know.
    """
    ancestors = _mro.__get__(type(error))
    return any(cls in ancestors for cls in retry_on) and not any(cls in ancestors for cls in _NEVER_RETRIED)


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


def _size(part: object, known: Definitions) -> int:
    sink = _Sink()
    FunctionPickler(sink, known).dump(part)
    return sink.size


class _Sink:
    """A file for trying whether something can be pickled at all, and how big that is."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes  # Big arrays come as a PickleBuffer, which has no length.
        self.size += size
        return size
