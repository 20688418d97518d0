"""From snapshots to what a widget is told. Pure: no clock, no kernel, no widget; the same snapshots, the same state.

A panel is made like this; ``pace`` is an :class:`~aiopool.pace.Pace` of each job::

    rows = [JobView(key="1", snapshot=snapshot, rate=pace.note(snapshot), call=job.call)]
    state = panel_state(rows, [pool], prints=last_lines, fold=fold, ack=ack)     # last_lines: print_row(...) of each
    details = panel_details(rows)                                                # to be sent when they have changed

Every text in a state is ready to be shown: in one line, of bounded length, without colours and controls, and without
halves of characters, which no message can carry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TypeVar

from aiopool.html import clipped, in_one_line, plain
from aiopool.jupyter.rows import (
    NAME,
    AlikeView,
    CallsView,
    JobView,
    RowView,
    counted,
    failure_key,
    failure_row,
    failures_of,
    is_live,
    is_over,
    job_row,
    print_label,
    print_row,
    worker_row,
    workers_in_words,
)
from aiopool.jupyter.state import DashboardState, Details, Fold, PanelState, PrintRow, TimelineBlock, WorkerRow
from aiopool.telemetry import Block, PoolSnapshot, WorkerInfo, clock

__all__ = [
    "CallsView",
    "JobView",
    "RowView",
    "dashboard_state",
    "job_row",
    "panel_details",
    "panel_state",
    "print_label",
    "print_row",
    "worker_row",
]

Listed = TypeVar("Listed", bound=RowView | AlikeView)

FEW_ALIKE = 3
"""Maps of one name that have ended, and have a row each."""

MOST_JOBS = 20
MOST_FAILURES = 20
MOST_PRINTS = 50
"""Rows of each kind in one state."""

TRACEBACK = 20_000
"""Characters."""

TONES = 8
"""Colours of jobs. A job keeps its own as long as it is seen."""


# --- panel ---------------------------------------------------------------------------------------------------------


def panel_state(
    rows: Sequence[RowView],
    pools: Sequence[PoolSnapshot] = (),
    *,
    prints: Sequence[PrintRow] = (),
    dropped: int = 0,
    fold: Fold = 1,
    ack: int = 0,
    note: str = "",
    visible: bool = True,
) -> PanelState:
    """The state of a panel.

    ``rows``: what the run of a cell has started, in that order. Of many, those that run are listed first, and maps of
    one name that have ended stand together. ``pools``: those on which they run, as they are now; none once no job runs
    any more. ``prints``: the last lines, made with :func:`print_row`; of many the last fifty. ``dropped``: how many
    lines were not passed on.
    """
    live = any(map(is_live, rows))
    listed = _alike_together(rows, live=live)
    shown = _most_telling(listed)
    return PanelState(
        kind="panel",
        visible=visible,
        live=live,
        fold=fold,
        ack=ack,
        note=note,
        jobs=[job_row(row) for row in shown],
        more=f"and {counted(len(listed) - len(shown), 'more job')}" if len(listed) > len(shown) else "",
        workers=[row for pool in pools for row in _workers(pool)],
        workers_title="; ".join(f"{_named(pool)}: " * (len(pools) > 1) + workers_in_words(pool) for pool in pools),
        prints=list(prints[-MOST_PRINTS:]),
        dropped=f"{counted(dropped, 'line')} dropped: they came too fast" if dropped else "",
        failures=[failure_row(row, group, named=len(rows) > 1) for row, group in failures_of(rows)[:MOST_FAILURES]],
    )


def panel_details(rows: Sequence[RowView]) -> Details:
    """The tracebacks of the failures that :func:`panel_state` lists for these rows, under their keys."""
    return {
        failure_key(row, group): plain(clipped(group.traceback, TRACEBACK))
        for row, group in failures_of(rows)[:MOST_FAILURES]
    }


def _named(pool: PoolSnapshot) -> str:
    return in_one_line(pool.name, NAME)


def _workers(pool: PoolSnapshot) -> list[WorkerRow]:
    # Where several jobs run an item says of which it is.
    names = pool.names if pool.open_jobs > 1 else None
    return [worker_row(worker, names) for worker in pool.workers]


def _alike_together(rows: Sequence[RowView], *, live: bool) -> list[RowView | AlikeView]:
    """The rows, of which maps of one name that have ended are one, if they are more than a few: a loop starts hundreds.

    While something runs the last ones still have rows of their own, so that nothing jumps when another one ends.
    """
    alike: dict[str, list[JobView]] = {}
    for row in rows:
        if isinstance(row, JobView) and is_over(row):
            alike.setdefault(row.snapshot.title, []).append(row)
    together = {
        name: views[: -FEW_ALIKE + 1] if live else views for name, views in alike.items() if len(views) > FEW_ALIKE
    }
    first = {views[0].key: AlikeView(tuple(views)) for views in together.values()}
    others = {view.key for views in together.values() for view in views[1:]}
    return [first.get(row.key, row) for row in rows if row.key not in others]


def _most_telling(rows: Sequence[Listed]) -> Sequence[Listed]:
    if len(rows) <= MOST_JOBS:
        return rows
    live = [at for at, row in enumerate(rows) if is_live(row)]
    others = [at for at, row in enumerate(rows) if not is_live(row)]
    # Of those that run the first, of the others the last.
    chosen = live[:MOST_JOBS]
    chosen += others[len(others) - (MOST_JOBS - len(chosen)) :] if len(chosen) < MOST_JOBS else []
    return [rows[at] for at in sorted(chosen)]


# --- dashboard -----------------------------------------------------------------------------------------------------


def dashboard_state(
    pool: PoolSnapshot,
    blocks: Iterable[Block],
    now: float,
    *,
    rows: Sequence[RowView] = (),
    span: float = 120.0,
    ack: int = 0,
    note: str = "",
) -> DashboardState:
    """The state of a dashboard.

    ``rows``: the jobs of the pool. ``blocks``: what its workers did in the last ``span`` seconds before ``now``, which
    is of the monotonic clock, joined by a :class:`~aiopool.jupyter.strip.Strip`; what they are at now is added.
    """
    shown = _most_telling(rows)
    names = pool.names
    present = [block for worker in pool.workers if (block := _present(worker, names, now)) is not None]
    drawn = [_timeline_block(block, now, span) for block in [*blocks, *present]]
    return DashboardState(
        kind="dashboard",
        name=_named(pool),
        title=f"{workers_in_words(pool, lost=pool.lost)}, {counted(pool.open_jobs, 'job')}"
        if pool.state == "open"
        else pool.state,
        open=pool.state == "open",
        size=pool.size,
        ack=ack,
        note=note,
        jobs=[job_row(row) for row in shown],
        more=f"and {counted(len(rows) - len(shown), 'more job')}" if len(rows) > len(shown) else "",
        workers=_workers(pool),
        span=span,
        blocks=drawn,
    )


def _present(worker: WorkerInfo, names: dict[int, str], now: float) -> Block | None:
    """What a worker is at: its block comes when it is over."""
    if worker.job is None or worker.seconds is None or worker.item is None:
        return None
    name = names.get(worker.job, "")
    return Block(worker.index, worker.job, name, worker.item, 1, 0, now - worker.seconds, now)


def _timeline_block(block: Block, now: float, span: float) -> TimelineBlock:
    start, end = now - block.start, now - block.end
    return {
        "worker": block.worker,
        "start": round(min(span, start), 2),
        "end": round(max(0.0, end), 2),
        "tone": block.job % TONES,
        "failed": block.failed > 0,
        "title": _title(block),
    }


@functools.lru_cache(maxsize=2048)  # A block is drawn as long as it is in the span, and most do not change any more.
def _title(block: Block) -> str:
    what = f"item {block.item}" if block.count == 1 else f"{block.count:,} items from {block.item} on"
    told = [
        in_one_line(block.name, NAME),
        what,
        _short(block.end - block.start),
        f"{block.failed:,} failed" if block.failed else "",
    ]
    return ", ".join(filter(None, told))


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.0995 else f"{seconds:.2f} s" if seconds < 9.995 else clock(seconds)
