"""What Tab offers behind ``%aiopool`` and ``%%aiopool``, as a table: the place of the cursor is ``|``."""

from __future__ import annotations

import asyncio
import functools

import pytest

from aiopool.jupyter.magics.complete import Found, complete
from aiopool.jupyter.magics.flags import OPTIONS, OWN, written
from aiopool.jupyter.magics.settings import SETTINGS

FLAGS = [written(name) for name in OPTIONS]


def fetch() -> None:
    """A function of the notebook's."""


NAMES: dict[str, object] = {"urls": [], "pages": [], "limit": 3, "fetch": fetch, "asyncio": asyncio}
VARIABLES = ["urls", "pages", "limit"]


def at(cell: str, everywhere: tuple[str, ...] = ()) -> Found | None:
    """What is offered at ``|``."""
    before, bar, after = cell.partition("|")
    assert bar
    return complete(before + after, before.count("\n"), len(before.rpartition("\n")[2]), NAMES, everywhere)


def offered(cell: str) -> list[str]:
    """The texts that are offered at ``|``."""
    found = at(cell)
    return [] if found is None else [candidate.text for candidate in found.candidates]


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("%aiopool |", ["resize", "restart", "close", "jobs", "cancel", "configure", "help"]),
        ("%aiopool re|", ["resize", "restart"]),
        ("x = 1\n  %aiopool clo|", ["close"]),
        ("x = %aiopool jo|", ["jobs"]),
        ("%aiopool restart |", ["now"]),
        ("%aiopool cancel a|", ["all"]),
        ("%aiopool resize |", VARIABLES),
        ("%aiopool resize 2 * lim|", ["limit"]),
        ("%aiopool configure |", [written(name) for name in SETTINGS]),
        ("%aiopool configure --th|", ["--threads-per-worker"]),
        ("%aiopool configure --threads-per-worker a|", ["auto", "asyncio", "all", "any", "abs"]),
        ("%aiopool configure --workers 3 --con|", ["--concurrency"]),
        ("%aiopool configure --no-n|", ["--no-nested-loops"]),
        ("%aiopool configure --workers lim|", ["limit"]),
        ("%aiopool help |", []),
        ("%%aiopool|", []),
        ("%aiopool|", []),
        ("%%aiopoolx |", []),
    ],
)
def test_a_line_offers_what_may_follow(cell, texts):
    """Subcommands, their words, flags of ``configure``, and variables where a value stands."""
    assert set(offered(cell)) >= set(texts)
    assert bool(offered(cell)) == bool(texts)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("%%aiopool url |", ["in"]),
        ("%%aiopool i, url |", ["in"]),
        ("%%aiopool u|", ["urls"]),
        ("%%aiopool (a, p|", ["pages"]),
        ("%%aiopool url in |", VARIABLES),
        ("%%aiopool url in u|", ["urls"]),
        ("%%aiopool url in enumer|", ["enumerate"]),
        ("%%aiopool url in fet|", ["fetch"]),
        ("%%aiopool url in aw|", ["await"]),
        ("%%aiopool url in zip(p|", ["pages"]),
        ("%%aiopool url in [u for u in ur|", ["urls"]),
        ("%%aiopool url in urls[:li|", ["limit"]),
        ("%%aiopool url in urls -> |", VARIABLES),
        ("%%aiopool url in urls -> pa|", ["pages"]),
        ("%%aiopool -> pa|", ["pages"]),
        ("%%aiopool --timeout 10 -> pa|", ["pages"]),
        ("%%aiopool url in urls --timeout li|", ["limit"]),
        ("%%aiopool url in urls --timeout=li|", ["limit"]),
        ("%%aiopool url in urls --timeout 2 * li|", ["limit"]),
        ("%%aiopool url in urls --label lambda u: fet|", ["fetch"]),
        ("%%aiopool url in urls --on-error |", ["raise", "return"]),
        ("%%aiopool url in urls --on_error re|", ["return"]),
        ("%%aiopool url in urls --on-error=ra|", ["raise"]),
        ("%%aiopool url in urls --backoff |", ["exponential"]),
        ("%%aiopool url in urls --batch |", ["auto"]),
        ("%%aiopool url in urls --progress t|", ["text"]),
        ("%%aiopool url in urls --timeo|", ["--timeout"]),
        ("%%aiopool url in urls --timeo| --retries 2", ["--timeout"]),
        ("%%aiopool url in urls --on_|", ["--on_error"]),
        ("%%aiopool url in urls --no-pro|", ["--no-progress"]),
        ("%%aiopool url in urls --no-re|", ["--no-rerun-lost"]),
        ("%%aiopool url in '--timeout' --retri|", ["--retries"]),
        ("%%aiopool url in f(a, '->') --retri|", ["--retries"]),
        ("%%aiopool --al|", ["--all"]),
        ("%%aiopool --all |", ["--bg"]),
        ("%%aiopool --all --|", ["--bg"]),
        ("%%aiopool url in urls --desc pag|", []),
        ("%%aiopool url in asyncio.ga|", []),
        ("%%aiopool url in asyncio.|", []),
        ("%%aiopool url in 'ur|", []),
        ("%%aiopool url in data['ur|", []),
        ("%%aiopool url in urls --all|", []),
        ("%%aiopool url in urls --help-me|", []),
        ("\n# first\n%%aiopool url in ur|\nurl", ["urls"]),
        ("%%time\n%%aiopool url in ur|", ["urls"]),
        ("x = 1\n%%aiopool url in ur|", []),
    ],
)
def test_a_head_offers_what_may_stand_there(cell, texts):
    """Exactly this where it is little; where it is names, at least these."""
    found = offered(cell)
    assert set(found) >= set(texts)
    assert bool(found) == bool(texts)
    if any(text.startswith("-") for text in texts) or texts == ["in"]:
        assert set(found) <= {*texts, "->"}


class Nowhere:
    """Stands for something else, as a request of a web server, and has nothing to stand for now."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("working outside of request context")


def test_a_variable_that_does_not_tell_its_class_is_offered_as_any_other():
    """It must not take all others from Tab."""
    names = {**NAMES, "request": Nowhere(), "sorting": sorted, "Kind": Nowhere, "cached": functools.cache(fetch)}
    found = complete("%%aiopool url in [r", 0, 19, names)
    assert found is not None
    assert {"request": "instance", "range": "class"}.items() <= dict(found.candidates).items()
    for text, kind in (("sorting", "function"), ("Kind", "class"), ("cached", "function"), ("asyncio", "module")):
        found = complete(f"%%aiopool url in {text}", 0, 17 + len(text), names)
        assert found is not None
        assert dict(found.candidates)[text] == kind


def test_all_flags_are_offered_behind_two_minus_signs_but_those_that_are_there():
    """Every option of a map, and the cell's own; none twice, and ``--all`` only where there is no input."""
    assert offered("%%aiopool --|") == [*FLAGS, *(written(name) for name in OWN)]
    left = offered("%%aiopool url in urls --timeout 3 --no-progress --on-error return --|")
    assert not {"--timeout", "--progress", "--on-error", "--all"} & set(left)
    assert {"--retries", "--bg"} <= set(left)


@pytest.mark.parametrize(
    "head", ["url in urls |", "url in urls[3:] |", "url in urls -> pages |", "url in urls --timeout 3 |", "--bg |"]
)
def test_behind_what_is_complete_flags_are_offered(head):
    """And the arrow, where there is none yet."""
    found = offered(f"%%aiopool {head}")
    assert "--retries" in found
    assert ("->" in found) == ("->" not in head)


@pytest.mark.parametrize("head", ["url in not |", "url in urls if |", "url in urls + |", "url in urls --retries 2 * |"])
def test_behind_what_goes_on_variables_are_offered(head):
    """An operator wants another operand."""
    assert offered(f"%%aiopool {head}") == VARIABLES


def test_what_is_offered_takes_the_place_of_what_was_written():
    """And of nothing before it."""
    found = at("%%aiopool url in urls --on-error re|")
    assert found is not None
    assert found.fragment == "re"
    assert found.alone


def test_a_body_offers_the_names_of_its_head_beside_those_of_the_notebook():
    """The target's, and what --all cells have defined; IPython adds all others."""
    found = at("%%aiopool i, (url, *rest) in urls --timeout 3\nif ur|", ("urlsafe", "model"))
    assert found is not None
    assert [candidate.text for candidate in found.candidates] == ["url", "urlsafe"]
    assert not found.alone
    assert at("%%aiopool url in urls\nprint(res|") is None
    assert at("%%aiopool url in urls\nx.ur|") is None
    assert at("%%aiopool url in urls\nx = 'ur|") is None
    assert at("%%aiopool --timeout 3\nti|") is None


@pytest.mark.parametrize(
    "cell",
    ["", "%", "%%aiopool", "%%aiopool ", "%%aiopool ) in", "%%aiopool '", "%%aiopool x in (((", "%%aiopool --"],
)
def test_no_place_of_an_unfinished_cell_is_an_error(cell):
    """Tab may be pressed anywhere."""
    for text in (cell, f"{cell}\nx"):
        for end in range(len(text) + 1):
            complete(text, text[:end].count("\n"), len(text[:end].rpartition("\n")[2]), NAMES)
