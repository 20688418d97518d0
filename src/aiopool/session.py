"""``pmap`` and what belongs to a session: the shared pool, its defaults, and which jobs there are."""

from __future__ import annotations

import _thread
import logging
import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Literal

from aiopool import inside
from aiopool._runtime.machine import default_workers
from aiopool.engines.registry import find
from aiopool.job import Job
from aiopool.options import (
    Backoff,
    MapOptions,
    OnError,
    PoolOptions,
    Progress,
    RetryOn,
    Threads,
    bytes_of,
    with_near_misses,
)
from aiopool.pool import Pool
from aiopool.registry import registry
from aiopool.signatures import as_map

__all__ = ["configure", "get_pool", "jobs", "last_job", "pmap"]

log = logging.getLogger("aiopool")

IDLE_SECONDS = 600.0
"""After how long without work a worker of the shared pool ends."""

WARM_WORKERS = 4
"""How many workers of the shared pool are started before there is work, at most."""


class _Session:
    """The shared pool and its defaults."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pool: Pool | None = None
        self.workers: int | None = None
        self.options: dict[str, Any] = {
            "engine": "local",
            "threads_per_worker": "auto",
            "nested_loops": False,
            "reload_modules": True,
            "max_tasks_per_worker": None,
            "max_memory_per_worker": None,
        }
        self.concurrency: int | None = None

    def forget(self) -> None:
        """This is a forked child: the pool's thread and workers belong to the parent."""
        self.lock = threading.RLock()
        self.pool = None


_session = _Session()
os.register_at_fork(after_in_child=_session.forget)


def get_pool() -> Pool:
    """The session's shared pool, opened when it is first needed. ``pmap`` runs on it.

    In a worker, one that runs everything in that worker, and has ``map``, ``starmap`` and ``submit`` only.
    """
    if inside.is_worker():
        from aiopool.nested import nested_pool  # only who maps inside a worker needs it

        return nested_pool()
    with _session.lock:
        if _session.pool is None or _session.pool.closed:
            _session.pool = Pool(_session.workers, idle_timeout=IDLE_SECONDS, name="shared", **_session.options)
        return _session.pool


def open_pool() -> Pool | None:
    """The shared pool if it is open; none is opened."""
    pool = _session.pool
    return None if pool is None or pool.closed else pool


def warm_up() -> None:
    """Open the shared pool in the background and start some of its workers, for somebody who is about to need them.

    It returns at once, raises nothing and shows nothing; workers for which no work comes end after their idle time.
    What keeps workers from starting is said by the first job, which tries again.
    """
    if inside.is_worker():
        return

    def begin() -> None:
        try:
            get_pool().warm_up(WARM_WORKERS)
        except Exception:
            log.debug("the shared pool cannot be warmed up", exc_info=True)

    try:
        # To open a pool imports the engine and reads the limits of the machine: some hundredths of a second. A Thread's
        # start() would wait until the thread runs, which takes as long on a busy machine.
        _thread.start_new_thread(begin, ())
    except RuntimeError:
        log.debug("the shared pool cannot be warmed up: no thread can be started", exc_info=True)


class _Given(Enum):
    """What stands for an option that was not given, where None is a value."""

    NOT = "not given"

    def __repr__(self) -> str:
        return "..."


_NOT_GIVEN: Literal[_Given.NOT] = _Given.NOT


@with_near_misses("configure")
def configure(
    *,
    workers: int | Literal[_Given.NOT] | None = _NOT_GIVEN,
    engine: str | Literal[_Given.NOT] = _NOT_GIVEN,
    concurrency: int | Literal[_Given.NOT] | None = _NOT_GIVEN,
    threads_per_worker: Threads | Literal[_Given.NOT] = _NOT_GIVEN,
    nested_loops: bool | Literal[_Given.NOT] = _NOT_GIVEN,
    reload_modules: bool | Literal[_Given.NOT] = _NOT_GIVEN,
    max_tasks_per_worker: int | Literal[_Given.NOT] | None = _NOT_GIVEN,
    max_memory_per_worker: float | str | Literal[_Given.NOT] | None = _NOT_GIVEN,
) -> None:
    """Set defaults of the session; what is not given stays as it is.

    ``workers``: of the shared pool, which is resized if it is open; None: as many as the machine bears.
    ``concurrency``: of every ``pmap`` that does not say its own; None: as if it had never been set.

    ``engine``: where the shared pool's workers come from; ``threads_per_worker``, ``nested_loops``,
    ``reload_modules``, ``max_tasks_per_worker`` and ``max_memory_per_worker`` as of :class:`Pool`. Another value of one
    of these opens another shared pool when the next job starts, and the old one ends with its jobs.
    """
    named = {
        "engine": engine,
        "threads_per_worker": threads_per_worker,
        "nested_loops": nested_loops,
        "reload_modules": reload_modules,
        "max_tasks_per_worker": max_tasks_per_worker,
        "max_memory_per_worker": max_memory_per_worker
        if max_memory_per_worker is _NOT_GIVEN
        else bytes_of("max_memory_per_worker", max_memory_per_worker),
    }
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not _NOT_GIVEN}
    PoolOptions(workers=1 if workers is _NOT_GIVEN or workers is None else workers, **given)
    MapOptions(concurrency=None if concurrency is _NOT_GIVEN else concurrency)
    if "engine" in given:
        find(given["engine"])
    with _session.lock:
        pool = _session.pool
        if concurrency is not _NOT_GIVEN:
            _session.concurrency = concurrency
        if workers is not _NOT_GIVEN:
            _session.workers = workers
        options = _session.options | given
        if options != _session.options:
            _session.options, _session.pool = options, None
            if pool is not None:
                pool.close()
        elif workers is not _NOT_GIVEN and pool is not None and not pool.closed:
            pool.resize(default_workers() if workers is None else workers)


def configured() -> dict[str, Any]:
    """What :func:`configure` has set, by the names of its options; the defaults of what it has not."""
    with _session.lock:
        return {"workers": _session.workers, "concurrency": _session.concurrency, **_session.options}


def map_options(given: Mapping[str, Any]) -> MapOptions:
    """The options of a map of this session: what is given, and the ``concurrency`` of :func:`configure`."""
    concurrency = given.get("concurrency")
    return MapOptions.of({**given, "concurrency": _session.concurrency if concurrency is None else concurrency})


@as_map
def pmap(
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
    """Run ``fn(item)`` for every item of the data, in worker processes, and return at once with the :class:`Job`.

    ::

        pages = await pmap(fetch, urls)                       # results in input order
        pages = await pmap(fetch, urls, concurrency=200, on_error="return")
        job = pmap(fetch, urls)                               # starts now, the kernel stays free
        async for page in job: ...                            # as they come

    ``fn`` is an ``async def`` (a hundred at a time over all workers, thousands with ``concurrency=``) or a ``def`` (one
    at a time in each worker). It travels by value, with the helpers, classes and globals of the notebook that it uses,
    as they are now. Several iterables are zipped: ``pmap(fn, xs, ys)`` calls ``fn(x, y)``.

    Options, all keyword-only:

    - ``concurrency``: items in flight over the whole job. Below the number of workers the job uses so many workers;
      above it, a ``def`` runs in threads of its worker. Default: one per worker for a ``def``, else 100 or 4 per
      worker, whichever is more.
    - ``timeout``: seconds per attempt, from its start; it ends as :class:`ItemTimeout`.
    - ``retries``: how often an item that failed may run again, after an exception of ``retry_on``: a class or a tuple
      of them, by default all; never after NameError, ImportError or SyntaxError. ``backoff``: seconds before that, by
      default 0.5 s, doubling to 30 s, each time a random part of it. ``raise aiopool.Retry(after=30)`` in ``fn`` says
      it itself.
    - ``rate``: starts per second over the whole job, every attempt counted.
    - ``on_error``: ``"raise"``: the first failure stops the job and is raised at the await; ``"return"``: a
      :class:`Failure` stands in the item's place.
    - ``unpack``: a tuple becomes ``fn(*item)``, a mapping ``fn(**item)``.
    - ``batch``: items that travel together, measured by default.
    - ``window``: how many items of an unsized input are read ahead.
    - ``total``: how many items an unsized input will have, for the display.
    - ``label``: a function of an item: how it is shown in errors, to shorten it or to hide a secret.
    - ``seed``: ``aiopool.current_item().seed`` derives from it and the item's index alone.
    - ``rerun_lost``: may an item whose worker died be run again? False: at most once.
    - ``desc``: how the job is called; by default as the function. ``progress``: False shows nothing,
      ``"text"`` a line of text.
    - ``detach``: run on when the cell that started it is run again, instead of being cancelled then.

    Called in a worker, by an item of another map, it runs in that very worker, and nothing is pickled: the function may
    use whatever the item has open. Coroutines run on the loop of the ``async def`` that calls it, or, for a ``def``, on
    one of another thread. A ``def`` is called in a thread, one item at a time: that gains no processor time, and a
    cancel or a timeout stops waiting for it, but cannot stop it. What the job has not finished when the item that
    started it ends is cancelled. ``await`` the job in a coroutine; ``.result()`` is for a ``def``.

    Raises, in the call: :class:`OptionError` for an option that does not exist or cannot be, :class:`InputError` for
    data that cannot be mapped over, :class:`NotPicklable` for a function that cannot travel.
    """
    options = map_options(
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
    return get_pool().open_map(fn, iterables, options)


def last_job() -> Job[Any] | None:
    """The job that was started last, on whatever pool; None if there was none."""
    return registry.last


def jobs() -> list[Job[Any]]:
    """The job that was started last, every one that runs, and the last that was stopped, cancelled or failed."""
    return registry.listing()
