"""Between the ledger and the world: takes what happens to the ledger as facts, and carries out what it orders.

Everything here runs on the pool's own thread, but for the few methods that say otherwise.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._core.ledger import Ledger
from aiopool._runtime import environment
from aiopool._runtime.calls import Call, numbers
from aiopool._runtime.dispatch import Dispatch
from aiopool._runtime.endings import Endings
from aiopool._runtime.express import Express
from aiopool._runtime.feeder import Feeder
from aiopool._runtime.hearing import Hearing
from aiopool._runtime.inlet import Inlet
from aiopool._runtime.inquiry import Inquiry
from aiopool._runtime.labelling import Labeller
from aiopool._runtime.lending import Lending
from aiopool._runtime.looked import Looked
from aiopool._runtime.modules import Modules
from aiopool._runtime.pictures import Pictures
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.recoder import Recoder
from aiopool._runtime.results import Ending, Results
from aiopool._runtime.runs import JobSpec, Run, Runs
from aiopool._runtime.starts import Customs, Starts
from aiopool._runtime.thread import IOThread
from aiopool._runtime.timeline import Timeline
from aiopool._runtime.views import Views
from aiopool._runtime.vitals import Vitals
from aiopool._runtime.voices import Voices
from aiopool.engines.base import Engine
from aiopool.errors import AiopoolError, InternalError
from aiopool.options import PoolOptions
from aiopool.stacks import Stacks
from aiopool.surfaces import View
from aiopool.telemetry import JobSnapshot, PoolSnapshot, WorkerInfo

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
            max_tasks=options.max_tasks_per_worker,
        )
        self._customs = Customs.of(initializers)
        own = None
        try:
            if io is None:
                own = io = IOThread(options.name)
            self._io = io
            self._furnish(make_engine, alone=own is not None)
        except BaseException:
            # Stop may come at any line, and nobody else knows the thread yet.
            if own is not None:
                own.stop()
            raise

    def _furnish(self, make_engine: Callable[[Any], Engine], *, alone: bool) -> None:
        if alone:
            self._io.loop.set_exception_handler(self._on_internal_error)
        self._engine = make_engine(self._io.loop)
        self.lending = Lending(self._io, self._engine.files)
        self._inlet = Inlet(self._io, lambda: self._runs)
        self._recoder = Recoder(self._inlet)
        self._workers: dict[int, WorkerProxy] = {}
        self._labeller = Labeller()
        timeline = Timeline()
        self._views = Views(self._io.loop, lambda: self._pictures.glance(), timeline.since)  # noqa: PLW0108 - made below
        self._runs = Runs(self._io.loop, self._recoder, self._tell, self._views, self._labeller)
        self._feeders: dict[int, Feeder] = {}
        self._modules = Modules()
        self._tokens = itertools.count(1)
        self._reached: dict[int, Results] = {}
        # Of its own: it spreads retries in time, and must not disturb what a user draws from a seeded `random`.
        self._chance = random.Random().random  # noqa: S311
        looked = Looked(self._ledger, lambda: self._express.settle())  # noqa: PLW0108 - made below
        self._voices = Voices(self._runs, looked.workers)
        self._endings = Endings(self._runs, self._workers, self._feeders)
        limit = self.options.max_memory_per_worker
        known = self._ledger.workers
        self._vitals = Vitals(self._io.loop, self._workers, looked.workers, self._tell, limit, known=known)
        self._starts = Starts(self._io.loop, self._engine, self.options, self._customs, self._endings, self._vitals)
        self._pictures = Pictures(
            self.options.name, looked, self._workers, self._runs, self._vitals, self._labeller, timeline
        )
        self.inquiry = Inquiry(self._io, self._workers, looked.workers, self._runs.names, self._vitals.picture)
        self._dispatch = Dispatch(self._runs, self._workers, self._vitals)
        self._express = Express(
            self._io.loop,
            self._ledger,
            self._runs,
            self._dispatch,
            self._vitals,
            self._tell_the_ledger,
            self._endings,
            self._pictures,
        )
        self._failing = False
        self._alarm: Any = None
        self._carrying: dict[type, Callable[[Any], None]] = {
            f.StartWorker: self._start_worker,
            f.SendFunction: self._dispatch.send_function,
            f.SendBatch: self._dispatch.send_batch,
            f.SendAskBack: lambda order: self._send(order.worker, frames.AskBack(order.job, order.parts)),
            f.CancelOn: lambda order: self._send(order.worker, frames.Cancel(order.job)),
            f.ForgetOn: lambda order: self._send(order.worker, frames.Forget(order.job)),
            f.HangUp: self._hang_up,
            f.Kill: lambda order: self._workers[order.worker].kill(order.why),
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

        self._hearing = Hearing(
            self._ledger,
            self._runs,
            self._express,
            self._endings,
            self._pictures,
            self._vitals,
            self._starts,
            tell=self._tell,
            carry_out=self._carry_out,
            chance=self._chance,
            others={
                frames.Modules: lambda worker, frame: self._modules.note(worker.id, bytes(frame.data)),
                frames.Stacks: self.inquiry.take,
            },
        )

    # --- any thread ------------------------------------------------------------------------------------------------

    def open(self, spec: JobSpec, results: Results, feed: Callable[[Feeder], None] | None) -> int:
        """Begin a job; its number."""
        job = next(numbers)
        feeder = Feeder(job, self._inlet, self._recoder, spec.encode, spec.keep) if feed else None
        run = Run(job, spec, results, feeder, time.monotonic(), environment.take())
        try:
            # Of calls that come faster than the thread takes them, the first has looked for all of them.
            waits = self._io.waits_with(self._open)
            if self.options.reload_modules and not waits and (outdated := self._modules.outdated()):
                self._io.call(self._tell, f.WorkersOutdated(outdated))
            if feed and feeder:
                results.on_room = lambda: self._io.call(self._runs.read_on, job)
                self._feeders[job] = feeder
                self._io.call(self._open, run)
                feed(feeder)
            else:
                # What was called before comes first.
                run.departed = run.is_call and self._io.is_quiet and self._express.depart(run)
                self._io.call(self._open, run)
        except BaseException:
            # Stop may come at any line; a job that nobody feeds or holds must not wait in the ledger for ever.
            self.cancel(job, stopped=True)
            raise
        if self._io.loop.is_closed():
            # The pool ended in between, and its thread takes no calls any more.
            results.end(Ending("cancelled"))
            if feeder is not None:
                feeder.stop()
        return job

    def submit(self, call: Call) -> None:
        """Begin a call. Whatever this raises, it may be under way. Any thread."""
        waits = self._io.waits_with(self._open)
        call.environment = environment.take(keep_gil=waits)
        if self.options.reload_modules and not waits and (outdated := self._modules.outdated()):
            self._io.call(self._tell, f.WorkersOutdated(outdated))
        call.departed = self._io.is_quiet and self._express.depart(call)
        self._io.call(self._open, call)
        if self._io.loop.is_closed():
            call.results.end(Ending("cancelled"))  # As in :meth:`open`.

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
        return self._io.ask(self._pictures.job, job)

    def stacks(self, job: int, name: str) -> Stacks:
        """Where the items of a job stand. Any thread but the pool's own."""
        return self.inquiry.of_job(job, name)

    def snapshot(self) -> PoolSnapshot:
        """A picture of the pool. Any thread."""
        return self._io.ask(self._pictures.pool)

    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers of the picture alone, which costs little however many jobs there are. Any thread."""
        return self._io.ask(self._pictures.workers)

    def cancel_calls(self, name: str) -> None:
        """Cancel all calls of that function by ``submit``. Any thread."""
        self._io.call(lambda: self._tell(*[f.CancelAsked(job, "cancelled") for job in self._runs.calls_of(name)]))

    def watch(self, view: View) -> None:
        """Have the pool shown as long as this is open; of one that has ended, how it ended. Any thread."""
        self._io.call(self._views.attach, view)
        if self._io.loop.is_closed() and not self._io.is_foreign:
            self._views.attach(view)  # Nobody takes calls any more.

    def resize(self, size: int, results: Results) -> None:
        """Have ``size`` workers; ``results`` ends when there are no more. Any thread."""
        self._ask(results, lambda token: f.Resized(size, token))

    def restart(self, results: Results, *, now: bool) -> None:
        """Replace every worker; ``results`` ends when the old ones are gone. Any thread."""
        self._ask(results, lambda token: f.RestartAsked(token, now=now))

    def restart_worker(self, pid: int | None, results: Results, *, now: bool) -> None:
        """Replace one worker; ``results`` ends when it is gone, at once if it is. Any thread."""

        def fact(token: int) -> f.Fact:
            number = next((number for number, proxy in self._workers.items() if proxy.pid == pid), 0)
            return f.WorkerRestartAsked(number, token, now=now)

        self._ask(results, fact)

    def warm_up(self, count: int) -> None:
        """Start up to so many workers, although there may be nothing to do. Any thread."""
        self._io.call(self._tell, f.WarmUpAsked(count))

    def close(self) -> None:
        """End when the jobs have; ``closed`` tells. Any thread."""
        self._io.call(self._close)

    def terminate(self) -> None:
        """End now; ``closed`` tells. Any thread."""
        self._io.call(self._tell, f.TerminateAsked())

    def disown(self) -> None:
        """This is a forked child: thread and workers are the parent's, and nothing that is done here reaches them."""
        self._io.disown()

    @property
    def failed(self) -> bool:
        """Whether an error of ours has ended the pool. Any thread."""
        return self._failing

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the pool's own thread."""
        return self._io.is_current

    # --- jobs: the pool's thread -------------------------------------------------------------------------------------

    def _open(self, first: Run | Call) -> None:
        opened: list[Run | Call] = [first, *(args[0] for args in self._io.following(self._open))]
        try:
            left = self._express.take(opened)
        except BaseException:
            # An error of ours: whoever ends everything must know them.
            self._runs.hold([_as_run(each) for each in opened])
            raise
        if left:
            self._runs.open([_as_run(each) for each in left])
        for run in opened:
            if type(run) is Run and run.spec.stays:
                self._keep_custom(run)

    def _keep_custom(self, run: Run) -> None:
        self._customs.add(run.spec.function, run.results, self._custom_dropped, key=run.spec.key)
        if any(worker.extra for worker in self._ledger.workers.values()):
            # Those beyond the pool's size get no item of it, and have to go; who still needs one asks again.
            self._ask_token(Results(1, prefilled={0: None}), lambda token: f.Resized(self._ledger.size, token))

    def _custom_dropped(self) -> None:
        self._endings.start_may_work()
        self._tell(f.StartChanged())

    def _close(self) -> None:
        for run in self._runs:
            run.results.read_everything()  # The end waits for the jobs, which must not wait for readers.
        self._tell(f.CloseAsked())

    # --- workers ---------------------------------------------------------------------------------------------------

    def _start_worker(self, order: f.StartWorker) -> None:
        self._runs.tell_ends()  # With a job that has just ended, what workers run when they start may be dropped.
        self._starts.line_up(self._new_proxy(order.worker, order.index), self._ledger.size)

    def _new_proxy(self, number: int, index: int) -> WorkerProxy:
        proxy = self._workers[number] = WorkerProxy(
            number, index, self._hearing.hear, self._on_death, self._voices.take
        )
        proxy.desk = self.lending.desk(proxy)
        proxy.on_read = self._go_on
        return proxy

    def _send(self, worker: int, frame: frames.Frame) -> None:
        self._workers[worker].send(frame)

    def _hang_up(self, order: f.HangUp) -> None:
        worker = self._workers[order.worker]
        worker.flush()
        worker.hang_up()
        self._io.loop.call_later(PART_SECONDS, worker.give_no_more_time)

    def _on_death(self, worker: WorkerProxy) -> None:
        try:
            self._starts.ended(worker)
            self._vitals.gone(worker)
            self.inquiry.gone(worker)
            self._endings.gone(worker)
            self._pictures.died(worker)
        finally:
            # Also where one of these fails: the pool's end waits for the last death.
            self._tell(f.WorkerGone(worker.id, worker.running(), worker.stepping(), self._chance()))
            del self._workers[worker.id]
            self._modules.forget(worker.id)
            worker.desk.close()
            if self._ledger.state == "closed":
                self._pool_ended()

    # --- the ledger ------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """All is taken that was read at a time."""
        try:
            self._express.go_on()
        finally:
            self._runs.tell_ends()

    def _tell(self, *facts: f.Fact) -> None:
        self._express.settle()
        self._tell_the_ledger(facts)

    def _tell_the_ledger(self, facts: Sequence[f.Fact]) -> None:
        self._carry_out(self._ledger.tell_all(facts, time.monotonic()))

    def _carry_out(self, orders: Sequence[f.Command], *, later: bool = False) -> None:
        """``later``: who waits for jobs that end is told with others."""
        touched: set[int] = set()
        try:
            for order in orders:
                self._carrying[type(order)](order)
                if (worker := getattr(order, "worker", None)) is not None:
                    touched.add(worker)
            for number in touched:
                if (proxy := self._workers.get(number)) is not None:
                    proxy.flush()
        finally:
            if not later:
                self._runs.tell_ends()

    def _wake_at(self, order: f.WakeAt) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._io.loop.call_later(max(0.0, order.time - time.monotonic()), self._tell, f.TimePassed())

    def _ask(self, results: Results, fact: Callable[[int], f.Fact]) -> None:
        self._io.call(self._ask_token, results, fact)
        if self._io.loop.is_closed():
            results.end(Ending("cancelled"))  # As in :meth:`open`.

    def _ask_token(self, results: Results, fact: Callable[[int], f.Fact]) -> None:
        token = next(self._tokens)
        self._reached[token] = results
        self._tell(fact(token))

    def _pool_ended(self) -> None:
        if self._workers or self.closed.ending is not None:
            return
        for results in self._reached.values():
            results.end(Ending("cancelled"))
        self.lending.close()
        self._engine.close()
        self._recoder.stop()
        self._labeller.stop()
        for part in (self._runs, self._vitals, self._express, self._views):
            part.close()
        if self._alarm is not None:
            self._alarm.cancel()
        self._io.stop()
        self.closed.end(Ending("done"))

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread itself to be gone. Any other thread."""
        self._io.join(timeout)

    def _on_internal_error(self, loop: Any, context: Mapping[str, Any]) -> None:
        """A bug of ours must not become a hang: every job ends and says so."""
        if "handle" not in context:
            # Of a task, say, and there is none of ours: a user's code that was run here has found the loop.
            loop.default_exception_handler(context)
            return
        # First: who is told of an end, and begins anew at once, must find that this pool is none to do that with.
        has_failed, self._failing = self._failing, True
        self._express.fail()
        error = context.get("exception") or AiopoolError(str(context.get("message")))
        log.error("internal error in the pool's thread", exc_info=error)
        for run in self._runs:
            internal = InternalError(f"the pool failed: {type(error).__name__}: {error}. Please report this.")
            internal.__cause__ = error
            self._endings.finish(run, Ending("failed", internal))
        self._runs.tell_ends()
        for worker in self._workers.values():
            worker.kill("the pool failed")
        if not has_failed:
            # Whoever closes the pool or waits for its end must get there, and the session opens another one.
            self._io.call(self._tell, f.TerminateAsked())


def _as_run(opened: Run | Call) -> Run:
    return opened.run() if isinstance(opened, Call) else opened
