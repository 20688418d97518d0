"""Ending a job from a front end: Cancel, Stop, running the cell again, restarting the kernel."""

from __future__ import annotations

import os
import time

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.notebook import SOON, Notebook

pytestmark = pytest.mark.browser

JOBS = """
async def slow(x):
    if not Path("hurry").exists():
        await asyncio.sleep(0.1)
    return x

def computes(x):
    time.sleep(0.1)
    return x
"""


@pytest.fixture(autouse=True)
def _functions(notebook: Notebook) -> None:
    notebook.run(JOBS)


@pytest.mark.parametrize("function", ["slow", "computes"])
def test_cancel_ends_a_cell_that_awaits_soon(notebook, figure, screenshot, function):
    """The prompt is back, the error is the one that says who ended it, and what had finished is kept."""
    cell = notebook.start(f"await pmap({function}, range(500), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    panel.job(function).moves(3)
    pressed = panel.press(f"Cancel {function}")
    cell.finish()
    took = time.monotonic() - pressed
    figure("Cancel while a cell awaits", took)
    assert took < SOON
    panel.wait_for_line("cancelled")
    cell.shows("JobCancelled")
    screenshot()
    assert int(notebook.value("len([x for x in aiopool.last_job().partial() if x is not aiopool.MISSING])")) > 2


def test_cancel_ends_a_job_in_the_background(notebook, figure):
    """While nothing runs in the kernel at all."""
    cell = notebook.run("job = pmap(slow, range(500), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    pressed = panel.press("Cancel slow")
    figure("Cancel in the background", panel.wait_for_line("cancelled") - pressed)
    assert notebook.value("job.snapshot().state") == "cancelled"


def test_pause_holds_a_job_until_resume(notebook):
    """The count stands still; then it goes on to the end."""
    cell = notebook.start("r = await pmap(slow, range(1_000), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    panel.press("Pause slow")
    expect(panel.root.get_by_role("button", name="Resume slow")).to_be_visible()
    job = panel.job("slow")
    expect(job.under).to_contain_text("paused")
    # What was running when it was pressed runs on.
    expect(job.under).not_to_contain_text("in flight")
    before = job.done
    assert job.widths(0.8) == job.widths(0.1)
    assert job.done == before
    panel.press("Resume slow")
    notebook.hurry()
    cell.finish()
    panel.wait_for_line("1,000 done")


def test_cancel_ends_a_cell_that_blocks_soon(notebook, figure, screenshot):
    """The click comes to a thread of its own, which the cell does not hold."""
    cell = notebook.start("pmap(slow, range(500), concurrency=2).result()")
    panel = cell.panel.wait_until_shown()
    pressed = panel.press("Cancel slow")
    cell.finish()
    took = time.monotonic() - pressed
    figure("Cancel while a cell blocks", took)
    assert took < SOON
    panel.wait_for_line("cancelled")
    screenshot()


def test_a_click_that_comes_before_the_subshell_is_heard_before_the_cell_ends(notebook, figure):
    """JupyterLab has asked for a thread for clicks and has none yet: the first waits for the cell, another does not."""
    notebook.run(
        """
        import asyncio
        handlers = get_ipython().kernel.control_handlers
        make = handlers["create_subshell_request"]

        async def make_late(*args):
            await asyncio.sleep(2)
            await make(*args)

        handlers["create_subshell_request"] = make_late
        """
    )
    cell = notebook.start("pmap(slow, range(500), concurrency=2).result()")
    panel = cell.panel.wait_until_shown()
    pressed = panel.press("Cancel slow")
    cell.finish()
    figure("Cancel before the subshell is there", time.monotonic() - pressed)
    panel.wait_for_line("cancelled")


def test_a_kernel_that_hears_no_click_is_told_to_be_stopped(notebook, figure, screenshot):
    """The panel says so and names Stop, which works."""
    notebook.run("import comm.base_comm\ncomm.base_comm.BaseComm.handle_msg = lambda *_: None")
    cell = notebook.start("pmap(slow, range(500), concurrency=2).result()")
    panel = cell.panel.wait_until_shown()
    panel.press("Cancel slow")
    expect(panel.root.get_by_role("status").filter(has_text="Press Stop")).to_be_visible()
    screenshot()
    pressed = time.monotonic()
    notebook.stop()
    cell.finish()
    figure("Stop while a cell blocks", time.monotonic() - pressed)
    panel.wait_for_line("500")


def test_stop_ends_the_job_that_the_cell_awaits(notebook, figure, screenshot):
    """One line of what was done, one of how to go on; the panel says the same, and nothing else is red."""
    cell = notebook.start("await pmap(slow, range(500), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    pressed = time.monotonic()
    notebook.stop()
    cell.finish()
    took = time.monotonic() - pressed
    figure("Stop while a cell awaits", took)
    panel.wait_for_line("stopped")
    cell.shows("Stopped: ")
    screenshot()
    assert took < SOON
    expect(cell.output.get_by_text("Traceback")).to_have_count(0)


def test_running_the_cell_again_replaces_its_job(notebook, screenshot):
    """The job of the last run is cancelled and said to be; the new one has a panel of its own."""
    cell = notebook.run("job = pmap(slow, range(500), concurrency=2)")
    cell.panel.wait_until_shown()
    cell.run()
    cell.shows("started by the last run of this cell, was cancelled")
    panel = cell.panel.wait_until_shown()
    panel.job("slow").moves(3)
    expect(cell.output.locator(".aiopool")).to_have_count(1)
    screenshot()
    notebook.run("job.cancel()")
    panel.wait_for_line("cancelled")


def test_a_kernel_that_was_held_looks_alive_again_by_itself(notebook, screenshot):
    """A call into C that keeps the interpreter's lock: nothing is heard meanwhile, and nothing can be pressed."""
    cell = notebook.run("job = pmap(slow, range(5_000), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    # To open a pipe takes until somebody opens its other end.
    pipe = notebook.server.notebooks / "held"
    os.mkfifo(pipe)
    holds = notebook.start(f"import ctypes\nos.close(ctypes.PyDLL(None).open({bytes(pipe)!r}, os.O_RDONLY))")
    silence = panel.root.get_by_role("status").filter(has_text="No news")
    expect(silence).to_be_visible()
    expect(panel.job("slow").under).to_contain_text("no news")
    screenshot()
    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    holds.finish()
    expect(silence).to_have_count(0)
    panel.job("slow").moves(3)
    panel.press("Cancel slow")
    panel.wait_for_line("cancelled")


def test_a_kernel_that_dies_is_shown_to_have_ended(notebook):
    """Not restarted by anybody: killed, and started anew by the server."""
    cell = notebook.run("job = pmap(slow, range(500), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    notebook.start("import signal\nos.kill(os.getpid(), signal.SIGKILL)")
    expect(panel.job("slow").under).to_contain_text("ended with the kernel")
    notebook.page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()
    notebook.await_kernel()


def test_a_kernel_that_restarts_leaves_what_was_shown(notebook, screenshot):
    """The last picture stays under the cell, as that of a job that ended with the kernel; so it is saved.

    Nothing can be pressed any more, and the next job has a panel again. The dashboard says the same.
    """
    cell = notebook.run("job = pmap(slow, range(500), concurrency=2)")
    panel = cell.panel.wait_until_shown()
    board = notebook.run("aiopool.get_pool().dashboard()").dashboard
    expect(board.job("slow").root).to_be_visible()
    notebook.restart()
    for view in (panel, board):
        expect(view.root.get_by_role("status").filter(has_text="The kernel has ended.")).to_be_visible()
        expect(view.job("slow").under).to_contain_text("ended with the kernel")
        expect(view.job("slow").under).not_to_contain_text("left")
        expect(view.job("slow").count).to_contain_text("/ 500")
        view.root.get_by_role("button", name="Cancel slow").click(force=True)
    screenshot()
    expect(board.size).to_be_disabled()
    shown = panel.job("slow").done
    output = nbformat.read(notebook.save(), as_version=4).cells[cell.index].outputs[-1]
    assert f"slow: ended with the kernel, {shown} / 500" in output.data["text/plain"]
    assert "slow: ended with the kernel" in output.data["text/html"]
    assert "in flight" not in output.data["text/html"]
    notebook.run("import asyncio\nfrom pathlib import Path\nfrom aiopool import pmap")
    notebook.run(JOBS)
    again = notebook.start("r = await pmap(slow, range(20), concurrency=1)")
    again.panel.wait_until_shown()
    again.finish()
    again.panel.wait_for_line("20 done")
