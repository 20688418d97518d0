"""Cancelled at every step, interrupted at every line: remote work stops, no place is lost, nothing hangs or complains.

A quick run tries a part of the steps and lines; ``AIOPOOL_SWEEP=all`` tries each.
"""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

import aiopool
from aiopool import JobCancelled, JobStopped, Pool
from tests.faults.conftest import give_time
from tests.pool import work
from tests.pool.board import DEADLINE, until
from tests.pool.pools import ended, our_threads, still_works

EVERYTHING = os.environ.get("AIOPOOL_SWEEP") == "all"
TRIED = 10_000 if EVERYTHING else 25
"""How many points of each scenario are tried, spread evenly, where it has more."""

OURS = str(Path(aiopool.__file__).parent)


@pytest.fixture
def pool(afterwards: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Two workers. Everybody obeys here; on a machine that stands still for a moment, too, nobody is killed for it."""
    give_time(afterwards, monkeypatch)
    return afterwards


def chosen(points: int) -> list[int]:
    """Which of so many points are tried: all, or evenly spread ones with the first and the last."""
    if points <= TRIED:
        return list(range(points))
    return sorted({round(at * (points - 1) / (TRIED - 1)) for at in range(TRIED)})


def is_at_rest(pool: Pool, workers: set[int | None]) -> None:
    """Nothing is in flight, and nobody was lost."""
    until(lambda: not pool.snapshot().jobs, what="no job is left")
    until(
        lambda: all(info.state == "idle" and info.in_flight == 0 for info in pool.snapshot().workers),
        what="every worker is idle",
    )
    assert {info.pid for info in pool.snapshot().workers} == workers


# --- a cancel before the k-th step of the caller's loop --------------------------------------------------------------


class SteppedLoop(asyncio.SelectorEventLoop):
    """Counts its turns from when there is a task to strike, and cancels that before its k-th one."""

    def __init__(self, strike_at: int | None) -> None:
        super().__init__()
        self.steps = 0
        self.struck = False
        self.victim: asyncio.Task[Any] | None = None
        self.complaints: list[dict[str, Any]] = []
        self._strike_at = strike_at
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def _run_once(self) -> None:
        if self.victim is not None and not self.victim.done():
            if self.steps == self._strike_at:
                self.struck = self.victim.cancel()
            self.steps += 1
        super()._run_once()  # type: ignore[misc]


def run(
    make: Callable[[], Coroutine[Any, Any, Any]], strike_at: int | None
) -> tuple[SteppedLoop, BaseException | None]:
    """Run a scenario to its end; the loop, and what it ended with."""
    loop = SteppedLoop(strike_at)

    async def watched() -> BaseException | None:
        loop.victim = asyncio.create_task(make())
        await asyncio.wait([loop.victim], timeout=DEADLINE)
        assert loop.victim.done(), f"it hangs when it is cancelled at step {strike_at}"
        if loop.victim.cancelled():
            return asyncio.CancelledError()
        return loop.victim.exception()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        outcome = runner.run(watched())
    assert loop.complaints == []
    return loop, outcome


NAPS = [0.001] * 12


async def awaits(pool: Pool) -> None:
    """Await a job."""
    assert len(await pool.map(work.doze, NAPS)) == len(NAPS)


async def awaits_functions(pool: Pool) -> None:
    """Await a job of functions."""
    assert len(await pool.map(work.nap, NAPS)) == len(NAPS)


async def awaits_a_stream(pool: Pool) -> None:
    """Await a job whose input comes from this very loop."""

    async def stream() -> Any:
        for seconds in NAPS:
            await asyncio.sleep(0)
            yield seconds

    assert len(await pool.map(work.doze, stream())) == len(NAPS)


async def awaits_a_submit(pool: Pool) -> None:
    """Await one call."""
    assert await pool.submit(work.doze, 0.003)


async def iterates(pool: Pool) -> None:
    """Read in order."""
    async for _ in pool.map(work.doze, NAPS):
        await asyncio.sleep(0)


async def iterates_a_stream(pool: Pool) -> None:
    """Read in order what is not kept."""
    async for _ in pool.map(work.doze, iter(NAPS)):
        await asyncio.sleep(0)


async def iterates_as_completed(pool: Pool) -> None:
    """Read in the order of completion."""
    async for _ in pool.map(work.doze, NAPS).as_completed():
        await asyncio.sleep(0)


async def is_within_a_job(pool: Pool) -> None:
    """``async with`` a job."""
    async with pool.map(work.doze, NAPS) as job:
        async for _ in job:
            await asyncio.sleep(0)


async def has_a_timeout(pool: Pool) -> None:
    """``asyncio.timeout`` around an await, which runs out meanwhile."""
    try:
        async with asyncio.timeout(0.02):
            await pool.map(work.doze, [0.001, 3600])
    except TimeoutError:
        await asyncio.sleep(0)


async def is_in_a_group(pool: Pool) -> None:
    """Two jobs in a TaskGroup."""

    async def one(naps: list[float]) -> None:
        await pool.map(work.doze, naps)

    async with asyncio.TaskGroup() as group:
        group.create_task(one(NAPS))
        group.create_task(one([0.002] * 3))


async def gathers(pool: Pool) -> None:
    """Two jobs under gather."""
    await asyncio.gather(pool.map(work.doze, NAPS), pool.submit(work.doze, 0.002))


async def cancels_another(pool: Pool) -> None:
    """One task awaits, another one cancels."""
    async with pool.map(work.doze, [0.001, 3600]) as job:
        await asyncio.sleep(0.002)
        job.cancel()
        try:
            await job
        except JobCancelled:
            await asyncio.sleep(0)


SCENARIOS = [
    awaits, awaits_functions, awaits_a_stream, awaits_a_submit, iterates, iterates_a_stream, iterates_as_completed,
    is_within_a_job, has_a_timeout, is_in_a_group, gathers, cancels_another,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_cancel_at_any_step_stops_the_work_and_loses_no_place(pool: Pool, scenario: Callable[[Pool], Any]):
    """For every step of the caller's loop from the first to the last one: nothing hangs, and nobody is lost."""
    workers = {info.pid for info in pool.snapshot().workers}
    # How many steps there are depends on how results come together: the longest run of a few counts.
    steps = max(run(lambda: scenario(pool), None)[0].steps for _ in range(3))
    struck = 0
    for k in chosen(steps):
        loop, outcome = run(lambda: scenario(pool), k)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), f"at step {k}: {outcome!r}"
        struck += loop.struck
        is_at_rest(pool, workers)
    assert struck >= min(2, steps - 1)
    gc.collect()
    still_works(pool)


def test_a_cancel_of_a_wait_at_any_step_stops_nothing(pool: Pool):
    """``job.wait()`` only looks: the job goes on to its end."""
    workers = {info.pid for info in pool.snapshot().workers}
    jobs: list[Any] = []

    async def waits() -> None:
        jobs.append(pool.map(work.doze, NAPS))
        assert await jobs[-1].wait()

    steps = max(run(waits, None)[0].steps for _ in range(3))
    for k in chosen(steps):
        run(waits, k)
    for job in jobs:
        assert len(job.result(DEADLINE)) == len(NAPS)
    is_at_rest(pool, workers)


def test_a_cancel_at_any_step_within_a_pool_of_its_own_ends_the_pool():
    """``async with Pool()``: left through a cancel it is terminated, and nothing of it remains."""
    before = our_threads()
    pools: list[Pool] = []

    async def has_a_pool() -> None:
        async with Pool(workers=1) as pool:
            pools.append(pool)
            await pool.map(work.doze, [0.001] * 4)

    loop, _ = run(has_a_pool, None)
    for k in chosen(loop.steps) if EVERYTHING else [*range(4), *chosen(loop.steps)[4::4]]:
        run(has_a_pool, k)
        for pool in pools:
            assert pool.closed
            pool.join(DEADLINE)
        pools.clear()
    until(lambda: our_threads() <= before, what="the threads are gone")


# --- a KeyboardInterrupt at the k-th line ----------------------------------------------------------------------------


class Lines:
    """Counts lines of ours that the main thread runs, and presses Stop at the k-th one."""

    def __init__(self, strike_at: int | None) -> None:
        self.count = 0
        self.where = ""
        self._strike_at = strike_at
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        # What the collector has to end, of tests before this one, is not a part of what is interrupted.
        gc.disable()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        gc.enable()

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        # What a finaliser raises, Python itself says and drops.
        if not frame.f_code.co_filename.startswith(OURS) or frame.f_code.co_name == "__del__":
            return None
        if event == "line" and not _leaves_a_with(frame):
            if self.count == self._strike_at and not self.where:
                # One is enough: a second one would strike whoever deals with the first.
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
            self.count += 1
        return self._trace


def _leaves_a_with(frame: FrameType) -> bool:
    """Whether this is the second visit to the line of a ``with``, at its end, where no signal is ever handled."""
    code, line = frame.f_code, frame.f_lineno
    if not linecache.getline(code.co_filename, line).lstrip().startswith(("with ", "async with ")):
        return False
    return frame.f_lasti > min(start for start, _, number in code.co_lines() if number == line)


def interrupted(do: Callable[[], object], strike_at: int | None) -> tuple[Lines, BaseException | None]:
    """Do something, interrupted at this line; what it ended with."""
    with Lines(strike_at) as lines:
        try:
            do()
        except (KeyboardInterrupt, JobStopped) as error:
            return lines, error.with_traceback(None)
    return lines, None


def opens(pool: Pool) -> None:
    """Start a job."""
    pool.map(work.doze, NAPS)


def opens_a_stream(pool: Pool) -> None:
    """Start a job with an input that has no length."""
    pool.map(work.doze, iter(NAPS))


def submits(pool: Pool) -> None:
    """Start a call."""
    pool.submit(work.doze, 0.001)


def blocks(pool: Pool) -> None:
    """Wait for a job."""
    pool.map(work.doze, NAPS).result(DEADLINE)


def loops(pool: Pool) -> None:
    """Read a job."""
    for _ in pool.map(work.doze, NAPS):
        pass


def loops_as_completed(pool: Pool) -> None:
    """Read a job in the order of completion."""
    for _ in pool.map(work.doze, iter(NAPS)).as_completed():
        pass


def looks(pool: Pool) -> None:
    """Look at everything."""
    job = pool.map(work.doze, NAPS)
    job.snapshot()
    pool.snapshot()
    job.partial()
    job.cancel()


BLOCKING = [opens, opens_a_stream, submits, blocks, loops, loops_as_completed, looks]


@pytest.mark.parametrize("scenario", BLOCKING, ids=lambda scenario: scenario.__name__)
def test_an_interrupt_at_any_line_leaves_the_pool_as_it_was(pool: Pool, scenario: Callable[[Pool], None]):
    """Whether or not there is a job by then: it ends, all places are free, and the next job runs."""
    workers = {info.pid for info in pool.snapshot().workers}
    counts = [interrupted(lambda: scenario(pool), None)[0].count for _ in range(2)]
    struck = 0
    for k in chosen(max(counts)):
        lines, error = interrupted(lambda: scenario(pool), k)
        struck += error is not None
        try:
            is_at_rest(pool, workers)
        except BaseException:
            print("interrupted at", lines.where)  # noqa: T201 - for whoever mends it
            raise
    assert struck >= 2
    gc.collect()
    still_works(pool)


def makes_a_pool(pools: list[Pool]) -> None:
    """Open one, and leave it to the collector."""
    pools.append(Pool(workers=1))


def closes_a_pool(pools: list[Pool]) -> None:
    """Open one, close it, and wait for its end."""
    pools.append(Pool(workers=1))
    pools[-1].close()
    pools[-1].join(DEADLINE)


def is_within_a_pool(pools: list[Pool]) -> None:
    """``with`` one."""
    with Pool(workers=1) as pool:
        pools.append(pool)


def works_within_a_pool(pools: list[Pool]) -> None:
    """``with`` one that works."""
    with Pool(workers=1) as pool:
        pools.append(pool)
        pool.map(work.doze, [0.001] * 3).result(DEADLINE)


@pytest.mark.filterwarnings("ignore:the pool .* was never closed:ResourceWarning")  # Interrupted on the way into it.
@pytest.mark.parametrize(
    "scenario", [makes_a_pool, closes_a_pool, is_within_a_pool, works_within_a_pool], ids=lambda each: each.__name__
)
def test_an_interrupt_at_any_line_of_a_pools_life_leaves_nothing_behind(scenario: Callable[[list[Pool]], None]):
    """What there is of it by then can be ended, and what nobody holds ends by itself."""
    before = our_threads()

    def once(k: int | None) -> Lines:
        pools: list[Pool] = []
        lines, _ = interrupted(lambda: scenario(pools), k)
        for pool in pools:
            try:
                ended(pool)
            except BaseException:
                print("interrupted at", lines.where)  # noqa: T201 - for whoever mends it
                raise
        return lines

    count = once(None).count
    gc.freeze()  # What there is of the test run need not be looked through at each of them.
    points = chosen(count) if scenario is not works_within_a_pool or EVERYTHING else chosen(count)[::3]
    for k in points:
        lines = once(k)
        gc.collect()
        until(lambda: our_threads() <= before, what=f"the threads are gone after an interrupt at {lines.where}")
    gc.unfreeze()
