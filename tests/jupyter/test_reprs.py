"""How pools, workers, jobs and failures look as the last expression of a cell."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.lib.pretty import pretty

from aiopool import Pool, reprs
from aiopool.failures import MISSING, Failure
from tests.jupyter.pictures import job, pool, worker
from tests.jupyter.test_page import Seen


def failing(value: int) -> None:
    """Raise an error at a line that is known."""
    raise ValueError(f"no <page> {value}")


@pytest.fixture
def failure() -> Failure:
    """Of an item that printed something."""
    try:
        failing(7)
    except ValueError as error:
        return Failure(7, object(), error, 3, 1, "looking\nfor \x1b[31m7\n", "'https://<b>'")
    raise AssertionError


def test_a_failure_shows_error_input_line_and_prints(failure: Failure) -> None:
    """All that is needed to see what went wrong; the input as its label allows it to be seen."""
    text = pretty(failure)
    assert text.splitlines()[:2] == ["ValueError: no <page> 7", "  item 7: 'https://<b>', worker 1, 3 attempts"]
    assert 'raise ValueError(f"no <page> {value}")' in text
    assert ", in failing\n" in text
    assert text.splitlines()[-3:] == ["  printed:", "    looking", "    for 7"]
    seen = Seen(failure._repr_html_())
    for part in ("ValueError: no <page> 7", "item 7: 'https://<b>', worker 1", "in failing", "looking\nfor 7"):
        assert part in seen.text
    assert seen.open == []


def test_lines_of_a_message_stay_lines() -> None:
    """That of a worker which died has the last lines of the process, and they say where."""
    died = Failure(7, object(), RuntimeError("was killed\nThe last lines:\n  line 4"), 2, 1, "", "7")
    html = died._repr_html_()
    assert "was killed\nThe last lines:\n  line 4</div>" in html
    assert "white-space:pre-wrap" in html[: html.index("was killed")]


def test_within_a_list_everything_is_as_short_as_its_repr(failure: Failure) -> None:
    """Two thousand failures are looked at as a list."""
    assert pretty([failure]) == "[Failure(item 7, ValueError('no <page> 7'))]"
    some = pool(worker(), jobs=(job(),))
    assert pretty([some]) == f"[{some!r}]"
    assert pretty({"worker": worker(), "job": job()}).count("\n") <= 1


def test_a_failure_whose_error_cannot_be_told_is_shown_all_the_same() -> None:
    """Its ``__str__`` is the user's, and so is its label."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    shown = Failure(1, MISSING, Odd(), 1, None, "")
    assert pretty(shown).splitlines() == ["Odd: its message cannot be shown", "  item 1"]
    assert "Odd" in shown._repr_html_()


def test_a_pool_shows_its_workers_and_jobs_at_a_glance() -> None:
    """A line for the pool, one for each job, one for each worker."""
    picture = pool(worker(), worker(1, state="idle", in_flight=0, item=None, label=""), jobs=(job(25_000),), size=4)
    lines = pretty(picture).splitlines()
    assert lines[0] == "<Pool shared open | 2 of 4 workers (1 busy, 1 idle) | 1 job>"
    assert lines[1].startswith("  ▕████████████            ▏ fetch: 25,000 of 50,000")
    assert lines[2].startswith("  worker 0 (pid 4000) busy, item 7 for 13 s")
    assert lines[3].startswith("  worker 1 (pid 4001) idle")
    seen = Seen(picture._repr_html_())
    assert "item 7: 'https://example.org', for 13 s" in seen.text
    assert [tag for tag, _ in seen.tags].count("tr") == 3
    assert seen.open == []


def test_a_pool_with_very_many_jobs_is_shown_in_few_lines() -> None:
    """There may be thousands of calls."""
    picture = pool(jobs=tuple(job(id=i) for i in range(1000)))
    assert len(pretty(picture).splitlines()) < 30
    assert "and 980 more jobs" in pretty(picture)
    assert "and 980 more jobs" in picture._repr_html_()


def test_a_worker_and_a_job_have_a_row_of_their_own() -> None:
    """As HTML; as text they are the line that they always were."""
    assert "98 %" in Seen(worker()._repr_html_()).text
    assert "lag" not in worker()._repr_html_()
    assert "████████████░░░░░░░░░░░░" in job(25_000)._repr_html_()
    assert "█" not in job(50_000, state="done")._repr_html_()


def test_no_text_is_markup() -> None:
    """Names, labels and reports are the user's."""
    attack = "<script>\"'&"
    for shown in (
        worker(label=attack, text=attack),
        job(name=attack),
        pool(worker(label=attack), jobs=(job(name=attack),), name=attack),
    ):
        page: Any = shown._repr_html_()
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_a_real_pool_and_its_workers_are_shown() -> None:
    """The same, of a pool that runs."""
    with Pool(1) as real:
        real.map(abs, [-1]).result()
        assert pretty(real).splitlines()[0].startswith("<Pool pool-")
        assert "1 of 1 workers" in real._repr_html_()
        assert "idle" in real.workers[0]._repr_html_()
        assert pretty([real]) == f"[{real!r}]"


def test_the_failures_of_a_job_know_their_labels() -> None:
    """What ``label=`` hides is not shown."""
    with Pool(1) as real:
        wanted = real.map(int, ["x"], on_error="return", label=lambda _: "secret")
        wanted.result()
        (failure,) = wanted.failures
    assert failure.label == "secret"
    assert "item 0: secret" in reprs.failure_text(failure)
