"""What a ``%%aiopool`` cell tells its user beside its result, and how often."""

from __future__ import annotations

import builtins
import difflib
import importlib.util
import re
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["cell_id", "instead_of", "is_new", "note_for", "say"]

_NAME_ERROR = re.compile(r"name '(\w+)' is not defined|cannot access (?:local|free) variable '(\w+)' .*")

_told: dict[tuple[str, str], str] = {}


def cell_id(shell: Any) -> str:
    """What the front end calls the cell that runs; empty where it says nothing, and in a terminal."""
    kernel = getattr(shell, "kernel", None)
    metadata = {} if kernel is None else kernel.get_parent("shell").get("metadata", {})
    return str(metadata.get("cellId", ""))


def is_new(shell: Any, about: str, text: str) -> bool:
    """Whether this cell, as the front end calls it, has not been told about this since it got this text."""
    key = cell_id(shell), about
    before = _told.get(key)
    _told[key] = text
    return before != text


def say(text: str) -> None:
    """Print a line under the cell."""
    print(text)  # noqa: T201 - to a user


def instead_of(name: str, namespace: Mapping[str, Any], everywhere: Mapping[str, str]) -> str:
    """What to write instead of a name that does not exist, as the end of a sentence."""
    users = {each for each in (*namespace, *everywhere) if not each.startswith("_")}
    if _is_module(name):
        near = difflib.get_close_matches(name, users, n=3)
        other = f". Or did you mean {' or '.join(near)}?" if near else ""
        return f". There is a module of that name: import {name}, in the notebook or in the body{other}"
    close = difflib.get_close_matches(name, users | vars(builtins).keys(), n=3)
    return f". Did you mean {' or '.join(close)}?" if close else ", neither in the notebook nor in the body"


def _is_module(name: str) -> bool:
    """Whether ``import name`` would find something; a folder without ``__init__.py`` is no such thing."""
    if name.startswith("_"):
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # Finders of others, and modules that were made by hand.
        return False
    return spec is not None and spec.origin is not None


def note_for(error: BaseException, everywhere: Mapping[str, str], unsure: Collection[str] = ()) -> str:
    """Why a name was not found that an ``--all`` cell has defined; empty for all other errors.

    A body is given such names; a function that travels from the notebook looks among the notebook's own. Those that are
    ``unsure`` need not exist in every worker.
    """
    found = _NAME_ERROR.fullmatch(str(error)) if type(error) in (NameError, UnboundLocalError) else None
    name = found[1] or found[2] if found else ""
    if name in unsure:
        return (
            f"{everywhere[name]} defines {name} with --all on some ways only, as in an if, a loop or a function, or "
            f"deletes it: not every worker need have it. Where one has, bodies of %%aiopool cells see it, functions "
            "of the notebook do not"
        )
    if type(error) is not NameError or name not in everywhere:
        return ""
    return (
        f"{name} was defined with --all in {everywhere[name]}: bodies of %%aiopool cells see it, functions of the "
        "notebook do not. Pass it to the function, or define the function with --all, too"
    )
