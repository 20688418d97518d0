"""Running scripts in fresh interpreters, as a user would from a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

import aiopool
from tests import without
from tests.pool.board import DEADLINE, until

SRC = str(Path(aiopool.__file__).parents[1])


def environment(**more: str) -> dict[str, str]:
    """The environment of a script that finds aiopool, and nothing of the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COVERAGE"))}
    return {**kept, "PYTHONPATH": without.python_path(SRC), **more}


def script(folder: Path, source: str, name: str = "script.py") -> Path:
    """Write a script."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))
    return file


def start(*arguments: str | Path, cwd: Path, **options: object) -> subprocess.Popen[str]:
    """Start Python with these arguments."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, *map(str, arguments)], cwd=cwd, env=environment(), **options)  # type: ignore[call-overload,no-any-return]


def run(*arguments: str | Path, cwd: Path, stdin: str | None = None) -> str:
    """Run Python with these arguments to a good end, without a word on standard error; what it printed."""
    process = start(*arguments, cwd=cwd, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
    try:
        out, err = process.communicate(stdin, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise TimeoutError(f"the script did not end; it had said:\n{out}\n{err}") from None
    assert (process.returncode, beside_progress(err)) == (0, ""), f"{process.returncode}\n{out}\n{err}"
    return out


def beside_progress(err: str) -> str:
    """What stands on standard error, but for lines that say how far a job is.

    On a machine that is busy with other things any job may take so long that it says so.
    """
    return re.sub(r"^\S+: [\d,]+ (of [\d,]+|done|so far)(, .*)?\n", "", err, flags=re.MULTILINE)


def gone(pids: list[int], seconds: float) -> None:
    """Wait until none of these processes is left."""
    until(lambda: not [pid for pid in pids if alive(pid)], seconds, f"the processes {pids} are gone")


def alive(pid: int) -> bool:
    """Whether a process is there and is not a zombie that nobody has reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
