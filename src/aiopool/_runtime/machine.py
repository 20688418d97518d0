"""How many workers this machine bears: what the process may really use, not what the host has."""

from __future__ import annotations

import os
from pathlib import Path

from aiopool._payload.limits import CGROUP, OWN_CGROUP, groups, memory_limit, read_small
from aiopool.options import cpu_limit

__all__ = [
    "CGROUP",
    "OWN_CGROUP",
    "WORKER_BYTES",
    "cgroup_cpus",
    "default_workers",
    "groups",
    "read_small",
    "total_memory",
    "usable_cores",
    "usable_cpus",
    "usable_memory",
]

WORKER_BYTES = 512 * 1024 * 1024
"""Memory that one worker is counted with. A fresh one takes 20 MB; what the user imports takes the rest."""


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
    for folder in groups(cgroup, own, "cpu"):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            words = " ".join(read_small(folder / file) for file in files).split()
            if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
                limits.append(max(1.0, int(words[0]) / int(words[1])))
    return min(limits, default=None)


def usable_memory(cgroup: Path = CGROUP, own: Path = OWN_CGROUP) -> int:
    """Bytes of memory that this process and its children may have: the machine's, or a cgroup's limit if lower."""
    total = total_memory()
    return min(total, memory_limit(cgroup, own) or total)


def total_memory() -> int:
    """Bytes of memory that the machine has."""
    import psutil  # who only maps inside a worker counts no workers

    try:
        return int(psutil.virtual_memory().total)
    except OSError:
        # A sandbox without /proc.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
