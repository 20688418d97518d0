"""A call by submit, as little as it can be: most end at once, and nobody asks for more than their value.

A job has a store for its results, a picture, labels, a place where its prints go. A call that is awaited and ends needs
none of that. It is all made when somebody asks for it, in whatever thread: a user, or the pool's own, for a call that
takes long, fails, prints or is looked at.
"""

from __future__ import annotations

import itertools
import os
import time
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

__all__ = ["Call", "Shape"]

_DONE = Ending("done")

numbers = itertools.count(1)
"""Of the jobs of all pools: among ``aiopool.jobs()`` a number is that of one job."""

_RESULTS, _DELIVERED = "results", "delivered"


@dataclass(slots=True, eq=False)
class Shape:
    """What calls of one function have in common. ``data`` is the function on its way to a worker.

    ``function`` is what they were made of. ``spec_of`` makes all that a driver must know of one of them, ``fit_out``
    makes its store ready for those who read it, and ``job_of`` the job that its user asks for.
    """

    function: object
    name: str
    data: bytes
    flags: int
    kind: f.Kind
    spec_of: Callable[[Call], JobSpec]
    fit_out: Callable[[Call, Results], None]
    job_of: Callable[[Call], Any]
    must_not_block: Callable[[int], bool]
    process: int = field(default_factory=os.getpid)


class Call:
    """One call. ``arguments`` are what the user has passed, ``data`` is the same on its way to a worker.

    ``departed``: whoever has made it has sent it, too. It is taken out of ``held_in``, where it has this ``key``, when
    it has ended in whatever way. There may be a great many, so it brings little that the collector must look at.

    No lock stands before any of it: the garbage collector may run a finaliser of the user's at any line, which waits
    for another call, and the pool's thread must not wait for whoever is in there. ``_own`` has those who wait as keys,
    and the store, for each of which what a dict does in one go decides who is first.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_ended_at",
        "_own",
        "_results",
        "_value",
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

    def __init__(self, shape: Shape, arguments: tuple[tuple[Any, ...], dict[str, Any]], data: bytes) -> None:
        self.id = next(numbers)
        self.started = time.monotonic()
        self.shape = shape
        self.arguments = arguments
        self.data = data
        self.departed = False
        self.held_in: dict[int, Any] | None = None
        self.key = 0
        self._own: dict[Any, Any] = {}
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
        self._worker, self._ended_at = worker, now
        # First this, and then the look; who makes a store does it the other way round.
        self._ended = value
        if (results := self._results) is not None:
            self._deliver(results, value)
        # In any case: who has made a store meanwhile may have found the value, and not looked further.
        self.let_go()
        for waiter in list(self._own):
            if type(waiter) is not str:
                waiter.tell()

    def let_go(self) -> None:
        """Nobody need hold it any more."""
        if self.held_in is not None:
            self.held_in.pop(self.key, None)
            self.held_in = None

    # --- any thread --------------------------------------------------------------------------------------------------

    @property
    def results(self) -> Results:
        """Its store, from now on."""
        if self._results is None:
            made = Results(1)
            self.shape.fit_out(self, made)
            self._results = results = self._own.setdefault(_RESULTS, made)
            if results is made:
                self._begin(made)
        return self._results

    def _begin(self, results: Results) -> None:
        """It has a store: what comes goes there, and who waits for it waits there."""
        if (value := self._ended) is not None:
            self._deliver(results, value)
            return
        if not results.add(_Over(self.let_go)):
            self.let_go()
        for waiter in list(self._own):
            if type(waiter) is not str and not results.add(waiter):
                waiter.tell()
        if self.shape.process != os.getpid():
            results.disown()

    def _deliver(self, results: Results, value: frames.Results) -> None:
        me = object()
        if self._own.setdefault(_DELIVERED, me) is me:
            loaded = None if self._value is EMPTY else [self._value]
            results.deliver(Segment(frames.ONLY, value.seconds, value.shared, value.blobs, self._worker), loaded)
            results.end(_DONE)
            results.ended_at = self._ended_at

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
        self._own[waiter] = True
        if (results := self._results) is not None:
            return results.add(waiter)
        return self._ended is None

    def discard(self, waiter: Waiter) -> None:
        """Tell this one no more."""
        self._own.pop(waiter, None)
        if (results := self._results) is not None:
            results.discard(waiter)


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
