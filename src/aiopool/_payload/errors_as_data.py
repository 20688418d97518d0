"""An item's exception as data: all that the worker can tell of it, so that the kernel can raise it as it was.

The data is a flat list of records (:class:`Told`), one for each exception of the chain and of its groups, linked by
number. A record holds text, frames and, where the exception survives a round trip in the worker, a pickle of it; so the
kernel can always show what happened, even if it cannot rebuild the type.

Behind the pickle, where it takes no notice of it, stands the error's kin (:class:`Kin`): failures are many, and are
grouped by it as they come, without a look at the rest.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pickle
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from aiopool._payload import rebuilding
from aiopool._payload.kinds import type_name
from aiopool._payload.tracebacks import Frame, build, is_library, last_own, read, user_part
from aiopool.errors import ItemExited, RemoteError

__all__ = [
    "EXITS",
    "Kin",
    "dump_error",
    "held_in",
    "kin_in",
    "kin_of",
    "load_error",
    "one_line",
    "parted",
    "records_in",
    "said",
    "told",
]

EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration, StopAsyncIteration)
"""Raised as they are, these end or confuse the event loop of whoever waits."""

_LONGEST_CHAIN = 20
_MOST_RECORDS = 256
_LONGEST_TEXT = 64 * 1024
_LONGEST_LINE = 200
_LONGEST_NAME = 1000
_KIN = b"\0kin"

# The plain descriptors: a class may override these names, forbid to set them (a frozen dataclass), or raise in them.
_cause = BaseException.__dict__["__cause__"]
_context = BaseException.__dict__["__context__"]
_suppress = BaseException.__dict__["__suppress_context__"]
_traceback = BaseException.__dict__["__traceback__"]


class Told(NamedTuple):
    """One exception. ``cause``, ``context`` and ``members`` are numbers of records; ``exited`` ones are wrapped."""

    type_name: str
    text: str
    exited: bool
    way: str = ""
    pickled: bytes = b""
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    cause: int | None = None
    context: int | None = None
    suppress: bool = False
    members: tuple[int, ...] = ()


class Kin(NamedTuple):
    """What failures have in common that are told together: the type, and the user's last line in the traceback.

    The line is the last of all where none is the user's, and 0 where there is none.
    """

    type_name: str
    file: str = ""
    line: int = 0
    function: str = ""


# --- in the worker -------------------------------------------------------------------------------------------------


def dump_error(error: BaseException) -> bytes:
    """Tell an exception. Never raises, whatever the exception does when it is looked at."""
    try:
        family = _Family(error)
        records = [family.tell(number) for number in range(len(family.everyone))]
        return pickle.dumps((records, family.formatted()), protocol=5) + _kin(error)
    except BaseException:  # noqa: BLE001 - hostile beyond what is foreseen; its name is still worth telling
        name = type.__dict__["__qualname__"].__get__(type(error))
        bare = Told(name, "(it cannot be shown)", exited=issubclass(type(error), EXITS))
        return pickle.dumps(([bare], f"{name}: (it cannot be shown)\n"), protocol=5)


def _kin(error: BaseException) -> bytes:
    spot = last_own(_traceback.__get__(error))
    parts = [type_name(error)[:_LONGEST_NAME]]
    if spot is not None:
        parts += [spot[0][:_LONGEST_NAME], str(spot[1]), spot[2][:_LONGEST_NAME]]
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return text + len(text).to_bytes(4, "little") + _KIN


class _Family:
    """An exception, its causes, contexts and members, numbered in the order in which they are met."""

    def __init__(self, root: BaseException) -> None:
        self.everyone = [root]
        self._numbers = {id(root): 0}
        self._wrapped = {0}
        self._cut: list[BaseException] = []
        todo = collections.deque([(root, 0)])
        while todo:
            error, depth = todo.popleft()
            for member in rebuilding.members_of(error):
                if self._meet(member):
                    todo.append((member, depth))
                self._wrapped.add(self._numbers.get(id(member), 0))
            links = [link for link in (_cause.__get__(error), _context.__get__(error)) if link is not None]
            if depth < _LONGEST_CHAIN:
                todo.extend((link, depth + 1) for link in links if self._meet(link))
            if any(self._number(link) is None for link in links):
                self._cut.append(error)

    def _meet(self, error: BaseException) -> bool:
        """Give it a number; False if it has one, or if there are too many."""
        if id(error) in self._numbers or len(self.everyone) >= _MOST_RECORDS:
            return False
        self._numbers[id(error)] = len(self.everyone)
        self.everyone.append(error)
        return True

    def _number(self, error: BaseException | None) -> int | None:
        return None if error is None else self._numbers.get(id(error))

    def tell(self, number: int) -> Told:
        error = self.everyone[number]
        text = _text(error)
        notes = _notes(error)
        all_members = rebuilding.members_of(error)
        numbers = (self._number(member) for member in all_members)
        members = tuple(each for each in numbers if each is not None)
        if len(members) < len(all_members):
            notes += (f"({len(all_members) - len(members):,} more exceptions of this group stayed in the worker)",)
        exited = issubclass(type(error), EXITS) and number in self._wrapped
        way, pickled = ("", b"") if exited else rebuilding.take_apart(error, text)
        return Told(
            type_name(error),
            _shortened(text),
            exited,
            way,
            pickled,
            notes,
            read(_traceback.__get__(error)),
            self._number(_cause.__get__(error)),
            self._number(_context.__get__(error)),
            bool(_suppress.__get__(error)),
            members,
        )

    def formatted(self) -> str:
        """What a plain traceback says, without the library's frames."""
        root = self.everyone[0]
        try:
            with self._chain_cut():
                told = traceback.TracebackException(type(root), root, user_part(_traceback.__get__(root)))
            for part in _parts(told):
                part.stack[:] = [frame for frame in part.stack if not is_library(frame.filename)]
            return _shortened("".join(told.format()))
        except BaseException:  # noqa: BLE001 - a type or an attribute that raises when it is looked at
            return f"{type_name(root)}: {_shortened(_text(root))}\n"

    @contextlib.contextmanager
    def _chain_cut(self) -> Iterator[None]:
        """:mod:`traceback` follows a chain to its end, however long: end it for a moment where we ended it."""
        getters = (_cause, _context, _suppress)
        links = [(error, *(getter.__get__(error) for getter in getters)) for error in self._cut]
        try:
            for error in self._cut:
                _cause.__set__(error, None)
                _context.__set__(error, None)
            yield
        finally:
            for error, cause, context, suppress in links:
                _cause.__set__(error, cause)
                _context.__set__(error, context)
                _suppress.__set__(error, suppress)


def _parts(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    todo, met = [told], {id(told)}
    while todo:
        part = todo.pop()
        yield part
        for link in (part.__cause__, part.__context__, *(part.exceptions or ())):
            if link is not None and id(link) not in met:
                met.add(id(link))
                todo.append(link)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - its own message fails; the traceback module says the same
        return "<exception str() failed>"
    return str.__str__(text)


def _notes(error: BaseException) -> tuple[str, ...]:
    try:
        notes: list[Any] = error.__notes__[:100]
        return tuple(_shortened(str.__str__(note)) for note in notes if isinstance(note, str))
    except BaseException:  # noqa: BLE001 - there are none, or they are no list
        return ()


def _shortened(text: str) -> str:
    """At most 64 KiB, from both ends."""
    if len(text) <= _LONGEST_TEXT:
        return text
    head, tail = _LONGEST_TEXT * 3 // 4, _LONGEST_TEXT // 4
    return f"{text[:head]}\n[{len(text) - head - tail:,} characters left out]\n{text[-tail:]}"


# --- in the kernel -------------------------------------------------------------------------------------------------


def load_error(data: bytes | memoryview) -> BaseException:
    """The exception that :func:`dump_error` told, with its chain, notes and traceback. Never raises."""
    try:
        loaded = pickle.loads(data)  # noqa: S301 - bytes of our own worker, over an inherited pipe
        if isinstance(loaded, BaseException):
            return loaded  # It was only named, because it never left this process.
        records, formatted = cast("tuple[list[Told], str]", loaded)
        return _Rebuilt(records, formatted).root()
    except BaseException as error:  # noqa: BLE001 - a damaged record must not lose the item
        return RemoteError(f"the item failed, and its error cannot be read: {type_name(error)}: {_text(error)}")


def kin_in(data: bytes | memoryview) -> bytes:
    """The kin of an error, as bytes that are equal where it is the same; empty where it never left this process."""
    if bytes(data[-4:]) != _KIN:
        return b""
    return bytes(data[-8 - int.from_bytes(data[-8:-4], "little") : -8])


def parted(data: bytes | memoryview) -> tuple[bytes, bytes]:
    """What was dumped without its kin, and the kin: of many that are kept each would have the same one."""
    kin = kin_in(data)
    return bytes(data[: -8 - len(kin)] if kin else data), kin


def held_in(data: bytes | memoryview) -> BaseException | None:
    """The very error, if it never left this process; it may be a user's, and is not asked anything."""
    try:
        loaded = pickle.loads(data)  # noqa: S301 - bytes of our own worker, over an inherited pipe
    except Exception:  # noqa: BLE001 - damaged
        return None
    return loaded if isinstance(loaded, BaseException) else None


def kin_of(kin: bytes) -> Kin:
    """The kin that :func:`kin_in` has found."""
    name, *spot = kin.decode("utf-8", "replace").split("\0")
    if len(spot) != 3 or not spot[1].isdecimal() or len(spot[1]) > 9:
        return Kin(name)
    return Kin(name, spot[0], int(spot[1]), spot[2])


def records_in(data: bytes | memoryview) -> tuple[Sequence[Told], str]:
    """The records, and what a plain traceback says. Runs no user's code; it may raise anything if they are damaged.

    An error that never left this process has none.
    """
    loaded = pickle.loads(data)  # noqa: S301 - bytes of our own worker, over an inherited pipe
    return ((), "") if isinstance(loaded, BaseException) else cast("tuple[list[Told], str]", loaded)


def said(data: bytes | memoryview) -> str:
    """The type and the message: ``ValueError: boom``. Runs no user's code, and never raises."""
    try:
        loaded = pickle.loads(data)  # noqa: S301 - bytes of our own worker, over an inherited pipe
        if isinstance(loaded, BaseException):  # It never left this process, and neither does what its __str__ does.
            name, text = type_name(loaded), _text(loaded)
        else:
            name, text = cast("tuple[list[Told], str]", loaded)[0][0][:2]
    except BaseException as error:  # noqa: BLE001 - a damaged record; there is still something to say
        return f"an error that cannot be read: {type_name(error)}"
    return f"{name}: {text}" if text else name


def told(data: bytes | memoryview) -> str:
    """The same as one printable line of at most 200 characters."""
    return one_line(said(data)).removesuffix(":")


def one_line(text: str) -> str:
    """A text as one printable line of at most 200 characters."""
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line[: _LONGEST_LINE + 1])
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


class _Rebuilt:
    """The exceptions of a list of records, each made once."""

    def __init__(self, records: Sequence[Told], formatted: str) -> None:
        self._records = records
        self._formatted = formatted
        self._made: dict[int, BaseException] = {}

    def root(self) -> BaseException:
        for number, told in enumerate(self._records):
            error = self._make(number)
            if told.notes:
                object.__setattr__(error, "__notes__", list(told.notes))
            _traceback.__set__(error, build(told.frames))
        for number, told in enumerate(self._records):
            error = self._make(number)
            _cause.__set__(error, self._linked(told.cause))
            _context.__set__(error, self._linked(told.context))
            _suppress.__set__(error, told.suppress)
        return self._make(0)

    def _linked(self, number: int | None) -> BaseException | None:
        return None if number is None else self._make(number)

    def _make(self, number: int) -> BaseException:
        if number not in self._made:
            self._made[number] = self._rebuild(number)
        return self._made[number]

    def _rebuild(self, number: int) -> BaseException:
        told = self._records[number]
        formatted = "" if number else self._formatted
        said = f"{told.type_name}: {told.text}" if told.text else told.type_name
        if told.exited:
            return ItemExited(f"the item raised {said}", told.type_name, formatted)
        if told.way:
            try:
                members = [self._make(member) for member in told.members]
                return rebuilding.put_together(told.way, told.pickled, members)
            except BaseException:  # noqa: BLE001, S110 - it loaded in the worker, but not here; its text is known
                pass
        return RemoteError(said, told.type_name, formatted)
