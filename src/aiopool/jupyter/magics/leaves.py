"""What an ``--all`` cell leaves in the workers, as far as its text says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["NOTHING", "Known", "Leaves"]

_NO_NAMES: frozenset[str] = frozenset()


class Known(NamedTuple):
    """The cell that defined a name last, and whether every worker is sure to have it."""

    cell: str
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Leaves:
    """The names that exist after a body has run.

    - ``sure``: on every way through it.
    - ``perhaps``: on some, as what is assigned in an ``if`` or a loop, or by a function of it, in whatever worker.
    - ``shaken``: those that it takes away somewhere: by ``del``, or at the end of an ``except E as name``. One that was
      there before need not be there any more.
    - ``gone``: those that are surely not.

    A name that is only annotated, or only that of an exception, is in none but ``shaken``.
    """

    sure: frozenset[str] = _NO_NAMES
    perhaps: frozenset[str] = _NO_NAMES
    shaken: frozenset[str] = _NO_NAMES
    gone: frozenset[str] = _NO_NAMES

    def after(self, known: Mapping[str, Known], cell: str) -> dict[str, Known]:
        """What workers have that have had ``known``, when this cell has run in them."""
        found = {name: each for name, each in known.items() if name not in self.gone}
        for name in self.shaken & found.keys():
            found[name] = Known(found[name].cell, is_sure=False)
        for name in self.perhaps:
            found[name] = Known(cell, is_sure=name in found and found[name].is_sure)
        return found | dict.fromkeys(self.sure, Known(cell, is_sure=True))

    def or_by_functions(self, names: frozenset[str]) -> Leaves:
        """The same for a body whose functions may assign these names, whenever they are called."""
        return replace(self, perhaps=self.perhaps | (names - self.sure), gone=self.gone - names)

    def leaves_all_of(self, other: Leaves) -> bool:
        """Whether nothing is missed where this one runs, and the other one has not."""
        return other.sure <= self.sure and other.perhaps <= self.sure | self.perhaps


NOTHING = Leaves()
