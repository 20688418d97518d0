"""The modules of the front end, and the one text that a widget brings along."""

from __future__ import annotations

import importlib.resources
import re
from itertools import chain

from aiopool.jupyter import front

DECLARED = re.compile(r"^(export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
IMPORTED = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)


def _sources() -> dict[str, str]:
    folder = importlib.resources.files("aiopool.jupyter").joinpath("static")
    files = [each for each in folder.iterdir() if each.name.endswith(".js")]
    return {each.name.removesuffix(".js"): each.read_text("utf-8") for each in files}


def test_every_module_is_part_of_the_widget() -> None:
    """None is forgotten, and none is too long to be read in one go."""
    sources = _sources()
    assert sorted(sources) == sorted(front.MODULES)
    assert max(text.count("\n") for text in sources.values()) < 400


def test_a_module_takes_only_what_one_before_it_gives() -> None:
    """Put together, each name is there before it is needed."""
    given: dict[str, set[str]] = {}
    for name in front.MODULES:
        text = _sources()[name]
        for names, other in IMPORTED.findall(text):
            assert {one.strip() for one in names.split(",")} <= given[other], (name, other)
        given[name] = {what for exported, what in DECLARED.findall(text) if exported}


def test_the_widget_brings_one_text_that_fetches_nothing() -> None:
    """No import is left, one export is, and no name is declared twice: a browser would refuse all of it."""
    text = front.script()
    assert not re.search(r"^import\b", text, re.MULTILINE)
    assert re.findall(r"^export\b.*", text, re.MULTILINE) == ["export default () => {"]
    names = [what for _, what in DECLARED.findall(text)]
    assert sorted(names) == sorted(set(names))
    assert set(names) == {what for _, what in chain(*map(DECLARED.findall, _sources().values()))}
