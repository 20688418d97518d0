"""``make bench``: its arithmetic is right, a broken promise is called so, and the docs have its figures."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from benchmarks.speed import peers, picture, report, words
from benchmarks.speed.__main__ import write
from benchmarks.speed.figures import FAILS, HOLDS, UNKNOWN, UNSURE, greedy, judged, order, paired, spread
from benchmarks.speed.rounds import Course
from benchmarks.speed.subjects import SUBJECTS, Contender, Metric, Promise, Size, Subject, subject

from tests.meta.test_project import ROOT

PAGE = ROOT / "docs" / "performance.md"
FASTER = Promise(1, "ours, of theirs", "at least", 2.0, ("ours", "rate"), ("theirs", "rate"))
SMALLER = Promise(2, "ours alone", "at most", 0.05, ("ours", "seconds"), how="alone", unit="seconds")


def rounds(ours, theirs=()):
    """The values of two contenders."""
    return {"ours": {"rate": ours, "seconds": ours}, "theirs": {"rate": theirs}}


def test_a_ratio_is_of_one_round_and_never_of_two():
    """A machine that is slow for one round is slow for both; whoever fell out has fewer rounds."""
    assert paired(FASTER, rounds([10, 1, 8], [5, 1])) == [2, 1]
    assert paired(FASTER, rounds([10, 1], [0, 1])) == [1], "what took no time at all says nothing"
    less = Promise(1, "ours, less theirs", "at most", 1, ("ours", "rate"), ("theirs", "rate"), "difference")
    assert paired(less, rounds([10, 1], [5, 1])) == [5, 0]
    assert paired(SMALLER, rounds([1, 2])) == [1, 2]


@pytest.mark.parametrize(
    ("promise", "ours", "word"),
    [
        (FASTER, [2.0, 2.1, 2.2], HOLDS),
        (FASTER, [1.7, 1.8, 1.9], FAILS),
        (FASTER, [1.0, 2.1, 2.2, 2.3], UNSURE),
        (SMALLER, [0.01, 0.02], HOLDS),
        (SMALLER, [0.06, 0.07], FAILS),
        (SMALLER, [0.04, 0.049, 0.2, 0.3], UNSURE),
    ],
)
def test_a_promise_holds_fails_or_is_unsure(promise, ours, word):
    """By its median; unsure where the middle half of the rounds lies on both sides of the bound."""
    verdict = judged(promise, rounds(ours, [1.0] * 4), {})
    assert verdict.word == word
    assert (f"the median {HOLDS}" in verdict.why or f"the median {FAILS}" in verdict.why) == (word == UNSURE)


def test_what_was_not_measured_neither_holds_nor_fails():
    """And it says who could not be measured, and why."""
    verdict = judged(FASTER, {"ours": {"rate": [1.0]}}, {"theirs": "ray is not installed"})
    assert (verdict.word, verdict.spread, verdict.why) == (UNKNOWN, None, "theirs: ray is not installed")


def test_a_spread_is_a_median_and_the_middle_half():
    """Of one value too, of none not."""
    found = spread([4, 1, 2, 3, 5])
    assert (found.median, found.low, found.high, found.count) == (3, 2, 4, 5)
    assert spread([7.0]).low == spread([7.0]).high == 7.0
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_rounds_go_forwards_and_backwards():
    """So that whatever grows with time strikes all alike."""
    assert [order("abc", number) for number in range(3)] == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


def test_greedy_gives_each_item_to_whoever_is_free_first():
    """In the order that was given: the long one at the end is what it costs."""
    assert greedy([1, 1, 1, 3], 2) == 4
    assert greedy([3, 1, 1, 1], 2) == 3
    assert greedy([], 2) == 0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_567, "per second", "1.23 M/s"),
        (52_000, "per second", "52.0 k/s"),
        (390, "per second", "390/s"),
        (0.000_158, "seconds", "158 us"),
        (0.0102, "seconds", "10.2 ms"),
        (2.5, "seconds", "2.50 s"),
        (-0.0002, "seconds", "-200 us"),
        (0.0, "seconds", "0.00 us"),
        (3 << 29, "bytes per second", "1.50 GiB/s"),
        (25 << 20, "bytes", "25.0 MiB"),
        (1.19, "times", "1.19"),
        (128.4, "times", "128"),
    ],
)
def test_numbers_are_written_as_people_read_them(value, unit, text):
    """Three digits that mean something, and a unit."""
    assert words.number(value, unit) == text


SUBJECT = Subject(
    key="tried",
    title="Tried out",
    contenders=(),
    metrics={"rate": Metric("rate", "per second", drawn=True), "seconds": Metric("time", "seconds")},
    promises=(FASTER, SMALLER),
    rounds={},
)


def run(subjects):
    """What a whole run is."""
    return {
        "date": "2026-11-20 12:00",
        "size": "quick",
        "machine": "Linux, 2 cores",
        "python": "3.11.7",
        "load": 0.1,
        "versions": {"loky": "3.7.0"},
        "missing": {"ray": "it could not be installed on this Python"},
        "minutes": 2.5,
        "subjects": subjects,
    }


def test_a_report_shows_what_is_lost_and_what_is_missing():
    """From the file alone: what stands in it went through JSON."""
    values = {"ours": {"rate": [1000.0, 1100.0], "seconds": [0.01, 0.02]}, "theirs": {"rate": [900.0, 1000.0]}}
    data = json.loads(json.dumps(run([report.as_data(SUBJECT, values, {"ray": "ray is not installed"})])))
    text = report.page_text(data)
    assert "| 1 | ours, of theirs | at least 2.00 | 1.11 (1.10 to 1.11) | **fails** |" in text
    assert "| 2 | ours alone | at most 50.0 ms | 15.0 ms (12.5 ms to 17.5 ms) | holds |" in text
    assert "| ours | 1.05 k/s (1.02 k/s to 1.07 k/s) | 15.0 ms (12.5 ms to 17.5 ms) |" in text
    assert "| theirs | 950/s (925/s to 975/s) |  |" in text
    assert "| ray | not measured: ray is not installed |  |" in text
    assert "Not measured: ray: it could not be installed on this Python." in text
    assert "This was a quick run" in text
    assert "2 promises: 1 holds, 1 fails." in text
    told = "\n".join(report.lines(data["subjects"][0]))
    assert "FAILS    ours, of theirs: at least 2.00; 1.11 (1.10 to 1.11)" in told
    assert "ray: not measured: ray is not installed" in told


def test_the_page_keeps_what_stands_around_its_tables():
    """However often it is written; a page without a place for them is told so."""
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replaced(page, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.replaced(once, "new") == once
    with pytest.raises(ValueError, match="must have the lines"):
        report.replaced("none", "new")
    report.replaced(PAGE.read_text(encoding="utf-8"), "new")


def test_the_picture_has_the_best_first_and_only_what_is_to_be_drawn():
    """Best is more or less, as the unit has it."""
    values = {"ours": {"rate": [2.0], "seconds": [1.0]}, "theirs": {"rate": [5.0]}}
    (part,) = picture.parts(run([report.as_data(SUBJECT, values, {})]))
    assert part == ("rate", "per second", [("theirs", 5.0, 5.0, 5.0), ("ours", 2.0, 2.0, 2.0)])
    assert picture.scale([(1.0, 2.0), (5.0, 10.0)]) == (False, 0.0, 13.0)
    is_wide, left, right = picture.scale([(0.001, 0.002), (1.0, 1.0)])
    assert is_wide
    assert left < 0.001
    assert right > 1.0
    assert picture.scale([(0.0, 0.0)]) == (False, 0.0, 1.0)


def test_the_picture_is_drawn(tmp_path):
    """Where matplotlib is, which the notebooks need as well; the same figures make the same file."""
    pytest.importorskip("matplotlib", reason="without matplotlib there is no picture, and the report says so")
    data = run([report.as_data(SUBJECT, {"ours": {"rate": [2.0]}, "theirs": {"rate": [5000.0]}}, {})])
    picture.draw(data, tmp_path / "one" / "a.svg")
    picture.draw(data, tmp_path / "b.svg")
    text = (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "2.00/s" in text
    assert text == (tmp_path / "one" / "a.svg").read_text(encoding="utf-8")
    # One subject alone may have nothing that is drawn.
    write(run([report.as_data(SUBJECT, {"ours": {"seconds": [1.0]}}, {})]), None, tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


@pytest.mark.parametrize("key", SUBJECTS)
def test_every_subject_measures_what_its_promises_are_about(key):
    """Each side of a promise is a contender and a metric that there are, and its size is known."""
    found = subject(key)
    titles = {contender.title for contender in found.contenders}
    sides = [side for promise in found.promises for side in (promise.ours, promise.theirs) if side]
    assert found.key == key
    assert [side for side in sides if side[0] not in titles or side[1] not in found.metrics] == []
    assert len(titles) == len(found.contenders)
    assert set(found.rounds) == set(Size)
    assert all(metric.unit in words.UNITS for metric in found.metrics.values())
    assert all(
        promise.unit in words.UNITS and (promise.how == "alone") == (not promise.theirs) for promise in found.promises
    )


def test_every_line_has_its_promises_and_the_page_explains_it():
    """One to eleven."""
    numbers = {promise.line for key in SUBJECTS for promise in subject(key).promises}
    text = PAGE.read_text(encoding="utf-8")
    assert numbers == set(range(1, 12))
    assert [number for number in numbers if f"\n{number}. **" not in text] == []


def test_every_peer_that_somebody_needs_is_among_the_requirements():
    """Else it would never be measured, and nobody would wonder."""
    wanted = peers.wanted(peers.REQUIREMENTS.read_text(encoding="utf-8"))
    needed = {contender.distribution for key in SUBJECTS for contender in subject(key).contenders}
    assert needed - {""} <= set(wanted)
    assert peers.wanted("a==1\n# no\nb>=2,<3  # why\n\nc[d] ; python_version < '4'\n") == ["a", "b", "c"]


def test_contenders_measure_by_turns_in_processes_of_their_own(tmp_path):
    """And whoever fails is left out, with his reason, while the others go on."""
    steps = subject("sleeps")
    gather = next(contender for contender in steps.contenders if contender.title == "gather")
    missing = Contender("nobody", gather.open)
    found = Course(steps, Size.TINY, tmp_path).run([gather, missing], 2)
    assert list(found.rounds) == ["gather"]
    assert [value >= 0.1 for value in found.rounds["gather"]["seconds"]] == [True, True]
    assert list(found.failed) == ["nobody"]
    assert "StopIteration" in found.failed["nobody"]


def test_what_runs_in_a_contender_imports_nothing_that_weighs():
    """A spawned child of another pool imports it anew: it must not pay for what only the report needs."""
    code = "import sys, benchmarks.speed.one, benchmarks.speed.items; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"aiopool", "numpy", "psutil", "multiprocessing", "statistics"} & set(found.stdout.split())
