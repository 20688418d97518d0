"""Whatever code a page shows, it runs: from top to bottom, as in one notebook, with data that every machine has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import aiopool
from tests.meta import pages

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {ROOT / "docs" / "testing.md"}  # tests/faults/test_testing.py runs it, as pytest does
SHOWN = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if page not in ELSEWHERE and pages.blocks(page)
]


def name(path: Path) -> str:
    """Name a file in a test's id."""
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    """All pages share one pool, as cells of a notebook do, of two workers; nothing of it stays."""
    aiopool.configure(workers=2)
    yield
    pool = aiopool.get_pool()
    pool.terminate()
    pool.join(20)
    aiopool.configure(workers=None)


@pytest.mark.parametrize("page", SHOWN, ids=name)
async def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """A reader who types what stands there gets no error, or the one that is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        await pages.play(page, tmp_path)
    finally:
        for file in tmp_path.glob("*.py"):
            sys.modules.pop(file.stem, None)


@pytest.mark.parametrize("page", SHOWN, ids=name)
def test_what_is_not_run_says_why(page):
    """A block that nobody runs rots: there must be a reason to have it all the same."""
    assert [block.line for block in pages.blocks(page) if block.mark == "not run" and len(block.word) < 10] == []


def test_a_block_that_fails_is_seen(tmp_path):
    """What stands above a block is read, and so is what it does."""
    page = tmp_path / "page.md"
    page.write_text("<!-- raises: ZeroDivisionError -->\n```python\n1 / 0\n```\n\n```python\nundefined\n```\n")
    first, second = pages.blocks(page)
    assert (first.mark, first.word, second.mark, second.line) == ("raises", "ZeroDivisionError", "", 6)


async def test_a_page_whose_code_fails_fails(tmp_path, monkeypatch):
    """At the line at which it stands on the page."""
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nawait pmap(parse, pages, on_error='return')\n```\n\n```python\nundefined\n```\n")
    with pytest.raises(NameError) as caught:
        await pages.play(page, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 6
