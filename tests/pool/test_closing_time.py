"""How long a worker may take to end by itself, once its work is done."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from aiopool import per_worker
from aiopool._runtime import driver
from aiopool._runtime.proxy import WorkerProxy
from tests.pool.board import DEADLINE, Board


@pytest.mark.parametrize("hangs", [False, True])
def test_a_worker_that_is_killed_while_it_closes_is_not_killed_in_silence(
    fresh, board: Board, monkeypatch, caplog, hangs
):
    """The log says that what it was closing is not closed; of one that ends in time it says nothing."""

    @per_worker
    def resource() -> Iterator[int]:
        yield 1
        board.mark("closing")
        if hangs:
            time.sleep(3600)
        board.mark("closed")

    give_no_more_time = WorkerProxy.give_no_more_time

    def when_it_closes(worker: WorkerProxy) -> None:
        board.wait("closing")
        give_no_more_time(worker)

    monkeypatch.setattr(driver, "PART_SECONDS", 0.3 if hangs else DEADLINE)
    monkeypatch.setattr(WorkerProxy, "give_no_more_time", when_it_closes)
    pool = fresh(1)
    assert pool.map(lambda _: resource(), range(2)).result(DEADLINE) == [1, 1]
    (worker,) = pool.snapshot().workers
    pool.close()
    pool.join(DEADLINE)
    assert len(board.marks("closing")) == 1
    said = [record.getMessage() for record in caplog.records if record.name == "aiopool"]
    killed = f"worker 0 (pid {worker.pid}) did not end in time when its work was done, and is killed"
    assert said == ([f"{killed}: what it was closing is not closed"] if hangs else [])
    assert bool(board.marks("closed")) is not hangs
