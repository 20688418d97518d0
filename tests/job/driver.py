"""A thread that plays the pool: it fills a job's results, and takes what the job asks of the pool."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiopool import _payload
from aiopool._runtime.arrivals import Segment
from aiopool._runtime.results import Ending, RawFailure, Results
from aiopool.job import Job
from aiopool.labels import label
from aiopool.telemetry import JobSnapshot

DEADLINE = 40.0


class Driver:
    """The pool's thread, as far as one job sees it. What a test tells it to do, it does in order, on its own thread."""

    def __init__(
        self,
        size: int | None = 3,
        *,
        inputs: Sequence[object] | None = None,
        on_error: Any = "raise",
        is_single: bool = False,
        prefilled: Mapping[int, object] | None = None,
        ends_when_cancelled: bool = True,
    ) -> None:
        self.inputs = inputs
        self.results = Results(size, prefilled=prefilled)
        self.calls: list[tuple[Any, ...]] = []
        self.retries: list[tuple[Any, ...]] = []
        self.needs: set[int] = set()
        self.snapshots: Callable[[], JobSnapshot | None] = lambda: None
        self._ends_when_cancelled = ends_when_cancelled
        self._to_do: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, name="driver")
        self.thread.start()
        self.job: Job[Any] = Job(
            self,
            7,
            "fetch",
            self.results,
            on_error=on_error,
            is_single=is_single,
            value_of=self._value_of,
            label_of=lambda index: label(self._value_of(index)),
            started=time.monotonic(),
            again=self._again,
        )

    def _value_of(self, index: int) -> object:
        return index * 10 if self.inputs is None else self.inputs[index]

    def _again(self, *args: Any) -> Any:
        self.retries.append(args)
        return self.job

    def _run(self) -> None:
        while (work := self._to_do.get()) is not None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told at the end of the test
                self.errors.append(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._to_do.put(None)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        if kind is None:
            assert self.errors == []
            assert self.results._waiters == (), "somebody is still registered who does not wait any more"

    # --- what the job asks ------------------------------------------------------------------------------------------

    def cancel(self, job: int, *, stopped: bool) -> None:
        """Note it, and end the job as the pool would."""
        self.calls.append(("cancel", job, stopped))
        if self._ends_when_cancelled:
            self.end("stopped" if stopped else "cancelled")

    def pause(self, job: int) -> None:
        """Note it."""
        self.calls.append(("pause", job))

    def resume(self, job: int) -> None:
        """Note it."""
        self.calls.append(("resume", job))

    def snapshot_job(self, job: int) -> JobSnapshot | None:
        """Whatever the test says."""
        return self.snapshots()

    def must_not_block(self, job: int) -> bool:
        """True on the pool's thread, and on those that the test names."""
        return threading.current_thread() is self.thread or threading.get_ident() in self.needs

    # --- what a test tells it to do ---------------------------------------------------------------------------------

    def do(self, work: Callable[[], object]) -> None:
        """Do this next."""
        self._to_do.put(work)

    def flush(self) -> None:
        """Wait until everything told so far is done."""
        done = threading.Event()
        self.do(done.set)
        assert done.wait(DEADLINE)

    def after(self, condition: Callable[[], bool]) -> None:
        """Go on only when this holds."""
        self.do(lambda: eventually(condition))

    def after_somebody_waits(self, waiters: int = 1) -> None:
        """Go on only when so many wait for the job."""
        self.after(lambda: len(self.results._waiters) >= waiters)

    def deliver(self, items: Iterable[int], values: Sequence[object] | None = None, *, worker: int = 0) -> None:
        """Plain values, one pickle for all; those of the inputs' squares where none are given."""
        items = items if isinstance(items, range) else tuple(items)
        told: list[object] = [index * index for index in items] if values is None else list(values)
        segment = Segment(items, [0.5] * len(items), _payload.dump_shared(told), (), worker)
        self.do(lambda: self.results.deliver(segment))

    def deliver_blobs(self, items: Sequence[int], blobs: Sequence[bytes | None], plain: Sequence[object] = ()) -> None:
        """Values with pickles of their own; None takes the next plain one."""
        shared = _payload.dump_shared(list(plain)) if plain else b""
        segment = Segment(tuple(items), [0.25] * len(items), shared, tuple(blobs), 1)
        self.do(lambda: self.results.deliver(segment))

    def fail(self, index: int, error: BaseException | bytes, **told: Any) -> None:
        """One item has failed."""
        self.do(lambda: self.results.fail(RawFailure(index, error, **told)))

    def end(self, how: Any = "done", error: BaseException | None = None) -> None:
        """The job has ended."""
        self.do(lambda: self.results.end(Ending(how, error)))

    def total(self, total: int) -> None:
        """The input has ended."""
        self.do(lambda: self.results.set_total(total))


def eventually(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail when it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE
    for turn in itertools.count():
        if condition():
            return
        assert time.monotonic() < deadline, "this never came true"
        if turn > 100:
            time.sleep(0.001)


class Poison:
    """A value that does what it is told while it is loaded."""

    def __init__(self, kind: type[BaseException], text: str = "will not load") -> None:
        self.kind, self.text = kind, text

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self.kind, self.text)


def _raise(kind: type[BaseException], text: str) -> None:
    raise kind(text)
