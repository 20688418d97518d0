"""Source lines of cells, so that a traceback made in a worker shows them. No worker finds a cell's file on disk."""

from __future__ import annotations

import linecache
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["collect", "install"]


def collect(files: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The lines of those files that the other process could not read for itself, where we have them."""
    found = {}
    for name, namespace in files.items():
        if os.path.isabs(name) and os.path.exists(name):  # noqa: PTH110, PTH117 - a name such as "<stdin>" is no path
            continue
        lines = linecache.getlines(name, namespace)
        if lines:
            found[name] = lines
    return found


def install(sources: Mapping[str, list[str]]) -> None:
    """Make :mod:`linecache` know these lines. Without a time of change, ``checkcache`` lets them stay."""
    for name, lines in sources.items():
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
