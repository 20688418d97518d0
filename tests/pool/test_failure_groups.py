"""Failures in groups: what they have in common, how the first is shown, and that nothing of the user's runs for it."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from pathlib import Path

import pytest

from aiopool import Pool, stacks, surfaces
from aiopool._payload import dump_error, parted, shown
from aiopool._runtime.groups import FIRST_ITEMS, MOST_GROUPS, Groups
from aiopool.job import Job
from aiopool.telemetry import FailureGroup, JobSnapshot
from tests.pool.board import DEADLINE, Board, until

HERE = Path(__file__).name
NOT_KNOWN = dict[int, str]().get


def line_of(text: str) -> int:
    """The number of the line of this file that has this text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if text in line and "line_of" not in line]
    return found


def told(error: BaseException) -> bytes:
    """What a worker sends of it, once it was raised."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001
        return dump_error(raised)


def groups_of(job: Job) -> tuple[FailureGroup, ...]:
    """The groups of a job that has ended."""
    job.result(DEADLINE)
    return job.snapshot().failures


# --- what they have in common ----------------------------------------------------------------------------------------


def test_failures_are_grouped_by_their_type_and_the_users_last_line(pool: Pool):
    """With a count, the first three items and their labels; the most frequent first."""

    def item(x: int) -> int:
        if x % 2:
            raise ValueError(f"{x} is odd")  # the first line
        if x == 4:
            raise KeyError(x)  # the second line
        return x

    frequent, rare = groups_of(pool.map(item, range(10), on_error="return", concurrency=1))
    assert (frequent.type_name, frequent.count) == ("ValueError", 5)
    assert (frequent.items, frequent.labels) == ((1, 3, 5), ("1", "3", "5"))
    assert frequent.message == "1 is odd"
    assert frequent.where == f"{HERE}, line {line_of('# the first line')}, in item"
    assert (rare.type_name, rare.count, rare.items, rare.message) == ("KeyError", 1, (4,), "4")
    assert rare.where == f"{HERE}, line {line_of('# the second line')}, in item"


def test_the_line_is_the_users_own_where_a_library_raised(pool: Pool):
    """Whatever was below it. The traceback has no other lines, and says which one it is among its neighbours."""

    async def item(text: str) -> object:
        await asyncio.sleep(0)
        return json.loads(text)  # what the user wrote

    (group,) = groups_of(pool.map(item, ["{", "["], on_error="return"))
    line = line_of("# what the user wrote")
    assert group.type_name == "json.decoder.JSONDecodeError"
    assert group.where == f"{HERE}, line {line}, in item"
    assert group.traceback.splitlines()[0] == f'File "{__file__}", line {line}, in item'
    assert f"----> {line} " in group.traceback
    assert "json.loads(text)" in group.traceback
    assert "decoder.py" not in group.traceback
    assert "/aiopool/" not in group.traceback
    assert group.traceback.splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting")


def test_the_line_is_the_last_of_all_where_none_is_the_users(pool: Pool):
    """As in a map over a function of a library."""
    (group,) = groups_of(pool.map(json.loads, ["{"], on_error="return"))
    assert group.where.startswith("decoder.py, line ")
    assert group.traceback.count("json/decoder.py") >= 1


def test_what_caused_an_error_is_told_before_it(pool: Pool):
    """As in a traceback."""

    def item(x: int) -> None:
        try:
            {}[x]
        except KeyError as error:
            raise RuntimeError("no such thing") from error

    (group,) = groups_of(pool.map(item, [7], on_error="return"))
    before, _, after = group.traceback.partition("direct cause")
    assert "KeyError: 7" in before
    assert "RuntimeError: no such thing" in after


def test_lost_timed_out_and_refused_items_have_groups_too(fresh):
    """They come with an error of ours or of the pickler's, and with no line of the user's, or with theirs."""

    def item(x: object) -> None:
        if x == 1:
            time.sleep(DEADLINE)
        if x == 2:
            import os

            os._exit(3)

    pool = fresh(2)
    job = pool.map(item, [0, 1, 2, threading.Lock()], on_error="return", timeout=3, rerun_lost=False)
    job.result(DEADLINE)
    groups = {group.type_name: group for group in job.snapshot().failures}
    assert sum(group.count for group in groups.values()) == 3
    assert groups["WorkerLost"].items == (2,)
    assert "exited with code 3 while it ran this item" in groups["WorkerLost"].message
    assert "WorkerLost: worker " in groups["WorkerLost"].traceback
    assert groups["ItemTimeout"].labels == ("1",)
    assert len(groups) == 3


def test_beyond_twenty_groups_failures_are_counted_together(pool: Pool):
    """What is shown of them is bounded, whatever they are."""

    def item(x: int) -> None:
        raise type(f"Error{x:02}", (Exception,), {})("boom")

    groups = groups_of(pool.map(item, range(MOST_GROUPS + 5), on_error="return", concurrency=1))
    assert len(groups) == MOST_GROUPS + 1
    assert (groups[-1].type_name, groups[-1].count, groups[-1].where) == ("others", 5, "")
    assert groups[-1].items == tuple(range(MOST_GROUPS, MOST_GROUPS + FIRST_ITEMS))
    assert {group.count for group in groups[:-1]} == {1}


def test_a_cell_is_named_as_tracebacks_name_it(monkeypatch):
    """By the kernel, which registers who knows that."""
    monkeypatch.setattr(stacks, "_cell_names", [lambda file: "Cell In[3]" if file == __file__ else None])
    groups = Groups()
    groups.add(0, told(ValueError("boom")))
    (group,) = groups.picture(NOT_KNOWN)
    assert group.where.startswith("Cell In[3], line ")
    assert group.where.endswith(", in told")
    assert group.traceback.startswith("Cell In[3], line ")


def test_an_error_that_cannot_be_read_is_a_group_as_well():
    """Damage on the way costs nobody the view of the rest."""
    groups = Groups()
    groups.add(0, b"no pickle")
    groups.add(1, b"")
    whole = told(ValueError("boom"))
    groups.add(2, b"\x80" + whole)  # Its kin is there, and nothing else.
    first, second = groups.picture(NOT_KNOWN)
    assert (first.type_name, first.count, first.message) == ("an error that cannot be read", 2, "")
    assert (second.type_name, second.message) == ("ValueError", "")
    assert "cannot be shown" in second.traceback


def test_very_long_tracebacks_are_bounded():
    """A recursion is told by its first and its last lines, a long message by both ends."""

    def deep(left: int) -> None:
        if not left:
            raise ValueError("x" * 100_000)
        deep(left - 1)

    try:
        deep(300)
    except ValueError as error:
        data = dump_error(error)
    text = shown.traceback_text(data, lambda _: None)
    assert len(text) < shown.LONGEST + 100
    assert "more lines" in text
    assert "characters left out" in text


# --- whose code runs -------------------------------------------------------------------------------------------------


class Watched:
    """Its repr says in which thread it ran."""

    def __init__(self, board: Board, number: int) -> None:
        self.board = board
        self.number = number

    def __repr__(self) -> str:
        self.board.mark("threads", threading.current_thread().name)
        return f"watched {self.number}"


class Watching(Exception):
    """Everything that can be asked of it says in which thread it ran."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.board = board

    def __str__(self) -> str:
        self.board.mark("threads", threading.current_thread().name)
        return "watching"

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.board.mark("threads", threading.current_thread().name)


@pytest.mark.parametrize("own", [False, True], ids=["repr", "label="])
def test_labels_are_made_on_a_thread_of_their_own_and_no_exception_is_loaded(fresh, board: Board, own):
    """Until they are there, their place is empty; the pool's thread goes on meanwhile."""
    pool = fresh(1, name="watched-pool")

    def label(value: Watched) -> str:
        board.mark("threads", threading.current_thread().name)
        return f"label {value.number}"

    def item(value: Watched) -> None:
        if value.number < 5:
            raise Watching(value.board)
        value.board.wait("go")

    job = pool.map(
        item, [Watched(board, x) for x in range(6)], on_error="return", concurrency=1, label=label if own else None
    )
    until(lambda: [group.count for group in job.snapshot().failures] == [5], what="all that fail have failed")
    said = "label" if own else "watched"
    want = tuple(f"{said} {x}" for x in range(3))
    until(lambda: job.snapshot().failures[0].labels == want, what="the labels are made")
    until(lambda: pool.snapshot().workers[0].label == f"{said} 5", what="that of the item at work, too")
    in_here = {name for name in board.marks("threads") if name.startswith("aiopool")}
    assert in_here == {"aiopool-labels"}
    assert job.snapshot().failures[0].message == "watching"
    count = len(board.marks("threads"))
    job.snapshot()
    pool.snapshot()
    assert len(board.marks("threads")) == count, "they are made once"
    board.mark("go")
    job.result(DEADLINE)


def test_a_label_that_hangs_holds_neither_the_job_nor_the_views(fresh, board: Board):
    """What it is for is shown without it, and others are only asked for as long as there is room."""

    def label(_: int) -> str:
        board.wait("let go")
        return "at last"

    def item(x: int) -> int:
        if x % 2:
            raise ValueError
        if x == 98:
            board.wait("asked")  # Of a job that has ended whoever looks makes the labels.
        return x

    pool = fresh(2)
    job = pool.map(item, range(100), on_error="return", label=label)
    until(lambda: job.snapshot().failures, what="a label was asked for")
    board.mark("asked")
    until(job.done, what="the job has ended")
    assert job._results.groups.picture(job._results.labels.look)[0].labels == ("", "", "")
    board.mark("let go")
    assert job.snapshot().failures[0].labels == ("at last",) * 3


class Seen:
    """A surface that remembers how its job ended."""

    owner = None
    is_open = False
    """A look at an item that runs would have its label made before the end."""

    def __init__(self) -> None:
        self.view = self
        self.closed: list[JobSnapshot] = []
        self.amended: list[tuple[str, JobSnapshot]] = []

    def hold(self, job: object) -> None:
        """It does not."""

    def begin(self, number: int) -> None:
        """That is known."""

    def refresh(self, pool: object, blocks: object) -> None:
        """It looks at the end only."""

    def close(self, snapshot: JobSnapshot) -> None:
        """It has ended."""
        self.closed.append(snapshot)

    def amend(self, snapshot: JobSnapshot) -> None:
        """It is told better."""
        self.amended.append((threading.current_thread().name, snapshot))

    def complain(self, news: object) -> None:
        """Not here."""


def test_the_end_is_told_again_when_the_label_of_what_failed_is_there(fresh, monkeypatch):
    """A job that its first failure ends leaves no time to make one; what is not the user's code is there at once."""
    seen: list[Seen] = []

    def factory(*_: object) -> Seen:
        seen.append(Seen())
        return seen[-1]

    monkeypatch.setattr(surfaces, "_factories", [factory])
    pool = fresh(1, name="telling")

    def item(x: int) -> None:
        raise ValueError(x)

    began = time.monotonic()
    with pytest.raises(ValueError, match="7"):
        pool.map(item, [7], label=lambda x: f"number {x}").result(DEADLINE)
    took = time.monotonic() - began
    until(lambda: seen[0].amended, what="it is told again")
    assert [snapshot.failures[0].labels for snapshot in seen[0].closed] == [("",)]
    ((thread, snapshot),) = seen[0].amended
    assert (thread, snapshot.failures[0].labels) == ("aiopool-telling", ("number 7",))
    assert snapshot.state == "failed"
    assert seen[0].closed[0].elapsed <= snapshot.elapsed <= took
    with pytest.raises(ValueError, match="7"):
        pool.map(item, [7]).result(DEADLINE)
    pool.map(len, ["a"]).result(DEADLINE)
    assert seen[1].closed[0].failures[0].labels == ("7",)
    assert seen[1].amended == seen[2].amended == []


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_failures_are_only_counted():
    """One that is like another costs some millionths of a second, and no memory.

    The first is not read before somebody looks, and let go of then.
    """
    groups, data = Groups(), told(ValueError("boom"))
    began = time.thread_time()
    for index in range(100_000):
        groups.add(index, data)
    assert (time.thread_time() - began) / 100_000 < 20e-6
    (group,) = groups._groups.values()
    groups.add(7, *parted(data))
    assert groups._groups == {parted(data)[1]: group}
    assert group.items == [0, 1, 2]
    assert group.error is data
    (picture,) = groups.picture(str)
    assert (picture.count, picture.labels) == (100_001, ("0", "1", "2"))
    assert group.error is None


def test_what_tells_the_kin_of_an_error_does_not_change_what_is_loaded():
    """It stands behind the pickle, where no loader looks."""
    data = told(KeyError("x"))
    whole, kin = parted(data)
    assert whole + kin in data
    assert parted(whole) == (whole, b"")
    assert pickle.loads(whole) == pickle.loads(data)
    records, formatted = pickle.loads(data)
    assert records[0].type_name == "KeyError"
    assert formatted.startswith("Traceback")
