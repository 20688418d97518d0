"""How many workers this machine bears: what the process may really use, not what the host has."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from aiopool.options import cpu_limit

WORKER_BYTES = 512 * 1024 * 1024
"""Memory that one worker is counted with. A fresh one takes 20 MB; what the user imports takes the rest."""

CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


def default_workers(cgroup: Path = CGROUP) -> int:
    """The least of: CPU affinity, the cgroup's quota, ``CPU_LIMIT``, memory / 512 MB; at least 1."""
    limits = [float(usable_cpus())]
    limits += [limit for limit in (cgroup_cpus(cgroup), cpu_limit()) if limit is not None]
    limits.append(usable_memory(cgroup) / WORKER_BYTES)
    return max(1, int(min(limits)))


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_cpus(cgroup: Path = CGROUP) -> float | None:
    """The CPU quota of this process's cgroup in cores: version 2's ``cpu.max`` or version 1's ``cpu.cfs_quota_us``."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        words = " ".join(_read(cgroup / file) for file in files).split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            return max(1.0, int(words[0]) / int(words[1]))
    return None


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this process and its children may have: the machine's, or the cgroup's limit if lower."""
    limits = [int(psutil.virtual_memory().total)]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        word = _read(cgroup / file)
        if word.isdecimal() and 0 < int(word) < _UNLIMITED:
            limits.append(int(word))
    return min(limits)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
