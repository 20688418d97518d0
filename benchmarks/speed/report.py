"""What a run found, as data for JSON, and the tables that are made of that data. Pure.

``data`` below is always what :func:`as_data` gives for each subject, under ``"subjects"``, beside what describes the
run: ``date``, ``size``, ``machine``, ``python``, ``versions``, ``missing``, ``minutes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.speed import words
from benchmarks.speed.figures import FAILS, HOLDS, UNKNOWN, UNSURE, Rounds, Verdict, judged, spread
from benchmarks.speed.subjects import Subject

BEGIN = "<!-- make bench: begin -->"
END = "<!-- make bench: end -->"

Data = Mapping[str, Any]


def as_data(subject: Subject, rounds: Rounds, failed: Mapping[str, str]) -> dict[str, Any]:
    """A subject's values, one per round, and what becomes of its promises."""
    return {
        "key": subject.key,
        "title": subject.title,
        "metrics": {name: asdict(metric) for name, metric in subject.metrics.items()},
        "contenders": {title: dict(metrics) for title, metrics in rounds.items()},
        "failed": dict(failed),
        "promises": [_promise(judged(promise, rounds, failed)) for promise in subject.promises],
    }


def _promise(verdict: Verdict) -> dict[str, Any]:
    promise = verdict.promise
    bound = f"{promise.word} {words.number(promise.bound, promise.unit)}"
    measured = words.spread(verdict.spread, promise.unit) if verdict.spread else ""
    return {
        "line": promise.line,
        "text": promise.text,
        "bound": bound,
        "measured": measured,
        "verdict": verdict.word,
        "why": verdict.why,
        "spread": asdict(verdict.spread) if verdict.spread else None,
    }


def promises(data: Data) -> list[dict[str, Any]]:
    """All of them, by line."""
    found = [promise for subject in data["subjects"] for promise in subject["promises"]]
    return sorted(found, key=lambda promise: int(promise["line"]))


def summary(data: Data) -> str:
    """How many hold."""
    words_ = [promise["verdict"] for promise in promises(data)]
    counts = ((word, words_.count(word)) for word in (HOLDS, UNSURE, FAILS, UNKNOWN))
    return f"{len(words_)} promises: " + ", ".join(f"{count} {word}" for word, count in counts if count)


def lines(subject: Data) -> Iterator[str]:
    """A subject as a terminal shows it."""
    yield f"--- {subject['title']}"
    for title, metrics in subject["contenders"].items():
        told = (f"{subject['metrics'][name]['text']}: {_value(subject, title, name)}" for name in metrics)
        yield f"    {title}: {'; '.join(told)}"
    for title, why in subject["failed"].items():
        yield f"    {title}: not measured: {why}"
    for promise in subject["promises"]:
        verdict = f"{promise['verdict'].upper():8} {promise['text']}: {promise['bound']}; {promise['measured']}"
        yield f"    {verdict} {promise['why']}".rstrip()


def page_text(data: Data) -> str:
    """Everything between the markers of the page."""
    parts = [_run(data), _verdicts(promises(data)), *(_figures(subject) for subject in data["subjects"])]
    missing = [f"{name}: {why}" for name, why in data["missing"].items()]
    if missing:
        parts.insert(1, f"Not measured: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def replaced(page: str, text: str) -> str:
    """A page with other text between its two markers, which stay."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have the lines {BEGIN} and {END}, in this order: the tables go between them")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _run(data: Data) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    size = (
        ""
        if data["size"] == "full"
        else f" This was a {data['size']} run: fewer items, rounds and peers, wider spreads."
    )
    return (
        f"Measured on {data['date']} in {data['minutes']:g} minutes: {data['machine']}, Python {data['python']}, two "
        f"workers everywhere; load before it began: {data['load']}.{size} {versions}. {summary(data)}."
    )


def _verdicts(found: Iterable[Data]) -> str:
    rows = [("line", "what, of what", "promised", "measured", ""), ("---:", "---", "---", "---", "---")]
    for promise in found:
        verdict = promise["verdict"] if promise["verdict"] == HOLDS else f"**{promise['verdict']}**"
        why = f": {promise['why']}" if promise["why"] else ""
        rows.append((str(promise["line"]), promise["text"], promise["bound"], promise["measured"], verdict + why))
    return "\n".join(map(_row, rows))


def _figures(subject: Data) -> str:
    metrics = subject["metrics"]
    rows = [(f"**{subject['title']}**", *(metric["text"] for metric in metrics.values()))]
    rows.append(("---", *("---:" for _ in metrics)))
    rows.extend((title, *(_value(subject, title, name) for name in metrics)) for title in subject["contenders"])
    for title, why in subject["failed"].items():
        if title not in subject["contenders"]:
            rows.append((title, f"not measured: {why}", *("" for _ in list(metrics)[1:])))
    return "\n".join(map(_row, rows))


def _value(subject: Data, title: str, name: str) -> str:
    values = subject["contenders"][title].get(name)
    return words.spread(spread(values), subject["metrics"][name]["unit"]) if values else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
