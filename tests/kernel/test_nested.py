"""A map inside a function: tried by hand in a cell first, then run over many in workers."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Kernel, Signs
from tests.kernel.test_errors import assert_only_cells, frames_of, marked_lines

pytestmark = pytest.mark.kernel

FETCH = """
class Client:
    # Cannot be pickled, as clients are.
    def __init__(self):
        self.lock = threading.Lock()
    async def get(self, url):
        await asyncio.sleep(0.01)
        return f"{url}!", os.getpid()
async def fetch(site):
    client = Client()
    pages = await pmap(lambda page: client.get(f"{site}/{page}"), range(3))
    return [text for text, _ in pages], {pid for _, pid in pages} == {os.getpid()}
"""


@pytest.mark.core
def test_a_function_of_a_cell_that_maps_inside_maps_in_workers(kernel: Kernel) -> None:
    """Over a live client that could not travel: the map inside needs no pickling."""
    kernel.run(FETCH)
    expected = [([f"{site}/{page}!" for page in range(3)], True) for site in "abc"]
    assert kernel.value("await pmap(fetch, 'a b c'.split())") == expected


@pytest.mark.core
def test_a_function_that_maps_inside_can_be_tried_first(kernel: Kernel) -> None:
    """``await f(xs[0])`` in a cell, where its map runs on the shared pool, then ``await pmap(f, xs)``."""
    kernel.run(
        """
        async def parse(page):
            await asyncio.sleep(0)
            return len(page), aiopool.current_item().index
        async def crawl(site):
            return await pmap(parse, [site * n for n in range(3)])
        def crawl_def(site):
            return pmap(parse, [site * n for n in range(3)]).result()
        """
    )
    expected = [(0, 0), (2, 1), (4, 2)]
    assert kernel.value("await crawl('ab')") == expected
    assert kernel.value("crawl_def('ab')") == expected
    assert kernel.value("await pmap(crawl, ['ab'] * 3)") == [expected] * 3
    assert kernel.value("pmap(crawl_def, ['ab'] * 3).result()") == [expected] * 3


@pytest.mark.core
def test_a_traceback_goes_through_both_maps(kernel: Kernel) -> None:
    """The cell that awaits, the line of the outer item, the line of the nested one; both items are named."""
    inner = kernel.run("async def invert(x):\n    await asyncio.sleep(0)\n    return 1 / x")
    outer = kernel.run("async def sum_up(values):\n    return sum(await pmap(invert, values))")
    failed = kernel.fail("await pmap(sum_up, [[1, 2], [4, 0]])")
    assert frames_of(failed) == [(failed.number, 1), (outer.number, 2), (inner.number, 3)]
    assert marked_lines(failed)[1:] == ["    return sum(await pmap(invert, values))", "    return 1 / x"]
    assert_only_cells(failed)
    nested, own = failed.traceback.rstrip().splitlines()[-2:]
    assert re.fullmatch(r"item 1 \(0\), worker [01] \(pid \d+\)", nested), nested
    assert re.fullmatch(r"item 1 \(\[4, 0\]\), worker [01] \(pid \d+\)", own), own


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_stop_reaches_what_runs_inside(kernel: Kernel, signs: Signs, kind: str) -> None:
    """The nested coroutines are cancelled, their workers live, and the next cell finds them idle."""
    wait = "await pmap(held, range(3))" if kind == "async def" else "pmap(held, range(3)).result()"
    kernel.run(
        f"""
        async def held(x):
            sign(f"started {{os.getpid()}} {{x}}")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                sign(f"cancelled {{os.getpid()}} {{x}}")
                raise
        {kind} outer(_):
            {wait}
        """
    )
    before = kernel.value(
        "await pmap(abs, range(8), concurrency=2), sorted(aiopool.get_pool().broadcast(os.getpid).result())"
    )[1]
    cell = kernel.begin("await pmap(outer, range(2))")
    signs.wait_for(6)
    kernel.interrupt()
    cell.finish(10)
    assert cell.error is not None
    signs.wait_for(12)
    assert len([name for name in signs.names() if name.startswith("cancelled")]) == 6
    assert set(kernel.value("aiopool.get_pool().broadcast(os.getpid).result()")) >= set(before)


def test_prints_inside_stand_under_the_cell_and_nothing_else(kernel: Kernel) -> None:
    """A map inside shows nothing of its own; the panel of the outer one is the only one."""
    kernel.run(
        """
        async def talk(x):
            print("nested", x)
            await asyncio.sleep(2.5)
        async def outer(x):
            await pmap(talk, [x])
        """
    )
    cell = kernel.run("await pmap(outer, [5])")
    assert cell.printed() == "[item 0] nested 5\n"
    assert cell.printed("stderr") == ""
    assert len(cell.panels) == 1
