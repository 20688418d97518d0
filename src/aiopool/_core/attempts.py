"""How items come to run again: after a rest, because an attempt failed that may be mended, or as if for the first time.

An item that rests is at no worker and in no batch. It is made into a batch once more when its rest is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.books import Books
from aiopool._core.items import JobBook, Trial
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
        """Let these be made into batches once more: suspects apart, the others so that every idle worker gets some."""
        job.recoding.update(again)
        others = again
        if job.trials:
            suspects = [index for index in again if index in job.trials]
            self._try(job, sorted(suspects))
            others = tuple(set(again).difference(suspects))
        others = sorted(others)
        most = self._most(job, len(others))
        for equals in _by_attempt(job, others):
            for start in range(0, len(equals), most):
                self._books.orders.append(f.Recode(job.id, tuple(equals[start : start + most])))

    def _most(self, job: JobBook, count: int) -> int:
        """How many of so many items travel together."""
        told, idle = job.size_told or 1, min(len(self._books.idle), policy.SHARED_MOST)
        part = -(-count // max(1, idle))
        opened = job.opened
        if idle and not (opened.pinned or opened.concurrency or opened.batch or opened.rate):
            # Whether these are long or short nobody knows: they may as well wait at one worker and go on to others. Not
            # where a worker has several lanes: without lanes for all of them they would come back to where they were.
            told = policy.BATCH_MOST[job.kind]
        return max(1, min(told, part, self._books.largest))

    def _try(self, job: JobBook, suspects: Sequence[int]) -> None:
        apart: dict[Trial, list[int]] = {}
        for index in suspects:
            apart.setdefault(job.trials[index], []).append(index)
        for trial, items in apart.items():
            # Of its own: the others of its group may be at a worker.
            again = Trial(trial.survived, beside=trial.beside, suspicion=trial.suspicion)
            if not again.beside:
                again.until = self._books.now + policy.TRIAL_SECONDS
                self._books.due(again.until, "suspects")
            job.trials.update(dict.fromkeys(items, again))
            self._books.orders.append(f.Recode(job.id, tuple(items)))


def _by_attempt(job: JobBook, items: Sequence[int]) -> Iterable[Sequence[int]]:
    """These items, apart by how often they were tried: a batch has one number."""
    if not job.attempts:
        return (items,)
    apart: dict[int, list[int]] = {}
    for index in items:
        apart.setdefault(job.begun(index), []).append(index)
    return apart.values()
