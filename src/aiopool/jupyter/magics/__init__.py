"""What is typed after percent signs: ``%aiopool`` and ``%%aiopool``."""

from __future__ import annotations

from typing import Any

from aiopool.jupyter.magics import complete
from aiopool.jupyter.magics.cell import cell_magic, run_cell, run_cell_blocking
from aiopool.jupyter.magics.line import line_magic, misplaced
from aiopool.jupyter.magics.transform import Transformer

__all__ = ["register", "run_cell", "run_cell_blocking", "unregister"]

NAME = "aiopool"
MISPLACED = f"%{NAME}"


def register(shell: Any) -> None:
    """Have ``%aiopool`` and ``%%aiopool`` in this shell; a second time changes nothing."""
    shell.register_magic_function(line_magic, "line", NAME)
    shell.register_magic_function(cell_magic, "cell", NAME)
    # So IPython calls the `%%aiopool` of a line in the middle of a cell.
    shell.register_magic_function(misplaced, "line", MISPLACED)
    if not any(isinstance(each, Transformer) for each in shell.input_transformers_cleanup):
        # The first: it has to see the cell as it was written.
        shell.input_transformers_cleanup.insert(0, Transformer(shell))
    complete.install(shell)


def unregister(shell: Any) -> None:
    """Take both away."""
    for kind, name in (("line", NAME), ("cell", NAME), ("line", MISPLACED)):
        shell.magics_manager.magics[kind].pop(name, None)
    transformers = shell.input_transformers_cleanup
    transformers[:] = [each for each in transformers if not isinstance(each, Transformer)]
    complete.uninstall(shell)
