"""What runs in the workers: functions of a module, so that every pool can send them by name. Standard library only."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

CAUSE = "the real cause"
"""Stands in every error that is raised on purpose, to see whether it arrives."""

BYSTANDER = 42


def mark(folder: str, name: str) -> None:
    """Leave a file behind that says: I am here, and this is my process."""
    Path(folder, name).write_text(str(os.getpid()))


def meet(folder: str, name: str, others: int) -> int:
    """Return the process id once so many have come: as many workers are up then, and each has one of us."""
    mark(folder, name)
    deadline = time.monotonic() + 30
    while len(list(Path(folder).glob("meet-*"))) < others and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.getpid()


def bystander(folder: str) -> int:
    """Work for a second, and have nothing to do with it."""
    mark(folder, "bystander")
    time.sleep(1)
    return BYSTANDER


def add(x: int, y: int) -> int:
    """Do something that always works."""
    return x + y


def nap(folder: str, seconds: float) -> None:
    """Block."""
    mark(folder, "nap")
    time.sleep(seconds)


# --- ends of a process -----------------------------------------------------------------------------------------------


def kill_oneself() -> None:
    """Die as the system's memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    """End the process without a word."""
    os._exit(3)


def say_exit() -> None:
    """End as a script does it."""
    sys.exit(3)


def close_stdio() -> int:
    """Close what a program reads from and prints to."""
    for fd in (0, 1, 2):
        os.close(fd)
    return BYSTANDER


def fork_and_die() -> None:
    """Leave a child behind that holds every file and pipe of this process, and die."""
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    kill_oneself()


# --- payloads --------------------------------------------------------------------------------------------------------


class TwoArgumentsError(Exception):
    """Pickles, and cannot be unpickled: quite a few libraries have such."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")


def _refuse() -> NoReturn:
    raise ValueError(CAUSE)


class Unloadable:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def raise_two_arguments() -> NoReturn:
    """Raise what cannot be rebuilt."""
    raise TwoArgumentsError(3, CAUSE)


def raise_with_lock() -> NoReturn:
    """Raise what cannot be pickled."""
    error = ValueError(CAUSE)
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def take(_: object) -> int:
    """Take whatever comes."""
    return BYSTANDER


def give_lock() -> object:
    """Return what cannot be pickled."""
    return threading.Lock()


def give_unloadable() -> Unloadable:
    """Return what cannot be unpickled."""
    return Unloadable()


def give_deep() -> list[Any]:
    """Return what pickle cannot follow to its end."""
    value: list[Any] = []
    for _ in range(200_000):
        value = [value]
    return value


def initialize_and_fail() -> NoReturn:
    """Fail before the first item."""
    raise ValueError(CAUSE)
