"""Stop in the body of a loop over a job ends the job too: it is what the cell was about. No other job is touched."""

from __future__ import annotations

import pytest

from tests.kernel.harness import Cell, Kernel

pytestmark = pytest.mark.kernel

HOLD = """
import contextlib
from tqdm import tqdm
async def hold(x):
    if x < 2:
        return x
    await asyncio.sleep(3600)
def begin():
    global job
    job = pmap(hold, range(5))
    while job.snapshot().finished < 2:
        time.sleep(0.01)
    return job
def here():
    print("in the body")
    time.sleep(3600)
async def here_too():
    # Stop is felt when the loop next wakes.
    print("in the body")
    while True:
        await asyncio.sleep(0.02)
"""

LINE = "Stopped: 2 of 5 done: aiopool.last_job().partial(), .retry()"

CUT_OFF = {
    "for": """
    for x in begin():
        here()
    """,
    "async for": """
    async for x in begin():
        await here_too()
    """,
    "as_completed": """
    for index, x in begin().as_completed():
        here()
    """,
    "async as_completed": """
    async for index, x in begin().as_completed():
        await here_too()
    """,
    "a job in a variable": """
    mine = begin()
    for x in mine:
        here()
    """,
    "a reader in a variable": """
    reader = iter(begin())
    for x in reader:
        here()
    """,
    "enumerate": """
    for i, x in enumerate(begin()):
        here()
    """,
    "tqdm": """
    for x in tqdm(begin(), file=sys.stdout):
        here()
    """,
    "a list comprehension": "[here() for x in begin()]",
    "a generator expression": "list(here() for x in begin())",
    "a function": """
    def work():
        for x in begin():
            here()
    work()
    """,
    "finally": """
    def work():
        for x in begin():
            try:
                here()
            finally:
                print("finally")
    work()
    """,
    "with": """
    def work():
        for x in begin():
            with contextlib.nullcontext():
                here()
    work()
    """,
    "except and raise": """
    for x in begin():
        try:
            here()
        except KeyboardInterrupt:
            raise
    """,
    "a timeout around it": """
    async with asyncio.timeout(100):
        async for x in begin():
            await here_too()
    """,
    "gather": """
    async def work():
        async for x in begin():
            await here_too()
    await asyncio.gather(work(), asyncio.sleep(3600))
    """,
    "a task group": """
    async def work():
        async for x in begin():
            await here_too()
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
    """,
    "an async generator around it": """
    async def each():
        async for x in begin():
            yield x
    async for x in each():
        await here_too()
    """,
}

LEFT_ALONE = {
    "a background job": """
    begin()
    here()
    """,
    "break": """
    for x in begin():
        break
    here()
    """,
    "break in a function": """
    def work():
        for x in begin():
            break
        here()
    work()
    """,
    "break out of tqdm": """
    def work():
        for x in tqdm(begin(), file=sys.stdout):
            break
        here()
    work()
    """,
    "break out of async for": """
    async for x in begin():
        break
    await here_too()
    """,
    "return": """
    def work():
        for x in begin():
            return x
    work()
    here()
    """,
    "another exception, which was caught": """
    def work():
        try:
            for x in begin():
                1 / 0
        except ZeroDivisionError:
            pass
        here()
    work()
    """,
    "a task beside the cell": """
    async def work():
        async for x in begin():
            await asyncio.sleep(3600)
    task = asyncio.create_task(work())
    await asyncio.sleep(0.5)
    await here_too()
    """,
    "a thread beside the cell": """
    def work():
        for x in begin():
            time.sleep(3600)
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    here()
    """,
}


def stopped(kernel: Kernel, source: str) -> Cell:
    """Stop a cell when it is in the body of its loop."""
    kernel.run(HOLD)
    cell = kernel.begin(source)
    cell.wait_for(lambda cell: "in the body" in cell.printed(), "the body of the loop")
    kernel.interrupt()
    cell.finish()
    assert cell.error is not None
    assert cell.error["ename"] in ("KeyboardInterrupt", "CancelledError")
    return cell


def lines(cell: Cell) -> list[str]:
    """What a cell says of stopped jobs."""
    return [text for shown in cell.displays if (text := shown.texts[-1]).startswith("Stopped")]


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.core] if how in ("for", "async for") else []) for how in CUT_OFF]
)
def test_stop_in_the_body_of_a_loop_stops_the_job(kernel: Kernel, how: str) -> None:
    """One line says so, below the error; the results are kept and the pool works."""
    cell = stopped(kernel, CUT_OFF[how])
    assert lines(cell) == [LINE]
    kernel.run("await job.wait(10)")
    assert kernel.value("[job.snapshot().state, job.partial(fill=None)]") == ["stopped", [0, 1, None, None, None]]
    assert kernel.value("await pmap(abs, [-1, -2])") == [1, 2]


@pytest.mark.parametrize("how", LEFT_ALONE)
def test_stop_touches_no_job_over_which_the_cell_is_not_looping(kernel: Kernel, how: str) -> None:
    """It runs on, and the loop may be taken up again."""
    cell = stopped(kernel, LEFT_ALONE[how])
    assert lines(cell) == []
    assert kernel.value("job.snapshot().state") == "running"


def test_loops_in_one_another_all_end(kernel: Kernel) -> None:
    """The cell was about both jobs, and about the one that it awaited in the body."""
    both = "for x in (outer := begin()):\n    for y in begin():\n        here()"
    assert lines(stopped(kernel, both)) == [LINE, LINE]
    assert kernel.value("await outer.wait(10)\n[outer.snapshot().state, job.snapshot().state]") == ["stopped"] * 2
    awaited = "async for x in (outer := begin()):\n    inner = begin()\n    print('in the body')\n    await inner"
    cell = stopped(kernel, awaited)
    assert lines(cell) == [LINE]
    assert cell.traceback == LINE
    kernel.run("await asyncio.gather(outer.wait(10), inner.wait(10))")
    assert kernel.value("[outer.snapshot().state, inner.snapshot().state]") == ["stopped"] * 2


def test_a_loop_that_ends_with_an_error_of_its_own_leaves_the_job_running(kernel: Kernel) -> None:
    """Only Stop ends it; a new loop goes on where the last stood."""
    kernel.run(HOLD)
    cell = kernel.fail("for x in begin():\n    1 / 0")
    assert lines(cell) == []
    assert kernel.value("[job.snapshot().state, next(iter(job))]") == ["running", 1]


def test_a_stop_that_the_cell_catches_leaves_the_job_running(kernel: Kernel) -> None:
    """The cell has decided to go on."""
    kernel.run(HOLD)
    cell = kernel.begin("try:\n    for x in begin():\n        here()\nexcept KeyboardInterrupt:\n    print('caught')")
    cell.wait_for(lambda cell: "in the body" in cell.printed(), "the body of the loop")
    kernel.interrupt()
    cell.finish()
    assert cell.error is None
    assert "caught" in cell.printed()
    assert lines(cell) == []
    assert kernel.value("job.snapshot().state") == "running"
