"""What somebody meets who got this today: the messages for first mistakes, and Stop where a first loop is long."""

from __future__ import annotations

import re
import time

import pytest

from tests.kernel.harness import Kernel

pytestmark = pytest.mark.kernel

SOON = 3.0
"""Seconds in which Stop must have come through, on a busy machine; the awaits that it ends would take an hour."""

LONG_AWAITS = {
    "async for": """
    async for x in pmap(abs, range(2)):
        print("in the body")
        await asyncio.sleep(3600)
    """,
    "for": """
    for x in pmap(abs, range(2)):
        print("in the body")
        await asyncio.sleep(3600)
    """,
}

REFUSED = {
    "pmap(abs, [1], num_workers=2)": "num_workers is not an option of a map; write configure(workers=...)",
    "pmap(abs, [1], retry=2)": "retry is not an option of a map; write retries=...",
    "pmap(abs, [1], max_attempts=2)": "write retries=..., which counts the attempts after the first",
    'pmap(abs, [1], backoff="linear")': "backoff must be a number of seconds, 0 or more, or 'exponential'.",
    'pmap(abs, [1], timeout="5")': "timeout must be a number of seconds, more than 0, or None.",
    'pmap(abs, [1], batch="big")': "batch must be a whole number, 1 or more, or 'auto'.",
    'aiopool.configure(threads_per_worker="all")': "must be a whole number, 1 or more, or None, or 'auto'.",
    'aiopool.report("epoch 4")': "the fraction comes first; for a text alone write report(text=...)",
    "aiopool.report(50)": "the fraction that is done is from 0 to 1",
    "raise aiopool.Retry(after=-1)": "after must be a number of seconds, 0 or more",
    "session().get": "session() must be awaited: write (await session()).get",
    "session.get": "session is a per-worker resource: write (await session()).get",
    "aiopool.per_worker(lambda path: path)": "needs arguments",
}


@pytest.mark.parametrize("loop", LONG_AWAITS)
def test_stop_ends_a_long_await_in_the_body_of_a_loop_at_once(kernel: Kernel, loop: str) -> None:
    """The loop of the kernel sleeps then, and would feel the Stop when that is over."""
    cell = kernel.begin(LONG_AWAITS[loop]).wait_for(lambda cell: "in the body" in cell.printed(), "the body")
    pressed = kernel.interrupt()
    cell.finish()
    assert cell.error is not None
    assert cell.error["ename"] == "CancelledError"
    assert cell.ended is not None
    assert cell.ended - pressed < SOON


def test_the_loop_of_a_kernel_is_left_alone_when_nobody_iterates(kernel: Kernel) -> None:
    """A reader that a cell has left behind costs nothing once the cell has ended."""
    kernel.run(
        """
        reader = aiter(pmap(abs, range(3)))
        await anext(reader)
        """
    )
    # One tick may be under way as the cell ends.
    deadline = time.monotonic() + SOON
    ticking = "any('_tick' in repr(timer) for timer in asyncio.get_running_loop()._scheduled)"
    while kernel.value(ticking):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_is_shown_as_in_flight_is_never_more_than_the_concurrency(kernel: Kernel, kind: str) -> None:
    """Workers have the next items there already, which is nothing that a user counts."""
    kernel.run(
        f"""
        {kind} step(x):
            {"await asyncio" if "async" in kind else "time"}.sleep(0.01)
        await aiopool.get_pool().broadcast(os.getpid)  # All of them before the last worker was up, else.
        job = pmap(step, range(100), concurrency=3)
        shown = set()
        while not job.done():
            shown.add(job.snapshot().in_flight)
            time.sleep(0.002)
        """
    )
    assert kernel.value("max(shown)") == 3


@pytest.mark.parametrize("call", REFUSED)
def test_a_first_mistake_is_told_at_the_users_line_with_what_to_write(kernel: Kernel, call: str) -> None:
    """All that may be written is named, and no file of ours stands in the traceback."""
    kernel.run("@aiopool.per_worker\nasync def session():\n    yield 1")
    cell = kernel.fail(call)
    assert REFUSED[call] in cell.traceback
    assert "site-packages" not in cell.traceback
    assert "src/aiopool" not in cell.traceback


@pytest.mark.parametrize(
    "limited", ["async with asyncio.timeout(0.2):\n    await job", "await asyncio.wait_for(job, 0.2)"]
)
def test_a_timeout_around_a_job_shows_no_file_of_ours(kernel: Kernel, limited: str) -> None:
    """The cancel that it is made of is a cause with frames of its own."""
    cell = kernel.fail(f"job = pmap(asyncio.sleep, [3600])\n{limited}")
    assert cell.traceback.rstrip().endswith("TimeoutError:")
    assert "aiopool/" not in cell.traceback


def test_a_module_with_a_syntax_error_is_shown_at_its_line(kernel: Kernel) -> None:
    """And at that of the cell; what lies between is ours."""
    (kernel.cwd / "half_written.py").write_text("def scale(x):\n    return 100 * x +\n")
    cell = kernel.fail(
        """
        def use(x):
            import half_written
            return half_written.scale(x)
        await pmap(use, [1])
        """
    )
    assert "half_written.py:2" in cell.traceback.replace('", line ', ":")
    assert "await pmap(use, [1])" in cell.traceback
    assert "item 0 (1)" in cell.traceback
    assert "aiopool/" not in cell.traceback


def test_a_call_that_failed_is_named_by_its_arguments(kernel: Kernel) -> None:
    """As they were written."""
    cell = kernel.fail("await aiopool.get_pool().submit(int, 'x', base=7)")
    assert "the call ('x', base=7), worker" in cell.traceback
    cell = kernel.fail("def fails(): raise OSError\nawait aiopool.get_pool().broadcast(fails)")
    assert re.search(r"item [01] \(fails\(\)\), worker", cell.traceback)


def test_a_job_that_outlives_the_loop_of_its_input_says_what_to_write(kernel: Kernel) -> None:
    """``asyncio.run`` in a thread, which returns the job instead of its results."""
    kernel.run(
        """
        async def numbers():
            yield 1
            await asyncio.sleep(3600)
        async def begin():
            job = pmap(abs, numbers())
            while not job.snapshot().finished:
                await asyncio.sleep(0.01)
            return job
        jobs = []
        thread = threading.Thread(target=lambda: jobs.append(asyncio.run(begin())))
        thread.start()
        thread.join()
        """
    )
    cell = kernel.fail("await jobs[0]")
    assert "InputLost: reading the input was cancelled after 1 item: it is read on the event loop" in cell.traceback
    assert "Await the job there, or pass a list" in cell.traceback
