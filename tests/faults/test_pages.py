"""Shared pages and a worker that says of them what cannot be: to look where it points would end this process."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

import pytest

from aiopool import Pool, _payload
from aiopool._core import frames
from aiopool._payload import files
from aiopool._payload.ranges import PAGE
from tests.faults.impostor import Player, Stage, honest, stage
from tests.faults.streams import written
from tests.pool import work
from tests.pool.board import DEADLINE, until
from tests.pool.pools import ended

__all__ = ["stage"]

COUNT = 5


@pytest.fixture
def lender(stage: Stage) -> Iterator[Stage]:
    """Workers that have one file for results, of four pages, in which everything is an A."""
    stage.results = files.anonymous("test")
    os.pwrite(stage.results, b"A" * 4 * PAGE, 0)
    yield stage
    os.close(stage.results)


def answer(batch: frames.Batch, *, table: tuple[int, ...] | bytes = (10,), plain: bool = False) -> bytes:
    """Five values, each of one buffer of ten bytes, and a pickle of that."""
    head = table if isinstance(table, bytes) else struct.pack(f"<I{len(table)}Q", len(table), *table)
    pickled = b"\x80\x05\x97."  # The next buffer, and that is all.
    blobs = [None if plain else head + pickled] * COUNT
    shared = _payload.dump_shared([0] * COUNT) if plain else b""
    return written(frames.Results(batch.job, batch.batch, range(COUNT), [0.001] * COUNT, shared, blobs))


def lent(
    batch: frames.Batch, *, places: object = range(COUNT), offsets: object = None, lengths: object = None
) -> bytes:
    """Each of the five in the first page, but for what is given."""
    return written(
        frames.Lent(
            batch.batch,
            places,  # type: ignore[arg-type]
            [0] * COUNT if offsets is None else offsets,  # type: ignore[arg-type]
            [64] * COUNT if lengths is None else lengths,  # type: ignore[arg-type]
        )
    )


def test_what_a_worker_lends_is_what_its_job_gets(lender: Stage):
    """An honest one, played: so what is wrong below is what is said to be."""
    lender.acts = [lambda _, batch: lent(batch) + answer(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        values = pool.map(work.double, range(COUNT), batch=COUNT).result(DEADLINE)
        assert [bytes(value) for value in values] == [b"A" * 10] * COUNT
        back: list[frames.GivenBack] = lender.players[0].back
        values.clear()
        pool.map(work.double, range(COUNT), batch=COUNT).result(DEADLINE)
        until(lambda: sum(len(frame.offsets) for frame in back) == COUNT, what="all five have come back")
    finally:
        ended(pool)


LIES: dict[str, Callable[[frames.Batch], bytes]] = {
    "beyond the end": lambda b: lent(b, offsets=[4 * PAGE] * COUNT),
    "far beyond the end": lambda b: lent(b, offsets=[1 << 62] * COUNT),
    "where no number of the system reaches": lambda b: lent(b, offsets=[((1 << 64) - 1) // PAGE * PAGE] * COUNT),
    "across the end": lambda b: lent(b, offsets=[3 * PAGE] * COUNT, lengths=[PAGE + 1] * COUNT),
    "longer than any memory": lambda b: lent(b, lengths=[(1 << 64) - 1] * COUNT),
    "of no length": lambda b: lent(b, lengths=[0] * COUNT),
    "between two pages": lambda b: lent(b, offsets=[100] * COUNT),
    "of a value that there is not": lambda b: lent(b, places=[0, 1, 2, 3, COUNT]) + answer(b),
    "of a value far away": lambda b: lent(b, places=[0, 1, 2, 3, (1 << 64) - 1]) + answer(b),
    "of a plain value": lambda b: lent(b) + answer(b, plain=True),
    "of one value twice": lambda b: lent(b, places=[0, 0, 1, 2, 3]) + answer(b),
    "of another batch": lambda b: written(frames.Lent(b.batch + 1, range(1), [0], [64])) + answer(b),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_worker_that_lends_pages_that_cannot_be_is_the_only_one_lost(
    lender: Stage, lie: Callable[[frames.Batch], bytes], caplog: pytest.LogCaptureFixture
):
    """Its items run again elsewhere, and nothing was looked at."""
    lender.acts = [lambda _, batch: lie(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(COUNT), batch=COUNT).result(DEADLINE) == list(range(COUNT))
        assert lender.players[0].killed
        assert "it sent what is not a frame (" in lender.proxies[0].why
        assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(20))
        assert not caplog.records
    finally:
        ended(pool)


TABLES = {
    "is not there": b"",
    "is cut off": struct.pack("<I", 1 << 30),
    "is longer than its pages": (65,),
    "is far longer than its pages": ((1 << 64) - 1,),
    "has too few buffers": (),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_table_that_does_not_fit_is_the_failure_of_its_item(lender: Stage, table: tuple[int, ...] | bytes):
    """It is seen where the value is loaded, by who reads the job."""
    lender.acts = [lambda _, batch: lent(batch) + answer(batch, table=table)]
    pool = Pool(workers=1, engine="impostor")
    try:
        found = pool.map(work.double, range(COUNT), batch=COUNT, on_error="return").result(DEADLINE)
        assert all("cannot be loaded here" in "".join(failure.error.__notes__) for failure in found)
        assert pool.map(work.double, range(20)).result(DEADLINE) == list(range(20))
    finally:
        ended(pool)


def test_pages_that_are_lent_before_a_death_are_nobodys(lender: Stage):
    """What they belong to never came."""

    def die(player: Player, batch: frames.Batch) -> bytes:
        lender.loop.call_soon(player.kill)
        return lent(batch)

    lender.acts = [die, lambda _, batch: honest(batch)]
    pool = Pool(workers=1, engine="impostor")
    try:
        assert pool.map(work.double, range(COUNT), batch=COUNT).result(DEADLINE) == list(range(COUNT))
    finally:
        ended(pool)
