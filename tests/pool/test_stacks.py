"""Where does it hang: every item that runs is shown at its line, whatever its worker does, and equal ones once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from aiopool import WouldDeadlock, pmap
from aiopool._runtime import dumps, inquiry
from aiopool._runtime.dumps import has_ended, read_dump
from tests.pool import work
from tests.pool.board import DEADLINE, until
from tests.pool.pools import shortly, still_works

HERE = __file__


@pytest.fixture(autouse=True)
def _own_time(monkeypatch):
    """Who can answer, or write a stack upon the signal, has the time for it, on a machine that stands still, too."""
    monkeypatch.setattr(inquiry, "ANSWER_SECONDS", DEADLINE)
    monkeypatch.setattr(inquiry, "DUMP_SECONDS", DEADLINE)
    monkeypatch.setattr(inquiry, "WAIT_SECONDS", DEADLINE)


ANSWER_SECONDS, DUMP_SECONDS, WAIT_SECONDS = inquiry.ANSWER_SECONDS, inquiry.DUMP_SECONDS, inquiry.WAIT_SECONDS
QUIET_LOOKS = inquiry.QUIET_LOOKS


@pytest.fixture
def from_outside(monkeypatch):
    """Some worker cannot answer: it is looked at from outside as early as for everybody."""
    monkeypatch.setattr(inquiry, "ANSWER_SECONDS", ANSWER_SECONDS)
    # What it has written is not taken as whole because it gets no processor in the midst of it.
    monkeypatch.setattr(inquiry, "QUIET_LOOKS", 10**6)


@pytest.fixture
def from_nowhere(from_outside, monkeypatch):
    """It does not even write its stack upon the signal."""
    monkeypatch.setattr(inquiry, "DUMP_SECONDS", DUMP_SECONDS)
    monkeypatch.setattr(inquiry, "WAIT_SECONDS", WAIT_SECONDS)


@pytest.fixture
def pool(pool):
    """The pool after the test before, with both workers up and nothing left of its job."""

    def up():
        # What a test has cancelled may still take its worker along.
        pool.broadcast(work.pid).result(DEADLINE)
        return [info.state for info in pool.snapshot().workers] == ["idle"] * pool.size

    until(up, what="both workers are up and idle")
    return pool


# --- what items do; each of them is found at the line that its name says ---------------------------------------------


async def inner(board, x):
    """Wait for ever."""
    board.mark("here", x)
    await asyncio.Event().wait()  # inner waits


async def waits(board, x):
    """Wait for a coroutine that waits."""
    await inner(board, x)  # waits for inner


async def blocks(board, x):
    """Hold the loop."""
    await asyncio.sleep(0)
    board.mark("here", x)
    time.sleep(60)  # noqa: ASYNC251  # holds the loop


def sleeps(board, x):
    """Be inside of a call that gives the GIL away."""
    board.mark("here", x)
    time.sleep(60)  # sleeps


def computes(board, x):
    """Hold the GIL for minutes."""
    board.mark("here", x)
    return 3**10**8  # computes


async def computes_in_loop(board, x):
    """The same in a coroutine, with neighbours that wait."""
    if x:
        await inner(board, x)
    return await steps(board, x)


async def steps(board, x):
    """Hold the GIL once four others wait."""
    await board.wait_async("here", 4)
    board.mark("here", x)
    return 3**10**8  # computes in a coroutine


def line_of(comment):
    """The number of the line of this file that ends with this comment."""
    lines = Path(HERE).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


def places(entry):
    """The lines of this file in an entry."""
    return [(frame.function, frame.line) for frame in entry.frames if frame.file == HERE]


def once(ask, fits, what):
    """Ask until the answer fits, and return it: an item says that it is here before it is where it stays."""
    found = []

    def there():
        found[:] = [ask()]
        return fits(found[0])

    until(there, what=what)
    return found[0]


def shows(job, comment, entries=None):
    """Wait until the stacks of a job have that line, in so many entries if it is said, and return them.

    Of a line at which is waited: until nobody is still about to wait there.
    """
    waits, number = comment == "inner waits", line_of(comment)

    def fits(stacks):
        stands = [each for entry in stacks for each in (entry, *entry.tasks)]
        come = not waits or not any(
            each.state == "running" and each.frames and each.frames[-1].line == number for each in stands
        )
        return f"# {comment}" in stacks and come and entries in {None, len(stacks)}

    return once(job.stacks, fits, f"the line of {comment!r} in its stacks")


# --- items that can be asked -----------------------------------------------------------------------------------------


def test_a_coroutine_is_shown_at_the_line_where_it_waits(pool, board):
    """From its outermost line inwards, with the source, its label, its worker, for how long; nothing of ours."""
    job = pool.map(waits, [board], [7], unpack=False)
    board.wait("here")
    stacks = shows(job, "inner waits")
    (entry,) = stacks
    assert places(entry) == [("waits", line_of("waits for inner")), ("inner", line_of("inner waits"))]
    assert (entry.items, entry.count, entry.state) == ((0,), 1, "waiting")
    assert entry.pids == (pool.workers[entry.workers[0]].info.pid,)
    assert 0 <= entry.seconds < DEADLINE
    lines = str(stacks).splitlines()
    assert lines[0] == "waits: 1 stack"
    assert lines[1].startswith("item 0 (")
    assert lines[1].endswith("s, waits:")
    assert lines[2:4] == [
        f'    File "{HERE}", line {line_of("waits for inner")}, in waits',
        "      await inner(board, x)  # waits for inner",
    ]
    assert "aiopool" not in "\n".join(line for line in lines if not line.startswith("    File") or HERE not in line)
    assert repr(stacks) == str(stacks)
    job.cancel()


def test_equal_stacks_are_one_entry(pool, board):
    """Two thousand coroutines at one line are one, with how many they are, over all workers."""
    job = pool.map(waits, [board] * 2000, range(2000), concurrency=2000)
    board.wait("here", 2000)
    # An item says that it is here before it waits.
    (entry,) = shows(job, "inner waits", entries=1)
    assert entry.count == 2000
    assert entry.items[:3] == (0, 1, 2)
    assert entry.workers == (0, 1)
    assert 0 <= entry.least <= entry.seconds
    assert str(entry).splitlines()[0].startswith("2,000 items (0, 1, 2 and 1,997 more), workers 0 and 1, for ")
    job.cancel()


def test_many_different_stacks_are_bounded(pool, board):
    """Two hundred in full from each worker; of the others it says how many there are."""

    def made(n):
        namespace = {"inner": inner}
        exec("\n" * n + "async def f(board, x):\n    await inner(board, x)", namespace)
        return namespace["f"]

    async def at_its_line(board, x):
        await made(x)(board, x)

    job = pool.map(at_its_line, [board] * 600, range(600), concurrency=600)
    board.wait("here", 600)
    stacks = once(
        job.stacks, lambda stacks: stacks.more + sum(entry.count for entry in stacks) == 600, "all of them are told"
    )
    assert 200 <= len(stacks) <= 400
    assert stacks.more == 600 - len(stacks)
    assert str(stacks).endswith(f"and {stacks.more} more items, each in another place")
    job.cancel()


def test_a_deep_recursion_is_told_from_both_ends(pool, board):
    """And says how many lines are left out."""

    async def deep(board, n):
        if n:
            await deep(board, n - 1)
        else:
            await inner(board, n)

    job = pool.map(deep, [board], [500])
    board.wait("here")
    (entry,) = shows(job, "inner waits")
    assert len(entry.frames) < 80
    assert "lines are left out" in str(entry)
    job.cancel()


def test_async_generators_and_awaitables_of_a_class_are_walked_through(pool, board):
    """Whatever an ``await`` or ``async for`` goes through on its way to where it waits."""

    class Thing:
        def __init__(self, board):
            self.board = board

        def __await__(self):
            return (yield from inner(self.board, 0).__await__())

    async def numbers(board):
        yield 1
        await Thing(board)

    async def reads(board):
        async for _ in numbers(board):
            pass

    job = pool.map(reads, [board])
    board.wait("here")
    (entry,) = shows(job, "inner waits")
    assert [frame.function for frame in entry.frames[:4]] == ["reads", "numbers", "__await__", "inner"]
    job.cancel()


def test_tasks_of_an_item_are_shown_below_it(pool, board):
    """An item that waits for its TaskGroup does not say much; where its tasks stand does."""

    async def group(board, x):
        async with asyncio.TaskGroup() as tasks:
            for n in range(3):
                tasks.create_task(inner(board, n))

    job = pool.map(group, [board] * 2, range(2))
    board.wait("here", 6)
    (entry,) = once(
        job.stacks, lambda stacks: [len(entry.tasks) for entry in stacks] == [1], "all tasks of both wait at one line"
    )
    assert entry.count == 2
    assert [(task.count, task.state, task.frames[0].function) for task in entry.tasks] == [(3, "waiting", "inner")]
    assert "3 tasks of each wait:" in str(entry)
    job.cancel()


def test_a_task_of_an_item_that_holds_the_loop_is_shown_at_its_line(pool, board):
    """Though the item itself only waits."""

    async def group(board):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(blocks(board, 0))

    job = pool.map(group, [board])
    board.wait("here")
    (entry,) = shows(job, "holds the loop")
    assert [(task.state, task.frames[-1].line) for task in entry.tasks] == [("running", line_of("holds the loop"))]
    job.cancel()


def test_a_coroutine_that_holds_its_loop_is_called_blocked(pool, board):
    """After a second; its neighbours wait."""
    job = pool.map(blocks, [board], [0])
    board.wait("here")
    (entry,) = once(job.stacks, lambda stacks: [entry.state for entry in stacks] == ["blocked"], "it is called blocked")
    assert places(entry) == [("blocks", line_of("holds the loop"))]
    assert "holds its loop:" in str(entry)
    job.cancel()


def test_a_function_is_shown_at_its_line(pool, board):
    """In the main thread of its worker."""
    job = pool.map(sleeps, [board], [0])
    board.wait("here")
    (entry,) = shows(job, "sleeps")
    assert places(entry) == [("sleeps", line_of("sleeps"))]
    assert entry.state == "running"
    job.cancel()


def test_functions_in_threads_are_shown_each_at_its_line(pool, board):
    """With a concurrency above the number of workers; and those with asyncio.run at the line where that waits."""

    def runs(board, x):
        if x:
            sleeps(board, x)
        asyncio.run(waits(board, x))

    job = pool.map(runs, [board] * 4, range(4), concurrency=4)
    board.wait("here", 4)
    stacks = once(
        job.stacks,
        lambda stacks: "# inner waits" in stacks and sorted(entry.count for entry in stacks) == [1, 3],
        "three of them sleep, and one waits",
    )
    assert sum(entry.count for entry in stacks) == 4
    assert stacks[0].frames[-1].line == line_of("sleeps")
    assert stacks[1].tasks[0].frames[0].function == "waits"
    job.cancel()


def test_a_function_that_returns_a_coroutine_is_shown_where_that_waits(pool, board):
    """Such as a lambda around a coroutine function."""
    job = pool.map(lambda board: waits(board, 0), [board])
    board.wait("here")
    (entry,) = shows(job, "inner waits")
    assert entry.state == "waiting"
    job.cancel()


def test_what_has_not_started_is_not_shown(pool, board):
    """Items that wait in their worker for their turn."""
    job = pool.map(sleeps, [board] * 100, range(100))
    board.wait("here", 2)
    assert sum(entry.count for entry in shows(job, "sleeps")) == 2
    job.cancel()


def test_a_submit_is_called_a_call(pool, board):
    """It has no index that anybody knows of."""
    call = pool.submit(sleeps, board, 3)
    board.wait("here")
    assert str(shows(call, "sleeps")).splitlines()[1].startswith("the call (")
    call.cancel()


# --- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_shows_items_of_all_jobs_and_threads_of_the_user(fresh, board):
    """Its own threads are left out."""
    pool = fresh(1)

    async def with_thread(board):
        threading.Thread(target=sleeps, args=(board, 0), name="the watcher", daemon=True).start()
        await inner(board, 1)

    first, second = pool.map(with_thread, [board]), pool.map(waits, [board], [2])
    board.wait("here", 3)
    (worker,) = pool.workers
    stack = once(worker.stack, lambda stack: "# inner waits" in stack and "the watcher:" in stack, "all of it")
    assert {entry.job for entry in stack if not entry.thread} == {"with_thread", "waits"}
    assert [entry.thread for entry in stack if entry.thread] == ["the watcher"]
    assert str(stack).startswith(f"worker 0 (pid {worker.info.pid}): 3 stacks\n")
    assert "aiopool-link" not in stack
    first.cancel()
    second.cancel()


def test_an_idle_worker_says_that_nothing_runs_there(pool):
    """And so does a job whose items have all ended elsewhere."""
    for worker in pool.workers:
        assert str(worker.stack()) == f"worker {worker.info.index} (pid {worker.info.pid}): nothing runs there"


def test_a_worker_that_is_gone_says_so(fresh):
    """It was there when the list of workers was taken."""
    pool = fresh(1)
    pool.map(work.double, [1]).result(DEADLINE)
    (worker,) = pool.workers
    pool.restart().result(DEADLINE)
    until(lambda: worker.info.state == "lost", what="it is gone")
    assert str(worker.stack()).endswith(": it is gone")
    pool.terminate()
    pool.join(DEADLINE)
    assert str(worker.stack()).endswith(": it is gone")


def test_a_worker_that_starts_shows_its_initializer(fresh, board):
    """And one that has not got so far yet has nothing to show; both in time."""

    def slow(board):
        board.mark("started")
        sleeps(board, 0)

    pool = fresh(1, initializer=slow, initargs=(board,))
    job = pool.map(work.double, [1])
    until(lambda: pool.workers, what="there is a worker")
    begun = time.monotonic()
    assert str(pool.workers[0].stack())
    assert time.monotonic() - begun < 20
    board.wait("started")
    stack = once(pool.workers[0].stack, lambda stack: "# sleeps" in stack, "the line of the initializer")
    assert "the main thread:" in stack
    assert str(job.stacks()) == "double: nothing of it runs yet, its workers are starting"
    job.cancel()


# --- workers that do not answer --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("from_outside")
def test_a_function_that_holds_the_gil_is_seen_from_outside(pool, board):
    """Its link thread cannot answer for minutes: its lines come all the same, within two seconds."""
    job = pool.map(computes, [board], [0])
    board.wait("here")
    stacks = shows(job, "computes")
    begun = time.monotonic()
    stacks = job.stacks()
    assert time.monotonic() - begun < 15
    (entry,) = stacks
    assert places(entry) == [("computes", line_of("computes"))]
    assert (entry.items, entry.state) == ((0,), "running")
    assert "something in the worker holds the GIL" in entry.note
    worker = next(worker for worker in pool.workers if worker.info.pid in entry.pids)
    assert places(worker.stack()[0]) == [("computes", line_of("computes"))]
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_outside")
def test_a_deep_recursion_that_holds_the_gil_is_told_from_its_inner_end(pool, board, monkeypatch):
    """A hundred lines is what faulthandler writes of a thread."""
    monkeypatch.setattr(inquiry, "QUIET_LOOKS", QUIET_LOOKS)  # By its last line nobody knows that it is whole.

    def deep(board, n):
        return deep(board, n - 1) if n else computes(board, n)

    job = pool.map(deep, [board], [150])
    board.wait("here")
    (entry,) = once(
        job.stacks,
        lambda stacks: any("holds the GIL" in entry.note and len(entry.frames) > 100 for entry in stacks),
        "its lines",
    )
    assert entry.items == (0,)
    assert entry.frames[-1].line == line_of("computes")
    assert len(entry.frames) == 101
    assert "... the outer lines are left out" in str(entry)
    job.cancel()


@pytest.mark.usefixtures("from_outside")
def test_a_coroutine_that_holds_the_gil_is_told_from_its_neighbours(fresh, board):
    """It is blocked; where those wait that it keeps from answering nobody can say, but that they do."""
    pool = fresh(1)
    job = pool.map(computes_in_loop, [board] * 5, range(5))
    board.wait("here", 5)
    others, culprit = once(job.stacks, told_apart, "the one that holds the GIL, and the others")
    assert (culprit.items, culprit.count, culprit.state) == ((0,), 1, "blocked")
    assert culprit.frames[-1].line == line_of("computes in a coroutine")
    assert (others.items, others.count, others.frames) == ((1, 2, 3, 4), 4, ())
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_outside")
def test_a_task_that_holds_the_gil_is_told_as_that_of_one_of_the_items(fresh, board):
    """Whose task it is cannot be seen from outside."""
    pool = fresh(1)

    async def by_task(board, x):
        await (inner(board, x) if x else asyncio.create_task(steps(board, x)))

    job = pool.map(by_task, [board] * 5, range(5))
    board.wait("here", 5)
    others, culprit = once(job.stacks, told_apart, "the one that holds the GIL, and the others")
    assert culprit.items == others.items == (0, 1, 2, 3, 4)
    assert places(culprit) == [("steps", line_of("computes in a coroutine"))]
    assert "1 of items 0, 1, 2, 3 and 4, worker 0" in str(culprit)
    assert [entry.count for entry in pool.workers[0].stack()] == [4, 1]
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_outside")
def test_functions_in_threads_behind_a_held_gil_are_told_as_some_of_them(fresh, board):
    """Which is in which thread cannot be seen from outside."""
    pool = fresh(1)

    def at_rest(frame):
        return frame.f_code is sleeps.__code__ and frame.f_lineno == sleeps.__code__.co_firstlineno + 3

    def mixed(board, x):
        if x < 2:
            sleeps(board, x)
        # Said to be there is not yet asleep: whoever is still on the way would stand somewhere else.
        until(lambda: sum(map(at_rest, sys._current_frames().values())) == 2, what="the two others sleep")
        return computes(board, x)

    job = pool.map(mixed, [board] * 3, range(3), concurrency=3)
    board.wait("here", 3)
    stacks = once(
        job.stacks,
        lambda stacks: "# computes" in stacks and all("holds the GIL" in entry.note for entry in stacks),
        "seen from outside",
    )
    assert sorted((entry.count, entry.items) for entry in stacks) == [(1, (0, 1, 2)), (2, (0, 1, 2))]
    assert "2 of items 0, 1 and 2" in stacks
    job.cancel()
    still_works(pool)


def told_apart(stacks):
    """Whether one is known to hold the GIL, and of four others nothing."""
    return [(entry.state, entry.count) for entry in stacks] == [("unknown", 4), ("blocked", 1)]


def stop(pid: int) -> None:
    """Stop a worker, and wait until it stands still: it may answer a question until then."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: dumps.is_stopped(pid), what="it stands still")


@pytest.mark.usefixtures("from_outside")
@pytest.mark.parametrize(("kind", "comment"), [(sleeps, "sleeps"), (waits, "inner waits")], ids=["def", "coroutine"])
def test_a_stopped_worker_is_called_stopped(pool, board, kind, comment):
    """In less than two seconds, and its stack comes again when it goes on."""
    job = pool.map(kind, [board], [0])
    board.wait("here")
    (entry,) = shows(job, comment)
    stop(entry.pids[0])
    try:
        begun = time.monotonic()
        (stopped,) = job.stacks()
        assert time.monotonic() - begun < 10
        assert (stopped.items, stopped.count) == ((0,), 1)
        assert stopped.note == "no answer: the system has stopped the worker (state T)"
        assert stopped.state == "stopped"
        assert "stopped" in next(worker for worker in pool.workers if worker.info.pid in entry.pids).stack()
    finally:
        os.kill(entry.pids[0], signal.SIGCONT)
    until(lambda: [places(entry) for entry in job.stacks()] == [places(entry)], what="it answers again")
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_outside")
def test_a_stopped_worker_that_was_asked_often_answers_what_is_asked_next(pool, board):
    """Not a hundred old questions first."""
    job = pool.map(sleeps, [board], [0])
    board.wait("here")
    (entry,) = shows(job, "sleeps")
    stop(entry.pids[0])
    try:
        with ThreadPoolExecutor(20) as threads:
            for stacks in threads.map(lambda _: job.stacks(), range(40)):
                assert [each.state for each in stacks] == ["stopped"]
        assert max(pool._driver.inquiry._unanswered.values()) == inquiry.MOST_UNANSWERED
    finally:
        os.kill(entry.pids[0], signal.SIGCONT)
    assert "# sleeps" in shows(job, "sleeps")
    until(lambda: not any(pool._driver.inquiry._unanswered.values()), what="all that it was asked is answered")
    job.cancel()


def test_a_worker_that_dies_while_it_is_asked_keeps_nobody_waiting(pool, board, monkeypatch):
    """The answer comes without it, and at once."""
    monkeypatch.setattr(inquiry, "ANSWER_SECONDS", 3 * DEADLINE)
    monkeypatch.setattr(inquiry, "WAIT_SECONDS", 3 * DEADLINE)
    job = pool.map(sleeps, [board], [0], on_error="return")
    board.wait("here")
    (entry,) = shows(job, "sleeps")
    stop(entry.pids[0])
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(job.stacks)
        until(lambda: any(pool._driver.inquiry._unanswered.values()), what="it was asked")
        os.kill(entry.pids[0], signal.SIGKILL)
        assert len(asked.result(DEADLINE)) == 0
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_nowhere")
def test_an_item_that_has_closed_every_descriptor_is_no_trap(pool, board):
    """Nothing can be learned of a worker that has and then holds the GIL; but nobody waits for ever."""

    def closes(board):
        board.mark("here")
        os.closerange(3, 4096)
        return 3**10**8

    job = pool.map(closes, [board], rerun_lost=False)
    board.wait("here")
    begun = time.monotonic()
    str(job.stacks())
    assert time.monotonic() - begun < 20
    job.cancel()
    still_works(pool)


@pytest.mark.usefixtures("from_outside")
def test_an_item_that_took_the_signal_away_is_not_killed_by_it(pool, board):
    """The signal would end a process that does not expect it."""

    def takes(board):
        import faulthandler

        from aiopool._worker.dump import DUMP_SIGNAL

        faulthandler.unregister(DUMP_SIGNAL)
        return computes(board, 0)

    job = pool.map(takes, [board])
    board.wait("here")
    (entry,) = once(job.stacks, lambda stacks: any(entry.note for entry in stacks), "it does not answer")
    assert "has taken its signals away" in entry.note
    assert psutil.pid_exists(entry.pids[0])
    job.cancel()
    still_works(pool)


# --- whoever asks ----------------------------------------------------------------------------------------------------


def test_a_job_that_has_ended_says_so(pool):
    """However it ended."""
    job = pool.map(work.double, range(3))
    job.result(DEADLINE)
    assert len(job.stacks()) == 0
    assert str(job.stacks()) == "double: done, nothing of it runs any more"
    job = pool.map(work.nap, [60])
    job.cancel()
    until(job.done, what="it has ended")
    assert str(job.stacks()) == "nap: cancelled, nothing of it runs any more"


def test_a_job_may_end_while_it_is_asked(pool):
    """As often as it likes; nothing but stacks comes back."""
    for _ in range(30):
        job = pool.map(work.double_later, range(50))
        while not job.done():
            str(job.stacks())
        assert job.result(DEADLINE) == list(range(0, 100, 2))


def test_any_number_of_threads_may_ask_at_once(pool, board):
    """Of a job that waits, a hundred times each; its worker goes on."""
    job = pool.map(waits, [board] * 50, range(50))
    board.wait("here", 50)
    shows(job, "inner waits", entries=1)

    def ask(_):
        return [[(entry.count, entry.state) for entry in job.stacks()] for _ in range(100)]

    with ThreadPoolExecutor(2) as threads:
        for answers in threads.map(ask, range(2)):
            assert answers == [[(50, "waiting")]] * 100
    job.cancel()


@pytest.mark.usefixtures("from_outside")
def test_two_threads_may_ask_a_worker_that_holds_the_gil(pool, board):
    """Both get its lines; it writes them one after another."""
    job = pool.map(computes, [board], [0])
    board.wait("here")
    shows(job, "computes")
    with ThreadPoolExecutor(2) as threads:
        for stacks in threads.map(lambda _: [job.stacks() for _ in range(3)], range(2)):
            assert [places(entry) for each in stacks for entry in each] == [[("computes", line_of("computes"))]] * 3
    job.cancel()
    still_works(pool)


async def test_a_coroutine_may_ask_while_another_awaits_the_job(pool, board):
    """It blocks this loop for a moment, and nothing else."""
    job = pool.map(waits, [board] * 3, range(3))
    waiting = asyncio.create_task(asyncio.wait_for(job, DEADLINE))
    await board.wait_async("here", 3)
    assert sum(entry.count for entry in job.stacks()) == 3
    assert not waiting.done()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await shortly(waiting)


def test_the_pools_own_thread_cannot_ask(pool, board):
    """It is the one that hears the answers."""
    raised = []

    def ask(ended):
        try:
            running.stacks()
        except WouldDeadlock as error:
            raised.append(error)
        finally:
            asked.set()

    asked = threading.Event()
    running = pool.map(sleeps, [board], [0])
    board.wait("here")
    quick = pool.map(work.double, [1])
    quick.add_done_callback(ask)
    quick.result(DEADLINE)
    assert asked.wait(DEADLINE)
    # Where the job has ended before, the callback ran right here, and there is nothing to refuse.
    assert len(raised) == 1 or quick.done()
    with pytest.raises(WouldDeadlock, match="another"):
        pool._driver._io.ask(running.stacks)
    running.cancel()


def test_a_map_inside_a_worker_can_be_asked_there(pool, board):
    """For its coroutines, and for its functions."""

    async def outer(board):
        job = pmap(waits, [board] * 3, range(3))
        await board.wait_async("here", 3)
        told = str(job.stacks())
        job.cancel()
        return told

    def outer_def(board):
        job = pmap(sleeps, [board] * 2, range(2), concurrency=2)
        board.wait("here", 5)
        told = once(job.stacks, lambda stacks: len(stacks) == 1 and "# sleeps" in stacks, "both sleep")
        job.cancel()
        return str(told)

    told = pool.submit(outer, board).result(DEADLINE)
    assert "3 items (0, 1 and 2), " in told
    assert "await inner(board, x)  # waits for inner" in told
    told = pool.submit(outer_def, board).result(DEADLINE)
    assert "2 items (0 and 1), " in told
    assert "# sleeps" in told


@pytest.mark.usefixtures("from_outside")
def test_asking_leaves_nothing_open(pool, board):
    """Two hundred times, of workers that answer and of one that does not."""
    # Nobody else looks, who might have a thread begun for labels.
    jobs = [pool.map(fn, [board], [0], progress=False) for fn in (waits, computes)]
    board.wait("here", 2)
    shows(jobs[1], "computes")
    shows(jobs[0], "inner waits")
    pids = {pid for job in jobs for entry in job.stacks() for pid in entry.pids}
    processes = [psutil.Process(), *map(psutil.Process, pids)]

    def taken():
        return [*(process.num_fds() for process in processes), threading.active_count()]

    # What was begun before may end meanwhile.
    before = taken()
    for _ in range(200):
        jobs[0].stacks()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: jobs[1].stacks(), range(16)))
    until(lambda: all(now <= then for now, then in zip(taken(), before, strict=True)), what="all given back")
    for job in jobs:
        job.cancel()


def test_asking_does_not_keep_an_items_values_alive(pool, board):
    """A look at frames must not hold what is in them beyond the item's end."""

    async def holds(board):
        import gc
        import weakref

        class Big:
            pass

        async def one():
            big = Big()
            refs.append(weakref.ref(big))
            board.mark("here")
            await gate.wait()

        refs, gate = [], asyncio.Event()
        task = asyncio.create_task(one())
        await board.wait_async("asked")
        gate.set()
        await task
        del task
        return refs[0]() is None or (bool(gc.collect()) and refs[0]() is None)

    job = pool.map(holds, [board])
    board.wait("here")
    for _ in range(3):
        job.stacks()
    board.mark("asked")
    assert job.result(DEADLINE) == [True]


def test_asking_does_not_keep_a_functions_values_alive(fresh, board):
    """Not even until somebody collects garbage: they may be gigabytes."""
    pool = fresh(1)

    def holds(board, x):
        import gc
        import sys
        import weakref

        if x:
            gc.enable()
            return sys.held() is None
        gc.collect()
        gc.disable()
        big = {1, 2, 3}
        sys.held = weakref.ref(big)
        board.mark("here")
        board.wait("asked")
        return len(big) == 3

    job = pool.map(holds, [board] * 2, range(2))
    board.wait("here")
    once(job.stacks, lambda stacks: "board.wait" in stacks, "it waits to be asked")
    for _ in range(3):
        assert "board.wait" in job.stacks()
    board.mark("asked")
    assert job.result(DEADLINE) == [True, True]


# --- what faulthandler writes ----------------------------------------------------------------------------------------

DUMP = """Thread 0x00007f01 (most recent call first):
  File "/lib/python3.11/selectors.py", line 415 in select
  File "/home/me/caf\\xe9/\\u4e2d.py", line 7 in watch
  File "/lib/python3.11/threading.py", line 982 in run
  File "/lib/python3.11/threading.py", line 1045 in _bootstrap_inner
  File "/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007f02 (most recent call first):
  File "/home/me/x.py", line 3 in crunch
  File "{ours}/_worker/runner.py", line 320 in _value
  File "{ours}/_worker/runner.py", line 300 in _run_def
  File "{ours}/_worker/main.py", line 57 in main
  File "<string>", line 5 in <module>
"""


def test_a_dump_is_read_as_far_as_it_is_the_users():
    """Names that are not ASCII are as they were; the main thread is the one that runs the item."""
    text = DUMP.format(ours=Path(dumps.__file__).parents[1])
    watch, main = read_dump(text)
    assert [(frame.file, frame.line, frame.function) for frame in watch.frames] == [("/home/me/café/中.py", 7, "watch")]
    assert (watch.is_main, watch.in_item, main.is_main, main.in_item) == (False, False, True, True)
    assert [(frame.file, frame.line, frame.function) for frame in main.frames] == [("/home/me/x.py", 3, "crunch")]


def test_a_dump_is_whole_only_with_its_last_line():
    """A part of one is not taken for all of it."""
    text = DUMP.format(ours="/x")
    assert has_ended(text)
    assert not any(has_ended(text[:cut]) for cut in range(len(text)))
    assert list(read_dump("")) == []
