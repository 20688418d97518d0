"""The jobs of a pool that have not ended: from what feeders read to what surfaces show. On the pool's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._payload.puts import Stored
from aiopool._runtime.budget import Budget
from aiopool._runtime.environment import Snapshot
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.labelling import Labeller
from aiopool._runtime.recoder import Encode, Recoder
from aiopool._runtime.results import Ending, RawFailure, Results
from aiopool._runtime.unheard import Unheard
from aiopool._runtime.views import Views, on_surface
from aiopool._runtime.voices import Voice
from aiopool.frozen import frozen
from aiopool.surfaces import Surface
from aiopool.telemetry import FailureGroup, JobSnapshot, JobState

log = logging.getLogger("aiopool")

BATCHES = (1 << 32) - 1
"""Numbers of batches are below that, and then begin again: on a mark page they have 32 bits, of which all set are no
batch's."""

LOOK_BEFORE = 1 << 20
"""So many numbers before they begin again it is looked which are still in use."""


@frozen
class JobSpec:
    """What the pool's front door knows of a job when it opens it.

    ``encode`` pickles items so that they fit the function. A job without a feeder brings its items with it, in
    ``brought``. ``value_of`` gives the value of an item again, for which ``keep`` is told what was read and ``forget``
    what nobody needs any more. ``stays``: what the function does shall be done in every worker that starts later;
    with the same ``key`` the next one does the same. ``refs`` are what the function names of what was put.
    """

    name: str
    function: bytes
    flags: int
    kind: f.Kind
    size: int | None
    concurrency: int | None
    encode: Encode
    value_of: Callable[[int], object]
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
    keep: Callable[[int, Sequence[object]], None] | None = None
    forget: Callable[[Sequence[int]], None] | None = None
    brought: Sequence[tuple[Sequence[int], _payload.EncodedItems]] = ()
    surface: Surface | None = None
    stays: bool = False
    key: bytes = b""
    refs: tuple[Stored, ...] = ()


def picture_of(
    results: Results,
    *,
    id: int,  # noqa: A002 - what it is called everywhere
    name: str,
    state: JobState,
    started: float,
    failures: tuple[FailureGroup, ...],
    in_flight: int = 0,
    resting: int = 0,
    waits_for_reader: bool = False,
) -> JobSnapshot:
    """How far a job is, or was when it ended."""
    failed = len(results.failures)
    return JobSnapshot(
        id=id,
        name=name,
        state=state,
        total=results.total if results.total is not None else results.expected,
        done=results.finished - failed,
        failed=failed,
        in_flight=in_flight,
        elapsed=(results.ended_at or time.monotonic()) - started,
        taken_over=results.prefilled,
        retried=results.retried,
        lost=results.lost,
        failures=failures,
        unshown=results.unshown,
        waits_for_reader=waits_for_reader,
        resting=resting,
    )


@dataclass(slots=True, eq=False)
class Run:
    """A job that has not ended, as the driver holds it.

    ``is_call``: it travels as one frame, which holds all of it. ``departed``: whoever has made it has sent it, too.
    """

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
    voice: Voice = field(init=False)
    budget: Budget | None = field(init=False)
    is_call: bool = False
    departed: bool = False

    def __post_init__(self) -> None:
        self.voice = Voice(self.spec.surface, of_items=not self.spec.pinned)
        # What a job has brought with it is there, however big it is.
        self.budget = Budget() if self.feeder is not None else None
        if self.spec.single:
            ((_, encoded),) = self.spec.brought
            self.is_call = not self.spec.refs and encoded.only is not None

    @property
    def kind(self) -> f.Kind:
        """Which items it has."""
        return self.spec.kind

    def frame(self, batch: int) -> frames.Call:
        """All that a worker needs of a call. Any thread."""
        return frames.Call(self.id, batch, self.spec.flags, self.spec.function, self.data)

    @property
    def data(self) -> bytes:
        """The arguments of a call."""
        return self.spec.brought[0][1].only or b""

    @property
    def opened(self) -> f.JobOpened:
        """What there is to tell of it when it begins."""
        spec = self.spec
        return f.JobOpened(
            self.id,
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

    def picture(
        self,
        state: JobState,
        in_flight: int = 0,
        label_of: Callable[[int], str | None] | None = None,
        *,
        resting: int = 0,
    ) -> JobSnapshot:
        """How far it is. ``label_of`` gives the labels of items that failed, by default those that are known."""
        results = self.results
        results.unshown = self.voice.unshown
        return picture_of(
            results,
            id=self.id,
            name=self.spec.name,
            state=state,
            started=self.started,
            failures=results.groups.picture(label_of or results.labels.look),
            in_flight=in_flight,
            resting=resting,
            waits_for_reader=self.held is not None and results.is_full,
        )


class Runs:
    """Holds the jobs, hands their batches over, and shows them. ``tell(*facts)`` takes facts to the ledger.

    ``meet`` sees to it that all calls are held here, of which most end without that; ``at_workers`` tells the numbers
    of the batches that workers hold.
    ``maps`` are all but calls by ``submit``. Of those there may be tens of thousands: they are in ``calls``, by the
    name of their function, in the order in which they began.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        recoder: Recoder,
        tell: Callable[..., None],
        views: Views,
        labeller: Labeller,
    ) -> None:
        self._loop = loop
        self._recoder = recoder
        self._tell = tell
        self._views = views
        self._labeller = labeller
        self.meet: Callable[[], object] = _nobody
        self._runs: dict[int, Run] = {}
        self.maps: dict[int, Run] = {}
        # Taken from the front by the thousand, which a plain dict does in O(n) each.
        self.calls: dict[str, OrderedDict[int, Run]] = {}
        self._ended: deque[tuple[Run, Ending]] = deque()
        # Asked by several threads: nothing of Python's runs in it, so each gets a number of its own.
        self._batch_ids: Iterator[int] = itertools.chain.from_iterable(itertools.repeat(range(1, BATCHES)))
        self._in_use: frozenset[int] = frozenset()
        self.at_workers: Callable[[], Iterable[int]] = tuple
        self._unheard = Unheard(loop, lambda surface, news: on_surface(surface, "complain", news))

    def get(self, job: int) -> Run | None:
        """The job, unless it has ended."""
        if (run := self._runs.get(job)) is None:
            self.meet()
            run = self._runs.get(job)
        return run

    def __iter__(self) -> Iterator[Run]:
        self.meet()
        return iter(list(self._runs.values()))

    def names(self) -> dict[int, str]:
        """How the jobs are called."""
        return {run.id: run.spec.name for run in self}

    def calls_of(self, name: str) -> list[int]:
        """The numbers of the calls of that function."""
        self.meet()
        return list(self.calls.get(name, ()))

    def open(self, runs: Sequence[Run]) -> None:
        """Begin jobs: thousands of calls come together, and are told, and sent, together."""
        self._tell(*self.register(runs))
        self.show(runs)

    def register(self, runs: Sequence[Run]) -> list[f.Fact]:
        """Hold the jobs; what there is to tell of them."""
        facts: list[f.Fact] = []
        self.hold(runs)  # All of them first: whatever fails, those that are known here are told.
        for run in runs:
            facts.append(run.opened)
            for items, encoded in run.spec.brought:
                self._supplied(run, items, encoded, facts.append)
            if run.feeder is None and not run.spec.single:
                facts.append(f.InputEnded(run.id, sum(len(items) for items, _ in run.spec.brought)))
        return facts

    def new_batch(self) -> int:
        """A number for a batch that no other one has. Any thread."""
        while True:
            number = next(self._batch_ids)
            if number == BATCHES - LOOK_BEFORE:
                # Who gets a number after this look is in the next one, which comes before that number does.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._look_what_is_in_use, context=contextvars.Context())
            if number not in self._in_use:
                return number

    def _look_what_is_in_use(self) -> None:
        """Note the batches that there are: an item of one may run for days, while others come by the thousand."""
        self._in_use = frozenset((*(batch for run in self._runs.values() for batch in run.batches), *self.at_workers()))

    def hold(self, runs: Sequence[Run]) -> None:
        """Know the jobs."""
        for run in runs:
            self._runs[run.id] = run
            spec = run.spec
            if not spec.single:
                self.maps[run.id] = run
            elif (calls := self.calls.get(spec.name)) is not None:
                calls[run.id] = run
            else:
                self.calls[spec.name] = OrderedDict({run.id: run})

    def show(self, runs: Sequence[Run]) -> None:
        """Let those know that show the jobs."""
        for run in runs:
            if (surface := run.spec.surface) is not None:
                on_surface(surface, "begin", run.id)
                self._views.begin(run.id, surface.view)
            else:
                self._views.begin(run.id, None)

    def end(self, run: Run, ending: Ending) -> None:
        """The job is over for everybody."""
        if run.feeder is not None:
            run.feeder.stop()
        run.held = None
        self._forget(run)
        self._views.end(run.id)
        run.results.unshown = run.voice.unshown
        try:
            # First, so that the last line is out before the cell that awaits the job ends.
            if (surface := run.spec.surface) is not None and not getattr(surface, "is_silent", False):
                on_surface(surface, "close", run.picture(ending.how))
                self._amend(run, ending)
        except Exception:
            log.exception("the end of a job cannot be shown")
        finally:
            self._ended.append((run, ending))  # Whatever it looks like: nobody else knows the job any more.

    def tell_ends(self) -> None:
        """Tell who waits for the jobs that have ended: last, for who is told takes the processor from this thread."""
        while self._ended:
            run, ending = self._ended.popleft()
            run.results.end(ending)
            self._unheard.note(run.spec.name, run.results, run.spec.surface, of_call=run.spec.single)

    def _forget(self, run: Run) -> None:
        del self._runs[run.id]
        if not run.spec.single:
            del self.maps[run.id]
            return
        calls = self.calls[run.spec.name]
        del calls[run.id]
        if not calls:
            del self.calls[run.spec.name]

    def _amend(self, run: Run, ending: Ending) -> None:
        """Say how it has ended once more, where labels of failures were missing that only the user's code can make."""
        surface, results = run.spec.surface, run.results
        if surface is None or surface.view is None or not (missing := results.groups.missing()):
            return

        def again() -> None:
            # The pool's thread may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    lambda: on_surface(surface, "amend", run.picture(ending.how)), context=contextvars.Context()
                )

        self._labeller.ask_all(results.labels, missing, again)

    def close(self) -> None:
        """The pool has ended: nothing that was to be said later is left unsaid."""
        self.tell_ends()
        self._unheard.close()

    # --- input -----------------------------------------------------------------------------------------------------

    def take_supply(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """A feeder has made a batch; what cannot travel has failed already."""
        run = self.get(job)
        if run is None:
            return
        self._supplied(run, items, encoded, self._tell)
        self.read_on(job)

    def _supplied(
        self, run: Run, items: Sequence[int], encoded: _payload.EncodedItems, tell: Callable[[f.Fact], object]
    ) -> None:
        if run.budget is not None:
            run.budget.take(len(items), encoded)
        if encoded.refused:
            items, encoded = self._refuse(run, items, encoded, tell)
        if len(items):
            batch = self.new_batch()
            run.batches[batch] = (items, encoded)
            tell(f.Supplied(run.id, batch, items))

    def _refuse(
        self, run: Run, items: Sequence[int], encoded: _payload.EncodedItems, tell: Callable[[f.Fact], object]
    ) -> tuple[Sequence[int], _payload.EncodedItems]:
        """Settle items whose argument cannot travel; what is left of the batch."""
        refused = dict(encoded.refused)
        for position, error in refused.items():
            run.results.fail(RawFailure(items[position], error))
            tell(f.Refused(run.id, items[position]))
        left = tuple(index for position, index in enumerate(items) if position not in refused)
        blobs = tuple(blob for position, blob in enumerate(encoded.blobs) if position not in refused)
        return left, _payload.EncodedItems(encoded.shared, blobs, (), encoded.in_pages, encoded.refs)

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
        if run is None or run.feeder is None or run.budget is None:
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
        if run.budget is not None:
            run.budget.take_back(len(order.items))
        for items, encoded in run.spec.brought:
            if tuple(items) == tuple(order.items):
                self._loop.call_soon(self.take_supply, order.job, items, encoded)
                return
        values = [run.spec.value_of(index) for index in order.items]
        self._recoder.put(order.job, order.items, values, run.spec.encode)


def _nobody() -> None:
    """Nobody else sends calls."""
