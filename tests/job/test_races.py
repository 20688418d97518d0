"""Many readers of many jobs at once, while the results come: nobody misses one, and nobody waits for ever."""

from __future__ import annotations

import asyncio
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
