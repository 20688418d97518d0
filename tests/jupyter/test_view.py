"""From snapshots to the state of a panel and of a dashboard: what is said, how long it may be, what it costs."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopool.jupyter.page import as_text
from aiopool.jupyter.strip import MOST, Strip
from aiopool.jupyter.view import (
    CallsView,
    JobView,
    dashboard_state,
    job_row,
    panel_details,
    panel_state,
    print_row,
    worker_row,
)
from aiopool.surfaces import Printed
from tests.jupyter.pictures import block, failures, job, pool, worker

FIGURE_SPACE = "\u2007"


def row(done: int = 412, rate: float | None = 120.0, **more: Any) -> Any:
    """The row of a job."""
    return job_row(JobView(key="1", snapshot=job(done, **more), rate=rate))


# --- jobs ----------------------------------------------------------------------------------------------------------


def test_a_running_job_says_what_its_user_wants_to_know_in_the_order_in_which_it_is_read() -> None:
    """How far, how fast, since when, for how long yet; then what went wrong."""
    shown = row(failed=2, retried=1)
    assert shown["count"].strip(FIGURE_SPACE) == "414 / 50,000"
    assert shown["facts"] == ["120/s", "12 s", "6:53 left", "2 failed", "1 retried", "40 in flight"]
    assert (shown["fraction"], shown["failed"]) == (414 / 50_000, 2 / 50_000)
    assert (shown["state"], shown["word"], shown["buttons"]) == ("running", "running", ["pause", "cancel"])
    assert shown["summary"].startswith("fetch: 414 of 50,000, 2 failed")


def test_what_stands_behind_a_count_does_not_move_while_it_grows() -> None:
    """It is as long at the beginning as at the end."""
    assert {len(row(done)["count"]) for done in (0, 9, 10, 999, 1000, 49_999, 50_000)} == {len("50,000 / 50,000")}


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.0, "1,234/s"), (12.34, "12/s"), (9.96, "10/s"), (1.23, "1.2/s"), (0.5, "30/min"), (0.05, "3.0/min"),
     (0.01, "36.0/h")],
)  # fmt: skip
def test_a_rate_is_told_in_the_unit_in_which_it_is_a_number(rate: float, text: str) -> None:
    """Nobody reads 0.0083/s."""
    assert row(rate=rate)["facts"][0] == text


def test_a_job_without_a_total_has_a_count_and_no_bar() -> None:
    """Nor does it say how long it will take."""
    shown = row(total=None)
    assert (shown["count"], shown["fraction"], shown["failed"]) == ("412", None, 0.0)
    assert shown["facts"] == ["120/s", "12 s", "40 in flight"]
    ended = row(total=None, state="done")
    assert (ended["count"], ended["fraction"]) == ("412 / 412", 1.0)


def test_the_time_left_is_in_whole_seconds_and_none_while_paused() -> None:
    """A number that flickers in its decimals cannot be read."""
    assert "3 s left" in row(49_998 - 336, rate=120.0)["facts"]
    assert "1 s left" in row(49_999, rate=120.0)["facts"]
    paused = row(state="paused", rate=None)
    assert paused["facts"] == ["12 s", "40 in flight"]
    assert paused["buttons"] == ["resume", "cancel"]


def test_retry_is_offered_when_there_is_something_to_retry_and_somebody_to_do_it() -> None:
    """After failures, after a stop; not after a good end."""
    assert row(50_000, state="done")["buttons"] == []
    assert row(49_999, failed=1, state="done")["buttons"] == ["retry"]
    assert row(412, state="stopped")["buttons"] == ["retry"]
    assert job_row(JobView(key="1", snapshot=job(state="stopped"), may_retry=False))["buttons"] == []


def test_a_job_that_was_asked_to_end_says_so_and_has_no_buttons() -> None:
    """Until the end has come."""
    asked = job_row(JobView(key="1", snapshot=job(), asked_to_end=True))
    assert (asked["word"], asked["buttons"]) == ("cancelling", [])
    ended = job_row(JobView(key="1", snapshot=job(state="cancelled"), asked_to_end=True))
    assert (ended["word"], ended["buttons"]) == ("cancelled", ["retry"])


def test_a_job_that_waits_for_a_reader_says_so() -> None:
    """Else nobody would know why it stands still."""
    assert row(waits_for_reader=True)["note"].startswith("waiting for a reader")
    assert row(waits_for_reader=True, state="done")["note"] == ""


def test_a_job_says_how_many_items_wait_to_run_again() -> None:
    """Not when it has ended, as they do not any more."""
    assert "3 waiting to run again" in row(resting=3)["facts"]
    assert "3 waiting to run again" in row(resting=3, state="paused")["facts"]
    assert not [fact for fact in row(resting=3, state="cancelled")["facts"] if "again" in fact]


def test_calls_of_one_function_are_counted_in_one_row() -> None:
    """Some run, some have ended, some have failed."""
    shown = job_row(CallsView(key="c", name="fetch", open=3, done=5, failed=2, elapsed=4.2))
    assert (shown["count"], shown["fraction"], shown["failed"]) == (f"{FIGURE_SPACE}7 / 10", 0.7, 0.2)
    assert shown["facts"] == ["calls", "4.2 s", "2 failed", "3 open"]
    assert shown["buttons"] == ["cancel"]
    ended = job_row(CallsView(key="c", name="fetch", open=0, done=5, failed=2, elapsed=4.2))
    assert (ended["state"], ended["buttons"]) == ("done", [])
    assert ended["summary"] == "fetch: 5 calls done, 2 failed, 4.2 s"
    failed = job_row(CallsView(key="c", name="fetch", open=0, done=0, failed=1, cancelled=3))
    assert (failed["state"], failed["summary"]) == ("failed", "fetch: 1 call failed, 3 cancelled, 0.0 s")
    cancelled = job_row(CallsView(key="c", name="fetch", open=0, done=0, cancelled=1))
    assert (cancelled["state"], cancelled["summary"]) == ("cancelled", "fetch: 1 call cancelled, 0.0 s")


def test_of_many_jobs_those_that_run_are_listed() -> None:
    """And how many there are besides."""
    rows = [JobView(key=str(i), snapshot=job(state="running" if i % 10 == 0 else "done", id=i)) for i in range(100)]
    state = panel_state(rows)
    assert len(state["jobs"]) == 20
    assert state["more"] == "and 80 more jobs"
    keys = [int(each["key"]) for each in state["jobs"]]
    assert keys == sorted(keys)
    assert set(range(0, 100, 10)) <= set(keys)
    assert state["live"]
    assert not panel_state(rows[1:2])["live"]


def ended(number: int, **more: Any) -> JobView:
    """A map of a hundred items of which nothing is left to retry."""
    snapshot = job(**{"state": "done", "id": number, "done": 100, "total": 100, "in_flight": 0, "elapsed": 0.4} | more)
    return JobView(key=str(number), snapshot=snapshot, may_retry=False)


def test_a_loop_of_maps_leaves_one_line() -> None:
    """Thirty of one name: how many, what is done, in what time, and what has failed."""
    rows = [ended(number, done=98 if number == 7 else 100, failed=2 * (number == 7)) for number in range(30)]
    state = panel_state([*rows, ended(30, name="score")])
    assert [row["summary"] for row in state["jobs"]] == [
        "fetch: 30 jobs, 2,998 done in 12 s, 2 failed",
        "score: 100 done, 250/s, 0.4 s",
    ]
    assert state["more"] == ""
    assert as_text(state) == "\n".join(row["summary"] for row in state["jobs"])
    assert state["jobs"][0]["buttons"] == []


def test_the_time_of_maps_that_ran_beside_each_other_is_that_of_the_clock() -> None:
    """Ten that ran for a second at once took a second."""
    rows = [dataclasses.replace(ended(number, elapsed=1.0), began=100.0 + number / 100) for number in range(10)]
    assert panel_state(rows)["jobs"][0]["summary"] == "fetch: 10 jobs, 1,000 done in 1.1 s"


def test_what_runs_or_can_be_retried_has_a_row_of_its_own_among_those_of_its_name() -> None:
    """Its buttons would be lost."""
    rows = [ended(number) for number in range(10)]
    rows[4] = dataclasses.replace(ended(4, done=90, failed=10), may_retry=True)
    rows[6] = JobView(key="6", snapshot=job(id=6))
    state = panel_state(rows)
    assert [row["key"] for row in state["jobs"]] == ["0-alike", "4", "6", "8", "9"]
    assert [row["buttons"] for row in state["jobs"]] == [[], ["retry"], ["pause", "cancel"], [], []]
    rows[6] = ended(6)
    assert [row["key"] for row in panel_state(rows)["jobs"]] == ["0-alike", "4"]


def test_rows_do_not_jump_while_a_loop_runs() -> None:
    """Each that ends takes the place of the one before it."""
    counts = []
    for number in range(30):
        rows = [*map(ended, range(number)), JobView(key="now", snapshot=job(id=99))]
        counts.append(len(panel_state(rows)["jobs"]))
    assert counts == [1, 2, 3, *[4] * 27]


def test_a_few_maps_of_one_name_have_a_line_each_and_bad_ends_are_counted() -> None:
    """Three are not many; of more the states are told that are not good."""
    assert len(panel_state([ended(number) for number in range(3)])["jobs"]) == 3
    rows = [ended(number, state="cancelled" if number % 2 else "done", done=50) for number in range(6)]
    assert panel_state(rows)["jobs"][0]["summary"] == "fetch: 6 jobs, 300 done in 2.4 s, 3 jobs cancelled"
    state = panel_state([ended(number, state="stopped", done=0) for number in range(4)])
    assert (state["jobs"][0]["state"], state["jobs"][0]["word"]) == ("stopped", "4 jobs")


# --- failures ------------------------------------------------------------------------------------------------------


def failure_of(call: str = "await fetch({})", *groups: Any, **more: Any) -> Any:
    """The first row of failures."""
    snapshot = job(failures=groups or (failures(),), failed=sum(each.count for each in groups) or 15)
    return panel_state([JobView(key="1", snapshot=snapshot, call=call, **more)])["failures"][0]


def test_failures_are_told_with_inputs_and_how_to_try_one_here() -> None:
    """Type, line, message, three inputs, how many more, and a line for the next cell."""
    shown = failure_of()
    assert shown["title"] == "15 \N{MULTIPLICATION SIGN} ValueError"
    assert (shown["where"], shown["message"]) == ("Cell In[3], line 4, in fetch", "no page")
    assert shown["inputs"] == ["item 7: 'a'", "item 9: 'b'", "item 11: 'c'"]
    assert shown["more"] == "and 12 more"
    assert shown["hint"] == (
        "await fetch(next(f.input for j in aiopool.jobs() if j.id == 1 for f in j.failures if f.index == 7))"
    )
    assert failure_of("", failures(1, items=(7,), labels=()))["title"] == "ValueError"


def test_a_plain_input_is_tried_as_it_is_written_in_code() -> None:
    """It stays right whatever is started later. What a label looks like does not count: that of a path is its name."""
    long = repr("https://example.org/" + "x" * 100)
    shown = failure_of("fetch({})", failures(labels=("'https://exam...xxx'",)), literals={7: long}, held_as="job")
    assert shown["hint"] == f"fetch({long})"
    shown = failure_of("fetch({})", failures(labels=("2024",)), literals={7: "", 9: "9"}, held_as="job")
    assert shown["hint"] == "fetch(job.failures[0].input)"


def test_the_hint_finds_the_input_whatever_else_has_failed() -> None:
    """The first failure of a job is not the first of the second group; a variable of the user's is used if known."""
    two = failures(2, type_name="KeyError", items=(31, 40))
    assert failure_of("crunch(*{})", two, failures())["hint"] == (
        "crunch(*next(f.input for j in aiopool.jobs() if j.id == 1 for f in j.failures if f.index == 31))"
    )
    assert failure_of("crunch(*{})", two, failures(), held_as="job")["hint"] == (
        "crunch(*next(f.input for f in job.failures if f.index == 31))"
    )
    assert failure_of("crunch(*{})", failures(labels=("{'x': 1}",)), held_as="job")["hint"] == (
        "crunch(**job.failures[0].input)"
    )
    assert failure_of("", held_as="job")["hint"] == "job.failures[0].input"


def test_the_traceback_of_a_failure_has_the_same_key_wherever_its_row_stands() -> None:
    """It stays unfolded when another kind of failure becomes the most frequent."""
    one, other = failures(), failures(3, type_name="KeyError")
    first = [JobView(key="1", snapshot=job(failures=(one, other)))]
    later = [JobView(key="1", snapshot=job(failures=(other, one)))]
    assert panel_details(first) == panel_details(later)
    assert len(panel_details(first)) == 2
    for rows in (first, later):
        assert [each["key"] for each in panel_state(rows)["failures"]] == list(panel_details(rows))


# --- workers and lines -----------------------------------------------------------------------------------------------


def test_a_worker_shows_its_item_and_its_figures() -> None:
    """Each as people say it; what is not known is empty."""
    shown = worker_row(worker(lag=0.21, fraction=0.4, text="epoch 4"))
    assert shown == {
        "index": 0, "pid": "4000", "state": "busy", "word": "busy", "in_flight": "1", "done": "1,234",
        "item": "item 7: 'https://example.org'", "age": "13 s", "cpu": "98 %", "memory": "310 MB", "lag": "0.2 s",
        "fraction": 0.4, "text": "epoch 4",
    }  # fmt: skip
    idle = worker_row(worker(state="idle", in_flight=0, item=None, seconds=None, label="", cpu=None, memory=None))
    assert (idle["item"], idle["age"], idle["cpu"], idle["memory"], idle["lag"]) == ("", "", "", "", "")
    assert worker_row(worker(seconds=0.4))["age"] == ""


@pytest.mark.parametrize("reported", [math.nan, math.inf, -math.inf, 7.0, -1.0])
def test_a_fraction_that_is_none_makes_no_state_that_cannot_be_sent(reported: float) -> None:
    """An item may report whatever it likes."""
    fraction = worker_row(worker(fraction=reported))["fraction"]
    assert fraction is None or 0.0 <= fraction <= 1.0


def test_where_several_jobs_run_a_worker_says_of_which_its_item_is() -> None:
    """With one job that would be noise."""
    both = pool(worker(job=2), jobs=(job(id=1), job(id=2, name="score")))
    assert panel_state([], [both])["workers"][0]["item"] == "score, item 7: 'https://example.org'"


def test_the_title_of_the_workers_sums_them_up() -> None:
    """What sixty-four rows cannot be read for."""
    some = [worker(0), worker(1, state="blocked"), worker(2, state="idle", memory=None), worker(3, state="lost")]
    assert panel_state([], [pool(*some, size=8, lost=2)])["workers_title"] == (
        "3 of 8 workers, 1 busy, 1 blocked, 1 idle, 1 lost, 930 MB"
    )
    assert panel_state([], [pool(worker(), name="a"), pool(name="b")])["workers_title"] == (
        "a: 1 worker, 1 busy, 310 MB; b: 0 workers"
    )


def test_lines_keep_their_blanks_and_lose_their_colours() -> None:
    """Blanks line up tables; a colour would be seen as garbage."""
    assert print_row(Printed(2, 7, "  a \x1b[31mred\x1b[0m  b\tc\r")) == {
        "label": "item 7",
        "text": "  a red  b\tc",
        "error": False,
    }
    assert print_row(Printed(2, None, "x", error=True))["label"] == "worker 2"
    assert print_row(Printed(2, 0, "x"), "fetch")["label"] == "fetch"
    assert panel_state([], dropped=1234)["dropped"] == "1,234 lines dropped: they came too fast"


# --- dashboard -----------------------------------------------------------------------------------------------------


def test_blocks_are_told_in_seconds_before_now_and_what_runs_is_one_too() -> None:
    """So that a browser whose clock is wrong draws them where they belong."""
    state = dashboard_state(pool(worker(), jobs=(job(),)), [block(880.0, 890.5, failed=2)], now=1000.0)
    past, present = state["blocks"]
    assert past == {
        "worker": 0, "start": 120.0, "end": 109.5, "tone": 1, "failed": True,
        "title": "fetch, 64 items from 100 on, 10 s, 2 failed",
    }  # fmt: skip
    assert (present["start"], present["end"], present["title"]) == (13.2, 0.0, "fetch, item 7, 13 s")
    assert state["title"] == "1 worker, 1 busy, 310 MB, 1 job"
    closed = dashboard_state(pool(state="closed"), [], now=1000.0)
    assert (closed["open"], closed["title"]) == (False, "closed")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(1, 3),
            st.floats(0, 300),
            st.floats(0, 20),
            st.integers(0, 2),
            st.integers(1, 9),
        ),
        max_size=400,
    ),
    st.integers(1, 60),
)
def test_joined_blocks_lose_no_item_and_are_never_too_many(blocks: list[Any], most: int) -> None:
    """However many came, in whatever order."""
    strip = Strip(span=1000.0, most=most)
    for at, job_id, start, seconds, failed, count in blocks:
        one = block(start, start + seconds, worker=at, job=job_id, failed=min(failed, count), count=count)
        strip.add([one], now=400.0)
    kept = strip.blocks()
    assert len(kept) <= max(most, 0)
    if len({(at, job_id, failed > 0) for at, job_id, _, _, failed, _ in blocks}) <= most:
        assert sum(each.count for each in kept) == sum(count for *_, count in blocks)
    # No block tells of two jobs, and what went well is not marked as failed.
    assert all(each.failed == 0 or each.failed <= each.count for each in kept)


def test_blocks_that_have_left_the_span_are_let_go() -> None:
    """A dashboard that is open for a day holds two minutes."""
    strip = Strip(span=100.0)
    strip.add([block(0.0, 1.0), block(50.0, 51.0)], now=60.0)
    strip.add([], now=120.0)
    assert [each.start for each in strip.blocks()] == [50.0]


# --- limits ----------------------------------------------------------------------------------------------------------


def crowd() -> tuple[list[JobView], Any]:
    """Sixty-four workers and twenty jobs."""
    some = [
        worker(
            i, in_flight=40, done=12_345, fraction=0.4, text="epoch 4 of 10", lag=0.2, item=40_000 + i, job=i % 20,
            label=f"'https://example.org/articles/{i}/page'",
        )
        for i in range(64)
    ]  # fmt: skip
    jobs = [
        job(412 + i, id=i, name="fetch_articles", failed=3, retried=4, failures=(failures(),) if i < 3 else ())
        for i in range(20)
    ]
    rows = [JobView(key=str(one.id), snapshot=one, rate=120.0, call="await fetch({})") for one in jobs]
    return rows, pool(*some, jobs=tuple(jobs), lost=1)


def test_a_big_panel_is_small_and_made_at_once() -> None:
    """Under 40 kB of JSON and 3 ms, ten times a second: the least of many, the machine has other things to do."""
    rows, crowded = crowd()
    prints = [
        print_row(Printed(i, i * 7, f"page {i} of the archive, 1.2 MB, now parsing the tables")) for i in range(50)
    ]

    def make() -> Any:
        return panel_state(rows, [crowded], prints=prints)

    assert len(json.dumps(make(), ensure_ascii=False).encode()) < 40_000
    assert _least(make) < 0.003


def test_a_big_dashboard_is_made_at_once() -> None:
    """With as many blocks as there may be; without them it is as small as a panel."""
    rows, crowded = crowd()
    strip = Strip()
    for at in range(60):
        strip.add([block(940.0 + at, 940.9 + at, worker=i) for i in range(64)], now=1000.0)
    assert MOST // 4 <= len(strip.blocks()) <= MOST

    def make() -> Any:
        return dashboard_state(crowded, strip.blocks(), 1000.0, rows=rows)

    assert len(json.dumps({**make(), "blocks": []}, ensure_ascii=False).encode()) < 40_000
    assert _least(make) < 0.006


def _least(function: Any, times: int = 50) -> float:
    taken = []
    for _ in range(times):
        began = time.thread_time()
        function()
        taken.append(time.thread_time() - began)
    return min(taken)


nasty = st.text(alphabet=st.characters(), max_size=300) | st.sampled_from(
    ["<b>&\"'", "\x1b[31m<i>\x1b]0;title\x07", "\ud800", "a\nb\r\tc", "\x00\x9b", "x" * 10_000]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nasty, min_size=12, max_size=12), st.floats() | st.none())
def test_whatever_users_write_can_be_sent_and_is_short(texts: list[str], fraction: float | None) -> None:
    """A state is JSON in UTF-8 without halves of characters, NaN and megabytes, and nothing in it steers."""
    group = failures(type_name=texts[0], where=texts[1], message=texts[2], labels=(texts[3],), traceback=texts[4])
    one = job(name=texts[5], failures=(group,))
    rows: list[Any] = [
        JobView(key="1", snapshot=one),
        CallsView(key="2", name=texts[6], open=1, done=0, failures=(dataclasses.replace(group, items=(0,)),)),
    ]
    busy = worker(label=texts[7], text=texts[8], fraction=fraction)
    state = panel_state(rows, [pool(busy, jobs=(one,), name=texts[9])], prints=[print_row(Printed(0, 1, texts[10]))])
    board = dashboard_state(pool(busy, jobs=(one,), name=texts[9]), [block(0.0, 1.0, name=texts[11])], 2.0, rows=rows)
    for each in (state, board, panel_details(rows)):
        json.dumps(each, ensure_ascii=False, allow_nan=False).encode()
        for text in _texts(each):
            assert len(text) <= 20_000
            assert not any(ord(char) < 32 and char not in "\n\t" for char in text)


def _texts(state: Any) -> list[str]:
    if isinstance(state, str):
        return [state]
    if isinstance(state, dict):
        return [text for value in state.values() for text in _texts(value)]
    return [text for value in state for text in _texts(value)] if isinstance(state, list) else []
