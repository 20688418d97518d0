"""The panel's own code on a screen that is none: its state is made and put into JSON, as for a browser."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aiopool.jupyter.view import JobView, panel_details, panel_state
from aiopool.pace import Pace
from aiopool.telemetry import Block, PoolSnapshot


class Screen:
    """Shows every job of a pool as a panel does, with its workers."""

    def __init__(self) -> None:
        self.is_open = False
        self.looks = 0
        self.size = 0
        self._paces: dict[int, Pace] = {}
        self._details: dict[str, str] = {}

    def refresh(self, pool: PoolSnapshot, _: Sequence[Block]) -> None:
        """Show how things are."""
        rows = [
            JobView(key=str(job.id), snapshot=job, rate=self._paces.setdefault(job.id, Pace()).note(job))
            for job in pool.jobs
        ]
        message = json.dumps(panel_state(rows, [pool]))
        details = panel_details(rows)
        if details != self._details:
            self._details = details
            message += json.dumps(details)
        self.looks += 1
        self.size = max(self.size, len(message))
