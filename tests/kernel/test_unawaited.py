"""A failure for which nobody asks is said once, under the cell that started the job."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Cell, Kernel, Signs

pytestmark = pytest.mark.kernel

WORK = """
async def fetch(x):
    if x == 2:
        while not os.path.exists(os.path.join(SIGNS, "go")):
            await asyncio.sleep(0.01)
        raise ValueError(f"no page {x}")
    return x
def ended(job, seconds=30):
    # Without asking it.
    until = time.monotonic() + seconds
    while job.snapshot().state == "running" and time.monotonic() < until:
        time.sleep(0.01)
    return job.snapshot().state
"""

HAS_IT = ". aiopool.jobs() has the job: .failures, .retry()"
SAID = "fetch failed: ValueError: no page 2 (item 2)" + HAS_IT


def said(cell: Cell) -> list[str]:
    """The lines under a cell that tell of failures, as they stand now."""
    return [text for shown in cell.displays if re.search(" failed(, the first)?: ", text := shown.texts[-1])]


def spoken(cell: Cell) -> bool:
    """Whether there is one."""
    return bool(said(cell))


@pytest.fixture
def working(kernel: Kernel, signs: Signs) -> Kernel:
    """A kernel in which item 2 fails when it is allowed to go."""
    kernel.run(WORK)
    return kernel


@pytest.mark.core
def test_a_failure_in_the_background_is_said_once_under_its_cell(working: Kernel, signs: Signs) -> None:
    """Also while another cell runs. The job keeps it: awaiting it raises it all the same, and says no more."""
    cell = working.run("job = pmap(fetch, range(4))")
    other = working.run("1 + 1")
    assert said(cell) == []
    signs.allow("go")
    cell.wait_for(spoken, "the line")
    assert said(cell) == [SAID]
    assert working.value("[job is one for one in aiopool.jobs()]") == [True]
    assert working.value("job.failures[0].index") == 2
    failed = working.fail("await job")
    assert "ValueError: no page 2" in failed.traceback
    working.run("time.sleep(1.2)")
    assert said(cell) == [SAID]
    assert said(other) == said(failed) == []


ASKED = {
    "await": "await job",
    "result": "job.result()",
    "wait": "await job.wait()",
    "for": "for _ in job: pass",
    "async for as_completed": "async for _ in job.as_completed(): pass",
    "a task": "task = asyncio.create_task(job._all())\nawait asyncio.wait([task])\ntask.exception()",
    "a callback": "job.add_done_callback(print)\nended(job)",
    "its failures, later": "ended(job)\ntime.sleep(1.3)\njob.failures",
    "its records, later": "ended(job)\ntime.sleep(1.3)\njob.records()",
    "an await, later": "ended(job)\ntime.sleep(1.3)\nawait job",
}


@pytest.mark.parametrize("how", ASKED)
def test_a_failure_is_not_said_where_somebody_asks(working: Kernel, signs: Signs, how: str) -> None:
    """Whoever waits at that moment gets it raised; and so may the cell that started the job, as long as it runs."""
    signs.allow("go")
    cell = working.run_any(f"job = pmap(fetch, range(4))\n{ASKED[how]}")
    working.run("time.sleep(1.3)")
    assert said(cell) == []


def test_the_next_cell_has_a_moment_to_ask(working: Kernel, signs: Signs) -> None:
    """Run All: the job fails between the cell that starts it and the cell that awaits it."""
    signs.allow("go")
    working.run("import aiopool._runtime.unheard\naiopool._runtime.unheard.ASKED_WITHIN = 4")  # Seconds; it is one.
    cell = working.run("job = pmap(fetch, range(4))\nended(job)")
    assert "no page 2" in working.fail("await job").traceback
    working.run("time.sleep(4.3)\naiopool._runtime.unheard.ASKED_WITHIN = 1")
    assert said(cell) == []


def test_a_cell_that_runs_is_told_at_its_end(working: Kernel, signs: Signs) -> None:
    """Not before: it may still await the job."""
    signs.allow("go")
    cell = working.begin("job = pmap(fetch, range(4))\nended(job)\ntime.sleep(1.5)\nprint('the end', flush=True)")
    cell.finish()
    cell.wait_for(spoken, "the line")
    assert said(cell) == [SAID]
    kinds = [message.kind for message in cell.messages if message.kind in ("stream", "display_data")]
    assert kinds == ["stream", "display_data"]


def test_a_job_that_its_user_ended_has_nothing_to_say(working: Kernel, signs: Signs) -> None:
    """Cancelled, or left by Stop."""
    cell = working.run("job = pmap(fetch, range(4))\njob.cancel()\nended(job)")
    working.run("time.sleep(1.3)")
    assert said(cell) == []


def test_failures_that_are_returned_are_counted(working: Kernel, signs: Signs) -> None:
    """``on_error="return"``: the job is done, and nobody has looked at what came of it."""
    signs.allow("go")
    cell = working.run("job = pmap(fetch, [1, 2, 2, 3], on_error='return')")
    cell.wait_for(spoken, "the line")
    (line,) = said(cell)
    assert re.fullmatch(
        r"fetch: 2 of 4 failed, the first: ValueError: no page 2 \(item [12]\)" + re.escape(HAS_IT), line
    )
    assert working.value("aiopool.jobs() == [job]") is True
    assert working.value("len(job.failures)") == 2


def test_calls_that_fail_are_counted_in_one_line(working: Kernel, signs: Signs) -> None:
    """A submit whose handle nobody keeps is no exception; awaiting a handle raises its error."""
    signs.allow("go")
    cell = working.run("kept = [aiopool.get_pool().submit(fetch, x) for x in (1, 2, 2, 2)]\ndel kept[2:]")
    counted = "fetch failed: ValueError: no page 2 (3 calls of fetch have failed). Await its handle for the traceback"
    cell.wait_for(lambda cell: said(cell) == [counted], "the line")
    assert cell.displays[0].texts[0] == "fetch failed: ValueError: no page 2. Await its handle for the traceback"
    assert "no page 2" in working.fail("await kept[1]").traceback
    cell = working.run(
        "handle = aiopool.get_pool().submit(fetch, 2)\nawait asyncio.gather(handle, return_exceptions=True);"
    )
    working.run("time.sleep(1.3)")
    assert said(cell) == []


WHOLE = {
    "an input that raises": (
        "def pages():\n    yield 1\n    raise LookupError('no more')\njob = pmap(fetch, pages())",
        r"fetch failed: LookupError: no more",
    ),
    "an input whose __str__ raises": (
        """
        class Odd(Exception):
            def __str__(self):
                1 / 0
        def pages():
            yield 1
            raise Odd("no more")
        job = pmap(fetch, pages())
        """,
        r"fetch failed: Odd",
    ),
    "workers that cannot start": (
        """
        def no():
            raise OSError("no disk")
        broken = Pool(workers=1, initializer=no)
        job = broken.map(fetch, [1])
        """,
        r"fetch failed: WorkerStartFailed: .*no disk",
    ),
    "an argument that cannot travel": (
        "job = pmap(fetch, [threading.Lock()])",
        r"fetch failed: NotPicklable: .*lock.* \(item 0\)",
    ),
}


@pytest.mark.parametrize("why", WHOLE)
def test_a_job_that_fails_as_a_whole_says_why(working: Kernel, signs: Signs, why: str) -> None:
    """The error's own text, where making it runs no code of the user's on the pool's thread."""
    source, text = WHOLE[why]
    cell = working.run(source)
    cell.wait_for(spoken, "the line")
    (line,) = said(cell)
    assert re.fullmatch(text + re.escape(HAS_IT), line), line


def test_a_pool_that_ends_says_what_it_has_left_to_say(working: Kernel, signs: Signs) -> None:
    """The cell that leaves ``with Pool`` and looks at nothing is told; one that looks afterwards is not."""
    signs.allow("go")
    source = "with Pool(workers=1) as pool:\n    job = pool.map(fetch, range(4))\n"
    cell = working.run(source)
    cell.wait_for(spoken, "the line")
    assert said(cell) == [SAID]
    cell = working.run(f"{source}len(job.failures)")
    working.run("time.sleep(1.3)")
    assert said(cell) == []
