"""``await pmap(fn, data)`` in a notebook: every core, thousands of coroutines, live, and a Stop button that works.

The names are loaded when they are first used, so that importing this costs nothing and a fresh worker stays light.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "CurrentItem": "inside",
    "CurrentWorker": "inside",
    "Failure": "job",
    "Handle": "job",
    "Job": "job",
    "JobSnapshot": "telemetry",
    "MISSING": "job",
    "Pool": "pool",
    "PoolSnapshot": "telemetry",
    "Ref": "_payload.refs",
    "Retry": "inside",
    "WorkerInfo": "telemetry",
    "configure": "session",
    "current_item": "inside",
    "current_worker": "inside",
    "get_pool": "session",
    "jobs": "session",
    "last_job": "session",
    "per_worker": "resources",
    "pmap": "session",
    "report": "inside",
    "AiopoolError": "errors",
    "FrameError": "errors",
    "InputError": "errors",
    "InputLost": "errors",
    "InternalError": "errors",
    "ItemExited": "errors",
    "ItemTimeout": "errors",
    "JobCancelled": "errors",
    "JobStopped": "errors",
    "NotPicklable": "errors",
    "OptionError": "errors",
    "PoolClosed": "errors",
    "RemoteError": "errors",
    "ResultsConsumed": "errors",
    "WorkerLost": "errors",
    "WorkerStartFailed": "errors",
    "WouldDeadlock": "errors",
}

__all__ = [  # spelt out, for editors and type checkers; a test holds it against _HOMES
    "MISSING",
    "AiopoolError",
    "CurrentItem",
    "CurrentWorker",
    "Failure",
    "FrameError",
    "Handle",
    "InputError",
    "InputLost",
    "InternalError",
    "ItemExited",
    "ItemTimeout",
    "Job",
    "JobCancelled",
    "JobSnapshot",
    "JobStopped",
    "NotPicklable",
    "OptionError",
    "Pool",
    "PoolClosed",
    "PoolSnapshot",
    "Ref",
    "RemoteError",
    "ResultsConsumed",
    "Retry",
    "WorkerInfo",
    "WorkerLost",
    "WorkerStartFailed",
    "WouldDeadlock",
    "__version__",
    "configure",
    "current_item",
    "current_worker",
    "get_pool",
    "jobs",
    "last_job",
    "load_ipython_extension",
    "per_worker",
    "pmap",
    "report",
]

if TYPE_CHECKING:
    from aiopool._payload.refs import Ref
    from aiopool.errors import (
        AiopoolError,
        FrameError,
        InputError,
        InputLost,
        InternalError,
        ItemExited,
        ItemTimeout,
        JobCancelled,
        JobStopped,
        NotPicklable,
        OptionError,
        PoolClosed,
        RemoteError,
        ResultsConsumed,
        WorkerLost,
        WorkerStartFailed,
        WouldDeadlock,
    )
    from aiopool.inside import CurrentItem, CurrentWorker, Retry, current_item, current_worker, report
    from aiopool.job import MISSING, Failure, Handle, Job
    from aiopool.pool import Pool
    from aiopool.resources import per_worker
    from aiopool.session import configure, get_pool, jobs, last_job, pmap
    from aiopool.telemetry import JobSnapshot, PoolSnapshot, WorkerInfo


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'aiopool' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"aiopool.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(_: object) -> None:
    """``%load_ext aiopool``: attach to the kernel, if importing has not done so."""
    from aiopool import jupyter  # IPython is there by now; in a script this is never imported

    jupyter.attach()


if "ipykernel" in sys.modules:
    load_ipython_extension(None)
