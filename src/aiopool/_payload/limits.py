"""What the cgroups of this process allow it: a container mostly has less than the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["CGROUP", "OWN_CGROUP", "groups", "memory_limit", "read_small"]

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60


def memory_limit(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> int | None:
    """Bytes of memory that this process, its children and the files they have in memory may take; None: any."""
    limits: list[int] = []
    for folder in groups(cgroup, own, "memory"):
        for file in ("memory.max", "memory.limit_in_bytes"):
            word = read_small(folder / file)
            if word.isdecimal() and 0 < int(word) < _UNLIMITED:
                limits.append(int(word))
    return min(limits, default=None)


def groups(cgroup: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of those around it, as far as they can be seen here.

    A container mostly sees its own as the root, whatever ``own`` calls it: folders that are not there limit nothing.
    """
    yield cgroup
    yield cgroup / controller
    for line in read_small(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree and names no controller; version 1 has one for each set of them, at its name.
        tree = cgroup / controllers
        group = tree / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(tree))


def read_small(path: Path) -> str:
    """What a file of the system's says; empty where there is none, or it may not be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
