"""Inputs as people have them in notebooks: files, tables, progress bars, jobs, several of unequal length."""

from __future__ import annotations

import asyncio
import collections
import csv
import enum
import gzip
import io
import itertools
import operator
from functools import partial

import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from aiopool import InputError
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import shortly, still_works

# --- one input -------------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    """A class that can be iterated."""

    RED = 1
    BLUE = 2


TABLE = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "x", "y"]}, index=[7, 8, 9])

AS_LIST_GIVES = {
    "an Index": TABLE.index,
    "a column with an index of its own": TABLE["a"],
    "a column of dates": pd.Series(pd.date_range("2024-01-01", periods=3)),
    "a column of categories": TABLE["b"].astype("category"),
    "groups": TABLE["a"].groupby(TABLE["b"]).sum().items(),
    "column names": TABLE.columns,
    "a matrix of one column": np.arange(3).reshape(3, 1),
    "an array of texts": np.array(["a", "b"]),
    "an array of objects": np.array([1, "b", None], dtype=object),
    "a structured array": np.array([(1, 2.0), (3, 4.0)], dtype=[("n", int), ("x", float)]),
    "an enumeration": Color,
    "a Counter": collections.Counter("aab"),
    "a UserList": collections.UserList([1, 2]),
    "a memoryview": memoryview(b"ab"),
    "a ChainMap": collections.ChainMap({"a": 1}, {"b": 2}),
}


@pytest.mark.parametrize("data", AS_LIST_GIVES.values(), ids=AS_LIST_GIVES)
def test_the_items_are_those_of_a_list_of_it(pool, data):
    """``pmap(f, data)`` is ``[f(x) for x in data]``."""
    kept = list(data)
    results = pool.map(repr, data if len(kept) == len(list(data)) else kept).result(DEADLINE)
    assert results == [repr(x) for x in kept]


def test_a_progress_bar_around_the_data_is_read_as_the_data(pool, capfd):
    """With a length or without: whoever wraps everything in ``tqdm`` need not unlearn it."""
    assert pool.map(work.double, tqdm([1, 2, 3])).result(DEADLINE) == [2, 4, 6]
    assert pool.map(work.double, tqdm(x for x in [1, 2, 3])).result(DEADLINE) == [2, 4, 6]
    assert "3/3" in capfd.readouterr().err


def test_a_length_that_fails_is_no_length(pool):
    """``__len__`` is a courtesy."""

    class Broken:
        def __len__(self):
            raise RuntimeError("not yet")

        def __iter__(self):
            return iter([1, 2, 3])

    assert pool.map(work.double, Broken()).result(DEADLINE) == [2, 4, 6]


@pytest.mark.parametrize("power", [10, 30])
def test_a_range_too_long_for_a_list_of_results_is_read_as_it_goes(pool, power):
    """It counts as endless, whether or not Python can tell its length."""
    job = pool.map(work.double, range(10**power), window=10)
    assert list(itertools.islice(job, 3)) == [0, 2, 4]
    job.cancel()
    still_works(pool)


def test_a_sized_input_is_read_to_its_end(pool):
    """Behind its last item it may have something to finish; what that raises is the input's error."""

    class Sized:
        def __init__(self, error=None):
            self.error = error
            self.finished = False

        def __len__(self):
            return 3

        def __iter__(self):
            yield from [1, 2, 3]
            self.finished = True
            if self.error:
                raise self.error

    data = Sized()
    assert pool.map(work.double, data).result(DEADLINE) == [2, 4, 6]
    assert data.finished
    job = pool.map(work.double, Sized(OSError("half of it was missing")))
    with pytest.raises(OSError, match="half of it"):
        job.result(DEADLINE)
    assert job.partial() == [2, 4, 6]


@pytest.mark.parametrize("mode", ["text", "bytes", "gzip", "csv"])
def test_a_file_gives_its_lines(pool, tmp_path, mode):
    """As a loop over it would."""
    path = tmp_path / "lines"
    if mode == "gzip":
        with gzip.open(path, "wt") as file:
            file.write("1,a\n2,b\n")
    else:
        path.write_text("1,a\n2,b\n")
    opened = {"bytes": lambda: path.open("rb"), "gzip": partial(gzip.open, path, "rt")}.get(mode, path.open)
    with opened() as file:
        results = pool.map(lambda line: line, csv.reader(file) if mode == "csv" else file).result(DEADLINE)
    assert results == {"bytes": [b"1,a\n", b"2,b\n"], "csv": [["1", "a"], ["2", "b"]]}.get(mode, ["1,a\n", "2,b\n"])


def test_a_file_that_is_closed_while_it_is_read_says_where_to_wait(pool, tmp_path, board: Board):
    """The map was started inside the ``with`` block and awaited behind it."""

    def slow(line):
        board.wait("the file is closed")
        return line

    path = tmp_path / "lines"
    path.write_text("x\n" * 1000)
    with path.open() as file:
        job = pool.map(slow, file, window=5)
        board.mark("started")
    board.mark("the file is closed")
    with pytest.raises(ValueError, match="closed file") as caught:
        job.result(DEADLINE)
    assert any("wait for the job inside it, or pass list(file)" in note for note in caught.value.__notes__)


def test_a_text_file_that_says_too_early_that_it_has_ended_is_asked_again(pool, tmp_path):
    """As CPython's does when another thread closes it in the middle of a read: or the job would end well, with less."""

    class Hasty(io.TextIOWrapper):
        hastes = 2

        def __next__(self):
            if self.hastes and self.given == 3 - self.hastes:
                self.hastes -= 1
                raise StopIteration
            self.given += 1
            return super().__next__()

    (tmp_path / "lines").write_text("a\nb\nc\n")
    with Hasty((tmp_path / "lines").open("rb")) as file:
        file.given = 0
        assert pool.map(work.double, file).result(DEADLINE) == ["a\na\n", "b\nb\n", "c\nc\n"]


def test_the_results_of_a_job_are_the_data_of_the_next(pool):
    """Without waiting in between."""
    assert pool.map(work.double, pool.map(work.double, [1, 2, 3])).result(DEADLINE) == [4, 8, 12]


async def test_the_results_of_a_job_are_the_data_of_the_next_on_a_loop(pool):
    """The same where a loop runs; and a failure of the first is the error of the second's input."""
    assert await shortly(pool.map(work.double, pool.map(work.double_later, iter([1, 2, 3])))) == [4, 8, 12]
    with pytest.raises(ValueError, match="odd: 1"):
        await shortly(pool.map(work.double, pool.map(work.refuse, [1])))


# --- changed while the job runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: [1, 2, 3], list.clear),
        (lambda: {1, 2, 3}, set.clear),
        (lambda: {1: 0, 2: 0, 3: 0}, dict.clear),
        (lambda: collections.OrderedDict.fromkeys([1, 2, 3]), dict.clear),
        (lambda: collections.deque([1, 2, 3]), collections.deque.clear),
    ],
    ids=["list", "set", "dict", "OrderedDict", "deque"],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["alone", "zipped"])
def test_what_changes_after_the_call_changes_nothing(pool, board: Board, make, change, zipped):
    """Collections are copied in the call, also when several are zipped and while items are running."""

    def slow(*args):
        board.wait("changed")
        return args[0]

    data = make()
    job = pool.map(slow, data, "abc" if not zipped else ["a", "b", "c"]) if zipped else pool.map(slow, data)
    change(data)
    board.mark("changed")
    assert job.result(DEADLINE) == [1, 2, 3]


def test_views_are_copied_too(pool):
    """Or they would follow their dict."""
    prices = {"a": 1, "b": 2}
    jobs = [pool.map(lambda x: x, view) for view in (prices.keys(), prices.values(), prices.items())]
    prices["c"] = 3
    assert [job.result(DEADLINE) for job in jobs] == [["a", "b"], [1, 2], [("a", 1), ("b", 2)]]


# --- several inputs --------------------------------------------------------------------------------------------------


def test_the_shortest_input_ends_a_zip(pool):
    """As with ``zip`` and ``map``, whichever of them it is."""
    for first, second in (
        ([1, 2, 3], [10, 20]),
        ([1, 2], (10, 20, 30)),
        (iter([1, 2, 3]), [10, 20]),
        ([1, 2], iter([10, 20, 30])),
    ):
        assert pool.map(work.add, first, second).result(DEADLINE) == [11, 22]
    assert pool.map(work.add, [1, 2], []).result(DEADLINE) == []


ENDLESS = {
    "repeat": lambda: itertools.repeat(10),
    "count": lambda: itertools.count(10, 0),
    "cycle": lambda: itertools.cycle([10]),
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_zipped_with_an_endless_one_an_input_keeps_its_length_and_its_results(pool, endless):
    """``pmap(fetch, urls, itertools.repeat(settings))`` is how an argument is fixed: it is as sized as ``urls``."""
    job = pool.map(work.add, [1, 2, 3], endless())
    assert len(job) == 3
    assert list(job) == [11, 12, 13]
    assert job.result(DEADLINE) == [11, 12, 13]  # A second time.


def test_a_repeat_that_ends_earlier_ends_the_zip(pool):
    """What was read counts."""
    job = pool.map(work.add, [1, 2, 3], itertools.repeat(10, 2))
    assert job.result(DEADLINE) == [11, 12]
    assert len(job) == 2
    assert pool.map(work.add, [1, 2], itertools.cycle([])).result(DEADLINE) == []


def test_two_endless_inputs_can_be_left(pool):
    """Nothing has a length then, and only a window is read ahead."""
    job = pool.map(work.add, itertools.count(), itertools.repeat(1), window=10)
    assert list(itertools.islice(job, 3)) == [1, 2, 3]
    job.cancel()
    still_works(pool)


def test_an_input_of_a_zip_that_raises_ends_the_job_at_its_place(pool):
    """The results before it stand."""

    def source():
        yield 10
        raise OSError("the source has dried up")

    job = pool.map(work.add, [1, 2, 3], source())
    with pytest.raises(OSError, match="dried up"):
        job.result(DEADLINE)
    assert job.partial()[:1] == [11]


async def test_an_async_input_cannot_be_zipped_and_says_how(pool):
    """Beside others; one alone is read."""

    async def source():
        yield 1

    with pytest.raises(InputError, match="zip them in one async generator"):
        pool.map(operator.add, [1], source())


async def test_an_async_generator_of_tuples_can_be_unpacked(pool):
    """What the message about zipping suggests."""

    async def pairs():
        for x in range(3):
            await asyncio.sleep(0)
            yield x, 10 * x

    assert await shortly(pool.starmap(work.add, pairs())) == [0, 11, 22]
