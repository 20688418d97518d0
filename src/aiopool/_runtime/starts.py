"""Workers come up one after another, and run first what all workers run. On the pool's own thread."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiopool import _payload
from aiopool._core import frames
from aiopool._runtime import environment
from aiopool._runtime.endings import Endings
from aiopool._runtime.machine import usable_cores
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.results import Results
from aiopool._runtime.vitals import Vitals
from aiopool._runtime.waiters import Callback
from aiopool.engines.base import Engine
from aiopool.options import PoolOptions

__all__ = ["Customs", "Starts"]


@dataclass(slots=True, eq=False)
class Custom:
    """Something that workers run when they start. ``settled``: it has run well on all that there were.

    ``dropped``: it has not, and nobody runs it any more. What has the same ``key`` does the same.
    """

    function: bytes
    key: bytes
    settled: bool = False
    dropped: bool = False


@dataclass(slots=True)
class Customs:
    """What workers run before their first item, in this order.

    A broadcast that stays is among it from its begin, for the workers that come up meanwhile, and no longer if it
    fails: everybody who starts would fail as well. What comes twice in a row is run once.
    """

    all: list[Custom] = field(default_factory=list)
    _dumped: bytes | None = None

    @classmethod
    def of(cls, initializers: Sequence[bytes]) -> Customs:
        """Those that a pool begins with."""
        return cls([Custom(function, function, settled=True) for function in initializers])

    def add(self, function: bytes, results: Results, on_drop: Callable[[], object], *, key: bytes = b"") -> None:
        """Run this, too, unless the job with these results does not end well: then ``on_drop`` is called."""
        custom = Custom(function, key or function)
        self.all.append(custom)
        self._dumped = None

        def ended(_: object) -> None:
            self._dumped = None
            if results.ending is not None and results.ending.how == "done":
                custom.settled = True
                self._merge()
            else:
                custom.dropped = True
                self.all.remove(custom)
                on_drop()

        if not results.add(Callback(ended, None, loop=None, asks=False)):
            ended(None)

    def _merge(self) -> None:
        """Forget what is the same as what stands before it, as of a cell that was run again; both are there to stay."""
        kept: list[Custom] = []
        for custom in self.all:
            last = kept[-1] if kept else None
            if last and last.settled and custom.settled and last.key == custom.key:
                kept.pop()
            kept.append(custom)
        self.all = kept

    def dumped(self) -> bytes:
        """All of them, for a worker."""
        if self._dumped is None:
            functions = itertools.groupby(custom.function for custom in self.all)
            self._dumped = _payload.dump_shared([function for function, _ in functions])
        return self._dumped


class Starts:
    """Starts workers: one in each turn of the loop, for to make a process takes milliseconds.

    Whoever waits for this thread then waits for one of them and not for all. A worker may be given up before its turn:
    it is never made, and has died when its turn comes.
    """

    def __init__(  # noqa: PLR0917 - each is of a type of its own
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        options: PoolOptions,
        customs: Customs,
        endings: Endings,
        vitals: Vitals,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._options = options
        self._customs = customs
        self._endings = endings
        self._vitals = vitals
        self._waiting: deque[tuple[WorkerProxy, Mapping[str, str]]] = deque()
        self._running: dict[int, Sequence[Custom]] = {}

    def line_up(self, proxy: WorkerProxy, size: int) -> None:
        """Start this one of ``size`` workers when its turn has come. Its time to start runs from now on."""
        now = environment.latest()
        proxy.environment = now.version
        config = {
            "index": proxy.index,
            "token": proxy.output.token.hex(),
            "start_timeout": self._options.start_timeout,
            "start_by": time.monotonic() + self._options.start_timeout,
            "environment": now.state,
            "watch_modules": self._options.reload_modules,
            "nested_loops": self._options.nested_loops,
        }
        # As things are at this moment: who is started for a broadcast that stays runs it as an item, which is enough.
        proxy.send(frames.Setup(json.dumps(config).encode(), self._customs.dumped()))
        self._running[proxy.id] = list(self._customs.all)
        self._waiting.append((proxy, environment.process_variables(now, self._threads(size))))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._start_next)

    def _threads(self, size: int) -> int | None:
        threads = self._options.threads_per_worker
        return max(1, int(usable_cores()) // size) if threads == "auto" else threads

    def _start_next(self) -> None:
        proxy, variables = self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._start_next)
        if proxy.unwanted:
            proxy.give_up()
            return
        try:
            self._vitals.expect()
            proxy.link = self._engine.start(proxy.index, proxy, variables)
        except Exception as error:  # noqa: BLE001  # whatever it is, jobs are told after some tries, not never
            self._endings.start_error, self._endings.start_failed = error, "starting a process raised"
            proxy.give_up()
            return
        proxy.flush()

    # --- how it went -----------------------------------------------------------------------------------------------

    def ended(self, proxy: WorkerProxy) -> None:
        """It is up, or it is gone."""
        self._running.pop(proxy.id, None)

    def failed(self, proxy: WorkerProxy, error: bytes) -> bool:
        """Something that it ran has raised; whether the next one would meet the same."""
        if any(custom.dropped for custom in self._running.get(proxy.id, ())):
            return False
        self._endings.start_error = error
        kept = len(self._customs.all) > (self._options.initializer is not None)
        self._endings.start_failed = (
            "what broadcast(..., keep=True) has every worker run first raised" if kept else "the initializer raised"
        )
        return True
