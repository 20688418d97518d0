"""Run the parts of the soak, each in a process of its own, print what they found, and write it down.

::

    make soak                                  # under half an hour
    make soak SOAK=full                        # the large figures: hours
    make soak SOAK=quick                       # two minutes, to try it out
    python -m benchmarks.soak quick --only kills cycles --seed 7
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.report import Report, lines

ROOT = Path(__file__).resolve().parents[2]
INTO = ROOT / "build" / "soak.json"


@dataclass(frozen=True)
class Size:
    """How often and how long; ``select`` is which of the faults."""

    faults: int
    cycles: int
    restarts: int
    kills: float
    select: str = ""
    limit: float = 3600.0


SIZES = {
    "quick": Size(faults=1, cycles=40, restarts=4, kills=30.0, select="test_deaths", limit=300.0),
    "plain": Size(faults=5, cycles=1_000, restarts=20, kills=600.0),
    "full": Size(faults=20, cycles=10_000, restarts=100, kills=600.0, limit=4 * 3600.0),
}


def _faults(size: Size, _: int) -> Report:
    from benchmarks.soak import faults

    return faults.run(size.faults, size.select)


def _cycles(size: Size, _: int) -> Report:
    from benchmarks.soak import cycles

    return cycles.run(size.cycles)


def _restarts(size: Size, _: int) -> Report:
    from benchmarks.soak import restarts

    return restarts.run(size.restarts)


def _kills(size: Size, seed: int) -> Report:
    from benchmarks.soak import kills

    return kills.run(size.kills, seed)


PARTS: dict[str, Callable[[Size, int], Report]] = {
    "kills": _kills,
    "cycles": _cycles,
    "restarts": _restarts,
    "faults": _faults,
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", choices=SIZES, default="plain")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="only these parts")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="for the moments of the kills")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(part: str, size: str, seed: int) -> dict[str, Any]:
    """Run one part in a process and a process group of its own, and bring back what it found."""
    into = INTO.with_name(f"soak-{part}.json")
    into.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.soak", size, "--part", part, "--seed", str(seed), "--into", str(into)]
    # Workers that crash say so at length: that is for whoever wants to know.
    said = into.with_suffix(".log")
    with said.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    why = ""
    try:
        process.wait(SIZES[size].limit)
    except subprocess.TimeoutExpired:
        why = f"did not end within {SIZES[size].limit:g} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not into.exists():
        broken = [f"the part {why or f'ended with {process.returncode}'}, without a report: {said.read_text()[-2000:]}"]
        return {"part": part, "counts": {}, "times": {}, "kept": [], "broken": broken}
    data: dict[str, Any] = json.loads(into.read_text())
    into.unlink()
    if data["broken"]:
        data["counts"]["what the part printed"] = str(said.relative_to(ROOT))
    if why:
        data["broken"].append(f"the part {why}")
    return data


def main() -> int:
    """Run them; 1 if a promise was broken."""
    wanted = arguments()
    if wanted.part:
        wanted.into.write_text(json.dumps(PARTS[wanted.part](SIZES[wanted.size], wanted.seed).as_data()))
        return 0
    INTO.parent.mkdir(exist_ok=True)
    begun = time.monotonic()
    parts: list[dict[str, Any]] = []
    found: dict[str, Any] = {
        "size": wanted.size,
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}",
        "machine": f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "parts": parts,
    }
    for part in wanted.only:
        started = time.monotonic()
        parts.append(in_process(part, wanted.size, wanted.seed))
        parts[-1]["minutes"] = round((time.monotonic() - started) / 60, 1)
        print(*lines(parts[-1]), sep="\n", flush=True)
        found["minutes"] = round((time.monotonic() - begun) / 60, 1)
        INTO.write_text(json.dumps(found, indent=1) + "\n")
    broken = [text for part in parts for text in part["broken"]]
    print(f"\n{wanted.size}, {found['minutes']} minutes: {len(broken)} promises broken. Figures in build/soak.json")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
