"""``job.stacks()`` in a notebook: the lines of cells, as tracebacks name them, while the job runs in the background."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Kernel, Signs

pytestmark = pytest.mark.kernel


@pytest.mark.core
def test_stacks_name_cells_and_their_lines(kernel: Kernel, signs: Signs) -> None:
    """A coroutine and a ``def`` of cells, one after another, each at its line with its source, nothing of ours."""
    kernel.run("async def fetch(x):\n    sign(x)\n    await asyncio.sleep(100)  # here")
    helper = kernel.run("async def helper(x):\n    return await fetch(x)")
    fetch = helper.number - 1
    kernel.run("_ = await aiopool.get_pool().broadcast(os.getpid)\njob = pmap(helper, range(30))")
    signs.wait_for(30)
    # An item signs before it waits; and one that gets no processor does not answer.
    asked = "while len(stacks := job.stacks()) != 1 or 'line {}' not in stacks or 'no answer' in stacks: pass\n"
    shown = kernel.run(asked.format(3) + "print(stacks)").printed()
    assert re.match(
        r"helper: 1 stack\n30 items \(0, 1, 2 and 27 more\), workers 0 and 1, for [^:]+, wait:\n"
        rf"    Cell In\[{helper.number}\], line 2, in helper\n      return await fetch\(x\)\n"
        rf"    Cell In\[{fetch}\], line 3, in fetch\n      await asyncio.sleep\(100\)  # here\n",
        shown,
    ), shown
    assert "aiopool" not in shown
    kernel.run("job.cancel()")

    crunch = kernel.run('def crunch(x):\n    sign(f"d{x}")\n    while True:\n        time.sleep(0.01)')
    kernel.run("job = pmap(crunch, ['only'])")
    signs.wait_for(31)
    out = kernel.run(asked.format(4) + "stacks").output
    assert out is not None
    assert re.match(
        r"crunch: 1 stack\nitem 0 \('only'\), worker [01] \(pid \d+\), for [^:]+, runs:\n"
        rf"    Cell In\[{crunch.number}\], line 4, in crunch\n      time.sleep\(0.01\)",
        out,
    ), out
    kernel.run("job.cancel()")


def test_stacks_of_a_held_gil_name_cells(kernel: Kernel, signs: Signs) -> None:
    """Though faulthandler, which writes them then, knows neither cells nor source."""
    power = kernel.run("def power(x):\n    sign(x)\n    return 3 ** 10**8")
    kernel.run("job = pmap(power, [1])")
    signs.wait_for(1)
    # It may be asked before its line has begun.
    shown = kernel.run("while 'GIL' not in (stacks := job.stacks()): pass\nprint(stacks)").printed()
    assert re.match(
        r"power: 1 stack\nitem 0 \(1\), worker [01] \(pid \d+\)(, for [^:]+)?, runs:\n"
        r"    \(no answer: something in the worker holds the GIL\)\n"
        rf"    Cell In\[{power.number}\], line 3, in power\n      return 3 \*\* 10\*\*8\n",
        shown,
    ), shown
    shown = kernel.run("print(aiopool.get_pool().workers[int(stacks[0].workers[0])].stack())").printed()
    assert "item 0 of power, for" in shown or "item 0 of power, runs" in shown
    assert f"Cell In[{power.number}], line 3, in power" in shown
    kernel.run("job.cancel()")


def test_stacks_can_be_asked_while_a_cell_awaits_the_job(kernel: Kernel, signs: Signs) -> None:
    """By a task of the kernel's loop, which goes on after it; the job too."""
    cell = kernel.begin(
        """
        async def slow(x):
            sign(x)
            while "go" not in signed():
                await asyncio.sleep(0.01)
            return x
        async def look():
            await asyncio.sleep(0)
            while "in slow" not in (stacks := job.stacks()) or "no answer" in stacks or len(signed()) < 3:
                await asyncio.sleep(0.01)
            told.append(stacks[0].state)
            sign("go")
        told = []
        job = pmap(slow, range(3))
        looking = asyncio.create_task(look())
        [await job, told]
        """
    )
    values, (state,) = cell.finish().value
    assert values == [0, 1, 2]
    assert state in {"waiting", "running"}
