"""``@frozen``: plain frozen data, as ``@dataclass(frozen=True, slots=True)`` makes it, at a tenth of what that costs.

There are about a hundred such classes, and ``dataclass`` takes a third of a millisecond for each, besides the modules
that it needs itself: a fresh worker, and ``from aiopool import Pool``, would spend more time on it than on all else.
For the same reason what fills the slots of a class is compiled when it is first asked for: few are ever made.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

__all__ = ["frozen"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class of its annotations: with slots, compared and hashed by value, and of fixed values.

    The module says ``from __future__ import annotations``. A default is one value, shared by all: ::

        @frozen
        class Cancel:
            kind: ClassVar[int] = 5
            job: int
    """
    # As dataclass sees it: nobody may have slots and a class attribute of the same name, so the class is made anew.
    own = dict(vars(cls))
    names = tuple(name for name, of in cls.__annotations__.items() if not of.startswith("ClassVar"))
    defaults = {name: own.pop(name) for name in names if name in own}
    for name in ("__dict__", "__weakref__"):
        own.pop(name, None)
    kind: Any = type(cls)
    made: Any = kind(
        cls.__name__,
        cls.__bases__,
        {**_METHODS, **own, "__slots__": names, "__match_args__": names, "__qualname__": cls.__qualname__},
    )
    made.__init__ = _Compiled(made, names, defaults)
    return made  # type: ignore[no-any-return]


def _init(made: Any, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """Compiled: frames and facts are made by the thousand, and this is the quickest way to fill slots."""
    scope = {f"set_{name}": vars(made)[name].__set__ for name in names} | {
        f"_{name}": defaults[name] for name in defaults
    }
    taken = ", ".join(f"{name}=_{name}" if name in defaults else name for name in names)
    lines = [f"    set_{name}(self, {name})" for name in names] or ["    pass"]
    exec("\n".join((f"def __init__(self, {taken}):", *lines)), scope)  # noqa: S102  # the names are our own
    init: Any = scope["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__module__ = made.__module__
    init.__annotations__ = {name: made.__annotations__[name] for name in names} | {"return": "None"}
    return init


class _Compiled:
    """Stands for the ``__init__`` of a class until anybody looks at it. Two threads at once make the same twice."""

    def __init__(self, *of: Any) -> None:
        self._of = of

    def __get__(self, instance: object, owner: Any) -> Any:
        made = self._of[0]
        made.__init__ = init = _init(*self._of)
        return init.__get__(instance, owner)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__slots__])


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
    return f"{type(self).__qualname__}({told})"


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


def _replace(self: Any, /, **changes: Any) -> Any:
    return type(self)(**dict(zip(self.__slots__, _values(self), strict=True)) | changes)


def _setattr(_self: Any, name: str, _: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


class _AsADataclass:
    """What :mod:`dataclasses` knows its own by, for ``asdict`` and its like: made when it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, _: object, owner: Any) -> Any:
        from dataclasses import make_dataclass

        code, first = owner.__init__, len(owner.__slots__) - len(owner.__init__.__defaults__ or ())
        columns: list[Any] = [
            (name, owner.__annotations__[name], *((code.__defaults__[at - first],) if at >= first else ()))
            for at, name in enumerate(owner.__slots__)
        ]
        found = getattr(make_dataclass(owner.__name__, columns, frozen=True), self._name)
        setattr(owner, self._name, found)
        return found


_METHODS: dict[str, Any] = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__reduce__": _reduce,
    "__replace__": _replace,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__dataclass_fields__": _AsADataclass("__dataclass_fields__"),
    "__dataclass_params__": _AsADataclass("__dataclass_params__"),
}
