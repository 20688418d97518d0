"""What type checkers make of a map. Never run: a ``type: ignore`` that is not needed is an error to both of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import aiopool
from aiopool import Failure, Handle, Job, Pool, current_item, per_worker, pmap


async def fetch(url: str) -> bytes:
    return url.encode()


def square(x: int) -> float:
    return float(x * x)


def add(x: int, y: float, z: int = 0) -> float:
    return x + y + z


async def pages() -> AsyncIterator[str]:
    yield "a"


async def results(pool: Pool) -> None:
    """What comes out of a map depends on the function, and on what stands in the place of a failure."""
    assert_type(pmap(square, [1, 2]), Job[float])
    assert_type(await pmap(square, [1, 2]), list[float])
    assert_type(await pmap(square, range(3), concurrency=2, timeout=1, retries=3, backoff=0.5), list[float])
    assert_type(await pmap(fetch, ["a"]), list[bytes])
    assert_type(await pmap(fetch, pages(), rate=50, seed=1, detach=True), list[bytes])
    assert_type(await pmap(fetch, ["a"], on_error="raise"), list[bytes])
    assert_type(await pmap(fetch, ["a"], on_error="return"), list[bytes | Failure])
    assert_type(await pmap(square, [1], on_error="return", retry_on=(OSError, KeyError)), list[float | Failure])
    assert_type(pmap(square, [1]).result(), list[float])
    assert_type(await pmap(add, [1], [2.0]), list[float])
    assert_type(await pmap(add, [1], [2.0], on_error="return"), list[float | Failure])
    assert_type(await pmap(add, [1], [2.0], [3]), list[float])
    assert_type(await pmap(add, [(1, 2.0)], unpack=True), list[float])
    assert_type(await pmap(add, [{"x": 1, "y": 2.0}], unpack=True, on_error="return"), list[float | Failure])
    assert_type(await pool.map(fetch, ["a"]), list[bytes])
    assert_type(await pool.map(fetch, ["a"], on_error="return"), list[bytes | Failure])
    assert_type(await pool.starmap(add, [(1, 2.0)]), list[float])
    assert_type(await pool.starmap(add, [(1, 2.0)], on_error="return"), list[float | Failure])
    assert_type(await pmap(lambda x: x + 1, [1]), list[int])
    assert_type(current_item().index, int)


async def reading(pool: Pool) -> None:
    """Iterating gives the same, and a submit one value."""
    job = pmap(fetch, ["a"])
    async for page in job:
        assert_type(page, bytes)
    for page in job:
        assert_type(page, bytes)
    async for index, page in job.as_completed():
        assert_type(index, int)
        assert_type(page, bytes)
    assert_type(pool.submit(square, 3), Handle[float])
    assert_type(await pool.submit(fetch, "a"), bytes)
    assert_type(pool.submit(add, 1, y=2.0).result(1), float)


@per_worker
async def session() -> AsyncIterator[bytes]:
    yield b"a"


@per_worker
async def connection() -> bytes:
    return b"a"


@per_worker
def model() -> list[float]:
    return [1.0]


@per_worker
def table() -> Iterator[list[str]]:
    yield ["a"]


async def opened() -> None:
    """What is opened once per worker has the type of what is returned or yielded."""
    assert_type(await session(), bytes)
    assert_type(await connection(), bytes)
    assert_type(model(), list[float])
    assert_type(table(), list[str])
    session.split  # type: ignore[attr-defined]  # noqa: B018
    session().split  # type: ignore[attr-defined]  # noqa: B018
    model(3)  # type: ignore[call-arg]


def mistakes(pool: Pool) -> None:
    """Inputs that do not fit the function, options that do not exist, values that cannot be."""
    pmap(square, ["a"])  # type: ignore[arg-type]
    pmap(fetch, [1])  # type: ignore[arg-type]
    pmap(fetch, pages, on_error="return")  # type: ignore[call-overload]
    pmap(add, ["a"], [1.0])  # type: ignore[arg-type]
    pmap(square, 3)  # type: ignore[call-overload]
    pmap([1], square)  # type: ignore[call-overload]
    pmap(square, [1], n_jobs=3)  # type: ignore[call-overload]
    pmap(square, [1], on_error="ignore")  # type: ignore[call-overload]
    pmap(square, [1], batch="big")  # type: ignore[call-overload]
    pmap(square, [1], progress="bar")  # type: ignore[call-overload]
    pool.map(square, ["a"])  # type: ignore[arg-type]
    pool.submit(square, "a")  # type: ignore[call-overload]
    pool.submit(square, 1, 2)  # type: ignore[call-overload]
    aiopool.configure(workers="many")  # type: ignore[arg-type]
    aiopool.configure(max_memory=1)  # type: ignore[call-arg]
    Pool(2, idle_timeout=3.0).close()
    Pool(max_workers=2)  # type: ignore[call-arg]
    Pool(workers="many")  # type: ignore[arg-type]
