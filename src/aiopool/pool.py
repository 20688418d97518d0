"""The pool: open, map, submit, broadcast, put, resize, restart, close."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from types import FrameType, TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

from aiopool import _payload, inside, reprs
from aiopool._payload.refs import Ref
from aiopool._runtime.driver import Driver
from aiopool._runtime.machine import default_workers
from aiopool._runtime.sources import source_of
from aiopool.engines.registry import find
from aiopool.errors import OptionError, PoolClosed
from aiopool.job import Handle, Job
from aiopool.opening import Opening, dumped, promise
from aiopool.options import Backoff, MapOptions, OnError, PoolOptions, Progress, RetryOn, bytes_of, with_near_misses
from aiopool.signatures import as_map, as_starmap
from aiopool.stacks import Stacks
from aiopool.surfaces import new_dashboard
from aiopool.telemetry import PoolSnapshot, WorkerInfo
from aiopool.workers import Worker

__all__ = ["Pool", "Worker"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_names = itertools.count(1)

EXIT_SECONDS = 3.0
"""How long the end of the interpreter waits for the workers to be gone."""


class Pool:
    """Worker processes, each with an event loop of its own, and a front door.

    ::

        async with Pool(workers=8) as pool:
            pages = await pool.map(fetch, urls)

        with Pool(workers=8) as pool:                  # the same from a script
            pages = pool.map(fetch, urls).result()

    Workers start on demand, never more than there is work. ``workers`` is how many there may be; by default as many
    as the machine bears: the least of CPU affinity, the cgroup's quota, ``CPU_LIMIT`` and memory / 512 MB. ``engine``
    is where they come from: ``"local"``, so far the only one, starts processes on this machine. ``name`` is how the
    pool is called in panels and messages; by default ``pool-1`` and so on.

    ``initializer(*initargs)`` runs in every worker before its first item; if it raises, whoever waits gets a
    :class:`~aiopool.errors.WorkerStartFailed`. ``start_timeout`` is how long a worker may take to start, in seconds,
    ``grace`` how long a cancelled item may take to end before its worker is killed, ``idle_timeout`` after how long
    without work a worker ends (None: never).

    ``threads_per_worker`` is how many threads numpy and the like may start in each worker: by default the machine's
    cores / ``workers``, so that all workers together keep all cores busy, and no more; None leaves them alone. A
    number that stands in ``OMP_NUM_THREADS`` or one of its kind stays.

    Workers take over the kernel's ``os.environ``, working directory, ``sys.path``, log levels, ``warnings`` filters,
    and what is changed of them later, before the first item of a job that starts after the change; items in flight
    see it, too. Log handlers do not travel: where the kernel's root logger has one, a worker writes lines of the same
    format to standard error. A module of your own (a file outside of site-packages) that was edited since a worker
    imported it is used in its new form by the next job: workers with the older form are replaced as by
    :meth:`restart`, unless ``reload_modules`` is False. (Python itself takes a file that was edited twice within one
    second, and is as long as before, for the same.)

    ``nested_loops=True`` lets a coroutine in a worker call code that itself says ``asyncio.run(...)`` or
    ``loop.run_until_complete(...)``; other items of the worker go on meanwhile. Such runs lie upon each other: one
    that has ended returns when those that its worker began later have.

    Against code that leaks: ``max_tasks_per_worker`` items at most are begun in one worker, then another takes its
    place. A worker with more memory than ``max_memory_per_worker`` (bytes, or a text such as ``"2 GB"``) takes nothing
    new and is replaced when its items have ended; with a quarter more it is killed. Where it then ran one item, that
    ends as :class:`~aiopool.errors.WorkerLost`; where it ran several, they run again until it is known which it was.
    """

    @with_near_misses("a pool")
    def __init__(
        self,
        workers: int | None = None,
        *,
        engine: str = "local",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        start_timeout: float = 60.0,
        grace: float = 2.0,
        threads_per_worker: int | Literal["auto"] | None = "auto",
        idle_timeout: float | None = None,
        nested_loops: bool = False,
        reload_modules: bool = True,
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: float | str | None = None,
        name: str | None = None,
    ) -> None:
        """Open a pool. No worker starts before there is work."""
        if inside.is_worker():
            raise OptionError("pools do not nest: this is a worker of one. Call pmap(...) here, it runs in this worker")
        self._options = PoolOptions(
            workers=default_workers() if workers is None else workers,
            engine=engine,
            initializer=initializer,
            initargs=initargs,
            start_timeout=start_timeout,
            grace=grace,
            threads_per_worker=threads_per_worker,
            idle_timeout=idle_timeout,
            nested_loops=nested_loops,
            reload_modules=reload_modules,
            max_tasks_per_worker=max_tasks_per_worker,
            max_memory_per_worker=bytes_of("max_memory_per_worker", max_memory_per_worker),
            name=name or f"pool-{next(_names)}",
        )
        initializers = []
        if initializer is not None:
            initializers.append(_payload.dump_function(functools.partial(initializer, *initargs)).data)
        driver = None
        try:
            driver = self._driver = Driver(self._options, find(engine), initializers)
            # As warnings do, whose place this is: past what looks for near misses.
            self._begin(sys._getframe(2))  # noqa: SLF001
        except BaseException:
            # Stop may come at any line, and nobody would ever end what there is of it.
            if driver is not None:
                driver.terminate()
            if (finalizer := getattr(self, "_finalizer", None)) is not None:
                finalizer.detach()
            raise

    def _begin(self, opened: FrameType) -> None:
        self._size = self._options.workers
        self._closed = False
        self._opening = Opening(self._driver, size=lambda: self._size, must_be_open=self._must_be_open)
        self._ended = self._opening.handle("closing", self._driver.closed)
        self._pid = os.getpid()
        _open_drivers.add(self._driver)
        place = opened.f_code.co_filename, opened.f_lineno
        self._finalizer = weakref.finalize(self, _dropped, self._driver, self._options.name, place, self._pid)
        self._finalizer.atexit = False
        # Registered last, it runs first: before multiprocessing's own handler, which the engine's import may just have
        # registered, and which terminates children behind our back and joins each of them without a limit; and before
        # that of the finalizers, by which a surface may say what nobody has asked for.
        atexit.unregister(_end_all)
        atexit.register(_end_all)

    # --- work ------------------------------------------------------------------------------------------------------

    @as_map
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        concurrency: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        backoff: Backoff = "exponential",
        retry_on: RetryOn = Exception,
        on_error: OnError = "raise",
        rate: float | None = None,
        unpack: bool = False,
        batch: int | Literal["auto"] = "auto",
        window: int | None = None,
        total: int | None = None,
        label: Callable[[Any], str] | None = None,
        seed: int | None = None,
        rerun_lost: bool = True,
        desc: str | None = None,
        progress: Progress = True,
        detach: bool = False,
        **unknown: Any,
    ) -> Job[Any]:
        """Run ``fn(item)`` for every item and return at once with the :class:`Job`; see :func:`aiopool.pmap`."""
        options = MapOptions.of(
            {
                "concurrency": concurrency,
                "timeout": timeout,
                "retries": retries,
                "backoff": backoff,
                "retry_on": retry_on,
                "on_error": on_error,
                "rate": rate,
                "unpack": unpack,
                "batch": batch,
                "window": window,
                "total": total,
                "label": label,
                "seed": seed,
                "rerun_lost": rerun_lost,
                "desc": desc,
                "progress": progress,
                "detach": detach,
                **unknown,
            }
        )
        return self.open_map(fn, iterables, options)

    def open_map(
        self, fn: Callable[..., Any], iterables: Sequence[object], options: MapOptions, *, example: str = ""
    ) -> Job[Any]:
        """As :meth:`map`, with options that have been checked; ``example``: how it is written, if not as ``pmap``."""
        function = self._opening.dumped(fn, options.exceptions)
        source = source_of(iterables, example=example or f"pmap({function.name}, data)")
        return self._opening.map(fn, function, source, options, zipped=len(iterables) > 1)

    def open_once(self, fn: Callable[[], Any], options: MapOptions) -> Job[Any]:
        """One call of ``fn()`` as :meth:`submit` makes it, with the options of a map."""
        function = self._opening.dumped(fn, options.exceptions)
        source = source_of([[()]], example="")
        return self._opening.map(fn, function, source, options, zipped=True, once=True)

    @as_starmap
    def starmap(self, fn: Callable[..., Any], pairs: Iterable[Any], **options: Any) -> Job[Any]:
        """As :meth:`map` with ``unpack=True``: a tuple becomes ``fn(*item)``, a mapping ``fn(**item)``."""
        return self.open_map(fn, (pairs,), MapOptions.of({"unpack": True, **options}))

    @overload
    def submit(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Run ``fn(*args, **kwargs)`` once, on one worker, at most once: ``value = await pool.submit(fn, 1)``."""
        return self._opening.submit(self._opening.dumped(fn), (args, kwargs))

    def broadcast(self, fn: Callable[[], R], *, keep: bool = False) -> Job[R]:
        """Run ``fn()`` once on every worker, starting them all; the values in the order of the workers' places.

        With ``keep`` it also runs on every worker that starts from now on, before its first item, and in the order in
        which such functions were kept; it has ``start_timeout`` for that. If it fails on any worker, or is cancelled,
        it is not kept; if it is the same as the last one, not twice.
        """
        return self._opening.broadcast(dumped(fn) if keep else self._opening.dumped(fn), self._size, keep=keep)

    def broadcast_kept(self, fn: Callable[[], Any], what: Callable[[], Any] | str) -> Job[Any]:
        """As :meth:`broadcast` with ``keep``. Of those in a row with the same ``what``, the last is kept."""
        key = what.encode() if isinstance(what, str) else dumped(what).data
        return self._opening.broadcast(dumped(fn), self._size, keep=True, key=key)

    def warm_up(self, workers: int) -> None:
        """Start up to so many workers in the background, before there is work; see :func:`aiopool.session.warm_up`."""
        self._driver.warm_up(workers)

    def put(self, value: T) -> Ref[T]:
        """Copy a value once, to be used by many items; in a worker the value stands wherever the ref was passed.

        ::

            ref = pool.put(table)                             # a big array, a pandas frame, an arrow table, a model
            scores = await pool.map(partial(score, ref), rows)    # def score(table, row): ...

        Arrays and tables come without being copied: all workers read one memory, where nobody may write. Anything else
        is loaded once in each worker, and is then the same object for all items there.

        What is put stays until neither a ref nor a job that uses one is left. Raises
        :class:`~aiopool.errors.NotPicklable` where it cannot travel.
        """
        self._must_be_open()
        return Ref(value, self._driver.lending.puts.store)

    # --- workers ---------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        """The workers there are now, in the order of their places."""
        return [Worker(self, info) for info in self.infos()]

    def infos(self) -> Sequence[WorkerInfo]:
        """What they do now; see :attr:`Worker.info`."""
        return self._driver.workers()

    @property
    def closed(self) -> bool:
        """Whether it takes no new jobs."""
        return self._closed or self._driver.failed or self._pid != os.getpid()

    @property
    def size(self) -> int:
        """How many workers there may be."""
        return self._size

    def resize(self, workers: int) -> Handle[None]:
        """Have so many workers from now on; the handle ends when those that leave have ended their items."""
        self._must_be_open()
        size = PoolOptions(workers=workers).workers
        self._size = size
        results = promise()
        self._driver.resize(size, results)
        return self._opening.handle(f"resize({size})", results)

    def restart(self, *, now: bool = False) -> Handle[None]:
        """Replace every worker: new ones start beside, old ones end their items first.

        With ``now`` the old ones are killed, and what they ran runs again.
        """
        self._must_be_open()
        results = promise()
        self._driver.restart(results, now=now)
        return self._opening.handle("restart", results)

    def restart_of(self, info: WorkerInfo, *, now: bool) -> Handle[None]:
        """Replace that worker; see :meth:`Worker.restart`."""
        self._must_be_open()
        results = promise()
        self._driver.restart_worker(info.pid, results, now=now)
        return self._opening.handle(f"restart of worker {info.index}", results)

    def snapshot(self) -> PoolSnapshot:
        """A picture of the pool, its workers and its jobs at this moment."""
        return self._driver.snapshot()

    def stack_of(self, info: WorkerInfo) -> Stacks:
        """Where everything in that worker stands; see :meth:`Worker.stack`."""
        return self._driver.inquiry.of_worker(info.pid, f"worker {info.index} (pid {info.pid})")

    def dashboard(self) -> Any:
        """A widget: workers, jobs, the last minutes, and controls. It is the value of a cell, or part of a layout.

        ::

            pool.dashboard()                                       # as the last expression of a cell
            ipywidgets.VBox([ipywidgets.HTML("<h3>Scores</h3>"), pool.dashboard()])

        Each call gives the same widget, until its ``close()``. Raises :class:`~aiopool.errors.AiopoolError` outside of
        a Jupyter kernel.
        """
        return new_dashboard(self, self._driver)

    # --- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no new jobs; the workers end when the jobs have."""
        self._closed = True
        self._driver.close()
        # Last: an interrupt before leaves it to the collector.
        self._finalizer.detach()

    def terminate(self) -> None:
        """End now: jobs are cancelled, workers killed."""
        self._closed = True
        self._driver.terminate()
        self._finalizer.detach()

    def join(self, timeout: float | None = None) -> None:
        """Wait until a closed pool has ended; raises TimeoutError after ``timeout`` seconds."""
        if not self._closed:
            raise PoolClosed("join() waits for the end of a pool: call close() or terminate() first")
        self._ended.result(timeout)

    def __enter__(self) -> Self:
        """``with Pool() as pool``: leaving waits for the jobs; leaving through an exception terminates."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Wait for the end."""
        self._leave(error)
        if self._pid != os.getpid():
            return
        try:
            self._ended.result()
        except BaseException:
            self.terminate()
            raise

    async def __aenter__(self) -> Self:
        """``async with Pool() as pool``: leaving waits for the jobs; leaving through an exception terminates."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Wait for the end."""
        self._leave(error)
        if self._pid != os.getpid():
            return
        try:
            await self._ended
        except BaseException:
            self.terminate()
            raise

    def _leave(self, error: BaseException | None) -> None:
        if error is None:
            self.close()
        else:
            self.terminate()

    def __repr__(self) -> str:
        return repr(self.snapshot())

    def _repr_html_(self) -> str:
        return reprs.pool_html(self.snapshot())

    def _repr_pretty_(self, printer: Any, _: bool) -> None:  # noqa: FBT001 - as IPython calls it
        snapshot = self.snapshot()
        reprs.pretty(printer, repr(snapshot), lambda: reprs.pool_text(snapshot))

    def _must_be_open(self) -> None:
        if self._pid != os.getpid():
            raise PoolClosed("the pool belongs to the process that this one was forked from: open another with Pool()")
        if self._driver.failed:
            raise PoolClosed(
                "the pool has failed, as its jobs say, and takes no new ones: open another one with Pool()"
            )
        if self._closed:
            raise PoolClosed("the pool is closed and takes no new jobs: open another one with Pool()")


_open_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()
_of_parent: list[Driver] = []


def _disown() -> None:
    """This is a forked child. The parent's loops must not be finalized here: they would let go of what both share."""
    _of_parent.extend(_open_drivers)
    _open_drivers.clear()
    for driver in _of_parent:
        driver.disown()


os.register_at_fork(after_in_child=_disown)


def _dropped(driver: Driver, name: str, place: tuple[str, int], pid: int) -> None:
    """Nobody holds the pool any more, and nobody has closed it. At the interpreter's end this is not called."""
    if pid == os.getpid():
        if driver.failed:
            return  # It has ended by itself.
        driver.terminate()
        text = f"the pool {name!r} was never closed: use `with Pool(...) as pool:`, or pool.close()"
        warnings.warn_explicit(text, ResourceWarning, *place)


def terminate_all() -> list[Driver]:
    """End every pool of this process now, without waiting for it; what runs them."""
    drivers = list(_open_drivers)
    for driver in drivers:
        driver.terminate()
    return drivers


def _end_all() -> None:
    """The interpreter ends: leave no process behind."""
    drivers = terminate_all()
    until = time.monotonic() + EXIT_SECONDS
    for driver in drivers:
        driver.join(max(0.0, until - time.monotonic()))
