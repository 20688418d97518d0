"""A script in a terminal of its own, and the lines that its user sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.pool.board import DEADLINE
from tests.pool.scripts import environment

_MOVE = re.compile(r"\x1b\[(\d*)([A-Z])")


class Terminal:
    """Runs a script of Python. Use it as a context manager: nothing is left of it."""

    def __init__(self, script: Path, *, columns: int = 80, rows: int = 24, arguments: Sequence[str] = ()) -> None:
        self.columns = columns
        self._written = b""
        self._side, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=script.parent,
            env=environment(TERM="xterm", NO_COLOR="1"),
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._side)

    def press_ctrl_c(self) -> None:
        """Echo it, and interrupt the script and its workers, as a terminal does."""
        self._written += b"^C"
        os.killpg(self.process.pid, signal.SIGINT)

    def press(self, key: str) -> None:
        """Press a key that the terminal itself obeys, such as Ctrl-S."""
        os.write(self._side, key.encode())

    def until(self, there: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until the lines that are seen are so; returns them."""
        deadline = time.monotonic() + DEADLINE
        while not there(lines := self.lines()):
            assert time.monotonic() < deadline, f"{what} did not come; there is\n" + "\n".join(lines)
            assert self._read(0.1), f"the script ended without {what}; there is\n" + "\n".join(self.lines())
        return lines

    def finish(self) -> list[str]:
        """Wait for the end of the script; returns the lines that are seen then."""
        deadline = time.monotonic() + DEADLINE
        while self._read(0.1):
            assert time.monotonic() < deadline, "the script did not end; there is\n" + "\n".join(self.lines())
        self.process.wait(DEADLINE)
        return self.lines()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._side], [], [], seconds)[0]:
            return True
        try:
            read = os.read(self._side, 65536)
        except OSError:  # What Linux says for the end.
            return False
        self._written += read
        return bool(read)

    @property
    def written(self) -> str:
        """All that came, with what moves the cursor."""
        return self._written.decode()

    def lines(self) -> list[str]:
        """The lines as they are seen now in a terminal of endless height, without those that are empty at the end."""
        screen = _Screen(self.columns)
        screen.take(self._written.decode(errors="ignore"))
        lines = ["".join(line).rstrip() for line in screen.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class _Screen:
    """As much of a terminal as is needed; it fails where more is asked for."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[list[str]] = [[]]
        self._row = self._column = 0

    def take(self, text: str) -> None:
        """Show this."""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            move = _MOVE.match(text, at)
            if move is None:
                assert len(text) - at < 8, f"not known here: {text[at : at + 8]!r}"
                return  # The rest is still to come.
            self._move(move[2], int(move[1] or 0))
            at = move.end()

    def _move(self, kind: str, count: int) -> None:
        if kind == "A":
            self._row = max(0, self._row - (count or 1))
            return
        assert kind in "JK", kind
        del self.lines[self._row][self._column :]
        if kind == "J":
            del self.lines[self._row + 1 :]

    def _put(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._down()
        else:
            if self._column == self.columns:
                self._column = 0
                self._down()
            line = self.lines[self._row]
            line += " " * (self._column - len(line))
            line[self._column : self._column + 1] = [char]
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.lines):
            self.lines.append([])
