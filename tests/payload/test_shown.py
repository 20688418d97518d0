"""An error as text: made on the thread for which everybody waits, out of whatever a user's message holds."""

from __future__ import annotations

import time

import pytest

from aiopool import _payload
from aiopool._payload import shown

SECONDS = 1.0
"""It takes a thousandth of that; a pattern that goes back takes half a minute."""

NAMED = '\n  File "x.py", line 1, in f\n'
BLANKS = " " * 8000


def told(message: str) -> bytes:
    """What a worker sends of an error with this message."""
    try:
        raise ValueError(message)
    except ValueError as error:
        return _payload.parted(_payload.dump_error(error))[0]


@pytest.mark.parametrize(
    "message", [f"{NAMED}{BLANKS}", f"\n{BLANKS}x", NAMED * 2000, '\n  File "' + '", line 1, in ' * 4000]
)
def test_a_message_like_a_traceback_full_of_blanks_is_shown_at_once(message: str) -> None:
    """It stands in the way of all jobs of the pool, and of the kernel, as long as it takes."""
    data = told(message)
    began = time.thread_time()
    text = shown.traceback_text(data, lambda _: None)
    assert time.thread_time() - began < SECONDS
    assert "ValueError: " in text


def test_lines_of_a_file_that_only_the_worker_knows_are_shown() -> None:
    """Also those of a group of errors, which stand behind bars."""
    text = """\
  File "a.py", line 3, in f
    go(1)
    ~~^^^
  |   File "b.py", line 4, in g
  |     go(2)
  File "c.py", line 5, in h
"""
    assert shown._sources(text) == {("a.py", 3): "go(1)", ("b.py", 4): "go(2)"}
