"""Results: what comes back, and what is said of what cannot."""

from __future__ import annotations

import warnings

import pytest

from aiopool import _payload as payload
from aiopool.errors import ItemExited, NotPicklable

REFUSED = {
    "a generator": (
        "def f(x): return (i for i in range(3))",
        ("the result (generator) cannot travel to another process. Write `return list(...)` in the function."),
    ),
    "an async generator": (
        """
        async def f(x):
            async def g(): yield 1
            return g()
        """,
        (
            "the result (async_generator) cannot travel to another process. Write `return [x async for x "
            "in ...]` in the function."
        ),
    ),
    "a coroutine": (
        """
        async def g(): ...
        def f(x): return g()
        """,
        (
            "the result (coroutine) cannot travel to another process. It was never awaited: write `return "
            "await ...` in the function."
        ),
    ),
    "a lock in an attribute": (
        """
        import threading
        class C:
            def __init__(self): self.lock = threading.Lock()
        def f(x): return [C()]
        """,
        (
            "the result (list) holds a value at [0], which has the attribute `lock` (_thread.lock), which "
            "cannot travel to another process. Return only what it guarded."
        ),
    ),
    "an open file": (
        """
        import atexit
        def f(x):
            file = open('/dev/null')
            atexit.register(file.close)
            return file
        """,
        (
            "the result (_io.TextIOWrapper) cannot travel to another process. Read it inside the function "
            "and return what it holds, or return its path."
        ),
    ),
    "a socket": (
        """
        import atexit, socket
        def f(x):
            s = socket.socket()
            atexit.register(s.close)
            return {'s': s}
        """,
        (
            "the result (dict) holds, under the key 's', a value (socket.socket), which cannot travel to "
            "another process. Return plain values taken from it."
        ),
    ),
    "a task": (
        """
        import asyncio
        async def f(x): return asyncio.ensure_future(asyncio.sleep(0))
        """,
        (
            "the result (_asyncio.Task) cannot travel to another process. It belongs to the worker's event "
            "loop. Await it inside the function, and return its result."
        ),
    ),
    "a refusal of its own": (
        """
        class C:
            def __reduce__(self): raise SystemExit('no')
        def f(x): return C()
        """,
        ("the result (C) cannot travel to another process: SystemExit: no. Return plain values taken from it."),
    ),
    "an interrupt of its own": (
        """
        class C:
            def __reduce__(self): raise KeyboardInterrupt
        def f(x): return C()
        """,
        ("the result (C) cannot travel to another process: KeyboardInterrupt. Return plain values taken from it."),
    ),
    "too deep": (
        """
        def f(x):
            deep = []
            for _ in range(200_000): deep = [deep]
            return deep
        """,
        "the result (list) is nested too deeply to travel to another process. Make it flatter.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_result_that_cannot_travel_is_this_items_error(kind, notebook, child):
    """It names the part and its type, and says what to write; the worker goes on."""
    source, message = REFUSED[kind]
    notebook.cell(source)
    error = child.failure(notebook["f"])
    assert type(error) is NotPicklable
    assert str(error) == message
    notebook.cell("def f(x): return x")
    assert child.run(notebook["f"], 1) == [1]


def test_a_coroutine_that_was_returned_warns_at_no_later_moment(notebook):
    """The message has said it."""
    notebook.cell("async def g(): ...")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotPicklable):
            payload.dump_value(notebook["g"]())


def test_a_result_that_fails_to_load_raises_what_it_raised(notebook, child):
    """In the kernel, where it is first looked at."""
    notebook.cell("class C:\n    def __reduce__(self): return eval, ('1 / 0',)\ndef f(x): return C()")
    child.start(notebook["f"])
    kind, answer = child.ask("shared", payload.dump_shared([1]))
    assert kind == b"V"
    with pytest.raises(ZeroDivisionError):
        payload.load_value(answer)


@pytest.mark.parametrize("name", ["SystemExit", "GeneratorExit", "StopIteration", "asyncio.CancelledError"])
def test_a_result_may_not_end_the_kernels_loop_while_it_loads(name):
    """What would end or confuse the loop that waits comes wrapped."""

    class Ending:
        def __reduce__(self):
            return exec, (f"import asyncio; raise {name}(3)",)

    with pytest.raises(ItemExited, match=f"loading the result raised {name.removeprefix('asyncio.')}: 3") as caught:
        payload.load_value(payload.dump_value(Ending()))
    assert caught.value.__cause__ is not None


def test_plain_results_travel_together():
    """A batch of plain results is one pickle, as its arguments were."""
    values = [1, 2.5, "x", b"y", None, True]
    assert payload.load_shared(payload.dump_shared(values)) == values
    assert set(map(type, values)) <= payload.PLAIN_TYPES
