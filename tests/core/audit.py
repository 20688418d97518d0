"""The ledger's sums, counted again from its books; and a picture of everything that it remembers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from aiopool._core import policy
from aiopool._core.books import KINDS
from aiopool._core.ledger import Ledger


def audit(ledger: Ledger) -> None:
    """Every sum is what it sums up, and nobody who could work is left without work that waits."""
    _audit_workers(ledger)
    _audit_jobs(ledger)
    _audit_team(ledger)
    _audit_spread(ledger)


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
        assert not worker.alone or worker.load == 1
    for kind in KINDS:
        assert books.loaded[kind] == sum(worker.kind == kind for worker in books.workers.values())


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
        for number, member in job.crew.items():
            out = sum(len(batch.pending) for batch in books.workers[number].batches.values() if batch.job is job)
            assert member.out == out
    for kind in KINDS:
        mine = [job for job in books.jobs.values() if job.kind == kind]
        assert books.need[kind] == sum(job.need for job in mine)
        assert books.reading[kind] == sum(job.reading for job in mine)
        assert books.open_singles[kind] == sum(job.opened.single for job in mine)
        assert set(books.waiting[kind]) | set(books.singles[kind]) <= {job.id for job in mine}


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
    assert len(own) >= wanted or team._start_failures >= policy.START_FAILURES


def _audit_spread(ledger: Ledger) -> None:
    """Question 1 was asked everywhere: nobody who could begin an item of a waiting job was passed by."""
    books, spread, team = ledger._books, ledger._spread, ledger._team
    for kind in KINDS:
        for job in [*books.waiting[kind].values(), *books.singles[kind].values()]:
            able = [worker for worker in books.workers.values() if worker.serves(kind)]
            if job.opened.pinned:
                continue
            if (job.opened.concurrency is None or spread._has_lanes(job)) and not team.coming[kind]:
                assert not any(job.ready and spread._room(worker, job) > 0 for worker in able)
            if job.alone and job.held < job.limit:
                assert all(worker.load for worker in able)


def portrait(thing: object, seen: frozenset[int] = frozenset()) -> object:
    """Everything that can be reached from here, as plain values that can be compared; but for the present moment."""
    if id(thing) in seen:
        return f"a {type(thing).__name__} above"
    inside = seen | {id(thing)}
    if isinstance(thing, Mapping):
        picture: object = [(portrait(key, inside), portrait(value, inside)) for key, value in thing.items()]
    elif isinstance(thing, AbstractSet):
        picture = frozenset(portrait(entry, inside) for entry in thing)
    elif isinstance(thing, list | tuple | deque):
        picture = [portrait(entry, inside) for entry in thing]
    elif type(thing).__module__.startswith("aiopool"):
        names = sorted(
            {*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", ())} - {"now", "orders", "_handlers"}
        )
        picture = [(name, portrait(getattr(thing, name), inside)) for name in names]
    else:
        picture = repr(thing)
    return picture
