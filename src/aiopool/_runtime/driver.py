"""Between the ledger and the world: takes what happens to the ledger as facts, and carries out what it orders.

Everything here runs on the pool's own thread, but for the few methods that say otherwise.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._core.ledger import Ledger
from aiopool._runtime import environment
from aiopool._runtime.endings import Endings
from aiopool._runtime.feeder import Feeder, Recoder
from aiopool._runtime.machine import usable_cores
from aiopool._runtime.modules import Modules
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.results import Ending, Results, Segment
from aiopool._runtime.runs import JobSpec, Run, Runs, on_surface
from aiopool._runtime.thread import IOThread
from aiopool.engines.base import Engine
from aiopool.errors import AiopoolError, FrameError, InternalError
from aiopool.options import PoolOptions
from aiopool.telemetry import JobSnapshot, PoolSnapshot, WorkerInfo, WorkerState

log = logging.getLogger("aiopool")

PART_SECONDS = 3.0
"""How long a worker without work may take to end by itself once the pool has hung up."""


class Driver:
    """Runs one pool: its thread, its engine, its ledger, its jobs."""

    def __init__(
        self,
        options: PoolOptions,
        make_engine: Callable[[Any], Engine],
        initializers: list[bytes],
        io: IOThread | None = None,
    ) -> None:
        """``io``: a thread that it shares with others; by default one of its own, which ends with it."""
        self.options = options
        self.closed = Results(1, prefilled={0: None})
        self._ledger = Ledger(
            options.workers,
            start_timeout=options.start_timeout,
            grace=options.grace,
            idle_timeout=options.idle_timeout,
        )
        self._initializers = initializers
        self._io = io or IOThread(options.name)
        if io is None:
            self._io.loop.set_exception_handler(self._on_internal_error)
        self._engine = make_engine(self._io.loop)
        self._recoder = Recoder(self)
        self._workers: dict[int, WorkerProxy] = {}
        self._runs = Runs(self._io.loop, self._recoder, self._tell, self._picture_job)
        self._feeders: dict[int, Feeder] = {}
        self._modules = Modules()
        self._job_ids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._reached: dict[int, Results] = {}
        # Of its own: it spreads retries in time, and must not disturb what a user draws from a seeded `random`.
        self._chance = random.Random().random  # noqa: S311
        self._endings = Endings(self._runs, self._workers, self._feeders)
        self._failing = False
        self._alarm: Any = None
        self._carrying: dict[type, Callable[[Any], None]] = {
            f.StartWorker: self._start_worker,
            f.SendFunction: self._send_function,
            f.SendBatch: self._send_batch,
            f.SendAskBack: lambda order: self._send(order.worker, frames.AskBack(order.job, order.count)),
            f.CancelOn: lambda order: self._send(order.worker, frames.Cancel(order.job)),
            f.ForgetOn: lambda order: self._send(order.worker, frames.Forget(order.job)),
            f.HangUp: self._hang_up,
            f.Kill: self._kill,
            f.Supply: self._runs.supply,
            f.Recode: self._runs.recode,
            f.SendPing: lambda order: self._send(order.worker, frames.Ping()),
            f.SettleFailed: self._endings.settle_failed,
            f.SettleTimedOut: self._endings.settle_timed_out,
            f.SettleLost: self._endings.settle_lost,
            f.End: self._endings.end,
            f.EndStartFailed: self._endings.end_start_failed,
            f.Reached: lambda order: self._reached.pop(order.token).end(Ending("done")),
            f.PoolEnded: lambda _: self._pool_ended(),
            f.WakeAt: self._wake_at,
        }

        self._hearing: dict[type, Callable[[WorkerProxy, Any], None]] = {
            frames.Ready: self._on_ready,
            frames.StartFailed: self._on_start_failed,
            frames.Results: self._on_results,
            frames.Failed: self._on_failed,
            frames.HandedBack: lambda worker, frame: self._tell(
                f.Returned(worker.id, frame.job, frame.batches, frame.positions)
            ),
            frames.Dropped: lambda worker, frame: self._tell(f.Cleared(worker.id, frame.job)),
            frames.Held: lambda worker, frame: self._tell(f.CancelHeld(worker.id, frame.job)),
            frames.Overdue: lambda worker, frame: self._tell(f.ItemOverdue(worker.id, frame.batch, frame.position)),
            frames.Modules: lambda worker, frame: self._modules.note(worker.id, bytes(frame.data)),
            frames.Pong: lambda worker, _: self._tell(f.WorkerAnswered(worker.id)),
            frames.Reported: lambda worker, frame: worker.take_report(frame.fraction, bytes(frame.text)),
        }

    # --- any thread ------------------------------------------------------------------------------------------------

    def open(self, spec: JobSpec, results: Results, feed: Callable[[Feeder], None] | None) -> int:
        """Begin a job; its number."""
        job = next(self._job_ids)
        feeder = Feeder(job, self, self._recoder, spec.encode, spec.keep) if feed else None
        run = Run(job, spec, results, feeder, time.monotonic(), environment.take())
        try:
            if self.options.reload_modules and (outdated := self._modules.outdated()):
                self._io.call(self._tell, f.WorkersOutdated(outdated))
            if feed and feeder:
                results.on_room = lambda: self._io.call(self._runs.read_on, job)
                self._feeders[job] = feeder
                self._io.call(self._runs.open, run)
                feed(feeder)
            else:
                self._io.call(self._runs.open, run)
        except BaseException:
            # Stop may come at any line; a job that nobody feeds or holds must not wait in the ledger for ever.
            self.cancel(job, stopped=True)
            raise
        if self._io.loop.is_closed():
            # The pool ended in between, and its thread takes no calls any more.
            results.end(Ending("cancelled"))
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

    def must_not_block(self, job: int) -> bool:
        """Whether a blocking wait on this very thread could never end; with -1, for the pool's end. Any thread."""
        if self._io.is_current:
            return True
        feeder = self._feeders.get(job)
        feeders = list(self._feeders.values()) if job < 0 else [feeder] if feeder is not None else []
        return any(feeder.needs_this_thread() for feeder in feeders)

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
        self._io.call(self._close)

    def terminate(self) -> None:
        """End now; ``closed`` tells. Any thread."""
        self._io.call(self._tell, f.TerminateAsked())

    @property
    def failed(self) -> bool:
        """Whether an error of ours has ended the pool. Any thread."""
        return self._failing

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the pool's own thread."""
        return self._io.is_current

    # --- from feeders: any thread -------------------------------------------------------------------------------------

    def supplied(self, job: int, items: Sequence[int], encoded: _payload.EncodedItems) -> None:
        """A feeder has made a batch."""
        self._io.call(self._runs.take_supply, job, items, encoded)

    def nudged(self, job: int) -> None:
        """A feeder has begun a part of a batch."""
        self._io.call(self._runs.collect, job)

    def input_ended(self, job: int, total: int) -> None:
        """A feeder has come to the end."""
        self._io.call(self._runs.end_input, job, total)

    def input_broken(self, job: int, total: int, error: BaseException) -> None:
        """Reading raised."""
        self._io.call(self._runs.break_input, job, total, error)

    def _close(self) -> None:
        for run in self._runs:
            run.results.read_everything()  # The end waits for the jobs, which must not wait for readers.
        self._tell(f.CloseAsked())

    # --- workers ---------------------------------------------------------------------------------------------------

    def _start_worker(self, order: f.StartWorker) -> None:
        proxy = WorkerProxy(order.worker, order.index, self._on_frame, self._on_death, self._on_output)
        now = environment.latest()
        proxy.environment = now.version
        self._workers[order.worker] = proxy
        try:
            variables = environment.process_variables(now, self._threads_per_worker())
            proxy.link = self._engine.start(order.index, proxy, variables)
        except Exception as error:  # noqa: BLE001  # whatever it is, jobs are told after some tries, not never
            self._endings.start_error, self._endings.start_failed = error, "starting a process raised"
            self._io.loop.call_soon(self._on_death, proxy)
            return
        config = {
            "index": order.index,
            "start_timeout": self.options.start_timeout,
            "environment": now.state,
            "watch_modules": self.options.reload_modules,
            "nested_loops": self.options.nested_loops,
        }
        proxy.send(frames.Setup(json.dumps(config).encode(), _payload.dump_shared(list(self._initializers))))
        proxy.flush()

    def _threads_per_worker(self) -> int | None:
        threads = self.options.threads_per_worker
        return max(1, int(usable_cores()) // self._ledger.size) if threads == "auto" else threads

    def _send_function(self, order: f.SendFunction) -> None:
        run = self._run(order.job)
        spec, worker = run.spec, self._workers[order.worker]
        if worker.environment < run.environment.version:
            worker.environment = run.environment.version
            worker.send(frames.Environment(run.environment.data))
        self._send(order.worker, frames.Function(order.job, spec.flags, spec.settings, spec.function))

    def _send_batch(self, order: f.SendBatch) -> None:
        run = self._run(order.job)
        run.workers.add(order.worker)
        items, encoded = run.batches.pop(order.batch)
        lanes = min(order.lanes, frames.MOST_LANES)
        batch = frames.Batch(order.job, order.batch, lanes, order.attempt, items, encoded.shared, encoded.blobs)
        self._workers[order.worker].surface = run.spec.surface  # Also for what it prints when it has nothing to do.
        self._send(order.worker, batch)

    def _run(self, job: int) -> Run:
        run = self._runs.get(job)
        if run is None:
            raise InternalError(f"job {job} has ended, but the ledger still sends it")
        return run

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
        heard = self._hearing.get(type(frame))
        if heard is None:
            raise FrameError(f"a worker does not send {type(frame).__name__}")
        heard(worker, frame)

    def _on_ready(self, worker: WorkerProxy, _: frames.Ready) -> None:
        self._endings.start_error = None
        self._tell(f.WorkerReady(worker.id))

    def _on_start_failed(self, worker: WorkerProxy, frame: frames.StartFailed) -> None:
        self._endings.start_error = _payload.load_error(bytes(frame.error))
        self._endings.start_failed = "the initializer raised"
        self._tell(f.WorkerBroken(worker.id))

    def _on_results(self, worker: WorkerProxy, frame: frames.Results) -> None:
        batch = self._ledger.batch(worker.id, frame.batch)
        run = self._runs.get(batch.job.id)
        orders = self._ledger.tell(
            f.Finished(worker.id, frame.batch, frame.positions, sum(frame.seconds)), time.monotonic()
        )
        if run is not None:
            items = batch.indices(frame.positions)
            segment = Segment(items, frame.seconds, frame.shared, frame.blobs, worker.index, batch.attempt)
            run.results.deliver(segment)
            if run.spec.forget is not None:
                run.spec.forget(items)
        self._carry_out(orders)

    def _on_failed(self, worker: WorkerProxy, frame: frames.Failed) -> None:
        # The ledger says whether this was the item's last attempt; only then is the error wanted.
        self._endings.failed = worker, frame
        try:
            self._tell(
                f.ItemFailed(
                    worker.id,
                    frame.batch,
                    frame.position,
                    frame.seconds,
                    may_retry=bool(frame.flags & frames.Failed.MAY_RETRY),
                    timed_out=bool(frame.flags & frames.Failed.TIMED_OUT),
                    after=frame.after if frame.after >= 0 else None,
                    chance=self._chance(),
                )
            )
        finally:
            self._endings.failed = None

    def _on_death(self, worker: WorkerProxy) -> None:
        self._tell(f.WorkerGone(worker.id, worker.running(), worker.stepping(), self._chance()))
        del self._workers[worker.id]
        self._modules.forget(worker.id)
        if self._ledger.state == "closed":
            self._pool_ended()

    def _on_output(self, worker: WorkerProxy, text: str) -> None:
        """Lines go to the surface of the job that the worker was last given."""
        book = self._ledger.workers.get(worker.id)
        if book is not None and book.batches:
            run = self._runs.get(next(reversed(book.batches.values())).job.id)
            if run is not None:
                worker.surface = run.spec.surface
        elif worker.surface is None:
            # It prints before its first item, in an initializer: shown with the job that had it started.
            worker.surface = next((run.spec.surface for run in self._runs), None)
        on_surface(worker.surface, "write", worker.index, text)

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
        self._runs.close()
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
        for run in self._runs:
            internal = InternalError(f"the pool failed: {type(error).__name__}: {error}. Please report this.")
            internal.__cause__ = error
            self._endings.finish(run, Ending("failed", internal))
        for worker in self._workers.values():
            worker.kill("the pool failed")
        if not self._failing:
            # Whoever closes the pool or waits for its end must get there, and the session opens another one.
            self._failing = True
            self._io.call(self._tell, f.TerminateAsked())

    # --- pictures --------------------------------------------------------------------------------------------------

    def _picture_job(self, job: int) -> JobSnapshot | None:
        run, book = self._runs.get(job), self._ledger.jobs.get(job)
        if run is None or book is None:
            return None
        run.results.retried = book.retried
        # Of a paused one everything that is still at workers, until they have handed back what had not started.
        return run.picture("paused", book.in_flight) if book.paused else run.picture("running", book.running)

    def _picture(self) -> PoolSnapshot:
        infos = [self._picture_worker(proxy) for proxy in self._workers.values()]
        jobs = [picture for run in self._runs if (picture := self._picture_job(run.id)) is not None]
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
        busy = book is not None and book.load > 0
        fraction, text = proxy.report if busy and proxy.report else (None, "")
        return WorkerInfo(
            proxy.index, proxy.pid, state, book.load if book else 0, book.done if book else 0, fraction, text
        )
