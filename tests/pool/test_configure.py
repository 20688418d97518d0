"""The defaults of a session: what is given, what is taken back, and when it means another shared pool."""

from __future__ import annotations

import os

import pytest

import aiopool
from aiopool import OptionError, session
from aiopool.options import default_concurrency
from aiopool.registry import registry
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import children, ended, shortly


@pytest.fixture(autouse=True)
def own_session(monkeypatch):
    """A session of this test's own, whose pools are ended."""
    opened = []
    real = session.Pool

    def opening(*args, **options):
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(session, "Pool", opening)
    monkeypatch.setattr(session, "_session", session._Session())
    for name, value in vars(type(registry)()).items():
        monkeypatch.setattr(registry, name, value)
    aiopool.configure(workers=2)
    yield opened
    for pool in opened:
        ended(pool)


async def test_none_takes_a_default_back(monkeypatch, board: Board):
    """The concurrency and the number of workers are again as if nothing had been said."""
    monkeypatch.setattr(session, "default_workers", lambda: 3)
    pool = aiopool.get_pool()
    aiopool.configure(concurrency=1)
    aiopool.configure(workers=1)
    assert (pool.size, session._session.concurrency) == (1, 1)

    async def counted(_: int) -> None:
        with board.counted("inside"):
            await board.wait_async("inside", 2)

    aiopool.configure(concurrency=None)
    await shortly(aiopool.pmap(counted, range(8)))
    assert 1 < board.most("inside") <= default_concurrency(1)
    aiopool.configure(workers=None)
    assert aiopool.get_pool() is pool
    assert pool.size == 3


def test_what_is_not_given_stays():
    """Each option by itself."""
    aiopool.configure(concurrency=7, threads_per_worker=None)
    aiopool.configure(workers=3)
    aiopool.configure(reload_modules=False)
    pool = aiopool.get_pool()
    assert (pool.size, session._session.concurrency) == (3, 7)
    assert (pool._options.threads_per_worker, pool._options.reload_modules) == (None, False)


@pytest.mark.parametrize("option", [{"threads_per_worker": 3}, {"nested_loops": True}, {"reload_modules": False}])
async def test_an_option_of_its_workers_opens_another_shared_pool(option, board: Board):
    """The old one ends with its jobs; saying the same again changes nothing."""
    first = aiopool.get_pool()
    job = aiopool.pmap(lambda _: board.wait("go") and os.getpid(), [1])
    aiopool.configure(**option)
    second = aiopool.get_pool()
    assert first is not second
    assert first.closed
    assert second.size == 2
    assert await shortly(aiopool.pmap(work.double, [1])) == [2]
    board.mark("go")
    assert len(await shortly(job)) == 1
    first.join(DEADLINE)
    aiopool.configure(engine="local", **option)
    assert aiopool.get_pool() is second


async def test_what_is_set_holds_in_the_workers():
    """The number of threads, as the shared pool's workers are told it; and loops that nest."""
    aiopool.configure(threads_per_worker=3, nested_loops=True)

    async def told(x: int) -> str | None:
        import asyncio

        asyncio.run(asyncio.sleep(0))
        return os.environ.get("OPENBLAS_NUM_THREADS")

    assert await shortly(aiopool.pmap(told, [1])) == [os.environ.get("OPENBLAS_NUM_THREADS", "3")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"concurrency": 0},
        {"engine": "none"},
        {"engine": None},
        {"threads_per_worker": 0},
        {"nested_loops": None},
        {"reload_modules": "no"},
    ],
)
def test_a_default_that_cannot_be_is_refused_and_nothing_is_set(wrong):
    """Also not the right one beside it."""
    pool = aiopool.get_pool()
    before = vars(session._session).copy()
    right = {name: value for name, value in {"workers": 3, "concurrency": 5}.items() if name not in wrong}
    with pytest.raises(OptionError, match=next(iter(wrong))):
        aiopool.configure(**wrong, **right)
    assert vars(session._session) == before
    assert (aiopool.get_pool(), pool.size) == (pool, 2)


def test_workers_of_the_shared_pool_retire_when_nobody_has_needed_them_for_ten_minutes(monkeypatch):
    """The pool stays, and starts others when there is work again."""
    assert session.IDLE_SECONDS == 600
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.2)
    first = aiopool.pmap(work.pid, [1]).result(DEADLINE)
    until(lambda: not set(first) & children(), what="the idle worker has left")
    pool = aiopool.get_pool()
    until(lambda: pool.snapshot().workers == (), what="its death was declared")
    assert aiopool.pmap(work.pid, [1]).result(DEADLINE) != first
    assert aiopool.get_pool() is pool


def test_the_signature_reads_well():
    """What is not given is shown as such, and not as a class of ours."""
    import inspect

    assert repr(inspect.signature(aiopool.configure).parameters["engine"].default) == "..."
