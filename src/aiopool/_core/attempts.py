"""How items come to run again: after a rest, because an attempt failed that may be mended, or as if for the first time.

An item that rests is at no worker and in no batch. It is made into a batch once more when its rest is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.books import Books
from aiopool._core.items import JobBook
from aiopool._core.spread import Spread


class Attempts:
    """Counts the attempts of items that failed, and lets them rest between two."""

    def __init__(self, books: Books, spread: Spread) -> None:
        self._books = books
        self._spread = spread

    def try_again(self, job: JobBook, index: int, *, after: float | None, chance: float) -> bool:
        """An attempt has failed: let the item rest, ``after`` seconds if given; False where it was its last attempt."""
        opened, attempt = job.opened, job.begun(index)
        if attempt > opened.retries:
            return False
        wait = after if after is not None else opened.backoff
        if wait is None:
            wait = policy.backoff(attempt, chance)
        job.attempts[index] = attempt
        # It has ended, so it kills nobody.
        job.quarantine.discard(index)
        heapq.heappush(job.rest, (self._books.now + wait, index))
        if not job.paused:
            self._books.wait(job, self._books.now + wait)
        self._books.weigh(job)
        self._spread.touch(job)
        return True

    def tick(self) -> None:
        """Look at every job that waits for a time."""
        for job in list(self._books.waking.values()):
            self.look(job)

    def look(self, job: JobBook) -> None:
        """Let those of its items run again that have rested, and order the next alarm; nothing while it is paused."""
        books, now = self._books, self._books.now
        books.waking.pop(job.id, None)
        if job.paused:
            return
        rested: list[int] = []
        while job.rest and job.rest[0][0] <= now:
            rested.append(heapq.heappop(job.rest)[1])
        if rested:
            job.retried += len(rested)
            self.rerun(job, rested)
            books.weigh(job)
        if job.rest:
            books.wait(job, max(job.rest[0][0], now + policy.REST_SECONDS))
        if not job.may_start(now):
            books.wait(job, job.next_at)
        else:
            self._spread.touch(job)

    def rerun(self, job: JobBook, again: Sequence[int]) -> None:
        """Let these be made into batches once more: suspects alone, the others so that every idle worker gets some."""
        job.recoding.update(again)
        for index in again:
            if index in job.quarantine:
                self._books.orders.append(f.Recode(job.id, (index,)))
        others = sorted(set(again) - job.quarantine)
        most = max(1, min(job.size_told or 1, -(-len(others) // max(1, len(self._books.idle)))))
        for equals in _by_attempt(job, others):
            for start in range(0, len(equals), most):
                self._books.orders.append(f.Recode(job.id, tuple(equals[start : start + most])))


def _by_attempt(job: JobBook, items: Sequence[int]) -> Iterable[Sequence[int]]:
    """These items, apart by how often they were tried: a batch has one number."""
    if not job.attempts:
        return (items,)
    apart: dict[int, list[int]] = {}
    for index in items:
        apart.setdefault(job.begun(index), []).append(index)
    return apart.values()
