"""What workers import: functions of a module, which travel by name. Standard library only."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any, NoReturn


def double(x: Any) -> Any:
    """Double it."""
    return 2 * x


async def double_later(x: Any) -> Any:
    """Double it, a turn of the loop later."""
    await asyncio.sleep(0)
    return 2 * x


def add(x: Any, y: Any = 1, *, times: int = 1) -> Any:
    """Take arguments of both sorts."""
    return (x + y) * times


async def add_later(x: Any, y: Any = 1, *, times: int = 1) -> Any:
    """The same in a coroutine."""
    await asyncio.sleep(0)
    return (x + y) * times


def pid(_: object = None) -> int:
    """Tell which worker this is."""
    return os.getpid()


async def pid_later(_: object = None) -> int:
    """Tell which worker this is."""
    return os.getpid()


def nap(seconds: float) -> int:
    """Block for a while; tell which worker did."""
    time.sleep(seconds)
    return os.getpid()


async def blocking_coroutine(seconds: float) -> int:
    """Do what notebooks are full of: never await."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point
    return os.getpid()


async def doze(seconds: float) -> int:
    """Wait for a while; tell which worker did."""
    await asyncio.sleep(seconds)
    return os.getpid()


def thread_name(_: object = None) -> str:
    """Tell which thread runs this."""
    return threading.current_thread().name


def refuse(x: Any) -> Any:
    """Raise for what is odd."""
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


class TwoArgumentsError(Exception):
    """An exception that pickle cannot rebuild by itself."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class LoadsCounted:
    """Callable; marks a board each time it is made out of its pickle."""

    def __init__(self, board: Any) -> None:
        self.board = board

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.board.mark("loaded", os.getpid())

    def __call__(self, x: Any) -> Any:
        """Double it."""
        return 2 * x


class AsyncDoubler:
    """A callable object whose call is a coroutine."""

    async def __call__(self, x: Any) -> Any:
        """Double it, a turn of the loop later."""
        await asyncio.sleep(0)
        return 2 * x


class Doubler:
    """Methods of every sort."""

    def __init__(self, by: int = 2) -> None:
        self.by = by

    def __call__(self, x: Any) -> Any:
        """Use the object."""
        return self.by * x

    def bound(self, x: Any) -> Any:
        """Use the object."""
        return self.by * x

    async def bound_later(self, x: Any) -> Any:
        """Use the object, a turn later."""
        await asyncio.sleep(0)
        return self.by * x

    @classmethod
    def made(cls, x: Any) -> Any:
        """Use the class."""
        return cls(2)(x)

    @staticmethod
    def plain(x: Any) -> Any:
        """Use nothing."""
        return 2 * x


class Unloadable:
    """Travels to the other side, and cannot be made there."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _explode, ()


def _explode() -> NoReturn:
    raise ValueError("this value explodes when it is loaded")
