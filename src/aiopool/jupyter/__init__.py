"""The room of the notebook: the only one that knows a cell, a kernel or IPython. Attached when a kernel runs."""

from __future__ import annotations

from aiopool import telemetry


def attach() -> None:
    """Let jobs show themselves under the cells of the kernel that runs in this process; nothing where none runs."""
    from aiopool.jupyter.cell import this_kernel  # IPython is imported by those who attach only
    from aiopool.jupyter.line import line_surface
    from aiopool.jupyter.shutdown import end_pools_first
    from aiopool.jupyter.tracebacks import end_at_users_lines

    kernel = this_kernel()
    if kernel is not None and not telemetry.uses(line_surface):
        telemetry.use_surfaces(line_surface)
        end_at_users_lines(kernel.shell)
        end_pools_first(kernel)
