"""The fault suite, again and again: what fails once in twenty runs is a bug, too."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak.report import Report

ROOT = Path(__file__).resolve().parents[2]
SUITE = "tests/faults"
RUN_SECONDS = 1200.0
AT_ONCE = max(1, min(2, os.cpu_count() or 1))
"""Runs of the suite at the same time: most of it waits, and a fault comes while others have the processor, too."""


@dataclass
class Run:
    """One run of the suite: how long it took, and each test."""

    number: int
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: int = 0


def run(count: int, select: str = "") -> Report:
    """Run the folder so often; ``select`` is pytest's ``-k``."""
    report = Report("faults")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = list(threads.map(lambda number: _run(number, select), range(1, count + 1)))
    for one in runs:
        report.time("a run of the suite", one.seconds)
        report.count("faults", len(one.times))
        report.count("skipped", one.skipped)
        for seconds in one.times:
            report.time("a fault", seconds)
    failed = [f"{test} in run {one.number}" for one in runs for test in one.failed]
    report.promise("every fault is survived every time", kept=not failed, found="; ".join(failed) or f"{count} runs")
    return report


def _run(number: int, select: str) -> Run:
    found = Run(number)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        results = Path(name, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", SUITE]
        begun = time.monotonic()
        try:
            ended = subprocess.run(
                [*command, *(["-k", select] if select else [])],
                cwd=ROOT,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            found.failed.append(f"the suite did not end within {RUN_SECONDS:g} s")
            return found
        found.seconds = time.monotonic() - begun
        _read(results, found)
        if ended.returncode and not found.failed:
            found.failed.append(f"the suite ended with {ended.returncode}")
        if found.failed:
            # In one piece: another run may print, too.
            print(f"--- run {number}\n{ended.stdout}", flush=True)
    return found


def _read(results: Path, found: Run) -> None:
    if not results.exists():
        return
    for case in ET.parse(results).iter("testcase"):
        if case.find("skipped") is not None:
            found.skipped += 1
            continue
        found.times.append(float(case.get("time", "0")))
        if case.find("failure") is not None or case.find("error") is not None:
            found.failed.append(f"{case.get('classname')}::{case.get('name')}")
