"""Engines by name. The one that most pools have is imported with them, another when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from aiopool import inside
from aiopool.engines.base import Engine
from aiopool.errors import OptionError

if not inside.is_worker():  # Which has no pools of processes, and need not know what they take.
    from aiopool.engines import local  # noqa: F401  # asked for by name below

_ENGINES = {"local": "aiopool.engines.local:LocalEngine"}


def find(name: str) -> Callable[[Any], Engine]:
    """The engine's class; it is made with the pool's own loop."""
    if name not in _ENGINES:
        raise OptionError(f"engine={name!r}: there is {', '.join(map(repr, sorted(_ENGINES)))}")
    module, _, attribute = _ENGINES[name].partition(":")
    made: Callable[[Any], Engine] = getattr(importlib.import_module(module), attribute)
    return made
