"""The room of the notebook: the only one that knows a cell, a kernel or IPython. Attached when a kernel runs."""

from __future__ import annotations

from aiopool import telemetry

_attached: list[object] = []


def attach() -> None:
    """Let jobs show themselves under the cells of the kernel that runs in this process; nothing where none runs."""
    from aiopool.jupyter.cell import this_kernel  # IPython is imported by those who attach only
    from aiopool.jupyter.cells import Cells
    from aiopool.jupyter.line import Line
    from aiopool.jupyter.shutdown import end_pools_first
    from aiopool.jupyter.tracebacks import end_at_users_lines
    from aiopool.readers import watch_readers

    kernel = this_kernel()
    if kernel is None or kernel in _attached:
        return
    _attached.append(kernel)
    cells = Cells(kernel)

    def surface(_: str, progress: telemetry.Progress) -> Line:
        cell, owner = cells.here()
        return Line(cell, owner, wanted=bool(progress))

    telemetry.use_surfaces(surface)
    watch_readers(cells.watch)
    end_at_users_lines(kernel.shell)
    end_pools_first(kernel)
