"""What a function calls while it runs as an item: which item this is, on which worker, how far it is.

All of it works in the notebook, too, so that ``await fetch(urls[0])`` can be tried before the map.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol

from aiopool.frozen import frozen

__all__ = ["CurrentItem", "CurrentWorker", "Retry", "current_item", "current_worker", "report"]


class Retry(Exception):
    """Raise this in an item to have it run again, whatever ``retry_on`` says, as long as there are ``retries`` left.

    ``after`` is how many seconds to wait before that; without it, as long as ``backoff`` says::

        if response.status == 429:
            raise aiopool.Retry(after=float(response.headers["Retry-After"]))

    Of the last attempt it is the item's error.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        __tracebackhide__ = True
        if after is not None and not 0 <= after < math.inf:
            raise ValueError(f"Retry(after={after!r}): after must be a number of seconds, 0 or more")
        super().__init__(*([reason] if reason else []))
        self.after = after

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, {"after": self.after}

    def __str__(self) -> str:
        wait = "" if self.after is None else f"the item asked to be run again after {self.after:g} s"
        return ": ".join(part for part in (wait, *map(str, self.args)) if part) or "the item asked to be run again"


@frozen
class CurrentItem:
    """The item that runs here: its ``index`` in the input, the ``attempt`` from 1 on, and its ``seed``.

    ``seed`` derives from the map's option ``seed`` and the index alone; None where the map has none.
    """

    index: int
    attempt: int
    seed: int | None


@frozen
class CurrentWorker:
    """The worker in which this runs: ``index`` is its stable place in the pool, from 0 on."""

    index: int
    pid: int


class Running(Protocol):
    """An item that runs, as the worker holds it."""

    @property
    def job(self) -> object:
        """What it is one of: an object that goes when nothing of it can run here any more."""

    @property
    def outermost(self) -> Running | None:
        """The item of the worker in which it runs: itself, but for one of a map inside; None when that has gone."""

    def told(self) -> CurrentItem:
        """Tell which one it is."""

    def report(self, fraction: float | None, text: str) -> None:
        """Take what it says of itself."""

    def hold(self) -> None:
        """Stop its clock, and hold its timeout and its job's cancel until as many calls of :meth:`release`.

        Any thread. Call it first, and ``release`` in a ``finally``: from its return on nothing is raised in the item.
        """

    def release(self) -> None:
        """Let its clock go on. What was held strikes now, if nobody else holds it."""


running: ContextVar[Running | None] = ContextVar("aiopool item", default=None)
"""The item of this context, and of every task and thread that took over a copy of it."""

belongings: dict[int, tuple[Running, set[Callable[[], object]]]] = {}
"""What items have started that is to end with them; empty nearly always."""


def belongs(item: Running, end: Callable[[], object]) -> Callable[[], None]:
    """Have ``end`` called when this item ends, unless what is returned is called before. Any thread."""
    _, mine = belongings.setdefault(id(item), (item, set()))
    mine.add(end)

    def let_go() -> None:
        mine.discard(end)
        if not mine:
            belongings.pop(id(item), None)

    return let_go


def end_belongings(item: Running) -> None:
    """The item has ended: what it has started and not waited for ends, too. For whoever runs items."""
    if belongings and (left := belongings.pop(id(item), None)) is not None:
        for end in list(left[1]):
            end()


class MainThread(Protocol):
    """What runs things in the main thread of a worker."""

    def call_soon_threadsafe(self, function: Callable[..., object], *args: Any) -> object:
        """Call this there. Any thread."""


class Home:
    """What of the worker concerns what items share in it: a Context that is no item's, and ``start_timeout``."""

    def __init__(self, main_thread: MainThread, context: Context, start_timeout: float) -> None:
        self.main_thread = main_thread
        self.context = context
        self.start_timeout = start_timeout


_place: int | None = None
home: Home | None = None
"""In a worker."""


def become_worker(index: int, main_thread: MainThread, start_timeout: float) -> None:
    """This process is a worker from now on, at this place of its pool."""
    global _place, home
    _place, home = index, Home(main_thread, copy_context(), start_timeout)


def is_worker() -> bool:
    """Whether this process is a worker of a pool."""
    return _place is not None


def current_item() -> CurrentItem:
    """The item that runs here: its index, attempt and seed.

    ::

        def simulate(n):
            rng = np.random.default_rng(current_item().seed)   # the same on any machine, in any order, on a retry

    Outside a pool, where a function is tried by hand, it is item 0, attempt 1, without a seed.
    """
    item = running.get()
    if item is not None:
        return item.told()
    if _place is not None:
        raise RuntimeError("current_item() was called in a worker where no item runs: pass what is needed from an item")
    return CurrentItem(0, 1, None)


def current_worker() -> CurrentWorker:
    """The worker in which this runs; outside a pool, place 0 in this process."""
    return CurrentWorker(_place or 0, os.getpid())


def report(fraction: float | None = None, text: str = "") -> None:
    """Say how far this item is: ``report(0.4, "epoch 4")``. It shows beside its worker, ten times a second at most.

    ``fraction`` is from 0 to 1, or None for a text alone. Outside a pool nothing happens but the check.
    """
    __tracebackhide__ = True
    if isinstance(fraction, str):
        raise TypeError(f"report({fraction!r}): the fraction comes first; for a text alone write report(text=...)")
    if fraction is not None:
        fraction = float(fraction)
        if not 0 <= fraction <= 1:
            raise ValueError(f"report({fraction!r}): the fraction that is done is from 0 to 1")
    item = running.get()
    if item is not None:
        item.report(fraction, str(text))


def seed_of(seed: int, index: int) -> int:
    """The seed of an item: 128 bits of BLAKE2b of both numbers, so that neighbours have nothing in common."""
    import hashlib  # OpenSSL with it: only who asks for a seed pays

    return int.from_bytes(hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=16).digest(), "little")
