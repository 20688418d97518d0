"""Quick ``def`` items run one right after the other, and each has all that an item has: its Context, name and end."""

from __future__ import annotations

import contextvars
import decimal
import math
import os
import signal
import sys
import threading
from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from aiopool import ItemExited, Pool, current_item, inside, pmap, report
from aiopool._core import frames, policy
from aiopool._worker.laps import Place, run_in_a_row, run_in_groups
from aiopool._worker.outbox import Run
from aiopool._worker.stretches import Stretch
from aiopool._worker.work import BatchRun
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import still_works

# ruff: noqa: T201  # items print

MANY = 3000
"""So many items that do nothing that most of them are in batches of hundreds."""

BIG = {"batch": 500}


def _short() -> None:
    """Items of every job are believed to be very short, and nothing that they do will change that."""
    from aiopool._worker import laps, work

    work.JobRun.pace, laps.TOGETHER, laps.ENOUGH = 1e-7, 1e9, 1 << 40


@pytest.fixture(scope="module", params=[None, _short], ids=["one by one", "in groups"])
def one(request) -> Any:
    """A pool of one worker: who is next is who comes next in the same process."""
    with Pool(workers=1, grace=DEADLINE / 2, name="laps", initializer=request.param) as pool:
        yield pool


@pytest.fixture
def patient(one: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The same, whose worker has time to obey, on a busy machine, too: it is neither killed nor replaced meanwhile."""
    monkeypatch.setattr(policy, "DEAF_SECONDS", DEADLINE / 2)
    return one


# --- that there are any -----------------------------------------------------------------------------------------------


def test_plain_items_of_a_function_run_in_laps(one):
    """Else all that follows says nothing. The first one of a job does not: with it the function is loaded."""

    def where(x: int) -> bool:
        return sys._getframe(1).f_code.co_name in {"run_in_a_row", "run_in_groups"}

    results = one.map(where, range(MANY), **BIG).result(DEADLINE)
    assert not results[0]
    assert all(results[1:])


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({"timeout": 60}, range(100)),
        ({"rerun_lost": False}, range(100)),
        ({"unpack": True}, [(x,) for x in range(100)]),
    ],
    ids=["timeout", "at most once", "unpacked"],
)
def test_items_that_are_owed_more_do_not(one, options, items):
    """A timeout, or a mark that must be written before the next one begins, is looked after for each."""

    def where(x: int) -> bool:
        return sys._getframe(1).f_code.co_name in {"run_in_a_row", "run_in_groups"}

    assert not any(one.map(where, items, batch=50, **options).result(DEADLINE))


@pytest.mark.parametrize("kind", ["functions", "coroutines"])
def test_a_signal_handler_that_prints_disturbs_no_item(fresh, kind):
    """It may come between two items as well as in the middle of one."""

    def beat() -> None:
        signal.signal(signal.SIGALRM, lambda *_: print(".", end=""))
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)

    async def coroutine(x: int) -> int:
        return x

    with fresh(1, initializer=beat) as pool:
        before = pool.submit(os.getpid).result(DEADLINE)
        job = pool.map(abs if kind == "functions" else coroutine, range(20 * MANY), progress=False)
        assert job.result(DEADLINE) == list(range(20 * MANY))
        assert pool.submit(os.getpid).result(DEADLINE) == before


# --- contexts ---------------------------------------------------------------------------------------------------------


def test_what_an_item_sets_is_not_there_for_the_next_one(one):
    """Whether it sets a variable for the first time, once more, or for a while."""

    def sets(x: int) -> Any:
        if x == 0:
            # Here, because a ContextVar cannot travel.
            sets.variable = contextvars.ContextVar("variable", default=None)
        variable = sets.variable
        before = variable.get(), decimal.getcontext().prec
        if x % 7 == 0:
            variable.set(x)
        if x % 7 == 3:
            variable.set(x)
            variable.set(None)
        if x % 7 == 5:
            variable.reset(variable.set(x))
            decimal.getcontext().prec = 5
        return before == (None, 28)

    assert all(one.map(sets, range(MANY), **BIG).result(DEADLINE))


def test_a_copy_of_its_context_stays_the_items_own(one):
    """Also where the item has changed a variable after it was made: both together must not look like nothing."""
    kept: dict[int, contextvars.Context] = {}

    def keeps(x: int) -> Any:
        if x == 0:
            keeps.variable = contextvars.ContextVar("variable", default=-1)
        variable = keeps.variable
        told = variable.get() == -1 and current_item().index == x
        if x % 5 == 1:
            variable.set(x)
        if x % 5 in (1, 2, 3):
            kept[x] = contextvars.copy_context()
        if x % 5 == 3:
            variable.set(x)
        for index, context in list(kept.items())[-20:]:
            told &= context.run(current_item).index == index
            told &= context.run(variable.get) == (index if index % 5 == 1 else -1)
        return told

    assert all(one.map(keeps, range(MANY), **BIG).result(DEADLINE))


def test_a_copy_that_is_let_go_of_again_means_nothing(one):
    """As of an asyncio.run, which takes one and gives it back."""

    def runs(x: int) -> Any:
        import asyncio

        async def inner() -> int:
            await asyncio.sleep(0)
            return current_item().index

        return x if x % 50 else asyncio.run(inner())

    assert one.map(runs, range(MANY), **BIG).result(DEADLINE) == list(range(MANY))


def test_every_item_knows_which_one_it_is(one):
    """By index, attempt and seed, in the function, in what it calls, and in threads that have its Context."""

    def asks(x: int) -> Any:
        told = [current_item()]
        if x % 10 == 0:
            context = contextvars.copy_context()
            thread = threading.Thread(target=lambda: told.append(context.run(current_item)))
            thread.start()
            thread.join()
        return all(item.index == x and item.attempt == 1 for item in told), str(told[0].seed)

    results = one.map(asks, range(1000), seed=7, **BIG).result(DEADLINE)
    assert all(right for right, _ in results)
    assert len({seed for _, seed in results}) == 1000


def test_a_thread_that_outlives_its_item_prints_in_nobodys_name(one, heard):
    """It is over, and those that run meanwhile have not said it."""

    def leaves(x: int) -> Any:
        if x == 510:
            context = contextvars.copy_context()
            go = leaves.go = threading.Event()
            leaves.done = threading.Event()

            def later() -> None:
                go.wait(DEADLINE)
                print("late")
                leaves.done.set()

            threading.Thread(target=context.run, args=(later,)).start()
        if x == 600:
            leaves.go.set()
            leaves.done.wait(DEADLINE)
        if x % 100 == 0:
            print("own", x)
        return x

    assert one.map(leaves, range(1000), **BIG).result(DEADLINE) == list(range(1000))
    until(lambda: any("late" in line.text for line in heard.lines), what="the late line has come")
    assert [line.item for line in heard.lines if "late" in line.text] == [None]
    until(lambda: len(heard.lines) >= 11, what="all lines have come")
    assert {line.item for line in heard.lines if "own" in line.text} == set(range(0, 1000, 100))


# --- what items say and hold ------------------------------------------------------------------------------------------


def test_each_line_has_the_name_of_its_item(one, heard):
    """Ended or not: what is left of a line goes out when its item ends."""

    def prints(x: int) -> Any:
        if x % 50 == 0:
            print(f"line {x}")
        if x % 50 == 1:
            print(f"rest {x}", end="")
        return x

    assert one.map(prints, range(1000), **BIG).result(DEADLINE) == list(range(1000))
    until(lambda: len(heard.lines) == 40, what="every line has come")
    assert all(line.text.split()[1] == str(line.item) for line in heard.lines)


def test_items_that_report_do_not_speak_for_others(one):
    """The pool takes no report of an item that has ended, so this would end the worker."""

    def reports(x: int) -> Any:
        report(0.5, f"at {x}")
        return x

    pid = one.broadcast(os.getpid).result(DEADLINE)
    assert one.map(reports, range(MANY), **BIG).result(DEADLINE) == list(range(MANY))
    assert one.broadcast(os.getpid).result(DEADLINE) == pid


def test_a_map_inside_belongs_to_its_item(one):
    """It ends with that, and those that follow have theirs."""

    def outer(x: int) -> Any:
        return sum(pmap(lambda y: y, [x, 1]).result()) if x % 40 == 0 else x + 1

    assert one.map(outer, range(400), **BIG).result(DEADLINE) == [x + 1 for x in range(400)]


# --- values and errors ------------------------------------------------------------------------------------------------


def test_values_that_are_not_plain_are_pickled_when_their_item_ends(one):
    """So what the next item does to the same object is not seen in them."""
    buffer: list[int] = []

    def appends(x: int) -> Any:
        buffer.append(x)
        del buffer[:-3]
        return buffer if x % 3 == 0 else x

    results = one.map(appends, range(MANY), **BIG).result(DEADLINE)
    assert results[3:] == [[x - 2, x - 1, x] if x % 3 == 0 else x for x in range(3, MANY)]


def test_an_error_is_the_error_of_its_item_alone(one):
    """Whatever it is, before, between and after others; the traceback has no line of ours."""

    def fails(x: int) -> Any:
        if x % 10 == 3:
            raise ValueError(x)
        if x % 100 == 7:
            sys.exit(x)
        if x % 100 == 8:
            return lambda: x, threading.Lock()
        return x

    results = one.map(fails, range(1000), on_error="return", **BIG).result(DEADLINE)
    for x, result in enumerate(results):
        if x % 10 == 3:
            assert (result.index, result.error.args) == (x, (x,))
            assert "aiopool/_worker" not in str(result.error.__traceback__.tb_frame.f_code.co_filename)
        elif x % 100 == 7:
            assert isinstance(result.error, ItemExited)
        elif x % 100 == 8:
            assert "cannot travel" in str(result.error)
        else:
            assert result == x


def test_a_function_that_returns_coroutines_now_and_then_has_them_run(one):
    """In the worker's own loop, with the name of the item."""

    async def later(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return current_item().index

    results = one.map(lambda x: later(x) if x % 100 == 9 else x, range(1000), **BIG).result(DEADLINE)
    assert results == list(range(1000))


def test_seconds_are_each_items_own(one):
    """A slow one among quick ones is told apart."""

    def works(x: int) -> Any:
        if x in {700, 1400}:
            end = threading.Event()
            end.wait(0.05)
        return x

    job = one.map(works, range(2000), **BIG)
    job.result(DEADLINE)
    seconds = [record["seconds"] for record in job.records()]
    assert min(seconds[700], seconds[1400]) >= 0.05
    assert sorted(seconds)[1900] < 0.01


def test_records_of_many_items_are_worked_out_once_for_all_of_them(one, monkeypatch):
    """Not for each from the beginning: of a million that would take an hour."""
    looks: list[object] = []
    at, length = frames.InARow.__getitem__, frames.InARow.__len__
    job = one.map(abs, range(MANY))
    job.result(DEADLINE)
    monkeypatch.setattr(frames.InARow, "__getitem__", lambda row, index: looks.append(index) or at(row, index))
    monkeypatch.setattr(frames.InARow, "__len__", lambda row: looks.append(len) or length(row))
    assert [record["index"] for record in job.records(values=False)] == list(range(MANY))
    assert len(looks) < 50
    assert all(record["seconds"] >= 0 for record in job.records())


# --- who else there is ------------------------------------------------------------------------------------------------


def test_values_before_an_item_that_takes_long_come_while_it_runs(one, board: Board):
    """Nobody who reads results waits for an item that is none of his."""

    def waits(x: int) -> Any:
        if x == 777:
            board.wait("go on")
        return x

    job = one.map(waits, range(1000), **BIG)
    got = []
    for index, _ in job.as_completed():
        got.append(index)
        if len(got) == 777:
            board.mark("go on")
    assert sorted(got) == list(range(1000))


def test_what_has_not_started_goes_to_a_worker_that_has_nothing_to_do(pool, board: Board):
    """Though it was in the same lap as an item that takes long. Each runs once."""

    def waits(x: int) -> Any:
        if x == 3:
            board.wait("go on")
        board.mark("ran", str(x))
        return x

    job = pool.map(waits, range(2000), **BIG)
    got = []
    for index, _ in job.as_completed():
        got.append(index)
        if len(got) == 1999:
            board.mark("go on")
    assert sorted(got) == list(range(2000))
    assert sorted(map(int, board.marks("ran"))) == list(range(2000))


def test_another_job_has_its_turn_while_a_long_one_runs(one, board: Board):
    """Jobs share a worker at the ends of items, however quick those are."""

    def counts(x: int) -> Any:
        if x == 5000:
            board.wait("both are there")
        return len(board.marks("other")) == 3 if x % 100 == 0 else None

    job = one.map(counts, range(400_000), batch=4000)
    other = one.map(lambda x: board.mark("other"), range(3), batch=3)
    driver = one._driver

    def has_come() -> bool:
        return other.done() or bool((book := driver._ledger.jobs.get(other.id)) and book.supplied)

    until(lambda: driver._io.ask(has_come), what="its items have had, or wait for, their turn")
    board.mark("both are there")
    other.result(DEADLINE)
    told = job.result(60)
    assert told[0] is False
    assert told[-100] is True


def test_a_cancel_ends_a_lap_with_the_item_that_runs(patient, board: Board):
    """No other one of it begins, and the worker lives."""
    pid = patient.broadcast(os.getpid).result(DEADLINE)

    def runs(x: int) -> Any:
        board.mark("ran", str(x))
        if x == 600:
            board.wait("never")
        return x

    job = patient.map(runs, range(1000), **BIG)
    until(lambda: len(board.marks("ran")) == 601, what="the item waits")
    job.cancel()
    until(job.done, what="it has ended")
    still_works(patient)
    assert len(board.marks("ran")) == 601
    assert patient.broadcast(os.getpid).result(DEADLINE) == pid


def test_a_signal_handler_that_raises_harms_one_item_at_most(fresh):
    """It may strike at any line, also between two items: each of them ends once, with its value or that error.

    On a worker of its own: it may strike the very item that ends it.
    """

    class Struck(Exception):
        pass

    def strikes(x: int) -> Any:
        if x == 0:

            def strike(*_: object) -> None:
                raise Struck

            signal.signal(signal.SIGALRM, strike)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
        if x == 99_999:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return x

    results = fresh(1).map(strikes, range(100_000), on_error="return", batch=2000).result(60)
    wrong = [x for x, result in enumerate(results) if result != x and type(result.error).__name__ != "Struck"]
    assert not wrong


def test_the_clone_of_a_worker_in_which_an_item_forked_begins_no_other(one, board: Board):
    """It comes back from its item as if it were the worker, and ends."""

    def forks(x: int) -> Any:
        from aiopool._worker import outbox

        board.mark("ran", str(x))
        if x in {0, 999}:
            # Nothing is sent before the batch has ended, which is where a clone ends at the latest.
            outbox.FLUSH_SECONDS = 0.005 if x else 1e9
        if x == 100:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
        return x

    assert one.map(forks, range(1000), **BIG).result(DEADLINE) == list(range(1000))
    assert sorted(map(int, board.marks("ran"))) == list(range(1000))


def test_a_worker_that_dies_in_a_lap_costs_the_item_that_killed_it(fresh):
    """The mark says which one it was; all others end with their values."""
    pool = fresh(2)

    def kills(x: int) -> Any:
        if x == 1234:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    job = pool.map(kills, range(MANY), on_error="return", **BIG)
    results = job.result(DEADLINE)
    assert [x for x, result in enumerate(results) if result != x] == [1234]
    assert type(results[1234].error).__name__ == "WorkerLost"


@pytest.mark.parametrize("run_items", [run_in_a_row, run_in_groups])
def test_an_item_that_is_kept_is_its_own_though_another_thread_lets_go_of_it_meanwhile(run_items):
    """Both are told from one count of references: that of who looked which item runs must not make up for the other."""

    class Job:
        id, seed, returns = 1, None, int

    job: Any = Job()
    batch = BatchRun(job, frames.Batch(1, 1, 1, 1, range(4), b"", ()), [0, 1, 2, 3], None)
    marks = SimpleNamespace(low=memoryview(array("I", [0])))
    host: Any = SimpleNamespace(context=contextvars.Context(), marks=marks)
    place = Place(host, batch)
    run = Run(job, batch, 0, math.inf)
    looked = [place.cursor]
    kept = []

    def keeps(x: int) -> int:
        looked.clear()
        kept.append((x, inside.running.get().outermost.item))
        return x

    left = place.context.run(run_items, Stretch(batch, 0, [0, 1, 2, 3]).steps, keeps, place.cursor, place.mapping, run)
    assert left is not None
    assert left.is_apart
    assert kept == [(0, 0)]
