"""Warnings of items: each is shown once for a job, as Python shows it, and the others are counted."""

from __future__ import annotations

import logging
import sys
import warnings

from tests.pool.board import DEADLINE
from tests.pool.listening import Heard


def warns(x: int, times: int = 1, text: str = "careful") -> None:
    """Warn, however often."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for _ in range(times):
            warnings.warn(text.format(x), UserWarning, stacklevel=1)


def test_a_repeated_warning_is_shown_once_and_counted(pool, heard: Heard):
    """Of all items, on all workers; by text, category and line."""
    pool.map(warns, range(1_000)).result(DEADLINE)
    shown = [line for line in heard.lines if not line.name]
    assert len(shown) == 2  # The line of the source is the second.
    assert shown[0].text.endswith("UserWarning: careful")
    assert f"{__file__}:" in shown[0].text
    assert "warnings.warn(text.format(x), UserWarning, stacklevel=1)" in shown[1].text
    assert all(line.error and line.item is not None for line in shown)
    (note,) = heard.notes
    assert note == f"999 times more: {shown[0].text}"


def test_different_warnings_are_shown_each(pool, heard: Heard):
    """Up to where nobody would read them."""

    def item(x: int) -> None:
        warns(x, 2, "careful, {}")

    pool.map(item, range(5)).result(DEADLINE)
    told = [line.text.partition("UserWarning: ")[2] for line in heard.lines if "UserWarning: " in line.text]
    assert sorted(told[:5]) == [f"careful, {x}" for x in range(5)]
    assert [note.partition(":")[0] for note in heard.notes[:3]] == ["once more"] * 3
    assert heard.notes[3:] == ["2 more warnings, most of them like those above"]


def test_a_flood_of_warnings_costs_a_line(pool, heard: Heard):
    """A hundred thousand of the same."""
    pool.submit(warns, 0, 100_000).result(DEADLINE)
    assert len([line for line in heard.lines if not line.name]) == 2
    assert heard.notes == [f"99,999 times more: {heard.lines[0].text}"]


def test_a_failure_has_its_items_warnings_among_its_prints(pool, heard: Heard):
    """Each time, for it may be what the failure is about."""

    def item(x: int) -> None:
        print("begun")  # noqa: T201
        warns(x)
        raise ValueError

    failures = pool.map(item, range(2), on_error="return").result(DEADLINE)
    for failure in failures:
        first, second, third = failure.prints.splitlines()
        assert first == "begun"
        assert second.endswith("UserWarning: careful")
        assert "warnings.warn(" in third


def test_items_that_look_after_warnings_themselves_do(pool, heard: Heard):
    """Recorded ones, those made errors, those that go to a log or to a file: Python's own ways are as they were."""

    def item(_: int) -> list[object]:
        import io

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("recorded", stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                warnings.warn("an error", stacklevel=1)
            except UserWarning as error:
                raised = str(error)
        file, sys.stderr, kept = io.StringIO(), io.StringIO(), sys.stderr
        try:
            warns(0, text="redirected")
            redirected = "redirected" in sys.stderr.getvalue()  # type: ignore[attr-defined]
        finally:
            sys.stderr = kept
        warnings.showwarning("into a file", UserWarning, "x.py", 1, file)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn("logged", stacklevel=1)
            logging.captureWarnings(capture=False)
        return [str(caught[0].message), raised, redirected, "into a file" in file.getvalue()]

    assert pool.map(item, [0]).result(DEADLINE) == [["recorded", "an error", True, True]]
    (line,) = [line for line in heard.of(0) if "Warning" in line]
    assert line.endswith("UserWarning: logged")
