"""The end of the kernel: a restart must not wait for workers, nor for ever."""

from __future__ import annotations

import atexit
import functools
import threading
from typing import Any

from aiopool.pool import terminate_all

__all__ = ["end_pools_first"]

ANSWERED_WITHIN = 1.0
"""Seconds that the kernel's control thread has to say that it has done what it was asked to."""


def end_pools_first(kernel: Any) -> None:
    """Have the kernel end all pools when it is asked to shut down.

    Before it exits it sends SIGTERM to its children, then looks for them again after ever longer pauses. A pool that
    knows nothing of this starts others for those that died, and the restart takes until Jupyter loses its patience.
    """
    shut_down = kernel.do_shutdown

    @functools.wraps(shut_down)
    def do_shutdown(restart: bool) -> Any:  # noqa: FBT001 - as it is called
        terminate_all()
        # Registered last, it runs before the kernel's own.
        atexit.register(_let_it_answer, threading.current_thread())
        return shut_down(restart)

    kernel.do_shutdown = do_shutdown


def _let_it_answer(thread: threading.Thread) -> None:
    """Wait for the kernel's control thread, which ends by itself once it has answered.

    It has the main thread exit before it answers. Where that one is quicker, it closes the way out while the other is
    about to use it, and then joins it: both wait for ever, and after 2.5 s Jupyter kills the kernel. On a busy machine
    that was one end of a kernel in fifty, with or without a pool.
    """
    if thread is not threading.main_thread():
        thread.join(ANSWERED_WITHIN)
