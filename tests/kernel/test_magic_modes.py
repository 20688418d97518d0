"""``%%aiopool`` around what else a notebook does: other magics, ``%autoawait``, histories, extensions, terminals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.conftest import Kernels
from tests.kernel.harness import Kernel, Signs
from tests.kernel.test_errors import frames_of, marked_lines
from tests.kernel.test_interrupt import ARRIVED
from tests.kernel.test_saved import executed
from tests.pool.terminals import Terminal

pytestmark = pytest.mark.kernel

WITHIN = 1.0
"""The limit for Stop in seconds, for a busy machine; the promise is 0.3, and the summary says how it was."""


@pytest.fixture(autouse=True)
def magic(request: pytest.FixtureRequest) -> None:
    """The extension is there, in the kernel that the test uses."""
    for name in ("kernel", "own_kernel"):
        if name in request.fixturenames:
            request.getfixturevalue(name).run("%load_ext aiopool")


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_loading_starts_workers_and_shows_nothing(kernels: Kernels, tmp_path: Path) -> None:
    """In the background, without any cell that needs them; importing alone starts none."""
    kernel = kernels.fresh(tmp_path)
    try:
        assert kernel.workers() == []
        cell = kernel.run("%load_ext aiopool")
        assert [message.kind for message in cell.messages if message.kind not in ("status", "execute_input")] == []
        kernel.until(lambda: len(kernel.workers()) == 2, "workers that nobody has asked for yet")
    finally:
        kernel.close()


@pytest.mark.core
def test_it_can_be_loaded_twice_reloaded_and_unloaded(own_kernel: Kernel) -> None:
    """Cells go on as before; after ``%unload_ext`` the magic is not there, and maps still are."""
    kernel = own_kernel
    kernel.run("aiopool.load_ipython_extension(get_ipython())")
    assert kernel.value("%%aiopool x in range(2)\nx") == [0, 1]
    kernel.run("%reload_ext aiopool")
    assert kernel.value("%%aiopool x in range(2)\nx") == [0, 1]
    kernel.run("%unload_ext aiopool")
    for above in ("", "y = 1\n"):
        assert "aiopool` not found" in kernel.run_any(f"{above}%%aiopool x in range(2)\nx").printed("stderr")
    assert kernel.value("await pmap(abs, [-1])") == [1]
    kernel.run("%load_ext aiopool")
    assert kernel.value("%%aiopool x in range(2)\nx") == [0, 1]


@pytest.mark.core
def test_autoreload_and_reset_are_no_trouble(own_kernel: Kernel) -> None:
    """The magic needs no name of the notebook, whatever became of them."""
    kernel = own_kernel
    kernel.run("%load_ext autoreload\n%autoreload 2")
    assert kernel.value("%%aiopool x in range(2)\nx") == [0, 1]
    kernel.run("%reset -f")
    assert kernel.value("%%aiopool x in range(2)\nx + 1") == [1, 2]
    kernel.run("get_ipython = aiopool = run_cell = body = item = everywhere = __name__ = 'shadowed'")
    assert kernel.value("%%aiopool item in range(2)\nbody, item") == [("shadowed", 0), ("shadowed", 1)]


def test_an_edited_module_is_used_in_its_new_form(own_kernel: Kernel) -> None:
    """With autoreload, as for ``pmap``."""
    kernel = own_kernel
    module = kernel.cwd / "tools.py"
    module.write_text("def tell():\n    return 'old'\n")
    kernel.run("%load_ext autoreload\n%autoreload 2\nimport tools")
    assert kernel.value("%%aiopool x in range(1)\ntools.tell()") == ["old"]
    module.write_text("def tell():\n    return 'the new one'\n")
    assert kernel.value("%%aiopool x in range(1)\ntools.tell()") == ["the new one"]


# --- what was typed --------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_histories_hold_what_was_typed(kernel: Kernel) -> None:
    """``In``, ``_i`` and ``%history``; and a cell from there runs again."""
    source = "# why\n\n%%aiopool x in range(2)\nx * 10"
    cell = kernel.run(source)
    assert kernel.value(f"In[{cell.number}].strip(), _i{cell.number}.strip()") == (source, source)
    assert source in kernel.run(f"%history {cell.number}").printed()
    again = kernel.run(f"get_ipython().run_cell(In[{cell.number}], store_history=True).result")
    assert "[0, 10]" in [message.content["data"]["text/plain"] for message in again.messages
                         if message.kind == "execute_result"]  # fmt: skip


# --- other magics ----------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("body", ["x + 1", "await asyncio.sleep(0)\nx + 1"])
def test_under_other_magics_it_blocks_and_works(kernel: Kernel, body: str) -> None:
    """``%%time`` gives the value, ``%%capture`` takes it, ``%%timeit`` measures; names are bound."""
    timed = kernel.run(f"%%time\n%%aiopool x in range(3)\n{body}")
    assert timed.value == [1, 2, 3]
    assert "Wall time" in timed.printed()
    assert kernel.run(f"%%capture captured\n%%aiopool x in range(3)\n{body}").output is None
    assert kernel.value("captured.outputs[0].data['text/plain']") == "[1, 2, 3]"
    assert "1 loop each" in kernel.run(f"%%timeit -n1 -r1\n%%aiopool x in range(3)\n{body}").printed()
    kernel.run(f"%%time\n# why\n%%aiopool x in range(3) -> pages\n{body}")
    assert kernel.value("pages") == [1, 2, 3]


@pytest.mark.core
def test_under_other_magics_lines_are_those_of_the_whole_cell(kernel: Kernel) -> None:
    """In tracebacks, and in errors of the text."""
    failed = kernel.fail("%%time\n\n%%aiopool x in [1, 0]\n1 / x")
    assert marked_lines(failed)[-1] == "1 / x"
    assert frames_of(failed)[-1] == (failed.number, 4)
    failed = kernel.fail("%%time\n%%aiopool x in [1, 0]\nx = = 1")
    assert f"Cell In[{failed.number}], line 3" in failed.traceback


@pytest.mark.core
@pytest.mark.parametrize("above", ["%%time", "%%capture", "%%timeit -n1 -r1"])
def test_under_other_magics_stop_works(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], above: str
) -> None:
    """As of every blocking wait; the name is as it was."""
    kernel.run("pages = 'as before'")
    # Not before the cell waits: an interrupt while the job is being made ends it as any other line.
    kernel.run(f"{ARRIVED}\nwatch(aiopool.last_job())")
    cell = kernel.begin(f"{above}\n%%aiopool x in range(4) -> pages --batch 1\nif x > 1: await asyncio.sleep(3600)\nx")
    signs.wait_for(1)
    pressed = kernel.interrupt()
    cell.finish()
    assert cell.ended is not None
    figure(f"from Stop to the prompt, %%aiopool under {above}", cell.ended - pressed)
    assert cell.ended - pressed < WITHIN
    if above != "%%capture":  # That swallows the error, as it does every one.
        assert cell.error is not None
        assert "Stopped: 2 of 4 done" in cell.traceback + cell.error["evalue"]
    assert kernel.value("pages, aiopool.last_job().snapshot().state in ('stopping', 'stopped')") == ("as before", True)


@pytest.mark.core
def test_a_cell_that_code_of_the_notebook_runs_blocks(kernel: Kernel) -> None:
    """``run_cell`` and ``run_cell_magic`` in a cell."""
    assert kernel.value("get_ipython().run_cell_magic('aiopool', 'x in range(2)', 'x')") == [0, 1]
    assert kernel.value("get_ipython().run_cell('%%aiopool x in range(2) -> pages\\nx').success") is True
    assert kernel.value("pages") == [0, 1]


@pytest.mark.core
def test_without_autoawait_it_blocks(own_kernel: Kernel) -> None:
    """Comments before it are fine; an input that awaits is refused, with what to do instead."""
    kernel = own_kernel
    kernel.run("%autoawait off")
    assert kernel.value("# why\n%%aiopool x in range(3)\nawait asyncio.sleep(0)\nx") == [0, 1, 2]
    failed = kernel.fail("%%aiopool x in await asyncio.sleep(0, [1])\nx")
    assert "await it in a cell before, and write its name here" in failed.traceback
    kernel.run("%autoawait asyncio")
    assert kernel.value("%%aiopool x in await asyncio.sleep(0, [1])\nx") == [1]


def test_cells_with_another_magic_of_a_like_name_are_left_alone(kernel: Kernel) -> None:
    """And strings that hold ours."""
    kernel.run("from IPython.core.magic import register_cell_magic\n"
               "@register_cell_magic\ndef aiopoolish(line, cell): return [line, cell]")  # fmt: skip
    assert kernel.value("%%aiopoolish x in y\nx") == ["x in y", "x\n"]
    assert kernel.value("'''\n%%aiopool x in y\n'''") == "\n%%aiopool x in y\n"


# --- elsewhere -------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_notebook_with_such_cells_is_executed(tmp_path: Path) -> None:
    """As ``nbconvert --execute`` does it."""
    notebook = executed(
        "%load_ext aiopool\nimport aiopool\naiopool.configure(workers=2)",
        "%%aiopool --all\nimport json",
        "%%aiopool x in range(5) -> pages\nawait __import__('asyncio').sleep(0)\njson.dumps(x)",
        "print(pages)",
    )
    (output,) = notebook.cells[-1].outputs
    assert output["text"] == "['0', '1', '2', '3', '4']\n"


def ipython(folder: Path, *arguments: str) -> Path:
    """A script that starts IPython without a kernel."""
    script = folder / "start.py"
    quiet = ("--no-banner", "--simple-prompt", "--colors=nocolor", "--TerminalInteractiveShell.term_title=False")
    script.write_text(
        f"import os\nos.environ['IPYTHONDIR'] = {str(folder / '.ipython')!r}\n"
        f"from IPython import start_ipython\nstart_ipython({[*quiet, *arguments]!r})\n"
    )
    return script


def test_without_a_kernel_a_command_runs_it(tmp_path: Path) -> None:
    """``ipython -c`` and a file of cells: awaited by IPython's own loop."""
    (tmp_path / "cells.ipy").write_text("%load_ext aiopool\nrun = get_ipython().run_cell")
    code = (
        "get_ipython().run_line_magic('load_ext', 'aiopool')\n"
        "import aiopool, asyncio; aiopool.configure(workers=1)\n"
        "get_ipython().run_cell('%%aiopool x in range(3) -> pages\\nawait asyncio.sleep(0)\\nx * 2')\n"
        "print('pages', pages)"
    )
    with Terminal(ipython(tmp_path, "-c", code), columns=200) as terminal:
        assert "pages [0, 2, 4]" in terminal.finish()
    with Terminal(ipython(tmp_path, "-c", "%load_ext aiopool\n%%aiopool x in range(3)\nx"), columns=200) as terminal:
        assert terminal.finish()


def test_without_a_kernel_cells_await(tmp_path: Path) -> None:
    """In IPython's terminal: with its prompt, an error that ends at the user's line, and Stop."""
    with Terminal(ipython(tmp_path), columns=200, rows=1000) as terminal:

        def run(cell: str, shows: str) -> list[str]:
            terminal.press(f"{cell}\n\n")
            return terminal.until(lambda lines: any(shows in line for line in lines), shows)

        run("%load_ext aiopool\nimport asyncio, aiopool; aiopool.configure(workers=1); 'lo' 'aded'", "'loaded'")
        run("%%aiopool x in range(3)\nawait asyncio.sleep(0)\nx * 2\n", "[0, 2, 4]")
        run("async def words():\n    yield 'a'\n    await asyncio.sleep(0)\n    yield 'b'\n", "In [4]")
        run("%%aiopool x in words()\nx * 2\n", "['aa', 'bb']")
        lines = run("%%aiopool x in [1, 0]\n1 / x\n", "item 1 (0), worker 0")
        assert [line for line in lines if "-->" in line] == ["----> 1 %%aiopool x in [1, 0]", "----> 2 1 / x"]
        run("%%aiopool x in range(3) --timeout -1\nx\n", "OptionError: --timeout -1: timeout must be")
        run("%%aiopool x in range(3) --timout 1\nx\n", "SyntaxError: ")
        lines = run("%%aiopool x in range(3)\nx = = 1\n", "SyntaxError: invalid syntax")
        assert not [line for line in lines if "aiopool/" in line or "run_code" in line]
        run("%%aiopool x in range(3)\nawait asyncio.sleep(3600)\n", "| 0/3 [00:0")
        terminal.press_ctrl_c()
        terminal.until(lambda lines: any("Stopped: 0 of 3 done" in line for line in lines), "the line of a stop")
        run("%autoawait off\n%%aiopool x in range(2)\nx * 3\n", "[0, 3]")
