"""What a worker holds: jobs, their batches, and the items that have not started."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple, Protocol

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker.clock import Clock
from aiopool._worker.reports import Reports

_set_running = inside.running.set


class Host(Protocol):
    """What a job needs of the worker it is in."""

    clock: Clock
    reports: Reports

    def released(self, job: JobRun) -> None:
        """An item can feel its end again: tell it what was held back."""


OVER: Any = object()
"""In the place of the payload of an item that has ended."""


class BatchRun:
    """One batch while it is here. ``done`` is counted by whoever runs items, ``back`` by the link thread only.

    ``payloads`` are the values of its items, or their pickles where ``own`` says so; OVER for those that have ended.
    Contexts of tasks and timers that an item left behind keep this alive, but neither its job nor any payload.
    """

    __slots__ = ("attempt", "back", "done", "id", "job", "job_id", "own", "payloads", "seed", "size")

    def __init__(self, job: JobRun, frame: frames.Batch, payloads: list[Any], own: list[bool] | None) -> None:
        self.job = weakref.ref(job)
        self.job_id = job.id
        self.seed = job.seed
        self.id = frame.batch
        self.size = len(frame.items)
        self.attempt = frame.attempt
        self.payloads = payloads
        self.own = own
        self.done = 0
        self.back = 0


class Entry(NamedTuple):
    """One item. While it runs, its code meets it as :class:`aiopool.inside.Running`."""

    batch: BatchRun
    position: int
    item: int
    fresh: bool = False

    @property
    def code(self) -> int:
        """How the mark page names this item; never 0."""
        return (self.batch.id << 32) | (self.position + 1)

    @property
    def is_over(self) -> bool:
        """Whether it has ended here. Its threads and tasks may live on."""
        return self.batch.payloads[self.position] is OVER

    @property
    def job(self) -> JobRun | None:
        """What it is one of; None when that has gone."""
        return self.batch.job()

    def told(self) -> inside.CurrentItem:
        """Tell its own code which one it is."""
        seed = self.batch.seed
        own_seed = None if seed is None else inside.seed_of(seed, self.item)
        return inside.CurrentItem(self.item, self.batch.attempt, own_seed)

    def report(self, fraction: float | None, text: str) -> None:
        """Take what its own code says of it. Any thread."""
        if (job := self.job) is not None:
            job.host.reports.put(self, fraction, text)

    def hold(self) -> None:
        """Stop its clock, and hold its timeout and its job's cancel. Any thread."""
        if (job := self.job) is not None:
            job.host.clock.hold(self)

    def release(self) -> None:
        """Undo one :meth:`hold`."""
        if (job := self.job) is not None and job.host.clock.release(self):
            job.host.released(job)


def _plain(function: Callable[..., Any], item: Any) -> Any:
    return function(item)


def _unpacked(function: Callable[..., Any], item: Any) -> Any:
    if hasattr(item, "keys"):
        return function(**item)
    return function(*item)


def _submitted(function: Callable[..., Any], item: Any) -> Any:
    args, kwargs = item
    return function(*args, **kwargs)


class LoadFailed(Exception):
    """The function or the argument of an item could not be made: ``error`` says why. It would fail again."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


_CALLS = {0: _plain, frames.Function.UNPACK: _unpacked, frames.Function.CALL: _submitted}


class JobRun:
    """One job while it is here. The link thread puts entries into ``queue``, whoever runs items takes them out.

    ``deque.append``, ``popleft`` and ``pop`` are atomic, so an item is either started or handed back, never both.
    ``tasks`` are its lanes with their slots on the mark page. ``told`` are those that have got their one
    CancelledError: a second one would strike their cleaning up.
    """

    def __init__(self, frame: frames.Function, host: Host) -> None:
        settings = json.loads(bytes(frame.settings)) if len(frame.settings) else {}
        self.host = host
        self.id = frame.job
        self.timeout: float | None = settings.get("timeout")
        self.seed: int | None = settings.get("seed")
        self.is_async = bool(frame.flags & frames.Function.ASYNC)
        self.once = bool(frame.flags & frames.Function.ONCE)
        self.may_rerun = not frame.flags & (frames.Function.ONCE | frames.Function.NEVER_AGAIN)
        self._call = _CALLS[frame.flags & (frames.Function.UNPACK | frames.Function.CALL)]
        self.lanes = 1
        self.queue: deque[Entry] = deque()
        self.cancelled = False
        self.in_turns = False
        self.tasks: dict[asyncio.Task[Any], int] = {}
        self.told: set[asyncio.Task[Any]] = set()
        self.threads = 0
        self.running = 0
        self.loaded = False
        self._data: frames.Bytes = frame.data
        self._function: Callable[..., Any] | None = None
        self._retry_on: tuple[type[BaseException], ...] = ()
        self._error: BaseException | None = None
        self._loading = threading.Lock()

    def call(self, entry: Entry) -> Any:
        """Call the user's function with this item, and say in the Context of whoever calls that it runs there."""
        _set_running(entry)
        if not self.loaded:
            self.load()
        if self._function is None:
            raise LoadFailed(self._error or RuntimeError("the function was not loaded"))
        batch = entry.batch
        argument = batch.payloads[entry.position]
        if batch.own is not None and batch.own[entry.position]:
            try:
                argument = _payload.load_item(argument)
            except Exception as error:  # noqa: BLE001  # loading runs the user's code, which may raise anything
                raise LoadFailed(error) from None
        return self._call(self._function, argument)

    def load(self) -> None:
        """Make the user's function, before it is first called: that runs the user's code. It does not raise."""
        with self._loading:  # Items in threads come here together; those that wait find it loaded.
            if not self.loaded:
                try:
                    self._function, self._retry_on = _payload.load_job(bytes(self._data))
                except BaseException as error:  # noqa: BLE001  # whatever it is, it is the error of each of its items
                    self._error = error
                self._data = b""
                self.loaded = True

    def judge(self, error: BaseException) -> tuple[int, float]:
        """Whether another attempt may mend this, as a flag of Failed, and how many seconds it asks to wait."""
        if issubclass(type(error), inside.Retry):
            return frames.Failed.MAY_RETRY, _seconds(error)
        return frames.Failed.MAY_RETRY if _payload.may_retry(error, self._retry_on) else 0, -1.0

    def add(self, frame: frames.Batch) -> None:
        """Queue the items of a batch."""
        self.lanes = frame.lanes
        payloads: list[Any] = _payload.load_shared(frame.shared) if len(frame.shared) else []
        own: list[bool] | None = None
        if frame.blobs:
            plain = iter(payloads)
            own = [blob is not None for blob in frame.blobs]
            payloads = [next(plain) if blob is None else blob for blob in frame.blobs]
        batch = BatchRun(self, frame, payloads, own)
        self.queue.extend(map(Entry, repeat(batch), range(batch.size), frame.items))

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
            entry.batch.payloads[entry.position] = OVER
            batches.append(entry.batch.id)
            positions.append(entry.position)
        return frames.HandedBack(self.id, batches, positions)


def _seconds(error: BaseException) -> float:
    try:
        after = error.after  # type: ignore[attr-defined]
        return float(after) if after is not None and 0 <= after < math.inf else -1.0
    except BaseException:  # noqa: BLE001  # the user may have put anything there, and made the rest a subclass
        return -1.0


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
