"""What ``%%aiopool --all`` cells have defined in this worker, and the way to it for the items of later cells.

Such a cell travels as one of the two callables below, through ``pool.broadcast(fn, keep=True)``. In a worker its body
runs in :data:`names`, as a cell does in the namespace of its notebook: what it assigns stays there, its functions and
classes see each other and what later ones define, and a name that is assigned anew is the new thing for all of them.

A cell that fails leaves nothing behind: where it fails it is taken back at once, and where it went well, but failed in
another worker, before anything looks at the names again. What comes next brings the numbers of such cells along. Cells
that await may run at the same time: of each only its own names are taken back.
"""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from aiopool._payload.classes import share
from aiopool._payload.parts import Step, parts
from aiopool.resources import AsyncResource, SyncResource

__all__ = ["AsyncBody", "Body", "LookUp", "names"]

names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
"""The namespace of all ``--all`` cells in this process."""


class _Change:
    """What a cell does to the names: those that are its ``own``, and what they were before."""

    def __init__(self, number: int, own: Collection[str]) -> None:
        self.number = number
        self.own = set(own)
        self.before = {name: names[name] for name in own if name in names}

    def undo(self) -> None:
        """Have the names as they were."""
        for name in self.own:
            if name in self.before:
                names[name] = self.before[name]
            else:
                names.pop(name, None)


_lent: dict[str, Any] = {}
"""Values of the notebook that cells have brought along to read them: no cell has assigned a name that still has its."""

_running: list[_Change] = []
_last: list[_Change] = []
"""What ran last; until it is known whether it went well elsewhere."""


def settle(failed: Collection[int] = (), pending: Collection[int] = ()) -> None:
    """Take back what the last cell did, if it has failed in another worker; and else let go of what was before.

    That of ``pending`` ones, which may fail yet, is kept.
    """
    for change in reversed(_last):
        if change.number in failed:
            change.undo()
    _last[:] = [change for change in _last if change.number in pending and change.number not in failed]


def _claim(own: Collection[str]) -> None:
    """Another cell has these names now: whoever else is taken back leaves them."""
    for change in (*_running, *_last):
        change.own.difference_update(own)


def _is_defined(name: str) -> bool:
    return name in names and not (name in _lent and _lent[name] is names[name])


class LookUp:
    """The way to the names for a function that is sent when the cells with these numbers have failed, or still run."""

    def __init__(self, failed: Collection[int] = (), pending: Collection[int] = ()) -> None:
        self.failed = frozenset(failed)
        self.pending = frozenset(pending)

    def __call__(self, name: str, where: str = "") -> Any:
        """What the ``--all`` cells have given this name here; ``where`` is the cell that is known to.

        Raises NameError in a worker in which it was not assigned, or has been deleted.
        """
        __tracebackhide__ = True
        settle(self.failed, self.pending)
        try:
            return names[name]
        except KeyError:
            cell = f"the --all cell that assigns it ({where})" if where else "the --all cell that assigns it"
            raise NameError(
                f"name {name!r} is not defined in this worker: {cell} has not assigned it here. Run that cell again",
                name=name,
            ) from None

    def found(self, name: str) -> Iterator[Any]:
        """The same of a name that they need not have given here: its value, or nothing."""
        settle(self.failed, self.pending)
        if _is_defined(name):
            yield names[name]


class Body:
    """The body of an ``--all`` cell, as a function without arguments that runs in :data:`names`.

    ``function`` has the body's code; of its globals, those in ``brings`` are taken into :data:`names` first, but of
    ``spare`` ones only what is not there; it gives names to what is in ``assigns``. ``number`` is that of the cell,
    ``failed`` has those of cells before that have failed, ``pending`` those of cells that still ran.

    A class that it defines is made once in each worker. All of them are one class for whoever gets instances, which
    may travel to the notebook and on to any other worker.
    """

    number = 0
    failed: Collection[int] = ()
    pending: Collection[int] = ()

    def __init__(
        self,
        function: types.FunctionType,
        brings: Sequence[str],
        assigns: Collection[str],
        spare: Collection[str] = (),
    ) -> None:
        self.id = uuid.uuid4().hex
        self.function = function
        self.brings = tuple(brings)
        self.spare = frozenset(spare)
        self.own = tuple(sorted({*brings, *assigns}))
        self.__name__ = self.__qualname__ = function.__name__  # What people call it.

    def _here(self) -> Callable[[], Any]:
        function = self.function
        known = function.__globals__
        for name in self.brings:
            if name in known and not (name in self.spare and _is_defined(name)):
                names[name] = _lent[name] = known[name]
        return types.FunctionType(function.__code__, names, function.__name__)

    def _begin(self) -> _Change:
        settle(self.failed, self.pending)
        _claim(self.own)
        change = _Change(self.number, self.own)
        _running.append(change)
        return change

    def _end(self, change: _Change) -> None:
        _running.remove(change)
        _claim(self.own)
        _last.append(change)
        for name in [name for name, value in _lent.items() if names.get(name) is not value]:
            del _lent[name]
        for name, value in names.items():
            # Asked of the type: some things that stand for others raise when they are asked for their class.
            if issubclass(type(value), AsyncResource | SyncResource):
                value.look_again()
            elif issubclass(type(value), type) and name in self.own and change.before.get(name) is not value:
                share(value, f"{self.id} {name}")

    @staticmethod
    def _fail(change: _Change) -> None:
        _running.remove(change)
        change.undo()

    def __call__(self) -> Any:
        """Run it. The value is that of its last expression. If it fails, it leaves nothing behind."""
        __tracebackhide__ = True
        change = self._begin()
        try:
            value = self._here()()
        except BaseException:
            self._fail(change)
            raise
        self._end(change)
        return value


class AsyncBody(Body):
    """The same for a body that awaits."""

    async def __call__(self) -> Any:
        """Run it. The value is that of its last expression. If it fails, it leaves nothing behind."""
        __tracebackhide__ = True
        change = self._begin()
        try:
            value = await self._here()()
        except BaseException:
            self._fail(change)
            raise
        self._end(change)
        return value


@parts.register
def _(thing: Body) -> Iterator[Step]:
    """A thing that cannot travel is found inside the function."""
    yield "", thing.function
