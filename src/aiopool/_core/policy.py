"""The numbers of the ledger: how many items travel together, how many wait at a worker, how long is too long."""

from __future__ import annotations

import math

from aiopool._core.facts import Kind

QUEUED_SECONDS = 0.1
"""Work that waits at a worker: a cell that computes in Python slows the pool's own thread 50 to 90 times."""

BATCH_SECONDS = 0.02
"""Work in one batch, in seconds: long enough that a frame's cost vanishes, short enough to balance."""

AHEAD_SECONDS = 0.002
AHEAD_MOST = 256
"""Calls that may wait at a worker, as long as the ledger does not know of them: nobody asks for these back.

Each costs a worker some 20 us besides its function. So many are done in the five milliseconds after which a thread
that makes calls lets the pool's own thread come to its turn.
"""

SERVE_SECONDS = 2e-4
"""How much of its time the pool's own thread may spend on one batch: twice what it needs.

More workers must have larger batches, or they would wait for that thread.
"""

PARTS = 4
"""In how many batches for each worker a short input is cut, where that thread can serve as many."""

SHARED_MOST = 8
"""Among so many at most it is shared what has come back: they may be asked for some of it in their turn."""

WIDE = 64
"""So many workers are many."""

GROWING_MOST = 16
"""So many batches at most are read ahead while they grow, or while nobody knows how long items take.

In the second case as many items beside them as are at workers, so that however many there are, they are soon at work.
"""

BATCH_MOST: dict[Kind, int] = {"async": 4096, "def": 16384}
"""Items in one batch: of functions that do nothing four times as many run in a second as of coroutines."""

QUEUED_MOST = 32768
UNLIMITED = 1 << 40

MEASURED_MOST = 32
MEASURED_KEPT = 0.8
"""How much a batch weighs at most, in items, when it is learnt how long they take, and how much of what was known."""

GROWTH = 8
"""By how much a batch may outgrow the one before it: what was measured first is a single, perhaps odd, item."""

UNREAD_MOST = 32
"""In so many batches for each worker at most is read what may be read already: one item can make all look long."""

LOOK_SECONDS = 2e-5
"""How long it takes at most, for each worker of many, until they are looked through again for work to take over."""

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
"""Workers in a row that died while starting, or took too much memory with nothing begun, before the pool gives up."""

DEATHS = 10
"""Deaths in a row between which no item ended, and which narrowed no set of suspects.

Whatever is sent after that gets no other chance.
"""

VERDICT_SECONDS = 1.5
"""How long those that ran beside the first suspect wait for what becomes of it, and a worker keeps to suspects.

Who kills its worker mostly does so at once: it crashes at a line that it comes to within a second. So two deaths find
it, as a rule, and while the others wait nobody else's work does. Longer than that nobody should wait for a suspect that
may be an innocent item of an hour, and to go on without its verdict costs little: the others run in halves then, and
are merely more careful than they need be.
"""

SURVIVED_MOST = 60.0
"""How much of the time that suspects had lived through is added to that for which they have a worker for themselves.

Who killed at its fortieth second may need forty again. But others may want the worker.
"""

TRIAL_SECONDS = 10.0
"""How long suspects wait for an empty worker, before they run beside others after all: one may take an hour to empty.

Mostly there is one, because their death has left a place; it takes as long as a process takes to start.
"""


def queued(kind: Kind, share: int, mean: float | None) -> int:
    """Items that may wait at a worker beyond those that run, for items that take ``mean`` seconds.

    Of unmeasured ``def`` items none waits: each may take minutes, and another worker may be there sooner.
    """
    if mean is None:
        return 0 if kind == "def" else max(1, share // 4)
    return min(QUEUED_MOST, int(QUEUED_SECONDS * share / max(mean, 1e-7)))


def ahead(mean: float | None) -> int:
    """How many calls of functions that take ``mean`` seconds one worker may have of which the ledger does not know.

    They would stay there while another one has nothing to do.
    """
    return 1 if mean is None else min(AHEAD_MOST, 1 + int(AHEAD_SECONDS / max(mean, 1e-7)))


def batch_size(kind: Kind, *, share: int, width: int, size: int | None, mean: float | None, before: int | None) -> int:
    """How many items should travel in one frame to one of ``width`` workers, each of which steps ``share`` at a time.

    Unmeasured ``def`` items travel alone, because each may take minutes. Unmeasured coroutines travel in parts of
    their lanes, so that many start at once, and lanes that others give up are soon used; where there are very many
    workers, in one. Measured ones travel by the time they take (Little's law: a worker with ``share`` lanes ends
    ``share / mean`` items a second). A short input is cut fine enough for every worker to get several parts.
    """
    parts: float = PARTS
    if mean is None:
        best = 1 if kind == "def" else max(1, min(256, share // max(1, min(PARTS, WIDE // width))))
    else:
        rate, busy = share / max(mean, 1e-7), SERVE_SECONDS * width
        best = int(rate * max(BATCH_SECONDS, busy))
        if before is not None:
            best = min(best, before * GROWTH)
        if size is not None:
            parts = max(1.0, min(PARTS, size / (rate * width) / busy))
    if size is not None:
        best = min(best, math.ceil(size / (parts * width)))
    return max(1, min(BATCH_MOST[kind], best))


def look_again(workers: int) -> float:
    """How long whoever idles waits until others are looked through for work again. Few of them are, at any time.

    Among many there is one that idles with every batch that ends: to look at all others for each would cost more than
    the batches, while what they hold ends by itself.
    """
    return LOOK_SECONDS * workers if workers >= WIDE else 0.0


def largest_batch(max_tasks: int | None) -> int:
    """How many items may travel together to a worker that begins no more than ``max_tasks``.

    Whoever may not take that many has taken its last, so an eighth of what it may begin is forgone at most, and
    nothing where it may begin few.
    """
    return UNLIMITED if max_tasks is None else max(1, max_tasks // 8)


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


def smoothed(mean: float, weight: float, seconds: float, count: int) -> tuple[float, float]:
    """The moving mean of seconds per item, and its weight, after ``count`` more took ``seconds`` together.

    It begins with no weight. More items weigh more, or a long one among many short ones would make every batch small;
    but no more than MEASURED_MOST, or a few long ones behind thousands of short ones would long be taken for short. One
    item makes less of what was known be forgotten than many do, though not as much less as there are fewer.
    """
    more = min(count, MEASURED_MOST)
    weight = MEASURED_KEPT ** math.sqrt(more / MEASURED_MOST) * weight + more
    return mean + (seconds / count - mean) * more / weight, weight
