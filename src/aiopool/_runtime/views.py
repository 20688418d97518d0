"""What shows a pool and its jobs, refreshed while there is something to see. On the pool's own thread.

One picture serves all views of a moment. No view is refreshed more often than ten times a second, however late the
loop comes round, and one that is slow more seldom: all of them together may take a tenth of the thread's time, and
taking pictures another tenth.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiopool.surfaces import Surface, View
from aiopool.telemetry import Block, PoolSnapshot

__all__ = ["Views", "on_surface"]

log = logging.getLogger("aiopool")

SHOW_AFTER = 0.5
SHOW_EVERY = 0.1
IDLE_EVERY = 1.0
"""Seconds between two looks at a pool in which nothing runs, for those that were attached to it."""

SHARE = 0.1
REMEMBERED = 3
"""A view is as slow as the fastest of so many times: it may once take long, to draw itself for the first time, say."""

SLOWEST_EVERY = 2.0
WAITING_EVERY = 0.4
"""The same for what is slow because it waits: perhaps for the processor, which others have."""

FAILED_EVERY = 1.0
"""Seconds until a view is tried again that has raised."""

Since = Callable[[int, float], tuple[int, Sequence[Block]]]


class Cost:
    """What something takes each time, in seconds: of this thread's processor time, and altogether."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._began = (0.0, 0.0)

    def begin(self) -> None:
        """It begins."""
        self._began = time.thread_time(), time.perf_counter()

    def end(self) -> None:
        """It has ended."""
        self._last.append((time.thread_time() - self._began[0], time.perf_counter() - self._began[1]))

    def pause(self, share: float) -> float:
        """How long it must not be done again, so that it takes no more than this share of the time."""
        if len(self._last) < REMEMBERED:
            return 0.0
        worked, taken = min(worked for worked, _ in self._last), min(taken for _, taken in self._last)
        return max(min(worked / share, SLOWEST_EVERY), min(taken / share, WAITING_EVERY))


@dataclass(slots=True, eq=False)
class Watch:
    """One view. ``jobs`` are those that it shows and that run; ``attached``: it shows the pool itself.

    It is not refreshed before ``due``, and was at ``shown`` for the last time. ``number`` is where its next block is.
    ``failing``: it has raised, which was said. ``rested`` is when the last of its jobs ended.
    """

    view: View
    due: float
    jobs: set[int] = field(default_factory=set)
    attached: bool = False
    shown: float = 0.0
    number: int = 0
    failing: bool = False
    rested: float = 0.0
    cost: Cost = field(default_factory=Cost)

    @property
    def is_active(self) -> bool:
        """Whether it has something to show."""
        return self.attached or bool(self.jobs)


class Views:
    """Refreshes views: those of a job from half a second after its begin to its end, attached ones while they are open.

    ``picture`` is taken once for all of them; ``since`` gives the blocks that have come since a number, and the next
    number, so that each view gets those that it has not got yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, picture: Callable[[], PoolSnapshot], since: Since) -> None:
        self._loop = loop
        self._picture = picture
        self._since = since
        self._watches: dict[int, Watch] = {}
        self._of_job: dict[int, Watch] = {}
        self._attached = 0
        self._active = 0
        self._cost = Cost()
        self._not_before = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._failing = False
        self._closed = False

    # --- who looks -------------------------------------------------------------------------------------------------

    def begin(self, job: int, view: View | None) -> None:
        """A job begins that this one shows; None: only those show it that show the whole pool."""
        if view is not None and not self._closed:
            now = time.monotonic()
            watch = self._watch(view, now + SHOW_AFTER)
            if not watch.is_active and now - watch.rested > SHOW_AFTER:
                # Calls one after another are one thing to see; what comes after a pause is another.
                watch.due = max(watch.due, now + SHOW_AFTER)
            watch.jobs.add(job)
            self._of_job[job] = watch
            self._wake_at(watch.due)
        if self._attached:
            self._stir()

    def end(self, job: int) -> None:
        """A job has ended."""
        watch = self._of_job.pop(job, None)
        if watch is not None:
            watch.jobs.discard(job)
            watch.rested = time.monotonic()
        if self._attached:
            self._stir()

    def attach(self, view: View) -> None:
        """Show the pool itself, as long as the view is open; of one that has ended, how it ended."""
        watch = Watch(view, 0.0) if self._closed else self._watch(view, 0.0)
        if self._closed:
            self._refresh([watch])
            return
        self._attached += not watch.attached
        watch.attached = True
        watch.due = min(watch.due, watch.shown + self._pause(watch, SHOW_EVERY))
        self._wake_at(watch.due)

    def close(self) -> None:
        """The pool has ended: everybody sees that."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._refresh([watch for watch in self._watches.values() if watch.attached])
        self._watches.clear()

    def _watch(self, view: View, due: float) -> Watch:
        watch = self._watches.get(id(view))
        if watch is None:
            # Those that have nothing to show any more are forgotten when another one comes.
            self._watches = {key: other for key, other in self._watches.items() if other.is_active}
            watch = self._watches[id(view)] = Watch(view, due)
        return watch

    def _stir(self) -> None:
        """Those that show the pool, and looked at it seldom because nothing ran, see at once that this has changed."""
        for watch in self._watches.values():
            if watch.attached and not watch.failing:
                watch.due = min(watch.due, watch.shown + self._pause(watch, SHOW_EVERY))
                self._wake_at(watch.due)

    # --- when ------------------------------------------------------------------------------------------------------

    def _pause(self, watch: Watch, every: float) -> float:
        """How long a view is left alone."""
        if watch.failing:
            return FAILED_EVERY
        return max(every, watch.cost.pause(SHARE / max(1, self._active)))

    def _wake_at(self, due: float) -> None:
        due = max(due, self._not_before)
        if self._closed or (self._alarm is not None and self._alarm_at <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = self._loop.call_later(max(0.0, due - time.monotonic()), self._look)

    def _look(self) -> None:
        self._alarm = None
        now = time.monotonic()
        active = [watch for watch in self._watches.values() if watch.is_active]
        due = [watch for watch in active if watch.due <= now]
        runs = self._refresh(due)
        active = [watch for watch in active if watch.is_active]
        self._active = len(active)
        now = time.monotonic()
        self._not_before = now + max(SHOW_EVERY, self._cost.pause(SHARE))
        for watch in due:
            watch.shown = now
            watch.due = now + self._pause(watch, SHOW_EVERY if runs or watch.jobs else IDLE_EVERY)
        if active:
            self._wake_at(min(watch.due for watch in active))

    # --- a look ----------------------------------------------------------------------------------------------------

    def _refresh(self, watches: Sequence[Watch]) -> bool:
        """Show how things are to those that are open; whether anything runs, as far as anybody looked."""
        watches = [watch for watch in watches if self._is_open(watch)]
        if not watches:
            return False
        self._cost.begin()
        try:
            picture = self._picture()
        except Exception:
            if not self._failing:
                log.exception("a pool cannot be shown")
            self._failing = True
            return False
        self._failing = False
        self._cost.end()
        for watch in watches:
            self._show(watch, picture)
        return picture.open_jobs > 0

    def _show(self, watch: Watch, picture: PoolSnapshot) -> None:
        watch.cost.begin()
        try:
            number, blocks = self._since(watch.number, time.monotonic())
            watch.view.refresh(picture, blocks)
            watch.number = number
        except Exception as error:  # noqa: BLE001 - a view may do anything, and the others go on
            self._note_failure(watch, error)
        else:
            watch.failing = False
        watch.cost.end()

    def _is_open(self, watch: Watch) -> bool:
        try:
            if watch.view.is_open:
                return True
        except Exception as error:  # noqa: BLE001 - as above
            self._note_failure(watch, error)
            return False
        if watch.attached:
            watch.attached = False
            self._attached -= 1
        return False

    @staticmethod
    def _note_failure(watch: Watch, error: Exception) -> None:
        """Say it once, until it works again: ten times a second would bury everything else."""
        if not watch.failing:
            log.error("the display of a pool failed", exc_info=error)
        watch.failing = True


def on_surface(surface: Surface | None, method: str, *args: object) -> None:
    """Tell a surface something. Whatever it raises, a job does not fail because it could not be watched."""
    try:
        if surface is not None:
            getattr(surface, method)(*args)
    except Exception:
        log.exception("the display of a job failed")
