"""What is put is copied once: every worker reads the same memory, for as long as anybody may use it, and no longer."""

from __future__ import annotations

import functools
import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from aiopool import JobCancelled, Pool, WorkerLost
from aiopool._core import frames, wire
from tests.pool import arrays, work
from tests.pool.board import DEADLINE, Board, stays, until
from tests.pool.pools import ended, looks_at_nobody, names_in_memory, still_works
from tests.pool.scripts import gone, script, start
from tests.pool.test_leaks import settled

ROWS = 1 << 18
BYTES = 8 * ROWS
"""2 MiB of floats."""

HAS_MAPS = Path("/proc/self/maps").exists()
needs_maps = pytest.mark.skipif(not HAS_MAPS, reason="this system does not tell what memory is a part of")


def floats(value: float = 1.0) -> np.ndarray:
    """Make a big array."""
    return np.full(ROWS, value)


def used(pool: Pool) -> int:
    """How many bytes of the pool's shared pages are in use."""
    gc.collect()
    pages = pool._driver.lending.arguments.pages
    return 0 if pages is None else pages.used_bytes


def nothing_used(pool: Pool) -> None:
    """Wait until nothing is in use any more, with another job in the place of the last that was stopped or failed."""
    with pytest.raises(ValueError, match="odd"):
        pool.map(work.refuse, [1], progress=False).result(DEADLINE)
    until(lambda: used(pool) == 0, what="all pages are back")


class Sent:
    """What goes to workers: how many bytes each frame has, and how many of them tell of a value."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.puts = 0

    def note(self, frame: frames.Frame, parts: list[frames.Bytes]) -> list[frames.Bytes]:
        """Take one in."""
        self.sizes.append(sum(len(part) for part in parts))
        self.puts += isinstance(frame, frames.Put)
        return parts


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Every frame that goes to workers."""
    seen, encode = Sent(), wire.encode
    monkeypatch.setattr(wire, "encode", lambda frame: seen.note(frame, encode(frame)))
    return seen


# --- one copy --------------------------------------------------------------------------------------------------------


@needs_maps
def test_every_worker_reads_the_same_pages(fresh, board: Board):
    """A thousand items on three workers look at one place in one file, which none of them may write to."""
    pool = fresh(3)
    ref = pool.put(floats())

    def look(array, number):
        if number < 3:
            board.mark("in")
            board.wait("in", 3)
        return arrays.mapped(array)

    places = pool.map(functools.partial(look, ref), range(1000), batch=1).result(DEADLINE)
    assert len({place.pid for place in places}) == 3
    assert len({(place.file, place.offset, place.rights) for place in places}) == 1
    assert places[0].rights == "r--s"


def test_a_thousand_items_carry_nothing_of_it(fresh, sent):
    """It is told once to each worker, where it stands; what goes through pipes is a few bytes for an item."""
    pool = fresh(2)
    ref = pool.put(floats())
    assert pool.map(arrays.total, [ref] * 1000).result(DEADLINE) == [ROWS] * 1000
    assert 1 <= sent.puts <= 2
    assert sum(sent.sizes) < 300_000


def test_the_memory_of_all_grows_by_one_copy(fresh):
    """The file has the value once, whoever reads it."""
    pool = fresh(2)
    ref = pool.put(floats())
    pool.map(arrays.total, [ref] * 10, batch=1).result(DEADLINE)
    assert BYTES <= used(pool) <= BYTES + (1 << 17)
    assert os.fstat(pool._driver.lending.arguments.pages.fd).st_blocks * 512 <= BYTES + (1 << 18)


def test_each_worker_loads_it_once(fresh):
    """Also a value of no array at all, for all of its jobs."""
    pool = fresh(1)
    ref = pool.put(arrays.Counted([1, 2, 3]))
    for _ in range(3):
        assert {count for _, count in pool.map(arrays.loads, [ref] * 20, batch=1).result(DEADLINE)} == {1}
    assert pool.submit(arrays.loads, ref).result(DEADLINE)[1] == 1


def test_threads_of_a_worker_load_it_once(fresh):
    """Those that come together wait for the first."""
    pool = fresh(1)
    ref = pool.put(arrays.Counted(floats()))
    assert {count for _, count in pool.map(arrays.loads, [ref] * 8, concurrency=8).result(DEADLINE)} == {1}


def test_nobody_can_write_there(fresh):
    """The item fails that tries to, and nothing has changed."""
    pool = fresh(1)
    ref = pool.put(floats())
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(arrays.wipe, ref).result(DEADLINE)
    small = pool.put(np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(arrays.wipe, small).result(DEADLINE)
    assert pool.map(arrays.total, [ref, small]).result(DEADLINE) == [ROWS, 3]


def test_it_is_as_it_was_when_it_was_put(fresh):
    """Later changes here do not travel, big or small."""
    pool = fresh(1)
    values = floats(), np.ones(3)
    refs = [pool.put(value) for value in values]
    for value in values:
        value[:] = 5
    assert pool.map(arrays.total, refs).result(DEADLINE) == [ROWS, 3]


# --- what can be put -------------------------------------------------------------------------------------------------


@needs_maps
def test_a_frame_of_pandas_stands_in_the_pages(fresh):
    """With its index, its types and its texts; its columns are where they were copied to."""
    pool = fresh(2)
    table = pd.DataFrame({"x": floats(), "n": np.arange(ROWS), "name": ["ab", "c"] * (ROWS // 2)}).set_index("n")
    ref = pool.put(table)
    places = pool.broadcast(lambda: arrays.mapped(ref["x"].to_numpy())).result(DEADLINE)
    assert [place.rights for place in places] == ["r--s", "r--s"]
    assert len({place.offset for place in places}) == 1
    back = pool.submit(lambda frame: frame.iloc[-3:], ref).result(DEADLINE)
    pd.testing.assert_frame_equal(back, table.iloc[-3:])


@needs_maps
def test_what_keeps_its_bytes_as_arrow_does_stands_in_the_pages(fresh):
    """Any library that hands out its buffers."""
    pool = fresh(1)
    ref = pool.put({"columns": [arrays.Column(bytes(3)), arrays.Column(floats())]})

    def look(value):
        small, big = (column.data for column in value["columns"])
        return arrays.mapped(np.frombuffer(big)).rights, bytes(small), float(np.frombuffer(big).sum())

    assert pool.submit(look, ref).result(DEADLINE) == ("r--s", bytes(3), ROWS)


VALUES = {
    "of another order": np.asfortranarray(np.arange(ROWS, dtype=float).reshape(512, -1)),
    "with gaps": np.arange(2 * ROWS, dtype=float)[::2],
    "backwards": np.arange(ROWS, dtype=float)[::-1],
    "empty": np.empty((0, 3)),
    "of objects": np.array([1, "two", None], dtype=object),
    "of records": np.zeros(ROWS, dtype=[("a", "i4"), ("b", "f8")]),
    "read-only": np.broadcast_to(np.float64(3), ROWS),
    "of no dimension": np.array(3.5),
    "masked": np.ma.masked_greater(np.arange(ROWS, dtype=float), 10),
}


@pytest.mark.parametrize("name", VALUES)
def test_arrays_of_every_kind_come_as_they_are(pool, name):
    """Type, shape and what is in them."""
    value = VALUES[name]
    back = pool.submit(lambda array: array, pool.put(value)).result(DEADLINE)
    assert (back.dtype, back.shape, type(back)) == (value.dtype, value.shape, type(value))
    np.testing.assert_array_equal(back, value)


IN_THE_PICKLE = {
    "with gaps": lambda: np.arange(2 * ROWS, dtype=float)[::2],
    "backwards": lambda: np.arange(ROWS, dtype=float)[::-1],
    "turned": lambda: np.arange(ROWS, dtype=float).reshape(8, 16, -1).transpose(1, 2, 0),
    "of moments": lambda: np.arange(ROWS).astype("M8[s]"),
    "of spans, turned": lambda: np.asfortranarray(np.arange(ROWS).astype("m8[s]").reshape(512, -1)),
    "of records": lambda: np.zeros(ROWS, dtype=[("a", "i4"), ("b", "M8[s]")]),
    "of one number": lambda: np.broadcast_to(np.float64(3), ROWS),
    "of a class of numpy's": lambda: np.arange(ROWS, dtype=float).view(np.recarray),
    "of a class of its own": lambda: np.arange(ROWS).view(arrays.Named),
    "small": lambda: np.arange(10)[::2],
}


@pytest.mark.parametrize("name", IN_THE_PICKLE)
def test_no_array_can_be_written_to(pool, name):
    """Also where numpy has its bytes in the pickle: an item that wrote there would change it for those that follow."""
    value = IN_THE_PICKLE[name]()
    ref = pool.put(value)
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(arrays.wipe, ref).result(DEADLINE)
    back = pool.submit(lambda array: array, ref).result(DEADLINE)
    assert (back.dtype, back.shape, type(back)) == (value.dtype, value.shape, type(value))
    np.testing.assert_array_equal(back, value)


@needs_maps
def test_moments_stand_in_the_pages(fresh):
    """An array of them is no buffer that numpy would hand out."""
    pool = fresh(1)
    ref = pool.put(np.arange(ROWS).astype("M8[s]"))
    assert pool.submit(lambda array: arrays.mapped(array).rights, ref).result(DEADLINE) == "r--s"


def test_several_arrays_in_a_structure_come_together(pool):
    """And what is between them."""
    value = {"a": [floats(1), "text"], "b": (floats(2), bytearray(b"xyz")), "c": bytes(ROWS)}
    back = pool.submit(lambda v: v, pool.put(value)).result(DEADLINE)
    assert back["a"][1] == "text"
    assert back["b"][1] == b"xyz"
    assert back["c"] == bytes(ROWS)
    assert (float(back["a"][0].sum()), float(back["b"][0].sum())) == (ROWS, 2 * ROWS)


def test_a_ref_may_be_a_part_of_what_is_put(fresh):
    """It is one value, wherever it is met."""
    pool = fresh(1)
    inner = pool.put(floats())
    outer = pool.put([inner, {"x": inner}])
    del inner
    assert pool.submit(lambda v: (v[0] is v[1]["x"], arrays.total(v[0])), outer).result(DEADLINE) == (True, ROWS)
    del outer
    nothing_used(pool)


def test_a_value_that_cannot_be_loaded_fails_the_items_that_use_it(pool):
    """With its error, each of them, and no other."""

    class Sour:
        def __reduce__(self):
            return int, ("no number",)

    ref = pool.put(Sour())
    job = pool.map(work.double, [1, ref, 2, ref], on_error="return")
    values = job.result(DEADLINE)
    assert [values[0], values[2]] == [2, 4]
    assert [type(failure.error) for failure in job.failures] == [ValueError, ValueError]


# --- wherever it stands ----------------------------------------------------------------------------------------------


def test_it_is_named_wherever_it_stands(fresh, sent):
    """In arguments, names, defaults, closures, structures, methods; the array itself never travels."""
    pool = fresh(1)
    ref = pool.put(floats())

    class Model:
        weights = ref

        def __init__(self):
            self.own = ref

        def score(self, x):
            return arrays.total(self.weights) + arrays.total(self.own) + x

    def with_default(x, array=ref):
        return arrays.total(array) + x

    expected = ROWS + 1
    assert pool.submit(arrays.total, ref).result(DEADLINE) + 1 == expected
    assert pool.submit(lambda array: arrays.total(array) + 1, array=ref).result(DEADLINE) == expected
    assert pool.map(lambda x: arrays.total(ref) + x, [1]).result(DEADLINE) == [expected]
    assert pool.map(with_default, [1]).result(DEADLINE) == [expected]
    assert pool.map(functools.partial(with_default, array=ref), [1]).result(DEADLINE) == [expected]
    assert pool.map(Model().score, [1]).result(DEADLINE) == [2 * ROWS + 1]
    assert pool.starmap(lambda a, x: arrays.total(a["k"][0]) + x, [({"k": [ref]}, 1)]).result(DEADLINE) == [expected]
    assert pool.broadcast(lambda: arrays.total(ref) + 1).result(DEADLINE) == [expected]
    assert sent.puts == 1
    assert max(sent.sizes) < BYTES / 10


def test_it_travels_as_its_value_where_it_must_wait_for_workers_to_come(fresh):
    """In an initializer, and in what is kept for those that start later."""
    first = fresh(1)
    ref = first.put(floats())
    pool = fresh(1, initializer=arrays.keep, initargs=(ref,))
    pool.broadcast(lambda: arrays.keep(ref), keep=True).result(DEADLINE)
    assert pool.submit(arrays.look_at_kept).result(DEADLINE) == [1.0, 1.0]
    pool.restart().result(DEADLINE)
    assert pool.submit(arrays.look_at_kept).result(DEADLINE) == [1.0, 1.0]


def test_in_another_pool_it_is_put_as_well(fresh, sent):
    """Once, also after the first pool has ended."""
    first, second = fresh(1), fresh(1)
    ref = first.put(floats())
    assert second.map(arrays.total, [ref] * 3).result(DEADLINE) == [ROWS] * 3
    ended(first)
    assert second.map(arrays.total, [ref] * 3).result(DEADLINE) == [ROWS] * 3
    assert sent.puts == 1


def test_workers_that_come_later_are_told(fresh):
    """After a restart, and after a death."""
    pool = fresh(1)
    ref = pool.put(floats())
    assert pool.submit(arrays.total, ref).result(DEADLINE) == ROWS
    pool.restart().result(DEADLINE)
    assert pool.submit(arrays.total, ref).result(DEADLINE) == ROWS
    with pytest.raises(WorkerLost):
        pool.submit(lambda array: os.kill(os.getpid(), signal.SIGKILL), ref).result(DEADLINE)
    assert pool.submit(arrays.total, ref).result(DEADLINE) == ROWS


async def test_coroutines_get_it_as_well(fresh):
    """Many at once."""
    pool = fresh(1)
    ref = pool.put(floats())

    async def later(array):
        await work.doze(0.001)
        return arrays.total(array)

    assert await pool.map(later, [ref] * 50) == [ROWS] * 50


# --- as long as it is used, and no longer ----------------------------------------------------------------------------


def test_its_memory_comes_back_when_the_ref_has_gone(fresh):
    """Whoever has loaded it."""
    pool = fresh(2)
    ref = pool.put(floats())
    pool.map(arrays.total, [ref] * 10, batch=1).result(DEADLINE)
    assert used(pool) >= BYTES
    del ref
    nothing_used(pool)


@needs_maps
def test_it_is_not_held_against_the_workers_that_read_it(fresh, board: Board):
    """What each of them takes is said, and limited, without what all of them share."""
    pool = fresh(1)
    ref = pool.put(np.ones(1 << 24))

    def look(array):
        found = arrays.total(array)
        board.mark("in")
        board.wait("go")
        return found

    job = pool.map(look, [ref])
    board.wait("in")
    rss = psutil.Process(pool.workers[0].info.pid).memory_info().rss
    until(lambda: pool.workers[0].info.memory, what="it is measured")
    assert pool.workers[0].info.memory < rss - (100 << 20)
    board.mark("go")
    assert job.result(DEADLINE) == [1 << 24]


def test_what_nobody_has_used_comes_back_as_well(fresh):
    """A put that was a mistake."""
    pool = fresh(1)
    ref = pool.put(floats())
    assert used(pool) >= BYTES
    del ref
    assert used(pool) == 0


def test_a_job_may_outlive_the_ref(fresh, board: Board):
    """What its function and its items name stays until they have ended, those too that have not been sent."""
    pool = fresh(1)
    refs = [pool.put(floats(number)) for number in range(4)]

    def add(array, other):
        board.mark("in")
        board.wait("go")
        return arrays.total(array) + arrays.total(other)

    job = pool.map(functools.partial(add, refs[3]), (ref for ref in refs[:3]), batch=1)
    board.wait("in")
    refs.clear()
    gc.collect()
    others = [pool.put(floats(100)) for _ in range(4)]  # would be written where they stood
    board.mark("go")
    assert job.result(DEADLINE) == [3 * ROWS, 4 * ROWS, 5 * ROWS]
    del job, others
    nothing_used(pool)


def test_a_ref_that_only_a_pickle_knows_lasts_as_long_as_the_item(fresh, board: Board):
    """Made while an argument is pickled, and gone with that: what was put stays until the item has ended."""
    pool = fresh(1)

    class Made:
        def __init__(self, number):
            self.number = number

        def __reduce__(self):
            return arrays.itself, (pool.put(floats(self.number)),)

    def add(array):
        board.mark("in")
        board.wait("go")
        return arrays.total(array)

    job = pool.map(add, [Made(0), Made(1), Made(2)], batch=1)
    board.wait("in")
    others = [pool.put(floats(100)) for _ in range(4)]
    board.mark("go")
    assert job.result(DEADLINE) == [0, ROWS, 2 * ROWS]
    del job, others
    nothing_used(pool)


def test_values_that_are_put_on_the_way_come_back_on_the_way(fresh):
    """A generator of refs takes no more than what is in flight."""
    pool = fresh(1)
    most = 0
    values = (pool.put(floats(number)) for number in range(40))
    for value in pool.map(lambda array: float(array[0]), values, batch=1, window=2):
        assert value >= 0
        most = max(most, pool._driver.lending.arguments.pages.used_bytes)
    assert most < 20 * BYTES
    nothing_used(pool)


def test_what_an_item_keeps_is_never_written_over(fresh):
    """The worker holds on to an array whose ref has gone: its memory is not used for what is put next."""
    pool = fresh(1)
    ref = pool.put(floats(7))
    assert pool.submit(arrays.keep, ref).result(DEADLINE) == 7
    del ref
    others = [pool.put(floats(number)) for number in range(5)]
    assert pool.map(arrays.total, others).result(DEADLINE) == [number * ROWS for number in range(5)]
    assert pool.submit(arrays.look_at_kept).result(DEADLINE) == [7]
    del others
    pool.map(work.double, [1]).result(DEADLINE)
    until(lambda: BYTES <= used(pool) < 2 * BYTES, what="only what is kept is in use")
    pool.submit(arrays.let_go).result(DEADLINE)
    nothing_used(pool)


def test_a_retry_works_when_the_ref_has_gone(fresh, board: Board):
    """The job has what its function and its inputs name."""
    pool = fresh(1)
    ref = pool.put(floats())

    def fail_first(array, number):
        board.mark("tries")
        if len(board.marks("tries")) == 1:
            raise ValueError(number)
        return arrays.total(array)

    job = pool.map(functools.partial(fail_first, ref), [1, 2], on_error="return")
    job.result(DEADLINE)
    del ref
    assert job.retry().result(DEADLINE) == [ROWS, ROWS]


def test_what_a_class_of_a_cell_holds_comes_back(fresh):
    """A class, or a function that calls itself, is garbage that only the collector finds: it is asked to look."""
    pool = fresh(1)
    table = floats()

    def deep(n):
        return deep(n - 1) if n else arrays.total(table)  # noqa: F821 - it is deleted below

    assert pool.map(deep, [3]).result(DEADLINE) == [ROWS]
    del deep
    nothing_used(pool)


def test_a_cancelled_job_lets_go(fresh):
    """Whatever of it has begun."""
    pool = fresh(2)
    ref = pool.put(floats())
    job = pool.map(lambda array: work.nap(3600), [ref] * 20, batch=1)
    until(lambda job=job: job.snapshot().in_flight)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(DEADLINE)
    del ref, job
    nothing_used(pool)
    still_works(pool)


# --- whoever dies ----------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_while_it_looks_leaves_nothing(fresh, board: Board):
    """Its share is over with it; what the others read stays."""
    pool = fresh(2)
    ref = pool.put(floats())

    def look(array, number):
        arrays.keep(array)
        board.mark("in", os.getpid())
        if number:
            board.wait("go")
        else:
            work.nap(3600)
        return arrays.total(array)

    job = pool.map(functools.partial(look, ref), [0, 1], batch=1, on_error="return")
    board.wait("in", 2)
    for info in pool.snapshot().workers:
        if info.state == "busy" and info.pid is not None:
            os.kill(info.pid, signal.SIGKILL)
            break
    board.mark("go")
    job.cancel()
    until(job.done)
    del ref, job, look
    pool.restart(now=True).result(DEADLINE)
    nothing_used(pool)
    still_works(pool)


HOLDERS = """
    import functools, os, time
    from pathlib import Path
    import numpy as np
    from aiopool import Pool

    def hold(ref, array):
        assert ref.sum() + array.sum() + table.sum() == 3 << 18
        Path(f"{os.getpid()}.holds").touch()
        time.sleep(3600)

    if __name__ == "__main__":
        table = np.ones(1 << 18)
        with Pool(workers=2) as pool:
            pool.map(functools.partial(hold, pool.put(table)), [table, table], progress=False).result()
"""


def test_a_parent_that_is_killed_leaves_nothing(tmp_path):
    """No process that has the pages open, and no name of them anywhere."""
    before = names_in_memory()
    parent = start(script(tmp_path, HOLDERS), cwd=tmp_path)
    try:
        until(lambda: len(list(tmp_path.glob("*.holds"))) == 2, what="both workers look at three arrays")
    finally:
        parent.kill()
        parent.communicate(timeout=DEADLINE)
    gone([int(file.stem) for file in tmp_path.glob("*.holds")], DEADLINE)
    until(lambda: names_in_memory() <= before, what="no name is left; others have some for a moment")


def test_a_pool_that_ends_gives_its_memory_back(fresh):
    """Although there is a ref, whose value is here all the same."""
    pool = fresh(1)
    ref = pool.put(floats())
    pool.submit(arrays.total, ref).result(DEADLINE)
    fd = pool._driver.lending.arguments.pages.fd
    file = _file(fd)
    assert file is not None
    ended(pool)
    assert not any(_file(entry) == file for entry in range(fd + 1))
    assert float(ref.value.sum()) == ROWS


def _file(fd: int) -> tuple[int, int] | None:
    """Which file it is: numbers of files are those of one device, and another one may have the same."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


# --- arrays that a function uses -------------------------------------------------------------------------------------


def test_an_array_that_a_function_uses_is_copied_once_for_its_job(fresh, sent):
    """And is told to each worker; neither the function nor an item carries it, and nobody warns of it."""
    pool = fresh(2)
    table = np.ones(4 * ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiopool._payload.captures._warned", set())
        assert pool.map(lambda x: arrays.total(table) + x, range(10), batch=1).result(DEADLINE)[0] == 4 * ROWS
    assert max(sent.sizes) < 100_000
    assert 1 <= sent.puts <= 2
    nothing_used(pool)


@needs_maps
def test_a_function_may_write_to_the_array_that_it_uses(fresh, board: Board):
    """What it changes is its worker's own: neither the notebook nor another worker sees it."""
    pool = fresh(2)
    table = floats()

    def change(number):
        board.mark("in")
        board.wait("in", 2)
        table[:] = number
        board.mark("out")
        board.wait("out", 2)
        return arrays.mapped(table).rights, float(table[0]), float(table[-1])

    assert pool.map(change, [5, 6], batch=1).result(DEADLINE) == [("rw-p", 5, 5), ("rw-p", 6, 6)]
    assert float(table.sum()) == ROWS
    # The next job begins with what the notebook has.
    assert set(pool.map(lambda x: arrays.total(table), range(4), batch=1).result(DEADLINE)) == {ROWS}


def test_a_small_array_travels_in_the_function(fresh, sent):
    """Pages are for what is big."""
    pool = fresh(1)
    table = np.ones(1000)
    assert pool.map(lambda x: arrays.total(table), [1]).result(DEADLINE) == [1000]
    assert sent.puts == 0


def test_a_call_uses_arrays_as_a_map_does(fresh, sent):
    """``submit`` of a function that uses a big array, with another one as its argument."""
    pool = fresh(1)
    table = floats()
    assert pool.submit(lambda x: arrays.total(table) + arrays.total(x), floats(2)).result(DEADLINE) == 3 * ROWS
    assert max(sent.sizes) < 100_000
    nothing_used(pool)


# --- many at once ----------------------------------------------------------------------------------------------------


def test_refs_are_put_and_dropped_by_many_threads(fresh):
    """While jobs use them; in the end nothing is left."""
    pool = fresh(2)

    def put_and_use(number):
        ref = pool.put(floats(number))
        with_it = pool.map(functools.partial(lambda array, x: float(array[x]), ref), range(5), progress=False)
        del ref
        return with_it.result(DEADLINE)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(put_and_use, range(40))) == [[float(number)] * 5 for number in range(40)]
    nothing_used(pool)


def test_where_there_is_no_room_each_worker_gets_a_copy(fresh, monkeypatch):
    """Through the pipe, once; and it is as read-only as ever."""
    pool = fresh(2)
    monkeypatch.setattr(pool._driver.lending.arguments, "write", lambda _: None)
    ref = pool.put(floats())
    assert pool.map(arrays.total, [ref] * 20, batch=1).result(DEADLINE) == [ROWS] * 20
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(arrays.wipe, ref).result(DEADLINE)
    table = floats(2)
    assert pool.map(lambda x: arrays.total(table), [1]).result(DEADLINE) == [2 * ROWS]


def test_the_value_is_let_go_on_the_workers_main_thread(fresh):
    """Code of the user's may run then; it never holds the thread that answers the pool."""
    pool = fresh(1)

    class Last:
        def __init__(self):
            self.array = np.ones(3)

        def __del__(self):
            arrays.kept.append([float(threading.current_thread() is threading.main_thread())])

    ref = pool.put(Last())
    assert pool.submit(lambda last: len(last.array), ref).result(DEADLINE) == 3
    del ref
    gc.collect()
    until(lambda: pool.submit(arrays.look_at_kept).result(DEADLINE) == [1.0], what="it has gone, on the main thread")


def test_an_idle_pool_with_refs_sleeps(fresh):
    """What is put costs memory and nothing else."""
    pool = fresh(1)
    ref = pool.put(floats())
    assert pool.submit(arrays.total, ref).result(DEADLINE) == ROWS
    process = psutil.Process(pool.workers[0].info.pid)
    until(lambda: looks_at_nobody(pool), what="the pool has stopped looking")
    until(lambda: settled(lambda: process.num_ctx_switches().voluntary), what="the worker comes to rest")
    before = process.num_ctx_switches().voluntary
    stays(lambda: process.num_ctx_switches().voluntary - before <= 2, 0.5, "the worker sleeps")
