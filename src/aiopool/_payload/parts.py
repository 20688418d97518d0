"""What a thing is made of, as far as pickling looks into it, each part with words for what it is to the whole."""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Iterator
from typing import Any

from cloudpickle import cloudpickle as innards

from aiopool._payload.kinds import kind_of
from aiopool._payload.picklers import travels_by_value

__all__ = ["Step", "captured", "is_opaque", "parts"]

Step = tuple[str, Any]  # what the outer thing does with the inner one, and the inner one

_MOST_MEMBERS = 1000
_CachedFunction = type(functools.cache(len))


def is_opaque(thing: object) -> bool:
    """Whether it is an object of a library's class: what that holds inside is the library's own business."""
    return parts.dispatch(type(thing)) is parts.dispatch(object) and not travels_by_value(type(thing))


@functools.singledispatch
def parts(thing: object) -> Iterator[Step]:
    """What a thing is made of, as far as pickling looks into it.

    Of a library's object only what has a public name: its insides say nothing to a user.
    """
    if kind_of(thing):
        return
    names = list(getattr(thing, "__dict__", ()))
    for cls in type(thing).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    ours = travels_by_value(type(thing))
    for name in names:
        if (ours or not name.startswith("_")) and hasattr(thing, name):
            yield f"has the attribute `{name}`", getattr(thing, name)
    yield "is an object of a class", type(thing)


@parts.register(dict)
def _(thing: dict[Any, Any]) -> Iterator[Step]:
    yield from ((f"holds, under the key {_short(key)}, a value", value) for key, value in _some(thing.items()))
    yield from (("has a key", key) for key in _some(thing))


@parts.register(list)
@parts.register(tuple)
def _(thing: list[Any]) -> Iterator[Step]:
    yield from ((f"holds a value at [{index}]", value) for index, value in enumerate(_some(thing)))


@parts.register(set)
@parts.register(frozenset)
def _(thing: set[Any]) -> Iterator[Step]:
    yield from (("holds a value", value) for value in _some(thing))


@parts.register
def _(thing: types.MethodType) -> Iterator[Step]:
    yield "belongs to an object", thing.__self__
    yield "", thing.__func__


@parts.register(functools.partial)
def _(thing: functools.partial[Any]) -> Iterator[Step]:
    yield "", thing.func  # Whose name it bears; and whoever passes an initializer has made no partial.
    yield from ((f"is given argument {number}", value) for number, value in enumerate(thing.args, 1))
    yield from ((f"is given the argument `{name}`", value) for name, value in thing.keywords.items())


@parts.register(_CachedFunction)
def _(thing: Any) -> Iterator[Step]:
    yield "", thing.__wrapped__


@parts.register(staticmethod)
@parts.register(classmethod)
def _(thing: Any) -> Iterator[Step]:
    yield "", thing.__func__


@parts.register
def _(thing: property) -> Iterator[Step]:
    yield from (("", part) for part in (thing.fget, thing.fset, thing.fdel))


@parts.register
def _(function: types.FunctionType) -> Iterator[Step]:
    if innards._should_pickle_by_reference(function):  # noqa: SLF001
        return
    yield from ((phrase, value) for phrase, _, value in captured(function))
    yield from (("has a default argument", value) for value in function.__defaults__ or ())
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"has a default for `{name}`", value
    for name, value in vars(function).items():
        yield f"has the attribute `{name}`", value
    yield from ((f"has an annotation for `{name}`", value) for name, value in function.__annotations__.items())


def captured(function: types.FunctionType) -> Iterator[tuple[str, str, Any]]:
    """The globals and the variables of enclosing functions that a function uses: a phrase, the name, the value."""
    if innards._should_pickle_by_reference(function):  # noqa: SLF001
        return
    code = function.__code__
    for name in innards._extract_code_globals(code):  # noqa: SLF001
        if name in function.__globals__:
            yield f"uses the global `{name}`", name, function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"uses `{name}` of the enclosing function", name, cell.cell_contents
        except ValueError:
            continue  # Not assigned yet; an empty cell travels.


@parts.register
def _(cls: type) -> Iterator[Step]:
    if not travels_by_value(cls):
        return
    own = innards._class_getstate(cls)[0]  # noqa: SLF001
    for name, value in own.items():
        yield (f"has the method `{name}`" if callable(value) else f"has the attribute `{name}`"), value
    yield from (("has a base class", base) for base in cls.__bases__)


def _some(members: Any) -> Iterator[Any]:
    return itertools.islice(iter(members), _MOST_MEMBERS)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 40 else f"{text[:37]}..."
