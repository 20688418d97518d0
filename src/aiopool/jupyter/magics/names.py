"""Which names a body binds, which it reads from elsewhere, and which it may read before it has assigned them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiopool.jupyter.magics.changes import changes_of
from aiopool.jupyter.magics.flow import flow_of
from aiopool.jupyter.magics.leaves import Leaves
from aiopool.jupyter.magics.scopes import scope_of

__all__ = ["Names", "names_of"]


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of the names of a body.

    - ``assigns``: those that it binds itself, in whatever way; with what nested functions declare ``global``.
    - ``reads``: those that it reads and does not bind, each with the first node that does. Nested functions count.
    - ``guarded``: those of them that are only read where a NameError is caught, or in a class that binds them too:
      it may be right that they do not exist.
    - ``starts``: those that it binds, and may read before, each with the first node that may.
    - ``meant``: those whose value in the notebook looks as if it was meant to change: assigned after they were read.
    - ``leaves``: those that exist when it has run where all its names stay.
    - ``around``: the nodes in the body of a class that read a name which the class binds only later, so that it is
      looked for around the class.
    - ``changed``: those that it does not bind, but changes in place: ``results.append(x)``, ``results[k] = x``. With
      True for those of a method alone, which may do something else on an object of another kind.
    """

    assigns: frozenset[str]
    reads: dict[str, ast.expr]
    guarded: frozenset[str]
    starts: dict[str, ast.expr]
    meant: tuple[str, ...]
    changed: dict[str, bool]
    leaves: Leaves
    around: frozenset[ast.Name]


def names_of(statements: Sequence[ast.stmt], given: Iterable[str] = ()) -> Names:
    """Read statements as the body of a function whose parameters are ``given``."""
    scope = scope_of(statements)
    declared = frozenset(scope.declared_global())
    given = frozenset(given)
    assigns = frozenset(scope.bound | declared)
    found = flow_of(statements, assigns | given, given)
    meant = dict.fromkeys(name for name in (*found.meant, *sorted(declared)) if name not in given)
    return Names(
        assigns=assigns,
        reads={**found.guarded, **found.reads},
        guarded=frozenset(found.guarded.keys() - found.reads.keys()),
        starts={name: node for name, node in found.early.items() if name not in given},
        meant=tuple(meant),
        changed={name: by_method for name, by_method in changes_of(statements).items() if name not in assigns | given},
        leaves=found.leaves.or_by_functions(declared),
        around=frozenset(found.around_class),
    )
