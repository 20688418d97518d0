"""Snapshots to draw, as small or as big as a test wants them."""

from __future__ import annotations

from typing import Any

from aiopool.telemetry import Block, FailureGroup, JobSnapshot, PoolSnapshot, WorkerInfo


def job(done: int = 412, **more: Any) -> JobSnapshot:
    """A job of 50,000 items, twelve seconds in."""
    given = {
        "id": 1, "name": "fetch", "state": "running", "total": 50_000, "failed": 0, "in_flight": 40, "elapsed": 12.34,
    } | more  # fmt: skip
    return JobSnapshot(done=done, **given)


def worker(index: int = 0, **more: Any) -> WorkerInfo:
    """A worker that runs one item."""
    given = {
        "pid": 4000 + index, "state": "busy", "in_flight": 1, "done": 1234, "memory": 310_000_000, "cpu": 98.4,
        "item": 7, "seconds": 13.2, "job": 1, "label": "'https://example.org'",
    } | more  # fmt: skip
    return WorkerInfo(index, **given)


def pool(*workers: WorkerInfo, jobs: tuple[JobSnapshot, ...] = (), **more: Any) -> PoolSnapshot:
    """The shared pool."""
    given = {"name": "shared", "state": "open", "size": len(workers)} | more
    return PoolSnapshot(workers=workers, jobs=jobs, **given)


def failures(count: int = 15, **more: Any) -> FailureGroup:
    """Failures at one line."""
    given = {
        "type_name": "ValueError", "where": "Cell In[3], line 4, in fetch", "message": "no page", "items": (7, 9, 11),
        "labels": ("'a'", "'b'", "'c'"), "traceback": "Traceback\n  Cell In[3], line 4, in fetch\nValueError: no page",
    } | more  # fmt: skip
    return FailureGroup(count=count, **given)


def block(start: float, end: float, **more: Any) -> Block:
    """What a worker did from then to then."""
    given = {"worker": 0, "job": 1, "name": "fetch", "item": 100, "count": 64, "failed": 0} | more
    return Block(start=start, end=end, **given)
