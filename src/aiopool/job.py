"""A job as its user holds it: await it, iterate over it, stop it, and keep what it has."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, Self, TypeVar, cast

from aiopool._runtime.arrivals import Arrival
from aiopool._runtime.results import EMPTY, GONE, Results
from aiopool._runtime.runs import picture_of
from aiopool._runtime.shelf import MANY
from aiopool._runtime.waiters import BACKLOG, END, Callback
from aiopool._runtime.waits import Step, wait_on_loop
from aiopool.errors import AiopoolError
from aiopool.failures import MISSING, Failure, Failures
from aiopool.options import OnError
from aiopool.readers import Completed, InOrder
from aiopool.reading import SLICE, JobControl, Reading
from aiopool.stacks import Stacks
from aiopool.telemetry import FailureGroup, JobSnapshot, JobState

__all__ = ["MISSING", "Failure", "Handle", "Job", "JobControl"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Again = Callable[[Callable[..., Any] | None, Mapping[str, Any], Sequence[int], Mapping[int, object]], "Job[Any]"]
"""How a retry is started: another function, options, the items without a value, the values that there are."""


_AWAIT_IT = "await it first, as in `results = await pmap(...)`, or in sync code `results = pmap(...).result()`"


class Handle(Protocol[R_co]):
    """Something that goes on by itself and ends: await it, or ask it from sync code."""

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait for the end without blocking the loop."""

    def result(self, timeout: float | None = None) -> R_co:
        """Block until the end. A TimeoutError cancels nothing."""

    def done(self) -> bool:
        """Tell whether it has ended, in whatever way."""

    def cancel(self) -> bool:
        """End it early; False if it has ended already."""


class Job(Generic[R]):
    """One map: its results, as they come or all at once, its failures, and the means to end it.

    ``pmap`` and ``Pool.map`` make it. It runs from that moment. Any thread and any event loop may wait for it, as often
    as they like. ``name`` is what it is called, ``id`` its number among all jobs of this process.
    """

    # ``owner`` is what the job belongs to, and ends with when that starts anew: the cell of a notebook. ``call`` is how
    # one item is tried by hand: ``await fetch({})`` with ``{}`` for the input; empty where that is not known.
    # ``labelled``: the user says how inputs are shown, so a label may not be the input.

    def __init__(
        self,
        control: JobControl,
        id: int,  # noqa: A002 - what it is called everywhere
        name: str,
        results: Results,
        *,
        on_error: OnError,
        is_single: bool,
        value_of: Callable[[int], object],
        label_of: Callable[[int], str],
        started: float,
        again: Again,
        owner: str | None = None,
        call: str = "",
        labelled: bool = True,
    ) -> None:
        self.id: Final = id
        self.name: Final = name
        self.call: Final = call
        self.labelled: Final = labelled
        self._control = control
        self._results = results
        self._failures = Failures(results, name, value_of, label_of, is_single=is_single)
        self._reading = Reading(
            control, id, name, results, self._failures, returns_failures=on_error == "return", is_single=is_single
        )
        self.started = started
        self.owner: Final = owner
        self._again = again

    # --- all results at once ----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._all().__await__()

    async def _all(self) -> list[R]:
        __tracebackhide__ = True
        self._want_everything()
        await self._reading.until(BACKLOG, functools.partial(self._look_for_all, on_loop=True))
        return self._outcome()

    def result(self, timeout: float | None = None) -> list[R]:
        """Block until the end and return what ``await`` would: for scripts, callbacks, code inside a running loop.

        When ``timeout`` seconds are over, TimeoutError is raised and the job goes on.
        """
        __tracebackhide__ = True
        self._want_everything()
        if not self._reading.block_until(BACKLOG, self._look_for_all, timeout):
            raise TimeoutError(f"{self.name} is still running, {self._reading.progress()}; it goes on")
        return self._outcome()

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as in result(timeout)
        """Wait for the end, or so many seconds, and tell whether it has come.

        Raises nothing of the job's, and never cancels it, not even when the waiting task is cancelled.
        """
        self._results.read_everything()
        ended = await wait_on_loop(self._results, END, lambda: Step.READY if self.done() else Step.WAIT, timeout)
        self._reading.hear()
        return ended

    def _want_everything(self) -> None:
        __tracebackhide__ = True
        self._reading.refuse_consumed()
        self._results.read_everything()

    def _look_for_all(self, *, on_loop: bool = False) -> Step:
        results = self._results
        ending = results.ending
        if ending is None:
            if results.all_loaded:
                return Step.WAIT
        elif ending.how != "done":
            return Step.READY
        # Before the end too: what has come until then need not be loaded afterwards.
        had_all = results.all_loaded
        self._reading.load(SLICE)
        # On a loop a list of many is made in a step by itself.
        apart = on_loop and ending is not None and not had_all and (results.total or 0) > MANY
        if apart or not results.all_loaded:
            return Step.AGAIN
        return Step.WAIT if ending is None else Step.READY

    def _outcome(self) -> list[R]:
        """Return the results of a job that has ended and is loaded, or raise its error."""
        __tracebackhide__ = True
        results = self._results
        if self._reading.is_single and not results.failures and results.ending is not None:
            value = results.look(0)
            if results.ending.how == "done" and value is not EMPTY:
                results.news.heard = True
                return cast("list[R]", value)
        self._reading.raise_unless_done()
        self._reading.refuse_consumed()
        values = results.listing(self._reading.hole)
        # To its user a submit is a Handle of its one value.
        return cast("list[R]", values[0] if self._reading.is_single else values)

    # --- one result after another -----------------------------------------------------------------------------------

    def __iter__(self) -> InOrder[R]:
        return InOrder(self._reading)

    def __aiter__(self) -> InOrder[R]:
        return InOrder(self._reading)

    def as_completed(self) -> Completed[R]:
        """Iterate, with ``for`` or ``async for``, over pairs of index and result in the order of completion."""
        return Completed(self._reading)

    # --- ending it --------------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether the job has ended, in whatever way."""
        return self._results.ending is not None

    def cancel(self) -> bool:
        """End the job early; what has finished stays. False if it has ended already."""
        return self._reading.end(stopped=False)

    def pause(self) -> None:
        """Start nothing new; what runs, runs on."""
        self._control.pause(self.id)

    def resume(self) -> None:
        """Start items again after a pause."""
        self._control.resume(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def add_done_callback(self, function: Callable[[Job[R]], object]) -> None:
        """Call ``function(job)`` at the end: on the loop that runs here now, else in the pool's own thread.

        At once if the job has ended. What the function raises is logged.
        """
        callback = Callback.here(function, self)
        if not self._results.add(callback):
            callback.call()

    def retry(self, fn: Callable[..., Any] | None = None, **options: Any) -> Job[Any]:
        """Start a job that runs every item without a value once more; its result is the complete list.

        ::

            again = job.retry()                          # after a failure, Stop or cancel()
            pages = await job.retry(mended_fetch, timeout=60)

        ``fn`` replaces the function, ``options`` the options of the map. Of an input without a length, such as a
        generator, it runs what had been read, and a warning says so if that was not all: the rest cannot be had again.
        Raises :class:`AiopoolError` while the job runs, :class:`ResultsConsumed` where results were already handed out
        and let go.
        """
        if not self.done() and not self._reading.asked_to_end:
            raise AiopoolError(
                f"{self.name} is still running, {self._reading.progress()}: await it or cancel it, then retry"
            )
        self._reading.refuse_consumed()
        if self._results.total is None:
            warnings.warn(
                f"the input of {self.name} had not been read to its end, and has no length: the retry runs the items "
                "that had been read. Pass list(...) where all must be there",
                stacklevel=2,
            )
        self._reading.load()
        self._reading.hear()
        values = self._results.listing(lambda _: EMPTY)
        have = {index: value for index, value in enumerate(values) if value is not EMPTY}
        missing = [index for index, value in enumerate(values) if value is EMPTY]
        return self._again(fn, options, missing, have)

    # --- what there is ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self._results.total is None:
            raise TypeError(f"the input of {self.name} has no length, and has not ended yet")
        return self._results.total

    def __bool__(self) -> bool:
        # A job is there, also when it has no items.
        return True

    if not TYPE_CHECKING:  # A type checker finds it without these.

        def _not_awaited(self, *_: object) -> NoReturn:
            """Say what is missing where a job is taken for the list of its results."""
            __tracebackhide__ = True
            raise TypeError(f"this is the job {self.name}, not its results: {_AWAIT_IT}")

        def __getattr__(self, name: str) -> NoReturn:
            __tracebackhide__ = True
            # Names that begin with an underscore are asked for by tools, to find out what this is.
            hint = "" if name.startswith("_") else f". It is not its results: {_AWAIT_IT}"
            raise AttributeError(f"a Job has no {name}{hint}", name=name, obj=self)

        # `in` would read up to the value found, and leave the rest to the next loop.
        __getitem__ = __contains__ = __reversed__ = __add__ = __radd__ = __mul__ = _not_awaited

    def partial(self, fill: object = MISSING) -> list[Any]:
        """Everything finished so far in input order, with ``fill`` where there is no result: as long as the input.

        ::

            pages = [page for page in job.partial() if page is not aiopool.MISSING]

        ``job.snapshot().done`` says how many results there are. With ``on_error="return"`` failures stand in their
        places. Of an unsized input the list ends where reading has, and what was handed out is left out.
        """
        self._reading.load()
        if self._reading.returns_failures:
            self._reading.hear()

        def hole(index: int) -> object:
            return self._failures[index] if self._reading.returns_failures and index in self._failures else fill

        return self._results.listing(hole)

    @property
    def failures(self) -> list[Failure]:
        """The items that have failed so far, in input order."""
        self._reading.load()
        self._reading.hear()
        return self._failures.all()

    def records(self, values: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002 - reads well without a name
        """One dict per item that has ended, in input order: ready for a DataFrame. ``values=False`` leaves out values.

        ``seconds`` is None for a result that was taken over from the job of which this one is a retry. Functions that
        take less than a microsecond are timed up to sixteen together, and have the same part each: among thousands of
        them a single one of up to forty milliseconds may share its time with its neighbours.
        """
        self._reading.load()
        self._reading.hear()
        rows = [row for arrival in self._results.arrivals() for row in self._rows(arrival, values=values)]
        return sorted(rows, key=lambda row: cast("int", row["index"]))

    def _rows(self, arrival: Arrival, *, values: bool) -> Iterator[dict[str, Any]]:
        for index, seconds in zip(arrival.items, chain(arrival.seconds, repeat(None)), strict=False):
            value = self._results.look(index)
            failure = self._failures[index] if value is EMPTY and index in self._failures else None
            if value is GONE or (value is EMPTY and failure is None):
                continue
            yield {
                "index": index,
                "input": self._failures.input(index),
                **({"value": None if failure else value} if values else {}),
                "error": failure.error if failure else None,
                "seconds": seconds,
                "attempts": failure.attempts if failure else arrival.attempts,
                "worker": failure.worker if failure else arrival.worker,
            }

    def snapshot(self) -> JobSnapshot:
        """How far the job is at this moment."""
        results = self._results
        if results.ending is None and (snapshot := self._control.snapshot_job(self.id)) is not None:
            return snapshot
        state: JobState = "running" if results.ending is None else results.ending.how
        failures = self._grouped()
        return picture_of(results, id=self.id, name=self.name, state=state, started=self.started, failures=failures)

    def _grouped(self) -> tuple[FailureGroup, ...]:
        results = self._results
        if self._control.must_not_block(self.id):  # This may be the pool's own thread.
            return results.groups.picture(results.labels.look)
        return results.failure_groups()

    def stacks(self) -> Stacks:
        """Where the items that run stand at this moment: print it to see what hangs, and at which line.

        ::

            >>> job.stacks()
            fetch: 2 stacks
            1,998 items (0, 1, 2 and 1,995 more), workers 0 and 1, for 12 s to 14 s, wait:
                Cell In[3], line 4, in fetch
                  async with s.get(url) as response:
            item 17 ('http://slow.example'), worker 1 (pid 4242), for 14 s, holds its loop:
                Cell In[3], line 6, in fetch
                  time.sleep(60)

        Items at the same lines are one :class:`~aiopool.stacks.StackEntry`; those that have not started are left out.
        Workers go on meanwhile. It blocks until all of them have answered, mostly some milliseconds. One that cannot
        answer, because C code in it holds the GIL or because it is stopped, is looked at from outside, which takes up
        to two seconds. Raises :class:`WouldDeadlock` on the pool's own thread, on which callbacks of a job may run.
        """
        __tracebackhide__ = True
        ending = self._results.ending
        if ending is not None:
            return Stacks(self.name, (), says=f"{ending.how}, nothing of it runs any more")
        return self._control.stacks(self.id, self.name).labelled(self._failures.label, is_call=self._reading.is_single)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether its user may want to come back to it: it has ended early, or with failures nobody has heard of."""
        ending = self._results.ending
        if ending is None or self._reading.is_single:
            return False
        return ending.how != "done" or bool(self._results.failures and not self._results.news.heard)

    def __repr__(self) -> str:
        if self.id < 0:  # What resize() and restart() give: it has no items to count.
            ending = self._results.ending
            return f"<Handle {self.name}: {ending.how if ending else 'not yet done'}>"
        return f"<Job {self.snapshot()}>"
