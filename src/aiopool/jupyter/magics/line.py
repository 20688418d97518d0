"""``%aiopool``: the shared pool and the jobs, from a line.

A line cannot wait for anything, so nothing here does: what takes time begins, and one line says what will happen. What
is said is printed, and no subcommand has a value: ``await aiopool.get_pool().resize(8)`` is for whoever wants to wait,
``aiopool.jobs()`` for whoever wants the jobs themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython

from aiopool.errors import AiopoolError
from aiopool.job import Job
from aiopool.jupyter.cell import this_kernel
from aiopool.jupyter.magics.settings import configure_by
from aiopool.pool import Pool
from aiopool.reading import progress_of
from aiopool.registry import registry
from aiopool.session import open_pool

__all__ = ["COMMANDS", "line_magic", "misplaced"]

HELP = """\
%aiopool                    the dashboard of the shared pool: jobs, workers, the last minutes
%aiopool resize 8           so many workers from now on
%aiopool restart            replace the workers, each when what it runs has ended
%aiopool restart now        at once: they are killed, and what they ran runs again
%aiopool close              take no new jobs; the next pmap(...) or %%aiopool cell opens another
%aiopool jobs               the jobs that run, the last one, and the last that did not end well
%aiopool cancel             end the job that was started last of those that run
%aiopool cancel all         end them all
%aiopool cancel fetch       end those of that name, or the one of that number
%aiopool configure          what is set for this session
%aiopool configure --concurrency 64 --workers 4 --max-memory-per-worker 2GB
%aiopool help               this

%%aiopool --help tells of the cell that runs once per item."""

NEAR_MISSES: Mapping[str, str] = {
    **dict.fromkeys(("dashboard", "show", "status", "info", "pool", "workers"), "%aiopool"),
    **dict.fromkeys(("scale", "size", "grow", "shrink"), "%aiopool resize 8"),
    **dict.fromkeys(("reset", "reload", "reboot"), "%aiopool restart"),
    **dict.fromkeys(("kill",), "%aiopool restart now"),
    **dict.fromkeys(("terminate", "shutdown", "quit", "exit", "end"), "%aiopool cancel all, then %aiopool close"),
    **dict.fromkeys(("ps", "list", "ls", "job", "last", "running"), "%aiopool jobs"),
    **dict.fromkeys(("stop", "abort", "interrupt"), "%aiopool cancel"),
    **dict.fromkeys(("config", "set", "options", "settings", "defaults"), "%aiopool configure"),
    **dict.fromkeys(("pause", "resume"), "job.pause() and job.resume(); aiopool.last_job() is the job started last"),
    **dict.fromkeys(("retry",), "aiopool.last_job().retry()"),
    **dict.fromkeys(("start", "open"), "nothing: workers start when there is work"),
}


def line_magic(line: str) -> Any:
    """Show the shared pool, or have it do something.

    ::

        %aiopool                                                  # the dashboard
        %aiopool resize 8
        %aiopool restart                                          # restart now: kill what hangs
        %aiopool jobs
        %aiopool cancel                                           # cancel all, cancel fetch, cancel 3
        %aiopool configure --concurrency 64 --workers 4           # alone: what is set
        %aiopool close
        %aiopool help

    Values may be expressions of the notebook: ``%aiopool resize 2 * n``. Each returns at once and prints one line of
    what will happen. Where no shared pool is open, it says so, and opens none.
    """
    shell: Any = get_ipython()
    text = line.strip()
    word, _, rest = text.partition(" ")
    if not word:
        return _dashboard()
    if word in ("-h", "--help", "?"):
        word = "help"
    if word not in COMMANDS:
        raise UsageError(_unknown(text))
    try:
        COMMANDS[word](rest.strip(), shell.user_ns)
    except AiopoolError as error:
        raise UsageError(str(error)) from None
    return None


def misplaced(line: str) -> Any:
    """Refuse a ``%%aiopool`` that stands below other code, where IPython takes it for a magic of one line."""
    raise UsageError(
        f"%%aiopool {line.strip()}".rstrip() + ": this must be the first line of its cell; only comments may stand "
        "above. Put what stands above it into a cell of its own"
    )


def _say(text: str) -> None:
    print(text)  # noqa: T201 - to a user


def _pool() -> Pool | None:
    """The shared pool; None, and said, where none is open."""
    pool = open_pool()
    if pool is None:
        _say("No shared pool is open: the first pmap(...) opens it, or aiopool.get_pool().")
    return pool


def _dashboard() -> Any:
    pool = _pool()
    # In a shell without a kernel no widget can be drawn: the pool tells how it is.
    return pool if pool is None or this_kernel() is None else pool.dashboard()


def _unknown(text: str) -> str:
    """What to write instead of something that is no subcommand."""
    word = text.split(maxsplit=1)[0]
    if word in NEAR_MISSES:
        return f"%aiopool knows no {word}; write {NEAR_MISSES[word]}"
    if word.startswith("-"):
        return f"%aiopool alone takes no {word}; write %aiopool configure {text}, or %%aiopool for a cell"
    if word.isdecimal():
        return f"%aiopool knows no {word}; write %aiopool resize {word}"
    if close := difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.6):
        return f"%aiopool knows no {word}; did you mean %aiopool {close[0]}?"
    if " in " in text or "->" in text:
        return f"a cell that runs once per item begins with two percent signs: %%aiopool {text}"
    return f"%aiopool knows no {word}; there are {', '.join(COMMANDS)}"


def _nothing_more(rest: str, command: str) -> None:
    if rest:
        raise UsageError(f"%aiopool {command} takes nothing more; it knows nothing of {rest!r}")


def evaluated(source: str, namespace: dict[str, Any]) -> Any:
    """The value of an expression of the notebook's; what goes wrong is told with the expression."""
    try:
        return eval(source, namespace)  # noqa: S307 - it is the user's own, in the user's own namespace
    except Exception as error:  # noqa: BLE001 - whatever the expression raises is its user's to read
        why = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"{source} has no value: {type(error).__name__}: {why}") from None


# --- workers -------------------------------------------------------------------------------------------------------


def _workers(count: int) -> str:
    return f"{count:,} worker{'' if count == 1 else 's'}"


def _present(pool: Pool) -> int:
    """How many workers there are that take items."""
    return sum(info.state not in ("lost", "retiring") for info in pool.snapshot().workers)


def _resize(rest: str, namespace: dict[str, Any]) -> None:
    if not rest:
        raise UsageError("how many workers? Write %aiopool resize 8")
    if rest[0] in "+-":
        raise UsageError(f"resize {rest}: write how many workers there shall be, not how many more or fewer")
    size = evaluated(rest, namespace)
    pool = open_pool()
    if pool is None:
        _say(f"No shared pool is open. To have the next one begin so: %aiopool configure --workers {rest}")
        return
    before = _present(pool)
    pool.resize(size)
    _say(resized(size, before))


def resized(size: int, present: int) -> str:
    """What happens when so many workers shall be, and so many are."""
    if size == present:
        what = ""
    elif size < present:
        left = present - size
        what = f": {left:,} end{'s' if left == 1 else ''} as soon as what {'it runs' if left == 1 else 'they run'} has"
    else:
        more = size - present
        start = f"start{'s' if more == 1 else ''} when there is work"
        what = f": {more:,} more {start}" if present else f", {'it ' if more == 1 else 'they '}{start}"
    return f"{_workers(size)} from now on{what}."


def _restart(rest: str, _: dict[str, Any]) -> None:
    if rest not in ("", "now"):
        raise UsageError(f"restart {rest}: write %aiopool restart, or %aiopool restart now, which kills what runs")
    pool = _pool()
    if pool is None:
        return
    present = _present(pool)
    if present:
        pool.restart(now=bool(rest))
    _say(restarted(present, now=bool(rest)))


def restarted(present: int, *, now: bool) -> str:
    """What happens to so many workers."""
    if not present:
        return "No worker runs: there is nothing to restart."
    one = present == 1
    if now:
        return f"{_workers(present)} {'is' if one else 'are'} killed and replaced; what ran there runs again."
    return f"{_workers(present)} {'is' if one else 'are'} replaced, each as soon as what it runs has ended."


def _close(rest: str, _: dict[str, Any]) -> None:
    _nothing_more(rest, "close")
    pool = _pool()
    if pool is None:
        return
    jobs = len(pool.snapshot().jobs)
    pool.close()
    until = "" if not jobs else f" {jobs:,} job{' runs' if jobs == 1 else 's run'} to the end in this one."
    _say(f"The shared pool takes no new jobs: the next pmap(...) or %%aiopool cell opens another.{until}")


# --- jobs ----------------------------------------------------------------------------------------------------------


def _jobs(rest: str, _: dict[str, Any]) -> None:
    _nothing_more(rest, "jobs")
    jobs = registry.listing()
    width = max((len(str(job.id)) for job in jobs), default=0)
    _say("\n".join(f"{job.id:>{width}}  {job.snapshot()}" for job in jobs) or "No job has been started.")


def _cancel(rest: str, _: dict[str, Any]) -> None:
    running = registry.running()
    chosen = running[-1:] if not rest else _named(rest.strip("\"'"), running)
    if rest and rest != "all" and not chosen:
        there = f": there {'is' if len(running) == 1 else 'are'} {_listed(running)}" if running else ""
        raise UsageError(f"no job runs that is called {rest}{there or ': none runs at all'}")
    if not chosen:
        _say("No job runs.")
    for job in chosen:
        snapshot = job.snapshot()
        job.cancel()
        how_far = progress_of(snapshot.done, snapshot.failed, snapshot.total)
        _say(cancelled(job.name, how_far, is_last=job is registry.last))


def _named(name: str, running: list[Job[Any]]) -> list[Job[Any]]:
    """The jobs of that name; where there is none, the one of that number."""
    if name == "all":
        return running
    named = [job for job in running if job.name == name]
    if named or not name.isdecimal():
        return named
    numbered = [job for job in running if job.id == int(name)]
    if len(numbered) > 1:  # Every pool counts its own.
        raise UsageError(f"jobs of several pools have the number {name}; write a name: {_listed(numbered)}")
    return numbered


def _listed(jobs: list[Job[Any]]) -> str:
    return ", ".join(f"{job.name} ({job.id})" for job in jobs)


def cancelled(name: str, how_far: str, *, is_last: bool) -> str:
    """How far a job was that is ended now, and where that is."""
    where = "aiopool.last_job().partial(), .retry()" if is_last else "aiopool.jobs() shows which are kept"
    return f"Cancelled {name}: {how_far}: {where}"


# --- the rest ------------------------------------------------------------------------------------------------------


def _configure(rest: str, namespace: dict[str, Any]) -> None:
    _say(configure_by(rest, lambda source: evaluated(source, namespace)))


def _help(_: str, __: dict[str, Any]) -> None:
    _say(HELP)


COMMANDS: Mapping[str, Callable[[str, dict[str, Any]], None]] = {
    "resize": _resize,
    "restart": _restart,
    "close": _close,
    "jobs": _jobs,
    "cancel": _cancel,
    "configure": _configure,
    "help": _help,
}
"""What may follow ``%aiopool``; each is given the rest of the line and the notebook's names."""
