"""The pool's own thread with its own loop. The kernel's loop is never touched, and a cell that blocks blocks nobody."""

from __future__ import annotations

import asyncio
import contextvars
import math
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class IOThread:
    """A daemon thread that runs a loop. Calls from other threads are taken in batches, in order."""

    def __init__(self, name: str) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._notified = False
        self._taking = False
        self._foreign = False
        # Whoever takes it first sees to the end of the loop: the thread when it runs, or below who could not start it.
        self._begun = threading.Lock()
        loop = None
        try:
            loop = self.loop = asyncio.new_event_loop()
            # With -X dev asyncio tells of whatever takes 0.1 s, as a start of a process may: nothing a user can act on.
            loop.slow_callback_duration = math.inf
            # An empty Context: whatever runs here must not stay pinned to the cell that happened to open the pool.
            self._thread = threading.Thread(
                target=contextvars.Context().run, args=(self._run,), name=f"aiopool-{name}", daemon=True
            )
            self._thread.start()
        except BaseException:
            # Stop, or the end of an item, which may come at any line; or there are too many threads already. A thread
            # that was started may not have come to its first line, and then looks as if it never would.
            if loop is not None:
                if self._begun.acquire(blocking=False):
                    loop.close()
                else:
                    self.call(loop.stop)
            raise

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked child, where the thread does not run."""
        return self._foreign

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run this on the thread soon. Thread-safe; many calls between two turns of the loop cost one wake-up."""
        if self._foreign:
            return
        self._calls.append((function, args))
        # Set and cleared without a lock: the loop clears it before it takes calls, so one that finds it set is taken.
        if not self._notified:
            try:
                self._notified = True
                self._wake()
            except BaseException:
                # Stop, in the middle of it: whoever finds the mark relies on the wake-up, so it must come all the same.
                self._wake()
                raise

    @property
    def is_quiet(self) -> bool:
        """Whether the thread has done all that it was called for, by this thread at least. Any thread."""
        # In this order: a call is taken in hand before it is taken out.
        return not (self._calls or self._taking or self._foreign)

    def waits_with(self, function: Callable[..., object]) -> bool:
        """Whether the last call that the thread has not come to yet is one of this function. Any thread."""
        try:
            return bool(self._calls) and self._calls[-1][0] == function
        except IndexError:
            return False  # The thread has just come to it.

    def following(self, function: Callable[..., object]) -> Iterator[tuple[Any, ...]]:
        """The arguments of the calls that come next, as long as they are of this function. For one that runs there."""
        while self._calls and self._calls[0][0] == function:
            yield self._calls.popleft()[1]

    def _wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._take_calls, context=contextvars.Context())
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def ask(self, function: Callable[..., T], *args: Any, timeout: float = 30.0) -> T:
        """Run this on the thread and wait for what it returns; once the loop has ended, run it here."""
        if self.is_current or self._foreign or self.loop.is_closed():
            return function(*args)
        answer: Future[T] = Future()
        taken = threading.Lock()

        def run() -> None:
            if not taken.acquire(blocking=False):
                return
            try:
                answer.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001  # it is raised in the thread that asked
                answer.set_exception(error)

        self.call(run)
        # The thread takes what was called before the loop closed. What came later nobody takes: look after calling.
        if self.loop.is_closed():
            run()
        return answer.result(timeout)

    def stop(self) -> None:
        """End the loop once what was called is done."""
        self.call(self.loop.stop)

    def disown(self) -> None:
        """This is a forked child: the thread is the parent's, and nobody takes calls here."""
        self._foreign = True

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout)

    def _take_calls(self) -> None:
        self._taking = True
        self._notified = False
        try:
            for _ in range(len(self._calls)):
                if not self._calls:
                    break  # Some were taken together.
                function, args = self._calls.popleft()
                function(*args)
        finally:
            self._taking = False
            # Also when one raised, which the loop's exception handler is told: the others must not wait for news.
            if self._calls and not self._notified:
                self._notified = True
                self.loop.call_soon(self._take_calls)

    def _run(self) -> None:
        # Stop belongs to the main thread. Children inherit the mask, so that none can be struck while it starts.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        if not self._begun.acquire(blocking=False):
            return  # Whoever has started it was struck before this line, and nobody has it.
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            self._take_last_calls()

    def _take_last_calls(self) -> None:
        """Take what was called while the loop was ending: somebody may wait for it."""
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001  # told, and the others have their turn
                self.loop.call_exception_handler({"message": "a call after the end failed", "exception": error})
