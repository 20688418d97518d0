"""Classes that live in a cell or a script: who made them, and how another process comes to have them.

Whoever made a class owns it; a load never changes a class that this process made. So instances that come back leave
the notebook's own classes as they are, ``isinstance`` holds on both sides, and an enum's member is that very member.

- From the kernel to a worker a class travels as its **definition**: a pickle of that one class, in which other such
  classes are only named. A worker takes it once; from then on it only compares digests, so that class attributes
  which running items have set (caches, counters) stay, until the kernel's own definition differs.
- Within the pickle of a job's function its classes travel in the function's own pickle instead (one pickle: function
  and methods share their globals), and their state is set at every load: a job begins with the kernel's values.
- From a worker to the kernel a class that came from there is only named.

A class is named by the id that cloudpickle's tracker gives it. Definitions are made once a job (:func:`new_epoch`);
an older job that is still running cannot bring back what a newer one has changed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
import threading
import types
import weakref
import zlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

from cloudpickle import cloudpickle as innards

from aiopool._payload import sources
from aiopool._payload.picklers import Pickler, Reduced, travels_by_value

__all__ = ["Definitions", "FunctionPickler", "HomewardPickler", "InputPickler", "definitions", "new_epoch", "share"]

_KEPT_CLASSES = 1024
"""A class that crossed a border is kept alive, this many at most: what comes later may only name it."""


class Stamp(NamedTuple):
    """Which state of a class: the number of the epoch that read it, and a digest of what was read."""

    epoch: int
    digest: bytes


Described = tuple[str, Stamp, bytes]  # id, stamp, definition

_NOTHING = Stamp(-1, b"")

_lock = threading.RLock()
_given: weakref.WeakKeyDictionary[type, Stamp] = weakref.WeakKeyDictionary()  # Made elsewhere: its state here.
_kept: dict[type, None] = {}


# A thread of the parent may have held it when the process forked.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001  # as logging does


def _named(name: str) -> type | None:
    found: type | None = innards._DYNAMIC_CLASS_TRACKER_BY_ID.get(name)  # noqa: SLF001
    return found


def _name(cls: type) -> str:
    found: str = innards._get_or_create_tracker_id(cls)  # noqa: SLF001
    return found


def share(cls: type, name: str) -> None:
    """Other processes make this class from the same lines: under this name it is one class for all of them.

    One that has come from elsewhere has a name already. Classes within it are shared with it.
    """
    if cls in innards._DYNAMIC_CLASS_TRACKER_BY_CLASS or not travels_by_value(cls):  # noqa: SLF001
        return
    innards._lookup_class_or_track(name, cls)  # noqa: SLF001
    for inner in list(vars(cls).values()):
        if issubclass(type(inner), type) and inner.__qualname__ == f"{cls.__qualname__}.{inner.__name__}":
            share(inner, f"{name}.{inner.__name__}")


def _keep(cls: type) -> None:
    with _lock:
        _kept.pop(cls, None)
        _kept[cls] = None
        if len(_kept) > _KEPT_CLASSES:
            del _kept[next(iter(_kept))]


def _reduce(cls: type) -> tuple[Callable[..., type], tuple[Any, ...], Any]:
    """As cloudpickle takes a class apart, without what pickling an instance leaves on its class (a cache of names)."""
    make, arguments, (attributes, slots) = innards._dynamic_class_reduce(cls)[:3]  # noqa: SLF001
    attributes.pop("__slotnames__", None)
    return make, arguments, (attributes, slots)


# --- definitions: the side that has a class ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    stamp: Stamp
    data: bytes
    needs: tuple[type, ...]


class _DefinitionPickler(Pickler):
    """Pickles one class; others that travel by value it only names."""

    def __init__(self, file: io.BytesIO, subject: type) -> None:
        super().__init__(file)
        self.needs: dict[type, None] = {}
        self._subject = subject

    def persistent_id(self, obj: Any) -> str | None:
        if not issubclass(type(obj), type) or not travels_by_value(obj):
            return None
        if obj is not self._subject:
            self.needs[obj] = None
        return _name(obj)


def _define(cls: type, epoch: int) -> _Definition:
    make, arguments, state = _reduce(cls)
    stream = io.BytesIO()
    pickler = _DefinitionPickler(stream, cls)
    pickler.dump((make, arguments))
    pickler.dump(state)
    pickler.dump(sources.collect(pickler.files))
    data = zlib.compress(stream.getvalue(), 1)  # Each argument carries it, and a worker opens it once.
    _keep(cls)
    stamp = Stamp(epoch, hashlib.blake2b(data, digest_size=16).digest())
    return _Definition(_name(cls), stamp, data, tuple(pickler.needs))


class Definitions:
    """The definitions of the classes that were asked for, as they were when they were first asked for."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._made: weakref.WeakKeyDictionary[type, _Definition] = weakref.WeakKeyDictionary()
        self._reached: weakref.WeakKeyDictionary[type, tuple[Described, ...]] = weakref.WeakKeyDictionary()

    def of(self, cls: type) -> _Definition:
        made = self._made.get(cls)
        if made is None:
            made = self._made[cls] = _define(cls, self._epoch)
        return made

    def reached_from(self, cls: type) -> tuple[Described, ...]:
        """All that is needed to make ``cls``, itself first. One that the other side made is not told to it again."""
        reached = self._reached.get(cls)
        if reached is None:
            met = {cls: None}
            todo = [cls]
            while todo:
                for needed in self.of(todo.pop()).needs:
                    if needed not in met and not self.is_known_there(needed):
                        met[needed] = None
                        todo.append(needed)
            made = map(self.of, met)
            reached = self._reached[cls] = tuple((each.name, each.stamp, each.data) for each in made)
        return reached

    def is_known_there(self, _cls: type) -> bool:
        return False


class _HomewardDefinitions(Definitions):
    def is_known_there(self, cls: type) -> bool:
        return cls in _given


_numbers = itertools.count(1)
_epoch: Definitions | None = None


def definitions() -> Definitions:
    """Those of the job that was started last. A change of a class after that shows with the next job."""
    return _epoch or new_epoch()


def end_epoch() -> None:
    """A job starts whose function brings no classes: they are read anew when first one is asked for."""
    global _epoch  # noqa: PLW0603
    _epoch = None


def new_epoch() -> Definitions:
    """A job starts: classes are read anew. Other threads may finish what they do with the old ones."""
    global _epoch  # noqa: PLW0603
    _epoch = Definitions(next(_numbers))
    return _epoch


# --- picklers ------------------------------------------------------------------------------------------------------


class FunctionPickler(Pickler):
    """For a job's function: all that it reaches in one pickle, its classes tagged with their digests.

    ``classes`` fills with the ids of those.
    """

    def __init__(
        self, file: Any, known: Definitions, buffers: Callable[[pickle.PickleBuffer], bool] | None = None
    ) -> None:
        super().__init__(file, buffers)
        self.classes: set[str] = set()
        self._known = known

    def reduce_class(self, cls: type) -> Reduced:
        stamp = self._known.of(cls).stamp
        self.classes.add(_name(cls))
        make, arguments, state = _reduce(cls)
        return _take, (make, arguments), (stamp, state), None, None, _set_state


class InputPickler(Pickler):
    """For arguments: a class carries its definition and those it needs, for the worker that has not seen it yet.

    The classes in ``named`` are only named: the function came with them.
    """

    def __init__(
        self,
        file: Any,
        known: Definitions,
        named: AbstractSet[str] = frozenset(),
        buffers: Callable[[pickle.PickleBuffer], bool] | None = None,
    ) -> None:
        super().__init__(file, buffers)
        self._known = known
        self._named = named

    def reduce_class(self, cls: type) -> Reduced:
        if _name(cls) in self._named:
            return _by_name, (_name(cls), cls.__qualname__)
        return _restore, (_name(cls), self._known.reached_from(cls))


class HomewardPickler(Pickler):
    """For results and errors: a class of the kernel is named, one that the worker made travels like an argument's."""

    def reduce_class(self, cls: type) -> Reduced:
        if cls in _given:
            return _by_name, (_name(cls), cls.__qualname__)
        return _restore, (_name(cls), _HomewardDefinitions(0).reached_from(cls))


# --- restoring: the side that gets a class -------------------------------------------------------------------------


def _by_name(name: str, title: str) -> type:
    found = _named(name)
    if found is None:
        raise LookupError(f"an instance of the class `{title}` came back, but that class no longer exists here")
    return found


def _take(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Called from a function's pickle: the class of that name which is here already, or a new one without content."""
    found = _named(arguments[-2])
    if found is not None:
        return found
    cls = _make(make, arguments)
    _given[cls] = _NOTHING
    _keep(cls)
    return cls


def _make(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Make a class without running the ``__init_subclass__`` of bases that came from elsewhere, too.

    What that did where the class was defined is in the class and in the globals already; and its arguments are not
    known here.
    """
    bases = types.resolve_bases(arguments[2] if make is innards._make_skeleton_class else arguments[0])  # noqa: SLF001
    ancestors = dict.fromkeys(ancestor for base in bases for ancestor in base.__mro__ if ancestor in _given)
    hooks = {each: vars(each)["__init_subclass__"] for each in ancestors if "__init_subclass__" in vars(each)}
    with _lock:
        try:
            for each in hooks:
                type.__delattr__(each, "__init_subclass__")
            return make(*arguments)
        finally:
            for each, hook in hooks.items():
                type.__setattr__(each, "__init_subclass__", hook)


def _set_state(cls: type, told: tuple[Stamp, Any]) -> None:
    stamp, state = told
    if cls in _given and _given[cls].epoch <= stamp.epoch:
        innards._class_setstate(cls, state)  # noqa: SLF001
        _given[cls] = stamp


def _is_current(name: str, stamp: Stamp) -> bool:
    """Whether the class is here, and is ours, or is in that very state or a newer one."""
    cls = _named(name)
    if cls is None:
        return False
    here = _given.get(cls, stamp)
    return here.digest == stamp.digest or here.epoch > stamp.epoch


def _restore(name: str, reached: tuple[Described, ...]) -> type:
    """Called from the pickle of an argument or a result, before any instance is made."""
    if not all(_is_current(each, stamp) for each, stamp, _ in reached):
        with _lock:  # Two threads may meet the same new class at once.
            restoring = _Restoring(reached)
            for each, _, _ in reached:
                restoring.resolve(each)
    return _by_name(name, name)


class _Restoring:
    """One definition asks for others while it loads: for a base before, for what its methods use along the way."""

    def __init__(self, reached: tuple[Described, ...]) -> None:
        self._told = {name: (stamp, data) for name, stamp, data in reached}
        self._begun: set[str] = set()

    def resolve(self, name: str) -> type:
        told = self._told.get(name)
        if told is not None and name not in self._begun and not _is_current(name, told[0]):
            self._load(name, *told)
        return _by_name(name, name)

    def _load(self, name: str, stamp: Stamp, data: bytes) -> None:
        unpickler = _DefinitionUnpickler(data, self)
        make, arguments = unpickler.load()
        if name in self._begun:  # Its base has a method that uses it, and so had it made meanwhile.
            return
        cls = _take(make, arguments)
        self._begun.add(name)
        innards._class_setstate(cls, unpickler.load())  # noqa: SLF001
        # Only now, so that no other thread takes it for complete, and one that failed is tried again.
        _given[cls] = stamp
        sources.install(unpickler.load())


class _DefinitionUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, restoring: _Restoring) -> None:
        super().__init__(io.BytesIO(zlib.decompress(data)))
        self._restoring = restoring

    def persistent_load(self, pid: Any) -> type:
        return self._restoring.resolve(pid)
