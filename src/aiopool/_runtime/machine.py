"""How many workers this machine bears: what the process may really use, not what the host has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from aiopool.options import cpu_limit

WORKER_BYTES = 512 * 1024 * 1024
"""Memory that one worker is counted with. A fresh one takes 20 MB; what the user imports takes the rest."""

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60


def default_workers(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """The least of: CPU affinity, the cgroup's quota, ``CPU_LIMIT``, memory / 512 MB; at least 1."""
    return max(1, int(min(usable_cores(cgroup, own), usable_memory(cgroup, own) / WORKER_BYTES)))


def usable_cores(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> float:
    """The least of: CPU affinity, the cgroup's quota, ``CPU_LIMIT``; at least 1."""
    limits = (float(usable_cpus()), cgroup_cpus(cgroup, own), cpu_limit())
    return max(1.0, min(limit for limit in limits if limit is not None))


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_cpus(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> float | None:
    """The least CPU quota of this process's cgroup and those around it, in cores.

    It is in version 2's ``cpu.max``, or in version 1's ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``.
    """
    limits: list[float] = []
    for folder in _groups(cgroup, own, "cpu"):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            words = " ".join(_read(folder / file) for file in files).split()
            if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
                limits.append(max(1.0, int(words[0]) / int(words[1])))
    return min(limits, default=None)


def usable_memory(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Bytes of memory that this process and its children may have: the machine's, or a cgroup's limit if lower."""
    import psutil  # who only maps inside a worker counts no workers

    limits = [int(psutil.virtual_memory().total)]
    for folder in _groups(cgroup, own, "memory"):
        for file in ("memory.max", "memory.limit_in_bytes"):
            word = _read(folder / file)
            if word.isdecimal() and 0 < int(word) < _UNLIMITED:
                limits.append(int(word))
    return min(limits)


def _groups(cgroup: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of those around it, as far as they can be seen here.

    A container mostly sees its own as the root, whatever ``own`` calls it: folders that are not there limit nothing.
    """
    yield cgroup
    yield cgroup / controller
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree and names no controller; version 1 has one for each set of them, at its name.
        tree = cgroup / controllers
        group = tree / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(tree))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
