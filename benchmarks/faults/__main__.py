"""Every fault on every pool, each in a process of its own; the table goes to the screen and into the docs.

::

    make faults                                                  # all of it, some ten minutes
    python -m benchmarks.faults --peers .venv-peers/bin/python --pools aiopool loky --faults exits_at_once
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.faults.outcomes import HANG, OK, Outcome, orphans, replaced, table, worst
from benchmarks.faults.pools import POOLS, Adapter, Aiopool
from benchmarks.faults.scenes import FAULTS, START_SECONDS, is_orphaned

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "what-happens-when.md"
COOKIE = "FAULTS_RUN"
ORPHANS_AFTER = 5.0
TRACKER_SECONDS = 3.0
LOOK_EVERY = 0.02


class Run:
    """One cell of the table: its process, its folder, and whatever it starts."""

    def __init__(self, python: str, title: str, fault: str, folder: Path) -> None:
        self._folder = folder
        self._cookie = uuid.uuid4().hex
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if title == Aiopool.title:
            # Ours may stand in the source tree, uninstalled; the peers have nothing to do with that.
            environment["PYTHONPATH"] = str(ROOT / "src")
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-m", "benchmarks.faults.one", title, fault, str(folder)],
                cwd=ROOT,
                env=environment | {COOKIE: self._cookie, "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def outcome(self, deadline: float) -> Outcome:
        """Wait for what comes of it."""
        limit = START_SECONDS + 4 * deadline
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return Outcome(HANG, detail=f"the program itself did not end within {limit:g} s")
        file = self._folder / "outcome.json"
        if not file.exists():
            said = (self._folder / "output").read_text(errors="replace")[-2000:]
            return Outcome("?", detail=f"the program ended with {self.process.returncode}: {said}")
        found = json.loads(file.read_text())
        return Outcome(found["word"], found["seconds"], tuple(found["notes"]), found["detail"])

    def orphaned(self) -> Outcome:
        """Kill it when it is ready, and count whom it leaves behind."""
        file = self._folder / "pids"
        limit = time.monotonic() + START_SECONDS
        while not file.exists():
            if time.monotonic() > limit or self.process.poll() is not None:
                return self.outcome(0.0)
            time.sleep(LOOK_EVERY)
        workers = [psutil.Process(int(pid)) for pid in file.read_text().split()]
        self.process.kill()
        self.process.wait()
        until = time.monotonic() + ORPHANS_AFTER
        while any(map(_runs, workers)) and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
        return orphans(sum(map(_runs, workers)), len(workers))

    def clean(self) -> None:
        """Kill whatever it started, in its process group or out of it.

        But multiprocessing's resource tracker last: it removes the semaphores of the others when these are gone.
        """
        for last in (False, True):
            left = [process for process in psutil.process_iter() if self._is_mine(process)]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    if last or not any("resource_tracker" in word for word in process.cmdline()):
                        process.kill()
            self.process.wait()
            psutil.wait_procs(left, timeout=TRACKER_SECONDS)

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(COOKIE) == self._cookie)
        except psutil.Error:
            return False  # It is gone, or another user's.


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def measure(kind: type[Adapter], fault: str, python: str) -> Outcome:
    """Do one thing to one pool."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as name:
        run = Run(python, kind.title, fault, Path(name))
        try:
            return run.orphaned() if fault == is_orphaned.__name__ else run.outcome(kind.deadline)
        finally:
            run.clean()


def versions(python: str, kinds: list[type[Adapter]]) -> list[str]:
    """Ask an environment what it has."""
    names = [kind.distribution for kind in kinds if kind.distribution]
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]), sep='\\n')"
    found = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True).stdout.split()
    return [f"{name} {version}" for name, version in zip(names, found, strict=True)]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="the Python that has the other pools")
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS), help="only these")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="only these")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured: the worst is shown")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="cells that are measured at the same time")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if ours did not pass all."""
    wanted = arguments()
    cells = [(title, fault) for fault in wanted.faults for title in wanted.pools]
    pythons = {title: sys.executable if title == Aiopool.title else wanted.peers for title in wanted.pools}

    def run(cell: tuple[str, str]) -> Outcome:
        title, fault = cell
        outcomes = (measure(POOLS[title], fault, pythons[title]) for _ in range(wanted.times))
        # Ours may not be late either.
        outcome = worst(outcomes, hangs=1 if title == Aiopool.title else 2)
        print(f"{fault:24} {title:14} {outcome.word:5} {outcome.detail[-700:]}", flush=True)
        return outcome

    with ThreadPoolExecutor(wanted.at_once) as threads:
        outcomes = dict(zip(cells, threads.map(run, cells), strict=True))
    columns = {title: [outcomes[title, fault] for fault in wanted.faults] for title in wanted.pools}
    text = table([FAULTS[fault].title for fault in wanted.faults], columns, timed=Aiopool.title)
    peers = [POOLS[title] for title in wanted.pools if title != Aiopool.title]
    what = (
        f"Measured on {dt.datetime.now(dt.UTC):%Y-%m-%d}, {platform.system()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; each cell is the worst of {wanted.times}. "
        f"Versions: {', '.join(versions(wanted.peers, peers))}."
    )
    print(f"\n{text}\n\n{what}")
    if wanted.pools == list(POOLS) and wanted.faults == list(FAULTS):
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), f"{text}\n\n{what}"), encoding="utf-8")
        print(f"Written into {PAGE.relative_to(ROOT)}.")
    ours = columns.get(Aiopool.title, [])
    return int(any(outcome.word != OK for outcome in ours))


if __name__ == "__main__":
    sys.exit(main())
