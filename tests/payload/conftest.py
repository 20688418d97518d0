"""Fixtures: a fresh notebook for each test, a worker for each file, a second one where a test wants it."""

from __future__ import annotations

import pytest

from tests.payload.processes import Child, Notebook


@pytest.fixture
def notebook():
    """Cells of one test."""
    return Notebook()


@pytest.fixture(scope="module")
def child():
    """One worker process for the tests of a file, as in a pool: what an earlier job left behind is there."""
    with Child() as worker:
        yield worker


@pytest.fixture
def fresh_child():
    """A worker that has seen nothing yet."""
    with Child() as worker:
        yield worker
