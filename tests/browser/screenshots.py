"""The pictures in the docs, taken of the real thing: a notebook in JupyterLab that reads pages from a small web server.

python -m tests.browser.screenshots docs/images
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM_ARGUMENTS, find_chromium
from tests.browser.notebook import Cell, Notebook, new_file
from tests.browser.servers import Server

WIDTH, HEIGHT = 1000, 1000
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
FRAMES_A_SECOND = 6
LAST_FRAME = 3.0
"""Seconds that the end of the animation stays."""

Frame: TypeAlias = tuple[float, Image.Image]
"""When it was taken, and what is on it."""

FETCH = """
@aiopool.per_worker
async def session():
    async with aiohttp.ClientSession(SITE, raise_for_status=True) as client:
        yield client

async def fetch(page):
    s = await session()
    async with s.get(page) as response:
        text = await response.text()
    if not text:
        raise ValueError(f"{page} is empty")
    if "<title>" not in text:
        print("no title on", page)
    return text
"""

SCORE = """
def score(n):
    end = time.monotonic() + 0.02 + (n * 37 % 100) / 250
    while time.monotonic() < end:
        sum(range(1000))
    if n % 50 == 49:
        raise ValueError(f"no contrast in image {n}")
    return n
"""


class Pages(BaseHTTPRequestHandler):
    """A web site: slow here and there, with pages that lack a title, and a few that are broken or empty."""

    def do_GET(self) -> None:
        """Answer, after a while; the same number always in the same way."""
        number = int(self.path.rpartition("/")[2])
        chance = random.Random(number)
        time.sleep(0.1 + 0.5 * chance.random() ** 2)
        status = 503 if number % 97 == 41 else 200
        page = b"" if number % 150 == 77 else b"<p>nothing</p>" if number % 150 == 149 else b"<title>a page</title>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Site(ThreadingHTTPServer):
    """Many clients at once."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is none."""


@contextmanager
def web_site() -> Iterator[str]:
    """The address of a web site on this machine."""
    with Site(("127.0.0.1", 0), Pages) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://localhost:{site.server_port}"
        site.shutdown()


def first_cells(notebook: Notebook, address: str) -> None:
    """What the notebook has run before there is something to see."""
    notebook.run("import aiohttp, aiopool, os, time\nfrom aiopool import pmap\naiopool.configure(workers=4)")
    notebook.run("import aiopool.jupyter.widget")  # Else the first panel comes later than all others, below prints.
    notebook.run(f"%load_ext aiopool\nSITE = '{address}'\npages = [f'/article/{{n}}' for n in range(1_000)]")
    notebook.run(FETCH)
    notebook.run(SCORE)
    notebook.run("r = await pmap(fetch, pages[:20], progress=False)")


def rectangle(cell: Cell, height: float) -> FloatRect:
    """The place of a cell in the page, of that height."""
    cell.root.scroll_into_view_if_needed()
    box = cell.root.bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": height}


def frame(page: Page, clip: FloatRect) -> Frame:
    """What stands there now."""
    return time.monotonic(), Image.open(BytesIO(page.screenshot(clip=clip))).convert("RGB")


def film(page: Page, clip: FloatRect, cell: Cell) -> list[Frame]:
    """Take pictures from now until the cell has run."""
    frames = []
    due = time.monotonic()
    while True:
        frames.append(frame(page, clip))
        if page.evaluate("index => window.cellEnded?.[index] ?? false", cell.index):
            return frames
        due += 1 / FRAMES_A_SECOND
        page.wait_for_timeout(1000 * max(0.0, due - time.monotonic()))


def save_picture(cell: Cell, path: Path) -> None:
    """A cell with what is under it, in a few colours: there are no more, and each costs."""
    picture = Image.open(BytesIO(cell.root.screenshot())).convert("RGB")
    picture.quantize(colors=128, dither=Image.Dither.NONE).save(path, optimize=True)


def save_film(frames: list[Frame], path: Path) -> None:
    """As one file that pages show by themselves."""
    durations = [round(1000 * (later - now)) for (now, _), (later, _) in pairwise(frames)]
    durations.append(round(1000 * LAST_FRAME))
    # One palette for all frames: colours that flicker cost more than they show.
    pictures = [picture for _, picture in frames]
    palette = pictures[-3].quantize(colors=128, method=Image.Quantize.MAXCOVERAGE)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=True)


def open_notebook(browser: Browser, server: Server, *, scale: float) -> Notebook:
    """A page with a fresh notebook and nothing beside it."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=scale)
    page.set_default_timeout(30_000)
    notebook = Notebook(page, server)
    notebook.open(new_file(server.notebooks / f"{time.monotonic_ns()}.ipynb"))
    page.evaluate("() => { window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.collapseRight(); }")
    return notebook


def take_panels(notebook: Notebook, folder: Path) -> None:
    """A panel in the middle of its job, in light and in dark."""
    for theme, name in ((LIGHT, "panel-light.png"), (DARK, "panel-dark.png")):
        notebook.use_theme(theme)
        cell = notebook.start('texts = await pmap(fetch, pages, concurrency=60, on_error="return")')
        panel = cell.panel.wait_until_shown()
        panel.choose("All")
        expect(panel.failures).to_have_count(2, timeout=30_000)
        notebook.page.wait_for_timeout(1000)
        notebook.page.mouse.move(0, 0)
        save_picture(cell, folder / name)
        cell.finish(60)
    notebook.use_theme(LIGHT)


def take_dashboard(notebook: Notebook, folder: Path) -> None:
    """Some jobs, one after another and at once, in the timeline."""
    cell = notebook.run("%aiopool")
    notebook.run("s = await pmap(score, range(150), on_error='return')", seconds=60)
    notebook.run("p = await pmap(fetch, pages[:500], concurrency=40, on_error='return')", seconds=60)
    notebook.run(
        "jobs = [pmap(score, range(2_000), on_error='return'), pmap(fetch, pages, on_error='return', rate=40)]"
    )
    notebook.page.wait_for_timeout(6000)
    notebook.page.mouse.move(0, 0)
    cell.root.scroll_into_view_if_needed()
    save_picture(cell, folder / "dashboard.png")
    notebook.run("for job in jobs: job.cancel()")


def take_film(notebook: Notebook, folder: Path) -> None:
    """A job from the first click to its last line."""
    earlier = notebook.start("r = await pmap(fetch, pages[:300], concurrency=40, on_error='return')")
    earlier.panel.wait_until_shown().choose("All")
    earlier.finish(60)
    notebook.clear()
    (cell,) = notebook.add('texts = await pmap(fetch, pages, concurrency=120, on_error="return")')
    clip = rectangle(cell, 480)
    notebook.page.mouse.move(0, 0)
    frames = [frame(notebook.page, clip)]
    cell.start()
    notebook.page.evaluate(
        "index => { window.cellEnded = {}; window.cellRuns[index].then(() => window.cellEnded[index] = true); }",
        cell.index,
    )
    frames += film(notebook.page, clip, cell)
    cell.panel.wait_for_line("failed")
    frames.append(frame(notebook.page, clip))
    save_film(frames, folder / "panel.gif")


def main() -> int:
    """Take them all, into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own, web_site() as address, sync_playwright() as playwright:
        server = Server("lab", Path(own))
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        try:
            still = open_notebook(browser, server, scale=2)
            first_cells(still, address)
            take_panels(still, folder)
            take_dashboard(still, folder)
            still.shut_down()
            moving = open_notebook(browser, server, scale=1)
            first_cells(moving, address)
            take_film(moving, folder)
            moving.shut_down()
        finally:
            browser.close()
            server.close()
    for path in sorted(folder.iterdir()):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1e3:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
