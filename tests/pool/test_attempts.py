"""Further attempts: what is worth one is judged in the worker, where the exception is."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import pytest

from aiopool import NotPicklable, Retry, current_item
from tests.pool import work
from tests.pool.board import DEADLINE, Board


def after(board: Board, attempts: int, error: Any, kind: str = "def") -> Any:
    """Make a function that raises so many times before it gives the number of the attempt."""

    def item(x: int) -> int:
        board.mark("ran", x)
        if current_item().attempt <= attempts:
            raise error
        return current_item().attempt

    async def later(x: int) -> int:
        return item(x)

    return item if kind == "def" else later


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("concurrency", [2, 6])
def test_an_item_that_raises_is_tried_again_and_knows_it(pool, board: Board, kind, concurrency):
    """In lanes, in the main thread and in threads; an item that did not raise runs once."""
    fn = after(board, 2, ValueError("not yet"), kind)
    assert pool.map(fn, range(6), retries=2, backoff=0, concurrency=concurrency).result(DEADLINE) == [3] * 6
    assert len(board.marks("ran")) == 18
    assert pool.map(fn, range(4), retries=5, backoff=0, batch=4).result(DEADLINE) == [3] * 4


def test_the_last_attempt_decides(pool, board: Board):
    """Its error is the item's, with the number of attempts."""
    fn = after(board, 9, ValueError("not yet"))
    (failure,) = pool.map(fn, [1], retries=2, backoff=0, on_error="return").result(DEADLINE)
    assert (type(failure.error), failure.attempts, len(board.marks("ran"))) == (ValueError, 3, 3)


class OwnError(Exception):
    """Known to the worker as the one of the function."""


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [
        (ValueError, ValueError(), 3),
        (ValueError, UnicodeError(), 3),
        (ValueError, OSError(), 1),
        ((OSError, OwnError), OwnError(), 3),
        (Exception, NameError(), 1),
        (Exception, ImportError(), 1),
        (ValueError, Retry(), 3),
        (Exception, SystemExit(), 1),
    ],
    ids=repr,
)
def test_retry_on_says_what_is_worth_another_attempt(pool, board: Board, retry_on, error, attempts):
    """Subclasses too; Retry always; what the code itself has got wrong never."""
    options: dict[str, Any] = {"retries": 2, "backoff": 0, "on_error": "return", "retry_on": retry_on}
    pool.map(after(board, 9, error), [1], **options).result(DEADLINE)
    assert len(board.marks("ran")) == attempts


def test_retry_after_sets_the_wait(pool, board: Board):
    """Shorter than the backoff would be, or longer."""
    begun = time.monotonic()
    assert pool.map(after(board, 1, Retry(after=0)), range(4), retries=1, backoff=60).result(DEADLINE) == [2] * 4
    assert time.monotonic() - begun < 10
    begun = time.monotonic()
    assert pool.map(after(board, 1, Retry(after=0.5)), range(2), retries=1, backoff=0).result(DEADLINE) == [2] * 2
    assert time.monotonic() - begun >= 0.5


class LyingRetry(Retry):
    """Does not know how long."""

    @property
    def after(self) -> float | None:
        """Raise instead."""
        raise ZeroDivisionError

    @after.setter
    def after(self, value: float | None) -> None:
        pass


@pytest.mark.parametrize("how", ["raises", "text", "negative", "endless"])
def test_an_after_that_is_no_number_counts_as_none(pool, how):
    """The worker survives whatever stands there."""

    def item(x: int) -> int:
        if current_item().attempt > 1:
            return x
        error = LyingRetry() if how == "raises" else Retry()
        if how != "raises":
            error.after = {"text": "soon", "negative": -5, "endless": float("inf")}[how]  # type: ignore[assignment]
        raise error

    before = pool.broadcast(work.pid).result(DEADLINE)
    assert pool.map(item, [7], retries=1, backoff=0).result(DEADLINE) == [7]
    assert pool.broadcast(work.pid).result(DEADLINE) == before


class Explodes:
    """An argument that cannot be made in the worker."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, (self.board,)


def _explode(board: Board) -> NoReturn:
    board.mark("loaded")
    raise ValueError("it explodes when it is loaded")


def test_an_argument_that_cannot_be_made_is_not_tried_again(pool, board: Board):
    """It would be the same another time."""
    (failure,) = pool.map(work.double, [Explodes(board)], retries=3, backoff=0, on_error="return").result(DEADLINE)
    assert (type(failure.error), failure.attempts) == (ValueError, 1)
    assert len(board.marks("loaded")) == 1


def test_a_function_that_cannot_be_made_is_not_tried_again(pool, board: Board):
    """Neither for this item nor for the next; the traceback does not grow from one to the other."""

    class Function(Explodes):
        def __call__(self, x: int) -> int:
            return x

    failures = pool.map(Function(board), range(6), retries=3, backoff=0, on_error="return").result(DEADLINE)
    assert [(type(failure.error), failure.attempts) for failure in failures] == [(ValueError, 1)] * 6
    assert len(board.marks("loaded")) <= 2
    depths = {len(_frames(failure.error)) for failure in failures}
    assert len(depths) == 1


def _frames(error: BaseException) -> list[Any]:
    found, tb = [], error.__traceback__
    while tb is not None:
        found.append(tb)
        tb = tb.tb_next
    return found


def test_a_value_that_cannot_travel_is_not_made_again(pool, board: Board):
    """What it has cost to make it is not paid twice."""

    def item(x: int) -> Any:
        board.mark("ran")
        return (each for each in range(x))

    (failure,) = pool.map(item, [3], retries=3, backoff=0, on_error="return").result(DEADLINE)
    assert isinstance(failure.error, NotPicklable)
    assert len(board.marks("ran")) == 1


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_at_most_once_is_about_deaths_and_leaves_retries_alone(pool, board: Board, kind):
    """An attempt that raised has ended."""
    fn = after(board, 1, ValueError(), kind)
    assert pool.map(fn, range(3), rerun_lost=False, retries=1, backoff=0).result(DEADLINE) == [2] * 3
