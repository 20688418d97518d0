"""``%%aiopool --all``: a cell that runs on every worker, on those that start later too, and what it leaves there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.conftest import Kernels
from tests.kernel.harness import Cell, Kernel, Signs

pytestmark = pytest.mark.kernel

ON_ALL = "%%aiopool --all\n"
"""It starts the workers that are missing."""

FORGET = (
    "for name in ('scale', 'offset', 'helper', 'seen', 'error', 'limit', 'rest', 'gate'): globals().pop(name, None)"
)
"""What the tests here call their variables; others complete names."""


@pytest.fixture
def kernel(kernels: Kernels) -> Iterator[Kernel]:
    """The shared kernel with a shared pool of its own for each test: what is defined in one is not in the next."""
    shared = kernels.shared()
    shared.run("%load_ext aiopool")
    shared.run("aiopool.get_pool().close()\naiopool.configure(workers=2)")
    shared.run(FORGET)
    yield shared
    if shared.is_alive:
        shared.run("aiopool.get_pool().terminate()\naiopool.configure(workers=2)")
        shared.run(FORGET)


def name_of(cell: Cell) -> str:
    """The class of the error."""
    assert cell.error is not None
    return str(cell.error["ename"])


@pytest.mark.core
def test_the_body_runs_once_on_every_worker(kernel: Kernel) -> None:
    """The value is the list of values in the order of the workers' places; with an arrow it is bound."""
    pids = kernel.value("%%aiopool --all\naiopool.current_worker().index, os.getpid()")
    assert [index for index, _ in pids] == [0, 1]
    assert kernel.workers() == sorted(pid for _, pid in pids)
    assert kernel.run("%%aiopool --all -> seen\nos.getpid()").output is None
    assert kernel.value("seen") == [pid for _, pid in pids]


def test_a_body_without_values_shows_none(kernel: Kernel) -> None:
    """Imports are no results."""
    assert kernel.run("%%aiopool --all\nimport json").output is None


@pytest.mark.core
@pytest.mark.parametrize("body", ["scale = base * 2", "await asyncio.sleep(0)\nscale = base * 2"])
def test_what_it_defines_exists_for_later_cells(kernel: Kernel, body: str) -> None:
    """Functions, imports and values; not in the notebook, not for a map of a function, and not before."""
    kernel.run("base = 5")
    failed = kernel.fail("%%aiopool x in range(2)\nx * scale")
    assert "name 'scale' is not defined" in failed.traceback
    kernel.run(f"%%aiopool --all\nimport json as as_text\n{body}\ndef helper(x):\n    return as_text.dumps(x * scale)")
    kernel.run("base = 7")
    assert kernel.value("%%aiopool x in range(3)\nhelper(x), scale") == [("0", 10), ("10", 10), ("20", 10)]
    assert kernel.value("'scale' in globals(), 'helper' in globals(), 'as_text' in globals()") == (False,) * 3


@pytest.mark.core
@pytest.mark.parametrize("how", ["resize", "restart", "kill"])
def test_it_runs_again_on_workers_that_start_later(kernel: Kernel, how: str) -> None:
    """In the order in which the cells ran: after a resize, a restart, and in the place of a killed worker."""
    kernel.run("%%aiopool --all\nscale = 2")
    kernel.run("%%aiopool --all\noffset = scale * 10\nscale = 3")
    before = kernel.workers()
    if how == "resize":
        kernel.run("await aiopool.get_pool().resize(3)")
    elif how == "restart":
        kernel.run("await aiopool.get_pool().restart()")
    else:
        kernel.run("os.kill(aiopool.get_pool().workers[0].pid, 9)")
    seen = kernel.value(ON_ALL + "os.getpid(), scale, offset")
    assert {(scale, offset) for _, scale, offset in seen} == {(3, 20)}
    assert {pid for pid, _, _ in seen} - set(before)


@pytest.mark.core
def test_it_wins_over_the_notebooks_name_and_says_so_once(kernel: Kernel) -> None:
    """For each name; a module that both have is not spoken of."""
    kernel.run("scale = 'of the notebook'\nimport json")
    made = kernel.run("%%aiopool --all\nimport json\nscale = 'of the workers'")
    first = kernel.run("%%aiopool x in [1]\nscale, json.dumps(x)")
    assert first.value == [("of the workers", "1")]
    wins = f"the body uses what Cell In[{made.number}] has defined in the workers with --all, not the notebook's scale"
    assert first.printed() == f"scale: {wins}; functions of the notebook go on using the notebook's\n"
    assert kernel.run("%%aiopool x in [1]\nscale").printed() == ""
    assert kernel.value("scale") == "of the notebook"


@pytest.mark.core
def test_a_name_can_be_defined_again(kernel: Kernel) -> None:
    """Later cells see the new one, functions that were there before too, and so do later workers."""
    kernel.run("%%aiopool --all\nscale = 1\ndef helper():\n    return scale")
    kernel.run("%%aiopool --all\nscale += 1")
    assert set(kernel.value(ON_ALL + "scale, helper()")) == {(2, 2)}
    kernel.run("await aiopool.get_pool().restart()")
    assert set(kernel.value(ON_ALL + "scale, helper()")) == {(2, 2)}


@pytest.mark.core
def test_a_body_that_fails_leaves_nothing_behind(kernel: Kernel) -> None:
    """Its names do not exist, what was there before is as it was, and later workers start without it."""
    kernel.run("%%aiopool --all\nscale = 1")
    failed = kernel.fail("%%aiopool --all\nscale = 2\noffset = 3\n1 / 0")
    assert name_of(failed) == "ZeroDivisionError"
    assert "----> 4 1 / 0" in failed.traceback
    failed = kernel.fail("%%aiopool x in range(2)\noffset")
    assert "name 'offset' is not defined" in failed.traceback
    assert set(kernel.value(ON_ALL + "scale")) == {1}
    kernel.run("await aiopool.get_pool().resize(3)")
    assert set(kernel.value(ON_ALL + "scale")) == {1}


@pytest.mark.core
@pytest.mark.parametrize("wait", ["", "await asyncio.sleep(0)\n"])
def test_a_body_that_fails_on_one_worker_leaves_nothing_on_the_other(kernel: Kernel, wait: str) -> None:
    """Where it went well, too, everything is as before: for items, and for the next such cell."""
    kernel.run("%%aiopool --all\nscale = 1")
    failing = f"%%aiopool --all\n{wait}scale = 2\nif aiopool.current_worker().index == 1: 1 / 0"
    kernel.fail(failing)
    assert set(kernel.value("%%aiopool x in range(8) --batch 1\nscale")) == {1}
    kernel.fail(failing)
    assert kernel.value("%%aiopool --all\nscale") == [1, 1]
    kernel.run("%%aiopool --all\nscale = 3")
    assert kernel.value("%%aiopool --all\nscale") == [3, 3]


@pytest.mark.core
def test_names_of_a_closed_pool_must_be_defined_again(kernel: Kernel) -> None:
    """The error says which cell that is."""
    made = kernel.run("%%aiopool --all\nscale = 2")
    kernel.run("aiopool.get_pool().close()")
    failed = kernel.fail("%%aiopool x in range(2)\nx * scale")
    assert name_of(failed) == "NameError"
    assert f"Cell In[{made.number}] defined it with --all, in a pool that is closed now" in failed.traceback
    assert "run that cell again" in failed.traceback
    assert "----> 2 x * scale" in failed.traceback
    kernel.run("%%aiopool --all\nscale = 3")
    assert kernel.value("%%aiopool x in range(2)\nx * scale") == [0, 3]


@pytest.mark.parametrize("wait", ["time.sleep(0.01)", "await asyncio.sleep(0.01)"])
def test_a_cell_in_the_background_defines_its_names_from_its_start_on(
    kernel: Kernel, tmp_path_factory: pytest.TempPathFactory, wait: str
) -> None:
    """What comes later waits for it, and uses its names, never the notebook's variable of that name."""
    signs = Signs(kernel, tmp_path_factory.mktemp("background") / "signs")
    kernel.run("scale, gate = 'of the notebook', os.path.join(SIGNS, 'go')")
    kernel.run(f"%%aiopool --all --bg -> job\nwhile not os.path.exists(gate): {wait}\nscale = 2\nscale")
    kernel.run("%%aiopool x in range(2) -> later --bg\nx, scale")
    kernel.run("%%aiopool --all --bg -> more\noffset = scale * 10\noffset")
    assert kernel.value("job.snapshot().state, later.snapshot().state") == ("running", "running")
    signs.allow("go")
    assert kernel.value("await job, await later, await more") == ([2, 2], [(0, 2), (1, 2)], [20, 20])
    assert kernel.value("%%aiopool x in range(2)\nscale, offset") == [(2, 20), (2, 20)]


def test_a_cell_in_the_background_that_fails_defines_nothing(
    kernel: Kernel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its names are the notebook's again, also where it went well and somebody has looked at them meanwhile."""
    signs = Signs(kernel, tmp_path_factory.mktemp("background") / "signs")
    kernel.run("scale, gate = 'of the notebook', os.path.join(SIGNS, 'go')")
    kernel.run("%%aiopool --all\noffset = 1\nscale = 1\ndel scale")
    waits = "if aiopool.current_worker().index == 1:\n    while not os.path.exists(gate): time.sleep(0.01)\n    1 / 0"
    kernel.run(f"%%aiopool --all --bg -> job\nscale = offset = 2\n{waits}")
    # It begins with the worker in which it has gone well.
    assert kernel.value("%%aiopool\noffset, scale, aiopool.current_worker().index") == (2, 2, 0)
    signs.allow("go")
    assert "ZeroDivisionError" in kernel.fail("await job").traceback
    assert kernel.value("%%aiopool x in range(8) --batch 1\nscale, offset") == [("of the notebook", 1)] * 8


def test_a_name_that_no_worker_has_after_the_cell_is_not_claimed(kernel: Kernel) -> None:
    """That of an exception, one that is only annotated, one that is deleted: later bodies use the notebook's."""
    kernel.run("error, limit, rest = 'an error', 3, [1]")
    kernel.run(
        "%%aiopool --all\ntry:\n    import nowhere\nexcept ImportError as error:\n    pass\n"
        "limit: int\nrest = 5\nscale = rest + 1\ndel rest"
    )
    used = kernel.run("%%aiopool x in [1]\nerror, limit, rest, scale")
    assert (used.value, used.printed()) == ([("an error", 3, [1], 6)], "")
    kernel.run("%%aiopool --all\ndel scale")
    failed = kernel.fail("%%aiopool x in [1]\nscale")
    assert "name 'scale' is not defined" in failed.traceback
    assert "this worker" not in failed.traceback


def test_a_name_that_only_some_workers_have_is_the_notebooks_in_the_others(kernel: Kernel) -> None:
    """And said to be, once; the notebook's as it is now."""
    kernel.run("scale = 'of the notebook'")
    made = kernel.run("%%aiopool --all\nif aiopool.current_worker().index == 0: scale = 'of one worker'")
    first = kernel.run("%%aiopool\nscale")
    told = (
        f"scale: the body uses what Cell In[{made.number}] has defined in a worker with --all, and the notebook's scale"
    )
    assert first.printed() == f"{told} where it has defined none\n"
    assert kernel.value("%%aiopool --all\nscale") == ["of one worker", "of the notebook"]
    kernel.run("scale = 'another one'")
    each = "%%aiopool x in range(16) --batch 1\ntime.sleep(0.01)\naiopool.current_worker().index, scale"
    assert set(kernel.value(each)) == {(0, "of one worker"), (1, "another one")}
    assert kernel.value("%%aiopool --all\nscale") == ["of one worker", "another one"]
    kernel.run("%%aiopool --all\nscale = 'of all'")
    assert {scale for _, scale in kernel.value(each)} == {"of all"}


def test_a_name_that_a_function_assigns_when_it_is_called_is_the_workers_from_then_on(kernel: Kernel) -> None:
    """Until then it is the notebook's; called by an item or by another such cell."""
    kernel.run("scale = 1")
    kernel.run("%%aiopool --all\ndef helper():\n    global scale\n    scale += 1\n    return scale")
    assert kernel.value("%%aiopool x in [1]\nscale") == [1]
    kernel.run("scale = 10")
    assert kernel.value("%%aiopool x in [1]\nscale") == [10]
    assert kernel.value("%%aiopool --all\nhelper()") == [2, 2]
    assert kernel.value("%%aiopool --all\nscale") == [2, 2]
    assert kernel.value("%%aiopool x in [1]\nscale") == [2]


def test_a_name_that_a_worker_lacks_is_missed_only_where_it_is_read(kernel: Kernel) -> None:
    """The error says that it need not be there; a body may ask, and may do without it."""
    made = kernel.run("%%aiopool --all\nif aiopool.current_worker().index == 7: scale = 1")
    assert kernel.value("%%aiopool x in [1]\nif x > 1: scale\nx") == [1]
    assert kernel.value("%%aiopool x in [1]\ntry: y = scale\nexcept NameError: y = 0\ny") == [0]
    for body in ("x = 1\nscale", "x = 1\n(lambda: scale)()", "x = 1\nscale += 1"):
        for head in ("x in [1]", "", "--all"):
            failed = kernel.fail(f"%%aiopool {head}\n{body}")
            assert f"Cell In[{made.number}] defines scale with --all on some ways only" in failed.traceback
            assert "----> 3 " in failed.traceback


def test_a_variable_that_does_not_tell_its_class_breaks_no_cell(kernel: Kernel) -> None:
    """Some things that stand for others raise when there is nothing to stand for: the request of a web server."""
    kernel.run(
        "class Nowhere:\n    @property\n    def __class__(self): raise RuntimeError('nothing here')\nscale = Nowhere()"
    )
    kernel.run("%%aiopool --all\nscale = 2")
    assert kernel.value("%%aiopool x in [1]\nscale") == [2]
    kernel.run("del scale")


def test_a_body_that_runs_once_sees_the_names_too(kernel: Kernel) -> None:
    """As one that runs per item."""
    kernel.run("%%aiopool --all\nscale = 2")
    assert kernel.value("%%aiopool\nscale * 21") == 42


def test_a_cell_that_is_run_again_is_run_once_by_workers_that_start_later(kernel: Kernel) -> None:
    """Else each start would take longer than the last one; its last version is what they have."""
    kernel.run("runs = os.path.abspath('runs')")
    for _ in range(3):
        kernel.run("%%aiopool --all\nwith open(runs, 'a') as file: file.write('x')\nclass Box: size = 3")
    kernel.run("open(runs, 'w').close(); aiopool.configure(workers=1); await aiopool.get_pool().restart()")
    assert kernel.value("%%aiopool x in [1]\nBox.size + x, open(runs).read()") == [(4, "x")]


def test_of_a_cell_that_was_edited_its_last_edition_is_run_by_workers_that_start_later(kernel: Kernel) -> None:
    """As long as it defines all that it did before: what others may rely on stays."""
    kernel.run("runs = os.path.abspath('editions')")
    write = "%%aiopool --all\nwith open(runs, 'a') as file: file.write('{}')\n"
    for number, body in enumerate(["a = 1", "a = 2; b = 3", "b = 4", "b = 5"]):
        assert kernel.begin(write.format(number) + body, "edited").finish().error is None
    kernel.run("open(runs, 'w').close(); aiopool.configure(workers=1); await aiopool.get_pool().restart()")
    assert kernel.value("%%aiopool x in [1]\na, b, open(runs).read()") == [(2, 5, "13")]


@pytest.mark.core
@pytest.mark.parametrize("head", ["x in ['a']", "", "--all"])
def test_a_function_of_the_notebook_does_not_see_the_names_and_the_error_says_so(kernel: Kernel, head: str) -> None:
    """With what helps: to pass the value, or to define the function with ``--all``, too."""
    made = kernel.run("%%aiopool --all\nscale = 2")
    kernel.run("def helper(x): return x * scale")
    failed = kernel.fail(f"%%aiopool {head}\nhelper('a')")
    assert name_of(failed) == "NameError"
    where = f"Cell In[{made.number}]"
    assert f"scale was defined with --all in {where}: bodies of %%aiopool cells see it, functions" in failed.traceback
    kernel.run("def helper(x, scale): return x * scale")
    assert kernel.value("%%aiopool x in ['a']\nhelper(x, scale)") == ["aa"]
    kernel.run("%%aiopool --all\ndef helper(x): return x * scale")
    assert kernel.value("%%aiopool x in ['a']\nhelper(x)") == ["aa"]


def test_a_name_inside_a_string_is_found_when_the_body_names_it(kernel: Kernel) -> None:
    """As the documentation says: of the notebook, and of the workers."""
    kernel.run("%%aiopool --all\nscale = 2")
    kernel.run("offset = 3")
    for name, value in (("scale", 2), ("offset", 3)):
        kernel.fail(f"%%aiopool x in [1]\neval('{name}')")
        assert kernel.run(f"%%aiopool x in [1]\n{name}\neval('{name}')").value == [value]
