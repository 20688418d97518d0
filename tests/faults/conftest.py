"""One pool that lives through the faults of a module, and what must be true of it after each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psutil
import pytest

from aiopool import Pool
from aiopool._core import policy
from tests.pool.board import DEADLINE, until
from tests.pool.conftest import board, fresh, heard, nothing_is_left, pytest_runtest_makereport
from tests.pool.pools import children, ended, rested, still_works

__all__ = ["board", "fresh", "heard", "nothing_is_left", "pytest_runtest_makereport"]

GRACE = 0.3


class Patient:
    """The pool of a module. If a fault has broken it, the test that found out fails, and the next one has another."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.files = 0

    def ready(self) -> Pool:
        """The pool, with all its workers up and idle."""
        if self.pool is None:
            self.pool = Pool(workers=2, grace=GRACE, name="patient")
            rested(self.pool)
            self.files = psutil.Process().num_fds()
        rested(self.pool)
        return self.pool

    def gone(self) -> None:
        """End it."""
        if self.pool is not None:
            ended(self.pool)
            self.pool = None


@pytest.fixture(scope="module")
def patient() -> Iterator[Patient]:
    """Whoever keeps the pool of a module."""
    patient = Patient()
    yield patient
    patient.gone()


@pytest.fixture
def afterwards(patient: Patient, caplog: pytest.LogCaptureFixture) -> Iterator[Pool]:
    """After every fault: the same pool works, has its workers back, no file stays open, and nobody complained.

    Warnings are errors in every test, those in the pool's own thread included: there they are logged.
    """
    pool = patient.ready()
    # Of a worker that has closed its output, fewer are open here: the fault before this one did that, not this one.
    files, processes = max(psutil.Process().num_fds(), patient.files), len(children())
    yield pool
    try:
        still_works(pool)
        rested(pool)
        until(lambda: psutil.Process().num_fds() <= files, what=f"{files} files are open again")
        until(lambda: len(children()) <= processes, what=f"{processes} processes run again")
        complaints = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
        assert [record.getMessage() for record in complaints] == []
    except BaseException:
        patient.gone()
        raise


@pytest.fixture
def pool(afterwards: Pool) -> Pool:
    """Two workers, up and idle, that other faults have been through."""
    return afterwards


def give_time(pool: Pool, monkeypatch: pytest.MonkeyPatch, grace: float = DEADLINE) -> None:
    """In this test, whoever obeys has this time for it, on a machine that stands still for a second, too.

    Until then nobody is given up or killed.
    """
    ledger = pool._driver._ledger
    monkeypatch.setattr(policy, "DEAF_SECONDS", grace)
    monkeypatch.setattr(ledger._jobs, "_grace", grace)
    monkeypatch.setattr(ledger._team, "_grace", grace)


@pytest.fixture
def lenient(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The same two: who obeys is not killed, however long it takes."""
    give_time(pool, monkeypatch)
    return pool
