"""Pools with real workers, and the check that a module leaves nothing behind."""

from __future__ import annotations

import faulthandler
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiopool import Pool, surfaces
from aiopool._core import policy
from tests.pool.board import DEADLINE, Board, until
from tests.pool.listening import Heard
from tests.pool.pools import children, ended, our_threads, rested


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every module gives back what it took: processes, threads, file descriptors."""
    gc.collect()
    before = (children(), our_threads(), psutil.Process().num_fds())
    yield
    gc.collect()
    until(lambda: children() <= before[0], what="the children are gone")
    until(lambda: our_threads() <= before[1], what="the threads are gone")
    until(lambda: psutil.Process().num_fds() <= before[2], what="the file descriptors are closed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A wait that ran out of time says where everybody stood."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(TimeoutError):
        faulthandler.dump_traceback(file=sys.__stderr__)
    return report


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two workers, shared by the tests of a module that do not disturb each other."""
    pool = Pool(workers=2, grace=0.3, name="shared-by-tests")
    yield pool
    ended(pool)


@pytest.fixture(scope="module")
def _lenient() -> Iterator[Pool]:
    pool = Pool(workers=2, grace=DEADLINE / 2, name="lenient")
    yield pool
    ended(pool)


@pytest.fixture
def lenient(_lenient: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Two workers, up and idle, that have time to obey, on a busy machine, too: who obeys must not be killed.

    Nor replaced, as somebody is after a quarter of a second who will be killed at the end of the grace.
    """
    rested(_lenient)
    monkeypatch.setattr(policy, "DEAF_SECONDS", DEADLINE / 2)
    return _lenient


@pytest.fixture
def fresh() -> Iterator[Callable[..., Pool]]:
    """A maker of pools of a test's own: ``fresh(4, grace=1)``."""
    made: list[Pool] = []

    def make(workers: int = 2, **options: Any) -> Pool:
        made.append(Pool(workers=workers, **{"grace": 0.3, **options}))
        return made[-1]

    yield make
    for pool in made:
        ended(pool)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board of this test's own."""
    return Board(tmp_path)


@pytest.fixture(scope="module")
def fonts() -> None:
    """Matplotlib's list of fonts: a worker that has to make it, and takes five seconds for that, says so."""
    import matplotlib.font_manager  # noqa: F401


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What workers print and display, instead of on the terminal."""
    heard = Heard()
    monkeypatch.setattr(surfaces, "_factories", [lambda *_: heard])
    return heard
