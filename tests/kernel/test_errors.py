"""An item that fails: the error is the user's own, points at the user's line, and says which input it was."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Cell, Kernel

pytestmark = pytest.mark.kernel

NOT_THE_USERS = ("aiopool", "cloudpickle", "_payload", "site-packages", "ipykernel_")


def frames_of(cell: Cell) -> list[tuple[int, int]]:
    """Cell and line of every frame of a cell in the traceback shown."""
    return [(int(n), int(line)) for n, line in re.findall(r"Cell In\[(\d+)\], line (\d+)", cell.traceback)]


def marked_lines(cell: Cell) -> list[str]:
    """The source lines at which arrows point."""
    return re.findall(r"^-+> \d+ (.*)$", cell.traceback, re.MULTILINE)


def files_of(cell: Cell) -> list[str]:
    """The files, other than cells, whose frames are shown."""
    return re.findall(r"^File (\S+):\d+", cell.traceback, re.MULTILINE)


def assert_only_cells(cell: Cell) -> None:
    """Nothing of the library's, nor of what it stands on, is in the traceback."""
    shown = cell.traceback.replace("@aiopool.per_worker", "")  # That is what to write, in a message.
    named = [word for word in NOT_THE_USERS if word in shown]
    assert not named, cell.traceback
    assert files_of(cell) == []


WAITS = {
    "await": "await job",
    "result": "job.result()",
    "async for": "async for _ in job: pass",
    "for": "for _ in job: pass",
    "as_completed": "async for _ in job.as_completed(): pass",
}


@pytest.mark.parametrize("kind", ["async def", "def"])
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.core] if how == "await" else []) for how in WAITS]
)
def test_a_traceback_points_at_the_users_line(kernel: Kernel, how: str, kind: str) -> None:
    """The original type, the cells and lines on the way, no frame of ours, and a note with the index and the label."""
    helper = kernel.run("def parse(text):\n    number = text.strip()\n    return int(number)")
    wait = "await asyncio.sleep(0)" if kind == "async def" else "pass"
    caller = kernel.run(f"# a comment\n{kind} work(text):\n    {wait}\n    return parse(text)")
    failed = kernel.fail(f'job = pmap(work, ["1", "2", "three", "4"])\n\n{WAITS[how]}')

    assert failed.error is not None
    assert failed.error["ename"] == "ValueError"
    assert failed.error["evalue"] == "invalid literal for int() with base 10: 'three'"
    assert frames_of(failed) == [(failed.number, 3), (caller.number, 4), (helper.number, 3)]
    assert marked_lines(failed) == [WAITS[how], "    return parse(text)", "    return int(number)"]
    assert_only_cells(failed)
    last = failed.traceback.rstrip().splitlines()[-1]
    assert re.fullmatch(r"item 2 \('three'\), worker [01] \(pid \d+\)", last), last


@pytest.mark.core
def test_the_exception_caught_is_of_the_cells_class(kernel: Kernel) -> None:
    """``except`` finds it, with its attributes, its cause, and its notes."""
    kernel.run(
        """
        class BadRow(Exception):
            def __init__(self, row, why):
                super().__init__(f"row {row}: {why}")
                self.row = row
                self.why = why
        def load(row):
            try:
                {}["key"]
            except KeyError as error:
                raise BadRow(row, "no key") from error
        """
    )
    cell = kernel.run(
        """
        try:
            await pmap(load, [7])
        except BadRow as error:
            caught = error
        [type(caught) is BadRow, caught.row, caught.why, str(caught), type(caught.__cause__).__name__,
         caught.__notes__[0].startswith("item 0 (7), worker ")]
        """
    )
    assert cell.value == [True, 7, "no key", "row 7: no key", "KeyError", True]


def test_causes_are_shown_with_their_lines(kernel: Kernel) -> None:
    """Both tracebacks of a chain, each with the user's line marked."""
    kernel.run(
        """
        def load(row):
            try:
                return {}["key"]
            except KeyError as error:
                raise RuntimeError("no row") from error
        """
    )
    failed = kernel.fail("await pmap(load, [7])")
    assert "The above exception was the direct cause" in failed.traceback
    assert marked_lines(failed) == [
        '        return {}["key"]',
        "await pmap(load, [7])",
        '        raise RuntimeError("no row") from error',
    ]
    assert_only_cells(failed)


def test_a_gather_adds_no_frames_but_its_own(kernel: Kernel) -> None:
    """Who waits by way of asyncio sees the frame that asyncio adds, and none of ours."""
    work = kernel.run("async def work(x):\n    return 1 / x")
    failed = kernel.fail("await asyncio.gather(pmap(work, [1]), pmap(work, [0]))")
    assert frames_of(failed) == [(failed.number, 1), (work.number, 2)]
    assert [file.rpartition("/")[2] for file in files_of(failed)] == ["tasks.py"]
    assert "aiopool" not in failed.traceback


def test_an_input_that_raises_shows_where_it_did(kernel: Kernel) -> None:
    """Results before it stand; the traceback is that of the user's generator."""
    made = kernel.run(
        """
        def urls():
            yield 1
            yield 2
            raise OSError("the list ends here")
        async def later_urls():
            for url in urls():
                yield url
        """
    )
    failed = kernel.fail("await pmap(abs, urls())")
    assert failed.error is not None
    assert failed.error["ename"] == "OSError"
    assert frames_of(failed) == [(failed.number, 1), (made.number, 4)]
    assert_only_cells(failed)
    assert frames_of(kernel.fail("await pmap(abs, later_urls())"))[1:] == [(made.number, 6), (made.number, 4)]
    failed = kernel.fail("read = []\nasync for x in pmap(abs, urls()):\n    read.append(x)")
    assert failed.error is not None
    assert failed.error["ename"] == "OSError"
    assert_only_cells(failed)
    assert kernel.value("read") == [1, 2]


@pytest.mark.parametrize("wait", ["await job", "job.result()"])
def test_an_error_without_a_line_of_the_users_ends_at_the_cell(kernel: Kernel, wait: str) -> None:
    """A function that is written in C has no frames; what is shown is the cell, the message, and the note."""
    failed = kernel.fail(f"job = pmap(int, ['1', 'x'])\n{wait}")
    assert failed.error is not None
    assert failed.error["ename"] == "ValueError"
    assert frames_of(failed) == [(failed.number, 2)]
    assert_only_cells(failed)
    assert "item 1 ('x'), worker " in failed.traceback


def test_an_error_inside_the_standard_library_shows_the_way_there(kernel: Kernel) -> None:
    """The frames of what the user called are the user's; only ours are hidden."""
    kernel.run("import json\ndef decode(text):\n    return json.loads(text)")
    failed = kernel.fail("await pmap(decode, ['{'])")
    assert failed.error is not None
    assert failed.error["ename"] == "JSONDecodeError"
    assert marked_lines(failed)[:2] == ["await pmap(decode, ['{'])", "    return json.loads(text)"]
    assert "json/decoder.py" in failed.traceback
    assert "aiopool" not in failed.traceback


def test_a_redefined_function_shows_its_new_lines(kernel: Kernel) -> None:
    """The line shown is that of the cell run last."""
    kernel.run("def work(x):\n    return 1 / x")
    assert marked_lines(kernel.fail("await pmap(work, [0])"))[-1] == "    return 1 / x"
    second = kernel.run("def work(x):\n    y = x\n    return 2 / y")
    failed = kernel.fail("await pmap(work, [0])")
    assert marked_lines(failed)[-1] == "    return 2 / y"
    assert frames_of(failed)[-1] == (second.number, 3)


def test_a_label_stands_in_the_note(kernel: Kernel) -> None:
    """``label`` says how an item is shown, so that a secret is not."""
    kernel.run("def work(user):\n    raise ValueError('no')")
    failed = kernel.fail("await pmap(work, [{'name': 'ann', 'password': 'hush'}], label=lambda user: user['name'])")
    assert "item 0 (ann), worker " in failed.traceback
    assert "hush" not in failed.traceback.replace("'password': 'hush'", "", 1)


@pytest.mark.core
def test_an_exception_that_cannot_travel_arrives_as_a_remote_error(kernel: Kernel) -> None:
    """With the same text, the name of its type, and the same lines marked."""
    kernel.run(
        """
        def work(x):
            guard = threading.Lock()
            class Stuck(Exception):
                lock = guard
            raise Stuck(f"stuck at {x}")
        """
    )
    failed = kernel.fail("await pmap(work, [5])")
    assert failed.error is not None
    assert failed.error["ename"] == "RemoteError"
    assert "stuck at 5" in failed.error["evalue"]
    assert marked_lines(failed)[-1] == '    raise Stuck(f"stuck at {x}")'
    assert_only_cells(failed)
    assert kernel.value(
        """
        error = aiopool.last_job().failures[0].error
        [isinstance(error, aiopool.RemoteError), "Stuck" in error.type_name, "stuck at 5" in error.traceback_text]
        """
    ) == [True, True, True]


@pytest.mark.parametrize(
    "raised", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()", "asyncio.CancelledError()"]
)
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_what_would_end_the_kernel_arrives_wrapped(kernel: Kernel, kind: str, raised: str) -> None:
    """An item that exits or is interrupted is an item that failed, and nothing more."""
    kernel.run(f"{kind} leave(x):\n    if x == 1:\n        raise {raised}\n    return x")
    pid = kernel.pid
    failed = kernel.fail("await pmap(leave, range(3))")
    assert failed.error is not None
    assert failed.error["ename"] == "ItemExited"
    assert raised.partition("(")[0].rpartition(".")[2] in failed.error["evalue"]
    assert kernel.value("[x if x != 1 else None for x in (await pmap(leave, range(0, 4, 2)))]") == [0, 2]
    assert kernel.is_alive
    assert kernel.pid == pid


@pytest.mark.core
def test_an_unpicklable_function_raises_in_the_call_and_names_the_offender(kernel: Kernel) -> None:
    """No item is run; the message names the global that cannot travel."""
    kernel.run(
        """
        import sqlite3
        database = sqlite3.connect(":memory:")
        def ask(x):
            return database.execute(x)
        before = aiopool.last_job()
        """
    )
    failed = kernel.fail("job = pmap(ask, ['select 1'])")
    assert failed.error is not None
    assert failed.error["ename"] == "NotPicklable"
    assert "database" in failed.error["evalue"]
    assert "sqlite3.Connection" in failed.error["evalue"]
    assert kernel.value("aiopool.last_job() is before") is True


@pytest.mark.core
def test_an_unpicklable_argument_costs_that_item_only(kernel: Kernel) -> None:
    """The others have their results; the message names what cannot travel inside the input."""
    kernel.run("def size(x):\n    return len(x)\ninputs = [[1], [1, threading.Lock()], [1, 2, 3]]")
    cell = kernel.run(
        """
        got = await pmap(size, inputs, on_error="return")
        [got[0], type(got[1].error).__name__, str(got[1].error), got[2]]
        """
    )
    first, name, message, last = cell.value
    assert (first, name, last) == (1, "NotPicklable", 3)
    assert "lock" in message
    assert "input" in message
    failed = kernel.fail("await pmap(size, inputs)")
    assert failed.error is not None
    assert failed.error["ename"] == "NotPicklable"
    assert "item 1 (" in failed.traceback
    assert frames_of(failed) == [(failed.number, 1)]
    assert_only_cells(failed)


@pytest.mark.core
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_an_unpicklable_result_costs_that_item_only(kernel: Kernel, kind: str) -> None:
    """The others have their results; the message names the offender and what to return instead."""
    kernel.run(f"{kind} make(x):\n    return (i for i in range(3)) if x == 1 else [x]")
    cell = kernel.run(
        """
        got = await pmap(make, range(3), on_error="return")
        [got[0], type(got[1].error).__name__, str(got[1].error), got[2]]
        """
    )
    first, name, message, last = cell.value
    assert (first, name, last) == ([0], "NotPicklable", [2])
    assert "generator" in message
    assert "result" in message


def test_a_result_that_cannot_be_loaded_costs_that_item_only(kernel: Kernel) -> None:
    """What its class raises when it is loaded is that item's failure, in the kernel too."""
    kernel.run(
        """
        def explode():
            raise OSError("cannot be loaded")
        class Bomb:
            def __reduce__(self):
                return explode, ()
        def make(x):
            return Bomb() if x == 1 else x
        """
    )
    cell = kernel.run(
        """
        got = await pmap(make, range(3), on_error="return")
        [got[0], type(got[1].error).__name__, str(got[1].error), got[2]]
        """
    )
    assert cell.value[0] == 0
    assert cell.value[3] == 2
    assert "cannot be loaded" in cell.value[2]
    assert kernel.value("[x async for x in pmap(make, [0, 2])]") == [0, 2]


@pytest.mark.core
def test_a_failing_job_keeps_its_results(kernel: Kernel) -> None:
    """``partial``, ``failures``, ``records`` and ``retry`` of the job that failed; each item is told once."""
    kernel.run(
        """
        LIMIT = 2
        def work(x):
            if x > LIMIT:
                raise ValueError(f"{x} is too much")
            return x * 10
        """
    )
    failed = kernel.fail("await pmap(work, [0, 1, 2, 3], batch=1, concurrency=1)")
    assert failed.error is not None
    assert failed.error["evalue"] == "3 is too much"
    cell = kernel.run(
        """
        job = aiopool.last_job()
        [job.partial(fill=None), [(f.index, f.input, str(f.error)) for f in job.failures], job.snapshot().state,
         [(row["index"], row["value"], row["error"] is None) for row in job.records()]]
        """
    )
    assert cell.value == [
        [0, 10, 20, None],
        [(3, 3, "3 is too much")],
        "failed",
        [(0, 0, True), (1, 10, True), (2, 20, True), (3, None, False)],
    ]
    assert kernel.value("await job.retry(lambda x: -x)") == [0, 10, 20, -3]


@pytest.mark.parametrize(
    ("call", "name", "said"),
    [
        ("pmap(work, range(3), n_jobs=4)", "OptionError", "workers"),
        ("pmap(work, range(3), chunksize=4)", "OptionError", "batch"),
        ("pmap(work, range(3), concurrency=0)", "OptionError", "concurrency"),
        ("pmap(work, 'text')", "InputError", "[value]"),
        ("pmap(work)", "InputError", "pmap(work, data)"),
        ("pmap(work(1), range(3))", "InputError", "pmap(work, data)"),
        ("Pool(workers=0)", "OptionError", "workers"),
        ("get_pool().submit(3)", "InputError", "function"),
        ("pmap(lambda x: lock, range(3))", "NotPicklable", "lock"),
        ("configure(workers='two')", "OptionError", "workers"),
    ],
)
def test_a_mistake_in_the_call_is_told_at_the_users_line(kernel: Kernel, call: str, name: str, said: str) -> None:
    """One frame, the user's, and a message that says what to write."""
    kernel.run("from aiopool import configure, get_pool\nlock = threading.Lock()\nasync def work(x):\n    return x")
    failed = kernel.fail(f"1 + 1\n{call}")
    assert failed.error is not None
    assert failed.error["ename"] == name
    assert said in failed.error["evalue"]
    assert frames_of(failed) == [(failed.number, 2)]
    assert_only_cells(failed)
    assert failed.printed("stderr") == ""
