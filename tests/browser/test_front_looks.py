"""How the front end looks: it stands still, fits, can be read in any theme, and works with a keyboard."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SCREENSHOTS
from tests.browser.gallery import DETAILS, STATES, dashboard, failure, job, panel, worker
from tests.browser.harness import PIXELS, THEMES, Stage, Theme

pytestmark = pytest.mark.browser

# Every element that shows text of its own: its colour, and what is behind it.
CONTRASTS = """() => {
    const parse = (colour) => {
        const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = (front, back) => back.slice(0, 3).map((part, at) => front[at] * front[3] + part * (1 - front[3]));
    const light = (colour) => colour.slice(0, 3).map((part) => part / 255).map(
        (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    ).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const found = [];
    for (const one of document.querySelectorAll(".aiopool *")) {
        const own = [...one.childNodes].filter((child) => child.nodeType === 3 && child.data.trim());
        if (!own.length && one.tagName !== "INPUT" || !one.checkVisibility()) continue;
        const grounds = [];
        for (let up = one; up; up = up.parentElement) grounds.push(parse(getComputedStyle(up).backgroundColor));
        const ground = grounds.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
        const lights = [light(over(parse(getComputedStyle(one).color), ground)), light(ground)];
        const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
        found.push([contrast, one.className || one.tagName, own[0]?.data ?? ""]);
    }
    return found.sort((one, other) => one[0] - other[0]);
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One page for all: each test opens its own stage in it. Nothing moves in it by itself, so that pictures agree."""
    context = browser.new_context(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def stage(page: Page) -> Iterator[Callable[..., Stage]]:
    """Open a stage; what goes wrong in it fails the test."""
    opened: list[Stage] = []

    def open_one(theme: Theme = "jupyter-light", width: int = 860) -> Stage:
        page.set_viewport_size({"width": width + 24, "height": 900})
        page.unroute_all()
        opened.append(Stage(page, theme, width))
        return opened[-1]

    yield open_one
    assert not [error for one in opened for error in one.errors]


def unfold(one: Stage) -> None:
    """Open what can be opened, as somebody does who wants to see it."""
    for name in ("Details", "Stack of worker 1"):
        button = one.page.get_by_role("button", name=name, exact=True)
        if button.count() and button.is_visible():
            button.click()
    one.drawn()
    if one.page.locator(".failure-head").first.is_visible():
        one.page.locator(".failure-head").first.click()
    one.drawn()


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["jupyter-light", "jupyter-dark"])
def test_pictures_for_people_to_look_at(stage: Callable[..., Stage], theme: Theme) -> None:
    """Every state of the gallery is drawn; the pictures are in build/screenshots/."""
    folder = Path(SCREENSHOTS) / "front"
    folder.mkdir(parents=True, exist_ok=True)
    one = stage(theme)
    for name, state in STATES.items():
        view = one.show(state, DETAILS)
        if name in ("everything", "done-with-failures", "dashboard-busy"):
            unfold(one)
        one.drawn()
        one.page.mouse.move(0, 0)
        view.screenshot(path=folder / f"{name}-{theme.removeprefix('jupyter-')}.png", animations="disabled")
        one.end_view(0)


# --- colours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read_in_every_theme(stage: Callable[..., Stage], theme: Theme) -> None:
    """The contrast of each text to what is behind it is at least 4.5 to 1."""
    one = stage(theme)
    for name in (
        "everything",
        "stuck",
        "reports",
        "calls",
        "done-with-failures",
        "workers-64",
        "dashboard-busy",
        "dashboard-closed",
    ):
        one.show(STATES[name], DETAILS)
        unfold(one)
        found = one.page.evaluate(CONTRASTS)
        assert len(found) > 4, name
        assert found[0][0] >= 4.5, (name, found[:5])
        one.end_view(0)


def test_terminal_colours_can_be_read_in_light_and_dark(stage: Callable[..., Stage]) -> None:
    """All sixteen, alone and on any of them that is behind: what a program chose is still legible."""
    text = "".join(f"\x1b[{code}m {code} " for code in (*range(30, 38), *range(90, 98)))
    text += "".join(f"\x1b[0;{code}m {code} " for code in range(40, 48))
    for theme in ("jupyter-light", "jupyter-dark"):
        one = stage(theme)
        one.show(panel(fold=2, failures=[failure()]), {"1-a": text})
        unfold(one)
        found = one.page.evaluate(CONTRASTS)
        assert found[0][0] >= 4.5, found[:5]


def test_the_theme_is_followed_while_it_runs(stage: Callable[..., Stage]) -> None:
    """Who switches the theme sees panel and timeline switch, too."""
    one = stage("jupyter-light")
    view = one.show(dashboard())
    root = view.locator(".aiopool")
    assert root.evaluate("(root) => root.style.colorScheme") == "light"
    before = view.locator("canvas").evaluate(PIXELS, [40, 8, 1])
    one.page.evaluate(
        """() => { document.documentElement.style.setProperty('--jp-layout-color1', '#212121');
        document.body.dataset.jpThemeLight = 'false'; }"""
    )
    expect(root).to_have_attribute("style", "color-scheme: dark;")
    one.drawn()
    assert view.locator("canvas").evaluate(PIXELS, [40, 8, 1]) != before


def test_a_light_page_is_light_for_who_prefers_dark(stage: Callable[..., Stage]) -> None:
    """What counts is what is behind the panel, not what the system would like."""
    one = stage("jupyter-light")
    one.page.emulate_media(color_scheme="dark")
    view = one.show(panel())
    assert view.locator(".aiopool").evaluate("(root) => root.style.colorScheme") == "light"
    assert one.page.evaluate(CONTRASTS)[0][0] >= 4.5


# --- it stands still -------------------------------------------------------------------------------------------------

PLACES = """() => [...document.querySelectorAll(
    ".bar, .count, .name, .fact, .actions, .actions button, .fold, .strip, .worker, .cell, .timeline, .topline *")]
    .filter((one) => one.checkVisibility()).map((one) => { const box = one.getBoundingClientRect();
        return [one.tagName, Math.round(box.x), Math.round(box.y), Math.round(box.width), Math.round(box.height)]; })"""
# What can be seen of each text: its box, cut by whatever cuts it.
TEXTS = """() => {
    let number = 0;
    const walker = document.createTreeWalker(document.querySelector(".aiopool"), NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const node = walker.currentNode, parent = node.parentElement;
        if (!node.data.trim() || parent.closest(".unseen")) continue;
        if (!parent.checkVisibility({ opacityProperty: true })) continue;
        number += 1;
        const range = document.createRange();
        range.selectNode(node);
        for (let { left, right, top, bottom } of range.getClientRects()) {
        for (let up = parent; up; up = up.parentElement) {
            const style = getComputedStyle(up), box = up.getBoundingClientRect();
            if (style.overflowX === "visible" && !style.contain.match("strict|paint")) continue;
            [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
            [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
        }
        if (right - left < 0.5 || bottom - top < 0.5) continue;
        found.push({ number, left, right, top, bottom, text: node.data.slice(0, 40) });
        }
    }
    return found;
}"""


def _grow(state: Any) -> None:
    row = state["jobs"][0]
    row.update(
        count="10,123 / 50,000", fraction=0.2, failed=0.01, facts=["11,204/s", "16.9 s", "4 s left", "388 in flight"]
    )
    row["buttons"] = ["resume", "cancel"]
    for each in state["workers"]:
        each.update(
            done="12,103",
            age="12 s",
            cpu="100 %",
            memory="1,284 MB",
            lag="112 ms",
            in_flight="1,000",
            item="item 12345678: x",
        )
    state["workers"][1].update(state="blocked", word="blocked")


@pytest.mark.parametrize("made", [panel, dashboard])
@pytest.mark.parametrize("width", [520, 860])
def test_nothing_moves_when_digits_are_added(stage: Callable[..., Stage], made: Callable[[], Any], width: int) -> None:
    """Bars, buttons, columns and rows keep place and size, whatever the numbers become."""
    one = stage(width=width)
    one.show(made())
    one.drawn()
    before = one.page.evaluate(PLACES)
    one.change(made(), _grow)
    after = one.page.evaluate(PLACES)
    assert before == after


def test_a_figure_that_comes_takes_its_own_room(stage: Callable[..., Stage]) -> None:
    """The time stands where it would have stood, had nothing longer been in its place before there was a rate."""
    one = stage()
    view = one.show(panel(jobs=[job(facts=["0.5 s", "12,000 in flight"])]))
    view.locator(".fact").nth(1).evaluate("(fact) => { fact.dataset.was = 'flight'; }")
    facts = ["1,204/s", "6.9 s", "34 s left", "400 in flight"]
    one.set(panel(jobs=[job(facts=facts)]))
    expect(view.locator(".fact")).to_have_text(facts)
    expect(view.locator(".fact").nth(3)).to_have_attribute("data-was", "flight")
    assert view.locator(".fact").nth(1).bounding_box()["width"] < 60
    minutes = ["1.2/min", "1:06", "3:07 left", "400 in flight"]
    one.set(panel(jobs=[job(facts=minutes)]))
    expect(view.locator(".fact")).to_have_text(minutes)
    expect(view.locator(".fact").nth(3)).to_have_attribute("data-was", "flight")


def test_what_has_appeared_stays(stage: Callable[..., Stage]) -> None:
    """A column of reports, the room for lines: they come once, and do not come and go."""
    one = stage()
    one.show(STATES["reports"])
    before = one.page.evaluate(PLACES)
    one.change(STATES["reports"], lambda state: [row.update(fraction=None, text="") for row in state["workers"]])
    assert one.page.evaluate(PLACES) == before


@pytest.mark.parametrize("width", [320, 560, 860])
def test_how_much_is_shown_is_chosen_at_one_place(stage: Callable[..., Stage], width: int) -> None:
    """At the right end of the first line, above all jobs, however many there are, whatever is said and is shown."""
    one = stage(width=width)
    view = one.show(panel())
    fold, root = view.locator(".fold"), view.locator(".aiopool")
    place, panel_box, first = fold.bounding_box(), root.bounding_box(), view.locator(".job").first.bounding_box()
    assert place["y"] - panel_box["y"] < 12
    assert panel_box["x"] + panel_box["width"] - place["x"] - place["width"] < 14
    assert place["y"] + place["height"] <= first["y"]
    jobs = [job(str(number), name=f"job_{number}") for number in range(5)]
    for state in (
        panel(jobs=jobs),
        panel(jobs=jobs[:2], workers_title="", fold=0),
        panel(fold=2),
        STATES["everything"],
    ):
        one.set(state)
        assert fold.bounding_box() == place
    one.set(panel(jobs=jobs, note="press Stop to cancel"))
    assert fold.bounding_box() == place
    expect(view.locator(".note").first).to_have_text("press Stop to cancel")


# --- it fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 560, 860])
@pytest.mark.parametrize(
    "name", ["everything", "calls", "crowded", "workers-64", "stuck", "dashboard-busy", "done-with-failures"]
)
def test_nothing_sticks_out(stage: Callable[..., Stage], name: str, width: int) -> None:
    """In any width no text lies on another, and nothing needs to be scrolled sideways."""
    one = stage(width=width)
    one.show(STATES[name], DETAILS)
    unfold(one)
    edge = one.page.locator(".aiopool").evaluate("(root) => root.getBoundingClientRect().right")
    texts = one.page.evaluate(TEXTS)
    assert [text["text"] for text in texts if text["right"] > edge] == []
    overlaps = [
        (first["text"], second["text"])
        for place, first in enumerate(texts)
        for second in texts[place + 1 :]
        if first["number"] != second["number"]
        and min(first["right"], second["right"]) - max(first["left"], second["left"]) > 1.5
        and min(first["bottom"], second["bottom"]) - max(first["top"], second["top"]) > 4
    ]
    assert overlaps == []


def test_sixty_four_workers_fit_on_a_screen(stage: Callable[..., Stage]) -> None:
    """They stand side by side, each with what it does and for how long."""
    one = stage(width=1100)
    view = one.show(STATES["workers-64"])
    assert view.bounding_box()["height"] < 450
    expect(view.locator(".rows .worker").nth(13)).to_contain_text("stuck")
    view.locator(".rows .worker").nth(3).hover()
    title = view.locator(".rows .worker").nth(3).get_attribute("title")
    assert "pid 41233" in title
    assert "memory 87 MB" in title


# --- the keyboard ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["everything", "dashboard-busy", "done-with-failures"])
def test_every_control_is_reached_by_tab_and_seen_when_it_is(stage: Callable[..., Stage], name: str) -> None:
    """Tab goes through all of them, each shows that it has the focus, and each has a name."""
    one = stage()
    view = one.show(STATES[name], DETAILS)
    controls = view.locator("button:visible, input:visible")
    wanted = controls.count()
    assert wanted > 1
    named = "(all) => all.filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim())).length"
    assert controls.evaluate_all(named) == 0
    reached = set()
    for _ in range(wanted + 12):
        one.page.keyboard.press("Tab")
        found = one.page.evaluate(
            """() => { const one = document.activeElement;
            return one.matches("button, input") ? [[...document.querySelectorAll("button, input")].indexOf(one),
                parseFloat(getComputedStyle(one).outlineWidth)] : null; }"""
        )
        if found:
            assert found[1] >= 2
            reached.add(found[0])
    assert len(reached) == wanted


def test_keys_press_buttons(stage: Callable[..., Stage]) -> None:
    """Space and Enter do what a click does, and the focus stays where it was while states come."""
    one = stage()
    view = one.show(panel())
    view.get_by_role("button", name="Cancel fetch").focus()
    changed = copy.deepcopy(panel())
    changed["jobs"][0]["count"] = "9,000 / 50,000"
    one.set(changed)
    one.page.keyboard.press("Space")
    assert [click["action"] for click in one.sent] == ["cancel"]
    view.get_by_role("button", name="All").focus()
    one.page.keyboard.press("Enter")
    assert one.sent[-1] == {"action": "fold", "fold": 2, "click": 2}


def test_the_focus_stays_when_a_row_above_goes(stage: Callable[..., Stage]) -> None:
    """A job that leaves the list takes nothing from the others."""
    one = stage()
    view = one.show(panel(jobs=[job(), job("2", name="score")]))
    view.get_by_role("button", name="Cancel score").focus()
    one.set(panel(jobs=[job("2", name="score")]))
    expect(view.get_by_role("button", name="Cancel score")).to_be_focused()


def test_the_table_of_workers_is_a_table_to_a_screen_reader(stage: Callable[..., Stage]) -> None:
    """Rows, headings, and the state in a word also where the eye is content with a shape."""
    one = stage()
    view = one.show(panel(workers=[worker(0), worker(1)]))
    table = view.get_by_role("table", name="Workers")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(table.get_by_role("columnheader", name="memory")).to_be_visible()
    one.set(STATES["workers-64"])
    expect(view.locator(".rows .worker").nth(1).get_by_role("img", name="busy")).to_be_visible()
