"""Waiting for news of a job: on an event loop, or in a blocking call that an interrupt ends."""

from __future__ import annotations

import asyncio
import enum
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, Self

from aiopool._runtime.waiters import TICK, LoopWaiter, ThreadWaiter, Waiter

__all__ = ["Awaited", "Interrupt", "Look", "Step", "attended", "wait_in_thread", "wait_on_loop", "watch_waits"]


class Step(enum.Enum):
    """What a look at the results told: there it is; look again at once, more can be loaded; or wait for news."""

    READY = 1
    AGAIN = 2
    WAIT = 3


Look = Callable[[], Step]


class Awaited(Protocol):
    """What somebody waits for: the results of a job, or a call."""

    def add(self, waiter: Waiter) -> bool:
        """Have this one told; look after this, not before. False: it has ended, nobody will be told."""

    def discard(self, waiter: Waiter) -> None:
        """Tell this one no more."""


_watches: list[Callable[[Awaited], Callable[[], object] | None]] = []


def watch_waits(watch: Callable[[Awaited], Callable[[], object] | None]) -> None:
    """Have ``watch(results)`` called where somebody begins to wait; what it returns is called when that is over."""
    _watches.append(watch)


def attended(results: Awaited) -> Callable[[], object] | None:
    """Somebody begins to wait here; what is to be called when that is over."""
    return _watches[-1](results) if _watches else None


async def wait_on_loop(results: Awaited, wants: int, look: Look, seconds: float | None = None) -> bool:
    """Wait until the look finds what it looks for. False: the time is up.

    After the look that found it nothing is awaited any more, so that a cancel cannot come between it and the caller.
    """
    __tracebackhide__ = True  # a look may raise what the job has to say
    if (step := look()) is Step.READY:
        return True
    deadline = None if seconds is None else time.monotonic() + seconds
    with LoopWaiter(wants) as waiter:
        alarm = None if seconds is None else waiter.alarm(seconds)
        over = attended(results)
        results.add(waiter)
        try:
            if step is Step.AGAIN:
                # A look may take its whole slice of time, and two of them are not one step of the loop.
                await asyncio.sleep(0)
            while (step := look()) is not Step.READY:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                if step is Step.AGAIN:
                    await asyncio.sleep(0)
                else:
                    await waiter.news()
        finally:
            results.discard(waiter)
            if over is not None:
                over()
            if alarm is not None:
                alarm.cancel()
    return True


def wait_in_thread(
    results: Awaited,
    wants: int,
    look: Look,
    seconds: float | None,
    *,
    before_blocking: Callable[[], object],
    on_interrupt: Callable[[], object],
) -> tuple[bool, bool]:
    """The same in a blocking call: (whether it was found in time, whether an interrupt ended the wait)."""
    __tracebackhide__ = True
    deadline = None if seconds is None else time.monotonic() + seconds
    waiter = ThreadWaiter(wants)
    added = False
    over = None
    with Interrupt(waiter.tell) as interrupt:
        try:
            while not interrupt.pressed and (step := look()) is not Step.READY:
                late = deadline is not None and time.monotonic() >= deadline
                if step is Step.AGAIN:
                    if late:
                        return False, interrupt.pressed
                elif not added:
                    before_blocking()
                    over = attended(results)
                    results.add(waiter)
                    added = True
                elif late:
                    return False, interrupt.pressed
                else:
                    waiter.wait(interrupt.nap(deadline))
        finally:
            if added:
                results.discard(waiter)
            if over is not None:
                over()
            if interrupt.pressed:
                # Here, where our handler still stands: a second press must not come before the first has its effect.
                on_interrupt()
    return True, interrupt.pressed


class Interrupt:
    """Catches SIGINT during a blocking wait in the main thread, and says that it was pressed.

    Python's own handler would raise at any line of ours. And in a cell that contains an ``await``, ipykernel's handler
    only schedules a cancel of the cell, which a blocked loop never gets to. A process that ignores SIGINT stays so.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.pressed = False
        self._wake = wake
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            # None: installed by C code, and could not be put back.
            if previous not in (None, signal.SIG_IGN):
                signal.signal(signal.SIGINT, self._press)
                self._previous = previous
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None and signal.getsignal(signal.SIGINT) == self._press:
            signal.signal(signal.SIGINT, self._previous)

    def _press(self, _signum: int, _frame: FrameType | None) -> None:
        self.pressed = True
        self._wake()

    def nap(self, until: float | None) -> float | None:
        """How long to wait at a time, up to a monotonic deadline.

        In the main thread that is a tick: a signal that the system gave to another thread, and one that
        ``_thread.interrupt_main()`` made up, is not handled before the main thread runs again.
        """
        left = None if until is None else until - time.monotonic()
        if self._previous is None:
            return left
        return 2 * TICK if left is None else min(left, 2 * TICK)
