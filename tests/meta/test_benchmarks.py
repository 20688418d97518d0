"""The benchmarks that the docs quote: their arithmetic is right, and a broken promise does not pass unseen."""

from __future__ import annotations

import functools

import pytest
from benchmarks.faults.outcomes import BEGIN, BROKEN, END, HANG, OK, SKIPPED, Outcome, column, orphans, replaced, table
from benchmarks.faults.outcomes import worst as worst_of
from benchmarks.panel import simulated
from benchmarks.panel.__main__ import CASES, compare
from benchmarks.panel.ratios import PROMISE, Window, measured, ratio, turns
from benchmarks.soak.journal import Deaths, Line, judge
from benchmarks.soak.report import Report, lines, slope, spread

import aiopool
from aiopool.engines import registry
from tests.meta.test_project import ROOT

PAGE = ROOT / "docs" / "what-happens-when.md"

# --- make faults ------------------------------------------------------------------------------------------------------

COLUMNS = {
    "ours": [Outcome(OK, seconds=0.0123), Outcome(OK, notes=("raw",))],
    "theirs": [Outcome(HANG, seconds=6.0), Outcome(SKIPPED)],
}


def test_the_table_has_a_row_per_fault_a_column_per_pool_and_the_sums():
    """What was not run does not count, a time is shown of one pool, and a letter is explained below."""
    assert table(["kill", "exit"], COLUMNS, timed="ours").splitlines() == [
        "| fault | ours | theirs |",
        "| --- | --- | --- |",
        "| kill | ok, 12 ms | HANG |",
        "| exit | ok (r) | - |",
        "| **ok, of those run** | **2/2** | **0/1** |",
        "",
        "(r) the answer is a raw `SystemExit` or `KeyboardInterrupt`, which ends a program that does not expect it.",
    ]


def test_the_page_keeps_what_stands_around_its_table():
    """However often it is written; a page without a place for it is told so."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replaced(page, table(["kill", "exit"], COLUMNS, timed="ours"))
    assert once.startswith(f"before\n{BEGIN}\n\n| fault")
    assert once.endswith(f"{END}\nafter\n")
    assert replaced(once, "old") == replaced(page, "old")
    assert column(once, "ours") == ["ok, 12 ms", "ok (r)"]
    with pytest.raises(ValueError, match="must have the lines"):
        replaced(f"{BEGIN} and no end", "text")


def test_of_several_runs_the_worst_is_shown():
    """A fault that is survived twice in three is not survived; and nobody waits for a third that hangs."""
    seen = []

    def runs(*outcomes):
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    assert worst_of(runs(Outcome(OK, 0.1), Outcome(OK, 0.3), Outcome(OK, 0.2))).seconds == 0.3
    seen.clear()
    assert worst_of(runs(Outcome(OK), Outcome(BROKEN), Outcome(HANG))).word == BROKEN
    assert len(seen) == 2
    assert worst_of(runs(Outcome(HANG), Outcome(OK), Outcome(OK)), hangs=2).word == OK
    assert worst_of(runs(Outcome(HANG), Outcome(OK), Outcome(HANG)), hangs=2).word == HANG
    assert worst_of(runs(Outcome(HANG)), hangs=2).word == HANG
    assert [orphans(0, 2).word, orphans(1, 2).word] == ["ok", "1/2"]


def test_the_page_says_that_every_fault_is_survived():
    """It was written by a run in which they were."""
    cells = column(PAGE.read_text(encoding="utf-8"), "aiopool")
    assert len(cells) == 17
    assert [cell for cell in cells if cell.partition(",")[0] != "ok"] == []


# --- make soak --------------------------------------------------------------------------------------------------------

# Process 1 was killed at 10.0 while it ran the items 0 and 1, process 2 at 20.0 while it ran item 1.
DEATHS = Deaths(killed={1: 10.0, 2: 20.0})
JOURNAL = [
    Line("start", 0, 1, 9.99),
    Line("start", 1, 1, 9.99),
    Line("start", 0, 3, 11.0),
    Line("end", 0, 3, 11.01),
    Line("start", 1, 2, 19.99),
    Line("start", 2, 3, 1.0),
    Line("end", 2, 3, 1.01),
]
GOOD = [(0, 0), (1, aiopool.WorkerLost("it died twice")), (2, 2)]


def test_a_soak_that_kept_its_promises_passes():
    """An item whose worker died once has its value, one whose worker died twice is lost by name."""
    verdict = judge(3, rerun=True, lines=JOURNAL, deaths=DEATHS, delivered=GOOD)
    assert (verdict.values, verdict.worker_lost, verdict.run_again, verdict.examples) == (2, 1, 2, [])


@pytest.mark.parametrize(
    ("what", "journal", "delivered"),
    [
        ("lost", JOURNAL, GOOD[:2]),
        ("twice", JOURNAL, [*GOOD, (2, 2)]),
        ("wrong", JOURNAL, [*GOOD[:2], (2, 3)]),
        ("other_errors", JOURNAL, [*GOOD[:2], (2, KeyError(2))]),
        ("too_often", [*JOURNAL, Line("start", 2, 4, 1.5)], GOOD),
        ("unearned", JOURNAL, [*GOOD[:2], (2, aiopool.WorkerLost("nobody killed it"))]),
        ("unseen", [line for line in JOURNAL if line.pid != 2], GOOD),
    ],
)
def test_a_soak_sees_each_promise_that_is_broken(what, journal, delivered):
    """A loss, a double, a wrong value, another error, a start too many, a death that nobody caused."""
    verdict = judge(3, rerun=True, lines=journal, deaths=DEATHS, delivered=delivered)
    assert getattr(verdict, what) == 1
    assert [example.partition(":")[0] for example in verdict.examples] == ([what] if what != "unseen" else [])


def test_at_most_once_means_one_start_and_one_death_is_enough():
    """What may run again above may not here."""
    verdict = judge(3, rerun=False, lines=JOURNAL, deaths=DEATHS, delivered=GOOD)
    assert (verdict.too_often, verdict.unearned) == (2, 0)
    once = [line for line in JOURNAL if line.pid != 2 and (line.item, line.pid) != (0, 3)]
    lost = [(0, aiopool.WorkerLost("it died")), *GOOD[1:]]
    verdict = judge(3, rerun=False, lines=once, deaths=DEATHS, delivered=lost)
    assert (verdict.too_often, verdict.unearned, verdict.unseen, verdict.worker_lost) == (0, 0, 0, 2)


def test_a_report_tells_counts_times_and_promises():
    """As data for the file, and as lines to be read."""
    report = Report("pools")
    report.count("pools", 3)
    for seconds in (0.3, 0.1, 0.2):
        report.time("a pool", seconds)
    report.promise("nothing is left", kept=True)
    report.promise("it is quick", kept=False, found="9 s")
    data = report.as_data()
    assert data["times"]["a pool"] == {"count": 3, "p50": 0.2, "p99": 0.3, "max": 0.3}
    assert data["broken"] == ["it is quick: 9 s"]
    assert "    BROKEN  it is quick: 9 s" in list(lines(data))
    assert spread([]) == {"count": 0}
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == 2.0


# --- make bench-panel -------------------------------------------------------------------------------------------------


ALONE, WATCHED = functools.partial(Window, False), functools.partial(Window, True)  # noqa: FBT003 - as they are told


def test_windows_that_are_watched_and_windows_that_are_not_take_turns():
    """In both orders, so that whatever grows with time strikes both."""
    assert list(turns(3)) == [False, True, True, False, False, True]


def test_a_ratio_is_the_median_of_pairs_whichever_came_first():
    """A pair in which nothing ended says nothing; a broken promise is said."""
    windows = [
        *(ALONE(100, 1.0), WATCHED(97, 1.0)),
        *(WATCHED(48, 0.5), ALONE(100, 1.0)),
        *(ALONE(0, 1.0), WATCHED(10, 1.0)),
        *(ALONE(10, 0.1), WATCHED(100, 1.0)),
    ]
    found = ratio("a case", windows)
    assert (found.median, found.pairs, found.rate) == (0.97, 3, 100.0)
    assert found.is_kept
    assert str(found).startswith("a case  ")
    assert "BROKEN" not in str(found)
    slow = ratio("a case", [ALONE(100, 1.0), WATCHED(94, 1.0)])
    assert not slow.is_kept
    assert str(slow).endswith(f"BROKEN: less than {PROMISE}")
    with pytest.raises(ValueError, match="a pair must be"):
        ratio("a case", [WATCHED(1, 1.0), WATCHED(1, 1.0)])
    with pytest.raises(ValueError, match="nothing ended"):
        ratio("a case", [WATCHED(1, 1.0), ALONE(0, 1.0)])


def test_items_are_counted_while_the_panel_is_on_and_while_it_is_off():
    """And in the end it is off."""
    counts, switched = iter(range(0, 1000, 10)), []
    windows = measured(lambda: next(counts), switched.append, pairs=2, seconds=0.01, settle=0.0)
    assert switched == [False, True, True, False, False]
    assert [(window.watched, window.items) for window in windows] == [(False, 10), (True, 10), (True, 10), (False, 10)]
    assert all(window.seconds >= 0.01 for window in windows)


@pytest.mark.parametrize("name", [name for name in CASES if "64" in name])
def test_sixty_four_simulated_workers_run_under_the_real_panel(name, monkeypatch):
    """Small: that it measures something, and that the panel was on. How much is left is for a machine of its own."""
    monkeypatch.setattr(registry, "_ENGINES", dict(registry._ENGINES))
    simulated.register()
    found = compare(name, pairs=2, seconds=0.5)
    assert found.rate > 0
    assert found.looks >= 1
    assert found.size > 10_000, "sixty-four rows"
    assert found.share is not None
    assert found.share < 0.25
