"""Engines by name. One is imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from aiopool.engines.base import Engine
from aiopool.errors import OptionError

_ENGINES = {"local": "aiopool.engines.local:LocalEngine"}


def find(name: str) -> Callable[[Any], Engine]:
    """The engine's class; it is made with the pool's own loop."""
    if name not in _ENGINES:
        raise OptionError(f"engine={name!r}: there is {', '.join(map(repr, sorted(_ENGINES)))}")
    module, _, attribute = _ENGINES[name].partition(":")
    made: Callable[[Any], Engine] = getattr(importlib.import_module(module), attribute)
    return made
