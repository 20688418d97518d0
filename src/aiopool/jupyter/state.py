"""What a widget is told: the state of a panel or of a dashboard, as JSON that a browser draws as it is.

Every text is ready to be shown, and none of it is markup: who draws it escapes it. The state is whole each time, so
that one that is lost on the way does no harm. Clicks come back as :class:`Click`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "Button",
    "Click",
    "DashboardState",
    "Details",
    "FailureRow",
    "Fold",
    "JobRow",
    "PanelState",
    "PrintRow",
    "TimelineBlock",
    "WorkerRow",
]

Fold = Literal[0, 1, 2]
"""How much a panel shows: the bars; workers, too; everything."""

Button = Literal["pause", "resume", "cancel", "retry"]
RowState = Literal["running", "paused", "done", "failed", "cancelled", "stopped"]
WorkerState = Literal["starting", "idle", "busy", "blocked", "stuck", "retiring", "lost"]


class JobRow(TypedDict):
    """One job, or all calls of one function by ``submit``. ``key`` names it in clicks.

    ``count`` is "412 / 50,000" or "412", ``fraction`` from 0 to 1, None where no total is known. ``facts`` are short
    texts in the order in which they are read: "120/s", "12 s", "3:07 left", "2 failed", "1 retried", "40 in flight".
    ``note`` is a sentence such as "waiting for a reader", mostly empty. ``summary`` is the one line that is left.
    ``failed`` is for the bar: the part of ``fraction`` that failed.
    """

    key: str
    name: str
    state: RowState
    word: str
    count: str
    fraction: float | None
    failed: float
    facts: list[str]
    note: str
    summary: str
    buttons: list[Button]


class WorkerRow(TypedDict):
    r"""One worker. ``word`` is its state in a word; the other texts may be empty, where nothing is known.

    ``fraction`` and ``text`` are what its item reported of itself, or the last line that ended in ``\r``.
    """

    index: int
    pid: str
    state: WorkerState
    word: str
    in_flight: str
    done: str
    item: str
    age: str
    cpu: str
    memory: str
    lag: str
    fraction: float | None
    text: str


class PrintRow(TypedDict):
    """One of the last lines that workers printed; ``label`` says who: "item 7", "worker 2"."""

    label: str
    text: str
    error: bool


class FailureRow(TypedDict):
    """Failures of one job with type and line in common.

    ``title`` is "3 x ValueError", ``where`` "Cell In[3], line 4, in fetch", ``message`` that of the first. ``inputs``
    are "item 7: 'https://...'", three at most, and ``more`` "and 12 more". ``hint`` is how to try the first one here.
    The traceback is in :class:`Details` under ``key``.
    """

    key: str
    title: str
    where: str
    message: str
    inputs: list[str]
    more: str
    hint: str


class PanelState(TypedDict):
    """A panel: the jobs that one run of a cell started.

    ``visible`` False: draw nothing yet. ``live``: at least one job runs; without it the panel is a line for each job,
    and what else there is unfolds. ``ack`` is the number of the last click that was dealt with, ``note`` is shown
    beside the buttons ("press Stop to cancel"). ``dropped`` says how many lines were dropped, or is empty. ``more``
    says how many jobs are not listed.
    """

    kind: Literal["panel"]
    visible: bool
    live: bool
    fold: Fold
    ack: int
    note: str
    jobs: list[JobRow]
    more: str
    workers: list[WorkerRow]
    workers_title: str
    prints: list[PrintRow]
    dropped: str
    failures: list[FailureRow]


class TimelineBlock(TypedDict):
    """What a worker did for a while. ``start`` and ``end`` are seconds before ``now``, so both are 0 or more.

    ``title`` is shown when the pointer is over it: "fetch, items 100 to 163, 0.41 s, 2 failed". ``tone`` is the number
    of the job among those shown, for its colour.
    """

    worker: int
    start: float
    end: float
    tone: int
    failed: bool
    title: str


class DashboardState(TypedDict):
    """A dashboard: the pool, every job that runs, the last minutes.

    ``span`` is how many seconds the timeline shows. Blocks are those of that span; neighbouring short ones are joined.
    """

    kind: Literal["dashboard"]
    name: str
    title: str
    open: bool
    size: int
    ack: int
    note: str
    jobs: list[JobRow]
    more: str
    workers: list[WorkerRow]
    span: float
    blocks: list[TimelineBlock]


Details = dict[str, str]
"""Long texts, sent when they change: of each failure its traceback under its ``key``, of a worker its stack under
``stack-<index>``."""


class Click(TypedDict):
    """What a browser sends: number ``click`` among those of the widget, 1 on, where an answer is waited for.

    Of a panel: ``pause``, ``resume``, ``cancel``, ``retry`` with the ``job``'s key, ``fold`` with ``fold``. Of a
    dashboard: these without ``retry`` and ``fold``, and ``resize`` with ``size``, ``restart``, ``restart_worker`` and
    ``stack`` with the ``worker``'s index; and without a number ``shown`` and ``hidden``, when a ``view`` appears, every
    half a minute as long as it is there, and when it has gone. ``replace``, of a panel whose jobs have ended, without a
    number: HTML is to take its place, because the front end would save the widget; ``keeps``, as soon as it knows the
    widget: it sees to that itself.
    """

    action: str
    click: NotRequired[int]
    job: NotRequired[str]
    fold: NotRequired[Fold]
    size: NotRequired[int]
    worker: NotRequired[int]
    view: NotRequired[str]
