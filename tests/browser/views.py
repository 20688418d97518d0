"""What there is to read and to press in a panel and in a dashboard."""

from __future__ import annotations

import time
from typing import Literal

from playwright.sync_api import Locator, expect

Fold = Literal["Bar", "Workers", "All"]

_WATCH = """async (part, [seconds, pause, most]) => {
  const seen = [], end = performance.now() + 1000 * seconds;
  do {
    const width = parseFloat(part.style.width);
    if (width !== seen.at(-1)) seen.push(width);
    await new Promise(resolve => setTimeout(resolve, pause));
  } while (performance.now() < end && seen.length < most);
  return seen;
}"""


class _View:
    """Whatever a widget of ours draws."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    def job(self, name: str) -> Job:
        """The row of a job that runs."""
        return Job(self.root.locator(".job").filter(has=self.root.page.get_by_text(name, exact=True)))

    @property
    def jobs(self) -> Locator:
        """The rows of jobs that run."""
        return self.root.locator(".job")

    @property
    def workers(self) -> Locator:
        """The rows of workers."""
        return self.root.locator(".workers .rows .worker")

    def press(self, label: str) -> float:
        """Press a button by the name that a screen reader reads; returns when that was."""
        self.root.get_by_role("button", name=label, exact=True).click()
        return time.monotonic()

    def has_button(self, label: str) -> bool:
        """Whether there is such a button to press."""
        return self.root.get_by_role("button", name=label, exact=True).is_visible()


class Job:
    """The row of a job that runs."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.bar = root.get_by_role("progressbar")
        self.count = root.locator(".count")
        self.under = root.locator(".under")

    @property
    def done(self) -> int:
        """How many items have ended, as the row says."""
        return int(self.count.inner_text().partition("/")[0].replace(",", "").strip())

    def widths(self, seconds: float) -> list[float]:
        """Watch the bar for so long, in the browser, and return its widths in percent, each once."""
        return self._watch(seconds, most=100_000)

    def moves(self, times: int, within: float = 20.0) -> list[float]:
        """Watch the bar until it has moved so often, however long that takes, and return its widths."""
        widths = self._watch(within, most=times + 1)
        assert len(widths) > times, widths
        return widths

    def _watch(self, seconds: float, most: int) -> list[float]:
        widths: list[float] = self.bar.locator(".part").first.evaluate(_WATCH, [seconds, 10, most])
        return widths


class Panel(_View):
    """The panel of one cell, or another view of it."""

    @property
    def lines(self) -> Locator:
        """What is left of jobs that have ended."""
        return self.root.locator(".ended .line")

    def wait_until_shown(self) -> Panel:
        """Wait until it draws something."""
        expect(self.root).to_be_visible()
        return self

    def wait_for_line(self, text: str, seconds: float = 20.0) -> float:
        """Wait until a job has left a line with this in it; returns when that was."""
        expect(self.lines.filter(has_text=text).first).to_be_visible(timeout=1000 * seconds)
        return time.monotonic()

    @property
    def fold(self) -> str:
        """Which of the three is chosen."""
        return self.root.locator(".fold [aria-pressed='true']").inner_text()

    def choose(self, fold: Fold) -> None:
        """Show so much."""
        self.root.locator(".fold").get_by_role("button", name=fold, exact=True).click()
        expect(self.root.locator(".fold [aria-pressed='true']")).to_have_text(fold)

    def open_details(self) -> None:
        """Show what is folded away once all jobs have ended."""
        self.root.get_by_role("button", name="Details", exact=True).click()

    @property
    def failures(self) -> Locator:
        """The groups of failures."""
        return self.root.locator(".failure")

    @property
    def prints(self) -> Locator:
        """The last lines that workers printed."""
        return self.root.locator(".print")


class Dashboard(_View):
    """A dashboard of a pool."""

    @property
    def size(self) -> Locator:
        """The field with the number of workers."""
        return self.root.get_by_label("Number of workers")

    def state_of(self, worker: int) -> str:
        """In which state a worker is."""
        return self.workers.nth(worker).get_attribute("data-state") or ""
