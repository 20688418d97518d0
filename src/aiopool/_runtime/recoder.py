"""Pickles what must not wait for an input: items that run again, and parts of batches that were read."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from aiopool import _payload

__all__ = ["Encode", "Recoder", "Taker"]

LINGER_SECONDS = 1.0
"""How long a thread waits for more: an input that comes item by item shall not cost one for each."""

Encode = Callable[[Sequence[object]], _payload.EncodedItems]


class Taker(Protocol):
    """Who takes what was pickled, from any thread."""

    def supplied(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """These items are ready to be sent; positions in ``encoded`` that were refused are failures."""


class Recoder:
    """Does one thing after another of each job, in order, and of several jobs side by side.

    An item is the user's, and to pickle it may take as long as it likes, or for ever: that holds up its own job. So
    there are as many threads as jobs have something to pickle at the same time, and none when nobody has.
    """

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._changed = threading.Condition()
        # What is to be done of each job that has something, or of which a thread is doing something.
        self._work: dict[int, deque[tuple[Sequence[int], Sequence[object], Encode]]] = {}
        # Those of them that no thread has in hand.
        self._waiting: deque[int] = deque()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def put(self, job: int, items: Sequence[int], values: Sequence[object], encode: Encode) -> None:
        """Pickle these and supply them."""
        with self._changed:
            if (work := self._work.get(job)) is not None:
                work.append((items, values, encode))
                return
            self._work[job] = deque([(items, values, encode)])
            self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._changed.notify()
                return
        self._begin_thread()

    def drop(self, job: int) -> None:
        """The job has ended: what is left to be done of it need not be done."""
        with self._changed:
            if (work := self._work.get(job)) is not None:
                work.clear()

    def stop(self) -> None:
        """Let threads end once what was put is done."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _begin_thread(self) -> None:
        thread = threading.Thread(
            target=contextvars.Context().run, args=(self._run,), name="aiopool-recoder", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # There are too many, or the interpreter ends. One of ours that there is comes to it; else it is done here.
            if not self._threads:
                self._run(0.0)

    def _run(self, linger: float | None = None) -> None:
        with self._changed:
            self._threads += 1
        while (job := self._next(LINGER_SECONDS if linger is None else linger)) is not None:
            self._do_one_of(job)

    def _next(self, linger: float) -> int | None:
        """Take a job in hand that has something to do; None: there is none, and this thread does not count any more."""
        with self._changed:
            if not self._waiting:
                self._idle += 1
                self._changed.wait_for(lambda: self._waiting or self._stopped, linger)
                self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None

    def _do_one_of(self, job: int) -> None:
        with self._changed:
            work = self._work[job]
            one = work.popleft() if work else None
        if one is not None:
            self._do(job, *one)
        with self._changed:
            if work:
                self._waiting.append(job)
            else:
                del self._work[job]

    def _do(self, job: int, items: Sequence[int], values: Sequence[object], encode: Encode) -> None:
        try:
            encoded = encode(values)
        except BaseException as error:  # noqa: BLE001  # out of memory, say; others wait for this thread, too
            encoded = _payload.EncodedItems(b"", (), tuple((position, error) for position in range(len(items))))
        self._taker.supplied(job, items, encoded)
