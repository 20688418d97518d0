"""Tab completion of ``%aiopool`` and ``%%aiopool``: subcommands, flags, their words, and names of the notebook.

Everything but :func:`install` is pure: a text, where the cursor is, and the names that there are, and out comes what
may stand there. Where that is nothing IPython's own completer goes on: with attributes, inside of strings, and in the
lines of the body.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, ModuleType
from typing import Any, NamedTuple

from aiopool.jupyter.magics.defined import defined
from aiopool.jupyter.magics.flags import OPTIONS, OWN, SWITCHES, written
from aiopool.jupyter.magics.flags import WORDS as OF_MAP
from aiopool.jupyter.magics.line import COMMANDS
from aiopool.jupyter.magics.pieces import PROSE
from aiopool.jupyter.magics.settings import SETTING_SWITCHES, SETTING_WORDS, SETTINGS
from aiopool.registry import registry
from aiopool.session import open_pool

__all__ = ["Candidate", "Found", "complete", "dotted_name", "install", "uninstall"]

IDENTIFIER = "aiopool.magics"
"""How IPython calls the matcher: with it a user may switch it off (``IPCompleter.disable_matchers``)."""

WORDS: Mapping[str, tuple[str, ...]] = {**OF_MAP, **SETTING_WORDS, "progress": ("text", "True", "False")}
"""What may stand behind a flag, besides an expression."""

ONLY_WORDS = ("on_error", "progress", "engine")
NEGATED = (*SWITCHES, *SETTING_SWITCHES)
WITHOUT_VALUE = {*NEGATED, *OWN} - WORDS.keys()


class Candidate(NamedTuple):
    """Something that may stand at the cursor, and what it is: for the icon in a front end."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Found:
    """What may stand in the place of ``fragment``, which ends at the cursor; ``alone``: and nothing else may."""

    fragment: str
    candidates: tuple[Candidate, ...]
    alone: bool = True


Names = Mapping[str, object]


def complete(cell: str, line: int, column: int, names: Names, everywhere: Iterable[str] = ()) -> Found | None:
    """What may stand at a place in a cell, None where that is for others to say.

    ``line`` and ``column`` count from 0; ``names`` are those of the notebook that a user would want to see;
    ``everywhere`` those that ``--all`` cells have defined in the workers.
    """
    lines = cell.split("\n")
    before = lines[line][:column]
    if found := re.fullmatch(r"\s*(?:[\w, ]+=\s*)?%aiopool\s(.*)", before, re.DOTALL):
        return _some(*_at_line(found[1].lstrip(), names))
    first = _head_line(lines)
    if first is None or line < first:
        return None
    if line > first:
        return _in_body(before, lines[first], everywhere)
    found = re.fullmatch(r"\s*%%aiopool\s(.*)", before, re.DOTALL)
    return None if found is None else _some(*_in_head(found[1], names, OPTIONS, tuple(OWN)))


def dotted_name(cell: str, line: int, column: int) -> str:
    """The attribute that is being written in a head, or in a line of ours, with what it is one of; or nothing."""
    lines = cell.split("\n")
    before = lines[line][:column]
    is_ours = _head_line(lines) == line or re.match(r"\s*(?:[\w, ]+=\s*)?%aiopool\s", before)
    found = re.search(r"(?<![\w.])(?!\d)\w+(?:\.\w+)*\.\w*$", before)
    return found[0] if found and is_ours and outlined(before) is not None else ""


def _head_line(lines: list[str]) -> int | None:
    """Which line is ``%%aiopool ...``: before it only what may stand there, also another cell magic."""
    for number, text in enumerate(lines):
        if re.match(r"\s*%%aiopool(\s|$)", text):
            return number
        if text.strip() and not text.lstrip().startswith(("#", "%%")):
            return None
    return None


def _some(fragment: str, candidates: Iterable[Candidate]) -> Found | None:
    fitting = dict.fromkeys(one for one in candidates if one.text.startswith(fragment))
    return Found(fragment, tuple(fitting)) if fitting else None


Choice = tuple[str, Iterable[Candidate]]
NOTHING: Choice = ("", ())


# --- the line ------------------------------------------------------------------------------------------------------


def _at_line(text: str, names: Names) -> Choice:
    word, blank, rest = text.partition(" ")
    if not blank:
        return word, _all("magic", COMMANDS)
    rest = rest.lstrip()
    if word == "restart":
        return rest, _all("keyword", ("now",))
    if word == "cancel":
        return rest, _all("instance", ("all", *(job.name for job in registry.running())))
    if word == "resize":
        return _fragment(rest), _named(names, everything=bool(rest))
    if word == "configure":
        return _in_flags(" " + rest, names, SETTINGS, ())
    return NOTHING


# --- the head ------------------------------------------------------------------------------------------------------

_FLAG = r"(?:^|(?<=\s))--([A-Za-z][\w-]*)"
_ENDS_AN_EXPRESSION = re.compile(r"[\w)\]}'\"]\s+$")


def _in_head(text: str, names: Names, options: tuple[str, ...], others: tuple[str, ...]) -> Choice:
    """At the end of what stands behind ``%%aiopool``."""
    outline = outlined(text)
    if outline is None:
        return NOTHING
    if re.search(rf"{_FLAG}|->", outline) or _begun_flag(outline):
        return _in_flags(text, names, options, others)
    if not re.search(r"\sin\s", outline):
        return _in_target(text, names)
    if _is_complete(outline):
        return "", (*_all("keyword", ("->",)), *_flags(outline, options, others))
    return _in_expression(text, names)


def _in_target(text: str, names: Names) -> Choice:
    fragment = _fragment(text)
    begun = text[: len(text) - len(fragment)].rstrip()
    if begun and not begun.endswith((",", "(", "[", "*")):
        return fragment, _all("keyword", ("in",))
    if fragment or begun:
        return fragment, _named(names, everything=False)
    return "", (*_named(names, everything=False), *_all("keyword", ("->",)), *_flags("", OPTIONS, tuple(OWN)))


def _in_flags(text: str, names: Names, options: tuple[str, ...], others: tuple[str, ...]) -> Choice:
    """Where a flag or an arrow has begun."""
    outline = outlined(text)
    if outline is None:
        return NOTHING
    arrow = [] if "->" in outline or not others else _all("keyword", ("->",))
    if (begun := _begun_flag(outline)) is not None:
        return begun, (*arrow, *_flags(outline[: len(outline) - len(begun)], options, others, begun))
    more: Choice = ("", (*arrow, *_flags(outline, options, others)))
    marks = list(re.finditer(rf"{_FLAG}|->", outline))
    if not marks:
        return more
    name = (marks[-1][1] or "").replace("-", "_")
    at = re.compile(r"[=\s]*").match(text, marks[-1].end())
    value = text[marks[-1].end() if at is None else at.end() :]
    if name.removeprefix("no_") in WITHOUT_VALUE or _is_complete(outline[len(outline) - len(value) :]):
        return more
    if not name:
        return _fragment(value), _named(names, everything=False)
    return _in_value(name, value, names)


def _in_value(name: str, value: str, names: Names) -> Choice:
    """In what stands behind a flag that has a value."""
    if name in PROSE:
        return NOTHING
    if re.fullmatch(r"\w*", value) and name in WORDS:
        words = _all("keyword", WORDS[name])
        return value, words if name in ONLY_WORDS or not value else (*words, *_named(names, everything=True))
    return _in_expression(value, names)


def _in_expression(text: str, names: Names) -> Choice:
    fragment = _fragment(text)
    if text[: len(text) - len(fragment)].rstrip().endswith("."):
        return NOTHING  # an attribute: IPython knows
    # Everything that there is would be too much where nothing is written yet.
    return fragment, _named(names, everything=bool(fragment))


def _begun_flag(outline: str) -> str | None:
    """The flag that is being written at the end: ``-``, ``--``, ``--conc``."""
    found = re.search(r"(?:^|(?<=\s))(--?|--[A-Za-z][\w-]*)$", outline)
    return None if found is None else found[1]


def _flags(before: str, options: tuple[str, ...], others: tuple[str, ...], begun: str = "") -> list[Candidate]:
    """The flags that are not there yet, spelt as this one is."""
    there = {found[1].replace("-", "_").removeprefix("no_") for found in re.finditer(_FLAG, before)}
    if "all" in there:
        return _all("param", [written("bg")] if "bg" not in there else [])
    # A body with an input runs for every item, and not on every worker.
    given = re.search(r"\sin\s", before) is not None
    names = [name for name in (*options, *others) if name not in there and not (given and name == "all")]
    if begun.startswith("--n"):
        names += [f"no_{name}" for name in names if name in NEGATED]
    flags = map(written, names)
    return _all("param", (flag if "_" not in begun else f"--{flag[2:].replace('-', '_')}" for flag in flags))


def _is_complete(outline: str) -> bool:
    """Whether an expression may be at its end: something stands there, and a blank behind it."""
    last = re.search(r"(\w+)\s+$", outline)
    return bool(_ENDS_AN_EXPRESSION.search(outline)) and not (last and keyword.iskeyword(last[1]))


def outlined(text: str) -> str | None:
    """The text, as long as it is, with all that stands in brackets and strings hidden; None inside of a string."""
    shown, depth, at = [], 0, 0
    while at < len(text):
        if text[at] in "\"'":
            quote = text[at] * 3 if text.startswith(text[at] * 3, at) else text[at]
            end = re.compile(rf"(?:\\.|(?!{quote}).)*{quote}", re.DOTALL).match(text, at + len(quote))
            if end is None:
                return None
            shown.append("'" * (end.end() - at))
            at = end.end()
            continue
        depth += (text[at] in "([{") - (text[at] in ")]}" and depth > 0)
        shown.append("(" if depth else text[at])
        at += 1
    return "".join(shown)


def _fragment(text: str) -> str:
    found = re.search(r"(?!\d)\w+$", text)
    return found[0] if found else ""


# --- the body ------------------------------------------------------------------------------------------------------


def _in_body(before: str, head: str, everywhere: Iterable[str]) -> Found | None:
    """The names that only the body has; all others IPython knows."""
    fragment = _fragment(before)
    if not fragment or before[: -len(fragment)].endswith(".") or outlined(before) is None:
        return None
    own = [*re.findall(r"(?!\d)\w+", _target(head)), *everywhere]
    found = _some(fragment, _all("instance", own))
    return None if found is None else Found(found.fragment, found.candidates, alone=False)


def _target(head: str) -> str:
    """What stands before ``in``, also where the head is not right yet."""
    target, blank, _ = re.sub(r"^\s*%%aiopool\s", "", head).partition(" in ")
    return target if blank and "-" not in target else ""


# --- names ---------------------------------------------------------------------------------------------------------


def _all(kind: str, texts: Iterable[str]) -> list[Candidate]:
    return [Candidate(text, kind) for text in texts]


def _named(names: Names, *, everything: bool) -> Iterator[Candidate]:
    """The variables of the notebook; and everything else that has a name."""
    for name, value in names.items():
        kind = _kind(value)
        if everything or kind == "instance":
            yield Candidate(name, kind)
    if everything:
        for name, value in vars(builtins).items():
            yield Candidate(name, _kind(value))
        yield from _all("keyword", ("await", "lambda", "if", "else", "for", "in", "not", "and", "or", "is"))


def _kind(value: object) -> str:
    """Asked of its type: some things that stand for others raise when they are asked for their class."""
    kind = type(value)
    if issubclass(kind, ModuleType):
        return "module"
    if issubclass(kind, type):
        return "class"
    is_routine = issubclass(kind, BuiltinFunctionType) or (hasattr(kind, "__get__") and not hasattr(kind, "__set__"))
    return "function" if is_routine else "instance"


# --- IPython -------------------------------------------------------------------------------------------------------


def install(shell: Any) -> None:
    """Have the shell complete what stands behind ``%aiopool`` and ``%%aiopool``; a second time changes nothing.

    A shell whose completer takes no matchers, as before IPython 8.6, stays as it is.
    """
    uninstall(shell)
    matchers = getattr(shell.Completer, "custom_matchers", None)
    if matchers is not None:
        matchers.append(_matcher(shell))


def uninstall(shell: Any) -> None:
    """Take that away."""
    matchers = getattr(shell.Completer, "custom_matchers", None)
    if matchers is not None:
        matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != IDENTIFIER]


def _matcher(shell: Any) -> Callable[[Any], Any]:
    from IPython.core.completer import SimpleCompletion, context_matcher  # older ones have none

    def matcher(context: Any) -> dict[str, Any]:
        cell, line, column = context.full_text, context.cursor_line, context.cursor_position
        found = complete(cell, line, column, _shown_names(shell), _everywhere())
        if found is None and not shell.Completer.use_jedi and (dotted := dotted_name(cell, line, column)):
            # Without jedi IPython completes no attributes in lines that begin with percent signs.
            found = _some(dotted, _all("attribute", shell.Completer.attr_matches(dotted)))
        if found is None:
            return {"completions": [], "suppress": False}
        return {
            "completions": [SimpleCompletion(text=one.text, type=one.kind) for one in found.candidates],
            "matched_fragment": found.fragment,
            "suppress": found.alone,
            "ordered": found.alone,
        }

    matching: Callable[[Any], Any] = context_matcher(identifier=IDENTIFIER)(matcher)
    return matching


def _everywhere() -> Iterable[str]:
    """What ``--all`` cells have defined in the workers of the shared pool."""
    pool = open_pool()
    return () if pool is None else sorted(defined.of(pool))


def _shown_names(shell: Any) -> dict[str, object]:
    """The notebook's names without IPython's own and those that begin with an underscore."""
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if not name.startswith("_") and not (name in hidden and hidden[name] is value)
    }
