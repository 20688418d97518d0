"""Awaiting a job: from one task or many, from one loop or several, and from loops that close."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from typing import Any, cast

import pytest

from aiopool import _payload
from aiopool._runtime import waiters
from aiopool.errors import InternalError, JobCancelled
from aiopool.job import MISSING, Handle
from tests.job.driver import DEADLINE, Driver, Poison


async def within_deadline(awaitable: Any) -> Any:
    """Await it, but not for ever."""
    async with asyncio.timeout(DEADLINE):
        return await awaitable


async def test_an_await_gives_the_results_in_input_order() -> None:
    """Whatever the order of completion."""
    with Driver(5) as driver:
        driver.deliver([4, 2])
        driver.deliver(range(2))
        driver.after_somebody_waits()
        driver.deliver([3])
        driver.end()
        assert await within_deadline(driver.job) == [0, 1, 4, 9, 16]


async def test_a_job_that_has_ended_is_awaited_at_once_and_as_often_as_wanted() -> None:
    """Each value is loaded once; the lists are the awaiters' own, their values are the same objects."""
    with Driver(2) as driver:
        driver.deliver_blobs([0, 1], [_payload.dump_value({"a": 1}), _payload.dump_value({"b": 2})])
        driver.end()
        driver.flush()
        first, second = await driver.job, await driver.job
        assert first == [{"a": 1}, {"b": 2}]
        assert first is not second
        assert all(one is other for one, other in zip(first, second, strict=True))


async def test_a_job_without_items_gives_an_empty_list() -> None:
    """And is true nevertheless."""
    with Driver(0) as driver:
        driver.end()
        assert await within_deadline(driver.job) == []
        assert driver.job
        assert len(driver.job) == 0


async def test_a_submit_gives_its_value_itself() -> None:
    """No list around it."""
    with Driver(1, is_single=True) as driver:
        driver.after_somebody_waits()
        driver.deliver([0], ["value"])
        driver.end()
        handle: Handle[str] = cast("Any", driver.job)
        assert await within_deadline(handle) == "value"
        assert handle.result(0) == "value"


async def test_two_tasks_may_await_one_job() -> None:
    """Both get the same objects."""
    with Driver(1) as driver:
        driver.after_somebody_waits(2)
        driver.deliver_blobs([0], [_payload.dump_value([1, 2])])
        driver.end()
        one, other = await within_deadline(asyncio.gather(driver.job._all(), driver.job._all()))
        assert one == other == [[1, 2]]
        assert one[0] is other[0]


def test_two_loops_in_two_threads_may_await_one_job() -> None:
    """Neither knows of the other, and both get the same objects."""
    with Driver(1000) as driver:
        got: list[list[Any]] = []
        threads = [
            threading.Thread(target=lambda: got.append(asyncio.run(within_deadline(driver.job)))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        driver.after_somebody_waits(2)
        for start in range(0, 1000, 10):
            driver.deliver_blobs(range(start, start + 10), [_payload.dump_value([i]) for i in range(start, start + 10)])
        driver.end()
        for thread in threads:
            thread.join(DEADLINE)
        one, other = got
        assert one == other == [[index] for index in range(1000)]
        assert all(a is b for a, b in zip(one, other, strict=True))


def test_a_loop_that_closed_harms_nobody() -> None:
    """Its waiter is skipped; an await on another loop gets the results."""
    with Driver(2) as driver:
        gone = asyncio.new_event_loop()
        task = gone.create_task(driver.job._all())
        gone.run_until_complete(asyncio.sleep(0))
        assert len(driver.results._waiters) == 1
        gone.close()
        driver.deliver(range(2))
        driver.end()
        assert asyncio.run(within_deadline(driver.job)) == [0, 1]
        assert driver.calls == []
        # What asyncio itself says of a task that was left behind is not the subject.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task


def test_a_loop_that_stopped_for_a_while_gets_the_results_when_it_runs_again() -> None:
    """A wake-up is not lost between two runs of a loop, as in a notebook between two cells."""
    with Driver(1) as driver, asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(driver.job._all())
        loop.run_until_complete(asyncio.sleep(0))
        driver.deliver(range(1))
        driver.end()
        driver.flush()
        assert loop.run_until_complete(within_deadline(task)) == [0]


def test_a_task_that_is_dropped_takes_its_registration_with_it() -> None:
    """Closing a coroutine that awaits the job neither cancels the job nor leaves anything behind."""
    with Driver(1) as driver:
        loop = asyncio.new_event_loop()

        async def start() -> Any:
            coroutine = driver.job._all()
            coroutine.send(None)
            return coroutine

        coroutine = loop.run_until_complete(start())
        registered = driver.results._waiters
        coroutine.close()
        assert (len(registered), driver.results._waiters) == (1, ())
        assert driver.calls == []
        loop.close()
        driver.end("cancelled")


async def test_a_loop_ticks_while_somebody_awaits_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's Stop is noticed when the loop next wakes: so it wakes, twenty times a second, however many wait."""
    monkeypatch.setattr(waiters, "TICK", 0.001)
    ticks = 0
    original = waiters.Bridge._tick

    def counted(bridge: waiters.Bridge) -> None:
        nonlocal ticks
        ticks += 1
        original(bridge)

    monkeypatch.setattr(waiters.Bridge, "_tick", counted)
    waiters._here.__dict__.clear()
    with Driver(1) as driver:
        tasks = [asyncio.create_task(driver.job._all()) for _ in range(50)]
        driver.after(lambda: ticks >= 5)
        driver.end("done", InternalError("enough"))
        began = time.monotonic()
        await asyncio.wait(tasks, timeout=DEADLINE)
        lasted = time.monotonic() - began
        assert 5 <= ticks <= lasted / 0.001 + 2
        assert {type(task.exception()) for task in tasks} == {InternalError}
        seen = ticks
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert ticks <= seen + 1
        assert not hasattr(waiters._here, "bridge")


async def test_many_that_are_told_at_once_wake_their_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tasks that wait cost one wake-up of the loop, not a thousand."""
    loop = asyncio.get_running_loop()
    calls = 0
    original = loop.call_soon_threadsafe

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    with Driver(1) as driver:
        tasks = [asyncio.create_task(driver.job._all()) for _ in range(1000)]
        await asyncio.sleep(0)
        assert len(driver.results._waiters) == 1000
        driver.deliver([0])
        driver.end()
        # The loop does not run meanwhile, so everything is told before anything is taken.
        driver.flush()
        assert await asyncio.gather(*tasks) == [[0]] * 1000
        assert calls == 1


async def test_an_await_makes_no_task_and_wakes_once_for_a_small_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """One notification, and nothing else that costs time, stands between the end of a job and its awaiter."""
    woken = 0
    original = waiters.LoopWaiter.wake

    def counted(waiter: waiters.LoopWaiter) -> None:
        nonlocal woken
        woken += 1
        original(waiter)

    monkeypatch.setattr(waiters.LoopWaiter, "wake", counted)
    with Driver(100) as driver:
        tasks = asyncio.all_tasks()
        driver.after_somebody_waits()
        for index in range(100):
            driver.deliver([index])
        driver.do(lambda: seen.append(asyncio.all_tasks(loop)))
        driver.end()
        loop, seen = asyncio.get_running_loop(), list[Any]()
        assert len(await driver.job) == 100
        assert woken == 1
        assert seen == [tasks]


async def test_values_are_loaded_while_others_are_still_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An awaiter of a big job is woken for what waits to be loaded, and not only at the end."""
    monkeypatch.setattr("aiopool._runtime.results.WAKE_FOR_BYTES", 10_000)
    with Driver(20_000) as driver:
        driver.after_somebody_waits()
        for start in range(0, 20_000, 1000):
            driver.deliver(range(start, start + 1000))
        driver.after(lambda: driver.results._arrived_bytes - driver.results._loaded_bytes < 10_000)
        driver.end()
        assert await within_deadline(driver.job) == [index * index for index in range(20_000)]


async def test_loading_a_lot_lets_the_loop_breathe() -> None:
    """However many results there are, the awaiter's loop is held for a few milliseconds at a time."""
    with Driver(400) as driver:
        pickled = _payload.dump_value([str(index) for index in range(20_000)])
        driver.deliver_blobs(range(200), [pickled] * 200)
        for index in range(200, 400):
            driver.deliver_blobs([index], [pickled])
        driver.end()
        driver.flush()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        await driver.job
        task.cancel()
        assert turns > 5


async def test_wake_up_and_tick_run_in_an_empty_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are pinned to no cell; the awaiting code keeps its own context."""
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell")
    cell.set("the cell that awaits")
    seen: list[tuple[str, str | None]] = []
    monkeypatch.setattr(waiters, "TICK", 0.001)

    def watch(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def watched(it: Any) -> None:
            seen.append((name, cell.get(None)))
            original(it)

        monkeypatch.setattr(kind, name, watched)

    watch(waiters.LoopWaiter, "wake")
    watch(waiters.Bridge, "_tick")
    waiters._here.__dict__.clear()
    with Driver(1) as driver:
        driver.after(lambda: ("_tick", None) in seen)
        driver.deliver([0])
        driver.end()
        await within_deadline(driver.job)
        assert set(seen) == {("_tick", None), ("wake", None)}
        assert cell.get() == "the cell that awaits"


async def test_wait_raises_nothing_of_the_jobs() -> None:
    """It says only whether the job has ended."""
    with Driver(1) as driver:
        assert await driver.job.wait(0.001) is False
        assert await driver.job.wait(0) is False
        driver.after_somebody_waits()
        driver.fail(0, ValueError("bad"))
        driver.end("failed")
        assert await within_deadline(driver.job.wait()) is True
        assert await driver.job.wait(0) is True


async def test_wait_never_cancels_the_job() -> None:
    """Not even when its own task is cancelled."""
    with Driver(1) as driver:
        task = asyncio.create_task(driver.job.wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert driver.calls == []
        driver.end()


async def test_a_cancelled_job_raises_job_cancelled_with_what_to_do_next() -> None:
    """For everybody who waits, if it was ``cancel()`` that ended it."""
    with Driver(3) as driver:
        driver.deliver([1])
        driver.after_somebody_waits(2)
        driver.do(driver.job.cancel)
        told = await within_deadline(asyncio.gather(driver.job._all(), driver.job._all(), return_exceptions=True))
        assert [type(error) for error in told] == [JobCancelled, JobCancelled]
        assert told[0] is not told[1]
        assert str(told[0]) == "fetch was cancelled: 1 of 3 done; job.partial() has them, job.retry() runs the rest"
        assert driver.calls == [("cancel", 7, False)]


async def test_nothing_is_loaded_for_an_await_that_raises_anyway() -> None:
    """And a value that would not load does not replace what ended the job, when it is looked at later."""
    with Driver(3) as driver:
        driver.deliver_blobs([0, 1], [_payload.dump_value([0]), _payload.dump_value(Poison(OSError))])
        driver.end("cancelled")
        driver.flush()
        with pytest.raises(JobCancelled):
            await driver.job
        assert not driver.results.all_loaded
        assert driver.job.partial() == [[0], MISSING, MISSING]
        assert [type(failure.error) for failure in driver.job.failures] == [OSError]
        with pytest.raises(JobCancelled):
            await driver.job
        assert driver.calls == []


async def test_a_job_that_failed_as_a_whole_raises_that_error() -> None:
    """Not the failure of some item."""
    with Driver(3) as driver:
        error = InternalError("no worker starts")
        driver.fail(0, ValueError("an item"))
        driver.end("failed", error)
        with pytest.raises(InternalError, match="no worker starts") as caught:
            await within_deadline(driver.job)
        assert caught.value is error


async def test_an_end_that_claims_to_be_done_with_an_item_missing_is_our_fault() -> None:
    """No hole is ever handed out as a result."""
    with Driver(3) as driver:
        driver.deliver([0, 2])
        driver.end()
        with pytest.raises(InternalError, match="item 1"):
            await within_deadline(driver.job)


async def test_a_job_is_freed_with_its_last_reference() -> None:
    """Nothing global holds on to what was awaited."""
    with Driver(1) as driver:
        driver.after_somebody_waits()
        driver.deliver([0])
        driver.end()
        assert await within_deadline(driver.job) == [0]
        job = weakref.ref(driver.job)
        del driver.job
        gc.collect()
        assert job() is None
