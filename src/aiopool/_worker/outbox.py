"""Results on their way to the parent: gathered while items end, sent with the batch or after some time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from time import perf_counter

from aiopool import _payload
from aiopool._core import frames
from aiopool._worker.work import Entry, JobRun

FLUSH_SECONDS = 0.005
"""How old a finished value may become while further items of its batch are run by the main thread."""

Done = tuple[int, int, int, float, object, bytes | None]


class Outbox:
    """Values that have not been sent. ``append`` and ``popleft`` of a deque are atomic, so items need no lock."""

    def __init__(self, send: Callable[[frames.Frame], None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        self._done: deque[Done] = deque()
        self._flushing = threading.Lock()
        self._flushed = perf_counter()
        self._told = False

    @property
    def waiting(self) -> bool:
        """Whether something should be flushed before long."""
        return bool(self._done)

    def value(self, job: JobRun, entry: Entry, value: object, seconds: float, now: float) -> None:
        """An item ended with a value. One that cannot be pickled is an error of its item."""
        blob: bytes | None = None
        if type(value) not in _payload.PLAIN_TYPES:
            try:
                blob = _payload.dump_value(value)
            except BaseException as error:  # noqa: BLE001  # pickling runs the user's code, which may raise anything
                self.error(job, entry, error, seconds)
                return
            value = None
        batch = entry.batch
        self._done.append((job.id, batch.id, entry.position, seconds, value, blob))
        batch.done += 1
        if batch.done + batch.back >= batch.size or now - self._flushed > FLUSH_SECONDS:
            self.flush()
        elif not self._told:
            self._told = True
            self._wake()

    def error(self, job: JobRun, entry: Entry, error: BaseException, seconds: float) -> None:
        """An item ended with an exception."""
        entry.batch.done += 1
        data = _payload.dump_error(error)
        self.flush()
        self._send(frames.Failed(job.id, entry.batch.id, entry.position, seconds, 0, -1.0, data))

    def flush(self) -> None:
        """Send everything that has ended. Called by whoever runs items and, while they are busy, by the link thread."""
        with self._flushing:
            self._flushed = perf_counter()
            # Lowered before the look: what is put down after it tells the link thread anew.
            self._told = False
            done = [self._done.popleft() for _ in range(len(self._done))]
            for (job, batch), group in groupby(done, key=itemgetter(0, 1)):
                self._send(_results(job, batch, list(group)))


def _results(job: int, batch: int, done: Sequence[Done]) -> frames.Results:
    _, _, positions, seconds, values, blobs = zip(*done, strict=True)
    if blobs.count(None) == len(blobs):
        shared, blobs = _payload.dump_shared(list(values)), ()
    else:
        plain = [value for value, blob in zip(values, blobs, strict=True) if blob is None]
        shared = _payload.dump_shared(plain) if plain else b""
    first, count = positions[0], len(positions)
    if positions[-1] - first == count - 1 and positions == tuple(range(first, first + count)):
        return frames.Results(job, batch, range(first, first + count), seconds, shared, blobs)
    return frames.Results(job, batch, positions, seconds, shared, blobs)
