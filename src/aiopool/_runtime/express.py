"""Calls that find a worker idle and end at once: the ledger need not hear of them.

Opened, sent and ended, such a call leaves the ledger as it was, but for what :meth:`Ledger.passed` notes; and asking it
thrice what to do costs more than all else that the pool's thread has to do for the call. The ledger changes by what it
is told and by nothing else. So whoever tells it something, or looks at it, has the calls that are under way told first;
and where a worker takes longer than a moment for one, they are told anyway.

When the last of them has ended, its worker is offered to the next one, as nothing changes before somebody tells
something.
Whoever makes a call while that stands sends it, in a thread of its own: the pool's thread wakes up and meets it while
the worker runs it. What is told to the ledger, or read by it, comes first in any case: the offer is withdrawn before.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from select import PIPE_BUF
from typing import cast

from aiopool._core import facts as f
from aiopool._core import frames, wire
from aiopool._core.ledger import Ledger
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.calls import Call, Shape
from aiopool._runtime.dispatch import Dispatch
from aiopool._runtime.endings import Endings
from aiopool._runtime.environment import Snapshot
from aiopool._runtime.pictures import Pictures
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.results import Ending
from aiopool._runtime.runs import Run, Runs
from aiopool._runtime.vitals import Vitals

__all__ = ["Express"]

MOMENT = 0.02
"""So long, in seconds, nothing may be heard of a worker that has calls before the ledger is told."""

MOST_TOGETHER = 1 << 18
"""Calls whose arguments are no more bytes than that travel in one frame."""

LONGEST = 1e9
"""No call has taken so many seconds."""


@dataclass(slots=True, eq=False)
class _Sent:
    """A call that a worker has and the ledger does not know of. ``since``: so many lines the worker had said before."""

    worker: WorkerProxy
    run: Run | Call
    batch: int
    since: int


@dataclass(slots=True, eq=False)
class _Line:
    """Calls at one worker: so many are ``out``, and nothing was heard of them since ``at``.

    Of those that have ``ended``, by what they have in common, the ledger does not know yet: how many they are, and how
    many seconds they took together. With None stand those that are shown, of which each is noted for itself.
    """

    worker: WorkerProxy
    out: int = 0
    at: float = 0.0
    ended: dict[Shape | None, tuple[int, float]] = field(default_factory=dict)


class Express:
    """Has calls of one kind under way. On the pool's own thread, but for :meth:`depart`.

    Of calls that are shown it holds the :class:`Run`, of others the :class:`Call` alone. ``_door`` stands before the
    offer and what takes its place. It is held for some microseconds, by a thread that waits for nothing meanwhile.
    """

    def __init__(  # noqa: PLR0917 - each is of a type of its own
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        runs: Runs,
        dispatch: Dispatch,
        vitals: Vitals,
        tell: Callable[[Sequence[f.Fact]], object],
        endings: Endings,
        pictures: Pictures,
    ) -> None:
        """``tell`` takes facts to the ledger, and carries out what it orders."""
        self._loop = loop
        self._ledger = ledger
        self._runs = runs
        self._dispatch = dispatch
        self._vitals = vitals
        self._tell = tell
        self._endings = endings
        self._pictures = pictures
        self._door = threading.Lock()
        self._offer: tuple[WorkerProxy, f.Kind] | None = None
        self._departed: _Sent | None = None
        self._kind: f.Kind = "def"
        self._sent: dict[int, _Sent] = {}
        self._waiting: deque[Run | Call] = deque()
        self._lines: dict[int, _Line] = {}
        self._heard: list[_Line] = []
        self._ended: deque[tuple[Call, frames.Results, int]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        runs.meet = self.meet_all
        runs.at_workers = lambda: [
            *self._sent,
            *(each for worker in ledger.workers.values() for each in worker.batches),
        ]

    @property
    def is_empty(self) -> bool:
        """Whether no call is under way."""
        return not (self._sent or self._waiting or self._departed)

    # --- whoever makes a call ----------------------------------------------------------------------------------------

    def depart(self, run: Run | Call) -> bool:
        """Send this call, if a worker is offered, and the pool's thread has nothing to do that came before. Any thread.

        The pool's thread must be told of it afterwards, whatever this raises: Stop may come at any line.
        """
        if (offer := self._offer) is None:
            return False
        worker, kind = offer
        if run.kind != kind or worker.environment != run.environment.version or worker.link is None:
            return False
        sent = _Sent(worker, run, self._runs.new_batch(), since=worker.output.said)
        data = b"".join(wire.encode(run.frame(sent.batch)))
        # Closed by this very thread, it is a finaliser that makes a call in the middle of another one.
        if len(data) > PIPE_BUF or self._door.locked():
            return False
        with self._door:
            if self._offer is not offer:
                return False
            # This first, and the offer last, without which the pool's thread does not wait at the door. What strikes in
            # between leaves a call that may have been sent, and so counts as one.
            self._departed = sent
            try:
                is_sent = worker.link.send_at_once(data)
                if not is_sent:
                    self._departed = None
            finally:
                self._offer = None
        return is_sent

    # --- the pool's thread -------------------------------------------------------------------------------------------

    def take(self, runs: Sequence[Run | Call]) -> Sequence[Run | Call]:
        """Take these calls, if there are workers that have nothing else to do. What is left of them."""
        self._meet()
        left = [run for run in runs if not run.departed]
        if left and self._finds_workers_for(left):
            shown = [run for run in left if isinstance(run, Run)]
            self._runs.hold(shown)
            self._waiting.extend(left)
            self._send()
            self._runs.show(shown)
            return ()
        return left

    def _finds_workers_for(self, runs: Sequence[Run | Call]) -> bool:
        """Whether these are calls, like those under way, and have as many workers as the ledger would find for them."""
        kind = runs[0].kind
        if not all(run.is_call and run.kind == kind for run in runs) or not (self.is_empty or kind == self._kind):
            return False
        wanted = min(self._ledger.size, len(self._sent) + len(self._waiting) + len(runs))
        numbers = self._ledger.takers(kind, wanted)
        if len(numbers) < wanted:
            return False
        self._kind = kind
        for number in numbers:
            if number not in self._lines:
                self._lines[number] = _Line(self._dispatch.worker(number))
        return True

    def _meet(self) -> None:
        """Know the call that somebody has sent."""
        # While whoever has made it is at the door it is not certain that it is sent.
        self._withdraw()
        if (sent := self._departed) is None:
            return
        self._departed = None
        worker, run = sent.worker, sent.run
        self._kind = run.kind
        if isinstance(run, Run):
            self._runs.hold((run,))
        self._note_sent(self._lines.setdefault(worker.id, _Line(worker)), sent)
        self._vitals.begin(worker, in_short=True)
        if isinstance(run, Run):
            self._runs.show((run,))

    def meet_all(self) -> None:
        """Have all of them held as jobs: somebody looks for one."""
        self._meet()
        for sent in self._sent.values():
            if isinstance(sent.run, Call):
                sent.run = run = sent.run.run()
                self._runs.hold((run,))
                self._dispatch.begin(sent.worker, run, sent.since)
                self._runs.show((run,))
        new = {each: each.run() for each in self._waiting if isinstance(each, Call)}
        if new:
            self._waiting = deque([new[each] if isinstance(each, Call) else each for each in self._waiting])
            self._runs.hold(list(new.values()))
            self._runs.show(list(new.values()))

    def _send(self) -> None:
        """Give every worker a part of those that wait, as far as it has room for them."""
        for line in self._lines.values():
            # What it has printed before is no last word of these. Whoever shows it may look at the ledger.
            line.worker.drain_before_items()
        most = self._ledger.ahead(self._kind)
        lines = sorted((line for line in self._lines.values() if 2 * line.out < most), key=_out)
        for place, line in enumerate(lines):
            count = min(most - line.out, -(-len(self._waiting) // (len(lines) - place)))
            for alike, runs in groupby(list(islice(self._waiting, count)), key=_alike):
                self._dispatch.send_environment(line.worker, alike[0])
                self._give(line, list(runs))
            for _ in range(count):
                # Not before: whatever fails, each of them is known here.
                self._waiting.popleft()
            if count:
                self._vitals.begin(line.worker, in_short=True)
                line.worker.flush()

    def _give(self, line: _Line, runs: Sequence[Run | Call]) -> None:
        """Send calls of one function there."""
        worker = line.worker
        said = worker.output.said
        batches = [self._runs.new_batch() for _ in runs]
        for run, batch in zip(runs, batches, strict=True):
            self._note_sent(line, _Sent(worker, run, batch, said))
        if len(batches) == 1 or sum([len(run.data) for run in runs]) > MOST_TOGETHER:
            for run, batch in zip(runs, batches, strict=True):
                worker.send(run.frame(batch))
            return
        jobs = _run_of([run.id for run in runs])
        _, flags, function = _alike(runs[0])
        worker.send(frames.Calls(flags, function, jobs, _run_of(batches), [run.data for run in runs]))

    def _note_sent(self, line: _Line, sent: _Sent) -> None:
        self._sent[sent.batch] = sent
        if not line.out:
            line.at = time.monotonic()
            if self._alarm is None:
                self._alarm = self._loop.call_later(MOMENT, self._look)
        line.out += 1
        if isinstance(sent.run, Run):
            self._dispatch.begin(line.worker, sent.run, sent.since)

    def takes(self, worker: WorkerProxy, frame: frames.Results) -> bool:
        """Whether this was the value of a call under way, which has ended with it."""
        self._meet()
        sent, positions, seconds = self._sent.get(frame.batch), frame.positions, frame.seconds
        if sent is None or sent.worker is not worker or sent.run.id != frame.job:
            return False
        if positions != frames.ONLY or not 0 <= seconds[0] <= LONGEST:
            return False
        # What it has printed must not come after its end. To whoever shows it the call is a job.
        if worker.drain_before() and worker.output.is_amid:
            self.settle()
        if frame.batch not in self._sent:
            return False
        del self._sent[frame.batch]
        line = self._lines[worker.id]
        if not line.ended:
            self._heard.append(line)
        line.out -= 1
        run = sent.run
        shape = run.shape if isinstance(run, Call) else None
        count, took = line.ended.get(shape, (0, 0.0))
        line.ended[shape] = count + 1, took + seconds[0]
        if isinstance(run, Call):
            self._ended.append((run, frame, worker.index))
        else:
            run.results.deliver(Segment(frames.ONLY, seconds, frame.shared, frame.blobs, worker.index))
            self._pictures.ended(worker, run, frames.ONLY, seconds[0])
            self._endings.finish(run, Ending("done"))
        return True

    def go_on(self) -> None:
        """Workers have been heard: send more, or offer one that has nothing to do.

        As nothing was told since it got its call, the next one may be sent there by whoever makes it.
        """
        if len(self._ended) == 1:
            # Who waits for one alone wakes up while the rest is done here.
            self._tell_ended()
        try:
            if self._heard:
                heard = self._note_ended()
                if self._waiting:
                    self._send()
                elif not self._sent:
                    self._lines = {}
                    if not heard.worker.is_busy:
                        with self._door:
                            self._offer = heard.worker, self._kind
        finally:
            # Last, for who is told takes the processor from this thread.
            self._tell_ended()

    def _tell_ended(self) -> None:
        now = time.monotonic() if self._ended else 0.0
        while self._ended:
            call, value, worker = self._ended.popleft()
            call.end(value, worker, now)

    def fail(self) -> None:
        """An error of ours is about to end everything: whatever is here is known as a job, or ends with its value."""
        # Whatever is broken here, too: what can be known of the others is.
        with contextlib.suppress(Exception):
            self._tell_ended()
        with contextlib.suppress(Exception):
            self.meet_all()

    def _note_ended(self) -> _Line:
        """Have the ledger note those that are over; the worker that was heard last."""
        now = time.monotonic()
        heard, self._heard = self._heard, []
        for line in heard:
            ended, line.ended, line.at = line.ended, {}, now
            count, seconds = 0, 0.0
            for shape, (some, took) in ended.items():
                count += some
                seconds += took
                if shape is not None:
                    self._pictures.passed(line.worker, shape, some, took)
            self._ledger.passed(line.worker.id, self._kind, count, seconds, now)
        return heard[-1]

    def _withdraw(self) -> None:
        """From here on nobody sends a call; one that somebody has just sent is under way."""
        if self._offer is not None:
            with self._door:
                self._offer = None

    def settle(self) -> None:
        """Let the ledger know of the calls that are under way, as somebody is about to ask it."""
        self.meet_all()
        if self._heard:
            self._note_ended()
        sent, self._sent = self._sent, {}
        waiting, self._waiting = self._waiting, deque()
        self._lines = {}
        if sent or waiting:
            facts: list[f.Fact] = [
                f.Departed(cast("Run", each.run).opened, each.worker.id, each.batch) for each in sent.values()
            ]
            self._tell([*facts, *self._runs.register(cast("Sequence[Run]", waiting))])
            for each in sent.values():
                # A look in between has seen a worker without items.
                self._vitals.begin(each.worker)

    def close(self) -> None:
        """The pool has ended."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _look(self, late: float = 0.0) -> None:
        """Whether a worker takes long for a call. ``late``: it seems that one has since then, and all was read now."""
        self._alarm = None
        since = min((line.at for line in self._lines.values() if line.out), default=None)
        if since is None:
            return
        left = since + MOMENT - time.monotonic()
        if left > 0:
            self._alarm = self._loop.call_later(left, self._look)
        elif since == late:
            self.settle()
        else:
            # While this thread had no turn, as beside one that makes calls, the worker may have said a lot.
            self._alarm = self._loop.call_later(0, self._look, since)


def _out(line: _Line) -> int:
    return line.out


def _alike(run: Run | Call) -> tuple[Snapshot, int, bytes]:
    """What calls have in common that travel together."""
    if isinstance(run, Call):
        return run.environment, run.shape.flags, run.shape.data
    return run.environment, run.spec.flags, run.spec.function


def _run_of(numbers: list[int]) -> Sequence[int]:
    """The same, as a range where they are one."""
    run = range(numbers[0], numbers[-1] + 1)
    return run if len(run) == len(numbers) and list(run) == numbers else numbers
