"""A million items from an async generator pass through a script whose memory stays flat."""

from __future__ import annotations

import pytest

from tests.pool.scripts import run, script

PASSES = """
    import asyncio
    import psutil
    from aiopool import Pool

    ITEMS = 1_000_000

    async def items():
        for number in range(ITEMS):
            yield number

    async def work(number):
        if number == 0 and {late}:
            await asyncio.sleep(5)
        return number

    async def main():
        me = psutil.Process()
        async with Pool(workers=2) as pool:
            # What the first use of everything takes is no growth.
            assert await pool.map(work, range(1, 1000)) == list(range(1, 1000))
            before = most = me.memory_info().rss
            count = total = 0
            async for each in {reader}:
                count += 1
                total += {value}
                if count % 20_000 == 0:
                    most = max(most, me.memory_info().rss)
        assert (count, total) == (ITEMS, ITEMS * (ITEMS - 1) // 2)
        print(f"{{(most - before) / 1e6:.1f}}")

    asyncio.run(main())
"""

READERS = {
    "async for": ("pool.map(work, items())", "each", False),
    "as_completed": ("pool.map(work, items()).as_completed()", "each[1]", False),
    "as_completed, the first item late": ("pool.map(work, items()).as_completed()", "each[1]", True),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", READERS)
def test_a_million_items_pass_through_in_flat_memory(tmp_path, monkeypatch, how):
    """Less than 50 MB more at any moment, also where one item of the first holds up the order."""
    monkeypatch.setattr("tests.pool.scripts.DEADLINE", 100)
    reader, value, late = READERS[how]
    grown = float(run(script(tmp_path, PASSES.format(reader=reader, value=value, late=late)), cwd=tmp_path))
    assert grown < 50
