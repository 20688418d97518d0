"""``await pmap(fn, data)`` in a notebook: every core, thousands of coroutines, live, and a Stop button that works.

The names are loaded when they are first used, so that importing this costs nothing and a fresh worker stays light.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
"""As type checkers read it, and without typing: that is most of what there would be to import."""

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
    "Stacks": "stacks",
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
    "Stacks",
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
    "unload_ipython_extension",
]

if TYPE_CHECKING:
    from typing import Any

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
    from aiopool.stacks import Stacks
    from aiopool.telemetry import JobSnapshot, PoolSnapshot, WorkerInfo


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    import importlib

    if name == "testing":
        return importlib.import_module("aiopool.testing")
    if name not in _HOMES:
        raise AttributeError(f"module 'aiopool' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"aiopool.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext aiopool``: have ``%aiopool`` and ``%%aiopool``, and attach to the kernel, if importing has not.

    Some workers of the shared pool start in the background, so that the first cell finds them there.
    """
    from aiopool import jupyter  # IPython is there by now; in a script this is never imported

    jupyter.attach()
    if shell is not None:
        from aiopool.session import warm_up

        jupyter.add_magics(shell)
        warm_up()


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext aiopool``: take the magics away. Pools, jobs and panels stay."""
    from aiopool import jupyter

    jupyter.remove_magics(shell)


if "ipykernel" in sys.modules:
    load_ipython_extension(None)
