"""The pools, each behind the same three words: ``submit``, ``result``, ``cancel``.

Each is used as its own documentation shows it, with two processes and no thread or coroutine beside the one item that
a process has. Their packages are imported where they are used: an environment need not have all of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, ClassVar

Function = Callable[..., Any]


class Adapter:
    """A pool. ``distribution`` is its name on PyPI, empty for what comes with Python."""

    title: ClassVar[str]
    distribution: ClassVar[str] = ""
    deadline: ClassVar[float] = 6.0
    """Seconds after which an answer will not come any more."""
    has_initializer: ClassVar[bool] = True

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        raise NotImplementedError

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call; returns its handle."""
        raise NotImplementedError

    def result(self, handle: Any) -> Any:
        """Wait for a call, for ever if need be; its value, or its error raised."""
        return handle.result()

    def cancel(self, handle: Any) -> None:
        """Do what can be done to end a call that runs."""
        handle.cancel()


class Aiopool(Adapter):
    """Ours."""

    title = "aiopool"
    distribution = "aiopool"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        from aiopool import Pool

        self._pool = Pool(workers=workers, initializer=initializer)

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        return self._pool.submit(fn, *args)


class Executor(Adapter):
    """The standard library's executor."""

    title = "PPE stdlib"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=initializer)

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        return self._pool.submit(fn, *args)


class MultiprocessingPool(Adapter):
    """The standard library's pool. It has no way to end one call."""

    title = "mp.Pool"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=initializer)

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        return self._pool.apply_async(fn, args)

    def result(self, handle: Any) -> Any:
        """Wait for it."""
        return handle.get()

    def cancel(self, handle: Any) -> None:
        """Nothing can be done."""


class Loky(Adapter):
    """joblib's executor. Asking for it again before each call is how it replaces one that broke."""

    title = "loky"
    distribution = "loky"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        self._workers, self._initializer = workers, initializer

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        from loky import get_reusable_executor

        executor = get_reusable_executor(max_workers=self._workers, initializer=self._initializer, timeout=600)
        return executor.submit(fn, *args)


class Pebble(Adapter):
    """Pebble's process pool."""

    title = "pebble"
    distribution = "Pebble"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        from pebble import ProcessPool

        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(max_workers=workers, initializer=initializer, context=context)

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        return self._pool.schedule(fn, args=list(args))


class Mpire(Adapter):
    """MPIRE's pool. It has no way to end one call, but a time limit that is given with it."""

    title = "mpire"
    distribution = "mpire"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        from mpire import WorkerPool

        self._pool = WorkerPool(n_jobs=workers, start_method="spawn")
        self._initializer = initializer

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        return self._pool.apply_async(fn, args, worker_init=self._initializer)

    def result(self, handle: Any) -> Any:
        """Wait for it."""
        return handle.get()

    def cancel(self, handle: Any) -> None:
        """Nothing can be done."""


class OnALoop(Adapter):
    """A pool that lives on an asyncio loop, which turns in a thread."""

    def __init__(self) -> None:
        begun = threading.Event()

        # In a task that lasts: anyio ends its workers with the first one of the loop.
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            begun.set()
            await asyncio.Event().wait()

        threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
        begun.wait()

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        # A SystemExit that leaves a task would stop the loop: whoever awaits is taken to know that, and catches it.
        async def caught() -> tuple[BaseException | None, Any]:
            try:
                return None, await coroutine
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # it is raised again where it is waited for
                return error, None

        return asyncio.run_coroutine_threadsafe(caught(), self._loop)

    def result(self, handle: Any) -> Any:
        """Wait for it."""
        error, value = handle.result()
        if error is not None:
            raise error
        return value


async def call(fn: Function, *args: Any) -> Any:
    """Call a function from a coroutine: aiomultiprocess runs nothing else."""
    return fn(*args)


class Aiomultiprocess(OnALoop):
    """aiomultiprocess' pool; one coroutine per process, so that the bystander has one of its own."""

    title = "aiomultiproc."
    distribution = "aiomultiprocess"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        super().__init__()

        async def begin() -> Any:
            from aiomultiprocess import Pool

            return Pool(processes=workers, childconcurrency=1, initializer=initializer)

        self._pool = self.result(self._begin(begin()))

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""

        async def run() -> Any:
            return await self._pool.apply(call, (fn, *args))

        return self._begin(run())


class Anyio(OnALoop):
    """anyio's worker processes."""

    title = "anyio"
    distribution = "anyio"
    has_initializer = False

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        super().__init__()
        if initializer is not None:
            raise NotImplementedError("anyio.to_process knows no initializer")

        async def begin() -> Any:
            from anyio import CapacityLimiter

            return CapacityLimiter(workers)

        self._limiter = self.result(self._begin(begin()))

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call."""
        from anyio import to_process

        return self._begin(to_process.run_sync(fn, *args, cancellable=True, limiter=self._limiter))


class TrioParallel(Adapter):
    """trio-parallel's worker processes, on a trio loop that turns in a thread."""

    title = "trio-parallel"
    distribution = "trio-parallel"

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        import trio
        import trio_parallel

        begun = threading.Event()

        async def serve() -> None:
            options = {} if initializer is None else {"init": initializer}
            async with trio.open_nursery() as self._nursery, trio_parallel.open_worker_context(**options) as self._pool:
                self._limiter = trio.CapacityLimiter(workers)
                self._token = trio.lowlevel.current_trio_token()
                begun.set()
                await trio.sleep_forever()

        threading.Thread(target=trio.run, args=(serve,), daemon=True).start()
        begun.wait()

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call; the handle is the future of its end, and the scope that cancels it."""
        import trio

        future: Future[Any] = Future()
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    future.set_result(await self._pool.run_sync(fn, *args, kill_on_cancel=True, limiter=self._limiter))
                except trio.Cancelled:
                    future.cancel()
                    raise
                except BaseException as error:  # noqa: BLE001  # it is raised again where it is waited for
                    future.set_exception(error)

        self._token.run_sync_soon(self._nursery.start_soon, run)
        return future, scope

    def result(self, handle: Any) -> Any:
        """Wait for it."""
        return handle[0].result()

    def cancel(self, handle: Any) -> None:
        """Cancel its scope, on the loop's thread."""
        self._token.run_sync_soon(handle[1].cancel)


class Dask(Adapter):
    """dask's cluster of this machine, without its page. Its timeouts are longer, so its deadline is."""

    title = "dask"
    distribution = "distributed"
    deadline = 15.0

    def __init__(self, workers: int, initializer: Function | None = None) -> None:
        from distributed import Client, LocalCluster, WorkerPlugin

        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="ERROR"
        )
        self._client = Client(self._cluster)
        if initializer is not None:
            begin: Function = initializer

            class Initializer(WorkerPlugin):  # type: ignore[misc]
                def setup(self, worker: object) -> None:  # noqa: ARG002  # dask passes it
                    begin()

            self._client.register_plugin(Initializer())

    def submit(self, fn: Function, *args: Any) -> Any:
        """Start a call; pure functions with equal arguments would be called once."""
        return self._client.submit(fn, *args, pure=False)


POOLS: dict[str, type[Adapter]] = {
    kind.title: kind
    for kind in (
        Aiopool,
        Executor,
        MultiprocessingPool,
        Loky,
        Pebble,
        Mpire,
        Aiomultiprocess,
        Anyio,
        TrioParallel,
        Dask,
    )
}
