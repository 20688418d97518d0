"""What a worker holds: jobs, their batches, and the items that have not started."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import threading
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

from aiopool import _payload
from aiopool._core import frames


class BatchRun:
    """One batch while it is here. ``done`` is counted by whoever runs items, ``back`` by the link thread only."""

    __slots__ = ("attempt", "back", "done", "id", "job", "size")

    def __init__(self, job: JobRun, batch: int, size: int, attempt: int) -> None:
        self.job = job
        self.id = batch
        self.size = size
        self.attempt = attempt
        self.done = 0
        self.back = 0


class Entry(NamedTuple):
    """One item that has not started. ``payload`` is its value, or the value's pickle where ``own`` says so."""

    batch: BatchRun
    position: int
    item: int
    payload: Any
    own: bool = False
    fresh: bool = False

    @property
    def code(self) -> int:
        """How the mark page names this item; never 0."""
        return (self.batch.id << 32) | (self.position + 1)


def _plain(function: Callable[..., Any], item: Any) -> Any:
    return function(item)


def _unpacked(function: Callable[..., Any], item: Any) -> Any:
    if hasattr(item, "keys"):
        return function(**item)
    return function(*item)


def _submitted(function: Callable[..., Any], item: Any) -> Any:
    args, kwargs = item
    return function(*args, **kwargs)


_CALLS = {0: _plain, frames.Function.UNPACK: _unpacked, frames.Function.CALL: _submitted}


class JobRun:
    """One job while it is here. The link thread puts entries into ``queue``, whoever runs items takes them out.

    ``deque.append``, ``popleft`` and ``pop`` are atomic, so an item is either started or handed back, never both.
    ``told`` are the Tasks that have got their one CancelledError: a second one would strike their cleaning up.
    """

    def __init__(self, frame: frames.Function) -> None:
        self.id = frame.job
        self.is_async = bool(frame.flags & frames.Function.ASYNC)
        self.once = bool(frame.flags & frames.Function.ONCE)
        self.may_rerun = not frame.flags & (frames.Function.ONCE | frames.Function.NEVER_AGAIN)
        self._call = _CALLS[frame.flags & (frames.Function.UNPACK | frames.Function.CALL)]
        self.lanes = 1
        self.queue: deque[Entry] = deque()
        self.cancelled = False
        self.in_turns = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.told: set[asyncio.Task[Any] | None] = set()
        self.threads = 0
        self.running = 0
        self._data: frames.Bytes | None = frame.data
        self._function: Callable[..., Any] | None = None
        self._error: BaseException | None = None
        self._loading = threading.Lock()

    def call(self, entry: Entry) -> Any:
        """Call the user's function with this item."""
        function = self._loaded()
        argument = _payload.load_item(entry.payload) if entry.own else entry.payload
        return self._call(function, argument)

    def _loaded(self) -> Callable[..., Any]:
        """The user's function, loaded when it is first needed: loading runs the user's code."""
        if self._data is not None:
            with self._loading:  # Items in threads come here together; those that wait find it loaded.
                self._load()
        if self._function is None:
            raise self._error or RuntimeError("the function was not loaded")
        return self._function

    def _load(self) -> None:
        if self._data is not None:
            try:
                self._function = _payload.load_function(bytes(self._data))
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is the error of each of its items
                self._error = error
            self._data = None

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch."""
        self.lanes = frame.lanes
        batch = BatchRun(self, frame.batch, len(frame.items), frame.attempt)
        plain = _payload.load_shared(frame.shared) if len(frame.shared) else []
        positions = range(batch.size)
        if not frame.blobs:
            self.queue.extend(map(Entry, repeat(batch), positions, frame.items, plain))
            return
        values = iter(plain)
        self.queue.extend(
            Entry(batch, position, item, next(values) if blob is None else blob, own=blob is not None)
            for position, item, blob in zip(positions, frame.items, frame.blobs, strict=True)
        )

    def hand_back(self, count: int) -> frames.HandedBack:
        """Give up to ``count`` items from the end of the queue."""
        batches: list[int] = []
        positions: list[int] = []
        while len(batches) < count:
            try:
                entry = self.queue.pop()
            except IndexError:
                break
            entry.batch.back += 1
            batches.append(entry.batch.id)
            positions.append(entry.position)
        return frames.HandedBack(self.id, batches, positions)


class MarkPage:
    """A shared page that survives this process: which items run, and which one is at work this very moment.

    Slot 0 is the item being stepped, every other slot an item that has started and not ended. Written without a lock:
    a slot has one writer, and the reader reads when the writer is dead.
    """

    SLOTS = 1 << 16

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, self.SLOTS * 8)
        self.slots = memoryview(self._map).cast("Q")
        self._given_back: list[int] = []
        self._unused = itertools.count(1)

    def take(self) -> int:
        """A slot for one lane; the last one is shared by whoever comes when none is free, and says little."""
        try:
            return self._given_back.pop()
        except IndexError:
            return min(next(self._unused), self.SLOTS - 1)

    def give(self, slot: int) -> None:
        """The lane has ended."""
        self.slots[slot] = 0
        if slot < self.SLOTS - 1:
            self._given_back.append(slot)
