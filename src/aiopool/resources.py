"""``@per_worker``: what is opened once per worker and shared by its items, such as an HTTP session or a model."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import copyreg
import functools
import importlib
import inspect
import os
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from aiopool import inside
from aiopool._payload.fingerprints import Fingerprint, fingerprint
from aiopool._payload.parts import Step, parts
from aiopool.lives import MERCY_SECONDS, AsyncLife, Life, SyncLife, opened_by

__all__ = ["AsyncResource", "SyncResource", "close_all", "per_worker"]

T = TypeVar("T")

CLOSE_SECONDS = 1.5
"""How long all resources of a worker together may take to close."""

MOST_STOPS = 10
"""So often a loop may be stopped from elsewhere before what closes on it has ended."""

KERNEL_LIMIT = 60.0
"""Seconds for an opening outside of a worker, where there is no pool to say it."""


@overload
def per_worker(function: Callable[[], AsyncIterator[T]]) -> AsyncResource[T]: ...  # type: ignore[overload-overlap]
@overload
def per_worker(  # type: ignore[overload-overlap]  # The last one stands for all others.
    function: Callable[[], Coroutine[Any, Any, T]],
) -> AsyncResource[T]: ...
@overload
def per_worker(function: Callable[[], Iterator[T]]) -> SyncResource[T]: ...
@overload
def per_worker(function: Callable[[], T]) -> SyncResource[T]: ...
def per_worker(function: Any) -> Any:
    """Make a function that opens something into a resource: opened once per worker, and shared by its items.

    ::

        @per_worker
        async def session():                      # an async generator: what stands behind the yield closes
            async with httpx.AsyncClient() as client:
                yield client

        @per_worker
        def model():                              # or a def, an async def, a generator
            return load("model.bin")

        async def fetch(url):
            s = await session()                   # an async one is awaited
            return (await s.get(url)).text

        def score(image):
            return model().predict(image)         # a sync one is called, in a ``def`` or an ``async def``

    It is opened when a worker first uses it: an async one in a task of its own, a sync one where it is called. That is
    no item's time and no item's to cancel; an async one has ``start_timeout`` seconds of the pool. When it fails,
    whoever waits for it gets the error, and who asks next tries again. It is closed when its worker retires or the
    pool closes, in the reverse order of opening; a worker that is killed closes nothing. Closing may take 3 seconds in
    all: a worker that has not ended by then is killed, which is logged as a warning.

    An edited one is opened anew: when its code, that of its helpers, or the value of a global that they read is
    another one than before. The old one is closed when the jobs that used it here have ended.

    It takes no arguments: it reads what it needs from globals. In the notebook itself it works too, once per event
    loop, and a global counts as changed there when it is assigned anew.

    Raises TypeError for what is no function, or one that needs arguments.
    """
    __tracebackhide__ = True
    if not isinstance(function, types.FunctionType):
        what = "a class" if isinstance(function, type) else f"{function!r}"
        raise TypeError(f"@per_worker stands above a function, not {what}: write a def that returns what it makes")
    needed = _needed_arguments(function)
    if needed:
        raise TypeError(
            f"{function.__qualname__}({', '.join(needed)}) needs arguments, but a per-worker resource is opened "
            f"without any: read `{needed[0]}` from a global, or return a dict with one for each"
        )
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return AsyncResource(function) if is_async else SyncResource(function)


def _needed_arguments(function: types.FunctionType) -> list[str]:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.default is each.empty and each.kind not in optional]


class _Resource(Generic[T]):
    """A function that opens, and the way to what it has opened in this process. Travels as that function."""

    _use: str

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self._taken: Fingerprint | None = None

    def __repr__(self) -> str:
        return f"<per-worker resource {self.function.__qualname__}>"

    if not TYPE_CHECKING:  # A type checker tells the mistake by itself.

        def __getattr__(self, name: str) -> Any:
            if name in ("__name__", "__qualname__") and "function" in vars(self):
                return getattr(self.function, name)
            if name.startswith("_"):  # What libraries look for, also in one that is being unpickled.
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            __tracebackhide__ = True
            title = self.function.__name__
            raise AttributeError(f"{title} is a per-worker resource: write {self._use.format(title)}.{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        module, name = self.function.__module__, self.function.__qualname__
        if _importable(module, name) is self:
            return _import, (module, name)
        # The function as state: what it reads may lead back to this.
        return copyreg.__newobj__, (type(self),), self.function  # type: ignore[attr-defined]

    def __setstate__(self, function: types.FunctionType) -> None:
        _Resource.__init__(self, function)

    def key(self, loop: asyncio.AbstractEventLoop | None) -> tuple[Any, ...]:
        """Which life is meant: module and name, the digest of what the function would do, and the loop.

        In a worker each job brings a resource of its own, so that there the digest is that of the job's first use.
        """
        if self._taken is None or not (inside.is_worker() or self._taken.is_current()):
            self._taken = fingerprint(self.function)
        return self.function.__module__, self.function.__qualname__, self._taken.digest, loop

    def look_again(self) -> None:
        """What its function reads may be something else from now on, also where each job would bring another one."""
        self._taken = None


class AsyncResource(_Resource[T]):
    """What ``@per_worker`` makes of an ``async def``: ``await session()`` in an ``async def`` gives the open one."""

    _use = "(await {}())"

    def __call__(self) -> Awaitable[T]:
        """The open resource, to be awaited. Raises RuntimeError where no event loop runs, as in a ``def`` item."""
        __tracebackhide__ = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            title = self.function.__name__
            raise RuntimeError(
                f"{title} is async, and no event loop runs in this thread: use it in an `async def` "
                f"(x = await {title}()), or make the resource itself a `def`"
            ) from None
        return _Asked(self, loop)


class _Asked(Awaitable[T]):
    """``session()`` before it is awaited."""

    def __init__(self, resource: AsyncResource[T], loop: asyncio.AbstractEventLoop) -> None:
        self._resource = resource
        self._loop = loop

    def __await__(self) -> Generator[Any, None, T]:
        return self._value().__await__()

    async def _value(self) -> T:
        __tracebackhide__ = True
        if (life := _shelf.open_one(self._resource, self._loop)) is not None:
            return life.value  # type: ignore[no-any-return]
        with _held():
            life, is_new = _shelf.find(self._resource, self._loop, AsyncLife)
            if is_new:
                life.start(_shelf.limit, _shelf.close_unused())
            return await life.wait()  # type: ignore[no-any-return]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            __tracebackhide__ = True
            title = self._resource.function.__name__
            raise AttributeError(f"{title}() must be awaited: write (await {title}()).{name}")

        async def __aenter__(self) -> NoReturn:
            __tracebackhide__ = True
            title = self._resource.function.__name__
            raise TypeError(
                f"{title}() is shared by the items of a worker, none of which may close it: x = await {title}()"
            )

        async def __aexit__(self, *_: object) -> None:
            """Only here for the message above."""


class SyncResource(_Resource[T]):
    """What ``@per_worker`` makes of a ``def``: ``model()`` gives the open one, in any function and any thread."""

    _use = "{}()"

    def __call__(self) -> T:
        """The open resource."""
        __tracebackhide__ = True
        while (life := _shelf.open_one(self, None)) is None:
            with _held(at_most=_shelf.limit):
                life, is_new = _shelf.find(self, None, SyncLife)
                if is_new:
                    _shelf.close_unused()
                    return life.open()  # type: ignore[no-any-return]
                life.wait()
        return life.value  # type: ignore[no-any-return]


@parts.register
def _(thing: _Resource) -> Iterator[Step]:  # type: ignore[type-arg]  # singledispatch wants a class
    """A thing that cannot travel is found inside the function, too."""
    yield "", thing.function


def _importable(module: str, qualname: str) -> object:
    """What stands there, if another process can import it too."""
    found: Any = sys.modules.get(module) if module != "__main__" else None
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _import(module: str, qualname: str) -> object:
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


@contextlib.contextmanager
def _held(*, at_most: float | None = None) -> Iterator[None]:
    """The clock of the item that runs here stands still, and its cancel waits, for so many seconds at most.

    A ``def`` that opens cannot be given a limit of its own; after this its item's timeout and cancel strike again.
    """
    item = inside.running.get()
    if item is None:
        yield
        return
    item.hold()
    once = [item.release]

    def release() -> None:
        with contextlib.suppress(IndexError):
            once.pop()()

    alarm = None
    try:
        if at_most is not None:
            alarm = threading.Timer(at_most, release)
            alarm.daemon = True
            alarm.start()
        yield
    finally:
        if alarm is not None:
            alarm.cancel()
        release()


class _Shelf:
    """What is open in this process, and what is being opened."""

    def __init__(self) -> None:
        self.limit = KERNEL_LIMIT
        # A job's end may be noticed at any line, also where this is held.
        self._lock = threading.RLock()
        self._lives: dict[tuple[Any, ...], Life] = {}
        self._in_order: list[Life] = []
        self._leaving: list[Life] = []
        self._worker: inside.Home | None = None
        self._closes_at_exit = -1

    def set_up(self, home: inside.Home) -> None:
        """This process is a worker."""
        self.limit = home.start_timeout
        self._worker = home

    def open_one(self, resource: _Resource[Any], loop: Any) -> Life | None:
        """The life that is meant, if it is open and no newer one is in use."""
        key = resource.key(loop)
        with self._lock:
            life = self._lives.get(key)
            if life is None or life.state != "open" or life.superseded:
                return None
            self._use(life)
            return life

    def find(self, resource: _Resource[Any], loop: Any, make: Callable[..., Any]) -> tuple[Any, bool]:
        """The life that is meant, the latest of its name from now on, and whether it is new: the caller opens it."""
        key = resource.key(loop)
        with self._lock:
            life = self._lives.get(key)
            is_new = life is None
            if life is None:
                self._drop_closed_loops()
                life = self._lives[key] = make(resource.function, key, self._new_context(), self)
            self._use(life)
            for other in self._lives.values():
                if other.key[:2] == key[:2] and (other.loop is loop or None in (other.loop, loop)):
                    other.superseded = other is not life
        return life, is_new

    def _use(self, life: Life) -> None:
        item = inside.running.get()
        life.use(item and item.job, opened_by.get())

    def _new_context(self) -> Context:
        """What a resource reads from context variables is not the item's that happens to open it."""
        if self._worker is not None:
            return self._worker.context.copy()
        if self._closes_at_exit != os.getpid():
            self._closes_at_exit = os.getpid()
            atexit.register(self._close_at_exit, self._closes_at_exit)
        return copy_context()

    def _drop_closed_loops(self) -> None:
        for life in [*self._lives.values(), *self._leaving]:
            if life.loop is not None and life.loop.is_closed():
                life.state = "gone"
                self.ended(life)
                self.gone(life)

    def close_unused(self) -> list[Life]:
        """Close those that have a successor and no user left; a sync one is closed when this returns."""
        with self._lock:
            found = [life for life in self._in_order if life.is_unused]
        for life in reversed(found):
            life.start_to_close()
        return found

    # --- told by lives ---------------------------------------------------------------------------------------------

    def opened(self, life: Life) -> None:
        """It is open."""
        with self._lock:
            self._in_order.append(life)
        self.close_unused()

    def ended(self, life: Life) -> None:
        """It takes no new users."""
        with self._lock:
            if self._lives.get(life.key) is life:
                del self._lives[life.key]
            if life in self._in_order:
                self._in_order.remove(life)
            if life not in self._leaving:
                self._leaving.append(life)

    def gone(self, life: Life) -> None:
        """It needs nothing any more."""
        with self._lock:
            if life in self._leaving:
                self._leaving.remove(life)
            for other in life.needs:
                other.needed_by.discard(life)
            life.needs.clear()
        self.close_unused()

    def unused(self, _: Life) -> None:
        """The last job that used it has ended, which any thread may notice; it is closed where items run."""
        if self._worker is not None:
            with contextlib.suppress(RuntimeError):  # The loop has closed: so does the worker.
                self._worker.main_thread.call_soon_threadsafe(self.close_unused)

    # --- the end of the process ------------------------------------------------------------------------------------

    def close_all(self) -> None:
        """Close everything, the last one opened first."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._lock:
            opening = [life for life in self._lives.values() if life.state == "opening"]
            left = [*self._leaving, *opening, *reversed(self._in_order)]
        while left:
            life = left.pop(0)
            seconds = max(0.0, deadline - time.monotonic())
            # One that hangs must not take the time of the others.
            self._close(life, seconds / 2 if left else seconds)

    def _close(self, life: Life, seconds: float) -> None:
        if not isinstance(life, AsyncLife):
            life.start_to_close()
        elif life.loop is not None and life.loop.is_running():
            # In a thread of its own, as that of a map inside a ``def``.
            closing = asyncio.run_coroutine_threadsafe(life.close_within(seconds), life.loop)
            concurrent.futures.wait([closing], seconds + MERCY_SECONDS)
        elif life.loop is not None and not life.loop.is_closed():
            _run(life.loop, life.close_within(seconds))

    def _close_at_exit(self, pid: int) -> None:
        if pid == os.getpid():  # Not in a fork of it.
            self.close_all()


def _run(loop: asyncio.AbstractEventLoop, closing: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. A kernel that ends has its loop stopped once more than it runs, which would be now."""
    task = loop.create_task(closing)
    for left in reversed(range(MOST_STOPS)):
        try:
            loop.run_until_complete(task)
        except RuntimeError:
            if task.done() or not left:
                raise
        else:
            return


_shelf = _Shelf()
if inside.home is not None:
    _shelf.set_up(inside.home)


def close_all() -> None:
    """The worker ends: close everything, in :data:`CLOSE_SECONDS` at most where it can be stopped at all.

    Called in the main thread, between two runs of the loop.
    """
    _shelf.close_all()
