"""What asks somebody at a keyboard raises in a worker, where nobody is: it must neither hang nor end as an EOFError."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from aiopool import inside
from aiopool._worker.amends import amend

__all__ = ["begin"]

_ANSWER = (
    "ask in the notebook, before the map, and pass the answer on: pmap(functools.partial(fn, answer=answer), data)"
)
_SECRET = f"{_ANSWER}, or put it into os.environ there, which workers take over"
_DEBUG = (
    "call the function with this input in the notebook, where a breakpoint stops; after a failure: "
    "fn(job.failures[0].input), then %debug"
)


def begin() -> None:
    """From now on."""
    builtins.input = _refused("input", _ANSWER)
    if not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = _refused("breakpoint", _DEBUG)
    amend("pdb", _no_debugger)
    amend("getpass", _no_password)


def _no_debugger(module: Any) -> None:
    module.set_trace = _refused("pdb.set_trace", _DEBUG)


def _no_password(module: Any) -> None:
    # The same under all of its names: a function of a cell may come with any of them.
    module.getpass = module.unix_getpass = module.fallback_getpass = _refused("getpass.getpass", _SECRET)


def _refused(name: str, what_now: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        __tracebackhide__ = True
        item = inside.running.get()
        where = f"item {item.told().index}, which runs in" if item is not None else "what runs in"
        raise RuntimeError(f"{name}() was called by {where} a worker, where nobody can answer: {what_now}")

    return refuse
