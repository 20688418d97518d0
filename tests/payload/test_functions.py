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
    "a def": (
        "def f(x): return x + 1",
        3,
        4,
    ),
    "an async def": (
        """
        import asyncio
        async def f(x):
            await asyncio.sleep(0)
            return x + 1
        """,
        3,
        4,
    ),
    "a lambda": (
        "f = lambda x: x + 1",
        3,
        4,
    ),
    "a closure": (
        """
        def make(n):
            def f(x): return x + n
            return f
        f = make(10)
        """,
        3,
        13,
    ),
    "a closure over a mutable": (
        """
        def make():
            seen = []
            def f(x):
                seen.append(x)
                return len(seen)
            return f
        f = make()
        """,
        3,
        1,
    ),
    "a partial": (
        """
        import functools
        def g(a, b): return a - b
        f = functools.partial(g, b=1)
        """,
        3,
        2,
    ),
    "a partial of a partial of an async def": (
        """
        import functools
        async def g(a, b, c): return (a, b, c)
        f = functools.partial(functools.partial(g, c=3), b=2)
        """,
        1,
        (1, 2, 3),
    ),
    "a bound method": (
        """
        class C:
            def __init__(self): self.n = 5
            def m(self, x): return x * self.n
        f = C().m
        """,
        3,
        15,
    ),
    "an async bound method": (
        """
        class C:
            async def m(self, x): return x * 2
        f = C().m
        """,
        3,
        6,
    ),
    "a classmethod": (
        """
        class C:
            n = 7
            @classmethod
            def m(cls, x): return x * cls.n
        f = C.m
        """,
        3,
        21,
    ),
    "a staticmethod": (
        """
        class C:
            @staticmethod
            def m(x): return x * 2
        f = C.m
        """,
        3,
        6,
    ),
    "a callable object": (
        """
        class C:
            def __call__(self, x): return x * 2
        f = C()
        """,
        3,
        6,
    ),
    "an async callable object": (
        """
        class C:
            async def __call__(self, x): return x * 2
        f = C()
        """,
        3,
        6,
    ),
    "a recursive function": (
        "def f(n): return 1 if n < 2 else n * f(n - 1)",
        5,
        120,
    ),
    "mutually recursive functions": (
        """
        def f(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and f(n - 1)
        """,
        10,
        True,
    ),
    "a recursive coroutine": (
        "async def f(n): return 1 if n < 2 else n * await f(n - 1)",
        5,
        120,
    ),
    "super()": (
        """
        class A:
            def m(self, x): return x + 1
        class B(A):
            def m(self, x): return super().m(x) * 2
        f = B().m
        """,
        3,
        8,
    ),
    "a class": (
        """
        class f:
            def __init__(self, x): self.x = x
            def __eq__(self, o): return self.x == o
        """,
        3,
        3,
    ),
    "an lru_cache": (
        """
        import functools
        @functools.lru_cache(maxsize=7)
        def f(x): return x + f.cache_info().maxsize
        """,
        3,
        10,
    ),
    "a recursive cache": (
        """
        import functools
        @functools.cache
        def f(n): return n if n < 2 else f(n-1) + f(n-2)
        """,
        30,
        832040,
    ),
    "a cached method": (
        """
        import functools
        class C:
            @functools.lru_cache
            def m(self, x): return x + 1
        f = C().m
        """,
        3,
        4,
    ),
    "a cached_property": (
        """
        import functools
        class C:
            @functools.cached_property
            def p(self): return 42
        def f(x):
            c = C()
            return (c.p, vars(c))
        """,
        3,
        (42, {"p": 42}),
    ),
    "a singledispatch": (
        """
        import functools
        @functools.singledispatch
        def f(x): return 'object'
        @f.register
        def _(x: int): return 'int'
        """,
        3,
        "int",
    ),
    "a singledispatchmethod": (
        """
        import functools
        class C:
            @functools.singledispatchmethod
            def m(self, x): return 'object'
            @m.register
            def _(self, x: int): return 'int'
        f = C().m
        """,
        3,
        "int",
    ),
    "a decorated function": (
        """
        import functools
        def twice(g):
            @functools.wraps(g)
            def inner(x): return g(g(x))
            return inner
        @twice
        def f(x): return x + 1
        """,
        3,
        5,
    ),
    "defaults and keyword-only defaults": (
        "def f(x, y=2, *, z=3): return x * y * z",
        3,
        18,
    ),
    "a function with attributes": (
        """
        def f(x): return f.n
        f.n = 9
        """,
        3,
        9,
    ),
    "a global that is rebound in the function": (
        """
        n = 1
        def f(x):
            global n
            n += x
            return n
        """,
        3,
        4,
    ),
    "globals and an imported module": (
        """
        import json, math
        k = {'a': 1}
        def f(x): return json.dumps(k), math.floor(x)
        """,
        3,
        ('{"a": 1}', 3),
    ),
    "a submodule": (
        """
        import xml.etree.ElementTree
        def f(x): return xml.etree.ElementTree.fromstring('<a/>').tag
        """,
        3,
        "a",
    ),
    "a function of a module": (
        "from textwrap import dedent as f",
        "  a",
        "a",
    ),
    "a builtin": (
        "f = abs",
        -3,
        3,
    ),
    "a method of a builtin": (
        "f = 'abc'.index",
        "c",
        2,
    ),
    "a logger": (
        """
        import logging
        log = logging.getLogger('x')
        def f(x): return log.name
        """,
        3,
        "x",
    ),
    "a comprehension over a global": (
        """
        ks = (1, 2)
        def f(x): return [k * x for k in ks]
        """,
        3,
        [3, 6],
    ),
    "an async comprehension": (
        """
        async def gen(n):
            for i in range(n): yield i
        async def f(n): return [i async for i in gen(n)]
        """,
        3,
        [0, 1, 2],
    ),
    "a dataclass with slots": (
        """
        import dataclasses
        @dataclasses.dataclass(slots=True, frozen=True)
        class P:
            x: int = 0
        def f(x): return dataclasses.replace(P(), x=x).x
        """,
        3,
        3,
    ),
    "an enum": (
        """
        import enum
        class E(enum.Enum):
            A = 1
            B = 3
        def f(x): return E(x).name
        """,
        3,
        "B",
    ),
    "a generic class": (
        """
        from typing import Generic, TypeVar
        T = TypeVar('T')
        class Box(Generic[T]):
            def __init__(self, v: T): self.v = v
        def f(x): return Box[int](x).v
        """,
        3,
        3,
    ),
    "an abstract base class": (
        """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def m(self): ...
        class B(A):
            def m(self): return 'b'
        def f(x): return B().m(), isinstance(B(), A)
        """,
        3,
        ("b", True),
    ),
    "a pydantic model": (
        """
        import pydantic
        class M(pydantic.BaseModel):
            x: int
            @pydantic.field_validator('x')
            @classmethod
            def v(cls, x): return x * 2
        def f(x): return M(x=x).model_dump()
        """,
        "3",
        {"x": 6},
    ),
    "a thread-local": (
        """
        import threading
        local = threading.local()
        def f(x):
            local.n = getattr(local, 'n', 0) + x
            return local.n
        """,
        3,
        3,
    ),
    "the standard output": (
        """
        import sys
        out = sys.__stdout__
        def f(x): return x
        """,
        3,
        3,
    ),
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
        """
        import sqlite3
        client = sqlite3.connect(':memory:')
        def f(x): return client
        """,
        (
            "`f` uses the global `client` (sqlite3.Connection), which cannot travel to another process. "
            "Create it inside the function, or once per worker with @aiopool.per_worker."
        ),
    ),
    "a global of a helper": (
        """
        import threading
        lock = threading.Lock()
        def helper(): return lock
        def f(x): return helper()
        """,
        "`f` uses the global `helper`, which uses the global `lock` (_thread.lock), which cannot travel",
    ),
    "a closure": (
        """
        def make():
            rows = (i for i in range(3))
            def f(x): return next(rows)
            return f
        f = make()
        """,
        (
            "`f` uses `rows` of the enclosing function (generator), which cannot travel to another process. "
            "Use a list instead: list(...)."
        ),
    ),
    "a default": (
        "def f(x, out=open('/dev/null')): ...",
        "`f` has a default argument (_io.TextIOWrapper), which",
    ),
    "a partial": (
        """
        import functools, threading
        def g(x, lock): ...
        f = functools.partial(g, lock=threading.RLock())
        """,
        "`g` is given the argument `lock` (_thread.RLock), which cannot travel",
    ),
    "an attribute of self": (
        """
        import socket
        class C:
            def __init__(self): self.sock = socket.socket()
            def m(self, x): ...
        c = C()
        f = c.m
        """,
        "`C.m` belongs to an object, which has the attribute `sock` (socket.socket), which cannot travel",
    ),
    "inside containers": (
        """
        import threading
        settings = {'a': [1, threading.Lock()]}
        def f(x): return settings
        """,
        (
            "`f` uses the global `settings`, which holds, under the key 'a', a value, which holds a value at "
            "[1] (_thread.lock), which"
        ),
    ),
    "a method of a class": (
        """
        import threading
        lock = threading.Lock()
        class C:
            def m(self): return lock
        def f(x): return C()
        """,
        ("`f` uses the global `C`, which has the method `m`, which uses the global `lock` (_thread.lock), which"),
    ),
    "a class attribute": (
        """
        import threading
        class C:
            lock = threading.Lock()
        def f(x): return C()
        """,
        "`f` uses the global `C`, which has the attribute `lock` (_thread.lock), which",
    ),
    "a cached function": (
        """
        import functools, threading
        lock = threading.Lock()
        @functools.cache
        def f(x): return lock
        """,
        "`f` uses the global `lock` (_thread.lock), which",
    ),
    "a refusal of its own": (
        """
        class C:
            def __reduce__(self): raise ValueError('not today')
        c = C()
        def f(x): return c
        """,
        "`f` uses the global `c` (C), which cannot travel to another process: ValueError: not today.",
    ),
    "an exit while pickling": (
        """
        class C:
            def __reduce__(self): raise SystemExit(3)
        c = C()
        def f(x): return c
        """,
        "`f` uses the global `c` (C), which cannot travel to another process: SystemExit: 3.",
    ),
    "a deep structure": (
        """
        deep = []
        for _ in range(200_000): deep = [deep]
        def f(x): return deep
        """,
        "`f` is nested too deeply to travel to another process.",
    ),
    "a hostile object": (
        """
        class C:
            def __getattribute__(self, name): raise SystemExit('no')
        c = C()
        def f(x): return c
        """,
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
