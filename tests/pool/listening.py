"""A surface that remembers what came out of workers, for tests of what they print and display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiopool.surfaces import Displayed, Printed
from aiopool.telemetry import JobSnapshot


class Heard:
    """Everything that came, of all jobs, in order."""

    owner = None
    view = None

    def __init__(self) -> None:
        self.all: list[Printed | Displayed] = []
        self.closed: list[JobSnapshot] = []

    @property
    def lines(self) -> list[Printed]:
        """The lines."""
        return [each for each in self.all if isinstance(each, Printed)]

    @property
    def displays(self) -> list[Displayed]:
        """What was displayed."""
        return [each for each in self.all if isinstance(each, Displayed)]

    @property
    def notes(self) -> list[str]:
        """What the pool itself has said."""
        return [line.text for line in self.lines if line.name]

    def of(self, item: int | None) -> list[str]:
        """The lines of an item; None: of workers."""
        return [line.text for line in self.lines if line.item == item and not line.name]

    def write(self, lines: Sequence[Printed]) -> None:
        """Take lines."""
        self.all += lines

    def display(self, shown: Displayed) -> None:
        """Take a display."""
        self.all.append(shown)

    def close(self, snapshot: JobSnapshot) -> None:
        """Take the end."""
        self.closed.append(snapshot)

    def _ignore(self, *_: Any) -> None:
        """Nothing else is of interest."""

    hold = begin = amend = complain = _ignore
