"""The panel of one run of a cell: every job that the run has started, under that cell, while they run and after."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, get_args

from aiopool.jupyter import view
from aiopool.jupyter.cell import Cell
from aiopool.jupyter.drawing import Drawing
from aiopool.jupyter.later import later
from aiopool.jupyter.stage import Stage
from aiopool.jupyter.state import Details, Fold, PanelState, PrintRow
from aiopool.jupyter.tracks import CallsTrack, MapTrack, Track
from aiopool.telemetry import Block, PoolSnapshot

__all__ = ["Panel", "panel_of"]

log = logging.getLogger("aiopool")

REST_AFTER = 0.3
"""Seconds without a job after which it folds: in a loop over maps the next one comes before, and nothing may jump."""

LOAD_AFTER = 0.2
"""Seconds after which a job seems to be worth a widget; what is over before must not pay for the import."""

KEEP_DONE, KEEP_UNFINISHED = 30.0, 600.0
"""Seconds for which a panel of ended jobs keeps its widget: where nothing can be retried, and where something can.

Only where the front end cannot leave the widget out of what it saves, and asks for that.
"""

MOST_TRACKS = 1000
MOST_PRINTS = 50

PRESS_STOP = "press Stop to cancel"


def panel_of(cell: Cell, stage: Stage) -> Panel:
    """The panel of this run of a cell."""
    with stage.lock:
        if cell.panel is None:
            cell.panel = Panel(cell, stage)
            stage.note_cell(cell, cell.panel)
        found: Panel = cell.panel
    return found


class Panel:
    """A view that shows the jobs of one run of a cell.

    Pools refresh it, each on its own thread; jobs begin and are displayed in the thread of the cell, and clicks come on
    any. This is its life and what it says; where and how that stands in the notebook is its drawing's affair.
    """

    def __init__(self, cell: Cell, stage: Stage) -> None:
        self.cell = cell
        self._stage = stage
        # Entered again where the collector runs a finaliser of the user's that starts a job.
        self._lock = threading.RLock()
        self._tracks: dict[str, Track] = {}
        self._calls: dict[str, CallsTrack] = {}
        self._live: set[Track] = set()
        # By the thread of each pool, with the moment of the picture.
        self._pools: dict[int, tuple[float, PoolSnapshot]] = {}
        self._prints: deque[PrintRow] = deque(maxlen=MOST_PRINTS)
        self._fold = stage.fold
        self._ack = 0
        self._note = ""
        self._drawing = Drawing(
            cell, stage, self._lock, look=self._look, click=self.click, lost=functools.partial(stage.forget, self)
        )
        self.settled_at = 0.0
        self._details: Details = {}
        self._failures: list[tuple[str, str, str, str]] = []
        self._rest_at = 0.0
        self._rests = True
        self._unsettled = self._rest_alarm = self._closed = False
        # By a page that writes into what it saves how things are.
        self._is_kept = False

    # --- what it shows ---------------------------------------------------------------------------------------------

    def calls(self, name: str) -> CallsTrack:
        """The row of all calls of that function."""
        with self._lock:
            if name not in self._calls:
                self._calls[name] = CallsTrack(name)
            return self._calls[name]

    def add(self, track: Track) -> None:
        """A job begins, or, of calls, another one."""
        with self._lock:
            if self._closed:
                return  # A task of the last run has started it, whose output is gone.
            if track.key not in self._tracks:
                self._tracks[track.key] = track
                track.panels.append(self)
                self._trim()
            if track.live and track not in self._live:
                if not self._live:
                    self._rests = self._unsettled = False
                    self._stage.forget(self)
                    later.call(LOAD_AFTER, self._load)
                self._live.add(track)

    def _trim(self) -> None:
        if len(self._tracks) <= MOST_TRACKS:
            return
        # What has ended and is about to say so here must still find this.
        old = next((track for track in self._tracks.values() if not track.live and track not in self._live), None)
        if old is None:
            return
        del self._tracks[old.key]
        old.panels.remove(self)
        name = old.name
        if self._calls.get(name) is old:
            del self._calls[name]  # The next call has a row of its own.

    def _load(self) -> None:
        if self._live and self.cell.is_attended:
            self._stage.loader.load()

    def end(self, track: Track) -> None:
        """A job has ended."""
        with self._lock:
            if track.live or track not in self._live:
                return
            self._live.discard(track)
            self._drawing.push()
            if not self._live:
                self._rest_soon()

    def amend(self) -> None:
        """More is known of a job that has ended."""
        with self._lock:
            if not self._live:
                self._drawing.push()
                self._rest_soon()

    def note_prints(self, lines: Sequence[PrintRow]) -> None:
        """Workers have printed these lines."""
        with self._lock:
            self._prints.extend(lines)
            if not self._live:
                self._drawing.push()

    def show(self, track: Track, watch: Callable[[Panel], object]) -> None:
        """Show this job, which another cell may have started, at once. ``watch``: have its pool refresh this panel."""
        with self._lock:
            if self._closed:
                return
            self.add(track)
            if track.live:
                watch(self)
            self._drawing.appear(live=bool(self._live), at_once=True)
            if not self._live and self._drawing.form == "widget":
                self._stage.note_ended(self)

    # --- as a view of pools ----------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it wants to be refreshed: a job runs, and the cell was not run again."""
        return not self._closed and bool(self._live)

    def refresh(self, pool: PoolSnapshot, _: Sequence[Block]) -> None:
        """Show how things are."""
        thread = threading.get_ident()
        pictures = {job.id: job for job in pool.jobs}
        with self._lock:
            if not self.is_open:
                return
            if thread in self._threads():
                self._pools[thread] = time.monotonic(), pool
            for track in self._live:
                track.look(pictures, thread)
            self._drawing.appear(live=True)
            self._drawing.push()

    def _threads(self) -> set[int]:
        """Those of the pools on which its jobs run."""
        return {thread for track in self._live for thread in track.threads}

    def _seen_pools(self) -> list[PoolSnapshot]:
        """The pools as they are: of one on which none of its jobs runs any more nothing is heard, and it may be closed.

        Such a one goes, but not at once: in a loop of the cell the next job is about to begin there.
        """
        since, threads = time.monotonic() - REST_AFTER, self._threads()
        if self._rests:
            self._pools.clear()
        for thread, (at, _) in list(self._pools.items()):
            if thread not in threads and at < since:
                del self._pools[thread]
        return [pool for _, pool in self._pools.values()]

    # --- the cell --------------------------------------------------------------------------------------------------

    def settle(self, ended: Cell) -> None:
        """A cell has ended: what is shown now is what is saved. Its own cell keeps a place for what comes later."""
        with self._lock:
            if self._live and not self._drawing.form and not self._closed and ended is self.cell:
                self._drawing.reserve()
            elif self._unsettled and not self._live:
                self._rests = True
                self._settle()
            elif self._stage.clicks_wait:
                self._drawing.push()

    def _rest_soon(self) -> None:
        """All jobs have ended, perhaps: in a loop of the cell the next is about to begin."""
        self._rest_at = time.monotonic() + REST_AFTER
        if self._closed or self._drawing.form in ("", "place"):
            self._rests = True
            return
        if self._drawing.form == "widget":
            self._stage.note_ended(self)
        self._unsettled = True
        self._stage.note_stale(self, stale=True)
        if not self._rest_alarm:
            self._rest_alarm = True
            later.call(REST_AFTER, self._rest)

    def _rest(self) -> None:
        with self._lock:
            self._rest_alarm = False
            if self._live or not self._unsettled:
                return
            wait = self._rest_at - time.monotonic()
            if wait > 0:
                self._rest_alarm = True
                later.call(wait, self._rest)
                return
            self._rests = True
            if self.cell.runs:
                self._drawing.push(now=True)  # Its end settles it.
            else:
                self._settle()

    def _settle(self) -> None:
        """Leave in the notebook how it has ended."""
        self._unsettled = False
        self._stage.note_stale(self, stale=False)
        if self._closed:
            return
        self._drawing.push(now=True)
        if self._drawing.form == "widget" and not self._is_kept:
            self._drawing.publish()

    def _retire_later(self) -> None:
        """In the notebook of tomorrow there is no widget, and where one was saved an error would stand in its place."""
        self.settled_at = now = time.monotonic()
        unfinished = any(job["buttons"] for job in self._look()[0]["jobs"])
        then = functools.partial(_retire, weakref.ref(self), now)
        later.call(KEEP_UNFINISHED if unfinished else KEEP_DONE, then)

    def close(self) -> None:
        """The cell is run again: its output, and this in it, is gone."""
        with self._lock:
            self._closed = True
            for track in self._tracks.values():
                track.panels.remove(self)  # The job may be held for ever, and this with all that it shows.
            self._stage.forget(self)
            self._drawing.close()

    def retire(self) -> None:
        """Leave HTML in the place of the widget."""
        with self._lock:
            if self._closed or self._live or self._drawing.form != "widget":
                return
            self._stage.forget(self)
            self._drawing.retire()

    # --- what it says; under the lock ------------------------------------------------------------------------------

    def _look(self) -> tuple[PanelState, Details]:
        rows = [row for track in self._tracks.values() if (row := track.view) is not None]
        self._note_failures(rows)
        waits = self._stage.clicks_wait and self._live and self.cell.runs
        state = view.panel_state(
            rows,
            self._seen_pools(),
            prints=list(self._prints),
            dropped=sum(row.unshown if isinstance(row, view.CallsView) else row.snapshot.unshown for row in rows),
            fold=self._fold,
            ack=self._ack,
            note=self._note or (PRESS_STOP if waits else ""),
        )
        state["live"] = not self._rests
        return state, self._details

    def _note_failures(self, rows: Sequence[view.RowView]) -> None:
        """Make the long texts anew only if there are others: ten times a second that would be megabytes."""
        failures = [
            (row.key, group.type_name, group.where, group.traceback)
            for row in rows
            for group in (row.failures if isinstance(row, view.CallsView) else row.snapshot.failures)
        ]
        if failures != self._failures:
            self._failures, self._details = failures, view.panel_details(rows)

    # --- clicks; on any thread -------------------------------------------------------------------------------------

    def click(self, content: Any) -> None:
        """Do what was clicked, and say at once that it was heard."""
        if isinstance(content, dict) and content.get("action") in ("replace", "keeps"):
            with self._lock:
                if content["action"] == "keeps":
                    self._is_kept = True
                else:
                    self._retire_later()
            return
        if not isinstance(content, dict) or not isinstance(number := content.get("click"), int):
            log.warning("a panel does not know the click %.200r", content)
            return
        action, track = content.get("action"), self._tracks.get(str(content.get("job")))
        if not (action == "fold" or (track is not None and action in ("cancel", "pause", "resume", "retry"))):
            log.warning("a panel does not know the click %.200r", content)
            return
        with self._lock:
            self._ack, self._note = max(self._ack, number), ""
            if action == "fold":
                self._fold_to(content.get("fold"))
            elif track is not None and action == "cancel":
                track.asked_to_end = True
            self._drawing.push(now=True)
        if track is not None and action == "retry":
            self._retry(track)
        elif track is not None:
            for job in track.jobs():
                getattr(job, str(action))()

    def _fold_to(self, fold: object) -> None:
        if fold in get_args(Fold):
            self._fold = self._stage.fold = fold  # type: ignore[assignment]  # one of these

    def _retry(self, track: Track) -> None:
        job = next(iter(track.jobs()), None) if isinstance(track, MapTrack) else None
        if job is None or not isinstance(track, MapTrack) or track.retried:
            self._say("nobody holds this job any more: run the cell again")
            return
        # It loads values and pickles, which may take long, and may run code of the user's: not on the kernel's loop.
        track.retried = True
        run = contextvars.Context().run
        threading.Thread(target=run, args=(self._retry_now, track, job), name="aiopool-retry", daemon=True).start()

    def _retry_now(self, track: MapTrack, job: Any) -> None:
        try:
            self._stage.run_as(self.cell, job.retry)
        except BaseException as error:  # noqa: BLE001 - what the user's code raises is shown beside the button
            track.retried = False
            self._say(f"{type(error).__name__}: {error}")
            return
        # What has ended before half a second shows itself, too: somebody waits for it.
        with self._lock:
            self._drawing.push(now=True)

    def _say(self, note: str) -> None:
        with self._lock:
            self._note = " ".join(note.split())[:200]
            self._drawing.push(now=True)


def _retire(ref: weakref.ref[Panel], settled_at: float) -> None:
    panel = ref()
    if panel is not None and panel.settled_at == settled_at:
        panel.retire()
