"""Running a cell again ends the background jobs that it started before, and says so."""

from __future__ import annotations

import pytest

from tests.kernel import harness
from tests.kernel.conftest import Kernels
from tests.kernel.harness import Cell, Kernel

pytestmark = pytest.mark.kernel

HOLD = """
async def hold(x):
    if x < 2:
        return x
    await asyncio.sleep(3600)
def state(job):
    return job.snapshot().state
"""

BEGUN = "    while job.snapshot().finished < 2: await asyncio.sleep(0.01)"
START = "jobs.append(job := pmap(hold, range(5)))\nwhile job.snapshot().finished < 2: time.sleep(0.01)"

SAID = "hold, started by the last run of this cell, was cancelled: 2 of 5 done"


def run(kernel: Kernel, source: str, cell_id: str | None) -> Cell:
    """Run a cell of this name to a good end."""
    cell = kernel.begin(source, cell_id).finish()
    assert cell.error is None, cell.traceback
    return cell


def said(cell: Cell) -> list[str]:
    """The lines under a cell, but for its panel."""
    return [shown.texts[-1] for shown in cell.displays]


@pytest.fixture
def held(kernel: Kernel) -> Kernel:
    """A kernel in which cells append to ``jobs``."""
    kernel.run(HOLD)
    kernel.run("jobs = []")
    return kernel


@pytest.mark.core
@pytest.mark.parametrize("cell_id", ["7a3c90d1", "vscode-notebook-cell:/home/me/a%20notebook.ipynb#W2sZmlsZQ%3D%3D"])
def test_a_cell_that_is_run_again_cancels_its_job_and_says_so(held: Kernel, cell_id: str) -> None:
    """By the front end's name for it, as JupyterLab and VS Code send it. The results stay, and the new job runs."""
    assert said(run(held, START, cell_id)) == []
    assert said(run(held, "print(state(job))", "another cell")) == []
    assert said(run(held, START, cell_id)) == [SAID]
    assert held.value("[state(job) for job in jobs]") == ["cancelled", "running"]
    assert held.value("jobs[0].partial(fill=None)") == [0, 1, None, None, None]
    assert said(run(held, START, cell_id)) == [SAID]
    assert held.value("[state(job) for job in jobs]") == ["cancelled", "cancelled", "running"]


def test_without_a_name_of_the_cell_nothing_is_cancelled(held: Kernel) -> None:
    """A front end that does not say which cell it runs may run any."""
    run(held, START, None)
    assert said(run(held, START, None)) == []
    assert held.value("[state(job) for job in jobs]") == ["running", "running"]


@pytest.mark.core
def test_a_detached_job_runs_on(held: Kernel) -> None:
    """``detach=True`` says that it does not belong to the cell."""
    detached = START.replace("range(5)", "range(5), detach=True")
    run(held, detached, "one")
    assert said(run(held, detached, "one")) == []
    assert held.value("[state(job) for job in jobs]") == ["running", "running"]


def test_a_job_that_has_ended_is_not_spoken_of(held: Kernel) -> None:
    """In whatever way it ended."""
    source = "pmap(abs, [1]).result()\njob = pmap(hold, range(4))\njob.cancel()\nawait job.wait(10)"
    run(held, source, "one")
    assert said(run(held, source, "one")) == []


def test_many_calls_are_told_of_in_one_line(held: Kernel) -> None:
    """A loop over submits whose handles nobody keeps: a few are named, the rest counted, and all of them end."""
    source = "for x in range(2, 22):\n    aiopool.get_pool().submit(hold, x)\naiopool.last_job().name"
    run(held, source, "calls")
    assert held.value("len([job for job in aiopool.jobs() if not job.done()])") == 20
    lines = said(run(held, source, "calls"))
    one = "hold, started by the last run of this cell, was cancelled: 0 of 1 done"
    assert lines == [one, one, "18 others, started by the last run of this cell, were cancelled"]
    held.until(lambda: held.value("len([job for job in aiopool.jobs() if not job.done()])") == 20, "the end of the old")


def test_jobs_of_a_cells_tasks_are_the_cells_and_those_of_its_threads_are_nobodys(held: Kernel) -> None:
    """A task knows the cell that made it, also when it starts its job while another cell runs."""
    task = """
    async def start():
        await asyncio.sleep(0.2)
        jobs.append(job := pmap(hold, range(5)))
        BEGUN
        go_on.set()
    def start_in_thread():
        jobs.append(pmap(hold, range(5)))
    go_on = asyncio.Event()
    task = asyncio.create_task(start())
    """.replace("        BEGUN", "    " + BEGUN)
    run(held, task, "one")
    run(held, "await asyncio.wait_for(go_on.wait(), 10)", "two")
    thread = "thread = threading.Thread(target=start_in_thread)\nthread.start()\nthread.join()"
    run(held, thread, "three")
    assert said(run(held, "pass", "two")) == []
    assert said(run(held, "pass", "three")) == []
    assert held.value("[state(job) for job in jobs]") == ["running", "running"]
    assert said(run(held, "pass", "one")) == [SAID]
    assert held.value("[state(job) for job in jobs]") == ["cancelled", "running"]


def test_a_cell_within_a_cell_cancels_nothing(held: Kernel) -> None:
    """``get_ipython().run_cell(...)`` runs inside of the cell, and is no second run of it."""
    source = f"{START}\n_ = get_ipython().run_cell('1 + 1')"
    assert said(run(held, source, "one")) == []
    assert held.value("[state(job) for job in jobs]") == ["running"]
    assert said(run(held, source, "one")) == [SAID]


def test_a_retry_belongs_to_the_cell_that_started_the_retry(held: Kernel) -> None:
    """And no longer to that of the first job."""
    run(held, START, "one")
    again = "jobs[0].cancel()\nawait jobs[0].wait(10)\njobs.append(jobs[0].retry())"
    run(held, again, "two")
    assert said(run(held, "pass", "one")) == []
    assert held.value("[state(job) for job in jobs]") == ["cancelled", "running"]
    assert said(run(held, "pass", "two")) == [SAID]


def test_an_awaited_job_that_is_cancelled_so_says_it_to_who_awaits_it(held: Kernel) -> None:
    """A task of the old run gets a JobCancelled."""
    run(held, f"{START}\nasync def wait():\n    await job\ntask = asyncio.create_task(wait())", "one")
    run(held, "pass", "one")
    assert held.value("await asyncio.wait([task], timeout=10)\ntype(task.exception()).__name__") == "JobCancelled"


def test_the_cell_that_imports_aiopool_knows_its_jobs_too(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has begun before anything of ours was there."""
    monkeypatch.setattr(harness, "FIRST_CELL", "import asyncio, time\njobs = []\n")
    kernel = kernels.fresh()
    try:
        kernel.run(HOLD)
        source = f"import aiopool\nfrom aiopool import pmap\naiopool.configure(workers=1)\n{START}"
        run(kernel, source, "one")
        assert said(run(kernel, source, "one")) == [SAID]
        assert kernel.value("[state(job) for job in jobs]") == ["cancelled", "running"]
    finally:
        kernel.close()
