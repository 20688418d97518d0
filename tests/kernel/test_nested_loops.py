"""A kernel in which the user has applied nest_asyncio or its successor, as many old notebooks do, works as without."""

from __future__ import annotations

import pytest

from tests.kernel.harness import Kernel, Signs

pytestmark = pytest.mark.kernel

WORK = """
async def later(x):
    await asyncio.sleep(0.01)
    return x * 2
def now(x):
    time.sleep(0.01)
    return x * 3
async def stays(x):
    sign(x)
    await asyncio.sleep(3600)
"""


@pytest.fixture(params=["nest_asyncio", "nest_asyncio2"])
def nested(request: pytest.FixtureRequest, own_kernel: Kernel) -> Kernel:
    """A kernel whose loop may be run inside itself."""
    own_kernel.run(f"import {request.param}\n{request.param}.apply()\n{WORK}")
    return own_kernel


@pytest.mark.core
def test_jobs_are_awaited_and_iterated(nested: Kernel) -> None:
    """One, two at a time, and by ``async for``."""
    assert nested.value("await pmap(later, range(5))") == [0, 2, 4, 6, 8]
    assert nested.value("await asyncio.gather(pmap(later, range(3)), pmap(now, range(3)))") == [[0, 2, 4], [0, 3, 6]]
    assert nested.value("[x async for x in pmap(later, range(5))]") == [0, 2, 4, 6, 8]
    assert nested.value("sorted([x async for _, x in pmap(later, range(5)).as_completed()])") == [0, 2, 4, 6, 8]


@pytest.mark.core
def test_a_coroutine_may_block_for_a_result(nested: Kernel) -> None:
    """With ``result()``, and through a nested run of the kernel's loop."""
    nested.run("async def cell():\n    return pmap(later, range(3)).result(10)")
    assert nested.value("await cell()") == [0, 2, 4]
    nested.run("async def whole():\n    return await pmap(later, range(3))")
    assert nested.value("asyncio.get_event_loop().run_until_complete(whole())") == [0, 2, 4]
    assert nested.value("asyncio.run(whole())") == [0, 2, 4]
    assert nested.value("[x for x in pmap(later, range(3))]") == [0, 2, 4]


@pytest.mark.core
@pytest.mark.parametrize(
    ("waits", "error"),
    [("await pmap(stays, range(9))", "CancelledError"), ("pmap(stays, range(9)).result()", "JobStopped")],
)
def test_stop_works(nested: Kernel, tmp_path, waits: str, error: str) -> None:
    """The prompt is back, the workers live, and the next cell finds them free."""
    signs = Signs(nested, tmp_path / "signs")
    nested.run("await pmap(now, range(2), batch=1)")
    workers = nested.workers()
    cell = nested.begin(waits)
    signs.wait_for(2)
    nested.interrupt()
    cell.finish(10)
    assert cell.error is not None
    assert cell.error["ename"] == error
    assert nested.value("await pmap(later, range(3))") == [0, 2, 4]
    assert set(nested.workers()) >= set(workers)


@pytest.mark.core
def test_coroutines_nest_in_workers_when_they_may(nested: Kernel) -> None:
    """``configure(nested_loops=True)``, whatever the kernel has applied; without it, it is Python's own error."""
    nested.run("async def nests(x):\n    return asyncio.run(later(x))")
    assert "asyncio.run() cannot be called" in nested.fail("await pmap(nests, range(3))").traceback
    nested.run("aiopool.configure(nested_loops=True)")
    assert nested.value("await pmap(nests, range(3))") == [0, 2, 4]
