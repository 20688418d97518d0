"""What a look at stacks has found, on its way to the parent: equal ones once, the many within bounds."""

from __future__ import annotations

import itertools
import json
import linecache
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

__all__ = ["Gathered", "Line", "told"]

MOST_STACKS = 200
"""How many different stacks are told in full; of the others how many items they are."""

MOST_ITEMS = 20
"""How many items of those with the same stack are named."""

MOST_FRAMES = 60
"""How many lines of one stack are told: of a deep recursion, both ends."""

LINE_CHARS = 200

Line = tuple[types.CodeType, int]


class _Group:
    def __init__(self) -> None:
        self.items: list[int] = []
        self.least = inf
        self.most = -inf


class Gathered:
    """What was seen, with equal stacks put together, as JSON.

    ``frames``: each line of code once, as file, line, function, source. ``stacks``: each with its ``job``, ``state``,
    how many items it is of (``count``), the first of these (``items``), the ``least`` and ``most`` seconds that they
    have run, its lines as indices into ``frames`` (a negative number: so many are left out), and the ``tasks`` of the
    items, which are stacks with a ``state``, a ``count`` and ``lines``. ``more``: items that are not told of.
    ``threads``: their ``name``, ``count`` and ``lines``.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._threads: dict[tuple[int, ...], list[str]] = {}
        # By the identity of their code, whose hash is a slow one.
        self._numbers: dict[tuple[int, int], int] = {}
        self._lines: list[tuple[types.CodeType, int]] = []
        self._told: dict[int, int] = {}

    def item(
        self,
        of: tuple[int, int],
        state: str,
        seconds: float | None,
        lines: list[Line],
        tasks: Sequence[tuple[str, list[Line]]] = (),
    ) -> None:
        """One item stands there; ``of`` is its job and its index."""
        job, index = of
        kinds = sorted(Counter((its, self._numbered(where)) for its, where in tasks).items()) if tasks else ()
        key = job, state, self._numbered(lines), tuple(kinds)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        group.items.append(index)
        if seconds is not None:
            group.least = min(group.least, seconds)
            group.most = max(group.most, seconds)

    def thread(self, name: str, lines: list[Line]) -> None:
        """A thread that is no item's stands there."""
        self._threads.setdefault(self._numbered(lines), []).append(name)

    def data(self) -> bytes:
        """All of it, with the stacks of most items first."""
        groups = sorted(self._groups.items(), key=lambda pair: -len(pair[1].items))
        stacks = [self._stack(key, group) for key, group in groups[:MOST_STACKS]]
        threads = [
            {"name": names[0], "count": len(names), "lines": self._tell(lines)}
            for lines, names in itertools.islice(self._threads.items(), MOST_STACKS)
        ]
        more = sum(len(group.items) for _, group in groups[MOST_STACKS:])
        frames = [_line(*self._lines[number]) for number in self._told]
        return json.dumps({"stacks": stacks, "more": more, "threads": threads, "frames": frames}).encode()

    def _stack(self, key: tuple[Any, ...], group: _Group) -> dict[str, Any]:
        job, state, lines, tasks = key
        return {
            "job": job,
            "state": state,
            "count": len(group.items),
            "items": sorted(group.items)[:MOST_ITEMS],
            "least": None if group.least == inf else group.least,
            "most": None if group.most == -inf else group.most,
            "lines": self._tell(lines),
            "tasks": [
                {"state": its, "count": count, "lines": self._tell(where)} for (its, where), count in tasks[:MOST_ITEMS]
            ],
        }

    def _numbered(self, lines: list[Line]) -> tuple[int, ...]:
        left_out = len(lines) - MOST_FRAMES
        if left_out > 0:
            half = MOST_FRAMES // 2
            return (*self._numbered(lines[:half]), -left_out, *self._numbered(lines[-half:]))
        return tuple([self._number(code, line) for code, line in lines])

    def _number(self, code: types.CodeType, line: int) -> int:
        number = self._numbers.setdefault((id(code), line), len(self._lines))
        if number == len(self._lines):
            self._lines.append((code, line))
        return number

    def _tell(self, lines: Iterable[int]) -> list[int]:
        return [each if each < 0 else self._told.setdefault(each, len(self._told)) for each in lines]


def _line(code: types.CodeType, line: int) -> tuple[str, int, str, str]:
    source = linecache.getline(code.co_filename, line).strip()
    return code.co_filename, line, code.co_name, source[:LINE_CHARS]


def told(gather: Callable[[Gathered], object]) -> bytes:
    """What was gathered, or why it could not be: what is looked at moves, and a look must not end the worker."""
    gathered = Gathered()
    try:
        gather(gathered)
        return gathered.data()
    except Exception:  # noqa: BLE001  # told
        return json.dumps({"failed": traceback.format_exc()}).encode()
