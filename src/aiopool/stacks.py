"""Where the items of a job stand, as its user reads it: lines as in a traceback, and equal ones once."""

from __future__ import annotations

import contextlib
import dataclasses
import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from aiopool.telemetry import clock

__all__ = ["StackEntry", "StackFrame", "StackTask", "Stacks", "cell_name", "name_cells"]

State = Literal["waiting", "running", "blocked", "stopped", "unknown"]

_VERBS = {
    "waiting": ("waits", "wait"),
    "running": ("runs", "run"),
    "blocked": ("holds its loop", "hold their loops"),
    "stopped": ("stands still", "stand still"),
    "unknown": ("is somewhere", "are somewhere"),
}
_NAMED = 3
"""How many of several items, or workers, are named."""

_cell_names: list[Callable[[str], str | None]] = []


def name_cells(name: Callable[[str], str | None]) -> None:
    """Register who knows what the file of a cell is called, as in ``Cell In[3]``; None for what is no cell."""
    _cell_names.append(name)


def cell_name(file: str) -> str | None:
    """What the file of a cell is called; None for what is no cell."""
    return next((found for name in _cell_names if (found := name(file))), None)


@dataclass(frozen=True, slots=True)
class StackFrame:
    """One line at which something stands. ``source`` is its text, where that is known."""

    file: str
    line: int
    function: str
    source: str = ""

    def __str__(self) -> str:
        """Two lines, as in a traceback."""
        if not self.line:
            return f"... {self.source}"
        place = cell_name(self.file) or f'File "{self.file}"'
        source = self.source or linecache.getline(self.file, self.line).strip()
        return f"{place}, line {self.line}, in {self.function}" + (f"\n  {source}" if source else "")


@dataclass(frozen=True, slots=True)
class StackTask:
    """Tasks that an item has made, ``count`` of them, that stand at the same lines."""

    count: int
    state: State
    frames: tuple[StackFrame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackEntry:
    """Items that stand at the same lines, outermost first.

    ``count`` says how many items they are, ``items`` are the indices of the first of them, or, where there are more of
    these than ``count``, those among which they are. ``workers`` and ``pids`` say where; ``seconds`` is for how long
    the longest of them has run, ``least`` the shortest, None where nobody knows. ``tasks`` are those that each of the
    items has made.

    ``state``: ``waiting`` for something that is awaited; ``running``; ``blocked``, a coroutine that has held its loop
    for more than a second; ``stopped``, where the system lets the worker stand still; ``unknown``, in a worker that
    does not answer. ``note`` says why what is known is less, or from outside.

    ``job`` is the name of the items' job where not one job was asked, ``label`` how a single item is shown;
    ``is_call``: it is a submit. ``thread`` is the name of a thread that is inside of no item.
    """

    items: tuple[int, ...] = ()
    count: int = 1
    workers: tuple[int, ...] = ()
    pids: tuple[int, ...] = ()
    state: State = "running"
    seconds: float | None = None
    least: float | None = None
    frames: tuple[StackFrame, ...] = ()
    tasks: tuple[StackTask, ...] = ()
    note: str = ""
    thread: str = ""
    job: str = ""
    label: str = ""
    is_call: bool = False

    @property
    def text(self) -> str:
        """The entry as it is printed, without an end of line."""
        return self.told(of_worker=True)

    def told(self, *, of_worker: bool) -> str:
        """The same; ``of_worker`` says whether it names where that is."""
        return "\n".join((self._head(of_worker=of_worker), *_indented(self._body())))

    def _head(self, *, of_worker: bool) -> str:
        parts = [self._who()]
        if self.workers and of_worker:
            pid = f" (pid {self.pids[0]})" if len(self.workers) == 1 and self.pids else ""
            parts.append(("worker " if len(self.workers) == 1 else "workers ") + _listed(self.workers) + pid)
        if self.seconds is not None:
            longest, least = clock(self.seconds), clock(self.seconds if self.least is None else self.least)
            parts.append(f"for {longest}" if longest == least else f"for {least} to {longest}")
        if not self.thread:
            parts.append(_VERBS[self.state][self.count > 1])
        return ", ".join(parts) + (":" if self.frames or self.tasks or self.note else "")

    def _who(self) -> str:
        of = f" of {self.job}" if self.job else ""
        if self.thread:
            return self.thread if self.count == 1 else f"{self.count:,} threads as {self.thread}"
        if self.count < len(self.items):
            return f"{self.count:,} of items {_listed(self.items, len(self.items), _NAMED * 4)}{of}"
        if self.count == 1:
            who = "the call" if self.is_call else f"item {self.items[0]}" if self.items else "an item"
            return who + (f" ({self.label})" if self.label else "") + of
        named = f" ({_listed(self.items, self.count)})" if self.items else ""
        return f"{self.count:,} items{named}{of}"

    def _body(self) -> Iterator[str]:
        if self.note:
            yield f"({self.note})"
        yield from map(str, self.frames)
        for task in self.tasks:
            who = "a task" if task.count == 1 else f"{task.count:,} tasks"
            yield f"{who} of {'it' if self.count == 1 else 'each'} {_VERBS[task.state][task.count > 1]}:"
            yield from _indented(map(str, task.frames), 2)

    def __str__(self) -> str:
        return self.text


def _listed(numbers: Sequence[int], count: int | None = None, most: int = _NAMED) -> str:
    count = len(numbers) if count is None else count
    shown = list(map(str, numbers[:most] if count > most + 1 else numbers))
    if len(shown) < count:
        shown.append(f"{count - len(shown):,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _indented(texts: Iterable[str], by: int = 4) -> Iterator[str]:
    for text in texts:
        for line in text.split("\n"):
            yield " " * by + line


class Stacks(Sequence[StackEntry]):
    """Where things stand at one moment: a sequence of entries that prints as text.

    ::

        >>> job.stacks()
        fetch: 2 stacks
        1,998 items (0, 1, 2 and 1,995 more), workers 0 and 1, for 12 s to 14 s, wait:
            Cell In[3], line 4, in fetch
              async with s.get(url) as response:
        item 17 ('http://slow.example'), worker 1 (pid 4242), for 14 s, holds its loop:
            Cell In[3], line 6, in fetch
              time.sleep(60)

    ``"time.sleep" in stacks`` looks into the text.
    """

    def __init__(
        self, name: str, entries: Iterable[StackEntry], more: int = 0, *, says: str = "", of_worker: bool = True
    ) -> None:
        """``more`` items are left out; ``says`` stands for their number; ``of_worker``: each says where it is."""
        self.name = name
        self.more = more
        self._of_worker = of_worker
        self._entries = tuple(entries)
        self._says = says

    @overload
    def __getitem__(self, index: int) -> StackEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StackEntry]: ...
    def __getitem__(self, index: int | slice) -> StackEntry | Sequence[StackEntry]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, sought: object) -> bool:
        return sought in str(self) if isinstance(sought, str) else sought in self._entries

    def __str__(self) -> str:
        says = self._says or f"{len(self)} stack{'' if len(self) == 1 else 's'}"
        lines = [f"{self.name}: {says}", *(entry.told(of_worker=self._of_worker) for entry in self)]
        if self.more:
            lines.append(f"and {self.more:,} more items, each in another place")
        return "\n".join(lines)

    __repr__ = __str__

    def labelled(self, label_of: Callable[[int], str], *, is_call: bool) -> Stacks:
        """The same, where single items bear their labels; ``is_call``: its only item is a submit."""
        labelled = [dataclasses.replace(_labelled(entry, label_of), is_call=is_call) for entry in self]
        return Stacks(self.name, labelled, self.more, says=self._says, of_worker=self._of_worker)


def _labelled(entry: StackEntry, label_of: Callable[[int], str]) -> StackEntry:
    if entry.count == len(entry.items) == 1:
        # A courtesy: a label that raises must not hide the stack.
        with contextlib.suppress(Exception):
            return dataclasses.replace(entry, label=label_of(entry.items[0]))
    return entry


def merged(entries: Iterable[StackEntry]) -> list[StackEntry]:
    """Put equal stacks of several workers together, those of most items first."""
    groups: dict[Any, list[StackEntry]] = {}
    for entry in entries:
        same = (entry.state, entry.frames, entry.tasks, entry.note, entry.thread, entry.job)
        groups.setdefault(same, []).append(entry)
    return sorted(map(_sum, groups.values()), key=lambda entry: (bool(entry.thread), -entry.count))


def _sum(entries: list[StackEntry]) -> StackEntry:
    first = entries[0]
    if len(entries) == 1:
        return first
    seconds = [entry.seconds for entry in entries if entry.seconds is not None]
    least = [entry.least for entry in entries if entry.least is not None]
    return dataclasses.replace(
        first,
        items=tuple(sorted({item for entry in entries for item in entry.items})),
        count=sum(entry.count for entry in entries),
        workers=tuple(sorted({worker for entry in entries for worker in entry.workers})),
        pids=tuple(sorted({pid for entry in entries for pid in entry.pids})),
        seconds=max(seconds, default=None),
        least=min(least, default=None),
    )
