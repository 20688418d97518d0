"""What a user's type checker says: the types of results, and the mistakes that it finds. See ``cases.py``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SOURCE = PROJECT / "src"
CASES = (HERE / "cases.py").read_text(encoding="utf-8")
IGNORED = re.compile(r"  # type: ignore\[[\w-]+\]")

CHECKERS = {
    "mypy": ["mypy", "--strict", f"--config-file={PROJECT / 'pyproject.toml'}", "--cache-dir={folder}", "cases.py"],
    "pyright": ["pyright", "--project", ".", "--pythonpath", sys.executable],
}


def check(checker: str, folder: Path, cases: str) -> tuple[int, list[int]]:
    """Run a checker over the cases in a fresh folder: its exit code, and the lines in which it found something."""
    (folder / "cases.py").write_text(cases, encoding="utf-8")
    config = (HERE / "pyrightconfig.json").read_text(encoding="utf-8").replace("../../src", str(SOURCE))
    (folder / "pyrightconfig.json").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", *(part.format(folder=folder / "cache") for part in CHECKERS[checker])]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    found = {int(line) for line in re.findall(r"cases\.py:(\d+)\b.*\berror\b", done.stdout)}
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return done.returncode, sorted(found)


@pytest.mark.parametrize("checker", CHECKERS)
def test_results_have_the_types_of_what_comes_out(checker, tmp_path):
    """Lists of what the function returns, with Failure only where failures stand in; no ignore too many."""
    assert check(checker, tmp_path, CASES) == (0, [])


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_found_before_anything_runs(checker, tmp_path):
    """Items that do not fit the function, options that do not exist, values that cannot be: an error each."""
    mistakes = [number for number, line in enumerate(CASES.splitlines(), 1) if IGNORED.search(line)]
    assert len(mistakes) > 10
    assert check(checker, tmp_path, IGNORED.sub("", CASES)) == (1, mistakes)
