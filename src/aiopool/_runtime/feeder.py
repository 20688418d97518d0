"""From an input to batches: reads the user's data and pickles arguments, on threads of its own, never on the pool's.

A sized input is read in slices. An unsized one is read item by item, because each may take its time: what has been
read waits in a part of a batch, which is closed when it is full, or at once when a worker has nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from aiopool import _payload
from aiopool.errors import InputLost

STOP = object()

Encode = Callable[[Sequence[object]], _payload.EncodedItems]


class Sink(Protocol):
    """Who takes what feeders make. Every method may be called from any thread."""

    def supplied(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """These items are ready to be sent; positions in ``encoded`` that were refused are failures."""

    def nudged(self, job: int) -> None:
        """Something has been read that a worker without work could have."""

    def input_ended(self, job: int, total: int) -> None:
        """All items have been supplied."""

    def input_broken(self, job: int, total: int, error: BaseException) -> None:
        """Reading raised after ``total`` items, which have been supplied."""


class Recoder:
    """One thread that pickles what must not wait for an input: items that run again, and parts of batches."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def put(self, job: int, items: Sequence[int], values: Sequence[object], encode: Encode) -> None:
        """Pickle these and supply them."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=contextvars.Context().run, args=(self._run,), name="aiopool-recoder", daemon=True
                )
                self._thread.start()
        self._work.put((job, items, values, encode))

    def stop(self) -> None:
        """End the thread once what was put is done."""
        self._work.put(STOP)

    def _run(self) -> None:
        while (work := self._work.get()) is not STOP:
            job, items, values, encode = work
            try:
                encoded = encode(values)
            except BaseException as error:  # noqa: BLE001  # out of memory, say; others wait for this thread, too
                encoded = _payload.EncodedItems(b"", (), tuple((position, error) for position in range(len(items))))
            self._sink.supplied(job, items, encoded)


class Credit:
    """How far a feeder may read: ``upto`` items in all, in batches of ``size``; ``hungry``: somebody idles."""

    def __init__(self) -> None:
        self.upto = 0
        self.size = 1
        self.hungry = True
        self.stopped = False
        self._changed = threading.Condition()
        self._watcher: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """An event of this loop that is set whenever something changes: a loop must not wait for a condition."""
        event = asyncio.Event()
        self._watcher = (loop, event)
        return event

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._watcher is not None:
            loop, event = self._watcher
            # A loop that has closed reads nothing more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set, context=contextvars.Context())

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
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self.upto > read)
            return not self.stopped


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
        self._part: list[object] = []
        self._part_lock = threading.Lock()
        self._context = contextvars.copy_context()
        self._pumping: asyncio.Task[None] | None = None
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

    def needs_this_thread(self) -> bool:
        """Whether the loop that reads the input cannot turn while this thread blocks, or does not run at all."""
        if self._pumping is None or self._pumping.done():
            return False
        loop = self._pumping.get_loop()
        try:
            return loop is asyncio.get_running_loop()
        except RuntimeError:
            return not loop.is_running()

    def stop(self) -> None:
        """The job has ended. A thread inside the input's code ends when that returns; an async input is cancelled."""
        self.credit.stop()
        if self._pumping is not None and not self._pumping.done():
            # A loop that has closed takes the task with it.
            with contextlib.suppress(RuntimeError):
                self._pumping.get_loop().call_soon_threadsafe(self._pumping.cancel, context=contextvars.Context())

    def collect(self) -> None:
        """Close the part of a batch that has been read so far, if a worker has nothing to do."""
        if self.credit.hungry:
            self._close_part()

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
        iterator: Iterator[object] | None = None
        while self._read < len(indices):
            if not self.credit.wait_beyond(self._read):
                return
            count = min(self.credit.size, self.credit.upto - self._read, len(indices) - self._read)
            chunk: list[object] = []
            try:
                if iterator is None:
                    iterator = iter(values)
                # Not list(islice()): what was read before an error must stand.
                chunk.extend(islice(iterator, count))
                ended, broken = len(chunk) < count, None
            except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
                ended, broken = True, _explained(error)
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
                if iterator is not None:
                    next(iterator, None)  # Behind its last item it may have something to finish: a progress bar.
            except BaseException as error:  # noqa: BLE001  # as above
                self._sink.input_broken(self._job, self._read, _explained(error))
                return
        self._sink.input_ended(self._job, self._read)

    def _supply(self, indices: Sequence[int], chunk: list[object]) -> None:
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
            while self.credit.wait_beyond(self._read):
                try:
                    value = next(iterator)
                except StopIteration:
                    break
                self._take(value)
            else:
                return
        except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
            self._close_part()
            self._sink.input_broken(self._job, self._read, _explained(error))
            return
        self._close_part()
        self._sink.input_ended(self._job, self._read)

    def _take(self, value: object) -> None:
        if self._keep is not None:
            self._keep(self._read, (value,))
        with self._part_lock:
            self._part.append(value)
            self._read += 1
            length = len(self._part)
        if length >= self.credit.size or self._read >= self.credit.upto:
            self._close_part()
        elif length == 1:
            self._sink.nudged(self._job)

    def _close_part(self) -> None:
        # Pickled by the recoder, whoever closes: so the parts of one input keep their order.
        with self._part_lock:
            if not self._part:
                return
            part, self._part = self._part, []
            first = self._read - len(part)
            self._recoder.put(self._job, range(first, first + len(part)), part, self._encode)

    # --- async -----------------------------------------------------------------------------------------------------

    def _pump_here(self, values: AsyncIterable[object]) -> None:
        # It is cancelled when the job ends; nobody is there for the error, and the job has been told.
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._pump(values))

    async def _pump(self, values: AsyncIterable[object]) -> None:
        self._pumping = asyncio.current_task()
        granted = self.credit.watch(asyncio.get_running_loop())
        try:
            async for value in values:
                self._take(value)
                while self._read >= self.credit.upto and not self.credit.stopped:
                    granted.clear()
                    if self._read >= self.credit.upto and not self.credit.stopped:
                        await granted.wait()
                if self.credit.stopped:
                    return
        except asyncio.CancelledError:
            self._close_part()
            count = f"{self._read:,} item{'' if self._read == 1 else 's'}"
            lost = InputLost(
                f"reading the input was cancelled after {count}: it is read on the event loop that called pmap, and "
                "asyncio.run(...) cancels what runs on its loop when it returns. Await the job there, or pass a list"
            )
            self._sink.input_broken(self._job, self._read, lost)
            raise
        except BaseException as error:  # noqa: BLE001  # the user's iterator may raise anything: it ends the input
            self._close_part()
            self._sink.input_broken(self._job, self._read, error)
            return
        self._close_part()
        self._sink.input_ended(self._job, self._read)


def _explained(error: BaseException) -> BaseException:
    """The error of an input; where a usual mistake stands behind it, with a note of what to do."""
    # The error is a user's own object: looking at it may raise anything, and the note is a courtesy.
    with contextlib.suppress(BaseException):
        if "closed file" in str(error):
            error.add_note("its `with` block was left too early: wait for the job inside it, or pass list(file)")
        if "thread" in str(error).lower():
            error.add_note("the input is read on a thread of its own: if it is bound to yours, pass list(...)")
    return error
