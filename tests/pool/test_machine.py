"""How many workers a machine bears, by faked files of control groups, ``CPU_LIMIT`` and CPU affinity."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from aiopool import Pool
from aiopool._runtime import machine

MB = 1024 * 1024


@pytest.fixture(autouse=True)
def a_machine_of_32_cores_and_64_gb(monkeypatch):
    """Nothing of the machine that the tests run on counts."""
    monkeypatch.setattr(machine, "usable_cpus", lambda: 32)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=65536 * MB))
    monkeypatch.delenv("CPU_LIMIT", raising=False)


@pytest.fixture
def workers(tmp_path) -> Callable[..., int]:
    """``workers({"cpu.max": "200000 100000"}, own="0::/a")``: the default, with these files under /sys/fs/cgroup."""

    def count(files: dict[str, str | bytes], own: str | None = "0::/\n") -> int:
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
        if own is not None:
            (tmp_path / "own").write_text(own)
        return machine.default_workers(tmp_path / "cgroup", tmp_path / "own")

    return count


def test_without_limits_it_is_one_worker_for_each_cpu(workers):
    """Neither files nor folders are there, as on macOS."""
    assert workers({}, own=None) == 32


def test_a_sandbox_without_proc_has_the_memory_that_the_c_library_tells_of(workers, monkeypatch):
    """Psutil reads a file there."""

    def absent() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", absent)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2048 * 256, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert machine.total_memory() == 2048 * MB
    assert workers({}, own=None) == 4


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 32),
        ({"cpu.max": "6400000 100000"}, 32),
        ({"memory.max": str(2048 * MB)}, 4),
        ({"memory.max": str(100 * MB)}, 1),
        ({"memory.max": "max"}, 32),
        ({"cpu.max": "800000 100000", "memory.max": str(3000 * MB)}, 5),
    ],
)
def test_the_quota_of_a_container_of_version_2(workers, files, expected):
    """The container sees its own group as the root."""
    assert workers(files) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 32),
        ({"cpu/cpu.cfs_quota_us": "10000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"memory/memory.limit_in_bytes": str(1024 * MB)}, 2),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 32),
    ],
)
def test_the_quota_of_a_container_of_version_1(workers, files, expected):
    """There, no limit is -1, or more memory than there can be."""
    assert workers(files, own="4:memory:/docker/1234\n3:cpu,cpuacct:/docker/1234\n") == expected


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ({"user.slice/a.scope/cpu.max": "300000 100000"}, "0::/user.slice/a.scope"),
        (
            {"user.slice/cpu.max": "300000 100000", "user.slice/a.scope/cpu.max": "max 100000"},
            "0::/user.slice/a.scope",
        ),
        (
            {"user.slice/cpu.max": "300000 100000", "user.slice/a.scope/cpu.max": "900000 100000"},
            "0::/user.slice/a.scope",
        ),
        (
            {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000"},
            "7:memory:/x\n3:cpu,cpuacct:/a/b\n1:name=systemd:/c\n",
        ),
        ({"memory/a/memory.limit_in_bytes": str(1536 * MB)}, "7:memory:/a/b\n3:cpu,cpuacct:/\n"),
        ({"a/memory.max": str(1536 * MB), "a/b/memory.max": "max"}, "0::/a/b"),
    ],
)
def test_the_least_limit_of_the_groups_around_counts(workers, files, own):
    """A limit may stand on this process's own group, or on any that it is in."""
    assert workers(files, own) == 3


def test_limits_of_other_groups_do_not_count(workers):
    """Those of neighbours, and of other controllers."""
    files = {"b/cpu.max": "100000 100000", "a/c/cpu.max": "100000 100000", "a/cpu.max": "max 100000"}
    assert workers(files, "0::/a/b") == 32
    assert workers({"memory/x/cpu.max": "100000 100000"}, "4:memory:/x\n3:cpu:/y\n") == 32


@pytest.mark.parametrize("garbage", ["", "max", "a b", "1 0", "1.5 2", "-1 -1", "1 2 3", "0x10 1", b"\xff\xfe \x00"])
def test_files_that_say_nothing_limit_nothing(workers, garbage):
    """Empty, cut, or something else than this version of the format."""
    names = ["cpu.max", "memory.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "memory/memory.limit_in_bytes"]
    assert workers(dict.fromkeys(names, garbage), own="nonsense\n::\n:\n\n0::relative/../..\n") == 32


@pytest.mark.parametrize(
    ("limit", "expected"), [("2", 2), ("2.5", 2), ("0.5", 1), ("64", 32), ("0", 32), ("-1", 32), ("", 32), ("x", 32)]
)
def test_the_limit_that_a_hub_has_set_counts(workers, monkeypatch, limit, expected):
    """``CPU_LIMIT``, in cores; what is no number limits nothing."""
    monkeypatch.setenv("CPU_LIMIT", limit)
    assert workers({}) == expected


def test_the_least_of_all_limits_counts(workers, monkeypatch):
    """Whichever it is."""
    files = {"cpu.max": "600000 100000", "memory.max": str(2560 * MB)}
    assert workers(files) == 5
    monkeypatch.setenv("CPU_LIMIT", "4")
    assert workers(files) == 4
    monkeypatch.setattr(machine, "usable_cpus", lambda: 3)
    assert workers(files) == 3


def test_cpus_that_this_process_may_not_use_do_not_count(monkeypatch):
    """Affinity, where the platform has it; else all there are."""
    monkeypatch.undo()
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
        assert machine.usable_cpus() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert machine.usable_cpus() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_cpus() == 1


def test_the_cores_for_threads_are_those_for_workers_without_memory(workers, tmp_path, monkeypatch):
    """A core and a half is not rounded: it is shared by workers first."""
    monkeypatch.setenv("CPU_LIMIT", "6.5")
    workers({"memory.max": str(1024 * MB), "cpu.max": "750000 100000"})
    assert machine.usable_cores(tmp_path / "cgroup", tmp_path / "own") == 6.5


def test_a_pool_that_says_nothing_has_that_many_workers(monkeypatch):
    """And none of them is started for it."""
    monkeypatch.setattr("aiopool.pool.default_workers", lambda: 5)
    with Pool() as pool:
        assert pool.size == 5
        assert pool.snapshot().workers == ()


def test_this_machine_bears_at_least_one_worker(monkeypatch):
    """And no more than it has CPUs; with its real files."""
    monkeypatch.undo()
    assert 1 <= machine.default_workers() <= (os.cpu_count() or 1)
