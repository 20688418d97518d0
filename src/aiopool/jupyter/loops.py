"""The loops of a cell over jobs: which of them Stop has cut off in their bodies."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import opcode
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

from aiopool._runtime.waiters import TICK
from aiopool.readers import Reader
from aiopool.reading import Reading

__all__ = ["Loops"]

DEEPEST = 50
MOST_DROPPED = 100
OURS = (__name__, Reader.__module__)
RERAISE, RAISE = opcode.opmap["RERAISE"], opcode.opmap["RAISE_VARARGS"]

Place = tuple[CodeType, int]
"""Where a frame stands: its function, and the instruction."""


class Loops:
    """The readers of one run of a cell.

    While there are any, the event loop ticks: an interrupt only schedules a cancel of the cell, which the event loop
    does not notice before it wakes by itself, and the body of a loop may be in a long ``await`` of its own.
    """

    def __init__(self) -> None:
        self._over = False
        self._ticking = False
        self._thread = threading.get_ident()
        self._task = _task_here()
        self._held: weakref.WeakSet[LoopWatch] = weakref.WeakSet()
        self._dropped: deque[tuple[Reading, list[Place], bool]] = deque(maxlen=MOST_DROPPED)

    def watch(self, reader: Reader[Any], leave: Callable[[], None] | None = None) -> LoopWatch:
        """Look after a reader that is made, or begins to be iterated over, in this cell.

        ``leave`` is called when it is dropped before its end.
        """
        watch = LoopWatch(self, reader, leave)
        self._held.add(watch)
        if watch.thread == self._thread and not self._ticking and _task_here() is not None:
            self._tick()
        return watch

    def _tick(self) -> None:
        self._ticking = not self._over and any(watch.reader() is not None for watch in list(self._held))
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK, self._tick, context=contextvars.Context())

    def end(self) -> None:
        """The cell has ended, and with it the tick."""
        self._over = True

    def drop(self, reading: Reading) -> None:
        """A reader is gone before its end: by a ``break``, or with the frame that an exception has left.

        The exception cannot be seen from here. When it has come out of the cell, its traceback tells where it struck;
        so note where everybody stands now.
        """
        task = _task_here()
        self._dropped.append((reading, _places_here(), task is not None and task.cancelling() > 0))

    def cut_off(self, error: BaseException) -> list[Reading]:
        """The jobs whose loops were cut off by this error, with which the cell was stopped; each once."""
        struck = _struck(error)
        found = [reading for reading, places, cancelled in self._dropped if cancelled or _was_struck(places, struck)]
        # A reader that somebody holds, be it only the frame of a comprehension, as part of the traceback.
        found += [reader.reading for watch in list(self._held) if (reader := self._open_reader(watch))]
        return list(dict.fromkeys(found))

    def _open_reader(self, watch: LoopWatch) -> Reader[Any] | None:
        """Its reader, if that is in a loop of the cell itself: not one of a thread or a task beside it."""
        reader = watch.reader()
        if reader is None or not reader.is_open or watch.thread != self._thread:
            return None
        task = watch.task()
        return reader if task is None or task is self._task or task.done() else None


class LoopWatch:
    """Looks after one reader."""

    def __init__(self, loops: Loops, reader: Reader[Any], leave: Callable[[], None] | None) -> None:
        self._loops = loops
        self._leave = leave
        self._reading = reader.reading
        self.reader = weakref.ref(reader)
        self.thread = threading.get_ident()
        task = _task_here()
        self.task = weakref.ref(task) if task is not None else lambda: None

    def dropped(self) -> None:
        """Nobody holds the reader any more."""
        self._loops.drop(self._reading)
        if self._leave is not None:
            self._leave()


def _task_here() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _places_here() -> list[Place]:
    places: list[Place] = []
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way there is
    while frame is not None and len(places) < DEEPEST:
        if frame.f_globals.get("__name__") not in OURS:
            places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return places


def _struck(error: BaseException) -> dict[CodeType, set[int]]:
    """Where an exception, and those it came of, passed through each function."""
    struck: dict[CodeType, set[int]] = {}
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        tb: TracebackType | None = each.__traceback__
        while tb is not None:
            struck.setdefault(tb.tb_frame.f_code, set()).add(tb.tb_lasti)
            tb = tb.tb_next
        each = each.__cause__ or each.__context__
    return struck


def _was_struck(places: list[Place], struck: dict[CodeType, set[int]]) -> bool:
    """Whether the function that dropped the reader stood where the exception passed through it.

    Or where it sends an exception on, behind a ``finally`` or a ``with``. Inside of that function there may be
    generators, ``tqdm(job)`` for one, which are closed when they are dropped.
    """
    for code, at in places:
        if code in struck:
            return at in struck[code] or _sends_on(code, at)
        if not code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            return False
    return False


def _sends_on(code: CodeType, at: int) -> bool:
    instruction, argument = code.co_code[at : at + 2]
    return instruction == RERAISE or (instruction == RAISE and argument == 0)
