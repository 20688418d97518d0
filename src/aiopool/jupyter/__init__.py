"""The room of the notebook: the only one that knows a cell, a kernel or IPython. Attached when a kernel runs."""

from __future__ import annotations

import functools
import os
from typing import Any

from aiopool import surfaces

_attached: list[object] = []


def add_magics(shell: Any) -> None:
    """Have ``%aiopool`` and ``%%aiopool`` in this shell."""
    from aiopool.jupyter.magics import register

    register(shell)
    # In a terminal nothing is attached, but errors are to be shown as well as in a kernel.
    if getattr(shell, "kernel", None) is None and shell not in _attached:
        _attached.append(shell)
        _point_at_cells(shell)


def _point_at_cells(shell: Any) -> None:
    from aiopool.jupyter.tracebacks import end_at_users_lines, name_of_cell
    from aiopool.stacks import name_cells

    end_at_users_lines(shell)
    name_cells(functools.partial(name_of_cell, shell))


def _show_figures(shell: Any) -> None:
    """Show a figure that workers have made as a picture, also where nothing was drawn here, which would see to it.

    What matplotlib's own backend for notebooks does when it is loaded takes the place of this.
    """
    kind = "matplotlib.figure", "Figure"
    formatters = shell.display_formatter.formatters
    if not any(formatter.for_type_by_name(*kind) for formatter in formatters.values()):
        formatters["image/png"].for_type_by_name(*kind, _picture)


def _picture(figure: Any) -> Any:
    from IPython.core import pylabtools  # a moment that only those wait for who have figures

    tools: Any = pylabtools
    return tools.print_figure(figure, "png", base64=True)


def remove_magics(shell: Any) -> None:
    """Take them away."""
    from aiopool.jupyter.magics import unregister

    unregister(shell)


def attach() -> None:
    """Let jobs show themselves under the cells of the kernel that runs in this process; nothing where none runs."""
    from aiopool._runtime.waits import watch_waits
    from aiopool.job import Job
    from aiopool.jupyter.cell import this_kernel  # IPython is imported by those who attach only
    from aiopool.jupyter.cells import Cells
    from aiopool.jupyter.shutdown import end_pools_first
    from aiopool.jupyter.surface import CellSurface, show_job
    from aiopool.readers import watch_readers

    kernel = this_kernel()
    if kernel is None or kernel in _attached:
        return
    _attached.append(kernel)
    cells = Cells(kernel)

    here = os.getpid()

    def surface(name: str, progress: surfaces.Progress, of_call: bool, as_one: bool) -> CellSurface | None:  # noqa: FBT001 - the same
        if os.getpid() != here:
            # A fork has no cell: the kernel sends nothing from it, and locks may be held by threads that it has not.
            return None
        cell, owner = cells.here()
        return CellSurface(name, progress, cell, owner, cells.stage, of_call=of_call, as_one=as_one)

    def dashboard(pool: Any, driver: Any) -> Any:
        from aiopool.jupyter.dashboard import dashboard_of  # imports ipywidgets, which takes a moment

        return dashboard_of(pool, driver, lambda: cells.is_busy)

    surfaces.use_surfaces(surface)
    surfaces.use_dashboards(dashboard)
    watch_readers(cells.watch)
    watch_waits(cells.attend)
    displayed = kernel.shell.display_formatter.ipython_display_formatter
    displayed.for_type(Job, lambda job: show_job(job, cells.stage, cells.here()[0]))
    _show_figures(kernel.shell)
    _point_at_cells(kernel.shell)
    end_pools_first(kernel)
