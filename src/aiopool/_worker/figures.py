"""matplotlib's backend in workers: Agg, which needs no screen, and whose ``show`` sends pictures to the cell.

A kernel's own backends draw into its cells and cannot work here. Named by ``MPLBACKEND``; nothing of ours imports it.

A figure of pyplot is that of the item in which it was made, and an item is for pyplot what a cell is in a notebook: it
does not see the figures of others that run beside it, and those that it leaves open are shown at its end and closed.
Figures of no item, as those of an initializer or of a resource of the worker, are there for all, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from aiopool import inside
from aiopool._worker.showing import display, left_open

__all__ = ["FigureCanvas", "FigureManager"]


def _item() -> Any:
    """The item that runs here, as the worker holds it."""
    running = inside.running.get()
    return running.outermost if running is not None else None


def _managers(code: int) -> list[Any]:
    """Those of the figures of one item, the active one last."""
    return [manager for manager in Gcf.get_all_fig_managers() if getattr(manager, "code", 0) == code]


def _seen() -> Iterator[Any]:
    """Those that pyplot has for the item that runs here, the active one last."""
    item = _item()
    seen = {0, item.code} if item is not None else {0}
    return (manager for manager in Gcf.get_all_fig_managers() if getattr(manager, "code", 0) in seen)


class FigureManager(FigureManagerBase):
    """Shows a figure as a picture; by ``pyplot.show`` it is closed, too, as in a notebook's cell.

    ``code`` is that of the item in which the figure was made; 0: of none.
    """

    def __init__(self, canvas: Any, num: int | str) -> None:
        super().__init__(canvas, num)
        item = _item()
        self.code: int = item.code if item is not None else 0
        if item is not None:
            # First this, and then the look: so nothing stays here of an item that ends meanwhile, or has ended.
            left_open[self.code] = _End(self.code)
            if item.is_over:
                left_open.pop(self.code, None)

    def show(self) -> None:
        """Display it, unless there is nothing in it yet."""
        figure = self.canvas.figure
        if figure.axes or figure.lines:
            display(figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003  # the name that pyplot passes on
        """Show every figure and close it."""
        _end(list(_seen()), show=True)


class FigureCanvas(FigureCanvasAgg):
    """Draws with Agg."""

    manager_class: Any = FigureManager


class _End:
    """The end of an item's figures."""

    def __init__(self, code: int) -> None:
        self._code = code

    def __call__(self, show: bool) -> None:  # noqa: FBT001  # as it is called
        _end(_managers(self._code), show=show)


def _end(managers: list[Any], *, show: bool) -> None:
    try:
        for manager in managers:
            if show:
                manager.show()
    finally:
        for manager in managers:
            Gcf.destroy(manager)


# --- what pyplot takes for the present figure, and for all of them ---------------------------------------------------


def _get_active(_: type[Gcf]) -> Any:
    return next(reversed(list(_seen())), None)


def _destroy_all(_: type[Gcf]) -> None:
    _end(list(_seen()), show=False)


# Otherwise a coroutine would draw into the figure of another one that waits, and close it.
_state: Any = Gcf
_state.get_active = classmethod(_get_active)
_state.destroy_all = classmethod(_destroy_all)
