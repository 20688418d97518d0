"""Waking those who wait: the pool's thread tells, and a coroutine on any loop or a call in any thread is told.

A waiter is told at most once until it has taken the news, whatever happens meanwhile; it then looks at the job itself.
So a waiter first registers and then looks, and what it was told is never more than "look again".
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, Self

__all__ = ["ANYTHING", "BACKLOG", "END", "TICK", "Callback", "LoopWaiter", "ThreadWaiter", "Waiter"]

END = -1
BACKLOG = -2
ANYTHING = -3

TICK = 0.05


class Waiter(Protocol):
    """Somebody who waits for a job, as the pool's thread sees them.

    ``wants`` says what is worth waking for, besides the end: an item by its index, ``ANYTHING`` that arrives,
    a ``BACKLOG`` of values that nobody has loaded, or the ``END`` alone. ``asks``: it will look how the job has ended.
    """

    wants: int
    asks: bool

    def tell(self) -> None:
        """Say that there is news. Never blocks, never raises, and may be called by any thread."""


class Bridge:
    """The way from other threads to one event loop, shared by everybody who waits on that loop.

    However many are told at once, the loop is woken once. While somebody waits, the loop also ticks: an interrupt
    of a Jupyter kernel only schedules a cancel, which the loop does not notice before it wakes by itself.
    """

    __slots__ = ("_scheduled", "_told", "is_ticking", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting = 0
        self._told: deque[LoopWaiter] = deque()
        self._scheduled = False
        self.is_ticking = False

    def tell(self, waiter: LoopWaiter) -> None:
        """Have the loop wake this waiter. A loop that has closed takes its waiters with it."""
        self._told.append(waiter)
        if self._scheduled:
            return
        self._scheduled = True
        try:
            # Not in the context of whoever tells: what runs on the loop must not be pinned to another cell.
            self.loop.call_soon_threadsafe(self._wake_told, context=contextvars.Context())
        except RuntimeError:
            self._told.clear()
            self._scheduled = False

    def _wake_told(self) -> None:
        # Lowered before the queue is read: a teller that finds it raised has put its waiter in before that read.
        self._scheduled = False
        told = self._told
        while told:
            told.popleft().wake()

    def tick_while_waiting(self) -> None:
        """Start the tick, unless it runs. It ends by itself, one tick after nobody waits any more."""
        if not self.is_ticking:
            self.is_ticking = True
            self.loop.call_later(TICK, self._tick, context=contextvars.Context())

    def _tick(self) -> None:
        self.is_ticking = False
        if self.waiting:
            self.tick_while_waiting()
        elif getattr(_here, "bridge", None) is self:
            # A thread that waits no more must not keep its loop alive.
            del _here.bridge


_here = threading.local()


def bridge_here() -> Bridge:
    """The bridge to the loop that runs in this thread."""
    loop = asyncio.get_running_loop()
    bridge: Bridge | None = getattr(_here, "bridge", None)
    if bridge is None or bridge.loop is not loop:
        bridge = _here.bridge = Bridge(loop)
    return bridge


class LoopWaiter:
    """One coroutine that waits. Made on its loop; ``with`` it, and await ``news()`` as often as needed."""

    __slots__ = ("_bridge", "_future", "_told", "wants")

    asks = True

    def __init__(self, wants: int) -> None:
        self.wants = wants
        self._bridge = bridge_here()
        self._future: asyncio.Future[None] | None = None
        self._told = False

    def __enter__(self) -> Self:
        if not self._bridge.is_ticking:
            self._bridge.tick_while_waiting()
        self._bridge.waiting += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._bridge.waiting -= 1

    def tell(self) -> None:
        """Say that there is news."""
        if not self._told:
            self._told = True
            self._bridge.tell(self)

    def wake(self) -> None:
        """Go on, in the loop's own thread."""
        # Lowered first: who was told from here on is woken again. One that was told but does not wait yet will
        # look before it waits.
        self._told = False
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def news(self) -> asyncio.Future[None]:
        """Await this once the job was looked at and there was nothing; no await may stand between the two."""
        self._future = self._bridge.loop.create_future()
        return self._future

    def alarm(self, seconds: float) -> asyncio.TimerHandle:
        """Wake in so many seconds as well."""
        return self._bridge.loop.call_later(seconds, self.wake)


class ThreadWaiter:
    """One thread that waits in a blocking call."""

    __slots__ = ("_bell", "_told", "wants")

    asks = True

    def __init__(self, wants: int) -> None:
        self.wants = wants
        self._told = False
        # A SimpleQueue may be put to from a signal handler and from a finaliser, and its get() lets signals in.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def tell(self) -> None:
        """Say that there is news; ringing twice by chance does no harm."""
        if not self._told:
            self._told = True
            self._bell.put(None)

    def wait(self, seconds: float | None) -> None:
        """Return when told, or when the time is up."""
        try:
            self._bell.get(timeout=None if seconds is None else min(max(seconds, 0.0), threading.TIMEOUT_MAX))
        except queue.Empty:
            return
        self._told = False


class Callback:
    """A function to call once at the end: on a loop, or, where that is None, in the pool's own thread."""

    wants = END

    def __init__(
        self,
        function: Callable[[Any], object],
        argument: object,
        *,
        loop: asyncio.AbstractEventLoop | None,
        asks: bool = True,
    ) -> None:
        self.asks = asks
        self._function = function
        self._argument = argument
        self._context = contextvars.copy_context()
        self._loop = loop

    @classmethod
    def here(cls, function: Callable[[Any], object], argument: object) -> Self:
        """On the loop that runs here now, if one does."""
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        return cls(function, argument, loop=loop)

    def tell(self) -> None:
        """Call it where it belongs. A loop that has closed takes its callbacks with it."""
        if self._loop is None:
            # Not on the loop that runs here, which is a pool's: what a task of the user's raised there would be its.
            running = asyncio._get_running_loop()  # noqa: SLF001 - nothing public hides it
            asyncio._set_running_loop(None)  # noqa: SLF001
            try:
                self._context.run(self.call)
            finally:
                asyncio._set_running_loop(running)  # noqa: SLF001
            return
        try:
            self._loop.call_soon_threadsafe(self.call, context=self._context)
        except RuntimeError:
            logging.getLogger("aiopool").debug("the loop of the callback %r has closed", self._function)

    def call(self) -> None:
        """Call it here and now. What it raises is logged: nobody is there to catch it, and the loop must live."""
        try:
            self._function(self._argument)
        except BaseException:
            logging.getLogger("aiopool").exception("the callback %r of %r failed", self._function, self._argument)
