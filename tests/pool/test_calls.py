"""Thousands of calls by submit: all of them for who asks, and counted for who looks ten times a second."""

from __future__ import annotations

import dataclasses
import time

import pytest

from aiopool import JobCancelled, Pool
from aiopool._runtime import runs
from aiopool.telemetry import CallsSnapshot, JobSnapshot, PoolSnapshot
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.listening import Heard


def glance(pool: Pool) -> PoolSnapshot:
    """What views are shown."""
    return pool._driver._io.ask(pool._driver._pictures.glance)


def test_calls_of_a_function_are_counted_for_views_and_listed_for_who_asks(fresh, board: Board):
    """By the name of the function; one that is alone, and maps, are shown as they are."""
    pool = fresh(1)

    def held(_: int) -> None:
        board.mark("in")
        board.wait("go")

    def other(_: int) -> None:
        board.wait("go")

    calls = [pool.submit(held, x) for x in range(5)]
    board.wait("in")
    alone, job = pool.submit(other, 1), pool.map(other, [1])
    before = calls[0].snapshot().elapsed
    seen = glance(pool)
    assert [(one.id, one.name) for one in seen.jobs] == [(alone.id, "other"), (job.id, "other")]
    (counted,) = seen.calls
    assert (counted.name, counted.open, counted.at_work) == ("held", 5, (calls[0].id,))
    assert seen.open_jobs == 7
    assert "| 7 jobs>" in repr(seen)
    assert seen.names == {alone.id: "other", job.id: "other", calls[0].id: "held"}
    asked = pool.snapshot()
    assert [one.id for one in asked.jobs] == [one.id for one in [*calls, alone, job]]
    assert (asked.calls, asked.open_jobs) == ((), 7)
    assert before <= counted.elapsed <= max(one.elapsed for one in asked.jobs)
    board.mark("go")
    for call in [*calls, alone, job]:
        call.result(DEADLINE)
    until(lambda: glance(pool).open_jobs == 0, what="nothing is open")
    assert (pool._driver._runs.calls, pool._driver._runs.maps) == ({}, {})


def test_the_age_of_calls_is_that_of_the_first_that_is_open(fresh, board: Board):
    """When it has ended, that of the next one."""
    pool = fresh(2)

    def held(topic: str) -> None:
        board.wait(topic)

    first = pool.submit(held, "first")
    until(lambda: first.snapshot().elapsed > 0.3)
    rest = [pool.submit(held, "rest") for _ in range(3)]
    assert glance(pool).calls[0].elapsed > 0.3
    board.mark("first")
    first.result(DEADLINE)
    until(lambda: glance(pool).open_jobs == 3)
    before = rest[0].snapshot().elapsed
    (counted,) = glance(pool).calls
    assert before <= counted.elapsed <= rest[0].snapshot().elapsed
    board.mark("rest")
    for call in rest:
        call.result(DEADLINE)


def test_a_look_at_thousands_of_calls_costs_no_more_than_at_two(fresh, board: Board, monkeypatch):
    """No picture is made of any of them. Nor is one when a worker is asked how it is."""
    pool = fresh(1)
    made: list[int] = []
    picture_of = runs.picture_of
    monkeypatch.setattr(runs, "picture_of", lambda *args, **more: made.append(1) or picture_of(*args, **more))

    def held(_: int) -> None:
        board.wait("go")

    calls = [pool.submit(held, x) for x in range(3000)]
    pool.map(held, [1], progress=False)  # What shows it would take pictures of its own.
    until(lambda: pool.workers and pool.workers[0].state == "busy", what="it is at work")
    made.clear()
    took = []

    def look() -> PoolSnapshot:
        began = time.thread_time()
        seen = pool._driver._pictures.glance()
        took.append(time.thread_time() - began)
        return seen

    assert {pool._driver._io.ask(look).open_jobs for _ in range(20)} == {3001}
    assert len(made) == 20, "of the map"
    assert pool.workers[0].state == "busy"
    assert len(made) == 20
    assert len(pool.snapshot().jobs) == 3001
    assert len(made) == 20 + 3001
    assert sorted(took)[10] < 5e-3
    pool.terminate()
    with pytest.raises(JobCancelled):
        calls[-1].result(DEADLINE)


def test_all_calls_of_a_function_are_cancelled_together(fresh, board: Board):
    """And no others, nor maps of the same name."""
    pool = fresh(2)

    def held(_: int) -> int:
        board.wait("go")
        return 1

    def other(_: int) -> int:
        return 2

    job = pool.map(held, [1])
    calls = [pool.submit(held, x) for x in range(20)]
    others = [pool.submit(other, x) for x in range(20)]
    pool._driver.cancel_calls("held")
    pool._driver.cancel_calls("nobody")
    for call in calls:
        with pytest.raises(JobCancelled):
            call.result(DEADLINE)
    assert [call.result(DEADLINE) for call in others] == [2] * 20
    board.mark("go")
    assert job.result(DEADLINE) == [1]


def test_names_are_those_of_jobs_and_of_calls_at_work():
    """What a panel says beside an item where several jobs run."""
    job = JobSnapshot(1, "fetch", "running", 10, 0, 0, 0, 0.0)
    pool = PoolSnapshot("pool", "open", 1, (), (job,), calls=(CallsSnapshot("score", 50_000, 1.0, (7, 9)),))
    assert pool.names == {1: "fetch", 7: "score", 9: "score"}
    assert str(pool).endswith("| 50,001 jobs")


@pytest.mark.parametrize("total", [None, 40])
def test_an_ended_job_looks_as_its_last_picture_did(fresh, heard: Heard, total):
    """Also of an input without a length that was cancelled: whoever asks is told what was shown."""
    pool = fresh(1)

    def endless():
        while True:
            yield 1

    began = time.monotonic()
    job = pool.map(work.nap, (0.001 for _ in endless()), total=total, on_error="return")
    until(lambda: job.snapshot().done > 3, what="some are done")
    job.cancel()
    until(job.done, what="it has ended")
    took = time.monotonic() - began
    (shown,) = heard.closed
    assert (shown.total, shown.state) == (total, "cancelled")
    assert dataclasses.replace(job.snapshot(), elapsed=0.0) == dataclasses.replace(shown, elapsed=0.0)
    assert shown.elapsed <= job.snapshot().elapsed <= took
