"""Many readers of many jobs at once, while the results come: nobody misses one, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.job.driver import DEADLINE, Driver

SIZE = 20
ROUNDS = 150


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


async def _awaited(job: Any) -> list[Any]:
    return [*await job]


async def _iterated(job: Any) -> list[Any]:
    return [value async for value in job]


async def _completed(job: Any) -> list[Any]:
    return [value async for _, value in job.as_completed()]


def _play(driver: Driver, order: list[int], pauses: list[int]) -> None:
    for index, pause in zip(order, pauses, strict=True):
        for _ in range(pause):
            pass
        driver.deliver([index])
    driver.end()


async def _one_round(chance: random.Random) -> None:
    expected = [index * index for index in range(SIZE)]
    got: list[list[Any]] = []
    with Driver(SIZE) as driver:
        order = chance.sample(range(SIZE), SIZE)
        pauses = [chance.randrange(300) for _ in order]
        in_order, completed = iter(driver.job), driver.job.as_completed()
        coroutines = [asyncio.create_task(read(driver.job)) for read in (_awaited, _iterated, _completed)]
        threads = [
            threading.Thread(target=lambda: got.append(driver.job.result(DEADLINE))),
            threading.Thread(target=lambda: got.append(list(in_order))),
            threading.Thread(target=lambda: got.append([value for _, value in completed])),
            threading.Thread(target=_play, args=(driver, order, pauses)),
        ]
        # All start at the beginning: a loop that starts later would go on where another one stands.
        await asyncio.sleep(0)
        for thread in threads:
            thread.start()
        async with asyncio.timeout(DEADLINE):
            got += await asyncio.gather(*coroutines)
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE)
    assert len(got) == 6
    assert all(sorted(values) == expected for values in got)
    assert sum(values == expected for values in got) >= 4


@pytest.mark.usefixtures("_hasty")
async def test_nobody_misses_a_result_or_the_end() -> None:
    """Three coroutines and three threads read each job in every way, from its first result to its end."""
    chance = random.Random(7)
    for _ in range(ROUNDS):
        await _one_round(chance)


@pytest.mark.parametrize("read", ["look", "arrival"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["done", None])
def test_what_another_reader_loads_right_after_a_look_is_seen(
    read: str, nth: int, how: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look found nothing, and then somebody else loaded the rest: that is neither the end nor a reason to wait."""
    monkeypatch.setattr("aiopool.readers.SLICE", 0.0)
    with Driver(3) as driver:
        for index in (2, 1, 0):
            driver.deliver([index])
        if how is not None:
            driver.end(how)
        driver.flush()
        original, looks = getattr(driver.results, read), itertools.count(1)

        def then_loaded(number: int) -> Any:
            found = original(number)
            if next(looks) == nth:
                driver.results.load()
            return found

        monkeypatch.setattr(driver.results, read, then_loaded)
        reader: Any = driver.job.as_completed() if read == "arrival" else iter(driver.job)
        driver.needs.add(threading.get_ident())  # Where it would wait, it raises.
        assert [next(reader) for _ in range(3)] == ([(2, 4), (1, 1), (0, 0)] if read == "arrival" else [0, 1, 4])
        driver.end()
