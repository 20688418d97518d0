"""A call by submit, as little as it can be: most end at once, and nobody asks for more than their value.

A job has a store for its results, a picture, labels, a place where its prints go. A call that is awaited and ends needs
none of that. It is all made when somebody asks for it, in whatever thread: a user, or the pool's own, for a call that
takes long, fails, prints or is looked at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiopool import _payload
from aiopool._core import facts as f
from aiopool._core import frames
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.environment import Snapshot
from aiopool._runtime.results import EMPTY, Ending, Results
from aiopool._runtime.runs import JobSpec, Run
from aiopool._runtime.waiters import END, Waiter
from aiopool._runtime.waits import Step

__all__ = ["ONLY", "Call", "Shape"]

_DONE = Ending("done")

ONLY = (0,)
"""The index of the only item."""

_making = threading.RLock()
"""Before the store of a call is made, and before its end: held for microseconds. Of all calls, as there are many.

Entered again by its own thread where the garbage collector runs a finaliser of the user's in it.
"""


def _disown() -> None:
    """This is a forked child: another thread may have been in there."""
    global _making  # noqa: PLW0603
    _making = threading.RLock()


os.register_at_fork(after_in_child=_disown)


@dataclass(slots=True, eq=False)
class Shape:
    """What calls of one function have in common. ``data`` is the function on its way to a worker.

    ``spec_of`` makes all that a driver must know of one of them, ``fit_out`` its store for those who read it, and
    ``fill`` the job that its user holds.
    """

    name: str
    data: bytes
    flags: int
    kind: f.Kind
    spec_of: Callable[[Call], JobSpec]
    fit_out: Callable[[Call, Results], None]
    fill: Callable[[Any, Call], None]
    must_not_block: Callable[[int], bool]
    process: int = field(default_factory=os.getpid)


class Call:
    """One call. ``arguments`` are what the user has passed, ``data`` is the same on its way to a worker.

    ``departed``: whoever has made it has sent it, too. It is taken out of ``held_in``, where it has this ``key``, when
    it has ended in whatever way. There may be a great many, so it brings little that the collector must look at.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_ended_at",
        "_results",
        "_value",
        "_waiters",
        "_worker",
        "arguments",
        "data",
        "departed",
        "environment",
        "held_in",
        "id",
        "key",
        "shape",
        "started",
    )

    is_call = True
    environment: Snapshot
    started: float

    def __init__(self, shape: Shape, arguments: tuple[tuple[Any, ...], dict[str, Any]], data: bytes) -> None:
        self.id = 0
        self.shape = shape
        self.arguments = arguments
        self.data = data
        self.departed = False
        self.held_in: dict[int, Any] | None = None
        self.key = 0
        self._waiters: tuple[Waiter, ...] = ()
        self._ended: frames.Results | None = None
        self._ended_at = 0.0
        self._worker = 0
        self._value: object = EMPTY
        self._results: Results | None = None

    @property
    def kind(self) -> f.Kind:
        """Which items it is one of."""
        return self.shape.kind

    # --- the pool's thread -------------------------------------------------------------------------------------------

    def frame(self, batch: int) -> frames.Call:
        """All that a worker needs of it. Any thread."""
        shape = self.shape
        return frames.Call(self.id, batch, shape.flags, shape.data, self.data)

    def run(self) -> Run:
        """As the driver holds a job: the ledger is going to be told of it."""
        return Run(self.id, self.shape.spec_of(self), self.results, None, self.started, self.environment)

    def end(self, value: frames.Results, worker: int, now: float) -> None:
        """Its value has come from the worker of this place, and it is over. Who waits for it is told."""
        with _making:
            self._worker, self._ended_at = worker, now
            if (results := self._results) is None:
                self._ended = value
                waiters, self._waiters = self._waiters, ()
        if results is not None:
            self._deliver(results, value)
            results.end(_DONE)
            return
        self.let_go()
        for waiter in waiters:
            waiter.tell()

    def _deliver(self, results: Results, value: frames.Results) -> None:
        results.deliver(Segment(ONLY, value.seconds, value.shared, value.blobs, self._worker))

    def let_go(self) -> None:
        """Nobody need hold it any more."""
        if self.held_in is not None:
            self.held_in.pop(self.key, None)
            self.held_in = None

    # --- any thread --------------------------------------------------------------------------------------------------

    @property
    def results(self) -> Results:
        """Its store, from now on."""
        with _making:
            if self._results is None:
                results = Results(1)
                self.shape.fit_out(self, results)
                if self._ended is not None:
                    self._deliver(results, self._ended)
                    results.end(_DONE)
                    results.ended_at = self._ended_at
                else:
                    results.add(_Over(self.let_go))
                    for waiter in self._waiters:
                        results.add(waiter)
                self._results = results
                if self.shape.process != os.getpid():
                    results.disown()
            return self._results

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        if self._ended is not None:
            return True
        if self._results is None and self.shape.process == os.getpid():
            return False
        return self.results.ending is not None

    def look(self) -> Step:
        """Whether there is something to wait for."""
        return Step.READY if self.done else Step.WAIT

    def value(self) -> object:
        """Its value, EMPTY where there is none, or where it takes a store to load it."""
        if self._value is EMPTY and self._results is None and self._ended is not None and not self._ended.blobs:
            # Plain values cannot be changed: it does no harm if two readers load one. What cannot be loaded is a
            # failure, which takes a store.
            try:
                (self._value,) = _payload.load_shared(self._ended.shared)
            except Exception:  # noqa: BLE001 - the store says it
                return EMPTY
        return self._value

    def add(self, waiter: Waiter) -> bool:
        """Have this one told; look at the call after this, not before. False: it has ended, nobody will be told."""
        with _making:
            if (results := self._results) is None:
                self._waiters += (waiter,)
                return self._ended is None
        return results.add(waiter)

    def discard(self, waiter: Waiter) -> None:
        """Tell this one no more."""
        with _making:
            if waiter in self._waiters:
                self._waiters = tuple([each for each in self._waiters if each is not waiter])
        if self._results is not None:
            self._results.discard(waiter)


class _Over:
    """Waits for the end, and does not ask how that was."""

    __slots__ = ("_tell",)

    wants = END
    asks = False

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell = tell

    def tell(self) -> None:
        """It has ended."""
        self._tell()
