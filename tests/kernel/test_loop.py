"""The kernel's loop stays free, and a kernel that is busy starves nobody."""

from __future__ import annotations

import pytest

from tests.kernel.harness import Kernel, Signs

pytestmark = pytest.mark.kernel

TICKER = """
async def while_ticking(awaitable):
    # For how long the loop was kept from ticking at most, in its thread's own time: others use the machine, too.
    gaps, last = [], time.thread_time()
    async def tick():
        nonlocal last
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            gaps.append(now - last)
            last = now
    ticker = asyncio.create_task(tick())
    try:
        return await awaitable, len(gaps), max(gaps)
    finally:
        ticker.cancel()
"""


@pytest.mark.core
@pytest.mark.parametrize("how", ["awaited", "its result() blocks another thread"])
def test_a_task_in_the_kernel_ticks_while_a_job_runs(kernel: Kernel, how: str) -> None:
    """Nothing of a job's work is done on the kernel's loop: thousands of items, results with something to load."""
    kernel.run(
        TICKER
        + """
async def fetch(x):
    await asyncio.sleep(0.3)
    return {"x": x, "body": "b" * 100}
"""
    )
    awaitable = {"awaited": "job", "its result() blocks another thread": "asyncio.to_thread(job.result)"}[how]
    kernel.run(
        f"job = pmap(fetch, range(3000), concurrency=1000)\npages, ticks, longest = await while_ticking({awaitable})"
    )
    right, ticks, longest = kernel.value('[[page["x"] for page in pages] == list(range(3000)), ticks, longest]')
    assert right
    assert ticks > 20
    assert longest < 0.25


@pytest.mark.parametrize(
    "blocking", ["time.sleep(0.005)", "sum(range(1000))"], ids=["in time.sleep", "in a Python loop"]
)
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_job_runs_on_while_the_next_cell_blocks(kernel: Kernel, signs: Signs, kind: str, blocking: str) -> None:
    """Started in one cell, it is done when the next one has blocked the kernel's loop long enough."""
    kernel.run(
        f"""
        {kind} work(x):
            time.sleep(0.01)
            sign(x)
            return x
        job = pmap(work, range(20))
        """
    )
    kernel.run(
        f"""
        end = time.monotonic() + 30
        while len(signed()) < 20:
            {blocking}
            assert time.monotonic() < end, signed()
        while not job.done():
            {blocking}
            assert time.monotonic() < end, job
        """
    )
    assert kernel.value("job.result()") == list(range(20))


def test_a_blocking_wait_inside_the_running_loop_ends(kernel: Kernel) -> None:
    """``.result()`` and ``for`` in a coroutine, in a callback, in a sync function that a coroutine calls."""
    kernel.run(
        """
        async def late(x):
            await asyncio.sleep(0.01)
            return x
        async def coroutine():
            return pmap(late, range(3)).result()
        def read():
            return [x for x in pmap(late, range(3))]
        async def caller():
            return read()
        called = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: called.set_result(sorted(pmap(late, range(3)).as_completed())))
        """
    )
    assert (
        kernel.value("[await coroutine(), await asyncio.create_task(caller()), [x for _, x in await called]]")
        == [[0, 1, 2]] * 3
    )


@pytest.mark.core
def test_a_job_of_one_cell_is_awaited_in_another(kernel: Kernel) -> None:
    """Whichever cell awaits it, at once or when it has long been done."""
    kernel.run(
        """
        async def late(x):
            await asyncio.sleep(0.1)
            return x
        job = pmap(late, range(4))
        """
    )
    assert kernel.value("await job") == [0, 1, 2, 3]


@pytest.mark.core
def test_a_job_is_awaited_twice(kernel: Kernel) -> None:
    """Each value is loaded once: both cells get the same objects, in lists of their own."""
    kernel.run("job = pmap(lambda x: [x], range(3))\nfirst = await job")
    assert kernel.value(
        """
        second = await job
        [first == second == [[0], [1], [2]], first is not second, all(a is b for a, b in zip(first, second))]
        """
    ) == [True, True, True]


def test_several_jobs_are_awaited_at_once(kernel: Kernel) -> None:
    """With gather, a TaskGroup, or as tasks: each gets its own results."""
    kernel.run(
        """
        async def slow(x):
            await asyncio.sleep(0.05)
            return x
        def square(x):
            return x * x
        """
    )
    cell = kernel.run(
        """
        async def one(n):
            return await pmap(slow, range(n))
        gathered = await asyncio.gather(pmap(slow, range(3)), pmap(square, range(3)), one(2), pmap(slow, []))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n)) for n in range(4)]
        [gathered, [task.result() for task in tasks]]
        """
    )
    assert cell.value == [[[0, 1, 2], [0, 1, 4], [0, 1], []], [list(range(n)) for n in range(4)]]


def test_one_failing_job_of_a_gather_leaves_the_others_alone(kernel: Kernel) -> None:
    """Its error is raised where it is awaited; the others end as they would."""
    kernel.run(
        """
        async def work(x):
            if x < 0:
                raise ValueError("negative")
            await asyncio.sleep(0.05)
            return x
        good, bad = pmap(work, range(3)), pmap(work, [-1])
        """
    )
    failed = kernel.fail("await asyncio.gather(good, bad)")
    assert failed.error is not None
    assert failed.error["ename"] == "ValueError"
    assert kernel.value("await good") == [0, 1, 2]


@pytest.mark.core
def test_a_job_is_read_while_it_runs(kernel: Kernel, signs: Signs) -> None:
    """``async for`` hands out a result as soon as it is there, while later items still run."""
    kernel.run(
        """
        async def in_turn(x):
            while not os.path.exists(os.path.join(SIGNS, str(x))):
                await asyncio.sleep(0.005)
            return x
        """
    )
    cell = kernel.begin(
        """
        read = []
        sign(0)
        async for x in pmap(in_turn, range(5)):
            read.append(x)
            print("read", x)
            if x < 4:
                sign(x + 1)
        read
        """
    ).finish()
    assert cell.error is None, cell.traceback
    assert cell.value == [0, 1, 2, 3, 4]
    reading = """
    read = [(index, x) async for index, x in pmap(in_turn, range(4)).as_completed()]
    sorted(read)
    """
    assert kernel.value(reading) == [(x, x) for x in range(4)]
