"""Where do items stand? Workers are asked, and who does not answer is asked by a signal, or looked at from outside.

A worker answers from its link thread, whatever its main thread does. It cannot while C code holds the GIL: then
faulthandler writes, upon a signal, the lines of every thread. And it cannot while the system lets it stand still.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiopool._core import frames
from aiopool._core.workers import WorkerBook
from aiopool._runtime.dumps import Thread, has_ended, is_stopped, read_dump
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.thread import IOThread
from aiopool.engines.base import Marks
from aiopool.errors import FrameError, WouldDeadlock
from aiopool.stacks import StackEntry, StackFrame, Stacks, StackTask, merged
from aiopool.telemetry import WorkerInfo

__all__ = ["Inquiry"]

ANSWER_SECONDS = 0.5
"""How long a worker may take to answer by itself."""

ITEM_SECONDS = 2e-4
"""How much longer for each item that it holds: a look at one takes a tenth of that."""

DUMP_SECONDS = 1.0
"""How long it may take to write its stack upon the signal."""

WAIT_SECONDS = 10.0
"""How long whoever asks waits at most. Only a kernel that hardly gets the processor comes near."""

STOPPED = "no answer: the system has stopped the worker (state T)"

LOOK_SECONDS = 0.02
QUIET_LOOKS = 10
"""After so many looks at which nothing had come to it a dump is taken as whole, whatever it ends with."""

MOST_UNANSWERED = 8
"""A worker that has not answered so many questions is not asked another: it would have to answer all of them."""

Code = tuple[int, int]
Item = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker had to say: ``entries``, and how many items are left out, or else what is known from outside.

    ``at_work`` is the item it was inside of, for so many ``seconds``; ``items`` are all that it had begun and not
    ended, as pairs of a job and an index; ``coroutines`` are the jobs of which such run. ``blocked``: its loop has been
    held for more than a second.
    """

    worker: int
    pid: int | None
    entries: tuple[StackEntry, ...] | None = None
    more: int = 0
    dump: str = ""
    note: str = ""
    stopped: bool = False
    blocked: bool = False
    at_work: Item | None = None
    seconds: float | None = None
    items: tuple[Item, ...] = ()
    coroutines: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Question:
    """One question to some workers. ``job`` 0: about the whole of them, where each item's job is named."""

    job: int
    number: int
    waiting: set[int] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def take(self, worker: int, answer: Answer | None) -> None:
        """A worker has answered, or, with None, never will."""
        if worker in self.waiting:
            self.waiting.discard(worker)
            if answer is not None:
                self.answers.append(answer)
            if not self.waiting:
                self.done.set()


@dataclass(slots=True, eq=False)
class Dumping:
    """A process that was told to write its stack."""

    until: float
    questions: list[Question]
    seen: str = ""
    quiet: int = 0


class Inquiry:
    """Asks the workers of one pool. What has an underscore runs on the pool's own thread."""

    def __init__(
        self,
        io: IOThread,
        workers: Mapping[int, WorkerProxy],
        books: Mapping[int, WorkerBook],
        names: Callable[[], dict[int, str]],
        picture: Callable[[WorkerProxy], WorkerInfo],
    ) -> None:
        """``names`` are the jobs' by their numbers; ``picture`` is how a worker is now, as far as that is known."""
        self._io = io
        self._workers = workers
        self._books = books
        self._names = names
        self._picture = picture
        self._numbers = itertools.count(1)
        self._questions: dict[int, Question] = {}
        self._dumping: dict[int, Dumping] = {}
        self._unanswered: defaultdict[int, int] = defaultdict(int)

    # --- any thread ------------------------------------------------------------------------------------------------

    def of_job(self, job: int, name: str) -> Stacks:
        """Where the items of a job stand."""
        starting = False

        def whom() -> list[int]:
            nonlocal starting
            proxies = self._workers.values()
            starting = job in self._names() and bool(proxies) and not any(proxy.ready for proxy in proxies)
            return [number for number, book in self._books.items() if _holds(book, job)]

        question = self._ask(job, whom)
        entries, more = _read(question)
        now = "nothing of it runs yet, its workers are starting" if starting else "nothing of it runs at this moment"
        says = "" if entries else now
        return Stacks(name, merged(entries), more, says=says)

    def of_worker(self, pid: int | None, name: str) -> Stacks:
        """Where everything in one worker stands, threads of the user's included."""
        question = self._ask(0, lambda: [number for number, proxy in self._workers.items() if proxy.pid == pid])
        entries, more = _read(question)
        says = "" if entries else "nothing runs there" if question.answers else "it is gone"
        return Stacks(name, merged(entries), more, says=says, of_worker=False)

    def _ask(self, job: int, whom: Callable[[], list[int]]) -> Question:
        if self._io.is_current:
            raise WouldDeadlock(
                "where items stand cannot be asked on the pool's own thread, which has to hear the answers. Ask from "
                "another one"
            )
        question = Question(job, next(self._numbers) & 0xFFFFFFFF)
        if self._io.is_foreign:
            return question  # Here, in a forked child, nobody hears the answers.
        try:
            self._io.ask(self._begin, question, whom)
            question.done.wait(WAIT_SECONDS)
        finally:
            # Also when Stop came. Without the thread, whose end nobody need wait for.
            self._questions.pop(question.number, None)
        return question

    # --- asking ----------------------------------------------------------------------------------------------------

    def _begin(self, question: Question, whom: Callable[[], list[int]]) -> None:
        question.names = self._names() if not question.job else {}
        asked = [proxy for number in whom() if (proxy := self._workers.get(number)) is not None]
        question.waiting.update(proxy.id for proxy in asked if proxy.link is not None)
        if not question.waiting:
            question.done.set()
            return
        self._questions[question.number] = question
        for proxy in asked:
            if self._unanswered[proxy.id] < MOST_UNANSWERED:
                self._unanswered[proxy.id] += 1
                proxy.send(frames.AskStacks(question.number, question.job))
                proxy.flush()
        most = max(book.load if (book := self._books.get(proxy.id)) else 0 for proxy in asked)
        self._io.loop.call_later(ANSWER_SECONDS + most * ITEM_SECONDS, self._ask_otherwise, question)

    def take(self, worker: WorkerProxy, frame: frames.Stacks) -> None:
        """A worker answers; perhaps nobody waits for it any more. FrameError where it cannot be understood."""
        self._unanswered[worker.id] = max(0, self._unanswered[worker.id] - 1)
        question = self._questions.get(frame.number)
        if question is not None:
            blocked = self._picture(worker).state == "blocked"
            answer = Answer(worker.index, worker.pid, blocked=blocked)
            question.take(worker.id, _understood(answer, bytes(frame.data), question.names))

    def gone(self, worker: WorkerProxy) -> None:
        """A worker has died."""
        self._unanswered.pop(worker.id, None)
        self._dumping.pop(worker.id, None)
        for question in list(self._questions.values()):
            question.take(worker.id, None)

    # --- those that do not answer ------------------------------------------------------------------------------------

    def _ask_otherwise(self, question: Question) -> None:
        for number in list(question.waiting):
            proxy, running = self._workers.get(number), self._dumping.get(number)
            if proxy is None or proxy.link is None:
                question.take(number, None)
            elif running is not None:
                running.questions.append(question)
            elif is_stopped(proxy.pid or 0):
                question.take(number, self._from_outside(proxy, STOPPED, stopped=True))
            elif why := proxy.link.begin_dump():
                question.take(number, self._from_outside(proxy, f"no answer: the worker {why}"))
            else:
                self._dumping[number] = Dumping(time.monotonic() + DUMP_SECONDS, [question])
                self._io.loop.call_later(LOOK_SECONDS, self._look, number)

    def _look(self, number: int) -> None:
        proxy, dumping = self._workers.get(number), self._dumping.get(number)
        if proxy is None or proxy.link is None or dumping is None:
            return
        text = proxy.link.dumped()
        dumping.quiet = dumping.quiet + 1 if text and text == dumping.seen else 0
        dumping.seen = text
        whole = has_ended(text) or dumping.quiet >= QUIET_LOOKS
        if not whole and time.monotonic() < dumping.until:
            self._io.loop.call_later(LOOK_SECONDS, self._look, number)
            return
        del self._dumping[number]
        if text:
            answer = self._from_outside(proxy, "no answer: something in the worker holds the GIL", text)
        elif is_stopped(proxy.pid or 0):
            answer = self._from_outside(proxy, STOPPED, stopped=True)
        else:
            answer = self._from_outside(proxy, "no answer: the worker does not even write its stack upon a signal")
        for question in dumping.questions:
            question.take(number, answer)

    def _from_outside(self, proxy: WorkerProxy, note: str, dump: str = "", *, stopped: bool = False) -> Answer:
        marks, book = proxy.link.marks() if proxy.link is not None else Marks(), self._books.get(proxy.id)
        codes = set(map(frames.spot_of, marks.running))
        items = {code: item for code in codes if (item := _item(book, code)) is not None}
        stepping = frames.spot_of(marks.stepping) if marks.stepping else None
        jobs = {batch.job.id: batch.job.kind for batch in book.batches.values()} if book is not None else {}
        return Answer(
            worker=proxy.index,
            pid=proxy.pid,
            dump=dump,
            note=note,
            stopped=stopped,
            at_work=items.get(stepping) if stepping else None,
            seconds=self._picture(proxy).seconds,
            items=tuple(sorted(items.values())),
            coroutines=frozenset(job for job, kind in jobs.items() if kind == "async"),
        )


def _holds(book: WorkerBook, job: int) -> bool:
    return any(batch.job.id == job for batch in book.batches.values())


def _item(book: WorkerBook | None, code: Code) -> Item | None:
    """The job and the index of an item; None where the ledger knows already that it has ended."""
    batch = book.batches.get(code[0]) if book is not None else None
    if batch is None or code[1] not in batch.pending:
        return None
    return batch.job.id, batch.items[code[1]]


# --- reading what came -----------------------------------------------------------------------------------------------


def _understood(answer: Answer, data: bytes, names: Mapping[int, str]) -> Answer:
    """The answer with what a worker itself says in it."""
    try:
        told = json.loads(data)
        return replace(answer, entries=tuple(_from_worker(answer, told, names)), more=int(told.get("more", 0)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FrameError(f"it does not say where its items stand: {error!r}") from None


def _read(question: Question) -> tuple[list[StackEntry], int]:
    """The entries of all workers, and how many items were left out. In the thread of whoever asks."""
    entries: list[StackEntry] = []
    for answer in question.answers:
        own = answer.entries
        entries += _from_dump(answer, question.job, question.names) if own is None else own
    return entries, sum(answer.more for answer in question.answers)


def _from_worker(answer: Answer, told: Mapping[str, Any], names: Mapping[int, str]) -> Iterator[StackEntry]:
    where: dict[str, Any] = {"workers": (answer.worker,), "pids": _pids(answer)}
    if "failed" in told:
        yield StackEntry(**where, state="unknown", note=f"the worker could not tell: {told['failed']}")
        return
    known = [StackFrame(*frame) for frame in told["frames"]]

    def lines(numbers: Iterable[int]) -> tuple[StackFrame, ...]:
        return tuple(
            known[number] if number >= 0 else StackFrame("", 0, "", f"{-number:,} lines are left out")
            for number in numbers
        )

    for stack in told["stacks"]:
        tasks = tuple(StackTask(task["count"], task["state"], lines(task["lines"])) for task in stack["tasks"])
        yield StackEntry(
            **where,
            items=tuple(stack["items"]),
            count=stack["count"],
            state=("blocked" if answer.blocked else "running") if stack["state"] == "stepping" else stack["state"],
            seconds=stack["most"],
            least=stack["least"],
            frames=lines(stack["lines"]),
            tasks=tasks,
            job=names.get(stack["job"], ""),
        )
    for thread in told["threads"]:
        yield StackEntry(**where, thread=thread["name"], count=thread["count"], frames=lines(thread["lines"]))


def _from_dump(answer: Answer, job: int, names: Mapping[int, str]) -> Iterator[StackEntry]:
    """What can be said of a worker that did not: the lines of its threads are known, whose they are partly."""
    threads = list(read_dump(answer.dump))
    main = next((thread for thread in threads if thread.is_main), None)
    at_work = answer.at_work if main is not None or not answer.dump else None
    shared: dict[str, Any] = {"workers": (answer.worker,), "pids": _pids(answer), "note": answer.note}
    told = set()
    if at_work is not None and job in {0, at_work[0]}:
        told.add(at_work)
        yield StackEntry(
            **shared,
            items=(at_work[1],),
            state="stopped" if answer.stopped else "blocked" if at_work[0] in answer.coroutines else "running",
            seconds=answer.seconds,
            least=answer.seconds,
            frames=main.frames if main is not None else (),
            job=names.get(at_work[0], ""),
        )
    left: defaultdict[int, list[int]] = defaultdict(list)
    for number, index in answer.items:
        if job in {0, number} and (number, index) not in told:
            left[number].append(index)
    others = [thread for thread in threads if thread.in_item and not thread.is_main]
    state: Literal["stopped", "unknown"] = "stopped" if answer.stopped else "unknown"
    whose = _whose_task(answer, main)
    for number, indices in left.items():
        of, count = names.get(number, ""), len(indices)
        if others and number not in answer.coroutines:
            yield from _among(others, indices, of, shared)
            continue
        if number == whose and main is not None:
            count -= 1
            yield StackEntry(**shared, items=tuple(indices), state="blocked", frames=main.frames, job=of)
        if count:
            yield StackEntry(**shared, items=tuple(indices), count=count, state=state, job=of)
    if not job:
        yield from _besides(answer, [each for each in threads if not (each is main and whose)], shared)
    elif not told and not left:
        yield StackEntry(**shared, items=(), count=1, state="stopped" if answer.stopped else "unknown")


def _whose_task(answer: Answer, main: Thread | None) -> int | None:
    """The job of which an item has made the task that holds the loop, where that can only be one."""
    jobs = {number for number, _ in answer.items} & answer.coroutines
    return jobs.pop() if len(jobs) == 1 and main is not None and not main.in_item and main.frames else None


def _among(threads: list[Thread], indices: list[int], of: str, shared: Mapping[str, Any]) -> Iterator[StackEntry]:
    """Functions in threads: which of the items is in which of them nobody can tell from outside."""
    stacks: dict[tuple[StackFrame, ...], int] = {}
    for thread in threads:
        stacks[thread.frames] = stacks.get(thread.frames, 0) + 1
    for lines, count in stacks.items():
        yield StackEntry(**shared, items=tuple(indices), count=count, state="running", frames=lines, job=of)


def _besides(answer: Answer, threads: list[Thread], shared: Mapping[str, Any]) -> Iterator[StackEntry]:
    """Threads that are inside of no item, and a worker that has none."""
    found = [thread for thread in threads if not thread.in_item and thread.frames]
    for thread in found:
        name = "the main thread" if thread.is_main else "a thread"
        yield StackEntry(**shared, thread=name, frames=thread.frames)
    if not found and not answer.items:
        yield StackEntry(**shared, thread="the process")


def _pids(answer: Answer) -> tuple[int, ...]:
    return () if answer.pid is None else (answer.pid,)
