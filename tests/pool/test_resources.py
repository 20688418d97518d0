"""What ``@per_worker`` asks of the item that uses it, and when it lets go; with items that no worker runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import copy_context
from types import FunctionType
from typing import Any

import pytest

from aiopool import inside, per_worker, resources
from aiopool.resources import AsyncResource, SyncResource
from tests.pool.board import DEADLINE, until


class Work:
    """A job."""


class Item:
    """An item that notes when its clock stands still."""

    def __init__(self, job: object) -> None:
        self.job = job
        self.log: list[str] = []

    def hold(self) -> None:
        """Stop the clock."""
        self.log.append("hold")

    def release(self) -> None:
        """Let it go on."""
        self.log.append("release")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[resources._Shelf]:
    """A worker's, of this test's own."""
    mine = resources._Shelf()
    monkeypatch.setattr(resources, "_shelf", mine)
    yield mine
    mine.close_all()


@pytest.fixture
def item() -> Iterator[Item]:
    """The item that runs here."""
    mine = Item(Work())
    token = inside.running.set(mine)  # type: ignore[arg-type]
    yield mine
    inside.running.reset(token)


def edited(resource: Any, number: int, log: list[str], **more: object) -> Any:
    """The same resource after another edit of its cell."""
    function = resource.function
    namespace = {**function.__globals__, "NUMBER": number, "LOG": log, **more}
    made = FunctionType(function.__code__, namespace, function.__name__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return AsyncResource(made) if isinstance(resource, AsyncResource) else SyncResource(made)


NUMBER, LOG = 0, []  # type: ignore[var-annotated]


@per_worker
async def session():
    """Something with editions."""
    LOG.append(f"open {NUMBER}")
    yield NUMBER
    LOG.append(f"close {NUMBER}")


@per_worker
def model():
    """Something with editions."""
    LOG.append(f"open {NUMBER}")
    yield NUMBER
    LOG.append(f"close {NUMBER}")


@per_worker
async def client():
    """Stands on the other one."""
    yield model()
    LOG.append(f"close client {NUMBER}")


async def happened(log: list[str], times: int) -> list[str]:
    """Wait, while the loop turns, until so much has happened, and a little longer."""
    async with asyncio.timeout(DEADLINE):
        while len(log) < times:  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    return log


async def test_an_item_is_held_while_a_resource_opens_and_not_when_it_is_open(shelf, item: Item):
    """Once each time; whether the opening succeeds, fails, or the wait is cancelled."""
    go = asyncio.Event()

    @per_worker
    async def slow() -> str:
        await go.wait()
        return "open"

    @per_worker
    async def broken() -> None:
        raise ConnectionError

    @per_worker
    def broken_def() -> None:
        raise ConnectionError

    async def wait() -> str:
        return await slow()

    waits = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert item.log == ["hold"]
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert item.log == ["hold", "release"]
    go.set()
    for use in (slow, broken, broken_def):
        item.log.clear()
        try:
            assert await use() == "open"  # type: ignore[misc]
        except ConnectionError:
            assert use is not slow
        assert item.log == ["hold", "release"]
    assert await slow() == "open"
    assert item.log == ["hold", "release"]


def test_an_item_that_opens_a_sync_resource_is_let_go_after_the_limit(shelf, item: Item):
    """Nobody can end the opening of a ``def`` but its item: its timeout and cancel strike again, once."""
    shelf.limit = 0.05

    @per_worker
    def slow() -> list[str]:
        until(lambda: item.log == ["hold", "release"], what="the item is let go")
        return item.log

    assert slow() == ["hold", "release"]
    assert item.log == ["hold", "release"]


async def test_the_old_edition_stays_open_as_long_as_a_job_that_used_it(shelf, item: Item):
    """And is closed when that is gone, though nothing else happens; the job may be noticed gone in any thread."""
    shelf.set_up(inside.Home(asyncio.get_running_loop(), copy_context(), DEADLINE))
    log: list[str] = []
    first, second = edited(session, 1, log), edited(session, 2, log)
    assert await first() == 1
    inside.running.set(Item(Work()))  # type: ignore[arg-type]
    assert await second() == 2
    newer = inside.running.get()
    inside.running.set(item)  # type: ignore[arg-type]
    assert await first() == 1
    inside.running.set(newer)
    assert await second() == 2
    assert log == ["open 1", "open 2"]
    gone = [item.job]
    item.job = None
    threading.Thread(target=gone.clear).start()
    assert await happened(log, 3) == ["open 1", "open 2", "close 1"]
    assert await second() == 2


@pytest.mark.parametrize("resource", [session, model], ids=["async", "sync"])
async def test_an_old_edition_that_nobody_uses_is_closed_before_the_new_one_is_opened(shelf, item: Item, resource):
    """There may be no room for two."""
    shelf.set_up(inside.Home(asyncio.get_running_loop(), copy_context(), DEADLINE))
    log: list[str] = []
    for number in range(3):
        item.job = Work()
        value = edited(resource, number, log)()
        assert (await value if resource is session else value) == number
    assert log == ["open 0", "close 0", "open 1", "close 1", "open 2"]


async def test_what_a_resource_needs_stays_open_as_long_as_it_does(shelf, item: Item):
    """An old client keeps the old connection, whatever is used by others."""
    shelf.set_up(inside.Home(asyncio.get_running_loop(), copy_context(), DEADLINE))
    log: list[str] = []
    old, new = (edited(client, number, log, model=edited(model, number, log)) for number in (1, 2))
    assert await old() == 1
    first_job, item.job = [item.job], Work()
    assert await new() == 2
    assert await happened(log, 2) == ["open 1", "open 2"]
    first_job.clear()
    assert await happened(log, 4) == ["open 1", "open 2", "close client 1", "close 1"]
    assert await new() == 2
