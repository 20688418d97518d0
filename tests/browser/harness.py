"""A page that loads the widget's JavaScript as a module, with a model that is only pretended: no kernel, no server.

The model behaves as anywidget's: each view gets a proxy of its own, and what a view sends is kept for the test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

from playwright.sync_api import Locator, Page, Route

from aiopool.jupyter import front
from aiopool.jupyter.state import Click, DashboardState, Details, PanelState

__all__ = ["PIXELS", "THEMES", "Stage", "State", "Theme"]

State: TypeAlias = PanelState | DashboardState
Theme = Literal["jupyter-light", "jupyter-dark", "vscode-light", "vscode-dark", "plain-light", "plain-dark"]

ORIGIN = "http://localhost:9"
"""Nobody listens there: requests are answered by the test. To a browser localhost is as good as https."""

# What these front ends set, as far as it is used: their own values.
_STYLES: dict[Theme, str] = {
    "jupyter-light": "--jp-layout-color1: white; --jp-content-font-color1: rgba(0,0,0,.87);"
    "--jp-ui-font-family: system-ui, sans-serif; --jp-code-font-family: monospace; background: white;",
    "jupyter-dark": "--jp-layout-color1: #212121; --jp-content-font-color1: rgba(255,255,255,.87);"
    "--jp-ui-font-family: system-ui, sans-serif; --jp-code-font-family: monospace; background: #111;",
    "vscode-light": "--vscode-editor-background: #fff; --vscode-editor-foreground: #3b3b3b; background: #fff;",
    "vscode-dark": "--vscode-editor-background: #1f1f1f; --vscode-editor-foreground: #ccc; background: #1f1f1f;",
    "plain-light": "background: white;",
    "plain-dark": "background: #101010;",
}
THEMES: Sequence[Theme] = tuple(_STYLES)

# Some pixels of a canvas in a row, each red, green, blue and alpha: from a copy, so that the canvas stays as it is.
PIXELS = """(canvas, [x, y, count]) => {
    const copy = new OffscreenCanvas(count, 1).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, -x, -y);
    const data = [...copy.getImageData(0, 0, count, 1).data];
    return Array.from({ length: count }, (_, at) => data.slice(4 * at, 4 * at + 4));
}"""

_PAGE = """<!doctype html><meta charset="utf-8"><title>aiopool</title><link rel="stylesheet" href="view.css">
<style>html {{ {style} }} body {{ margin: 12px; width: {width}px; }}</style><body>
<script type="module">
// Nothing here grows old while a slow machine is at a test: "no news", "the kernel is busy". Who tests that stops the
// clock, which has timers of its own.
const soon = window.setTimeout;
window.setTimeout = (call, wait, ...rest) => wait >= 1000 ? 0 : soon(call, wait, ...rest);
window.setInterval = () => 0;
import make from "./view.js";
class Signal {{
  calls = new Set();
  connect(call) {{ this.calls.add(call); }}
  disconnect(call) {{ this.calls.delete(call); }}
  emit(what) {{ for (const call of this.calls) call(this, what); }}
}}
class Model {{
  constructor(state, details) {{
    this.values = {{ state, details }};
    Object.assign(this, {{ heard: [], sent: [], views: new Set(), seen: new Set(), def: make(), disposed: false }});
    this.session = {{ statusChanged: new Signal(), kernelChanged: new Signal() }};
  }}
  trigger(name) {{ for (const one of this.heard) if (one.name === name) one.call(); }}
  proxy(view) {{
    return {{
      get: (name) => {{ if (name === "details") this.seen.add(view); return this.values[name]; }},
      on: (name, call) => this.heard.push({{ name, call, view }}),
      off: (name, call) => {{ this.heard = this.heard.filter(
        (one) => one.view !== view || one.name !== name || one.call !== call); }},
      send: (content) => {{
        if (this.disposed) throw new Error("Cannot send");
        this.sent.push(structuredClone(content));
      }},
      widget_manager: {{
        get_model: async () => ({{ comm_live: !this.disposed }}), context: {{ sessionContext: this.session }},
      }},
    }};
  }}
  set(values) {{
    Object.assign(this.values, values);
    this.seen.clear();
    const names = Object.keys(values).map((name) => `change:${{name}}`);
    for (const one of this.heard) if (names.includes(one.name)) one.call();
  }}
  async view() {{
    const el = document.createElement("div");
    document.body.append(el);
    const key = Symbol();
    this.views.add(key);
    const end = await this.def.render({{ model: this.proxy(key), el }});
    return {{ el, end: () => {{ end(); el.remove(); this.views.delete(key); }} }};
  }}
  // Every view has read what is to be drawn, and two frames have passed.
  async drawn() {{
    const frame = () => new Promise(requestAnimationFrame);
    while ([...this.views].some((view) => !this.seen.has(view))) await frame();
    await frame();
    await frame();
  }}
}}
window.stage = {{ Model, views: [] }};
</script></body>"""


class Stage:
    """A page with one model and any number of its views."""

    def __init__(self, page: Page, theme: Theme = "jupyter-light", width: int = 860) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._on_console)
        page.emulate_media(color_scheme="dark" if theme.endswith("dark") else "light")
        html = _PAGE.format(style=_STYLES[theme], width=width)
        page.route(f"{ORIGIN}/**", lambda route: self._answer(route, html))
        page.goto(f"{ORIGIN}/")
        page.wait_for_function("window.stage !== undefined")

    def _on_console(self, message: Any) -> None:
        # A browser asks for an icon by itself; nothing else may go wrong.
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    @staticmethod
    def _answer(route: Route, html: str) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "view.js":
            route.fulfill(body=front.script(), content_type="text/javascript")
        elif name == "view.css":
            route.fulfill(body=front.style(), content_type="text/css")
        else:
            route.fulfill(body="" if name else html, content_type="text/html")

    def show(self, state: State | dict[str, Any], details: Details | None = None) -> Locator:
        """Make a model in this state and its first view, and give the view's element."""
        self.page.evaluate(
            "([state, details]) => { stage.model = new stage.Model(state, details); }", [state, details or {}]
        )
        return self.add_view()

    def initialize(self) -> None:
        """Have the script begin with the model itself, as a front end does before it makes views."""
        self.page.evaluate("() => { stage.model.def.initialize({ model: stage.model.proxy(Symbol()) }); }")
        self.page.evaluate("() => { stage.model.sent = []; }")

    def add_view(self) -> Locator:
        """One more view of the model: its element."""
        place = self.page.evaluate("async () => stage.views.push(await stage.model.view()) - 1")
        return self.page.locator(".aiopool-host").nth(place)

    def end_view(self, place: int) -> None:
        """Remove a view as a front end does."""
        self.page.evaluate("(place) => stage.views.splice(place, 1)[0].end()", place)

    def set(self, state: State | None = None, details: Details | None = None) -> None:
        """What the kernel says next; returns when it has been drawn."""
        values = {key: value for key, value in (("state", state), ("details", details)) if value is not None}
        self.page.evaluate("(values) => stage.model.set(values)", values)
        self.drawn()

    def drawn(self) -> None:
        """Wait until the present state is drawn: half a second at most, a view draws no more often than is cheap."""
        self.page.evaluate("() => stage.model.drawn()")

    def change(self, state: State, change: Callable[[Any], object]) -> None:
        """Set a changed copy of a state."""
        other = copy.deepcopy(state)
        change(other)
        self.set(other)

    @property
    def sent(self) -> list[Click]:
        """What the views have sent, in order; without what says which page it was."""
        return cast("list[Click]", self.page.evaluate("stage.model.sent.map(({ by, ...click }) => click)"))
