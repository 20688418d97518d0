"""How a map is called, for type checkers: the result of an item, whether failures may stand in it, what fits the data.

One set of overloads stands for :func:`aiopool.pmap` and :meth:`aiopool.Pool.map`; another one for ``starmap``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Literal, Protocol, TypeVar, Unpack, cast, overload

from aiopool.job import Failure, Job
from aiopool.options import MapKeywords

__all__ = ["Map", "Starmap", "as_map", "as_starmap"]

R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")

Data = Iterable[A] | AsyncIterable[A]
Raise = Literal["raise"]
Return = Literal["return"]


class Map(Protocol):
    """``pmap(fn, data, ...)``: the argument of ``fn`` must fit the items; see :func:`aiopool.pmap`."""

    # One input.
    @overload
    def __call__(
        self, fn: Callable[[A], Awaitable[R]], data: Data[A], /, *, on_error: Return, **options: Unpack[MapKeywords]
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A], Awaitable[R]],
        data: Data[A],
        /,
        *,
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A], R], data: Data[A], /, *, on_error: Return, **options: Unpack[MapKeywords]
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self, fn: Callable[[A], R], data: Data[A], /, *, on_error: Raise = ..., **options: Unpack[MapKeywords]
    ) -> Job[R]: ...

    # Two inputs, zipped.
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], Awaitable[R]],
        first: Iterable[A],
        second: Iterable[B],
        /,
        *,
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], Awaitable[R]],
        first: Iterable[A],
        second: Iterable[B],
        /,
        *,
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        *,
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        *,
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...

    # More inputs, zipped: what the function takes is not checked.
    @overload
    def __call__(
        self,
        fn: Callable[..., Awaitable[R]],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        /,
        *more: Iterable[Any],
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Awaitable[R]],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        /,
        *more: Iterable[Any],
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        /,
        *more: Iterable[Any],
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        /,
        *more: Iterable[Any],
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...

    # Items that are taken apart: the same.
    @overload
    def __call__(
        self,
        fn: Callable[..., Awaitable[R]],
        data: Data[Any],
        /,
        *,
        unpack: Literal[True],
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Awaitable[R]],
        data: Data[Any],
        /,
        *,
        unpack: Literal[True],
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        data: Data[Any],
        /,
        *,
        unpack: Literal[True],
        on_error: Return,
        **options: Unpack[MapKeywords],
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        data: Data[Any],
        /,
        *,
        unpack: Literal[True],
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...


class Starmap(Protocol):
    """``pool.starmap(fn, pairs, ...)``: what the function takes is not checked."""

    @overload
    def __call__(
        self, fn: Callable[..., Awaitable[R]], pairs: Data[Any], /, *, on_error: Return, **options: Unpack[MapKeywords]
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Awaitable[R]],
        pairs: Data[Any],
        /,
        *,
        on_error: Raise = ...,
        **options: Unpack[MapKeywords],
    ) -> Job[R]: ...
    @overload
    def __call__(
        self, fn: Callable[..., R], pairs: Data[Any], /, *, on_error: Return, **options: Unpack[MapKeywords]
    ) -> Job[R | Failure]: ...
    @overload
    def __call__(
        self, fn: Callable[..., R], pairs: Data[Any], /, *, on_error: Raise = ..., **options: Unpack[MapKeywords]
    ) -> Job[R]: ...


def as_map(function: Callable[..., Job[Any]]) -> Map:
    """Have type checkers see a function as a map; at run time it stays what it is, every option spelt out."""
    return cast("Map", function)


def as_starmap(function: Callable[..., Job[Any]]) -> Starmap:
    """The same for a starmap."""
    return cast("Starmap", function)
