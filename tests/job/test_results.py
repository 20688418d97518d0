"""The store of a job's results: what arrives, in whatever shape, is read once and in the right place."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopool import _payload
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.results import EMPTY, Ending, RawFailure, Results, harmless
from aiopool._runtime.waiters import ANYTHING, END, ThreadWaiter
from aiopool.errors import InternalError, ItemExited, WouldDeadlock
from tests.job.driver import DEADLINE, Driver, Poison

LOADS: list[str] = []


class Counted:
    """A value that tells when it is loaded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_counted, (self.name,)


def _load_counted(name: str) -> Counted:
    LOADS.append(name)
    return Counted(name)


def plain(items: Any, values: list[object], blobs: Any = ()) -> Segment:
    """A segment of plain values."""
    return Segment(items, [0.0] * len(items), _payload.dump_shared(values), blobs, 0)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[str, Any]]]:
    """How the items of a job might arrive: in any order and grouping, in every shape, some of them failing."""
    order = list(range(draw(st.integers(0, 40))))
    random.Random(draw(st.integers())).shuffle(order)
    arrivals: list[tuple[str, Any]] = []
    while order:
        group = order[: draw(st.integers(1, 10))]
        del order[: len(group)]
        kind = draw(st.sampled_from(["plain", "mixed", "failed", "run"]))
        if kind == "run":
            # A run of neighbours, wherever they stand in the order.
            first = group[0]
            length = 1
            while first + length in order or first + length in group:
                if first + length in order:
                    order.remove(first + length)
                    group.append(first + length)
                length += 1
            order[:0] = [index for index in group if not first <= index < first + length]
            arrivals.append((kind, range(first, first + length)))
        else:
            arrivals.append((kind, tuple(group)))
    return sum(len(items) for _, items in arrivals), arrivals


def play(results: Results, kind: str, items: Any) -> None:
    """Have one group of items arrive; the value of each is its index, negative."""
    if kind == "failed":
        for index in items:
            results.fail(RawFailure(index, KeyError(index)))
    elif kind == "mixed":
        blobs = [_payload.dump_value(-index) if index % 2 else None for index in items]
        results.deliver(plain(items, [-index for index in items if index % 2 == 0], blobs))
    else:
        results.deliver(plain(items, [-index for index in items]))


@given(history=histories(), sized=st.booleans(), eager=st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_result_ends_in_its_place(history: tuple[int, list[Any]], *, sized: bool, eager: bool) -> None:
    """In whatever shape and order it came, and whenever it was read."""
    size, arrivals = history
    results = Results(size if sized else None)
    failed = set()
    for kind, items in arrivals:
        play(results, kind, items)
        failed |= set(items) if kind == "failed" else set()
        if eager:
            results.load()
    results.set_total(size)
    results.end(Ending("done"))
    results.load()
    expected = [("failed", index) if index in failed else -index for index in range(size)]
    assert results.listing(lambda index: ("failed", index)) == expected
    assert results.finished == size
    assert set(results.failures) == failed


def test_each_value_is_loaded_once_however_many_read() -> None:
    """Threads that read at the same time share the work, and its outcome."""
    LOADS.clear()
    results = Results(300)
    for start in range(0, 300, 3):
        blobs = [_payload.dump_value(Counted(str(index))) for index in range(start, start + 3)]
        results.deliver(Segment(range(start, start + 3), [0.0] * 3, b"", blobs, 0))
    threads = [threading.Thread(target=results.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(LOADS, key=int) == [str(index) for index in range(300)]


def test_nothing_is_loaded_before_somebody_reads() -> None:
    """The pool's thread never runs code of the user's."""
    LOADS.clear()
    results = Results(1)
    results.deliver(Segment((0,), (0.0,), b"", [_payload.dump_value(Counted("x"))], 0))
    results.end(Ending("done"))
    assert LOADS == []


def test_values_that_came_together_are_loaded_in_turns_when_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's loop does not stand still for all of a large batch; each value is loaded once nevertheless."""
    monkeypatch.setattr("aiopool._runtime.results.time", SimpleNamespace(monotonic=lambda: float(len(LOADS))))
    LOADS.clear()
    results = Results(6)
    blobs = [None if index == 2 else _payload.dump_value(Counted(str(index))) for index in range(6)]
    results.deliver(plain(range(6), [7], blobs))
    turns = []
    while not results.all_loaded:
        results.load(2)  # Each value takes a second of this clock.
        turns.append(len(LOADS))
    assert turns == [2, 4, 5]
    assert LOADS == ["0", "1", "3", "4", "5"]
    assert [getattr(value, "name", value) for value in results.listing(lambda _: None)] == ["0", "1", 7, "3", "4", "5"]


def test_a_value_that_fails_to_load_is_its_items_failure_alone() -> None:
    """Its neighbours load; it is never tried again; everybody gets the same failure, with a note."""
    with Driver(4, on_error="return") as driver:
        blobs = [None, _payload.dump_value(Poison(OSError)), _payload.dump_value([2]), None]
        driver.deliver_blobs([0, 1, 2, 3], blobs, ["zero", "three"])
        driver.end()
        driver.flush()
        zero, failure, two, three = driver.job.result(0)
        assert (zero, two, three) == ("zero", [2], "three")
        assert isinstance(failure.error, OSError)
        assert failure.error.__notes__ == [
            "the value came back from its worker, but cannot be loaded here",
            "item 1 (10), worker 1",
        ]
        assert driver.job.result(0)[1] is failure
        assert driver.job.failures == [failure]
        assert [row["error"] for row in driver.job.records()] == [None, failure.error, None, None]
        snapshot = driver.job.snapshot()
        assert (snapshot.done, snapshot.failed) == (3, 1)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
async def test_no_value_can_end_the_loop_that_loads_it(kind: type[BaseException]) -> None:
    """What would stop a kernel's loop arrives wrapped."""
    with Driver(1) as driver:
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            driver.deliver_blobs([0], [_payload.dump_value(Poison(kind))])
            driver.end()
            with pytest.raises(ItemExited, match=kind.__name__):
                await driver.job
        finally:
            signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_a_value_is_loaded_costs_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during ``partial()`` in sync code goes on, and the values are loaded the next time."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        results = Results(2)
        results.deliver(plain(range(2), [1, 2]))
        load = _payload.load_shared

        def interrupted(data: Any) -> Any:
            load(data)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(_payload, "load_shared", interrupted)
        with pytest.raises(KeyboardInterrupt):
            results.load()
        monkeypatch.setattr(_payload, "load_shared", load)
        results.load()
        assert results.listing(lambda _: None) == [1, 2]
        assert results.failures == {}
    finally:
        signal.signal(signal.SIGINT, before)


class Ended(Exception):
    """What a program's own handler raises."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Ended])
def test_an_interrupt_by_another_handler_costs_no_value_either(kind: type[BaseException]) -> None:
    """That of ``asyncio.run`` raises at the second Ctrl-C, and a program may have its own."""

    def handler(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGINT, handler)
    try:
        results = Results(2)
        results.deliver(Segment((0, 1), (0.0, 0.0), b"", [_payload.dump_value(Pressed(n)) for n in (1, 2)], 0))
        for _ in range(3):
            PRESSES.append(None)
            with pytest.raises(kind) as caught:
                results.load()
            assert type(caught.value) is kind
            assert signal.getsignal(signal.SIGINT) is handler
        results.load()
        assert results.listing(lambda _: None) == [1, 2]
        assert results.failures == {}
    finally:
        signal.signal(signal.SIGINT, before)


PRESSES: list[None] = []
"""How often Stop is still to be pressed."""


class Pressed:
    """A value while whose loading Stop is pressed."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _pressed, (self.number,)


def _pressed(number: int) -> int:
    if number == 2 and PRESSES:
        PRESSES.pop()
        signal.raise_signal(signal.SIGINT)
    return number


@pytest.mark.parametrize(
    "segment",
    [
        plain(range(3), [1, 2]),
        plain((0, 1, 2), [1, 2, 3, 4]),
        plain((0, 1, 2), [1, 2], [None]),
        plain(range(3), [1], [None, None, b"x"]),
        Segment(range(3), (), b"no pickle", (), 0),
    ],
)
def test_a_segment_that_does_not_add_up_fails_its_items_and_no_others(segment: Segment) -> None:
    """Values never slide into another item's place."""
    results = Results(5)
    results.deliver(plain([4, 3], ["four", "three"]))
    results.deliver(segment)
    results.load()
    assert results.listing(lambda index: ("failed", index))[3:] == ["three", "four"]
    assert set(results.failures) == {0, 1, 2}
    assert all(isinstance(results.failures[index].error, Exception) for index in range(3))


def test_a_value_that_reads_its_own_job_while_it_is_loaded_is_told_so() -> None:
    """Instead of waiting for itself for ever."""
    results = Results(1)
    results.deliver(plain(range(1), [1]))
    load = _payload.load_shared

    def again(data: Any) -> Any:
        results.load()
        return load(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_payload, "load_shared", again)
        results.load()
    assert isinstance(results.failures[0].error, WouldDeadlock)


def test_a_length_that_lied_is_corrected_by_the_total() -> None:
    """A sized input that turns out shorter or longer than its ``len``."""
    for told, is_in_fact in ((5, 3), (3, 5), (0, 2), (2, 0)):
        results = Results(told)
        for index in range(is_in_fact):
            results.deliver(plain((index,), [index]))
        results.set_total(is_in_fact)
        results.end(Ending("done"))
        results.load()
        assert results.listing(lambda _: EMPTY) == list(range(is_in_fact))


def test_what_comes_after_the_end_is_dropped() -> None:
    """Whoever looked at an ended job has seen all that there will be; the first ending counts."""
    results = Results(2)
    results.deliver(plain((0,), [0]))
    results.end(Ending("cancelled"))
    results.deliver(plain((1,), [1]))
    results.fail(RawFailure(1, ValueError()))
    results.end(Ending("done"))
    results.load()
    assert results.listing(lambda _: None) == [0, None]
    assert results.ending == Ending("cancelled")
    assert results.finished == 1


def test_prefilled_values_are_there_from_the_start() -> None:
    """Those that a retry takes over."""
    for size in (4, None):
        results = Results(size, prefilled={2: "two", 0: "zero"})
        results.deliver(plain((3, 1), ["three", "one"]))
        results.set_total(4)
        results.end(Ending("done"))
        results.load()
        assert results.listing(lambda _: None) == ["zero", "one", "two", "three"]
        assert results.finished == 4


def test_waiters_are_told_of_what_they_want_and_once() -> None:
    """Of an item, of anything, or of the end; and not again before they have taken the news."""
    results = Results(10)
    told: list[str] = []

    class Told(ThreadWaiter):
        name = ""

        def tell(self) -> None:
            told.append(self.name)

    for name, wants in (("item 5", 5), ("anything", ANYTHING), ("end", END)):
        waiter = Told(wants)
        waiter.name = name
        assert results.add(waiter)
    results.deliver(plain((1, 2), [1, 2]))
    assert told == ["anything"]
    told.clear()
    results.deliver(plain(range(4, 6), [4, 5]))
    assert told == ["item 5", "anything"]
    told.clear()
    results.fail(RawFailure(7, ValueError()))
    assert told == ["anything"]
    told.clear()
    results.end(Ending("done"))
    assert told == ["item 5", "anything", "end"]
    assert not results.add(Told(END))
    bell = ThreadWaiter(END)
    for _ in range(3):
        bell.tell()
    assert bell._bell.qsize() == 1


def test_harmless_leaves_errors_alone_and_wraps_exits() -> None:
    """Also one that was never meant for us."""

    class Odd(BaseException):
        pass

    error = ValueError("x")
    assert harmless(error) is error
    assert str(harmless(Odd("text"))).endswith("Odd: text")
    assert str(harmless(KeyboardInterrupt())) == "KeyboardInterrupt"
    assert isinstance(harmless(StopAsyncIteration()), ItemExited)
    assert isinstance(harmless(InternalError()), InternalError)
