"""What came of a fault, as data, and the table that is made of it. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OK = "ok"
LOST = "LOST"
BROKEN = "BRK"
HANG = "HANG"
SKIPPED = "-"

BEGIN = "<!-- make faults: begin -->"
END = "<!-- make faults: end -->"

NOTES: Mapping[str, tuple[str, str]] = {
    "raw": (
        "r",
        "the answer is a raw `SystemExit` or `KeyboardInterrupt`, which ends a program that does not expect it",
    ),
    "hidden": ("h", "answered, but the real cause is not in the error"),
    "victim": ("v", "answered with an error, although the task did nothing that it may not"),
}
"""Remarks on an answer that counts as ok all the same: their letters, and what these mean."""


@dataclass(frozen=True)
class Outcome:
    """A cell. ``seconds`` is the time from the call to the victim's answer; ``detail`` is for whoever looks closer."""

    word: str
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    detail: str = ""


def orphans(alive: int, workers: int) -> Outcome:
    """The outcome of a parent's death: how many of its workers are left."""
    return Outcome(OK if alive == 0 else f"{alive}/{workers}", detail=f"{alive} of {workers} alive")


def worst(outcomes: Iterable[Outcome], hangs: int = 1) -> Outcome:
    """The first that is not ok, after which no further is asked for; else the slowest.

    It takes so many ``hangs`` to be one: on a busy machine an answer may be late, and come.
    """
    slowest: Outcome | None = None
    hung: list[Outcome] = []
    for outcome in outcomes:
        if outcome.word == HANG:
            hung.append(outcome)
            if len(hung) == hangs:
                return outcome
        elif outcome.word != OK:
            return outcome
        elif slowest is None or (outcome.seconds or 0.0) > (slowest.seconds or 0.0):
            slowest = outcome
    if slowest is not None:
        return slowest
    if hung:
        return hung[0]
    raise ValueError("nothing was measured: there must be one outcome at least")


def _cell(outcome: Outcome, *, timed: bool) -> str:
    letters = "".join(f" ({NOTES[note][0]})" for note in outcome.notes)
    time = f", {outcome.seconds * 1000:.0f} ms" if timed and outcome.seconds is not None and outcome.word == OK else ""
    return f"{outcome.word}{time}{letters}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(faults: Sequence[str], columns: Mapping[str, Sequence[Outcome]], timed: str) -> str:
    """The table as Markdown: a row per fault, a column per pool; ``timed`` is the pool whose times are shown."""
    lines = [_row(("fault", *columns)), _row("---" for _ in range(len(columns) + 1))]
    for number, fault in enumerate(faults):
        cells = (_cell(outcomes[number], timed=title == timed) for title, outcomes in columns.items())
        lines.append(_row((fault, *cells)))
    sums = []
    for outcomes in columns.values():
        run = [outcome for outcome in outcomes if outcome.word != SKIPPED]
        sums.append(f"**{sum(outcome.word == OK for outcome in run)}/{len(run)}**")
    lines.append(_row(("**ok, of those run**", *sums)))
    used = {note for outcomes in columns.values() for outcome in outcomes for note in outcome.notes}
    legend = [f"({letter}) {meaning}" for note, (letter, meaning) in NOTES.items() if note in used]
    return "\n".join(lines) + (f"\n\n{'; '.join(legend)}." if legend else "")


def replaced(page: str, text: str) -> str:
    """A page with other text between its two markers, which stay."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have the lines {BEGIN} and {END}, in this order: the table goes between them")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def column(page: str, title: str) -> list[str]:
    """The cells that stand in a column of a page's table, without those of its last row, the sums."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    place = rows[0].index(title)
    return [row[place] for row in rows[2:-1]]
