"""What is done with a great many results at once is not done in one step of the reader's loop."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from aiopool import _payload
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.results import Ending, Results
from aiopool._runtime.shelf import IN_A_STEP, LITTLE, MANY, Shelf
from aiopool.job import Job
from tests.job.driver import Driver

SIZE = MANY + 5


class Value:
    """Tells when it is let go of."""

    gone = 0

    def __del__(self) -> None:
        Value.gone += 1


@pytest.fixture(autouse=True)
def nothing_is_gone_yet() -> Iterator[None]:
    """Counted anew in each test."""
    Value.gone = 0
    yield
    Value.gone = 0


def full(size: int = SIZE, size_in_bytes: int = SIZE * 8) -> Shelf:
    """A shelf with so many values, nobody else's."""
    shelf = Shelf(size)
    shelf.put(range(size), [Value() for _ in range(size)], size_in_bytes)
    return shelf


def test_a_great_many_values_are_let_go_of_some_in_each_step_of_the_loop() -> None:
    """All of a million in one step would hold it for 10 to 20 ms."""

    async def main() -> list[int]:
        shelf = full()
        gone = []
        del shelf
        while Value.gone < SIZE:
            gone.append(Value.gone)
            await asyncio.sleep(0)
        return [*gone, Value.gone]

    gone = asyncio.run(main())
    assert {after - before for before, after in pairwise(gone)} <= {0, 5, IN_A_STEP}
    assert len(gone) >= SIZE // IN_A_STEP


@pytest.mark.parametrize("much", [{"size": MANY}, {"size_in_bytes": LITTLE}], ids=["few", "large"])
def test_few_values_and_large_ones_are_let_go_of_at_once(much: dict[str, int]) -> None:
    """Their memory is there again before the next line."""

    async def main() -> int:
        shelf = full(**much)
        del shelf
        return Value.gone

    assert asyncio.run(main()) == much.get("size", SIZE)


def test_without_a_loop_all_values_are_let_go_of_at_once() -> None:
    """Nobody waits for anything there."""
    shelf = full()
    del shelf
    assert Value.gone == SIZE


def test_a_loop_that_ends_meanwhile_lets_go_of_what_is_left() -> None:
    """So nothing is kept for good."""

    async def main() -> None:
        full()

    asyncio.run(main())
    assert Value.gone == SIZE


def test_the_list_of_a_great_many_values_is_made_in_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not in one in which values were loaded."""
    step = 0
    loaded, made = [], []
    run, load, outcome = events.Handle._run, Results._load_next, Job._outcome

    def counted(handle: events.Handle) -> None:
        nonlocal step
        step += 1
        run(handle)

    def loading(results: Results, stop_at: float | None) -> None:
        loaded.append(step)
        load(results, stop_at)

    def making(job: Job[Any]) -> Any:
        made.append(step)
        return outcome(job)

    monkeypatch.setattr(events.Handle, "_run", counted)
    monkeypatch.setattr(Results, "_load_next", loading)
    monkeypatch.setattr(Job, "_outcome", making)
    values = list(range(SIZE))
    with Driver(SIZE) as driver:
        driver.results.deliver(Segment(range(SIZE), [0.0] * SIZE, _payload.dump_shared(values), (), 0))
        driver.results.end(Ending("done"))

        async def cell() -> list[int]:
            return list(await driver.job)

        assert asyncio.run(cell()) == values
    assert loaded
    assert made
    assert made[0] not in loaded


def test_a_job_that_has_ended_gives_a_great_many_results_to_who_does_not_wait() -> None:
    """All of them are loaded in the same look."""
    with Driver(SIZE) as driver:
        driver.results.deliver(Segment(range(SIZE), [0.0] * SIZE, _payload.dump_shared([None] * SIZE), (), 0))
        driver.results.end(Ending("done"))
        assert driver.job.result(timeout=0) == [None] * SIZE


def test_values_that_a_retry_has_taken_over_are_let_go_of_at_once() -> None:
    """How large they are is not known any more."""

    async def main() -> int:
        results = Results(SIZE, prefilled=dict(enumerate(Value() for _ in range(SIZE))))
        del results
        return Value.gone

    assert asyncio.run(main()) == SIZE
