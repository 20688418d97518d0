"""The dashboard of a pool, in a real front end: workers, jobs, what they did, and what can be done to them."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import Notebook
from tests.browser.views import Dashboard

pytestmark = pytest.mark.browser


@pytest.fixture
def dashboard(notebook: Notebook) -> Dashboard:
    """The dashboard of the shared pool, on which a job of many small computations runs."""
    notebook.run(
        """
        def computes(x):
            time.sleep(0.1)
            return os.getpid()
        """
    )
    notebook.run("job = pmap(computes, range(2_000))")
    notebook.run("%load_ext aiopool")
    cell = notebook.run("%aiopool")
    expect(cell.dashboard.workers).to_have_count(2)
    return cell.dashboard


def test_the_pool_is_resized_from_the_dashboard(notebook, dashboard, screenshot):
    """Two more clicks, two more workers; a number typed in is taken, too."""
    dashboard.press("One worker more")
    dashboard.press("One worker more")
    expect(dashboard.workers).to_have_count(4)
    screenshot()
    dashboard.size.fill("1")
    dashboard.size.press("Enter")
    expect(dashboard.workers).to_have_count(1)
    assert notebook.value("len(aiopool.get_pool().workers)") == "1"


def test_workers_are_restarted_from_the_dashboard(notebook, dashboard):
    """One, and then all; the job that runs loses nothing."""
    notebook.run(
        """
        def pids():
            return {worker.info.pid for worker in aiopool.get_pool().workers}

        # One that starts is as good as one that was restarted, and is left alone.
        def has_started():
            return all(worker.info.state != "starting" for worker in aiopool.get_pool().workers)

        async def until(there):
            while not (has_started() and there()):
                await asyncio.sleep(0.05)

        first = pids()
        """
    )
    dashboard.press("Restart worker 0")
    notebook.run("await until(lambda: len(pids() - first) == len(pids() & first) == 1)\nsecond = pids()")
    dashboard.press("Restart all")
    notebook.run("await until(lambda: len(pids()) == 2 and not pids() & second)")
    assert notebook.value("job.snapshot().failed") == "0"


def test_the_stack_of_a_worker_is_shown(notebook, dashboard, screenshot):
    """Where it stands now, with the user's line."""
    notebook.run(
        """
        def rests(x):
            Path(f"rests {x}").touch()
            time.sleep(600)

        job.cancel()
        rest = pmap(rests, range(2), batch=1)
        while len(list(Path().glob("rests *"))) < 2:
            await asyncio.sleep(0.05)
        """
    )
    dashboard.press("Stack of worker 1")
    expect(dashboard.root.get_by_label("Stack", exact=True)).to_contain_text("time.sleep(600)")
    screenshot()


def test_it_goes_on_while_a_cell_blocks(notebook, dashboard):
    """The bar of the job moves and the timeline is painted, whatever the kernel does."""
    with notebook.blocked():
        dashboard.job("computes").moves(10)
    painted = dashboard.root.locator("canvas").evaluate(
        "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert painted > 8


def test_a_job_is_cancelled_from_the_dashboard(notebook, dashboard):
    """It leaves the dashboard, and the panel under its own cell says so."""
    dashboard.press("Cancel computes")
    expect(dashboard.jobs.get_by_role("button", name="Cancel computes")).to_have_count(0)
    # The button goes with the click, the job a moment later.
    notebook.run("await job.wait()")
    assert notebook.value("job.snapshot().state") == "cancelled"


@pytest.mark.parametrize("server", ["lab"], indirect=True)
def test_a_second_page_that_is_closed_takes_nothing_from_the_first(notebook, dashboard, context):
    """Two pages with the same dashboard: it goes on as long as one of them is there."""
    expect(dashboard.job("computes").bar).to_be_visible()
    name = notebook.save().name
    second = Notebook(context.new_page(), notebook.server)
    try:
        second.open(name)
        other = Dashboard(second.page.locator(".aiopool").last)
        other.job("computes").moves(3)
    finally:
        second.page.close()
    dashboard.job("computes").moves(6)
    second.assert_no_errors()
