"""Items that have not started, one behind the other, as they are handed to the main thread."""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopool._worker.work import BatchRun

__all__ = ["Stretch"]


class Stretch:
    """Items of a batch, one behind the other, that have not started.

    The main thread takes one by one: ``steps`` gives it the low half of the mark, and the payload, of a plain batch.
    ``position`` is that of the next one, where it has not begun to. Any thread may cut off what it has not taken. One
    iterator gives to both, each payload once, so an item is either started or cut off, never both.
    """

    __slots__ = ("_rest", "batch", "end", "position", "steps")

    def __init__(self, batch: BatchRun, position: int, payloads: list[Any] | range) -> None:
        self.batch = batch
        self.position = position
        self.end = position + len(payloads)
        self._rest = iter(payloads)
        self.steps = enumerate(self._rest, position + 1)

    @property
    def left(self) -> int:
        """How many were not taken."""
        return length_hint(self._rest)

    def cut(self) -> Stretch:
        """What was not taken, and will not be from here."""
        left = list(self._rest)
        return Stretch(self.batch, self.end - len(left), left)

    def split(self, count: int) -> tuple[Stretch, int]:
        """What was not taken, without up to ``count`` from its end; and how many these are."""
        left = list(self._rest)
        gone = min(count, len(left))
        first = self.end - len(left)
        return Stretch(self.batch, first, left[: len(left) - gone]), gone
