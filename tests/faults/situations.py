"""The four situations in which a fault may strike, and what is true of each of them whatever it is that strikes."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aiopool import Failure, Job, Pool
from tests.faults import items
from tests.faults.items import CULPRIT, EIGHT, Fault
from tests.pool.board import DEADLINE, Board, until

AT_ONCE = 2.0
"""Seconds within which a death is noticed, and told to whoever waits for the item: 1 is the promise, the rest is for a
busy machine. Who learns of it from the end of a pipe alone learns of it much later: a child holds that."""


def pids(pool: Pool) -> set[int]:
    """Who the workers are."""
    return {info.pid for info in pool.snapshot().workers if info.pid is not None and info.state != "lost"}


def timed(job: Job, board: Board) -> tuple[object, float]:
    """How a call ended, and how many seconds after the fault."""
    try:
        return job.result(DEADLINE), items.since(board)
    except Exception as error:  # noqa: BLE001  # that is what is asked for
        return error, items.since(board)


def struck_idle(pool: Pool, board: Board, fault: Fault) -> int:
    """Strike a worker that has nothing to do; which one."""
    pid = pool.submit(items.later, board, fault).result(DEADLINE)
    until(lambda: all(info.state == "idle" for info in pool.snapshot().workers))
    board.mark("go")
    board.wait("struck")
    return pid


def struck_alone(pool: Pool, board: Board, fault: Fault) -> tuple[object, float]:
    """Strike in the only item of a worker, while another has one, too: how the item ended, and after how long.

    The other one's value comes, and nobody waits for anybody.
    """
    bystander = pool.submit(items.waits, board)
    board.wait("standing by")
    victim = pool.submit(items.alone, board, fault)
    board.wait("running")
    board.mark("go")
    told = timed(victim, board)
    assert bystander.result(DEADLINE) == int(board.marks("standing by")[0])
    return told


def struck_among(pool: Pool, board: Board, fault: Fault, *, then: Callable[[], object] = lambda: None) -> object:
    """Strike in one of eight coroutines in flight on a worker: how that ended. All the others have their values.

    ``then`` is done when they are all in flight, just before the fault.
    """
    item = functools.partial(items.among, board=board, fault=fault)
    job = pool.map(item, EIGHT, concurrency=len(EIGHT), on_error="return")
    board.wait("running", len(EIGHT))
    then()
    board.mark("go")
    results = job.result(DEADLINE)
    assert [value for x, value in enumerate(results) if x != CULPRIT] == [x for x in EIGHT if x != CULPRIT]
    culprit = results[CULPRIT]
    return culprit.error if isinstance(culprit, Failure) else culprit


def struck_closing(pool: Pool, board: Board, fault: Fault) -> object:
    """The same after the pool was told to close: it ends when that has ended."""
    told = struck_among(pool, board, fault, then=pool.close)
    pool.join(DEADLINE)
    return told
