"""What the head of a ``%%aiopool`` cell says, as data, and the error that points into it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Flag", "Head", "HeadError"]


class HeadError(SyntaxError):
    """The head of a cell cannot be read. The message says what to write instead, the offsets say where.

    ``text`` is the first line of the cell, as far as it is known; ``filename`` and ``lineno`` are its caller's to fill.
    """

    @classmethod
    def at(cls, line: str, start: int, end: int, message: str) -> HeadError:
        """One that points at ``line[start:end]``; at the place before ``line[start]`` if that is empty."""
        # Python counts characters from 1 there, as IPython does when it draws the caret.
        return cls(message, (None, 1, start + 1, line, 1, max(start, end) + 1))


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of a map, as it was written.

    ``name``: as the option is called (``on_error``), however it was written (``--on-error``, ``--on_error``).
    ``value``: its source, None for a bare switch; ``"False"`` for ``--no-progress``.
    ``column``, ``value_column``: where flag and value begin in the cell's first line, counted in characters from 0.
    """

    name: str
    value: str | None
    column: int
    value_column: int


@dataclass(frozen=True, slots=True)
class Head:
    """The head of one cell: ``target in source -> into --flags``.

    Columns count the characters of the cell's first line from 0.
    """

    target: str = ""
    """What each item is assigned to, as source; empty where there is no ``in``: the body then runs once."""
    target_column: int = 0
    source: str = ""
    """The expression of the input."""
    source_column: int = 0
    into: str = ""
    """The name behind ``->``."""
    flags: tuple[Flag, ...] = ()
    background: bool = False
    """``--bg``"""
    everywhere: bool = False
    """``--all``"""
    help: bool = False
    """``--help``"""
    line: str = field(default="", compare=False, repr=False)
    """The cell's first line as far as it is known: whoever refuses a value points into it."""
