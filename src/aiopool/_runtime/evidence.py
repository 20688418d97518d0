"""Whether the system ran out of memory when a worker died: by what it has counted, never by what would fit.

Whoever the kernel's out-of-memory killer picks dies of a SIGKILL like any other. But it counts its victims: in the
victim's control group, and for the whole machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from aiopool._runtime import machine
from aiopool.telemetry import size

VMSTAT = Path("/proc/vmstat")

FRESH_SECONDS = 5.0
"""For how long a victim that was counted may be the worker whose death is looked into."""

NEAR = 0.85
"""The part of the memory there is, from which on a death may be guessed to come from it where nobody counts."""

ADVICE = "use fewer workers or smaller items, or set max_memory_per_worker"


class Evidence:
    """Watches the counters. On the pool's own thread."""

    def __init__(
        self, now: float, cgroup: Path = machine.CGROUP, own: Path = machine.OWN_CGROUP, vmstat: Path = VMSTAT
    ) -> None:
        self._cgroup = cgroup
        self._own = own
        self._counter = next(_counters(cgroup, own, vmstat), None)
        self._count = self._read()
        self._victims: deque[float] = deque(maxlen=64)
        self.look(now)

    def _read(self) -> int:
        return (_count(self._counter) or 0) if self._counter is not None else 0

    def look(self, now: float) -> None:
        """Note how many were killed since the last look."""
        count = self._read()
        self._victims.extend([now] * min(count - self._count, 64))
        self._count = count

    def hint(self, now: float, memory: int | None, together: int) -> str:
        """What points at memory, of a worker that was ended by a SIGKILL which nobody here had ordered; else empty.

        ``memory`` is what it took, and ``together`` what all of the pool's workers took when they were looked at last,
        in bytes. A victim explains one death.
        """
        self.look(now)
        while self._victims and self._victims[0] < now - FRESH_SECONDS:
            self._victims.popleft()
        if self._victims:
            self._victims.popleft()
            return self._told(memory)
        return self._guess(together) if self._counter is None else ""

    def _told(self, memory: int | None) -> str:
        where, limit = self._limit()
        took = f"the worker took {size(memory)}, " if memory is not None else ""
        return (
            f"The system's out-of-memory killer ended a process of this {where} at that time; "
            f"{took}the {where} has {size(limit)}: {ADVICE}."
        )

    def _guess(self, together: int) -> str:
        where, limit = self._limit()
        if together < NEAR * limit:
            return ""
        return (
            f"A guess: this {where} may have run out of memory. When last looked at, all workers together took "
            f"{size(together)} of its {size(limit)}; if that was it, {ADVICE}."
        )

    def _limit(self) -> tuple[str, int]:
        limit = machine.usable_memory(self._cgroup, self._own)
        return ("container" if limit < machine.total_memory() else "machine"), limit


def _counters(cgroup: Path, own: Path, vmstat: Path) -> Iterator[Path]:
    """The files that count victims, the one that says most first.

    A victim is counted in its own group, whoever ran out of memory. So where that can be read nothing else counts:
    the machine's number is about everybody's processes.
    """
    # The first two are the roots, as a container sees them.
    root, own_root, *inner = machine.groups(cgroup, own, "memory")
    for folder in (*inner, own_root, root):
        yield from (
            file for name in ("memory.events", "memory.oom_control") if _count(file := folder / name) is not None
        )
    if _count(vmstat) is not None:
        yield vmstat


def _count(file: Path) -> int | None:
    """How many processes were killed, by a file of lines such as ``oom_kill 3``; None where it does not say."""
    for line in machine.read_small(file).splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdecimal():
            return int(number)
    return None
