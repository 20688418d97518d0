"""The panel under a cell, in JupyterLab and in Notebook 7: it moves, folds, opens, and stays when it is done."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import Notebook

pytestmark = pytest.mark.browser

JOBS = """
async def slow(x):
    if not Path("hurry").exists():
        await asyncio.sleep(0.1)
    return x

async def uneven(x):
    if not Path("hurry").exists():
        await asyncio.sleep(0.05)
    if x % 3 == 1:
        raise ValueError(f"<b>no</b> {x}")
    if x % 10 == 0:
        raise KeyError(x)
    return x
"""


@pytest.fixture(autouse=True)
def _functions(notebook: Notebook) -> None:
    notebook.run(JOBS)


def test_the_bar_moves_while_another_cell_blocks(notebook, screenshot):
    """A job in the background, and a cell that sleeps in Python."""
    cell = notebook.run("job = pmap(slow, range(4_000), concurrency=4)")
    job = cell.panel.wait_until_shown().job("slow")
    with notebook.blocked():
        widths = job.moves(10)
        screenshot()
    assert widths == sorted(widths)
    notebook.run("job.cancel()")


def test_the_bar_moves_while_its_own_cell_awaits(notebook, request):
    """A cell that waits: the bar moves ten times a second or nearly, where nobody else wants the machine."""
    cell = notebook.start("pages = await pmap(slow, range(1_000), concurrency=2)")
    job = cell.panel.wait_until_shown().job("slow")
    begun = time.monotonic()
    widths = job.moves(10)
    request.node.user_properties.append(("ten moves of a bar", f"{time.monotonic() - begun:.2f} s"))
    assert widths == sorted(widths)
    notebook.hurry()
    cell.finish()
    cell.panel.wait_for_line("slow: 1,000 done")


def test_the_panel_comes_half_a_second_in_and_leaves_one_line(notebook, screenshot):
    """Nothing under a job that was done before; a panel under one that was not, and at the end a line of text."""
    notebook.run("r = await pmap(slow, range(10), concurrency=2, progress=False)")  # The workers have started then.
    # However slow the machine is, this job is done before; the next one is not.
    notebook.run("from aiopool._runtime import views\nafter, views.SHOW_AFTER = views.SHOW_AFTER, 600")
    quick = notebook.run("r = await pmap(abs, range(2))")
    assert quick.text == ""
    notebook.run("assert after == 0.5\nviews.SHOW_AFTER = after")
    cell = notebook.start("r = await pmap(slow, range(1_000), concurrency=1)")
    cell.panel.wait_until_shown()
    expect(cell.panel.workers.first).to_be_visible()
    screenshot("running")
    notebook.hurry()
    cell.finish()
    cell.panel.wait_for_line("slow: 1,000 done")
    expect(cell.panel.jobs).to_have_count(0)
    expect(cell.panel.workers.first).to_be_hidden()
    assert cell.text.strip().count("\n") <= 1, cell.text
    screenshot("done")


def test_the_panel_of_a_job_that_ends_is_not_drawn_anew(notebook):
    """What somebody has opened or chosen in it stays, and the focus where it was."""
    cell = notebook.start("r = await pmap(uneven, range(1_000), concurrency=2, on_error='return')")
    cell.panel.wait_until_shown().root.evaluate("(root) => { root.dataset.was = 'there'; }")
    notebook.hurry()
    cell.finish()
    cell.panel.wait_for_line("failed")
    cell.panel.open_details()
    notebook.run("await asyncio.sleep(0.6)")
    expect(cell.panel.root).to_have_attribute("data-was", "there")
    expect(cell.panel.failures.first).to_be_visible()


def test_the_fold_is_remembered_by_the_next_panel(notebook, screenshot):
    """Bars only, with workers, everything: whatever was chosen last is how the next panel opens."""
    cell = notebook.start("await pmap(slow, range(1_000), concurrency=1)")
    panel = cell.panel.wait_until_shown()
    assert panel.fold == "Workers"
    panel.choose("Bar")
    expect(panel.workers.first).to_be_hidden()
    notebook.stop()
    cell.finish()
    again = notebook.start("await pmap(slow, range(1_000), concurrency=1)")
    panel = again.panel.wait_until_shown()
    assert panel.fold == "Bar"
    expect(panel.jobs).to_have_count(1)
    expect(panel.workers.first).to_be_hidden()
    panel.choose("All")
    expect(panel.workers.first).to_be_visible()
    screenshot()
    notebook.stop()
    again.finish()


def test_failures_stand_in_groups_and_a_traceback_opens(notebook, screenshot):
    """By type and line, with a count and three inputs; the traceback on a click, with the user's line; escaped."""
    cell = notebook.run("r = await pmap(uneven, range(40), concurrency=1, on_error='return')")
    panel = cell.panel
    panel.wait_for_line("failed")
    panel.open_details()
    expect(panel.failures).to_have_count(2)
    group = panel.failures.first
    expect(group).to_contain_text(re.compile("13\\s*\N{MULTIPLICATION SIGN}\\s*ValueError"))
    expect(group).to_contain_text(re.compile(r"<b>no</b> \d"))
    expect(group.locator(".inputs")).to_have_text(re.compile(r"^(item \d+: \d+ · ){3}and 10 more$"))
    group.get_by_role("button").first.click()
    trace = group.get_by_label("Traceback")
    expect(trace).to_contain_text('raise ValueError(f"<b>no</b> {x}")')
    expect(trace).not_to_contain_text("aiopool/_worker")
    screenshot()
    # How to try it here is a line that can be run as it stands.
    hint = group.locator(".hint code").inner_text()
    tried = notebook.start(hint).finish()
    tried.shows("ValueError")


def test_retry_runs_what_has_failed(notebook, screenshot):
    """One click runs the items without a value; the line of the retry says that all are there."""
    notebook.run("broken = Path('broken')\nbroken.touch()")
    notebook.run(
        """
        def mended(x):
            time.sleep(0.1)
            if x % 5 == 0 and Path("broken").exists():
                raise OSError(f"no answer for {x}")
            return x
        """
    )
    cell = notebook.run("r = await pmap(mended, range(30), on_error='return')")
    cell.panel.wait_for_line("24 done, 6 failed")
    screenshot("failed")
    notebook.run("broken.unlink()")
    cell.panel.press("Retry mended")
    cell.panel.wait_for_line("30 done")
    screenshot("retried")
    assert notebook.value("aiopool.last_job().result() == list(range(30))") == "True"


def test_a_job_shown_in_a_later_cell_is_a_second_view(notebook, screenshot):
    """Both move, both have buttons, and both end in the same line."""
    first = notebook.run("job = pmap(slow, range(2_000), concurrency=2)")
    second = notebook.run("job")
    for cell in (first, second):
        cell.panel.wait_until_shown().job("slow").moves(3)
    screenshot()
    second.panel.press("Cancel slow")
    first.panel.wait_for_line("cancelled")
    second.panel.wait_for_line("cancelled")


def test_maps_and_calls_of_one_cell_share_a_panel(notebook, screenshot):
    """A row for each map, one for all calls of a function, in one panel."""
    cell = notebook.start(
        """
        pool = aiopool.get_pool()
        maps = [pmap(slow, range(20), concurrency=1, desc=name) for name in ("first", "second")]
        calls = [pool.submit(slow, n) for n in range(30)]
        results = await asyncio.gather(*maps, *calls)
        """
    )
    panel = cell.panel.wait_until_shown()
    screenshot()
    cell.finish()
    expect(cell.output.locator(".aiopool")).to_have_count(1)
    for text in ("first: 20 done", "second: 20 done", "slow: 30 calls"):
        panel.wait_for_line(text)


def test_a_panel_stands_in_a_layout_of_the_users(notebook, screenshot):
    """In an ipywidgets VBox the dashboard is a widget like any other."""
    notebook.run("job = pmap(slow, range(2_000), concurrency=2)")
    cell = notebook.run(
        """
        import ipywidgets
        ipywidgets.VBox([ipywidgets.Label("mine"), aiopool.get_pool().dashboard()])
        """
    )
    expect(cell.output.get_by_text("mine", exact=True)).to_be_visible()
    expect(cell.dashboard.workers).to_have_count(2)
    cell.dashboard.job("slow").moves(3)
    screenshot()
    notebook.run("job.cancel()")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_can_be_read_in_light_and_in_dark(notebook, screenshot, theme):
    """Every text of a panel stands out from what is behind it, by the measure of WCAG AA."""
    notebook.use_theme(theme)
    try:
        cell = notebook.start("r = await pmap(uneven, range(2_000), concurrency=2, on_error='return')")
        panel = cell.panel.wait_until_shown()
        panel.choose("All")
        expect(panel.failures).to_have_count(2)
        weak = panel.root.evaluate(_WEAK_TEXTS)
        screenshot(theme.rpartition(" ")[2].lower())
        notebook.hurry()
        cell.finish()
        panel.wait_for_line("failed")
        weak += panel.root.evaluate(_WEAK_TEXTS)
        assert weak == []
    finally:
        notebook.use_theme("JupyterLab Light")


_WEAK_TEXTS = """(root) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parts = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, under) => top.slice(0, 3).map((part, i) => part * top[3] / 255 + under[i] * (1 - top[3] / 255));
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.unshift(parts(getComputedStyle(one).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.reduce((sum, part, i) => sum + linear(part / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const weak = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest('.unseen, canvas')) continue;
    const back = behind(node), front = over(parts(getComputedStyle(node).color), back);
    const [dark, bright] = [light(front), light(back)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) weak.push(`${text.data.trim().slice(0, 30)} (${node.className}): ${ratio.toFixed(2)}`);
  }
  return [...new Set(weak)];
}"""


def test_nothing_jumps_while_it_runs(notebook):
    """The panel keeps its height and its parts their places, from the first state to the last but one."""
    cell = notebook.start("r = await pmap(slow, range(2_000), concurrency=4)")
    panel = cell.panel.wait_until_shown()
    # Workers report for the first time a second after the job's begin: that may open a row, once.
    expect(panel.workers.filter(has_text=re.compile(r"\d [MG]B"))).to_have_count(2)
    boxes = [panel.root.bounding_box() for _ in range(15) if time.sleep(0.1) is None]
    notebook.stop()
    cell.finish()
    heights = [box["height"] for box in boxes if box]
    assert max(heights) - min(heights) < 1, heights
