"""The rate that a panel shows: that of the present."""

from __future__ import annotations

import pytest

from aiopool.pace import Pace
from tests.jupyter.pictures import job


def test_it_follows_a_job_that_becomes_faster_within_seconds() -> None:
    """A minute at one a second, then a hundred: the time left is told for what is to come."""
    pace, done = Pace(), 0
    for tenth in range(600):
        done = tenth // 10
        pace.note(job(done, elapsed=tenth / 10))
    assert pace.rate == pytest.approx(1.0, rel=0.1)
    for tenth in range(150):
        done += 10
        pace.note(job(done, elapsed=60 + tenth / 10))
    assert pace.rate == pytest.approx(100.0, rel=0.1)


def test_it_does_not_jump_where_items_take_long() -> None:
    """One item in eight seconds: the rate is that of the last twenty, not of the ten seconds since one ended or two."""
    pace, rates = Pace(), []
    for second in range(1000):
        rate = pace.note(job(second // 8, elapsed=float(second)))
        if second > 200:
            assert rate is not None
            rates.append(rate)
    assert min(rates) > 0.11
    assert max(rates) < 0.135


def test_a_job_that_stands_still_has_a_rate_that_falls() -> None:
    """A minute without an end of an item is seen."""
    pace = Pace()
    for second in range(30):
        pace.note(job(second * 10, elapsed=float(second)))
    assert pace.rate == pytest.approx(10.0, rel=0.1)
    pace.note(job(290, elapsed=90.0))
    assert pace.rate is not None
    assert pace.rate < 4.0


def test_the_start_of_workers_is_no_part_of_it() -> None:
    """Two seconds in which nothing could run say nothing of how long the rest will take."""
    pace = Pace()
    for tenth in range(21):
        pace.note(job(0, elapsed=tenth / 10, in_flight=0))
    assert pace.rate is None
    assert pace.note(job(0, elapsed=2.1)) is None
    assert pace.note(job(10, elapsed=3.0)) == pytest.approx(10.0)


def test_a_pause_is_no_part_of_it() -> None:
    """While it lasts there is no rate, and after it a new one."""
    pace = Pace()
    for second in range(30):
        pace.note(job(second * 10, elapsed=float(second)))
    assert pace.note(job(300, elapsed=31.0, state="paused")) is None
    assert pace.note(job(300, elapsed=600.0, state="paused")) is None
    for second in range(5):
        pace.note(job(300 + second * 10, elapsed=600.0 + second))
    assert pace.rate == pytest.approx(10.0, rel=0.1)


def test_what_a_retry_took_over_is_not_its_own_work() -> None:
    """Else a retry would begin with a thousand items a second."""
    assert Pace().note(job(1000, elapsed=0.5, taken_over=1000)) is None
    assert Pace().note(job(1001, elapsed=0.5, taken_over=1000)) == pytest.approx(2.0)


def test_it_remembers_a_bounded_number_of_moments() -> None:
    """Over a day of ten looks a second."""
    pace = Pace()
    for tenth in range(20_000):
        pace.note(job(tenth * 3, elapsed=tenth / 10))
    assert len(pace._moments) < 50
