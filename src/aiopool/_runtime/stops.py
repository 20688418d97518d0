"""Stop while a value is being loaded, told apart from a KeyboardInterrupt that the value itself raises.

The second is that item's failure; the first goes on to whoever pressed it, and the value is loaded another time.
"""

from __future__ import annotations

# signal without the enums around it: for a handler that is none of them they make an error, with its repr in it, which
# is that of a whole task and takes 70 us.
import _signal  # type: ignore[import-not-found]  # typeshed does not have it
import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["Stop", "StopToldApart"]


class Stop(KeyboardInterrupt):
    """Stop was pressed while a value was being loaded. No value raises this; its cause is what the handler raised."""


class StopToldApart:
    """While values are loaded in the main thread, what the handler of SIGINT raises comes as :class:`Stop`."""

    __slots__ = ("_before", "_handler")

    def __enter__(self) -> None:
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            before = _signal.getsignal(signal.SIGINT)
            # Already one of ours: a value reads another job, or Stop was pressed in the middle of this, another time.
            before = getattr(before, "told_apart", before)
            if callable(before):
                self._before, self._handler = before, _telling_apart(before)
                _signal.signal(signal.SIGINT, self._handler)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None and _signal.getsignal(signal.SIGINT) is self._handler:
            _signal.signal(signal.SIGINT, self._before)


def _telling_apart(before: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
    """Python's own handler, that of a loop or of a program: whichever, and whatever it raises."""

    def told_apart(signum: int, frame: FrameType | None) -> None:
        try:
            before(signum, frame)
        except BaseException as error:
            raise Stop from error

    told_apart.told_apart = before  # type: ignore[attr-defined]
    return told_apart
