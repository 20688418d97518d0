"""The time of attempts: when one has had enough, what does not count, and who may not be told to end just now.

A loop that is held by one item must not cost its neighbours: their clocks stand still meanwhile. So an attempt is due
by the worker's clock less all the time for which its loop was held; what an item held itself is taken off its own due
time again. Deadlines are watched by the link thread, because the main thread may be held; an item that waits in the
loop is ended from within the loop, where nobody holds it.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from aiopool._core import frames

if TYPE_CHECKING:
    import asyncio

    from aiopool._worker.work import Entry, Stepped

HELD_SECONDS = 0.05
"""A step that takes longer than this holds its loop: until then, taking turns is what a loop is for."""

LOOK_SECONDS = 0.05
"""How often the link thread looks at items that the loop has been asked to end, and has not."""

DEAF_SECONDS = 1.0
"""How long a loop may not come round though no item is being stepped, before its overdue items are called deaf."""

T = TypeVar("T")


class Attempt:
    """One run of an item that has a timeout.

    ``due`` is by the clock less the time for which the loop was held. ``task`` is the lane that waits for it in the
    loop; None: it is a ``def``. ``struck`` is the CancelledError that ended it, for the line at which it hung.
    """

    __slots__ = ("code", "due", "entry", "left", "over", "overdue", "struck", "task")

    def __init__(self, entry: Entry, due: float, task: asyncio.Task[Any] | None) -> None:
        self.entry = entry
        self.code = entry.code
        self.due = due
        self.left = 0.0
        self.task = task
        self.overdue = False
        self.over = False
        self.struck: BaseException | None = None


class Clock:
    """The timed attempts of a worker, and the items that nothing may end now.

    ``attempts`` is empty where no job has a timeout: then nothing of this costs anything. ``armed`` is when the link
    thread should look next. ``turning`` is for how long the loop has turned inside of steps, where it may: that is
    nobody's hold. The lock is held for moments only, so that the link thread may take it, too.
    """

    def __init__(self, send: Callable[[frames.Frame], None], wake: Callable[[], None]) -> None:
        self.attempts: dict[int, Attempt] = {}
        self.held: dict[int, tuple[Entry, int]] = {}
        self.armed = inf
        self.turning = 0.0
        self._send = send
        self._wake = wake
        self._lock = threading.RLock()
        self._blocked = 0.0
        self._heap: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()
        self._asked: list[Attempt] = []
        self._asked_at = 0.0
        os.register_at_fork(after_in_child=self._be_a_clone)

    def _be_a_clone(self) -> None:
        # Another thread may have had it when an item forked.
        self._lock = threading.RLock()

    # --- whoever runs items ----------------------------------------------------------------------------------------

    def start(self, entry: Entry, timeout: float, task: asyncio.Task[Any] | None = None) -> Attempt:
        """The attempt begins now."""
        with self._lock:
            attempt = Attempt(entry, monotonic() - self._blocked + timeout, task)
            self.attempts[attempt.code] = attempt
            if len(self._heap) > 2 * len(self.attempts) + 1000:
                self._heap = [each for each in self._heap if _is_current(each[0], each[2])]
                heapq.heapify(self._heap)
            self._watch(attempt)
        return attempt

    def wait_in_loop(self, attempt: Attempt, task: asyncio.Task[Any]) -> None:
        """A ``def`` has returned a coroutine, which goes on in the loop."""
        with self._lock:
            attempt.task = task

    def end(self, attempt: Attempt) -> bool:
        """The attempt has ended; whether it was overdue. If so Overdue was sent, and how it ended counts no more.

        The link thread may not have come to look: another thread of the process has held the GIL, say.
        """
        with self._lock:
            if attempt.due <= monotonic() - self._blocked:
                self._call_overdue(attempt)
            attempt.over = True
            self.attempts.pop(attempt.code, None)
            return attempt.overdue

    def charged(self, attempt: Attempt | None, do: Callable[..., T], *args: Any) -> T:
        """Do something that may hold the loop, on the time of this attempt."""
        began = self.begun()
        try:
            return do(*args)
        finally:
            self.stepped(attempt, began)

    def begun(self) -> float:
        """Note the beginning of a step for :meth:`stepped`; never 0."""
        return monotonic() - self.turning

    def stepped(self, attempt: Attempt | None, began: float) -> None:
        """A step is over. If it has held the loop, everybody's clock stood still meanwhile, but for its own item's."""
        seconds = monotonic() - self.turning - began
        if seconds <= HELD_SECONDS:
            return
        with self._lock:
            self._blocked += seconds
            if attempt is not None and attempt.due != inf:
                attempt.due -= seconds
                self._watch(attempt)

    def struck(self) -> list[Attempt]:
        """The attempts that shall be ended in the loop, which is held by nobody now. Overdue was sent for each."""
        with self._lock:
            asked, self._asked = self._asked, []
            time = monotonic() - self._blocked
            for attempt in asked:
                if attempt.due <= time:
                    self._call_overdue(attempt)
                elif not attempt.over and attempt.due != inf:
                    self._watch(attempt)
        return [attempt for attempt in asked if attempt.overdue and not attempt.over]

    # --- items themselves: any thread ------------------------------------------------------------------------------

    def hold(self, entry: Entry) -> None:
        """Stop the item's clock; see :class:`aiopool.inside.Running`."""
        with self._lock:
            if entry.is_over:
                return
            _, depth = self.held.get(entry.code, (entry, 0))
            self.held[entry.code] = entry, depth + 1
            attempt = self.attempts.get(entry.code)
            if attempt is not None and not depth and not attempt.overdue:
                attempt.left = attempt.due - (monotonic() - self._blocked)
                attempt.due = inf
        if (job := entry.job) is not None and job.cancelled:
            self._wake()  # The parent is to be told why it does not feel that.

    def release(self, entry: Entry) -> bool:
        """Let the clock go on; whether nobody holds the item any more."""
        with self._lock:
            _, depth = self.held.pop(entry.code, (entry, 0))
            if depth > 1:
                self.held[entry.code] = entry, depth - 1
                return False
            attempt = self.attempts.get(entry.code)
            if attempt is not None and attempt.due == inf:
                attempt.due = monotonic() - self._blocked + attempt.left
                self._watch(attempt)
        return True

    # --- the link thread -------------------------------------------------------------------------------------------

    def look(self, stepping: Stepped | None) -> bool:
        """Call what is due overdue; whether the loop has to be asked to end something.

        ``stepping`` is the item at work in the main thread. If it holds its loop, it is called overdue here.
        """
        now = monotonic()
        with self._lock:
            waited = bool(self._asked)
            while self._heap and self._heap[0][0] <= now - self._blocked:
                due, _, attempt = heapq.heappop(self._heap)
                if not _is_current(due, attempt):
                    continue
                if attempt.task is None:
                    self._call_overdue(attempt)
                else:
                    self._asked.append(attempt)
            if self._asked and not waited:
                self._asked_at = now
            deaf = stepping is None and now - self._asked_at > DEAF_SECONDS
            for attempt in self._asked:
                if (deaf or attempt.entry is stepping) and attempt.due <= now - self._blocked:
                    self._call_overdue(attempt)
            self.armed = self._heap[0][0] + self._blocked if self._heap else inf
            if self._asked:
                self.armed = min(self.armed, now + LOOK_SECONDS)
            return bool(self._asked) and not waited

    # --- with the lock ---------------------------------------------------------------------------------------------

    def _watch(self, attempt: Attempt) -> None:
        heapq.heappush(self._heap, (attempt.due, next(self._numbers), attempt))
        if attempt.due + self._blocked < self.armed:
            self.armed = attempt.due + self._blocked
            self._wake()

    def _call_overdue(self, attempt: Attempt) -> None:
        """Whoever comes first, this or the attempt's own end, decides what becomes of it."""
        job, batch = attempt.entry.job, attempt.entry.batch
        if not attempt.over and not attempt.overdue and job is not None and not job.cancelled:
            attempt.overdue = True
            self._send(frames.Overdue(job.id, batch.id, attempt.entry.position))


def _is_current(due: float, attempt: Attempt) -> bool:
    """Whether an entry of the heap still means something: moved deadlines leave their old ones behind."""
    return attempt.due == due and not attempt.over and not attempt.overdue
