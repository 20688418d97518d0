"""Standard input, output and error as the worker was given them: an item may close them, for all that come after it.

What these print would raise there. And the next file that one of them opens would get the free number, and what others
print would end up in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress

OUT_OF_REACH = 64
"""Where the copies are at the lowest: what an item opens gets lower numbers."""


class Streams:
    """Puts back what was closed. For the main thread, which is between two items when it does."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._kept: dict[int, int] = {}
        self._pipe: tuple[int, int] | None = None
        for fd in (0, 1, 2):
            # A worker may have been started without one of them.
            with suppress(OSError):
                self._kept[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_REACH)
        if self.has_output:
            told = os.fstat(1)
            self._pipe = told.st_dev, told.st_ino

    @property
    def has_output(self) -> bool:
        """Whether there is something to print to."""
        return 1 in self._kept and 2 in self._kept

    def mend(self) -> None:
        """Look whether they are there; other threads must not, as an item may be about to put a file in the place."""
        if threading.get_ident() != self._main:
            return
        for fd, kept in self._kept.items():
            try:
                # To ask for that keeps the GIL, which the link thread would take for a while.
                os.get_blocking(fd)
            except OSError:
                # The one that was kept may be closed as well.
                with suppress(OSError):
                    os.dup2(kept, fd)

    def outlet(self, which: int | None) -> tuple[int, bool]:
        """Where to write what is printed to standard output, 0, or error, 1, and whether that is still our pipe.

        An item may have put a file of its own there, for all that is printed from then on; then it is not. What is
        printed where it has closed it goes to the copy. None: our pipe is wanted, wherever it is.
        """
        wanted = (1 + which,) if which is not None else (1, 2)
        for fd in wanted:
            try:
                told = os.fstat(fd)
            except OSError:
                continue
            if (told.st_dev, told.st_ino) == self._pipe:
                return fd, True
            if which is not None:
                return fd, False
        for kept in (self._kept[1], self._kept[2]):
            with suppress(OSError):
                told = os.fstat(kept)
                if (told.st_dev, told.st_ino) == self._pipe:
                    return kept, True
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
