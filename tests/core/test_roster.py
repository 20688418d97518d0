"""The order of workers by load, against a list that is sorted anew each time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aiopool._core.roster import Roster
from aiopool._core.workers import WorkerBook


class RosterMachine(RuleBasedStateMachine):
    """Workers come, get and end items, are about to die, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.listed: list[WorkerBook] = []
        self.dying: list[WorkerBook] = []
        self.numbers = 0

    @rule()
    def come(self) -> None:
        """One is ready."""
        self.numbers += 1
        worker = WorkerBook(self.numbers, self.numbers)
        self.roster.add(worker)
        self.listed.append(worker)

    @rule(number=st.integers(0, 20), load=st.integers(0, 5))
    def change(self, number: int, load: int) -> None:
        """It gets items or ends some, whether it is about to die or not."""
        workers = self.listed + self.dying
        if workers:
            worker = workers[number % len(workers)]
            self.roster.change(worker, load - worker.load)

    @rule(number=st.integers(0, 20), twice=st.booleans())
    def drop(self, number: int, *, twice: bool) -> None:
        """It is about to die, and perhaps that is said twice."""
        if self.listed:
            worker = self.listed.pop(number % len(self.listed))
            self.dying.append(worker)
            for _ in range(1 + twice):
                self.roster.drop(worker)

    @rule()
    def go(self) -> None:
        """One that was about to die is gone."""
        if self.dying:
            self.roster.forget(self.dying.pop())

    @invariant()
    def is_in_order(self) -> None:
        """Forwards by load and then by number; backwards by load."""
        expected = sorted(self.listed, key=lambda worker: (worker.load, worker.id))
        assert list(self.roster) == expected
        assert [worker.load for worker in reversed(self.roster)] == [worker.load for worker in reversed(expected)]
        assert self.roster.total == sum(worker.load for worker in self.listed + self.dying)


TestRoster = RosterMachine.TestCase
