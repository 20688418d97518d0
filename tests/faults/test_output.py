"""Whatever an item does to its output: it costs nobody a result, and the pool no memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from aiopool import ItemTimeout, Pool, WorkerLost, testing
from aiopool._core import records
from aiopool._runtime.voices import LINES_PER_SECOND
from tests.faults import items
from tests.faults.situations import pids, struck_alone, struck_among, struck_closing, struck_idle
from tests.faults.test_deaths import close_streams
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.listening import Heard

pytestmark = pytest.mark.usefixtures("afterwards")

LONG = 10_000_000


def long_line() -> None:
    """Print a line of ten megabytes."""
    sys.stdout.write("x" * LONG + "\n")


def bytes_of_no_text() -> None:
    """Write what is no text, and half a character at the end."""
    os.write(1, bytes(range(256)) * 1000 + b"\n\xe2\x82")


FLOODS = {"100,000 lines": testing.flood, "a line of 10 MB": long_line, "no text": bytes_of_no_text}


@pytest.mark.parametrize("situation", ["idle", "one item", "eight coroutines", "closing"])
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods_of_output_cost_nobody_a_result(pool, fresh, board: Board, flood, situation):
    """Not the one who prints, not its neighbours; no worker dies, and this process keeps next to nothing of it."""
    before, memory = pids(pool), psutil.Process().memory_info().rss
    if situation == "idle":
        assert struck_idle(pool, board, flood) in before
        board.wait("over")
    elif situation == "one item":
        told, seconds = struck_alone(pool, board, flood)
        assert told is None
        assert seconds < 20
    elif situation == "eight coroutines":
        assert struck_among(pool, board, flood) == items.CULPRIT
    else:
        assert struck_closing(fresh(2), board, flood) == items.CULPRIT
    assert pids(pool) == before
    # What pytest captures of it is kept by pytest.
    assert psutil.Process().memory_info().rss - memory < 100_000_000


def test_the_last_words_after_a_flood_are_the_last_ones(pool):
    """And no more than an error message bears."""

    def item() -> None:
        testing.flood(20_000)
        sys.stdout.write("y" * LONG)
        sys.stderr.write("\nthe very last words\n")
        testing.die()

    with pytest.raises(WorkerLost) as caught:
        pool.submit(item).result(DEADLINE)
    assert "the very last words" in caught.value.stderr
    assert len(str(caught.value)) < 10_000


def prints() -> str:
    """Print as any function does, on both streams."""
    sys.stdout.write("a result follows\n")
    sys.stderr.write("careful\n")
    return "the result"


def test_items_that_print_where_another_has_closed_the_output_have_their_results(pool):
    """It was not theirs to close: what they print is lost, they are not."""
    pool.broadcast(close_streams).result(DEADLINE)
    assert pool.broadcast(prints).result(DEADLINE) == ["the result"] * 2
    assert pool.map(lambda x: (prints(), x)[1], range(20)).result(DEADLINE) == list(range(20))


def test_items_that_print_into_closed_stream_objects_fail_alone(pool):
    """Python says so to who does it; the next item in the same worker is not concerned unless it prints."""

    def closes() -> None:
        sys.stdout.close()
        sys.stdout.write("to nobody\n")

    before = pids(pool)
    with pytest.raises(ValueError, match="closed file"):
        pool.submit(closes).result(DEADLINE)
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))
    until(lambda: pids(pool) == before)


# --- much of it ------------------------------------------------------------------------------------------------------

HUNDRED_MB = 100_000_000


def many_lines() -> None:
    """Print a hundred megabytes, in lines as long as a screen is wide, as code does that has its own buffer."""
    page = ("z" * 79 + "\n") * 1000
    for _ in range(HUNDRED_MB // len(page)):
        sys.stdout.write(page)


def raw_lines() -> None:
    """The same past Python."""
    page = (b"z" * 79 + b"\n") * 1000
    for _ in range(HUNDRED_MB // len(page)):
        os.write(2, page)


def long_lines() -> None:
    """The same in lines of a megabyte."""
    for _ in range(HUNDRED_MB // LONG * 10):
        sys.stdout.write("z" * (LONG // 10) + "\n")


def nonsense() -> None:
    """Bytes of no sort."""
    page = os.urandom(1_000_000)
    for _ in range(HUNDRED_MB // len(page)):
        os.write(1, page)


@pytest.mark.parametrize("flood", [many_lines, raw_lines, long_lines, nonsense])
def test_a_hundred_megabytes_slow_nobody_and_fill_nothing(fresh, heard: Heard, flood):
    """Others have their results meanwhile; a few thousand lines are shown, and the count of the rest is said."""
    pool = fresh(2)
    pool.map(work.double, range(20)).result(DEADLINE)
    memory, begun = psutil.Process().memory_info().rss, time.monotonic()
    job, answers = pool.submit(flood), 0
    while not job.done():
        assert pool.submit(work.double, 1).result(DEADLINE) == 2
        answers += 1
    job.result(DEADLINE)
    assert answers >= 10
    assert psutil.Process().memory_info().rss - memory < 50_000_000
    assert len(heard.lines) < 10_000 + LINES_PER_SECOND * (time.monotonic() - begun)
    if flood is long_lines:
        assert {line.text for line in heard.lines} == {"z" * 4000 + "... (996,000 bytes more)"}
    else:
        assert [note for note in heard.notes if note.endswith("lines were not shown")]
        assert max(end.unshown for end in heard.closed) > 100_000


def test_ten_thousand_coroutines_that_print_at_once_do_not_mix(pool, heard: Heard):
    """Each of them in parts, while all the others do the same; a failure has its own lines alone."""

    async def talks(x: int) -> None:
        print("this", end=" ")  # noqa: T201
        await asyncio.sleep(0)
        print("is", x, flush=True, end="")  # noqa: T201
        await asyncio.sleep(0)
        print(" talking")  # noqa: T201
        if x % 100 == 7:
            raise ValueError(x)

    results = pool.map(talks, range(10_000), concurrency=10_000, on_error="return").result(60)
    failures = [each for each in results if each is not None]
    assert [each.prints for each in failures] == [f"this is {x} talking" for x in range(7, 10_000, 100)]
    lines = [line for line in heard.lines if not line.name]
    assert len(lines) >= 2_000
    assert all(line.text == f"this is {line.item} talking" for line in lines)


def test_threads_programs_and_forks_that_print_at_once_tear_no_line(pool, heard: Heard):
    """Whoever writes to the same pipe: a line is whole, or it is a part of a program's."""

    def child(x: int) -> None:
        for _ in range(20):
            print("a fork of", x)  # noqa: T201

    def item(x: int) -> None:
        program = subprocess.Popen(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8 9; do echo a program of {x}; done"])
        if (pid := os.fork()) == 0:
            child(x)
            os._exit(0)
        for _ in range(20):
            print("the item", x)  # noqa: T201
        assert program.wait() == 0
        os.waitpid(pid, 0)

    pool.map(item, range(16), concurrency=16).result(DEADLINE)
    for x in range(16):
        assert sorted(heard.of(x)) == [f"a fork of {x}"] * 20 + [f"the item {x}"] * 20
    assert sorted(heard.of(None)) == sorted(f"a program of {x}" for x in range(16) for _ in range(9))


# --- what is no record, and ends of all sorts ------------------------------------------------------------------------


def test_a_worker_that_is_killed_while_it_floods_leaves_whole_lines(fresh, heard: Heard):
    """And its failure has the last of them."""
    pool = fresh(1)

    def floods() -> None:
        floods, number = threading.Event(), 0

        def die() -> None:
            floods.wait(DEADLINE)
            time.sleep(0.05)
            testing.die()

        threading.Thread(target=die).start()
        while True:
            number += 1
            print("line", number)  # noqa: T201
            if number == 3000:
                floods.set()

    (failure,) = pool.map(lambda _: floods(), [0], on_error="return").result(DEADLINE)
    assert isinstance(failure.error, WorkerLost)
    last = [int(line.removeprefix("line ")) for line in failure.prints.splitlines()]
    assert last == list(range(last[0], last[0] + 50))
    assert all(line.text == f"line {number}" for number, line in enumerate(heard.lines[:2000], 1))
    assert failure.prints.splitlines()[-1] in failure.error.stderr


def token_of(pool: Pool) -> bytes:
    """What the records of its only worker begin with."""
    (proxy,) = pool._driver._workers.values()
    return proxy.output.token


def test_whoever_prints_the_worlds_worst_bytes_is_shown_them_as_text(fresh, heard: Heard):
    """Half heads, tokens, records of jobs that are not there, torn ones: nothing breaks, the next line is whole."""
    pool = fresh(1)
    pool.submit(work.pid).result(DEADLINE)
    token = token_of(pool)
    absurd = [
        token,
        token[:5],
        token + b"\xff" * 40,
        records.head(token, records.OUT, 1 << 31, 1 << 63),
        records.record(records.head(token, records.OUT, 1 << 31, 7), b"of a job that is not there\n"),
        records.record(records.head(token, records.LAST, 1, 0), b"no number"),
        records.record(records.head(token, records.LAST, 1, 0), b"12345678" + b"[" * 3000),
        records.record(records.head(token, records.WARNED, 1, 0), bytes(range(256))),
        records.record(records.head(token, records.FAILED, 1 << 31, 7), b""),
        records.head(token, records.PART, 1, 0) + b"\xff\x0f" + b"torn",
    ]

    def prints(data: bytes) -> None:
        os.write(1, data)
        print("\nwhole")  # noqa: T201

    for data in absurd:
        heard.all.clear()
        pool.map(prints, [data]).result(DEADLINE)
        assert heard.of(0)[-1] == "whole", data
    assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(0, 40, 2))


def test_output_that_was_made_not_to_block_loses_nothing(fresh, heard: Heard):
    """As libraries do that make a pipe of it in an event loop of theirs."""

    def item(_: int) -> None:
        os.set_blocking(1, False)
        for number in range(20_000):
            print(number, file=sys.stderr)  # noqa: T201
        raise ValueError

    (failure,) = fresh(1).map(item, [0], on_error="return").result(DEADLINE)
    assert isinstance(failure.error, ValueError), failure.error
    assert failure.prints.splitlines() == [str(number) for number in range(19_950, 20_000)]


def test_a_cancel_in_the_midst_of_a_flood_tears_nothing(lenient, heard: Heard):
    """The item ends, its worker lives, and the next line is whole."""
    pool, before = lenient, pids(lenient)
    for _ in range(3):
        job = pool.map(lambda _: [print("going on") for _ in iter(int, 1)], [0])  # noqa: T201
        until(lambda: len(heard.lines) > 100, what="lines")
        job.cancel()
        until(job.done)
        until(lambda: not pool.snapshot().jobs)
        assert {line.text for line in heard.lines if not line.name} == {"going on"}
        heard.all.clear()
    assert pids(pool) == before


def test_an_item_that_does_nothing_but_print_ends_at_its_time(lenient, heard: Heard):
    """Nearly always it is in code of ours, which is not torn; so it is struck between two prints."""
    pool, before = lenient, pids(lenient)
    for _ in range(3):
        job = pool.map(lambda _: [print("going on") for _ in iter(int, 1)], [0], timeout=0.3, on_error="return")  # noqa: T201
        (failure,) = job.result(DEADLINE)
        assert isinstance(failure.error, ItemTimeout)
        assert "its worker" not in str(failure.error)
    assert pids(pool) == before
