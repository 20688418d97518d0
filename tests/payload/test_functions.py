"""Functions of every kind reach another process, work there, and say by name what stops them."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap

import pytest

from aiopool import _payload as payload
from aiopool.errors import NotPicklable
from tests.payload.processes import SRC

KINDS = {
    "a def": ("def f(x): return x + 1", 3, 4),
    "an async def": ("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1", 3, 4),
    "a lambda": ("f = lambda x: x + 1", 3, 4),
    "a closure": ("def make(n):\n    def f(x): return x + n\n    return f\nf = make(10)", 3, 13),
    "a closure over a mutable": (
        "def make():\n    seen = []\n    def f(x):\n        seen.append(x)\n        return len(seen)\n    return f\nf = make()",
        3,
        1,
    ),
    "a partial": ("import functools\ndef g(a, b): return a - b\nf = functools.partial(g, b=1)", 3, 2),
    "a partial of a partial of an async def": (
        "import functools\nasync def g(a, b, c): return (a, b, c)\n"
        "f = functools.partial(functools.partial(g, c=3), b=2)",
        1,
        (1, 2, 3),
    ),
    "a bound method": (
        "class C:\n    def __init__(self): self.n = 5\n    def m(self, x): return x * self.n\nf = C().m",
        3,
        15,
    ),
    "an async bound method": ("class C:\n    async def m(self, x): return x * 2\nf = C().m", 3, 6),
    "a classmethod": ("class C:\n    n = 7\n    @classmethod\n    def m(cls, x): return x * cls.n\nf = C.m", 3, 21),
    "a staticmethod": ("class C:\n    @staticmethod\n    def m(x): return x * 2\nf = C.m", 3, 6),
    "a callable object": ("class C:\n    def __call__(self, x): return x * 2\nf = C()", 3, 6),
    "an async callable object": ("class C:\n    async def __call__(self, x): return x * 2\nf = C()", 3, 6),
    "a recursive function": ("def f(n): return 1 if n < 2 else n * f(n - 1)", 5, 120),
    "mutually recursive functions": (
        "def f(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and f(n - 1)",
        10,
        True,
    ),
    "a recursive coroutine": ("async def f(n): return 1 if n < 2 else n * await f(n - 1)", 5, 120),
    "super()": (
        "class A:\n    def m(self, x): return x + 1\nclass B(A):\n    def m(self, x): return super().m(x) * 2\nf = B().m",
        3,
        8,
    ),
    "a class": ("class f:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o", 3, 3),
    "an lru_cache": (
        "import functools\n@functools.lru_cache(maxsize=7)\ndef f(x): return x + f.cache_info().maxsize",
        3,
        10,
    ),
    "a recursive cache": (
        "import functools\n@functools.cache\ndef f(n): return n if n < 2 else f(n-1) + f(n-2)",
        30,
        832040,
    ),
    "a cached method": (
        "import functools\nclass C:\n    @functools.lru_cache\n    def m(self, x): return x + 1\nf = C().m",
        3,
        4,
    ),
    "a cached_property": (
        "import functools\nclass C:\n    @functools.cached_property\n    def p(self): return 42\ndef f(x):\n"
        "    c = C()\n    return (c.p, vars(c))",
        3,
        (42, {"p": 42}),
    ),
    "a singledispatch": (
        "import functools\n@functools.singledispatch\ndef f(x): return 'object'\n"
        "@f.register\ndef _(x: int): return 'int'",
        3,
        "int",
    ),
    "a singledispatchmethod": (
        "import functools\nclass C:\n    @functools.singledispatchmethod\n    def m(self, x): return 'object'\n"
        "    @m.register\n    def _(self, x: int): return 'int'\nf = C().m",
        3,
        "int",
    ),
    "a decorated function": (
        "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def inner(x): return g(g(x))\n    return inner\n"
        "@twice\ndef f(x): return x + 1",
        3,
        5,
    ),
    "defaults and keyword-only defaults": ("def f(x, y=2, *, z=3): return x * y * z", 3, 18),
    "a function with attributes": ("def f(x): return f.n\nf.n = 9", 3, 9),
    "a global that is rebound in the function": ("n = 1\ndef f(x):\n    global n\n    n += x\n    return n", 3, 4),
    "globals and an imported module": (
        "import json, math\nk = {'a': 1}\ndef f(x): return json.dumps(k), math.floor(x)",
        3,
        ('{"a": 1}', 3),
    ),
    "a submodule": (
        "import xml.etree.ElementTree\ndef f(x): return xml.etree.ElementTree.fromstring('<a/>').tag",
        3,
        "a",
    ),
    "a function of a module": ("from textwrap import dedent as f", "  a", "a"),
    "a builtin": ("f = abs", -3, 3),
    "a method of a builtin": ("f = 'abc'.index", "c", 2),
    "a logger": ("import logging\nlog = logging.getLogger('x')\ndef f(x): return log.name", 3, "x"),
    "a comprehension over a global": ("ks = (1, 2)\ndef f(x): return [k * x for k in ks]", 3, [3, 6]),
    "an async comprehension": (
        "async def gen(n):\n    for i in range(n): yield i\nasync def f(n): return [i async for i in gen(n)]",
        3,
        [0, 1, 2],
    ),
    "a dataclass with slots": (
        "import dataclasses\n@dataclasses.dataclass(slots=True, frozen=True)\nclass P:\n    x: int = 0\n"
        "def f(x): return dataclasses.replace(P(), x=x).x",
        3,
        3,
    ),
    "an enum": ("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 3\ndef f(x): return E(x).name", 3, "B"),
    "a generic class": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, v: T): self.v = v\n"
        "def f(x): return Box[int](x).v",
        3,
        3,
    ),
    "an abstract base class": (
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def m(self): ...\nclass B(A):\n    def m(self): return 'b'\n"
        "def f(x): return B().m(), isinstance(B(), A)",
        3,
        ("b", True),
    ),
    "a pydantic model": (
        "import pydantic\nclass M(pydantic.BaseModel):\n    x: int\n    @pydantic.field_validator('x')\n    @classmethod\n"
        "    def v(cls, x): return x * 2\ndef f(x): return M(x=x).model_dump()",
        "3",
        {"x": 6},
    ),
    "a thread-local": (
        "import threading\nlocal = threading.local()\ndef f(x):\n    local.n = getattr(local, 'n', 0) + x\n    return local.n",
        3,
        3,
    ),
    "the standard output": ("import sys\nout = sys.__stdout__\ndef f(x): return x", 3, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_of_this_kind_works_in_another_process(kind, notebook, child):
    """Whatever can be called in a cell can be mapped."""
    source, value, expected = KINDS[kind]
    notebook.cell(source)
    assert child.run(notebook["f"], value) == [expected]


@pytest.mark.parametrize("kind", KINDS)
def test_is_async_says_what_a_call_gives(kind, notebook):
    """The scheduler must know without calling whether a function gives coroutines."""
    notebook.cell(KINDS[kind][0])
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


CULPRITS = {
    "a global": (
        "import sqlite3\nclient = sqlite3.connect(':memory:')\ndef f(x): return client",
        "`f` uses the global `client` (sqlite3.Connection), which cannot travel to another process. "
        "Create it inside the function, or once per worker with @aiopool.per_worker.",
    ),
    "a global of a helper": (
        "import threading\nlock = threading.Lock()\ndef helper(): return lock\ndef f(x): return helper()",
        "`f` uses the global `helper`, which uses the global `lock` (_thread.lock), which cannot travel",
    ),
    "a closure": (
        "def make():\n    rows = (i for i in range(3))\n    def f(x): return next(rows)\n    return f\nf = make()",
        "`f` uses `rows` of the enclosing function (generator), which cannot travel to another process. "
        "Use a list instead: list(...).",
    ),
    "a default": ("def f(x, out=open('/dev/null')): ...", "`f` has a default argument (_io.TextIOWrapper), which"),
    "a partial": (
        "import functools, threading\ndef g(x, lock): ...\nf = functools.partial(g, lock=threading.RLock())",
        "`g` is given the argument `lock` (_thread.RLock), which cannot travel",
    ),
    "an attribute of self": (
        "import socket\nclass C:\n    def __init__(self): self.sock = socket.socket()\n    def m(self, x): ...\nc = C()\nf = c.m",
        "`C.m` belongs to an object, which has the attribute `sock` (socket.socket), which cannot travel",
    ),
    "inside containers": (
        "import threading\nsettings = {'a': [1, threading.Lock()]}\ndef f(x): return settings",
        "`f` uses the global `settings`, which holds, under the key 'a', a value, which holds a value at [1] "
        "(_thread.lock), which",
    ),
    "a method of a class": (
        "import threading\nlock = threading.Lock()\nclass C:\n    def m(self): return lock\ndef f(x): return C()",
        "`f` uses the global `C`, which has the method `m`, which uses the global `lock` (_thread.lock), which",
    ),
    "a class attribute": (
        "import threading\nclass C:\n    lock = threading.Lock()\ndef f(x): return C()",
        "`f` uses the global `C`, which has the attribute `lock` (_thread.lock), which",
    ),
    "a cached function": (
        "import functools, threading\nlock = threading.Lock()\n@functools.cache\ndef f(x): return lock",
        "`f` uses the global `lock` (_thread.lock), which",
    ),
    "a refusal of its own": (
        "class C:\n    def __reduce__(self): raise ValueError('not today')\nc = C()\ndef f(x): return c",
        "`f` uses the global `c` (C), which cannot travel to another process: ValueError: not today.",
    ),
    "an exit while pickling": (
        "class C:\n    def __reduce__(self): raise SystemExit(3)\nc = C()\ndef f(x): return c",
        "`f` uses the global `c` (C), which cannot travel to another process: SystemExit: 3.",
    ),
    "a deep structure": (
        "deep = []\nfor _ in range(200_000): deep = [deep]\ndef f(x): return deep",
        "`f` is nested too deeply to travel to another process.",
    ),
    "a hostile object": (
        "class C:\n    def __getattribute__(self, name): raise SystemExit('no')\nc = C()\ndef f(x): return c",
        "`f` uses the global `c` (C), which cannot travel to another process: SystemExit: no.",
    ),
}


@pytest.mark.parametrize("kind", CULPRITS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_function_that_cannot_travel_names_what_stops_it(kind, notebook):
    """The message says which name, of which type, and what to write instead; and it comes in the call."""
    source, message = CULPRITS[kind]
    notebook.cell(source)
    with pytest.raises(NotPicklable) as caught:
        payload.dump_function(notebook["f"])
    assert str(caught.value).startswith(message)
    assert caught.value.__cause__ is not None
    names = [frame.filename for frame in _frames(caught.value.__cause__)]
    assert not any("cloudpickle" in name for name in names), "the cause shows no library frames"
    notebook.names.clear()


def _frames(error):
    from aiopool._payload.tracebacks import read

    return read(error.__traceback__)


def test_an_interrupt_while_pickling_is_an_interrupt(notebook):
    """Stop in the call stops the call."""
    notebook.cell("class C:\n    def __reduce__(self): raise KeyboardInterrupt\nc = C()\ndef f(x): return c")
    with pytest.raises(KeyboardInterrupt):
        payload.dump_function(notebook["f"])


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
        [sys.executable, str(script)], env={"PYTHONPATH": f"{SRC}:{root}"}, capture_output=True, text=True, timeout=30
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
