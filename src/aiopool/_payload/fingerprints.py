"""What a function would do, as a digest: its code, and what that reads. Two loads of the same function have the same.

Pickles will not do for that: cloudpickle's bytes tell which strings were one object and in what order a set gave its
members, and name a class by a random number. So the same things are walked through here, one by one, and what they say
of themselves is hashed.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import inspect
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cloudpickle import cloudpickle as innards

from aiopool._payload.parts import parts
from aiopool._payload.picklers import find_globals_of_class_bodies, travels_by_value

__all__ = ["Fingerprint", "fingerprint"]

_MISSING = object()
_DEEPEST = 100
_PLAIN = (type(None), bool, int, float, complex, str, type(...), type(NotImplemented))
_CODE = (  # Neither its lines nor the number of its cell.
    *("co_name", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_code", "co_names"),
    *("co_varnames", "co_freevars", "co_cellvars", "co_exceptiontable"),
)
_OF_NO_MATTER = {"__firstlineno__", "__static_attributes__", "__slotnames__", "__dict__", "__weakref__"}
_TAKEN_APART = (types.MethodType, staticmethod, classmethod, property)

Read = tuple[dict[str, Any], str, Any]  # some globals, a name, and what it stood for


class Fingerprint(NamedTuple):
    """``digest`` tells one from another; ``reads`` are the globals that it depends on."""

    digest: bytes
    reads: tuple[Read, ...]

    def is_current(self) -> bool:
        """Whether none of the globals has been assigned anew. What was changed in place is not seen."""
        return all(namespace.get(name, _MISSING) is value for namespace, name, value in self.reads)


def fingerprint(function: types.FunctionType) -> Fingerprint:
    """Of a function as it is now: code, defaults, closure and the globals it reads, and so on through its helpers.

    What the other side could import counts by its name, what cannot be pickled by its type. A global that the function
    assigns itself does not count.
    """
    walk = _Walk()
    walk.function(function)
    return Fingerprint(walk.hash.digest(), tuple(walk.reads))


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=16)


class _Walk:
    """Goes through all there is to see. Each thing has a digest of its own, made of those of its parts.

    So it does not matter whether two equal parts are one object; of tuples, nobody could say when they are.
    """

    def __init__(self) -> None:
        self.hash = _new_hash()
        self.reads: list[Read] = []
        self._inside: set[int] = set()
        self._done: dict[int, tuple[bytes, object]] = {}  # With the thing itself, so that its id stays its own.

    def word(self, *texts: str) -> None:
        for text in texts:
            self._bytes(text.encode("utf-8", "surrogatepass"))

    def _bytes(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        self.hash.update(len(view).to_bytes(8, "little"))
        self.hash.update(view)

    def thing(self, thing: Any) -> None:
        kind = type(thing)
        if kind in _PLAIN:
            self.word(kind.__qualname__, repr(thing))
        elif kind in (bytes, bytearray):
            self.word(kind.__qualname__)
            self._bytes(thing)
        else:
            self._bytes(self._digest(thing))

    def _digest(self, thing: Any) -> bytes:
        number = id(thing)
        if number in self._done:
            return self._done[number][0]
        if number in self._inside or len(self._inside) == _DEEPEST:
            return b"and so on"
        self._inside.add(number)
        outer, self.hash = self.hash, _new_hash()
        try:
            self.word(type(thing).__qualname__)
            self._look_into(thing)
            digest: bytes = self.hash.digest()
        finally:
            self.hash = outer
            self._inside.discard(number)
        self._done[number] = digest, thing
        return digest

    def _look_into(self, thing: Any) -> None:
        kind = type(thing)
        if (look := _LOOKS.get(kind)) is not None:
            look(self, thing)
        elif issubclass(kind, type):
            self._class(thing)
        else:
            self._reduced(thing)

    # --- code ------------------------------------------------------------------------------------------------------

    def _function_or_name(self, function: types.FunctionType) -> None:
        if innards._should_pickle_by_reference(function):  # noqa: SLF001 - as cloudpickle decides it
            self.word(function.__module__, function.__qualname__)
        else:
            self.function(function)

    def function(self, function: types.FunctionType) -> None:
        code = function.__code__
        self._code(code)
        self.thing(function.__defaults__)
        self.thing(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.thing(cell.cell_contents)
            except ValueError:
                self.word("not assigned yet")
        assigned = set(_assigned(code))
        find_globals_of_class_bodies(code)
        for name in innards._extract_code_globals(code):  # noqa: SLF001 - the very names that it sends
            if name not in assigned:
                value = function.__globals__.get(name, _MISSING)
                self.reads.append((function.__globals__, name, value))
                if value is not _MISSING:
                    self.word(name)
                    self.thing(value)

    def _code(self, code: types.CodeType) -> None:
        for name in _CODE:
            self.thing(getattr(code, name))
        is_class_body = not code.co_flags & inspect.CO_OPTIMIZED
        for constant in code.co_consts:
            # From 3.13 on the body of a class assigns the number of its line.
            if not (is_class_body and constant == code.co_firstlineno):
                self.thing(constant)

    def _class(self, cls: Any) -> None:
        if not travels_by_value(cls):
            self.word(cls.__module__, cls.__qualname__)
            return
        self.word(cls.__qualname__)
        self.thing(cls.__bases__)
        for name, value in vars(cls).items():
            if name not in _OF_NO_MATTER:
                self.word(name)
                self.thing(value)

    # --- values ----------------------------------------------------------------------------------------------------

    def _members(self, members: Any) -> None:
        for member in members:
            self.thing(member)
        self.word("end")

    def _items(self, mapping: Any) -> None:
        for key, value in mapping.items():
            self.thing(key)
            self.thing(value)
        self.word("end")

    def _set(self, members: Any) -> None:
        """In the order of their digests: a set's own depends on how it came about."""
        for digest in sorted(self._digest((member,)) for member in members):
            self._bytes(digest)

    def _buffer(self, buffer: pickle.PickleBuffer) -> None:
        self._bytes(buffer.raw())

    def _parts(self, thing: Any) -> None:
        for phrase, part in parts(thing):
            self.word(phrase)
            self.thing(part)

    def _reduced(self, thing: Any) -> None:
        """As pickle would take it apart; what refuses counts by its type, which was told."""
        reduce = copyreg.dispatch_table.get(type(thing))
        try:
            reduced: Any = reduce(thing) if reduce is not None else thing.__reduce_ex__(5)
        except Exception:  # noqa: BLE001 - a user's own code, and most of what is bound to a process refuses with an error
            return
        if isinstance(reduced, str):  # It says that it can be imported; so does an lru_cache, of a cell too.
            self.word(reduced)
            reduced = (getattr(thing, "__wrapped__", None),)
        for part in reduced:
            self._members(part) if isinstance(part, Iterator) else self.thing(part)


_LOOKS: dict[type, Callable[[_Walk, Any], None]] = {
    types.FunctionType: _Walk._function_or_name,  # noqa: SLF001
    types.CodeType: _Walk._code,  # noqa: SLF001
    types.ModuleType: lambda walk, module: walk.word(module.__name__),
    pickle.PickleBuffer: _Walk._buffer,  # noqa: SLF001
    dict: _Walk._items,  # noqa: SLF001
    **dict.fromkeys((list, tuple), _Walk._members),  # noqa: SLF001
    **dict.fromkeys((set, frozenset), _Walk._set),  # noqa: SLF001
    **dict.fromkeys(_TAKEN_APART, _Walk._parts),  # noqa: SLF001
}


def _assigned(code: types.CodeType) -> Iterator[str]:
    """The globals that the code assigns."""
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _assigned(constant)
