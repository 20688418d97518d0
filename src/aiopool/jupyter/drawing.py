"""How a panel stands in the notebook: not at all, as a place that is kept for it, as HTML, or as a widget."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from aiopool.jupyter import page
from aiopool.jupyter.cell import Cell
from aiopool.jupyter.later import later
from aiopool.jupyter.stage import Stage
from aiopool.jupyter.state import Details, PanelState

__all__ = ["Drawing"]

EVERY = 0.08
"""Seconds between two states: a little less than between two looks of a pool, of which there may be several."""

STATIC_EVERY = 1.0
"""The same where there is no widget, and each is an output of its own."""

PAGE_EVERY = 5.0
"""Seconds between two pages for the notebook, should it be saved while jobs run."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Drawing:
    """The output of a panel under its cell. All of it is called under the panel's lock, which is given to it.

    ``look`` gives what is to be seen; ``click`` is called with what is clicked, on any thread; ``lost`` when the widget
    has failed, after which HTML stands in its place.
    """

    def __init__(
        self,
        cell: Cell,
        stage: Stage,
        lock: threading.RLock,
        *,
        look: Callable[[], tuple[PanelState, Details]],
        click: Callable[[Any], None],
        lost: Callable[[], None],
    ) -> None:
        self.form: Literal["", "place", "static", "widget"] = ""
        self._cell = cell
        self._stage = stage
        self._lock = lock
        self._look = look
        self._click = click
        self._lost = lost
        self._closed = False
        self._place = ""
        self._widget: Any = None
        self._pushed = self._kept = 0.0
        self._alarm = False

    # --- to be there -----------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Keep a place under the cell for what may come later."""
        self._draw("place")

    def appear(self, *, live: bool, at_once: bool = False) -> None:
        """Be there, by a widget as soon as that can be had.

        Where a program executes the notebook, by HTML alone: beside a widget, nbconvert's pages would not show it.
        """
        loader = self._stage.loader
        attended = self._cell.is_attended
        if self.form == "widget":
            return
        if loader.widget is not None and not loader.broken and attended:
            state, details = self._look()
            try:
                self._widget = loader.widget(self._click, state=state, details=details)
            except Exception as error:  # noqa: BLE001 - whatever is wrong there, no job fails because of it
                loader.give_up(error)
        if self._widget is not None:
            self._draw("widget")
        elif self.form != "static" and (loader.broken or at_once or not attended):
            self._draw("static")
            if live and attended:
                loader.load()

    def retire(self) -> None:
        """Leave HTML in the place of the widget."""
        self.form = "static"
        widget, self._widget = self._widget, None
        self.publish()
        widget.close()

    def close(self) -> None:
        """It is gone: the cell is run again."""
        self._closed = True
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()

    # --- to be up to date ------------------------------------------------------------------------------------------

    def push(self, *, now: bool = False) -> None:
        """Show the present state: now, or, if the last one was shown only just before, a moment later."""
        if self.form in ("", "place") or self._closed:
            return
        wait = self._pushed + (EVERY if self._widget is not None else STATIC_EVERY) - time.monotonic()
        if wait > 0 and not now:
            if not self._alarm:
                self._alarm = True
                later.call(wait, self._ring)
            return
        self._pushed = time.monotonic()
        if self._widget is None:
            self.publish()
            return
        state, details = self._look()
        try:
            self._widget.show(state, details)
            if now or self._pushed - self._kept > PAGE_EVERY:
                self._kept = self._pushed
                self._widget.keep(page.bundle(state, details))
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, no job fails because of it
            self._stage.loader.give_up(error)
            self._widget = None
            self._lost()
            self._draw("static")

    def publish(self) -> None:
        """Write into the notebook how things are, beside the widget or without one."""
        self._stage.publish(self._content())

    def _ring(self) -> None:
        with self._lock:
            self._alarm = False
            self.push()

    def _draw(self, form: Literal["place", "static", "widget"]) -> None:
        self.form = form
        if self._place:
            self.publish()
            return
        self._place = f"aiopool-panel-{uuid.uuid4()}"
        self._pushed = self._kept = time.monotonic()
        self._cell.send("display_data", self._content())

    def _content(self) -> dict[str, Any]:
        # Not an empty bundle: nbconvert says of one that it cannot be represented.
        data: dict[str, Any] = {"text/plain": ""}
        metadata: dict[str, Any] = {}
        if self.form != "place":
            data = {**page.bundle(*self._look())}
        if self._widget is not None:
            data[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
            metadata = self._widget.mark
        return {"data": data, "metadata": metadata, "transient": {"display_id": self._place}}
