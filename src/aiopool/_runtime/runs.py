"""The jobs of a pool that have not ended: from what feeders read to what surfaces show. On the pool's own thread."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._runtime.budget import Budget
from aiopool._runtime.environment import Snapshot
from aiopool._runtime.feeder import Encode, Feeder, Recoder
from aiopool._runtime.results import Ending, RawFailure, Results
from aiopool._runtime.unheard import Unheard
from aiopool.telemetry import JobSnapshot, JobState, Surface

log = logging.getLogger("aiopool")

SHOW_AFTER = 0.5
SHOW_EVERY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What the pool's front door knows of a job when it opens it.

    ``encode`` pickles items so that they fit the function. A job without a feeder brings its items with it, in
    ``brought``. ``value_of`` gives the value of an item again, for which ``keep`` is told what was read and ``forget``
    what nobody needs any more. ``expected`` is what the user said of an unsized input's length.
    """

    name: str
    function: bytes
    flags: int
    kind: f.Kind
    size: int | None
    concurrency: int | None
    batch: int | None = None
    window: int | None = None
    rerun_lost: bool = True
    stop_on_failure: bool = True
    single: bool = False
    pinned: bool = False
    timeout: float | None = None
    retries: int = 0
    backoff: float | None = None
    retry_timeouts: bool = True
    rate: float | None = None
    settings: bytes = b""
    encode: Encode
    value_of: Callable[[int], object]
    keep: Callable[[int, Sequence[object]], None] | None = None
    forget: Callable[[Sequence[int]], None] | None = None
    expected: int | None = None
    brought: Sequence[tuple[Sequence[int], _payload.EncodedItems]] = ()
    surface: Surface | None = None


@dataclass(slots=True, eq=False)
class Run:
    """A job that has not ended, as the driver holds it."""

    id: int
    spec: JobSpec
    results: Results
    feeder: Feeder | None
    started: float
    environment: Snapshot
    batches: dict[int, tuple[Sequence[int], _payload.EncodedItems]] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    broken: BaseException | None = None
    held: f.Supply | None = None
    budget: Budget = field(default_factory=Budget)

    def picture(self, state: JobState, in_flight: int = 0) -> JobSnapshot:
        """How far it is."""
        failed = len(self.results.failures)
        return JobSnapshot(
            id=self.id,
            name=self.spec.name,
            state=state,
            total=self.results.total if self.results.total is not None else self.spec.expected,
            done=self.results.finished - failed,
            failed=failed,
            in_flight=in_flight,
            elapsed=time.monotonic() - self.started,
            taken_over=self.results.prefilled,
            retried=self.results.retried,
        )


class Runs:
    """Holds the jobs, hands their batches over, and shows them. ``tell`` takes facts to the ledger."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        recoder: Recoder,
        tell: Callable[[f.Fact], None],
        picture_of: Callable[[int], JobSnapshot | None],
    ) -> None:
        self._loop = loop
        self._recoder = recoder
        self._tell = tell
        self._picture_of = picture_of
        self._runs: dict[int, Run] = {}
        self._batch_ids = itertools.count(1)
        self._showing = False
        self._unheard = Unheard(loop, lambda surface, news: on_surface(surface, "complain", news))

    def get(self, job: int) -> Run | None:
        """The job, unless it has ended."""
        return self._runs.get(job)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def open(self, run: Run) -> None:
        """Begin a job."""
        spec = run.spec
        self._runs[run.id] = run
        self._tell(
            f.JobOpened(
                run.id,
                spec.kind,
                spec.size,
                spec.concurrency,
                batch=spec.batch,
                window=spec.window,
                rerun_lost=spec.rerun_lost,
                stop_on_failure=spec.stop_on_failure,
                single=spec.single,
                pinned=spec.pinned,
                timeout=spec.timeout,
                retries=spec.retries,
                backoff=spec.backoff,
                retry_timeouts=spec.retry_timeouts,
                rate=spec.rate,
            )
        )
        for items, encoded in spec.brought:
            self.take_supply(run.id, items, encoded)
        if run.feeder is None:
            self.end_input(run.id, sum(len(items) for items, _ in spec.brought))
        if spec.surface is not None and spec.surface.wanted and not self._showing:
            self._showing = True
            self._loop.call_later(SHOW_AFTER, self._show)

    def end(self, run: Run, ending: Ending) -> None:
        """The job is over for everybody."""
        if run.feeder is not None:
            run.feeder.stop()
        del self._runs[run.id]
        # First, so that the last line is out before the cell that awaits the job ends.
        on_surface(run.spec.surface, "close", run.picture(ending.how))
        run.results.end(ending)
        self._unheard.note(run.spec.name, run.results, run.spec.surface, of_call=run.spec.single)

    def close(self) -> None:
        """The pool has ended: nothing that was to be said later is left unsaid."""
        self._unheard.close()

    # --- input -----------------------------------------------------------------------------------------------------

    def take_supply(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """A feeder has made a batch; what cannot travel has failed already."""
        run = self.get(job)
        if run is None:
            return
        run.budget.take(len(items), encoded)
        if encoded.refused:
            items, encoded = self._refuse(run, items, encoded)
        if len(items):
            batch = next(self._batch_ids)
            run.batches[batch] = (items, encoded)
            self._tell(f.Supplied(job, batch, items))
        self.read_on(job)

    def _refuse(
        self, run: Run, items: Sequence[int], encoded: _payload.EncodedItems
    ) -> tuple[Sequence[int], _payload.EncodedItems]:
        """Settle items whose argument cannot travel; what is left of the batch."""
        refused = dict(encoded.refused)
        for position, error in refused.items():
            run.results.fail(RawFailure(items[position], error))
            self._tell(f.Refused(run.id, items[position]))
        left = tuple(index for position, index in enumerate(items) if position not in refused)
        blobs = tuple(blob for position, blob in enumerate(encoded.blobs) if position not in refused)
        return left, _payload.EncodedItems(encoded.shared, blobs, ())

    def collect(self, job: int) -> None:
        """A feeder has begun a part of a batch."""
        run = self.get(job)
        if run is not None and run.feeder is not None:
            run.feeder.collect()

    def end_input(self, job: int, total: int) -> None:
        """A feeder has come to the end."""
        run = self.get(job)
        if run is not None:
            if total != run.spec.size:
                run.results.set_total(total + run.results.prefilled)
            self._tell(f.InputEnded(job, total))

    def break_input(self, job: int, total: int, error: BaseException) -> None:
        """Reading has raised."""
        run = self.get(job)
        if run is not None:
            run.broken = error
            self._tell(f.InputBroken(job, total))

    def supply(self, order: f.Supply) -> None:
        """Let the feeder read on, unless too much waits for a reader or for workers."""
        run = self.get(order.job)
        if run is None or run.feeder is None:
            return
        results = run.results
        if not results.room():
            run.held = order
            return
        busy = 2 * len(run.workers) + (run.spec.concurrency or 0)
        ended = results.finished - results.prefilled
        upto = run.budget.grant(order.upto, ended=ended, at_least=max(2, busy))
        run.held = order if upto < order.upto else None
        results.on_arrival = functools.partial(self.read_on, run.id) if run.held else None
        run.feeder.credit.grant(upto, order.size, hungry=order.hungry)
        if order.hungry:
            run.feeder.collect()

    def read_on(self, job: int) -> None:
        """There may be room now: carry out the last order that had to wait."""
        run = self.get(job)
        if run is not None and run.held is not None:
            self.supply(run.held)

    def recode(self, order: f.Recode) -> None:
        """Make a batch of items that were sent before."""
        run = self.get(order.job)
        if run is None:
            return
        run.budget.take_back(len(order.items))
        for items, encoded in run.spec.brought:
            if tuple(items) == tuple(order.items):
                self._loop.call_soon(self.take_supply, order.job, items, encoded)
                return
        values = [run.spec.value_of(index) for index in order.items]
        self._recoder.put(order.job, order.items, values, run.spec.encode)

    # --- display ---------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Update what shows jobs; goes on only while there is one to show."""
        now = time.monotonic()
        shown = [run for run in self if run.spec.surface is not None and run.spec.surface.wanted]
        for run in shown:
            if now - run.started >= SHOW_AFTER and (picture := self._picture_of(run.id)) is not None:
                on_surface(run.spec.surface, "update", picture)
        self._showing = bool(shown)
        if shown:
            self._loop.call_later(SHOW_EVERY, self._show)


def on_surface(surface: Surface | None, method: str, *args: object) -> None:
    """Tell a surface something. Whatever it raises, a job does not fail because it could not be watched."""
    try:
        if surface is not None:
            getattr(surface, method)(*args)
    except Exception:
        log.exception("the display of a job failed")
