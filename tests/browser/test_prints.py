"""What workers print and display, under the cell to which it belongs, in a real front end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import Notebook

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _functions(notebook: Notebook) -> None:
    notebook.run(
        """
        async def talks(x, who):
            for turn in range(5):
                print(f"{who} {x} {turn}")
                await asyncio.sleep(0.1)
        """
    )


def test_lines_of_two_jobs_stand_under_their_own_cells(notebook, screenshot):
    """Two cells whose jobs print at once, while a third one runs: none gets a line of another."""
    first = notebook.run("one = pmap(talks, range(4), ['ann'] * 4)")
    second = notebook.run("two = pmap(talks, range(4), ['bob'] * 4)")
    third = notebook.run("time.sleep(1.5)\nprint('mine')")
    for cell, who, other in ((first, "ann", "bob"), (second, "bob", "ann")):
        for x in range(4):
            cell.shows(f"[item {x}] {who} {x} 4")
        lines = re.findall(r"\[item (\d)\] (\w+) (\d) (\d)", cell.printed)
        assert len(lines) == 20
        assert {line[1] for line in lines} == {who}
        assert all(item == x for item, _, x, _ in lines)
        assert other not in cell.printed
    assert third.printed.strip() == "mine"
    screenshot()


def test_lines_go_to_the_cell_that_waits(notebook):
    """Started here, awaited there: what is printed from then on stands where somebody looks."""
    notebook.run(
        """
        async def talks_on(x, who):
            while x and not Path("awaited").exists():
                await asyncio.sleep(0.05)
            await talks(x, who)
        """
    )
    started = notebook.run("job = pmap(talks_on, range(20), ['ann'] * 20, concurrency=2)")
    started.shows("[item 0] ann 0 0")
    # The loop comes to this when the cell waits.
    waits = notebook.run("asyncio.get_running_loop().call_soon(Path('awaited').touch)\nawait job.wait()")
    waits.shows("[item 19] ann 19 4")
    assert "ann 19 4" not in started.text


def test_the_last_lines_are_in_the_panel_too(notebook, screenshot):
    """Labelled, escaped, in colour, the last fifty."""
    notebook.run(
        """
        def shouts(x):
            print(f"<b>item</b> {x} \\x1b[31mred\\x1b[0m")
            time.sleep(0.02)
            while x == 399 and not Path("seen").exists():
                time.sleep(0.02)
        """
    )
    cell = notebook.start("r = await pmap(shouts, range(400))")
    panel = cell.panel.wait_until_shown()
    panel.choose("All")
    expect(panel.prints.last).to_contain_text(re.compile(r"\[item \d+\] <b>item</b> \d+ red"))
    screenshot()
    (notebook.server.notebooks / "seen").touch()
    cell.finish()
    panel.wait_for_line("400 done")
    panel.open_details()
    expect(panel.prints).to_have_count(50)
    cell.shows("[item 399]")


def test_plots_and_tables_of_workers_are_displayed(notebook, screenshot):
    """``plt.show()`` shows a picture, ``display()`` a table, under the cell that waits."""
    notebook.run(
        """
        def draws(x):
            import matplotlib.pyplot as plt
            import pandas as pd
            from IPython.display import display
            plt.figure(figsize=(2, 1))
            plt.plot([0, x], [x, 0])
            plt.show()
            display(pd.DataFrame({"x": [x], "square": [x * x]}))
        """
    )
    cell = notebook.run("r = await pmap(draws, [3, 4])", seconds=90)
    expect(cell.output.locator("img")).to_have_count(2)
    expect(cell.output.locator("table")).to_have_count(2)
    expect(cell.output.locator("table").filter(has_text="16")).to_have_count(1)
    for picture in cell.output.locator("img").all():
        assert picture.evaluate("image => image.naturalWidth") > 50
    screenshot()


def test_a_bar_inside_an_item_shows_on_its_worker(notebook, screenshot):
    """A line that ends in a carriage return, as tqdm writes it, replaces the last one and floods nothing."""
    notebook.run(
        """
        def trains(x):
            step = 0
            while not Path("trained").exists():
                print(f"epoch {step}", end="\\r", flush=True)
                step += 1
                time.sleep(0.02)
            aiopool.report(0.75, "nearly")
            while not Path("reported").exists():
                time.sleep(0.02)
        """
    )
    cell = notebook.start("r = await pmap(trains, range(2))")
    panel = cell.panel.wait_until_shown()
    expect(panel.workers.first).to_contain_text(re.compile(r"epoch \d+"))
    screenshot("line")
    (notebook.server.notebooks / "trained").touch()
    expect(panel.workers.first).to_contain_text("nearly")
    expect(panel.workers.first.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "75")
    screenshot("report")
    (notebook.server.notebooks / "reported").touch()
    cell.finish()
    assert cell.printed.count("epoch") <= 4
