"""A job's function: pickled in the call, once a job, with all that it reaches and the source lines of that.

The exception classes that its job retries travel in the same pickle: in the worker they are the very classes that the
function raises, also where both come from a cell.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cloudpickle import cloudpickle as innards

from aiopool._payload import sources
from aiopool._payload.captures import LARGE, warn_of_captures
from aiopool._payload.classes import Definitions, FunctionPickler, end_epoch, new_epoch
from aiopool._payload.culprits import blame_function, blame_retry_on, vain_in_function
from aiopool._payload.loading import Classes
from aiopool._payload.puts import Flat, Store, Stored
from aiopool.errors import NotPicklable

__all__ = ["FunctionBlob", "dump_function", "is_async", "name_of"]

BIG = 1_000_000
"""Bytes of an array from which on it is put by itself where a function uses it."""

_CachedFunction = type(functools.cache(len))


@dataclass(frozen=True, slots=True)
class FunctionBlob:
    """A function on its way: ``data`` for :func:`load_job`, the rest for whoever shows or schedules it.

    ``classes`` are the ids of the classes of cells that come with it; its job's arguments need not bring them again.
    It names what was put, ``refs``, as which its big arrays count, too.
    """

    data: bytes
    name: str
    is_async: bool
    classes: frozenset[str] = frozenset()
    refs: tuple[Stored, ...] = ()


def dump_function(
    fn: Callable[..., Any], retry_on: Sequence[type[BaseException]] | None = None, store: Store | None = None
) -> FunctionBlob:
    """Pickle a function as it is now. A job starts with this: classes of cells are read anew for its arguments too.

    Big arrays that it uses are put in the ``store``, where there is one: copied once, and not for each worker.

    Raises :class:`~aiopool.errors.NotPicklable`, which names the part that cannot travel and says what to write.
    """
    if retry_on is None and (named := _named.get(id(fn))) is not None and named.still_stands_for(fn):
        end_epoch()
        return named.blob
    name = name_of(fn)
    known = new_epoch()
    stream = io.BytesIO()
    flat = None if store is None else Flat(BIG)
    pickler = FunctionPickler(stream, known, flat)
    pickler.store = store
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
        warn_of_captures(name, fn, lambda part: _size(part, known, None if store is None else Flat(BIG)))
    lines: object = sources.collect(pickler.files)
    refs = pickler.refs
    if store is not None and flat is not None and flat.taken:
        arrays = store.put(flat.taken, {}, shared=False)
        lines, refs = (arrays.number, lines), {**refs, arrays.number: arrays}
    data = pickle.dumps(lines, protocol=5) + stream.getvalue()
    blob = FunctionBlob(data, name, is_async(fn), frozenset(pickler.classes), tuple(refs.values()))
    if retry_on is None and type(fn) is types.FunctionType and fn.__module__ in sys.modules:
        named = _Named(
            weakref.ref(fn, functools.partial(_forget, id(fn))), sys.modules[fn.__module__], fn.__code__, blob
        )
        if named.still_stands_for(fn):
            _named[id(fn)] = named
    return blob


class _Named(NamedTuple):
    """A function of a module, which travels as its name, and so as the same bytes as long as it bears that."""

    function: weakref.ref[types.FunctionType]
    module: types.ModuleType
    code: types.CodeType
    blob: FunctionBlob

    def still_stands_for(self, fn: Any) -> bool:
        """Whether a pickle of it would be the same. Of a module that was run again it is another function's name.

        Its code tells whether it is a coroutine function, unless it bears a mark, as what is marked never comes here.
        """
        function: Any = self.function()
        if function is None or function is not fn:
            return False
        name, module = function.__name__, function.__module__
        return (
            sys.modules.get(module) is self.module
            and function.__code__ is self.code
            and function.__qualname__ == name
            and not function.__dict__
            and module != "__main__"
            and not innards._PICKLE_BY_VALUE_MODULES  # noqa: SLF001 - asked for every function by cloudpickle, too
            and self.module.__dict__.get(name) is function
        )


_named: dict[int, _Named] = {}


def _forget(number: int, gone: weakref.ref[types.FunctionType]) -> None:
    """The function is gone. Its number may be another one's by now."""
    if (named := _named.get(number)) is not None and named.function is gone:
        _named.pop(number, None)


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


def _size(part: object, known: Definitions, flat: Flat | None) -> int:
    sink = _Sink()
    FunctionPickler(sink, known, flat).dump(part)
    return sink.size


class _Sink:
    """A file for trying whether something can be pickled at all, and how big that is."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes  # Big arrays come as a PickleBuffer, which has no length.
        self.size += size
        return size
