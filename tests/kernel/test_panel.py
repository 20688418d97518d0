"""The panel of a cell's jobs: when it appears, what it says, what its buttons do, and what is left of it."""

from __future__ import annotations

import re
from typing import Any

import ipykernel
import pytest

from tests.kernel.harness import DEADLINE, Cell, Kernel, Signs, patient

pytestmark = pytest.mark.kernel

VERSION = tuple(map(int, ipykernel.__version__.split(".")[:2]))

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

HELD = """
async def held(x):
    open(os.path.join(SIGNS, str(x)), "a").close()
    while not os.path.exists(os.path.join(SIGNS, "go")):
        await asyncio.sleep(0.01)
    return x
async def picky(x):
    await held(x)
    if x % 3 == 2:
        raise ValueError(f"no page {x}")
    return x
"""


@pytest.fixture
def working(kernel: Kernel, signs: Signs) -> Kernel:
    """A kernel with functions whose items end when they are allowed to go."""
    kernel.run(HELD)
    return kernel


def ended(state: dict[str, Any]) -> bool:
    """Whether it has folded."""
    return not state["live"]


def shown_and_done(kernel: Kernel) -> Cell:
    """A cell with a job that ends as soon as its panel is there, however slow the machine is."""
    kernel.run("def waits(_):\n    while not os.path.exists('go'):\n        time.sleep(0.01)")
    cell = kernel.begin("await pmap(waits, [1])")
    cell.wait_for(lambda cell: cell.panels, "its panel")
    (kernel.cwd / "go").touch()
    cell.finish()
    assert cell.error is None, cell.traceback
    (kernel.cwd / "go").unlink()
    return cell


# --- when it is there ----------------------------------------------------------------------------------------------


@pytest.mark.core
def test_it_appears_half_a_second_in_and_moves_ten_times_a_second_at_most(working: Kernel, signs: Signs) -> None:
    """One display with widget, HTML and text; the state goes by the widget; at the end all three say how it ended."""
    working.run("_ = await aiopool.get_pool().broadcast(os.getpid)\nimport aiopool.jupyter.widget")
    cell = working.begin("await pmap(held, range(3), desc='reading')")
    widget = cell.widget()
    widget.wait_for(lambda _: len(widget.states) >= 5, "five states")
    signs.allow("go")
    cell.finish()
    assert cell.value == [0, 1, 2]
    (panel,) = cell.panels
    assert cell.displays == []
    assert 0.5 <= panel.sent[0] - cell.began < 10
    gaps = sorted(b - a for a, b in zip(widget.sent, widget.sent[1:-2], strict=False))
    assert gaps[len(gaps) // 2] > 0.07
    first, last = widget.states[0], widget.state
    assert (first["live"], first["visible"], first["fold"], len(first["workers"])) == (True, True, 1, 2)
    (row,) = first["jobs"]
    assert (row["name"], row["count"], row["state"], row["buttons"]) == (
        "reading",
        "0 / 3",
        "running",
        ["pause", "cancel"],
    )
    assert (last["live"], last["workers"], last["jobs"][0]["state"], last["jobs"][0]["buttons"]) == (
        False,
        [],
        "done",
        [],
    )
    assert panel.data[-1].keys() == {"text/plain", "text/html", WIDGET_VIEW}
    assert panel.texts[-1].startswith("reading: 3 done, ")
    assert "reading: 3 done, " in panel.data[-1]["text/html"]


@pytest.mark.core
def test_a_job_that_is_done_at_once_shows_nothing(working: Kernel) -> None:
    """Awaited; and in the background there is no more than an empty text."""
    working.run("await aiopool.get_pool().broadcast(os.getpid)")  # The workers have started then.
    with patient(working):
        assert working.run("await pmap(abs, range(200))\nawait asyncio.sleep(2.7)").panels == []
        cell = working.run("job = pmap(abs, range(200))")
        working.run("await job\nawait asyncio.sleep(2.7)")
    assert [panel.texts for panel in cell.panels] in ([], [[""]])


@pytest.mark.core
def test_a_background_job_appears_in_the_place_that_its_cell_has_kept(working: Kernel, signs: Signs) -> None:
    """Though another cell runs by then, and blocks; it moves on meanwhile, and ends there."""
    cell = working.run("job = pmap(held, range(3))")
    assert [panel.texts for panel in cell.panels] == [[""]]
    other = working.begin("while 'unblock' not in signed():\n    time.sleep(0.05)")
    widget = cell.widget()
    widget.wait_for(lambda _: len(widget.states) >= 4, "states while the kernel blocks")
    assert other.ended is None
    signs.allow("unblock")
    other.finish()
    last = working.run_any("sign('go')\nawait job")
    assert last.value == [0, 1, 2]
    widget.wait_for(ended, "the end")
    cell.wait_for(lambda cell: cell.panels[0].texts[-1].startswith("held: 3 done, "), "the last line")
    assert len(cell.panels) == 1
    assert other.panels == last.panels == []


def test_progress_says_whether_and_how(working: Kernel, signs: Signs) -> None:
    """False: nothing, "text": one line; what workers print comes all the same."""
    cell = working.begin("await pmap(held, range(3), progress=False)")
    signs.wait_for(3)
    working.until(lambda: working.read_message(1.0) is None, "a second")
    assert cell.panels == cell.displays == []
    signs.allow("go")
    cell.finish()
    signs.forbid("go")
    cell = working.begin(
        "async def slow(x):\n    print('hello')\n    await held(x)\nawait pmap(slow, [1], progress='text')"
    )
    cell.wait_for(lambda cell: cell.displays and "slow: 0 of 1, 1 in flight" in cell.displays[0].texts[-1], "the line")
    signs.allow("go")
    cell.finish()
    (line,) = cell.displays
    assert cell.panels == []
    assert "slow: 0 of 1" in line.texts[0]
    assert "hello" in cell.printed()


# --- many jobs -----------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_thousand_calls_are_one_row(working: Kernel, signs: Signs) -> None:
    """Counted, with one button that cancels all of them."""
    cell = working.begin("calls = [aiopool.get_pool().submit(held, x) for x in range(1000)]\nawait calls[0]")
    widget = cell.widget()
    (row,) = widget.wait_for(lambda state: "1,000 open" in state["jobs"][0]["facts"], "all calls").jobs
    assert (row["name"], row["count"].strip(), row["buttons"]) == ("held", "0 / 1,000", ["cancel"])
    signs.allow("go")
    cell.finish()
    working.run("done = await asyncio.gather(*calls)")
    (row,) = widget.wait_for(ended, "the end").jobs
    assert row["summary"].startswith("held: 1,000 calls done")
    assert len(cell.panels) == 1


@pytest.mark.core
def test_a_loop_over_maps_has_one_panel_that_does_not_fold_in_between(working: Kernel) -> None:
    """A row each, and live from the first to the last."""
    # The cell may be slow to come to the next one.
    working.run("import aiopool.jupyter.panel, aiopool.jupyter.widget\naiopool.jupyter.panel.REST_AFTER = 10")
    cell = working.run(
        """
        async def brief(x):
            await asyncio.sleep(0.15)
        for n in range(8):
            await pmap(brief, range(2), desc=f"round {n}")
        """
    )
    working.run("aiopool.jupyter.panel.REST_AFTER = 0.3")
    (panel,) = cell.panels
    widget = cell.widget()
    assert [row["name"] for row in widget.jobs] == [f"round {n}" for n in range(8)]
    assert [state["live"] for state in widget.states] == [True] * (len(widget.states) - 1) + [False]
    assert panel.texts[-1].count("\n") == 7
    assert len(panel.texts) == 2  # As it appeared, and as it was left.


def test_of_thousands_of_maps_the_last_are_listed(working: Kernel) -> None:
    """The state does not grow without end, and the others are counted."""
    cell = working.run("for n in range(150):\n    await pmap(abs, [n], desc=f'round {n}')\nawait asyncio.sleep(0.01)")
    cell = working.run(
        "for n in range(60):\n    pmap(abs, [n], desc=f'round {n}').result()\npmap(time.sleep, [1]).result()"
    )
    state = cell.widget().state
    assert len(state["jobs"]) == 20
    assert state["more"] == "and 41 more jobs"


def test_jobs_of_two_pools_share_the_panel_of_their_cell(working: Kernel, signs: Signs) -> None:
    """With the workers of both, and numbers of jobs that are the same in both."""
    cell = working.begin(
        """
        async with Pool(workers=1, name="one") as one, Pool(workers=1, name="two") as two:
            jobs = [one.map(held, [1, 2], desc="a"), two.map(held, [3], desc="b")]
            print([await job for job in jobs])
        """
    )
    widget = cell.widget()
    widget.wait_for(lambda state: len(state["workers"]) == 2 and len(state["jobs"]) == 2, "both")
    assert {(row["name"], row["count"]) for row in widget.jobs} == {("a", "0 / 2"), ("b", "0 / 1")}
    signs.allow("go")
    assert cell.finish().printed() == "[[1, 2], [3]]\n"
    assert {row["summary"].split(",")[0] for row in widget.jobs} == {"a: 2 done", "b: 1 done"}


def test_the_workers_of_a_pool_that_was_closed_are_not_shown(working: Kernel, signs: Signs) -> None:
    """While a job of the same cell runs on another pool. They have ended, and were said to be busy for ever."""
    cell = working.begin(
        """
        def waits(name):
            while not os.path.exists(os.path.join(SIGNS, name)):
                time.sleep(0.01)
        with Pool(workers=2, name="first") as pool:
            pool.map(waits, ["one", "one"]).result()
        with Pool(workers=1, name="second") as pool:
            pool.map(waits, ["two"]).result()
        """
    )
    widget = cell.widget()
    widget.wait_for(lambda state: state["workers_title"].startswith("2 workers, 2 busy"), "the first pool")
    signs.allow("one")
    widget.wait_for(lambda state: state["workers_title"].startswith("1 worker, 1 busy"), "the second pool alone")
    assert len(widget.state["workers"]) == 1
    signs.allow("two")
    cell.finish()
    assert widget.state["workers"] == []


# --- buttons -------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_the_buttons_of_a_background_job(working: Kernel, signs: Signs) -> None:
    """Pause, resume, cancel, each acknowledged; the state says what came of it."""
    cell = working.run("job = pmap(held, range(300), concurrency=2)")
    widget = cell.widget()
    for action, state, buttons in (
        ("pause", "paused", ["resume", "cancel"]),
        ("resume", "running", ["pause", "cancel"]),
        ("cancel", "cancelled", ["retry"]),
    ):
        number = widget.click(action)
        widget.wait_for(lambda told, n=number: told["ack"] == n, "the acknowledgement")
        widget.wait_for(lambda told, s=state: told["jobs"][0]["state"] == s, f"the state {state}")
        assert widget.jobs[0]["buttons"] == buttons
    assert working.value("job.snapshot().state") == "cancelled"


@pytest.mark.core
def test_cancel_while_a_cell_awaits_the_job(working: Kernel, signs: Signs) -> None:
    """At once, on the way that JupyterLab takes; ipykernel 6 takes clicks after the cell, and the panel says so."""
    subshell = working.new_subshell() if (7, 0) < VERSION < (7, 4) else None
    cell = working.begin("await pmap(held, range(3))")
    widget = cell.widget()
    assert widget.state["note"] == ("press Stop to cancel" if VERSION < (7, 0) else "")
    widget.click("cancel", subshell=subshell)
    if VERSION < (7, 0):
        signs.allow("go")
        assert cell.finish().error is None
        widget.wait_for(lambda state: state["note"] == "" and state["jobs"][0]["state"] == "done", "the end")
        return
    cell.finish()
    assert "JobCancelled" in cell.traceback
    assert (widget.jobs[0]["state"], widget.state["ack"], ended(widget.state)) == ("cancelled", 1, True)


@pytest.mark.core
def test_cancel_while_a_cell_blocks_comes_through_a_subshell(working: Kernel) -> None:
    """Whatever the last message was before: one of a page that is gone, say. ipykernel 6 takes it after the cell."""
    subshell = working.new_subshell() if VERSION >= (7, 0) else None
    cell = working.begin("pmap(held, range(3), desc='blocks').result()")
    widget = cell.widget()
    widget.click("cancel", subshell=subshell)
    if VERSION < (7, 0):
        working.interrupt()
    cell.finish()
    assert ("JobCancelled" if VERSION >= (7, 0) else "Stopped") in cell.traceback


@pytest.mark.core
def test_retry_starts_in_the_same_panel_and_belongs_to_the_same_cell(working: Kernel, signs: Signs) -> None:
    """It runs what has failed, under the old row, and running the cell again cancels it."""
    cell = working.begin("job = pmap(picky, range(6), on_error='return')", "cell 1").finish()
    widget = cell.widget()
    signs.allow("go")
    widget.wait_for(ended, "the end")
    assert widget.jobs[0]["buttons"] == ["retry"]
    assert ", 2 failed" in widget.jobs[0]["summary"]
    signs.forbid("go")
    widget.click("retry")
    widget.wait_for(lambda state: len(state["jobs"]) == 2 and state["live"], "the retry")
    old, new = widget.jobs
    assert (old["name"], new["name"]) == ("picky", "picky (retry)")
    assert (old["state"], old["buttons"], new["state"], new["count"]) == ("done", [], "running", "4 / 6")
    # It is drawn by the pool's thread, which may be faster than the one that has started it.
    working.run("while aiopool.last_job() is job:\n    await asyncio.sleep(0.01)")
    assert working.value("len(aiopool.last_job()), job.done()") == (6, True)
    again = working.begin("pass", "cell 1").finish()
    assert [shown.texts[-1] for shown in again.displays] == [
        "picky, started by the last run of this cell, was cancelled: 4 of 6 done"
    ]


def test_a_retry_that_cannot_be_says_so_in_the_panel(working: Kernel, signs: Signs) -> None:
    """Of a job that nobody holds any more."""
    cell = working.run("job = pmap(picky, [2], on_error='return')")
    widget = cell.widget()
    signs.allow("go")
    widget.wait_for(ended, "the end")
    working.run(
        """
        import gc, weakref
        former = weakref.ref(job)
        del job
        _ = pmap(abs, [1]).result()
        other = pmap(asyncio.sleep, [3600])
        other.cancel()
        await other.wait()
        # The session lets go of what went wrong when it has heard of the next that did.
        while former() is not None:
            gc.collect()
            await asyncio.sleep(0.01)
        """
    )
    widget.click("retry")
    widget.wait_for(lambda state: "nobody holds this job" in state["note"], "the note")
    assert widget.jobs[0]["buttons"] == []


def test_how_a_panel_is_folded_is_remembered_for_the_next(working: Kernel, signs: Signs) -> None:
    """In the session."""
    first = working.run("job = pmap(held, range(2))").widget()
    first.click("fold", fold=2)
    first.wait_for(lambda state: state["fold"] == 2 and state["ack"] == 1, "the fold")
    second = working.run("other = pmap(held, range(2, 4))").widget()
    assert second.state["fold"] == 2
    second.click("fold", fold=1)
    second.wait_for(lambda state: state["fold"] == 1, "the fold")
    assert first.state["fold"] == 2


NOISE: list[object] = [
    None,
    7,
    "cancel",
    [],
    {},
    {"action": "cancel"},
    {"action": "cancel", "click": "1", "job": "1"},
    {"action": "cancel", "click": 1, "job": "no such"},
    {"action": "cancel", "click": 1, "job": {}},
    {"action": {"a": []}, "click": 1},
    {"action": "fold", "click": 1, "fold": 9},
    {"action": "fold", "click": 1, "fold": []},
    {"action": "delete everything", "click": 1},
]


def test_what_is_no_click_is_ignored(working: Kernel, signs: Signs) -> None:
    """The job goes on, and a line in the log tells."""
    cell = working.run("job = pmap(held, range(3))")
    widget = cell.widget()
    for content in NOISE:
        working.click(widget.name, content)
    told = working.run("await asyncio.sleep(0.3)\njob.snapshot().state")
    assert told.output == "'running'"
    assert widget.state["fold"] == 1
    widget.click("cancel")
    widget.wait_for(lambda state: state["jobs"][0]["state"] == "cancelled", "the cancel")


# --- other cells ---------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_job_as_a_cells_last_expression_is_shown_at_once_and_once(working: Kernel, signs: Signs) -> None:
    """Before the cell has ended; the panel that would have come later is this one. And ``Out`` has the job."""
    working.run("import aiopool.jupyter.widget")
    cell = working.run("pmap(held, range(3))")
    assert "held: 0 / 3" in cell.panels[0].texts[0]
    widget = cell.widget()
    widget.wait_for(lambda _: len(widget.states) >= 3, "states")
    assert working.value(f"sign('go')\nawait Out[{cell.number}]") == [0, 1, 2]
    widget.wait_for(ended, "the end")
    (panel,) = cell.panels
    assert panel.texts[-1].startswith("held: 3 done, ")


def test_the_first_job_of_a_session_is_shown_at_once_too(own_kernel: Kernel) -> None:
    """Before the widget's libraries are there: as HTML, in the place of which the widget comes."""
    own_kernel.run("def waits(_):\n    while not os.path.exists('go'):\n        time.sleep(0.01)")
    # Else they might be there before a slow cell has shown its job.
    own_kernel.run("import aiopool.jupyter.panel\naiopool.jupyter.panel.LOAD_AFTER = 3600")
    cell = own_kernel.run("pmap(waits, [1], desc='waiting')")
    assert cell.panels[0].data[0].keys() == {"text/plain", "text/html"}
    assert "waiting: 0 / 1" in cell.panels[0].texts[0]
    widget = cell.widget()
    widget.wait_for(lambda _: len(widget.states) >= 3, "states")
    (own_kernel.cwd / "go").touch()
    widget.wait_for(ended, "the end")
    assert len(cell.panels) == 1


def test_a_job_that_a_thread_starts_is_shown_under_the_last_cell(working: Kernel, signs: Signs) -> None:
    """A thread has no cell: all that it starts is in the panel of the cell that ran last, and is nobody's."""
    source = """
    def start():
        for _ in range(3):
            pmap(held, range(2))
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    mine = pmap(held, range(2))
    """
    cell = working.begin(source, "cell 1").finish()
    widget = cell.widget().wait_for(lambda state: len(state["jobs"]) == 4, "all of them")
    assert len(cell.panels) == 1
    again = working.begin("pass", "cell 1").finish()
    assert len(again.displays) == 1
    assert widget.closed


@pytest.mark.core
def test_a_job_shown_in_a_later_cell_is_a_second_live_view(working: Kernel, signs: Signs) -> None:
    """It outlives the first one, whose cell is run again; its buttons work, and it ends as the job does."""
    first = working.begin("job = pmap(held, range(3), detach=True)", "cell 1").finish().widget()
    cell = working.begin("job", "cell 2").finish()
    second = cell.widget()
    assert second.name != first.name
    working.begin("pass", "cell 1").finish()
    working.until(lambda: working.read_message(0.1) or first.closed, "the end of the first")
    count = len(second.states)
    second.wait_for(lambda _: len(second.states) >= count + 3, "further states")
    assert not second.closed
    second.click("pause")
    second.wait_for(lambda state: state["jobs"][0]["state"] == "paused", "the pause")
    second.click("resume")
    signs.allow("go")
    second.wait_for(ended, "the end")
    cell.wait_for(lambda cell: cell.panels[0].texts[-1].startswith("held: 3 done, "), "the last line")


def test_a_job_that_has_ended_shows_its_line(working: Kernel) -> None:
    """Also one that was never shown before; and a handle that is no job prints itself."""
    working.run("job = pmap(abs, range(5)); job.result();")
    cell = working.run("job")
    (panel,) = cell.panels
    assert panel.texts[-1].startswith("abs: 5 done, ")
    assert "resize" in str(working.run("aiopool.get_pool().resize(2)").output)


@pytest.mark.core
def test_running_the_cell_again_closes_its_panel(working: Kernel, signs: Signs) -> None:
    """Its output is gone: the widget must not be kept. What it is that runs now has a panel of its own."""
    source = "job = pmap(held, range(3))"
    first = working.begin(source, "cell 1").finish().widget()
    cell = working.begin(source, "cell 1").finish()
    assert first.closed
    second = cell.widget()
    assert not second.closed
    assert [row["count"] for row in second.jobs] == ["0 / 3"]


def test_the_panels_of_a_cell_that_shows_a_job_again_and_again_are_let_go_of(working: Kernel, signs: Signs) -> None:
    """However long the job is held, which runs or has ended."""
    working.run(
        """
        import gc
        from aiopool.jupyter.panel import Panel
        def closed():
            gc.collect()
            return sum(isinstance(each, Panel) and each._closed for each in gc.get_objects())
        job, most = pmap(held, range(2)), closed() + 3
        """
    )
    for _ in range(8):
        working.begin("job", "cell 1").finish()
    working.run("sign('go')\nawait job")
    for _ in range(8):
        working.begin("job", "cell 1").finish()

    def gone() -> bool:
        # The pool lets go of what it has shown when there is something else.
        return bool(working.value("await pmap(abs, [1])\nclosed() < most"))

    working.until(gone, "the end of the old panels")


def test_the_panels_of_long_ago_become_html(own_kernel: Kernel) -> None:
    """A session of thousands of cells must not keep a widget for each: the last fifty have one."""
    own_kernel.run("import aiopool.jupyter.stage, aiopool.jupyter.widget\naiopool.jupyter.stage.MOST_WIDGETS = 2")
    cells = [shown_and_done(own_kernel) for _ in range(4)]
    widgets = [own_kernel.widget(cell.panels[0].data[0][WIDGET_VIEW]["model_id"]) for cell in cells]
    own_kernel.until(lambda: own_kernel.read_message(0.1) or widgets[1].closed, "the end of the second")
    assert [widget.closed for widget in widgets] == [True, True, False, False]
    assert [cell.panels[0].widget is None for cell in cells] == [True, True, False, False]
    assert all("waits: 1 done" in cell.panels[0].data[-1]["text/html"] for cell in cells)
    counted = "from ipywidgets.widgets.widget import _instances\nlen(_instances)"
    assert own_kernel.value(counted) == 4  # Each has a layout.


def test_html_takes_the_place_of_a_widget_where_the_front_end_asks_for_it(own_kernel: Kernel) -> None:
    """Some would save the widget, of which tomorrow's kernel knows nothing; others leave it out, and it stays."""
    own_kernel.run("import aiopool.jupyter.panel, aiopool.jupyter.widget\naiopool.jupyter.panel.KEEP_DONE = 0.2")
    cells = [shown_and_done(own_kernel) for _ in range(2)]
    widgets = [own_kernel.widget(cell.panels[0].data[0][WIDGET_VIEW]["model_id"]) for cell in cells]
    for widget in widgets:
        widget.wait_for(ended, "the end")
    own_kernel.click(widgets[1].name, {"action": "replace"})
    own_kernel.until(lambda: own_kernel.read_message(0.1) or widgets[1].closed, "the end of the second")
    assert cells[1].panels[0].data[-1].keys() == {"text/html", "text/plain"}
    own_kernel.run("await asyncio.sleep(0.5)")
    assert not widgets[0].closed


def test_a_notebook_that_is_saved_while_a_job_runs_has_a_recent_page(working: Kernel, signs: Signs) -> None:
    """The widget has the HTML and text that stand for it, under its own name, and at the end the last of them."""
    working.run("import aiopool.jupyter.drawing\naiopool.jupyter.drawing.PAGE_EVERY = 0.2")
    cell = working.begin("await pmap(held, range(3), desc='reading')")
    widget = cell.widget()
    widget.wait_for(lambda _: "reading: 0 / 3" in widget.page.get("data", {}).get("text/plain", ""), "a page")
    signs.allow("go")
    cell.finish()
    widget.wait_for(lambda _: "reading: 3 done" in widget.page["data"]["text/plain"], "the last page")
    assert "reading: 3 done" in widget.page["data"]["text/html"]
    assert widget.page["id"] == cell.panels[0].data[0][WIDGET_VIEW]["model_id"]


def test_a_page_that_keeps_the_notebook_itself_is_not_made_to_draw_anew(working: Kernel, signs: Signs) -> None:
    """Its widget is told how the jobs have ended, and its output stays as it is."""
    cell = working.run("job = pmap(held, range(3))")
    widget = cell.widget()
    working.click(widget.name, {"action": "keeps"})
    widget.click("fold", fold=1)  # Answered after that.
    widget.wait_for(lambda state: state["ack"] == 1, "the answer")
    written = len(cell.panels[0].data)
    signs.allow("go")
    widget.wait_for(lambda _: "held: 3 done" in widget.page.get("data", {}).get("text/plain", ""), "the last page")
    working.run("await asyncio.sleep(0.5)")
    assert len(cell.panels[0].data) == written
    assert not widget.closed


# --- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_stop_leaves_the_panel_as_the_job_was_left(working: Kernel, signs: Signs) -> None:
    """Stopped, with a button to go on; and after an error in the cell, too."""
    cell = working.begin("await pmap(held, range(3))")
    widget = cell.widget()
    working.interrupt()
    cell.finish()
    widget.wait_for(ended, "the end")
    assert (widget.jobs[0]["state"], widget.jobs[0]["buttons"]) == ("stopped", ["retry"])
    cell.wait_for(lambda cell: cell.panels[0].texts[-1].startswith("held: 0 of 3, stopped"), "the last line")


@pytest.mark.core
def test_failures_stand_in_the_panel_with_their_traceback(working: Kernel, signs: Signs) -> None:
    """Grouped; the long text apart from the state, which goes over ten times a second."""
    cell = working.begin("got = await pmap(picky, range(6), on_error='return')\nawait asyncio.sleep(1)")
    widget = cell.widget()
    signs.allow("go")
    widget.wait_for(lambda state: state["failures"] and state["failures"][0]["title"].startswith("2 "), "the failures")
    cell.finish()
    (failure,) = widget.state["failures"]
    assert "ValueError" in failure["title"]
    assert failure["message"] in ("no page 2", "no page 5")
    assert 'raise ValueError(f"no page {x}")' in widget.details[failure["key"]]
    assert failure["message"] in cell.panels[0].data[-1]["text/html"]


def test_the_panel_says_how_many_lines_were_not_shown(working: Kernel, signs: Signs) -> None:
    """While the job runs, and when it has ended."""
    working.run(
        """
        async def floods(x):
            sys.stdout.write("a line\\n" * 5000)
            return await held(x)
        """
    )
    cell = working.begin("job = pmap(floods, [0])").finish()
    widget = cell.widget()
    # What it has printed comes by another way than its sign.
    signs.wait_for(1)
    working.until(lambda: cell.printed().count("a line") + working.value("job.snapshot().unshown") == 5000, "all lines")
    count = working.value("job.snapshot().unshown")
    assert 0 < count < 5000
    widget.wait_for(lambda state: state["dropped"] == f"{count:,} lines dropped: they came too fast", "the count")
    signs.allow("go")
    widget.wait_for(ended, "the end")
    assert widget.state["dropped"].startswith(f"{count:,} lines")


def test_the_last_lines_stand_in_the_panel(working: Kernel, signs: Signs) -> None:
    """Fifty of them, with who printed them."""
    cell = working.begin(
        """
        async def chatty(x):
            for n in range(40):
                print(x, "line", n)
            await held(x)
        await pmap(chatty, range(2), batch=1)
        """
    )
    widget = cell.widget()
    signs.allow("go")
    cell.finish()
    prints = widget.state["prints"]
    assert len(prints) == 50
    assert {(line["label"], re.sub(r"\d+$", "", line["text"])) for line in prints} == {
        ("item 0", "0 line "),
        ("item 1", "1 line "),
    }


# --- when something is wrong with the widget -----------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["anywidget", "ipywidgets"])
def test_without_the_widget_libraries_html_is_changed_in_place(own_kernel: Kernel, missing: str) -> None:
    """Once a second at most, said once in the log, and nothing fails."""
    own_kernel.run(f"sys.modules[{missing!r}] = None")
    cell = own_kernel.run("await pmap(time.sleep, [0.6] * 6, concurrency=2)")
    (panel,) = cell.panels
    assert panel.widget is None
    assert 2 <= len(panel.texts) <= 3 + panel.sent[-1] - panel.sent[0]
    assert panel.texts[-1].startswith("sleep: 6 done")
    gaps = [b - a for a, b in zip(panel.sent, panel.sent[1:-1], strict=False)]
    assert all(gap > 0.5 for gap in gaps), gaps
    shown_and_done(own_kernel)
    shown = shown_and_done(own_kernel)
    assert shown.panels[0].texts[-1].startswith("waits: 1 done")
    assert cell.printed("stderr").count("without buttons") == 1
    assert "without buttons" not in shown.printed("stderr")


def test_a_widget_that_cannot_be_sent_harms_no_job(own_kernel: Kernel) -> None:
    """It may fail at any moment. The job ends with its results, as fast as ever, and HTML takes the widget's place."""
    own_kernel.run(
        """
        import logging
        import aiopool.jupyter.widget
        class Told(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())
        told, sends = [], []
        logging.getLogger("aiopool").addHandler(Told())
        def send(self, *_, **__):
            sends.append(time.monotonic())
            raise OSError("the line is dead")
        async def brief(x):
            await asyncio.sleep(0.02)
            return x
        """
    )
    assert own_kernel.run("await pmap(brief, range(150), concurrency=2)").widget().states
    own_kernel.run("aiopool.jupyter.widget.Live.send_state = send")
    own_kernel.run("began = time.monotonic()")
    cell = own_kernel.run("len(await pmap(brief, range(200), concurrency=2)), time.monotonic() - began < 15")
    assert cell.value == (200, True)
    (panel,) = cell.panels
    assert panel.texts[-1].startswith("brief: 200 done")
    assert panel.widget is None
    assert own_kernel.value("len(sends)") == 1
    (told,) = own_kernel.value("told")
    assert "without buttons: the widget failed with OSError: the line is dead" in told
    assert own_kernel.value("await pmap(brief, [1])", DEADLINE) == [1]
