"""``%aiopool configure``: the flags of a line as the keywords of :func:`aiopool.configure`, and what is set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from IPython.core.error import UsageError

from aiopool import session
from aiopool._runtime.machine import default_workers
from aiopool.errors import OptionError
from aiopool.jupyter.magics.flags import written
from aiopool.jupyter.magics.heads import HeadError
from aiopool.jupyter.magics.pieces import cut
from aiopool.telemetry import size

__all__ = ["SETTINGS", "SETTING_SWITCHES", "SETTING_WORDS", "configure_by"]

SETTINGS: tuple[str, ...] = tuple(session.configured())
"""The keywords of ``configure``, in the order in which they are shown."""

SETTING_SWITCHES = ("nested_loops", "reload_modules")
"""Those that may stand without a value, which is True then; ``--no-...`` is False."""

SETTING_WORDS: Mapping[str, tuple[str, ...]] = {"threads_per_worker": ("auto",), "engine": ("local",)}
"""Values that need no quotes."""

_SIZE = re.compile(r"[\d.]+ ?[KMGT]i?B", re.IGNORECASE)

NONE: Mapping[str, str] = {
    "concurrency": "None: as each map decides",
    "threads_per_worker": "None: left alone",
    "max_tasks_per_worker": "None: no limit",
    "max_memory_per_worker": "None: no limit",
}
"""What it means that nothing is set."""


def configure_by(text: str, evaluate: Callable[[str], Any]) -> str:
    """Do what the flags say, and return one line of it; without any, a line for each setting.

    ``evaluate`` gives the value of an expression of the notebook's. Raises :class:`UsageError`.
    """
    if not text:
        width = max(map(len, SETTINGS))
        return "\n".join(f"{name:<{width}}  {_shown(name, value)}" for name, value in session.configured().items())
    given: dict[str, Any] = {}
    for flag, source in _flags(text):
        name, value = _setting(flag, source, evaluate)
        if name in given:
            raise UsageError(f"{written(name)} stands there twice: take one away")
        given[name] = value
    before = session.open_pool()
    try:
        session.configure(**given)
    except OptionError as error:
        raise UsageError(in_dashes(str(error))) from None
    configured = session.configured()
    told = ", ".join(f"{name} {_shown(name, configured[name])}" for name in given)
    another = before is not None and before.closed
    return f"From now on: {told}.{' The next job opens another shared pool.' if another else ''}"


def _flags(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of a flag's name and what stands behind it."""
    try:
        pieces = cut(text, 0)
    except HeadError as error:
        raise UsageError(error.msg) from None
    flags = [piece for piece in pieces if piece.kind == "flag"]
    if not flags or flags[0] is not pieces[0]:
        raise UsageError(f"%aiopool configure {text}: an option begins with two minus signs, as in --workers 4")
    for flag, following in pairwise([*flags, None]):
        if flag is not None:
            source = text[flag.end : None if following is None else following.start]
            yield flag.text.removeprefix("--").replace("-", "_"), source.strip().removeprefix("=").lstrip()


def _setting(name: str, source: str, evaluate: Callable[[str], Any]) -> tuple[str, Any]:
    """The keyword that is meant, and its value."""
    positive = name.removeprefix("no_")
    if positive in SETTING_SWITCHES and not source:
        return positive, name == positive
    if name in SETTINGS and not source:
        raise UsageError(f"{written(name)} has no value: write it behind, as in {written(name)} {_EXAMPLES[name]}")
    if name == "engine" and source.isidentifier() and source != "None":
        return name, source
    if source in SETTING_WORDS.get(name, ()) or (name == "max_memory_per_worker" and _SIZE.fullmatch(source)):
        return name, source
    # Of an unknown one the name is what matters, not whether its value can be had.
    return name, evaluate(source) if name in SETTINGS else source


_EXAMPLES: Mapping[str, str] = {
    "workers": "4",
    "concurrency": "64",
    "engine": "local",
    "threads_per_worker": "2",
    "max_tasks_per_worker": "1000",
    "max_memory_per_worker": "2GB",
}


def in_dashes(message: str) -> str:
    """A message about keywords as one about flags; calls stay as they are."""
    told = re.sub(r"(?<![(\w])(\w+)=(?!\.\.\.\))", lambda found: f"{written(found[1])} ", message)
    return re.sub(r"^(\w+) (?=is not an option)", lambda found: f"{written(found[1])} ", told)


def _shown(name: str, value: Any) -> str:
    if value is None and name == "workers":
        return f"None: as many as this machine bears, {default_workers()}"
    if value is None:
        return NONE.get(name, "None")
    return size(value) if name == "max_memory_per_worker" else str(value)
