"""Results on their way to the parent: gathered while items end, sent with the batch or after some time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from time import perf_counter

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker.clock import Attempt, Clock
from aiopool._worker.reports import Reports
from aiopool._worker.work import OVER, Entry, JobRun, LoadFailed
from aiopool.errors import ItemTimeout

FLUSH_SECONDS = 0.005
"""How old a finished value may become while further items of its batch are run by the main thread."""

NEVER = 0, -1.0
"""The verdict on what another attempt would not mend."""

Done = tuple[int, int, int, float, object, bytes | None]


class Outbox:
    """Values that have not been sent. ``append`` and ``popleft`` of a deque are atomic, so items need no lock."""

    def __init__(
        self,
        send: Callable[[frames.Frame], None],
        wake: Callable[[], None],
        clock: Clock,
        reports: Reports,
        mark: Callable[[Entry], None],
    ) -> None:
        self._send = send
        self._wake = wake
        self._mark = mark
        self._reports = reports
        self._held = clock.held
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
                # It would be the same another time: what it has cost to make it is not paid twice.
                self._fail(job, entry, error, seconds, NEVER)
                return
            value = None
        batch = entry.batch
        batch.payloads[entry.position] = OVER
        if self._reports.busy or self._held or inside.belongings:
            self._settle(entry)
        self._done.append((job.id, batch.id, entry.position, seconds, value, blob))
        batch.done += 1
        if not job.may_rerun:
            self.flush()
            self._mark(entry)
        elif batch.done + batch.back >= batch.size or now - self._flushed > FLUSH_SECONDS:
            self.flush()
        elif not self._told:
            self._told = True
            self._wake()

    def error(self, job: JobRun, entry: Entry, error: BaseException, seconds: float) -> None:
        """An item ended with an exception."""
        if type(error) is LoadFailed:
            self._fail(job, entry, error.error, seconds, NEVER)
        else:
            self._fail(job, entry, error, seconds, job.judge(error))

    def timed_out(
        self, job: JobRun, entry: Entry, attempt: Attempt, error: BaseException | None, seconds: float
    ) -> None:
        """An item was told to end because of its timeout. ``error`` is what it ended with, None for a value."""
        timeout = ItemTimeout(f"it did not end within {job.timeout:g} s")
        cancelled = attempt.struck or error
        if cancelled is not None:
            timeout.__traceback__ = cancelled.__traceback__
        if error is not None:
            timeout.__context__ = error.__context__ if isinstance(error, asyncio.CancelledError) else error
        attempt.struck = None  # It and the frames it came through hold each other.
        self._fail(job, entry, timeout, seconds, (job.judge(timeout)[0] | frames.Failed.TIMED_OUT, -1.0))

    def dropped(self, entry: Entry) -> None:
        """An item of a cancelled job ended; nobody wants to know how."""
        entry.batch.done += 1
        entry.batch.payloads[entry.position] = OVER
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """An item is over: whatever says or holds something on its behalf ends with it."""
        self._reports.settle()
        self._held.pop(entry.code, None)
        inside.end_belongings(entry)

    def _fail(
        self, job: JobRun, entry: Entry, error: BaseException, seconds: float, verdict: tuple[int, float]
    ) -> None:
        batch = entry.batch
        batch.done += 1
        batch.payloads[entry.position] = OVER
        self._settle(entry)
        data = _payload.dump_error(error)
        self.flush()
        self._send(frames.Failed(job.id, batch.id, entry.position, seconds, *verdict, data))
        if not job.may_rerun:
            self._mark(entry)

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
