"""What ``--all`` bodies leave in real workers: for bodies that come later, and on workers that start later."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest

from aiopool import Failure, Pool
from aiopool.jupyter.magics.body import read_body
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import children

FILENAME = "<a cell>"


class Notebook:
    """Cells of one notebook over one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self.everywhere: dict[str, str] = {}

    def all(self, text: str) -> list[Any]:
        """Run it as an ``--all`` cell."""
        body = read_body(text, filename=FILENAME)
        job = self.pool.broadcast(body.for_everyone(self.names, self.everywhere), keep=True)
        values: list[Any] = job.result(DEADLINE)
        self.everywhere |= dict.fromkeys(body.assigns, f"Cell In[{len(self.everywhere) + 1}]")
        return values

    def map(self, text: str, data: Any, target: str = "x", **options: Any) -> Any:
        """Run it once per item."""
        body = read_body(text, filename=FILENAME, target=target)
        assert body.missing(self.names, self.everywhere) == []
        function = body.function(self.names, self.everywhere)
        return self.pool.map(function, data, **options).result(DEADLINE)


@pytest.fixture
def notebook(fresh: Callable[..., Pool]) -> Notebook:
    """A notebook with two workers."""
    return Notebook(fresh(2))


def test_later_bodies_see_what_an_all_body_has_defined(notebook):
    """Imports, values, functions and classes, in ``def`` bodies and in those that await."""
    made = notebook.all("import os.path as p\nbase = 10\ndef add(x): return x + base\nclass Box: size = 3\nbase")
    assert made == [10, 10]
    assert notebook.map("add(x) + Box.size + len(p.basename('a/bc'))", range(4)) == [15, 16, 17, 18]
    assert notebook.map("import asyncio\nawait asyncio.sleep(0)\nadd(x)", range(3)) == [10, 11, 12]


def test_it_is_there_on_workers_that_start_later(notebook):
    """All of it is run there again, in the order of the cells, before the first item."""
    notebook.names["start"] = 1
    notebook.all("import os\nsteps = [start]\npid = os.getpid()")
    notebook.all("steps.append(2)\ndef told(): return steps, pid")
    before = children()
    notebook.pool.resize(3).result(DEADLINE)
    notebook.pool.restart().result(DEADLINE)
    found = notebook.map("import os\ntold() == ([1, 2], os.getpid()), pid", range(30), batch=1)
    assert all(same for same, _ in found)
    assert not {pid for _, pid in found} & before


def test_a_helper_reads_a_name_of_another_all_body(notebook):
    """They share one namespace, so what is assigned anew is the new thing for all of them."""
    notebook.all("def scaled(x): return x * factor")
    notebook.all("factor = 3")
    assert notebook.map("scaled(x)", [1, 2]) == [3, 6]
    notebook.all("factor = 5")
    assert notebook.map("scaled(x)", [1, 2]) == [5, 10]


def test_a_helper_goes_on_seeing_what_its_body_read_of_the_notebook(notebook):
    """It was brought along, as it was then."""
    notebook.names["rate"] = 2
    notebook.all("def taxed(x): return x * rate")
    notebook.names["rate"] = 100
    assert notebook.map("taxed(x), rate", [3]) == [(6, 100)]


def test_a_name_can_be_defined_anew(notebook):
    """Also from what it was, and as something else."""
    notebook.all("count = 1")
    notebook.all("count += 1\ndef told(): return count")
    assert notebook.map("count, told()", [0]) == [(2, 2)]
    notebook.all("def count(): return 'a function'")
    assert notebook.map("count()", [0]) == ["a function"]


def test_it_wins_over_the_notebooks_name(notebook):
    """Which is not even sent: it may be what cannot travel. Items change their own name only."""
    with open(__file__) as never:  # noqa: PTH123
        notebook.names["model"] = never
        notebook.all("model = 'loaded'")
        assert notebook.map("model", [0]) == ["loaded"]
        assert notebook.map("model += str(x)\nmodel", [1, 2, 3]) == ["loaded1", "loaded2", "loaded3"]
        assert notebook.map("model", [0]) == ["loaded"]


def test_a_worker_that_lacks_a_name_says_which_cell_must_run(notebook):
    """It may have been assigned on some workers only, or deleted. Such an error is not tried again."""
    notebook.all("import os\nif False: rare = 1")
    (failure,) = notebook.map("\nrare + x", [1], on_error="return", retries=2)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, NameError)
    assert "'rare' is not defined in this worker: the --all cell that assigns it (Cell In[1])" in str(failure.error)
    assert failure.attempts == 1


def test_an_all_body_that_awaits_runs_on_the_workers_loop(notebook):
    """What it opens there can be used by the items of later bodies; on later workers, too."""
    notebook.all("import asyncio\nloop = asyncio.get_running_loop()\nlock = asyncio.Lock()\nawait asyncio.sleep(0)")
    notebook.pool.restart().result(DEADLINE)
    text = "async with lock: same = loop is asyncio.get_running_loop()\nsame"
    assert notebook.map(text, range(4)) == [True] * 4


def test_a_resource_of_an_all_body_is_opened_once_per_worker(notebook):
    """It is one of that worker, whoever uses it, and opened anew when it is defined anew."""
    resource = (
        "from aiopool import per_worker\nopened = []\n"
        "@per_worker\n{}def session():\n  opened.append({})\n  return opened\n"
    )
    notebook.all(resource.format("", 1))
    assert notebook.map("session()", range(6)) == [[1]] * 6
    notebook.all(resource.format("async ", 2))
    assert notebook.map("await session()", range(6)) == [[2]] * 6


def test_instances_of_its_classes_are_of_one_class_in_the_notebook(notebook):
    """Each worker has made that class for itself. From the notebook they go on to any worker as what they are there."""
    notebook.all(
        "class Page:\n    def __init__(self, text): self.text = text\n    def __len__(self): return len(self.text)\n"
    )
    first, second = notebook.pool.broadcast(
        read_body("Page('abc')", filename=FILENAME).function(notebook.names, notebook.everywhere)
    ).result(DEADLINE)
    assert type(first) is type(second)
    assert type(first).__qualname__ == "Page"
    assert len(first) == 3
    assert notebook.map("type(x) is Page, isinstance(x, Page), len(x)", [first, second] * 3) == [(True, True, 3)] * 6
    old = first
    notebook.all("class Page: pass")
    assert notebook.map("type(x) is Page", [old]) == [False]
    assert len(old) == 3


def test_classes_that_it_brings_along_stay_those_of_the_notebook(notebook):
    """Under whatever name; and a class within one of its own is one for all workers, as that is."""

    class Base:
        pass

    notebook.names["Base"] = Base
    notebook.all("Alias = Base\nclass Sub(Base):\n    class Part: pass")
    made = notebook.map("Alias(), Sub(), Sub.Part()", range(8), batch=1)
    assert {type(base) for base, _, _ in made} == {Base}
    assert all(isinstance(sub, Base) for _, sub, _ in made)
    assert len({type(sub) for _, sub, _ in made}) == len({type(part) for _, _, part in made}) == 1


def test_a_resource_is_opened_anew_when_what_it_reads_is_defined_anew(notebook):
    """As in the notebook, where a global that is assigned anew does that."""
    notebook.all("address = 'old'")
    notebook.all("from aiopool import per_worker\n@per_worker\ndef session(): return [address]")
    assert notebook.map("session()", range(4)) == [["old"]] * 4
    notebook.all("address = 'new'")
    assert notebook.map("session()", range(4)) == [["new"]] * 4


def test_its_functions_travel_as_inputs_of_other_items(notebook):
    """A result may be a function that an ``--all`` body defined: it brings what it reads along."""
    notebook.all("base = 10\ndef add(x): return x + base")
    (add,) = notebook.map("add", [0])
    assert add(1) == 11
    assert notebook.map("x(5)", [add] * 3) == [15] * 3


def test_an_all_body_that_fails_leaves_the_pool_as_it_was(notebook):
    """The error points at its line; nothing of it stays where it failed."""
    notebook.all("kept = 1")
    body = read_body("kept = 2\nhalf = 1\n1 / 0", filename=FILENAME, line=4)
    job = notebook.pool.broadcast(body.for_everyone(notebook.names, notebook.everywhere))
    with pytest.raises(ZeroDivisionError) as caught:
        job.result(DEADLINE)
    assert caught.traceback[-1].lineno + 1 == 6
    assert notebook.map("kept", [0]) == [1]


def test_a_body_that_fails_takes_nothing_back_of_one_that_ran_meanwhile(fresh, board: Board):
    """Both await, on the same worker: what the other one has defined, or brought along, stays."""
    notebook = Notebook(fresh(1))
    notebook.names |= {"board": board, "scale": 2}
    failing = read_body(
        "import asyncio\nmine = 1\nawait asyncio.to_thread(board.wait, 'go')\nscale / 0", filename=FILENAME
    )
    job = notebook.pool.broadcast(failing.for_everyone(notebook.names, {}), keep=True)
    notebook.all("import asyncio\nawait asyncio.sleep(0)\nclass Box: size = 3\ndef scaled(x): return x * scale")
    board.mark("go")
    with pytest.raises(ZeroDivisionError):
        job.result(DEADLINE)
    assert notebook.map("import asyncio\nawait asyncio.sleep(0)\nscaled(x) + Box.size", [1]) == [5]
    notebook.everywhere["mine"] = "Cell In[1]"
    (failure,) = notebook.map("mine", [1], on_error="return")
    assert isinstance(failure.error, NameError)
