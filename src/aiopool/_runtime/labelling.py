"""How items are shown, made on a thread of its own where that is the user's code: a ``label=``, a ``__repr__``.

Only what somebody looks at is made, and only so many are kept: a look costs the same whatever a job is large.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aiopool.labels import is_plain, label

__all__ = ["Labeller", "Labels"]

MOST_KEPT = 512
MOST_ASKED = 512
"""So many may wait to be made, over all jobs of a pool: a label that hangs must not fill the memory with others."""


_keeping = threading.RLock()
"""Of all jobs, of which there may be thousands: it is held for a moment.

Entered again by its own thread where the garbage collector runs a finaliser of the user's in it.
"""


def _disown() -> None:
    """This is a forked child: another thread may have been in there."""
    global _keeping  # noqa: PLW0603
    _keeping = threading.RLock()


os.register_at_fork(after_in_child=_disown)


class Labels:
    """The labels of one job, those kept that were made last. Any thread."""

    __slots__ = ("_is_own", "_made", "_told", "_value_of")

    def __init__(self, value_of: Callable[[int], object], told: Callable[[Any], str], *, is_own: bool = False) -> None:
        """``told`` makes the label of a value; ``is_own``: with code of the user's, whatever the value."""
        self._value_of = value_of
        self._told = told
        self._is_own = is_own
        self._made: dict[int, str] = {}

    def of(self, index: int) -> str:
        """The label of an item, made now. Raises what ``value_of`` raises for an item that is not kept."""
        return self._told(self._value_of(index))

    def make(self, index: int) -> None:
        """Make it, if it has not been, so that :meth:`look` finds it. Not on the pool's thread."""
        if index in self._made:
            return
        try:
            made = self.of(index)
        except BaseException:  # noqa: BLE001 - an input that is not kept has no label, nor one whose repr exits
            made = ""
        self._keep(index, made)

    def look(self, index: int) -> str | None:
        """The label as far as that is known without running code of the user's, else None."""
        found = self._made.get(index)
        if found is not None or self._is_own:
            return found
        try:
            value = self._value_of(index)
        except Exception:  # noqa: BLE001 - as above
            return ""
        if not is_plain(value):
            return None
        found = self._told(value)
        self._keep(index, found)
        return found

    def _keep(self, index: int, made: str) -> None:
        with _keeping:
            self._made[index] = made
            while len(self._made) > MOST_KEPT:
                del self._made[next(iter(self._made))]


NO_LABELS = Labels(lambda _: None, label)


class Labeller:
    """The thread on which one pool has labels made. It begins with the first, and ends with the pool."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._asked: set[tuple[Labels, int]] = set()
        self._thread: threading.Thread | None = None

    def ask(self, labels: Labels, index: int) -> None:
        """Have this label made. On the pool's own thread."""
        wish = labels, index
        if wish in self._asked or len(self._asked) >= MOST_ASKED:
            return
        self._asked.add(wish)

        def make() -> None:
            try:
                labels.make(index)
            finally:
                self._asked.discard(wish)

        if not self._put(make):
            self._asked.discard(wish)

    def ask_all(self, labels: Labels, indices: Sequence[int], done: Callable[[], object]) -> None:
        """Have these made, and call ``done`` on that thread. On the pool's own thread; nothing, if too many wait."""
        if self._work.qsize() >= MOST_ASKED:
            return

        def make() -> None:
            for index in indices:
                labels.make(index)
            done()

        self._put(make)

    def _put(self, make: Callable[[], object]) -> bool:
        if self._thread is None:
            thread = threading.Thread(
                target=contextvars.Context().run, args=(self._run,), name="aiopool-labels", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # There are too many threads, or the interpreter ends: work goes on without labels.
                return False
            self._thread = thread
        self._work.put(make)
        return True

    def stop(self) -> None:
        """End the thread once what was asked is made."""
        self._work.put(None)

    def _run(self) -> None:
        while (make := self._work.get()) is not None:
            make()
            del make  # It holds a job's input, and it may be long before the next one comes.
