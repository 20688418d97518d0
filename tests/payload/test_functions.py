"""Functions of every kind reach another process, work there, and say by name what stops them."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import types

import pytest

from aiopool import _payload as payload
from tests.payload.kinds_of_functions import FUNCTIONS
from tests.payload.processes import SRC


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_of_this_kind_works_in_another_process(kind, notebook, child):
    """Whatever can be called in a cell can be mapped."""
    source, value, expected = FUNCTIONS[kind]
    notebook.cell(source)
    assert child.run(notebook["f"], value) == [expected]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_is_async_says_what_a_call_gives(kind, notebook):
    """The scheduler must know without calling whether a function gives coroutines."""
    notebook.cell(FUNCTIONS[kind][0])
    assert payload.dump_function(notebook["f"]).is_async == ("async" in kind or "coroutine" in kind)


def test_a_changed_helper_or_global_is_seen_by_a_live_worker(notebook, child):
    """Redefine and run again: the next job uses what is in the notebook now."""
    notebook.cell("k = 1\ndef helper(x): return x + k\ndef f(x): return helper(x)")
    assert child.run(notebook["f"], 1) == [2]
    notebook.cell("k = 10")
    assert child.run(notebook["f"], 1) == [11]
    notebook.cell("def helper(x): return x * k")
    assert child.run(notebook["f"], 7) == [70]


def test_each_job_starts_with_the_globals_of_the_notebook(notebook, child):
    """What an item did to a global is not there in the next job, and not in the notebook."""
    notebook.cell("seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)")
    assert child.run(notebook["f"], 1, 2) == [1, 2]
    assert child.run(notebook["f"], 1, 2) == [1, 2]
    assert notebook["seen"] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def fetch(x): ...", "fetch"),
        ("def make():\n    def fetch(x): ...\n    return fetch\nfetch = make()", "fetch"),
        ("class Client:\n    def get(self, x): ...\nfetch = Client().get", "Client.get"),
        ("class Client:\n    def __call__(self, x): ...\nfetch = Client()", "Client"),
        ("import functools\ndef get(x, y): ...\nfetch = functools.partial(get, y=1)", "get"),
        ("fetch = lambda x: x", "<lambda>"),
    ],
)
def test_a_function_is_called_by_the_name_that_people_use(source, name, notebook):
    """Panels and messages say `fetch`, not `make.<locals>.fetch`."""
    notebook.cell(source)
    assert payload.dump_function(notebook["fetch"]).name == name


def test_the_functions_of_a_script_travel_without_a_second_run_of_it(tmp_path):
    """``__main__`` is never imported in a worker: no guard is needed, and nested classes and enums work."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import enum, sys, traceback
            from dataclasses import dataclass
            print("running", __name__)
            class Outer:
                class Color(enum.Enum):
                    RED = 1
                @dataclass
                class Point:
                    x: int
            def flip(p):
                assert isinstance(p, Outer.Point)
                return Outer.Point(-p.x), Outer.Color.RED, __name__, __file__
            from tests.payload.processes import Child
            with Child() as child:
                (point, color, name, file), = child.run(flip, Outer.Point(3))
                print(point == Outer.Point(-3), color is Outer.Color.RED, name, file == __file__)
                def fail(x):
                    return 1 / x
                error = child.failure(fail, 0)
                print(*traceback.format_exception(error)[-2:])
            """
        )
    )
    root = str(SRC).removesuffix("/src")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": f"{SRC}:{root}"},
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["running __main__", "True True __main__ True"]
    assert [line.strip() for line in lines[2:] if line] == [
        f'File "{script}", line 19, in fail',
        "return 1 / x",
        "~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_a_partial_keeps_its_own_state(notebook, child):
    """Nothing of a function's arguments is shared with the notebook."""
    notebook.cell("def g(box, x):\n    box.append(x)\n    return box")
    box = []
    assert child.run(functools.partial(notebook["g"], box), 1, 2) == [[1], [1, 2]]
    assert box == []


def test_the_room_is_light():
    """Both sides import it: no numpy, no IPython, and of ours only the errors."""
    code = (
        "import sys, aiopool._payload\n"
        "ours = sorted(m for m in sys.modules if m.startswith('aiopool') and '_payload' not in m)\n"
        "heavy = {'numpy', 'IPython', 'ipywidgets', 'pandas', 'multiprocessing'} & set(sys.modules)\n"
        "print(ours, heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": SRC}, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "['aiopool', 'aiopool.errors'] set()"


def test_the_function_of_a_call_is_remembered_by_its_own_name_only(monkeypatch):
    """What another one was put in the place of, or stands somewhere else as, is looked up each time."""
    first, second = types.ModuleType("aiopool_test_first"), types.ModuleType("aiopool_test_second")
    for module in (first, second):
        exec(f"def f(): return {module.__name__!r}\nclass C:\n    def g(self): return 1", vars(module))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    data = payload.dump_function(first.f).data
    own = first.f
    assert payload.load_call(data) is payload.load_call(data) is own
    first.f = second.f
    assert payload.load_call(data) is second.f
    first.f = own
    assert payload.load_call(data) is own
    first.f = second.f
    assert payload.load_call(data) is second.f
    first.g = first.C.g
    method = payload.dump_function(first.C.g).data
    assert payload.load_call(method) is first.g
    first.C.g = lambda _: 2
    assert payload.load_call(method) is first.C.g
