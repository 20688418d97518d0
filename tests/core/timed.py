"""A ledger in virtual time: workers that take as long as they are told to, and messages that take their time.

So it can be said exactly how long a job takes of which every duration is known, on any machine, and against a greedy
scheduler that gives out one item at a time at no cost.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiopool._core import facts as f
from aiopool._core.frames import AskBack
from aiopool._core.ledger import Ledger

FLUSH = 0.02
"""How long a worker keeps values back while it runs other items of the same batch."""


def greedy(durations: Sequence[float], workers: int) -> float:
    """The makespan of items that are given out one by one, in this order, to whoever is free, at no cost at all."""
    free = [0.0] * workers
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@dataclass
class TimedWorker:
    """Runs one item after another. ``unsent`` are positions by batch that have ended, with the seconds of each."""

    number: int
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    running: tuple[int, int] | None = None
    left: dict[int, int] = field(default_factory=dict)
    unsent: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    flushed: float = 0.0
    told: bool = False


class Timed:
    """A pool. A message takes ``latency`` seconds, and the pool's thread ``cost`` for each fact.

    Coroutines here keep their worker's core busy as functions do, or wait for nothing: they end one after another.

    A worker that runs something is asked in vain for ``deaf`` seconds: its other thread waits for the interpreter.
    """

    def __init__(self, size: int, *, latency: float = 0.0003, cost: float = 0.0, deaf: float = 0.0) -> None:
        self.ledger = Ledger(size)
        self.now = 0.0
        self.told = Counter[str]()
        self.ordered = Counter[str]()
        self.sizes: list[int] = []
        self._latency = latency
        self._cost = cost
        self._deaf = deaf
        self._free_at = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._workers: dict[int, TimedWorker] = {}
        self._alarm = 0
        self._durations: Sequence[float] = ()
        self._batches: dict[int, Sequence[int]] = {}
        self._read = self._upto = 0
        self._size = 1
        self._ended = False
        self._job = 0

    def warm_up(self) -> None:
        """Every worker is there."""
        self._tell(f.WarmUpAsked(self.ledger.size))
        self._play(lambda: len(self._workers) == self.ledger.size)

    def run(self, durations: Sequence[float], kind: f.Kind = "def", concurrency: int | None = None) -> float:
        """Run items that take so long; how long all of them took together."""
        begun = self.now
        self._job += 1
        self._durations = durations
        self._read = self._upto = 0
        self._batches.clear()
        self.told.clear()
        self.ordered.clear()
        self.sizes.clear()
        self._ended = False
        self._tell(f.JobOpened(self._job, kind, len(durations), concurrency))
        self._play(lambda: self._ended)
        return self.now - begun

    # --- time --------------------------------------------------------------------------------------------------------

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), do))

    def _play(self, until: Callable[[], bool]) -> None:
        while not until():
            self.now, _, do = heapq.heappop(self._agenda)
            do()

    # --- the pool's thread -------------------------------------------------------------------------------------------

    def _send(self, fact: f.Fact) -> None:
        """A worker, or the feeder, tells the pool's thread something."""
        self._later(self._latency, lambda: self._arrive(fact))

    def _arrive(self, fact: f.Fact) -> None:
        self._free_at = max(self._free_at, self.now) + self._cost
        self._later(self._free_at - self.now, lambda: self._tell(fact))

    def _tell(self, fact: f.Fact) -> None:
        self.told[type(fact).__name__] += 1
        for order in self.ledger.tell(fact, self.now):
            self.ordered[type(order).__name__] += 1
            self._carry_out(order)

    def _carry_out(self, order: f.Command) -> None:
        match order:
            case f.StartWorker(worker=number):
                self._workers[number] = TimedWorker(number)
                self._send(f.WorkerReady(number))
            case f.SendBatch():
                self.sizes.append(len(self._batches[order.batch]))
                self._later(self._latency, lambda: self._take(self._workers[order.worker], order.batch))
            case f.SendAskBack():
                deaf = self._deaf if self._workers[order.worker].running is not None else 0.0
                self._later(self._latency + deaf, lambda: self._hand_back(self._workers[order.worker], order))
            case f.Supply():
                was_reading = self._read < self._upto
                self._upto, self._size = order.upto, order.size
                if not was_reading:
                    self._later(self._latency, self._feed)
            case f.Recode(items=items):
                self._supply(items)
            case f.WakeAt(time=time):
                self._alarm += 1
                self._later(max(0.0, time - self.now), lambda number=self._alarm: self._ring(number))
            case f.End():
                assert order.how == "done"
                self._ended = True

    def _ring(self, number: int) -> None:
        if number == self._alarm:
            self._tell(f.TimePassed())

    def _feed(self) -> None:
        count = min(self._size, self._upto - self._read, len(self._durations) - self._read)
        if count > 0:
            self._supply(range(self._read, self._read + count))
            self._read += count
            if self._read == len(self._durations):
                self._send(f.InputEnded(self._job, self._read))
            self._later(2e-7 * count, self._feed)

    def _supply(self, items: Sequence[int]) -> None:
        batch = next(self._numbers)
        self._batches[batch] = items
        self._send(f.Supplied(self._job, batch, items))

    # --- workers -----------------------------------------------------------------------------------------------------

    def _take(self, worker: TimedWorker, batch: int) -> None:
        worker.left[batch] = len(self._batches[batch])
        worker.queue.extend((batch, position) for position in range(worker.left[batch]))
        if worker.running is None:
            self._begin(worker)

    def _begin(self, worker: TimedWorker) -> None:
        worker.running = worker.queue.popleft() if worker.queue else None
        if worker.running is not None:
            batch, position = worker.running
            self._later(self._durations[self._batches[batch][position]], lambda: self._end(worker))

    def _end(self, worker: TimedWorker) -> None:
        assert worker.running is not None
        batch, position = worker.running
        seconds = self._durations[self._batches[batch][position]]
        worker.unsent.setdefault(batch, []).append((position, seconds))
        worker.left[batch] -= 1
        if not worker.left[batch] or self.now - worker.flushed > FLUSH:
            self._flush(worker)
        elif not worker.told:
            worker.told = True
            self._later(FLUSH, lambda: self._look(worker))
        self._begin(worker)

    def _look(self, worker: TimedWorker) -> None:
        """The link thread sends what has waited for too long, and looks again while anything ends."""
        if self.now - worker.flushed < FLUSH:
            self._later(FLUSH, lambda: self._look(worker))
        else:
            worker.told = False
            self._flush(worker)

    def _flush(self, worker: TimedWorker) -> None:
        worker.flushed = self.now
        for batch, ended in worker.unsent.items():
            first = ended[0][0]
            self._send(
                f.Finished(worker.number, batch, range(first, first + len(ended)), sum(each for _, each in ended))
            )
        worker.unsent = {}

    def _hand_back(self, worker: TimedWorker, order: f.SendAskBack) -> None:
        back = [worker.queue.pop() for _ in range(AskBack(order.job, order.parts).of(len(worker.queue)))]
        for batch, _ in back:
            worker.left[batch] -= 1
        batches, positions = [spot[0] for spot in back], [spot[1] for spot in back]
        self._send(f.Returned(worker.number, order.job, batches, positions))
        if back:
            self._flush(worker)
