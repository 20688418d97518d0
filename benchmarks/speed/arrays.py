"""Line 5: an array of 64 MiB as an argument, and as a result.

Bytes per second from the call until the other side has looked at every page: what is mapped instead of copied must
really be there, and all pay for looking. The result is made once, beforehand, so that only its way is measured. The
floor is one copy into pages that are warm. ray gets an object store of 1 GiB and a new process for each round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.speed.items import first_of_every_page, same_array
from benchmarks.speed.subjects import OURS, WORKERS, Contender, Metric, Promise, Size, Subject, Turn

BYTES = {Size.TINY: 1 << 20, Size.QUICK: 64 << 20, Size.FULL: 64 << 20}
TIMES = {Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3}
STORE = 1 << 30


def _turn(send: Callable[[Any], int], fetch: Callable[[int], Any], size: Size) -> Turn:
    """Warm up, and have a turn that measures both ways."""
    import numpy as np

    count = BYTES[size] // 8
    array = np.ones(count)
    pages = first_of_every_page(array)

    def argument() -> None:
        assert send(array) == pages

    def result() -> None:
        assert first_of_every_page(fetch(count)) == pages

    def rate(step: Callable[[], None]) -> float:
        begun = time.perf_counter()
        for _ in range(TIMES[size]):
            step()
        return BYTES[size] * TIMES[size] / (time.perf_counter() - begun)

    for _ in range(WORKERS):
        argument()
        result()
    return lambda: {"argument": rate(argument), "result": rate(result)}


@contextmanager
def ours(size: Size) -> Iterator[Turn]:
    """``await pool.submit(function, array)``."""
    from aiopool import Pool

    with Pool(workers=WORKERS) as pool, asyncio.Runner() as runner:

        async def call(function: Callable[[Any], Any], value: Any) -> Any:
            return await pool.submit(function, value)

        yield _turn(
            lambda array: runner.run(call(first_of_every_page, array)),
            lambda count: runner.run(call(same_array, count)),
            size,
        )


@contextmanager
def ray(size: Size) -> Iterator[Turn]:
    """``ray.get(function.remote(array))``: both ways through its object store, mapped, read-only."""
    import ray

    ray.init(
        num_cpus=WORKERS,
        object_store_memory=STORE,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        send, fetch = ray.remote(first_of_every_page), ray.remote(same_array)
        yield _turn(lambda array: ray.get(send.remote(array)), lambda count: ray.get(fetch.remote(count)), size)
    finally:
        ray.shutdown()


@contextmanager
def executor(size: Size) -> Iterator[Turn]:
    """``executor.submit(function, array).result()``."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield _turn(
            lambda array: pool.submit(first_of_every_page, array).result(),
            lambda count: pool.submit(same_array, count).result(),
            size,
        )


@contextmanager
def multiprocessing_pool(size: Size) -> Iterator[Turn]:
    """``pool.apply(function, (array,))``."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield _turn(
            lambda array: pool.apply(first_of_every_page, (array,)),
            lambda count: pool.apply(same_array, (count,)),
            size,
        )


@contextmanager
def joblib(size: Size) -> Iterator[Turn]:
    """Two calls of ``delayed(function)(array)``: one would run here; arguments go through a file that is mapped."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS) as parallel:

        def call(function: Callable[[Any], Any], value: Any) -> Any:
            return next(iter(parallel([delayed(function)(value)])))

        yield _turn(lambda array: call(first_of_every_page, array), lambda count: call(same_array, count), size)


@contextmanager
def dask(size: Size) -> Iterator[Turn]:
    """``client.submit(function, array).result()``."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR") as cluster,
        Client(cluster) as client,
    ):
        yield _turn(
            lambda array: client.submit(first_of_every_page, array, pure=False).result(),
            lambda count: client.submit(same_array, count, pure=False).result(),
            size,
        )


@contextmanager
def copy(size: Size) -> Iterator[Turn]:
    """One copy into warm pages, and a look at them."""
    import numpy as np

    into = np.zeros(BYTES[size] // 8)

    def send(array: Any) -> int:
        np.copyto(into, array)
        return first_of_every_page(into)

    def fetch(count: int) -> Any:
        np.copyto(into, same_array(count))
        return into

    yield _turn(send, fetch, size)


SUBJECT = Subject(
    key="arrays",
    title="An array of 64 MiB",
    contenders=(
        Contender(OURS, ours, "numpy"),
        Contender("ray", ray, "ray", fresh=True),
        Contender("mp.Pool", multiprocessing_pool, "numpy", slow=True),
        Contender("executor", executor, "numpy", slow=True),
        Contender("joblib", joblib, "joblib", slow=True),
        Contender("dask", dask, "distributed", slow=True),
        Contender("floor: one copy", copy, "numpy"),
    ),
    metrics={
        "argument": Metric("64 MiB as an argument", "bytes per second", drawn=True),
        "result": Metric("64 MiB as a result", "bytes per second", drawn=True),
    },
    promises=(
        Promise(5, "64 MiB array as an argument, of ray", "at least", 2, (OURS, "argument"), ("ray", "argument")),
        Promise(5, "64 MiB array as a result, of ray", "at least", 2, (OURS, "result"), ("ray", "result")),
    ),
    rounds={Size.TINY: 1, Size.QUICK: 2, Size.FULL: 7},
)
