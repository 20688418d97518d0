"""Who looks at a dashboard: views, in one browser or in several, each of which says so now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Viewers"]

UNSEEN = 60.0
"""Seconds from its making for which it counts as seen, before a browser has said so: while a cell runs none can."""

VANISHED = 100.0
"""Seconds without a word after which a view is taken for gone: its page says every half a minute that it is there."""


class Viewers:
    """The views that look. A browser that dies says nothing, and a page that is closed may not get round to it.

    ``deaf`` is whether a cell runs: then a kernel may hear nothing, and nobody counts as gone because of it. All of it
    may be called on any thread.
    """

    def __init__(self, deaf: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._deaf = deaf
        self._clock = clock
        self._lock = threading.RLock()
        self._views: dict[str, float] = {"": clock() + UNSEEN - VANISHED}
        self._deaf_at = float("-inf")

    def note(self, view: str, *, seen: bool) -> bool:
        """This view says whether it looks; returns whether it is the first that does."""
        with self._lock:
            first = seen and not self.there
            for gone in ("", view):
                self._views.pop(gone, None)
            if seen:
                self._views[view] = self._clock()
        return first

    @property
    def there(self) -> bool:
        """Whether there is one, as far as is known. Asked again and again as long as there is."""
        with self._lock:
            now = self._clock()
            if self._views and self._deaf():
                self._deaf_at = now
            heard = {view: max(at, self._deaf_at) for view, at in self._views.items()}
            self._views = {view: at for view, at in heard.items() if now - at < VANISHED}
            return bool(self._views)
