"""From an input to batches: reads the user's data and pickles arguments, on threads of its own, never on the pool's.

A sized input is read in slices. Of an unsized one each item may take its time: what has been read waits in a part of a
batch, which is closed when it is full, or at once when a worker has nothing to do. While all have something to do it is
read in runs, in which no code of ours is between two items; while one has not, item by item.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Protocol

from aiopool._runtime.recoder import Encode, Recoder, Taker
from aiopool.errors import InputError, InputLost

AGES = 1e9
"""Some decades, in seconds: longer than any loop lives."""

_NOTHING = object()

_item = itemgetter(1)


class Sink(Taker, Protocol):
    """Who takes what feeders make. Every method may be called from any thread."""

    def nudged(self, job: int) -> None:
        """Something has been read that a worker without work could have."""

    def input_ended(self, job: int, total: int) -> None:
        """All items have been supplied."""

    def input_broken(self, job: int, total: int, error: BaseException) -> None:
        """Reading raised after ``total`` items, which have been supplied."""


class Credit:
    """How far a feeder may read: ``upto`` items in all, in batches of ``size``; ``hungry``: somebody idles."""

    def __init__(self) -> None:
        self.upto = 0
        self.size = 1
        self.hungry = True
        self.stopped = False
        self._changed = threading.Condition()
        self._watcher: tuple[asyncio.AbstractEventLoop, asyncio.Event, Callable[[], object]] | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], object]) -> asyncio.Event:
        """An event of this loop that is set whenever something changes: a loop must not wait for a condition.

        ``lost`` is called when it turns out that the loop has closed.
        """
        event = asyncio.Event()
        self._watcher = (loop, event, lost)
        return event

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._watcher is not None:
            loop, event, lost = self._watcher
            try:
                loop.call_soon_threadsafe(event.set, context=contextvars.Context())
            except RuntimeError:
                lost()  # A loop that has closed reads nothing more.

    def grant(self, upto: int, size: int, *, hungry: bool) -> None:
        """The ledger has spoken."""
        with self._changed:
            self.upto, self.size, self.hungry = upto, size, hungry
            self._tell()

    def stop(self) -> None:
        """The job has ended: read nothing more."""
        with self._changed:
            self.stopped = True
            self._tell()

    def wait_beyond(self, read: int) -> bool:
        """Wait until more than ``read`` items may be read; False when the job has ended."""
        if self.upto > read and not self.stopped:
            return True
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self.upto > read)
            return not self.stopped


class Lookout:
    """Stands in a loop's calendar for longer than that lives. A loop that closes lets go of that, and of this with it.

    Nothing else tells of a loop that somebody has stopped and closed: tasks in it just never go on.
    """

    def __init__(self, gone: Callable[[], object]) -> None:
        self._gone = gone

    def __call__(self) -> None:
        """Its time has come, which it never does."""

    def __del__(self) -> None:
        """The loop has closed, or nobody wants to know any more."""
        self._gone()


class Feeder:
    """Reads one job's input on one thread, in a copy of the caller's context.

    ``encode`` pickles values for the job's function; ``keep(index, values)`` is told what was read, before that.
    """

    def __init__(
        self,
        job: int,
        sink: Sink,
        recoder: Recoder,
        encode: Encode,
        keep: Callable[[int, Sequence[object]], None] | None,
    ) -> None:
        self.credit = Credit()
        self._job = job
        self._sink = sink
        self._recoder = recoder
        self._encode = encode
        self._keep = keep
        self._read = 0
        self._iterator: Iterator[object] | None = None
        # A part that is open, with the number of its first item; so many of it have been passed on already.
        self._part: tuple[int, list[object]] = 0, []
        self._passed = 0
        self._part_lock = threading.Lock()
        self._turns: list[None] | None = None
        self._context = contextvars.copy_context()
        self._pumping: asyncio.Task[None] | None = None
        self._lost = False
        self._thread: threading.Thread | None = None

    def start_sized(self, indices: Sequence[int], values: Iterable[object]) -> None:
        """Read an input whose length is known; ``indices`` are its items' numbers."""
        self._start(self._read_sized, indices, values)

    def start_unsized(self, values: Iterable[object]) -> None:
        """Read an iterator item by item."""
        self._start(self._read_unsized, values)

    def start_async(self, values: AsyncIterable[object]) -> None:
        """Read an async iterator on the loop that runs here, or, where none runs, on a loop on the feeder's thread."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._start(self._pump_here, values)
        else:
            self._pumping = loop.create_task(self._pump(values), context=self._context)
            lookout = weakref.ref(loop.call_later(AGES, Lookout(self._lose), context=contextvars.Context()))

            def recall(_: object) -> None:
                if (handle := lookout()) is not None:
                    handle.cancel()

            self._pumping.add_done_callback(recall, context=contextvars.Context())

    def needs_this_thread(self) -> bool:
        """Whether the loop that reads the input cannot turn while this thread blocks, or does not run at all."""
        if self._pumping is None or self._pumping.done():
            return False
        loop = self._pumping.get_loop()
        if loop.is_closed():
            self._lose()
            return False
        try:
            return loop is asyncio.get_running_loop()
        except RuntimeError:
            return not loop.is_running()

    def stop(self) -> None:
        """The job has ended. A thread inside the input's code ends when that returns; an async input is cancelled."""
        self.credit.stop()
        with self._part_lock:
            if self._turns is not None:
                self._turns.clear()
        self._recoder.drop(self._job)
        if self._pumping is not None and not self._pumping.done():
            # A loop that has closed takes the task with it.
            with contextlib.suppress(RuntimeError):
                self._pumping.get_loop().call_soon_threadsafe(self._pumping.cancel, context=contextvars.Context())

    def collect(self) -> None:
        """Close the part of a batch that has been read so far, if a worker has nothing to do."""
        if self.credit.hungry:
            self._close_part(end_run=True)

    @property
    def read(self) -> int:
        """How many items of an input without a length have been read."""
        first, part = self._part
        return first + len(part)

    def value_of(self, index: int) -> object:
        """An item that was read and waits in a part; KeyError where it does not."""
        first, part = self._part
        if not first <= index < first + len(part):
            raise KeyError(index)
        return part[index - first]

    def _start(self, read: Callable[..., None], *args: object) -> None:
        self._thread = threading.Thread(
            target=self._context.run, args=(read, *args), name=f"aiopool-feeder-{self._job}", daemon=True
        )
        self._thread.start()

    def join(self) -> None:
        """Wait until its thread reads nothing more."""
        if self._thread is not None:
            self._thread.join()

    # --- sized -----------------------------------------------------------------------------------------------------

    def _read_sized(self, indices: Sequence[int], values: Iterable[object]) -> None:
        while self._read < len(indices):
            if not self.credit.wait_beyond(self._read):
                return
            count = min(self.credit.size, self.credit.upto - self._read, len(indices) - self._read)
            chunk, broken = self._cut(values, count)
            ended = broken is not None or len(chunk) < count
            try:
                self._supply(indices, chunk)
            except BaseException as error:  # noqa: BLE001  # pickling may run out of memory; a job must not hang of it
                ended, broken = True, error
            if broken is not None:
                self._sink.input_broken(self._job, self._read, broken)
                return
            if ended:
                break
        else:
            try:
                # Behind its last item it may have something to finish: a progress bar.
                if self._iterator is not None and next(self._iterator, _NOTHING) is not _NOTHING:
                    raise InputError(
                        f"the input has more items than its len() says, which is {self._read:,}, and the rest would be "
                        "left out: pass list(...), or iter(...) for an input without a length"
                    )
            except BaseException as error:  # noqa: BLE001  # as above
                self._sink.input_broken(self._job, self._read, _explained(error))
                return
        self._sink.input_ended(self._job, self._read)

    def _cut(self, values: Iterable[object], count: int) -> tuple[list[object] | range, BaseException | None]:
        """The next so many values, fewer where the input ends; and what it has raised."""
        if type(values) is list or type(values) is range:
            return values[self._read : self._read + count], None
        chunk: list[object] = []
        try:
            if self._iterator is None:
                self._iterator = iter(values)
            # Not list(islice()): what was read before an error must stand.
            chunk.extend(islice(self._iterator, count))
        except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
            return chunk, _explained(error)
        return chunk, None

    def _supply(self, indices: Sequence[int], chunk: list[object] | range) -> None:
        if not chunk:
            return
        first = self._read
        if self._keep is not None:
            self._keep(first, chunk)
        encoded = self._encode(chunk)
        self._read += len(chunk)
        self._sink.supplied(self._job, indices[first : self._read], encoded)

    # --- unsized ---------------------------------------------------------------------------------------------------

    def _read_unsized(self, values: Iterable[object]) -> None:
        try:
            iterator = iter(values)
            while self.credit.wait_beyond(self.read):
                if not self._read_some(iterator):
                    break
            else:
                self._close_part()
                return
        except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
            self._close_part()
            self._sink.input_broken(self._job, self.read, _explained(error))
            return
        self._close_part()
        self._sink.input_ended(self._job, self.read)

    def _read_some(self, iterator: Iterator[object]) -> bool:
        """Read a run of items, or the first one of a part where somebody waits for it; False: there are no more."""
        turns, part = self._begin_run()
        if turns is None:
            try:
                value = next(iterator)
            except StopIteration:
                return False
            self._take(value)
            return True
        count, before = len(turns), len(part)
        try:
            # What was read before an error must stand, as well as what was read while an item takes its time. The run
            # ends where its turns do: whoever cannot wait takes them away.
            part.extend(map(_item, zip(turns, iterator, strict=False)))
        finally:
            with self._part_lock:
                self._turns = None
        if not self._close_if_full() and len(turns) < count:
            self._sink.nudged(self._job)
        return len(part) - before == count or len(turns) < count

    def _begin_run(self) -> tuple[list[None] | None, list[object]]:
        """A turn for each item that the part may take, None where one is to be read alone; and the part.

        Where somebody waits the first of a part is told of, and while that is heard a run may go on.
        """
        with self._part_lock:
            _, part = self._part
            waiting = len(part) - self._passed
            if (waiting or not self.credit.hungry) and not self.credit.stopped:
                size = max(1, self.credit.size - waiting)
                self._turns = [None] * min(size, self.credit.upto - self.read)
            return self._turns, part

    def _take(self, value: object) -> None:
        with self._part_lock:
            _, part = self._part
            part.append(value)
            length = len(part) - self._passed
        if not self._close_if_full() and length == 1:
            self._sink.nudged(self._job)

    def _close_if_full(self) -> bool:
        _, part = self._part
        full = len(part) - self._passed >= self.credit.size or self.read >= self.credit.upto
        if full:
            self._close_part()
        return full

    def _close_part(self, *, end_run: bool = False) -> None:
        # Pickled by the recoder, whoever closes: so the parts of one input keep their order.
        with self._part_lock:
            first, part = self._part
            start, items = first + self._passed, part[self._passed :]
            if end_run and self._turns is not None:
                self._turns.clear()
            if not items:
                return
            if self._keep is not None:
                self._keep(start, items)
            if self._turns is None:
                self._part, self._passed = (first + len(part), []), 0
            else:
                # A run goes on, which adds to this very list.
                self._passed += len(items)
            if not self.credit.stopped:
                self._recoder.put(self._job, range(start, start + len(items)), items, self._encode)

    # --- async -----------------------------------------------------------------------------------------------------

    def _pump_here(self, values: AsyncIterable[object]) -> None:
        # It is cancelled when the job ends; nobody is there for the error, and the job has been told.
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._pump(values))

    async def _pump(self, values: AsyncIterable[object]) -> None:
        self._pumping = asyncio.current_task()
        granted = self.credit.watch(asyncio.get_running_loop(), self._lose)
        try:
            async for value in values:
                self._take(value)
                while self.read >= self.credit.upto and not self.credit.stopped:
                    granted.clear()
                    if self.read >= self.credit.upto and not self.credit.stopped:
                        await granted.wait()
                if self.credit.stopped:
                    self._close_part()
                    return
        except asyncio.CancelledError:
            self._close_part()
            lost = InputLost(
                f"reading the input was cancelled after {self._count()}: it is read on the event loop that called "
                "pmap, and asyncio.run(...) cancels what runs on its loop when it returns. Await the job there, or "
                "pass a list"
            )
            self._sink.input_broken(self._job, self.read, lost)
            raise
        except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
            self._close_part()
            self._sink.input_broken(self._job, self.read, error)
            return
        self._close_part()
        self._sink.input_ended(self._job, self.read)

    def _lose(self) -> None:
        """End the input if the loop that reads it has closed in the middle of it. Any thread."""
        task = self._pumping
        if task is None or task.done() or not task.get_loop().is_closed() or self.credit.stopped or self._lost:
            return
        self._lost = True
        # It will never end, of which asyncio would complain to somebody who can do nothing about it any more.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._close_part()
        lost = InputLost(
            f"reading the input was broken off after {self._count()}: it is read on the event loop that called pmap, "
            "and that has been closed. Await the job there before, or pass a list"
        )
        self._sink.input_broken(self._job, self.read, lost)

    def _count(self) -> str:
        return f"{self.read:,} item{'' if self.read == 1 else 's'}"


def _explained(error: BaseException) -> BaseException:
    """The error of an input; where a usual mistake stands behind it, with a note of what to do."""
    # The error is a user's own object: looking at it may raise anything, and the note is a courtesy.
    with contextlib.suppress(BaseException):
        if "closed file" in str(error):
            error.add_note("its `with` block was left too early: wait for the job inside it, or pass list(file)")
        if "thread" in str(error).lower():
            error.add_note("the input is read on a thread of its own: if it is bound to yours, pass list(...)")
    return error
