"""The processes of contenders: started, told to measure, put to rest while it is another one's turn, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed.subjects import Contender, Size, Subject

ROOT = Path(__file__).resolve().parents[2]
COOKIE = "BENCH_SEAT"
NOT_THEIRS = ("JPY_", "PYTHONDONTWRITEBYTECODE")
START_SECONDS = 60.0
END_SECONDS = 8.0
SETTLE = 0.03
"""Seconds between waking and measuring, in which timers that ran out meanwhile have their say."""


class Failed(Exception):
    """A contender could not be measured, and why."""


class Seat:
    """One contender, and whatever processes it starts."""

    def __init__(self, subject: Subject, contender: Contender, size: Size, log: Path) -> None:
        self._log = log
        self._limit = subject.limit
        self._cookie = uuid.uuid4().hex
        self._stopped: list[psutil.Process] = []
        self._answers, theirs = os.pipe()
        self._buffer = b""
        command = [sys.executable, "-m", "benchmarks.speed.one", subject.key, contender.title, size, str(theirs)]
        # What a session of Jupyter around us has set is not for the kernels that are measured.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment | {COOKIE: self._cookie},
                pass_fds=(theirs,),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        os.close(theirs)

    def ready(self) -> None:
        """Wait until it is."""
        self._answer(START_SECONDS)

    def begin(self) -> None:
        """Have it measure once."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._died()) from None

    def metrics(self) -> dict[str, float]:
        """What it measured."""
        found: dict[str, float] = self._answer(self._limit)["metrics"]
        return found

    def rest(self) -> None:
        """Stop it, so that a pool that is never quite idle does not disturb whose turn it is."""
        parent = psutil.Process(self._process.pid)
        # Parents first: nobody must see a child stand still.
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                process.suspend()
                self._stopped.append(process)

    def wake(self) -> None:
        """Let it go on."""
        if not self._stopped:
            return
        while self._stopped:
            with contextlib.suppress(psutil.Error):
                self._stopped.pop().resume()
        time.sleep(SETTLE)

    def dismiss(self) -> None:
        """Let it close its pool and end, and do not wait."""
        self.wake()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """See that it ends, and all that it has started, in its session or out of it."""
        self.dismiss()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        # multiprocessing's resource tracker last: it removes the semaphores of the others when these are gone.
        for last in (False, True):
            left = [process for process in psutil.process_iter() if self._is_mine(process)]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    if last or not any("resource_tracker" in word for word in process.cmdline()):
                        process.kill()
            psutil.wait_procs(left, timeout=1.0 if last else 0.2)
        self._process.wait()
        os.close(self._answers)

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(COOKIE) == self._cookie)
        except psutil.Error:
            return False  # It is gone, or another user's.

    def _answer(self, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise Failed(f"no answer within {seconds:g} s")
            data = os.read(self._answers, 65536)
            if not data:
                raise Failed(self._died())
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"].strip().splitlines()[-1])
        return answer

    def _died(self) -> str:
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"the program ended with {self._process.wait()}: {' '.join(said)}"
