"""Numbers as people read them. Pure."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.speed.figures import Spread


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for factor, name in steps:
        if abs(value) >= factor:
            return f"{_digits(value / factor)}{name}"
    factor, name = steps[-1]
    return f"{_digits(value / factor)}{name}"


def _digits(value: float) -> str:
    """Three that mean something, and no power of ten."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


UNITS: dict[str, Callable[[float], str]] = {
    "per second": lambda value: _scaled(value, ((1e6, " M/s"), (1e3, " k/s"), (1.0, "/s"))),
    "seconds": lambda value: _scaled(value, ((1.0, " s"), (1e-3, " ms"), (1e-6, " us"))),
    "bytes": lambda value: _scaled(value, ((2**30, " GiB"), (2**20, " MiB"))),
    "bytes per second": lambda value: _scaled(value, ((2**30, " GiB/s"), (2**20, " MiB/s"))),
    "times": _digits,
    "copies": lambda value: f"{_digits(value)} copies",
    "ticks": lambda value: f"{_digits(value)} ticks",
}
"""How a number of that unit is written."""


def number(value: float, unit: str) -> str:
    """A number with its unit."""
    return UNITS[unit](value)


def spread(found: Spread, unit: str) -> str:
    """A median, and in brackets where the middle half of all rounds lies."""
    if found.count == 1:
        return number(found.median, unit)
    return f"{number(found.median, unit)} ({number(found.low, unit)} to {number(found.high, unit)})"
