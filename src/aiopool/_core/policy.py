"""The numbers of the ledger: how many items travel together, how many wait at a worker, how long is too long."""

from __future__ import annotations

from aiopool._core.facts import Kind

QUEUED_SECONDS = 0.1
"""Work that waits at a worker: a cell that computes in Python slows the pool's own thread 50 to 90 times."""

BATCH_SECONDS = 0.02
"""Work in one batch, in seconds: long enough that a frame's cost vanishes, short enough to balance."""

BATCH_MOST = 4096
QUEUED_MOST = 16384
UNLIMITED = 1 << 40

GROWTH = 8
"""By how much a batch may outgrow the one before it: what was measured first is a single, perhaps odd, item."""

DRAIN_SECONDS = 1.0
"""How long a job waits for a worker of the other kind to drain before one beyond the pool's size is started."""

DEAF_SECONDS = 0.25
"""How long a cancelled item may take to feel it, before its worker is given up and another one takes its place."""

LINGER_SECONDS = 5.0
"""How long a worker beyond the pool's size stays without work: the next cell may want it, and starting one is slow."""

RATED_SECONDS = 0.01
"""Of a job with a rate so much of it is sent at once, and an alarm that comes so late is made up for; nothing else is.

Over any time no more starts than the rate allows in it, in this, and one batch.
"""

SILENCE_SECONDS = 1.0
"""How long after an item's time was over its worker may say nothing of it, before it is asked whether it is there."""

ANSWER_SECONDS = 4 * DEAF_SECONDS
"""How long the answer may take."""

REST_SECONDS = 0.01
"""How often at most it is looked which items of a job have rested: those that failed together run again together."""

BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0

START_FAILURES = 3
"""Workers in a row that died while starting, before the pool gives up."""

DEATHS = 10
"""Deaths in a row between which no item ended; after that nobody gets another chance."""


def queued(kind: Kind, share: int, mean: float | None) -> int:
    """Items that may wait at a worker beyond those that run, for items that take ``mean`` seconds.

    Of unmeasured ``def`` items none waits: each may take minutes, and another worker may be there sooner.
    """
    if mean is None:
        return 0 if kind == "def" else max(1, share // 4)
    return min(QUEUED_MOST, int(QUEUED_SECONDS * share / max(mean, 1e-7)))


def batch_size(kind: Kind, *, share: int, width: int, size: int | None, mean: float | None, before: int | None) -> int:
    """How many items should travel in one frame to one of ``width`` workers, each of which steps ``share`` at a time.

    Unmeasured ``def`` items travel alone, because each may take minutes. Unmeasured coroutines travel in parts of
    their lanes, so that many start at once. Measured ones travel by the time they take (Little's law: a worker with
    ``share`` lanes ends ``share / mean`` items a second). A short input is cut fine enough for every worker to get
    several parts.
    """
    if mean is None:
        best = 1 if kind == "def" else max(1, min(256, share // 4))
    else:
        best = int(BATCH_SECONDS * share / max(mean, 1e-7))
        if before is not None:
            best = min(best, before * GROWTH)
    if size is not None:
        best = min(best, -(-size // (4 * width)))
    return max(1, min(BATCH_MOST, best))


def rated_size(rate: float, share: int) -> int:
    """How many items of a job with a rate may start at once, on a worker that steps ``share`` of them at a time."""
    return max(1, min(share, int(rate * RATED_SECONDS)))


def next_start(since: float, now: float, count: int, rate: float) -> float:
    """When the next start is due after ``count`` that were due at ``since`` and begin now."""
    return (since if now - since <= RATED_SECONDS else now) + count / rate


def backoff(attempt: int, chance: float) -> float:
    """How long an item rests after this attempt, with ``chance`` from 0 to 1: exponential backoff with full jitter.

    What failed together would come back together, and fail again. Of the ways to spread it that M. Brooker compares,
    this one needs the fewest attempts ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    # The exponent is bounded, because a float is.
    return chance * min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(attempt - 1, 60))


def smoothed(mean: float | None, seconds: float, count: int) -> float:
    """The moving mean of seconds per item after ``count`` more took ``seconds`` together."""
    latest = seconds / count
    return latest if mean is None else 0.7 * mean + 0.3 * latest
