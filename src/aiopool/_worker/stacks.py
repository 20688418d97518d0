"""Where everything stands that runs in this worker. The link thread looks when the parent asks.

Items pay nothing for it: where a coroutine waits is read off the coroutine itself, which item it is off the frames of
ours that step it, and what runs at this moment off the frames of its thread. What is seen may move meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import types
from collections.abc import Iterable, Sequence
from contextvars import Context
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopool import inside
from aiopool._payload.tracebacks import is_library, is_plumbing
from aiopool._worker.cursor import Cursor
from aiopool._worker.gathered import Gathered, Line, told
from aiopool._worker.lanes import Lane, in_a_row, stepped
from aiopool._worker.laps import run_in_a_row, run_in_groups
from aiopool._worker.outbox import Run
from aiopool._worker.runner import Runner
from aiopool._worker.work import Entry

if TYPE_CHECKING:
    from aiopool._worker.work import JobRun

__all__ = ["all_stacks", "awaits", "look", "of_thread", "running", "users"]

BLOCKED_SECONDS = 1.0
"""A step that takes longer holds its loop. Of a first one it is known here how long it takes."""

TRIES = 3

_MARKERS: frozenset[types.CodeType] = frozenset(
    function.__code__
    for function in (
        Lane._item,  # noqa: SLF001
        stepped,
        in_a_row,
        run_in_a_row,
        run_in_groups,
        Runner._run_def,  # noqa: SLF001
        Runner._run_in_thread,  # noqa: SLF001
    )
)
"""Frames of ours that have the item as ``entry``: what is above them on a stack is the item's."""

_ITEM = Lane._item.__code__  # noqa: SLF001
_IN_A_ROW: types.CodeType = in_a_row.__code__
_STEPPED: types.CodeType = stepped.__code__
_RUN_FOREVER = asyncio.BaseEventLoop.run_forever.__code__

_WRAPPERS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")
"""What stands between an ``await`` and the coroutine or async generator that it means, and does not say which."""


class Standing:
    """Where one item stands. ``frames`` are the user's, outermost first; ``tasks`` those of tasks that it has made.

    ``state`` is ``waiting``, ``running``, or ``stepping``: a coroutine that runs. ``is_first``: its first step.
    """

    def __init__(
        self, entry: Entry, state: str, frames: list[Line], started: float | None, *, is_first: bool = False
    ) -> None:
        self.entry = entry
        self.state = state
        self.frames = frames
        self.started = started
        self.is_first = is_first
        self.tasks: list[tuple[str, list[Line]]] = []


# --- stacks ----------------------------------------------------------------------------------------------------------


def awaits(thing: object) -> list[Line]:
    """The lines at which a suspended coroutine waits, outermost first. One that runs has none."""
    found: list[Line] = []
    while thing is not None:
        frame: types.FrameType | None
        if isinstance(thing, types.CoroutineType):
            frame, thing = thing.cr_frame, thing.cr_await
        elif isinstance(thing, types.GeneratorType):
            frame, thing = thing.gi_frame, thing.gi_yieldfrom
        elif isinstance(thing, types.AsyncGeneratorType):
            frame, thing = thing.ag_frame, thing.ag_await
        elif type(thing).__name__ in _WRAPPERS:
            thing = next(filter(_leads_on, gc.get_referents(thing)), None)
            continue
        else:
            break
        if frame is not None:
            found.append((frame.f_code, frame.f_lineno))
    return found


def _leads_on(thing: object) -> bool:
    return (
        isinstance(thing, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType))
        or type(thing).__name__ in _WRAPPERS
    )


def _outermost_first(frame: types.FrameType | None) -> list[types.FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    found.reverse()
    return found


def of_thread(frames: Iterable[types.FrameType]) -> list[Line]:
    """The user's lines of a running stack."""
    return [
        (frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno)
        for frame in frames
        if not is_library(frame.f_code.co_filename) and not is_plumbing(frame.f_code.co_filename, frame.f_code.co_name)
    ]


def running(coroutine: types.CoroutineType[Any, Any, Any], stacks: Iterable[list[types.FrameType]]) -> list[Line]:
    """The lines of a coroutine that runs in one of these threads, found by its outermost frame."""
    for stack in stacks:
        codes = [frame.f_code for frame in stack]
        if coroutine.cr_code in codes:
            return of_thread(stack[codes.index(coroutine.cr_code) :])
    return []


def all_stacks() -> dict[int, list[types.FrameType]]:
    """The running frames of every other thread, outermost first.

    Not of this one: it would be among what it holds, and keep everybody's frames, with the values in them, alive.
    """
    frames = sys._current_frames()  # noqa: SLF001
    del frames[threading.get_ident()]
    return {ident: _outermost_first(frame) for ident, frame in frames.items()}


def users(places: list[Line]) -> list[Line]:
    """Without our own."""
    return [place for place in places if not is_library(place[0].co_filename)]


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    get_context = getattr(task, "get_context", None)  # since Python 3.12
    if get_context is not None:
        context: Context = get_context()
        return context
    return next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)


# --- the worker ------------------------------------------------------------------------------------------------------


class _Segment(NamedTuple):
    """The part of a running stack that is one item's."""

    entry: Entry
    found: dict[str, Any]
    frames: list[types.FrameType]


class _Look:
    """One look at all that runs here."""

    def __init__(self, runner: Runner) -> None:
        self.found: dict[int, Standing] = {}
        self._runner = runner
        self._main = threading.main_thread().ident
        self._stacks: dict[int, list[types.FrameType]] = {}
        loop = runner.calls.made
        self._loops: dict[int, asyncio.AbstractEventLoop] = {id(loop): loop} if loop is not None else {}

    def look(self, jobs: Sequence[JobRun]) -> None:
        """Find the items of these jobs."""
        # A step may end, and another begin, between the looks at threads and at lanes.
        for _ in range(TRIES):
            self._stacks = all_stacks()
            for stack in self._stacks.values():
                self._look_at_thread(stack, jobs)
            if not self._look_at_lanes(jobs):
                break
        self._look_at_tasks(jobs)

    def _look_at_thread(self, stack: list[types.FrameType], jobs: Sequence[JobRun]) -> None:
        for segment in _segments(stack):
            entry = segment.entry
            if entry.code in self.found or entry.job not in jobs:
                continue
            for frame in segment.frames:
                if frame.f_code is _RUN_FOREVER and (loop := frame.f_locals.get("self")) is not None:
                    self._loops[id(loop)] = loop
            frames = of_thread(segment.frames)
            state = segment.found["state"]
            if not frames and (waits := awaits(segment.found.get("value"))):
                # A function in a thread that has returned a coroutine, whose loop has nothing to do.
                frames, state = users(waits), "waiting"
            started, is_first = segment.found.get("started"), bool(segment.found.get("first"))
            self.found[entry.code] = Standing(entry, state, frames, started, is_first=is_first)

    def _look_at_lanes(self, jobs: Sequence[JobRun]) -> bool:
        """Whether one runs that no thread was seen in."""
        unseen = False
        for job in jobs:
            for task, slot in list(job.tasks.items()):
                standing = _waiting(task)
                if standing is None:
                    code = self._runner.marks.slots[slot]
                    unseen |= code != 0 and code not in self.found
                elif (seen := self.found.get(standing.entry.code)) is None:
                    self.found[standing.entry.code] = standing
                elif not seen.frames:
                    # A function that has returned a coroutine: its thread only turns the loop.
                    seen.frames, seen.state = standing.frames, standing.state
        return unseen

    def _look_at_tasks(self, jobs: Sequence[JobRun]) -> None:
        """Tasks that items have made: where these stand says more than that the item waits for them."""
        lanes = {task for job in jobs for task in list(job.tasks)}
        for task in itertools.chain.from_iterable(map(asyncio.all_tasks, self._loops.values())):
            if task in lanes:
                continue
            # A task takes over the Context, and so the item, of whoever makes it.
            context, coroutine = _context_of(task), task.get_coro()
            item = context.get(inside.running) if context is not None else None
            standing = self.found.get(getattr(item, "code", 0))
            if standing is None or not isinstance(coroutine, types.CoroutineType):
                continue
            if coroutine.cr_running:
                standing.tasks.append(("running", running(coroutine, self._stacks.values())))
            elif frames := users(awaits(coroutine)):
                standing.tasks.append(("waiting", frames))

    def threads(self) -> list[tuple[str, list[Line]]]:
        """What else goes on in this process: the stacks of threads that are inside of no item, without our own."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        told = []
        # The main thread first.
        for ident in sorted(self._stacks, key=lambda ident: ident != self._main):
            stack = self._stacks[ident]
            if any(_segments(stack)):
                continue
            frames = of_thread(frame for frame in stack if frame.f_code.co_filename != "<string>")
            if frames and (ident == self._main or not _is_ours(stack)):
                told.append(("the main thread" if ident == self._main else names.get(ident, f"{ident:#x}"), frames))
        return told


def _is_ours(stack: list[types.FrameType]) -> bool:
    """Whether a thread was begun by us."""
    files = ((frame.f_code.co_filename, frame.f_code.co_name) for frame in stack)
    return next((is_library(file) for file, name in files if not is_plumbing(file, name)), False)


def _segments(stack: list[types.FrameType]) -> list[_Segment]:
    """Split a stack at our own frames: with nested loops, items can lie upon each other."""
    found: list[_Segment] = []
    for frame in stack:
        if frame.f_code not in _MARKERS:
            if found:
                found[-1].frames.append(frame)
            continue
        names = frame.f_locals
        entry = names.get("entry")
        if isinstance(entry, Cursor):
            entry = entry.now
        if isinstance(entry, Entry) and entry.position >= 0:
            if not found or found[-1].entry.code != entry.code:
                found.append(_Segment(entry, {"state": "running"}, []))
            found[-1].found.update({name: names[name] for name in ("started", "value", "first") if name in names})
            if isinstance(run := names.get("run"), Run):
                found[-1].found["started"] = run.started
            if frame.f_code in (_ITEM, _STEPPED, _IN_A_ROW):
                found[-1].found["state"] = "stepping"
            if frame.f_code is _IN_A_ROW:
                # What has waited is stepped from another frame of ours, which knows that it is not the first time.
                found[-1].found.setdefault("first", True)
    return found


def _waiting(task: asyncio.Task[Any]) -> Standing | None:
    """The item that a lane is at, if that waits."""
    thing: object = task.get_coro()
    started: float | None = None
    while isinstance(thing, types.CoroutineType):
        if thing.cr_code is _ITEM and thing.cr_frame is not None:
            started = thing.cr_frame.f_locals.get("started")
        thing = thing.cr_await
    if not isinstance(thing, types.GeneratorType) or thing.gi_code is not _STEPPED or thing.gi_frame is None:
        return None
    names = thing.gi_frame.f_locals
    entry, coroutine = names.get("entry"), names.get("coroutine")
    if isinstance(entry, Cursor):
        entry = entry.now
    if not isinstance(entry, Entry) or thing.gi_running:
        return None
    if isinstance(coroutine, types.GeneratorType) and coroutine.gi_frame is not None:
        # It has begun in a lap.
        run = coroutine.gi_frame.f_locals.get("run")
        started = run.started if isinstance(run, Run) else None
    return Standing(entry, "waiting", users(awaits(coroutine)), started)


def look(runner: Runner, job: int) -> bytes:
    """The answer to the parent, who asks about a job, or with 0 about the whole process. For the link thread."""

    def gather(gathered: Gathered) -> None:
        seen = _Look(runner)
        seen.look([each for each in list(runner.jobs.values()) if job in {0, each.id}])
        now = perf_counter()
        for each in seen.found.values():
            seconds = None if each.started is None else now - each.started
            if each.state == "stepping" and each.is_first and (seconds or 0.0) > BLOCKED_SECONDS:
                each.state = "blocked"
            gathered.item((each.entry.batch.job_id, each.entry.item), each.state, seconds, each.frames, each.tasks)
        if not job:
            for name, frames in seen.threads():
                gathered.thread(name, frames)

    return told(gather)
