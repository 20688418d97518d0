"""A program: ends every process that carries one of these cookies in its environment, and then itself.

It stands alone, and is started from nowhere but its file: where a worker has died its pool starts it, and where the
pool's process has died each worker does, which then is among those to end. A program, because the second must not need
a running interpreter, and because whoever looks at a process that hangs in the system may hang with it. Among 500
processes one look takes 9 ms, and all of it, from the start of this program to its end, 50.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

VARIABLE = "AIOPOOL_WORKER"
"""The environment variable by which a worker's descendants are known: cookies, one of each worker they are under."""

SECONDS = 3.0
"""How long it goes on trying, where somebody forks faster than it kills or cannot be killed."""

TRACKER_SECONDS = 0.5
"""What a resource tracker has for removing what dead processes have left in shared memory, before it is killed, too."""

PAUSE = 0.005

_NAME = b"\0" + VARIABLE.encode() + b"="


def end_family(cookies: frozenset[bytes], seconds: float = SECONDS) -> bool:
    """Kill until nobody is left who carries one of these cookies; False if the time is up before that.

    They may fork meanwhile, and one that is becoming another program shows no environment for a moment: so nobody is
    left only when two looks in a row have found nobody.
    """
    began = time.monotonic()
    clean = 0
    while clean < 2:
        since = time.monotonic() - began
        if since > seconds:
            return False
        clean += 1
        for pid in _everybody():
            if pid == os.getpid() or not _carries(pid, cookies):
                continue
            clean = 0
            if since > TRACKER_SECONDS or not _is_tracker(pid):
                _kill(pid, cookies)
        time.sleep(PAUSE)
    return True


if sys.platform == "linux":

    def _everybody() -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  # 500 of them

    def _carries(pid: int, cookies: frozenset[bytes]) -> bool:
        """Whether a process has one of the cookies. Its variables are those that its program was started with."""
        _, found, rest = (b"\0" + _read(f"/proc/{pid}/environ")).partition(_NAME)
        return bool(found) and not cookies.isdisjoint(rest.partition(b"\0")[0].split(b":"))

    def _is_tracker(pid: int) -> bool:
        return b"resource_tracker" in _read(f"/proc/{pid}/cmdline")

    def _read(file: str) -> bytes:
        parts = []
        # Somebody else's, or gone meanwhile.
        with contextlib.suppress(OSError):
            fd = os.open(file, os.O_RDONLY)
            try:
                while part := os.read(fd, 1 << 18):
                    parts.append(part)
            finally:
                os.close(fd)
        return b"".join(parts)

    def _kill(pid: int, cookies: frozenset[bytes]) -> None:
        """Kill this process, and never another that has its number by now."""
        with contextlib.suppress(OSError):
            try:
                fd = os.pidfd_open(pid)
            except (AttributeError, OSError):
                # Missing, or refused in a sandbox: then nothing may come between this look and the kill but luck.
                if _carries(pid, cookies):
                    os.kill(pid, signal.SIGKILL)
                return
            try:
                if _carries(pid, cookies):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)

else:
    import psutil

    def _everybody() -> list[int]:
        found: list[int] = psutil.pids()
        return found

    def _carries(pid: int, cookies: frozenset[bytes]) -> bool:
        """Whether a process has one of the cookies. Its variables are those that its program was started with."""
        try:
            value = psutil.Process(pid).environ().get(VARIABLE, "")
        except (psutil.Error, OSError):
            return False  # Somebody else's, or gone meanwhile.
        return not cookies.isdisjoint(value.encode().split(b":"))

    def _is_tracker(pid: int) -> bool:
        try:
            return "resource_tracker" in " ".join(psutil.Process(pid).cmdline())
        except (psutil.Error, OSError):
            return False

    def _kill(pid: int, cookies: frozenset[bytes]) -> None:
        """Kill this process, and never another that has its number by now: psutil looks when it was started."""
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if _carries(pid, cookies):
                process.kill()


if __name__ == "__main__":
    # Stop, and whoever ends the kernel's process group, must not end this.
    with contextlib.suppress(OSError):
        os.setsid()
    end_family(frozenset(map(os.fsencode, sys.argv[1:])))
