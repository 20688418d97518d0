"""The widget that draws panels and dashboards. Importing this imports ipywidgets, which takes a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from aiopool.jupyter import front
from aiopool.jupyter.heard import Heard

__all__ = ["Live"]

log = logging.getLogger("aiopool")


class Live(anywidget.AnyWidget):
    """Shows a state, see :mod:`aiopool.jupyter.state`, and passes on what is clicked.

    It may be set and sent from any thread, and clicks come on any: kernels differ in that.
    """

    _esm = front.script()
    _css = front.style()

    state = traitlets.Dict().tag(sync=True)
    details = traitlets.Dict().tag(sync=True)
    page = traitlets.Dict().tag(sync=True)

    def __init__(self, on_click: Callable[[Any], object], **traits: Any) -> None:
        self._heard = Heard()
        super().__init__(**traits)
        self._on_click = on_click
        self.page = {"id": self.model_id}
        if hasattr(self.comm, "_reply_subshell_for"):
            # ipykernel 7.4 gives what comes back to the subshell of whatever was the last message when this was sent
            # from a pool's thread. That may be gone, as after a reload of the page, and the click with it; or the main
            # one, which waits for the cell. The browser knows the right one.
            self.comm._reply_subshell_for = lambda _, chosen: chosen  # noqa: SLF001 - there is no other way
        self.on_msg(self._clicked)

    @property
    def mark(self) -> dict[str, str]:
        """The metadata of an output in which this stands: where it is left out of what is saved, its place is known."""
        return {"aiopool": self.model_id}

    def show(self, state: Mapping[str, Any], details: Mapping[str, str]) -> None:
        """Show this."""
        if self.details != details:
            self.details = dict(details)
        self.state = dict(state)

    def keep(self, data: Mapping[str, str]) -> None:
        """This bundle stands for the widget in a notebook that is saved from now on."""
        self.page = {"id": self.model_id, "data": dict(data)}

    def close(self) -> None:
        """Let go of it, here and in the browser; ipywidgets would keep its layout for ever."""
        layout = self.layout
        super().close()
        layout.close()

    @traitlets.validate("state")
    def _with_what_was_heard(self, proposal: Any) -> dict[str, Any]:
        return {**proposal["value"], "heard": self._heard.told()}

    def _clicked(self, _: object, content: Any, __: object) -> None:
        try:
            if self._heard.is_to_be_done(content):
                self._on_click(content)
        except Exception:
            log.exception("a click failed")

    def __repr__(self) -> str:
        # Without an address: it is compared when a notebook is run as a test.
        return f"<aiopool {self.state.get('kind', 'panel')}>"
