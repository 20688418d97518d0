"""What the panels of one kernel have in common: the widget's class, how they are folded, and which of them live on."""

from __future__ import annotations

import importlib.metadata
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiopool.jupyter.cell import Cell
from aiopool.jupyter.later import later
from aiopool.jupyter.loading import Loader
from aiopool.jupyter.state import Fold

if TYPE_CHECKING:
    from aiopool.jupyter.panel import Panel

__all__ = ["Stage"]

MOST_WIDGETS = 50
"""Panels of ended jobs that keep their widget: each takes some 40 kB here, and as much in the browser."""


class Stage:
    """What the panels of one kernel have in common.

    ``run_as(cell, function)`` runs it so that the jobs which it starts belong to that cell.
    """

    def __init__(self, kernel: Any, run_as: Callable[[Cell, Callable[[], object]], object]) -> None:
        self.loader = Loader()
        self.fold: Fold = 1
        self.run_as = run_as
        # Such a kernel takes no click before the cell has ended.
        self.clicks_wait = int(importlib.metadata.version("ipykernel").partition(".")[0]) < 7
        self._kernel = kernel
        self.lock = threading.RLock()
        self._stale: set[Panel] = set()
        self._ended: OrderedDict[Panel, None] = OrderedDict()
        self._of_cells: weakref.WeakValueDictionary[str, Panel] = weakref.WeakValueDictionary()

    def note_cell(self, cell: Cell, panel: Panel) -> None:
        """This is the panel of that cell, as long as it is not run again."""
        if cell.id is not None:
            self._of_cells[cell.id] = panel

    def begin_cell(self, cell: Cell) -> None:
        """The cell is run, perhaps again: what it showed before is no longer seen."""
        if cell.id is not None and (last := self._of_cells.pop(cell.id, None)) is not None:
            last.close()

    def end_cell(self, cell: Cell) -> None:
        """The cell has run. What is to be in the saved notebook comes now, or, where it is executed, never."""
        with self.lock:
            stale = {*self._stale, *([cell.panel] if cell.panel is not None else [])}
        for panel in stale:
            panel.settle(cell)

    def publish(self, content: dict[str, Any]) -> None:
        """Change what stands somewhere: by its name, and so under whichever cell runs. nbclient drops all else."""
        kernel = self._kernel
        parent = kernel.get_parent("shell")
        ident = f"kernel.{kernel.ident}.update_display_data".encode()
        kernel.session.send(kernel.iopub_socket, "update_display_data", content, parent=parent, ident=ident)

    def note_stale(self, panel: Panel, *, stale: bool) -> None:
        """The final bundle of a panel is still to come, or has come."""
        with self.lock:
            (self._stale.add if stale else self._stale.discard)(panel)

    def note_ended(self, panel: Panel) -> None:
        """All of its jobs have ended: the widgets of the oldest such panels are let go of."""
        with self.lock:
            self._ended[panel] = None
            self._ended.move_to_end(panel)
            old = [self._ended.popitem(last=False)[0] for _ in range(len(self._ended) - MOST_WIDGETS)]
        for each in old:
            later.call(0.0, each.retire)  # Not here: this one's lock is held.

    def forget(self, panel: Panel) -> None:
        """It has no widget any more, or its jobs run again."""
        with self.lock:
            self._stale.discard(panel)
            self._ended.pop(panel, None)
