"""A map inside a worker: the same Job over the same ledger, but its items run in this very process.

Each job has a ledger of its own with one worker, which is the process itself, so that maps within maps wait for each
other and never for room. All of them share one thread for their input and output. It starts with the first of them,
like the thread whose loop runs the coroutines of maps that a ``def`` calls; both end with the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

from aiopool import _payload, inside
from aiopool._core import facts as f
from aiopool._payload.references import HeldFunction, hold_function
from aiopool._runtime.driver import Driver
from aiopool._runtime.recoder import Encode
from aiopool._runtime.results import Results
from aiopool._runtime.thread import IOThread
from aiopool._runtime.waiters import Callback
from aiopool.engines.entries import Place
from aiopool.engines.inside import InsideEngine
from aiopool.errors import OptionError
from aiopool.html import escape
from aiopool.job import Job
from aiopool.opening import Opening, must_be_function
from aiopool.options import MapOptions, PoolOptions, Progress, default_concurrency
from aiopool.pool import Pool
from aiopool.surfaces import News, Surface
from aiopool.terminal import TerminalSurface

__all__ = ["nested_pool"]

UNREAD = 1000
"""How many results of an unsized input may wait for a reader: here they have no size that could be known."""

_OPTIONS = PoolOptions(workers=1, name="inside", reload_modules=False)


class _Common(IOThread):
    """A thread that many use, and that lives as long as the process."""

    def stop(self) -> None:
        """Others go on."""


class _House:
    """The threads of the maps inside this process, each started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._io: _Common | None = None
        self._items: _Common | None = None
        self.drivers: weakref.WeakSet[NestedDriver] = weakref.WeakSet()

    @property
    def io(self) -> IOThread:
        """Where the ledgers live."""
        with self._lock:
            if self._io is None:
                self._io = _Common("inside")
                self._io.loop.set_exception_handler(self._fail)
            return self._io

    def loop_here(self) -> asyncio.AbstractEventLoop:
        """The loop that runs here, or, where none runs, the one for such places."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            with self._lock:
                if self._items is None:
                    self._items = _Common("inside-items")
                return self._items.loop

    def _fail(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """A bug of ours: whose it is cannot be told, so all of them end."""
        for driver in list(self.drivers):
            driver.fail(loop, context)


_house = _House()


def _forget() -> None:
    """This is a forked child: the threads stayed with its parent."""
    global _house  # noqa: PLW0603 - one for each process
    _house = _House()


os.register_at_fork(after_in_child=_forget)


class NestedDriver(Driver):
    """Runs one job on the thread that all of them share."""

    def __init__(self) -> None:
        house = _house
        self._loop = house.loop_here()
        place = Place(house.io, self._loop, contextvars.copy_context(), self.terminate)
        super().__init__(_OPTIONS, lambda _: InsideEngine(place), [], house.io)
        house.drivers.add(self)

    def must_not_block(self, job: int) -> bool:
        """Whether the job could not go on while this very thread waits for it.

        In any coroutine of a worker: what the job runs, or what that maps over in turn, may need the loop.
        """
        if super().must_not_block(job):
            return True
        try:
            return self._loop is asyncio.get_running_loop()
        except RuntimeError:
            return not self._loop.is_running()

    def _start_worker(self, order: f.StartWorker) -> None:
        index = inside.current_worker().index
        proxy = self._new_proxy(order.worker, index)
        proxy.link = self._engine.start(index, proxy, {})

    def _hang_up(self, order: f.HangUp) -> None:
        # Without the alarm for a process that does not end, which would hold everything of the job for seconds.
        self._workers[order.worker].hang_up()

    def fail(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """End because of an error of ours."""
        self._on_internal_error(loop, context)


class NestedResults(Results):
    """Results that stay where they were made."""

    def _has_room(self) -> bool:
        return self._eager or self.finished - self.consumed < UNREAD


class NestedSurface(TerminalSurface):
    """Shows nothing of how far a job is: what it could write on is the worker's pipe."""

    def complain(self, news: News) -> None:
        """Say that nobody waited for a job that has failed. There is no ``jobs()`` here in which it could be found."""
        news.of_call = True
        super().complain(news)


class NestedOpening(Opening):
    """Opens jobs, each with a driver of its own."""

    def __init__(self) -> None:
        self._size = lambda: 1
        self._must_be_open = lambda: None

    def dumped(self, fn: Any, retry_on: tuple[type[Exception], ...] | None = None) -> HeldFunction:
        """The function, which stays here."""
        return hold_function(must_be_function(fn), retry_on)

    def encoding(self, function: _payload.FunctionBlob) -> Encode:
        """Arguments stay here, too."""
        return cast("HeldFunction", function).held.dump_items

    def _encoded(
        self, call: tuple[tuple[Any, ...], dict[str, Any]], function: _payload.FunctionBlob
    ) -> _payload.EncodedItems:
        return self.encoding(function)((call,))

    def _concurrency(self, options: MapOptions, function: _payload.FunctionBlob) -> int:
        cast("HeldFunction", function).held.threads = options.concurrency or 1
        return options.concurrency or default_concurrency(1)

    def _results(self, size: int | None, have: Mapping[int, object] | None) -> Results:
        return NestedResults(size, prefilled=have)

    def _drive(self, results: Results) -> Driver:
        driver = NestedDriver()
        item = inside.running.get()
        let_go: Callable[[], object] = (lambda: None) if item is None else inside.belongs(item, driver.terminate)

        def ended(_: object) -> None:
            let_go()
            driver.close()

        results.add(Callback(ended, None, loop=None, asks=False))
        return driver

    def _surface(self, name: str, *, progress: Progress, of_call: bool = False, as_one: bool = False) -> Surface:  # noqa: ARG002
        return NestedSurface(name)

    def _surface_of_call(self, name: str) -> Surface:
        return NestedSurface(name)

    def _register(self, job: Job[Any], results: Results) -> None:
        """Nobody will look for it here, and its results need not outlive those who hold it."""


class NestedPool(Pool):
    """What ``get_pool()`` returns in a worker: it maps and submits, all the rest is the notebook's."""

    def __init__(self) -> None:
        self._opening = NestedOpening()
        self._size = 1

    @property
    def closed(self) -> bool:
        """It ends with the worker."""
        return False

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise OptionError(
            "pools do not nest: in a worker get_pool() has map, starmap and submit, which run in this worker; "
            "everything else is for the notebook"
        )

    broadcast = put = resize = restart = snapshot = dashboard = close = terminate = join = _refuse
    __enter__ = __exit__ = __aenter__ = __aexit__ = _refuse
    workers = property(_refuse)

    def __repr__(self) -> str:
        return f"<Pool inside worker {inside.current_worker().index}>"

    def _repr_html_(self) -> str:
        return escape(repr(self))

    def _repr_pretty_(self, printer: Any, _: bool) -> None:  # noqa: FBT001 - as IPython calls it
        printer.text(repr(self))


_pool = NestedPool()


def nested_pool() -> Pool:
    """The pool that maps inside this worker run on."""
    return _pool
