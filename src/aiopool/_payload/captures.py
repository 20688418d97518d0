"""A function that carries a lot along, mostly by accident: a table or a model that a line of it mentions."""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from aiopool._payload.kinds import type_name
from aiopool._payload.parts import captured, parts
from aiopool._payload.picklers import travels_by_value

__all__ = ["LARGE", "warn_of_captures"]

LARGE = 10_000_000
"""Bytes of a pickled function from which on it is worth a warning."""

_WORTH_NAMING = 1_000_000
_MOST_NAMED = 3
_CachedFunction = type(functools.cache(len))
_CODE = (types.FunctionType, _CachedFunction, types.MethodType, functools.partial, staticmethod, classmethod, property)
_RESOURCES = ("aiopool.resources.AsyncResource", "aiopool.resources.SyncResource")

_warned: set[tuple[str, str]] = set()


class _Capture(NamedTuple):
    size: int
    variable: str
    told: str


def warn_of_captures(name: str, fn: object, size_of: Callable[[object], int]) -> None:
    """Name the biggest globals and variables that a function uses, once for each function and variable.

    Called only when the whole was :data:`LARGE`: to find out, each of them is pickled once more. What was given to the
    function on purpose, as an argument of a partial or by ``pool.put``, is not named.
    """
    found = sorted(_captures(fn, size_of), reverse=True)[:_MOST_NAMED]
    new = [capture for capture in found if (name, capture.variable) not in _warned]
    if not new:
        return
    first = new[0].variable
    many = len(new) > 1
    warnings.warn(
        f"`{name}` uses {', '.join(capture.told for capture in new)}, which {'are' if many else 'is'} sent to every "
        f"worker with each job. {_instead(name, fn, first)}",
        UserWarning,
        stacklevel=_level_of_the_user(),
    )
    _warned.update((name, capture.variable) for capture in new)


def _instead(name: str, fn: object, variable: str) -> str:
    if isinstance(fn, types.FunctionType) and fn.__code__.co_name == "<module>":  # The body of a cell.
        return (
            f"Put it once (ref = aiopool.get_pool().put({variable})) and use `ref` in the body, where it is the value; "
            f"or load it in the workers, in a cell with %%aiopool --all."
        )
    return (
        f"Make `{variable}` an argument of the function and put it once (ref = aiopool.get_pool().put({variable}); "
        f"pmap(functools.partial({name}, {variable}=ref), data)), or load it in the worker, in a function with "
        f"@aiopool.per_worker above it."
    )


def _captures(fn: object, size_of: Callable[[object], int]) -> Iterator[_Capture]:
    """Of the function and of its helpers, wherever those are defined in cells."""
    seen = {id(fn)}
    todo: list[Any] = [fn]
    while todo:
        code = todo.pop()
        own = isinstance(code, types.FunctionType)
        steps = captured(code) if own else ((phrase, "", part) for phrase, part in parts(code))
        for phrase, variable, value in steps:
            if id(value) in seen:
                continue
            seen.add(id(value))
            inner = isinstance(value, _CODE) or type_name(value) in _RESOURCES
            if inner or (isinstance(value, type) and travels_by_value(value)):
                todo.append(value)
            elif own and type_name(value) != "aiopool._payload.refs.Ref" and (size := size_of(value)) >= _WORTH_NAMING:
                told = f"{phrase.removeprefix('uses ')} ({type_name(value)}, {size / 1e6:,.1f} MB)"
                yield _Capture(size, variable, told)


def _level_of_the_user() -> int:
    """The ``stacklevel``, for a caller of this, of the line that called this library."""
    level = 1
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way to the line
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "aiopool":
        frame = frame.f_back
        level += 1
    return level
