"""Options, inputs and endings drawn together, on real workers, held against a plain sequential model."""

# ruff: noqa: BLE001, PERF401 - whatever a job raises is held against the model, and what came before it stands

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopool import MISSING, Failure, Job, JobCancelled, Pool
from tests.pool import acting
from tests.pool.board import DEADLINE

EXAMPLES = int(os.environ.get("AIOPOOL_EXAMPLES", "2000"))
TYPES = {"error": ValueError, "odd": acting.Odd, "again": acting.Retry, "typo": NameError}


class InputBroke(Exception):
    """What the input raises in the middle."""


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How an item ends: with its value, or with an error of this type after so many attempts."""

    value: Any = None
    error: type[Exception] | None = None
    attempts: int = 1


def outcome(script: acting.Script, options: dict[str, Any]) -> Outcome:
    """What a plain loop would make of one item."""
    number, acts = script
    retries, retry_on = options.get("retries", 0), options.get("retry_on", Exception)
    for attempt in range(1, retries + 2):
        act = acts[min(attempt, len(acts)) - 1]
        if act in ("value", "later"):
            return Outcome(value=(number, attempt))
        may_retry = act == "again" or (act != "typo" and issubclass(TYPES[act], retry_on))
        if not may_retry or attempt == retries + 1:
            return Outcome(error=TYPES[act], attempts=attempt)
    raise AssertionError


@dataclass(frozen=True)
class Case:
    """One map: its scripts, how they are passed, where the input breaks, how it is called and how it ends."""

    scripts: Sequence[acting.Script]
    shape: str
    breaks_after: int | None
    is_async: bool
    options: dict[str, Any]
    ending: str
    after: int

    @property
    def read(self) -> Sequence[acting.Script]:
        """The items before the input breaks."""
        return self.scripts[: self.breaks_after]

    @property
    def outcomes(self) -> list[Outcome]:
        """How its items end."""
        return [outcome(script, self.options) for script in self.read]

    @property
    def raises(self) -> bool:
        """Whether the first failure ends the job."""
        return self.options.get("on_error", "raise") == "raise"


# --- what is drawn ---------------------------------------------------------------------------------------------------

scripts = st.lists(
    st.one_of(
        st.sampled_from([("value",), ("later",)]),
        st.lists(st.sampled_from(acting.ACTS), min_size=1, max_size=4).map(tuple),
    ),
    max_size=25,
).map(lambda acts: list(enumerate(acts)))

good_scripts = st.integers(0, 60).map(lambda count: [(number, ("value",)) for number in range(count)])

options_drawn = st.fixed_dictionaries(
    {},
    optional={
        "concurrency": st.sampled_from([1, 2, 3, 10]),
        "retries": st.integers(1, 3),
        "backoff": st.just(0),
        "retry_on": st.sampled_from([ValueError, (ValueError, acting.Odd), Exception]),
        "on_error": st.sampled_from(["raise", "return"]),
        "rate": st.just(5000),
        "batch": st.sampled_from(["auto", 1, 3, 100]),
        "window": st.sampled_from([1, 4]),
        "timeout": st.just(30),
        "total": st.just(7),
        "seed": st.just(1),
        "rerun_lost": st.booleans(),
    },
).map(lambda options: {**options, **({"backoff": 0} if "retries" in options else {})})

SHAPES = ("list", "tuple", "values", "generator", "async generator", "zipped", "unpacked", "unpacked dicts")
ENDINGS = (
    "await", "result", "async for", "for", "as_completed", "for as_completed", "break", "cancel", "cancelled await",
    "paused", "async with", "two awaits",
)  # fmt: skip

cases = st.builds(
    Case,
    scripts=scripts | good_scripts,
    shape=st.sampled_from(SHAPES),
    breaks_after=st.none() | st.none() | st.integers(0, 10),
    is_async=st.booleans(),
    options=options_drawn,
    ending=st.sampled_from(ENDINGS),
    after=st.integers(0, 5),
).map(
    lambda case: (
        case if case.shape in ("generator", "async generator") else Case(**{**vars(case), "breaks_after": None})
    )
)


def started(pool: Pool, case: Case) -> Job[Any]:
    """The map of a case."""
    one = acting.play_one_later if case.is_async else acting.play_one
    two = acting.play_later if case.is_async else acting.play
    numbers, acts = [script[0] for script in case.scripts], [script[1] for script in case.scripts]

    def generator() -> Iterator[acting.Script]:
        yield from case.read
        if case.breaks_after is not None:
            raise InputBroke

    async def async_generator() -> AsyncIterator[acting.Script]:
        for script in generator():
            yield script

    inputs: dict[str, Callable[[], Job[Any]]] = {
        "list": lambda: pool.map(one, list(case.scripts), **case.options),
        "tuple": lambda: pool.map(one, tuple(case.scripts), **case.options),
        "values": lambda: pool.map(one, dict(enumerate(case.scripts)).values(), **case.options),
        "generator": lambda: pool.map(one, generator(), **case.options),
        "async generator": lambda: pool.map(one, async_generator(), **case.options),
        "zipped": lambda: pool.map(two, numbers, acts, **case.options),
        "unpacked": lambda: pool.map(two, case.scripts, unpack=True, **case.options),
        "unpacked dicts": lambda: pool.map(
            two, [{"number": number, "acts": acts} for number, acts in case.scripts], unpack=True, **case.options
        ),
    }
    return inputs[case.shape]()


# --- what is checked -------------------------------------------------------------------------------------------------


def check_one(case: Case, index: int, got: object) -> None:
    """A result that was handed out is what the model says."""
    expected = case.outcomes[index]
    if expected.error is None:
        assert got == expected.value
    else:
        assert not case.raises
        assert isinstance(got, Failure)
        assert (got.index, type(got.error), got.attempts) == (index, expected.error, expected.attempts)


def check_all(case: Case, got: Sequence[object]) -> None:
    """A complete result."""
    assert case.breaks_after is None
    assert len(got) == len(case.read)
    for index, value in enumerate(got):
        check_one(case, index, value)


def check_error(case: Case, error: BaseException) -> None:
    """What a job raised is the error of one of its items, where it may, or of its input."""
    possible = {outcome.error for outcome in case.outcomes if case.raises}
    if case.breaks_after is not None:
        possible.add(InputBroke)
    assert type(error) in possible


def check_parts(case: Case, job: Job[Any]) -> None:
    """What a job keeps that did not come to its end is right, as far as it goes."""
    for index, value in enumerate(job.partial()):
        if value is not MISSING and case.shape not in ("generator", "async generator"):
            check_one(case, index, value)


async def check_again(case: Case, job: Job[Any]) -> None:
    """A retry of what stopped early gives the complete list, as one map would have."""
    if case.shape in ("generator", "async generator"):
        return
    again = job.retry(on_error="return")
    got = await again
    check_all(Case(**{**vars(case), "options": {**case.options, "on_error": "return"}}), got)


# --- endings ---------------------------------------------------------------------------------------------------------


async def ends(case: Case, job: Job[Any], wait: Awaitable[Sequence[object]]) -> None:
    """Somebody waits for all of it."""
    try:
        got = await wait
    except Exception as error:
        check_error(case, error)
        check_parts(case, job)
        await check_again(case, job)
    else:
        assert not (case.raises and any(outcome.error for outcome in case.outcomes))
        check_all(case, got)
        if job.snapshot().total is not None:
            check_all(case, await job)


async def read(case: Case, job: Job[Any]) -> None:
    """Somebody reads it one by one, in input order."""
    got: list[object] = []
    try:
        async for value in job:
            check_one(case, len(got), value)
            got.append(value)
    except Exception as error:
        check_error(case, error)
        await check_again(case, job)
    else:
        check_all(case, got)


async def read_as_completed(case: Case, job: Job[Any]) -> None:
    """Somebody reads it in the order of completion."""
    got: dict[int, object] = {}
    try:
        async for index, value in job.as_completed():
            assert index not in got
            check_one(case, index, value)
            got[index] = value
    except Exception as error:
        check_error(case, error)
        await check_again(case, job)
    else:
        check_all(case, [got[index] for index in range(len(got))])


async def read_with_a_break(case: Case, job: Job[Any]) -> None:
    """Somebody leaves the loop and goes on in another one."""
    got: list[object] = []
    try:
        async for value in job:
            got.append(value)
            if len(got) > case.after:
                break
        if not job.done() or len(got) > case.after:
            async for value in job:
                got.append(value)
    except Exception as error:
        check_error(case, error)
    for index, value in enumerate(got):
        check_one(case, index, value)


async def cancel(case: Case, job: Job[Any]) -> None:
    """Somebody cancels it after some results."""
    seen = 0
    try:
        async for _ in job:
            seen += 1
            if seen > case.after:
                break
    except Exception as error:
        check_error(case, error)
    job.cancel()
    try:
        await job.wait()
        if job.snapshot().total is not None and case.shape not in ("generator", "async generator"):
            await job
    except JobCancelled:
        check_parts(case, job)
    except Exception as error:
        check_error(case, error)
    await check_again(case, job)


async def cancel_the_await(case: Case, job: Job[Any]) -> None:
    """The task that awaits it is cancelled after some turns of the loop."""
    task = asyncio.ensure_future(job._all())
    for _ in range(case.after):
        await asyncio.sleep(0.001)
    task.cancel()
    try:
        check_all(case, await task)
    except asyncio.CancelledError:
        await job.wait()
        check_parts(case, job)
    except Exception as error:
        check_error(case, error)
    await check_again(case, job)


async def pause(case: Case, job: Job[Any]) -> None:
    """It is paused, and goes on."""
    job.pause()
    await asyncio.sleep(0.001 * case.after)
    job.resume()
    await ends(case, job, job)


async def leave_with(case: Case, job: Job[Any]) -> None:
    """``async with`` is left while it runs."""
    async with job:
        await asyncio.sleep(0.001 * case.after)
    await job.wait()
    check_parts(case, job)


async def wait_twice(case: Case, job: Job[Any]) -> None:
    """Two tasks await it, and get the same."""
    first, second = await asyncio.gather(job, job, return_exceptions=True)
    if isinstance(first, BaseException):
        assert first is second
        check_error(case, first)
    else:
        check_all(case, first)
        assert all(one is other for one, other in zip(first, second, strict=True))


ASYNC_ENDINGS: dict[str, Callable[[Case, Job[Any]], Awaitable[None]]] = {
    "await": lambda case, job: ends(case, job, job),
    "async for": read,
    "as_completed": read_as_completed,
    "break": read_with_a_break,
    "cancel": cancel,
    "cancelled await": cancel_the_await,
    "paused": pause,
    "async with": leave_with,
    "two awaits": wait_twice,
}


def blocking(case: Case, job: Job[Any]) -> Sequence[object]:
    """Wait in a script."""
    if case.ending == "result":
        return job.result(DEADLINE)
    if case.ending == "for":
        return list(job)
    found = dict(job.as_completed())
    return [found[index] for index in range(len(found))]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all."""
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(case=cases)
def test_a_map_is_a_loop_whatever_goes_in_and_however_it_ends(pool: Pool, runner: asyncio.Runner, case: Case) -> None:
    """Results, errors, attempts and parts are those of a plain loop; a retry completes what ended early."""
    if case.ending in ASYNC_ENDINGS:

        async def run() -> None:
            async with asyncio.timeout(DEADLINE):
                await ASYNC_ENDINGS[case.ending](case, started(pool, case))

        runner.run(run())
        return
    job = started(pool, case)
    try:
        got = blocking(case, job)
    except Exception as error:
        check_error(case, error)
        runner.run(check_again(case, job))
    else:
        check_all(case, got)
