"""What a kernel's texts say: the line to try an input here, the cell in which a worker crashed, plain JSON."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from tests.kernel.harness import Kernel, Signs

pytestmark = pytest.mark.kernel

PICKY = """
import pathlib
class Thing:
    def __init__(self, number):
        self.number = number
    def __repr__(self):
        return str(self.number)
def picky(x):
    if isinstance(x, tuple):
        raise KeyError(x)
    raise ValueError(x)
def told(x):
    return type(x).__name__, str(x)
"""


def hints_of(kernel: Kernel, source: str) -> list[str]:
    """The lines with which the panel of a cell tells to try a failed input, as they stand in the saved notebook."""
    kernel.run(PICKY)
    page = kernel.run(source).panels[0].data[-1]["text/html"]
    return [html.unescape(hint) for hint in re.findall(r"Try it here: <code>(.*?)</code>", page)]


def tried(kernel: Kernel, hint: str) -> Any:
    """What the function would be given, once other jobs have failed."""
    kernel.run("await pmap(abs, ['a'], on_error='return')\nother = pmap(abs, [1])\nawait other")
    assert hint.startswith("picky(")
    return kernel.value(hint.replace("picky(", "told(", 1))


LONG = "https://example.org/" + "page/" * 30


@pytest.mark.parametrize(
    ("inputs", "hint", "given"),
    [
        ("[" + repr(LONG) + "]", f"picky({LONG!r})", ("str", LONG)),
        ("[7]", "picky(7)", ("int", "7")),
        ("[pathlib.Path('2024')]", "picky(mine.failures[0].input)", ("PosixPath", "2024")),
        ("[Thing(7)]", "picky(mine.failures[0].input)", ("Thing", "7")),
        ("[(1, 2), Thing(8)]", "picky(next(f.input for f in mine.failures if f.index == 1))", ("Thing", "8")),
    ],
    ids=["a long text", "a number", "a path that looks like a number", "what looks like a number", "one of two groups"],
)
def test_a_failed_input_is_tried_as_itself(kernel: Kernel, inputs: str, hint: str, given: tuple[str, str]) -> None:
    """Also after others have failed: by what is written in code, else by the variable that holds the job."""
    source = f"mine = pmap(picky, {inputs}, on_error='return')\nawait mine.wait()\nmine"
    assert hint in hints_of(kernel, source)
    assert tried(kernel, hint) == given


def test_a_job_without_a_name_is_found_among_those_that_are_held(kernel: Kernel) -> None:
    """By its number, which no other job has, of whatever pool."""
    source = """
    _hidden = pmap(picky, [Thing(7)])
    await _hidden.wait()
    aiopool.last_job()
    """
    (hint,) = hints_of(kernel, source)
    number = re.search(r"j\.id == (\d+)", hint)
    assert number, hint
    found = f"next(f.input for j in aiopool.jobs() if j.id == {number[1]} for f in j.failures if f.index == 0)"
    assert hint == f"picky({found})"
    kernel.run("with Pool(workers=1) as pool:\n    for _ in range(3): pool.map(abs, [1]).result()")
    kernel.run("running = pmap(time.sleep, [60])")
    assert kernel.value(hint.replace("picky(", "told(", 1)) == ("Thing", "7")
    kernel.run("running.cancel()")


def test_where_the_user_says_how_inputs_are_shown_they_are_not_shown_otherwise(kernel: Kernel) -> None:
    """``label=`` may be there to hide a secret."""
    source = "mine = pmap(picky, ['secret'], label=lambda x: 'hidden', on_error='return')\nawait mine.wait()\nmine"
    assert hints_of(kernel, source) == ["picky(mine.failures[0].input)"]


def test_a_crash_names_the_cell_and_the_line(kernel: Kernel) -> None:
    """What faulthandler writes names a file that nobody has ever seen."""
    cell = kernel.run(
        """
        import ctypes
        def crash(x):
            ctypes.string_at(0)
        """
    )
    error = kernel.run(
        "(failed,) = await pmap(crash, [0], on_error='return')\nprint(failed.error)\nprint(failed.prints)"
    ).printed()
    assert f"  Cell In[{cell.number}], line 3 in crash" in error
    assert "ipykernel_" not in error


def test_what_an_item_displays_is_json_though_numbers_are_none(kernel: Kernel) -> None:
    """NaN and infinity are no JSON: where they stood is nothing, and Jupyter has no reason to warn."""
    cell = kernel.run(
        """
        import warnings
        def shows(x):
            data = {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}}
            display({"application/json": data, "text/plain": "the data"}, raw=True)
        said = []
        def note(message, *_, **__):
            said.append(str(message))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            await pmap(shows, [0])
        said
        """
    )
    assert cell.value == []
    (shown,) = cell.displays
    assert shown.data[0]["application/json"] == {"a": [None, 1.5], "b": {"c": None}}


def test_only_what_workers_have_said_stands_under_printed(kernel: Kernel, signs: Signs) -> None:
    """How many lines were not shown is told beside it, and under the cell."""
    kernel.run(
        """
        async def floods(x):
            sys.stdout.write("a line\\n" * 5000)
            while not os.path.exists(os.path.join(SIGNS, "go")):
                await asyncio.sleep(0.01)
        """
    )
    cell = kernel.begin("await pmap(floods, [0])")
    widget = cell.widget()
    signs.allow("go")
    cell.finish()
    widget.wait_for(lambda state: not state["live"] and state["dropped"], "the end")
    assert {line["label"] for line in widget.state["prints"]} == {"item 0"}
    assert re.search(r"^\[aiopool\] [\d,]+ lines were not shown", cell.printed("stderr"), re.MULTILINE)


def test_a_loop_over_maps_leaves_one_line(kernel: Kernel, signs: Signs) -> None:
    """Thirty of one name: in the panel and in the HTML and the text that are saved."""
    kernel.run(
        """
        async def held(x):
            while not os.path.exists(os.path.join(SIGNS, "go")):
                await asyncio.sleep(0.01)
        """
    )
    first = kernel.begin("await pmap(held, [0])")
    first.widget()  # Its class has been loaded then.
    signs.allow("go")
    first.finish()
    # Else a slow cell, which takes half a second from one to the next, might have none that is worth a panel.
    kernel.run("import aiopool._runtime.views\naiopool._runtime.views.SHOW_AFTER = 0")
    cell = kernel.run(
        """
        async def nap(x):
            await asyncio.sleep(0.03)
        for _ in range(30):
            await pmap(nap, range(10))
        """
    )
    kernel.run("aiopool._runtime.views.SHOW_AFTER = 0.5")
    widget = cell.widget()
    widget.wait_for(lambda state: not state["live"], "the end")
    (row,) = widget.jobs
    assert re.fullmatch(r"nap: 30 jobs, 300 done in [\d.]+ s", row["summary"]), row
    cell.wait_for(lambda cell: cell.panels[0].texts[-1] == row["summary"], "the last text")
    assert row["summary"] in cell.panels[0].data[-1]["text/html"]
    assert widget.state["more"] == ""
