"""The rounds of a subject: every contender once in each, by turns, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.figures import order
from benchmarks.speed.seats import Failed, Seat
from benchmarks.speed.subjects import Contender, Size, Subject


@dataclass
class Measured:
    """What a subject's rounds have given; ``failed`` says of a contender why it gave no more."""

    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def note(self, title: str, metrics: Mapping[str, float]) -> None:
        """One turn."""
        for name, value in metrics.items():
            self.rounds.setdefault(title, {}).setdefault(name, []).append(value)


class Course:
    """Runs them. What the contenders print goes into files in ``folder``."""

    def __init__(self, subject: Subject, size: Size, folder: Path) -> None:
        self._subject, self._size, self._folder = subject, size, folder
        self._seats: dict[str, Seat] = {}
        self.measured = Measured()

    def run(self, contenders: Sequence[Contender], number: int) -> Measured:
        """So many rounds. Whoever fails once is left out from then on."""
        try:
            # To start takes a pool longer than to measure it, and mostly it waits.
            lasting = [contender for contender in contenders if not contender.fresh]
            for step in (self._start, self._ready):
                for contender in lasting:
                    self._try(contender, step)
            for at in range(number):
                if self._subject.at_once:
                    self._together(lasting)
                else:
                    for contender in order(contenders, at):
                        self._try(contender, self._turn)
        finally:
            for seat in self._seats.values():
                seat.dismiss()
            for seat in self._seats.values():
                seat.end()
        return self.measured

    def _start(self, contender: Contender) -> None:
        log = self._folder / f"{self._subject.key}-{contender.title}.log".replace("/", "-")
        self._seats[contender.title] = Seat(self._subject, contender, self._size, log)

    def _ready(self, contender: Contender) -> None:
        self._seats[contender.title].ready()
        if not self._subject.at_once:
            self._seats[contender.title].rest()

    def _turn(self, contender: Contender) -> None:
        if contender.fresh:
            self._start(contender)
        seat = self._seats[contender.title]
        try:
            if contender.fresh:
                seat.ready()
            seat.wake()
            seat.begin()
            self.measured.note(contender.title, seat.metrics())
        finally:
            if contender.fresh:
                self._seats.pop(contender.title).end()
            else:
                seat.rest()

    def _together(self, contenders: Sequence[Contender]) -> None:
        steps: tuple[Callable[[Contender], object], ...] = (
            lambda contender: self._seats[contender.title].begin(),
            lambda contender: self.measured.note(contender.title, self._seats[contender.title].metrics()),
        )
        for step in steps:
            for contender in contenders:
                self._try(contender, step)

    def _try(self, contender: Contender, step: Callable[[Contender], object]) -> None:
        if contender.title in self.measured.failed:
            return
        try:
            step(contender)
        except Failed as failure:
            self.measured.failed[contender.title] = str(failure)
