"""How an exception travels so that its type survives: taken apart in the worker, put together in the kernel.

Three ways are tried, and each is checked by putting the parts together again in the worker:

- ``pickle``: as the type itself says. Fails for the many types whose ``__init__`` wants something else than ``args``,
  or changes it into another message.
- ``bare``: without the type's own ``__init__``: made by the builtin type under it, then given its attributes.
- ``lean``: the same, but arguments and attributes that cannot travel, or are too big, are replaced by
  :class:`StayedBehind`, which shows their text.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from aiopool._payload.classes import HomewardPickler

__all__ = ["StayedBehind", "is_group", "members_of", "put_together", "take_apart"]

_MOST_BYTES = 1024 * 1024
_MOST_BYTES_OF_A_PART = 64 * 1024

# The plain descriptors: a class may override these names, forbid to set them (a frozen dataclass), or raise in them.
_args = BaseException.__dict__["args"]
_message = BaseExceptionGroup.__dict__["message"]
_members = BaseExceptionGroup.__dict__["exceptions"]


def is_group(error: BaseException) -> bool:
    """Asked of the type: an instance may raise even when it is asked for its class."""
    return issubclass(type(error), BaseExceptionGroup)


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The exceptions in a group; of any other one, none."""
    members: tuple[BaseException, ...] = _members.__get__(error) if is_group(error) else ()
    return members


class StayedBehind:
    """Stands where an exception held something that cannot travel; shows what it was."""

    __slots__ = ("_repr", "_str", "_type")

    def __init__(self, type_name: str, as_str: str, as_repr: str) -> None:
        self._type = type_name
        self._str = as_str
        self._repr = as_repr

    def __str__(self) -> str:
        return self._str

    def __repr__(self) -> str:
        return self._repr

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Also what a half-made object is asked for: its own slots.
            raise AttributeError(name)
        raise AttributeError(f"this {self._type} stayed in the worker, only its text came back: it has no {name!r}")

    def __reduce__(self) -> tuple[type[StayedBehind], tuple[str, str, str]]:
        return type(self), (self._type, self._str, self._repr)


def take_apart(error: BaseException, text: str) -> tuple[str, bytes]:
    """The way that works and its data; ``("", b"")`` if none does. ``text`` is what the copy must say too."""
    if is_group(error):
        ways = _GROUP_WAYS
    elif len(text) > _MOST_BYTES_OF_A_PART:
        ways = _LEAN_ONLY
    else:
        ways = _WAYS
    for way, parts_of in ways.items():
        try:
            data = _dumps(parts_of(error))
            if len(data) > _MOST_BYTES:
                continue
            copy = put_together(way, data, members_of(error))
            if type(copy) is type(error) and (len(text) > _MOST_BYTES_OF_A_PART or str(copy) == text):
                return way, data
        except BaseException:  # noqa: BLE001, S112 - a type may raise anything when it is pickled or made
            continue
    return "", b""


def put_together(way: str, data: bytes, members: Sequence[BaseException]) -> BaseException:
    """The exception. Raises what the type raises."""
    parts = pickle.loads(data)  # noqa: S301 - made by take_apart, over an inherited pipe
    if way == "group":
        cls, message, state = parts
        error: BaseException = BaseExceptionGroup.__new__(cls, message, members)
        _set_state(error, state)
    elif way == "pickle":
        error = parts
    else:
        error = _make_bare(*parts)
    if not issubclass(type(error), BaseException):
        raise TypeError(f"{type(error).__name__} is not an exception")
    return error


def _dumps(parts: Any) -> bytes:
    stream = io.BytesIO()
    HomewardPickler(stream).dump(parts)
    return stream.getvalue()


def _builtin_base(cls: type[BaseException]) -> Any:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _bare_parts(error: BaseException) -> tuple[type, tuple[Any, ...], dict[str, Any]]:
    """As the builtin type under it reduces: that knows what lies outside ``args`` (the file name of an OSError)."""
    reduced = _builtin_base(type(error)).__reduce__(error)
    state = dict(reduced[2]) if len(reduced) > 2 and reduced[2] else {}
    state.pop("__notes__", None)
    return type(error), tuple(reduced[1]), state


def _lean_parts(error: BaseException) -> tuple[type, tuple[Any, ...], dict[str, Any]]:
    cls, args, state = _bare_parts(error)
    return cls, tuple(map(_lean, args)), {name: _lean(value) for name, value in state.items()}


def _group_parts(error: BaseException) -> tuple[type, str, dict[str, Any]]:
    state = {name: _lean(value) for name, value in vars(error).items() if name != "__notes__"}
    return type(error), _message.__get__(error), state


def _lean(part: Any) -> Any:
    if type(part) is str and len(part) > _MOST_BYTES_OF_A_PART // 2:
        kept = _MOST_BYTES_OF_A_PART // 2
        return f"{part[:kept]} [{len(part) - kept:,} characters left out]"
    try:
        if len(_dumps(part)) <= _MOST_BYTES_OF_A_PART:
            return part
    except BaseException:  # noqa: BLE001, S110 - that is the question
        pass
    return StayedBehind(type(part).__name__, _shown(part, str), _shown(part, repr))


def _shown(part: Any, how: Callable[[Any], str]) -> str:
    try:
        return how(part)[: _MOST_BYTES_OF_A_PART // 2]
    except BaseException:  # noqa: BLE001 - it cannot even be shown
        return f"<{type(part).__name__}>"


def _make_bare(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    base = _builtin_base(cls)
    error: BaseException = base.__new__(cls, *args)
    try:
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - a builtin type that wants other arguments (UnicodeError); they are kept all the same
        _args.__set__(error, args)
    _set_state(error, state)
    return error


def _set_state(error: BaseException, state: dict[str, Any]) -> None:
    for name, value in state.items():
        object.__setattr__(error, name, value)


_LEAN_ONLY: dict[str, Callable[[BaseException], Any]] = {"lean": _lean_parts}
_WAYS: dict[str, Callable[[BaseException], Any]] = {"pickle": lambda error: error, "bare": _bare_parts, **_LEAN_ONLY}
_GROUP_WAYS: dict[str, Callable[[BaseException], Any]] = {"group": _group_parts}
