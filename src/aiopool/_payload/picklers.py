"""The pickler under every other one here: cloudpickle, and the few things that it leaves out or gets wrong for us.

What cloudpickle does with a class that lives in a cell is replaced in :mod:`aiopool._payload.classes`; this file only
asks for it (:meth:`Pickler.reduce_class`).
"""

from __future__ import annotations

import asyncio
import copyreg
import dis
import functools
import inspect
import io
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, NoReturn

import cloudpickle
from cloudpickle import cloudpickle as innards

from aiopool._payload.known import value_of

if TYPE_CHECKING:
    from aiopool._payload.puts import Store, Stored

__all__ = ["COPIED_IN_VAIN", "Pickler", "find_globals_of_class_bodies", "name_by_number", "travels_by_value"]

Reduced = Any  # What a reducer may return: a tuple of two to six parts, a name, or NotImplemented.

_CachedFunction = type(functools.cache(len))
_NEITHER_NAMED_NOR_MADE = (type(None), type(...), type(NotImplemented))  # cloudpickle has its own way with these.


COPIED_IN_VAIN: frozenset[type] = frozenset(
    {
        *(asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore, asyncio.Condition, asyncio.Event, asyncio.Barrier),
        *(asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue),
    }
)
"""What tasks of one loop wait with for each other. A copy in another process has nothing to do with the original."""


def travels_by_value(cls: type) -> bool:
    """Whether the other process cannot import this class: it lives in a cell, a script, or a function."""
    if any(cls is known for known in _NEITHER_NAMED_NOR_MADE) or cls in innards._BUILTIN_TYPE_NAMES:  # noqa: SLF001
        return False
    return not innards._should_pickle_by_reference(cls)  # noqa: SLF001


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Functions by value as cloudpickle does it, the types below as they should be, classes as the subclass says.

    ``files`` fills with the names of the source files of all code that travels by value, each with the globals that
    :mod:`linecache` may need to find its lines. ``in_vain`` tells that something was met whose copy is of no use.
    Where there is a ``store``, what was put there is only named, and ``refs`` fills with it.
    """

    # In C, a dict is looked up ten times faster than cloudpickle's ChainMap; `reducer_override` asks the other half.
    dispatch_table = copyreg.dispatch_table

    def __init__(self, file: Any, buffers: Callable[[PickleBuffer], bool] | None = None) -> None:
        """``buffers``, where there is one, keeps out of the pickle what it does not return True for."""
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self.files: dict[str, dict[str, Any]] = {}
        self.in_vain = False
        self.store: Store | None = None
        self.refs: dict[int, Stored] = {}

    def reduce_class(self, cls: type) -> Reduced:
        """How a class that the other side cannot import travels."""
        raise NotImplementedError

    def reducer_override(self, obj: Any) -> Reduced:
        """Asked by the C pickler for everything that is not a plain builtin value."""
        kind = type(obj)
        reduce = _REDUCERS.get(kind) or cloudpickle.Pickler._dispatch_table.get(kind)  # noqa: SLF001
        if reduce is _in_vain:
            self.in_vain = True
            return NotImplemented
        if reduce is not None:
            return self._numbered(obj, self.store) if reduce is _by_number and self.store else reduce(obj)
        if issubclass(kind, type):
            if travels_by_value(obj):
                return self.reduce_class(obj)
            return innards._class_reduce(obj)  # noqa: SLF001
        if kind is types.FunctionType:
            return self._function_reduce(obj)
        return NotImplemented

    def _numbered(self, ref: Any, store: Store) -> Reduced:
        stored = ref.stored_in(store)
        self.refs[stored.number] = stored
        return value_of, (stored.number,)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Reduced:
        find_globals_of_class_bodies(func.__code__)
        self.files[func.__code__.co_filename] = func.__globals__
        return super()._dynamic_function_reduce(func)


def find_globals_of_class_bodies(code: types.CodeType) -> None:
    """Have cloudpickle send the globals that a class statement inside the function reads.

    It looks for LOAD_GLOBAL, but the body of a class reads its names with LOAD_NAME. Its list of a code's globals is
    a cache, which is completed here.
    """
    bodies = list(_class_bodies(code))
    if bodies:
        names = innards._extract_code_globals(code)  # noqa: SLF001
        for body in bodies:
            names.update(
                (step.argval, None)
                for step in dis.get_instructions(body)
                if step.opname in _READS_BY_NAME and not step.argval.startswith("__")
            )


def _class_bodies(code: types.CodeType) -> Iterator[types.CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            if not inner.co_flags & inspect.CO_OPTIMIZED:
                yield inner
            yield from _class_bodies(inner)


_READS_BY_NAME = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def _make_cached_function(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:  # noqa: FBT001
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_cached_function(obj: Any) -> Reduced:
    """An ``lru_cache`` of a cell says that it is importable as ``__main__.name``; in another process it is not.

    It arrives empty. One that calls itself works: by the time its own name is met again, the plain function is known.
    """
    name: str | None = getattr(obj, "__qualname__", None)
    if name is not None and innards._lookup_module_and_qualname(obj, name) is not None:  # noqa: SLF001
        return name
    settings = obj.cache_parameters()
    own = {key: value for key, value in vars(obj).items() if key != "__wrapped__"}
    return _make_cached_function, (obj.__wrapped__, settings["maxsize"], settings["typed"]), own or None


def _reduce_type_variable(obj: Any) -> Reduced:
    """An annotation of a cell, such as ``UserId = NewType("UserId", int)``, says that it is importable, too."""
    name = obj.__name__
    if innards._lookup_module_and_qualname(obj, name) is not None:  # noqa: SLF001
        return name
    kind = type(obj)
    if kind is typing.NewType:
        return kind, (name, obj.__supertype__)
    if kind in _TYPE_ALIASES:
        return kind, (name, obj.__value__)
    return kind, (name,)


def _reduce_cached_property(obj: functools.cached_property[Any]) -> Reduced:
    """Before Python 3.12 a cached property holds a lock, which a new one makes for itself."""
    state = {"attrname": obj.attrname, "__doc__": obj.__doc__}
    return functools.cached_property, (obj.func,), state


def _reduce_weak_mapping(obj: Any) -> Reduced:
    """``singledispatch`` keeps its cache in one; no entry that matters is lost, since the keys travel too."""
    return type(obj), (dict(obj.items()),)


def _reduce_thread_local(_obj: Any) -> Reduced:
    """What another thread sees of a thread-local is nothing yet; so does a thread of another process."""
    return threading.local, ()


def _reduce_text_file(obj: io.TextIOWrapper) -> Reduced:
    """As cloudpickle would have it, a whole file is read and its text sent; an open file is better refused."""
    for name in ("stdout", "stderr"):
        if obj is getattr(sys, name):
            return getattr, (sys, name)
    return _refuse(obj)


def _refuse(obj: Any) -> NoReturn:
    """As what cannot be pickled does: an event loop can, once it is closed, and then fails in the worker."""
    raise TypeError(f"cannot pickle {type(obj).__name__!r} object")


def _by_number(ref: Any) -> Reduced:
    """Stands for refs, which travel as their value where there is no store."""
    return ref.__reduce__()


def name_by_number(kind: type) -> None:
    """Objects of this class have ``stored_in``: a store's number stands for them."""
    _REDUCERS[kind] = _by_number


def _in_vain(_obj: Any) -> Reduced:
    """Stands for types that are noted on the way: as an entry of the table it costs other objects nothing."""
    return NotImplemented


_TYPE_ALIASES: list[type] = [
    getattr(typing, name) for name in ("TypeAliasType",) if hasattr(typing, name)
]  # From 3.12.

_REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    _CachedFunction: _reduce_cached_function,
    **dict.fromkeys((typing.NewType, typing.ParamSpec, typing.TypeVarTuple, *_TYPE_ALIASES), _reduce_type_variable),
    functools.cached_property: _reduce_cached_property,
    weakref.WeakKeyDictionary: _reduce_weak_mapping,
    weakref.WeakValueDictionary: _reduce_weak_mapping,
    threading.local: _reduce_thread_local,
    io.TextIOWrapper: _reduce_text_file,
    asyncio.SelectorEventLoop: _refuse,
    **dict.fromkeys(COPIED_IN_VAIN, _in_vain),
}
