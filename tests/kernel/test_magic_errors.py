"""What is wrong in a ``%%aiopool`` cell is shown at its place in that cell, as it was written; no line is of ours."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Cell, Kernel
from tests.kernel.test_errors import files_of, frames_of, marked_lines

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def magic(kernel: Kernel) -> None:
    """The extension is there."""
    kernel.run("%load_ext aiopool")


def name_of(cell: Cell) -> str:
    """The class of the error."""
    assert cell.error is not None
    return str(cell.error["ename"])


def assert_nothing_of_ours(cell: Cell) -> None:
    """No frame of the library's is in the traceback, nor of what it stands on."""
    shown = cell.traceback.replace("%%aiopool", "").replace("aiopool.last_job()", "")
    for word in ("aiopool", "_payload", "site-packages", "contextlib", "ipykernel_", "__import__"):
        assert word not in shown, cell.traceback
    assert files_of(cell) == []


# --- items ---------------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("before", ["", "# why\n\n"])
@pytest.mark.parametrize("wait", ["pass", "await asyncio.sleep(0)"])
def test_a_failing_item_shows_the_head_and_the_line_of_the_body(kernel: Kernel, wait: str, before: str) -> None:
    """Under comments and empty lines too; the note tells the input, and the library is not seen."""
    source = f"{before}%%aiopool word in ['1', 'two'] -> numbers --timeout 10\n{wait}\nint(word)"
    failed = kernel.fail(source)
    head = 1 + before.count("\n")
    assert name_of(failed) == "ValueError"
    assert frames_of(failed) == [(failed.number, head), (failed.number, head + 2)]
    assert marked_lines(failed) == [source.splitlines()[head - 1], "int(word)"]
    assert_nothing_of_ours(failed)
    assert re.search(r"^item 1 \('two'\), worker [01] \(pid \d+\)$", failed.traceback, re.MULTILINE)


def test_lines_are_counted_as_python_does(kernel: Kernel) -> None:
    """A form feed, and what Unicode has for ends of lines, may stand in a text and in the head, and ends none."""
    failed = kernel.fail("%%aiopool x in [len('a\u2028\x0cb') - 4]\n\x0c\ntext = '\u2028'\n1 / x\n'never'")
    assert marked_lines(failed)[-1] == "1 / x"
    assert [line for _, line in frames_of(failed)] == [1, 4]
    assert_nothing_of_ours(failed)


@pytest.mark.core
def test_empty_lines_at_the_beginning_are_counted(kernel: Kernel) -> None:
    """As the editor counts them."""
    failed = kernel.run_any("done = get_ipython().run_cell('\\n\\n# why\\n%%aiopool x in [0]\\n\\n1 / x')")
    assert [line for _, line in frames_of(failed)] == [4, 6]
    assert marked_lines(failed) == ["%%aiopool x in [0]", "1 / x"]


def test_functions_and_classes_of_the_body_show_their_lines(kernel: Kernel) -> None:
    """And functions of other cells theirs."""
    helper = kernel.run("def invert(x):\n    return 1 / x")
    failed = kernel.fail("%%aiopool x in [1, 0]\ndef twice(y):\n    return 2 * invert(y)\ntwice(x)")
    n = failed.number
    assert frames_of(failed) == [(n, 1), (n, 4), (n, 3), (helper.number, 2)]
    assert marked_lines(failed)[1:] == ["twice(x)", "    return 2 * invert(y)", "    return 1 / x"]
    assert_nothing_of_ours(failed)


def test_a_body_that_runs_once_says_that_it_was_the_call(kernel: Kernel) -> None:
    """There is no item, and nothing else that was finished."""
    failed = kernel.fail("%%aiopool -> model\n1 / 0")
    assert marked_lines(failed) == ["%%aiopool -> model", "1 / 0"]
    assert re.fullmatch(r"the call, worker [01] \(pid \d+\)", failed.traceback.rstrip().splitlines()[-1])


def test_an_error_of_a_background_job_shows_the_cell_that_made_it(kernel: Kernel) -> None:
    """Where it is awaited, and where it failed."""
    cell = kernel.run("%%aiopool x in [0] --bg -> job\n\n1 / x")
    failed = kernel.fail("await job")
    assert frames_of(failed) == [(failed.number, 1), (cell.number, 3)]
    assert marked_lines(failed) == ["await job", "1 / x"]


def test_an_edited_body_shows_its_new_lines(kernel: Kernel) -> None:
    """Every run of the cell has lines of its own."""
    assert marked_lines(kernel.fail("%%aiopool x in [0]\n1 / x"))[-1] == "1 / x"
    failed = kernel.fail("%%aiopool x in [0]\ny = x\n2 / y")
    assert marked_lines(failed)[-1] == "2 / y"
    assert frames_of(failed)[-1] == (failed.number, 3)


# --- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize(
    ("source", "line", "place"),
    [
        ("%%aiopool for x in range(3)\nx", 1, "for"),
        ("%%aiopool x in range(3) --chunksize 5\nx", 1, "--chunksize"),
        ("%%aiopool x in range(3\nx", 1, "("),
        ("# why\n\n%%aiopool x in range(3) -> a.b\nx", 3, "a.b"),
        ("%%aiopool x in range(3)\nif x:\n    pass\nfor y in", 4, ""),
        ("# why\n%%aiopool x in range(3)\nx = = 2", 3, "= 2"),
        ("%%aiopool x in range(3)\nyield x", 2, "yield"),
    ],
)
def test_a_syntax_error_points_at_its_place(kernel: Kernel, source: str, line: int, place: str) -> None:
    """In the cell, by its number, the line as it was written, and a caret; and at nothing else."""
    failed = kernel.fail(source)
    assert name_of(failed) == "SyntaxError"
    shown = failed.traceback.rstrip().splitlines()
    written = source.splitlines()[line - 1]
    assert shown[0].strip() == f"Cell In[{failed.number}], line {line}"
    assert shown[1].strip() == written
    caret = shown[2].index("^") - (len(shown[1]) - len(shown[1].lstrip()))
    assert caret == (written.index(place) if place else len(written))
    assert shown[3].startswith("SyntaxError: ")
    assert len(shown) == 4


def test_a_cell_without_a_body_says_so(kernel: Kernel) -> None:
    """Before anything is sent."""
    failed = kernel.fail("%%aiopool x in range(3)")
    assert name_of(failed) == "SyntaxError"
    assert "no body" in failed.traceback


@pytest.mark.core
def test_a_missing_name_is_an_error_before_anything_is_sent(kernel: Kernel) -> None:
    """At its line, with the names of the notebook that are near."""
    kernel.run("session_id = 1\nbefore = aiopool.last_job()\nran = []")
    failed = kernel.fail("%%aiopool x in ran.append(1) or [1]\nif x:\n    print(sesion_id)")
    assert name_of(failed) == "NameError"
    assert frames_of(failed) == [(failed.number, 1), (failed.number, 3)]
    assert marked_lines(failed)[-1] == "    print(sesion_id)"
    assert failed.traceback.rstrip().endswith("NameError: name 'sesion_id' is not defined. Did you mean session_id?")
    assert_nothing_of_ours(failed)
    assert kernel.value("aiopool.last_job() is before, ran") == (True, [])


@pytest.mark.core
@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        ("x in range(3) --timeout -1", "OptionError", "--timeout -1: timeout must be"),
        ("x in range(3) --retry-on ValueErr", "NameError", "name 'ValueErr' is not defined"),
        ("x in [1 / 0]", "ZeroDivisionError", "division by zero"),
        ("x in nothing", "NameError", "name 'nothing' is not defined"),
        ("x in (await asyncio.sleep(0, 1 / 0))", "ZeroDivisionError", "division by zero"),
        ("x in 'text'", "InputError", "a single str would be taken apart"),
        ("x in 5", "InputError", "as in %%aiopool x in data"),
    ],
)
def test_an_error_of_the_head_is_shown_at_the_head_alone(kernel: Kernel, head: str, error: str, message: str) -> None:
    """Of a flag's value, or of the input: the head's line once, no frame of ours."""
    failed = kernel.fail(f"%%aiopool {head}\nx")
    assert name_of(failed) == error
    assert message in failed.traceback
    assert frames_of(failed) == [(failed.number, 1)]
    assert marked_lines(failed) == [f"%%aiopool {head}"]
    assert_nothing_of_ours(failed)


def test_an_input_that_raises_deeper_shows_the_way_there(kernel: Kernel) -> None:
    """The function of another cell that the head calls."""
    helper = kernel.run("def words():\n    return [1 / 0]")
    failed = kernel.fail("%%aiopool x in words()\nx")
    assert frames_of(failed) == [(failed.number, 1), (helper.number, 2)]
    assert_nothing_of_ours(failed)


def test_what_cannot_travel_is_named(kernel: Kernel) -> None:
    """Before any item is sent."""
    kernel.run("import threading\nlock = threading.Lock()")
    failed = kernel.fail("%%aiopool x in range(3)\nwith lock:\n    x")
    assert name_of(failed) == "NotPicklable"
    assert "lock" in failed.traceback
    assert frames_of(failed) == [(failed.number, 1)]


# --- where it stands -----------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("above", ["import os", "ran = True", "# why\nran = True\n"])
def test_a_head_below_other_code_is_refused_with_what_to_do(kernel: Kernel, above: str) -> None:
    """IPython would say that it knows no such magic of one line, and does so again when it is unloaded."""
    failed = kernel.run_any(f"{above}\n%%aiopool x in range(3) -> ys\nx")
    told = failed.printed("stderr")
    assert told.startswith("UsageError: %%aiopool x in range(3) -> ys: this must be the first line of its cell")
    assert "into a cell of its own" in told
    assert kernel.value("# why\n\n%%aiopool x in range(3)\nx") == [0, 1, 2]


def test_what_is_open_at_the_end_of_the_head_is_told_that_the_head_is_one_line(kernel: Kernel) -> None:
    """A list over several lines gets a name above."""
    failed = kernel.fail("%%aiopool x in [\n    1,\n    2,\n]\nx")
    assert "the head is one line, so what is long gets a name in a cell above" in failed.traceback


@pytest.mark.core
def test_what_has_failed_is_not_counted_as_done(kernel: Kernel) -> None:
    """There is a hole in its place among the partial results."""
    failed = kernel.fail("%%aiopool x in [1, 0] --concurrency 1\n1 / x")
    assert failed.traceback.rstrip().splitlines()[-1].startswith("1 of 2 done, 1 failed: aiopool.last_job().partial()")
    assert kernel.value("aiopool.last_job().partial(fill=None)") == [1.0, None]


def test_a_missing_module_is_to_be_imported(kernel: Kernel) -> None:
    """And not to be taken for a builtin that looks like it."""
    failed = kernel.fail("%%aiopool x in range(3)\nzoneinfo.ZoneInfo(x)")
    assert "name 'zoneinfo' is not defined" in failed.traceback
    assert "import zoneinfo, in the notebook or in the body" in failed.traceback
