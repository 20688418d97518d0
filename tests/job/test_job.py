"""What a job tells and does beside handing out results: partial results, failures, records, retry, callbacks."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import pickle
import threading
from typing import Any

import pytest

from aiopool import _payload
from aiopool._runtime.arrivals import Segment
from aiopool.errors import AiopoolError, WorkerLost
from aiopool.job import MISSING, Failure, Handle
from aiopool.telemetry import JobSnapshot
from tests.job.driver import DEADLINE, Driver


def test_partial_has_everything_finished_with_holes_filled() -> None:
    """While the job runs and after it ended; failures stand in their places only where they would in the results."""
    for on_error in ("raise", "return"):
        with Driver(4, on_error=on_error) as driver:
            driver.deliver([2])
            driver.fail(1, ValueError("bad"))
            driver.flush()
            zero, one, two, three = driver.job.partial()
            assert (zero, two, three) == (MISSING, 4, MISSING)
            assert isinstance(one, Failure) if on_error == "return" else one is MISSING
            assert driver.job.partial(fill=None)[0] is None
            driver.end("cancelled")
            driver.flush()
            assert driver.job.partial(-1)[3] == -1


def test_missing_is_false_and_one() -> None:
    """In every copy and after every pickle, so that ``is`` works; and it says its name."""
    assert not MISSING
    assert repr(MISSING) == str(MISSING) == "MISSING"
    assert copy.deepcopy(MISSING) is copy.copy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert _payload.load_value(_payload.dump_value([MISSING]))[0] is MISSING  # type: ignore[index]


def test_failures_tell_item_input_error_and_where_it_ran() -> None:
    """In input order, the same objects each time, and the error says in a note which input it was."""
    with Driver(5, on_error="return", inputs=["a", "b", "https://x", "d", "e"]) as driver:
        driver.fail(4, KeyError("k"))
        driver.fail(2, _payload.dump_error(ValueError("bad")), attempts=2, worker=1, pid=4242, seconds=1.5)
        driver.flush()
        first, second = driver.job.failures
        assert (first.index, first.input, first.attempts, first.worker, first.prints) == (2, "https://x", 2, 1, "")
        assert isinstance(first.error, ValueError)
        assert first.error.__notes__ == ["item 2 ('https://x'), worker 1 (pid 4242), attempt 2"]
        assert (second.index, second.worker) == (4, None)
        assert second.error.__notes__ == ["item 4 ('e')"]
        assert driver.job.failures == [first, second]
        assert driver.job.partial()[2] is first
        assert repr(first) == "Failure(item 2, ValueError('bad'))"
        driver.end("cancelled")


def test_a_failure_travels_and_does_not_show_its_input() -> None:
    """It may be returned from another job; what ``label=`` hides is not in its repr."""
    failure = Failure(3, "secret", ValueError("x" * 1000), 1, None, "")
    assert "secret" not in repr(failure)
    assert len(repr(failure)) < 250
    assert pickle.loads(pickle.dumps(failure)).input == "secret"


def test_of_a_long_message_a_failure_shows_the_first_line() -> None:
    """A crash tells a stack, which is for who reads the error itself."""
    failure = Failure(3, None, WorkerLost("it was killed\nThe last lines:\n  File ..."), 1, 0, "")
    assert repr(failure) == "Failure(item 3, WorkerLost('it was killed'))"


def test_an_input_that_is_not_kept_is_missing_from_its_failure() -> None:
    """Nothing else is lost with it."""
    with Driver(3, on_error="return", inputs=["only one"]) as driver:
        driver.fail(2, ValueError("bad"))
        driver.flush()
        (failure,) = driver.job.failures
        assert failure.input is MISSING
        assert failure.error.__notes__ == ["item 2"]
        driver.end("cancelled")


def test_one_error_for_many_items_carries_one_note() -> None:
    """As when no worker starts; and an error that refuses notes is not replaced."""

    class Stubborn(Exception):
        def add_note(self, note: str) -> None:
            raise TypeError("no notes")

    with Driver(3, on_error="return") as driver:
        error, stubborn = ValueError("for all"), Stubborn("x")
        driver.fail(0, error)
        driver.fail(1, error)
        driver.fail(2, stubborn)
        driver.end()
        driver.flush()
        assert [failure.error for failure in driver.job.result(0)] == [error, error, stubborn]
        assert error.__notes__ == ["item 0 (0)"]


def test_the_failure_of_a_submit_speaks_of_the_call() -> None:
    """It has no index."""
    with Driver(1, is_single=True, inputs=["x"]) as driver:
        driver.fail(0, ValueError("bad"), worker=0, pid=1)
        driver.end("failed")
        driver.flush()
        with pytest.raises(ValueError, match="bad") as caught:
            driver.job.result()
        assert caught.value.__notes__ == ["the call ('x'), worker 0 (pid 1)"]


def test_records_are_rows_for_a_table() -> None:
    """One per item that has ended, in input order, all with the same columns."""
    with Driver(5, inputs="abcde", on_error="return", prefilled={4: "kept"}) as driver:
        driver.deliver([2, 0], ["two", "zero"], worker=3)
        driver.fail(1, ValueError("bad"), attempts=3, worker=2, seconds=0.25)
        driver.flush()
        rows = driver.job.records()
        assert rows == [
            {"index": 0, "input": "a", "value": "zero", "error": None, "seconds": 0.5, "attempts": 1, "worker": 3},
            {
                "index": 1,
                "input": "b",
                "value": None,
                "error": rows[1]["error"],
                "seconds": 0.25,
                "attempts": 3,
                "worker": 2,
            },
            {"index": 2, "input": "c", "value": "two", "error": None, "seconds": 0.5, "attempts": 1, "worker": 3},
            {"index": 4, "input": "e", "value": "kept", "error": None, "seconds": None, "attempts": 1, "worker": None},
        ]
        assert isinstance(rows[1]["error"], ValueError)
        assert list(driver.job.records(values=False)[0]) == ["index", "input", "error", "seconds", "attempts", "worker"]
        driver.end("cancelled")


def test_records_tell_how_often_an_item_was_tried() -> None:
    """Of values and of failures alike."""
    with Driver(3) as driver:
        for index, attempts in enumerate((1, 4)):
            segment = Segment((index,), (0.5,), _payload.dump_shared([index]), (), 0, attempts)
            driver.do(lambda segment=segment: driver.results.deliver(segment))  # type: ignore[misc]
        driver.fail(2, ValueError("boom"), attempts=3)
        driver.flush()
        assert [row["attempts"] for row in driver.job.records()] == [1, 4, 3]


def test_retry_runs_what_has_no_value_and_keeps_what_has() -> None:
    """Failed and unfinished items; the function and options go along."""
    with Driver(5, on_error="return") as driver:
        driver.deliver([3, 1])
        driver.fail(2, ValueError("bad"))
        driver.end("cancelled")
        driver.flush()
        assert driver.job.retry() is driver.job
        assert driver.job.retry(len, timeout=60) is driver.job
        assert driver.retries == [
            (None, {}, [0, 2, 4], {1: 1, 3: 9}),
            (len, {"timeout": 60}, [0, 2, 4], {1: 1, 3: 9}),
        ]


def test_a_value_that_could_not_be_loaded_is_retried() -> None:
    """It is a failure like others."""
    with Driver(2, on_error="return") as driver:
        driver.deliver_blobs([0, 1], [b"no pickle", None], [1])
        driver.end()
        driver.flush()
        driver.job.retry()
        assert driver.retries == [(None, {}, [0], {1: 1})]


def test_a_retry_gives_the_complete_list() -> None:
    """What was there before and what came now, in input order."""
    with Driver(4, prefilled={0: "zero", 3: "three"}) as driver:
        driver.deliver([2, 1], ["two", "one"])
        driver.end()
        driver.flush()
        assert driver.job.result(0) == ["zero", "one", "two", "three"]
        assert list(driver.job.as_completed()) == [(0, "zero"), (3, "three"), (2, "two"), (1, "one")]
        assert driver.job.snapshot().done == 4


def test_a_running_job_is_not_retried() -> None:
    """Its items would run twice. One that was asked to end may be, also before it has."""
    with Driver(2) as driver:
        driver._ends_when_cancelled = False
        with pytest.raises(AiopoolError, match="await it or cancel it"):
            driver.job.retry()
        driver.job.cancel()
        assert driver.job.retry() is driver.job
        driver.end("cancelled")


def test_cancel_pause_and_resume_reach_the_pool() -> None:
    """``cancel`` tells whether there was anything to cancel."""
    with Driver(1) as driver:
        driver.job.pause()
        driver.job.resume()
        assert not driver.job.done()
        assert driver.job.cancel()
        driver.flush()
        assert driver.job.done()
        assert not driver.job.cancel()
        assert driver.calls == [("pause", 7), ("resume", 7), ("cancel", 7, False)]


def test_a_snapshot_is_the_pools_while_it_runs_and_the_jobs_own_afterwards() -> None:
    """And the repr of a job is that, in one line."""
    with Driver(3) as driver:
        told = JobSnapshot(7, "fetch", "paused", 3, 1, 0, 1, 2.0)
        driver.snapshots = lambda: told
        assert driver.job.snapshot() is told
        assert repr(driver.job) == f"<Job {told}>"
        driver.snapshots = lambda: None
        driver.deliver([1])
        driver.fail(0, ValueError("bad"))
        driver.flush()
        running = driver.job.snapshot()
        assert (running.state, running.total, running.done, running.failed) == ("running", 3, 1, 1)
        driver.end("failed")
        driver.flush()
        ended = driver.job.snapshot()
        assert ended.state == "failed"
        assert ended == driver.job.snapshot()
        assert "\n" not in repr(driver.job)
        assert repr(driver.job) == f"<Job {ended}>"


def test_the_length_of_an_unsized_input_is_known_at_its_end() -> None:
    """A job is true in any case, and ``list()`` works without its length."""
    with Driver(None) as driver:
        with pytest.raises(TypeError, match="no length"):
            len(driver.job)
        assert driver.job
        driver.deliver(range(2))
        driver.total(2)
        driver.end()
        driver.flush()
        assert len(driver.job) == 2
        assert list(driver.job) == [0, 1]


def test_a_job_is_a_handle() -> None:
    """So is whatever else can be awaited, asked and cancelled."""

    def needs(handle: Handle[Any]) -> bool:
        return handle.done()

    with Driver(1) as driver:
        assert not needs(driver.job)
        driver.end("cancelled")


async def test_a_callback_registered_on_a_loop_is_called_there() -> None:
    """In its own context, once, after the end; at once where the end has come."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("registered")
    loop = asyncio.get_running_loop()
    called: asyncio.Queue[Any] = asyncio.Queue()

    def callback(job: Any) -> None:
        called.put_nowait((job, variable.get(), asyncio.get_running_loop() is loop, threading.current_thread()))

    with Driver(1) as driver:
        driver.job.add_done_callback(callback)
        variable.set("changed")
        assert called.empty()
        driver.deliver([0])
        driver.end()
        async with asyncio.timeout(DEADLINE):
            assert await called.get() == (driver.job, "registered", True, threading.current_thread())
        driver.job.add_done_callback(callback)
        assert called.get_nowait()[1] == "changed"
        await asyncio.sleep(0)
        assert called.empty()


def test_a_callback_registered_without_a_loop_is_called_by_the_pool() -> None:
    """The job is done then, so it may ask for the results even there."""
    with Driver(1) as driver:
        called: list[Any] = []
        driver.job.add_done_callback(lambda job: called.append((job.result(), threading.current_thread())))
        driver.deliver([0])
        driver.end()
        driver.flush()
        assert called == [([0], driver.thread)]


def test_what_a_callback_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Not the other callbacks, not the pool's thread, not whoever registers it too late."""
    with Driver(1) as driver, caplog.at_level(logging.ERROR, "aiopool"):
        called: list[str] = []

        def bad(_: Any) -> None:
            raise SystemExit("bad callback")

        driver.job.add_done_callback(bad)
        driver.job.add_done_callback(lambda _: called.append("good"))
        driver.end("cancelled")
        driver.flush()
        driver.job.add_done_callback(bad)
        assert called == ["good"]
        ours = [record for record in caplog.records if record.name == "aiopool"]
        assert [record.exc_info[0] for record in ours if record.exc_info] == [SystemExit, SystemExit]
    caplog.clear()


async def test_awaiters_are_told_before_callbacks_run() -> None:
    """A slow callback of the pool's thread costs them nothing."""
    with Driver(1) as driver:
        release, released = threading.Event(), list[bool]()
        driver.do(lambda: driver.job.add_done_callback(lambda _: released.append(release.wait(DEADLINE))))
        driver.flush()
        driver.after_somebody_waits(2)
        driver.deliver([0])
        driver.end()
        async with asyncio.timeout(DEADLINE * 2):
            assert await driver.job == [0]
        release.set()
        driver.flush()
        assert released == [True]


def test_a_callback_whose_loop_has_closed_is_dropped() -> None:
    """The others are called."""
    with Driver(1) as driver:

        async def register() -> None:
            driver.job.add_done_callback(lambda _: pytest.fail("its loop has closed"))

        asyncio.run(register())
        called: list[Any] = []
        driver.job.add_done_callback(called.append)
        driver.end("cancelled")
        driver.flush()
        assert called == [driver.job]
