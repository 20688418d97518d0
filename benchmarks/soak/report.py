"""What a part of the soak has found: counts, times, and which promises were kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


def at(sorted_values: list[float], share: float) -> float:
    """The value under which that share of all lie: ``at(values, 0.5)`` is their median."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def spread(values: Iterable[float]) -> dict[str, float]:
    """How many there are, their median, what 99 of 100 stay under, and the greatest."""
    found = sorted(values)
    if not found:
        return {"count": 0}
    figures = {"p50": at(found, 0.5), "p99": at(found, 0.99), "max": found[-1]}
    return {"count": len(found)} | {name: round(value, 4) for name, value in figures.items()}


def slope(points: list[tuple[float, float]]) -> float:
    """How much y grows per x, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    width = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / width if width else 0.0


@dataclass
class Report:
    """One part's findings. ``times`` are in seconds."""

    part: str
    counts: dict[str, Any] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def count(self, what: str, number: float = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + number

    def time(self, what: str, seconds: float) -> None:
        """Add a time."""
        self.times.setdefault(what, []).append(seconds)

    def promise(self, text: str, *, kept: bool, found: object = "") -> None:
        """Note whether a promise was kept, and what was found."""
        (self.kept if kept else self.broken).append(f"{text}: {found}" if found != "" else text)

    def as_data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        times = {what: spread(seconds) for what, seconds in self.times.items()}
        return {"part": self.part, "counts": self.counts, "times": times, "kept": self.kept, "broken": self.broken}


def lines(data: dict[str, Any]) -> Iterable[str]:
    """A part's findings, to be read."""
    yield f"--- {data['part']}"
    for what, number in data["counts"].items():
        yield f"    {what}: {number:,}" if isinstance(number, int | float) else f"    {what}: {number}"
    for what, figures in data["times"].items():
        if figures["count"]:
            yield (
                f"    {what}: median {figures['p50']:.3f} s, 99 of 100 under {figures['p99']:.3f} s, "
                f"at most {figures['max']:.3f} s ({figures['count']:,} times)"
            )
    for text in data["kept"]:
        yield f"    kept    {text}"
    for text in data["broken"]:
        yield f"    BROKEN  {text}"
