"""The job of one call by submit: to its user a job as any other, made in full when he asks for more than its value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from aiopool._runtime.calls import Call
from aiopool._runtime.results import EMPTY
from aiopool._runtime.waiters import END, LoopWaiter
from aiopool._runtime.waits import attended, wait_in_thread
from aiopool.job import Job

__all__ = ["Submitted"]

R = TypeVar("R")

PARTS = frozenset(
    {"id", "name", "call", "labelled", "started", "owner", "_control", "_results", "_failures", "_reading", "_again"}
)
"""What a job is made of."""


class Submitted(Job[R]):
    """A job of which there is only the call until one of its parts is asked for."""

    def __init__(self, call: Call) -> None:
        # That of a job comes later.
        self._call = call

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            __tracebackhide__ = True
            if name not in PARTS:
                return super().__getattr__(name)
            # Two threads at once make two, of which one is it for good: without a lock, as a finaliser may come here.
            own = vars(self)
            whole = own.get("_whole") or own.setdefault("_whole", self._call.shape.job_of(self._call))
            for part, value in vars(whole).items():
                own.setdefault(part, value)
            return own[name]

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *PARTS})

    def __await__(self) -> Generator[Any, None, Any]:
        __tracebackhide__ = True
        call = self._call
        if not call.done:
            # In one go what :func:`wait_on_loop` does: of a thousand calls that are gathered each comes through here.
            over = attended(call)
            waiter = LoopWaiter(END)
            try:
                with waiter:
                    if call.add(waiter):
                        yield from waiter.news()
            except BaseException as error:
                call.discard(waiter)
                if isinstance(error, asyncio.CancelledError):
                    self._reading.stop(error)
                raise
            finally:
                if over is not None:
                    over()
        value = call.value()
        return value if value is not EMPTY else (yield from self._all().__await__())

    def result(self, timeout: float | None = None) -> Any:
        """As :meth:`Job.result`."""
        __tracebackhide__ = True
        call = self._call
        until = None if timeout is None else time.monotonic() + timeout
        try:
            _, interrupted = wait_in_thread(
                call, END, call.look, timeout, before_blocking=self._refuse_to_block, on_interrupt=self._stop
            )
        except KeyboardInterrupt as error:
            # Not by way of our handler: raised into this thread by somebody, or no handler could be installed.
            self._reading.stop(error)
            raise
        if interrupted:
            self._reading.raise_stopped()
        value = call.value()
        # Else it has failed, takes some time to load, or has not ended in time.
        return value if value is not EMPTY else super().result(None if until is None else until - time.monotonic())

    def _refuse_to_block(self) -> None:
        __tracebackhide__ = True
        if self._call.shape.must_not_block(self._call.id):
            self._reading.refuse_to_block()

    def _stop(self) -> None:
        self._reading.end(stopped=True)

    def done(self) -> bool:
        """As :meth:`Job.done`."""
        return self._call.done
