"""A worker's process is made like the kernel's: variables, folder, import path, log levels, warning filters.

Only what the kernel has changed since is changed here, so that what an initializer or an item has set stays.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from aiopool._core import frames
from aiopool._worker import plain

if TYPE_CHECKING:
    import logging

Filter = tuple[Any, Any, Any, Any, Any]


_OF_A_FRESH_PROCESS = {"": 30}
"""The levels of its loggers, that is, of the root. A worker imports logging where there is anything to set."""


class Surroundings:
    """What the kernel's process is like, as this worker heard of it last."""

    def __init__(self) -> None:
        self._known: Mapping[str, Any] = {}
        self._console: logging.Handler | None = None
        self._filters: list[Filter] = list(warnings.filters)
        self._changes: dict[str, Callable[[Any, Any], object]] = {
            "environ": self._set_variables,
            "folder": self._enter,
            "path": self._set_path,
            "levels": self._set_levels,
            "disabled": self._disable,
            "console": self._set_console,
            "filters": self._set_filters,
        }

    def begin(self, state: Mapping[str, Any]) -> None:
        """The worker starts. Its process was started with the variables already."""
        sys.path[:] = state["path"]
        self._known = {part: state[part] for part in ("environ", "path", "console")}
        self._change(state)

    def end_set_up(self) -> None:
        """The initializers have run. One that sets up logging finds no handler of ours, which would make it idle."""
        self._set_console(None, self._known["console"])

    def take(self, frame: frames.Environment) -> None:
        """The kernel has changed something; items in flight see it, too. In the link thread."""
        self._change(plain.loads(frame.data))

    def _change(self, state: Mapping[str, Any]) -> None:
        known, self._known = self._known, state
        for part, change in self._changes.items():
            if state[part] == known.get(part):
                continue
            try:
                change(known.get(part), state[part])
            except Exception as error:  # noqa: BLE001  # the worker goes on without it, and says so
                print(f"aiopool: this worker could not take over the kernel's {part}: {error}", file=sys.stderr)  # noqa: T201

    def _set_variables(self, old: dict[str, str], new: dict[str, str]) -> None:
        for name in old.keys() - new.keys():
            os.environ.pop(name, None)
        for name, value in new.items():
            if old.get(name) != value:
                os.environ[name] = value

    def _enter(self, _: str | None, folder: str | None) -> None:
        if folder is not None:
            os.chdir(folder)
            # Finders of relative folders remember where these were.
            for entry in [entry for entry in sys.path_importer_cache if not os.path.isabs(entry)]:  # noqa: PTH117
                sys.path_importer_cache.pop(entry, None)

    def _set_path(self, old: list[str], new: list[str]) -> None:
        """What was added here stays, in front or behind."""
        front = list(takewhile(lambda entry: entry not in old, sys.path))
        back = [entry for entry in sys.path[len(front) :] if entry not in old and entry not in new]
        sys.path[:] = [*(entry for entry in front if entry not in new), *new, *back]

    def _set_levels(self, old: dict[str, int] | None, new: dict[str, int]) -> None:
        if old is None and new == _OF_A_FRESH_PROCESS:
            return
        import logging

        old = old or {}
        for name in old.keys() - new.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in new.items():
            if old.get(name) != level:
                logging.getLogger(name).setLevel(level)

    def _disable(self, old: int | None, level: int) -> None:
        if level or old:
            import logging

            logging.disable(level)

    def _set_console(self, _: object, wanted: tuple[str, str | None, Any, int] | None) -> None:
        """Handlers do not travel; but where the kernel's root logger writes lines, a worker's writes them to stderr."""
        if self._console is None and wanted is None:
            return
        import logging

        if self._console is not None:
            logging.root.removeHandler(self._console)
            self._console = None
        if wanted is not None and not logging.root.handlers:
            text, dates, style, level = wanted
            self._console = logging.StreamHandler()
            self._console.setFormatter(logging.Formatter(text, dates, style, validate=False))
            self._console.setLevel(level)
            logging.root.addHandler(self._console)

    def _set_filters(self, _: object, new: list[list[Any]]) -> None:
        """The kernel's come first, then those that libraries have added here."""
        own = [each for each in warnings.filters if each not in self._filters]
        self._filters = [
            (action, _pattern(message), _category(category), _pattern(module), line)
            for action, message, category, module, line in new
        ]
        warnings.filters[:] = [*self._filters, *own]  # type: ignore[index]  # it is a list, whatever its stub says
        # What happens to a warning that no filter names happens anyway; adding this makes the change take effect.
        warnings.simplefilter("default", append=True)


def _pattern(told: str | list[Any] | None) -> str | re.Pattern[str] | None:
    return re.compile(*told) if isinstance(told, list) else told


def _category(name: str) -> type:
    """The class of this name, or one that stands for it: filters must not import what no item may ever need."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return _Named(qualname, (Warning,), {"__module__": module, "__qualname__": qualname})


class _Named(type):
    """Stands for a class by its name, for filters that ask whether a warning is one of these."""

    def __subclasscheck__(cls, category: type) -> bool:
        wanted = cls.__module__, cls.__qualname__
        return any((each.__module__, each.__qualname__) == wanted for each in category.__mro__)
