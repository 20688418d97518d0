"""What a worker holds: jobs, their batches, and the items that have not started."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker import plain
from aiopool._worker.clock import Clock
from aiopool._worker.cursor import Cursor
from aiopool._worker.reports import Reports
from aiopool._worker.stretches import Stretch
from aiopool.errors import FrameError

if TYPE_CHECKING:
    import asyncio

_set_running = inside.running.set


class Host(Protocol):
    """What a job needs of the worker it is in."""

    clock: Clock
    reports: Reports

    def released(self, job: JobRun) -> None:
        """An item can feel its end again: tell it what was held back."""

    def serve(self, job: JobRun) -> None:
        """Something of it waits to be run. Any thread."""


OWN = [True]
"""It has a pickle of its own."""

OVER: Any = object()
"""In the place of the payload of an item that has ended."""

MOST_HELD = 1 << 20
"""Of items that run one after another each is freed with the last one; so many bytes of them may wait for that."""


class BatchRun:
    """One batch while it is here. ``done`` is counted by whoever runs items, ``back`` by the link thread only.

    ``payloads`` are the values of its items, or their pickles where ``own`` says so; OVER for those that have ended. A
    range may stand for its numbers, as long as nobody needs to know which of them have ended.
    Contexts of tasks and timers that an item left behind keep this alive, but neither its job nor any payload.
    """

    __slots__ = (
        "attempt",
        "back",
        "done",
        "id",
        "items",
        "job",
        "job_id",
        "own",
        "payloads",
        "plain",
        "seed",
        "size",
    )

    def __init__(self, job: JobRun, frame: frames.Batch, payloads: list[Any] | range, own: list[bool] | None) -> None:
        self.job = weakref.ref(job)
        self.job_id = job.id
        self.seed = job.seed
        self.id = frame.batch
        self.items: Sequence[int] = frame.items
        self.size = len(frame.items)
        self.attempt = frame.attempt
        self.payloads = payloads
        self.plain = False
        self.own = own
        self.done = 0
        self.back = 0

    def entry(self, position: int) -> Entry:
        """The item that is there."""
        return Entry(self, position, self.items[position])

    def ended(self, position: int) -> Entry:
        """The item that is there, for who asks when it has ended, but nobody has noted that yet."""
        return Ended(self, position, self.items[position])

    def over(self, position: int) -> None:
        """The item that is there has ended. For whoever runs items."""
        if type(self.payloads) is range:
            self.payloads = list(self.payloads)
        self.payloads[position] = OVER

    def free(self, first: int, end: int) -> None:
        """Nobody has asked for these items, and nobody will: only what they hold counts."""
        payloads = self.payloads
        if type(payloads) is list:
            payloads[first:end] = [OVER] * (end - first)


class Entry(NamedTuple):
    """One item. While it runs, its code meets it as :class:`aiopool.inside.Running`."""

    batch: BatchRun
    position: int
    item: int
    fresh: bool = False

    @property
    def code(self) -> int:
        """How the mark page names this item, as ``frames.mark_of`` does; without a call, because every item pays it."""
        return (self.batch.id << 32) | (self.position + 1)

    @property
    def is_over(self) -> bool:
        """Whether it has ended here. Its threads and tasks may live on."""
        return self.batch.payloads[self.position] is OVER

    @property
    def job(self) -> JobRun | None:
        """What it is one of; None when that has gone."""
        return self.batch.job()

    @property
    def outermost(self) -> Entry:
        """The item of the worker itself: this one."""
        return self

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


Stepped = Entry | Cursor


class Ended(Entry):
    """One that has ended, whatever its batch says of it."""

    __slots__ = ()
    is_over = True


def _plain(function: Callable[..., Any], item: Any) -> Any:
    return function(item)


def _unpacked(function: Callable[..., Any], item: Any) -> Any:
    if hasattr(item, "keys"):
        return function(**item)
    return function(*item)


def _submitted(function: Callable[..., Any], item: Any) -> Any:
    args, kwargs = item
    return function(*args, **kwargs)


def _settings(frame: frames.Function) -> dict[str, Any]:
    try:
        return dict(plain.loads(frame.settings))
    except (ValueError, TypeError, RecursionError) as error:
        raise FrameError(f"the settings of job {frame.job} cannot be read: {error}") from None


class LoadFailed(Exception):
    """The function or the argument of an item could not be made: ``error`` says why. It would fail again."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


_CALLS = {0: _plain, frames.Function.UNPACK: _unpacked, frames.Function.CALL: _submitted}


_NO_STRETCHES: deque[Stretch] = deque()
"""Of all whose items do not run in laps: nothing is ever put there."""


class JobRun:
    """One job while it is here. The link thread puts entries into ``queue``, whoever runs items takes them out.

    ``deque.append``, ``popleft`` and ``pop`` are atomic, so an item is either started or handed back, never both.
    Items that may run in laps are in ``stretches`` instead, of which the main thread has the first; see
    :mod:`aiopool._worker.laps`. ``returns``: the last value's type; ``at_once``: its last coroutine has not waited;
    ``pace``: the seconds of one of the last that ran in a lap.

    ``tasks`` are its lanes with their slots on the mark page. ``told`` are those that have got their one
    CancelledError: a second one would strike their cleaning up.
    """

    # Here and not in each of them: calls come by the thousand, and each is a job.
    timeout: float | None = None
    seed: int | None = None
    lanes = 1
    returns: type = int
    at_once = False
    pace = math.inf
    cancelled = False
    in_turns = False
    threads = 0
    running = 0
    loaded = False
    _function: Callable[..., Any] | None = None
    _retry_on: tuple[type[BaseException], ...] = ()
    _error: BaseException | None = None

    def __init__(self, frame: frames.Function, host: Host) -> None:
        self.host = host
        self.id = frame.job
        if len(frame.settings):
            settings = _settings(frame)
            self.timeout, self.seed = settings.get("timeout"), settings.get("seed")
        self.is_async = bool(frame.flags & frames.Function.ASYNC)
        self.once = bool(frame.flags & frames.Function.ONCE)
        self.may_rerun = not frame.flags & (frames.Function.ONCE | frames.Function.NEVER_AGAIN)
        self._call = _CALLS[frame.flags & (frames.Function.UNPACK | frames.Function.CALL)]
        self.queue: deque[Entry] = deque()
        self.tasks: dict[asyncio.Task[Any], int] = {}
        self.told: set[asyncio.Task[Any]] = set()
        self._data: frames.Bytes = frame.data
        self._in_laps = self._call is _plain and self.timeout is None and self.may_rerun
        self.stretches: deque[Stretch] = deque() if self._in_laps else _NO_STRETCHES
        self._loading = threading.Lock()

    @property
    def in_laps(self) -> Callable[..., Any] | None:
        """The function, if its plain items may run one right after the other."""
        return self._function if self._in_laps else None

    def never_in_laps(self) -> None:
        """Its function is not what it seemed to be."""
        self._in_laps = False

    @property
    def waits(self) -> bool:
        """Whether items of it have not started."""
        return bool(self.queue or self.stretches)

    def call(self, entry: Entry) -> Any:
        """Call the user's function with this item, and say in the Context of whoever calls that it runs there."""
        _set_running(entry)
        if not self.loaded:
            self.load()
        if self._function is None:
            raise LoadFailed(self._error or RuntimeError("the function was not loaded"))
        batch = entry.batch
        argument: Any = batch.payloads[entry.position]
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
                    if self.once:
                        self._function = _payload.load_call(bytes(self._data))
                    else:
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
        payloads: list[Any] | range = _payload.load_shared(frame.shared) if len(frame.shared) else []
        own: list[bool] | None = None
        shared = frame.blobs.count(None) if frame.blobs else len(frame.items)
        if len(payloads) != shared:
            raise FrameError(f"{len(payloads)} values came for {shared} items of job {self.id}")
        if frame.blobs:
            plain = iter(payloads)
            own = [blob is not None for blob in frame.blobs]
            payloads = [next(plain) if blob is None else blob for blob in frame.blobs]
        batch = BatchRun(self, frame, payloads, own)
        batch.plain = own is None and len(frame.shared) <= MOST_HELD
        if self._in_laps and (self.is_async or self.lanes == 1):
            # All that come in the same row, so that they begin in order.
            self.stretches.append(Stretch(batch, 0, payloads if batch.plain else range(batch.size)))
        else:
            self.queue.extend(map(Entry, repeat(batch), range(batch.size), frame.items))

    def add_call(self, number: int, arguments: frames.Bytes) -> None:
        """Queue the only item, in a batch of this number."""
        batch = BatchRun(self, frames.Batch(self.id, number, 1, 1, frames.ONLY, b"", ()), [arguments], OWN)
        self.queue.append(Entry(batch, 0, 0))

    # --- what has not started --------------------------------------------------------------------------------------

    def stretch(self) -> Stretch | None:
        """The first one. It stays there until it is used up."""
        if not self.stretches:
            return None
        try:
            return self.stretches[0]
        except IndexError:
            return None

    def used_up(self, stretch: Stretch) -> None:
        """Nothing is left of it. For the main thread."""
        # Whoever has cut it off may have taken it away as well.
        with suppress(ValueError):
            self.stretches.remove(stretch)

    def take(self) -> Entry | None:
        """The next item, from the queue as long as there is something in it. For the main thread."""
        while self.queue:
            try:
                return self.queue.popleft()
            except IndexError:
                break  # It was handed back this very moment.
        while (stretch := self.stretch()) is not None:
            for number, _ in stretch.steps:
                stretch.position = number
                return stretch.batch.entry(number - 1)
            self.used_up(stretch)
        return None

    def drop(self) -> None:
        """It is cancelled."""
        self.queue.clear()
        while (last := self._last()) is not None:
            last.cut()

    def spread(self) -> None:
        """What has not started is taken one by one from now on, by several threads."""
        while (last := self._last()) is not None:
            left = last.cut()
            self.queue.extendleft(left.batch.entry(position) for position in reversed(range(left.position, left.end)))

    def come_out(self) -> BatchRun | None:
        """Have the main thread come out of a lap when the item ends that it is in; its batch. For the link thread."""
        if (first := self.stretch()) is None:
            return None
        left = first.cut()
        if left.position < left.end:
            self.stretches.insert(1, left)
            self.host.serve(self)
        return first.batch

    @property
    def waiting(self) -> int:
        """How many items have not started, more or less: some may start at this moment."""
        return len(self.queue) + sum([stretch.left for stretch in list(self.stretches)])

    def hand_back(self, count: int) -> frames.HandedBack:
        """Give up to ``count`` items from the end of the queue. For the link thread."""
        batches: list[int] = []
        positions: list[int] = []
        while len(batches) < count:
            try:
                entry = self.queue.pop()
            except IndexError:
                break
            entry.batch.back += 1
            entry.batch.free(entry.position, entry.position + 1)
            batches.append(entry.batch.id)
            positions.append(entry.position)
        while len(batches) < count and (last := self._last()) is not None:
            left, gone = last.split(count - len(batches))
            batch = left.batch
            batch.back += gone
            batch.free(left.end, last.end)
            batches += [batch.id] * gone
            positions += range(left.end, last.end)
            if left.position < left.end:
                self.stretches.append(left)
                self.host.serve(self)
        return frames.HandedBack(self.id, batches, positions)

    def _last(self) -> Stretch | None:
        try:
            return self.stretches.pop()
        except IndexError:
            return None


def _seconds(error: BaseException) -> float:
    try:
        after = error.after  # type: ignore[attr-defined]
        return min(float(after), frames.Failed.LONGEST) if after is not None and 0 <= after < math.inf else -1.0
    except BaseException:  # noqa: BLE001  # the user may have put anything there, and made the rest a subclass
        return -1.0
