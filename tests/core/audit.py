"""The ledger's sums, counted again from its books; and a picture of everything that it remembers."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from aiopool._core.books import KINDS
from aiopool._core.items import JobBook
from aiopool._core.ledger import Ledger


def audit(ledger: Ledger) -> None:
    """Every sum is what it sums up, and nobody who could work is left without work that waits."""
    _audit_workers(ledger)
    _audit_jobs(ledger)
    _audit_team(ledger)
    _audit_spread(ledger)
    _audit_suspects(ledger)
    _audit_tasks(ledger)
    _audit_dates(ledger)


def _audit_workers(ledger: Ledger) -> None:
    books = ledger._books
    for worker in books.workers.values():
        assert worker.load == sum(len(batch.pending) for batch in worker.batches.values())
        kinds = {batch.job.kind for batch in worker.batches.values()}
        assert kinds == ({worker.kind} if worker.kind else set())
        assert worker.singles == sum(batch.job.opened.single for batch in worker.batches.values())
        assert all(batch.pending for batch in worker.batches.values())
        assert set(worker.jobs) == {job.id for job in books.jobs.values() if worker.id in job.crew}
        assert all(worker.asks.values())
        assert (worker.id in books.idle) == (worker.state == "ready" and not worker.load)
        assert worker.claim is None or (worker.state == "ready" and worker.load and not worker.claim.over)
        assert not worker.alone or [batch.alone for batch in worker.batches.values()] == [True]
    for kind in KINDS:
        assert books.loaded[kind] == sum(worker.kind == kind for worker in books.workers.values())
    assert books.roster.total == sum(worker.load for worker in books.workers.values())
    listed = list(books.roster)
    assert {worker.id for worker in listed} == {
        worker.id for worker in books.workers.values() if worker.state in {"ready", "retiring"}
    }
    assert [worker.load for worker in listed] == sorted(worker.load for worker in listed)
    assert len(listed) == len({worker.id for worker in listed}) == len(list(reversed(books.roster)))


def _audit_jobs(ledger: Ledger) -> None:
    books = ledger._books
    claims = Counter(worker.claim.id for worker in books.workers.values() if worker.claim)
    for job in books.jobs.values():
        assert job.in_flight == sum(member.out for member in job.crew.values())
        assert job.held == sum(member.held for member in job.crew.values())
        assert job.held + job.claims <= job.limit
        assert (job.need, job.reading) == job.weight()
        assert job.claims == claims[job.id]
        single, eager = job.opened.single, not job.paused
        assert (job.id in books.waiting[job.kind]) == (eager and bool(job.alone or (job.ready and not single)))
        assert (job.id in books.singles[job.kind]) == (eager and bool(job.ready and single))
        _audit_attempts(ledger, job)
        for number, member in job.crew.items():
            out = sum(len(batch.pending) for batch in books.workers[number].batches.values() if batch.job is job)
            assert member.out == out
    for kind in KINDS:
        mine = [job for job in books.jobs.values() if job.kind == kind]
        assert books.need[kind] == sum(job.need for job in mine)
        assert books.reading[kind] == sum(job.reading for job in mine)
        assert books.open_singles[kind] == sum(job.opened.single for job in mine)
        assert set(books.waiting[kind]) | set(books.singles[kind]) <= {job.id for job in mine}


def _audit_attempts(ledger: Ledger, job: JobBook) -> None:
    books = ledger._books
    if not job.paused and (job.rest or not job.may_start(books.now)):
        assert job.id in books.waking
    if not job.opened.retries:
        assert not job.rest
        assert not job.attempts
        return
    resting = [index for _, index in job.rest]
    batches = [batch for queue in (job.ready, job.alone) for batch in queue]
    batches += [batch for worker in books.workers.values() for batch in worker.batches.values() if batch.job is job]
    open_items = {batch.items[position]: batch for batch in batches for position in batch.pending}
    assert len(resting) == len(set(resting))
    assert not (set(resting) & (open_items.keys() | job.recoding | job.suspended))
    elsewhere = {*open_items, *job.recoding, *job.suspended}
    assert set(job.attempts) == {*resting, *(index for index in elsewhere if job.begun(index) > 1)}
    assert all(attempts <= job.opened.retries for attempts in job.attempts.values())
    assert all(batch.attempt == job.begun(index) for index, batch in open_items.items())


def _audit_suspects(ledger: Ledger) -> None:
    """Whoever is held will be let go, whoever is tried is somewhere, and nobody is forgotten."""
    books, suspects = ledger._books, ledger._suspects
    held = [(job.id, index) for suspicion in suspects._open for job, index in suspicion.held if not job.over]
    assert sorted(held) == sorted((job.id, index) for job in books.jobs.values() for index in job.suspended)
    dates = [suspicion.until for suspicion in suspects._open]
    dates += [worker.alone_until for worker in books.workers.values() if worker.alone]
    for job in books.jobs.values():
        batches = [*job.ready, *job.alone]
        batches += [batch for worker in books.workers.values() for batch in worker.batches.values() if batch.job is job]
        open_items = {batch.items[position]: batch.trial for batch in batches for position in batch.pending}
        assert not job.suspended & (open_items.keys() | job.recoding)
        assert job.trials.keys() <= open_items.keys() | job.recoding
        assert {index: trial for index, trial in open_items.items() if trial is not None} == {
            index: trial for index, trial in job.trials.items() if index in open_items
        }
        assert all(batch.alone for batch in job.alone)
        assert not any(batch.alone for batch in job.ready)
        for trial in job.trials.values():
            assert trial.suspicion is None or trial.suspicion in suspects._open or not trial.suspicion.held
            dates.append(trial.until)
    assert books._dates.get("suspects", math.inf) <= min(dates, default=math.inf) + 1e-6


def _audit_tasks(ledger: Ledger) -> None:
    """Who has taken its last item is known, and no place has more than two workers for that."""
    books = ledger._books
    for worker in books.workers.values():
        assert worker.tasks >= 0
        assert (worker.id in books.spent) == (worker.spent and worker.state == "ready")
        assert not (worker.state == "ready" and worker.spent != (worker.tasks < books.largest))
        assert not worker.spent or worker.load or worker.state != "ready", "it is let go"
        assert worker.waits_for is None or (worker.waits_for.load and worker.waits_for.heir is worker)
        assert worker.heir is None or worker.heir.waits_for is worker
        assert worker.waits_for is None or worker.waits_for.id in books.workers


def _audit_dates(ledger: Ledger) -> None:
    """Nobody who must be seen to is forgotten."""
    books, team = ledger._books, ledger._team
    never = math.inf
    assert (books._wake or never) == min(books._dates.values(), default=never)
    assert set(books.waking) <= set(books.jobs)
    assert not books.waking or "jobs" in books._dates
    for worker in books.workers.values():
        assert books._dates.get("workers", never) <= (team._deadline(worker) or never) + 1e-6
        assert all(position in worker.batches[batch].pending for batch, position in worker.overdue)
        assert all(not worker.batches[batch].job.over for batch, _ in worker.overdue)


def _audit_team(ledger: Ledger) -> None:
    books, team = ledger._books, ledger._team
    staying = [worker for worker in books.workers.values() if worker.staying]
    own = [worker for worker in staying if not worker.extra]
    extras = [worker for worker in staying if worker.extra]
    assert team._count == len(own) <= books.size
    assert len({worker.index for worker in staying}) == len(staying)
    assert all((worker.index < books.size) != worker.extra for worker in staying)
    assert {kind: extra.id for kind, extra in team._extras.items()} == {extra.reserved: extra.id for extra in extras}
    assert len({extra.reserved for extra in extras}) == len(extras)
    wanted = min(books.size, sum(books.need.values()))
    assert len(own) >= wanted or team.is_hopeless


def _audit_spread(ledger: Ledger) -> None:
    """Question 1 was asked everywhere: nobody who could begin an item of a waiting job was passed by."""
    books, spread, team = ledger._books, ledger._spread, ledger._team
    for kind in KINDS:
        for job in [*books.waiting[kind].values(), *books.singles[kind].values()]:
            able = [worker for worker in books.workers.values() if worker.serves(kind)]
            if job.opened.pinned:
                continue
            if job.opened.rate is not None and (job.id in books.waking or not spread._goes(job)):
                continue
            if (job.opened.concurrency is None or spread._has_lanes(job)) and not team.coming[kind]:
                assert not any(job.ready and spread._room(worker, job) > 0 for worker in able)
            if job.alone and job.held < job.limit:
                assert all(worker.load or not spread._may_try(worker, job) for worker in able)


NOT_KEPT = {"now", "orders", "_handlers", "heard_at", "pinged_at"}
"""What may differ after a fact that was refused: that something was heard at all."""


def portrait(thing: object, seen: dict[int, int] | None = None) -> object:
    """Everything that can be reached from here, as plain values that can be compared; but for the present moment."""
    seen = {} if seen is None else seen
    if isinstance(thing, int | float | str | None):
        return thing
    if id(thing) in seen:
        return f"{type(thing).__name__} number {seen[id(thing)]}"
    seen[id(thing)] = len(seen)
    if isinstance(thing, Mapping):
        picture: object = [(portrait(key, seen), portrait(value, seen)) for key, value in thing.items()]
    elif isinstance(thing, AbstractSet):
        picture = frozenset(thing)
    elif isinstance(thing, list | tuple | deque):
        picture = [portrait(entry, seen) for entry in thing]
    elif type(thing).__module__.startswith("aiopool"):
        names = {*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", ())} - NOT_KEPT
        picture = [(name, portrait(getattr(thing, name), seen)) for name in sorted(names)]
    else:
        picture = repr(thing)
    return picture
