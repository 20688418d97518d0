"""A browser, servers that live as long as the tests, and one open notebook for the tests of a file.

A test gets the notebook with a new kernel and no cells. Every page error fails the test in which it comes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.browser.harness import Stage, Theme
from tests.browser.notebook import Notebook, new_file
from tests.browser.servers import FrontEnd, Server

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
VIEWPORT = {"width": 1280, "height": 1400}

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]

Figure = Callable[[str, float], None]


def find_chromium() -> str | None:
    """Where the system's Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note seconds that were measured, for the summary."""

    def note(name: str, seconds: float) -> None:
        request.node.user_properties.append((name, f"{seconds:.2f} s"))

    return note


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where the system's Chromium is."""
    if (path := find_chromium()) is None:
        pytest.skip("Chromium is missing: apt install chromium")
    return path


# Playwright keeps a loop running in this thread while it is open, and then nothing else can run one: a file at most.
@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        # For all files: what an expectation waits for must not depend on which file came first in this process.
        expect.set_options(timeout=40_000)
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What the pages of a file have in common: the cache, for one."""
    own = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    own.set_default_timeout(20_000)
    yield own
    own.close()


def _front(browser: Browser) -> BrowserContext:
    own = browser.new_context(viewport={"width": 900, "height": 900})
    own.set_default_timeout(20_000)
    return own


@pytest.fixture(scope="module")
def front(browser: Browser) -> Iterator[BrowserContext]:
    """What the stages of a file have in common: neither server nor kernel."""
    own = _front(browser)
    yield own
    own.close()


@pytest.fixture
def stage(browser: Browser, front: BrowserContext) -> Iterator[Callable[..., Stage]]:
    """Open a page with the front end alone; what goes wrong in it fails the test.

    With ``stopped``, time passes there only as far as the test lets it (``page.clock.run_for``), on any machine.
    """
    opened: list[Stage] = []

    def open_one(theme: Theme = "jupyter-light", width: int = 860, *, stopped: bool = False) -> Stage:
        # A clock is of all pages of its context, those of later tests included.
        page = _front(browser).new_page() if stopped else front.new_page()
        opened.append(Stage(page, theme, width))
        if stopped:
            page.clock.install(time=0)
            page.clock.pause_at(3600)
        return opened[-1]

    yield open_one
    errors = [error for one in opened for error in one.errors]
    for one in opened:
        if one.page.context is front:
            one.page.close()
        else:
            one.page.context.close()
    assert not errors


class Servers:
    """Starts a server of each kind when it is first asked for."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._started: dict[FrontEnd, Server] = {}

    def get(self, front_end: FrontEnd) -> Server:
        """The one of that kind."""
        if front_end not in self._started:
            self._started[front_end] = Server(front_end, self._folders.mktemp(front_end))
        return self._started[front_end]

    def close(self) -> None:
        """End them all."""
        for server in self._started.values():
            server.close()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All servers of this session."""
    started = Servers(tmp_path_factory)
    yield started
    started.close()


@pytest.fixture(scope="module", params=["lab", "notebook"])
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """JupyterLab, and then Notebook 7."""
    return servers.get(request.param)


@pytest.fixture(scope="module")
def opened(server: Server, context: BrowserContext) -> Iterator[Notebook]:
    """One notebook for all tests of a file in one front end: opening a page costs seconds."""
    page = context.new_page()
    notebook = Notebook(page, server)
    notebook.open(new_file(server.notebooks / "test.ipynb"))
    yield notebook
    notebook.shut_down()
    page.close()


@pytest.fixture
def notebook(opened: Notebook, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """The notebook without cells, with a kernel in which only the imports have run."""
    opened.begin_anew()
    yield opened
    failed = getattr(request.node, "failed", False)
    if failed:
        opened.screenshot(SCREENSHOTS / "failed" / f"{file_name(request.node.name)}.png")
    if not failed:
        opened.assert_no_errors()


@pytest.fixture
def screenshot(request: pytest.FixtureRequest, notebook: Notebook) -> Callable[..., Path]:
    """Take a picture of the page, named after the test, for whoever wants to look."""

    def take(name: str = "") -> Path:
        stem = file_name(request.node.name.removeprefix("test_"))
        return notebook.screenshot(SCREENSHOTS / f"{stem}{'-' if name else ''}{name}.png")

    return take


def file_name(test: str) -> str:
    """A test's name as that of a file."""
    return re.sub(r"[^\w-]+", "-", test).strip("-")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Tell fixtures whether the test has failed: a picture is worth having then."""
    report = yield
    if report.when == "call":
        item.failed = report.failed
    return report
