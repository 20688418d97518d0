"""A notebook that was executed and saved says how its jobs ended, to whoever reads it without a kernel."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter
from traitlets import default

import aiopool
from tests import without

pytestmark = pytest.mark.kernel

CELLS = [
    """
    import asyncio, time
    import aiopool
    from aiopool import pmap
    aiopool.configure(workers=2)

    async def fetch(n):
        await asyncio.sleep(0.05)
        if n % 10 == 3:
            print("looking at", n)
            raise ValueError(f"no <page> {n}")
        return n
    """,
    "pages = await pmap(fetch, range(40), concurrency=2, on_error='return')",
    "job = pmap(fetch, range(100, 120), concurrency=1, desc='background', on_error='return')",
    "time.sleep(0.8)",
    "finished = await job.wait()",
]


class OwnKernelManager(AsyncKernelManager):
    """Starts the kernel of this very interpreter, whatever else is registered on the machine."""

    @default("kernel_spec_manager")
    def _only_ours(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share" / "jupyter" / "kernels")])


def executed(*sources: str, fails: bool = False) -> nbformat.NotebookNode:
    """Run cells as ``nbconvert --execute`` does, and return the notebook as it would be saved; one may fail."""
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(source).strip("\n")) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    source = str(Path(aiopool.__file__).resolve().parent.parent)
    client = NotebookClient(
        notebook,
        kernel_manager_class=OwnKernelManager,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"],
        timeout=60,
        allow_errors=fails,
    )
    client.execute(env=os.environ | {"PYTHONPATH": without.python_path(source)})
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    """A notebook with a job that was awaited and failed here and there, and one in the background."""
    return executed(*CELLS)


def bundles(cell: Any) -> list[dict[str, str]]:
    """What is displayed under a cell, by MIME type."""
    return [output["data"] for output in cell.outputs if "data" in output]


class Sanitised(HTMLParser):
    """What is left where scripts, styles, classes and attributes are taken out, as on GitHub; and the plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note which tags there are, and what attributes could do."""
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        """A piece of text."""
        self.text += data if self.tags[-1:] != ["style"] else ""


def test_what_is_saved_is_the_end_and_not_the_beginning(notebook: nbformat.NotebookNode) -> None:
    """The text and the page beside the widget are those of the last state, in every cell that showed a job."""
    (awaited,) = bundles(notebook.cells[1])
    (background,) = bundles(notebook.cells[2])
    for bundle, told in ((awaited, "fetch: 36 done, 4 failed"), (background, "background: 18 done, 2 failed")):
        # In the place of the HTML nbconvert's pages would draw a widget, with scripts from the net, or not at all.
        assert bundle.keys() == {"text/plain", "text/html"}
        for text in (bundle["text/plain"], bundle["text/html"]):
            assert told in text
            assert "ValueError" in text
        assert " left" not in bundle["text/html"]
    assert [bundles(cell) for cell in notebook.cells[3:]] == [[], []]


def test_prints_are_saved_under_the_cell_that_waited(notebook: nbformat.NotebookNode) -> None:
    """Labelled. What comes while another cell runs has no place in the file but the last lines of its panel."""
    printed = "".join(output.get("text", "") for output in notebook.cells[1].outputs)
    assert sorted(printed.splitlines()) == [f"[item {n}] looking at {n}" for n in (13, 23, 33, 3)]
    (background,) = bundles(notebook.cells[2])
    assert "[item 3] looking at 103\n[item 13] looking at 113" in background["text/html"]


def test_a_page_made_by_nbconvert_shows_the_end(notebook: nbformat.NotebookNode) -> None:
    """With the failures, their traceback and what was printed; what a user's error says is text, not markup."""
    page, _ = HTMLExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    body = re.sub(r"<(script|style).*?</\1>", "", page[page.index("<body") :], flags=re.DOTALL)
    text = Sanitised(body).text
    assert "fetch: 36 done, 4 failed" in text
    assert 'raise ValueError(f"no <page> {n}")' in text
    assert "<page>" not in body


def test_markdown_made_by_nbconvert_shows_the_end(notebook: nbformat.NotebookNode) -> None:
    """Which has no place for widgets either."""
    text, _ = MarkdownExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    assert "fetch: 36 done, 4 failed" in text
    assert "background: 18 done, 2 failed" in text


def test_it_reads_well_where_styles_and_scripts_are_taken_out(notebook: nbformat.NotebookNode) -> None:
    """As GitHub does: only tags that it lets through, nothing that a script or a style would have to put right."""
    (bundle,) = bundles(notebook.cells[1])
    page = Sanitised(bundle["text/html"])
    assert set(page.tags) <= {"b", "br", "code", "details", "div", "li", "pre", "summary", "ul"}
    assert page.text.startswith("fetch: 36 done, 4 failed")
    for told in ("item 3: 3", "item 13: 13", "item 23: 23", "and 1 more", "----> 10", "[item 33] looking at 33"):
        assert told in page.text


def test_a_job_that_failed_is_saved_as_it_was() -> None:
    """Beside the error that ended the cell."""
    notebook = executed(CELLS[0], "await pmap(fetch, [*range(4, 13), *range(14, 23), 3], concurrency=1)", fails=True)
    (bundle,) = bundles(notebook.cells[1])
    assert "fetch: 18 of 19, failed, 1 failed" in bundle["text/plain"]
    assert "ValueError, Cell In[1], line 10, in fetch: no <page> 3" in bundle["text/plain"]
    assert notebook.cells[1].outputs[-1].output_type == "error"
