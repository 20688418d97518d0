"""Which modules of the user's own this worker has imported, and in which form of their files.

The kernel is told before the results of the item that imported them, and of items that run long soon after they have
begun, so that it can retire this worker when one of them was edited.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from math import inf

from aiopool._core import frames
from aiopool._worker import plain

# By text: pathlib would be the one module that a fresh worker needs for nothing else.
_NOT_OWN = (os.__file__.removesuffix("os.py"), __file__.removesuffix(os.path.join("_worker", "modules.py")))  # noqa: PTH118
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

UNSURE = (0, -1)
"""The stamp of a file that was edited about when it was imported: whatever the file is now, it may be another form."""

TICK = 20_000_000
"""By how much, in nanoseconds, a file may seem to have been edited too early: its time is that of the system's last
tick, mostly 4 ms old at most, and 10 on some machines."""

FIRST_LOOK = 0.2
"""How long after its items may have begun a job's imports are looked for, in seconds."""


class Modules:
    """Looks for modules that are new. Any thread; ``due``, when the link thread should look again, is its own."""

    def __init__(self, send: Callable[[frames.Frame], None]) -> None:
        self._send = send
        self._looking = threading.Lock()
        self._known: set[str] = set()
        self._count = 0
        self._looked = time.time_ns()
        self._watching = False
        self._pause = FIRST_LOOK
        self.due = inf

    def watch(self) -> None:
        """From now on; what was imported since the process began counts."""
        self._watching = True
        self.look()

    def expect(self, now: float) -> None:
        """Items of a new job may import something: from here to the next look, an edit may come before or after it."""
        if self._watching:
            self.look()
            self._pause = FIRST_LOOK
            self.due = now + self._pause

    def look_again(self, now: float) -> None:
        """The time has come; as long as there was something new, it will come again, later and later."""
        self._pause *= 2
        self.due = now + self._pause if self.look() else inf

    def look(self) -> bool:
        """Tell the kernel what was imported since the last look, if anything; next to free if not."""
        if not self._watching:
            return False
        now = time.time_ns()
        if len(sys.modules) == self._count:
            # As after nearly every item. If another thread looks at this very moment, an older time is the careful one.
            self._looked = now
            return False
        with self._looking:
            # Before the look: a module that is not there yet has its file read after this.
            now = time.time_ns()
            count = len(sys.modules)
            changed = count != self._count
            if changed:
                new = [name for name in list(sys.modules) if name not in self._known]
                self._known.update(new)
                files = {file for name in new if (file := _own_file(sys.modules.get(name)))}
                stamps = [(file, *stamp) for file in sorted(files) if (stamp := self._stamp(file, now))]
                if stamps:
                    self._send(frames.Modules(plain.dumps(stamps).encode()))
                # Last: whoever ends an item meanwhile waits above until this is told.
                self._count = count
            self._looked = now
            return changed

    def _stamp(self, file: str, now: int) -> tuple[int, int] | None:
        try:
            found = os.stat(file)  # noqa: PTH116  # a worker does without pathlib where it can
        except OSError:
            return None
        # Edited since the last look: before or after it was imported, nobody knows. A time to come is a wrong clock's.
        return UNSURE if self._looked - TICK <= found.st_mtime_ns <= now else (found.st_mtime_ns, found.st_size)


def _own_file(module: object) -> str | None:
    """The file of a module that is neither Python's, nor installed, nor ours."""
    try:
        # Past what a module that loads itself when it is first used has put in the way.
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:
        return None
    if not isinstance(file, str) or file.endswith(".pyc"):
        return None
    if file.startswith(_NOT_OWN):
        return None  # As of nearly all that a worker begins with, and at once.
    file = os.path.abspath(file)  # noqa: PTH100  # of a text, which costs a tenth
    return None if file.startswith(_NOT_OWN) or any(part in file for part in _INSTALLED) else file
