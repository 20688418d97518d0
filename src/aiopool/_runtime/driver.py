"""Between the ledger and the world: takes what happens to the ledger as facts, and carries out what it orders.

Everything here runs on the pool's own thread, but for the few methods that say otherwise.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._core.ledger import Ledger
from aiopool._runtime.feeder import Feeder, Recoder
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.results import Ending, RawFailure, Results, Segment
from aiopool._runtime.thread import IOThread
from aiopool.engines.base import Engine
from aiopool.errors import AiopoolError, FrameError, InternalError, WorkerLost, WorkerStartFailed
from aiopool.options import PoolOptions
from aiopool.telemetry import JobSnapshot, JobState, PoolSnapshot, Surface, WorkerInfo, WorkerState

log = logging.getLogger("aiopool")

SHOW_AFTER = 0.5
SHOW_EVERY = 0.1
PART_SECONDS = 3.0
"""How long a worker without work may take to end by itself once the pool has hung up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What the pool's front door knows of a job when it opens it.

    A job without a feeder brings its items with it, in ``brought``. ``value_of`` gives the value of an item again,
    for which ``keep`` is told what was read and ``forget`` what nobody needs any more. ``expected`` is what the user
    said of an unsized input's length.
    """

    name: str
    function: bytes
    flags: int
    kind: f.Kind
    size: int | None
    concurrency: int
    batch: int | None = None
    window: int | None = None
    rerun_lost: bool = True
    stop_on_failure: bool = True
    single: bool = False
    pinned: bool = False
    value_of: Callable[[int], object]
    keep: Callable[[int, Sequence[object]], None] | None = None
    forget: Callable[[Sequence[int]], None] | None = None
    expected: int | None = None
    brought: Sequence[tuple[Sequence[int], _payload.EncodedItems]] = ()
    surface: Surface | None = None
    shown: bool = True


@dataclass(slots=True, eq=False)
class _Run:
    """A job that has not ended, as the driver holds it."""

    id: int
    spec: JobSpec
    results: Results
    feeder: Feeder | None
    started: float
    batches: dict[int, tuple[Sequence[int], _payload.EncodedItems]] = field(default_factory=dict)
    broken: BaseException | None = None
    shown: bool = False


class Driver:
    """Runs one pool: its thread, its engine, its ledger, its jobs."""

    def __init__(self, options: PoolOptions, make_engine: Callable[[Any], Engine], initializers: list[bytes]) -> None:
        self.options = options
        self.closed = Results(1, prefilled={0: None})
        self._ledger = Ledger(
            options.workers,
            start_timeout=options.start_timeout,
            grace=options.grace,
            idle_timeout=options.idle_timeout,
        )
        self._initializers = initializers
        self._io = IOThread(options.name)
        self._io.loop.set_exception_handler(self._on_internal_error)
        self._engine = make_engine(self._io.loop)
        self._recoder = Recoder(self)
        self._workers: dict[int, WorkerProxy] = {}
        self._runs: dict[int, _Run] = {}
        self._job_ids = itertools.count(1)
        self._batch_ids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._reached: dict[int, Results] = {}
        self._start_error: BaseException | None = None
        self._alarm_at: float | None = None
        self._alarm: Any = None
        self._showing = False
        self._carrying: dict[type, Callable[[Any], None]] = {
            f.StartWorker: self._start_worker,
            f.SendFunction: self._send_function,
            f.SendBatch: self._send_batch,
            f.SendAskBack: lambda order: self._send(order.worker, frames.AskBack(order.job, order.count)),
            f.CancelOn: lambda order: self._send(order.worker, frames.Cancel(order.job)),
            f.ForgetOn: lambda order: self._send(order.worker, frames.Forget(order.job)),
            f.HangUp: self._hang_up,
            f.Kill: self._kill,
            f.Supply: self._supply,
            f.Recode: self._recode,
            f.SettleLost: self._settle_lost,
            f.End: self._end,
            f.EndStartFailed: self._end_start_failed,
            f.Reached: lambda order: self._reached.pop(order.token).end(Ending("done")),
            f.PoolEnded: lambda _: self._pool_ended(),
            f.WakeAt: self._wake_at,
        }

    # --- any thread ------------------------------------------------------------------------------------------------

    def open(self, spec: JobSpec, results: Results, feed: Callable[[Feeder], None] | None) -> int:
        """Begin a job; its number."""
        job = next(self._job_ids)
        feeder = Feeder(job, self, self._recoder, spec.keep) if feed else None
        run = _Run(job, spec, results, feeder, time.monotonic())
        self._io.call(self._open, run)
        if feed and feeder:
            feed(feeder)
        return job

    def cancel(self, job: int, *, stopped: bool) -> None:
        """End the job early. Any thread."""
        self._io.call(self._tell, f.CancelAsked(job, "stopped" if stopped else "cancelled"))

    def pause(self, job: int) -> None:
        """Start nothing more of the job. Any thread."""
        self._io.call(self._tell, f.PauseAsked(job))

    def resume(self, job: int) -> None:
        """Let the job go on. Any thread."""
        self._io.call(self._tell, f.ResumeAsked(job))

    def must_not_block(self, job: int) -> bool:  # noqa: ARG002  # what feeds the job will matter, too
        """Whether a blocking wait on this very thread could never end. Any thread."""
        return self._io.is_current

    def snapshot_job(self, job: int) -> JobSnapshot | None:
        """A picture of the job, None when it has ended. Any thread."""
        return self._io.ask(self._picture_job, job)

    def snapshot(self) -> PoolSnapshot:
        """A picture of the pool. Any thread."""
        return self._io.ask(self._picture)

    def resize(self, size: int, results: Results) -> None:
        """Have ``size`` workers; ``results`` ends when there are no more. Any thread."""
        self._io.call(self._ask_token, results, lambda token: f.Resized(size, token))

    def restart(self, results: Results, *, now: bool) -> None:
        """Replace every worker; ``results`` ends when the old ones are gone. Any thread."""
        self._io.call(self._ask_token, results, lambda token: f.RestartAsked(token, now=now))

    def keep(self, function: bytes) -> None:
        """Run this function on every worker that starts from now on, before its first item. Any thread."""
        self._io.call(self._initializers.append, function)

    def close(self) -> None:
        """End when the jobs have; ``closed`` tells. Any thread."""
        self._io.call(self._tell, f.CloseAsked())

    def terminate(self) -> None:
        """End now; ``closed`` tells. Any thread."""
        self._io.call(self._tell, f.TerminateAsked())

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the pool's own thread."""
        return self._io.is_current

    # --- from feeders: any thread -------------------------------------------------------------------------------------

    def supplied(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """A feeder has made a batch."""
        self._io.call(self._take_supply, job, items, encoded)

    def nudged(self, job: int) -> None:
        """A feeder has begun a part of a batch."""
        self._io.call(self._collect, job)

    def input_ended(self, job: int, total: int) -> None:
        """A feeder has come to the end."""
        self._io.call(self._end_input, job, total)

    def input_broken(self, job: int, total: int, error: BaseException) -> None:
        """Reading raised."""
        self._io.call(self._break_input, job, total, error)

    # --- jobs ------------------------------------------------------------------------------------------------------

    def _open(self, run: _Run) -> None:
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
            )
        )
        for items, encoded in spec.brought:
            self._take_supply(run.id, items, encoded)
        if run.feeder is None:
            self._end_input(run.id, sum(len(items) for items, _ in spec.brought))
        if spec.surface and spec.shown and not self._showing:
            self._showing = True
            self._io.loop.call_later(SHOW_AFTER, self._show)

    def _take_supply(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        run = self._runs.get(job)
        if run is None:
            return
        if encoded.refused:
            items, encoded = self._refuse(run, items, encoded)
        if len(items):
            batch = next(self._batch_ids)
            run.batches[batch] = (items, encoded)
            self._tell(f.Supplied(job, batch, items))

    def _refuse(
        self, run: _Run, items: Sequence[int], encoded: _payload.EncodedItems
    ) -> tuple[Sequence[int], _payload.EncodedItems]:
        """Settle items whose argument cannot travel; what is left of the batch."""
        refused = dict(encoded.refused)
        for position, error in refused.items():
            run.results.fail(RawFailure(items[position], error))
            self._tell(f.Refused(run.id, items[position]))
        left = tuple(index for position, index in enumerate(items) if position not in refused)
        blobs = tuple(blob for position, blob in enumerate(encoded.blobs) if position not in refused)
        return left, _payload.EncodedItems(encoded.shared, blobs, ())

    def _collect(self, job: int) -> None:
        run = self._runs.get(job)
        if run is not None and run.feeder is not None:
            run.feeder.collect()

    def _end_input(self, job: int, total: int) -> None:
        run = self._runs.get(job)
        if run is not None:
            if total != run.spec.size:
                run.results.set_total(total)
            self._tell(f.InputEnded(job, total))

    def _break_input(self, job: int, total: int, error: BaseException) -> None:
        run = self._runs.get(job)
        if run is not None:
            run.broken = error
            self._tell(f.InputBroken(job, total))

    def _supply(self, order: f.Supply) -> None:
        run = self._runs.get(order.job)
        if run is not None and run.feeder is not None:
            run.feeder.credit.grant(order.upto, order.size, hungry=order.hungry)
            if order.hungry:
                run.feeder.collect()

    def _recode(self, order: f.Recode) -> None:
        run = self._runs.get(order.job)
        if run is None:
            return
        for items, encoded in run.spec.brought:
            if tuple(items) == tuple(order.items):
                self._io.loop.call_soon(self._take_supply, order.job, items, encoded)
                return
        self._recoder.put(order.job, order.items, [run.spec.value_of(index) for index in order.items])

    def _settle_lost(self, order: f.SettleLost) -> None:
        run, worker = self._runs.get(order.job), self._workers[order.worker]
        if run is not None:
            error = WorkerLost(worker.obituary(), worker.pid, worker.exitcode, worker.tail())
            run.results.fail(RawFailure(order.index, error, worker=worker.index, pid=worker.pid))

    def _end(self, order: f.End) -> None:
        run = self._runs.get(order.job)
        if run is None:
            return
        error = run.broken if order.how == "failed" and run.results.first_failure is None else None
        self._finish(run, Ending(order.how, error))

    def _end_start_failed(self, order: f.EndStartFailed) -> None:
        run = self._runs.get(order.job)
        if run is not None:
            error = WorkerStartFailed("workers cannot start" + self._start_story())
            error.__cause__ = self._start_error
            self._finish(run, Ending("failed", error))

    def _start_story(self) -> str:
        if self._start_error is not None:
            return f": the initializer raised {type(self._start_error).__name__}: {self._start_error}"
        tails = [tail for worker in self._workers.values() if (tail := worker.tail())]
        return f". The last words of one:\n{tails[-1]}" if tails else ""

    def _finish(self, run: _Run, ending: Ending) -> None:
        for worker in self._workers.values():
            worker.drain_output()
        if run.feeder is not None:
            run.feeder.stop()
        del self._runs[run.id]
        # First, so that the last line is out before the cell that awaits the job ends.
        self._on_surface(run.spec.surface, "close", self._picture_run(run, ending.how))
        run.results.end(ending)

    # --- workers ---------------------------------------------------------------------------------------------------

    def _start_worker(self, order: f.StartWorker) -> None:
        proxy = WorkerProxy(order.worker, order.index, self._on_frame, self._on_death, self._on_output)
        self._workers[order.worker] = proxy
        try:
            proxy.link = self._engine.start(order.index, proxy)
        except OSError as error:
            self._start_error = error
            self._io.loop.call_soon(self._on_death, proxy)
            return
        config = json.dumps({"path": [str(entry) for entry in sys.path]})
        proxy.send(frames.Setup(config.encode(), _payload.dump_shared(list(self._initializers))))
        proxy.flush()

    def _send_function(self, order: f.SendFunction) -> None:
        run = self._runs[order.job]
        self._send(order.worker, frames.Function(order.job, run.spec.flags, run.spec.function))

    def _send_batch(self, order: f.SendBatch) -> None:
        items, encoded = self._runs[order.job].batches.pop(order.batch)
        self._send(
            order.worker, frames.Batch(order.job, order.batch, order.lanes, items, encoded.shared, encoded.blobs)
        )

    def _send(self, worker: int, frame: frames.Frame) -> None:
        self._workers[worker].send(frame)

    def _hang_up(self, order: f.HangUp) -> None:
        worker = self._workers[order.worker]
        worker.flush()
        worker.hang_up()
        self._io.loop.call_later(PART_SECONDS, worker.kill)

    def _kill(self, order: f.Kill) -> None:
        self._workers[order.worker].kill(order.why)

    def _on_frame(self, worker: WorkerProxy, frame: frames.Frame) -> None:
        match frame:
            case frames.Results():
                self._on_results(worker, frame)
            case frames.Failed():
                self._on_failed(worker, frame)
            case frames.HandedBack():
                self._tell(f.Returned(worker.id, frame.job, frame.batches, frame.positions))
            case frames.Dropped():
                self._tell(f.Cleared(worker.id, frame.job))
            case frames.Ready():
                self._tell(f.WorkerReady(worker.id))
            case frames.StartFailed():
                self._start_error = _payload.load_error(bytes(frame.error))
                self._tell(f.WorkerBroken(worker.id))
            case _:
                raise FrameError(f"a worker does not send {type(frame).__name__}")

    def _on_results(self, worker: WorkerProxy, frame: frames.Results) -> None:
        batch = self._ledger.batch(worker.id, frame.batch)
        run = self._runs.get(batch.job.id)
        orders = self._ledger.tell(
            f.Finished(worker.id, frame.batch, frame.positions, sum(frame.seconds)), time.monotonic()
        )
        if run is not None:
            items = batch.indices(frame.positions)
            run.results.deliver(Segment(items, frame.seconds, frame.shared, frame.blobs, worker.index))
            if run.spec.forget is not None:
                run.spec.forget(items)
        self._carry_out(orders)

    def _on_failed(self, worker: WorkerProxy, frame: frames.Failed) -> None:
        batch = self._ledger.batch(worker.id, frame.batch)
        run = self._runs.get(batch.job.id)
        orders = self._ledger.tell(
            f.ItemFailed(worker.id, frame.batch, frame.position, frame.seconds), time.monotonic()
        )
        if run is not None:
            index = batch.items[frame.position]
            run.results.fail(
                RawFailure(index, bytes(frame.error), worker=worker.index, pid=worker.pid, seconds=frame.seconds)
            )
        self._carry_out(orders)

    def _on_death(self, worker: WorkerProxy) -> None:
        self._tell(f.WorkerGone(worker.id, worker.running(), worker.stepping()))
        del self._workers[worker.id]
        if self._ledger.state == "closed":
            self._pool_ended()

    def _on_output(self, worker: WorkerProxy, text: str) -> None:
        """Lines go to the surface of the job that the worker was last given."""
        book = self._ledger.workers.get(worker.id)
        if book is not None and book.batches:
            run = self._runs.get(next(reversed(book.batches.values())).job.id)
            if run is not None:
                worker.surface = run.spec.surface
        self._on_surface(worker.surface, "write", worker.index, text)

    # --- the ledger ------------------------------------------------------------------------------------------------

    def _tell(self, fact: f.Fact) -> None:
        self._carry_out(self._ledger.tell(fact, time.monotonic()))

    def _carry_out(self, orders: Sequence[f.Command]) -> None:
        touched: set[int] = set()
        for order in orders:
            self._carrying[type(order)](order)
            if (worker := getattr(order, "worker", None)) is not None:
                touched.add(worker)
        for number in touched:
            if (proxy := self._workers.get(number)) is not None:
                proxy.flush()

    def _wake_at(self, order: f.WakeAt) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._io.loop.call_later(max(0.0, order.time - time.monotonic()), self._tell, f.TimePassed())

    def _ask_token(self, results: Results, fact: Callable[[int], f.Fact]) -> None:
        token = next(self._tokens)
        self._reached[token] = results
        self._tell(fact(token))

    def _pool_ended(self) -> None:
        if self._workers or self.closed.ending is not None:
            return
        for results in self._reached.values():
            results.end(Ending("cancelled"))
        self._engine.close()
        self._recoder.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        self._io.stop()
        self.closed.end(Ending("done"))

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread itself to be gone. Any other thread."""
        self._io.join(timeout)

    def _on_internal_error(self, _: object, context: Mapping[str, Any]) -> None:
        """A bug of ours must not become a hang: every job ends and says so."""
        error = context.get("exception") or AiopoolError(str(context.get("message")))
        log.error("internal error in the pool's thread", exc_info=error)
        for run in list(self._runs.values()):
            internal = InternalError(f"the pool failed: {type(error).__name__}: {error}. Please report this.")
            internal.__cause__ = error
            self._finish(run, Ending("failed", internal))
        for worker in self._workers.values():
            worker.kill("the pool failed")

    # --- pictures --------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Update what shows jobs; goes on only while there is one to show."""
        now = time.monotonic()
        shown = [run for run in self._runs.values() if run.spec.surface is not None and run.spec.shown]
        for run in shown:
            if now - run.started >= SHOW_AFTER and (picture := self._picture_job(run.id)) is not None:
                self._on_surface(run.spec.surface, "update", picture)
        self._showing = bool(shown)
        if shown:
            self._io.loop.call_later(SHOW_EVERY, self._show)

    @staticmethod
    def _on_surface(surface: Surface | None, method: str, *args: object) -> None:
        """Tell a surface something. Whatever it raises, a job does not fail because it could not be watched."""
        try:
            if surface is not None:
                getattr(surface, method)(*args)
        except Exception:
            log.exception("the display of a job failed")

    def _picture_job(self, job: int) -> JobSnapshot | None:
        run, book = self._runs.get(job), self._ledger.jobs.get(job)
        if run is None or book is None:
            return None
        return self._picture_run(run, "paused" if book.paused else "running", book.in_flight)

    def _picture_run(self, run: _Run, state: JobState, in_flight: int = 0) -> JobSnapshot:
        failed = len(run.results.failures)
        return JobSnapshot(
            id=run.id,
            name=run.spec.name,
            state=state,
            total=run.results.total if run.results.total is not None else run.spec.expected,
            done=run.results.finished - failed,
            failed=failed,
            in_flight=in_flight,
            elapsed=time.monotonic() - run.started,
        )

    def _picture(self) -> PoolSnapshot:
        infos = [self._picture_worker(proxy) for proxy in self._workers.values()]
        jobs = [picture for job in self._runs if (picture := self._picture_job(job)) is not None]
        return PoolSnapshot(
            name=self.options.name,
            state=self._ledger.state,
            size=self._ledger.size,
            workers=tuple(sorted(infos, key=lambda info: info.index)),
            jobs=tuple(jobs),
        )

    def _picture_worker(self, proxy: WorkerProxy) -> WorkerInfo:
        book = self._ledger.workers.get(proxy.id)
        state: WorkerState = "lost"
        if book is not None and book.state == "ready":
            state = "busy" if book.load else "idle"
        elif book is not None and book.state != "dying":
            state = "retiring" if book.state == "retiring" else "starting"
        return WorkerInfo(proxy.index, proxy.pid, state, book.load if book else 0, book.done if book else 0)
