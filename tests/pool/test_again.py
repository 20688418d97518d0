"""A retry gives the complete list, whatever its input was and however the first job ended."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from aiopool import InputError, JobCancelled, JobStopped, ResultsConsumed
from aiopool._core import policy
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import our_threads, shortly
from tests.pool.scripts import beside_progress

MANY = 20_000


class Shelf:
    """Data with a length that counts how often each of its items is read."""

    def __init__(self, items: int, hold_at: int = -1) -> None:
        self.items = items
        self.read: list[int] = []
        self.held = threading.Event()
        self.go_on = threading.Event()
        self._hold_at = hold_at

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[int]:
        for number in range(self.items):
            if number == self._hold_at:
                self.held.set()
                assert self.go_on.wait(DEADLINE)
            self.read.append(number)
            yield number


@pytest.fixture
def reads_far_ahead(monkeypatch):
    """An input is read as far ahead as it ever is, however long the machine takes for the first items."""
    monkeypatch.setattr(policy, "QUEUED_SECONDS", 1e9)


def begun(pool, board: Board, *data):
    """A job whose first three items have ended; the others wait for a sign."""

    def some(x, *_):
        if x >= 3:
            board.wait("mended")
        return x

    job = pool.map(some, *data, batch=1)
    until(lambda: job.snapshot().finished == 3)
    return job


def ended(job):
    """Cancel it and wait for the end."""
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    return job


SIZED = {
    "several zipped": lambda: (range(MANY), [0] * MANY),
    "a set": lambda: (set(range(MANY)),),
    "an iterable with a length": lambda: (Shelf(MANY),),
}


@pytest.mark.parametrize("kind", SIZED)
def test_a_retry_reads_on_where_the_first_job_stopped_to_read(pool, board: Board, kind):
    """An input with a length is read to its end, each item once; and so it is for the retry of a retry."""
    data = SIZED[kind]()
    job = ended(begun(pool, board, *data))
    second = job.retry()
    assert len(second) == MANY
    second = ended(second)
    board.mark("mended")
    again = second.retry(lambda x, *_: -x)
    assert again.result(DEADLINE) == [0, 1, 2, *range(-3, -MANY, -1)]
    for each in data:
        if isinstance(each, Shelf):
            assert each.read == list(range(MANY))


def test_a_retry_waits_for_an_item_that_is_just_being_read(pool, board: Board, reads_far_ahead):
    """The first job's thread is inside of the user's iterator; nothing is read by two at once, and nothing is lost."""
    shelf = Shelf(40, hold_at=20)
    job = begun(pool, board, shelf)
    assert shelf.held.wait(DEADLINE)
    again = ended(job).retry(work.double)
    board.mark("mended")
    assert not again.done()
    shelf.go_on.set()
    assert again.result(DEADLINE) == [0, 1, 2, *range(6, 80, 2)]
    assert shelf.read == list(range(40))


def test_what_was_read_of_an_endless_input_is_retried_and_it_says_so(pool, board: Board, reads_far_ahead):
    """Also what had been read and not begun: it cannot be read another time."""
    taken = []

    def numbers():
        for number in range(10**9):
            taken.append(number)
            yield number

    job = begun(pool, board, numbers())
    until(lambda: len(taken) > 1000, what="a thousand are read")
    ended(job)
    board.mark("mended")
    with pytest.warns(UserWarning, match=r"had not been read to its end.*list\(\.\.\.\)"):
        again = job.retry(work.double)
    values = again.result(DEADLINE)
    assert values == [0, 1, 2, *range(6, 2 * len(values), 2)]
    assert 1000 <= len(values) <= len(taken)
    assert again.retry().result(DEADLINE) == values


async def test_what_was_read_of_an_async_input_is_retried(pool, board: Board):
    """The generator itself ends with the job that read it."""
    all_read = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        for number in range(7):
            yield number
        all_read.set()
        await asyncio.sleep(3600)

    def some(x):
        if x >= 3:
            board.wait("mended")
        return x

    job = pool.map(some, numbers(), batch=1)
    async with asyncio.timeout(DEADLINE):
        while job.snapshot().finished < 3:  # noqa: ASYNC110 - the pool sets no event
            await asyncio.sleep(0.01)
    await shortly(all_read.wait())
    job.cancel()
    await shortly(job.wait())
    board.mark("mended")
    with pytest.warns(UserWarning, match="read to its end"):
        again = job.retry(work.double)
    assert await shortly(again) == [0, 1, 2, 6, 8, 10, 12]


def test_a_retry_after_an_input_that_raised_runs_what_came_before(pool):
    """The items before the error stand; those that failed run again."""

    class Torn(Shelf):
        def __iter__(self) -> Iterator[int]:
            yield from range(4)
            raise OSError("torn")

    job = pool.map(work.refuse, Torn(9), on_error="return")
    with pytest.raises(OSError, match="torn"):
        job.result(DEADLINE)
    assert job.retry(work.double).result(DEADLINE) == [0, 2, 2, 6]


def press_when_it_waits() -> threading.Thread:
    """Press Stop as soon as a blocking wait listens to it: before that, it would be pytest that stops."""
    standing = signal.getsignal(signal.SIGINT)

    def press() -> None:
        until(lambda: signal.getsignal(signal.SIGINT) is not standing, what="it waits")
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


async def test_a_retry_after_a_stop_and_after_a_blocking_stop(pool, board: Board):
    """Cancelling the task that awaits it, an interrupt of ``.result()``: both leave a job that can be retried."""
    job = begun(pool, board, range(6))
    task = asyncio.ensure_future(job)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = begun(pool, board, range(6))
    pressing = press_when_it_waits()
    with pytest.raises(JobStopped):
        other.result(DEADLINE)
    pressing.join(DEADLINE)
    board.mark("mended")
    assert await shortly(job.retry(work.double)) == [0, 1, 2, 6, 8, 10]
    assert await shortly(other.retry(work.double)) == [0, 1, 2, 6, 8, 10]


class Unwilling:
    """A value that does not come back."""

    def __reduce__(self):
        return pickle.loads, (b"broken",)


def test_an_item_that_is_not_kept_cannot_be_retried_and_is_named(pool):
    """Of an input without a length what has a value is let go, and only then that value turns out to be broken."""
    job = pool.map(lambda x: Unwilling() if x == 1 else x, iter(range(3)), on_error="return")
    assert [type(value).__name__ for value in job.result(DEADLINE)] == ["int", "Failure", "int"]
    with pytest.raises(InputError, match=r"item 1 of the input is not kept.*list\(\.\.\.\)"):
        job.retry(work.double)
    kept = pool.map(lambda x: Unwilling() if x == 1 else x, range(3), on_error="return")
    kept.result(DEADLINE)
    assert kept.retry(work.double).result(DEADLINE) == [0, 2, 2]


def test_what_was_handed_out_and_let_go_cannot_be_retried(pool):
    """Its values are gone, so the list could not be complete."""
    job = pool.map(work.double, iter(range(3)))
    assert list(job) == [0, 2, 4]
    with pytest.raises(ResultsConsumed, match="3 results"):
        job.retry()


def test_an_async_input_whose_job_ends_early_ends_without_a_word(pool, capfd):
    """From sync code it is read on a thread, where nobody would catch its cancellation."""

    async def numbers() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(3600)

    job = pool.map(work.double, numbers())
    assert next(iter(job)) == 0
    name = f"aiopool-feeder-{job.id}"
    job.cancel()
    until(lambda: job.done() and name not in our_threads())
    assert beside_progress(capfd.readouterr().err) == ""
