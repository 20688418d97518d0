"""What can be said of the ways through a statement from its text alone: which there are, and what they take away."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

__all__ = ["always_matches", "catches_name_error", "swallows", "taken_away"]

_SWALLOW = ("suppress", "raises")


def catches_name_error(kind: ast.expr | None) -> bool:
    """Whether what stands behind ``except`` is there for a name that may not exist."""
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(each, ast.Name) and each.id in ("NameError", "UnboundLocalError") for each in kinds)


def swallows(manager: ast.expr) -> bool:
    """Whether what stands behind ``with`` says that it goes on after an exception."""
    if not isinstance(manager, ast.Call):
        return False
    called = manager.func
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in _SWALLOW


def always_matches(pattern: ast.pattern) -> bool:
    """Whether a ``case`` takes everything."""
    if isinstance(pattern, ast.MatchOr):
        return always_matches(pattern.patterns[-1])
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or always_matches(pattern.pattern))


def taken_away(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """Names that are taken away somewhere: by ``del``, or at the end of an ``except E as name``."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                yield node.id
            elif isinstance(node, ast.ExceptHandler) and node.name is not None:
                yield node.name
