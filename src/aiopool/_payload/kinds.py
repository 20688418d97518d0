"""What kind of thing cannot travel, in the words of people: the name of its type, and what to write instead."""

from __future__ import annotations

import asyncio
import gc
import types
from collections import deque

__all__ = ["FUNCTION_ADVICE", "INPUT_ADVICE", "RESULT_ADVICE", "is_bound_to_loop", "kind_of", "type_name"]

# The plain descriptors: a class or its metaclass may override these names, and raise.
_qualname = type.__dict__["__qualname__"]
_module = type.__dict__["__module__"]
_mro = type.__dict__["__mro__"]


def type_name(value: object) -> str:
    """The type of a thing as people write it: ``sqlite3.Connection``, ``list``, ``Settings``."""
    cls = type(value)
    name: str = _qualname.__get__(cls).rpartition("<locals>.")[2]
    module = _module.__get__(cls)
    return f"{module}.{name}" if type(module) is str and module not in ("builtins", "__main__") else name


_ONCE = "or once per worker with @aiopool.per_worker"
_COPY = "Each worker would get a copy of its own"

FUNCTION_ADVICE = {
    "lock": (
        "Workers are processes of their own, so a lock of this one guards nothing there. "
        f"Create it inside the function, {_ONCE}."
    ),
    "async lock": (
        f"{_COPY}, so it would guard nothing between them. Write concurrency=1 instead, or, for what a worker has of "
        "its own, make it once per worker with @aiopool.per_worker."
    ),
    "limit": f"{_COPY}, so it would not limit the job. Write pmap(..., concurrency=N) instead, or rate=N.",
    "event": f"{_COPY}, which nobody here can set. To end the job write job.cancel(), to hold it job.pause().",
    "queue": (
        f"{_COPY}. Return what you would put in it, and read it with `async for value in job`; "
        "what you would take out of it is the data of the map."
    ),
    "shared": "It is shared with the children of multiprocessing only. Return values instead, and add them up here.",
    "file": "Open it inside the function, from its path.",
    "generator": "Use a list instead: list(...).",
    "async generator": "Use a list instead: [x async for x in ...].",
    "coroutine": "Await it first, and use what it returns.",
    "asyncio": "It belongs to this event loop. Await it first and use its result, or create it inside the function.",
    "loop": (
        "It belongs to the event loop of the notebook or script, and each worker has a loop of its own. Make one per "
        "worker, in a function with @aiopool.per_worker above it."
    ),
    "future": "Wait for it first, and use its result.",
    "exit": "In a notebook it ends the kernel. Write return, or raise an exception, to end the item.",
    "notebook": "It lives in the notebook's kernel. Return a value from the function, and use it here on the results.",
    "pool": "Pools and jobs stay where they were made. Use their results.",
    "": f"Create it inside the function, {_ONCE}.",
}
INPUT_ADVICE = {
    **FUNCTION_ADVICE,
    "file": "Pass its path, and open it inside the function.",
    "generator": "Pass a list instead: list(...).",
    "async generator": "Pass a list instead: [x async for x in ...].",
    "coroutine": "Pass what its function takes, and that function to the map: pmap(fn, data). Or await it first.",
    "": "Pass what it is made from (a path, a URL, plain values), and create it inside the function.",
}
RESULT_ADVICE = {
    **FUNCTION_ADVICE,
    "lock": "Return only what it guarded.",
    "async lock": "Return only what it guarded.",
    "limit": "Return plain values.",
    "event": "Return whether it is set.",
    "queue": "Return what it holds, as a list.",
    "shared": "Return its value.",
    "file": "Read it inside the function and return what it holds, or return its path.",
    "generator": "Write `return list(...)` in the function.",
    "async generator": "Write `return [x async for x in ...]` in the function.",
    "coroutine": "It was never awaited: write `return await ...` in the function.",
    "asyncio": "It belongs to the worker's event loop. Await it inside the function, and return its result.",
    "loop": "It belongs to the worker's event loop. Return plain values taken from it.",
    "notebook": "It lives in its process. Return plain values.",
    "pool": "Pools and jobs stay where they were made. Return their results.",
    "": "Return plain values taken from it.",
}
_KINDS = {
    "builtins.generator": "generator",
    "builtins.async_generator": "async generator",
    "builtins.coroutine": "coroutine",
    "_thread.lock": "lock",
    "_thread.RLock": "lock",
    "threading.Condition": "lock",
    "threading.Barrier": "lock",
    "threading.Semaphore": "limit",
    "threading.Event": "event",
    "queue.Queue": "queue",
    "_queue.SimpleQueue": "queue",
    "multiprocessing.synchronize.Semaphore": "limit",
    "multiprocessing.synchronize.SemLock": "lock",
    "multiprocessing.synchronize.Condition": "lock",
    "multiprocessing.synchronize.Event": "event",
    "multiprocessing.queues.Queue": "queue",
    "multiprocessing.queues.SimpleQueue": "queue",
    "multiprocessing.sharedctypes.SynchronizedBase": "shared",
    "_io._IOBase": "file",
    "asyncio.locks.Semaphore": "limit",
    "asyncio.locks.Lock": "async lock",
    "asyncio.locks.Condition": "async lock",
    "asyncio.locks.Barrier": "async lock",
    "asyncio.locks.Event": "event",
    "asyncio.queues.Queue": "queue",
    "_asyncio.Future": "asyncio",
    "asyncio.futures.Future": "asyncio",
    "concurrent.futures._base.Future": "future",
    "asyncio.events.AbstractEventLoop": "loop",
    "asyncio.events.AbstractServer": "loop",
    "asyncio.transports.BaseTransport": "loop",
    "asyncio.streams.StreamReader": "loop",
    "asyncio.streams.StreamWriter": "loop",
    "IPython.core.autocall.ExitAutocall": "exit",
    "IPython.core.interactiveshell.InteractiveShell": "notebook",
    "ipywidgets.widgets.widget.Widget": "notebook",
    "aiopool.pool.Pool": "pool",
    "aiopool.job.Job": "pool",
    "aiopool.job.Handle": "pool",
}


def kind_of(thing: object) -> str:
    """Which advice fits; empty if none in particular."""
    for cls in _mro.__get__(type(thing)):
        kind = _KINDS.get(f"{_module.__get__(cls)}.{_qualname.__get__(cls)}", "")
        if kind:
            return kind
    return "asyncio" if hasattr(type(thing), "__await__") else ""


# --- what belongs to an event loop ---------------------------------------------------------------------------------

_MOST_LOOKED_AT = 5000
_NOT_LOOKED_INTO = (type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType, str, bytes)
_OF_A_LOOP = (asyncio.AbstractEventLoop, asyncio.BaseTransport, asyncio.Future, asyncio.Handle)


def is_bound_to_loop(thing: object) -> bool:
    """Whether this is an async client: used with ``async with``, or with an event loop somewhere inside.

    Looked for among what the garbage collector would find in it, and so without running any code of its own.
    """
    if hasattr(type(thing), "__aenter__"):
        return True
    seen = {id(thing)}
    todo = deque([thing])
    while todo and len(seen) < _MOST_LOOKED_AT:
        for part in gc.get_referents(todo.popleft()):
            kind = type(part)
            if issubclass(kind, _OF_A_LOOP):
                return True
            if id(part) not in seen and not issubclass(kind, _NOT_LOOKED_INTO):
                seen.add(id(part))
                todo.append(part)
    return False
