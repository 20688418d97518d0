"""One line of progress under the cell that started the job."""

from __future__ import annotations

from aiopool.jupyter.cell import Cell
from aiopool.telemetry import JobSnapshot, News

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
    """A surface that is one line of text, changed in place."""

    def __init__(self, cell: Cell, owner: str | None, *, wanted: bool) -> None:
        self.wanted = wanted
        self.owner = owner
        self._cell = cell
        self._display_id = ""

    def update(self, snapshot: JobSnapshot) -> None:
        """Show how far the job is."""
        self._put(f"{bar(snapshot)}{snapshot}")

    def close(self, snapshot: JobSnapshot) -> None:
        """Leave the last state, if there was time to show one."""
        if self._display_id:
            self._put(str(snapshot))

    def _put(self, text: str) -> None:
        self._display_id = self._cell.display(text, self._display_id)

    def write(self, worker: int, text: str) -> None:
        """Print the lines under the cell, with the worker's place in front."""
        self._cell.stream("".join(f"[{worker}] {line}\n" for line in text.splitlines()))

    def complain(self, news: News) -> None:
        """Say under the cell that the job has failed."""
        self._cell.tell(news)
