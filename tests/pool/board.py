"""A board that processes write on: how a test learns what happened in workers, and how it holds items back.

Standard library only, because workers import it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 40.0
"""Seconds after which whatever a test waits for will not come any more."""

LOOK_EVERY = 0.002


class NeverCame(TimeoutError):
    """What a test waited for did not happen in time."""


def until(condition: Callable[[], object], seconds: float = DEADLINE, what: str = "") -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise NeverCame(f"not within {seconds} s: {what or condition}")
        time.sleep(LOOK_EVERY)


def stays(condition: Callable[[], object], seconds: float, what: str = "") -> None:
    """See that something remains true for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"it did not stay: {what or condition}"
        time.sleep(LOOK_EVERY)


class Board:
    """A folder. A topic is a file, and each mark one line of it, written in a single append."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def _file(self, topic: str) -> Path:
        return self.folder / f"{topic}.board"

    def mark(self, topic: str, text: object = "") -> None:
        """Write a line under a topic."""
        fd = os.open(self._file(topic), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, f"{text}\n".encode())
        finally:
            os.close(fd)

    def marks(self, topic: str) -> list[str]:
        """All lines of a topic, in the order in which they were written."""
        file = self._file(topic)
        return file.read_text().splitlines() if file.exists() else []

    def wait(self, topic: str, times: int = 1, seconds: float = DEADLINE) -> list[str]:
        """Wait until a topic has so many lines."""
        until(lambda: len(self.marks(topic)) >= times, seconds, f"{times} marks of {topic!r}")
        return self.marks(topic)

    async def wait_async(self, topic: str, times: int = 1, seconds: float = DEADLINE) -> list[str]:
        """Wait, while the loop turns."""
        deadline = time.monotonic() + seconds
        while len(self.marks(topic)) < times:
            if time.monotonic() >= deadline:
                raise NeverCame(f"not within {seconds} s: {times} marks of {topic!r}")
            await asyncio.sleep(LOOK_EVERY)
        return self.marks(topic)

    @contextmanager
    def counted(self, topic: str) -> Iterator[None]:
        """Count whoever is inside, from whatever process; :meth:`most` tells how many there were at once."""
        self.mark(topic, "+1")
        try:
            yield
        finally:
            self.mark(topic, "-1")

    def most(self, topic: str) -> int:
        """How many were inside at the same time, at most."""
        inside = most = 0
        for line in self.marks(topic):
            inside += int(line)
            most = max(most, inside)
        return most
