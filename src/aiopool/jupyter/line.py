"""One line of progress under the cell that started the job."""

from __future__ import annotations

from collections.abc import Sequence

from aiopool.jupyter.cell import Cell
from aiopool.telemetry import Block, JobSnapshot, PoolSnapshot

BAR = 24
EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(snapshot: JobSnapshot) -> str:
    """A bar of blocks, or nothing where the total is not known."""
    if not snapshot.total:
        return ""
    eighths = round(8 * BAR * min(1.0, snapshot.finished / snapshot.total))
    full, rest = divmod(eighths, 8)
    return f"▕{('█' * full + (EIGHTHS[rest] if rest else '')).ljust(BAR)}▏ "


class Line:
    """A view that is one line of text under a cell, changed in place."""

    is_open = True

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._number = 0
        self._display_id = ""

    def begin(self, number: int) -> None:
        """Know the job by its number."""
        self._number = number

    def refresh(self, pool: PoolSnapshot, _: Sequence[Block]) -> None:
        """Show how far the job is."""
        for snapshot in pool.jobs:
            if snapshot.id == self._number:
                self._put(f"{bar(snapshot)}{snapshot}")

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave the last state, if there was time to show one."""
        if self._display_id:
            self._put(str(snapshot))

    def _put(self, text: str) -> None:
        self._display_id = self._cell.display(text, self._display_id)
