"""Who is to blame when something cannot be pickled: the name of the global, variable, attribute or key, and its type.

The pickler's own message names an inner type only ("cannot pickle 'sqlite3.Connection' object"). So each part of the
thing is tried by itself, and the search goes on inside the first one that fails. It is tried with the pickler that
failed, so what is blamed is what was refused.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cloudpickle import cloudpickle as innards

from aiopool._payload.picklers import travels_by_value

__all__ = ["blame_function", "blame_input", "blame_result"]

_STANDARD_REFUSAL = re.compile(r"can(no|')t pickle ", re.IGNORECASE)

Try = Callable[[Any], object]
Step = tuple[str, Any]  # what the outer thing does with the inner one, and the inner one

_MOST_TRIES = 300
_MOST_MEMBERS = 1000
_CachedFunction = type(functools.cache(len))

# The plain descriptors: a class or its metaclass may override these names, and raise.
_cause = BaseException.__dict__["__cause__"]
_qualname = type.__dict__["__qualname__"]
_module = type.__dict__["__module__"]


def blame_function(name: str, fn: object, error: BaseException, try_part: Try) -> str:
    """A sentence for a function that cannot travel."""
    return _blame(f"`{name}`", fn, error, try_part, _FUNCTION_ADVICE)


def blame_input(value: object, error: BaseException, try_part: Try) -> str:
    """A sentence for an argument that cannot travel."""
    return _blame(f"the input ({type_name(value)})", value, error, try_part, _INPUT_ADVICE)


def blame_result(value: object, error: BaseException, try_part: Try) -> str:
    """A sentence for a result that cannot travel."""
    return _blame(f"the result ({type_name(value)})", value, error, try_part, _RESULT_ADVICE)


def type_name(value: object) -> str:
    """The type of a thing as people write it: ``sqlite3.Connection``, ``list``, ``Settings``."""
    cls = type(value)
    name: str = _qualname.__get__(cls).rpartition("<locals>.")[2]
    module = _module.__get__(cls)
    return f"{module}.{name}" if type(module) is str and module not in ("builtins", "__main__") else name


def _blame(subject: str, thing: object, error: BaseException, try_part: Try, advice: Mapping[str, str]) -> str:
    if any(issubclass(type(each), RecursionError) for each in (error, _cause.__get__(error))):
        return f"{subject} is nested too deeply to travel to another process. Make it flatter."
    reason = _reason(error)
    try:
        path = _Search(try_part).path(thing)
        last = path[-1][1] if path else thing
        found = subject + ", which".join(f" {phrase}" for phrase, _ in path)
        if path:
            found += f" ({type_name(last)}), which"
        return f"{found} cannot travel to another process{reason}. {advice[_kind(last)]}"
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a thing that refuses even to be looked at
        return f"{subject} cannot travel to another process{reason}."


def _reason(error: BaseException) -> str:
    """The message of a refusal that a user's own code made; the standard ones add nothing to the name and the type."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a user's exception may fail in its own message
        text = "its message cannot be shown"
    if issubclass(type(error), TypeError | pickle.PicklingError) and _STANDARD_REFUSAL.match(text):
        return ""
    return f": {type_name(error)}: {text.removesuffix('.')}" if text else f": {type_name(error)}"


# --- the search ----------------------------------------------------------------------------------------------------


class _Search:
    """Goes from part to part as long as one fails to pickle. Bounded, since each try may be as dear as the whole."""

    def __init__(self, try_part: Try) -> None:
        self._try_part = try_part
        self._tries = 0
        self._seen: dict[int, object] = {}

    def path(self, thing: object) -> list[Step]:
        found: list[Step] = []
        step = self._failing_part(thing)
        while step is not None:
            if step[0]:
                found.append(step)
            step = self._failing_part(step[1])
        return found

    def _failing_part(self, thing: object) -> Step | None:
        self._seen[id(thing)] = thing
        try:
            for phrase, part in _parts(thing):
                if id(part) not in self._seen and self._fails(part):
                    return phrase, part
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a hostile attribute ends the search; what was found so far stands
            return None
        return None

    def _fails(self, part: object) -> bool:
        self._tries += 1
        if self._tries > _MOST_TRIES:
            return False
        try:
            self._try_part(part)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - that is the question
            return True
        return False


@functools.singledispatch
def _parts(thing: object) -> Iterator[Step]:
    """What a thing is made of, as far as pickling looks into it.

    Of a library's object only what has a public name: its insides say nothing to a user.
    """
    if _kind(thing):
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


@_parts.register(dict)
def _(thing: dict[Any, Any]) -> Iterator[Step]:
    yield from ((f"holds, under the key {_short(key)}, a value", value) for key, value in _some(thing.items()))
    yield from (("has a key", key) for key in _some(thing))


@_parts.register(list)
@_parts.register(tuple)
def _(thing: list[Any]) -> Iterator[Step]:
    yield from ((f"holds a value at [{index}]", value) for index, value in enumerate(_some(thing)))


@_parts.register(set)
@_parts.register(frozenset)
def _(thing: set[Any]) -> Iterator[Step]:
    yield from (("holds a value", value) for value in _some(thing))


@_parts.register
def _(thing: types.MethodType) -> Iterator[Step]:
    yield "belongs to an object", thing.__self__
    yield "", thing.__func__


@_parts.register(functools.partial)
def _(thing: functools.partial[Any]) -> Iterator[Step]:
    yield "wraps a function", thing.func
    yield from ((f"is given argument {number}", value) for number, value in enumerate(thing.args, 1))
    yield from ((f"is given the argument `{name}`", value) for name, value in thing.keywords.items())


@_parts.register(_CachedFunction)
def _(thing: Any) -> Iterator[Step]:
    yield "", thing.__wrapped__


@_parts.register(staticmethod)
@_parts.register(classmethod)
def _(thing: Any) -> Iterator[Step]:
    yield "", thing.__func__


@_parts.register
def _(thing: property) -> Iterator[Step]:
    yield from (("", part) for part in (thing.fget, thing.fset, thing.fdel))


@_parts.register
def _(function: types.FunctionType) -> Iterator[Step]:
    if innards._should_pickle_by_reference(function):  # noqa: SLF001
        return
    code = function.__code__
    for name in innards._extract_code_globals(code):  # noqa: SLF001
        if name in function.__globals__:
            yield f"uses the global `{name}`", function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"uses `{name}` of the enclosing function", cell.cell_contents
        except ValueError:
            continue  # Not assigned yet; an empty cell travels.
    yield from (("has a default argument", value) for value in function.__defaults__ or ())
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"has a default for `{name}`", value
    for name, value in vars(function).items():
        yield f"has the attribute `{name}`", value
    yield from ((f"has an annotation for `{name}`", value) for name, value in function.__annotations__.items())


@_parts.register
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


# --- advice --------------------------------------------------------------------------------------------------------

_LOCK = "Workers are processes of their own, so a lock of this one guards nothing there."
_FUNCTION_ADVICE = {
    "lock": f"{_LOCK} Create it inside the function.",
    "file": "Open it inside the function, from its path.",
    "generator": "Use a list instead: list(...).",
    "async generator": "Use a list instead: [x async for x in ...].",
    "coroutine": "Await it first, and use what it returns.",
    "asyncio": "It belongs to this event loop. Await it first and use its result, or create it inside the function.",
    "limit": "Each worker has an event loop of its own. Use concurrency=... or rate=... of the map instead.",
    "notebook": "It lives in the notebook's kernel. Return a value from the function, and use it here on the results.",
    "pool": "Pools and jobs stay where they were made. Use their results.",
    "": "Create it inside the function, or once per worker with @aiopool.per_worker.",
}
_INPUT_ADVICE = {
    **_FUNCTION_ADVICE,
    "file": "Pass its path, and open it inside the function.",
    "generator": "Pass a list instead: list(...).",
    "async generator": "Pass a list instead: [x async for x in ...].",
    "coroutine": "Await it first, and pass what it returns.",
    "": "Pass what it is made from (a path, a URL, plain values), and create it inside the function.",
}
_RESULT_ADVICE = {
    **_FUNCTION_ADVICE,
    "lock": "Return only what it guarded.",
    "file": "Read it inside the function and return what it holds, or return its path.",
    "generator": "Write `return list(...)` in the function.",
    "async generator": "Write `return [x async for x in ...]` in the function.",
    "coroutine": "It was never awaited: write `return await ...` in the function.",
    "asyncio": "It belongs to the worker's event loop. Await it inside the function, and return its result.",
    "notebook": "It lives in its process. Return plain values.",
    "pool": "Pools and jobs stay where they were made. Return their results.",
    "": "Return plain values taken from it.",
}
_KINDS = {
    "builtins.generator": "generator",
    "builtins.async_generator": "async generator",
    "builtins.coroutine": "coroutine",
    "_thread.lock": "lock",
    "_thread.RLock": "lock",
    "threading.Condition": "lock",
    "threading.Event": "lock",
    "threading.Semaphore": "lock",
    "threading.Barrier": "lock",
    "multiprocessing.synchronize.SemLock": "lock",
    "_io._IOBase": "file",
    "asyncio.locks._ContextManagerMixin": "limit",
    "_asyncio.Future": "asyncio",
    "asyncio.futures.Future": "asyncio",
    "asyncio.events.AbstractEventLoop": "asyncio",
    "IPython.core.interactiveshell.InteractiveShell": "notebook",
    "ipywidgets.widgets.widget.Widget": "notebook",
    "aiopool.pool.Pool": "pool",
    "aiopool.job.Job": "pool",
    "aiopool.job.Handle": "pool",
}


def _kind(thing: object) -> str:
    """Which advice fits; empty if none in particular."""
    for cls in type(thing).__mro__:
        kind = _KINDS.get(f"{_module.__get__(cls)}.{_qualname.__get__(cls)}", "")
        if kind:
            return kind
    return "asyncio" if hasattr(type(thing), "__await__") else ""
