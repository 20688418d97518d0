"""The link thread: it owns the pipes, so that a worker answers whatever its main thread does."""

from __future__ import annotations

import os
import select
import threading
import traceback
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiopool._core import frames, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopool._worker.environment import Surroundings
    from aiopool._worker.modules import Modules
    from aiopool._worker.runner import Runner

READ_SIZE = 1 << 20
FLUSH_SECONDS = 0.01
INTERRUPT_SECONDS = 0.05
LONGEST_SECONDS = 86400.0
"""How long one wait is at most: poll takes an int of milliseconds, which a timeout of a month is beyond."""


class Pipes:
    """Both ends of the way to the parent.

    Anybody may send; what the pipe does not take at once, the link thread sends.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = commands
        self.answers = answers
        self.wake_read, self._wake_write = os.pipe()
        for fd in (commands, answers, self.wake_read, self._wake_write):
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)  # noqa: FBT003  # it takes no names
        os.register_at_fork(after_in_child=self._be_a_clone)
        self._lock = threading.Lock()
        self._backlog: deque[memoryview] = deque()
        self._unwritten: list[Callable[[], object]] = []
        self._is_clone = False

    def _be_a_clone(self) -> None:
        # An item forked. In the clone its code may come back to us and would answer in the worker's name.
        self._is_clone = True

    @property
    def backlog(self) -> bool:
        """Whether something waits for room in the pipe."""
        return bool(self._backlog)

    def send(self, frame: frames.Frame) -> None:
        """Send a frame, or queue it behind what waits already."""
        if self._is_clone:
            os._exit(0)
        parts = [memoryview(part) for part in wire.encode(frame) if len(part)]
        with self._lock:
            waiting = bool(self._backlog)
            self._backlog.extend(parts)
            if not waiting:
                self._write()
        if not waiting and self._backlog:
            self.wake()

    def when_written(self, do: Callable[[], object]) -> None:
        """Do something once all that was sent is in the pipe, where it outlives this process. Any thread."""
        with self._lock:
            if self._backlog:
                self._unwritten.append(do)
                return
        do()

    def flush(self) -> None:
        """Send what waits, as far as there is room. For the link thread."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        while self._backlog:
            parts = [self._backlog[i] for i in range(min(len(self._backlog), 64))]
            try:
                written = os.writev(self.answers, parts)
            except BlockingIOError:
                return
            except BrokenPipeError:
                os._exit(1)  # the parent is gone
            for part in parts:
                if written < len(part):
                    self._backlog[0] = part[written:]
                    break
                written -= len(part)
                self._backlog.popleft()
        while self._unwritten:
            self._unwritten.pop()()

    def wake(self) -> None:
        """Make the link thread look around."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # it is full of wake-ups already

    def drain_wakes(self) -> None:
        """The link thread is awake."""
        try:
            os.read(self.wake_read, 4096)
        except BlockingIOError:
            return


class Link(threading.Thread):
    """Reads commands, writes what waits, flushes results that the main thread is too busy to send."""

    def __init__(self, pipes: Pipes, runner: Runner, surroundings: Surroundings, modules: Modules) -> None:
        super().__init__(name="aiopool-link", daemon=True)
        self._pipes = pipes
        self._runner = runner
        self._modules = modules
        self._parser = wire.Parser()
        self._flush_at = inf
        self._interrupt_at = inf
        self._handlers: dict[type, Callable[[Any], object]] = {
            frames.Setup: runner.setup.put,
            frames.Function: self._know,
            frames.Environment: surroundings.take,
            frames.Batch: runner.add,
            frames.AskBack: self._hand_back,
            frames.Cancel: self._cancel,
            frames.Ping: lambda _: pipes.send(frames.Pong()),
            frames.Forget: lambda frame: runner.jobs.pop(frame.job, None),
        }

    def run(self) -> None:
        """Serve until the parent hangs up. Without this thread the worker is deaf, so an error here ends it."""
        try:
            self._serve()
        except BaseException:  # noqa: BLE001  # reported, and fatal
            traceback.print_exc()
            os._exit(70)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._pipes.commands, select.POLLIN)
        poll.register(self._pipes.wake_read, select.POLLIN)
        poll.register(self._pipes.answers, 0)
        while True:
            events = dict(poll.poll(self._milliseconds()))
            if self._pipes.wake_read in events:
                self._pipes.drain_wakes()
            if events.get(self._pipes.answers, 0) & (select.POLLERR | select.POLLHUP):
                os._exit(1)
            if self._pipes.backlog:
                self._pipes.flush()
            if self._pipes.commands in events and not self._read():
                self._runner.close()
                return
            self._do_what_is_due()
            poll.modify(self._pipes.answers, select.POLLOUT if self._pipes.backlog else 0)

    def _do_what_is_due(self) -> None:
        """Flush results, and interrupt items, that have waited for their deadline. It begins when they are seen."""
        now = monotonic()
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
            self._flush_at = inf
            self._runner.outbox.flush()
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
        due = min(self._flush_at, self._interrupt_at, self._modules.due, runner.clock.armed, runner.reports.due)
        return None if due == inf else min(max(0.0, due - monotonic()), LONGEST_SECONDS) * 1e3

    def _read(self) -> bool:
        """Take in commands; False when the parent has hung up."""
        try:
            data = os.read(self._pipes.commands, READ_SIZE)
        except BlockingIOError:
            return True
        for frame in self._parser.feed(data):
            self._handlers[type(frame)](frame)
        return bool(data)

    def _know(self, frame: frames.Function) -> None:
        self._modules.expect(monotonic())
        self._runner.know(frame)

    def _hand_back(self, frame: frames.AskBack) -> None:
        job = self._runner.jobs.get(frame.job)
        back = job.hand_back(frame.count) if job else frames.HandedBack(frame.job, (), ())
        self._pipes.send(back)
        if back.batches and self._runner.outbox.waiting:
            self._runner.outbox.flush()

    def _cancel(self, frame: frames.Cancel) -> None:
        job = self._runner.jobs.get(frame.job)
        if job is None:
            self._pipes.send(frames.Dropped(frame.job))
        else:
            self._runner.cancel(job)
