"""An open notebook as somebody in front of it handles it: cells, Run, Stop, Restart, and what is on the page.

Cells are run through the front end's own commands, because a click right after a page has loaded may get lost.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import ConsoleMessage, Error, Page, expect

from tests.browser.servers import Server
from tests.browser.views import Dashboard, Panel

DEADLINE = 40.0
"""Seconds that anything may take, unless a test says otherwise."""

SOON = 1.8
"""Seconds after which a cell that was stopped has ended: a third of one is promised, a slow machine has the rest."""

OPENS_WITHIN = 90.0

HURRY = "hurry"
"""A file beside the notebooks: where it is, the items of a test take no time any more."""

FIRST_CELL = """
import asyncio, logging, os, sys, time, warnings
from pathlib import Path
import aiopool
from aiopool import Pool, pmap
aiopool.configure(workers=2)
"""

# What JupyterLab says of its own debugger, after a kernel that died was started anew and is then restarted.
_DEBUGGER = "Could not restore the debugger state"
# What the browser itself says of things that are no fault of a page.
_HARMLESS = ("favicon", "Failed to load resource", "ResizeObserver loop", "WebGL", "preload", _DEBUGGER)
# Notebook 7 itself, where its settings come late; what the front end asks of each new kernel, where that is restarted.
_NOT_OURS = (
    "reading 'schema'",
    "Canceled future for create_subshell_request",
    "Canceled future for kernel_info_request",
)

_WAIT_FOR_KERNEL = """async (milliseconds) => {
  const end = Date.now() + milliseconds;
  while (Date.now() < end) {
    const panel = window.jupyterapp?.shell.currentWidget, session = panel?.sessionContext;
    if (session?.isReady && session.session?.kernel) {
      await panel.context.ready;
      await session.session.kernel.info;
      if (session.session.kernel.status === 'idle') return session.session.kernel.name;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error('the kernel did not become ready');
}"""

_RESTART = """async () => {
  const session = window.jupyterapp.shell.currentWidget.sessionContext;
  await session.restartKernel();
  await session.session.kernel.info;
}"""

_REPLACE_CELLS = """(sources) => {
  const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
  const cells = sources.map(source => ({cell_type: 'code', source, metadata: {trusted: true}}));
  model.transact(() => { model.deleteCellRange(0, model.cells.length); model.insertCells(0, cells); });
}"""

# A notebook without cells gets an empty one at once: it is taken.
_APPEND_CELL = """(source) => {
  const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel, count = model.cells.length;
  if (count === 1 && model.cells[0].source === '') model.cells[0].setSource(source);
  else model.insertCell(count, {cell_type: 'code', source, metadata: {trusted: true}});
  return model.cells.length - 1;
}"""

_START = """(index) => {
  const app = window.jupyterapp, content = app.shell.currentWidget.content;
  content.activeCellIndex = index;
  content.deselectAll();
  window.cellRuns ??= {};
  window.cellRuns[index] = app.commands.execute('notebook:run-cell');
}"""

_FINISH = """async ([index, milliseconds]) => await Promise.race([
  window.cellRuns[index].then(() => true),
  new Promise(resolve => setTimeout(() => resolve(false), milliseconds)),
])"""

_COMMAND = "([name, args]) => { window.jupyterapp.commands.execute(name, args); }"
_AWAIT_COMMAND = "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }"


def new_file(path: Path, *sources: str) -> str:
    """Write a notebook with these cells, and return its name."""
    cells = [nbformat.v4.new_code_cell(_dedent(source)) for source in sources or [""]]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path.name


class Cell:
    """One cell of the open notebook."""

    def __init__(self, notebook: Notebook, index: int) -> None:
        self.index = index
        self.root = notebook.page.locator(".jp-Notebook .jp-Cell").nth(index)
        self.output = self.root.locator(".jp-Cell-outputArea")
        self._notebook = notebook

    def start(self) -> Cell:
        """Run it, and return at once."""
        self._notebook.page.evaluate(_START, self.index)
        return self

    def finish(self, seconds: float = DEADLINE) -> Cell:
        """Wait until it has run, whatever it ended with."""
        if not self._notebook.page.evaluate(_FINISH, [self.index, 1000 * seconds]):
            raise AssertionError(f"the cell ran for more than {seconds:g} s; it shows:\n{self.text}")
        return self

    def run(self, seconds: float = DEADLINE) -> Cell:
        """Run it to its end."""
        return self.start().finish(seconds)

    @property
    def text(self) -> str:
        """What stands under it, as one reads it."""
        return self.output.inner_text()

    @property
    def printed(self) -> str:
        """What stands under it as printed to standard output."""
        streams = self.output.locator("[data-mime-type='application/vnd.jupyter.stdout']")
        return "\n".join(streams.all_inner_texts())

    @property
    def panel(self) -> Panel:
        """The panel under it; the last one, should there be several."""
        return Panel(self.output.locator(".aiopool").last)

    @property
    def dashboard(self) -> Dashboard:
        """The dashboard under it."""
        return Dashboard(self.output.locator(".aiopool").last)

    def shows(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until this stands under it."""
        expect(self.output).to_contain_text(text, timeout=1000 * seconds)


class Notebook:
    """A page with one notebook, in JupyterLab or in Notebook 7."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        self._used = False
        page.on("pageerror", self._note_error)
        page.on("console", self._note_console)

    def _note_error(self, error: Error) -> None:
        if not any(told in error.message for told in _NOT_OURS):
            self.errors.append(f"{error.message}\n{error.stack or ''}")

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(harmless in message.text for harmless in _HARMLESS):
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def assert_no_errors(self) -> None:
        """Nothing has gone wrong in the page's scripts."""
        errors, self.errors = self.errors, []
        assert not errors, "\n".join(errors)

    # --- the page --------------------------------------------------------------------------------------------------

    def open(self, name: str, *, kernel: bool = True) -> Notebook:
        """Load the page of a notebook of the server's folder, and wait for the kernel."""
        self.page.goto(self.server.address(name), timeout=1000 * OPENS_WITHIN)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * OPENS_WITHIN)
        if kernel:
            self.page.evaluate(_WAIT_FOR_KERNEL, 1000 * OPENS_WITHIN)
        return self

    def begin_anew(self) -> None:
        """A new kernel, in which the imports have run, and no cells."""
        self.errors.clear()
        if self._used:
            self.restart()
        self._used = True
        self.clear()
        (self.server.notebooks / HURRY).unlink(missing_ok=True)
        first = self.run(FIRST_CELL)
        assert first.text == "", first.text
        self.clear()

    def clear(self) -> None:
        """Take out all cells; what they have defined stays."""
        self.page.evaluate(_REPLACE_CELLS, [""])

    def screenshot(self, path: Path) -> Path:
        """Keep what the page looks like."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def command(self, name: str, *, wait: bool = True, **arguments: Any) -> None:
        """Have the front end do something, by the name that it has there."""
        self.page.evaluate(_AWAIT_COMMAND if wait else _COMMAND, [name, arguments])

    def use_theme(self, name: str) -> None:
        """Light or dark: ``JupyterLab Light``, ``JupyterLab Dark``."""
        self.command("apputils:change-theme", theme=name)
        expect(self.page.locator(f"body[data-jp-theme-name='{name}']")).to_be_attached()

    # --- cells -----------------------------------------------------------------------------------------------------

    def add(self, *sources: str) -> list[Cell]:
        """Append cells."""
        return [Cell(self, self.page.evaluate(_APPEND_CELL, _dedent(source))) for source in sources]

    def start(self, source: str) -> Cell:
        """Append a cell and run it; returns at once."""
        (cell,) = self.add(source)
        return cell.start()

    def run(self, source: str, seconds: float = DEADLINE) -> Cell:
        """Append a cell and run it to its end; it must not fail."""
        cell = self.start(source).finish(seconds)
        error = cell.output.locator("[data-mime-type='application/vnd.jupyter.error']")
        assert error.count() == 0, error.all_inner_texts()
        return cell

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Block the kernel by a cell that sleeps, until the block is left."""
        go = self.server.notebooks / "go"
        cell = self.start(f"while not Path({str(go)!r}).exists():\n    time.sleep(0.05)")
        try:
            yield
        finally:
            go.touch()
            cell.finish()
            go.unlink()

    def hurry(self) -> None:
        """What was to be seen of a job was seen: its items may end, however many are left."""
        (self.server.notebooks / HURRY).touch()

    def value(self, expression: str) -> str:
        """What a cell with this expression shows."""
        return self.run(f"print({expression})").printed.strip()

    # --- the kernel ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Press Stop."""
        self.command("notebook:interrupt-kernel", wait=False)

    def restart(self) -> None:
        """Restart the kernel, as the button does once it has been confirmed."""
        self.page.evaluate(_RESTART)
        self.await_kernel()

    def await_kernel(self) -> None:
        """Wait until the kernel is there and idle."""
        self.page.evaluate(_WAIT_FOR_KERNEL, 1000 * OPENS_WITHIN)

    def save(self) -> Path:
        """Save the notebook, and return its file."""
        self.command("docmanager:save")
        name = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")
        return self.server.notebooks / name

    def shut_down(self) -> None:
        """End the kernel."""
        self.page.evaluate("async () => await window.jupyterapp.shell.currentWidget?.sessionContext.shutdown()")


def _dedent(source: str) -> str:
    return textwrap.dedent(source).strip("\n")
