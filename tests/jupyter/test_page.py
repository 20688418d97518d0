"""A state as HTML and text that stand by themselves: what they look like, and that users' texts are never markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopool.jupyter.page import as_html, as_text, bundle
from aiopool.jupyter.view import CallsView, JobView, dashboard_state, panel_details, panel_state, print_row
from aiopool.surfaces import Printed
from tests.jupyter.pictures import failures, job, pool, worker

RUNNING = JobView(key="1", snapshot=job(25_000, failed=15, failures=(failures(),)), rate=120.0, call="await fetch({})")
ENDED = JobView(key="2", snapshot=job(50_000, name="score", state="done", in_flight=0, elapsed=187.0))


def panel(*rows: Any, **more: Any) -> Any:
    """A panel of these jobs."""
    return panel_state(rows, [pool(worker(), jobs=(job(),))], **more)


# --- text ----------------------------------------------------------------------------------------------------------


def test_the_text_of_a_panel_is_a_line_for_each_job_with_its_failures_below() -> None:
    """As it stands in a terminal, in VS Code before widgets load, and in a diff of two notebooks."""
    prints = [print_row(Printed(0, 7, "hello"))]
    calls = CallsView(key="3", name="ask", open=1, done=3, elapsed=2.0)
    assert as_text(panel(RUNNING, ENDED, calls, prints=prints, dropped=3)).splitlines() == [
        "▕████████████            ▏ fetch: 25,015 / 50,000, 120/s, 12 s, 3:28 left, 15 failed, 40 in flight",
        "score: 50,000 done, 267/s, 3:07",
        "▕██████████████████      ▏ ask: 3 / 4, calls, 2.0 s, 1 open",
        "  fetch: 15 × ValueError, Cell In[3], line 4, in fetch: no page (item 7: 'a')",  # noqa: RUF001
        "3 lines dropped: they came too fast",
    ]


def test_the_text_of_a_dashboard_has_jobs_and_workers() -> None:
    """At a glance."""
    state = dashboard_state(pool(worker(), jobs=(job(),), size=2), [], 0.0, rows=[RUNNING])
    assert as_text(state).splitlines() == [
        "Pool shared: 1 of 2 workers, 1 busy, 310 MB, 1 job",
        "▕████████████            ▏ fetch: 25,015 / 50,000, 120/s, 12 s, 3:28 left, 15 failed, 40 in flight",
        "  worker 0: busy, item 7: 'https://example.org', 13 s, 98 %, 310 MB, 1 in flight, 1,234 done",
    ]


def test_a_paused_job_says_so_and_one_without_a_total_has_no_bar() -> None:
    """The bar alone would say that it stands still, not why."""
    paused = JobView(key="1", snapshot=job(total=None, state="paused"))
    assert as_text(panel(paused)) == "fetch: 412, paused, 12 s, 40 in flight"


def test_a_panel_that_is_not_to_be_seen_is_empty() -> None:
    """It is a place that is kept."""
    assert bundle(panel(RUNNING, visible=False)) == {"text/html": "", "text/plain": ""}


# --- HTML ----------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a browser makes of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append((tag, tuple(f"{name}={value}" for name, value in attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """What is closed was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.text += data

    def handle_comment(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)

    handle_decl = unknown_decl = handle_pi = handle_comment


def test_the_page_of_a_panel_has_everything_that_a_reader_without_a_kernel_can_use() -> None:
    """Failures with inputs, the line to try one, the traceback; what was printed; who worked."""
    state = panel(RUNNING, ENDED, prints=[print_row(Printed(0, 7, "  hello"))])
    seen = Seen(as_html(state, panel_details([RUNNING, ENDED])))
    for text in (
        "████████████░░░░░░░░░░░░ 25,015 / 50,000, 120/s",
        "score: 50,000 done",
        "15 × ValueError, Cell In[3], line 4, in fetch: no page",  # noqa: RUF001
        "item 9: 'b'",
        "and 12 more",
        "await fetch(next(f.input for j in aiopool.jobs() if j.id == 1 for f in j.failures if f.index == 7))",
        "Traceback\n  Cell In[3], line 4, in fetch\nValueError: no page",
        "[item 7]   hello",
        "1 worker, 1 busy, 310 MB",
        "item 7: 'https://example.org'",
    ):
        assert text in seen.text
    assert seen.open == []
    assert [tag for tag, _ in seen.tags].count("details") == 3


def test_the_page_of_jobs_that_have_ended_is_a_line_for_each_and_what_unfolds() -> None:
    """Workers are not told of: they are others by then."""
    seen = Seen(as_html(panel(ENDED)))
    assert seen.tags[1:] == [("div", ())]
    assert seen.text == "score: 50,000 done, 267/s, 3:07"


def test_the_page_has_no_script_no_colours_and_reads_without_styles() -> None:
    """Light and dark are the reader's; GitHub strips ``style``; nothing is loaded from anywhere."""
    board = dashboard_state(pool(worker(), jobs=(job(),)), [], 0.0, rows=[RUNNING])
    pages = (as_html(panel(RUNNING, ENDED), panel_details([RUNNING])), as_html(board))
    for page in pages:
        seen = Seen(page)
        allowed = {
            "div",
            "b",
            "code",
            "details",
            "summary",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "ul",
            "li",
            "pre",
        }
        assert {tag for tag, _ in seen.tags} <= allowed
        assert not re.search("color|background|url|script|http://", re.sub("https://example.org", "", page))
        assert Seen(re.sub(r' style="[^"]*"', "", page)).text == seen.text


nasty = st.text(max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '" onclick="alert(1)',
        "'><img src=x onerror=alert(1)>",
        "&lt;b&gt;",
        "</pre>",
        "<!--",
        "x",
    ]
)


def _filled(state: Any, texts: Any) -> Any:
    """The same state with other texts in all fields that are free, and not empty where they were not."""
    if isinstance(state, str):
        return next(texts) or "x"
    if isinstance(state, list):
        return [_filled(each, texts) for each in state]
    if isinstance(state, dict):
        kept = ("kind", "state", "buttons", "key")
        return {name: value if name in kept or value == "" else _filled(value, texts) for name, value in state.items()}
    return state


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_text_in_any_field_makes_a_tag_or_an_attribute(data: st.DataObject) -> None:
    """Whatever an item is called, reports, prints or raises: the page has the tags that it has with harmless texts."""
    rows = [RUNNING, ENDED]
    prints = [print_row(Printed(0, 7, "hello"))]
    board = dashboard_state(pool(worker(fraction=0.3, text="t"), jobs=(job(),)), [], 0.0, rows=rows)
    for state in (panel(*rows, prints=prints, dropped=1), board):
        details = {key: data.draw(nasty) or "x" for key in panel_details(rows)}
        drawn = iter(lambda: data.draw(nasty), object())
        attacked = Seen(as_html(_filled(state, drawn), details))
        harmless = Seen(as_html(_filled(state, iter(lambda: "x", object())), dict.fromkeys(details, "x")))
        assert attacked.tags == harmless.tags
        assert attacked.open == []
