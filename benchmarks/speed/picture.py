"""The picture for the docs: who does how much, a part for each kind of work; ours in colour, floors hatched."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed import words
from benchmarks.speed.report import Data
from benchmarks.speed.subjects import OURS

COLUMNS = 2
OUR_COLOUR, THEIR_COLOUR, FLOOR_COLOUR, INK = "#1f6feb", "#aab2bd", "#eef0f2", "#24292f"
FLOORS = ("floor", "gather")
WIDE = 20
"""Times the shortest bar: past that, bars of one scale cannot be compared by eye unless it is logarithmic."""
MORE_IS_BETTER = ("per second", "bytes per second")


def parts(data: Data) -> list[tuple[str, str, list[tuple[str, float, float, float]]]]:
    """Of each part its title, its unit, and its bars: who, the median, the least and the greatest; the best first."""
    found = []
    for subject in data["subjects"]:
        for name, metric in subject["metrics"].items():
            rounds = {title: metrics[name] for title, metrics in subject["contenders"].items() if metrics.get(name)}
            if not metric["drawn"] or not rounds:
                continue
            bars = [(title, median(values), min(values), max(values)) for title, values in rounds.items()]
            better = -1 if metric["unit"] in MORE_IS_BETTER else 1
            found.append((metric["text"], metric["unit"], sorted(bars, key=lambda bar: better * bar[1])))
    return found


def scale(ranges: list[tuple[float, float]]) -> tuple[bool, float, float]:
    """Whether bars with these ends need a logarithmic scale, and where it begins and ends, with room for a number."""
    most = max(high for _, high in ranges)
    least = min((low for low, _ in ranges if low > 0), default=most)
    if most <= WIDE * least or most <= 0:
        return False, 0.0, 1.3 * most or 1.0
    left = 10.0 ** math.floor(math.log10(least) - 0.3)
    return True, left, most * (most / left) ** 0.3


def draw(data: Data, into: Path) -> None:
    """Write it as an SVG; raises ImportError where matplotlib is missing."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    # Without a date and with fixed names, so that the file changes only where the figures do; text as text.
    style = {"svg.hashsalt": "aiopool", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with plt.rc_context({**style, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        shown = parts(data)
        rows = math.ceil(len(shown) / COLUMNS)
        tallest = [max(len(part[2]) for part in shown[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(rows)]
        figure, axes = plt.subplots(
            rows,
            COLUMNS,
            figsize=(10, sum(0.26 * count + 0.9 for count in tallest)),
            squeeze=False,
            height_ratios=[count + 1 for count in tallest],
            layout="constrained",
            facecolor="white",
        )
        for axis, part in zip(axes.flat, shown, strict=False):
            _part(axis, *part)
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        into.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(into, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _part(axis: Any, title: str, unit: str, bars: list[tuple[str, float, float, float]]) -> None:
    places = list(range(len(bars)))
    is_wide, left, right = scale([(low, high) for _, _, low, high in bars])
    for place, (who, value, low, high) in zip(places, bars, strict=True):
        is_floor = who.startswith(FLOORS)
        colour = OUR_COLOUR if who == OURS else FLOOR_COLOUR if is_floor else THEIR_COLOUR
        edge = THEIR_COLOUR if is_floor else colour
        shown = max(value, left)
        axis.barh(place, shown, color=colour, edgecolor=edge, hatch="////" if is_floor else None, height=0.7)
        axis.plot([max(low, left), max(high, left)], [place, place], color=INK, linewidth=0.9)
        axis.annotate(
            words.number(value, unit), (max(high, shown), place), (4, 0), textcoords="offset points", va="center"
        )
    axis.set_xscale("log" if is_wide else "linear")
    axis.set_xlim(left, right)
    axis.set_yticks(places, [who for who, *_ in bars])
    for label in axis.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == OURS else "normal")
    axis.invert_yaxis()
    axis.set_xticks([])
    axis.minorticks_off()
    axis.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    better = "more is better" if unit in MORE_IS_BETTER else "less is better"
    told = f"{better}, logarithmic" if is_wide else better
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=15)
    axis.annotate(told, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8)
