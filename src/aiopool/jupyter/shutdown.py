"""The end of the kernel: a restart must not wait for workers."""

from __future__ import annotations

import functools
from typing import Any

from aiopool.pool import terminate_all

__all__ = ["end_pools_first"]


def end_pools_first(kernel: Any) -> None:
    """Have the kernel end all pools when it is asked to shut down.

    Before it exits it sends SIGTERM to its children, then looks for them again after ever longer pauses. A pool that
    knows nothing of this starts others for those that died, and the restart takes until Jupyter loses its patience.
    """
    shut_down = kernel.do_shutdown

    @functools.wraps(shut_down)
    def do_shutdown(restart: bool) -> Any:  # noqa: FBT001 - as it is called
        terminate_all()
        return shut_down(restart)

    kernel.do_shutdown = do_shutdown
