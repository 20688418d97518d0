"""Which clicks have come: a page sends one again as long as it does not know that it was heard."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["Heard"]

PAGES, NUMBERS = 8, 32
"""Of so many pages that clicked last it is told which of their last clicks have come, so many of each."""

LAST_COUNTS = ("fold", "resize")
"""Clicks that can only be one way: what comes after a later one of its page is out of date."""


class Heard:
    """What has come, by the page that it comes from. Any thread: JupyterLab sends through several."""

    def __init__(self) -> None:
        # Entered again where the collector runs a finaliser of the user's in the middle.
        self._lock = threading.RLock()
        self._pages: dict[str, dict[int, None]] = {}
        self._latest: dict[tuple[str, str], int] = {}

    def is_to_be_done(self, click: Any) -> bool:
        """Note a click. False: it was heard before, or something that came later has taken its place.

        What bears no page, as what needs no answer, is always to be done.
        """
        if not isinstance(click, dict) or not isinstance(by := click.get("by"), str):
            return True
        number, action = click.get("click"), click.get("action")
        if not isinstance(number, int):
            return True
        with self._lock:
            # The page that has clicked last is the last one.
            page = self._pages[by] = self._pages.pop(by, {})
            if number in page:
                return False
            page[number] = None
            if action in LAST_COUNTS:
                if self._latest.get((by, action), number) > number:
                    return False
                self._latest[by, action] = number
            return True

    def told(self) -> dict[str, list[int]]:
        """What a page must know: its own name, and which of its clicks have come."""
        with self._lock:
            return {by: list(page)[-NUMBERS:] for by, page in list(self._pages.items())[-PAGES:]}
