"""The link thread: it owns the pipes, so that a worker answers whatever its main thread does."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiopool._core import frames, wire
from aiopool._worker.pipes import end_without_pipes
from aiopool._worker.pulse import Pulse
from aiopool._worker.puts import Puts
from aiopool.errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopool._worker.environment import Surroundings
    from aiopool._worker.modules import Modules
    from aiopool._worker.pages import SharedPages
    from aiopool._worker.pipes import Pipes
    from aiopool._worker.runner import Runner

READ_SIZE = 1 << 20
FIRST_READ = 1 << 16
"""So much is read at first: for more the system is asked for memory, and gets it back, which takes 50 us each time."""

FLUSH_SECONDS = 0.02
INTERRUPT_SECONDS = 0.05
LONGEST_SECONDS = 86400.0
"""How long one wait is at most: poll takes an int of milliseconds, which a timeout of a month is beyond."""


class Link(threading.Thread):
    """Reads commands, writes what waits, flushes results that the main thread is too busy to send."""

    def __init__(
        self, pipes: Pipes, runner: Runner, surroundings: Surroundings, modules: Modules, shared: SharedPages
    ) -> None:
        super().__init__(name="aiopool-link", daemon=True)
        self._pipes = pipes
        self._runner = runner
        self._modules = modules
        self._shared = shared
        puts = Puts(shared, runner.calls)
        self._parser = wire.Parser()
        self._read_size = FIRST_READ
        self._expecting = False
        self._flush_at = inf
        self._interrupt_at = inf
        self._asked: deque[frames.AskStacks] = deque()
        self._look: Callable[[Runner, int], bytes] | None = None
        self._handlers: dict[type, Callable[[Any], object]] = {
            frames.Setup: runner.setup.put,
            frames.Function: self._know,
            frames.Call: self._take_call,
            frames.Calls: self._take_calls,
            frames.Environment: surroundings.take,
            frames.Batch: self._add,
            frames.AskBack: self._hand_back,
            frames.Cancel: self._cancel,
            frames.AskStacks: self._tell_stacks,
            frames.Ping: Pulse(runner, pipes.send).answer,
            frames.Lent: shared.expect,
            frames.GivenBack: shared.take_back,
            frames.Put: puts.know,
            frames.Release: puts.forget,
            frames.Forget: lambda frame: runner.jobs.pop(frame.job, None),
        }

    def run(self) -> None:
        """Serve until the parent hangs up. Without this thread the worker is deaf, so an error here ends it."""
        try:
            self._serve()
        except BaseException:  # noqa: BLE001  # reported, and fatal
            import traceback  # with the reader of Python files

            traceback.print_exc()
            os._exit(70)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._pipes.commands, select.POLLIN)
        poll.register(self._pipes.wake_read, select.POLLIN)
        poll.register(self._pipes.answers, 0)
        was_full = False
        while True:
            events = dict(poll.poll(self._milliseconds()))
            if self._pipes.wake_read in events:
                self._pipes.drain_wakes()
            if (of_answers := events.get(self._pipes.answers, 0)) & select.POLLNVAL:
                end_without_pipes()
            if of_answers & (select.POLLERR | select.POLLHUP):
                self._pipes.guard.end()
            if self._pipes.backlog:
                self._pipes.flush()
            if self._pipes.commands in events and not self._read():
                if self._runner.close():
                    self._pipes.guard.watch()
                self._pipes.guard.end()
            self._do_what_is_due()
            if (is_full := self._pipes.backlog) != was_full:
                was_full = is_full
                poll.modify(self._pipes.answers, select.POLLOUT if is_full else 0)

    def _do_what_is_due(self) -> None:
        """Flush results, and interrupt items, that have waited for their deadline. It begins when they are seen."""
        now = monotonic()
        while self._asked and self._look is not None:
            question = self._asked.popleft()
            self._pipes.send(frames.Stacks(question.number, self._look(self._runner, question.job)))
        if self._shared.over:
            self._shared.give_back()
        if now >= self._shared.due:
            self._shared.look(now)
        if now >= self._modules.due:
            self._modules.look_again(now)
        if now >= self._runner.clock.armed:
            self._runner.look_at_clock()
        if now >= self._runner.reports.due:
            self._runner.reports.flush(now)
        if not self._runner.outbox.waiting:
            self._flush_at = inf
        elif self._flush_at == inf:
            self._flush_at = now + FLUSH_SECONDS
        elif now >= self._flush_at:
            self._flush_at = now + FLUSH_SECONDS if self._runner.outbox.flush_late() else inf
        self._interrupt(now)

    def _interrupt(self, now: float) -> None:
        held = self._runner.held()
        if not held and not self._runner.must_interrupt():
            self._interrupt_at = inf
        elif self._interrupt_at == inf:
            self._interrupt_at = now + INTERRUPT_SECONDS
        elif now >= self._interrupt_at:
            self._interrupt_at = now + INTERRUPT_SECONDS
            self._runner.interrupt()
            for job in held:
                self._pipes.send(frames.Held(job.id))

    def _milliseconds(self) -> float | None:
        runner = self._runner
        due = min(self._flush_at, self._interrupt_at, self._modules.due, self._shared.due)
        due = min(due, runner.clock.armed, runner.reports.due)
        return None if due == inf else min(max(0.0, due - monotonic()), LONGEST_SECONDS) * 1e3

    def _read(self) -> bool:
        """Take in commands; False when the parent has hung up."""
        data = self._pipes.read(self._read_size)
        if data is None:
            return True
        # What fills it is a part of more, which is taken in one go.
        self._read_size = READ_SIZE if len(data) >= FIRST_READ else FIRST_READ
        self._expecting = False
        for frame in self._parser.feed(data):
            handle = self._handlers.get(type(frame))
            if handle is None:
                raise FrameError(f"a pool does not send {type(frame).__name__}")
            handle(frame)
        return bool(data)

    def _know(self, frame: frames.Function) -> None:
        self._modules.expect(monotonic())
        self._runner.know(frame)

    def _take_call(self, frame: frames.Call) -> None:
        if not self._expecting:
            # Of calls that were read together the first says it for all.
            self._expecting = True
            self._modules.expect(monotonic())
        job = self._runner.know(frames.Function(frame.job, frame.flags, b"", frame.function))
        job.add_call(frame.batch, frame.arguments)
        self._runner.serve(job)

    def _take_calls(self, frame: frames.Calls) -> None:
        for job, batch, arguments in zip(frame.jobs, frame.batches, frame.arguments, strict=True):
            self._take_call(frames.Call(job, batch, frame.flags, frame.function, arguments))

    def _tell_stacks(self, frame: frames.AskStacks) -> None:
        self._asked.append(frame)
        if self._look is None and len(self._asked) == 1:
            threading.Thread(target=self._learn_to_look, name="aiopool-look", daemon=True).start()

    def _learn_to_look(self) -> None:
        """With the first question, for nobody may ever ask. On a thread of its own: it takes longer than many an item.

        The link thread brings the next items meanwhile. Else what is seen would always be that none runs.
        """
        from aiopool._worker.stacks import look

        self._look = look
        self._pipes.wake()

    def _add(self, frame: frames.Batch) -> None:
        if self._shared.next is not None:
            self._shared.unpack(frame)
        self._runner.add(frame)

    def _hand_back(self, frame: frames.AskBack) -> None:
        job = self._runner.jobs.get(frame.job)
        back = job.hand_back(frame.of(job.waiting)) if job else frames.HandedBack(frame.job, (), ())
        self._pipes.send(back)
        if back.batches and self._runner.outbox.waiting:
            self._runner.outbox.flush()

    def _cancel(self, frame: frames.Cancel) -> None:
        job = self._runner.jobs.get(frame.job)
        if job is None:
            self._pipes.send(frames.Dropped(frame.job))
        else:
            self._runner.cancel(job)
