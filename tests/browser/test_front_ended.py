"""What the front end shows when the kernel has ended, and when nothing is heard of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import SCREENSHOTS
from tests.browser.gallery import DETAILS, STATES, dashboard, job, panel
from tests.browser.harness import Stage

pytestmark = pytest.mark.browser

Open = Callable[..., Stage]

# How a page may learn of it. JupyterLab says the first two, whichever way the kernel ends; others only fail to send.
SIGNS = {
    "restarting": "stage.model.session.statusChanged.emit('restarting')",
    "died": "stage.model.session.statusChanged.emit('autorestarting')",
    "another": "stage.model.session.kernelChanged.emit({ oldValue: { id: 'a' }, newValue: { id: 'b' } })",
    "shut down": "stage.model.session.kernelChanged.emit({ oldValue: { id: 'a' }, newValue: null })",
    "disconnected": "stage.model.disposed = true; stage.model.trigger('comm_live_update')",
}


def end_kernel(one: Stage, sign: str = "restarting") -> None:
    """Let the page learn that the kernel has ended."""
    one.page.evaluate(f"async () => {{ {SIGNS[sign]}; stage.model.disposed = true; }}")
    one.drawn()


def assert_ended(view: Locator) -> None:
    """It says so, once for the whole and for each job that ran, and none of its buttons does anything."""
    expect(view.locator(".apology").first).to_have_text("The kernel has ended.")
    expect(view.locator(".job").first.locator(".word")).to_have_text("ended with the kernel")
    expect(view.locator(".job").first.locator(".fact")).to_have_text(["6.9 s"])
    expect(view.locator(".job").first.locator(".bar")).to_have_class("bar over")
    for one in view.locator(".job").first.locator("button").all():
        expect(one).to_have_attribute("aria-disabled", "true")
    expect(view.locator(".rows .worker .word").first).to_have_text("ended")


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("state", [panel(), dashboard()], ids=["panel", "dashboard"])
def test_a_job_is_shown_to_have_ended_with_the_kernel(stage: Open, state: Any, sign: str) -> None:
    """At once where the front end says so, in every view, also in one that is made afterwards."""
    one = stage()
    view = one.show(state)
    one.initialize()
    end_kernel(one, sign)
    assert_ended(view)
    assert_ended(one.add_view())
    view.get_by_role("button", name="Cancel fetch").click(force=True)
    one.end_view(0)
    assert one.sent == []


@pytest.mark.parametrize("state", [panel(), dashboard()], ids=["panel", "dashboard"])
def test_a_click_that_reaches_nobody_shows_that_the_kernel_has_ended(stage: Open, state: Any) -> None:
    """Where nobody has said so before: nothing is thrown into the page."""
    one = stage()
    view = one.show(state)
    one.initialize()
    one.page.evaluate("() => { stage.model.disposed = true; }")
    view.get_by_role("button", name="Pause fetch").click()
    one.drawn()
    assert_ended(view)
    expect(view.get_by_role("button", name="Pause fetch")).not_to_have_class("pause pressed")


def test_a_panel_of_a_kernel_that_has_ended_still_folds(stage: Open) -> None:
    """What is a matter of the page alone needs no kernel."""
    one = stage()
    view = one.show(panel(fold=1))
    one.initialize()
    end_kernel(one)
    for name, shown in (("Bar", 0), ("Workers", 4), ("Bar", 0)):
        view.get_by_role("button", name=name, exact=True).click()
        expect(view.locator(".rows .worker:visible")).to_have_count(shown)


def test_a_job_that_had_ended_before_the_kernel_stays_as_it_was(stage: Open) -> None:
    """With a button for which the kernel would be needed that is said; else nothing changes."""
    one = stage()
    view = one.show(STATES["done"])
    before = view.inner_text()
    one.initialize()
    end_kernel(one)
    assert view.inner_text() == before
    one.end_view(0)
    view = one.show(panel(live=False, jobs=[job(state="failed", word="failed", buttons=["retry"])]))
    one.initialize()
    end_kernel(one)
    expect(view.get_by_role("button", name="Retry fetch")).to_have_attribute("aria-disabled", "true")
    expect(view.locator(".apology").last).to_have_text("The kernel has ended.")


@pytest.mark.parametrize("state", [panel(), dashboard()], ids=["panel", "dashboard"])
def test_a_kernel_of_which_nothing_is_heard_looks_alive_again_with_the_next_news(stage: Open, state: Any) -> None:
    """It may be held, or have ended: the bar stands still and no button works, until a state comes."""
    one = stage(stopped=True)
    view = one.show(state)
    one.initialize()
    cancel = view.get_by_role("button", name="Cancel fetch")
    one.page.clock.run_for(6_000)
    expect(view.locator(".apology").first).to_contain_text("No news for some seconds")
    expect(view.locator(".job .word").first).to_have_text("no news")
    expect(view.locator(".job .facts").first).to_have_text("6.9 s")
    expect(cancel).to_have_attribute("aria-disabled", "true")
    one.page.evaluate("(state) => stage.model.set({ state })", state)
    one.page.clock.run_for(1_000)
    expect(view.locator(".apology").first).to_have_text("")
    expect(view.locator(".job .word").first).to_be_hidden()
    expect(view.locator(".job .facts").first).to_contain_text("34 s left")
    expect(cancel).not_to_have_attribute("aria-disabled", "true")


def test_a_dashboard_on_which_nothing_runs_waits_for_no_news(stage: Open) -> None:
    """Of an idle pool, or one that is closed, there may be none for long."""
    one = stage(stopped=True)
    view = one.show(dashboard(jobs=[job(state="done", word="done", buttons=[])]))
    one.page.clock.run_for(20_000)
    expect(view.locator(".apology").first).to_have_text("")


def test_what_was_on_its_way_when_the_kernel_ended_does_not_revive_it(stage: Open) -> None:
    """What comes long after does: then the front end was wrong."""
    one = stage(stopped=True)
    view = one.show(panel())
    one.initialize()
    one.page.clock.run_for(5)
    one.page.evaluate(f"() => {{ {SIGNS['restarting']} }}")
    one.page.evaluate("(state) => stage.model.set({ state })", panel())
    one.page.clock.run_for(500)
    assert_ended(view)
    one.page.clock.run_for(2_000)
    one.page.evaluate("(state) => stage.model.set({ state })", panel())
    one.page.clock.run_for(500)
    expect(view.locator(".apology").first).to_have_text("")


@pytest.mark.parametrize("theme", ["jupyter-light", "jupyter-dark"])
def test_pictures_of_what_ended_with_the_kernel(stage: Open, theme: Any) -> None:
    """For people to look at, in build/screenshots/front/."""
    folder = SCREENSHOTS / "front"
    folder.mkdir(parents=True, exist_ok=True)
    one = stage(theme)
    for name, state in (("panel", panel()), ("dashboard", dashboard())):
        view = one.show(state, DETAILS)
        one.initialize()
        end_kernel(one)
        view.screenshot(path=folder / f"ended-{name}-{theme.removeprefix('jupyter-')}.png")
        one.end_view(0)
