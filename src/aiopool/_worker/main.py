"""Where a worker process begins: set up like the parent's process, say so, serve."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import json
import os
import queue
import signal
import sys
from typing import cast

from aiopool import _payload, inside, resources
from aiopool._core import frames
from aiopool._worker.environment import Surroundings
from aiopool._worker.link import Link, Pipes
from aiopool._worker.modules import Modules
from aiopool._worker.runner import Runner
from aiopool._worker.work import MarkPage

SHUTDOWN_SECONDS = 1.0
"""How long a worker that ends may spend on closing what the user's code left open in its loop."""


PR_SET_PDEATHSIG = 1


def main(commands: int, answers: int, marks: int, parent: int) -> None:
    """Run a worker of this parent over these inherited file descriptors; returns when the parent hangs up."""
    _die_with(parent)
    # Stop goes to the kernel's whole process group. The parent blocked SIGINT across the start, so there is no moment
    # at which it could have struck.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    pipes = Pipes(commands, answers)
    modules = Modules(pipes.send)

    def send(frame: frames.Frame) -> None:
        if isinstance(frame, frames.Results | frames.Failed):
            modules.look()  # What an item has imported is told before how it ended.
        pipes.send(frame)

    surroundings = Surroundings()
    runner = Runner(send, pipes.wake, MarkPage(marks), pipes.when_written)
    os.close(marks)
    Link(pipes, runner, surroundings, modules).start()
    if _set_up(runner, pipes, surroundings, modules):
        runner.run()
        _shut_down(runner.loop)


def _die_with(parent: int) -> None:
    """Have the system end this process with its parent, where it can.

    EOF tells most of it, but not while a forked child of the parent holds the pipe, nor while C code holds the GIL.
    The signal follows the thread that started us: that is the pool's own, which lives as long as its workers.
    """
    if sys.platform == "linux":
        import ctypes  # nothing else here needs it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # It died before we had asked.


def _set_up(runner: Runner, pipes: Pipes, surroundings: Surroundings, modules: Modules) -> bool:
    setup: queue.SimpleQueue[frames.Setup] = runner.setup
    frame = setup.get()
    try:
        config = json.loads(bytes(frame.config))
        # Only now: a signal.py or types.py in the notebook's folder must not stand in for what we import ourselves.
        surroundings.begin(config["environment"])
        inside.become_worker(config["index"])
        if config["nested_loops"]:
            from aiopool._worker import nesting  # with nest_asyncio2, which only few ask for

            nesting.allow(runner)
        resources.set_up(runner.loop, config["start_timeout"])
        for initializer in _payload.load_shared(frame.initializers):
            initialized = _payload.load_function(cast("bytes", initializer))()
            if inspect.iscoroutine(initialized):
                runner.loop.run_until_complete(initialized)
    except BaseException as error:  # noqa: BLE001  # an initializer may raise anything; the parent is told
        pipes.send(frames.StartFailed(_payload.dump_error(error)))
        return False
    surroundings.end_set_up()
    if config["watch_modules"]:
        modules.watch()
    runner.ready = True
    pipes.send(frames.Ready(os.getpid()))
    return True


def _shut_down(loop: asyncio.AbstractEventLoop) -> None:
    resources.close_all()  # First: tasks of theirs are among those that are cancelled below.

    async def close() -> None:
        left = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=SHUTDOWN_SECONDS)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(close())
    loop.close()
