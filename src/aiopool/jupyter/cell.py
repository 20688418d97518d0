"""One run of a cell, and the way to put something under it later, from any thread."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from IPython.core.getipython import get_ipython

from aiopool.html import plain
from aiopool.jupyter.outlet import Outlet
from aiopool.surfaces import News


def this_kernel() -> Any:
    """The ipykernel that runs in this process, or None."""
    shell: Any = get_ipython()
    return getattr(shell, "kernel", None)


class Cell:
    """One run of a cell; ``parent`` is the message that asked for it.

    Its messages name that as their parent themselves. What is printed or displayed from a thread goes to whatever cell
    runs last instead, and on ipykernel 7.1 and later into the log of the browser after a click on a widget.
    """

    def __init__(self, kernel: Any, parent: dict[str, Any]) -> None:
        self.parent = parent
        self.runs = False
        self.outlet = Outlet(self.send)
        self.panel: Any = None
        """What shows the jobs that it has started: a :class:`~aiopool.jupyter.panel.Panel`, once there are any."""
        self._kernel = kernel
        self._lock = threading.Lock()
        self._news: list[News] = []
        self._calls: dict[str, tuple[str, int, str]] = {}

    @property
    def id(self) -> str | None:
        """The front end's name for the cell, the same in every run of it; None where it gives none."""
        cell_id = self.parent.get("metadata", {}).get("cellId")
        return str(cell_id) if cell_id else None

    @property
    def is_attended(self) -> bool:
        """Whether somebody sits in front of it, and not a program that executes the notebook and answers nothing."""
        return bool(self.parent.get("content", {}).get("allow_stdin", True))

    # --- what it shows ---------------------------------------------------------------------------------------------

    def send(self, kind: str, content: dict[str, Any]) -> None:
        """Publish a message as if the cell itself had."""
        kernel = self._kernel
        kernel.session.send(kernel.iopub_socket, kind, content, parent=self.parent, ident=self._topic(kind))

    def _topic(self, kind: str) -> bytes:
        """What front ends subscribe to; the kernel's own method for it was renamed between versions."""
        return f"kernel.{self._kernel.ident}.{kind}".encode()

    def display(self, text: str, display_id: str = "") -> str:
        """Show a line of text, or put it in the place of another one; returns the name of the place.

        The text may be a user's: what no message can carry is replaced.
        """
        name = display_id or f"aiopool-{uuid.uuid4()}"
        content = {"data": {"text/plain": plain(text)}, "metadata": {}, "transient": {"display_id": name}}
        self.send("update_display_data" if display_id else "display_data", content)
        return name

    # --- failures that nobody asked for ----------------------------------------------------------------------------

    def tell(self, news: News) -> None:
        """Say that a job has failed; not while the cell that started it runs, which may still ask."""
        with self._lock:
            if self.runs:
                self._news.append(news)
                return
        self._say(news)

    def end(self) -> None:
        """The cell has run: say what it has not asked for."""
        self.outlet.flush()
        with self._lock:
            self.runs = False
            waiting, self._news = self._news, []
        for news in waiting:
            self._say(news)

    def _say(self, news: News) -> None:
        if news.heard:
            return
        news.heard = True
        if not news.of_call:
            self.display(f"{news.text}. aiopool.jobs() has the job: .failures, .retry()")
            return
        # One line for all calls of a function: there may be thousands.
        with self._lock:
            place, count, first = self._calls.get(news.name, ("", 0, news.text))
            count += 1
            times = "" if count == 1 else f" ({count:,} calls of {news.name} have failed)"
            place = self.display(f"{first}{times}. Await its handle for the traceback", place)
            self._calls[news.name] = place, count, first
