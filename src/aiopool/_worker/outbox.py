"""Results on their way to the parent: gathered while items end, sent with the batch or after some time."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby, pairwise, repeat
from operator import itemgetter
from time import perf_counter
from typing import Any, cast

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker.clock import Attempt, Clock
from aiopool._worker.prints import Prints
from aiopool._worker.reports import Reports
from aiopool._worker.showing import end_figures, left_open
from aiopool._worker.work import BatchRun, JobRun, LoadFailed, Stepped
from aiopool.errors import ItemTimeout

FLUSH_SECONDS = 0.02
"""How old a finished value may become while further items of its batch are run by the main thread."""

NEVER = 0, -1.0
"""The verdict on what another attempt would not mend."""

Done = tuple[int, int, int | range, float | frames.InARow, object, bytes | None]
"""Job, batch, position, seconds, and the value or its pickle. Of plain neighbours three of them are many: a Run's."""


class Run:
    """Values of neighbouring items that run one right after the other.

    The main thread appends to ``values``, and then when that was to ``ends``: after each item, or after ``each`` so
    many if they are short, whose number is in ``sizes``. What is in ``values`` has ended, and whoever flushes takes
    away those of which it is known when that was.

    ``first`` is where in the batch the first one of these is, ``begin`` where the run began, and ``since`` when the
    first one of these did. Nothing has to be sent before it is ``due``.
    """

    __slots__ = ("batch", "begin", "due", "each", "ends", "first", "job", "since", "sizes", "values")

    def __init__(self, job: JobRun, batch: BatchRun, position: int, due: float) -> None:
        self.job = job
        self.batch = batch
        self.begin = self.first = position
        self.due = due
        self.each = 1
        self.since = 0.0
        self.ends: list[float] = []
        self.sizes: list[int] = []
        self.values: list[object] = []

    @property
    def end(self) -> int:
        """Where in the batch the first item is that has not ended."""
        return self.first + len(self.values)

    @property
    def started(self) -> float:
        """When that item began, or one of the short ones just before it. Any thread."""
        last = self.ends[-1:]
        return last[0] if last else self.since

    def taken(self, *, over: bool = False, left: bool = False, until: float = math.inf) -> list[Done]:
        """What has ended, which is nobody else's from now on. With the lock of those who flush.

        When the run is ``over``, no item of it begins any more: then those at its end are taken as well that no moment
        was noted for. The last item may yet come, unless the main thread has ``left`` the run: ``until`` then, where
        that is an item which ends by itself.
        """
        # First: a moment that is noted from now on is later than what is put in the place of one.
        now = min(perf_counter(), until)
        # In this order: a value is there before its moment is.
        moments = len(self.ends)
        count = len(self.values)
        ends, sizes = self.ends[:moments], self.sizes[:moments]
        missing = count - (sum(sizes) if self.each > 1 else moments)
        if missing > 0 and over:
            ends.append(self._moment(missing, ends[-1] if ends else self.since, now))
            sizes.append(missing)
        elif missing > 0:
            count -= missing
        if not count:
            return []
        if missing < 0 and self.each > 1:
            # There were not so many left as should have been in the last group.
            sizes[-1] += missing
        first, row = self.first, frames.InARow(self.since, ends, bytes(sizes) if self.each > 1 else b"")
        # Before they are taken away: see ``started``.
        self.since = ends[-1]
        if left:
            values, self.values = self.values, []
        else:
            values = self.values[:count]
            del self.values[:count]
        del self.ends[:moments], self.sizes[:moments]
        self.first += count
        return [(self.job.id, self.batch.id, range(first, first + count), row, values, None)]

    def _moment(self, count: int, before: float, now: float) -> float:
        """When the last of so many has ended that no moment was noted for."""
        # The one behind them may have been running for hours: what they took is what others like them did.
        return max(before, now if self.each == 1 else min(now, before + count * self.job.pace))


class Outbox:
    """Values that have not been sent. ``append`` and ``popleft`` of a deque are atomic, so items need no lock.

    ``_told``: the link thread was woken, and looks here again before long, and again until it lowers this.
    """

    def __init__(
        self,
        send: Callable[[frames.Frame], None],
        wake: Callable[[], None],
        clock: Clock,
        reports: Reports,
        mark: Callable[[Stepped], None],
        *,
        prints: Prints,
    ) -> None:
        self._send = send
        self._wake = wake
        self._mark = mark
        self._reports = reports
        self._prints = prints
        self._printing = prints.open
        self._held = clock.held
        self._end = clock.end
        self._done: deque[Done] = deque()
        self._run: Run | None = None
        self._flushing = threading.Lock()
        self._flushed = perf_counter()
        self._told = False
        self._is_clone = False
        os.register_at_fork(after_in_child=self._be_a_clone)

    def _be_a_clone(self) -> None:
        # An item forked. Should its code come back to us in the clone, no other item begins there, and the clone ends.
        self._is_clone = True
        if self._run is not None:
            self._run.job.drop()

    def _must_not_be_a_clone(self) -> None:
        if self._is_clone:
            os._exit(0)

    @property
    def waiting(self) -> bool:
        """Whether the link thread should look here before long."""
        return self._told

    # --- plain items that run one right after the other: the main thread -------------------------------------------

    def begin(self, job: JobRun, batch: BatchRun, position: int) -> Run:
        """They begin. What was gathered before is the end of another run."""
        self._run = run = Run(job, batch, position, 0.0)
        # First this, and then the look; the link thread lowers it first.
        if self._told:
            run.due = self._flushed + FLUSH_SECONDS
        return run

    def gather(self, run: Run, until: float = math.inf) -> int:
        """The run is over: its values wait like others. Where the first item is that has not, which ran ``until``."""
        self._must_not_be_a_clone()
        with self._flushing:
            end = run.end
            self._done += run.taken(over=True, left=True, until=until)
            self._run = None
        run.batch.done += end - run.begin
        run.batch.free(run.begin, end)
        return end

    # --- one by one ------------------------------------------------------------------------------------------------

    def value(
        self, job: JobRun, entry: Stepped, value: object, seconds: float, now: float, *, attempt: Attempt | None = None
    ) -> None:
        """An item ended with a value. One that cannot be pickled is an error of its item.

        The ``attempt`` ends when it is pickled: that runs the user's code, which may hang.
        """
        self._must_not_be_a_clone()
        # First: a figure that is pickled while it is open would be opened in the notebook as well.
        if left_open:
            end_figures(entry, show=True)
        blob: bytes | None = None
        refusal: BaseException | None = None
        if type(value) not in _payload.PLAIN_TYPES:
            try:
                blob = _payload.dump_value(value)
            except BaseException as error:  # noqa: BLE001  # pickling runs the user's code, which may raise anything
                refusal = error
            value = None
        if attempt is not None and self._end(attempt):
            self.timed_out(job, entry, attempt, None, seconds)
            return
        if refusal is not None:
            # It would be the same another time: what it has cost to make it is not paid twice.
            self._fail(job, entry, refusal, seconds, NEVER)
            return
        batch = entry.batch
        batch.over(entry.position)
        if self._reports.busy or self._held or self._printing or inside.belongings:
            self._settle(entry)
        self._done.append((job.id, batch.id, entry.position, seconds, value, blob))
        batch.done += 1
        if not job.may_rerun:
            self.flush()
            self._mark(entry)
        else:
            self.ended(batch, now)

    def ended(self, batch: BatchRun, now: float) -> None:
        """Values of this batch were put down: send them, or see to it that somebody will."""
        if batch.done + batch.back >= batch.size or now - self._flushed > FLUSH_SECONDS:
            self.flush()
        elif not self._told:
            self._told = True
            self._wake()

    def error(self, job: JobRun, entry: Stepped, error: BaseException, seconds: float) -> None:
        """An item ended with an exception."""
        if type(error) is LoadFailed:
            self._fail(job, entry, error.error, seconds, NEVER)
        else:
            self._fail(job, entry, error, seconds, job.judge(error))

    def timed_out(
        self, job: JobRun, entry: Stepped, attempt: Attempt, error: BaseException | None, seconds: float
    ) -> None:
        """An item was told to end because of its timeout. ``error`` is what it ended with, None for a value."""
        from asyncio import CancelledError  # a worker that has had functions only may not know it yet

        timeout = ItemTimeout(f"it did not end within {job.timeout:g} s")
        cancelled = attempt.struck or error
        if cancelled is not None:
            timeout.__traceback__ = cancelled.__traceback__
        if error is not None:
            timeout.__context__ = error.__context__ if isinstance(error, CancelledError) else error
        attempt.struck = None  # It and the frames it came through hold each other.
        self._fail(job, entry, timeout, seconds, (job.judge(timeout)[0] | frames.Failed.TIMED_OUT, -1.0))

    def dropped(self, entry: Stepped) -> None:
        """An item of a cancelled job ended; nobody wants to know how."""
        if left_open:
            end_figures(entry, show=False)
        entry.batch.done += 1
        entry.batch.over(entry.position)
        self._settle(entry)

    def settle(self, entries: Iterable[Stepped], *, but: int = -1) -> None:
        """These have ended with a lap, and had said or held something; ``but`` for the one at this position."""
        for entry in entries:
            if entry.position != but:
                entry.batch.over(entry.position)
                self._settle(entry)

    def _settle(self, entry: Stepped, *, failed: bool = False) -> None:
        """An item is over: whatever says or holds something on its behalf ends with it."""
        self._reports.settle()
        self._prints.end(entry, failed=failed)
        self._held.pop(entry.code, None)
        inside.end_belongings(entry)

    def _fail(
        self, job: JobRun, entry: Stepped, error: BaseException, seconds: float, verdict: tuple[int, float]
    ) -> None:
        self._must_not_be_a_clone()
        if left_open:
            end_figures(entry, show=True)
        batch = entry.batch
        batch.done += 1
        batch.over(entry.position)
        self._settle(entry, failed=True)
        data = _payload.dump_error(error)
        self.flush()
        self._send(frames.Failed(job.id, batch.id, entry.position, seconds, *verdict, data))
        if not job.may_rerun:
            self._mark(entry)

    def flush(self, over: Run | None = None) -> None:
        """Send everything that has ended. Any thread. No item of a run that is ``over`` begins any more."""
        with self._flushing:
            self._flushed = perf_counter()
            if len(self._done) == 1 and self._run is None:
                # A call, mostly.
                self._send(_result(self._done.popleft()))
                return
            done = [self._done.popleft() for _ in range(len(self._done))]
            if self._run is not None:
                done += self._run.taken(over=self._run is over)
            for (job, batch), group in groupby(done, key=itemgetter(0, 1)):
                self._send(_results(job, batch, list(group)))

    def flush_late(self) -> bool:
        """Send what whoever runs items is too busy to send. For the link thread; True: look again in as long.

        Mostly they have sent something since, and will again.
        """
        now, run = perf_counter(), self._run
        if now - self._flushed < FLUSH_SECONDS and (run is None or now - (run.started or now) < FLUSH_SECONDS):
            return True
        # Lowered before the look: what is put down after it tells the link thread anew. But a run only looks when it
        # is come out of; and no item of it begins before that, once the others were cut off.
        self._told = False
        if (run := self._run) is not None:
            cut = run.job.come_out()
            self.flush(over=run if cut is run.batch else None)
        else:
            self.flush()
        return False


def _result(done: Done) -> frames.Results:
    job, batch, at, took, value, blob = done
    if isinstance(at, range):
        return frames.Results(
            job, batch, at, cast("frames.InARow", took), _payload.dump_shared(cast("list[object]", value)), ()
        )
    shared = _payload.dump_shared([value]) if blob is None else b""
    only = range(at, at + 1)
    return frames.Results(job, batch, only, (cast("float", took),), shared, () if blob is None else (blob,))


def _results(job: int, batch: int, done: Sequence[Done]) -> frames.Results:
    if len(done) == 1:
        return _result(done[0])
    if _are_in_a_row(done):
        return _joined(job, batch, done)
    positions: tuple[int, ...]
    positions, seconds, values, blobs = zip(*chain.from_iterable(map(_single, done)), strict=True)
    if blobs.count(None) == len(blobs):
        shared, blobs = _payload.dump_shared(list(values)), ()
    else:
        plain = [value for value, blob in zip(values, blobs, strict=True) if blob is None]
        shared = _payload.dump_shared(plain) if plain else b""
    first, count = positions[0], len(positions)
    if positions[-1] - first == count - 1 and positions == tuple(range(first, first + count)):
        return frames.Results(job, batch, range(first, first + count), seconds, shared, blobs)
    return frames.Results(job, batch, positions, seconds, shared, blobs)


def _are_in_a_row(done: Sequence[Done]) -> bool:
    """Whether most of these ran right after one another, and none was at work for long beside others."""
    by_themselves, rows = 0.0, False
    for _, _, position, seconds, _, blob in done:
        if isinstance(position, range):
            rows = True
        else:
            by_themselves += cast("float", seconds)
            if blob is not None or by_themselves > FLUSH_SECONDS:
                return False
    return rows


def _joined(job: int, batch: int, done: Sequence[Done]) -> frames.Results:
    """Rows, and plain values that ended by themselves, as one row: between two of them is time that is nobody's."""
    ends: list[float] = []
    sizes = bytearray()
    values: list[object] = []
    parts: list[range] = []
    since: float | None = None
    for _, _, position, seconds, value, _ in done:
        if isinstance(position, range):
            row = cast("frames.InARow", seconds)
            if since is None:
                since = row.since
            else:
                ends.append(row.since)
                sizes.append(0)
            ends += row.ends
            sizes += row.sizes or b"\1" * len(row.ends)
            values += cast("list[object]", value)
            parts.append(position)
        else:
            since = since or 0.0
            ends.append((ends[-1] if ends else since) + cast("float", seconds))
            sizes.append(1)
            values.append(value)
            parts.append(range(position, position + 1))
    positions: Sequence[int] = range(parts[0].start, parts[-1].stop)
    if any(before.stop != part.start for before, part in pairwise(parts)):
        positions = list(chain.from_iterable(parts))
    row = frames.InARow(since or 0.0, ends, bytes(sizes))
    return frames.Results(job, batch, positions, row, _payload.dump_shared(values), ())


def _single(done: Done) -> Iterable[tuple[Any, ...]]:
    """Each item that is in there."""
    _, _, position, seconds, value, blob = done
    if isinstance(position, range):
        row = cast("frames.InARow", seconds)
        return zip(position, row, cast("list[object]", value), repeat(None))
    return ((position, seconds, value, blob),)
