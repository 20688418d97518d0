"""A state as a page that stands by itself: HTML and text for where no widget draws, and for notebooks that were saved.

The HTML has no script and no colours of its own, so that it reads in light and dark, and needs no style: GitHub strips
that. Nothing in a state is markup: all of it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiopool.html import escape, folded, preformatted, table
from aiopool.jupyter.rows import FIGURE_SPACE
from aiopool.jupyter.state import DashboardState, FailureRow, JobRow, PanelState, PrintRow, WorkerRow
from aiopool.reprs import bar, bar_html

__all__ = ["as_html", "as_text", "bundle"]

LIVE = ("running", "paused")

WORKERS = ("worker", "state", "item", "for", "in flight", "done", "CPU", "memory", "lag", "pid")
NUMBERS = (0, 3, 4, 5, 6, 7, 8, 9)


def bundle(state: PanelState | DashboardState, details: Mapping[str, str] | None = None) -> dict[str, str]:
    """The MIME types that stand beside a widget's own: ``text/html`` and ``text/plain``."""
    return {"text/html": as_html(state, details), "text/plain": as_text(state)}


def as_html(state: PanelState | DashboardState, details: Mapping[str, str] | None = None) -> str:
    """The state as HTML; ``details`` are the tracebacks, see :func:`~aiopool.jupyter.view.panel_details`.

    An empty text for a panel that is not to be seen yet.
    """
    if state["kind"] == "panel" and not state["visible"]:
        return ""
    parts = _panel(state, details or {}) if state["kind"] == "panel" else _dashboard(state)
    return f'<div style="margin:0.2em 0">{"".join(parts)}</div>'


def as_text(state: PanelState | DashboardState) -> str:
    """The state as lines of text: one for each job, its failures below. No end of line at the end."""
    if state["kind"] == "panel":
        if not state["visible"]:
            return ""
        lines = [
            *map(_job_text, state["jobs"]),
            state["more"],
            *map(_failure_text, state["failures"]),
            state["dropped"],
        ]
    else:
        workers = [_worker_text(worker) for worker in state["workers"]]
        lines = [_titled(state), *map(_job_text, state["jobs"]), state["more"], *workers]
    return "\n".join(filter(None, lines))


# --- HTML ----------------------------------------------------------------------------------------------------------


def _panel(state: PanelState, details: Mapping[str, str]) -> Iterator[str]:
    yield from map(_job_html, state["jobs"])
    yield _line(state["more"])
    yield from (_failure_html(failure, details.get(failure["key"], "")) for failure in state["failures"])
    if state["prints"]:
        said = f"the last {len(state['prints'])} lines of workers" if len(state["prints"]) > 1 else "a line of a worker"
        yield folded(said, preformatted(_printed(state["prints"])))
    yield _line(state["dropped"])
    if state["live"] and state["workers"]:
        yield folded(state["workers_title"] or "workers", _workers_html(state["workers"]))


def _dashboard(state: DashboardState) -> Iterator[str]:
    yield _line(_titled(state))
    yield from map(_job_html, state["jobs"])
    yield _line(state["more"])
    if state["workers"]:
        yield folded("workers", _workers_html(state["workers"]), is_open=len(state["workers"]) <= 16)


def _titled(state: DashboardState) -> str:
    return f"Pool {state['name']}: {state['title']}"


def _line(text: str) -> str:
    return f"<div>{escape(text)}</div>" if text else ""


def _job_html(job: JobRow) -> str:
    if job["state"] not in LIVE:
        return _line(job["summary"])
    return f"<div><b>{escape(job['name'])}</b> {bar_html(job['fraction'])}{escape(_told(job))}</div>"


def _failure_html(failure: FailureRow, traceback: str) -> str:
    place = ", ".join(filter(None, (failure["title"], failure["where"])))
    inputs = "".join(f"<li>{escape(text)}</li>" for text in (*failure["inputs"], failure["more"]) if text)
    body = [f"<ul>{inputs}</ul>" if inputs else ""]
    if failure["hint"]:
        body.append(f"<div>Try it here: <code>{escape(failure['hint'])}</code></div>")
    body.append(preformatted(traceback))
    return folded(f"{place}: {failure['message']}" if failure["message"] else place, "".join(body))


def _workers_html(workers: Iterable[WorkerRow]) -> str:
    rows = [
        (
            str(worker["index"]),
            worker["word"],
            " ".join(filter(None, (worker["item"], _report(worker)))),
            worker["age"],
            worker["in_flight"],
            worker["done"],
            worker["cpu"],
            worker["memory"],
            worker["lag"],
            worker["pid"],
        )
        for worker in workers
    ]
    return table(WORKERS, rows, numbers=NUMBERS)


# --- text ----------------------------------------------------------------------------------------------------------


def _told(job: JobRow) -> str:
    word = [] if job["word"] == "running" else [job["word"]]
    note = [job["note"]] if job["note"] else []
    return ", ".join([job["count"].strip(FIGURE_SPACE), *word, *job["facts"], *note])


def _job_text(job: JobRow) -> str:
    if job["state"] not in LIVE:
        return job["summary"]
    return " ".join(filter(None, (bar(job["fraction"]), f"{job['name']}: {_told(job)}")))


def _failure_text(failure: FailureRow) -> str:
    told = ", ".join(filter(None, (failure["title"], failure["where"])))
    first = f" ({failure['inputs'][0]})" if failure["inputs"] else ""
    return f"  {told}: {failure['message']}{first}"


def _worker_text(worker: WorkerRow) -> str:
    told = [worker["word"], worker["item"], worker["age"], _report(worker), worker["cpu"], worker["memory"]]
    counts = [f"{worker['in_flight']} in flight", f"{worker['done']} done"]
    return f"  worker {worker['index']}: {', '.join(filter(None, [*told, *counts]))}"


def _report(worker: WorkerRow) -> str:
    done = "" if worker["fraction"] is None else f"{worker['fraction']:.0%}"
    return " ".join(filter(None, (done, worker["text"])))


def _printed(prints: Sequence[PrintRow]) -> str:
    return "\n".join(f"[{line['label']}] {line['text']}" for line in prints)
