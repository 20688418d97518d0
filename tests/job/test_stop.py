"""Ending a wait: cancel at every step, interrupts, timeouts. Nothing hangs, nothing is lost, nobody else is harmed."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiopool.errors import JobCancelled, JobStopped
from tests.job.driver import DEADLINE, Driver

LINE = "Stopped: 1 of 3 done: aiopool.last_job().partial(), .retry()"


async def test_cancelling_the_awaiting_task_stops_the_job() -> None:
    """The very CancelledError that came goes on, with one line for IPython; results stay; others get JobCancelled."""
    with Driver(3) as driver:
        driver.deliver([1])
        driver.flush()
        caught: list[BaseException] = []

        async def cell() -> None:
            try:
                await driver.job
            except BaseException as error:
                caught.append(error)
                raise

        task, other = asyncio.create_task(cell()), asyncio.create_task(driver.job._all())
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        (error,) = caught
        assert type(error) is asyncio.CancelledError
        assert error.args == ("why",)
        assert raised.value.args == ("why",)
        assert error._render_traceback_() == [LINE]  # type: ignore[attr-defined]
        assert driver.calls == [("cancel", 7, True)]
        with pytest.raises(JobCancelled, match="fetch was stopped: 1 of 3 done"):
            async with asyncio.timeout(DEADLINE):
                await other
        with pytest.raises(JobCancelled):
            await driver.job
        assert driver.job.partial(fill=None) == [None, 1, None]


async def test_the_line_of_a_stop_tells_what_failed_apart_from_what_is_done() -> None:
    """Items that failed have no value among the partial results; in the error of a cancelled job it is the same."""
    with Driver(3) as driver:
        driver.deliver([1])
        driver.fail(0, ValueError("no"))
        driver.flush()
        assert driver.job._reading.stop_line() == (
            "Stopped: 1 of 3 done, 1 failed: aiopool.last_job().partial(), .retry()"
        )
        driver.job.cancel()
        driver.end("cancelled")
        with pytest.raises(JobCancelled, match="1 of 3 done, 1 failed; job"):
            await driver.job


async def test_a_timeout_around_an_await_stays_a_timeout() -> None:
    """``asyncio.timeout`` recognises its own CancelledError; so do TaskGroup and ``wait_for``."""
    with Driver(1) as driver:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await driver.job
        assert driver.calls == [("cancel", 7, True)]
    with Driver(1) as driver:

        async def cell() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(driver.job._all())
                await asyncio.sleep(0)
                raise ValueError("the block")

        with pytest.raises(ExceptionGroup) as caught:
            await cell()
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert driver.calls == [("cancel", 7, True)]


def steps_of(make: Callable[[], Any], cancel_at: int | None, play: Callable[[int], None]) -> tuple[int, Any]:
    """Run a coroutine step by step, the driver playing before each; cancel before step k. The steps and the outcome."""
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(make())
        step = 0
        while not task.done():
            play(step)
            if step == cancel_at:
                task.cancel()
            # One turn of the loop: what was ready runs, nothing is waited for.
            loop.call_soon(loop.stop)
            loop.run_forever()
            step += 1
            assert step < 100_000
        return step, task.exception() if not task.cancelled() else asyncio.CancelledError()
    finally:
        loop.close()


def sweep(scenario: Callable[[Driver, int | None], tuple[int, Any, list[Any]]], size: int) -> int:
    """Cancel a scenario before its k-th step, for every k; what holds afterwards each time."""
    with Driver(size) as driver:
        steps, outcome, got = scenario(driver, None)
        assert outcome is None
        assert got == [index * index for index in range(size)]
    for k in range(steps):
        with Driver(size) as driver:
            _, outcome, got = scenario(driver, k)
            driver.flush()
            if isinstance(outcome, asyncio.CancelledError):
                # Before the first step the coroutine has not begun, and knows of no job. After the end it is too late.
                assert driver.calls in ([], [("cancel", 7, True)])
                assert driver.calls or k == 0 or driver.results.ending is not None
            else:
                assert outcome is None
                assert driver.calls == []
            assert driver.results._waiters == ()
            driver.end("cancelled")
            driver.flush()
            assert got == driver.job.partial()[: len(got)]
            assert driver.job._reading.next_item in (len(got), 0)
    return steps


def test_an_await_may_be_cancelled_at_every_step() -> None:
    """A sweep: at the k-th step of the awaiting task, for every k from its start to its end."""

    def scenario(driver: Driver, cancel_at: int | None) -> tuple[int, Any, list[Any]]:
        got: list[Any] = []

        async def cell() -> None:
            got.extend(await driver.job)

        def play(step: int) -> None:
            if step < 8:
                driver.deliver(range(step * 50, step * 50 + 50))
            elif step == 9:
                driver.end()
            driver.flush()

        return *steps_of(cell, cancel_at, play), got

    assert sweep(scenario, 400) >= 11


def test_a_loading_await_may_be_cancelled_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when every segment is loaded in a slice of its own."""
    monkeypatch.setattr("aiopool.job.SLICE", 0.0)
    monkeypatch.setattr("aiopool._runtime.results.WAKE_FOR_BYTES", 0)

    def scenario(driver: Driver, cancel_at: int | None) -> tuple[int, Any, list[Any]]:
        got: list[Any] = []

        async def cell() -> None:
            got.extend(await driver.job)

        def play(step: int) -> None:
            if step in (0, 3):
                for start in range(5 * step, 5 * step + 15, 3):
                    driver.deliver(range(start, start + 3))
            elif step == 12:
                driver.end()
            driver.flush()

        return *steps_of(cell, cancel_at, play), got

    assert sweep(scenario, 30) >= 13


def test_an_iteration_may_be_cancelled_at_every_step() -> None:
    """No result is lost between two loops: what one did not get, the next one gets."""

    def scenario(driver: Driver, cancel_at: int | None) -> tuple[int, Any, list[Any]]:
        got: list[Any] = []

        async def cell() -> None:
            async for value in driver.job:
                got.append(value)  # noqa: PERF401 - it stays when an error ends the loop

        def play(step: int) -> None:
            if step % 3 == 0 and step < 60:
                driver.deliver([step // 3])
            elif step == 60:
                driver.end()
            driver.flush()

        return *steps_of(cell, cancel_at, play), got

    assert sweep(scenario, 20) >= 60


async def test_a_cancel_that_comes_after_the_end_is_still_a_cancel() -> None:
    """The result is there but not taken yet: the CancelledError goes on, and the job is left alone."""
    with Driver(1) as driver:
        task = asyncio.create_task(driver.job._all())
        await asyncio.sleep(0)
        driver.deliver([0])
        driver.end()
        driver.flush()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert driver.calls == []
        assert await driver.job == [0]


async def test_an_exception_with_the_line_can_still_be_pickled_and_copied() -> None:
    """As loggers and debuggers do."""
    with Driver(1) as driver:
        task = asyncio.create_task(driver.job._all())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert pickle.loads(pickle.dumps(caught.value))._render_traceback_() == [
            "Stopped: 0 of 1 done: aiopool.last_job().partial(), .retry()"
        ]
        copy.copy(caught.value)


# --- blocking waits ---------------------------------------------------------------------------------------------------


def test_result_blocks_until_the_end() -> None:
    """And gives what an await would."""
    with Driver(2) as driver:
        driver.after_somebody_waits()
        driver.deliver([1, 0])
        driver.end()
        assert driver.job.result(DEADLINE) == [0, 1]
        assert driver.job.result() == [0, 1]


def test_a_thread_may_be_told_many_times_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that something waits to be loaded it goes on, and then waits again."""
    monkeypatch.setattr("aiopool._runtime.results.WAKE_FOR_BYTES", 0)
    with Driver(10) as driver:
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(driver.job.result(DEADLINE)))
        thread.start()
        driver.after_somebody_waits()
        for index in range(10):
            driver.deliver([index])
            driver.after(lambda: driver.results.all_loaded)
        driver.end()
        thread.join(DEADLINE / 2)
        assert got == [[index * index for index in range(10)]]


def test_a_result_that_times_out_cancels_nothing() -> None:
    """It says so, and the job may be asked again."""
    with Driver(2) as driver:
        driver.deliver([1])
        driver.flush()
        for timeout in (0, 0.01, -1):
            with pytest.raises(TimeoutError, match="fetch is still running, 1 of 2 done; it goes on"):
                driver.job.result(timeout)
        assert driver.calls == []
        driver.after_somebody_waits()
        driver.deliver([0])
        driver.end()
        assert driver.job.result(float("inf")) == [0, 1]


async def test_result_may_be_called_inside_a_running_loop() -> None:
    """From sync code that a coroutine calls; it blocks that loop until the job ends."""
    with Driver(1) as driver:
        driver.after_somebody_waits()
        driver.deliver([0])
        driver.end()
        assert driver.job.result(DEADLINE) == [0]


def test_a_failure_is_raised_from_result_as_from_an_await() -> None:
    """The same object, with its own traceback each time, however often it is raised."""
    with Driver(1) as driver:
        error = ValueError("bad")
        driver.after_somebody_waits()
        driver.fail(0, error)
        driver.end("failed")
        lengths = []
        for _ in range(3):
            with pytest.raises(ValueError, match="bad") as caught:
                driver.job.result(DEADLINE)
            assert caught.value is error
            lengths.append(len(caught.traceback))
        assert len(set(lengths)) == 1
        assert error.__notes__ == ["item 0 (0)"]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press_stop() -> None:
    """Do what the Stop button of a kernel and Ctrl-C do."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("how", ["result", "for", "as_completed", "result with a timeout"])
def test_an_interrupt_of_a_blocking_wait_stops_the_job(how: str) -> None:
    """JobStopped, one line, at once; the results stay, the handler of before is back."""
    ways: dict[str, Callable[[Any], object]] = {
        "result": lambda job: job.result(),
        "for": lambda job: list(iter(job)),
        "as_completed": lambda job: list(job.as_completed()),
        "result with a timeout": lambda job: job.result(DEADLINE),
    }
    with Driver(3) as driver:
        driver._ends_when_cancelled = False
        driver.deliver([1])
        driver.after_somebody_waits()
        driver.do(press_stop)
        began = time.monotonic()
        with pytest.raises(JobStopped) as caught:
            ways[how](driver.job)
        assert time.monotonic() - began < 2
        assert str(caught.value) == LINE
        assert caught.value._render_traceback_() == [LINE]  # type: ignore[attr-defined]
        assert driver.calls == [("cancel", 7, True)]
        driver.end("stopped")
        with pytest.raises(JobCancelled):
            driver.job.result(DEADLINE)
        assert driver.job.partial(0) == [0, 1, 0]


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_that_another_thread_made_up_ends_the_wait_too() -> None:
    """``_thread.interrupt_main()`` wakes nobody by itself."""
    import _thread

    with Driver(1) as driver:
        driver.after_somebody_waits()
        driver.do(_thread.interrupt_main)
        with pytest.raises(JobStopped):
            driver.job.result(DEADLINE)


@pytest.mark.usefixtures("_interruptible")
async def test_an_interrupt_inside_a_running_loop_ends_the_wait_too() -> None:
    """Where the handler of the loop's runner, or of a kernel, would only schedule a cancel."""
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(print))
    handler = signal.getsignal(signal.SIGINT)
    with Driver(1) as driver:
        driver.after_somebody_waits()
        driver.do(press_stop)
        with pytest.raises(JobStopped):
            driver.job.result(DEADLINE)
        assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_that_comes_with_the_last_result_is_not_swallowed() -> None:
    """Whoever pressed Stop wanted the rest of the cell not to run. No result is lost with it."""
    with Driver(None) as driver:
        driver.after_somebody_waits()
        driver.do(press_stop)
        driver.deliver([0])
        with pytest.raises(JobStopped):
            next(iter(driver.job))
        driver.flush()
        assert driver.job.partial() == [0]


@pytest.mark.usefixtures("_interruptible")
def test_a_process_that_ignores_interrupts_keeps_ignoring_them() -> None:
    """A background job of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Driver(1) as driver:
            driver.after_somebody_waits()
            driver.do(press_stop)
            driver.deliver([0])
            driver.end()
            assert driver.job.result(DEADLINE) == [0]
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_keyboard_interrupt_from_elsewhere_goes_on_and_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was raised into the waiting thread by other means than the signal."""
    with Driver(1) as driver:

        def wait(waiter: Any, seconds: float | None) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("aiopool._runtime.waiters.ThreadWaiter.wait", wait)
        with pytest.raises(KeyboardInterrupt) as caught:
            driver.job.result()
        assert type(caught.value) is KeyboardInterrupt
        assert driver.calls == [("cancel", 7, True)]


def test_a_blocking_wait_on_another_thread_touches_no_handler() -> None:
    """Only the main thread may."""
    with Driver(1) as driver:
        before = signal.getsignal(signal.SIGINT)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(driver.job.result(DEADLINE)))
        thread.start()
        driver.after_somebody_waits()
        driver.deliver([0])
        driver.flush()
        assert signal.getsignal(signal.SIGINT) is before
        driver.end()
        thread.join(DEADLINE)
        assert got == [[0]]


SCRIPT = """
import select, sys
from tests.job.driver import Driver
from aiopool.errors import JobStopped

with Driver(3) as driver:
    driver.deliver([1])
    driver.after_somebody_waits()
    driver.do(lambda: print("waiting", flush=True))
    try:
        try:
            driver.job.result()
        except JobStopped as error:
            print(error, flush=True)
        # Not read(): a signal that comes just before the system call of one would be handled after it.
        while not select.select([sys.stdin], [], [], 0.05)[0]:
            pass
    except KeyboardInterrupt:
        print("Python's own handler is back", flush=True)
"""


def test_ctrl_c_in_a_script_ends_its_blocking_wait() -> None:
    """A real signal to a real process, from outside."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        watchdog = threading.Timer(DEADLINE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == LINE + "\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "Python's own handler is back\n"
            process.communicate()
            assert process.returncode == 0
        finally:
            watchdog.cancel()
            process.kill()


def test_ctrl_c_in_the_body_of_a_loop_leaves_the_job_to_the_script() -> None:
    """It is Python's own KeyboardInterrupt; the job goes on, and a new loop with it."""
    with Driver(3) as driver:
        driver.deliver([0, 1, 2])
        with pytest.raises(KeyboardInterrupt) as caught:  # noqa: PT012 - the loop is what is interrupted
            for _ in driver.job:
                signal.raise_signal(signal.SIGINT)
        assert not hasattr(caught.value, "_render_traceback_")
        assert driver.calls == []
        driver.end()
        assert list(driver.job) == [1, 4]


async def test_a_submit_that_was_stopped_does_not_speak_of_parts() -> None:
    """There is nothing to take up again."""
    with Driver(1, is_single=True) as driver:
        task = asyncio.create_task(driver.job._all())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value._render_traceback_() == ["Stopped: fetch"]  # type: ignore[attr-defined]
        driver.flush()
        with pytest.raises(JobCancelled, match=r"^fetch was stopped: 0 of 1 done$"):
            await driver.job
