"""One life of a per-worker resource: it is opened, used by many, and closed.

An async one lives in a Task of its own, which opens it, waits, and closes it: cancel scopes and ``async with`` want
one task, and neither the timeout nor the cancel of an item may reach it. A sync one is opened in the thread that
asks for it first; the others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Iterator, Sequence
from contextvars import Context, ContextVar
from typing import Any, Literal, Protocol

from aiopool._payload.tracebacks import without_library_frames as of_the_user
from aiopool.inside import running

__all__ = ["AsyncLife", "Life", "SyncLife", "opened_by"]

MERCY_SECONDS = 0.2
"""How long the code of a resource may go on after it was cancelled before nobody waits for it any more."""

opened_by: ContextVar[Life | None] = ContextVar("aiopool resource", default=None)
"""The resource whose opening or closing code runs here."""


class Shelf(Protocol):
    """Who is told what becomes of a life."""

    def opened(self, life: Life) -> None:
        """It is open."""

    def ended(self, life: Life) -> None:
        """It takes no new users: it could not be opened, or is about to be closed."""

    def gone(self, life: Life) -> None:
        """It is closed, and needs nothing any more."""

    def unused(self, life: Life) -> None:
        """A job that used it has ended. Any thread."""


class Life:
    """What both sorts share: who uses it, what it needs itself, and how it stands.

    ``key`` is the name and the digest of its function, and the loop that it is bound to. ``superseded`` says that a
    newer form of it is in use: it is closed when nobody uses it any more.
    """

    def __init__(self, function: types.FunctionType, key: tuple[Any, ...], context: Context, shelf: Shelf) -> None:
        self.function = function
        self.key = key
        self.state: Literal["opening", "open", "closing", "gone"] = "opening"
        self.value: Any = None
        self.error: Exception | None = None
        self.superseded = False
        self.needs: set[Life] = set()
        self.needed_by: set[Life] = set()
        self.waits_for: Life | None = None
        self._traceback: types.TracebackType | None = None
        self._users: dict[int, weakref.ref[object]] = {}
        self._context = context
        self._shelf = shelf
        context.run(running.set, None)
        context.run(opened_by.set, self)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.function.__qualname__.rpartition("<locals>.")[2]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop in which it lives; None for a sync one."""
        loop: asyncio.AbstractEventLoop | None = self.key[-1]
        return loop

    # --- who uses it -----------------------------------------------------------------------------------------------

    def use(self, user: object, other: Life | None) -> None:
        """A job uses it now, or another resource does."""
        if other is not None:
            other.needs.add(self)
            self.needed_by.add(other)
        elif user is not None and id(user) not in self._users:
            number = id(user)
            self._users[number] = weakref.ref(user, lambda _: self._lose(number))

    def _lose(self, number: int) -> None:
        self._users.pop(number, None)
        if self.superseded and not self._users:
            self._shelf.unused(self)

    @property
    def is_unused(self) -> bool:
        """Whether it is open, has a successor, and nothing is left that could use it."""
        return self.superseded and self.state == "open" and not self._users and not self.needed_by

    # --- how it goes -----------------------------------------------------------------------------------------------

    def start_to_close(self) -> None:
        """Have it close: it does, in its own place and time. Any thread."""
        raise NotImplementedError

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Somebody waits for it to be open. Two resources that wait for each other would wait for ever."""
        me = opened_by.get()
        if me is None:
            yield
            return
        life: Life | None = self
        while life is not None:
            if life is me:
                raise RuntimeError(f"{me.name} cannot be opened: while it opens, it waits for itself to be open")
            life = life.waits_for
        me.waits_for = self
        try:
            yield
        finally:
            me.waits_for = None

    def raise_if_failed(self) -> None:
        """Raise what the opening raised, with the traceback it had: each who waited adds lines of his own."""
        __tracebackhide__ = True
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)

    def _failed(self, error: Exception | None) -> None:
        """It could not be opened. Without an error, those who wait try it themselves."""
        if error is not None:
            self.error = error
            self._traceback = of_the_user(error).__traceback__
        self.state = "gone"
        self._shelf.ended(self)
        self._shelf.gone(self)

    def _opened(self) -> None:
        self.state = "open"
        self._shelf.opened(self)

    def _closing(self) -> None:
        self.state = "closing"
        self._shelf.ended(self)

    def _closed(self) -> None:
        self.state = "gone"
        self.value = None
        self._shelf.gone(self)

    def _complain(self, error: BaseException, what: str = "failed") -> None:
        """An error in closing harms nobody; it is printed where the worker prints."""
        told = "".join(traceback.format_exception(of_the_user(error)))
        print(f"closing the per-worker resource {self.name} {what}:\n{told}", end="", file=sys.stderr, flush=True)  # noqa: T201 - a worker's stderr is shown under the cell


class SyncLife(Life):
    """A ``def``, or a generator whose code behind the ``yield`` closes."""

    def __init__(self, function: types.FunctionType, key: tuple[Any, ...], context: Context, shelf: Shelf) -> None:
        super().__init__(function, key, context, shelf)
        self._generator: Any = None
        self._tried = threading.Event()
        self._one_at_a_time = threading.Lock()

    def open(self) -> Any:
        """Open it here and now; whoever else wants it waits in :meth:`wait`."""
        __tracebackhide__ = True
        try:
            value = self.value = self._context.run(self._begin)
        except Exception as error:  # noqa: BLE001 - the user's own code; raised again without our lines
            self._failed(error)
        except BaseException:
            self._failed(None)  # The end of the one item that opens it, and of no other.
            raise
        else:
            self._opened()
        finally:
            self._tried.set()
        self.raise_if_failed()
        return value

    def wait(self) -> None:
        """Wait until the one who opens it has done so or failed."""
        __tracebackhide__ = True
        with self.awaited():
            self._tried.wait()
        self.raise_if_failed()

    def _begin(self) -> Any:
        if not inspect.isgeneratorfunction(self.function):
            return self.function()
        self._generator = self.function()
        try:
            return next(self._generator)
        except StopIteration:
            raise RuntimeError(f"{self.name} has ended without a yield: it must yield the resource, once") from None

    def start_to_close(self) -> None:
        """Close it here and now."""
        with self._one_at_a_time:
            if self.state != "open":
                return
            self._closing()
        try:
            if self._generator is not None:
                self._context.run(self._end)
        except Exception as error:  # noqa: BLE001 - the user's own code
            self._complain(error)
        finally:
            self._closed()

    def _end(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            return
        self._generator.close()
        raise RuntimeError(f"{self.name} yields more than once: what stands behind its yield only closes")


class AsyncLife(Life):
    """An ``async def``, or an async generator whose code behind the ``yield`` closes."""

    def __init__(self, function: types.FunctionType, key: tuple[Any, ...], context: Context, shelf: Shelf) -> None:
        super().__init__(function, key, context, shelf)
        self._loop: asyncio.AbstractEventLoop = key[-1]
        self._generator: Any = None
        self._waiters: list[asyncio.Future[Any]] = []
        self._close_now = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._overdue: Exception | None = None
        self._late = False

    # --- who waits -------------------------------------------------------------------------------------------------

    def start(self, limit: float, closing: Sequence[Life] = ()) -> None:
        """Begin to open it, within so many seconds, and when what it replaces has closed."""
        # In its own context: that of the item would keep the item's job in use until the limit has passed.
        alarm = self._loop.call_later(limit, self._cancel_overdue, limit, context=self._context)
        self._task = self._loop.create_task(
            self._live(alarm, closing), name=f"aiopool {self.name}", context=self._context
        )
        # A loop that ends without its tasks (a kernel's, at exit) drops this one too; that is nobody's mistake.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001

    async def wait(self) -> Any:
        """Wait until it is open or has failed. Whoever is cancelled here leaves the others their opening."""
        __tracebackhide__ = True
        value = self.value
        if self.state == "opening":
            with self.awaited():
                waiter: asyncio.Future[Any] = self._loop.create_future()
                self._waiters.append(waiter)
                value = await waiter
        self.raise_if_failed()
        return value

    def _tell(self) -> None:
        for waiter in self._waiters:
            if not waiter.done() and not self._loop.is_closed():
                waiter.set_result(self.value)
        self._waiters.clear()

    def _cancel_overdue(self, limit: float) -> None:
        self._overdue = TimeoutError(
            f"{self.name} was not open within {limit:g} s. Give it more time with Pool(start_timeout=...)"
        )
        if self._task is not None:
            self._task.cancel()
        self._loop.call_later(MERCY_SECONDS, self._give_up_opening, context=self._context)

    def _give_up_opening(self) -> None:
        # It swallowed the cancellation. Should it open yet, it is closed again.
        if self.state == "opening" and self._overdue is not None:
            self._failed(self._overdue)
            self._tell()

    # --- its task --------------------------------------------------------------------------------------------------

    async def _live(self, alarm: asyncio.TimerHandle, closing: Sequence[Life]) -> None:
        try:
            for life in closing:
                if isinstance(life, AsyncLife) and life.loop is self._loop:
                    await life.until_gone()
            self.value = await self._begin()
            if self._overdue is not None:
                raise self._overdue
            self._opened()
        except GeneratorExit:
            raise  # The loop was dropped with everything in it.
        except BaseException as error:  # noqa: BLE001 - told to those who wait
            if self.state == "opening":
                self._failed(self._instead_of(error))
            await self._end()
            return
        finally:
            alarm.cancel()
            self._tell()
        try:
            await self._close_now
        except asyncio.CancelledError:
            # The loop ends (asyncio.run cancels what is left in it): time to close.
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        if self.state == "open":
            self._closing()
        await self._end()
        self._closed()

    def _instead_of(self, error: BaseException) -> Exception:
        """What is told to those who wait: a cancellation or an exit must not end them, too."""
        told = self._overdue
        if told is None:
            if isinstance(error, Exception):
                return error
            told = RuntimeError(f"{self.name} was not opened: {type(error).__name__} was raised in it")
        if told is not error:
            told.__cause__ = of_the_user(error)  # Shows where it waited.
        return told

    async def _begin(self) -> Any:
        if not inspect.isasyncgenfunction(self.function):
            return await self.function()
        self._generator = self.function()
        try:
            return await anext(self._generator)
        except StopAsyncIteration:
            raise RuntimeError(f"{self.name} has ended without a yield: it must yield the resource, once") from None

    async def _end(self) -> None:
        if self._generator is None:
            return
        try:
            await anext(self._generator)
        except StopAsyncIteration:
            return
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the user's own code
            self._complain(error, "took too long" if self._late else "failed")
            return
        await self._generator.aclose()
        self._complain(RuntimeError(f"{self.name} yields more than once: what stands behind its yield only closes"))

    # --- its end ---------------------------------------------------------------------------------------------------

    def start_to_close(self) -> None:
        """Have its task close it. Any thread."""
        if self.state == "open":
            self._closing()
            with contextlib.suppress(RuntimeError):  # The loop has closed, and took it along.
                self._loop.call_soon_threadsafe(self._wake_to_close)

    def _wake_to_close(self) -> None:
        if not self._close_now.done():
            self._close_now.set_result(None)

    async def until_gone(self) -> None:
        """Wait until it is closed, however that went."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def close_within(self, seconds: float) -> None:
        """Close it, by force when the time is over."""
        if self._task is None:
            return
        if self.state == "opening":
            self._task.cancel()
        self.start_to_close()
        _, late = await asyncio.wait({self._task}, timeout=seconds)
        if late:
            self._late = True
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=MERCY_SECONDS)
