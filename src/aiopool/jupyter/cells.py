"""The cells of a kernel as they run: which one runs here, what it began, and how it ended."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiopool.errors import JobStopped
from aiopool.jupyter.cell import Cell
from aiopool.jupyter.loops import Loops
from aiopool.jupyter.outlet import audiences
from aiopool.jupyter.stage import Stage
from aiopool.readers import Reader, Watch
from aiopool.reading import progress_of
from aiopool.registry import registry

__all__ = ["Cells"]

STOPS = (KeyboardInterrupt, asyncio.CancelledError, JobStopped)
FEW = 3

_here: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("aiopool_cell", default=None)
_for: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("aiopool_for_cell", default=None)
"""What is started here by a click, for a cell whose context is long gone."""


@dataclass(slots=True)
class _Run:
    """A cell that runs; ``inner``: so many are run by it."""

    cell: Cell
    loops: Loops
    inner: int = 0
    attending: weakref.WeakKeyDictionary[Reader[Any], Callable[[], None]] = field(
        default_factory=weakref.WeakKeyDictionary
    )
    leave: list[Callable[[], None]] = field(default_factory=list)


class Cells:
    """Watches the cells of one kernel run.

    A cell that is run again ends the jobs that it started before. One that Stop has ended takes the jobs with it over
    which it was looping, whatever it did at that moment in the loop's body.
    """

    def __init__(self, kernel: Any) -> None:
        self.stage = Stage(kernel, run_as)
        self._kernel = kernel
        self._last: Cell | None = None
        # By the message that asked for it: on ipykernel 7 subshells run cells beside each other.
        self._running: dict[str, _Run] = {}
        events = kernel.shell.events
        events.register("pre_execute", self._enter)
        events.register("pre_run_cell", self._begin)
        events.register("post_run_cell", self._end)
        request = kernel.get_parent("shell")
        if threading.current_thread() is threading.main_thread() and _is_cell(request) and not _is_silent(request):
            # The cell that imports this has begun already.
            self._enter()
            self._begin(None)

    @property
    def is_busy(self) -> bool:
        """Whether a cell runs."""
        return bool(self._running)

    def here(self) -> tuple[Cell, str | None]:
        """The cell under which a job shows itself that is started here, and the name of the cell to which it belongs.

        A task and a callback belong to the cell that made them. Threads have no cell of their own, and the handler of
        a click has none at all: what they start is shown under the cell that ran last, and is nobody's.
        """
        if (cell := _for.get()) is not None:
            return cell, cell.id
        parent = self._kernel.get_parent("shell")
        cell = _here.get()
        if cell is None or not _is_cell(parent):
            return self._last or Cell(self._kernel, parent), None
        return cell, cell.id

    def watch(self, reader: Reader[Any]) -> Watch | None:
        """Look after a reader over which a loop begins here. What its job prints comes here, as long as it is read."""
        cell = _here.get()
        run = self._running.get(_message(cell.parent)) if cell is not None else None
        if run is None:
            return None
        leave = run.attending.get(reader) or self.attend(reader.reading.results)
        if leave is not None:
            run.attending[reader] = leave
            run.leave.append(leave)
        return run.loops.watch(reader, leave)

    def attend(self, results: object) -> Callable[[], None] | None:
        """Somebody begins to wait here for the job of these results: what it prints comes here until that is over."""
        cell, audience = _here.get(), audiences.get(results)
        return audience.join(cell) if cell is not None and audience is not None else None

    # --- events ----------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Something is run; the context in which this is called is that of the cell."""
        parent = self._kernel.get_parent("shell")
        if _message(parent) not in self._running:
            _here.set(Cell(self._kernel, parent))

    def _begin(self, _: object) -> None:
        """A cell is run, and not something silent behind the user's back."""
        cell = _here.get()
        if cell is None:
            return
        if (run := self._running.get(_message(cell.parent))) is not None:
            run.inner += 1  # get_ipython().run_cell(...)
            return
        cell.runs = True
        self._last = cell
        self._running[_message(cell.parent)] = _Run(cell, Loops())
        if cell.id is not None:
            try:
                _cancel_jobs_of_last_run(cell, cell.id)
            finally:
                self.stage.begin_cell(cell)

    def _end(self, result: Any) -> None:
        message = _message(self._kernel.get_parent("shell"))
        if (run := self._running.get(message)) is None:
            return
        if run.inner:
            run.inner -= 1
            return
        del self._running[message]
        run.loops.end()
        for leave in run.leave:
            leave()
        try:
            error = None if result is None else result.error_in_exec
            if isinstance(error, STOPS):
                _stop_jobs(run, error)
        finally:
            run.cell.end()
            self.stage.end_cell(run.cell)


def run_as(cell: Cell, function: Callable[[], object]) -> object:
    """Run it so that the jobs which it starts are that cell's. In a context of its own."""
    _for.set(cell)
    return function()


def _message(parent: dict[str, Any]) -> str:
    return str(parent.get("header", {}).get("msg_id", ""))


def _is_cell(parent: dict[str, Any]) -> bool:
    return bool(parent.get("header", {}).get("msg_type") == "execute_request")


def _is_silent(request: dict[str, Any]) -> bool:
    return bool(request.get("content", {}).get("silent"))


def _stop_jobs(run: _Run, error: BaseException) -> None:
    for reading in run.loops.cut_off(error):
        if not reading.asked_to_end and reading.end(stopped=True):
            run.cell.display(reading.stop_line())


def _cancel_jobs_of_last_run(cell: Cell, cell_id: str) -> None:
    mine = [job for job in registry.running() if job.owner == cell_id]
    ended = [snapshot for job, snapshot in [(job, job.snapshot()) for job in mine] if job.cancel()]
    for each in ended if len(ended) <= FEW else ended[: FEW - 1]:
        how_far = progress_of(each.done, each.failed, each.total)
        cell.display(f"{each.name}, started by the last run of this cell, was cancelled: {how_far}")
    if len(ended) > FEW:
        cell.display(f"{len(ended) - FEW + 1:,} others, started by the last run of this cell, were cancelled")
