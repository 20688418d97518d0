"""Where a worker process begins: set up like the parent's process, say so, serve."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import os
import queue
import signal
import sys
import time
import types
from typing import TYPE_CHECKING, cast

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker import asking, dump, known, plain, showing
from aiopool._worker.environment import Surroundings
from aiopool._worker.guard import Guard
from aiopool._worker.link import Link
from aiopool._worker.marks import MarkPage
from aiopool._worker.modules import Modules
from aiopool._worker.pages import SharedPages
from aiopool._worker.pipes import OUT_OF_REACH, Pipes
from aiopool._worker.prints import Prints
from aiopool._worker.runner import Runner
from aiopool._worker.streams import Streams

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

SHUTDOWN_SECONDS = 1.0
"""How long a worker that ends may spend on closing what the user's code left open in its loop."""

LONGEST_START = 1e8
"""Some years, in seconds: faulthandler takes no alarm that is farther away than it can count in its own unit."""


def main(
    commands: int, answers: int, marks: int, *, lifeline: int, parent: int, reaper: str, pages: Sequence[int]
) -> None:
    """Run a worker of this parent over these inherited file descriptors; returns when the parent hangs up."""
    _make_room_for_descriptors(commands)
    guard = Guard(lifeline, parent, reaper)
    # Stop goes to the kernel's whole process group. The parent blocked SIGINT across the start, so there is no moment
    # at which it could have struck.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    pipes = Pipes(commands, answers, guard)
    shared = SharedPages(pages, pipes.send, pipes.wake)
    modules = Modules(pipes.send)
    streams = Streams()
    prints = Prints(streams)

    def send(frame: frames.Frame) -> None:
        if type(frame) is frames.Results or type(frame) is frames.Failed:
            modules.look()  # What an item has imported is told before how it ended.
            streams.mend()
            prints.mend()
            if type(frame) is frames.Results:
                shared.announce(frame)
        pipes.send(frame)

    surroundings = Surroundings()
    runner = Runner(send, pipes.wake, MarkPage(marks), pipes.until_written, prints)
    dump.allow(marks)
    os.close(marks)
    Link(pipes, runner, surroundings, modules, shared).start()
    if _set_up(runner, pipes, surroundings, modules, prints):
        guard.arm()
        runner.run()
        _shut_down(runner.calls.made)


def _make_room_for_descriptors(fd: int) -> None:
    """Have the system make the table that the high numbers need now: with a second thread that takes milliseconds."""
    # Where there may be so few, the table is short.
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_REACH))


def _set_up(runner: Runner, pipes: Pipes, surroundings: Surroundings, modules: Modules, prints: Prints) -> bool:
    setup: queue.SimpleQueue[frames.Setup] = runner.setup
    frame = setup.get()
    # It was off until here. What was imported is there to stay: nobody need look through it again.
    gc.freeze()
    gc.enable()
    try:
        config = plain.loads(frame.config)
        prints.begin(bytes.fromhex(config["token"]))
        showing.begin(prints)
        asking.begin()
        # Where it hangs, should it hang: among its last words when the parent gives it up. That clock is the system's.
        left = min(max(0.1, config["start_by"] - time.monotonic()), LONGEST_START)
        faulthandler.dump_traceback_later(max(left / 2, left - 2.0))
        # Only now: a signal.py or types.py in the notebook's folder must not stand in for what we import ourselves.
        known.find_now()
        surroundings.begin(config["environment"])
        inside.become_worker(config["index"], runner.calls, config["start_timeout"])
        if config["nested_loops"]:
            from aiopool._worker import nesting  # with nest_asyncio2, which only few ask for

            nesting.allow(runner)
        initializers = _payload.load_shared(frame.initializers)
        if initializers:
            pipes.guard.arm()
        for initializer in initializers:
            initialized = _payload.load_function(cast("bytes", initializer))()
            if isinstance(initialized, types.CoroutineType):
                runner.loop.run_until_complete(initialized)
    except BaseException as error:  # noqa: BLE001  # an initializer may raise anything; the parent is told
        from aiopool._payload.tracebacks import from_users_line  # with the reader of Python files

        BaseException.with_traceback(error, from_users_line(error.__traceback__))
        pipes.send(frames.StartFailed(_payload.dump_error(error)))
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    surroundings.end_set_up()
    for which in (0, 1):
        prints.flush(which)
    if config["watch_modules"]:
        modules.watch()
    runner.ready = True
    pipes.send(frames.Ready(os.getpid()))
    return True


def _shut_down(loop: asyncio.AbstractEventLoop | None) -> None:
    if (resources := sys.modules.get("aiopool.resources")) is not None:
        resources.close_all()  # First: tasks of theirs are among those that are cancelled below.
    if loop is None:
        return
    import asyncio

    async def close() -> None:
        left = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=SHUTDOWN_SECONDS)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(close())
    loop.close()
