"""Coroutines that do not wait run one right after the other, and each has all that an item has; also one that waits."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import time
from typing import Any

import pytest

from aiopool import Pool, current_item, report
from aiopool._core import policy
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import still_works

# ruff: noqa: T201  # items print
# ruff: noqa: ASYNC110, ASYNC251  # items hold their loop, and watch a board

MANY = 3000
"""So many items that do nothing that most of them are in batches of hundreds."""

BIG = {"batch": 500}


@pytest.fixture(scope="module")
def one() -> Any:
    """A pool of one worker: who is next is who comes next in the same process."""
    with Pool(workers=1, grace=DEADLINE / 2, name="lane-laps") as pool:
        yield pool


@pytest.fixture
def patient(one: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The same, whose worker has time to obey, on a busy machine, too: it is neither killed nor replaced meanwhile."""
    monkeypatch.setattr(policy, "DEAF_SECONDS", DEADLINE / 2)
    return one


async def where(_: object) -> bool:
    """Whether this is run in a lap."""
    return sys._getframe(1).f_code.co_name == "in_a_row"


# --- that there are any -----------------------------------------------------------------------------------------------


def test_coroutines_that_do_not_wait_run_in_laps(one):
    """Else all that follows says nothing. The first one of a job does not: with it the function is loaded."""
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
    assert not any(one.map(where, items, batch=50, **options).result(DEADLINE))


def test_where_loops_nest_there_are_none(fresh):
    """An item may be stepped within the step of another there."""
    assert not any(fresh(1, nested_loops=True).map(where, range(100), batch=50).result(DEADLINE))


def test_beside_items_with_a_timeout_there_are_none(one, board: Board):
    """What holds the loop, and for how long, is taken down for each step: it is not charged to the others."""

    async def waits(x: int) -> int:
        board.mark("waits")
        while not board.marks("go on"):
            await asyncio.sleep(0.01)
        return x

    job = one.map(waits, range(2), timeout=60)
    board.wait("waits", 2)
    assert not any(one.map(where, range(100), batch=50).result(DEADLINE))
    board.mark("go on")
    assert job.result(DEADLINE) == [0, 1]


# --- what an item costs: no clock, so the counts are the same on every machine ----------------------------------------


def test_between_two_coroutines_no_function_of_ours_is_called(one):
    """Of Python none, and of C a few: the clock, three looks at what it might have done, and what is put down."""

    async def counted(x: int) -> Any:
        if x in (0, 1999):
            from aiopool._worker import lanes, outbox

            # A lane takes a turn after some ms, and a lap is cut where values wait for long: that is no item's cost.
            lanes.TURN_SECONDS, outbox.FLUSH_SECONDS = (0.005, 0.02) if x else (1e9, 1e9)
        if x == 500:  # the first one of a batch
            counts = {"call": 0, "c_call": 0}

            def count(frame: Any, event: str, _: object) -> None:
                if event in counts and frame.f_code is not counted.__code__:
                    counts[event] += 1

            counted.counts = counts
            sys.setprofile(count)
        if x == 999:  # the last one
            sys.setprofile(None)
            return f"{counted.counts['call']} {counted.counts['c_call']}"
        return x

    calls, c_calls = map(int, one.map(counted, range(2000), **BIG).result(DEADLINE)[999].split())
    assert calls < 400, "a lane's turns may be among them, but nothing for each of the 500"
    assert c_calls <= 500 * 7 + 450


def test_a_batch_of_coroutines_is_one_pickle(one):
    """However many items it has: what is sent is counted by frames, not by items."""

    async def counted(x: int) -> Any:
        from aiopool._worker import outbox

        if x == 0:
            made: list[int] = []
            dump = outbox._payload.dump_shared

            def dump_shared(values: list[Any]) -> bytes:
                made.append(len(values))
                return dump(values)

            outbox._payload.dump_shared = dump_shared
            counted.made, counted.dump = made, dump
        if x == MANY - 1:
            outbox._payload.dump_shared = counted.dump
            return ",".join(map(str, counted.made))
        return None

    sizes = [int(size) for size in one.map(counted, range(MANY), **BIG).result(DEADLINE)[-1].split(",")]
    # A machine that stands still for some ms in the midst of a batch has it sent in two.
    assert len(sizes) <= 4 * MANY // BIG["batch"], sizes
    assert sum(sizes) >= MANY - BIG["batch"] - 1


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_the_loop_turns_for_an_item_as_often_as_that_waits(one, waits):
    """A lane whose item has waited takes the next one at once: the others had their turn meanwhile."""
    count = 4000

    async def counted(x: int) -> Any:
        events = asyncio.base_events.BaseEventLoop
        if x == 0:
            counted.called, soon = 0, events._call_soon

            def _call_soon(*args: Any) -> Any:
                counted.called += 1
                return soon(*args)

            counted.soon, events._call_soon = soon, _call_soon
        for _ in range(waits):
            # What the loop calls is counted; of a timer this is what wakes the item.
            await asyncio.sleep(0.0001)
        if x == count - 1:
            events._call_soon = counted.soon
            return counted.called
        return None

    called = one.map(counted, range(count), **BIG).result(DEADLINE)[-1]
    # Lanes that find nothing between two batches end, and others begin: of these there are a hundred.
    assert called <= (waits + 0.5) * count


# --- contexts ---------------------------------------------------------------------------------------------------------


def test_what_an_item_sets_is_not_there_for_the_next_one(one):
    """Whether it sets a variable for good or for a while, before it waits, after that, or without; and it keeps it."""

    async def sets(x: int) -> bool:
        if x == 0:
            # Here, because a ContextVar cannot travel.
            sets.variable = contextvars.ContextVar("variable", default=None)
        variable = sets.variable
        right = variable.get() is None
        if x % 7 in (0, 4):
            variable.set(x)
        if x % 7 == 3:
            variable.set(x)
            variable.set(None)
        if x % 7 == 5:
            variable.reset(variable.set(x))
        if x % 11 in (0, 4):
            await asyncio.sleep(0)
        right &= variable.get() == (x if x % 7 in (0, 4) else None)
        if x % 7 == 6:
            variable.set(x)
        return right

    assert all(one.map(sets, range(MANY), **BIG).result(DEADLINE))
    assert all(one.map(sets, range(MANY), concurrency=1, **BIG).result(DEADLINE))


def test_every_item_knows_which_one_it_is(one):
    """Before it waits and after that, in the tasks that it makes, and in those that outlive it."""

    async def later(x: int) -> bool:
        await asyncio.sleep(0)
        return current_item().index == x

    async def knows(x: int) -> bool:
        if x == 0:
            knows.left = []
        right = current_item().index == x
        if x % 5 == 1:
            right &= await asyncio.create_task(later(x))
        if x % 5 == 2:
            await asyncio.sleep(0)
        if x % 5 == 3:
            knows.left.append(asyncio.create_task(later(x)))
        if x == MANY - 1:
            right &= all(await asyncio.gather(*knows.left))
            knows.left.clear()
        return right and current_item().index == x

    assert all(one.map(knows, range(MANY), **BIG).result(DEADLINE))


def test_each_line_has_the_name_of_its_item(one, heard):
    """Ended or not, before it waits or after that."""

    async def prints(x: int) -> int:
        if x % 50 == 0:
            print(f"line {x}")
        if x % 50 == 1:
            print(f"rest {x}", end="")
        if x % 50 == 2:
            await asyncio.sleep(0)
            print(f"line {x}")
        return x

    assert one.map(prints, range(1000), **BIG).result(DEADLINE) == list(range(1000))
    until(lambda: len(heard.lines) == 60, what="every line has come")
    assert all(line.text.split()[1] == str(line.item) for line in heard.lines)


def test_items_that_report_do_not_speak_for_others(one):
    """The pool takes no report of an item that has ended, so this would end the worker."""

    async def reports(x: int) -> int:
        if x % 3 == 0:
            await asyncio.sleep(0)
        report(0.5, f"at {x}")
        return x

    pid = one.broadcast(os.getpid).result(DEADLINE)
    assert one.map(reports, range(MANY), **BIG).result(DEADLINE) == list(range(MANY))
    assert one.broadcast(os.getpid).result(DEADLINE) == pid


# --- how items end ----------------------------------------------------------------------------------------------------


def test_whatever_an_item_does_it_runs_once_and_has_its_own_end(one, board: Board):
    """Waiting or not, with values of all kinds, and errors: in any order."""

    async def does(x: int) -> Any:
        board.mark("ran", x)
        if x % 3 == 1:
            await asyncio.sleep(0.001 * (x % 5))
        if x % 13 == 5:
            raise ValueError(x)
        return [x, "a", None, x / 2, {x}][x % 5]

    results = one.map(does, range(1000), on_error="return", **BIG).result(DEADLINE)
    for x, result in enumerate(results):
        if x % 13 == 5:
            assert type(result.error) is ValueError
            assert result.error.args == (x,)
        else:
            assert result == [x, "a", None, x / 2, {x}][x % 5]
    assert sorted(map(int, board.marks("ran"))) == list(range(1000))


def test_values_that_are_not_plain_are_pickled_when_their_item_ends(one):
    """What a later one does to the same object is not seen in it."""

    async def grows(x: int) -> Any:
        if x == 0:
            grows.all = []
        grows.all.append(x)
        return grows.all if x % 100 == 0 else None

    results = one.map(grows, range(500), **BIG).result(DEADLINE)
    assert [len(result) for result in results[::100]] == [1, 101, 201, 301, 401]


def test_a_cancel_that_an_item_leaves_behind_strikes_nobody(one, board: Board):
    """It has asked for the cancel of its own task in the only step that it took: who comes next is not run twice."""

    async def leaves(x: int) -> int:
        board.mark("ran", x)
        if x % 4 == 0:
            asyncio.current_task().cancel()
        elif x % 4 == 1:
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
            assert not asyncio.current_task().cancelling()
        return x

    assert one.map(leaves, range(400), **BIG).result(DEADLINE) == list(range(400))
    assert sorted(map(int, board.marks("ran"))) == list(range(400))


def test_something_to_await_that_is_no_coroutine_is_awaited(one):
    """As a decorator of somebody's may return."""

    async def inner(x: int) -> int:
        return x

    async def mixed(x: int) -> int:
        return await inner(x)

    def make() -> Any:
        class Odd:
            __name__ = "odd"

            async def __call__(self, x: int) -> int:
                return await mixed(x)

        return Odd()

    assert one.map(make(), range(1000), **BIG).result(DEADLINE) == list(range(1000))


def test_seconds_are_each_items_own(one):
    """A slow one among quick ones is told apart, whether it waits or holds its loop."""

    async def works(x: int) -> int:
        if x == 700:
            time.sleep(0.05)
        if x == 1400:
            await asyncio.sleep(0.05)
        return x

    job = one.map(works, range(2000), **BIG)
    job.result(DEADLINE)
    seconds = [record["seconds"] for record in job.records()]
    # A timer may go off a moment early, by the grain of its clock.
    assert min(seconds[700], seconds[1400]) >= 0.049
    assert sorted(seconds)[1900] < 0.01


# --- who else there is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_items_begin_in_order_whatever_their_inputs_are(one, board: Board, kind):
    """Those that travel in pickles of their own, and batches that have some of them, wait with the others."""

    def begins(x: Any) -> None:
        board.mark("began", x[0] if isinstance(x, list) else x)

    async def begins_async(x: Any) -> None:
        begins(x)
        if x in (3, 20):
            await asyncio.sleep(0)

    inputs: list[Any] = [[x] if x % 10 == 7 or 40 <= x < 50 else x for x in range(200)]
    one.map(begins if kind == "def" else begins_async, inputs, batch=4, concurrency=1).result(DEADLINE)
    assert board.marks("began") == list(map(str, range(200)))


def test_values_before_a_coroutine_that_holds_its_loop_come_while_it_runs(one, board: Board):
    """The link thread sends them."""

    async def holds(x: int) -> int:
        if x == 300:
            board.wait("go on")
        return x

    job = one.map(holds, range(500), **BIG)
    got = []
    for index, _ in job.as_completed():
        got.append(index)
        if len(got) == 300:
            board.mark("go on")
    assert sorted(got) == list(range(500))


def test_what_has_not_started_goes_to_a_worker_that_has_nothing_to_do(pool, board: Board):
    """Though it was in the same lap as one that holds its loop. Each runs once."""

    async def holds(x: int) -> int:
        if x == 3:
            board.wait("go on")
        board.mark("ran", x)
        return x

    job = pool.map(holds, range(2000), **BIG)
    got = []
    for index, _ in job.as_completed():
        got.append(index)
        if len(got) == 1999:
            board.mark("go on")
    assert sorted(got) == list(range(2000))
    assert sorted(map(int, board.marks("ran"))) == list(range(2000))


def test_a_cancel_ends_a_lap_with_the_item_that_holds_its_loop(patient, board: Board):
    """No other one of it begins, those that wait clean up once, and the worker lives."""
    pid = patient.broadcast(os.getpid).result(DEADLINE)

    async def runs(x: int) -> int:
        board.mark("ran", x)
        if x in (100, 200):
            try:
                await asyncio.sleep(3600)
            finally:
                board.mark("cleaned", x)
        if x == 600:
            board.mark("holds")
            while True:
                time.sleep(0.01)
        return x

    job = patient.map(runs, range(1000), **BIG)
    board.wait("holds")
    job.cancel()
    until(job.done, what="it has ended")
    board.wait("cleaned", 2)
    still_works(patient)
    assert sorted(map(int, board.marks("ran"))) == list(range(601))
    assert sorted(board.marks("cleaned")) == ["100", "200"]
    assert patient.broadcast(os.getpid).result(DEADLINE) == pid


def test_a_worker_that_dies_in_a_lap_costs_the_item_that_killed_it(fresh, board: Board):
    """The mark says which one it was; all others end with their values, and those that waited are innocent."""
    pool = fresh(2)

    async def kills(x: int) -> int:
        if x in (10, 20):
            await asyncio.sleep(0.05)
        if x == 1234:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    results = pool.map(kills, range(MANY), on_error="return", **BIG).result(DEADLINE)
    assert [x for x, result in enumerate(results) if result != x] == [1234]
    assert type(results[1234].error).__name__ == "WorkerLost"


def test_stacks_tell_who_waits_and_who_holds_the_loop_in_a_lap(one, board: Board):
    """Each with its index, its line and for how long; what it has made with it."""

    async def child() -> None:
        await asyncio.Event().wait()

    async def stands(x: int) -> int:
        if x == 100:
            board.mark("waits")
            await asyncio.gather(child(), child())
        if x == 200:
            board.wait("waits")
            board.mark("holds")
            board.wait("never", seconds=60)
        return x

    job = one.map(stands, range(500), **BIG)
    board.wait("holds")
    seen: dict[tuple[int, ...], Any] = {}

    def there() -> bool:
        seen.update({entry.items: entry for entry in job.stacks()})
        return (200,) in seen and seen[200,].state == "blocked"

    until(there, what="the one that holds the loop is told to block it")
    assert seen[100,].state == "waiting"
    assert "gather(child(), child())" in str(seen[100,])
    assert "child" in str(seen[100,]).split("gather(child(), child())")[1]
    assert 0 < seen[100,].seconds < DEADLINE
    assert 'board.wait("never", seconds=60)' in str(seen[200,])
    assert 1 <= seen[200,].seconds < DEADLINE
    job.cancel()
    still_works(one)
