"""Line 10, steps: how long the caller's loop stands still while results come.

The longest step of that loop, each one timed where asyncio runs it, while it awaits 1,000,000 integers, and while it
awaits, and reads by ``async for``, results that take half a millisecond each to load. ``own`` is the longest in the
thread's own processor time: where others use the machine, too, the difference is theirs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio import events
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.speed.items import echo, slow_value
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

INTEGERS = {Size.TINY: 10_000, Size.QUICK: 1_000_000, Size.FULL: 1_000_000}
SLOW = {Size.TINY: 50, Size.QUICK: 500, Size.FULL: 3_000}


class Steps:
    """Times every step of the loops of one thread."""

    def __init__(self) -> None:
        self.longest = self.own = 0.0
        run = events.Handle._run  # noqa: SLF001 - the one place through which every step goes
        thread = threading.get_ident()

        def timed(handle: events.Handle) -> None:
            if threading.get_ident() != thread:
                run(handle)
                return
            begun, own = time.perf_counter(), time.thread_time()
            run(handle)
            self.own = max(self.own, time.thread_time() - own)
            self.longest = max(self.longest, time.perf_counter() - begun)

        events.Handle._run = timed  # type: ignore[assignment,method-assign]  # noqa: SLF001 - as above

    def during(self, run: Callable[[], Awaitable[Any]], runner: asyncio.Runner) -> tuple[float, float]:
        """The longest step, and the longest in its own time."""

        async def apart() -> None:
            await asyncio.sleep(0)
            self.longest = self.own = 0.0
            await run()

        runner.run(apart())
        return self.longest, self.own


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pool.map(...)``, and ``async for``."""
    from aiopool import Pool

    async def integers() -> None:
        await pool.map(echo, range(INTEGERS[size]), progress=False)

    async def awaited() -> None:
        await pool.map(slow_value, range(SLOW[size]), progress=False)

    async def read() -> None:
        async for _ in pool.map(slow_value, range(SLOW[size]), progress=False):
            pass

    steps = Steps()
    with Pool(workers=WORKERS) as pool, asyncio.Runner() as runner:
        pool.map(echo, range(1_000), progress=False).result()

        def turn() -> dict[str, float]:
            found = [steps.during(run, runner) for run in (integers, awaited, read)]
            longest = dict(zip(("integers", "awaited", "read"), (each[0] for each in found), strict=True))
            return longest | {"own": max(each[1] for each in found)}

        yield turn


TEXTS = {"integers": "1,000,000 integers awaited", "awaited": "slow results awaited", "read": "slow results read"}

SUBJECT = Subject(
    key="steps",
    title="The longest step of the caller's loop",
    contenders=(Contender(OURS, ours),),
    metrics={name: Metric(text, "seconds") for name, text in TEXTS.items()}
    | {"own": Metric("of all, in the thread's own time", "seconds")},
    promises=tuple(
        Promise(
            10, f"longest step on the caller's loop: {text}", "at most", 0.02, (OURS, name), how="alone", unit="seconds"
        )
        for name, text in TEXTS.items()
    ),
    rounds={Size.TINY: 1, Size.QUICK: 5, Size.FULL: 9},
)
