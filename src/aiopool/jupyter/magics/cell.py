"""Runs a ``%%aiopool`` cell: reads it, starts its job, waits, and binds the results."""

from __future__ import annotations

import contextlib
import inspect
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import AsyncIterable, Coroutine, Iterator
from types import ModuleType, TracebackType
from typing import Any

from IPython.core.getipython import get_ipython

from aiopool import everywhere
from aiopool.errors import JobCancelled, JobStopped, OptionError
from aiopool.html import in_one_line
from aiopool.job import Job
from aiopool.jupyter.magics.body import Body, Missing, read_body
from aiopool.jupyter.magics.defined import defined
from aiopool.jupyter.magics.flags import help_text, options_of
from aiopool.jupyter.magics.head import Head, HeadError, read_head
from aiopool.jupyter.magics.leaves import NOTHING
from aiopool.jupyter.magics.told import cell_id, instead_of, is_new, note_for, say
from aiopool.jupyter.magics.transform import MAGIC
from aiopool.jupyter.magics.written import Written, written_here, written_somewhere
from aiopool.pool import Pool
from aiopool.session import get_pool, map_options

__all__ = ["cell_magic", "run_cell", "run_cell_blocking"]

TITLE = 80
"""Characters of a head that stand for its job in panels and messages."""


def run_cell(text: str) -> Coroutine[Any, Any, object]:
    """Run the cell with this text; its value when awaited. What a cell that awaits is turned into."""
    __tracebackhide__ = True
    return MagicCell(shell := _shell(), written_here(shell, text)).awaited()


def run_cell_blocking(text: str) -> object:
    """Run the cell with this text, and return its value. What a cell that cannot await is turned into."""
    __tracebackhide__ = True
    return MagicCell(shell := _shell(), written_here(shell, text)).blocking()


def cell_magic(line: str, cell: str) -> object:
    """Run the body of this cell once per item, in the worker processes; the value is the list of results.

    ::

        %%aiopool url in urls -> pages --concurrency 200 --timeout 10
        s = await session()                       # names of the notebook travel to the workers
        (await s.get(url)).text                   # the last expression is the item's result

    It reads like the comprehension that it replaces: the target may unpack (``i, url in enumerate(urls)``), the input
    is any expression, also an async generator. A body with an ``await`` runs as an ``async def``, a hundred items or
    more at a time, any other as a ``def``; ``return`` works. What the body assigns stays in the worker.

    ``-> pages`` binds the list when all of it is there, and else leaves the name as it was; without it, the list is the
    value of the cell. The cell awaits: buttons, other tasks and Stop work. After Stop or an error
    ``aiopool.last_job()`` has what was finished.

    - ``%%aiopool -> model``: without an input the body runs once, on one worker, and gives its value.
    - ``--all``: once on every worker, and on each that starts later: imports, warming up. What it defines is there for
      all later ``%%aiopool`` cells.
    - ``--bg``: in the background; the name, or the value, is the Job at once.
    - Every option of ``aiopool.pmap`` is a flag of the same name; ``%%aiopool --help`` lists them.
    """
    __tracebackhide__ = True
    text = f"{MAGIC} {line}\n{cell}"
    return MagicCell(shell := _shell(), written_somewhere(shell, text)).blocking()


def _shell() -> Any:
    return get_ipython()


class MagicCell:
    """One run of a cell. Whatever is wrong with its text, or with a name in it, is said before anything is sent."""

    def __init__(self, shell: Any, written: Written) -> None:
        __tracebackhide__ = True
        self._shell = shell
        self._namespace: dict[str, Any] = shell.user_ns
        self._written = written
        try:
            self._head: Head = read_head(written.head, at=written.at)
        except HeadError as error:
            raise written.placed(error) from None
        if self._head.help:
            return
        self._body: Body = self._read_body()
        self._options = self._read_options()
        self._pool: Pool = get_pool()
        self._everywhere = defined.of(self._pool)
        self._unsure = defined.unsure(self._pool)
        self._number = defined.next_number()
        if missing := self._body.missing(self._namespace, self._everywhere):
            raise self._missing(missing[0])

    # --- running ---------------------------------------------------------------------------------------------------

    async def awaited(self) -> object:
        """Run it on the loop that runs here."""
        __tracebackhide__ = True
        if self._head.help:
            say(help_text())
            return None
        with _WithoutEvaluation(self._namespace):
            data, is_awaited = self._input(may_await=True)
            if is_awaited:
                data = await data
        job = self._start(data)
        if self._head.background:
            return self._bind(job)
        # In a terminal Ctrl-C leaves the loop, with all that is awaited there as it is; a blocking wait it does stop.
        blocks = getattr(self._shell, "kernel", None) is None and not isinstance(data, AsyncIterable)
        del data  # The job lets go of what has been read.
        with self._telling(job):
            value = job.result() if blocks else await job
        return self._end(value)

    def blocking(self) -> object:
        """Run it where nobody can await."""
        __tracebackhide__ = True
        if self._head.help:
            say(help_text())
            return None
        with _WithoutEvaluation(self._namespace):
            data, _ = self._input(may_await=False)
        job = self._start(data)
        if self._head.background:
            return self._bind(job)
        with self._telling(job):
            value = job.result()
        return self._end(value)

    def _start(self, data: Any) -> Job[Any]:
        __tracebackhide__ = True
        pool = self._pool
        self._tell_of_no_value()
        if self._head.everywhere:
            for_everyone = self._body.for_everyone(self._namespace, self._everywhere, self._unsure)
            # What the job is called.
            for_everyone.__qualname__ = self._written.cell
            for_everyone.number = self._number
            for_everyone.failed, for_everyone.pending = defined.failed(pool), defined.pending(pool)
            leaves = NOTHING if self._body.starts else self._body.leaves
            edition = defined.edition(pool, cell_id(self._shell), leaves)
            job = pool.broadcast_kept(for_everyone, edition or for_everyone.function)
            defined.begin(pool, self._number, self._body.leaves, self._written.cell)
            if self._head.background:
                job.add_done_callback(self._note_when_done)
            return job
        self._tell_of_names()
        function = self._function()
        if not self._head.target:
            # As every single call: not again after its worker has died, unless the user says so.
            return pool.open_once(
                function, map_options({"desc": self._written.cell, "rerun_lost": False} | self._options)
            )
        # What the job is called. No function of the notebook has that name, so nobody is told to try it there.
        function.__qualname__ = in_one_line(f"{self._head.target} in {self._head.source}", TITLE)
        example = f"{MAGIC} {self._head.target} in data"
        return pool.open_map(function, (data,), map_options(self._options), example=example)

    def _end(self, value: Any) -> object:
        if self._head.everywhere:
            defined.note(self._pool, self._number)
        several = self._head.everywhere or self._head.target
        if several and not self._head.into and value and all(each is None for each in value):
            return None
        return self._bind(value)

    def _bind(self, value: object) -> object:
        if not self._head.into:
            return value
        self._shell.push({self._head.into: value})
        return None

    def _function(self) -> Any:
        way = everywhere.LookUp(defined.failed(self._pool), defined.pending(self._pool))
        return self._body.function(self._namespace, self._everywhere, self._unsure, way)

    def _note_when_done(self, job: Job[Any]) -> None:
        if job.snapshot().state == "done":
            defined.note(self._pool, self._number)
        else:
            defined.note_failure(self._pool, self._number)

    # --- its text --------------------------------------------------------------------------------------------------

    def _read_body(self) -> Body:
        __tracebackhide__ = True
        written, head = self._written, self._head
        if not written.body.strip():
            message = "the cell has no body: write below this line what is to be run"
            raise written.placed(HeadError.at("", 0, 0, message))
        try:
            return read_body(
                written.body,
                filename=written.filename,
                line=written.number + 1,
                target=head.target,
                target_line=written.number,
                target_column=head.target_column,
            )
        except SyntaxError as error:
            # It says itself where it is; who found it there is nobody's concern.
            raise error.with_traceback(None) from None

    def _read_options(self) -> dict[str, Any]:
        __tracebackhide__ = True
        try:
            with _WithoutEvaluation(self._namespace):
                options = options_of(self._head, self._evaluate)
        except HeadError as error:
            raise OptionError(error.msg) from None
        options.pop("unpack", None)  # The target takes items apart.
        return options

    def _evaluate(self, source: str, column: int) -> object:
        __tracebackhide__ = True
        code = self._written.code_of(source, column)
        return eval(code, self._namespace)  # noqa: S307 - a line of the user's own cell

    def _input(self, *, may_await: bool) -> tuple[Any, bool]:
        """The input, and whether it is to be awaited first."""
        __tracebackhide__ = True
        head = self._head
        if not head.source:
            return None, False
        code = self._written.code_of(head.source, head.source_column, PyCF_ALLOW_TOP_LEVEL_AWAIT)
        is_awaited = bool(code.co_flags & inspect.CO_COROUTINE)
        if is_awaited and not may_await:
            start, end = head.source_column, head.source_column + len(head.source)
            message = (
                "this cell cannot await its input, because another magic runs it, or because of %autoawait off: "
                "await it in a cell before, and write its name here"
            )
            raise self._written.placed(HeadError.at("", start, end, message))
        return eval(code, self._namespace), is_awaited  # noqa: S307 - as above

    # --- what is said ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _telling(self, job: Job[Any]) -> Iterator[None]:
        """Say with an error where that is which was finished, as Stop does."""
        __tracebackhide__ = True
        try:
            yield
        except BaseException as error:
            if self._head.everywhere:
                defined.note_failure(self._pool, self._number)
            # A courtesy: an exception class that takes no notes must not replace the error.
            with contextlib.suppress(Exception):
                self._add_notes(error, job)
            raise

    def _add_notes(self, error: BaseException, job: Job[Any]) -> None:
        if note := note_for(error, self._everywhere, self._unsure):
            error.add_note(note)
        if self._head.target and isinstance(error, Exception) and not isinstance(error, JobCancelled | JobStopped):
            progress = job._reading.progress()  # noqa: SLF001 - what all who stand around a job share
            error.add_note(f"{progress}: aiopool.last_job().partial(), .retry()")

    def _tell_of_no_value(self) -> None:
        """Say once that a name will get nothing but None, which only who looks at it would find out."""
        into = self._head.into
        if not into or self._body.gives_value or not is_new(self._shell, "->", self._text):
            return
        what = "a list of None" if self._head.target or self._head.everywhere else "None"
        whose = f"the result of {into}" if self._head.background else into
        if self._body.ends_in_semicolon:
            say(f"the body ends with a semicolon, so {whose} will be {what}: without it the last line is the value")
        else:
            say(f"the body ends in no expression, so {whose} will be {what}: let its last line be the value")

    def _tell_of_names(self) -> None:
        """Say of each name what a user may not expect: once, or again when the text of the cell is another one."""
        there = self._namespace
        for name in sorted(self._body.reads):
            # A module is the same in both, as a rule. Some things that stand for others raise if asked for their class.
            both = name in self._everywhere and name in there and not issubclass(type(there[name]), ModuleType)
            if both and name in self._unsure and defined.wins_first(self._pool, name):
                say(
                    f"{name}: the body uses what {self._everywhere[name]} has defined in a worker with --all, and the "
                    f"notebook's {name} where it has defined none"
                )
            elif both and defined.wins_first(self._pool, name):
                cell = self._everywhere[name]
                say(
                    f"{name}: the body uses what {cell} has defined in the workers with --all, not the notebook's "
                    f"{name}; functions of the notebook go on using the notebook's"
                )
        for name in self._body.meant_in(there, self._everywhere):
            if is_new(self._shell, name, self._text):
                say(
                    f"{name} of the notebook stays as it is: the body changes a copy of it in a worker. "
                    f"Let the body end with a value, and the cell gives the list of them"
                )

    @property
    def _text(self) -> str:
        return f"{self._written.head}\n{self._written.body}"

    def _missing(self, missing: Missing) -> Exception:
        name = missing.name
        if (cell := defined.cell_of(name)) is not None:
            why = f". {cell} defined it with --all, in a pool that is closed now: run that cell again"
        else:
            why = instead_of(name, self._namespace, self._everywhere)
        error = NameError(f"name {name!r} is not defined{why}")
        return self._written.pointed(error, missing.line, missing.column, missing.end_column)


class _WithoutEvaluation:
    """Leaves out the frame of an expression in the head: the cell itself stands at that line already.

    A class, because one made of a generator puts the whole traceback back.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, tb: TracebackType | None) -> None:
        while tb is not None and tb.tb_frame.f_globals is not self._namespace:
            tb = tb.tb_next
        if error is not None and tb is not None:
            error.__traceback__ = tb.tb_next
