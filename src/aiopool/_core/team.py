"""How many workers there are, and for whom: starting, retiring, killing, and sharing them among the two kinds.

A ``def`` item never runs beside coroutines, so both kinds cannot share a worker. While both have items to send, every
worker is reserved for one of them: each kind gets what it needs where that is enough for both, and at least half where
it is not. A reservation moves at once, the items of the other kind that have started run to their end. A kind that has
waited for a second without any worker to hope for gets one beyond the pool's size, until another one is free for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from aiopool._core import facts as f
from aiopool._core import policy
from aiopool._core.books import KINDS, OTHER, Books
from aiopool._core.facts import Kind
from aiopool._core.workers import State, WorkerBook

_AS_EVER = (None, 0, 0)
"""How workers are arranged while the kinds are not in each other's way."""


class Team:
    """The workers as a whole.

    ``width`` is how many of them share the concurrency of a job of each kind, ``expected`` how many serve the kind
    now or when they have started, ``coming`` how many of these are starting. ``seats`` counts also those that still
    hold items of the kind and will then serve the other one.
    """

    def __init__(self, books: Books, *, start_timeout: float, grace: float, idle_timeout: float | None) -> None:
        self._books = books
        self._start_timeout = start_timeout
        self._grace = grace
        self._idle_timeout = idle_timeout
        self.width: dict[Kind, int] = {"async": books.size, "def": books.size}
        self.expected: dict[Kind, int] = {"async": 0, "def": 0}
        self.coming: dict[Kind, int] = {"async": 0, "def": 0}
        self.seats: dict[Kind, int] = {"async": 0, "def": 0}
        self._number = 0
        self._count = 0
        self._extras: dict[Kind, WorkerBook] = {}
        self._changed = False
        self._arranged: tuple[int | None, ...] = (None, 0, 0)
        self._stalled: dict[Kind, float] = {}
        self._start_failures = 0
        self._unfit = 0
        self._succeeded: dict[int, WorkerBook] = {}
        self._tokens: dict[int, set[int]] = {}

    # --- coming ------------------------------------------------------------------------------------------------------

    def staff(self) -> None:
        """Start workers while there is more work than workers, and places are free."""
        self._have(self._wanted)

    def warm_up(self, count: int) -> None:
        """Start workers before there is work. They go when they have been idle for long enough, like any other."""
        self._have(min(self._books.size, count))

    def _have(self, count: int) -> None:
        if count > self._count and not self.is_hopeless:
            self._start_own(count - self._count)

    @property
    def _wanted(self) -> int:
        return min(self._books.size, self._books.need["async"] + self._books.need["def"])

    def _start_own(self, count: int) -> None:
        for index in list(itertools.islice(self._free_places(0), count)):
            self._count += 1
            self._start(index)

    def _free_places(self, first: int) -> Iterator[int]:
        taken = {worker.index for worker in self._books.workers.values() if worker.staying}
        return (index for index in itertools.count(first) if index not in taken)

    def _start(self, index: int, *, extra_for: Kind | None = None) -> WorkerBook:
        books = self._books
        self._number += 1
        worker = WorkerBook(self._number, index, extra=extra_for is not None, reserved=extra_for, started_at=books.now)
        if books.max_tasks is not None:
            worker.tasks = books.max_tasks
            self._inherit(worker)
        books.workers[worker.id] = worker
        books.orders.append(f.StartWorker(worker.id, index))
        books.due(books.now + self._start_timeout)
        self._changed = True
        return worker

    def arrived(self, worker: WorkerBook) -> None:
        """The worker is ready."""
        self._start_failures = 0
        worker.state = "ready"
        worker.idle_since = self._books.now
        self._books.idle[worker.id] = worker
        self._books.roster.add(worker)
        self._books.curious = True
        self._changed = True

    def not_started(self, *, hopeless: bool = False) -> None:
        """A worker has died while starting. ``hopeless``: it said why, and the next one would say the same."""
        self._start_failures += policy.START_FAILURES if hopeless else 1

    def try_again(self) -> None:
        """Something has changed: workers may be able to start."""
        self._start_failures = self._unfit = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether no more workers are started: those that were came to nothing."""
        return max(self._start_failures, self._unfit) >= policy.START_FAILURES

    @property
    def is_stuck(self) -> bool:
        """Whether there is no worker, and none can be started."""
        return self.is_hopeless and not self._count

    # --- going -------------------------------------------------------------------------------------------------------

    def retire(self, worker: WorkerBook) -> None:
        """Let the worker end its items, and then itself."""
        if worker.state == "starting":
            self.kill(worker, "it is not needed any more")
        elif worker.state == "ready":
            self._leave(worker, "retiring")
            self._books.drain(worker, for_good=True)
            self.part(worker)

    def part(self, worker: WorkerBook) -> None:
        """Hang up on a retiring worker once it holds nothing."""
        if worker.state == "retiring" and not worker.load and not worker.hung_up:
            worker.hung_up = True
            self._books.orders.append(f.HangUp(worker.id))

    def kill(self, worker: WorkerBook, why: str) -> None:
        """Let the worker end now."""
        if worker.state != "dying":
            self._leave(worker, "dying")
            self._books.orders.append(f.Kill(worker.id, why))

    def heavy(self, worker: WorkerBook, *, far: bool) -> None:
        """The worker takes too much memory: another one shall do its work, and ``far``: at once.

        Where it has begun nothing, the next one would take as much: that is a worker that cannot start.
        """
        if worker.state == "dying":
            return
        if worker.state == "ready" and not (worker.done or worker.load):
            self._unfit += 1
        if worker.state == "starting":
            self.not_started()
            self.kill(worker, "it did not start within the memory that a worker may take")
        elif far:
            worker.heavy = True
            self.kill(worker, "it took far more memory than a worker may")
        else:
            self.retire(worker)

    def gone(self, worker: WorkerBook) -> None:
        """The worker has died; what it held is for others to see to."""
        self._leave(worker, "dying")
        if worker.done:
            self._unfit = 0
        self._books.free_heir(worker)
        if worker.waits_for is not None:
            worker.waits_for.heir = None
        del self._books.workers[worker.id]
        self._books.roster.forget(worker)
        if worker.kind is not None:
            self._books.loaded[worker.kind] -= 1
        for left in self._tokens.values():
            left.discard(worker.id)
        self._pass_tokens()

    def _leave(self, worker: WorkerBook, state: State) -> None:
        if worker.staying:
            self._changed = True
            if worker.extra:
                self._extras = {kind: extra for kind, extra in self._extras.items() if extra is not worker}
            else:
                self._count -= 1
            for job in worker.jobs.values():
                if job.opened.concurrency is None:
                    job.forgo(worker.id)
        worker.state = state
        self._books.idle.pop(worker.id, None)
        self._books.spent.pop(worker.id, None)
        if state == "dying":
            self._books.roster.drop(worker)
        self._books.release(worker)

    def renew(self) -> bool:
        """Let those go that have taken their last item; whether one has gone.

        While there is more to do it goes before its items have ended, so that the one after it is up by then. But no
        place has more than two.
        """
        gone = False
        for worker in list(self._books.spent.values()):
            if not worker.load:
                self.retire(worker)
                gone = True
            elif worker.waits_for is None and self._is_more_to_do():
                # What it has not begun it keeps, as any other worker would, until somebody has nothing to do.
                self._leave(worker, "retiring")
                self._succeeded[worker.index] = worker
                gone = True
        return gone

    def _is_more_to_do(self) -> bool:
        """Whether there are more items than workers, and something has not been sent."""
        left, unsent = 0, any(self._books.is_short(kind) for kind in KINDS)
        for job in self._books.jobs.values():
            if not job.paused:
                left += job.left
                unsent = unsent or job.may_bring_more
            if unsent and left > self._count:
                return True
        return False

    def _inherit(self, worker: WorkerBook) -> None:
        """The worker has the place of one that may not have ended yet."""
        before = self._succeeded.pop(worker.index, None)
        if before is not None and before.load and before.id in self._books.workers:
            worker.waits_for, before.heir = before, worker

    def resize(self, token: int) -> None:
        """The pool's size has changed: let those go that stand beyond it."""
        beyond = [worker for worker in self._books.workers.values() if worker.staying and self._is_beyond(worker)]
        self.replace(beyond, token, now=False)
        self._changed = True

    def _is_beyond(self, worker: WorkerBook) -> bool:
        # An extra worker has a place that the pool may now need; who still needs it asks again.
        return worker.extra or worker.index >= self._books.size

    def replace(self, workers: Sequence[WorkerBook], token: int, *, now: bool) -> None:
        """Let these go; the token is reached when they are gone."""
        self._tokens[token] = {worker.id for worker in workers}
        for worker in workers:
            if now:
                self.kill(worker, "the pool is restarted")
            else:
                self.retire(worker)
        self._pass_tokens()

    def _pass_tokens(self) -> None:
        for token in [token for token, left in self._tokens.items() if not left]:
            del self._tokens[token]
            self._books.orders.append(f.Reached(token))

    # --- for whom ----------------------------------------------------------------------------------------------------

    def arrange(self) -> bool:
        """Reserve workers for the kinds anew, if anything has changed; whether somebody may now take more."""
        if self._arranged == _AS_EVER and not self._changed and not self._books.changed_sides and self._is_one_sided():
            return False
        split = self._wanted_split()
        arranged = split, *(self._in_the_way(kind) if split is None else 0 for kind in KINDS)
        if arranged == self._arranged and not self._changed and not self._books.changed_sides:
            return False
        self._arranged, self._changed, self._books.changed_sides = arranged, False, False
        staying = [worker for worker in self._books.workers.values() if worker.staying]
        team = sorted((worker for worker in staying if not worker.extra), key=lambda worker: worker.index)
        if split is None:
            self._reserve_none(team)
        else:
            self._reserve(team, {"async": split, "def": self._books.size - split})
        for kind in KINDS:
            serving = [worker for worker in staying if worker.reserved in {None, kind}]
            self.expected[kind] = len(serving)
            self.coming[kind] = sum(worker.state == "starting" for worker in serving)
            self.seats[kind] = sum(worker.reserved in {None, kind} or worker.kind == kind for worker in staying)
        return True

    @property
    def is_calm(self) -> bool:
        """Whether workers are arranged, and neither beyond the pool's size nor about to be arranged anew."""
        unchanged = not (self._changed or self._books.changed_sides)
        return unchanged and self._arranged == _AS_EVER and not (self._extras or self._stalled)

    def _is_one_sided(self) -> bool:
        """Whether one kind has neither anything to do nor any worker, so that there is nothing to share."""
        need, loaded = self._books.need, self._books.loaded
        return not (need["async"] or loaded["async"]) or not (need["def"] or loaded["def"])

    def _in_the_way(self, kind: Kind) -> int:
        """How many workers a kind that has items to send cannot have, because they still run the other one's."""
        return self._books.loaded[OTHER[kind]] if self._books.wants(kind) else 0

    def _wanted_split(self) -> int | None:
        """How many workers are for coroutines, or None while the kinds are not in each other's way."""
        books = self._books
        if not (books.wants("async") and books.wants("def")):
            return None
        size = books.size
        if size == 1:
            return int(self._kind_of_one() == "async")
        coroutines, functions = (min(size, books.need[kind]) for kind in KINDS)
        return max(min(coroutines, size // 2), size - functions)

    def _kind_of_one(self) -> Kind:
        """For whom the only worker is: for what it holds, else for whoever waits, else as it was."""
        books = self._books
        held = [worker.kind for worker in books.workers.values() if worker.kind and worker.staying and not worker.extra]
        waiting = [kind for kind in KINDS if books.is_short(kind)]
        if held or len(waiting) == 1:
            return (held or waiting)[0]
        return "def" if self._arranged[0] == 0 else "async"

    def _reserve_none(self, team: Sequence[WorkerBook]) -> None:
        """Whoever has items to send shares them among all workers but those that still run the other kind's."""
        for worker in team:
            worker.reserved = None
            worker.place = worker.index
        for kind in KINDS:
            self.width[kind] = self._books.size
            if self._in_the_way(kind):
                free = [worker for worker in team if worker.kind != OTHER[kind]]
                self.width[kind] = max(1, self._books.size - len(team) + len(free))
                for place, worker in enumerate(free):
                    worker.place = place

    def _reserve(self, team: Sequence[WorkerBook], quota: dict[Kind, int]) -> None:
        left = dict(quota)
        # First those that hold what they are reserved for, so that one that is being emptied goes on with that.
        for worker in sorted(team, key=lambda worker: (worker.kind is None, worker.reserved != worker.kind)):
            wish = worker.kind or worker.reserved
            kind = wish if wish and left[wish] > 0 else max(KINDS, key=left.__getitem__)
            left[kind] -= 1
            worker.reserved = kind
            if worker.kind == OTHER[kind]:
                self._books.drain(worker)
        for kind in KINDS:
            mine = [worker for worker in team if worker.reserved == kind]
            if kind in self._extras:
                mine.append(self._extras[kind])
            for place, worker in enumerate(mine):
                worker.place = place
            self.width[kind] = max(1, quota[kind] + (kind in self._extras))

    # --- a kind without a worker -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Note which kinds wait for a worker that the other one keeps."""
        books = self._books
        for kind in KINDS:
            if not books.is_short(kind) or kind in self._extras:
                self._stalled.pop(kind, None)
            elif kind not in self._stalled and (books.loaded[OTHER[kind]] or self._arranged[0] is not None):
                self._stalled[kind] = books.now
                books.due(books.now + policy.DRAIN_SECONDS)

    def dismiss(self) -> None:
        """Let workers beyond the pool's size go when the pool has one of its own for what they do."""
        for kind, extra in list(self._extras.items()) if self._extras else ():
            if self._has_one_for(kind):
                self.retire(extra)

    def _has_one_for(self, kind: Kind) -> bool:
        """Whether one of the pool's own workers serves this kind."""
        return any(
            worker.state == "ready" and not worker.extra and worker.suits(kind)
            for worker in self._books.workers.values()
        )

    def _relieve(self, kind: Kind) -> None:
        books = self._books
        if any(worker.staying and worker.suits(kind) for worker in books.workers.values()):
            return
        if self.is_hopeless:
            return
        if self._count < books.size:
            self._start_own(1)
        else:
            index = next(self._free_places(books.size))
            self._extras[kind] = self._start(index, extra_for=kind)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """See which workers are late, and order the next alarm."""
        now = self._books.now
        for worker in list(self._books.workers.values()):
            due = self._deadline(worker)
            if due is not None and now >= due:
                self._see_to(worker)
                due = self._deadline(worker)
            if due is not None:
                self._books.due(due)
        for kind, since in list(self._stalled.items()):
            if now < since + policy.DRAIN_SECONDS:
                self._books.due(since + policy.DRAIN_SECONDS)
            else:
                del self._stalled[kind]
                self._relieve(kind)

    def _deadline(self, worker: WorkerBook) -> float | None:
        """When the worker will have to be seen to."""
        if worker.state == "starting":
            return worker.started_at + self._start_timeout
        if worker.state == "dying":
            return None
        dates = [self._given_up_at(worker), self._asked_at(worker)]
        if worker.state == "ready" and worker.idle_since is not None and not worker.cancelling:
            patience = policy.LINGER_SECONDS if worker.extra else self._idle_timeout
            dates.append(None if patience is None else worker.idle_since + patience)
        return min((date for date in dates if date is not None), default=None)

    def _given_up_at(self, worker: WorkerBook) -> float | None:
        """When it was deaf for too long: first it retires, so that its replacement is there before it is killed."""
        doomed = worker.doomed_at
        if doomed is None or worker.state != "ready":
            return doomed
        return doomed - max(0.0, self._grace - policy.DEAF_SECONDS)

    @staticmethod
    def _asked_at(worker: WorkerBook) -> float | None:
        """When it has been silent for too long: first it is asked, then killed."""
        silent = worker.silent_at
        return silent if silent is None or worker.pinged_at is None else worker.pinged_at + policy.ANSWER_SECONDS

    def _see_to(self, worker: WorkerBook) -> None:
        now = self._books.now
        if worker.state == "starting":
            self.not_started()
            self.kill(worker, f"it did not start within {self._start_timeout:g} s")
        elif (given_up := self._given_up_at(worker)) is not None and now >= given_up:
            self._give_up(worker)
        elif (asked := self._asked_at(worker)) is not None and now >= asked:
            self._ask(worker)
        elif not worker.extra and self._count <= self._wanted:
            # Another one would start in its place at once.
            worker.idle_since = now
        else:
            # Whatever kept workers from starting, by the time somebody wants one again it may be over.
            self.try_again()
            self.retire(worker)

    def _give_up(self, worker: WorkerBook) -> None:
        """What shall end there does not."""
        doomed, now = worker.doomed_at, self._books.now
        if worker.state == "ready" and doomed is not None and now < doomed:
            self.retire(worker)
        elif any(now >= date for date in worker.cancelling.values()):
            self.kill(worker, f"a cancelled item did not end within {self._grace:g} s")
        else:
            self.kill(worker, f"an item did not end within {self._grace:g} s after its timeout")

    def _ask(self, worker: WorkerBook) -> None:
        """It should have told of an item whose time is over: is it there at all? C code can hold all of a process."""
        if worker.pinged_at is None:
            worker.pinged_at = self._books.now
            self._books.orders.append(f.SendPing(worker.id))
        else:
            worker.mute = True
            silent = self._books.now - worker.heard_at
            self.kill(worker, f"it does not answer, and an item has a timeout: nothing was heard for {silent:.1f} s")

    def watch_idle(self, worker: WorkerBook) -> None:
        """The worker has nothing to do: it may stay so for a while only."""
        due = self._deadline(worker)
        if due is not None:
            self._books.due(due)
