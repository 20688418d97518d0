"""Items that follow a script: what each attempt of each of them does. Workers import this."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from aiopool import Retry, current_item

Script = tuple[int, Sequence[str]]
"""A number, and what the first attempt does, the second, and so on; the last one goes for all that follow."""

ACTS = ("value", "later", "error", "odd", "again", "typo")


class Odd(Exception):
    """An error that is mostly not to be retried."""


def _fail(act: str, told: tuple[int, int]) -> NoReturn:
    if act == "error":
        raise ValueError(*told)
    if act == "odd":
        raise Odd(*told)
    if act == "again":
        raise Retry(f"{told}", after=0)
    raise NameError(f"{told}")


def play(number: int, acts: Sequence[str]) -> Any:
    """One attempt."""
    attempt = current_item().attempt
    act = acts[min(attempt, len(acts)) - 1]
    if act in ("value", "later"):
        return number, attempt
    _fail(act, (number, attempt))


async def play_later(number: int, acts: Sequence[str]) -> Any:
    """One attempt, in a coroutine."""
    attempt = current_item().attempt
    act = acts[min(attempt, len(acts)) - 1]
    if act == "later":
        await asyncio.sleep(0.001)
    if act in ("value", "later"):
        return number, attempt
    _fail(act, (number, attempt))


def play_one(script: Script) -> Any:
    """One attempt of a script that comes in one piece."""
    return play(*script)


async def play_one_later(script: Script) -> Any:
    """The same in a coroutine."""
    return await play_later(*script)
