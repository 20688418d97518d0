"""``Pool(nested_loops=True)``: a coroutine may call code that says ``asyncio.run(...)`` or ``run_until_complete(...)``.

nest_asyncio2 lets the worker's loop turn inside one of its own steps. What it leaves open is closed here: a task that
waits in such a nested run can be cancelled and timed out, it is not the one at work while others are stepped, and the
stack stays bounded however many items nest.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

import nest_asyncio2

if TYPE_CHECKING:
    from aiopool._worker.runner import Runner
    from aiopool._worker.work import Stepped

DEEPEST = 50
"""How many nested runs may lie upon each other; at that depth no further item is stepped before one has ended."""

FRAMES = 40
"""Python frames that one more nested run may take of the stack, the user's own between two of them included."""


def allow(runner: Runner) -> None:
    """Let the loop of this worker be run inside itself. Before it has run at all."""
    nest_asyncio2.apply(runner.loop, run_close_loop=True)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + DEEPEST * FRAMES))
    Nesting(runner, runner.loop)
    # An item may be stepped within a step of another one: which of them runs is more than the mark page says.
    runner.has_laps = False


class Nesting:
    """Runs the worker's loop until something is done, also from inside a step of it."""

    def __init__(self, runner: Runner, loop: Any) -> None:
        self._runner = runner
        self._loop = loop
        self._depth = 0
        self._aside: list[Any] = []
        self._must_stop = False
        self._until, self._once, self._stop = loop.run_until_complete, loop._run_once, loop.stop  # noqa: SLF001
        loop.run_until_complete, loop._run_once = self._run_until_complete, self._run_once  # noqa: SLF001
        loop.stop = self._stop_later

    def _run_until_complete(self, future: Any) -> Any:
        task: Any = asyncio.current_task(self._loop) if self._loop.is_running() else None
        if task is None:
            return self._until(future)
        inner = asyncio.ensure_future(future, loop=self._loop)
        runner, slots, clock = self._runner, self._runner.marks.slots, self._runner.clock
        held = runner.stepping, slots[0]
        runner.stepping, slots[0] = None, 0
        # Its step does not hold the loop meanwhile.
        turning = clock.turning - monotonic()
        # Whoever cancels the task cancels what it waits for; that is how asyncio.timeout ends it, too.
        waited_for, task._fut_waiter = task._fut_waiter, inner  # noqa: SLF001
        beneath = _Beneath(held[0])
        inner.add_done_callback(beneath)
        self._depth += 1
        if self._loop._stopping:  # noqa: SLF001
            # It was told to within this turn of it, before this step.
            self._loop._stopping, self._must_stop = False, True  # noqa: SLF001
        try:
            return self._until(inner)
        finally:
            self._depth -= 1
            if self._aside:
                self._loop._ready.extend(self._aside)  # noqa: SLF001
                self._aside.clear()
            task._fut_waiter = waited_for  # noqa: SLF001
            runner.stepping, slots[0] = held
            clock.turning = turning + monotonic()
            beneath.end()
            if self._must_stop and not self._depth:
                self._must_stop = False
                self._stop()

    def _stop_later(self) -> None:
        """Meant for the outermost run: a nested one would end with an error before what it waits for is done."""
        if self._depth:
            self._must_stop = True
        else:
            self._stop()

    def _run_once(self) -> None:
        """One turn of the loop; at the greatest depth without the steps of items, which might nest, too."""
        if self._depth >= DEEPEST:
            lanes = {task for job in list(self._runner.jobs.values()) for task in list(job.tasks)}
            ready = self._loop._ready  # noqa: SLF001
            before = len(ready)
            for _ in range(before):
                handle = ready.popleft()
                owner = getattr(handle._callback, "__self__", None)  # noqa: SLF001
                (self._aside if owner in lanes else ready).append(handle)
            if not ready and before:
                return  # It was called because something was ready, and must not wait for what is not.
        self._once()


class _Beneath:
    """Holds an item whose nested run is done, but not the ones that lie upon it: they are not on its time."""

    def __init__(self, entry: Stepped | None) -> None:
        self._entry = entry
        self._holds = False

    def __call__(self, _: object) -> None:
        if self._entry is not None:
            self._entry.hold()
            self._holds = True

    def end(self) -> None:
        """It goes on."""
        entry, self._entry = self._entry, None
        if entry is not None and self._holds:
            entry.release()
