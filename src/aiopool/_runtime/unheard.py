"""Failures for which nobody has asked: each is said once, where its job shows itself. On the pool's own thread."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable

from aiopool import _payload
from aiopool._runtime.results import Results
from aiopool._runtime.telling import told
from aiopool.surfaces import News, Surface

ASKED_WITHIN = 1.0
"""Seconds that a program has, after a job has failed, to come round to asking for it."""


class Unheard:
    """The failed jobs of one pool that nobody awaited when they ended.

    Not at once: ``pmap(...).result()`` may come a moment after the end, and ``await`` in the next cell another later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Callable[[Surface, News], None]) -> None:
        self._loop = loop
        self._say = say
        self._waiting: deque[tuple[float, Surface, News]] = deque()

    def note(self, name: str, results: Results, surface: Surface | None, *, of_call: bool) -> None:
        """A job has ended."""
        news = results.news
        if surface is None or news.heard or not (text := what_failed(name, results, of_call=of_call)):
            return
        news.name, news.text, news.of_call = name, text, of_call
        news.holder = weakref.ref(results)
        self._waiting.append((time.monotonic() + ASKED_WITHIN, surface, news))
        if len(self._waiting) == 1:
            self._loop.call_later(ASKED_WITHIN, self._say_what_is_due)

    def _say_what_is_due(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, surface, news = self._waiting.popleft()
            if not news.of_call:
                # Calls are many, and may be asked one after another: the last a long time after its end.
                news.holder = None
            if not news.heard:
                self._say(surface, news)
        if self._waiting:
            self._loop.call_later(max(0.0, self._waiting[0][0] - now), self._say_what_is_due)

    def close(self) -> None:
        """The pool has ended, and this thread with it: the surfaces know how long to wait."""
        while self._waiting:
            _, surface, news = self._waiting.popleft()
            if not news.heard:
                self._say(surface, news)


def what_failed(name: str, results: Results, *, of_call: bool) -> str:
    """What there is to say of the end of a job, in a line; empty if nothing. Runs no code of the user's."""
    ending = results.ending
    if ending is None or ending.how in ("cancelled", "stopped"):
        return ""
    if ending.error is not None:
        return f"{name} failed: {told(ending.error)}"
    if results.first_failure is None:
        return ""
    first = results.failures[results.first_failure]
    error = _payload.told(first.error) if isinstance(first.error, bytes) else told(first.error)
    if of_call:
        return f"{name} failed: {error}"
    if ending.how == "failed":
        return f"{name} failed: {error} (item {first.index:,})"
    return f"{name}: {len(results.failures):,} of {results.total:,} failed, the first: {error} (item {first.index:,})"
