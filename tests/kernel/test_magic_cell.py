"""``%%aiopool``: a cell whose body runs once per item, with the panel, the Stop and the partial results of a map."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.kernel.harness import Cell, Kernel, Signs

pytestmark = pytest.mark.kernel

WITHIN = 1.0
"""The limit for Stop in seconds, for a busy machine; the promise is 0.3, and the summary says how it was."""

WAITS_FOR_GO = 'while not os.path.exists(os.path.join(SIGNS, "go")): await asyncio.sleep(0.01)'

HOLD = """
sign(x)
if x > 1:
    await asyncio.sleep(3600)
x * 10
"""


@pytest.fixture(autouse=True)
def magic(kernel: Kernel) -> None:
    """The extension is there, and the names that the tests bind are not."""
    kernel.run("%load_ext aiopool")
    kernel.run("for name in ('pages', 'job', 'count'): globals().pop(name, None)")


def said(cell: Cell) -> list[str]:
    """The lines that stand under a cell, but for its panel."""
    return [shown.texts[-1] for shown in cell.displays]


# --- results -------------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("body", ["x * factor", "await asyncio.sleep(0)\nx * factor", "return x * factor"])
def test_the_list_of_results_is_the_value_of_the_cell(kernel: Kernel, body: str) -> None:
    """Of an ``async def`` or a ``def``, with the notebook's names; ``Out`` has it as well."""
    kernel.run("factor = 10")
    cell = kernel.run(f"%%aiopool x in range(5)\n{body}")
    assert cell.value == [0, 10, 20, 30, 40]
    assert kernel.value(f"Out[{cell.number}]") == [0, 10, 20, 30, 40]


@pytest.mark.core
def test_an_arrow_binds_the_list_and_the_cell_has_no_value(kernel: Kernel) -> None:
    """With flags before and behind it; the target unpacks; what the body assigns stays in the worker."""
    head = "%%aiopool i, word in enumerate(['a', 'b']) --concurrency 1 -> pages --timeout 10"
    source = f"{head}\nlocal = word * 2\ni, local"
    assert kernel.run(source).output is None
    assert kernel.value("pages, 'local' in globals()") == ([(0, "aa"), (1, "bb")], False)


@pytest.mark.parametrize(
    "source",
    [
        "[each async for each in words()]",
        "words()",
        "await asyncio.sleep(0, ['a', 'b'])",
        "(word for word in ['a', 'b'])",
    ],
)
def test_the_input_is_any_expression_of_the_notebook(kernel: Kernel, source: str) -> None:
    """Also one that awaits, and an async generator."""
    kernel.run(
        """
        async def words():
            yield 'a'
            await asyncio.sleep(0)
            yield 'b'
        """
    )
    assert kernel.value(f"%%aiopool word in {source}\nword.upper()") == ["A", "B"]


@pytest.mark.parametrize("source", ["    %%aiopool x in range(2)\n    x", "  \n# why\n%%aiopool x in range(2)\nx"])
def test_indentation_and_comments_do_not_matter(kernel: Kernel, source: str) -> None:
    """As in every cell."""
    assert kernel.begin(source).finish().value == [0, 1]


@pytest.mark.core
def test_a_semicolon_keeps_the_cell_silent(kernel: Kernel) -> None:
    """As in every cell."""
    assert kernel.run("%%aiopool x in range(3)\nx;").output is None


@pytest.mark.core
def test_without_an_input_the_body_runs_once_and_gives_the_value_itself(kernel: Kernel) -> None:
    """On a worker, not in the kernel; with an arrow it is bound."""
    pid = kernel.run("%%aiopool\nos.getpid()").value
    assert pid in kernel.workers()
    kernel.run("%%aiopool -> pages\nawait asyncio.sleep(0)\n{'a': 1}")
    assert kernel.value("pages") == {"a": 1}


def test_options_apply_to_a_body_that_runs_once(kernel: Kernel, signs: Signs) -> None:
    """Its timeout ends it, its retries run it again."""
    failed = kernel.fail("%%aiopool --timeout 0.1\nawait asyncio.sleep(3600)")
    assert failed.error is not None
    assert failed.error["ename"] == "ItemTimeout"
    source = "%%aiopool --retries 1 --backoff 0\nif 'tried' not in signed():\n    sign('tried')\n    1 / 0\n'done'"
    assert kernel.value(source) == "done"


@pytest.mark.core
def test_a_background_cell_binds_its_job_at_once(kernel: Kernel, signs: Signs) -> None:
    """The prompt is back while items run; awaited, the job gives the list."""
    assert kernel.run(f"%%aiopool x in range(2) --bg -> job\n{WAITS_FOR_GO}\nx").output is None
    assert kernel.value("isinstance(job, aiopool.Job), job.done()") == (True, False)
    signs.allow("go")
    assert kernel.value("await job") == [0, 1]


def test_a_background_cell_without_an_arrow_shows_its_job(kernel: Kernel, signs: Signs) -> None:
    """Its value is the job, and a panel stands under it."""
    cell = kernel.run(f"%%aiopool x in range(2) --bg\n{WAITS_FOR_GO}\nx")
    assert cell.panels
    assert kernel.value(f"Out[{cell.number}] is aiopool.last_job()") is True
    signs.allow("go")
    assert kernel.value(f"await Out[{cell.number}]") == [0, 1]


def test_a_background_cell_that_runs_once_gives_its_value_when_awaited(kernel: Kernel) -> None:
    """Not a list of one."""
    kernel.run("%%aiopool --bg -> job\n6 * 7")
    assert kernel.value("await job, job.result()") == (42, 42)


@pytest.mark.core
def test_the_kernel_stays_free_while_the_cell_runs(kernel: Kernel, signs: Signs) -> None:
    """The items wait for a task of the notebook, which would not go on in a kernel that is blocked."""
    kernel.run(
        """
        async def answer():
            while "asked" not in signed():
                await asyncio.sleep(0.01)
            sign("go")
        task = asyncio.create_task(answer())
        """
    )
    assert kernel.value(f"%%aiopool x in range(2)\nif x == 0: sign('asked')\n{WAITS_FOR_GO}\nx") == [0, 1]


def test_two_cells_at_once_do_not_disturb_each_other(kernel: Kernel, signs: Signs) -> None:
    """One in the background, one awaited, with the same names in both bodies."""
    kernel.run(f"%%aiopool x in range(2) --bg -> job\nmade = 'first'\n{WAITS_FOR_GO}\nmade, x")
    assert kernel.value("%%aiopool x in range(2)\nmade = 'second'\nawait asyncio.sleep(0)\nmade, x") == [
        ("second", 0),
        ("second", 1),
    ]
    signs.allow("go")
    assert kernel.value("await job") == [("first", 0), ("first", 1)]


def test_cells_run_in_a_subshell_too(kernel: Kernel, signs: Signs) -> None:
    """Beside one that runs in the main shell, and after it where the kernel has no subshells, as ipykernel 6."""
    subshell = None
    if kernel.value("bool(getattr(get_ipython().kernel, '_supports_kernel_subshells', False))"):
        subshell = kernel.new_subshell()
    first = kernel.begin(f"%%aiopool x in range(1) -> pages\nsign('first')\n{WAITS_FOR_GO}\nx")
    signs.wait_for(1)
    second = kernel.begin("%%aiopool x in range(3) -> job\nx + 1", subshell=subshell)
    if subshell is None:
        signs.allow("go")
        first.finish()
    second.finish()
    if subshell is not None:
        signs.allow("go")
        first.finish()
    assert (first.error, second.error) == (None, None)
    assert kernel.value("pages, job") == ([0], [1, 2, 3])


# --- as pmap -------------------------------------------------------------------------------------------------------


def test_defaults_of_the_session_apply(kernel: Kernel) -> None:
    """``configure(concurrency=...)``, as for ``pmap``; a flag says otherwise."""
    body = "\nrunning.append(x)\nawait asyncio.sleep(0.05)\nmost = len(running)\nrunning.remove(x)\nmost"
    kernel.run("running = []\naiopool.configure(concurrency=2)")
    kernel.run("%%aiopool --all\nrunning = []")
    assert max(kernel.value("%%aiopool x in range(8)" + body)) == 1
    assert max(kernel.value("%%aiopool x in range(8) --concurrency 8" + body)) > 1
    kernel.run("aiopool.configure(concurrency=None)")


@pytest.mark.core
def test_a_job_is_called_as_the_head_says(kernel: Kernel) -> None:
    """Or by ``--desc``; one without an input is called as its cell, so that several can be told apart."""
    kernel.run("%%aiopool i, x in enumerate('ab') -> pages --batch 1\nx")
    assert kernel.value("aiopool.last_job().name") == "i, x in enumerate('ab')"
    kernel.run("%%aiopool x in 'ab'.upper().split() -> pages --desc all letters\nx")
    assert kernel.value("aiopool.last_job().name") == "all letters"
    once = kernel.run("%%aiopool -> pages\n1")
    assert kernel.value("aiopool.last_job().name") == f"Cell In[{once.number}]"
    everywhere = kernel.run("%%aiopool --all\n1")
    assert kernel.value("aiopool.last_job().name") == f"Cell In[{everywhere.number}]"
    failed = kernel.fail("%%aiopool --all\n1 / 0")
    assert re.search(rf"^item [01] \(Cell In\[{failed.number}\]\), worker [01]", failed.traceback, re.MULTILINE)


def test_no_function_is_named_that_the_notebook_does_not_have(kernel: Kernel) -> None:
    """Nobody is told to try an input with it."""
    kernel.run("%%aiopool x in range(2) --on-error return -> pages\n1 / x")
    assert kernel.value("aiopool.last_job().call") == ""
    assert kernel.value("type(pages[0]).__name__, pages[1]") == ("Failure", 1.0)


@pytest.mark.core
def test_stop_gives_the_prompt_back_and_leaves_the_name(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None]
) -> None:
    """One line says where the finished part is; the name behind the arrow is as it was."""
    kernel.run("pages = 'as before'")
    cell = kernel.begin(f"%%aiopool x in range(6) -> pages --batch 1\n{HOLD}")
    signs.wait_for(6)
    pressed = kernel.interrupt()
    cell.finish()
    assert cell.ended is not None
    figure("from Stop to the prompt, %%aiopool", cell.ended - pressed)
    assert cell.ended - pressed < WITHIN
    assert cell.error is not None
    (line,) = cell.error["traceback"]
    assert re.fullmatch(r"Stopped: \d of 6 done: aiopool\.last_job\(\)\.partial\(\), \.retry\(\)", line)
    assert kernel.value("pages") == "as before"
    assert kernel.value("await aiopool.last_job().wait(10), aiopool.last_job().partial(fill=None)[2:]") == (
        True,
        [None] * 4,
    )
    assert kernel.value("%%aiopool x in range(3)\nx") == [0, 1, 2]


@pytest.mark.parametrize(("flags", "line"), [("", r"Stopped: Cell In\[\d+\]"), ("--all", r"Stopped: \d of 2 done: .*")])
def test_stop_of_a_body_without_an_input(kernel: Kernel, signs: Signs, flags: str, line: str) -> None:
    """The same, and the name is as it was."""
    kernel.run("pages = 'as before'")
    cell = kernel.begin(f"%%aiopool {flags} -> pages\nsign(os.getpid())\nawait asyncio.sleep(3600)")
    signs.wait_for(2 if flags else 1)
    kernel.interrupt()
    cell.finish(WITHIN + 1)
    assert cell.error is not None
    (shown,) = cell.error["traceback"]
    assert re.fullmatch(line, shown)
    assert kernel.value("pages") == "as before"


@pytest.mark.core
def test_an_error_leaves_the_name_and_says_where_the_rest_is(kernel: Kernel) -> None:
    """A name that was not there is not made."""
    source = "%%aiopool x in range(3) -> pages --concurrency 1\n1 / (2 - x)"
    failed = kernel.fail(source)
    assert "aiopool.last_job().partial(), .retry()" in failed.traceback.splitlines()[-1]
    assert kernel.value("'pages' in globals()") is False
    assert kernel.value("aiopool.last_job().partial(fill=None)") == [0.5, 1.0, None]
    kernel.run("pages = 'as before'")
    kernel.fail(source)
    assert kernel.value("pages") == "as before"


@pytest.mark.core
def test_running_the_cell_again_cancels_its_background_job(kernel: Kernel, signs: Signs) -> None:
    """As for ``pmap``, and under the head's name."""
    source = f"%%aiopool x in range(2) --bg -> job\n{WAITS_FOR_GO}\nx"
    assert said(kernel.begin(source, "one").finish()) == []
    again = kernel.begin(source, "one").finish()
    assert said(again) == ["x in range(2), started by the last run of this cell, was cancelled: 0 of 2 done"]
    signs.allow("go")
    assert kernel.value("await job") == [0, 1]


def test_a_retry_runs_the_body_again(kernel: Kernel, signs: Signs) -> None:
    """Of a map the items that failed, of a body that ran once that call; the result is as the cell's would be."""
    kernel.fail("%%aiopool x in range(3) --concurrency 1\nif x == 1 and 'mended' not in signed(): 1 / 0\nx")
    kernel.fail("%%aiopool\nif 'mended' not in signed(): 1 / 0\n'done'")
    kernel.run("once, some = aiopool.last_job(), aiopool.jobs()")
    signs.allow("mended")
    assert kernel.value("await once.retry()") == "done"
    assert kernel.value("[await job.retry() for job in some if job is not once]") == [[0, 1, 2]]


def test_what_items_display_stands_under_the_cell(kernel: Kernel) -> None:
    """``display`` is no missing name."""
    cell = kernel.run("%%aiopool x in range(1) -> pages\ndisplay({'shown': x})")
    assert "{'shown': 0}" in said(cell)


def test_what_items_print_stands_under_the_cell(kernel: Kernel) -> None:
    """With the item in front."""
    cell = kernel.run("%%aiopool x in range(1) -> pages\nprint('hello from', x)")
    assert "[item 0] hello from 0" in cell.printed()
    once = kernel.run("%%aiopool -> pages\nprint('hello')\n1")
    assert once.printed() == f"[Cell In[{once.number}]] hello\n"


def test_a_big_variable_is_named_and_the_advice_helps(kernel: Kernel) -> None:
    """To put it, and to use the ref in the body; or an ``--all`` cell."""
    kernel.run("big = bytes(30_000_000)")
    cell = kernel.run("%%aiopool x in range(2)\nlen(big)")
    assert cell.value == [30_000_000] * 2
    assert "`x in range(2)` uses the global `big` (bytes, 30.0 MB)" in cell.printed("stderr")
    assert "ref = aiopool.get_pool().put(big)" in cell.printed("stderr")
    assert "%%aiopool --all" in cell.printed("stderr")
    kernel.run("ref = aiopool.get_pool().put(big)\ndel big")
    cell = kernel.run("%%aiopool x in range(2)\nlen(ref)")
    assert (cell.value, cell.printed("stderr")) == ([30_000_000] * 2, "")


# --- what is said --------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_variable_that_was_meant_to_change_is_named_once(kernel: Kernel) -> None:
    """For a cell, however often it runs; again when its text has changed, and in another cell."""
    kernel.run("count = 0\nfound = []")
    source = "%%aiopool x in range(2)\ncount += 1\nfound.append(x)\nx"
    first = kernel.begin(source, "meant").finish()
    assert first.error is None, first.traceback
    assert "count of the notebook stays as it is" in first.printed()
    assert "found of the notebook stays as it is" in first.printed()
    again = kernel.begin(source, "meant").finish()
    assert (again.value, again.printed()) == ([0, 1], "")
    assert "count of the notebook" in kernel.begin(source, "another").finish().printed()
    assert "count of the notebook" in kernel.begin(f"{source} + 1", "meant").finish().printed()
    assert kernel.value("count, found") == (0, [])


@pytest.mark.core
@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("x in range(2) -> pages", "pages will be a list of None"),
        ("--all -> pages", "pages will be a list of None"),
        ("-> pages", "pages will be None"),
        ("x in range(2) -> job --bg", "the result of job will be a list of None"),
    ],
)
def test_a_name_that_will_get_no_value_is_told_once(kernel: Kernel, head: str, what: str) -> None:
    """A body that ends in a statement is a mistake where its results have a name."""
    told = kernel.begin(f"%%aiopool {head}\ny = 1", f"none {head}").finish().printed()
    assert told == f"the body ends in no expression, so {what}: let its last line be the value\n"
    assert kernel.begin(f"%%aiopool {head}\ny = 1", f"none {head}").finish().printed() == ""
    told = kernel.begin(f"%%aiopool {head}\n1;", f"none {head}").finish().printed()
    assert told == f"the body ends with a semicolon, so {what}: without it the last line is the value\n"
    for body in ("y = 1\ny", "if 1:\n    return 2", "return None"):
        assert kernel.begin(f"%%aiopool {head}\n{body}", f"none {head}").finish().printed() == ""


@pytest.mark.core
def test_results_that_are_all_none_are_not_shown(kernel: Kernel) -> None:
    """As a cell shows none whose last line is a statement; one value among them, or no item at all, is a result."""
    assert kernel.run("%%aiopool x in range(3)\ny = x").output is None
    assert kernel.run("%%aiopool x in range(3)\nNone").output is None
    assert kernel.value("%%aiopool x in range(2)\nx or None") == [None, 1]
    assert kernel.value("%%aiopool x in []\ny = x") == []


def test_names_of_the_body_alone_are_not_spoken_of(kernel: Kernel) -> None:
    """Nor methods of what is no list, dict or set."""
    kernel.run("class Log:\n    def append(self, x): pass\nlog = Log()\nname = 1")
    source = "%%aiopool x in range(2)\nown = []\nown.append(x)\nlog.append(x)\nname = x\nname"
    assert kernel.run(source).printed() == ""


# --- help ----------------------------------------------------------------------------------------------------------


def test_help_is_there_in_both_ways(kernel: Kernel) -> None:
    """``--help`` lists the flags, also where there is no body, and runs nothing; a question mark shows the docs."""
    kernel.run("before = aiopool.last_job()")
    for source in ("%%aiopool --help", "%%aiopool x in nothing --help\n1 / 0"):
        shown = kernel.run(source)
        assert "--concurrency" in shown.printed()
        assert shown.output is None
    assert kernel.value("aiopool.last_job() is before") is True
    asked = kernel.run("%%aiopool?")
    (page,) = [payload["data"]["text/plain"] for payload in asked.reply["payload"]]
    assert "reads like the comprehension" in page


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("%%aiopool x in range(3)", "incomplete"),
        ("%%aiopool x in range(3)\nx", "incomplete"),
        ("%%aiopool x in range(3)\nfor y in x:", "incomplete"),
        ("%%aiopool x in range(3)\nx\n\n", "complete"),
    ],
)
def test_a_console_goes_on_asking_until_an_empty_line(kernel: Kernel, source: str, status: str) -> None:
    """As for every cell magic."""
    assert kernel.value(f"get_ipython().check_complete({source!r})[0]") == status
