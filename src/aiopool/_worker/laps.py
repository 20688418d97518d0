"""Laps: plain ``def`` items that run one right after the other, with next to nothing between two of them.

What an item is owed costs more than the call of a function that does nothing: a Context of its own, an object that says
which item runs, a look at whatever prints, reports or holds something on its behalf. Nearly no item asks for any of it.
So items of a lap share a Context, in which a :class:`Cursor` stands for the one that runs; and after each it is looked
whether that has

- set a context variable: then the Context has a new mapping, in which there is one more reference to the cursor,
- left a copy of the Context to somebody, a task or a thread: that has one more reference to the mapping,
- been asked for by what keeps it, such as its prints: then the cursor holds itself.

Two reference counts tell all of that, the mapping's first, as a thread may ask and let go of its copy in between. Such
an item keeps the Context and the cursor, and ends as any other does; those that follow get new ones.
"""

from __future__ import annotations

import contextvars
import gc
import math
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from sys import getrefcount
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from aiopool import _payload, inside
from aiopool._core import frames
from aiopool._worker.cursor import Cursor
from aiopool._worker.marks import MarkPage
from aiopool._worker.outbox import Outbox, Run
from aiopool._worker.stretches import Stretch
from aiopool._worker.switching import as_by_default
from aiopool._worker.work import BatchRun, JobRun, Stepped

TOGETHER = 4e-6
"""In seconds, what short items may take together between two looks at the clock: a look costs 0.05 us."""

FEWEST, MOST = 4, 16
"""Fewer together are not worth it, and more save nothing that could be felt."""

UNUSUAL, ALONE = 50e-6, 256
"""A group that took so many seconds has something in it that is not short, nobody knows which: it may be the first of
many. So the clock is looked at after each of so many that follow.
"""

TRIAL, ENOUGH = 1024, 64
"""So many are run one by one while nobody knows how short they are; so many tell it."""

_PLAIN: frozenset[type] = _payload.PLAIN_TYPES


class Ground(Protocol):
    """Where items find themselves."""

    context: contextvars.Context
    marks: MarkPage


class Host(Ground, Protocol):
    """What laps need of the thread that they run in."""

    began: float
    interrupted: Stepped | None
    outbox: Outbox
    stepping: Stepped | None

    @property
    def must_turn(self) -> bool:
        """Whether there is something else to do."""

    def raised(self, job: JobRun, entry: Stepped, error: BaseException, seconds: float) -> None:
        """An item has ended with an error."""

    def complete(
        self, context: contextvars.Context, job: JobRun, entry: Stepped, coroutine: Any, seconds: float
    ) -> None:
        """An item has returned a coroutine after so many seconds: run it to its end."""


class Left(NamedTuple):
    """Why a lap was left, and when: with the value of this item, which has not been put down, or with an error.

    Unless it has ``begun``, it is none of theirs. ``is_apart``: what follows needs a Context of its own.
    """

    value: object
    at: float
    is_apart: bool
    error: BaseException | None = None
    begun: bool = True


def run_in_a_row(
    steps: Iterable[tuple[int, Any]],
    function: Callable[[Any], object],
    entry: Cursor,
    mapping: object,
    run: Run,
) -> Left | None:
    """Run items until one is not like the others, or none is left. In their Context, of which this is the mapping."""
    put, ended, low, plain, due = run.values.append, run.ends.append, entry.low, run.job.returns, run.due
    count, clock = getrefcount, perf_counter
    argument: Any = run
    of_entry, of_mapping = count(entry), count(mapping)
    run.since = clock()
    try:
        for low[0], argument in steps:
            value = function(argument)
            now = clock()
            if (
                (type(value) is not plain and type(value) not in _PLAIN)
                or count(mapping) != of_mapping
                or count(entry) != of_entry
                or now > due
            ):
                apart = count(entry) != of_entry or count(mapping) != of_mapping
                return Left(value, now, apart)
            put(value)
            ended(now)
    except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
        return Left(None, clock(), is_apart=True, error=error, begun=argument is not run)
    return None


def run_in_groups(
    steps: Iterator[tuple[int, Any]],
    function: Callable[[Any], object],
    entry: Cursor,
    mapping: object,
    run: Run,
) -> Left | None:
    """The same of items so short that a look at the clock costs as much as one: it is looked at once in a group.

    Nothing else is done for the group instead of for each. It is come out of a group that has taken unusually long.
    """
    put, ended, sized = run.values.append, run.ends.append, run.sizes.append
    low, plain, due = entry.low, run.job.returns, run.due
    count, clock, each, alone = getrefcount, perf_counter, run.each, 0
    argument: Any = run
    of_entry, of_mapping = count(entry), count(mapping)
    before = run.since = clock()
    try:
        while True:
            argument = run
            for low[0], argument in islice(steps, each):
                value = function(argument)
                if (
                    (type(value) is not plain and type(value) not in _PLAIN)
                    or count(mapping) != of_mapping
                    or count(entry) != of_entry
                ):
                    apart = count(entry) != of_entry or count(mapping) != of_mapping
                    return Left(value, clock(), apart)
                put(value)
            if argument is run:
                return None
            now = clock()
            sized(each)
            ended(now)
            if now > due:
                return None
            if now - before > UNUSUAL:
                each, alone = 1, ALONE
            elif alone:
                alone -= 1
                each = 1 if alone else run.each
            before = now
    except BaseException as error:  # noqa: BLE001  # an item may raise anything; nothing of it may end the worker
        return Left(None, clock(), is_apart=True, error=error, begun=argument is not run)


class Place:
    """A Context for items of this batch."""

    def __init__(self, host: Ground, batch: BatchRun) -> None:
        self.context = host.context.copy()
        self.cursor = Cursor(batch, host.marks.low)
        self.context.run(inside.running.set, self.cursor)
        (self.mapping,) = gc.get_referents(self.context)


def are_possible(context: contextvars.Context) -> bool:
    """Whether laps can be run in copies of this Context: the cursor must be at the root of the mapping.

    Else there would not be one more reference to it in each mapping that is made of that.
    """
    copy = context.copy()
    copy.run(inside.running.set, None)
    return not len(context) and [type(each).__name__ for each in gc.get_referents(copy)] == ["hamt"]


def run_lap(host: Host, job: JobRun, stretch: Stretch, function: Callable[[Any], object]) -> None:
    """Run items of the stretch, until nothing is left or it is somebody else's turn. In the main thread."""
    batch, outbox, slots = stretch.batch, host.outbox, host.marks.slots
    place: Place | None = None
    # Counted first, and then the look: see ``Runner._drop_if_empty``.
    job.running += 1
    while not job.cancelled and job.in_laps:
        place = place or Place(host, batch)
        run = outbox.begin(job, batch, stretch.position)
        slots[0] = frames.mark_of(batch.id, stretch.position)
        place.cursor.run = run
        host.began = perf_counter()
        host.stepping = place.cursor
        left = _run(job, place, stretch, function, run)
        host.stepping = host.interrupted = None
        stretch.position = outbox.gather(run, math.inf if left is None else left.at)
        _learn(job, run, stretch.position - run.begin, run.since - host.began)
        if left is not None:
            stretch.position += _end(host, job, place, left, run)
        else:
            place.cursor.end()
            outbox.settle(place.cursor.kept)
        slots[0] = 0
        if left is None:
            outbox.ended(batch, perf_counter())
        if left is None or left.is_apart:
            place = None
        # It may hold much of what the item has made.
        del left
        if not stretch.left:
            job.used_up(stretch)
            break
        if host.must_turn:
            break
    job.running -= 1


def _run(job: JobRun, place: Place, stretch: Stretch, function: Callable[[Any], object], run: Run) -> Left | None:
    """Run items one by one, some of them, or in groups, as long as they are as short as those before them."""
    go, cursor, mapping, pace = place.context.run, place.cursor, place.mapping, job.pace
    # The link thread must know of the first one before another begins, which may take for ever.
    if pace * FEWEST > TOGETHER or not run.due:
        steps = islice(stretch.steps, TRIAL) if pace == math.inf else stretch.steps
        return go(run_in_a_row, steps, function, cursor, mapping, run)
    run.each = min(MOST, int(TOGETHER / pace))
    return as_by_default(go)(run_in_groups, stretch.steps, function, cursor, mapping, run)


def _learn(job: JobRun, run: Run, count: int, seconds: float) -> None:
    """So many have taken so long together: the next may be as short, or no longer as short as was believed."""
    if run.each > 1 and seconds * FEWEST > count * TOGETHER:
        job.pace = math.inf
    elif count >= ENOUGH:
        # No clock is so coarse that this many take no time at all, but a frozen one would end the worker.
        job.pace = max(seconds / count, 1e-9)


def _end(host: Host, job: JobRun, place: Place, left: Left, run: Run) -> bool:
    """End the item that was left, by the way of all others; False if it was none."""
    cursor, seconds = place.cursor, max(0.0, left.at - run.since)
    if left.error is not None and (not left.begun or cursor.position < run.end):
        import traceback  # with the reader of Python files

        # A signal handler of the user's, between two items.
        traceback.print_exception(left.error)
        cursor.end()
        host.outbox.settle(cursor.kept)
        return False
    is_coroutine = isinstance(left.value, types.CoroutineType)
    entry: Stepped = cursor
    if left.is_apart or is_coroutine:
        cursor.give_up()
    else:
        entry = cursor.now
    host.outbox.settle(cursor.kept, but=entry.position)
    if left.error is not None:
        host.raised(job, entry, left.error, seconds)
    elif is_coroutine:
        # A lambda or wrapper around a coroutine function looks like a def, and will do so again.
        job.never_in_laps()
        host.complete(place.context, job, entry, left.value, seconds)
    else:
        if type(left.value) in _PLAIN:
            job.returns = type(left.value)
        host.outbox.value(job, entry, left.value, seconds, perf_counter())
    return True
