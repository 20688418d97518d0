"""What the items do: functions that every pool can import by name."""

from __future__ import annotations

import asyncio
import time
from typing import Any

PAGE = 4096


async def echo(value: Any) -> Any:
    """A coroutine that does nothing; it returns its item, so that it can be seen that every one was run."""
    return value


def echo_def(value: Any) -> Any:
    """The same, a function."""
    return value


def noop() -> None:
    """Nothing at all."""


async def nap(_: Any) -> None:
    """Sleep for a tenth of a second."""
    await asyncio.sleep(0.1)


async def long_nap(_: Any) -> None:
    """Sleep for longer than anybody waits."""
    await asyncio.sleep(3600)


def spin(loops: int) -> float:
    """Keep a core busy; the seconds that it took here."""
    begun = time.perf_counter()
    while loops:
        loops -= 1
    return time.perf_counter() - begun


class Slow:
    """A value that takes half a millisecond to load."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_slowly, ()


def _load_slowly() -> Slow:
    until = time.thread_time() + 0.0005
    while time.thread_time() < until:
        pass
    return Slow()


def slow_value(_: Any) -> Slow:
    """One of these."""
    return Slow()


def first_of_every_page(data: Any) -> int:
    """Look at every page of an array, a frame or a table: one that is mapped must really be there.

    Returns a sum, so that nobody can leave out the reading.
    """
    if hasattr(data, "column_names"):
        columns = [data.column(name).chunk(0).to_numpy(zero_copy_only=True) for name in data.column_names]
    elif hasattr(data, "columns"):
        columns = [data[name].to_numpy() for name in data.columns]
    else:
        columns = [data]
    return int(sum(column[:: PAGE // column.itemsize].sum() for column in columns))


_made: dict[int, Any] = {}


def same_array(count: int) -> Any:
    """An array of so many floats, all ones; made when it is first asked for, so that only its way here is measured."""
    if count not in _made:
        import numpy as np

        _made[count] = np.ones(count)
    return _made[count]


_kept: list[Any] = []


def keep(data: Any, _: int) -> int:
    """Look at all of it, and hold on to what came last."""
    _kept[:] = [data]
    return first_of_every_page(data)
