"""The end of the parent's process: this worker ends too, and before it whoever descends from it.

What must happen then must not wait for the main thread, which may be inside of anything, nor for the interpreter's
lock, which C code may hold for hours. So where the C library is glibc it is its own thread that waits: an asynchronous
read on a pipe which only the parent can write to. The read comes to an end with the parent, and what the library then
calls, in another thread of its own, is ``system()`` with the command that ends the family, this process included.
No Python runs, nothing is started before that moment, and no signal is taken from the user's code.

Where that cannot be had the link thread does the same as soon as it gets the lock.
"""

from __future__ import annotations

import os
import select
import time
from typing import NoReturn

SHELL = "/bin/sh"
HANGUP_SECONDS = 0.05
"""The ends of the parent's pipes close one after another, and this is how long between the first and the last."""
REAPED_WITHIN = 2.0


class Guard:
    """Waits for the end of the parent, by a pipe that only the parent has the other end of."""

    def __init__(self, lifeline: int, parent: int, reaper: str) -> None:
        os.set_inheritable(lifeline, False)  # noqa: FBT003  # it takes no names
        self._lifeline = lifeline
        self._parent = parent
        # Should it not start, this process ends anyway.
        self._reaper = f"{reaper} </dev/null >/dev/null 2>&1; kill -KILL {os.getpid()}"
        self._is_armed = self._waits = False

    def arm(self) -> None:
        """Before the first of the user's code: until then the link thread gets the lock, and there is no family."""
        if not self._is_armed:
            from aiopool._worker import native  # with ctypes: while the pool hears that this worker is ready

            self._is_armed = True
            self._waits = native.wait(self._lifeline, self._reaper)
            native.last_resort(self._parent)

    def parent_is_gone(self) -> bool:
        """Whether the parent has ended; it may also just have hung up on this worker."""
        if os.getppid() != self._parent:
            return True
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        return bool(poll.poll(HANGUP_SECONDS * 1e3))

    def watch(self) -> NoReturn:
        """The parent has hung up, and the main thread is ending; the parent may end before it."""
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        poll.poll()
        self.end()

    def end(self) -> NoReturn:
        """The parent has ended, or will not have this worker any more."""
        if self.parent_is_gone():
            if not self._waits:
                import subprocess  # by the library's own threads where they wait, and that is nearly everywhere

                subprocess.Popen([SHELL, "-c", self._reaper], start_new_session=True)  # noqa: S603  # our own code
            # By now the end of everything here is under way. This is for the case that it fails.
            time.sleep(REAPED_WITHIN)
        os._exit(1)
