"""The last way to learn where a worker is: a signal upon which faulthandler writes every thread's lines into a file.

It needs neither the GIL nor the link thread, so it works while C code computes for minutes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import sys

__all__ = ["DUMP_SIGNAL", "allow"]

DUMP_SIGNAL: int | None = signal.SIGRTMAX - 4 if sys.platform == "linux" else getattr(signal, "SIGINFO", None)
"""Not one of those that libraries like to use. On Linux it would end a process that does not expect it."""

HIGH_FD = 200
"""Where the file is opened: whoever closes descriptors that he has not opened closes the low ones, and gets them."""


def allow(fd: int) -> None:
    """Have the signal write to another descriptor of this file, which the parent can read. Never by itself."""
    if DUMP_SIGNAL is None:
        return
    try:
        kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    except OSError:
        kept = os.dup(fd)  # The limit of open files is lower than that.
    # Threads beyond the first hundred are left out by faulthandler itself.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        faulthandler.register(DUMP_SIGNAL, file=kept, all_threads=True, chain=False)
