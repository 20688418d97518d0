"""Kernels that are restarted while their workers are busy: it is quick, and no process is left."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
from tests.kernel.harness import Kernel, Signs, gone

from benchmarks.soak.cycles import named
from benchmarks.soak.report import Report

RESTART_SECONDS = 1.0
GONE_SECONDS = 2.0

BUSY = {
    "coroutines": "async def work(x):\n    sign(x)\n    await asyncio.sleep(3600)",
    "time.sleep": "def work(x):\n    sign(x)\n    time.sleep(3600)",
    "a Python loop": "def work(x):\n    sign(x)\n    while True:\n        pass",
    "a program": "def work(x):\n    import subprocess\n    sign(x)\n    subprocess.run(['sleep', '3600'])",
}


def run(count: int) -> Report:
    """Restart a kernel so often."""
    report = Report("restarts")
    left: list[str] = []
    names = named()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        kernel = Kernel(Path(name))
        try:
            for number in range(count):
                kind = list(BUSY)[number % len(BUSY)]
                signs = Signs(kernel, Path(name) / f"signs-{number}")
                kernel.run(BUSY[kind])
                kernel.run("job = pmap(work, range(2), batch=1)")
                signs.wait_for(2)
                children = kernel.children()
                report.time(f"restart, workers in {kind}", kernel.restart())
                report.count("restarts")
                try:
                    report.time(f"until no process is left, {kind}", gone(children, GONE_SECONDS))
                except BaseException as error:  # noqa: BLE001  # how the harness fails is pytest's own affair
                    left.append(f"after {number} restarts, {kind}: {error}")
                    _end(children)
        finally:
            kernel.close()
    report.promise("no process is left 2 s after a restart", kept=not left, found=left or "none was")
    report.promise("nothing is left in /dev/shm", kept=named() <= names, found=sorted(named() - names) or "nothing was")
    slowest = max(seconds for what, all_ in report.times.items() if what.startswith("restart") for seconds in all_)
    report.promise("a restart takes under 1 s", kept=slowest < RESTART_SECONDS, found=f"{slowest:.2f} s at most")
    return report


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()
