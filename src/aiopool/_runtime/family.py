"""The children that items have started, and theirs: they die with their worker, however it ends.

A worker is started with a cookie in its environment, which whoever descends from it inherits, also as a daemon in a
session of its own. Who has no such variable is nobody's: so a program is started that shall outlive its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from aiopool._runtime import reaper
from aiopool._runtime.environment import all_variables
from aiopool._runtime.reaper import VARIABLE

__all__ = ["VARIABLE", "Family", "interpreter", "marked", "new_cookie", "reaper_command", "reaper_line"]

log = logging.getLogger("aiopool")

LOOK_EVERY = 0.005
MOST_STARTS = 5
LONGEST_SECONDS = 1.0
"""How long a death may remain undeclared because somebody of the family cannot be killed."""


def new_cookie() -> str:
    """What one worker and its descendants are known by."""
    return os.urandom(8).hex()


def interpreter() -> str:
    """What workers are started with: as for ``multiprocessing``, which is not imported only to be asked."""
    spawn = sys.modules.get("multiprocessing.spawn")
    return os.fsdecode(spawn.get_executable() if spawn is not None else sys.executable)


def marked(variables: Mapping[str, str], cookie: str) -> dict[str, str]:
    """The variables, with this cookie beside those of the workers that this process is itself under."""
    outer = os.environ.get(VARIABLE)
    return {**variables, VARIABLE: f"{outer}:{cookie}" if outer else cookie}


def reaper_command(*cookies: str) -> list[str]:
    """How the program is started that ends whoever carries one of these cookies."""
    program = [interpreter(), "-I", "-S", reaper.__file__]
    if sys.platform != "linux":
        import psutil

        # -S, for a quick start, hides where it is installed.
        folder = str(Path(psutil.__file__).parents[1])
        text = f"import sys, runpy; sys.path.append({folder!r}); runpy.run_path({reaper.__file__!r}, None, '__main__')"
        program[3:] = ["-c", text]
    return [*program, *cookies]


def reaper_line(cookie: str) -> str:
    """The same for a shell, and under a worker: were the cookie left in its environment, it would end itself."""
    return f"unset {VARIABLE}; {' '.join(map(_quoted, reaper_command(cookie)))}"


def _quoted(word: str) -> str:
    """As ``shlex.quote``, whose module compiles its patterns before the first worker can start."""
    return "'" + word.replace("'", "'\\''") + "'"


class Family:
    """Ends the descendants of workers that have died. On the pool's own thread; several at once cost one look.

    The death of a worker counts when they are gone, so that what it ran does not run again beside what it had started.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, Callable[[], None]] = {}
        self._reaper: subprocess.Popen[bytes] | None = None
        self._scheduled = False
        self._late: list[subprocess.Popen[bytes]] = []
        self._unlucky = 0

    def end(self, cookie: str, then: Callable[[], None]) -> None:
        """Kill who is left of this worker's descendants, and call ``then``, after a second at the latest."""
        self._waiting[cookie] = then
        self._start_soon()

    def _start_soon(self) -> None:
        if self._waiting and not self._scheduled and self._reaper is None:
            self._scheduled = True
            # In the next turn of the loop: workers often die together.
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        families, self._waiting = self._waiting, {}
        try:
            variables = {name: value for name, value in all_variables().items() if name != VARIABLE}
            self._reaper = subprocess.Popen(  # noqa: S603  # our own interpreter, our own code
                reaper_command(*families),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
            )
        except Exception:  # whatever it is, these deaths must be declared
            log.warning("what items of dead workers may have started was left running", exc_info=True)
            self._tell(families)
            self._start_soon()
            return
        self._look(families, self._loop.time() + LONGEST_SECONDS)

    def _look(self, families: Mapping[str, Callable[[], None]], until: float) -> None:
        """Not a wait in a thread: when the interpreter ends it starts none any more, and pools end then."""
        child = self._reaper
        if child is None:
            return
        code = child.poll()
        if code is None and self._loop.time() < until:
            self._loop.call_later(LOOK_EVERY, self._look, families, until)
            return
        self._reaper = None
        self._unlucky = self._unlucky + 1 if code is not None and code < 0 else 0
        if code is None:
            # It goes on trying, but nobody waits for it. It may be no reaper at all: the interpreter that is set for
            # workers may be a program that never ends.
            self._late.append(child)
            self._loop.call_later(reaper.SECONDS, self._give_up, child)
        elif 0 < self._unlucky < MOST_STARTS:
            # It was not in a session of its own yet when a kernel that ends sent a signal to its group.
            self._waiting, families = {**families, **self._waiting}, {}
        self._start_soon()
        self._tell(families)

    def _give_up(self, child: subprocess.Popen[bytes]) -> None:
        if child in self._late:
            self._late.remove(child)
            child.kill()
            child.wait()

    def _tell(self, families: Mapping[str, Callable[[], None]]) -> None:
        for then in families.values():
            # Should one raise, the others are told all the same.
            self._loop.call_soon(then)

    def close(self) -> None:
        """Every worker has died, and been declared so; who would not die until then has a last moment."""
        for child in self._late[:]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LONGEST_SECONDS)
            self._give_up(child)
