"""What a function learns of itself while it runs as an item, and what it says of itself."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from aiopool import current_item, current_worker, inside, report
from aiopool._core import frames
from aiopool._worker import reports as reports_module
from aiopool._worker.clock import Clock
from aiopool._worker.reports import Reports
from aiopool._worker.work import Entry, JobRun
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import shortly, still_works


def which(_: object = None) -> int:
    """Tell which item this is."""
    return current_item().index


async def which_later(_: object = None) -> int:
    """Tell it, a turn of the loop later."""
    await asyncio.sleep(0)
    return current_item().index


async def everywhere(_: object) -> list[int]:
    """Ask in every place that belongs to an item."""
    await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(which_later())
    deeper = await asyncio.create_task(asyncio.to_thread(which))
    await asyncio.sleep(0)
    return [which(), await which_later(), task.result(), await asyncio.to_thread(which), deeper]


def in_a_loop_of_its_own(x: object) -> list[int]:
    """Ask in a def, and in a loop that it runs."""
    return [which(), *asyncio.run(everywhere(x))]


def looks_like_a_def(x: object) -> Any:
    """Return a coroutine."""
    return everywhere(x)


@pytest.mark.parametrize("concurrency", [1, 2, 30])
@pytest.mark.parametrize("fn", [which, which_later, everywhere, in_a_loop_of_its_own, looks_like_a_def])
async def test_current_item_is_right_wherever_an_item_runs(pool, fn, concurrency):
    """In lanes, in the main thread and in threads; in its tasks, in ``to_thread``, in a loop of its own."""
    results = await shortly(pool.map(fn, range(100, 140), concurrency=concurrency))
    assert [set(each) if isinstance(each, list) else {each} for each in results] == [{i} for i in range(40)]


def test_a_seed_is_told_where_the_map_has_one(pool):
    """It is another one for each item, the same in each attempt, and derives from both numbers alone."""

    def item(_: int) -> tuple[int, int | None]:
        mine = current_item()
        if mine.attempt == 1:
            raise ValueError
        return mine.attempt, mine.seed

    expected = [(2, inside.seed_of(7, index)) for index in range(4)]
    assert pool.map(item, range(4), seed=7, retries=1, backoff=0).result(DEADLINE) == expected
    assert pool.map(lambda _: current_item().seed, range(2)).result(DEADLINE) == [None, None]


def test_what_an_item_left_behind_still_knows_whose_it_is(pool, board: Board):
    """Its tasks go on with its name, not with that of the next item; what they report is dropped."""

    async def leaves(x: int) -> None:
        async def later() -> None:
            await board.wait_async("go")
            report(0.5, "from beyond")
            board.mark("later", (x, current_item().index))

        loop: Any = asyncio.get_running_loop()
        loop.kept = [*getattr(loop, "kept", []), loop.create_task(later())]

    pool.map(leaves, range(8), concurrency=2).result(DEADLINE)
    pool.map(work.double_later, range(10)).result(DEADLINE)
    board.mark("go")
    assert sorted(board.wait("later", 8)) == [f"({x}, {x})" for x in range(8)]
    still_works(pool)


def test_where_no_item_runs_a_worker_says_so(fresh, board: Board):
    """An initializer is no item."""

    def initializer() -> None:
        with pytest.raises(RuntimeError, match="no item runs"):
            current_item()
        report(0.1, "goes nowhere")
        board.mark("said", current_worker().index)

    pool = fresh(1, initializer=initializer)
    assert pool.map(lambda _: current_worker().pid == os.getpid(), [0]).result(DEADLINE) == [True]
    assert board.marks("said") == ["0"]


def test_a_report_is_seen_at_the_pool(fresh, board: Board):
    """Also while the item holds its thread."""
    pool = fresh(1)

    def item(_: int) -> None:
        report(0.25, "epoch 1")
        board.wait("go")

    job = pool.map(item, [0])

    def seen() -> bool:
        (info,) = pool.snapshot().workers
        return (info.fraction, info.text) == (0.25, "epoch 1")

    until(seen, what="the report")
    board.mark("go")
    job.result(DEADLINE)


@pytest.mark.parametrize("said", ["report", "a line in place", "a line of a program"])
def test_what_an_item_has_reported_is_not_shown_of_the_next_one(fresh, board: Board, said: str):
    """Neither of one of its own job, which has said nothing yet, nor of one of the next job, which never does."""
    pool = fresh(1)

    def told() -> str:
        (info,) = pool.snapshot().workers
        return info.text

    def item(x: int) -> None:
        if x:
            board.mark("in", x)
            board.wait(f"go {x}")
        else:
            if said == "report":
                report(0.5, "halfway")
            elif said == "a line in place":
                sys.stderr.write("\rhalfway")
            else:
                os.write(2, b"\rhalfway")
            board.wait("seen")

    job = pool.map(item, [0, 1])
    until(lambda: "halfway" in told(), what="the report")
    board.mark("seen")
    board.wait("in", 1)
    until(lambda: pool.snapshot().jobs[0].finished == 1, what="the first one has ended")
    assert told() == ""
    board.mark("go 1")
    job.result(DEADLINE)
    job = pool.map(item, [2])
    board.wait("in", 2)
    assert told() == ""
    board.mark("go 2")
    job.result(DEADLINE)


def test_reports_from_everywhere_and_very_many_do_no_harm(pool):
    """From threads, from a fork, in a tight loop, of any text."""

    def item(x: int) -> int:
        for i in range(5000):
            report(i / 5000, f"line {i}\n\udcff" * 3)
        thread = threading.Thread(target=report, args=(None, "x" * 100_000))
        thread.start()
        thread.join()
        # Not by multiprocessing, which in one thread reaps what another one waits for.
        if not (fork := os.fork()):
            try:
                report(1.0, "a clone")
            except BaseException:  # noqa: BLE001  # it must not go on as if it were the worker
                os._exit(1)
            os._exit(0)
        assert os.waitpid(fork, 0)[1] == 0
        return x

    assert pool.map(item, range(4)).result(DEADLINE) == [0, 1, 2, 3]
    assert pool.map(item, range(4), concurrency=4).result(DEADLINE) == [0, 1, 2, 3]


# --- how reports are sent -------------------------------------------------------------------------------------------


class Desk:
    """Reports of two items of a job, with a clock of our own, and what was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sent: list[frames.Frame] = []
        self.wakes = 0
        monkeypatch.setattr(reports_module, "monotonic", lambda: self.now)
        self.reports = Reports(self.sent.append, self._wake)
        host: Any = SimpleNamespace(reports=self.reports, clock=Clock(self.sent.append, self._wake))
        self.job = JobRun(frames.Function(1, 0, b"", b""), host)
        self.job.add(frames.Batch(1, 5, 1, 1, range(2), b"", (b"", b"")))
        one, two = self.job.take(), self.job.take()
        assert one is not None
        assert two is not None
        self.one, self.two = one, two

    def _wake(self) -> None:
        self.wakes += 1

    def told(self) -> list[tuple[int, float, str]]:
        """What has been sent."""
        return [(each.position, each.fraction, bytes(each.text).decode()) for each in self.sent]  # type: ignore[union-attr]


@pytest.fixture
def desk(monkeypatch) -> Desk:
    """Reports that nobody but the test sends."""
    return Desk(monkeypatch)


def test_the_first_report_goes_out_at_once_and_the_latest_of_each_item_later(desk):
    """Ten a second at most, whoever has waited longest first; the link thread is woken once for it."""
    desk.one.report(0.1, "a")
    assert desk.told() == [(0, 0.1, "a")]
    assert desk.wakes == 0
    for text in "bcd":
        desk.two.report(None, text)
        desk.one.report(0.2, text)
    assert len(desk.told()) == 1
    assert desk.wakes == 1
    assert desk.reports.due == pytest.approx(100.1)
    for now in (100.05, 100.1, 100.15, 100.21, 100.4):
        desk.now = now
        desk.reports.flush(now)
    assert [(position, text) for position, _, text in desk.told()] == [(0, "a"), (1, "d"), (0, "d")]
    assert math.isnan(desk.told()[1][1])
    assert desk.reports.due == math.inf


def test_nothing_is_said_of_an_item_that_is_over(desk):
    """Neither what was held back nor what comes after."""
    desk.one.report(0.1, "a")
    desk.one.report(0.2, "b")
    desk.two.report(0.2, "c")
    end(desk.one)
    desk.now = 101.0
    desk.reports.flush(101.0)
    desk.one.report(0.3, "late")
    assert desk.told() == [(0, 0.1, "a"), (1, 0.2, "c")]
    end(desk.two)
    desk.now = 102.0
    desk.two.report(1.0, "late")
    assert len(desk.told()) == 2


def end(entry: Entry) -> None:
    """Mark it as whoever runs items does."""
    from aiopool._worker.work import OVER

    entry.batch.payloads[entry.position] = OVER


def test_no_more_than_ten_a_second_are_sent_however_many_are_put(desk):
    """From any number of items."""
    for step in itertools.count():
        desk.now = 100 + step / 1000
        if desk.now > 101:
            break
        (desk.one if step % 3 else desk.two).report(0.5, str(step))
        if desk.now >= desk.reports.due:
            desk.reports.flush(desk.now)
    assert 9 <= len(desk.sent) <= 11
    assert {position for position, _, _ in desk.told()} == {0, 1}


def test_a_report_never_waits(desk):
    """Not for the pipe, and not for the link thread."""
    begun = time.monotonic()
    for _ in range(10_000):
        desk.one.report(0.5, "again")
    assert time.monotonic() - begun < 10
