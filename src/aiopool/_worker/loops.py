"""What the main thread of a worker waits in: a queue of calls, and an event loop from when somebody needs one.

asyncio takes longer to import than all else that a fresh worker needs, and functions do without it.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["LoopOnDemand"]


class LoopOnDemand:
    """Runs what is called into the main thread, in order. ``made`` is the event loop, once there is one.

    Without a lock, so that a handler of a signal may come at any line: who puts a call into the queue looks again
    whether there is a loop by then, and whoever finds calls there takes them over.
    """

    def __init__(self) -> None:
        self.made: asyncio.AbstractEventLoop | None = None
        self._calls: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.SimpleQueue()
        self._stopped = False

    def get(self) -> asyncio.AbstractEventLoop:
        """The event loop; made when it is first asked for, which is for the main thread to do."""
        if self.made is None:
            import asyncio  # only who needs a loop pays for it

            self.made = asyncio.new_event_loop()
            self._take_over()
        return self.made

    def call_soon_threadsafe(self, function: Callable[..., object], *args: Any) -> None:
        """Have the main thread call this. Any thread."""
        if (loop := self.made) is not None:
            loop.call_soon_threadsafe(function, *args)
            return
        self._calls.put((function, args))
        self._take_over()

    def _take_over(self) -> None:
        while (loop := self.made) is not None:
            try:
                function, args = self._calls.get_nowait()
            except queue.Empty:
                return
            loop.call_soon_threadsafe(function, *args)

    def run_forever(self) -> None:
        """Call what is to be called until :meth:`stop`."""
        while self.made is None:
            function, args = self._calls.get()
            function(*args)
            # While it waits here, nothing of a job that may have ended is held.
            del function, args
            if self._stopped:
                self._stopped = False
                return
        self.made.run_forever()

    def stop(self) -> None:
        """Have :meth:`run_forever` return. In the main thread."""
        if self.made is None:
            self._stopped = True
        else:
            self.made.stop()
