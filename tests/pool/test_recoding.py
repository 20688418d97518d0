"""What pickles parts of inputs and items that run again: one job never waits for another one's item."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from aiopool._payload import EncodedItems
from aiopool._runtime import recoder as recoding
from aiopool._runtime.recoder import Recoder
from tests.pool import work
from tests.pool.board import DEADLINE, until
from tests.pool.pools import our_threads, still_works


class Slow:
    """Whose pickling takes until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        """Not before that."""
        self.begun.set()
        assert self.go_on.wait(DEADLINE)
        return int, (4,)


@pytest.fixture
def slow() -> Iterator[Slow]:
    """An item that goes on with the end of the test at the latest."""
    slow = Slow()
    yield slow
    slow.go_on.set()


def test_an_item_that_takes_its_time_to_be_pickled_holds_up_its_own_job_only(pool, slow):
    """Other inputs without a length are read to their ends meanwhile, and its own job goes on after it."""
    held = pool.map(work.double, iter([slow, 1]), progress=False)
    assert slow.begun.wait(DEADLINE)
    assert pool.map(work.double, iter(range(5)), progress=False).result(DEADLINE) == [0, 2, 4, 6, 8]
    assert pool.map(work.double, (n for n in range(3)), progress=False).result(DEADLINE) == [0, 2, 4]
    slow.go_on.set()
    assert held.result(DEADLINE) == [8, 2]


def test_an_item_whose_pickling_hangs_for_ever_costs_its_job_and_nothing_else(pool, slow):
    """The job is cancelled; the pool works as before, though the thread is still in there."""
    held = pool.map(work.double, iter([slow, 1]), progress=False)
    assert slow.begun.wait(DEADLINE)
    assert held.cancel()
    until(held.done)
    for _ in range(3):
        assert pool.map(work.double, iter(range(5)), progress=False).result(DEADLINE) == [0, 2, 4, 6, 8]
    still_works(pool)


class Sink:
    """Who notes what was done."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []

    def supplied(self, job: int, items: Sequence[int], _: EncodedItems) -> None:
        """Of which job, which item."""
        self.done.append((job, items[0]))


def _encoded(_: Sequence[object]) -> EncodedItems:
    return EncodedItems(b"", (), ())


class Held:
    """Something to do that takes until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _: Sequence[object]) -> EncodedItems:
        """Not before that."""
        self.begun.set()
        assert self.go_on.wait(DEADLINE)
        return _encoded(())


@pytest.fixture
def held() -> Iterator[Held]:
    """One that goes on with the end of the test at the latest."""
    held = Held()
    yield held
    held.go_on.set()


@pytest.fixture
def sink() -> Sink:
    """One."""
    return Sink()


@pytest.fixture
def recoder(sink: Sink) -> Iterator[Recoder]:
    """One whose threads end with the test."""
    recoder = Recoder(sink)
    yield recoder
    recoder.stop()


def threads() -> int:
    """How many there are of its threads."""
    return sum(thread.name == "aiopool-recoder" for thread in threading.enumerate())


def test_what_is_put_of_a_job_is_done_in_this_order_whoever_does_it(recoder, sink):
    """Of five jobs that take turns."""
    for item in range(200):
        for job in range(5):
            recoder.put(job, [item], [None], _encoded)
    until(lambda: len(sink.done) == 1000)
    for job in range(5):
        assert [item for number, item in sink.done if number == job] == list(range(200))


def test_there_are_as_many_threads_as_jobs_that_are_held_up_and_none_at_rest(recoder, sink, held, monkeypatch):
    """Four items that take their time: four threads, and one more for all others. They end when nobody needs them."""
    monkeypatch.setattr(recoding, "LINGER_SECONDS", 0.05)
    before = threads()
    for job in range(4):
        recoder.put(job, [0], [None], held)
    until(lambda: recoder._threads == 4, what="all four are held up")
    for job in range(4, 2000):
        recoder.put(job, [0], [None], _encoded)
        # Who has done it may be about to look for more: then another thread would be begun for the next one.
        until(lambda job=job: (job, 0) in sink.done[-1:] and recoder._threads - recoder._idle == 4)
        assert recoder._threads <= 5
    until(lambda: threads() <= before + 5, what="one that had nothing to do for a while is gone")
    held.go_on.set()
    until(lambda: len(sink.done) == 2000)
    until(lambda: threads() <= before, what="its threads have ended")
    recoder.put(1, [7], [None], _encoded)
    until(lambda: sink.done[-1] == (1, 7))


def test_what_waits_of_a_job_that_has_ended_is_not_pickled(recoder, sink, held):
    """What is in hand is done; what came after is not, and is let go."""
    recoder.put(1, [0], [None], held)
    assert held.begun.wait(DEADLINE)
    recoder.put(1, [1], [None], _encoded)
    recoder.drop(1)
    recoder.drop(2)
    held.go_on.set()
    recoder.put(2, [0], [None], _encoded)
    until(lambda: sorted(sink.done) == [(1, 0), (2, 0)])
    until(lambda: not recoder._work)


def test_where_no_thread_is_to_be_had_it_is_done_here_and_now(recoder, sink, held, monkeypatch):
    """And where there is one already it has more to do."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        recoder.put(1, [0], [None], _encoded)
        recoder.put(1, [1], [None], _encoded)
        assert sink.done == [(1, 0), (1, 1)]
    recoder.put(1, [2], [None], held)
    assert held.begun.wait(DEADLINE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        recoder.put(2, [0], [None], _encoded)
        assert sink.done == [(1, 0), (1, 1)]
    held.go_on.set()
    until(lambda: sorted(sink.done) == [(1, 0), (1, 1), (1, 2), (2, 0)])


def test_a_pool_at_rest_has_no_thread_for_that(fresh):
    """After some jobs that had something to pickle."""
    pool = fresh(1)
    for _ in range(3):
        assert pool.map(work.double, iter(range(5)), progress=False).result(DEADLINE) == [0, 2, 4, 6, 8]
    until(lambda: "aiopool-recoder" not in our_threads(), what="there is none")
