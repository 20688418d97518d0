"""The dashboard of a pool: its workers, its jobs, the last minutes, and what can be done to them."""

from __future__ import annotations

import functools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiopool._runtime.driver import Driver
from aiopool.errors import AiopoolError
from aiopool.html import plain
from aiopool.jupyter import page
from aiopool.jupyter.state import DashboardState
from aiopool.jupyter.strip import Strip
from aiopool.jupyter.view import CallsView, JobView, RowView, dashboard_state
from aiopool.jupyter.viewers import Viewers
from aiopool.jupyter.widget import Live
from aiopool.pace import Pace
from aiopool.pool import Pool, Worker
from aiopool.registry import registry
from aiopool.telemetry import Block, CallsSnapshot, JobSnapshot, PoolSnapshot, WorkerInfo

__all__ = ["Dashboard", "dashboard_of"]

log = logging.getLogger("aiopool")

EVERY = 0.08
"""Seconds between two states: a little less than between two looks of a pool."""

FEW = 150
EVERY_BIG = 0.3
"""The same with more blocks than that: a state may have 100 kB then."""

PAGE_EVERY = 5.0
"""Seconds between two pages for the notebook, should it be saved."""

ENDED = 5
"""Jobs that have ended and are still listed."""


class Eye:
    """What the pool refreshes, from when the dashboard begins to be seen until it no longer is."""

    def __init__(self, board: Dashboard) -> None:
        self._board = weakref.ref(board)
        self._strip = Strip()
        self._paces: dict[int, Pace] = {}
        self._jobs: dict[int, Any] = {}
        self._ended: deque[JobView] = deque(maxlen=ENDED)
        self._next = 0.0
        self._state = ""

    @property
    def is_open(self) -> bool:
        """Whether somebody sees it, as far as is known."""
        board = self._board()
        return board is not None and board.is_watched_by(self)

    def refresh(self, pool: PoolSnapshot, blocks: Sequence[Block]) -> None:
        """Show how the pool is."""
        board, now = self._board(), time.monotonic()
        if blocks:
            self._strip.add(blocks, now)
        if board is None or (now < self._next and pool.state == self._state):
            return
        self._strip.add((), now)
        kept = self._strip.blocks()
        self._next, self._state = now + (EVERY if len(kept) <= FEW else EVERY_BIG), pool.state
        board.draw(self, pool, kept, now, self._rows(pool))

    # --- its jobs --------------------------------------------------------------------------------------------------

    def _rows(self, pool: PoolSnapshot) -> list[RowView]:
        running = {snapshot.id: snapshot for snapshot in pool.jobs}
        self._note_ended(running)
        self._paces = {number: self._paces.get(number) or Pace() for number in running}
        rows: list[RowView] = [*self._ended]
        rows += [self._row(snapshot, self._paces[snapshot.id].note(snapshot)) for snapshot in pool.jobs]
        rows += [
            CallsView(key=_key(calls), name=calls.name, open=calls.open, done=0, elapsed=calls.elapsed)
            for calls in pool.calls
        ]
        return rows

    def _row(self, snapshot: JobSnapshot, rate: float | None) -> JobView:
        board = self._board()
        cancelled = board is not None and snapshot.id in board.cancelled
        return JobView(key=str(snapshot.id), snapshot=snapshot, rate=rate, may_retry=False, asked_to_end=cancelled)

    def _note_ended(self, running: dict[int, JobSnapshot]) -> None:
        for number in [number for number in self._jobs if number not in running]:
            job = self._jobs.pop(number)()
            # Of one that has ended nobody need be asked: this is the thread that would have to answer.
            if job is not None and job.done():
                self._ended.append(self._row(job.snapshot(), None))
        new = [number for number, one in running.items() if number not in self._jobs and one.total != 1]
        if new and (board := self._board()) is not None:
            found = {job.id: job for job in registry.running() if board.runs(job)}
            self._jobs |= {number: weakref.ref(found[number]) for number in new if number in found}


def _key(calls: CallsSnapshot) -> str:
    return f"calls of {calls.name}"


class Dashboard(Live):
    """A widget: display it, or put it into a layout of your own. Displayed twice, it shows the same in both places.

    Clicks come on any thread, and what they do returns at once.
    """

    def __init__(self, pool: Pool, driver: Driver, viewers: Viewers) -> None:
        self._pool = weakref.ref(pool)
        self._driver = driver
        # Entered again where the collector runs a finaliser of the user's in the middle.
        self._lock = threading.RLock()
        self._snapshot = pool.snapshot()
        self._ack = 0
        self._note = ""
        self._asked: set[int] = set()
        self.cancelled: set[int] = set()
        self._viewers = viewers
        self._eye = Eye(self)
        self._kept = 0.0
        # Where a program executes the notebook nobody ever looks: this is what is saved then, so jobs belong to it.
        maps = [snapshot for snapshot in self._snapshot.jobs if snapshot.total != 1]
        rows = [JobView(key=str(snapshot.id), snapshot=snapshot, may_retry=False) for snapshot in maps]
        super().__init__(self._click, state=dict(dashboard_state(self._snapshot, (), 0.0, rows=rows)))
        driver.watch(self._eye)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and where it cannot be drawn, as in a saved notebook, how the pool was."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        state: Any = self.state
        return {**(data or {}), **page.bundle(state)}, {**metadata, **self.mark}

    # --- what it shows: on the pool's own thread ---------------------------------------------------------------------

    def is_watched_by(self, eye: Eye) -> bool:
        """Whether this is what keeps it up to date, and somebody looks; after it was closed nothing does."""
        return self._eye is eye and self.comm is not None and self._viewers.there

    def runs(self, job: Any) -> bool:
        """Whether a job is of this pool."""
        return job._control is self._driver  # noqa: SLF001 - a job's own affair, but for this

    def draw(self, eye: Eye, pool: PoolSnapshot, blocks: Sequence[Block], now: float, rows: Sequence[RowView]) -> None:
        """Show this."""
        with self._lock:
            if self._eye is not eye:
                return
            self._snapshot = pool
            self._show(dashboard_state(pool, blocks, now, rows=rows, ack=self._ack, note=self._note))

    def _show(self, state: DashboardState) -> None:
        self.state = dict(state)
        now = time.monotonic()
        if now - self._kept > PAGE_EVERY or not state["open"]:
            self._kept = now
            self.keep(page.bundle(state))

    # --- what is clicked: on any thread ------------------------------------------------------------------------------

    def _click(self, content: Any) -> None:
        if not isinstance(content, dict):
            return
        actions: dict[Any, Callable[[Pool, dict[str, Any]], object]] = {
            "pause": functools.partial(self._on_jobs, self._driver.pause),
            "resume": functools.partial(self._on_jobs, self._driver.resume),
            "cancel": self._cancel,
            "resize": lambda pool, click: pool.resize(_number(click, "size")),
            "restart": lambda pool, _: pool.restart(),
            "restart_worker": lambda pool, click: self._worker(pool, click).restart(),
            "stack": lambda pool, click: self._ask_stack(self._worker(pool, click)),
        }
        action, pool, note = content.get("action"), self._pool(), ""
        if action in ("shown", "hidden"):
            self._look(str(content.get("view", "")), seen=action == "shown")
        elif pool is None:
            note = "the pool has ended"
        elif action in actions:
            try:
                actions[action](pool, content)
            except AiopoolError as error:
                note = str(error)
        if isinstance(click := content.get("click"), int):
            self._answer(click, note)

    def _answer(self, click: int, note: str) -> None:
        with self._lock:
            self._ack = max(self._ack, click)
            self._note = note
            self.state = {**self.state, "ack": self._ack, "note": note}

    def _look(self, view: str, *, seen: bool) -> None:
        if not self._viewers.note(view, seen=seen):
            return
        # Asked without the lock, for which the thread that answers may wait.
        last = self._driver.snapshot() if self._driver.closed.ending is not None else None
        with self._lock:
            # Another one each time, with no blocks yet: it is given those of the last minutes.
            self._eye = Eye(self)
            if last is not None:
                # Its thread is gone: nobody would come to refresh this.
                self._show(dashboard_state(last, (), 0.0, ack=self._ack))
        self._driver.watch(self._eye)

    def _cancel(self, pool: Pool, click: dict[str, Any]) -> None:
        for calls in self._snapshot.calls:
            if _key(calls) == click.get("job"):
                self._driver.cancel_calls(calls.name)
        self._on_jobs(self._cancel_one, pool, click)

    def _cancel_one(self, number: int) -> None:
        self.cancelled.add(number)
        self._driver.cancel(number, stopped=False)

    def _on_jobs(self, do: Callable[[int], object], _: Pool, click: dict[str, Any]) -> None:
        for snapshot in self._snapshot.jobs:
            if str(snapshot.id) == click.get("job"):
                do(snapshot.id)

    def _worker(self, pool: Pool, click: dict[str, Any]) -> Worker:
        """The worker at that place, as it was last seen: nobody is asked, and waited for, here."""
        index = _number(click, "worker")
        infos: list[WorkerInfo] = [info for info in self._snapshot.workers if info.index == index and info.pid]
        if not infos:
            raise AiopoolError(f"there is no worker {index} now")
        return Worker(pool, infos[0])

    def _ask_stack(self, worker: Worker) -> None:
        """Show where it stands, as soon as that is known: one that does not answer is looked at for seconds."""
        with self._lock:
            if worker.index in self._asked:
                return
            self._asked.add(worker.index)
        self._tell(worker.index, f"worker {worker.index}: looking ...")
        threading.Thread(target=self._show_stack, args=(worker,), name="aiopool-stack", daemon=True).start()

    def _show_stack(self, worker: Worker) -> None:
        try:
            text = str(worker.stack())
        except Exception as error:  # noqa: BLE001 - it is shown where the stack would be
            text = f"worker {worker.index} could not be looked at: {type(error).__name__}: {error}"
        with self._lock:
            self._asked.discard(worker.index)
        self._tell(worker.index, text)

    def _tell(self, index: int, text: str) -> None:
        with self._lock:
            self.details = {**self.details, f"stack-{index}": plain(text)}


def _number(click: dict[str, Any], name: str) -> int:
    value = click.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise AiopoolError(f"the click says {name}={value!r}, which is no number")
    return value


_boards: weakref.WeakKeyDictionary[Pool, Dashboard] = weakref.WeakKeyDictionary()
_boards_lock = threading.Lock()


def dashboard_of(pool: Pool, driver: Driver, deaf: Callable[[], bool]) -> Dashboard:
    """The dashboard of a pool: the same one each time, until it is closed. ``deaf``: whether a cell runs now."""
    with _boards_lock:
        board = _boards.get(pool)
        if board is None or board.comm is None:
            board = _boards[pool] = Dashboard(pool, driver, Viewers(deaf))
        return board
