"""matplotlib's backend in workers: Agg, which needs no screen, and whose ``show`` leaves nothing behind.

A kernel's own backends draw into its cells and cannot work here. Named by ``MPLBACKEND``; nothing of ours imports it.
"""

from __future__ import annotations

from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

__all__ = ["FigureCanvas", "FigureManager"]


class FigureManager(FigureManagerBase):
    """Shows a figure without a word; by ``pyplot.show`` it is closed, too, as in a notebook's cell."""

    def show(self) -> None:
        """Nobody looks here."""

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003  # the name that pyplot passes on
        """Show every figure and close it."""
        for manager in Gcf.get_all_fig_managers():
            manager.show()
        Gcf.destroy_all()


class FigureCanvas(FigureCanvasAgg):
    """Draws with Agg."""

    manager_class: Any = FigureManager
