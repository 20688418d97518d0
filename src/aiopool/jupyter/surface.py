"""How one job shows itself in a notebook: a row of a panel, or a line, or nothing; and what its workers print."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

from aiopool.html import in_one_line
from aiopool.jupyter.cell import Cell
from aiopool.jupyter.line import Line
from aiopool.jupyter.outlet import Audience, audiences, line_of
from aiopool.jupyter.panel import MOST_PRINTS, Panel, panel_of
from aiopool.jupyter.stage import Stage
from aiopool.jupyter.tracks import CallsTrack, MapTrack
from aiopool.jupyter.view import print_row
from aiopool.surfaces import Displayed, News, Printed, Progress, View
from aiopool.telemetry import JobSnapshot

__all__ = ["CellSurface", "show_job"]

LABEL = 60
"""Characters of a function's name in front of a line."""

_tracks: weakref.WeakKeyDictionary[object, MapTrack | CallsTrack] = weakref.WeakKeyDictionary()


class CellSurface:
    """The surface of a job that a cell has started."""

    def __init__(
        self, name: str, progress: Progress, cell: Cell, owner: str | None, stage: Stage, *, of_call: bool, as_one: bool
    ) -> None:
        self.owner = owner
        self.view: View | None = None
        self._cell = cell
        self._call = in_one_line(name, LABEL) if as_one else ""
        self._audience = Audience(cell)
        self._lock = threading.RLock()
        self._entered = False
        self._thread = 0
        self._line: Line | None = None
        self._panel: Panel | None = None
        if progress == "text" and not of_call:
            self.view = self._line = Line(cell)
        elif progress:
            self.view = self._panel = panel_of(cell, stage)
        self._track = self._panel.calls(name) if of_call and self._panel is not None else MapTrack(name)

    def hold(self, job: Any) -> None:
        """Know the job, for buttons, and who waits for it."""
        reading = job._reading  # noqa: SLF001 - what all who stand around a job share
        audiences[reading.results] = self._audience
        _tracks[job] = self._track
        self._track.hold(job)
        self._enter()

    def begin(self, number: int) -> None:
        """It begins: what shows it will be asked to."""
        if self._line is not None:
            self._line.begin(number)
        self._thread = threading.get_ident()
        self._track.begin(self._thread, number)
        self._enter()

    def _enter(self) -> None:
        # By the pool's thread, or by the one that starts the job, whichever comes first.
        with self._lock:
            if self._entered:
                return
            self._entered = True
            if isinstance(self._track, CallsTrack):
                self._track.enter()
            for panel in {*self._track.panels, self._panel}:
                if panel is not None:
                    panel.add(self._track)

    def close(self, snapshot: JobSnapshot) -> None:
        """It has ended: what it printed is out before anybody hears of that."""
        self._audience.cell.outlet.flush()
        self._track.close(snapshot, self._thread)
        if self._line is not None:
            self._line.close(snapshot)
        for panel in list(self._track.panels):
            panel.end(self._track)

    def amend(self, snapshot: JobSnapshot) -> None:
        """The same end, told better."""
        self._track.amend(snapshot)
        for panel in list(self._track.panels):
            panel.amend()

    def write(self, lines: Sequence[Printed]) -> None:
        """Print the lines under the cell that waits for the job; the last ones stand in the panel as well."""
        self._audience.cell.outlet.put(
            [("stderr" if line.error else "stdout", line_of(line.label(self._call), line.text)) for line in lines]
        )
        if self._track.panels:
            # What is said about lines, such as how many were not shown, the panel says in a place of its own.
            rows = [print_row(line, self._call) for line in lines[-MOST_PRINTS:] if not line.name]
            for panel in list(self._track.panels):
                panel.note_prints(rows)

    def display(self, shown: Displayed) -> None:
        """Show it there, in order with the lines."""
        self._audience.cell.outlet.put([shown])

    def complain(self, news: News) -> None:
        """Say under the cell that started the job that it has failed."""
        self._cell.tell(news)


def show_job(job: Any, stage: Stage, cell: Cell) -> None:
    """Show a job that is the last expression of a cell, or that is displayed in one.

    Raises NotImplementedError where nothing is known of it, on which IPython prints what ``repr`` gives.
    """
    track = _tracks.get(job)
    if track is None:
        raise NotImplementedError
    if isinstance(track, MapTrack):
        track.look_at(job)
    panel_of(cell, stage).show(track, job._reading.control.watch)  # noqa: SLF001 - as above
