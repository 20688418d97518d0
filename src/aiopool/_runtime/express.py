"""Calls that find a worker idle and end at once: the ledger need not hear of them.

Opened, sent and ended, such a call leaves the ledger as it was, but for what :meth:`Ledger.passed` notes; and asking it
thrice what to do costs more than all else that the pool's thread has to do for the call. The ledger changes by what it
is told and by nothing else. So whoever tells it something, or looks at it, has the call that is under way told first,
as of when it came; and a call that takes longer than a moment is told anyway.

When such a call has ended, the worker is offered to the next one, as nothing changes before somebody tells something.
Whoever makes a call while that stands sends it, in a thread of its own: the pool's thread wakes up and meets it while
the worker runs it. What is told to the ledger, or read by it, comes first in any case: the offer is withdrawn before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from select import PIPE_BUF
from typing import Literal, TypeVar

from aiopool._core import facts as f
from aiopool._core import frames, wire
from aiopool._core.items import JobBook
from aiopool._core.ledger import Ledger
from aiopool._core.workers import WorkerBook
from aiopool._runtime.dispatch import Dispatch
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.runs import Run, Runs
from aiopool._runtime.vitals import Vitals
from aiopool.errors import InternalError

__all__ = ["Express", "Looked"]

T = TypeVar("T")

MOMENT = 0.005
"""So long, in seconds, a call may be under way before the ledger is told."""


class _UnderWay:
    """A call that a worker has and the ledger does not know of.

    ``met``: the pool's thread knows it. ``since``: so many lines the worker had said when somebody else sent it.
    """

    __slots__ = ("at", "batch", "met", "run", "since", "worker")

    def __init__(self, run: Run, worker: WorkerProxy, batch: int, since: int | None = None) -> None:
        self.run = run
        self.worker = worker
        self.batch = batch
        self.since = since
        self.at = time.monotonic()
        self.met = False


class Express:
    """Has one call at a time under way. On the pool's own thread, but for :meth:`depart`.

    ``_door`` stands before the offer and what takes its place. It is held for some microseconds, by a thread that waits
    for nothing meanwhile.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ledger: Ledger, runs: Runs, dispatch: Dispatch, vitals: Vitals
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._runs = runs
        self._dispatch = dispatch
        self._vitals = vitals
        self._door = threading.Lock()
        self._offer: tuple[WorkerProxy, f.Kind] | None = None
        self._under_way: _UnderWay | None = None
        self._alarm: asyncio.TimerHandle | None = None
        runs.meet = self.meet
        runs.at_workers = lambda: [batch for worker in ledger.workers.values() for batch in worker.batches]

    # --- whoever makes a call ----------------------------------------------------------------------------------------

    def depart(self, run: Run) -> bool:
        """Send this call, if a worker is offered, and the pool's thread has nothing to do that came before. Any thread.

        The pool's thread must be told of it afterwards, whatever this raises: Stop may come at any line.
        """
        if (offer := self._offer) is None:
            return False
        worker, kind = offer
        if run.spec.kind != kind or worker.environment != run.environment.version or worker.link is None:
            return False
        under_way = _UnderWay(run, worker, self._runs.new_batch(), since=worker.output.said)
        data = b"".join(wire.encode(self._dispatch.call_frame(run, under_way.batch)))
        # Closed by this very thread, it is a finaliser that makes a call in the middle of another one.
        if len(data) > PIPE_BUF or self._door.locked():
            return False
        with self._door:
            if self._offer is not offer:
                return False
            # This first, and the offer last, without which the pool's thread does not wait at the door. What strikes in
            # between leaves a call that may have been sent, and so counts as one.
            self._under_way = under_way
            try:
                sent = worker.link.send_at_once(data)
                if not sent:
                    self._under_way = None
            finally:
                self._offer = None
        return sent

    # --- the pool's thread -------------------------------------------------------------------------------------------

    def take(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Send the only one of these, if it is a call and a worker has nothing to do. What is left of them."""
        run = runs[0]
        if run.departed or len(runs) > 1:
            self.meet()
            return [run for run in runs if not run.departed]
        if not run.is_call:
            return runs
        self._withdraw()
        if self._under_way is not None or (number := self._ledger.taker(run.spec.kind)) is None:
            return runs
        worker, batch = self._dispatch.worker(number), self._runs.new_batch()
        self._under_way = _UnderWay(run, worker, batch)
        self.meet()
        self._dispatch.send_environment(worker, run)
        worker.send(self._dispatch.call_frame(run, batch))
        worker.flush()
        return ()

    def meet(self) -> None:
        """Know the call that somebody has sent."""
        if (under_way := self._under_way) is None or under_way.met:
            return
        under_way.met = True
        run = under_way.run
        self._runs.hold((run,))
        self._dispatch.begin(under_way.worker, run, under_way.since)
        self._runs.show((run,))
        if self._alarm is None:
            self._alarm = self._loop.call_later(MOMENT, self._look)

    def ended(self, worker: WorkerProxy, frame: frames.Results) -> Run | None:
        """The call under way, if this is its value. The ledger has noted that it is over."""
        if (under_way := self._under_way) is None:
            return None
        positions = frame.positions
        if (under_way.worker, under_way.run.id, under_way.batch) != (worker, frame.job, frame.batch):
            return None
        if len(positions) != 1 or positions[0] != 0:
            return None
        self.meet()
        self._ledger.passed(worker.id, under_way.run.spec.kind, frame.seconds[0], time.monotonic())
        self._under_way = None
        return under_way.run

    def offer(self, worker: WorkerProxy, kind: f.Kind) -> None:
        """A call has :meth:`ended` there, and nothing was told since: the next one may be sent by whoever makes it."""
        if not worker.is_busy:
            with self._door:
                self._offer = worker, kind

    def _withdraw(self) -> None:
        """From here on nobody sends a call; one that somebody has just sent is under way."""
        if self._offer is not None:
            with self._door:
                self._offer = None

    def settle(self) -> None:
        """Let the ledger know of the call that is under way, as somebody is about to ask it."""
        self._withdraw()
        if (under_way := self._under_way) is not None:
            self.meet()
            self._under_way = None
            run, number, batch = under_way.run, under_way.worker.id, under_way.batch
            orders = self._ledger.tell_all(self._runs.facts_of_call(run, batch), under_way.at)
            if orders != [f.SendFunction(number, run.id), f.SendBatch(number, run.id, batch, 1)]:
                raise InternalError(f"a call was sent to worker {number}, and the ledger says {orders}")
            # A look in between has seen a worker without items.
            self._vitals.begin(under_way.worker)

    def close(self) -> None:
        """The pool has ended."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _look(self) -> None:
        self._alarm = None
        if (under_way := self._under_way) is None:
            return
        left = under_way.at + MOMENT - time.monotonic()
        if left > 0:
            self._alarm = self._loop.call_later(left, self._look)
        else:
            self.settle()


class Looked:
    """The ledger for those who look at it: they see what is under way, too."""

    def __init__(self, ledger: Ledger, settle: Callable[[], object]) -> None:
        self._ledger = ledger
        self.jobs: Mapping[int, JobBook] = _Settled(ledger.jobs, settle)
        self.workers: Mapping[int, WorkerBook] = _Settled(ledger.workers, settle)

    @property
    def size(self) -> int:
        """How many workers there may be."""
        return self._ledger.size

    @property
    def state(self) -> Literal["open", "closing", "closed"]:
        """Whether the pool takes jobs."""
        return self._ledger.state


class _Settled(Mapping[int, T]):
    """Books that are settled before they are opened."""

    def __init__(self, books: Mapping[int, T], settle: Callable[[], object]) -> None:
        self._books = books
        self._settle = settle

    def __getitem__(self, number: int) -> T:
        self._settle()
        return self._books[number]

    def __iter__(self) -> Iterator[int]:
        self._settle()
        return iter(self._books)

    def __len__(self) -> int:
        self._settle()
        return len(self._books)
