"""What items print: each line belongs to the one that printed it, in order, at once, and as text."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aiopool import ItemTimeout, Pool, WorkerLost, current_item, per_worker, pmap, testing
from tests.pool.board import DEADLINE, Board, until
from tests.pool.listening import Heard

# ruff: noqa: T201  # that is the subject


def test_each_line_belongs_to_the_item_that_printed_it(pool, heard: Heard):
    """Of a ``def``, on both streams, in order; a line that was not ended ends with the item."""

    def prints(x: int) -> int:
        print("first of", x)
        print("careful,", x, file=sys.stderr)
        sys.stdout.write(f"no end of {x}")
        return x

    assert pool.map(prints, range(20)).result(DEADLINE) == list(range(20))
    for x in range(20):
        assert heard.of(x) == [f"first of {x}", f"careful, {x}", f"no end of {x}"]
    assert {line.error for line in heard.lines if line.text.startswith("careful")} == {True}
    assert not any(line.error for line in heard.lines if not line.text.startswith("careful"))


@pytest.mark.parametrize("flush", [False, True])
def test_a_hundred_coroutines_that_print_in_parts_do_not_mix(pool, heard: Heard, flush):
    """Each has its own line, also where it is flushed part by part."""

    async def count(x: int) -> None:
        for number in range(10):
            print(number, end=" ", flush=flush)
            await asyncio.sleep(0)
        print("of", x)

    pool.map(count, range(100), concurrency=100).result(DEADLINE)
    assert len(heard.lines) == 100
    for x in range(100):
        assert heard.of(x) == [f"0 1 2 3 4 5 6 7 8 9 of {x}"]


def test_threads_of_items_and_their_tasks_print_in_their_name(pool, heard: Heard):
    """Of a ``def`` in a thread, in ``asyncio.to_thread``, in a task."""

    def prints(x: int) -> None:
        for number in range(5):
            print(x, number)
            time.sleep(0.001)

    async def spreads(x: int) -> None:
        async def task() -> None:
            await asyncio.sleep(0.001)
            sys.stdout.write(f"a task of {x}\n")

        # In one go: what one thread prints may come between two parts of a line of another, as in any Python.
        await asyncio.gather(asyncio.to_thread(sys.stdout.write, f"a thread of {x}\n"), asyncio.create_task(task()))

    pool.map(prints, range(12), concurrency=12).result(DEADLINE)
    for x in range(12):
        assert heard.of(x) == [f"{x} {number}" for number in range(5)]
    heard.all.clear()
    pool.map(spreads, range(12)).result(DEADLINE)
    for x in range(12):
        assert sorted(heard.of(x)) == [f"a task of {x}", f"a thread of {x}"]


def test_a_map_inside_prints_in_the_name_of_the_item_that_called_it(pool, heard: Heard):
    """Its own items are nobody's to see from here."""

    async def outer(x: int) -> None:
        async def inner(y: int) -> None:
            print("inner", y)
            await asyncio.sleep(0)

        await pmap(inner, range(3))

    def outer_def(x: int) -> None:
        pmap(lambda y: print("inner", y), range(3)).result()

    for fn in (outer, outer_def):
        heard.all.clear()
        pool.map(fn, range(4)).result(DEADLINE)
        for x in range(4):
            assert sorted(heard.of(x)) == [f"inner {y}" for y in range(3)]


def test_what_runs_beside_items_prints_in_the_name_of_the_worker(fresh, heard: Heard, board: Board):
    """Initializers, what opens a resource, programs, C code, and a task or thread that outlives its item."""

    def begin() -> None:
        print("initializer")

    @per_worker
    def resource() -> int:
        print("opened")
        return 1

    @per_worker
    async def other() -> int:
        print("opened later")
        return 1

    async def item(x: int) -> None:
        async def after() -> None:
            await board.wait_async("go")
            print("a task after its item")
            board.mark("done")

        item.task = asyncio.create_task(after())  # type: ignore[attr-defined]
        thread = threading.Thread(target=print, args=("a thread without a context",))
        thread.start()
        thread.join()
        resource()
        await other()
        subprocess.run(["echo", "a program"], check=True)  # noqa: ASYNC221  # it does not take long
        os.write(1, b"as C code does\n")
        print("the item")

    async def waits(_: int) -> None:
        board.mark("go")
        await board.wait_async("done")

    pool = fresh(1, initializer=begin)
    pool.map(item, [0]).result(DEADLINE)
    pool.map(waits, [0]).result(DEADLINE)
    assert heard.of(0) == ["the item"]
    assert sorted(heard.of(None)) == sorted(
        [
            "initializer",
            "opened",
            "opened later",
            "a program",
            "as C code does",
            "a task after its item",
            "a thread without a context",
        ]
    )
    assert {line.worker for line in heard.lines} == {0}


def test_a_task_that_outlives_its_item_prints_in_the_name_of_the_worker(fresh, heard: Heard, board: Board):
    """Though the job goes on, and the item's Context is still that of the task."""
    tasks = []

    async def item(x: int) -> None:
        async def after() -> None:
            await board.wait_async("next")
            print("late")
            board.mark("done")

        print("item", x)
        if x == 0:
            tasks.append(asyncio.create_task(after()))
        else:
            board.mark("next")
            await board.wait_async("done")

    fresh(1).map(item, range(2), concurrency=1).result(DEADLINE)
    assert [heard.of(0), heard.of(1), heard.of(None)] == [["item 0"], ["item 1"], ["late"]]


def test_a_fork_prints_in_the_name_of_its_item(pool, heard: Heard):
    """What was printed before the fork is not printed twice, and the item goes on after it."""

    def forks(x: int) -> None:
        print("before", end=", ")
        if (child := os.fork()) == 0:
            print("the child")
            os._exit(0)
        os.waitpid(child, 0)
        print("after")

    pool.map(forks, range(4)).result(DEADLINE)
    for x in range(4):
        assert heard.of(x) == ["the child", "before, after"]


def test_prints_come_while_the_item_computes(pool, heard: Heard, board: Board):
    """Also of a ``def`` that never lets anybody else run, line by line."""

    def computes() -> None:
        print("begun")
        while not board.marks("go"):
            sum(range(1000))

    job = pool.submit(computes)
    until(lambda: heard.of(0) == ["begun"], what="the line of an item that computes")
    board.mark("go")
    job.result(DEADLINE)


def test_the_streams_are_what_libraries_expect(pool, heard: Heard):
    """Descriptors 1 and 2, no terminal, UTF-8, a buffer for bytes; closed ones say so, to who closed them."""

    def item(_: int) -> list[object]:
        out, err = sys.stdout, sys.stderr
        told = [out.fileno(), err.fileno(), out.isatty(), out.encoding, out.writable(), out.readable(), out.closed]
        out.buffer.write(b"bytes, ")
        out.write("then text\n")
        io.TextIOWrapper(out.buffer, encoding="utf-8", write_through=True).write("wrapped\n")
        out.writelines(["several\n", "lines\n"])
        out.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        out.write("\udc80 is no text\n")
        with contextlib.redirect_stdout(io.StringIO()) as caught:
            print("caught")
        logging.getLogger("mine").error("logged")
        logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({"msg": "handled"}))
        with pytest.raises(TypeError):
            out.write(b"bytes")  # type: ignore[arg-type]
        return [*told, caught.getvalue()]

    assert pool.map(item, [0]).result(DEADLINE) == [[1, 2, False, "utf-8", True, False, False, "caught\n"]]
    lines = ["bytes, then text", "wrapped", "several", "lines", "\\udc80 is no text", "logged", "handled"]
    assert heard.of(0) == lines


def test_an_item_that_puts_a_file_in_the_place_of_its_output_finds_text_there(fresh, heard: Heard, tmp_path):
    """By its descriptor, as programs do: what it prints is in the file, and nothing else is."""

    def item(file: str) -> str:
        kept = os.dup(1)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(fd, 1)
        print("into the file")
        os.dup2(kept, 1)
        print("to the cell")
        return Path(file).read_text()

    assert fresh(1).map(item, [str(tmp_path / "file")]).result(DEADLINE) == ["into the file\n"]
    assert heard.of(0) == ["to the cell"]


def test_an_item_that_closes_its_output_prints_on(fresh, heard: Heard):
    """And so do the others: it is not its own to close. As a stream it is closed for who did it."""

    def closes(x: int) -> None:
        if x == 0:
            os.close(1)
            os.close(2)
        if x == 1:
            sys.stdout.close()
            with contextlib.suppress(ValueError):
                print("to nobody")
                raise AssertionError
        print("item", x, file=sys.stderr if x == 1 else sys.stdout)

    pool = fresh(1)
    pool.map(closes, range(4), batch=1).result(DEADLINE)
    assert [heard.of(x) for x in range(4)] == [[f"item {x}"] for x in range(4)]


def test_a_call_and_a_broadcast_are_told_by_what_they_are(pool, heard: Heard):
    """A call is item 0 of a job of one; what runs once on each worker is the worker's."""
    pool.submit(print, "a call").result(DEADLINE)
    assert heard.of(0) == ["a call"]
    pool.broadcast(lambda: print("everywhere")).result(DEADLINE)
    assert [(line.worker, line.item) for line in heard.lines[1:]] in ([(0, None), (1, None)], [(1, None), (0, None)])


def test_a_long_line_is_cut(pool, heard: Heard):
    """With what is missing; whoever prints it."""

    def item(x: int) -> None:
        if x:
            os.write(1, b"y" * 10_000 + b"\nshort\n")
        else:
            print("ä" * 10_000)
            print("short")

    pool.map(item, range(2)).result(DEADLINE)
    assert heard.of(0) == ["ä" * 4000 + "... (12,000 bytes more)", "short"]
    assert heard.of(None) == ["y" * 4000 + "... (6,000 bytes more)", "short"]


# --- lines that are overwritten --------------------------------------------------------------------------------------


def status(pool: Pool) -> set[str]:
    """What stands beside the workers."""
    return {info.text for info in pool.snapshot().workers}


def in_front(x: int) -> None:
    """Draw a bar as tqdm does."""
    for percent in (10, 50, 100):
        sys.stderr.write(f"\r{percent}% of {x}  ")
        sys.stderr.flush()
    sys.stderr.write("\n")


def behind(x: int) -> None:
    """Draw one as people do."""
    for percent in (10, 50, 100):
        print(f"{percent}% of {x}", end="\r")


def below(x: int) -> None:
    """Draw two, as nested tqdm bars do, in colour."""
    for percent in (10, 100):
        sys.stderr.write(f"\r\x1b[31mouter {percent}%\x1b[0m")
        sys.stderr.write("\n")
        sys.stderr.write(f"\r{percent}% of {x}")
        sys.stderr.write("\x1b[A")
    sys.stderr.write("\n")


@pytest.mark.parametrize("draw", [in_front, behind, below])
def test_a_line_that_is_overwritten_is_the_workers_status(fresh, heard: Heard, board: Board, draw):
    """And no line of its own; what is printed before and after it is."""

    def item(x: int) -> None:
        print("before")
        draw(x)
        board.wait("go")
        print("after")

    pool = fresh(1)
    job = pool.map(item, [7])
    until(lambda: status(pool) == {"100% of 7"}, what="the status")
    board.mark("go")
    job.result(DEADLINE)
    assert heard.of(0) == ["before", "after"]


def test_a_real_progress_bar_leaves_no_line(pool, heard: Heard):
    """That of tqdm, which is installed beside us."""

    def item(_: int) -> None:
        from tqdm import tqdm

        for _ in tqdm(range(100), mininterval=0):
            pass
        print("done")

    pool.map(item, range(3)).result(DEADLINE)
    assert [heard.of(x) for x in range(3)] == [["done"]] * 3


def test_the_bar_of_a_program_is_a_status_too(fresh, heard: Heard, board: Board):
    """Whatever comes of C code and programs."""

    def item() -> None:
        subprocess.run(["printf", r"\r 50%%\r 100%%"], check=True)
        board.wait("go")
        subprocess.run(["printf", r"\nthe end\r\n"], check=True)

    pool = fresh(1)
    job = pool.submit(item)
    until(lambda: status(pool) == {"100%"}, what="the status")
    board.mark("go")
    job.result(DEADLINE)
    until(lambda: heard.of(None) == ["the end"], what="what a program says is no item's, and may come after its end")


# --- what a failure has of it ----------------------------------------------------------------------------------------


def test_a_failure_has_what_its_item_printed(pool, heard: Heard):
    """Its own lines alone, the last fifty, of both streams; with a bar as it was in the end."""

    async def fails(x: int) -> None:
        for number in range(100 if x == 1 else 2):
            print(x, number)
            await asyncio.sleep(0)
        sys.stderr.write(f"\r100% of {x}")
        raise ValueError(x)

    failures = pool.map(fails, range(3), on_error="return").result(DEADLINE)
    assert [each.prints for each in failures] == [
        "0 0\n0 1\n100% of 0",
        "\n".join([*(f"1 {number}" for number in range(51, 100)), "100% of 1"]),
        "2 0\n2 1\n100% of 2",
    ]


def test_a_failure_has_the_prints_of_the_last_attempt(pool, heard: Heard):
    """Not those of the attempts before."""

    def fails(_: int) -> None:
        print("attempt", current_item().attempt)
        raise ValueError

    (failure,) = pool.map(fails, [0], retries=2, backoff=0, on_error="return").result(DEADLINE)
    assert failure.prints == "attempt 3"
    assert heard.of(0) == ["attempt 1", "attempt 2", "attempt 3"]


def dies() -> None:
    """End the worker."""
    testing.die()


def hangs() -> None:
    """Hang, deaf to every cancel."""
    testing.hang()


def waits() -> None:
    """Hang, and take notice of the end."""
    time.sleep(DEADLINE)


@pytest.mark.parametrize(("end", "error"), [(dies, WorkerLost), (hangs, ItemTimeout), (waits, ItemTimeout)])
def test_who_died_or_hung_has_its_prints_too(fresh, heard: Heard, end, error):
    """Also a line that was flushed and not ended."""

    def item(x: int) -> None:
        print("working on", x)
        print("a part", end="", flush=True)
        if x == 1:
            end()

    # Who dies needs no time; of the others it is not over before they have printed, also on a slow machine.
    timeout = None if end is dies else 3
    results = fresh(1, grace=0.1).map(item, range(3), on_error="return", timeout=timeout).result(DEADLINE)
    assert type(results[1].error) is error
    assert results[1].prints == "working on 1\na part"
    assert heard.of(1)[-2:] == ["working on 1", "a part"]  # Who died may have run twice.


def test_who_prints_nothing_has_no_prints(pool, heard: Heard):
    """Not those of its neighbours."""

    def item(x: int) -> None:
        if x != 1:
            print("something")
        raise ValueError

    failures = pool.map(item, range(3), on_error="return", batch=3).result(DEADLINE)
    assert [each.prints for each in failures] == ["something", "", "something"]


def test_nothing_is_kept_of_items_that_have_ended(fresh, heard: Heard):
    """Neither in the worker nor here, however many there were."""

    def prints(x: int) -> None:
        print(x)
        if x % 7 == 0:
            raise ValueError

    pool = fresh(2)
    pool.map(prints, range(2_000), on_error="return").result(DEADLINE)
    for proxy in list(pool._driver._workers.values()):
        assert not proxy.output._items
        assert proxy.output._chars == 0


# --- what asks somebody ----------------------------------------------------------------------------------------------


def asks() -> str:
    """Ask for a line."""
    return input("Name? ")


def stops() -> None:
    """Stop at a breakpoint."""
    breakpoint()  # noqa: T100


def debugs() -> None:
    """The same, as it was done before."""
    import pdb  # noqa: T100

    pdb.set_trace()  # noqa: T100


def asks_for_a_secret() -> str:
    """Ask for a password."""
    from getpass import getpass

    return getpass()


@pytest.mark.parametrize(
    ("item", "name", "what_now"),
    [
        (asks, "input()", "pass the answer on"),
        (stops, "breakpoint()", "in the notebook"),
        (debugs, "pdb.set_trace()", "in the notebook"),
        (asks_for_a_secret, "getpass.getpass()", "os.environ"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_asks_somebody_says_that_nobody_is_there(pool, item, name, what_now, kind):
    """And what to do instead. It does not wait for anybody."""

    async def item_async(_: int) -> object:
        return item()

    fn = item_async if kind == "async def" else lambda _: item()
    (failure,) = pool.map(fn, [0], on_error="return").result(DEADLINE)
    assert type(failure.error) is RuntimeError
    assert str(failure.error).startswith(f"{name} was called by item 0, which runs in a worker, where nobody can")
    assert what_now in str(failure.error)
