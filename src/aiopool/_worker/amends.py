"""Functions of other modules that cannot do in a worker what they are for are replaced, when somebody imports them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["amend"]


class _Amends:
    """Finds the modules that are to be amended, and sees to it after they were loaded. Nothing is imported for it."""

    def __init__(self) -> None:
        self.wanted: dict[str, Callable[[Any], None]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks for it."""
        if (change := self.wanted.get(name)) is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        # A class loads for all modules of its kind.
        if loader is None or isinstance(loader, type):
            return spec
        load = loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            change(module)

        loader.exec_module = load_and_change
        return spec


_amends = _Amends()


def amend(name: str, change: Callable[[Any], None]) -> None:
    """Have ``change`` called with this module once it is there."""
    if (module := sys.modules.get(name)) is not None:
        change(module)
        return
    _amends.wanted[name] = change
    if _amends not in sys.meta_path:
        sys.meta_path.insert(0, _amends)
