"""Bytes on the pipes: the parser fails closed, and whoever says what cannot be is the only one lost.

``AIOPOOL_STREAMS=1000000`` tries so many damaged streams, instead of the number that a quick run has time for.
"""

from __future__ import annotations

import os
import pickle
import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, get_args

import pytest

from aiopool import Pool, WorkerLost, _payload
from aiopool._core import frames, wire
from aiopool.errors import FrameError
from tests.faults import streams
from tests.faults.impostor import Player, Stage, honest, stage
from tests.faults.streams import written
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.conftest import board, fresh, nothing_is_left, pool
from tests.pool.pools import ended, rested, still_works

__all__ = ["board", "fresh", "nothing_is_left", "pool", "stage"]

STREAMS = int(os.environ.get("AIOPOOL_STREAMS", "50000"))
SEED = 2026
SHARES = 8


def read(pieces: list[bytes]) -> tuple[bytes, str]:
    """What a parser makes of a stream that comes in these pieces: the frames it found, written again, and its error."""
    parser = wire.Parser()
    found: list[bytes] = []
    for piece in pieces:
        try:
            # One by one: those before a broken one count.
            found.extend(streams.written(frame) for frame in parser.feed(piece))
        except FrameError as error:
            return b"".join(found), str(error)
    return b"".join(found), ""


def test_every_kind_of_frame_is_damaged():
    """A new one is added to the table of the streams."""
    assert set(streams.KINDS) == set(get_args(frames.Frame))


@pytest.mark.parametrize("share", range(SHARES))
def test_a_damaged_stream_gives_frames_or_a_frame_error(share: int):
    """Nothing else is ever raised, however it is cut; and what was taken for a frame says what the bytes say.

    So no byte is skipped or invented: the frames, written again, are the beginning of the stream.
    """
    known = streams.samples(random.Random(SEED + share), 30)
    whole = broken = 0
    for number, (stream, chance) in enumerate(
        islice(streams.bad_streams(SEED * SHARES + share, known), STREAMS // SHARES)
    ):
        found, error = read([stream])
        assert stream.startswith(found), f"stream {number} of share {share}: other frames than its bytes: {stream!r}"
        cut = streams.one_by_one(stream) if number % 20 == 0 else streams.pieces(stream, chance)
        assert read(cut) == (found, error), f"stream {number} of share {share}, cut: {stream!r}"
        broken += bool(error)
        whole += not error
    # A generator that breaks everything, or nothing, tests nothing.
    assert broken > STREAMS // SHARES // 3
    assert whole > STREAMS // SHARES // 10


def test_a_stream_may_be_split_at_every_byte():
    """One frame of each kind after the other, cut in two at every place."""
    chance = random.Random(SEED)
    stream = b"".join(streams.samples(chance, 1))
    assert read([stream]) == (stream, "")
    for at in range(len(stream) + 1):
        assert read([stream[:at], stream[at:]]) == (stream, "")


def test_a_stream_that_ends_anywhere_gives_the_frames_before_its_end():
    """Half a frame is no frame and no error: the rest may come."""
    chance = random.Random(SEED)
    parts = streams.samples(chance, 1)
    stream = b"".join(parts)
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    for at in range(len(stream) + 1):
        last = max(end for end in ends if end <= at)
        assert read([stream[:at]]) == (stream[:last], "")


def test_no_damaged_stream_costs_memory():
    """Whatever lengths and counts it claims, not even for a moment."""
    known = streams.samples(random.Random(SEED), 30)
    bad = [stream for stream, _ in islice(streams.bad_streams(SEED, known), max(1000, STREAMS // 50))]
    tracemalloc.start()
    try:
        for stream in bad:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            read([stream])
            assert tracemalloc.get_traced_memory()[1] - before < (1 << 16) + 200 * len(stream)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", [1, 1000])
def test_a_header_that_claims_a_tebibyte_takes_up_what_has_come(step: int):
    """Byte by byte, the memory grows as the bytes do, and so does the time."""
    parser = wire.Parser()
    list(parser.feed(wire.HEADER.pack(wire.MAGIC, wire.VERSION, frames.Results.kind, wire.LIMIT)))
    tracemalloc.start()
    try:
        for _ in range(200_000 // step):
            assert list(parser.feed(bytes(step))) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


FIXED = [frames.AskBack, frames.AskStacks, frames.Cancel, frames.Forget, frames.Ping, frames.Ready, frames.Dropped]
FIXED += [frames.Held, frames.Overdue, frames.Pong, frames.Turned]


@pytest.mark.parametrize("kind", FIXED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("length", [0, 1, 1000, wire.LIMIT])
def test_a_frame_of_a_fixed_size_that_claims_another_one_is_refused_at_its_header(kind: type, length: int):
    """Not after a body that may never come: meanwhile everything that the worker says would be taken for it."""
    with pytest.raises(FrameError, match=f"of {length} bytes"):
        list(wire.Parser().feed(wire.HEADER.pack(wire.MAGIC, wire.VERSION, kind.kind, length)))  # type: ignore[attr-defined]


# --- a frame that says what cannot be, from a worker ------------------------------------------------------------------


def results(
    frame: frames.Batch, *, job: int | None = None, batch: int | None = None, positions: Any = None, seconds: Any = None
) -> bytes:
    """An honest answer, but for what is given."""
    positions = range(len(frame.items)) if positions is None else positions
    seconds = [0.001] * len(positions) if seconds is None else seconds
    job, batch = frame.job if job is None else job, frame.batch if batch is None else batch
    shared = _payload.dump_shared(list(positions)[:100])
    return written(frames.Results(job, batch, positions, seconds, shared, ()))


def failed(
    frame: frames.Batch, *, job: int | None = None, batch: int | None = None, position: int = 0,
    seconds: float = 0.001, flags: int = 0, after: float = -1.0,
) -> bytes:  # fmt: skip
    """An item raised, in a way that cannot be."""
    job, batch = frame.job if job is None else job, frame.batch if batch is None else batch
    return written(frames.Failed(job, batch, position, seconds, flags, after, _payload.dump_error(ValueError())))


NAN, INF = float("nan"), float("inf")
NOT_HELD = 1 << 63
Lie = Callable[[frames.Batch], bytes]

FROM_A_WORKER: dict[str, Lie] = {
    "noise": lambda _: b"this is not a frame, not at all",
    "a broken length": lambda _: wire.HEADER.pack(b"ap", 1, frames.Pong.kind, 1 << 39),
    "values of a batch of nobody's": lambda b: results(b, batch=NOT_HELD),
    "values of another job": lambda b: results(b, job=b.job + 7),
    "values of positions that there are not": lambda b: results(b, positions=range(len(b.items), len(b.items) + 2)),
    "values of no position": lambda b: results(b, positions=range(0)),
    "values of no listed position": lambda b: results(b, positions=[]),
    "a value of a huge position": lambda b: results(b, positions=[(1 << 64) - 1]),
    "values of one position twice": lambda b: results(b, positions=[0, 0]),
    "values that took less than no time": lambda b: results(b, seconds=[-1.0, *[5.0] * (len(b.items) - 1)]),
    "values that took no number of seconds": lambda b: results(b, seconds=[NAN] * len(b.items)),
    "values that took for ever": lambda b: results(b, seconds=[INF] * len(b.items)),
    "values that took 1e308 s each": lambda b: results(b, seconds=[1e308] * len(b.items)),
    "a failure of a batch of nobody's": lambda b: failed(b, batch=NOT_HELD),
    "a failure of another job": lambda b: failed(b, job=b.job + 7),
    "a failure of a position that there is not": lambda b: failed(b, position=len(b.items)),
    "a failure of a huge position": lambda b: failed(b, position=(1 << 64) - 1),
    "a failure after less than no time": lambda b: failed(b, seconds=-1.0),
    "a failure after no number of seconds": lambda b: failed(b, seconds=NAN),
    "a failure after for ever": lambda b: failed(b, seconds=INF),
    "a failure to be tried again after longer than anything": lambda b: failed(b, flags=1, after=1e11),
    "a failure to be tried again after for ever": lambda b: failed(b, flags=1, after=INF),
    "a timeout where there is none": lambda b: written(frames.Overdue(b.job, b.batch, 0)),
    "a failure by a timeout where there is none": lambda b: failed(b, flags=frames.Failed.TIMED_OUT),
    "items back that nobody asked for": lambda b: written(frames.HandedBack(b.job, [b.batch], [0])),
    "items back of a job that there is not": lambda b: written(
        frames.HandedBack(b.job + 7, range(1 << 39), range(1 << 39))
    ),
    "a job dropped that was not cancelled": lambda b: written(frames.Dropped(b.job)),
    "a job dropped that there is not": lambda b: written(frames.Dropped(b.job + 7)),
    "modules that are no JSON": lambda _: written(frames.Modules(b"{")),
    "modules that are no text": lambda _: written(frames.Modules(b"\xff\xfe")),
    "modules that are a number": lambda _: written(frames.Modules(b"7")),
    "modules that are no stamps": lambda _: written(frames.Modules(b'[["a.py", 1]]')),
    "modules nested beyond all depth": lambda _: written(frames.Modules(b"[" * 100_000)),
    "a report beyond the end": lambda b: written(frames.Reported(b.job, b.batch, 0, 1e300, b"")),
    "a report before the beginning": lambda b: written(frames.Reported(b.job, b.batch, 0, -1.0, b"")),
    "a setup": lambda _: written(frames.Setup(b"{}", b"")),
    "a function": lambda _: written(frames.Function(1, 0, b"", b"")),
    "a batch": written,
    "a question for items": lambda b: written(frames.AskBack(b.job, 1)),
    "a question for stacks": lambda b: written(frames.AskStacks(1, b.job)),
    "a cancel": lambda b: written(frames.Cancel(b.job)),
    "a word that a job is over": lambda b: written(frames.Forget(b.job)),
    "an environment": lambda _: written(frames.Environment(b"{}")),
    "a ping": lambda _: written(frames.Ping(1)),
    "an answer to no ping, after less than no time": lambda _: written(frames.Pong(7, 1, 0, -1.0)),
    "an answer to no ping, after no number of seconds": lambda _: written(frames.Pong(7, 1, 0, NAN)),
    "pages that a worker without pages lends": lambda b: written(frames.Lent(b.batch, [0], [0], [100])) + results(b),
    "pages back that were not lent": lambda _: written(frames.GivenBack([0])),
    "a value that was put": lambda _: written(frames.Put(1, 0, shared=False, lengths=[1], data=b"")),
    "a word that a value is over": lambda _: written(frames.Release(1)),
    "a turn after less than no time": lambda _: written(frames.Turned(7, -1.0)),
    "a turn after no number of seconds": lambda _: written(frames.Turned(7, NAN)),
}


@pytest.mark.parametrize("lie", FROM_A_WORKER.values(), ids=FROM_A_WORKER.keys())
def test_a_worker_that_says_what_cannot_be_is_the_only_one_lost(
    stage: Stage, lie: Lie, caplog: pytest.LogCaptureFixture
):
    """Its items run again elsewhere, its story says what was wrong with it, and the pool goes on."""
    stage.acts = [lambda _, batch: lie(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(5), batch=5).result(DEADLINE) == list(range(5))
        liar = stage.players[0]
        assert liar.killed
        assert "it sent what is not a frame (" in stage.proxies[0].why
        assert len(stage.players) == 2
        assert not stage.players[1].killed
        assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(20))
        assert not pool.closed
        assert not caplog.records
    finally:
        ended(pool)


AFTER_ITS_JOB: dict[str, Lie] = {
    "the same values twice": lambda b: results(b) + results(b),
    "a failure of an item that has a value": lambda b: results(b) + failed(b),
    "noise": lambda b: results(b) + b"this is not a frame, not at all",
}


@pytest.mark.parametrize("lie", AFTER_ITS_JOB.values(), ids=AFTER_ITS_JOB.keys())
def test_a_lie_after_the_last_value_does_not_take_the_job_with_it(
    stage: Stage, lie: Lie, caplog: pytest.LogCaptureFixture
):
    """The worker is lost, the values stand."""
    stage.acts = [lambda _, batch: lie(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(5), batch=5).result(DEADLINE) == list(range(5))
        until(lambda: stage.players[0].killed)
        assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(20))
        assert not caplog.records
    finally:
        ended(pool)


HARMLESS: dict[str, Lie] = {
    "that it is ready, again": lambda _: written(frames.Ready(1)),
    "that a job is held that was not cancelled": lambda b: written(frames.Held(b.job)),
    "that a job is held that there is not": lambda b: written(frames.Held(b.job + 7)),
    "that an item is late that has just ended": lambda _: written(frames.Overdue(1, NOT_HELD, 0)),
    "that it is there, unasked": lambda _: written(frames.Pong(7)),
    "that its loop has turned, unasked": lambda _: written(frames.Turned(7, 0.5)),
    "how far an item is that has just ended": lambda _: written(frames.Reported(7, NOT_HELD, 7, NAN, b"\xff")),
    "stacks, unasked": lambda _: written(frames.Stacks(7, b"{}")),
    "stacks, unasked, that cannot be read": lambda _: written(frames.Stacks(7, b"{"), frames.Stacks(7, b"\xff")),
    "a position later than any time": lambda b: written(frames.Pong(1, b.batch, (1 << 64) - 1, 1e300)),
}


@pytest.mark.parametrize("word", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_a_worker_may_say_too_late_harms_nobody(stage: Stage, word: Lie, caplog: pytest.LogCaptureFixture):
    """A frame that crosses another one on its way is no lie."""
    stage.acts = [lambda _, batch: word(batch) + honest(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(5), batch=5).result(DEADLINE) == list(range(5))
        assert not stage.players[0].killed
        pool.snapshot()
        assert not caplog.records
    finally:
        ended(pool)


def test_a_start_that_failed_of_something_unreadable_is_still_told(stage: Stage):
    """The worker could not be set up, and its error is no pickle."""
    stage.acts = [lambda *_: written(frames.StartFailed(b"no pickle"))]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(5), batch=5).result(DEADLINE) == list(range(5))
        assert stage.players[0].killed
    finally:
        ended(pool)


def test_values_that_do_not_fit_their_count_are_the_failures_of_those_items(stage: Stage):
    """What is in a pickle is seen where it is loaded, by who reads the job: the worker has gone on by then."""

    def too_few(_: Player, batch: frames.Batch) -> bytes:
        shared = _payload.dump_shared([1])
        return written(frames.Results(batch.job, batch.batch, range(5), [0.1] * 5, shared, ()))

    stage.acts = [too_few]
    pool = Pool(workers=1, engine="impostor")
    try:
        failures = pool.map(work.double, range(5), batch=5, on_error="return").result(DEADLINE)
        assert all("1 values came for 5 items" in str(failure.error) for failure in failures)
        assert pool.map(work.double, range(5)).result(DEADLINE) == list(range(5))
    finally:
        ended(pool)


def test_workers_that_go_mad_end_no_pool(stage: Stage, caplog: pytest.LogCaptureFixture):
    """Streams of right frames about right jobs, damaged: each costs its worker at most, and every job ends.

    Each goes mad and dies: a frame that was begun, and says that it is long, may swallow whatever else it says.
    """
    turn = 0

    def mad(player: Player, batch: frames.Batch) -> bytes:
        chance = random.Random(f"{SEED} {turn} {player.index}")  # Whichever of them comes first.
        stage.loop.call_later(0.002, player.kill)
        count = len(batch.items)
        sane = [
            written(frames.Reported(batch.job, batch.batch, 0, 0.5, b"half")),
            written(frames.Failed(batch.job, batch.batch, count - 1, 0.1, 1, -1.0, _payload.dump_error(ValueError()))),
            written(frames.Results(batch.job, batch.batch, range(count - 1), [0.1] * (count - 1), b"", ())),
            written(frames.Modules(b'[["/tmp/a.py", 1, 2]]')),
            written(frames.Pong(1, batch.batch, 0, 0.5)),
            written(frames.Overdue(batch.job, batch.batch, 0)),
            written(frames.Held(batch.job)),
            written(frames.Stacks(1, b"{}")),
        ]
        return streams.damaged(b"".join(chance.sample(sane, chance.randint(1, 4))), chance) + honest(batch)

    pool = Pool(workers=2, engine="impostor")
    try:
        for turn in range(max(300, STREAMS // 100)):  # noqa: B007  # it is said to whoever goes mad
            stage.acts = [mad, mad]
            job = pool.map(work.double, range(6), batch=3, on_error="return", retries=1, backoff=0)
            until(job.done, what="the job has ended")
            # Those that behaved are dismissed: the next ones are mad.
            for player in stage.players:
                stage.loop.call_soon_threadsafe(player.kill)
            stage.players.clear()
            stage.proxies.clear()
        assert not pool.closed
        stage.acts = []  # The last job may have ended before its second worker began.
        assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(20))
        assert not caplog.records
    finally:
        ended(pool)


@pytest.mark.parametrize(
    "data", [b"{", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"stacks": [1], "frames": [], "threads": []}']
)
def test_a_worker_that_says_nonsense_when_it_is_asked_for_stacks_is_the_only_one_lost(stage: Stage, data: bytes):
    """Whoever asked is told what the others said; the items of the liar run again."""
    stage.acts = [lambda *_: b""]
    pool = Pool(workers=1, engine="impostor")
    try:
        job = pool.map(work.double, range(5), batch=5)
        until(lambda: stage.players and stage.players[0].batches)
        with ThreadPoolExecutor(1) as asking:
            stacks = asking.submit(job.stacks)
            until(lambda: pool._driver.inquiry._questions, what="the question was put")
            (number,) = pool._driver.inquiry._questions
            answer = memoryview(written(frames.Stacks(number, data)))
            stage.loop.call_soon_threadsafe(stage.proxies[0].received, answer)
            assert len(stacks.result(DEADLINE)) == 0
        assert job.result(DEADLINE) == list(range(5))
        assert stage.players[0].killed
        assert "it does not say where its items stand" in stage.proxies[0].why
    finally:
        ended(pool)


# --- a frame that says what cannot be, to a worker --------------------------------------------------------------------

NO_VALUES = _payload.dump_shared([])
TO_A_WORKER: dict[str, tuple[Callable[[int], bytes], str]] = {
    "noise": (lambda _: b"this is not a frame, not at all", "a frame begins with"),
    "a kind that only workers send": (lambda _: written(frames.Ready(1)), "a pool does not send Ready"),
    "a batch of a job that there is not": (
        lambda job: written(frames.Batch(job + 7, 1, 1, 1, range(1), NO_VALUES, ())),
        "which is not known here",
    ),
    "a batch of 1e12 items without their values": (
        lambda job: written(frames.Batch(job, NOT_HELD, 1, 1, range(10**12), NO_VALUES, ())),
        "0 values came for 1000000000000 items",
    ),
    "a batch with too few values": (
        lambda job: written(frames.Batch(job, NOT_HELD, 1, 1, range(2), NO_VALUES, (None, b"x"))),
        "0 values came for 1 items",
    ),
    "settings that are no JSON": (lambda _: written(frames.Function(1000, 0, b"{", b"")), "cannot be read"),
    "settings that are no text": (lambda _: written(frames.Function(1000, 0, b"\xff", b"")), "cannot be read"),
    "an environment that is no JSON": (lambda _: written(frames.Environment(b"{")), "JSONDecodeError"),
}


@pytest.mark.parametrize(("lie", "told"), TO_A_WORKER.values(), ids=TO_A_WORKER.keys())
def test_a_worker_that_is_told_what_cannot_be_ends_and_says_so(
    pool: Pool, board: Board, lie: Callable[[int], bytes], told: str
):
    """At once, in no memory to speak of; its item's error has the words, and the other worker's item its value."""

    async def item(x: int) -> int:
        board.mark("started", x)
        await board.wait_async("go")
        return x

    rested(pool)
    job = pool.map(item, range(2), on_error="return", rerun_lost=False)
    board.wait("started", 2)
    driver = pool._driver

    def tell() -> int:
        victim = next(iter(driver._workers.values()))
        victim.link.send([lie(job.id)])
        return victim.index

    index = driver._io.ask(tell)
    until(lambda: job.snapshot().failed, what="the worker that was lied to is lost")
    board.mark("go")
    lost, value = sorted(job.result(DEADLINE), key=lambda end: isinstance(end, int))
    assert isinstance(lost.error, WorkerLost)
    assert told in str(lost.error), index
    assert value in (0, 1)
    still_works(pool)


def vandalise(what: str, board: Board) -> None:
    """Write to the worker's own way to the pool. Runs in a worker."""
    import fcntl
    import stat

    from aiopool._core import frames as kinds
    from aiopool._core import wire as bytes_of

    frame: kinds.Frame = kinds.Results(1, 1, range(1), [0.1], b"", ())
    match what.split():
        case ["garbage"]:
            data = os.urandom(3000)
        case ["half", *_]:
            frame = kinds.StartFailed(bytes(100_000))
            data = b"".join(bytes(part) for part in bytes_of.encode(frame))[:50_000]
        case ["header", *_]:
            data = bytes_of.HEADER.pack(bytes_of.MAGIC, bytes_of.VERSION, kinds.Results.kind, 1 << 40)
        case _:
            job, batch = map(int, board.wait("theirs")[0].split())
            frame = kinds.Results(job, batch, range(1), [0.1], pickle.dumps(["forged"]), ())
            data = b"".join(bytes(part) for part in bytes_of.encode(frame))
    for fd in range(3, 2048):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                os.write(fd, data)
        except OSError:
            continue
    if "dies" in what:
        os._exit(1)


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("garbage", "not a frame"),
        ("half a frame, and dies", "exited with code 1"),
        ("header of a tebibyte, and dies", "exited with code 1"),
        ("frame of another worker's batch", "which it does not hold"),
    ],
)
def test_an_item_that_writes_on_its_workers_pipe_is_the_only_one_lost(
    pool: Pool, board: Board, what: str, told: str, kind: str
):
    """Real processes: the other worker's item gets its own value, not the forged one."""

    def item(x: int) -> object:
        board.mark("started", x)
        if x == 0:
            vandalise(what, board)
            board.wait("never", seconds=3600)
        return board.wait("go") and x

    async def item_later(x: int) -> object:
        board.mark("started", x)
        if x == 0:
            vandalise(what, board)
            await board.wait_async("never", seconds=3600)
        return await board.wait_async("go") and x

    rested(pool)
    driver = pool._driver
    job = pool.map(item if kind == "def" else item_later, range(2), on_error="return", rerun_lost=False, batch=1)
    board.wait("started", 2)

    def theirs() -> str:
        books = driver._ledger.workers.values()
        return next(f"{job.id} {batch.id}" for book in books for batch in book.batches.values() if 1 in batch.items)

    board.mark("theirs", driver._io.ask(theirs))
    until(lambda: job.snapshot().failed, what="the vandal is lost")
    board.mark("go")
    lost, value = job.result(DEADLINE)
    assert isinstance(lost.error, WorkerLost)
    assert told in str(lost.error)
    assert value == 1
    still_works(pool)
