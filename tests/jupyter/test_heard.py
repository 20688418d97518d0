"""Which clicks are done: each once, and none that a later one has replaced."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from aiopool.jupyter.heard import NUMBERS, PAGES, Heard


def click(number: int, by: str = "a", action: str = "cancel", **more: object) -> dict[str, Any]:
    """As it comes from a page."""
    return {"action": action, "click": number, "by": by, **more}


def test_a_click_is_done_once():
    """The same number of another page is another click."""
    heard = Heard()
    assert [heard.is_to_be_done(click(*each)) for each in [(1, "a"), (2, "a"), (1, "a"), (1, "b"), (2, "a")]] == [
        True, True, False, True, False,
    ]  # fmt: skip
    assert heard.told() == {"b": [1], "a": [1, 2]}


def test_of_what_can_only_be_one_way_the_last_word_counts():
    """The first may come last: it waited for a cell. It counts as heard, and is not done."""
    heard = Heard()
    assert heard.is_to_be_done(click(2, action="resize", size=9))
    assert not heard.is_to_be_done(click(1, action="resize", size=8))
    assert heard.is_to_be_done(click(1, "b", "resize", size=7))
    assert heard.is_to_be_done(click(3, action="fold"))
    assert heard.told()["a"] == [2, 1, 3]


@pytest.mark.parametrize("content", [None, [], {}, {"by": 7, "click": 1}, {"by": "a"}, {"by": "a", "click": "1"}])
def test_what_bears_no_page_or_number_is_left_to_others(content: object):
    """Whoever does it knows what it is; nothing is told of it."""
    heard = Heard()
    assert heard.is_to_be_done(content)
    assert heard.is_to_be_done(content)
    assert heard.told() == {}


def test_what_is_told_does_not_grow():
    """The last clicks of the last pages: others wait for no answer any more."""
    heard = Heard()
    for page in range(3 * PAGES):
        for number in range(3 * NUMBERS):
            heard.is_to_be_done(click(number, str(page)))
    told = heard.told()
    assert list(told) == [str(page) for page in range(2 * PAGES, 3 * PAGES)]
    assert all(numbers == list(range(2 * NUMBERS, 3 * NUMBERS)) for numbers in told.values())


def test_of_many_threads_one_does_it():
    """JupyterLab sends through several, and the same click may come on two at once."""
    heard = Heard()
    done: list[bool] = []
    start = threading.Barrier(8)

    def come() -> None:
        start.wait(20)
        done.extend([heard.is_to_be_done(click(number)) for number in range(500)])

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(done), sum(done)) == (4000, 500)
