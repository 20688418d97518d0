"""The front end: what a widget brings along for the browser, read from ``static/``.

A widget's script is one text that cannot import its neighbours. They are modules all the same, so that each says what
it takes from which other; here they are put together, without the lines that would fetch one from another.
"""

from __future__ import annotations

import functools
import importlib.resources
import re

__all__ = ["MODULES", "script", "style"]

MODULES = (
    *("nodes", "colours", "clicks", "controls", "jobs", "workers", "prints", "failures", "strip", "panel"),
    *("timeline", "dashboard", "ended", "kernel", "saved", "view"),
)
"""In such an order that each comes after those from which it imports."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)


@functools.cache
def script() -> str:
    """All modules as one, which exports what the last of them does by default."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(f"{name}.js"))) for name in MODULES)


@functools.cache
def style() -> str:
    """The style sheet."""
    return _read("view.css")


def _read(name: str) -> str:
    return importlib.resources.files("aiopool.jupyter").joinpath("static", name).read_text("utf-8")
