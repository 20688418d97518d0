"""Two figures in a real kernel, side by side with what they are compared to.

    python benchmarks/first_figures.py

10,000 coroutines of a cell that each sleep 0.1 s, on 2 workers, against ``asyncio.gather`` of the same in one process;
and the round trip of a submit.
"""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

CELLS = (
    """
import asyncio, statistics, time
from aiopool import Pool

async def nap(x):
    await asyncio.sleep(0.1)
    return x

def noop():
    return None
""",
    """
async with Pool(workers=2) as pool:
    await pool.map(nap, range(2), progress=False)
    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        await asyncio.gather(*[nap(x) for x in range(10_000)])
        gather = time.perf_counter() - start
        start = time.perf_counter()
        results = await pool.map(nap, range(10_000), concurrency=10_000, progress=False)
        pmap = time.perf_counter() - start
        assert results == list(range(10_000))
        ratios.append(pmap / gather)
    print(f"10,000 naps of 0.1 s: gather {gather:.3f} s, pmap {pmap:.3f} s; "
          f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")

    trips = []
    for _ in range(1_000):
        start = time.perf_counter()
        await pool.submit(noop)
        trips.append((time.perf_counter() - start) * 1e3)
    trips.sort()
    print(f"1,000 submits one after another: median {trips[500]:.3f} ms, 99 of 100 under {trips[990]:.3f} ms")
""",
)


def main() -> None:
    """Run the cells and print what they print."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        for output in cell.outputs:
            print(output.get("text", ""), end="")


if __name__ == "__main__":
    main()
