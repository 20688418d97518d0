"""Big arguments and results: written once into shared pages, mapped where they are wanted, given back after that.

What travels this way is what travelled before; only the way is another one.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiopool import Pool, WorkerLost, pmap
from aiopool._payload import EncodedItems
from aiopool._runtime import lending
from aiopool._runtime import results as store
from aiopool._runtime.budget import Budget
from aiopool.engines.local import LocalLink
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import ended, names_in_memory, still_works
from tests.pool.scripts import beside_progress

np = pytest.importorskip("numpy", reason="arrays are what is big")

BIG = 1 << 20  # of items of eight bytes: 8 MiB
MEGABYTE = 1 << 20


def arguments(pool: Pool) -> int:
    """How many bytes of arguments are in use."""
    gc.collect()
    writer = pool._driver.lending.arguments
    return writer.pages.used_bytes if writer is not None and writer.pages is not None else 0


def borrowed(pool: Pool) -> int:
    """How many bytes of results this process has, loaded or not."""
    gc.collect()
    return sum(proxy.desk.not_its_own(0) for proxy in list(pool._driver._workers.values()))


def another_job(pool: Pool) -> None:
    """The job that was started last is held, by ``aiopool.last_job()``, and so are its results."""
    pool.submit(int).result(DEADLINE)


def nothing_is_lent(pool: Pool) -> None:
    """Wait until everything has come back, on both sides."""
    another_job(pool)
    until(lambda: arguments(pool) == 0, what="no argument is in use")
    until(lambda: borrowed(pool) == 0, what="no result is in use")


class Traffic:
    """Bytes that went through pipes."""

    def __init__(self) -> None:
        self.sent = self.received = 0


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Bytes that go through pipes while the test runs."""
    counted = Traffic()
    send, drained = LocalLink.send, LocalLink._read

    def counting_send(link: LocalLink, parts: Any) -> None:
        counted.sent += sum(map(len, parts))
        send(link, parts)

    def counting_read(link: LocalLink, fd: int, take: Callable[[bytes], None]) -> bool:
        def counting(data: bytes) -> None:
            counted.received += len(data)
            take(data)

        return drained(link, fd, counting)

    monkeypatch.setattr(LocalLink, "send", counting_send)
    monkeypatch.setattr(LocalLink, "_read", counting_read)
    return counted


@pytest.fixture(params=["memfd", "a file"])
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool of one worker, where there are files in memory and where there are none."""
    if request.param == "a file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    pool = Pool(workers=1, grace=0.3)
    yield pool
    ended(pool)


@pytest.fixture(scope="module", autouse=True)
def nothing_big_is_held(nothing_is_left: None) -> Iterator[None]:
    """The job that failed last, and the one that was started last, are held; they are small."""
    yield
    pool = Pool(workers=1)
    with pytest.raises(ValueError, match="odd"):
        pool.map(work.refuse, range(5)).result(DEADLINE)
    another_job(pool)
    ended(pool)


# --- values ----------------------------------------------------------------------------------------------------------


def arrays() -> dict[str, Any]:
    """Arrays of every make."""
    plain = np.arange(BIG, dtype=np.float64)
    readonly = plain.copy()
    readonly.flags.writeable = False
    return {
        "plain": plain,
        "small": np.arange(10),
        "of nothing": np.empty((0, 5)),
        "of no dimension": np.array(7.0),
        "of three dimensions": plain.reshape(64, 128, -1),
        "by columns": np.asfortranarray(plain.reshape(1024, -1)),
        "transposed": plain.reshape(1024, -1).T,
        "with gaps": plain[::2],
        "backwards": plain[::-1],
        "a part": plain[1000:-1000],
        "of small numbers": plain.astype(np.uint8),
        "of the other endianness": plain.astype(">f8"),
        "of complex numbers": plain + 1j,
        "of records": np.zeros(BIG // 4, dtype=[("a", "i4"), ("b", "f8", (2,))]),
        "of objects": np.array([None, "text", (1, 2)], dtype=object),
        "of text": np.array(["text", "longer text"] * 100_000),
        "of moments": plain[:100_000].astype("datetime64[s]"),
        "masked": np.ma.masked_array(plain, plain > 5),
        "read-only": readonly,
        "broadcast": np.broadcast_to(np.arange(1000.0), (1000, 1000)),
    }


@pytest.mark.parametrize("name", arrays())
def test_an_array_arrives_as_its_pickle_would(pool: Pool, name: str):
    """Of whatever shape, order and type; also whether it can be written to."""
    sent = arrays()[name]
    expected = pickle.loads(pickle.dumps(sent, protocol=5))

    def look(array: Any) -> Any:
        return str(array.dtype), array.shape, array.flags.writeable, array

    dtype, shape, writeable, back = pool.submit(look, sent).result(DEADLINE)
    assert (dtype, shape) == (str(sent.dtype), sent.shape)
    assert writeable == expected.flags.writeable
    assert type(back) is type(sent)
    assert back.flags.f_contiguous == expected.flags.f_contiguous
    np.testing.assert_array_equal(back, sent)


def test_arrays_within_other_values_arrive(pool: Pool):
    """In a dict, in an object of a class of this test's, the same one twice, beside small ones."""

    class Scan:
        def __init__(self) -> None:
            self.pixels = np.arange(BIG)
            self.thumbnail = np.arange(5)
            self.parts = {"first": self.pixels, "again": self.pixels, "other": self.pixels[: BIG // 2].copy()}

    def same(scan: Any) -> tuple[bool, Any]:
        return scan.parts["first"] is scan.parts["again"] is scan.pixels, scan

    sent = Scan()
    was_one, back = pool.map(same, [sent]).result(DEADLINE)[0]
    assert was_one
    assert type(back) is Scan
    assert back.parts["again"] is back.pixels
    for name in ("pixels", "thumbnail"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sent, name))
    np.testing.assert_array_equal(back.parts["other"], sent.parts["other"])


def test_frames_and_series_arrive(pool: Pool):
    """Numbers, text, categories, moments, an index of its own."""
    pd = pytest.importorskip("pandas", reason="frames are of pandas")
    count = 200_000
    frame = pd.DataFrame(
        {
            "number": np.arange(count),
            "fraction": np.arange(count) / 3,
            "text": [f"row {row}" for row in range(count)],
            "kind": pd.Categorical(["a", "b"] * (count // 2)),
            "when": pd.date_range("2026-01-01", periods=count, freq="s", tz="UTC"),
        },
        index=pd.Index(range(count, 0, -1), name="back"),
    )

    def change(given: Any) -> Any:
        given.loc[given.index[0], "number"] = -1
        return given

    back = pool.submit(change, frame).result(DEADLINE)
    assert frame["number"].iloc[0] == 0
    assert back["number"].iloc[0] == -1
    back.loc[back.index[0], "number"] = 0
    pd.testing.assert_frame_equal(back, frame)
    pd.testing.assert_series_equal(pool.submit(lambda x: x, frame["fraction"]).result(DEADLINE), frame["fraction"])


def test_tables_of_arrow_arrive(pool: Pool):
    """Columns of numbers and of text, in place."""
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    import pyarrow as pa

    table = pa.table({"number": np.arange(300_000), "text": [f"row {row}" for row in range(300_000)]})
    assert pool.submit(lambda given: given, table).result(DEADLINE).equals(table)


def test_functions_in_threads_coroutines_and_nested_maps_get_arrays(pool: Pool):
    """Whatever runs the item."""

    def total(array: Any) -> int:
        return int(array.sum())

    async def later(array: Any) -> int:
        await asyncio.sleep(0)
        return int(array.sum())

    async def within(array: Any) -> list[int]:
        return await pmap(total, [array, array + 1])

    sent = [np.arange(BIG) + each for each in range(6)]
    expected = [int(array.sum()) for array in sent]
    assert pool.map(total, sent).result(DEADLINE) == expected
    assert pool.map(total, sent, concurrency=6).result(DEADLINE) == expected
    assert pool.map(later, sent).result(DEADLINE) == expected
    assert pool.map(within, sent[:1]).result(DEADLINE) == [[expected[0], expected[0] + BIG]]
    nothing_is_lent(pool)


def test_an_item_may_write_into_what_it_was_given(pool: Pool):
    """Nobody else sees it: not the caller, not the items that were given the same array."""

    def change(array: Any) -> Any:
        before = int(array.sum())
        array += 1
        return before, array

    array = np.zeros(BIG, dtype=np.int64)
    found = pool.map(change, [array] * 6).result(DEADLINE)
    assert [before for before, _ in found] == [0] * 6
    assert not array.any()
    assert all(bool((back == 1).all()) for _, back in found)


def test_a_result_may_be_written_into(pool: Pool):
    """It is the caller's own, like any result."""
    first, second = pool.map(np.zeros, [BIG, BIG]).result(DEADLINE)
    first += 1
    assert not second.any()
    assert bool((first == 1).all())


# --- the way ---------------------------------------------------------------------------------------------------------


def test_what_is_big_does_not_go_through_the_pipes(own: Pool, traffic: Traffic):
    """Only what says where it stands; both ways, and for every item of a map."""
    array = np.arange(BIG)
    assert own.submit(len, array).result(DEADLINE) == BIG
    assert len(own.submit(np.zeros, BIG).result(DEADLINE)) == BIG
    assert own.map(len, [array] * 10).result(DEADLINE) == [BIG] * 10
    assert len(own.map(np.ones, [BIG] * 10).result(DEADLINE)) == 10
    assert traffic.sent < 100_000
    assert traffic.received < 100_000
    nothing_is_lent(own)


def test_what_is_small_goes_through_the_pipes_alone(own: Pool, monkeypatch: pytest.MonkeyPatch):
    """Nothing is said of pages, and nobody has made any."""
    said: list[str] = []
    send = LocalLink.send

    def hearing(link: LocalLink, parts: Any) -> None:
        said.extend(bytes(part[3:4]).hex() for part in parts if bytes(part[:2]) == b"ap")
        send(link, parts)

    monkeypatch.setattr(LocalLink, "send", hearing)
    assert own.map(lambda values: values.sum(), [np.arange(10)] * 20).result(DEADLINE) == [45] * 20
    assert not {"1d", "1e"} & set(said)
    writer = own._driver.lending.arguments
    assert writer is not None
    assert writer.pages is None


def test_what_comes_one_after_the_other_is_written_into_the_same_memory(own: Pool):
    """A thousand arrays need the memory of a few."""
    link = next(iter(own._driver._workers.values()), None)
    for _ in range(30):
        assert len(own.submit(np.zeros, BIG).result(DEADLINE)) == BIG
    few = threading.Semaphore(4)
    for _ in own.map(lambda array: array, (np.arange(BIG) for _ in range(30) if few.acquire(timeout=DEADLINE))):
        link = next(iter(own._driver._workers.values())).link
        few.release()  # Who reads too late has more of them: the worker does not wait for a reader of so little.
    assert os.fstat(link.results).st_blocks * 512 <= 12 * 8 * MEGABYTE
    files = own._driver._engine.files
    assert os.fstat(files.arguments).st_blocks * 512 <= 128 * MEGABYTE


def test_memory_that_nothing_has_needed_for_a_while_goes_back_to_the_system(own: Pool, monkeypatch: pytest.MonkeyPatch):
    """A pool at rest holds none for arguments that may never come."""
    monkeypatch.setattr(lending, "IDLE_SECONDS", 0.05)
    assert own.map(len, [np.arange(BIG)] * 5).result(DEADLINE) == [BIG] * 5
    files = own._driver._engine.files
    until(lambda: own._driver.lending.arguments.pages.warm_bytes == 0, what="nothing is kept")
    if sys.platform == "linux":
        until(lambda: os.fstat(files.arguments).st_blocks == 0, what="the system has it")


def test_where_there_is_no_room_values_travel_as_they_did_before(own: Pool, traffic: Traffic):
    """A budget that is used up makes nobody wait."""
    array = np.arange(BIG)
    assert own.submit(len, array).result(DEADLINE) == BIG
    own._driver.lending.arguments.pages._most = 0

    def none_left(_: Any) -> Any:
        from aiopool._payload import parcels

        parcels.results._most = 0
        parcels.results.write = lambda _: None
        return np.arange(BIG)

    np.testing.assert_array_equal(own.submit(none_left, array).result(DEADLINE), array)
    assert traffic.sent > 8 * MEGABYTE
    assert traffic.received > 8 * MEGABYTE


# --- how long --------------------------------------------------------------------------------------------------------


def test_what_an_item_keeps_stays_as_it_is(own: Pool):
    """Its memory is not written to again, whatever comes after it, until the item's code lets go of it."""

    def keep(array: Any) -> None:
        import builtins

        builtins.kept = array  # type: ignore[attr-defined]

    def look(other: Any) -> tuple[int, int]:
        import builtins

        return int(builtins.kept.sum()), int(other.sum())  # type: ignore[attr-defined]

    def drop() -> None:
        import builtins

        del builtins.kept  # type: ignore[attr-defined]

    own.submit(keep, np.full(BIG, 3)).result(DEADLINE)
    assert own.map(look, [np.full(BIG, each) for each in range(20)]).result(DEADLINE) == [
        (3 * BIG, each * BIG) for each in range(20)
    ]
    until(lambda: arguments(own) == 8 * MEGABYTE, what="all but the one that is kept have come back")
    own.submit(drop).result(DEADLINE)
    nothing_is_lent(own)


def test_results_stay_as_they_are_as_long_as_anybody_has_them(own: Pool):
    """A slice is enough; and those that were let go of make room."""
    kept = [own.submit(np.full, BIG, each).result(DEADLINE)[5:10] for each in range(5)]
    for _ in range(10):
        own.submit(np.full, BIG, 99).result(DEADLINE)
    assert [part.tolist() for part in kept] == [[each] * 5 for each in range(5)]
    another_job(own)
    until(lambda: borrowed(own) == 5 * 8 * MEGABYTE, what="all but those five have gone back")
    del kept[1:]
    until(lambda: borrowed(own) == 8 * MEGABYTE, what="four of five have gone back")


def test_results_outlive_their_pool(own: Pool):
    """The memory is theirs then, and goes with the last of them."""
    array = own.submit(np.full, BIG, 7).result(DEADLINE)
    job = own.map(np.full, [BIG], [8])
    until(job.done, what="the job is done")
    ended(own)
    assert bool((array == 7).all())
    assert bool((job.result(DEADLINE)[0] == 8).all())


def test_results_that_nobody_reads_go_with_their_job(own: Pool):
    """They were never loaded; the worker may write there again."""
    job = own.map(np.zeros, [BIG] * 5)
    until(job.done, what="the job is done")
    assert borrowed(own) == 5 * 8 * MEGABYTE
    del job
    nothing_is_lent(own)


def test_a_job_that_is_cancelled_gives_everything_back(own: Pool, board: Board):
    """What runs, what has been sent and what has not."""

    def hold(array: Any, board: Board) -> None:
        board.mark("started")
        work.nap(3600)

    job = own.starmap(hold, [(np.zeros(BIG), board)] * 20)
    until(lambda: board.marks("started"), what="the first one runs")
    assert arguments(own) > 0
    job.cancel()
    del job
    nothing_is_lent(own)
    still_works(own)


def test_an_attempt_that_fails_gives_its_argument_back(own: Pool):
    """Each attempt has its own; a failure that is kept holds the input, as the user has it, and no pages."""

    def fail(array: Any) -> None:
        raise ValueError(str(array.shape))

    failures = own.map(fail, [np.zeros(BIG)] * 3, retries=2, backoff=0.001, on_error="return").result(DEADLINE)
    assert [failure.attempts for failure in failures] == [3] * 3
    nothing_is_lent(own)


def test_what_is_not_read_is_weighed_with_its_pages(fresh: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch):
    """An unsized job runs on until so many bytes wait for a reader, wherever they stand."""
    monkeypatch.setattr(store, "UNREAD_LIMIT", 64 * MEGABYTE)
    pool = fresh(1)
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield BIG

    job = pool.map(np.zeros, endless(), window=4)
    until(lambda: job.snapshot().waits_for_reader, what="it waits for a reader")
    assert 8 <= read <= 24
    job.cancel()


def test_arguments_are_read_ahead_by_what_they_weigh_with_their_pages():
    """64 MiB of them wait for workers, no more."""
    budget = Budget()
    budget.take(2, EncodedItems(b"", (b"few", b"few"), (), 2 * 8 * MEGABYTE))
    assert budget.grant(1000, ended=0, at_least=2) == 7
    assert budget.grant(1000, ended=5, at_least=2) == 12


def test_results_that_are_kept_here_are_not_counted_as_the_workers_memory(fresh: Callable[..., Pool]):
    """They stand in pages that it wrote; but it is this process that has them."""

    def slowly(count: int) -> Any:
        work.nap(0.05)
        return np.ones(count)

    pool = fresh(1, max_memory_per_worker=250 * MEGABYTE)
    before = pool.submit(os.getpid).result(DEADLINE)
    kept = pool.map(slowly, [2 * BIG] * 25).result(DEADLINE)
    assert pool.submit(os.getpid).result(DEADLINE) == before
    assert len(kept) == 25


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_gives_back_all_that_it_was_lent(own: Pool):
    """What it had open and what it had kept."""

    def keep_and_hold(array: Any) -> None:
        import builtins

        builtins.kept = array  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerLost):
        own.submit(keep_and_hold, np.zeros(BIG)).result(DEADLINE)
    nothing_is_lent(own)
    still_works(own)


def test_items_of_a_worker_that_died_run_again_with_their_arguments(own: Pool, board: Board):
    """They are written again where they are wanted."""

    def die_once(array: Any, board: Board) -> int:
        if not board.marks("died"):
            board.mark("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return int(array.sum())

    sent = [(np.full(BIG, each), board) for each in range(6)]
    assert own.starmap(die_once, sent).result(DEADLINE) == [each * BIG for each in range(6)]
    nothing_is_lent(own)


def test_values_of_a_worker_that_was_killed_stay_and_its_memory_goes_with_them(own: Pool):
    """Loaded or not; and what nobody has is given back when it dies."""
    loaded = own.submit(np.full, BIG, 1).result(DEADLINE)
    unread = own.submit(np.full, BIG, 2)
    until(unread.done, what="the second one is done")
    (proxy,) = own._driver._workers.values()
    file = os.dup(proxy.link.results)
    try:
        os.kill(proxy.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(proxy.pid) and proxy.id not in own._driver._workers, what="it is gone")
        assert bool((loaded == 1).all())
        assert bool((unread.result(DEADLINE) == 2).all())
        if sys.platform == "linux":
            assert os.fstat(file).st_blocks * 512 == 2 * 8 * MEGABYTE
            del unread
            another_job(own)
            gc.collect()
            assert os.fstat(file).st_blocks * 512 == 8 * MEGABYTE
            del loaded
            gc.collect()
            assert os.fstat(file).st_blocks == 0
    finally:
        os.close(file)
    still_works(own)


def test_nothing_is_left_open_when_values_have_outlived_worker_and_pool(fresh: Callable[..., Pool]):
    """No descriptor, no name."""
    named = names_in_memory()
    pool = fresh(2)
    before = psutil.Process().num_fds()
    kept = pool.map(np.zeros, [BIG] * 10).result(DEADLINE)
    for info in pool.snapshot().workers:
        os.kill(info.pid, signal.SIGKILL)
    kept += pool.map(np.zeros, [BIG] * 10).result(DEADLINE)
    ended(pool)
    assert all(not array.any() for array in kept)
    del kept
    gc.collect()
    until(lambda: psutil.Process().num_fds() <= before, what="the file descriptors are closed")
    assert names_in_memory() <= named


SCRIPT = """
    import os, signal, sys
    import numpy as np
    from aiopool import Pool

    def keep(array):
        import builtins
        builtins.kept = array
        return array + 1

    if __name__ == "__main__":
        pool = Pool(workers=2)
        kept = pool.map(keep, [np.zeros(1 << 20)] * 4).result()
        print(*[info.pid for info in pool.snapshot().workers], flush=True)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("way", ["killed", "ended"])
def test_a_script_that_ends_while_values_are_in_use_leaves_nothing_and_says_nothing(tmp_path: Path, way: str):
    """Killed or not: the workers end, and the memory, which has no name, with them."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    named = names_in_memory()
    done = subprocess.run([sys.executable, script, way], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == (-signal.SIGKILL if way == "killed" else 0)
    assert beside_progress(done.stderr) == ""
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 2
    until(lambda: not any(map(psutil.pid_exists, pids)), what="the workers have ended")
    assert names_in_memory() <= named
