"""The page that says which items a worker had begun when it died: what it says of more items than it has room for."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopool import WorkerLost
from aiopool._core import frames
from aiopool._worker.marks import MarkPage
from tests.pool.board import DEADLINE, Board


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MarkPage]:
    """One with room for the item at work and five others."""
    monkeypatch.setattr(MarkPage, "SLOTS", 8)
    fd = os.open(tmp_path / "page", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, MarkPage.SLOTS * 8)
    page = MarkPage(fd)
    os.close(fd)
    yield page
    page.slots.release()


def told(page: MarkPage) -> set[int]:
    """What stands there."""
    return set(page.slots) - {0}


def test_as_long_as_there_is_room_each_item_has_a_mark_of_its_own(page):
    """And nothing else stands there; what was given back is taken again."""
    slots = [page.take() for _ in range(5)]
    assert len({0, *slots}) == 6
    for number, slot in enumerate(slots, 1):
        page.slots[slot] = frames.mark_of(number, 0)
    assert told(page) == {frames.mark_of(number, 0) for number in range(1, 6)}
    for slot in slots:
        page.give(slot)
    assert not told(page)
    assert sorted(page.take() for _ in range(5)) == sorted(slots)


def test_while_there_are_more_the_page_says_that_any_may_have_begun(page):
    """From before the first of them begins, until the last of them has ended."""
    slots = [page.take() for _ in range(5)]
    assert frames.ANY_MARK not in told(page)
    beyond = [page.take() for _ in range(3)]
    assert frames.ANY_MARK in told(page)
    page.slots[beyond[0]] = frames.mark_of(9, 9)
    for slot in beyond[:2]:
        page.give(slot)
    assert frames.ANY_MARK in told(page)
    page.give(slots.pop())
    assert page.take() < min(beyond)
    page.give(beyond[2])
    assert not told(page)


def test_with_more_items_at_once_than_marks_an_item_still_runs_at_most_once(fresh, board: Board):
    """On a worker that dies of one of them."""

    def few_marks() -> None:
        MarkPage.SLOTS = 16

    async def item(x: int) -> None:
        board.mark("started", x)
        if x == 70:
            os._exit(1)
        await asyncio.Event().wait()

    pool = fresh(1, initializer=few_marks)
    job = pool.map(item, range(80), concurrency=80, rerun_lost=False, on_error="return", progress=False)
    # Those that come after it may not have begun, and are lost all the same.
    failures = job.result(DEADLINE)
    assert {type(failure.error) for failure in failures} == {WorkerLost}
    assert set(Counter(board.marks("started")).values()) == {1}
