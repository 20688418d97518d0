"""How an input is read: in slices and in runs, so that nothing is done per item, and nothing that was read is lost."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from aiopool._payload import EncodedItems, dump_items, load_shared
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.recoder import Recoder
from aiopool._runtime.sources import Source, source_of
from tests.pool.board import DEADLINE, until


class Sink:
    """Who is told what was supplied, and how the input ended. It collects when it is nudged, as the pool does."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.nudges = 0
        self.error: BaseException | None = None
        self.total = -1
        self.collect: Callable[[], object] = lambda: None
        self.ended = threading.Event()

    @property
    def values(self) -> list[Any]:
        """All that was supplied."""
        return [value for batch in self.batches for value in batch]

    def supplied(self, _: int, items: Sequence[int], encoded: EncodedItems) -> None:
        """The numbers of the items are in step with their values."""
        values = list(load_shared(encoded.shared))
        first = len(self.values)
        assert list(items) == list(range(first, first + len(values)))
        self.batches.append(values)

    def nudged(self, _: int) -> None:
        """Something may be had."""
        self.nudges += 1
        self.collect()

    def input_ended(self, _: int, total: int) -> None:
        """The end."""
        self.total = total
        self.ended.set()

    def input_broken(self, _: int, total: int, error: BaseException) -> None:
        """The other end."""
        self.total, self.error = total, error
        self.ended.set()


class Feeding:
    """An input that is being read for a job of which workers have something to do, unless ``hungry`` says otherwise."""

    def __init__(self, values: object, *, upto: int = 1 << 40, size: int = 1000, hungry: bool = False) -> None:
        self.sink = Sink()
        self.recoder = Recoder(self.sink)
        self.source: Source = source_of((values,), example="pmap(f, data)")
        self.feeder = Feeder(1, self.sink, self.recoder, dump_items, self.source.keep)
        self.sink.collect = self.feeder.collect
        self.feeder.credit.grant(upto, size, hungry=hungry)
        self.source.feed(self.feeder)

    def starve(self) -> None:
        """A worker has nothing to do any more."""
        credit = self.feeder.credit
        credit.grant(credit.upto, credit.size, hungry=True)
        self.feeder.collect()

    def end(self) -> list[Any]:
        """All that was supplied, once the input has ended."""
        assert self.sink.ended.wait(DEADLINE)
        self.recoder.stop()
        until(lambda: len(self.sink.values) == self.sink.total)
        return self.sink.values


@pytest.fixture
def feed() -> Iterator[Callable[..., Feeding]]:
    """Make one; its threads end with the test."""
    made: list[Feeding] = []

    def make(values: object, **told: Any) -> Feeding:
        made.append(Feeding(values, **told))
        return made[-1]

    yield make
    for feeding in made:
        feeding.feeder.stop()
        feeding.recoder.stop()


class Gate:
    """An iterator that gives numbers, and at each in ``closed`` waits until it may go on."""

    def __init__(self, count: int, closed: Iterable[int]) -> None:
        self.given = 0
        self.waits = {at: threading.Event() for at in closed}
        self._count = count

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if (gate := self.waits.get(self.given)) is not None:
            assert gate.wait(DEADLINE)
        if self.given == self._count:
            raise StopIteration
        self.given += 1
        return self.given - 1


@pytest.mark.parametrize("kind", ["a list", "a range", "an iterator with a length", "a generator"])
def test_every_kind_of_input_is_read_to_its_end_in_whole_batches(feed, kind):
    """10,000 numbers, in batches of 1,000: each of them once, in order."""
    count = 10_000
    values = {
        "a list": list(range(count)),
        "a range": range(count),
        "an iterator with a length": dict.fromkeys(range(count)),
        "a generator": (number for number in range(count)),
    }[kind]
    feeding = feed(values)
    assert feeding.end() == list(range(count))
    assert [len(batch) for batch in feeding.sink.batches] == [1000] * 10


def test_a_range_travels_as_a_range():
    """However long it is: a million numbers are a few bytes."""
    assert len(dump_items(range(1_000_000)).shared) < 100


def test_what_was_read_before_an_item_that_takes_its_time_goes_to_who_waits(feed):
    """The run is in the middle of an item when a worker has nothing to do: it gets the ten before that."""
    gate = Gate(20, closed=[10])
    feeding = feed(gate)
    until(lambda: feeding.feeder.read == 10)
    assert not feeding.sink.batches
    feeding.starve()
    until(lambda: feeding.sink.values == list(range(10)))
    gate.waits[10].set()
    assert feeding.end() == list(range(20))


def test_while_somebody_waits_every_item_is_told_of_at_once(feed):
    """One item a time, each after a pause: none of them waits in a part for the next one."""
    gate = Gate(5, closed=range(5))
    feeding = feed(gate, hungry=True)
    for number in range(5):
        gate.waits[number].set()
        until(lambda number=number: feeding.sink.values == list(range(number + 1)))
    assert feeding.end() == list(range(5))


def test_the_item_that_a_run_was_at_when_somebody_began_to_wait_is_told_of(feed):
    """The run ends with that item, although a batch would take more; the next one may be long in coming."""
    gate = Gate(20, closed=[10, 11])
    feeding = feed(gate)
    until(lambda: feeding.feeder.read == 10)
    feeding.starve()
    gate.waits[10].set()
    until(lambda: feeding.sink.values == list(range(11)))
    assert gate.given == 11
    gate.waits[11].set()
    assert feeding.end() == list(range(20))


def test_a_run_ends_with_its_job(feed):
    """The item that it is at is the last that is read."""
    gate = Gate(20, closed=[10])
    feeding = feed(gate)
    until(lambda: feeding.feeder.read == 10)
    feeding.feeder.stop()
    gate.waits[10].set()
    feeding.feeder.join()
    assert gate.given == 11
    assert not feeding.sink.batches


def test_what_a_run_has_read_can_be_had_for_a_retry(feed):
    """While it goes on, and after: items that went nowhere yet, as well as those that have been passed on."""
    gate = Gate(20, closed=[5, 10])
    feeding = feed(gate)
    source = feeding.source

    def there() -> list[object]:
        assert source.read is not None
        return [source.value_of(index) for index in range(source.read())]

    until(lambda: feeding.feeder.read == 5)
    feeding.starve()
    feeding.feeder.credit.grant(1000, 1000, hungry=False)
    gate.waits[5].set()
    until(lambda: feeding.feeder.read == 10)
    assert there() == list(range(10))
    feeding.feeder.stop()
    gate.waits[10].set()
    feeding.feeder.join()
    assert there() == list(range(11))
    gone = weakref.ref(feeding.feeder)
    feeding.feeder = Feeder(2, feeding.sink, feeding.recoder, dump_items, None)
    feeding.sink.collect = feeding.feeder.collect
    gc.collect()
    assert gone() is None
    assert there() == list(range(11))
    with pytest.raises(KeyError):
        source.value_of(11)


def test_what_has_ended_is_forgotten(feed):
    """And what has not is not."""
    feeding = feed(number for number in range(10))
    assert feeding.end() == list(range(10))
    feeding.source.forget(range(2, 5))
    feeding.source.forget((7, 0))
    for number in range(10):
        if number in {0, 2, 3, 4, 7}:
            with pytest.raises(KeyError):
                feeding.source.value_of(number)
        else:
            assert feeding.source.value_of(number) == number


def test_what_was_read_before_an_error_stands(feed):
    """In the middle of a run."""

    def values() -> Iterator[int]:
        yield from range(7)
        raise ValueError("no more")

    feeding = feed(values())
    assert feeding.end() == list(range(7))
    assert isinstance(feeding.sink.error, ValueError)


def test_no_more_is_read_than_was_granted(feed):
    """Not by a run either, which may be longer than what is left."""
    gate = Gate(100, closed=[])
    feeding = feed(gate, upto=37, size=10)
    until(lambda: len(feeding.sink.values) == 37)
    assert gate.given == 37
    feeding.feeder.credit.grant(1000, 10, hungry=False)
    assert feeding.end() == list(range(100))
    assert [len(batch) for batch in feeding.sink.batches] == [10, 10, 10, 7, *[10] * 6, 3]
