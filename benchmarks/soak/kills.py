"""Workers that are killed at random moments, about one a second, while four jobs run: nothing is lost, nothing twice.

Ways: SIGKILL; signal 11, as a crash in C; ``os._exit``, by a handler that workers have; SIGSTOP, and SIGCONT 3 s later.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import psutil

import aiopool
from aiopool import Pool
from benchmarks.soak.journal import Deaths, Verdict, judge, note, read
from benchmarks.soak.report import Report

WORKERS = 4
ITEM_SECONDS = 0.01
STOPPED_SECONDS = 3.0
ROUND_DEADLINE = 120.0
UNSEEN_SHARE = 0.02
"""How many of the kills may strike between the moment at which a worker takes an item and the item's first line."""

WAYS = ("SIGKILL", "SIGSEGV", "os._exit", "SIGSTOP")


def exit_when_told() -> None:
    """Let a worker end itself by ``os._exit`` when it gets a signal."""
    signal.signal(signal.SIGUSR2, lambda *_: os._exit(3))


def item(journal: str, x: int) -> int:
    """Sleep, and say so before and after."""
    note(journal, "start", x)
    time.sleep(ITEM_SECONDS)
    note(journal, "end", x)
    return x


async def item_async(journal: str, x: int) -> int:
    """The same in a coroutine."""
    note(journal, "start", x)
    await asyncio.sleep(ITEM_SECONDS)
    note(journal, "end", x)
    return x


# Name, function, whether lost items run again, how many items a round has.
JOBS = (
    ("def, run again", item, True, 400),
    ("def, at most once", item, False, 400),
    ("async def, run again", item_async, True, 4000),
    ("async def, at most once", item_async, False, 4000),
)


class Killer:
    """A thread that kills workers of a pool, one a second on average, and writes down whom and when."""

    def __init__(self, pool: Pool, report: Report, seed: int) -> None:
        self.deaths = Deaths()
        self._pool = pool
        self._report = report
        self._chance = random.Random(seed)
        self._end = threading.Event()
        self._now_stopped: dict[int, threading.Timer] = {}
        self._thread = threading.Thread(target=self._run, name="killer")
        self._thread.start()

    def stop(self) -> None:
        """Kill nobody any more."""
        self._end.set()
        self._thread.join()
        for timer in list(self._now_stopped.values()):
            timer.join()

    def _pids(self) -> list[int]:
        workers = self._pool.snapshot().workers
        return [worker.pid for worker in workers if worker.pid is not None and worker.state != "lost"]

    def _run(self) -> None:
        while not self._end.wait(self._chance.expovariate(1.0)):
            pids = self._pids()
            if pids:
                self._strike(self._chance.choice(pids), self._chance.choice(WAYS))

    def _strike(self, pid: int, way: str) -> None:
        number = signal.SIGUSR2 if way == "os._exit" else signal.Signals[way]
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # It has just died of the last one.
            if psutil.Process(pid).ppid() != os.getpid():
                return
            if way == "SIGSTOP":
                if pid not in self._now_stopped:
                    self._stop(pid)
                return
            # Before: an item may find its worker dead at once.
            self.deaths.killed.setdefault(pid, time.monotonic())
            os.kill(pid, number)
            self._report.count(f"killed by {way}")
            self._watch(pid, way)

    def _stop(self, pid: int) -> None:
        def go_on() -> None:
            del self._now_stopped[pid]
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if psutil.Process(pid).ppid() == os.getpid():
                    os.kill(pid, signal.SIGCONT)

        self.deaths.stopped.add(pid)
        self._now_stopped[pid] = threading.Timer(STOPPED_SECONDS, go_on)
        os.kill(pid, signal.SIGSTOP)
        self._now_stopped[pid].start()
        self._report.count("stopped for 3 s")

    def _watch(self, pid: int, way: str) -> None:
        # What is stopped dies when it goes on; and a coroutine's loop calls the handler when it next has a turn.
        if pid in self._now_stopped:
            return
        begun = time.monotonic()
        while pid in self._pids() and time.monotonic() - begun < STOPPED_SECONDS:
            time.sleep(0.001)
        self._report.time(f"from {way} until the pool knows", time.monotonic() - begun)


class Round:
    """Four jobs at once on one pool, each read by a thread of its own as its items end."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self._pool = pool
        self._folder = folder
        self._delivered: dict[str, list[tuple[int, object]]] = {name: [] for name, *_ in JOBS}
        self._threads: list[threading.Thread] = []
        self._jobs: dict[str, aiopool.Job[int]] = {}
        for number, (name, fn, rerun, size) in enumerate(JOBS):
            journal = str(folder / f"{number}")
            job = pool.map(
                functools.partial(fn, journal),
                range(size),
                on_error="return",
                rerun_lost=rerun,
                progress=False,
                desc=name,
            )
            self._jobs[name] = job
            self._threads.append(threading.Thread(target=self._read, args=(name,), daemon=True))
            self._threads[-1].start()

    def _read(self, name: str) -> None:
        for index, value in self._jobs[name].as_completed():
            self._delivered[name].append((index, value.error if isinstance(value, aiopool.Failure) else value))

    def ended(self) -> bool:
        """Wait for the jobs; whether all have ended in time."""
        deadline = time.monotonic() + ROUND_DEADLINE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def told(self) -> str:
        """What does not end."""
        pool = self._pool.snapshot()
        jobs = [job.snapshot() for job in self._jobs.values()]
        return "; ".join(str(one) for one in (pool, *pool.workers, *jobs))

    def verdicts(self, deaths: Deaths) -> dict[str, Verdict]:
        """Compare what was delivered with what the items wrote, and remove that."""
        found = {}
        for number, (name, _, rerun, size) in enumerate(JOBS):
            journal = self._folder / f"{number}"
            found[name] = judge(size, rerun=rerun, lines=read(journal), deaths=deaths, delivered=self._delivered[name])
            journal.unlink(missing_ok=True)
        return found


def _sum_up(report: Report, verdicts: list[tuple[str, Verdict]]) -> None:
    kills = sum(number for what, number in report.counts.items() if what.startswith("killed"))
    for name, *_, size in JOBS:
        mine = [verdict for job, verdict in verdicts if job == name]
        report.counts[f"{name}: items"] = size * len(mine)
        for what in ("values", "worker_lost", "run_again", "unseen"):
            report.counts[f"{name}: {what.replace('_', ' ')}"] = sum(getattr(verdict, what) for verdict in mine)
    for what, promise in (
        ("lost", "every item has ended as a value or a named error"),
        ("twice", "nothing is delivered twice"),
        ("wrong", "every value is its own item's"),
        ("other_errors", "the only errors are WorkerLost"),
        ("too_often", "nothing is started more often than promised"),
        ("unearned", "WorkerLost only for items whose worker was killed under them: twice, or once where at most once"),
    ):
        number = sum(getattr(verdict, what) for _, verdict in verdicts)
        examples = [example for _, verdict in verdicts for example in verdict.examples if example.startswith(what)]
        report.promise(promise, kept=number == 0, found="; ".join([f"{number} exceptions", *examples[:5]]))
    unseen = sum(verdict.unseen for _, verdict in verdicts)
    report.promise(
        "deaths that items could not see coming are rare", kept=unseen <= 1 + UNSEEN_SHARE * kills, found=unseen
    )


def run(seconds: float, seed: int) -> Report:
    """Kill for so long."""
    report = Report("kills")
    report.counts["seed"] = seed
    verdicts: list[tuple[str, Verdict]] = []
    me = psutil.Process()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        Pool(workers=WORKERS, initializer=exit_when_told, reload_modules=False) as pool,
    ):
        pool.broadcast(os.getpid).result(60)
        before = me.num_fds()
        killer = Killer(pool, report, seed)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            started = time.monotonic()
            four = Round(pool, Path(name))
            if not four.ended():
                killer.stop()
                report.promise("every job ends", kept=False, found=four.told())
                pool.terminate()
                return report
            report.time("a round of four jobs", time.monotonic() - started)
            verdicts += four.verdicts(killer.deaths).items()
            del four
        killer.stop()
        report.promise("every job ends", kept=True)
        report.promise("the pool works", kept=pool.map(abs, range(20)).result(60) == list(range(20)))
        pool.broadcast(os.getpid).result(60)
        gc.collect()
        after = me.num_fds()
        report.promise("file descriptors are back", kept=after <= before, found=f"{before} before, {after} after")
        report.counts["memory of the parent, MB"] = round(me.memory_info().rss / 1e6)
    report.promise("no process is left", kept=not me.children(recursive=True), found=me.children(recursive=True))
    _sum_up(report, verdicts)
    return report
