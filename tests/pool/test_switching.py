"""How long the link thread waits for Python's lock: less while functions run, and as somebody else has said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from aiopool import Pool
from aiopool._worker import switching
from tests.pool.board import DEADLINE

BY_DEFAULT, SOON = switching.BY_DEFAULT * 1e-6, switching.SOON * 1e-6


def interval(_: int = 0) -> float:
    """What it is here."""
    return sys.getswitchinterval()


async def on_the_loop(_: int) -> float:
    """What it is there."""
    return sys.getswitchinterval()


def _own() -> None:
    sys.setswitchinterval(0.02)


@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["in laps", "one by one"])
def test_a_function_is_asked_to_let_others_in_sooner(pool, options):
    """Whoever waits for what this worker has not started, or for its end, waits so much less."""
    assert pool.map(interval, range(20), **options).result(DEADLINE) == pytest.approx([SOON] * 20)


def test_coroutines_and_threads_are_not(pool):
    """There is always somebody else who wants to go on; and the next functions find it as it was."""
    for _ in range(2):
        assert pool.map(interval, range(4)).result(DEADLINE) == pytest.approx([SOON] * 4)
        assert pool.map(on_the_loop, range(4)).result(DEADLINE) == pytest.approx([BY_DEFAULT] * 4)


def test_functions_that_do_next_to_nothing_are_not():
    """The link thread comes for each batch, some hundred times in a second."""

    def short() -> None:
        from aiopool._worker import laps, work

        work.JobRun.pace, laps.TOGETHER = 1e-7, 1e9

    with Pool(workers=1, initializer=short) as pool:
        found = pool.map(interval, range(3000), batch=500).result(DEADLINE)
    assert found.count(found[0]) < 20, "those that are run one by one: the first, and those that tell the link thread"
    assert max(found) == pytest.approx(BY_DEFAULT)


@pytest.mark.parametrize("run", [interval, on_the_loop])
def test_what_somebody_has_said_stays(run):
    """In a start of his own."""
    with Pool(workers=1, initializer=_own) as pool:
        assert pool.map(run, range(20)).result(DEADLINE) == pytest.approx([0.02] * 20)


def test_what_an_item_says_stays():
    """For those after it."""

    def says(x: int) -> float:
        if x == 5:
            sys.setswitchinterval(0.01)
        return sys.getswitchinterval()

    with Pool(workers=1) as pool:
        found = pool.map(says, range(10)).result(DEADLINE)
        assert found == pytest.approx([SOON] * 5 + [0.01] * 5)
        assert pool.submit(interval).result(DEADLINE) == pytest.approx(0.01)


@pytest.mark.parametrize("changing", [switching.sooner, switching.as_by_default])
def test_it_is_as_before_after_an_error(changing):
    """Whatever has been raised, and whether there was anything to change."""
    before = sys.getswitchinterval()

    def wrong() -> Any:
        raise KeyError(sys.getswitchinterval())

    wrapped: Callable[[], Any] = changing(wrong)
    with pytest.raises(KeyError) as caught:
        wrapped()
    assert caught.value.args == pytest.approx((SOON if changing is switching.sooner else BY_DEFAULT,))
    assert sys.getswitchinterval() == before == pytest.approx(BY_DEFAULT)
