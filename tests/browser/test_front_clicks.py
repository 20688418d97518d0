"""What the front end does when it is clicked: folds, asks the kernel, tells that it is busy; and several views."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.gallery import DETAILS, STATES, dashboard, job, panel, worker
from tests.browser.harness import PIXELS, Stage

pytestmark = pytest.mark.browser

Open = Callable[..., Stage]

BUSY = "The kernel is busy: this happens when the cell ends."
BUSY_CANCEL = "The kernel is busy. Press Stop (\u25a0) to cancel."


# --- folding and several views --------------------------------------------------------------------------------------


def test_the_fold_shows_bars_then_workers_then_everything(stage: Open) -> None:
    """Three levels; a click shows the other one at once, and tells the kernel."""
    one = stage()
    view = one.show(STATES["everything"])
    parts = view.locator(".workers, .prints, .failures")

    def seen() -> list[bool]:
        return [part.is_visible() for part in parts.all()]

    assert seen() == [True, True, True]
    view.get_by_role("button", name="Bar", exact=True).click()
    one.drawn()
    assert seen() == [False, False, False]
    view.get_by_role("button", name="Workers").click()
    one.drawn()
    assert seen() == [True, False, False]
    expect(view.get_by_role("button", name="Workers")).to_have_attribute("aria-pressed", "true")
    assert [click["fold"] for click in one.sent] == [0, 1]


def test_a_fold_does_not_jump_back_when_the_answer_comes_before_the_change(stage: Open) -> None:
    """The kernel says that it has heard before it says what it has done."""
    one = stage(stopped=True)  # A second after the click it would.
    view = one.show(panel(fold=1))
    view.get_by_role("button", name="Bar", exact=True).click()
    for fold in (1, 0, 2):
        one.page.evaluate("(state) => stage.model.set({ state })", panel(fold=fold, ack=1))
        one.page.clock.run_for(100)
        expect(view.locator(".workers")).to_be_visible(visible=fold == 2)


def test_two_views_agree_on_the_fold_and_open_their_own_details(stage: Open) -> None:
    """What is opened in one view is closed in the other; how much is shown is the same, and clicks count together."""
    one = stage()
    first = one.show(STATES["everything"], DETAILS)
    second = one.add_view()
    first.locator(".failure-head").first.click()
    expect(first.locator("pre").first).to_be_visible()
    expect(second.locator("pre").first).to_be_hidden()

    first.get_by_role("button", name="Workers").click()
    expect(second.locator(".failures")).to_be_hidden()
    second.get_by_role("button", name="All").click()
    expect(first.locator(".failures")).to_be_visible()
    assert [click["click"] for click in one.sent] == [1, 2]


def test_a_view_that_has_gone_leaves_nothing_behind(stage: Open) -> None:
    """No listener, no node, no frame; the other view goes on."""
    one = stage()
    one.show(STATES["everything"], DETAILS)
    devtools = one.page.context.new_cdp_session(one.page)
    devtools.send("Performance.enable")

    def counts() -> dict[str, float]:
        for _ in range(3):  # What one pass frees may hold what the next can free.
            devtools.send("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        return {name: metrics[name] for name in ("Nodes", "JSEventListeners")}

    one.drawn()
    before = counts()
    for _ in range(3):
        one.add_view()
        one.end_view(1)
    one.drawn()
    one.set(panel())
    one.set(STATES["everything"])
    after = counts()
    assert after["JSEventListeners"] <= before["JSEventListeners"]
    assert after["Nodes"] <= before["Nodes"] + 50
    assert one.page.locator(".aiopool").count() == 1

    one.end_view(0)
    assert one.page.evaluate("stage.model.heard.length") == 0
    one.set(panel())


# --- clicks --------------------------------------------------------------------------------------------------------


def test_clicks_are_counted_on_from_the_last_that_was_answered(stage: Open) -> None:
    """The kernel has answered seven of an earlier page; the next are eight and nine."""
    one = stage()
    view = one.show(panel(ack=7, jobs=[job(), job("2", name="score")]))
    view.get_by_role("button", name="Pause fetch").click()
    view.get_by_role("button", name="Cancel score").click()

    assert one.sent == [{"action": "pause", "job": "1", "click": 8}, {"action": "cancel", "job": "2", "click": 9}]


def test_a_button_shows_at_once_that_it_was_pressed_and_is_deaf_until_the_answer(stage: Open) -> None:
    """A second click on it sends nothing; the answer makes it a button again."""
    one = stage()
    view = one.show(panel())
    pause = view.get_by_role("button", name="Pause fetch")
    pause.click()
    one.drawn()
    expect(pause).to_have_class(re.compile("pressed"))
    expect(pause).to_have_attribute("aria-disabled", "true")
    pause.click(force=True)
    assert len(one.sent) == 1

    one.set(panel(ack=1, jobs=[job(state="paused", word="paused", buttons=["resume", "cancel"])]))
    expect(pause).to_have_count(0)
    view.get_by_role("button", name="Resume fetch").click()
    assert one.sent[-1] == {"action": "resume", "job": "1", "click": 2}


@pytest.mark.parametrize(("name", "said"), [("Cancel fetch", BUSY_CANCEL), ("Pause fetch", BUSY)])
def test_a_busy_kernel_is_told_after_a_second_until_it_answers(stage: Open, name: str, said: str) -> None:
    """Who clicks and sees nothing happen is told why, and what to do; with the answer the line goes."""
    one = stage(stopped=True)
    view = one.show(panel())
    view.get_by_role("button", name=name).click()
    one.page.clock.run_for(800)
    expect(view.locator(".apology").first).to_have_text("")
    one.page.clock.run_for(400)
    expect(view.locator(".apology").first).to_have_text(said)

    one.page.evaluate("(state) => stage.model.set({ state })", panel(ack=1))
    one.page.clock.run_for(100)
    expect(view.locator(".apology").first).to_have_text("")


def cancelled(stage: Open) -> tuple[Stage, Locator]:
    """A panel on which Cancel was just clicked, and its view; no time passes there by itself."""
    one = stage(stopped=True)
    view = one.show(panel())
    view.get_by_role("button", name="Cancel fetch").click()
    return one, view


def test_a_click_is_sent_again_until_it_is_answered(stage: Open) -> None:
    """It may have come to a kernel that could not hear it then: after one second, two more, four more, always the same.

    Not one that was answered, and none when the last view has gone.
    """
    one, view = cancelled(stage)
    counts = []
    for seconds in (0.9, 0.2, 1.7, 0.4, 3.5, 0.5):
        one.page.clock.run_for(int(seconds * 1000))
        counts.append(len(one.sent))
    assert counts == [1, 2, 2, 3, 3, 4]
    assert len({str(each) for each in one.page.evaluate("stage.model.sent")}) == 1

    one.page.evaluate("(state) => stage.model.set({ state })", panel(ack=1))
    one.page.clock.run_for(60_000)
    assert len(one.sent) == 4
    one.page.evaluate("(state) => stage.model.set({ state })", panel(ack=1))
    one.page.clock.run_for(100)
    view.get_by_role("button", name="Pause fetch").click()
    one.end_view(0)
    one.page.clock.run_for(60_000)
    assert len(one.sent) == 5


def test_only_the_click_itself_counts_as_heard(stage: Open) -> None:
    """Of two the second may be heard first, and another page's may have the number of this one: both is no answer."""
    one, view = cancelled(stage)
    view.get_by_role("button", name="Bar", exact=True).click()
    by = one.page.evaluate("stage.model.sent[0].by")
    heard = {**panel(ack=2, fold=0), "heard": {by: [2], "another": [1]}}
    one.page.evaluate("(state) => stage.model.set({ state })", heard)
    one.page.clock.run_for(3500)
    assert [each["click"] for each in one.sent] == [1, 2, 1, 1]
    expect(view.locator(".apology").first).to_have_text(BUSY_CANCEL)

    one.page.evaluate("(state) => stage.model.set({ state })", {**heard, "heard": {by: [2, 1]}})
    one.page.clock.run_for(60_000)
    assert len(one.sent) == 4


def test_a_click_is_sent_again_though_its_view_was_away_for_a_moment(stage: Open) -> None:
    """As where a notebook draws only what is to be seen: the model lives on."""
    one, _ = cancelled(stage)
    one.end_view(0)
    one.page.clock.run_for(1500)
    assert len(one.sent) == 1
    one.add_view()
    one.page.clock.run_for(2000)
    assert len(one.sent) == 2


def test_a_kernel_of_which_nothing_is_heard_is_said_to_be_silent(stage: Open) -> None:
    """As long as a job runs states come; when none does for seconds the panel says so, until one comes again."""
    one = stage(stopped=True)
    view = one.show(panel())
    one.page.clock.run_for(4_000)
    expect(view.locator(".apology").first).to_have_text("")
    one.page.clock.run_for(2_000)
    expect(view.locator(".apology").first).to_contain_text("No news for some seconds")
    one.page.evaluate("(state) => stage.model.set({ state })", panel())
    one.page.clock.run_for(100)
    expect(view.locator(".apology").first).to_have_text("")
    one.page.evaluate("(state) => stage.model.set({ state })", STATES["done"])
    one.page.clock.run_for(20_000)
    expect(view.locator(".apology").first).to_have_text("")


def test_no_answer_is_missed_where_there_is_nothing_left_to_do(stage: Open) -> None:
    """A job that has ended by itself needs no cancel; a fold is done without the kernel."""
    one = stage(stopped=True)
    view = one.show(panel())
    view.get_by_role("button", name="Bar", exact=True).click()
    view.get_by_role("button", name="Cancel fetch").click()
    one.page.evaluate("(state) => stage.model.set({ state })", panel(jobs=[job(state="done", word="done", buttons=[])]))
    one.page.clock.run_for(1500)

    expect(view.locator(".apology").first).to_have_text("")


def test_a_late_click_on_cancel_does_not_hit_retry(stage: Open) -> None:
    """Where Cancel stood when the job ended there is no other button."""
    one = stage()
    other = job("2", name="score")
    view = one.show(panel(jobs=[job(), other]))
    was = view.get_by_role("button", name="Cancel fetch").bounding_box()
    one.set(panel(jobs=[job(state="failed", word="failed", buttons=["retry"]), other]))
    now = view.get_by_role("button", name="Retry fetch").bounding_box()

    assert now["x"] + now["width"] < was["x"] or now["y"] >= was["y"] + was["height"]


# --- the dashboard -------------------------------------------------------------------------------------------------


def test_the_dashboard_resizes_restarts_and_asks_for_stacks(stage: Open) -> None:
    """Each control sends its click; a stack is shown as soon as it has come."""
    one = stage()
    view = one.show(dashboard())
    size = view.get_by_role("spinbutton", name="Number of workers")
    expect(size).to_have_value("4")
    view.get_by_role("button", name="One worker more").click()
    view.get_by_role("button", name="One worker more").click()
    expect(size).to_have_value("6")
    one.set(dashboard(size=6, ack=2))
    size.fill("16")
    size.press("Enter")
    one.set(dashboard(size=16, ack=3))
    view.get_by_role("button", name="One worker less").click()
    view.get_by_role("button", name="Restart all").click()
    view.get_by_role("button", name="Restart worker 2").click()
    view.get_by_role("button", name="Stack of worker 1").click()
    expect(view.locator(".stack pre")).to_have_text("Asking the worker.")
    one.set(details=DETAILS)
    expect(view.locator(".stack pre")).to_contain_text("while True: pass")
    view.get_by_role("button", name="Close").click()
    expect(view.locator(".stack")).to_be_hidden()

    clicks = one.sent[1:]  # The first says that it is looked at.
    assert [{**click, "click": 0} for click in clicks] == [
        {"action": "resize", "size": 5, "click": 0},
        {"action": "resize", "size": 6, "click": 0},
        {"action": "resize", "size": 16, "click": 0},
        {"action": "resize", "size": 15, "click": 0},
        {"action": "restart", "click": 0},
        {"action": "restart_worker", "worker": 2, "click": 0},
        {"action": "stack", "worker": 1, "click": 0},
    ]
    assert [click["click"] for click in clicks] == list(range(1, 8))


def test_a_size_that_is_being_typed_is_not_overwritten_and_escape_gives_it_up(stage: Open) -> None:
    """States come ten times a second while somebody types."""
    one = stage()
    view = one.show(dashboard())
    size = view.get_by_role("spinbutton")
    size.fill("12")
    one.set(dashboard(size=5))
    expect(size).to_have_value("12")
    size.press("Escape")
    expect(size).to_have_value("5")
    assert [click["action"] for click in one.sent] == ["shown"]


@pytest.mark.parametrize("wrong", ["0", "-3", "", "2.5"])
def test_a_size_that_cannot_be_is_not_sent(stage: Open, wrong: str) -> None:
    """A pool has at least one worker, and no halves."""
    one = stage()
    size = one.show(dashboard()).get_by_role("spinbutton")
    size.fill(wrong)
    size.press("Enter")
    expect(size).to_have_value("4")
    assert [click["action"] for click in one.sent] == ["shown"]


def test_what_is_typed_into_a_field_is_no_shortcut_of_the_notebook(stage: Open) -> None:
    """Keys in the field stay there; keys on buttons are the notebook's, too."""
    one = stage()
    view = one.show(dashboard())
    one.page.evaluate(
        "() => { stage.keys = []; document.addEventListener('keydown', (event) => stage.keys.push(event.key)); }"
    )
    size = view.get_by_role("spinbutton")
    expect(size).to_have_attribute("data-lm-suppress-shortcuts", "true")
    size.press("a")
    size.press("d")
    assert one.page.evaluate("stage.keys") == []
    view.get_by_role("button", name="Restart all").press("Shift+Enter")
    assert "Enter" in one.page.evaluate("stage.keys")


def test_a_closed_pool_takes_no_orders(stage: Open) -> None:
    """Nothing can be resized or restarted any more."""
    one = stage()
    view = one.show(dashboard(open=False, title="closed"))
    expect(view.get_by_role("spinbutton")).to_be_disabled()
    for name in ("One worker more", "Restart all", "Restart worker 2"):
        view.get_by_role("button", name=name).click(force=True)
    assert [click["action"] for click in one.sent] == ["shown"]


def test_the_timeline_shows_blocks_where_they_were_and_names_them(stage: Open) -> None:
    """A block of the first worker in the last half is seen there and nowhere else; pointing at it says what it was."""
    one = stage()
    block = {"worker": 0, "start": 60.0, "end": 0.0, "tone": 1, "failed": False, "title": "fetch, 64 items"}
    view = one.show(dashboard(workers=[worker(0), worker(1)], blocks=[block], span=120.0))
    canvas = view.locator("canvas")
    expect(canvas).to_be_visible()
    one.page.wait_for_function("() => document.querySelector('canvas').width > 300")
    one.drawn()
    box = canvas.bounding_box()
    drawn = [canvas.evaluate(PIXELS, [int(box["width"] * x), y, 1])[0] for x, y in ((0.8, 12), (0.3, 12), (0.8, 30))]
    assert drawn[0] == [230, 159, 0, 255]
    assert drawn[1] == drawn[2] != drawn[0]

    canvas.hover(position={"x": box["width"] * 0.8, "y": 12})
    expect(view.locator(".tip")).to_have_text("fetch, 64 items")
    canvas.hover(position={"x": box["width"] * 0.3, "y": 12})
    expect(view.locator(".tip")).to_be_hidden()


def test_what_failed_in_the_timeline_has_a_pattern(stage: Open) -> None:
    """Within a failed block there are two colours, in a good one there is one."""
    one = stage()
    blocks = [
        {"worker": place, "start": 60.0, "end": 0.0, "tone": 1, "failed": place == 1, "title": ""} for place in (0, 1)
    ]
    view = one.show(dashboard(workers=[worker(0), worker(1)], blocks=blocks))
    one.page.wait_for_function("() => document.querySelector('canvas').width > 300")
    one.drawn()
    rows = [view.locator("canvas").evaluate(PIXELS, [700, y, 40]) for y in (10, 28)]
    assert [len({tuple(pixel) for pixel in row}) > 1 for row in rows] == [False, True]


TURN = """(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange')); }"""


def test_each_view_of_a_dashboard_says_whether_it_is_looked_at(stage: Open) -> None:
    """Under a name of its own: one that is gone takes nothing from another. A page hidden for long does not look."""
    one = stage(stopped=True)
    one.show(dashboard())
    one.add_view()
    one.end_view(0)
    first, second, gone = one.sent
    assert [click["action"] for click in one.sent] == ["shown", "shown", "hidden"]
    assert first["view"] == gone["view"] != second["view"]
    one.page.evaluate(TURN, arg=True)
    one.page.clock.run_for(59_000)
    assert one.sent[-1]["action"] == "shown"
    one.page.clock.run_for(2_000)
    assert one.sent[-1] == {"action": "hidden", "view": second["view"]}
    one.page.evaluate(TURN, arg=False)
    assert one.sent[-1] == second
    one.end_view(0)
    assert one.sent[-1] == {"action": "hidden", "view": second["view"]}


def test_a_dashboard_says_again_and_again_that_it_is_there_as_long_as_it_is(stage: Open) -> None:
    """A browser may vanish without a word; one that leaves the page says so, and says when it comes back."""
    one = stage(stopped=True)
    one.show(dashboard())
    one.page.clock.run_for(61_000)
    assert [click["action"] for click in one.sent] == ["shown"] * 3
    for event, said in (("pagehide", "hidden"), ("pageshow", "shown")):
        one.page.evaluate("(event) => window.dispatchEvent(new Event(event))", event)
        assert one.sent[-1]["action"] == said
    one.end_view(0)
    sent = len(one.sent)
    one.page.clock.run_for(61_000)
    assert len(one.sent) == sent


def test_a_dashboard_that_begins_on_a_hidden_page_is_not_looked_at_for_long(stage: Open) -> None:
    """In a tab in the background nothing turns: it is hidden from its first moment on."""
    one = stage(stopped=True)
    one.page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    one.show(dashboard())
    one.page.clock.run_for(61_000)
    assert one.sent[-1]["action"] == "hidden"


def test_where_nobody_says_when_a_notebook_is_saved_html_is_asked_for_at_each_end(stage: Open) -> None:
    """Once when all jobs have ended, and again when a retry has; in no other state."""
    one = stage()
    one.show(panel())
    one.page.evaluate("() => { stage.end = stage.model.def.initialize({ model: stage.model.proxy(Symbol()) }); }")
    for state in (panel(), STATES["done"], STATES["done"]):
        one.set(state)
    assert one.sent == [{"action": "replace"}]
    one.set(panel())
    one.set(STATES["done"])
    assert one.sent == [{"action": "replace"}] * 2
    one.page.evaluate("() => stage.end()")
    one.set(panel())
    one.set(STATES["done"])
    assert len(one.sent) == 2


def test_a_panel_does_not_say_whether_it_is_looked_at(stage: Open) -> None:
    """Only a dashboard costs something as long as it is open."""
    one = stage()
    one.show(panel())
    one.end_view(0)
    assert one.sent == []
