"""What stops a function from travelling is named: which global, variable, attribute or key, of which type."""

from __future__ import annotations

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
            "Each worker has an event loop of its own. Use concurrency=... or rate=... of the map instead."
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
    shown = [frame.filename for frame in read(caught.value.__cause__.__traceback__)]
    assert not any("cloudpickle" in name for name in shown)
    del caught
    notebook.names.clear()
    gc.collect()  # Here, where what a cell left open is no surprise.


def test_an_interrupt_while_pickling_is_an_interrupt(notebook):
    """Stop in the call stops the call."""
    notebook.cell("class C:\n    def __reduce__(self): raise KeyboardInterrupt\nc = C()\ndef f(x): return c")
    with pytest.raises(KeyboardInterrupt):
        payload.dump_function(notebook["f"])
