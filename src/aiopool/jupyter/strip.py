"""What the workers of a pool did in the last minutes, in so few blocks that a browser can be told all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from aiopool.telemetry import Block

__all__ = ["Strip"]

MOST = 600
FINEST = 0.25
"""Seconds: neighbours that are together no longer than that become one block; with many workers, longer ones, too."""


class Strip:
    """Keeps blocks of the last ``span`` seconds, ``most`` of them: short neighbours of one job and worker are joined.

    Those with failures are joined with each other only, so that one that failed does not taint a thousand.
    """

    def __init__(self, span: float = 120.0, most: int = MOST) -> None:
        self.span = span
        self._most = most
        self._grain = FINEST
        self._rows: dict[tuple[int, int, bool], list[Block]] = {}

    def add(self, blocks: Iterable[Block], now: float) -> None:
        """Take what has been done since the last time, and let go of what is older than the span."""
        for block in blocks:
            self._put(block)
        since = now - self.span
        rows = ((key, [block for block in row if block.end > since]) for key, row in self._rows.items())
        self._rows = {key: row for key, row in rows if row}
        # Doubled until the blocks fit, at the latest when every row is one block; rows themselves are bounded last.
        while self._count() > self._most and self._grain < self.span:
            self._grain *= 2
            kept, self._rows = self._rows, {}
            for row in kept.values():
                for block in row:
                    self._put(block)
        if self._grain > FINEST and self._count() < self._most // 4:
            self._grain /= 2

    def blocks(self) -> list[Block]:
        """Those that are kept, the oldest first; where rows alone are too many, the youngest."""
        kept = sorted((block for row in self._rows.values() for block in row), key=lambda block: block.start)
        return kept[-self._most :]

    def _count(self) -> int:
        return sum(map(len, self._rows.values()))

    def _put(self, block: Block) -> None:
        row = self._rows.setdefault((block.worker, block.job, block.failed > 0), [])
        if row and self._is_one(row[-1], block):
            last = row[-1]
            row[-1] = dataclasses.replace(
                last,
                item=min(last.item, block.item),
                count=last.count + block.count,
                failed=last.failed + block.failed,
                start=min(last.start, block.start),
                end=max(last.end, block.end),
            )
        else:
            row.append(block)

    def _is_one(self, last: Block, block: Block) -> bool:
        return max(last.end, block.end) - min(last.start, block.start) <= self._grain
