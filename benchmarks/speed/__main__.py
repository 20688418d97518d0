"""Measure, print, write.

::

    make bench                                     # all of it, into build/bench.json and the docs
    make bench QUICK=1                             # under three minutes; leaves the docs alone
    python -m benchmarks.speed --size quick --only coroutines submits
    python -m benchmarks.speed --page build/bench.json     # the page and the picture anew, from a run's figures
"""

from __future__ import annotations

import argparse
import compileall
import datetime as dt
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import aiopool
from benchmarks.speed import peers, picture, report
from benchmarks.speed.rounds import Course
from benchmarks.speed.subjects import OURS, SUBJECTS, Size, subject

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "performance.svg"
BUILD = ROOT / "build"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.FULL, help="how much, and how often")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="only these")
    parser.add_argument("--rounds", type=int, help="so many of each, whatever the size")
    parser.add_argument("--into", type=Path, default=BUILD / "bench.json", help="where the figures go")
    parser.add_argument("--page", type=Path, metavar="JSON", help="measure nothing: write the page from these figures")
    return parser.parse_args()


def processor() -> str:
    """Its name, where the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def described(size: Size) -> dict[str, Any]:
    """What there is to know about a run, beside its figures."""
    versions, missing = peers.all_versions()
    return {
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}",
        "size": str(size),
        "machine": f"{platform.system()}, {os.cpu_count()} cores ({processor()})",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
        "missing": missing,
    }


def compiled() -> None:
    """What is installed has its bytecode, what was just edited has not: no cold start shall pay for that."""
    for folder in (*aiopool.__path__, str(Path(__file__).parent)):
        compileall.compile_dir(folder, quiet=2)


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    """Subject after subject; the file has what is known so far, so that nothing is lost when one breaks off."""
    folder = BUILD / "bench-logs"
    folder.mkdir(parents=True, exist_ok=True)
    compiled()
    data = described(wanted.size)
    data["subjects"] = []
    begun = time.monotonic()
    for key in wanted.only:
        found = subject(key)
        started = time.monotonic()
        can, cannot = peers.present(found, wanted.size)
        measured = Course(found, wanted.size, folder).run(can, wanted.rounds or found.rounds[wanted.size])
        data["subjects"].append(report.as_data(found, measured.rounds, cannot | measured.failed))
        data["subjects"][-1]["seconds"] = round(time.monotonic() - started, 1)
        data["minutes"] = round((time.monotonic() - begun) / 60, 1)
        wanted.into.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(*report.lines(data["subjects"][-1]), sep="\n", flush=True)
    return data


def write(data: dict[str, Any], page: Path | None, into: Path) -> None:
    """The page's tables, and the picture."""
    if page is not None:
        text = report.replaced(page.read_text(encoding="utf-8"), report.page_text(data))
        page.write_text(text, encoding="utf-8")
        print(f"Written into {page}.")
    if not picture.parts(data):
        return  # Only what is told, as of one subject alone.
    try:
        picture.draw(data, into)
        print(f"Drawn into {into}.")
    except ImportError as error:
        print(f"No picture: {error}", file=sys.stderr)


def main() -> int:
    """Do what is wanted; 1 if ours could not be measured."""
    wanted = arguments()
    if wanted.page:
        write(json.loads(wanted.page.read_text(encoding="utf-8")), PAGE, PICTURE)
        return 0
    wanted.into.parent.mkdir(parents=True, exist_ok=True)
    data = measure(wanted)
    whole = wanted.size is Size.FULL and wanted.only == list(SUBJECTS)
    write(data, PAGE if whole else None, PICTURE if whole else wanted.into.with_suffix(".svg"))
    print(f"\n{report.summary(data)}; {data['minutes']:g} minutes. Figures in {wanted.into}")
    return int(any(title.startswith(OURS) for each in data["subjects"] for title in each["failed"]))


if __name__ == "__main__":
    sys.exit(main())
