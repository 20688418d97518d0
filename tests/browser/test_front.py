"""The front end alone, in a browser, with a pretended kernel: what it draws of a state."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.gallery import DETAILS, STATES, failure, job, line, panel, worker
from tests.browser.harness import Stage

pytestmark = pytest.mark.browser

Open = Callable[..., Stage]


# --- what is drawn -------------------------------------------------------------------------------------------------


def test_a_job_is_a_bar_with_its_name_count_and_facts(stage: Open) -> None:
    """Name, count and facts stand beside a progressbar that says the same to a screen reader."""
    view = stage().show(panel())

    bar = view.get_by_role("progressbar", name="fetch")
    expect(bar).to_have_attribute("aria-valuenow", "16")
    expect(bar).to_have_attribute("aria-valuetext", "\u20078,412 / 50,000")
    for said in ("fetch", "8,412 / 50,000", "1,204/s", "6.9 s", "34 s left", "400 in flight"):
        expect(view).to_contain_text(said)
    expect(view.get_by_role("button", name="Pause fetch")).to_have_text("Pause")
    expect(view.get_by_role("button", name="Cancel fetch")).to_have_text("Cancel")


def test_the_bar_is_as_long_as_the_job_is_done_and_what_failed_has_a_pattern(stage: Open) -> None:
    """A quarter done, of which a tenth of the whole has failed; the failed part differs by more than colour."""
    view = stage().show(panel(jobs=[job(fraction=0.25, failed=0.1)]))

    widths = view.locator(".bar").evaluate(
        "(bar) => [...bar.children].map((part) => part.offsetWidth / bar.offsetWidth)"
    )
    assert widths == pytest.approx([0.15, 0.1], abs=0.01)
    assert "gradient" in view.locator(".bar .bad").evaluate("(part) => getComputedStyle(part).backgroundImage")


def test_one_failure_among_fifty_thousand_is_seen(stage: Open) -> None:
    """A failed part that is thinner than a pixel is drawn a few pixels wide."""
    view = stage().show(panel(jobs=[job(failed=0.00002)]))

    assert view.locator(".bar .bad").bounding_box()["width"] >= 3


def test_a_bar_without_a_total_moves_and_stands_still_where_motion_is_not_wanted(stage: Open) -> None:
    """No value is claimed where no total is known; who asked for less motion gets a still bar."""
    one = stage()
    view = one.show(STATES["unsized"])
    bar = view.get_by_role("progressbar")

    assert bar.get_attribute("aria-valuenow") is None
    animation = "(bar) => getComputedStyle(bar, '::after').animationName"
    assert bar.evaluate(animation) == "aiopool-endless"
    one.page.emulate_media(reduced_motion="reduce")
    assert bar.evaluate(animation) == "none"


def test_a_worker_is_told_by_word_and_by_shape(stage: Open) -> None:
    """No state is known by its colour alone."""
    one = stage()
    words = ["starting", "idle", "busy", "blocked", "stuck", "retiring", "lost"]
    view = one.show(panel(workers=[worker(index, state=word, word=word) for index, word in enumerate(words)]))

    rows = view.locator(".rows .worker")
    assert rows.locator(".word").all_text_contents() == words
    assert len(set(rows.locator("path").evaluate_all("(all) => all.map((path) => path.getAttribute('d'))"))) == len(
        words
    )


def test_a_worker_says_what_it_is_at_and_what_its_item_reports(stage: Open) -> None:
    """One row: the item, its age, what is in flight and done, CPU, memory, lag, and the item's own progress."""
    view = stage().show(STATES["reports"])
    row = view.locator(".rows .worker").nth(1)

    for said in ("item 1: {'lr': 0.02}", "2:01", "66 %", "85 MB", "2 ms", "epoch 2, loss 0.78"):
        expect(row).to_contain_text(said)
    expect(row.get_by_role("progressbar", name="worker 1 reports")).to_have_attribute("aria-valuenow", "32")


def test_workers_of_two_pools_may_have_the_same_number(stage: Open) -> None:
    """Both rows are shown, and each keeps its own."""
    one = stage()
    view = one.show(panel(workers=[worker(0, item="of one"), worker(0, item="of two")]))
    assert view.locator(".rows .item").all_text_contents() == ["of one", "of two"]

    one.set(panel(workers=[worker(0, item="of one"), worker(0, item="of two, later")]))
    assert view.locator(".rows .item").all_text_contents() == ["of one", "of two, later"]


def test_nothing_is_drawn_before_it_is_visible(stage: Open) -> None:
    """A panel that is not to be seen yet takes no space; a model without a state does not, either."""
    one = stage()
    for state in (panel(visible=False), {}):
        view = one.show(state)
        assert view.bounding_box() is None
    one.set(panel())
    assert one.page.locator(".aiopool-host").last.bounding_box()["height"] > 50


def test_a_panel_that_is_over_is_a_line_and_the_rest_unfolds(stage: Open) -> None:
    """One line for each job; Details shows prints and failures, and hides them again."""
    one = stage()
    view = one.show(STATES["done-with-failures"], DETAILS)

    assert view.bounding_box()["height"] < 50
    expect(view).to_contain_text("fetch: 50,000 done, 1,443 failed, 12 retried, 1,190/s, 42 s")
    details = view.get_by_role("button", name="Details")
    expect(details).to_have_attribute("aria-expanded", "false")
    details.click()
    expect(view.locator(".failure")).to_have_count(3)
    expect(view.locator(".print").first).to_be_visible()
    details.click()
    expect(view.locator(".failures")).to_be_hidden()
    assert view.bounding_box()["height"] < 50


def test_a_job_that_is_done_with_failures_is_not_ticked_off(stage: Open) -> None:
    """A tick says that all is well."""
    ended = {"state": "done", "word": "done", "fraction": 1.0, "buttons": []}
    rows = [job(key="1", failed=0.0, **ended), job(key="2", failed=0.1, **ended)]
    view = stage().show(panel(jobs=rows, live=False))

    marks = view.locator(".line .mark")
    assert [mark.get_attribute("data-state") for mark in marks.all()] == ["done", "flawed"]


def test_details_are_not_offered_where_there_are_none(stage: Open) -> None:
    """A job that ended well and printed nothing is its line alone."""
    view = stage().show(STATES["done"])

    expect(view.get_by_role("button")).to_have_count(0)


def test_the_end_is_told_to_a_screen_reader_once_and_nothing_while_it_runs(stage: Open) -> None:
    """What changes ten times a second lies in no live region."""
    one = stage()
    view = one.show(STATES["everything"])
    live = view.locator("[aria-live], [role=status], [role=log], [role=alert]")
    assert "".join(live.all_text_contents()) == ""

    one.set(STATES["done"])
    assert "".join(live.all_text_contents()) == "fetch: 50,000 done, 1,190/s, 42 s"


# --- failures and prints -------------------------------------------------------------------------------------------


def test_failures_are_grouped_and_a_click_shows_the_traceback(stage: Open) -> None:
    """The group says how many, where, which inputs; the traceback comes with a click, in colours, even if late."""
    one = stage()
    view = one.show(STATES["everything"])
    group = view.locator(".failure").first
    for said in ("31 \u00d7 ValueError", "status 503", "Cell In[3], line 4, in fetch", "item 1881", "and 29 more"):
        expect(group).to_contain_text(said)
    expect(group.locator("pre")).to_be_hidden()

    group.get_by_role("button", name="ValueError").click()
    expect(group.locator("pre")).to_have_text("The traceback is on its way.")
    one.set(details=DETAILS)
    expect(group.locator("pre")).to_contain_text('----> 4     raise ValueError(f"status {answer.status} for {url}")')
    expect(group.locator("pre span.front-1").first).to_have_text(re.compile("^-+$"))
    group.get_by_role("button", name="ValueError").click()
    expect(group.locator("pre")).to_be_hidden()


@pytest.mark.parametrize("allowed", [True, False])
def test_how_to_try_an_input_is_copied(stage: Open, front: BrowserContext, allowed: bool) -> None:  # noqa: FBT001
    """Copy puts the line on the clipboard and says so, also where a page may not use the clipboard directly."""
    one = stage()
    front.grant_permissions(["clipboard-read", "clipboard-write"])
    if not allowed:
        one.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not here')); }")
    view = one.show(panel(fold=2, failures=[failure()]))
    view.get_by_role("button", name="ValueError").click()
    copy = view.get_by_role("button", name="Copy how to try it")
    copy.click()

    expect(copy).to_have_text("Copied")
    assert one.page.evaluate("navigator.clipboard.readText()") == failure()["hint"]


def test_the_last_lines_are_followed_unless_one_has_scrolled_up(stage: Open) -> None:
    """The end is in view as lines come, until the user scrolls up, and again when they are back at the end."""
    one = stage()
    lines = [line(f"line {number}") for number in range(50)]
    one.show(panel(fold=2, prints=lines))
    box = one.page.locator(".lines")
    bottom = "(box) => box.scrollHeight - box.clientHeight - box.scrollTop"
    assert box.evaluate(bottom) < 2

    def come(first: int) -> None:
        one.set(panel(fold=2, prints=[line(f"line {number}") for number in range(first, first + 50)]))

    come(10)
    assert box.evaluate(bottom) < 2
    assert box.locator(".words").first.text_content() == "line 10"
    box.evaluate("(box) => { box.scrollTop = 200; }")
    one.drawn()
    seen = "(box) => [...box.children].find((one) => one.offsetTop >= box.offsetTop + box.scrollTop).textContent"
    first = box.evaluate(seen)
    come(12)
    assert box.evaluate(bottom) > 100
    assert box.evaluate(seen) == first
    box.evaluate("(box) => { box.scrollTop = box.scrollHeight; }")
    one.drawn()
    come(20)
    assert box.evaluate(bottom) < 2


def test_a_line_that_stays_keeps_its_node(stage: Open) -> None:
    """Fifty lines that move up by one are one line that leaves and one that comes: a selection in them survives."""
    one = stage()
    one.show(panel(fold=2, prints=[line(f"line {number}") for number in range(50)]))
    one.page.evaluate("() => { stage.kept = document.querySelectorAll('.print')[7]; }")
    one.set(panel(fold=2, prints=[line(f"line {number}") for number in range(1, 51)]))

    assert one.page.evaluate("stage.kept.textContent") == "[item 7] line 7"
    assert one.page.evaluate("[...document.querySelectorAll('.print')].indexOf(stage.kept)") == 6


def test_lines_say_who_printed_them_and_which_are_of_stderr(stage: Open) -> None:
    """The label stands in front, stderr is said in a word, and dropped lines are counted."""
    view = stage().show(
        panel(fold=2, prints=[line("good"), line("bad", "worker 2", error=True)], dropped="9 lines dropped")
    )

    assert view.locator(".print").all_text_contents() == ["[item 7] good", "[worker 2] stderr bad"]
    expect(view).to_contain_text("9 lines dropped")


def test_colours_of_a_terminal_become_spans_and_all_else_is_left_out(stage: Open) -> None:
    """Colours and weights are kept; cursor movements, titles, links, bells and broken sequences are not seen."""
    text = (
        "\x1b[1;31mred\x1b[0m \x1b[38;5;28mgreen\x1b[39m \x1b[38;2;20;20;250mblue\x1b[m "
        "\x1b[2J\x1b[10;3Hplain\x1b]0;title\x07"
        "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\\x07\x08 \x1b[43mon\x1b[49m off\x1b[999;38m end\x1b["
    )
    one = stage()
    view = one.show(panel(fold=2, prints=[line(text)]))
    words = view.locator(".words")

    assert words.text_content() == "red green blue plainlink on off end"
    spans = words.locator("span").evaluate_all("(all) => all.map((one) => [one.textContent, one.className])")
    assert spans[:4] == [["red", "bold front-1"], ["green", "front-2"], ["blue", "front-4"], ["on", "back-3"]]


def test_nothing_that_a_state_says_becomes_markup(stage: Open) -> None:
    """Hostile text stands there as text, wherever it comes from: no element of it, and no script of it runs."""
    hostile = (
        "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>&lt;b&gt;\"'><svg onload=window.pwned=1>"
    )

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoil(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner, key) for inner in value]
        return hostile if isinstance(value, str) and key not in ("kind", "buttons", "key") else value

    one = stage()
    for name in ("everything", "reports", "done-with-failures", "dashboard-busy", "workers-64"):
        view = one.show(spoil(STATES[name]), dict.fromkeys(DETAILS, hostile))
        for button in view.get_by_role("button", name=re.compile("Details|onerror")).all()[:2]:
            if button.is_visible() and button.get_attribute("aria-expanded"):
                button.click()
        one.drawn()
        assert view.locator("img, script, b, svg:not(.mark)").count() == 0
        assert hostile in view.text_content()
    assert one.page.evaluate("window.pwned") is None
