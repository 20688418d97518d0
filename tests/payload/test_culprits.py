"""What stops a function from travelling is named: which global, variable, attribute or key, of which type."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aiopool import _payload as payload
from aiopool._payload.tracebacks import read
from aiopool.errors import NotPicklable

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
    "a semaphore that has been waited for": (
        """
        import asyncio
        limit = asyncio.Semaphore(1)
        async def use():
            async with limit: await asyncio.sleep(0)
        async def main(): await asyncio.gather(use(), use())
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        async def f(x):
            async with limit: ...
        """,
        (
            "`f` uses the global `limit` (asyncio.locks.Semaphore), which cannot travel to another process. "
            "Each worker would get a copy of its own, so it would not limit the job. "
            "Write pmap(..., concurrency=N) instead, or rate=N."
        ),
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


TOLD_WITH_ITS_CAUSE = ("a refusal of its own", "an exit while pickling", "a deep structure", "a hostile object")
"""Where the pickler only says that it cannot pickle an inner type, that would stand above the message, and confuse."""


@pytest.mark.parametrize("kind", CULPRITS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_function_that_cannot_travel_names_what_stops_it(kind, notebook):
    """The message says which name, of which type, and what to write instead; and it comes in the call."""
    source, message = CULPRITS[kind]
    notebook.cell(source)
    with pytest.raises(NotPicklable) as caught:
        payload.dump_function(notebook["f"])
    assert str(caught.value).startswith(message)
    cause = caught.value.__cause__
    assert caught.value.__suppress_context__
    assert (cause is not None) == (kind in TOLD_WITH_ITS_CAUSE)
    shown = [frame.filename for frame in read(cause.__traceback__)] if cause else []
    assert not any("cloudpickle" in name for name in shown)
    del caught, cause
    notebook.names.clear()
    gc.collect()  # Here, where what a cell left open is no surprise.


IN_VAIN = {
    "Semaphore(3)": "concurrency=N",
    "BoundedSemaphore(3)": "concurrency=N",
    "Lock()": "concurrency=1",
    "Condition()": "concurrency=1",
    "Barrier(2)": "concurrency=1",
    "Event()": "job.cancel()",
    "Queue()": "async for value in job",
    "LifoQueue()": "async for value in job",
    "PriorityQueue()": "async for value in job",
}


@pytest.mark.parametrize("made", IN_VAIN)
def test_what_tasks_wait_with_for_each_other_is_refused(made, notebook):
    """It can be pickled, but its copy limits, guards or tells nothing: in a function and as an argument."""
    notebook.cell(f"import asyncio\nthing = asyncio.{made}\nasync def f(x): return thing")
    with pytest.raises(NotPicklable) as caught:
        payload.dump_function(notebook["f"])
    assert str(caught.value).startswith("`f` uses the global `thing` (asyncio.")
    assert IN_VAIN[made] in str(caught.value)
    (refused,) = payload.dump_items([(1, notebook["thing"])]).refused
    assert str(refused[1]).startswith("the input (tuple) holds a value at [1] (asyncio.")
    assert IN_VAIN[made] in str(refused[1])


def test_it_is_found_wherever_a_users_own_code_holds_it(notebook):
    """In a helper, a closure, a partial, an object of a class of a cell, a class itself."""
    notebook.cell(
        """
        import asyncio, functools
        limit = asyncio.Semaphore(3)
        async def helper(): return limit
        class Client:
            def __init__(self): self.limits = {"a": [limit]}
        class Shared:
            limit = limit
        client = Client()
        def make(inner):
            async def f(x): return inner
            return f
        async def g(x, inner): ...
        fs = [
            make(helper), make(limit), functools.partial(g, inner=limit), make(client), make(Shared),
            functools.partial(g, inner={"deep": [limit]}),
        ]
        """
    )
    told = []
    for function in notebook["fs"]:
        with pytest.raises(NotPicklable) as caught:
            payload.dump_function(function)
        told.append(str(caught.value).partition(" (asyncio.locks.Semaphore), which cannot travel")[0])
    assert told == [
        "`f` uses `inner` of the enclosing function, which uses the global `limit`",
        "`f` uses `inner` of the enclosing function",
        "`g` is given the argument `inner`",
        (
            "`f` uses `inner` of the enclosing function, which has the attribute `limits`, which holds, under the key "
            "'a', a value, which holds a value at [0]"
        ),
        "`f` uses `inner` of the enclosing function, which has the attribute `limit`",
        ("`g` is given the argument `inner`, which holds, under the key 'deep', a value, which holds a value at [0]"),
    ]


def test_what_a_library_needs_for_itself_travels(notebook):
    """A client that guards its own state with a lock has one in each worker: both are copied."""
    notebook.cell("from tests.payload.work import Guarded\nclient = Guarded()")
    notebook.cell("async def f(x): return await client.get(x)")
    function = payload.load_function(payload.dump_function(notebook["f"]).data)
    assert asyncio.run(function(3)) == 6
    assert payload.dump_items([notebook["client"]]).refused == ()


BOUND = {
    "a loop": "asyncio.new_event_loop()",
    "a closed loop": "closed",
    "a client that holds a loop": "Client(asyncio.new_event_loop())",
    "a client for async with": "AsyncClient()",
    "a stream": "asyncio.StreamReader(loop=loop)",
}


@pytest.mark.parametrize("kind", BOUND)
def test_what_belongs_to_the_notebooks_loop_is_to_be_made_once_per_worker(kind, notebook):
    """Made in a cell with ``await``, it cannot be used on another loop; the message says so, not what is inside it."""
    notebook.cell(
        f"""
        import asyncio, threading
        from tests.payload.work import AsyncClient, Client
        loop, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
        closed.close()
        client = {BOUND[kind]}
        async def f(x): return client
        """
    )
    with pytest.raises(NotPicklable) as caught:
        payload.dump_function(notebook["f"])
    assert str(caught.value).startswith("`f` uses the global `client` (")
    assert "belongs to the event loop of the notebook" in str(caught.value)
    assert "@aiopool.per_worker" in str(caught.value)
    notebook["loop"].close()
    getattr(notebook["client"], "close", int)()


def test_a_big_array_beside_it_is_not_blamed(notebook):
    """Big buffers are written in a way of their own; that is no failure."""
    notebook.cell("import numpy, threading\ntable = numpy.zeros(1_000_000)\nlock = threading.Lock()")
    notebook.cell("def f(x): return table, lock")
    with pytest.raises(NotPicklable, match="`f` uses the global `lock`"):
        payload.dump_function(notebook["f"])


def test_an_interrupt_while_pickling_is_an_interrupt(notebook):
    """Stop in the call stops the call."""
    notebook.cell("class C:\n    def __reduce__(self): raise KeyboardInterrupt\nc = C()\ndef f(x): return c")
    with pytest.raises(KeyboardInterrupt):
        payload.dump_function(notebook["f"])
