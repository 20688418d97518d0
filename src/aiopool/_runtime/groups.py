"""The failures of one job in groups: those that have the type and the user's last line in common.

A million of them may come, each on the thread for which everybody waits. So one that is like another is only counted;
what is told of a group is read when somebody looks, out of what the worker has told, and no code of the user's runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from aiopool._payload import errors_as_data, shown
from aiopool._payload.errors_as_data import Kin
from aiopool._payload.kinds import type_name
from aiopool._runtime.telling import message
from aiopool.stacks import cell_name
from aiopool.telemetry import FailureGroup

__all__ = ["Groups"]

MOST_GROUPS = 20
FIRST_ITEMS = 3
OTHERS = Kin("others")
UNREADABLE = Kin("an error that cannot be read")
OURS = "aiopool.errors."

LabelOf = Callable[[int], str | None]

_traceback = BaseException.__dict__["__traceback__"]  # A class of the user's may have put something else there.


@dataclass(slots=True, eq=False)
class _Group:
    """``error`` is the first one's, until its texts are made."""

    kin: Kin
    error: bytes | BaseException | None
    count: int = 0
    items: list[int] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    message: str = ""
    traceback: str = ""

    @property
    def name(self) -> str:
        return self.kin.type_name.removeprefix(OURS)  # A user knows it as aiopool.WorkerLost.

    def add(self, index: int) -> None:
        self.count += 1
        if len(self.items) < FIRST_ITEMS:
            self.items.append(index)

    def picture(self, label_of: LabelOf) -> FailureGroup:
        if self.error is not None:
            self._read(self.error)
            self.error = None
        for index in self.items:
            if index not in self.labels and (label := label_of(index)) is not None:
                self.labels[index] = label
        return FailureGroup(
            type_name=self.name,
            where=shown.place(self.kin, cell_name),
            message=self.message,
            count=self.count,
            items=tuple(self.items),
            labels=tuple([self.labels.get(index, "") for index in self.items]),
            traceback=self.traceback,
        )

    def _read(self, error: bytes | BaseException) -> None:
        if isinstance(error, bytes):
            self.message = shown.message_in(error)
            self.traceback = shown.traceback_text(error, cell_name)
            return
        text = message(error)
        self.message = errors_as_data.one_line(text)
        said = f"{self.name}: {text}" if text else self.name
        self.traceback = shown.traceback_of(_traceback.__get__(error), said, cell_name)


class Groups:
    """The groups of one job. They are filled by the pool's thread and, of values that cannot be loaded, by readers.

    Beyond twenty groups failures are counted together, as ``others``.
    """

    __slots__ = ("_groups", "_lock", "_others")

    def __init__(self) -> None:
        self._groups: dict[bytes | Kin, _Group] = {}
        self._others: _Group | None = None
        # Entered again by its own thread where the garbage collector runs a finaliser of the user's in it.
        self._lock = threading.RLock()

    def add(self, index: int, error: bytes | BaseException, kin: bytes = b"") -> None:
        """An item has failed for good; ``kin`` is its error's, where that was parted from it."""
        key: bytes | Kin = kin or (errors_as_data.kin_in(error) if isinstance(error, bytes) else b"")
        if not key:
            held = errors_as_data.held_in(error) if isinstance(error, bytes) else error
            key = shown.kin_of_error(type_name(held), _traceback.__get__(held)) if held is not None else UNREADABLE
            error = error if held is None else held
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                group = self._new(key, error)
            group.add(index)

    def _new(self, key: bytes | Kin, error: bytes | BaseException) -> _Group:
        if len(self._groups) < MOST_GROUPS:
            kin = errors_as_data.kin_of(key) if isinstance(key, bytes) else key
            group = self._groups[key] = _Group(kin, error)
            return group
        if self._others is None:
            self._others = _Group(OTHERS, None)
        return self._others

    def disown(self) -> None:
        """This is a forked child: another thread may have been in here."""
        self._lock = threading.RLock()

    def picture(self, label_of: LabelOf) -> tuple[FailureGroup, ...]:
        """The groups as they are now, the most frequent first, and the others last.

        ``label_of`` gives the label of an item, None where it is not known yet.
        """
        if not self._groups:
            return ()
        with self._lock:
            groups = sorted(self._groups.values(), key=lambda group: -group.count)
            if self._others is not None:
                groups.append(self._others)
            return tuple([group.picture(label_of) for group in groups])

    def missing(self) -> list[int]:
        """The items whose labels are not known yet."""
        with self._lock:
            groups = [*self._groups.values(), *([self._others] if self._others is not None else [])]
            return [index for group in groups for index in group.items if index not in group.labels]
