"""Flags and options: every option of a map is a flag of the same name, with the same checks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from aiopool.errors import OptionError
from aiopool.html import in_one_line
from aiopool.jupyter.magics.heads import Flag, Head, HeadError
from aiopool.jupyter.magics.pieces import PROSE, is_quoted
from aiopool.options import NEAR_MISSES, POOL_NEAR_MISSES, MapOptions

__all__ = ["OPTIONS", "OWN", "SWITCHES", "WORDS", "example_of", "help_text", "instead_of", "options_of", "written"]

OPTIONS: tuple[str, ...] = tuple(field.name for field in fields(MapOptions))
"""The options of a map, each of which is a flag."""

SWITCHES: frozenset[str] = frozenset(field.name for field in fields(MapOptions) if isinstance(field.default, bool))
"""Options that may stand without a value, which is True then; ``--no-...`` is False."""

OWN: Mapping[str, str] = {
    "bg": "run in the background: the name, or the cell, gets the Job at once",
    "all": "no input: run the body once on every worker, and on each that starts later",
    "help": "show this text, run nothing",
}
"""Flags of the cell itself. They take no value."""


def _words(hint: object) -> tuple[str, ...]:
    """The texts among the values that a type allows: they need no quotes."""
    return tuple(word for part in get_args(hint) for word in ((part,) if isinstance(part, str) else _words(part)))


WORDS: Mapping[str, tuple[str, ...]] = {
    name: words for name, hint in get_type_hints(MapOptions).items() if (words := _words(hint))
}
"""Options with values that are words: ``--on-error return``."""

_MEANINGS: Mapping[str, tuple[str, str]] = {
    "concurrency": ("200", "items in flight over the whole job"),
    "timeout": ("10", "seconds per attempt, from its start"),
    "retries": ("3", "how often an item that failed may run again"),
    "backoff": ("2", "seconds before that; exponential: 0.5, doubling to 30, a random part of it"),
    "retry_on": ("OSError", "which exceptions: a class, or a tuple of classes"),
    "on_error": ("return", "raise: the first failure stops the job; return: a Failure in its place"),
    "rate": ("50", "starts per second over the whole job, every attempt counted"),
    "unpack": ("", "has no effect here: the target takes an item apart, i, url in pairs"),
    "batch": ("auto", "items that travel together; auto: measured"),
    "window": ("1000", "how many items of an unsized input are read ahead"),
    "total": ("5000", "how many items an unsized input will have, for the bar"),
    "label": ("str.upper", "a function of an item: how it is shown in panel and errors"),
    "seed": ("1", "aiopool.current_item().seed derives from it and the item's index alone"),
    "rerun_lost": ("", "may an item whose worker died run again? --no-rerun-lost: at most once"),
    "desc": ("my pages", "the title of the panel; quotes are needed around --, -> and #"),
    "progress": ("text", "text: a line of text; --no-progress: nothing"),
    "detach": ("", "run on when this cell is run again, instead of being cancelled then"),
}
"""Of each option an example of its value, and what it means."""

_CONFIGURED = (
    "engine", "threads_per_worker", "nested_loops", "reload_modules", "max_tasks_per_worker", "max_memory_per_worker",
)  # fmt: skip

_INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        (name for name, right in NEAR_MISSES.items() if "workers=" in right),
        "%aiopool resize {value} for more or fewer workers, or --concurrency {value} for the items at a time",
    ),
    **{name: f"%aiopool configure --{name.replace('_', '-')} {{value}}" for name in _CONFIGURED},
    **dict.fromkeys(
        ("initializer", "initargs"), "what it does in a cell of its own, %%aiopool --all: it runs once on every worker"
    ),
    **dict.fromkeys(
        ("grace", "start_timeout", "idle_timeout"), "it as an option of Pool(...), and that pool's map in a plain cell"
    ),
    "name": "--desc {value} for a title, or -> {value} for the name of the results",
    **dict.fromkeys(("background", "noblock", "no_block", "nowait", "no_wait", "detached"), "--bg"),
    **dict.fromkeys(("everywhere", "everyone", "broadcast", "all_workers", "every_worker", "each_worker"), "--all"),
    **dict.fromkeys(("out", "output", "into", "to", "result", "results"), "-> {value}"),
    **dict.fromkeys(("quiet", "silent", "hide"), "--no-progress"),
    **dict.fromkeys(("h", "usage", "flags", "options"), "--help"),
    **dict.fromkeys(("c", "j", "n", "p", "jobs", "parallel"), "--concurrency {value}"),
    **dict.fromkeys(("w",), "%aiopool resize {value}, or --concurrency {value}"),
    "a": "--all",
    "b": "--batch {value}, or --bg for a job in the background",
    "d": "--desc {value}",
    "l": "--label {value}",
    "o": "-> {value}",
    "q": "--no-progress",
    "r": "--retries {value} or --rate {value}",
    "s": "--seed {value}",
    "t": "--timeout {value}",
}


def written(name: str) -> str:
    """How an option is written as a flag: ``--on-error``."""
    return "--" + name.replace("_", "-")


def example_of(name: str) -> str:
    """A value that the option may have."""
    return _MEANINGS[name][0]


def instead_of(name: str, value: str | None) -> str:
    """What to write instead of a flag that does not exist: the end of a sentence."""
    name = name.lower().replace("-", "_")
    # A number of workers below zero means all of them elsewhere, and nothing here.
    value = "..." if not value or len(value) > 40 or value.startswith("-") else in_one_line(value, 40)
    if name in OPTIONS or name in OWN:
        return f"write {written(name)}" + (f" {value}" if name in OPTIONS and value != "..." else "")
    if name in _INSTEAD:
        return "write " + _INSTEAD[name].format(value=value)
    if name in NEAR_MISSES:
        if "after the first" in NEAR_MISSES[name]:
            value = str(max(int(value) - 1, 0)) if value.isdecimal() else "..."
        return "write " + _with_dashes(NEAR_MISSES[name], value)
    if name in POOL_NEAR_MISSES:
        return instead_of(POOL_NEAR_MISSES[name].partition("=")[0], value)
    known = [*OPTIONS, *OWN, *(f"no_{switch}" for switch in SWITCHES)]
    longer = [option for option in known if option.startswith(name)]
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.7) or (longer if len(longer) == 1 else []):
        return f"did you mean {written(close[0])}?"
    return "%%aiopool --help lists those that exist"


def _with_dashes(text: str, value: str) -> str:
    """A hint that speaks of keywords, said with flags."""

    def flag(found: re.Match[str]) -> str:
        name, word = found["name"], found["word"] or value
        return written(name) if word == "..." and name in SWITCHES else f"{written(name)} {word}"

    text = re.sub(r"\bconfigure\((\w+=\.\.\.)\)", r"%aiopool configure \1", text)
    return re.sub(r'\b(?P<name>\w+)=(?:\.\.\.|"(?P<word>\w+)")', flag, text)


_CONSTANTS: Mapping[str, bool | None] = {"True": True, "False": False, "None": None}


def options_of(head: Head, evaluate: Callable[[str, int], object]) -> dict[str, Any]:
    """The options that the flags of a head set: keywords for :meth:`MapOptions.of`.

    ``evaluate(source, column)`` gives the value of an expression in the user's namespace; the source stands at that
    column of the cell's first line. Raises :class:`HeadError` for a value that cannot be, and what ``evaluate`` raises.
    """
    return {flag.name: _option(head, flag, evaluate) for flag in head.flags}


def _option(head: Head, flag: Flag, evaluate: Callable[[str, int], object]) -> object:
    value = _value(flag, evaluate)
    try:
        MapOptions.of({flag.name: value})
    except OptionError as error:
        shown = written(flag.name) if flag.value is None else f"{written(flag.name)} {flag.value}"
        must = str(error).removeprefix(f"{flag.name}={value!r}: ")
        start, end = flag.value_column, flag.value_column + len(flag.value or "")
        raise HeadError.at(head.line, start, end, f"{shown}: {must}") from None
    return value


def _value(flag: Flag, evaluate: Callable[[str, int], object]) -> object:
    if flag.value is None:
        return True
    if flag.value in _CONSTANTS:
        return _CONSTANTS[flag.value]
    if flag.value in WORDS.get(flag.name, ()) or (flag.name in PROSE and not is_quoted(flag.value)):
        return flag.value
    try:
        return evaluate(flag.value, flag.value_column)
    except NameError as error:
        if error.name != flag.value or flag.name not in WORDS.keys() | SWITCHES:
            raise
        # A word that is not one of those that may stand there: its check knows them.
        return flag.value


def help_text() -> str:
    """What ``%%aiopool --help`` shows."""
    own = [(written(name), meaning) for name, meaning in OWN.items()]
    options = [(f"{written(name)} {example}".rstrip(), meaning) for name, (example, meaning) in _MEANINGS.items()]
    lines = [f"  {flag:<20} {meaning}" for flag, meaning in (*own, *options)]
    return "\n".join([_BEFORE, *lines, _AFTER])


_BEFORE = """\
%%aiopool TARGET in INPUT -> NAME --flag value --flag

The body runs once per item, in the workers. The value of its last expression is the item's result.

  TARGET   what each item is called: url, or i, url, or i, (first, *rest)
  INPUT    any expression of the notebook: urls, enumerate(urls), await urls_of(site)
  NAME     gets the list of results; without "-> NAME" the value of the cell is that list

Without "TARGET in INPUT" the body runs once, on one worker, and NAME gets its value. It is not run
again if its worker dies, unless you say --rerun-lost. What stands behind # is a comment.

Flags stand behind the input, in any order. A value reaches to the next flag or arrow and is an
expression, so blanks are needed in a - -b, while a --b is a flag.
"""

_AFTER = """
Examples:
  %%aiopool url in urls -> pages --concurrency 200 --timeout 10
  %%aiopool i, path in enumerate(paths) -> sizes --on-error return --retries 2 --retry-on OSError
  %%aiopool x in range(10**6) -> job --bg --batch 1000 --label lambda x: f"number {x}"
  %%aiopool -> model --timeout 600
  %%aiopool --all
"""
