"""States of panels and dashboards, as the kernel sends them: for tests of the front end, and for its pictures."""

from __future__ import annotations

from typing import Any

from aiopool.jupyter.state import (
    DashboardState,
    Details,
    FailureRow,
    JobRow,
    PanelState,
    PrintRow,
    TimelineBlock,
    WorkerRow,
)

__all__ = ["DETAILS", "STATES", "dashboard", "failure", "job", "line", "panel", "worker"]

HOSTS = ("example.org/a", "python.org/downloads/release", "numpy.org/doc", "data.gov/api/3?page=1881", "arxiv.org/abs")


def job(key: str = "1", **changes: Any) -> JobRow:
    """A map that runs."""
    row = JobRow(
        key=key,
        name="fetch",
        state="running",
        word="running",
        count="\u20078,412 / 50,000",
        fraction=0.16824,
        failed=0.0,
        facts=["1,204/s", "6.9 s", "34 s left", "400 in flight"],
        note="",
        summary="fetch: 8,412 of 50,000",
        buttons=["pause", "cancel"],
    )
    row.update(changes)  # type: ignore[typeddict-item]
    return row


def worker(index: int = 0, **changes: Any) -> WorkerRow:
    """A worker that is busy."""
    row = WorkerRow(
        index=index,
        pid=str(41230 + index),
        state="busy",
        word="busy",
        in_flight="100",
        done=f"{2103 + 7 * index:,}",
        item=f"item {8400 + index}: 'https://{HOSTS[index % 5]}/{index}'",
        age=f"{1 + index % 3}.{index % 10} s",
        cpu=f"{61 + 5 * index % 38} %",
        memory=f"{84 + index} MB",
        lag=f"{1 + index % 4} ms",
        fraction=None,
        text="",
    )
    row.update(changes)  # type: ignore[typeddict-item]
    return row


def idle(index: int, **changes: Any) -> WorkerRow:
    """A worker with nothing to do."""
    nothing: dict[str, Any] = {"state": "idle", "word": "idle", "in_flight": "0", "item": "", "age": "", "cpu": "0 %"}
    return worker(index, **{**nothing, **changes})


def line(text: str, label: str = "item 7", *, error: bool = False) -> PrintRow:
    """A line that a worker printed."""
    return PrintRow(label=label, text=text, error=error)


def failure(key: str = "1-a", **changes: Any) -> FailureRow:
    """Three failures with something in common."""
    row = FailureRow(
        key=key,
        title="31 \u00d7 ValueError",
        where="Cell In[3], line 4, in fetch",
        message="status 503 for https://data.gov/api/3?page=1881",
        inputs=["item 1881: 'https://data.gov/api/3?page=1881'", "item 1902: 'https://data.gov/api/3?page=1902'"],
        more="and 29 more",
        hint="await fetch(aiopool.last_job().failures[0].input)",
    )
    row.update(changes)  # type: ignore[typeddict-item]
    return row


def panel(**changes: Any) -> PanelState:
    """A panel of one job that runs on four workers."""
    state = PanelState(
        kind="panel",
        visible=True,
        live=True,
        fold=1,
        ack=0,
        note="",
        jobs=[job()],
        more="",
        workers=[worker(index) for index in range(4)],
        workers_title="4 workers, 4 busy, 342 MB",
        prints=[],
        dropped="",
        failures=[],
    )
    state.update(changes)  # type: ignore[typeddict-item]
    return state


def dashboard(**changes: Any) -> DashboardState:
    """A dashboard of a pool at work."""
    state = DashboardState(
        kind="dashboard",
        name="shared pool",
        title="4 workers, 4 busy, 342 MB, 2 jobs",
        open=True,
        size=4,
        ack=0,
        note="",
        jobs=[
            job(),
            job("2", name="score", count="\u2007312 / 3,000", fraction=0.104, facts=["9.8/s", "31 s", "4:34 left"]),
        ],
        more="",
        workers=[worker(index, item=f"fetch, item {8400 + index}") for index in range(4)],
        span=120.0,
        blocks=blocks(4),
    )
    state.update(changes)  # type: ignore[typeddict-item]
    return state


def blocks(workers: int, each: int = 40, span: float = 120.0) -> list[TimelineBlock]:
    """What workers may have done: of two jobs, one block in nine with a failure."""
    made: list[TimelineBlock] = []
    for index in range(workers):
        start = span * (0.9 - 0.04 * (index % 5))
        for number in range(each):
            length = start / (each - number) * (0.55 + 0.09 * ((index * 7 + number * 5) % 5))
            tone = 1 if number < each // 3 else 2 if (number + index) % 3 else 1
            failed = (number * 5 + index * 3) % 9 == 4
            what = "fetch" if tone == 1 else "score"
            title = f"{what}, 64 items from {100 * number} on, {length:.2f} s{', 2 failed' if failed else ''}"
            made.append(
                TimelineBlock(
                    worker=index,
                    start=round(start, 2),
                    end=round(max(0.0, start - length), 2),
                    tone=tone,
                    failed=failed,
                    title=title,
                )
            )
            start -= length * 1.05
            if start <= 0:
                break
    return made


_RED, _GREEN, _CYAN, _PLAIN = (f"\x1b[{code}m" for code in (31, 32, 36, 39))
_RAISE = "\x1b[38;5;28;01mraise\x1b[00m \x1b[38;5;167;01mValueError\x1b[00m"
TRACEBACK = f"""\
{_RED}---------------------------------------------------------------------------{_PLAIN}
{_RED}ValueError{_PLAIN}                                Traceback (most recent call last)
{_CYAN}Cell{_PLAIN} {_GREEN}In[3], line 4{_PLAIN}, in {_CYAN}fetch\x1b[34m(url){_PLAIN}
{_GREEN}      2{_PLAIN}     s = await session()
{_GREEN}      3{_PLAIN}     answer = await s.get(url)
{_GREEN}----> 4{_PLAIN}     {_RAISE}(f"status {{answer.status}} for {{url}}")

{_RED}ValueError{_PLAIN}: status 503 for https://data.gov/api/3?page=1881
item 1881: 'https://data.gov/api/3?page=1881'"""

DETAILS: Details = {
    "1-a": TRACEBACK,
    "1-b": TRACEBACK.replace("ValueError", "TimeoutError"),
    "stack-1": 'Thread 0x7f31 (most recent call last):\n  File "Cell In[3]", line 9, in score\n    total += step(x)\n'
    '  File "Cell In[2]", line 3, in step\n    while True: pass',
}

_PRINTS = [
    line("connecting to https://data.gov/api/3", "item 1881"),
    line("retrying in 0.5 s", "item 1881"),
    line("UserWarning: certificate expires in 3 days", "item 12", error=True),
    line("\x1b[32mepoch 4\x1b[0m  loss \x1b[1m0.0213\x1b[0m", "item 7"),
    line("libpng warning: iCCP: known incorrect sRGB profile", "worker 2", error=True),
    *[line(f"page {page}: 50 rows", f"item {1900 + page}") for page in range(14)],
]
_FAILURES = [
    failure(),
    failure(
        "1-b",
        title="12 \u00d7 ItemTimeout",
        where="timeout=10",
        message="item 77 ran for more than 10 s",
        inputs=["item 77: 'https://numpy.org/doc/1'", "item 99: 'https://arxiv.org/abs/2'"],
        more="and 10 more",
    ),
    failure(
        "1-c",
        title="WorkerLost",
        where="",
        message="worker 3 (pid 41233) died by SIGSEGV while it ran item 4711; its last words: free(): invalid pointer",
        inputs=["item 4711: 'https://example.org/a/4711'"],
        more="",
    ),
]
_FAILING = job(
    count="31,904 / 50,000",
    fraction=0.638,
    failed=0.0288,
    facts=["1,204/s", "26 s", "15 s left", "1,443 failed", "12 retried", "400 in flight"],
)


def _many(count: int) -> list[WorkerRow]:
    rows = [worker(index) if index % 7 else idle(index) for index in range(count)]
    for index in (5, 22, 41):
        rows[index].update(state="blocked", word="blocked")
    rows[13].update(state="stuck", word="stuck", age="41 s")
    rows[30].update(state="lost", word="lost", item="", age="")
    for index in range(48, 52):
        rows[index].update(fraction=0.15 * (index - 46), text=f"epoch {index - 46}")
    return rows


def _crowded() -> PanelState:
    """More jobs, failures and lost workers than anybody wishes to see."""
    rows = [worker(index) for index in range(8)]
    for index in (1, 2, 5, 6):
        rows[index].update(state="lost", word="lost", in_flight="0", item="", age="", cpu="", memory="", lag="")
    jobs = [
        job(
            str(number),
            name=f"step_{number}",
            fraction=number / 16,
            failed=number % 3 / 60,
            count=f"{625 * number:,} / 10,000",
        )
        for number in range(12)
    ]
    for number in (2, 7, 9):
        facts = ["3.1/s", "12 s", f"{number} failed", f"{number} workers lost"]
        jobs[number].update(state="failed", word="failed", facts=facts, buttons=["retry"])
    kinds = ("ValueError", "KeyError", "aiohttp.client_exceptions.ClientResponseError", "WorkerLost", "ItemTimeout")
    failures = [
        failure(
            f"{number}-{kind}",
            title=f"{3**number:,} \u00d7 {kind}",
            where=f"Cell In[{number}], line 4, in step_{number}",
        )
        for number in (2, 7, 9)
        for kind in kinds
    ]
    title = "8 workers, 4 busy, 342 MB, 4 lost"
    return panel(fold=2, jobs=jobs, more="and 188 more jobs", workers=rows, workers_title=title, failures=failures)


def _done(**changes: Any) -> JobRow:
    done: dict[str, Any] = {
        "state": "done",
        "word": "done",
        "count": "50,000 / 50,000",
        "fraction": 1.0,
        "facts": ["1,190/s", "42 s"],
        "summary": "fetch: 50,000 done, 1,190/s, 42 s",
        "buttons": [],
    }
    return job(**{**done, **changes})


def _gallery() -> dict[str, PanelState | DashboardState]:
    unknown = dict.fromkeys(("item", "age", "cpu", "memory", "lag"), "")
    starting: dict[str, Any] = {"state": "starting", "word": "starting", "in_flight": "0", "done": "0", **unknown}
    stuck = [worker(index) for index in range(4)]
    stuck[1].update(state="stuck", word="stuck", age="1:12", in_flight="1", cpu="100 %", lag="72 s")
    stuck[2].update(state="blocked", word="blocked", age="3.1 s", lag="3.1 s")
    stuck[3].update(state="lost", word="lost", in_flight="0", item="", age="", cpu="", memory="", lag="")
    training = [
        worker(
            index,
            in_flight="1",
            done=str(index),
            item=f"item {index}: {{'lr': 0.0{index + 1}}}",
            age=f"2:0{index}",
            fraction=0.1 + 0.22 * index,
            text=f"epoch {index + 1}, loss 0.{91 - 13 * index}",
        )
        for index in range(4)
    ]
    train = job(name="train", count="3 / 8", fraction=0.375, facts=["0.9/min", "3:20", "5:33 left"])
    ended = {"live": False, "workers": [], "workers_title": ""}
    return {
        "starting": panel(
            jobs=[job(count="\u2007\u2007\u2007\u2007\u20070 / 50,000", fraction=0.0, facts=["0.5 s"])],
            workers=[worker(index, **starting) for index in range(4)],
            workers_title="4 workers, 4 starting",
        ),
        "running": panel(),
        "bar-only": panel(fold=0),
        "everything": panel(
            fold=2,
            jobs=[_FAILING],
            prints=_PRINTS,
            dropped="12,480 lines dropped: they came too fast",
            failures=_FAILURES,
        ),
        "crowded": _crowded(),
        "reports": panel(jobs=[train], workers=training),
        "workers-64": panel(
            jobs=[job(facts=["9,204/s", "0.9 s", "4 s left", "6,400 in flight"])],
            workers=_many(64),
            workers_title="64 workers, 50 busy, 3 blocked, 1 stuck, 9 idle, 1 lost, 7.2 GB",
        ),
        "unsized": panel(
            jobs=[
                job(
                    name="parse_line",
                    count="1,204,331",
                    fraction=None,
                    facts=["80,288/s", "15 s", "512 in flight"],
                    note="waiting for a reader: nothing more is started until somebody reads the results",
                )
            ]
        ),
        "paused": panel(
            jobs=[job(state="paused", word="paused", facts=["0/s", "12 s"], buttons=["resume", "cancel"])],
            workers=[idle(index) for index in range(4)],
            workers_title="4 workers, 4 idle, 342 MB",
        ),
        "stuck": panel(
            workers=stuck, workers_title="4 workers, 1 busy, 1 blocked, 1 stuck, 1 lost", note="press Stop to cancel"
        ),
        "done": panel(jobs=[_done()], **ended),
        "done-with-failures": panel(
            jobs=[
                _done(
                    failed=0.0288,
                    summary="fetch: 50,000 done, 1,443 failed, 12 retried, 1,190/s, 42 s",
                    buttons=["retry"],
                )
            ],
            failures=_FAILURES,
            prints=_PRINTS,
            **ended,
        ),
        "cancelled": panel(
            jobs=[
                _done(
                    state="cancelled",
                    word="cancelled",
                    count="\u20078,412 / 50,000",
                    fraction=0.168,
                    summary="fetch: 8,412 of 50,000, cancelled, 1,204/s, 6.9 s",
                    buttons=["retry"],
                )
            ],
            prints=_PRINTS,
            **ended,
        ),
        "calls": panel(
            jobs=[
                job(
                    "c",
                    name="download",
                    count="\u200741 / 120",
                    fraction=0.34,
                    failed=0.025,
                    facts=["calls", "6.9 s", "3 failed", "79 open"],
                    buttons=["cancel"],
                ),
                job(
                    "2",
                    name="score_with_a_long_name_that_does_not_fit_anywhere",
                    count="\u2007312 / 3,000",
                    fraction=0.104,
                    facts=["9.8/s", "31 s", "4:34 left"],
                ),
                _done(key="3", name="warm_up", count="16 / 16"),
                _done(
                    key="4",
                    name="tile",
                    state="failed",
                    word="failed",
                    count="7 / 64",
                    fraction=0.11,
                    failed=0.0157,
                    facts=["3.1/s", "2.3 s", "1 failed"],
                    buttons=["retry"],
                ),
            ],
            more="and 3 more jobs",
        ),
        "dashboard-busy": dashboard(),
        "dashboard-64": dashboard(
            size=64, workers=_many(64), blocks=blocks(64, 30), title="64 workers, 50 busy, 2 jobs"
        ),
        "dashboard-idle": dashboard(
            jobs=[],
            workers=[idle(index) for index in range(4)],
            blocks=[block for block in blocks(4) if block["end"] > 40],
            title="4 workers, 4 idle, 310 MB, 0 jobs",
        ),
        "dashboard-closed": dashboard(open=False, jobs=[], workers=[], blocks=[], title="closed", size=4),
    }


STATES = _gallery()
