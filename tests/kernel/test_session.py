"""A session in one kernel: the shared pool and its defaults, other pools beside it, and what users do to a kernel."""

from __future__ import annotations

import importlib.util

import psutil
import pytest

from tests.kernel.harness import HELD, Kernel, Signs, gone

pytestmark = pytest.mark.kernel


@pytest.mark.core
def test_the_session_knows_its_jobs(kernel: Kernel, signs: Signs) -> None:
    """The last one, every running one, the last that failed or was stopped; finished ones are let go."""
    kernel.run(HELD)
    kernel.run("done = pmap(abs, range(3))\nawait done\nassert aiopool.last_job() is done")
    cell = kernel.run(
        """
        failed = pmap(lambda x: 1 / x, [0])
        await failed.wait(10)
        first, second = pmap(held, range(2)), pmap(held, range(2, 4))
        quick = pmap(abs, [-1])
        await quick
        right = [job is same for job, same in zip(aiopool.jobs(), [failed, first, second, quick], strict=True)]
        [aiopool.last_job() is quick, right]
        """
    )
    assert cell.value == [True, [True] * 4]
    signs.allow("go")
    assert kernel.value("[await first, await second]") == [[0, 1], [2, 3]]
    assert kernel.value("[job is same for job, same in zip(aiopool.jobs(), [failed, quick], strict=True)]") == [
        True,
        True,
    ]


def test_jobs_that_ended_while_a_cell_blocked_are_known_to_have_ended(kernel: Kernel) -> None:
    """Also in that cell itself, where the kernel's loop has not turned since."""
    cell = kernel.run(
        """
        assert pmap(abs, range(3)).result() == [0, 1, 2]
        failed = pmap(lambda x: 1 / x, [0])
        while not failed.done():
            time.sleep(0.005)
        last = pmap(abs, [1])
        last.result()
        [job is same for job, same in zip(aiopool.jobs(), [failed, last], strict=True)]
        """
    )
    assert cell.value == [True, True]


@pytest.mark.core
def test_configure_changes_the_shared_pool_that_runs(own_kernel: Kernel) -> None:
    """More workers, fewer, and the default concurrency; the pool stays the same."""
    own_kernel.run("def who(_):\n    time.sleep(0.05)\n    return os.getpid()\npool = aiopool.get_pool()")
    spread = "len(set(await pmap(who, range(12), batch=1)))"
    # A slow machine may have done them all before the last worker is up.
    own_kernel.until(lambda: own_kernel.value(spread) == 2, "work for two workers")
    two = own_kernel.workers()
    own_kernel.run("aiopool.configure(workers=3)")
    own_kernel.until(lambda: own_kernel.value(spread) == 3, "work for three workers")
    three = own_kernel.workers()
    assert set(two) < set(three)
    own_kernel.run("aiopool.configure(workers=1)")
    assert own_kernel.value(spread) == 1
    own_kernel.until(lambda: len(own_kernel.children()) == 1, "the end of two workers")
    assert set(own_kernel.workers()) < set(three)
    assert own_kernel.value("[aiopool.get_pool() is pool, pool.size]") == [True, 1]
    own_kernel.run(
        """
        now = most = 0
        async def count(x):
            global now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            return most
        aiopool.configure(concurrency=3)
        """
    )
    assert own_kernel.value("max(await pmap(count, range(20)))") == 3
    assert own_kernel.value("max(await pmap(count, range(20), concurrency=5))") == 5


def test_workers_are_given_before_the_first_job(own_kernel: Kernel) -> None:
    """``configure`` opens nothing by itself; the pool that is opened then has that size."""
    own_kernel.run("aiopool.configure(workers=3)")
    assert own_kernel.children() == []
    assert own_kernel.value("aiopool.get_pool().size") == 3
    assert own_kernel.children() == []
    assert own_kernel.value("await pmap(abs, [-1])") == [1]
    assert len(own_kernel.children()) == 1


@pytest.mark.core
def test_a_second_pool_works_beside_the_shared_one(kernel: Kernel) -> None:
    """Each has its own workers; both run at once; the end of one leaves the other alone."""
    kernel.run("def who(_):\n    time.sleep(0.02)\n    return os.getpid()")
    cell = kernel.run(
        """
        pool = Pool(workers=2, name="second")
        # On a slow machine one worker could have done it all before the next is up.
        await asyncio.gather(pool.broadcast(os.getpid), aiopool.get_pool().broadcast(os.getpid))
        mine, shared = await asyncio.gather(pool.map(who, range(8), batch=1), pmap(who, range(8), batch=1))
        [len(set(mine)), len(set(shared)), set(mine) & set(shared)]
        """
    )
    assert cell.value == [2, 2, set()]
    second = [psutil.Process(pid) for pid in kernel.value("set(mine)")]
    kernel.run("pool.close()\npool.join(10)")
    gone(second)
    failed = kernel.fail("pool.map(who, [1])")
    assert failed.error is not None
    assert failed.error["ename"] == "PoolClosed"
    assert kernel.value("set(await pmap(who, range(4), batch=1)) <= set(shared)") is True


@pytest.mark.core
@pytest.mark.parametrize(
    "source",
    [
        "async with Pool(workers=2) as pool:\n    got = await pool.map(work, range(6))",
        "async with Pool(workers=2) as pool:\n    job = pool.map(work, range(6))\ngot = await job",
        "with Pool(workers=2) as pool:\n    got = pool.map(work, range(6)).result()",
        "with Pool(workers=2) as pool:\n    job = pool.map(work, range(6))\ngot = job.result()",
        "with Pool(workers=2) as pool:\n    got = await pool.map(work, range(6))",
    ],
    ids=["async with", "async with, left early", "with", "with, left early", "with, awaited"],
)
def test_a_pool_of_one_cell_ends_with_it(kernel: Kernel, source: str) -> None:
    """Leaving waits for the jobs; the results are there, the processes are not."""
    before = {child.pid for child in kernel.children()}
    kernel.run("async def work(x):\n    await asyncio.sleep(0.02)\n    return x * 2")
    assert kernel.value(f"{source}\n[got, pool.closed]") == [[0, 2, 4, 6, 8, 10], True]
    gone(child for child in kernel.children() if child.pid not in before)


def test_an_exception_in_with_pool_ends_it_at_once(kernel: Kernel, signs: Signs) -> None:
    """The exception goes on; what still ran is cancelled."""
    before = {child.pid for child in kernel.children()}
    kernel.run("async def stays(x):\n    sign(x)\n    await asyncio.sleep(3600)")
    for keyword in ("with", "async with"):
        failed = kernel.fail(
            f"""
            {keyword} Pool(workers=1) as pool:
                job = pool.map(stays, range({len(signs.names())}, {len(signs.names()) + 1}))
                raise LookupError("mine")
            """
        )
        assert failed.error is not None
        assert failed.error["ename"] == "LookupError"
        assert kernel.value("await job.wait(10)\njob.snapshot().state") == "cancelled"
        gone(child for child in kernel.children() if child.pid not in before)


def test_closing_the_shared_pool_opens_another_one(own_kernel: Kernel) -> None:
    """``pmap`` always finds a pool."""
    assert own_kernel.value("await pmap(abs, [-1])") == [1]
    first = own_kernel.children()
    own_kernel.run("aiopool.get_pool().close()")
    assert own_kernel.value("await pmap(abs, [-2])") == [2]
    gone(first)
    # What looked for children of the first one's items may not have ended yet.
    own_kernel.until(lambda: len(own_kernel.children()) == 1, "one worker, and nobody else")
    own_kernel.run("aiopool.get_pool().terminate()")
    assert own_kernel.value("await pmap(abs, [-3])") == [3]


@pytest.mark.parametrize(
    "start",
    [
        "threading.Thread(target=start).start()",
        "await asyncio.to_thread(start)",
        "asyncio.get_running_loop().call_later(0.1, start)",
        "asyncio.get_running_loop().run_in_executor(None, start)",
    ],
    ids=["a thread", "to_thread", "a callback after the cell", "an executor"],
)
def test_a_job_may_be_started_from_anywhere(kernel: Kernel, start: str) -> None:
    """In a thread, on the loop when no cell runs: it runs, prints and shows its line without a complaint."""
    kernel.run(
        """
        started = []
        async def chatty(x):
            print("hello", x)
            await asyncio.sleep(2.5)
            return x
        def start():
            started.append(pmap(chatty, range(3)))
        """
    )
    began = kernel.run(f"_ = {start}" if not start.startswith("await") else start)
    cell = kernel.run(
        """
        while not started:
            await asyncio.sleep(0.01)
        await started[0]
        """
    )
    assert cell.value == [0, 1, 2]
    text = began.printed() + cell.printed()
    assert sorted(text.splitlines()) == [f"[item {x}] hello {x}" for x in range(3)]
    assert began.printed("stderr") + cell.printed("stderr") == ""
    assert len(began.panels + cell.panels) == 1


def test_loading_the_extension_again_changes_nothing(kernel: Kernel) -> None:
    """``%load_ext aiopool`` after ``import aiopool``: prints come once, panels too."""
    kernel.run("%load_ext aiopool\n%reload_ext aiopool")
    kernel.run("async def chatty(x):\n    print('hello')\n    await asyncio.sleep(2.5)")
    cell = kernel.run("_ = await pmap(chatty, [1])")
    assert cell.printed() == "[item 0] hello\n"
    assert len(cell.panels) == 1


NESTED = ["nest_asyncio2"] + (["nest_asyncio"] if importlib.util.find_spec("nest_asyncio") else [])


@pytest.mark.core
@pytest.mark.parametrize("patch", NESTED)
def test_a_kernel_whose_loop_was_patched_still_works(own_kernel: Kernel, patch: str) -> None:
    """The user's own code may have applied it: awaits, blocking calls, nested runs and Stop work as before."""
    own_kernel.run(
        f"""
        import {patch}
        {patch}.apply()
        async def late(x):
            await asyncio.sleep(0.05)
            return x * 2
        async def main():
            return await pmap(late, range(3))
        async def hold(x):
            print("here")
            await asyncio.sleep(3600)
        """
    )
    assert own_kernel.value("await pmap(late, range(3))") == [0, 2, 4]
    assert own_kernel.value("pmap(late, range(3)).result()") == [0, 2, 4]
    assert own_kernel.value("[x async for x in pmap(late, range(3))]") == [0, 2, 4]
    assert own_kernel.value("asyncio.get_event_loop().run_until_complete(main())") == [0, 2, 4]
    assert own_kernel.value("asyncio.run(main())") == [0, 2, 4]
    cell = own_kernel.begin("await pmap(hold, [1])")
    cell.wait_for(lambda cell: "here" in cell.printed(), "the print of the item")
    own_kernel.interrupt()
    assert cell.finish().error is not None
    assert cell.error is not None
    assert cell.error["ename"] == "CancelledError"
    assert own_kernel.value("await pmap(late, range(3))") == [0, 2, 4]
