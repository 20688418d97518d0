"""A ``%%aiopool`` cell in a front end: its panel, Stop, running it again, and Tab."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import SOON, Cell, Notebook

pytestmark = pytest.mark.browser

SLOW = """
%%aiopool x in range(500) -> squares --concurrency 2
await asyncio.sleep(0.1)
x * x
"""
NAME = "x in range(500)"


@pytest.fixture(autouse=True)
def _loaded(notebook: Notebook) -> None:
    notebook.run("%load_ext aiopool")


def stopped(notebook: Notebook, cell: Cell) -> float:
    """Press Stop while the cell runs; returns the seconds until the prompt was back."""
    panel = cell.panel.wait_until_shown()
    expect(panel.job(NAME).count).to_have_text(re.compile(r"^\s*[1-9]"))
    pressed = time.monotonic()
    notebook.stop()
    cell.finish()
    took = time.monotonic() - pressed
    panel.wait_for_line("stopped")
    cell.shows("Stopped: ")
    expect(cell.output.get_by_text("Traceback")).to_have_count(0)
    return took


def test_a_cell_shows_its_panel_is_stopped_and_runs_again(notebook, figure, screenshot):
    """One line says what was done and how to go on; no name is bound, and the next run begins anew."""
    cell = notebook.start(SLOW)
    took = stopped(notebook, cell)
    figure("Stop while an %%aiopool cell runs", took)
    assert took < SOON
    screenshot()
    assert notebook.value("'squares' in globals()") == "False"
    assert int(notebook.value("sum(x is not aiopool.MISSING for x in aiopool.last_job().partial())")) > 0
    assert stopped(notebook, cell.start()) < SOON
    notebook.run(SLOW.replace("500", "40")).panel.wait_for_line("40 done")
    assert notebook.value("squares == [x * x for x in range(40)]") == "True"


def test_cancel_in_its_panel_ends_a_cell(notebook):
    """The kernel awaits while the cell runs, and hears the click."""
    cell = notebook.start(SLOW)
    panel = cell.panel.wait_until_shown()
    panel.press(f"Cancel {NAME}")
    cell.finish()
    panel.wait_for_line("cancelled")
    cell.shows("JobCancelled")


def test_tab_completes_a_flag_and_its_word(notebook, screenshot):
    """As somebody types it, in the front end's own list."""
    (cell,) = notebook.add("%%aiopool x in range(3) --timeo")
    keyboard = notebook.page.keyboard
    editor, offered = cell.root.locator(".cm-content"), notebook.page.locator(".jp-Completer-match")
    editor.click()
    keyboard.press("End")
    keyboard.press("Tab")
    expect(offered).to_have_text(["--timeout"])
    keyboard.press("Enter")
    expect(editor).to_have_text("%%aiopool x in range(3) --timeout")
    keyboard.type(" 10 --on-error re")
    keyboard.press("Tab")
    expect(offered).to_have_text(["return"])
    screenshot()
    keyboard.press("Enter")
    expect(editor).to_have_text("%%aiopool x in range(3) --timeout 10 --on-error return")
