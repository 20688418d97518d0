"""The states of workers and items, as tables that are drawn from the ledger itself.

The ledger is pure, so it can be played with while the pages are built: each scene below is a small story, told to a
real ledger by the world that its tests use. Whatever changes state is written down, with the fact that did it. So the
tables cannot be wrong about the code; that they are complete, a test sees to.

In a page, ``{ledger-table} workers`` or ``{ledger-table} items``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.core.world import World  # conf.py says where the tests are; they are no installed package

from aiopool._core import facts as f
from aiopool._core.ledger import Ledger

Changes = dict[tuple[str, str], set[str]]
"""From which state to which, and the names of the facts that did it."""

WORKERS = {
    "": "not there",
    "starting": "its process is being set up",
    "ready": "takes items, or waits for some",
    "retiring": "takes nothing new; hangs up when it holds nothing",
    "dying": "was ordered to end at once",
    "gone": "its process has ended, and all that it had sent was read",
}
ITEMS = {
    "unread": "has not been read from the input",
    "ready": "stands in a batch that waits for a worker",
    "sent": "is at a worker: it runs, or waits there for its turn",
    "resting": "has failed, and waits for its next attempt",
    "being made": "was at a worker, and is pickled once more",
    "suspect": "waits for a worker that has nothing else, because one died with it",
    "held": "was beside a suspect, and waits for the verdict",
    "ended": "has a value or a named error",
    "dropped": "its job was over before it ended",
}
BY_MANY = {
    ("ready", "sent"): "whatever makes room in a worker, brings one, or lets the job start more",
    ("", "starting"): "whatever leaves more to do than workers for it",
    ("ready", "retiring"): "whatever leaves less to do, or makes it too old, too big, or one too many",
}
"""Changes that nearly every fact can cause, because after each the ledger looks again at who could take what."""


# --- what is seen ----------------------------------------------------------------------------------------------------


def states_of_workers(ledger: Ledger) -> dict[int, str]:
    """In which state each worker is."""
    return {number: worker.state for number, worker in ledger.workers.items()}


def states_of_items(ledger: Ledger) -> dict[tuple[int, int], str]:
    """Where each item is that has been read and has not ended; by job and index."""
    places: dict[tuple[int, int], str] = {}
    for job in ledger.jobs.values():
        for batches, state in ((job.ready, "ready"), (job.alone, "suspect")):
            places |= {(job.id, batch.items[position]): state for batch in batches for position in batch.pending}
        places |= {(job.id, index): "being made" for index in job.recoding}
        places |= {(job.id, index): "held" for index in job.suspended}
        places |= {(job.id, index): "resting" for _, index in job.rest}
    for worker in ledger.workers.values():
        for batch in worker.batches.values():
            places |= {(batch.job.id, batch.items[position]): "sent" for position in batch.pending}
    return places


class Watched(World):
    """A world that writes down what changes its state."""

    def __init__(self, size: int = 2, **options: float) -> None:
        super().__init__(size, **options)
        self.workers_seen: Changes = defaultdict(set)
        self.items_seen: Changes = defaultdict(set)
        self._tell = self.ledger.tell
        self.ledger.tell = self._watch  # type: ignore[method-assign]

    def _watch(self, fact: f.Fact, now: float) -> list[f.Command]:
        workers, items = states_of_workers(self.ledger), states_of_items(self.ledger)
        orders = self._tell(fact, now)
        why = type(fact).__name__
        for _, before, after in changed(workers, states_of_workers(self.ledger)):
            self.workers_seen[before or "", after or "gone"].add(why)
        for (job, _), before, after in changed(items, states_of_items(self.ledger)):
            gone = "ended" if job in self.ledger.jobs else "dropped"
            self.items_seen[before or "unread", after or gone].add(why)
        return orders


def changed(before: Mapping[Any, str], after: Mapping[Any, str]) -> Iterator[tuple[Any, str | None, str | None]]:
    """What is not as it was."""
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


# --- the scenes ------------------------------------------------------------------------------------------------------


def a_job_that_ends_well(world: Watched) -> None:
    """Items of a list, and those of an iterator; the pool is closed behind them."""
    world.open("async", 40)
    world.open("def", 7, sized=False)
    world.play_to_the_end()


def items_that_fail(world: Watched) -> None:
    """Some fail once and rest, one to the end; one cannot be sent at all, one not sent again."""
    world.open(length=9, concurrency=1, retries=2, backoff=0.2, flaky={1: 1, 3: 9}, stop_on_failure=False)
    world.open(length=5, refused=frozenset({1}), stop_on_failure=False)
    world.play_out()
    for stops in (True, False):
        job = world.open("def", 3, retries=3, flaky={0: 2}, backoff=1.0, stop_on_failure=stops)
        world.calm()
        while not job.recodes and (world.go_on() or world.bustle_workers()):
            pass
        world.feed(job, refuse_again=True)
        world.play_out()


def a_failure_that_stops_its_job(world: Watched) -> None:
    """The others end where they stand: read, sent, resting."""
    world.open("def", 60, flaky={0: 1, 5: 9}, retries=1, backoff=50.0, concurrency=4)
    world.play_out()


def an_item_that_kills(world: Watched) -> None:
    """While it runs itself, and while its neighbour is at work; last in a job that may not run an item again."""
    world.open(length=8, poison=frozenset({2}), stop_on_failure=False)
    world.play_out()
    world.open(length=12, hidden=frozenset({5}), stop_on_failure=False)
    world.play_out()
    world.open(length=6, poison=frozenset({1}), rerun_lost=False, stop_on_failure=False)
    world.play_out()


def a_verdict_that_takes_long(world: Watched) -> None:
    """Suspects wait for an empty worker, which long items of others do not leave."""
    job = world.open(length=8, poison=frozenset({2}), stop_on_failure=False)
    world.open("async", 30)
    world.calm()
    world.ready()
    world.calm()
    world.die(world.at(0), stepping=next(iter(world.at(0).running)))
    world.calm()
    while world.ring() and job.running and world.bustle():
        pass
    world.play_out()


def a_job_that_is_cancelled(world: Watched) -> None:
    """Its items feel it; then those of another do not, and their workers are killed."""
    for stubborn in (False, True):
        job = world.open("def", 50, concurrency=2)
        world.calm()
        world.ready()
        world.calm()
        for worker in world.workers.values():
            worker.stubborn = stubborn
        world.cancel(job)
        for worker in list(world.workers.values()):
            for number in () if stubborn else list(worker.cancelled):
                world.unwind(worker, number)
        world.play_out()


def a_job_that_is_cancelled_while_much_is_open(world: Watched) -> None:
    """While items rest; while one is suspected and waits for an empty worker, and those beside it for the verdict."""
    job = world.open("def", 4, retries=2, backoff=50.0, flaky={0: 1})
    world.calm()
    world.ready()
    world.calm()
    world.finish_one()
    world.cancel(job)
    world.play_out()
    job = world.open("async", 6, poison=frozenset({2}))
    world.open("async", 60)
    world.calm()
    worker = next(worker for worker in world.workers.values() if job.id in worker.running.values())
    world.die(worker, stepping=next(spot for spot, number in worker.running.items() if number == job.id))
    world.deliver(worker)
    while world.feed(job):
        pass
    world.cancel(job)
    world.play_out()


def workers_of_one_item(world: Watched) -> None:
    """Each may begin one item only: it has its last as soon as it is there."""
    world.open("def", 12)
    world.play_out()


def a_pool_that_changes(world: Watched) -> None:
    """It grows, shrinks and is restarted while it works; then it has nothing to do for long."""
    world.open("async", 60)
    world.resize(4)
    world.restart(now=True)
    world.calm()
    world.restart()
    world.calm()
    world.resize(1)
    world.ready()
    world.calm()
    world.restart()
    world.restart(now=True)
    world.play_out()
    for _ in range(5):
        world.ring()
        world.calm()


def memory_that_runs_out(world: Watched) -> None:
    """A worker takes too much, then far too much; one does so while it starts, one while it leaves."""
    world.open("async", 30)
    world.calm()
    world.be_heavy(world.at(0))
    world.ready()
    world.calm()
    world.be_heavy(world.at(0))
    world.be_heavy(world.at(1), far=True)
    world.calm()
    for worker in list(world.workers.values()):
        world.be_heavy(worker, far=True)
    world.play_out()


def workers_that_do_not_start(world: Watched) -> None:
    """One dies, and others hang."""
    world.open("def", 3)
    world.calm()
    world.die(world.at(0))
    world.calm()
    world.ring()
    world.play_out()


def a_worker_that_says_why_it_cannot(world: Watched) -> None:
    """Its initializer has raised."""
    world.open("def", 3)
    world.calm()
    world.say_broken(world.at(0))
    world.play_out()


def deaths_at_bad_moments(world: Watched) -> None:
    """Of an idle worker, of one that leaves; and a job ends while a death is sorted out."""
    world.open("def", 4)
    world.play_out()
    world.die(world.at(0))
    world.calm()
    job = world.open("async", 30)
    world.calm()
    world.ready()
    world.calm()
    world.restart()
    world.die(next(iter(world.workers.values())))
    for worker in list(world.workers.values()):
        world.deliver(worker)
    world.cancel(job)
    world.play_out()
    world.open("async", 5)
    world.terminate()
    world.play_out()


SCENES: dict[Callable[[Watched], None], dict[str, int]] = {
    a_job_that_ends_well: {},
    items_that_fail: {},
    a_failure_that_stops_its_job: {},
    an_item_that_kills: {},
    a_verdict_that_takes_long: {},
    a_job_that_is_cancelled: {},
    a_job_that_is_cancelled_while_much_is_open: {},
    workers_of_one_item: {"max_tasks": 1},
    a_pool_that_changes: {},
    memory_that_runs_out: {},
    workers_that_do_not_start: {},
    a_worker_that_says_why_it_cannot: {},
    deaths_at_bad_moments: {},
}
"""The scenes, and the options of the pool in which each is played."""


def play() -> tuple[Changes, Changes]:
    """Play all scenes: what was seen of workers, what of items."""
    workers: Changes = defaultdict(set)
    items: Changes = defaultdict(set)
    for scene, options in SCENES.items():
        world = Watched(2, grace=2.0, idle_timeout=30.0, **options)
        scene(world)
        for seen, all_seen in ((world.workers_seen, workers), (world.items_seen, items)):
            for change, facts in seen.items():
                all_seen[change] |= facts
    return workers, items


# --- the tables ------------------------------------------------------------------------------------------------------


def rows(words: Mapping[str, str], seen: Changes) -> list[tuple[str, str, str]]:
    """The changes in the order of the states: from which, to which, told by which facts."""
    order = list(words)
    return [
        (before, after, BY_MANY.get((before, after)) or ", ".join(f"`{fact}`" for fact in sorted(seen[change])))
        for change in sorted(seen, key=lambda change: (order.index(change[0]), order.index(change[1])))
        for before, after in [change]
    ]


def markdown(words: Mapping[str, str], seen: Changes) -> list[str]:
    """Two tables: what the states mean, and what leads from one to another."""

    def named(state: str) -> str:
        return f"`{state}`" if state else ""

    return [
        "| state | what it means |",
        "|---|---|",
        *(f"| {named(state)} | {meaning} |" for state, meaning in words.items() if state),
        "",
        "| from | to | when the ledger is told, for example |",
        "|---|---|---|",
        *(f"| {named(before)} | {named(after)} | {facts} |" for before, after, facts in rows(words, seen)),
    ]


def table(which: str) -> list[str]:
    """The lines of the tables of ``workers`` or ``items``."""
    workers, items = play()
    return markdown(WORKERS, workers) if which == "workers" else markdown(ITEMS, items)


def setup(app: Any) -> dict[str, bool]:
    """Let pages say ``{ledger-table} workers``; Sphinx calls this."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class LedgerTable(SphinxDirective):
        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            parent = nodes.container()
            self.state.nested_parse(StringList(table(self.arguments[0]), __file__), 0, parent)
            return parent.children

    app.add_directive("ledger-table", LedgerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    print("\n".join([*table("workers"), "", *table("items")]))  # noqa: T201 - PYTHONPATH=. shows them without a build
