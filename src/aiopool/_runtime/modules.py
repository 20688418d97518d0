"""Which modules of the user's own the workers have imported, and whether one of them was edited since."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from aiopool.errors import FrameError

Stamp = tuple[int, int]
"""When a file was changed, in nanoseconds, and its size."""

CHEAP = 1e-4
"""A look at all files that takes no longer than this, in seconds, is worth it before every job."""

_DISPUTED = (-1, -1)

SHARE = 0.1
"""Where it takes longer, on a slow disk or with hundreds of files, it may take this share of the time."""


class Modules:
    """The files that workers have imported. Noted on the pool's thread, looked at in the threads of callers.

    What is known of a worker is replaced, never changed: a reader needs no lock. So is what is known of all of them
    together: a file with its stamp where those that have imported it agree, else with one that no file has.
    """

    def __init__(self) -> None:
        self._workers: dict[int, Mapping[str, Stamp]] = {}
        self._files: Mapping[str, Stamp] = {}
        self._cost = 0.0
        self._next = 0.0

    def note(self, worker: int, data: bytes) -> None:
        """A worker has imported these. FrameError where that cannot be read."""
        try:
            new = {str(file): (int(changed), int(size)) for file, changed, size in json.loads(data)}
        except (ValueError, TypeError, RecursionError) as error:
            raise FrameError(f"names of modules that cannot be read: {error}") from None
        self._workers[worker] = {**self._workers.get(worker, {}), **new}
        self._gather()

    def forget(self, worker: int) -> None:
        """The worker is gone."""
        if self._workers.pop(worker, None) is not None:
            self._gather()

    def _gather(self) -> None:
        files: dict[str, Stamp] = {}
        for stamps in list(self._workers.values()):
            for file, stamp in stamps.items():
                files[file] = stamp if files.get(file, stamp) == stamp else _DISPUTED
        self._files = files

    def outdated(self) -> list[int]:
        """The workers that have imported what was edited since; each is named once."""
        files = self._files
        if not files or (began := time.monotonic()) < self._next:
            return []
        known = list(self._workers.items())
        present = {file: _stamp(file) for file in files}
        # One look that took long says little: this thread may have had to wait for others.
        self._cost = min(time.monotonic() - began, max(CHEAP, 2 * self._cost))
        self._next = began + self._cost / SHARE if self._cost > CHEAP else 0.0
        if present == files:
            return []
        old = [
            worker for worker, stamps in known if not stamps.items() <= present.items() and _is_older(stamps, present)
        ]
        for worker in old:
            self.forget(worker)
        return old


def _is_older(stamps: Mapping[str, Stamp], present: Mapping[str, Stamp | None]) -> bool:
    # A file that was removed is no newer form: what was imported is the last one that there is.
    return any(present[file] not in (None, stamp) for file, stamp in stamps.items())


def _stamp(file: str) -> Stamp | None:
    try:
        found = os.stat(file)  # noqa: PTH116  # pathlib costs as much as the call itself, for every file and job
    except (OSError, ValueError):  # ValueError: such a name no file can have
        return None
    return found.st_mtime_ns, found.st_size
