"""A notebook that was saved with its panels, opened again: by somebody who runs nothing, and who need not trust it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from playwright.sync_api import BrowserContext, expect

from tests.browser.notebook import Cell, Notebook

pytestmark = pytest.mark.browser

FETCH = """
async def fetch(n):
    await asyncio.sleep(0.1)
    if n % 10 == 3:
        raise ValueError(f"no <b>page</b> {n}")
    return n
"""


WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def open_again(notebook: Notebook, context: BrowserContext) -> Iterator[Callable[[str], Notebook]]:
    """Open a notebook of the folder in a page of its own, which must go well."""
    pages: list[Notebook] = []

    def open_one(name: str) -> Notebook:
        pages.append(Notebook(context.new_page(), notebook.server))
        return pages[-1].open(name)

    yield open_one
    for one in pages:
        one.page.close()
    for one in pages:
        one.assert_no_errors()


def copy_of(path: Path) -> str:
    """The same notebook under another name, so that it gets a kernel of its own, in which nothing has run."""
    path.with_name("again.ipynb").write_bytes(path.read_bytes())
    return "again.ipynb"


def saved_output(path: Path, cell: Cell) -> NotebookNode:
    """What the file has under a cell."""
    (output,) = nbformat.read(path, as_version=4).cells[cell.index].outputs
    return output


def test_a_notebook_saved_at_once_and_opened_again_shows_how_its_jobs_ended(notebook, open_again, screenshot):
    """HTML in the place of the panel, with the failures; and no error of a user's is markup.

    On the page itself the panel stays, with its buttons.
    """
    notebook.run(FETCH)
    cell = notebook.run("pages = await pmap(fetch, range(30), concurrency=2, on_error='return')")
    cell.panel.wait_for_line("27 done, 3 failed")
    path = notebook.save()
    output = saved_output(path, cell)
    assert output.data.keys() == {"text/html", "text/plain"}
    assert "fetch: 27 done, 3 failed" in output.data["text/plain"]
    assert cell.panel.has_button("Retry fetch")
    cell.panel.open_details()

    output = Cell(open_again(copy_of(path)), cell.index).output
    expect(output).to_contain_text("fetch: 27 done, 3 failed")
    output.get_by_text("ValueError").first.click()
    expect(output).to_contain_text('raise ValueError(f"no <b>page</b> {n}")')
    expect(output.locator(".aiopool")).to_have_count(0)
    screenshot("saved")


def test_a_notebook_saved_while_a_job_runs_shows_how_far_it_was(notebook, open_again):
    """Where the kernel is gone: the bar as HTML, no more than a few seconds old, and no error."""
    notebook.run(f"{FETCH}\nimport aiopool.jupyter.drawing\naiopool.jupyter.drawing.PAGE_EVERY = 0.5")
    cell = notebook.run("job = pmap(fetch, [n for n in range(4000) if n % 10 != 3], concurrency=2)")
    panel = cell.panel.wait_until_shown()
    expect(panel.job("fetch").count).to_have_text(re.compile(r"\d\d / 3,600"))
    path = notebook.save()
    output = saved_output(path, cell)
    assert WIDGET_VIEW not in output.data
    assert re.search(r"fetch: \d+ / 3,600", output.data["text/plain"])
    panel.job("fetch").moves(3)
    again = Cell(open_again(copy_of(path)), cell.index)
    expect(again.output).to_contain_text(re.compile(r"fetch.*\d+ / 3,600"))
    notebook.run("job.cancel()")


def test_a_notebook_saved_after_its_kernel_has_ended_says_so(notebook, open_again):
    """Of the jobs that ran and of the pool, with what had failed; nothing that the page writes there is markup."""
    notebook.run(FETCH)
    cell = notebook.run("job = pmap(fetch, range(4000), concurrency=2, on_error='return', desc='<i>all</i>')")
    board = notebook.run("aiopool.get_pool().dashboard()")
    expect(cell.panel.job("<i>all</i>").under).to_contain_text("failed")
    expect(board.dashboard.job("<i>all</i>").root).to_be_visible()
    path = notebook.save()
    notebook.restart()
    expect(cell.panel.job("<i>all</i>").under).to_contain_text("ended with the kernel")
    assert notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty")
    notebook.save()
    text = saved_output(path, board).data["text/plain"]
    assert text.startswith("Pool shared: ended with the kernel\n<i>all</i>: ended with the kernel, ")

    again = Cell(open_again(copy_of(path)), cell.index).output
    expect(again).to_contain_text(re.compile(r"<i>all</i>: ended with the kernel, \d+ / 4,000, .*\d failed"))
    expect(again).not_to_contain_text("in flight")
    again.get_by_text("ValueError").first.click()
    expect(again).to_contain_text('raise ValueError(f"no <b>page</b> {n}")')


@pytest.mark.parametrize("server", ["lab"], indirect=True)
def test_a_panel_of_long_ago_is_html_on_a_page_loaded_again(notebook, open_again):
    """The kernel lets go of its widget, and knows no place in this page: the page itself puts the HTML there."""
    notebook.run(f"{FETCH}\nimport aiopool.jupyter.stage\naiopool.jupyter.stage.MOST_WIDGETS = 1")
    cell = notebook.run("pages = await pmap(fetch, range(30), concurrency=2, on_error='return')")
    cell.panel.wait_for_line("27 done, 3 failed")
    again = Cell(open_again(notebook.save().name), cell.index)
    again.panel.wait_for_line("27 done, 3 failed")
    notebook.run("pages = await pmap(fetch, range(30), concurrency=2, on_error='return')")
    for each in (cell, again):
        expect(each.output.locator(".aiopool")).to_have_count(0)
        each.shows("27 done, 3 failed")


# Last: afterwards the file is no longer as the first page has left it, and to save that would ask.
def test_a_page_loaded_again_finds_panel_and_dashboard_in_the_kernel(notebook, open_again):
    """While the kernel lives the notebook that was saved as HTML has its widgets back; the buttons of both work."""
    notebook.run(FETCH)
    cell = notebook.run("job = pmap(fetch, [n for n in range(4000) if n % 10 != 3], concurrency=2)")
    cell.panel.wait_until_shown()
    board = notebook.run("aiopool.get_pool().dashboard()")
    board.dashboard.job("fetch")
    path = notebook.save()
    assert not [output for each in (cell, board) if WIDGET_VIEW in (output := saved_output(path, each)).data]

    again = open_again(path.name)
    panel = Cell(again, cell.index).panel.wait_until_shown()
    panel.job("fetch").moves(3)
    expect(Cell(again, board.index).dashboard.workers).to_have_count(2)
    # To open it was no change of the user's.
    assert not again.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty")
    panel.press("Cancel fetch")
    panel.wait_for_line("cancelled")
    cell.panel.wait_for_line("cancelled")
    again.save()
    assert "cancelled" in saved_output(path, cell).data["text/plain"]
