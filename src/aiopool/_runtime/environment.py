"""What workers take over of this process: variables, working directory, import path, log levels, warning filters.

It is read in the call that starts a job, so that the job sees what its cell saw. A call must not feel it: what has not
changed is only compared, in a few microseconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from aiopool._runtime.reaper import VARIABLE
from aiopool.frozen import frozen

__all__ = ["Snapshot", "latest", "process_variables", "take"]

_NOT_FOR_WORKERS = (VARIABLE, "JPY_PARENT_PID", "JPY_SESSION_NAME", "FORCE_COLOR", "CLICOLOR_FORCE")
"""What is a kernel's or each worker's own. Colours are for its front end: a worker's lines go through text."""

WORKER_BACKEND = "module://aiopool._worker.figures"
_KERNEL_BACKENDS = ("inline", "ipympl", "nbagg", "widget", "notebook")
"""Parts of the names of matplotlib's backends that only work in a kernel."""

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""The variables by which libraries are told how many threads to start; they read them when they are imported."""

_MARK = -(1 << 31)
"""A log level that nobody uses; see :class:`_Levels`."""

_STYLES: Mapping[type, str] = {
    logging.PercentStyle: "%",
    logging.StrFormatStyle: "{",
    logging.StringTemplateStyle: "$",
}


@frozen
class Snapshot:
    """The process at one moment. ``data`` is ``state`` as JSON; a newer one has a higher ``version``."""

    version: int
    state: Mapping[str, Any]
    data: bytes


def process_variables(snapshot: Snapshot, threads: int | None) -> dict[str, str]:
    """The variables that a worker's process is started with; ``threads`` is how many its libraries may start.

    A number that the user has set himself stays.
    """
    variables: dict[str, str] = dict(snapshot.state["environ"])
    if threads is not None:
        variables = dict.fromkeys(_THREADS, str(threads)) | variables
    return variables


class _Levels:
    """The levels of all loggers, of which a kernel may have a thousand: read again only after one of them was set.

    Setting one empties what every logger remembers about levels that are switched on, and our mark with it.
    """

    def __init__(self) -> None:
        self._read: dict[str, int] = {}

    def read(self) -> dict[str, int]:
        """Name and level of every logger that has one of its own; the root logger has no name."""
        remembered = logging.root._cache  # type: ignore[attr-defined]  # noqa: SLF001  # nothing public tells
        if _MARK not in remembered:
            # Before reading: what is set meanwhile takes the mark away again.
            remembered[_MARK] = False
            named = logging.root.manager.loggerDict.copy()
            levels = {name: one.level for name, one in named.items() if isinstance(one, logging.Logger) and one.level}
            self._read = {"": logging.root.level, **levels}
        return self._read


class _Reader:
    """Takes snapshots, and a new one only if something has changed. Any thread."""

    def __init__(self) -> None:
        self._levels = _Levels()
        self._seen: tuple[Any, ...] = ()
        self._snapshot: Snapshot | None = None
        self.forget()

    def forget(self) -> None:
        """This is a forked child: a thread of the parent may have held the lock."""
        # Entered again by its own thread where the garbage collector runs a finaliser of the user's that starts a job.
        self._lock = threading.RLock()

    def latest(self) -> Snapshot:
        """The snapshot that was taken last."""
        return self._snapshot or self.take()

    def take(self, *, keep_gil: bool = False) -> Snapshot:
        """A snapshot of this moment; ``keep_gil``: another thread waits for it, and there is more to do here."""
        folder = _folder(keep_gil=keep_gil)
        with self._lock:
            now = (
                _raw_variables(),
                folder,
                sys.path,
                self._levels.read(),
                logging.root.manager.disable,
                _console(),
                warnings.filters,
            )
            while (before := self._snapshot) is None or now != self._seen:
                # What is remembered is copied before it is read: what changes meanwhile is a change next time.
                seen = tuple(map(copy, now))
                snapshot = self._read(seen, 1 if before is None else before.version + 1)
                if self._snapshot is before:  # Else a finaliser has taken one in between, of that very version.
                    self._seen, self._snapshot = seen, snapshot
                    return snapshot
            return before

    @staticmethod
    def _read(seen: tuple[Any, ...], version: int) -> Snapshot:
        _, folder, path, levels, disabled, console, filters = seen
        state = {
            "environ": _variables(),
            "folder": folder,
            "path": [str(entry) for entry in path],
            "levels": levels,
            "disabled": disabled,
            "console": console,
            "filters": [told for entry in filters if (told := _filter(entry)) is not None],
        }
        return Snapshot(version, state, json.dumps(state).encode())


def _raw_variables() -> dict[Any, Any]:
    """Something that equals itself as long as no variable is changed: comparing decoded texts would cost 15 us."""
    raw = getattr(os.environ, "_data", None)
    return raw if isinstance(raw, dict) else dict(os.environ)


def all_variables() -> dict[str, str]:
    """The variables of this moment. A loop over ``os.environ`` fails where another thread takes one away meanwhile."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in _raw_variables().copy().items()}


def _variables() -> dict[str, str]:
    variables = {name: value for name, value in all_variables().items() if name not in _NOT_FOR_WORKERS}
    backend = variables.get("MPLBACKEND", "")
    if not backend or any(part in backend.lower() for part in _KERNEL_BACKENDS):
        variables["MPLBACKEND"] = WORKER_BACKEND
    return variables


_folder_keeping_gil: Callable[[], str] | None = None


def _folder(*, keep_gil: bool) -> str | None:
    global _folder_keeping_gil  # noqa: PLW0603
    try:
        if keep_gil:
            if _folder_keeping_gil is None:
                _folder_keeping_gil = os.getcwd
                # With ctypes, which a lone call does without, and some Pythons, too.
                with contextlib.suppress(ImportError, OSError, AttributeError):
                    from aiopool._runtime.keeping import folder

                    _folder_keeping_gil = folder
            return _folder_keeping_gil()
        return os.getcwd()  # noqa: PTH109  # a pathlib one costs ten times as much, in every call
    except FileNotFoundError:
        return None  # It was removed; workers stay where they are.


def _console() -> tuple[str, str | None, str, int] | None:
    """How the root logger writes its lines: format, format of dates, style and level; None if it writes none."""
    if not logging.root.handlers:
        return None
    handlers = [one for one in logging.root.handlers if not isinstance(one, logging.NullHandler)]
    if not handlers:
        return None
    handler = next((one for one in handlers if not isinstance(one, logging.FileHandler)), handlers[0])
    formatter = handler.formatter
    text = getattr(formatter, "_fmt", None)
    style = _STYLES.get(type(getattr(formatter, "_style", None)))
    if formatter is None or not isinstance(text, str) or style is None:
        return "%(message)s", None, "%", handler.level
    return text, formatter.datefmt, style, handler.level


def _filter(entry: Any) -> list[Any] | None:
    """A warning filter as JSON; None for one that nobody could have made with the functions of :mod:`warnings`."""
    try:
        action, message, category, module, line = entry
        return [action, _pattern(message), f"{category.__module__}:{category.__qualname__}", _pattern(module), line]
    except (AttributeError, TypeError, ValueError):
        return None


def _pattern(pattern: Any) -> object:
    return pattern if pattern is None or isinstance(pattern, str) else [pattern.pattern, pattern.flags]


_reader = _Reader()
os.register_at_fork(after_in_child=_reader.forget)
take = _reader.take
latest = _reader.latest
