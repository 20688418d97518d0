"""How workers are while items run: memory, processor time, whether they answer, whether their loop comes round.

Looked at about once a second, and only while some worker has items; a pool without work is not woken. What is judged
by time counts only the time between looks that came when they were due: a kernel cell that computes slows this very
thread, and what arrives meanwhile is read late.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._core.workers import WorkerBook
from aiopool._runtime.evidence import Evidence
from aiopool._runtime.proxy import Report, WorkerProxy
from aiopool.errors import FrameError
from aiopool.telemetry import WorkerInfo, WorkerState, size

if TYPE_CHECKING:
    import psutil

FIRST_SECONDS = 0.5
LOOK_SECONDS = 1.0
LIMITED_SECONDS = 0.25
"""How often is looked where a worker's memory has a limit: a fast item takes a gigabyte in that time."""

LATE_SECONDS = 0.25
"""A look that comes so much later than it was due says nothing of workers: it was this thread that was slow."""

SILENT_SECONDS = 1.0
"""How long a worker may say nothing, or its loop not come round, before it is called stuck or blocked."""

FAR = 1.25
"""A worker with so many times the memory that it may have shall end at once."""


@dataclass(slots=True, eq=False)
class Vital:
    """What is known of one worker.

    ``silent``: for how long it has not answered a ping, ``held``: for how long its loop has not come round since one,
    if it was ``serving`` coroutines then.
    ``code`` is the item at work when it was looked at, ``since`` when it began, at the latest. ``told`` is what the
    ledger knows of its memory: 1 that it is too much, 2 that it is far too much. ``loaded``: it had items at the last
    look, or was given some since; ``calls``: among these some of which the ledger was not told. ``oldest`` is the code
    of the item that has run longest, ``oldest_since`` when it was first seen.
    """

    process: psutil.Process | None = None
    cpu_seconds: float = 0.0
    cpu_at: float = 0.0
    cpu: float | None = None
    progress: tuple[int, int] = (0, 0)
    unanswered: bool = False
    turning: bool = False
    serving: bool = False
    silent: float = 0.0
    held: float = 0.0
    lag: float | None = None
    lag_at: float = 0.0
    code: int = 0
    since: float = 0.0
    oldest: int = 0
    oldest_since: float = 0.0
    loaded: bool = False
    calls: bool = False
    told: int = 0


class Vitals:
    """Looks after the workers of a pool. On the pool's own thread.

    A worker's memory is that of its own process, without its children: what they take goes when they end, replacing
    the worker would not mend it, and a forked child's memory is mostly the worker's own, counted again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: Mapping[int, WorkerProxy],
        books: Mapping[int, WorkerBook],
        tell: Callable[[f.Fact], None],
        limit: int | None,
        *,
        known: Mapping[int, WorkerBook] | None = None,
    ) -> None:
        """``books`` are the ledger's; ``limit`` is the memory that a worker may have, in bytes.

        ``known`` are the same books as they are before it is told of calls that end at once: who looks after workers
        need not hear of these either.
        """
        self._loop = loop
        self._workers = workers
        self._books = books
        self._known = books if known is None else known
        self._tell = tell
        self._limit = limit
        self._every = LOOK_SECONDS if limit is None else LIMITED_SECONDS
        self._vitals: dict[int, Vital] = {}
        self._evidence: Evidence | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._looked = 0.0
        self._number = 0

    # --- when to look ----------------------------------------------------------------------------------------------

    def expect(self) -> None:
        """A worker starts: from now on a death may have to be explained."""
        if self._evidence is None:
            self._evidence = Evidence(time.monotonic())

    def starts_within_limit(self, worker: WorkerProxy) -> bool:
        """Whether a worker that is up has no more memory than it may. If it has, so will the next one."""
        if self._limit is None or worker.pid == os.getpid():
            return True
        vital = self._vitals[worker.id] = Vital()
        self._measure(worker, vital, time.monotonic(), at_work=False)
        if worker.memory is None or worker.memory <= self._limit:
            return True
        worker.advice = (
            f"It took {size(worker.memory)} before its first item, and max_memory_per_worker is {size(self._limit)}: "
            "set a higher limit, or let the initializer load less."
        )
        self._tell(f.WorkerHeavy(worker.id))
        return False

    def begin(self, worker: WorkerProxy, *, in_short: bool = False) -> None:
        """It is given items; ``in_short``: calls of which the ledger may never hear."""
        if (vital := self._vitals.get(worker.id)) is None:
            # The worker of a map inside a worker is this very process, which others look after.
            if worker.pid == os.getpid():
                return
            vital = self._vitals[worker.id] = Vital()
        vital.loaded = True
        vital.calls |= in_short
        if self._alarm is None:
            self._looked = time.monotonic()
            self._wake_in(min(FIRST_SECONDS, self._every))

    def close(self) -> None:
        """The pool has ended."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _wake_in(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._alarm = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Look at every worker that has items, and once more at one that has none any more."""
        now = time.monotonic()
        counted = now - self._looked if now <= self._due + LATE_SECONDS else 0.0
        self._looked, self._alarm = now, None
        self._number = self._number % 0xFFFFFFFF + 1
        if self._evidence is not None:
            self._evidence.look(now)
        loaded = False
        for number, book in list(self._known.items()):
            worker = self._workers.get(number)
            if worker is None or worker.link is None or book.state not in {"ready", "retiring"}:
                continue
            vital = self._vitals.get(number)
            if vital is None:
                continue
            if book.load:
                self._listen(worker, vital, now, counted)
                self._see_oldest(worker, book, vital, now)
                self._ping(worker, book, vital)
            if book.load or vital.loaded:
                self._measure(worker, vital, now, at_work=book.load > 0 or vital.calls)
            vital.loaded, vital.calls = book.load > 0, False
            loaded = loaded or vital.loaded
            self._weigh(worker, vital)
        if loaded and self._alarm is None:
            self._wake_in(self._every)

    # --- what is seen ----------------------------------------------------------------------------------------------

    @staticmethod
    def _listen(worker: WorkerProxy, vital: Vital, now: float, counted: float) -> None:
        if vital.turning and vital.serving and not vital.unanswered:
            vital.held += counted
        link = worker.link
        # A ping counts from when the pipe has taken it, and one that waits behind a gigabyte is not unanswered.
        progress = worker.heard, link.unsent if link is not None else 0
        if progress != vital.progress:
            vital.progress, vital.silent = progress, 0.0
        elif vital.unanswered:
            vital.silent += counted
        code = (link.at_work() if link is not None else None) or 0
        if code != vital.code:
            vital.code, vital.since = code, now

    def _ping(self, worker: WorkerProxy, book: WorkerBook, vital: Vital) -> None:
        if vital.unanswered:
            return
        vital.unanswered, vital.silent = True, 0.0
        if not vital.turning:
            # A worker of functions does not let its loop turn before the last of them has ended: that says nothing.
            vital.turning, vital.held, vital.serving = True, 0.0, book.kind == "async"
        worker.send(frames.Ping(self._number))
        worker.flush()

    @staticmethod
    def _measure(worker: WorkerProxy, vital: Vital, now: float, *, at_work: bool) -> None:
        import psutil  # who only maps inside a worker measures none

        try:
            if vital.process is None:
                vital.process = psutil.Process(worker.pid)
            # Of one that has just died and is not reaped yet it is 0.
            info = vital.process.memory_info()
            if info.rss:
                worker.memory = max(0, info.rss - worker.desk.not_its_own(getattr(info, "shared", info.rss)))
            if not at_work:
                return  # Nobody is told its processor time.
            times = vital.process.cpu_times()
        except (psutil.Error, OSError):
            return  # It has ended, or a sandbox shows no more of it.
        seconds = times.user + times.system
        if vital.cpu_at:
            vital.cpu = 100 * max(0.0, seconds - vital.cpu_seconds) / max(now - vital.cpu_at, 1e-3)
        vital.cpu_seconds, vital.cpu_at = seconds, now

    def _weigh(self, worker: WorkerProxy, vital: Vital) -> None:
        if self._limit is None or worker.memory is None:
            return
        level = (worker.memory > self._limit) + (worker.memory > FAR * self._limit)
        if level > vital.told:
            vital.told = level
            if level > 1:
                worker.advice = (
                    f"max_memory_per_worker is {size(self._limit)}, and with a quarter more a worker is killed: "
                    "make the items smaller, or set a higher limit."
                )
            self._tell(f.WorkerHeavy(worker.id, far=level > 1))

    @staticmethod
    def _see_oldest(worker: WorkerProxy, book: WorkerBook, vital: Vital, now: float) -> int:
        """Note which item has run longest, as its batch and its position tell; its code, 0 where none runs."""
        codes = worker.link.running() if worker.link is not None else ()
        oldest = min(codes, default=0)
        if oldest and _index(book, oldest) is None:
            # Its result has come, but the page had not been looked at again.
            oldest = min((code for code in codes if _index(book, code) is not None), default=0)
        if oldest != vital.oldest:
            vital.oldest, vital.oldest_since = oldest, now
        return oldest

    # --- what is heard ---------------------------------------------------------------------------------------------

    def answered(self, worker: WorkerProxy, pong: frames.Pong) -> None:
        """It is there."""
        if not pong.number:
            self._tell(f.WorkerAnswered(worker.id))  # It was the ledger that asked.
            return
        _check(pong.seconds)
        vital = self._vitals.setdefault(worker.id, Vital())
        vital.unanswered, vital.silent = False, 0.0
        if pong.batch:
            code, since = frames.mark_of(pong.batch, pong.position), time.monotonic() - pong.seconds
            vital.since = min(vital.since, since) if vital.code == code else since
            vital.code = code

    def turned(self, worker: WorkerProxy, frame: frames.Turned) -> None:
        """Its loop has come round."""
        _check(frame.seconds)
        vital = self._vitals.setdefault(worker.id, Vital())
        vital.turning, vital.held = False, 0.0
        if vital.serving:
            # What is at work now is another step.
            vital.code = 0
            now = time.monotonic()
            # The look after a stall may follow at once, and nobody would ever see how long that was.
            if frame.seconds >= (vital.lag or 0.0) or now - vital.lag_at >= self._every:
                vital.lag, vital.lag_at = frame.seconds, now

    def gone(self, worker: WorkerProxy) -> None:
        """It has died: what can be said of its memory is said now."""
        self._vitals.pop(worker.id, None)
        if worker.exitcode == -signal.SIGKILL and not worker.why and self._evidence is not None:
            # Memory may have risen fast since the last look.
            worker.memory = max(worker.memory or 0, worker.peak or 0) or None
            together = sum(each.memory or 0 for each in self._workers.values())
            worker.hint = self._evidence.hint(time.monotonic(), worker.memory, together)
        elif worker.memory is None:
            worker.memory = worker.peak

    # --- a picture -------------------------------------------------------------------------------------------------

    def longest(self, worker: WorkerProxy) -> tuple[int, int, float] | None:
        """Of the item that has run longest there its job, its index, and for how many seconds it has been seen.

        Looked at when somebody looks, and once a second: it may have run for a second more than that.
        """
        book, vital = self._books.get(worker.id), self._vitals.get(worker.id)
        if book is None or vital is None or not book.load:
            return None
        now = time.monotonic()
        code = self._see_oldest(worker, book, vital, now)
        index = _index(book, code) if code else None
        return None if index is None else (_job(book, code), index, now - vital.oldest_since)

    def picture(self, worker: WorkerProxy) -> WorkerInfo:
        """How the worker is now; ``item`` is the one that it is inside of, not one that waits."""
        book = self._books.get(worker.id)
        vital = self._vitals.get(worker.id) or Vital()
        if book is None or not book.load:
            return WorkerInfo(
                worker.index, worker.pid, _state(book, vital), 0, book.done if book else 0, memory=worker.memory
            )
        state = _state(book, vital)
        fraction, text = _said(book, worker.report)
        code = worker.link.at_work() if worker.link is not None else None
        item = _index(book, code) if code and (book.kind == "def" or state in {"blocked", "stuck"}) else None
        return WorkerInfo(
            worker.index,
            worker.pid,
            state,
            book.load,
            book.done,
            fraction,
            text,
            memory=worker.memory,
            cpu=vital.cpu,
            lag=_lag(vital, state) if book.kind == "async" else None,
            item=item,
            seconds=time.monotonic() - vital.since if item is not None and vital.code == code else None,
            job=_job(book, code) if item is not None and code else None,
        )


def _state(book: WorkerBook | None, vital: Vital) -> WorkerState:
    if book is None or book.state == "dying":
        return "lost"
    if book.state == "starting":
        return "starting"
    if book.load and vital.unanswered and vital.silent >= SILENT_SECONDS:
        return "stuck"
    if book.load and vital.turning and vital.held >= SILENT_SECONDS:
        return "blocked"
    if book.state == "retiring":
        return "retiring"
    return "busy" if book.load else "idle"


def _lag(vital: Vital, state: WorkerState) -> float | None:
    return max(vital.lag or 0.0, vital.held) if state == "blocked" else vital.lag


def _check(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise FrameError(f"it says that something took {seconds} seconds")


def _said(book: WorkerBook, report: Report | None) -> tuple[float | None, str]:
    """How far an item says it is, unless it has ended meanwhile."""
    if report is None:
        return None, ""
    if report.spot is not None:
        number, position = report.spot
        batch = book.batches.get(number)
        if batch is None or position not in batch.pending:
            return None, ""
    return report.fraction, report.text


def _index(book: WorkerBook, code: int) -> int | None:
    """The index of the item that the mark page names so; None where the worker does not hold it any more."""
    number, position = frames.spot_of(code)
    batch = book.batches.get(number)
    return batch.items[position] if batch is not None and 0 <= position < len(batch.items) else None


def _job(book: WorkerBook, code: int) -> int:
    """The job of an item that the worker holds."""
    return book.batches[frames.spot_of(code)[0]].job.id
