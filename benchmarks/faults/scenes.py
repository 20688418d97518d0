"""The faults, one function for each: what is done to a pool of two workers, and who must get what afterwards."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.faults import items
from benchmarks.faults.outcomes import BROKEN, HANG, LOST, OK, SKIPPED, Outcome
from benchmarks.faults.pools import Adapter, Function

START_SECONDS = 40.0
"""How long a pool may take until its first answers; how fast it starts is not asked here."""


class Answer:
    """A call that was asked for: its value or its error, when it came; if it came."""

    def __init__(self, pool: Adapter, fn: Function, args: tuple[Any, ...]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.handle: Any = None
        self.seconds = 0.0
        self._begun = time.monotonic()
        self._came = threading.Event()
        try:
            self.handle = pool.submit(fn, *args)
        except BaseException as error:  # noqa: BLE001  # whatever comes is the answer
            self._end(error)
            return
        threading.Thread(target=self._wait, args=(pool,), daemon=True).start()

    def _wait(self, pool: Adapter) -> None:
        try:
            self.value = pool.result(self.handle)
        except BaseException as error:  # noqa: BLE001  # whatever comes is the answer
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self.error, self.seconds = error, time.monotonic() - self._begun
        self._came.set()

    def came(self, seconds: float) -> bool:
        """Wait so long from the call on; whether it is there."""
        return self._came.wait(max(0.0, self._begun + seconds - time.monotonic()))

    def told(self) -> str:
        """Everything that its error says, causes and notes included."""
        said: list[str] = []
        error = self.error
        while error is not None and len(said) < 10:
            said.append(f"{type(error).__name__}: {error} {' '.join(getattr(error, '__notes__', []))}")
            error = error.__cause__ or error.__context__
        return " <- ".join(said) or repr(self.value)[:100]


class Scene:
    """A pool whose workers are up, with what is asked of it."""

    def __init__(self, kind: type[Adapter], folder: Path, workers: int = 2) -> None:
        self.pool = kind(workers)
        self.folder = str(folder)
        self.deadline = kind.deadline
        calls = [self.ask(items.meet, self.folder, f"meet-{number}", workers) for number in range(workers)]
        if not all(call.came(START_SECONDS) and call.error is None for call in calls):
            raise RuntimeError(f"the pool did not start: {[call.told() for call in calls]}")
        self.pids: list[int] = [call.value for call in calls]
        if len(set(self.pids)) != workers:
            raise RuntimeError(f"not {workers} workers: {self.pids}")

    def ask(self, fn: Function, *args: Any) -> Answer:
        """Start a call."""
        return Answer(self.pool, fn, args)

    def marked(self, name: str) -> int:
        """Wait until a call runs; returns its process id."""
        file = Path(self.folder, name)
        limit = time.monotonic() + START_SECONDS
        while not (file.exists() and file.read_text()):
            if time.monotonic() > limit:
                raise RuntimeError(f"{name} did not begin")
            time.sleep(0.005)
        return int(file.read_text())

    def judge(self, victim: Answer | None, near: Answer | None = None, *, cause: bool = False) -> Outcome:
        """Wait for everybody, ask the pool for something simple, and say how it went.

        With ``cause``, the victim's error has to tell what really happened.
        """
        for who, answer in (("the victim", victim), ("the bystander", near)):
            if answer is not None and not answer.came(self.deadline):
                return Outcome(HANG, detail=f"{who} gets no answer")
        after = self.ask(items.add, 1, 2)
        if not after.came(self.deadline):
            return Outcome(HANG, detail="the next task gets no answer")
        detail = "; ".join(answer.told() for answer in (victim, near, after) if answer is not None)
        if after.error is not None:
            return Outcome(BROKEN, detail=detail)
        if near is not None and near.error is not None:
            return Outcome(LOST, detail=detail)
        seconds = after.seconds if victim is None else victim.seconds
        return Outcome(OK, seconds=seconds, notes=tuple(_notes(victim, cause=cause)), detail=detail)


def _notes(victim: Answer | None, *, cause: bool) -> Iterable[str]:
    if victim is not None and victim.error is not None and not isinstance(victim.error, Exception):
        yield "raw"
    if victim is not None and cause and items.CAUSE not in victim.told():
        yield "hidden"


def _beside(kind: type[Adapter], folder: Path, fn: Function, *args: Any, cause: bool = False) -> Outcome:
    scene = Scene(kind, folder)
    near = scene.ask(items.bystander, scene.folder)
    scene.marked("bystander")
    return scene.judge(scene.ask(fn, *args), near, cause=cause)


def _idle(kind: type[Adapter], folder: Path, number: signal.Signals) -> Outcome:
    scene = Scene(kind, folder)
    for pid in scene.pids:
        os.kill(pid, number)
    # So long the pool has to see it: this asks what it does then, not who is faster.
    time.sleep(0.5)
    return scene.judge(None, scene.ask(items.add, 1, 2))


# --- the faults -----------------------------------------------------------------------------------------------------


def killed_while_running(kind: type[Adapter], folder: Path) -> Outcome:
    """As the system's memory killer does it."""
    return _beside(kind, folder, items.kill_oneself)


def exits_at_once(kind: type[Adapter], folder: Path) -> Outcome:
    """As a library in C does it."""
    return _beside(kind, folder, items.leave)


def says_exit(kind: type[Adapter], folder: Path) -> Outcome:
    """As a function that was a script once does it."""
    return _beside(kind, folder, items.say_exit)


def killed_while_idle(kind: type[Adapter], folder: Path) -> Outcome:
    """Who comes next must not notice."""
    return _idle(kind, folder, signal.SIGKILL)


def interrupted_while_idle(kind: type[Adapter], folder: Path) -> Outcome:
    """Stop in a notebook is a SIGINT to the whole process group."""
    return _idle(kind, folder, signal.SIGINT)


def interrupted_while_busy(kind: type[Adapter], folder: Path) -> Outcome:
    """The same, to the worker that runs something."""
    scene = Scene(kind, folder)
    near = scene.ask(items.bystander, scene.folder)
    scene.marked("bystander")
    victim = scene.ask(items.nap, scene.folder, 3.0)
    os.kill(scene.marked("nap"), signal.SIGINT)
    # Its time says nothing: who takes no notice ends in its own time.
    return dataclasses.replace(scene.judge(victim, near), seconds=None)


def raises_two_arguments(kind: type[Adapter], folder: Path) -> Outcome:
    """An exception that pickles and does not unpickle."""
    return _beside(kind, folder, items.raise_two_arguments, cause=True)


def raises_with_lock(kind: type[Adapter], folder: Path) -> Outcome:
    """An exception that does not pickle."""
    return _beside(kind, folder, items.raise_with_lock, cause=True)


def takes_lock(kind: type[Adapter], folder: Path) -> Outcome:
    """An argument that does not pickle."""
    return _beside(kind, folder, items.take, threading.Lock())


def gives_lock(kind: type[Adapter], folder: Path) -> Outcome:
    """A result that does not pickle."""
    return _beside(kind, folder, items.give_lock)


def gives_unloadable(kind: type[Adapter], folder: Path) -> Outcome:
    """A result that raises where it is unpickled."""
    return _beside(kind, folder, items.give_unloadable)


def gives_deep(kind: type[Adapter], folder: Path) -> Outcome:
    """A result that is nested too deep for pickle."""
    return _beside(kind, folder, items.give_deep)


def cannot_initialize(kind: type[Adapter], folder: Path) -> Outcome:  # noqa: ARG001  # a fault is called like the others
    """There is nothing that could work: an error, soon, is all that is asked."""
    if not kind.has_initializer:
        return Outcome(SKIPPED)
    begun = time.monotonic()
    try:
        pool = kind(2, items.initialize_and_fail)
    except Exception as error:  # noqa: BLE001  # whatever comes is the answer
        notes = () if items.CAUSE in str(error) else ("hidden",)
        return Outcome(OK, seconds=time.monotonic() - begun, notes=notes, detail=repr(error))
    first = Answer(pool, items.add, (1, 2))
    if not first.came(kind.deadline):
        return Outcome(HANG, detail="the first task gets no answer")
    if first.error is None:
        return Outcome(BROKEN, detail="the first task ran although the initializer had failed")
    return Outcome(OK, seconds=first.seconds, notes=tuple(_notes(first, cause=True)), detail=first.told())


def blocks_and_is_cancelled(kind: type[Adapter], folder: Path) -> Outcome:
    """One worker: what comes next needs it."""
    scene = Scene(kind, folder, workers=1)
    victim = scene.ask(items.nap, scene.folder, 60.0)
    scene.marked("nap")
    scene.pool.cancel(victim.handle)
    return scene.judge(victim)


def closes_stdio(kind: type[Adapter], folder: Path) -> Outcome:
    """No crime: it has to get its value."""
    outcome = _beside(kind, folder, items.close_stdio)
    if outcome.word == OK and not outcome.detail.startswith(f"{items.BYSTANDER};"):
        return Outcome(OK, seconds=outcome.seconds, notes=("victim",), detail=outcome.detail)
    return outcome


def forks_and_dies(kind: type[Adapter], folder: Path) -> Outcome:
    """The child holds the pipes open, so that nobody reads an end of file."""
    return _beside(kind, folder, items.fork_and_die)


def is_orphaned(kind: type[Adapter], folder: Path) -> Outcome:
    """Leave one worker busy and one idle, say who they are, and wait to be killed."""
    scene = Scene(kind, folder)
    scene.ask(items.nap, scene.folder, 60.0)
    scene.marked("nap")
    # In one piece: whoever sees the file kills.
    Path(folder, "pids.part").write_text(" ".join(str(pid) for pid in scene.pids))
    Path(folder, "pids.part").rename(folder / "pids")
    time.sleep(60)
    raise RuntimeError("nobody came to kill")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A row of the table."""

    title: str
    strike: Callable[[type[Adapter], Path], Outcome]


FAULTS: dict[str, Fault] = {
    fault.strike.__name__: fault
    for fault in (
        Fault("SIGKILL while running", killed_while_running),
        Fault("`os._exit(3)`", exits_at_once),
        Fault("`sys.exit(3)`", says_exit),
        Fault("SIGKILL to all idle workers", killed_while_idle),
        Fault("SIGINT to all idle workers (Stop)", interrupted_while_idle),
        Fault("SIGINT to a busy worker", interrupted_while_busy),
        Fault("exception with a two-argument `__init__`", raises_two_arguments),
        Fault("exception that holds a lock", raises_with_lock),
        Fault("argument that cannot be pickled", takes_lock),
        Fault("result that cannot be pickled", gives_lock),
        Fault("result that raises when it is loaded", gives_unloadable),
        Fault("result nested 200,000 deep", gives_deep),
        Fault("initializer raises", cannot_initialize),
        Fault("cancel of a task that blocks (1 worker)", blocks_and_is_cancelled),
        Fault("task closes fds 0, 1, 2", closes_stdio),
        Fault("task forks, then is SIGKILLed", forks_and_dies),
        Fault("parent SIGKILLed: workers alive after 5 s", is_orphaned),
    )
}
