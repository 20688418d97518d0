"""What the front end costs a browser: little where nothing has changed, and little at ten states a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.gallery import STATES, dashboard, job, panel, worker
from tests.browser.harness import Stage

pytestmark = pytest.mark.browser

# Changes what changes in a real job from one state to the next: counts, ages, vitals, items, the end of the prints.
_RUN = """async ([state, seconds, counted]) => {
    const next = (tick) => {
        const whole = structuredClone(state);
        whole.jobs.forEach((row, at) => {
            row.fraction = ((tick * 7 + at) % 100) / 100;
            row.count = `${1000 + tick * 31 + at} / 50,000`;
            row.facts = [`${1200 + tick % 9}/s`, `${(tick / 10).toFixed(1)} s`, `${90 - tick % 60} s left`];
        });
        whole.workers.forEach((row, at) => {
            row.done = String(2000 + tick * 3 + at);
            row.age = `${((tick + at) % 30) / 10} s`;
            if ((tick + at) % 3 === 0) row.item = `item ${8000 + tick * 64 + at}: 'https://example.org/${tick}'`;
            if ((tick + at) % 10 === 0) row.cpu = `${(tick + at) % 100} %`;
        });
        whole.prints?.push({ label: `item ${tick}`, text: `line ${tick}`, error: false });
        whole.prints?.splice(0, Math.max(0, whole.prints.length - 50));
        if (whole.prints) state.prints = whole.prints;
        whole.blocks?.forEach((block) => { block.start += tick / 10; block.end += tick / 10; });
        return whole;
    };
    let frames = 0, going = counted;
    const count = () => { frames += 1; if (going) requestAnimationFrame(count); };
    if (counted) requestAnimationFrame(count);
    const begin = performance.now();
    for (let tick = 1; tick <= seconds * 10; tick += 1) {
        stage.model.set({ state: next(tick) });
        await new Promise((done) => setTimeout(done, Math.max(0, begin + tick * 100 - performance.now())));
    }
    going = false;
    return frames / ((performance.now() - begin) / 1000);
}"""

# Counts frames from now on.
_COUNT = """() => {
    let frames = 0;
    const begin = performance.now(), count = () => { frames += 1; requestAnimationFrame(count); };
    requestAnimationFrame(count);
    window.frameRate = () => frames / ((performance.now() - begin) / 1000);
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without anything else in it; the colours of a screen as most have it."""
    context = browser.new_context(viewport={"width": 1100, "height": 1000}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.fixture
def spent(page: Page) -> Callable[[Callable[[], object]], Counter[str]]:
    """Measure what the page's main thread does while something goes on: layouts, styles, seconds of its processor."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def so_far() -> Counter[str]:
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return Counter({each["name"]: each["value"] for each in metrics})

    def measure(act: Callable[[], object]) -> Counter[str]:
        before = so_far()
        act()
        return so_far() - before

    return measure


def busiest(kind: str) -> Any:
    """Twenty jobs on sixty-four workers."""
    jobs = [job(str(number), name=f"job_{number}", failed=0.01) for number in range(20)]
    workers = STATES["workers-64"]["workers"]
    if kind == "dashboard":
        return dashboard(jobs=jobs, workers=workers, blocks=STATES["dashboard-64"]["blocks"][:600])
    prints = STATES["everything"]["prints"]
    return panel(jobs=jobs, workers=workers, prints=prints, fold=2, failures=STATES["everything"]["failures"])


@pytest.mark.parametrize("kind", ["panel", "dashboard"])
def test_twenty_jobs_on_sixty_four_workers_cost_a_small_part_of_a_core(
    page: Page, spent: Callable[..., Counter[str]], kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Ten states a second of many rows are drawn less than three times, and laid out no more often; frames are left.

    On a quiet machine that is 1 to 2 % of a core. How much it was here is said, not judged.
    """
    one = Stage(page)
    one.show(busiest(kind))
    one.drawn()

    def run(seconds: float, *, frames: bool = False) -> Any:
        return page.evaluate(_RUN, [busiest(kind), seconds, frames])

    # The least of some: caches and cores are shared with others.
    costs = [spent(lambda: run(1)) for _ in range(3)]
    # Of one time: a page beside it has as many frames as the machine has to give just then.
    beside = page.context.new_page()
    beside.evaluate(_COUNT)
    frames = run(3, frames=True)
    without = beside.evaluate("() => window.frameRate()")
    beside.close()
    one.end_view(0)
    # What the making of such states costs is no cost of the view.
    share = min(cost["TaskDuration"] for cost in costs) - min(spent(lambda: run(1))["TaskDuration"] for _ in range(3))
    record_property(f"front end, {kind}", f"{share:.1%} of a core, {frames:.0f} frames/s")
    for cost in costs:
        assert 1 <= cost["LayoutCount"] <= 3
        assert cost["RecalcStyleCount"] <= 2 * 3
    assert frames > without / 2


def test_a_small_panel_shows_every_state(page: Page) -> None:
    """With few workers no state is left out that comes a tenth of a second after the last, on a busy machine, too."""
    one = Stage(page)
    one.show(panel())
    one.drawn()
    shown = page.evaluate(
        """async (state) => {
        const bar = document.querySelector(".count"), seen = [];
        new MutationObserver(() => seen.push(bar.textContent)).observe(bar, { characterData: true, subtree: true });
        for (let tick = 0; tick < 10; tick += 1) {
            const next = structuredClone(state);
            next.jobs[0].count = String(tick);
            stage.model.set({ state: next });
            await new Promise((done) => setTimeout(done, 100));
            for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
        }
        return seen;
    }""",
        panel(),
    )
    assert len(shown) >= 7
    assert shown == sorted(shown)


def test_a_state_like_the_last_one_writes_nothing(page: Page) -> None:
    """Only what has changed is written: of the same state nothing, of another count that alone."""
    one = Stage(page)
    page.evaluate(
        """() => { stage.written = [];
        new MutationObserver((all) => stage.written.push(...all.map((one) => one.type))).observe(
            document.body, { subtree: true, childList: true, characterData: true, attributes: true }); }"""
    )
    for name, state in STATES.items():
        one.show(state)
        one.drawn()
        page.evaluate("() => { stage.written = []; }")
        one.set(state)
        assert page.evaluate("stage.written") == [], name
        one.end_view(0)
    one.show(panel())
    one.drawn()
    page.evaluate("() => { stage.written = []; }")
    one.change(panel(), lambda state: state["workers"][2].update(done="2,118"))
    assert page.evaluate("stage.written") == ["characterData"]


def test_states_that_come_faster_than_frames_are_drawn_once_a_frame(page: Page) -> None:
    """A hundred states in one frame are one drawing, of the last."""
    one = Stage(page)
    view = one.show(panel())
    written = page.evaluate(
        """async ([state, count]) => {
        let drawings = 0;
        new MutationObserver((all) => { drawings += all.length; }).observe(
            document.body, { subtree: true, characterData: true });
        for (let at = 1; at <= count; at += 1) {
            const next = structuredClone(state);
            next.workers[0].done = String(at);
            stage.model.set({ state: next });
        }
        await stage.model.drawn();
        return drawings;
    }""",
        [panel(), 100],
    )
    assert written == 1
    assert view.locator(".rows .done").first.text_content() == "100"


def test_what_is_folded_away_is_not_drawn(page: Page) -> None:
    """Sixty-four workers that nobody sees cost nothing; unfolded they are as they are now."""
    one = Stage(page)
    view = one.show(panel(fold=0, workers=[worker(0)]))
    one.set(panel(fold=0, workers=[worker(index) for index in range(64)]))
    assert view.locator(".rows .worker").count() == 0
    one.set(panel(fold=1, workers=[worker(index) for index in range(64)]))
    assert view.locator(".rows .worker").count() == 64
