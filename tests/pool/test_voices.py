"""How bytes become lines again, what is kept of them, and how many are shown."""

from __future__ import annotations

import itertools
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopool import stacks
from aiopool._core import records
from aiopool._runtime import output as output_of
from aiopool._runtime import voices as voices_of
from aiopool._runtime.output import KEPT_LINES, LINE_CHARS, Lines, Output, Picture, Text
from aiopool._runtime.voices import BURST_LINES, LINES_PER_SECOND, Voice
from tests.pool.listening import Heard

# --- lines -----------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.lists(st.integers(0, 1000), max_size=8))
def test_lines_are_the_same_however_they_are_cut(text, cuts):
    """Also within a character."""
    data = text.encode("utf-8", "replace")
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    lines = Lines()
    found = [line for a, b in itertools.pairwise(places) for line in lines.feed(data[a:b])]
    found += lines.end()
    expected = data.decode().split("\n")
    assert found == (expected if expected[-1] else expected[:-1])


@pytest.mark.parametrize("step", [1000, 4096, 1_000_000])
@pytest.mark.parametrize("character", ["x", "ä", "\N{SNAKE}"])
def test_a_long_line_is_cut_and_told_what_is_missing_however_it_comes(step, character):
    """Of each only the beginning is held."""
    data = (character * 20_000 + "\nnext\n").encode()
    lines = Lines()
    found = [line for at in range(0, len(data), step) for line in lines.feed(data[at : at + step])]
    missing = 16_000 * len(character.encode())
    assert found == [character * LINE_CHARS + f"... ({missing:,} bytes more)", "next"]


def test_a_line_without_end_takes_no_memory():
    """A gigabyte of it, say."""
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 1_000_000) == []
    assert len(lines._rest) <= 4 * LINE_CHARS
    (line,) = lines.feed(b"\nnext")
    assert line == "x" * LINE_CHARS + f"... ({100_000_000 - LINE_CHARS:,} bytes more)"
    assert lines.end() == ["next"]


# --- what is kept of items -------------------------------------------------------------------------------------------


class Worker:
    """What a worker would send."""

    def __init__(self) -> None:
        self.status: list[str] = []
        self.output = Output(self.status.append)

    def send(self, kind: int, item: int, payload: bytes = b"", job: int = 1) -> list[object]:
        """One record."""
        return self.output.take(records.record(records.head(self.output.token, kind, job, item), payload))


def test_of_each_item_the_last_lines_are_kept_until_it_has_ended():
    """Fifty; of one that has failed until it was asked for."""
    worker = Worker()
    for number in range(100):
        worker.send(records.OUT, 7, b"%d\n" % number)
    worker.send(records.OUT, 8, b"mine")
    assert worker.output.prints(1, 7) == "\n".join(str(number) for number in range(100 - KEPT_LINES, 100))
    assert worker.output.prints(2, 7) == ""
    assert worker.send(records.FAILED, 8) == [Text(1, 8, ["mine"], error=False)]
    assert worker.output.prints(1, 8) == "mine"
    worker.output.forget(1, 8)
    worker.send(records.ENDED, 7)
    assert not worker.output._items
    assert worker.output._chars == 0


def test_what_is_kept_of_many_items_is_bounded(monkeypatch):
    """Those go first that have printed nothing for the longest time."""
    monkeypatch.setattr(output_of, "MOST_CHARS", 10_000)
    worker = Worker()
    for item in range(100):
        worker.send(records.OUT, item, b"x" * 999 + b"\n")
        worker.send(records.OUT, 0, b"")
    assert worker.output._chars <= 10_000
    assert worker.output.prints(1, 99) == "x" * 999
    assert worker.output.prints(1, 50) == ""
    assert worker.output.prints(1, 0) == "x" * 999
    monkeypatch.setattr(output_of, "MOST_ITEMS", 5)
    worker = Worker()
    for item in range(100):
        worker.send(records.OUT, item, b"x\n")
    assert len(worker.output._items) == 5


def test_parts_of_displays_may_be_mixed_and_are_not_kept_for_ever(monkeypatch):
    """Each has a number; what never ends is let go."""
    worker = Worker()
    assert worker.send(records.PART, 7, b"number 1" + b"first, ") == []
    assert worker.send(records.PART, 8, b"number 2" + b"other, ") == []
    assert worker.send(records.LAST, 7, b"number 1" + b"last") == [Picture(1, 7, b"first, last")]
    assert worker.send(records.LAST, 8, b"number 2" + b"last") == [Picture(1, 8, b"other, last")]
    monkeypatch.setattr(output_of, "MOST_UNFINISHED", 100_000)
    for number in range(100):
        worker.send(records.PART, 7, b"%08d" % number + b"x" * 4000)
    assert worker.output._unfinished <= 100_000
    assert len(worker.output._parts) <= 25


def test_prints_after_a_crash_was_told_show_all_of_it():
    """It was that of a program: this worker goes on."""
    worker = Worker()
    crash = b"Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n"
    (shown,) = worker.output.take(crash)
    assert shown.lines == ["Fatal Python error: Aborted"]
    rest, printed = worker.send(records.OUT, 7, b"going on\n")
    assert rest.lines == ["", "Current thread 0x1 (most recent call first):"]
    assert printed.lines == ["going on"]


# --- how much is shown -----------------------------------------------------------------------------------------------


class Clock:
    """The time, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """It."""
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The time that voices see."""
    clock = Clock()
    monkeypatch.setattr(voices_of, "time", clock)
    return clock


@pytest.fixture
def voice(heard: Heard, clock: Clock) -> Voice:
    """That of a job of items."""
    return Voice(heard, of_items=True)


def test_a_burst_is_shown_and_then_so_many_lines_a_second(voice, heard: Heard, clock: Clock):
    """What is dropped is said once at the time, and once at the end, with the count."""
    voice.say(0, 7, ["line"] * 10_000, error=False)
    voice.flush()
    assert len(heard.of(7)) == BURST_LINES
    assert len(heard.notes) == 1
    assert heard.notes[0].startswith("more than 500 lines or 256 KiB a second")
    for _ in range(10):
        clock.now += 0.1
        voice.say(0, 7, ["line"] * 1000, error=False)
        voice.flush()
    assert len(heard.of(7)) == pytest.approx(BURST_LINES + LINES_PER_SECOND, abs=10)
    voice.end()
    assert voice.unshown == 20_000 - len(heard.of(7))
    assert heard.notes[1:] == [f"{voice.unshown:,} lines were not shown"]


def test_so_many_characters_are_shown(voice, heard: Heard, clock: Clock):
    """A megabyte at once, then 256 KiB a second."""
    voice.say(0, 7, ["x" * 3999] * 1000, error=False)
    voice.flush()
    assert len(heard.of(7)) == pytest.approx((1 << 20) / 4000, abs=2)
    clock.now += 1
    voice.say(0, 7, ["x" * 3999] * 1000, error=False)
    voice.flush()
    assert len(heard.of(7)) == pytest.approx(((1 << 20) + (1 << 18)) / 4000, abs=3)


def test_lines_that_come_slowly_are_all_shown(voice, heard: Heard, clock: Clock):
    """However many there are, and without a word."""
    for _ in range(100):
        voice.say(0, 7, ["line"] * 400, error=False)
        clock.now += 1
    voice.end()
    assert len(heard.of(7)) == 40_000
    assert heard.notes == []


def test_what_is_no_display_is_counted(voice, heard: Heard):
    """A worker may send anything."""
    good = {"data": {"text/plain": "x"}, "metadata": {}, "display_id": "", "update": False}
    for content in (json.dumps(good).encode(), b"", b"[]", b"{}", b"[" * 100_000, os.urandom(100)):
        voice.show(0, 7, content)
    voice.end()
    assert len(heard.displays) == 1
    assert heard.notes == ["5 displays were not shown: there were too many"]


def test_a_warning_of_a_cell_has_the_cells_name(voice, heard: Heard, monkeypatch):
    """Where somebody knows it."""
    monkeypatch.setattr(stacks, "_cell_names", [{"/tmp/ipykernel_7/123.py": "Cell In[3]"}.get])
    voice.warn(0, 7, "/tmp/ipykernel_7/123.py:4: UserWarning: careful\n  warn()")
    voice.warn(0, 7, "/tmp/other.py:4: UserWarning: careful\n  warn()")
    voice.end()
    assert heard.of(7) == [
        "Cell In[3], line 4: UserWarning: careful",
        "  warn()",
        "/tmp/other.py:4: UserWarning: careful",
        "  warn()",
    ]


def test_warnings_without_end_are_not_remembered_without_end(voice, heard: Heard, monkeypatch):
    """As of a text with a number in it."""
    monkeypatch.setattr(voices_of, "MOST_WARNINGS", 10)
    for number in range(1_000):
        voice.warn(0, 7, f"x.py:1: UserWarning: {number}")
    voice.end()
    assert len(heard.of(7)) == 10
    assert heard.notes == ["990 more warnings, most of them like those above"]


def test_a_job_without_a_surface_has_nobody_to_tell():
    """Nothing is kept for one."""
    voice = Voice(None, of_items=True)
    voice.say(0, 7, ["line"] * 5_000, error=False)
    voice.end()
    assert voice._waiting == []
