"""The same in a kernel: cells that await jobs with a panel and without, the real widget, a client that takes it all."""

from __future__ import annotations

import json
from collections.abc import Iterator

from jupyter_client.manager import start_new_kernel

from benchmarks.panel.ratios import Ratio, Window, ratio, turns

TIMEOUT = 120.0

SETUP = """
import json, time
import aiopool
from aiopool import Pool
pool = Pool(workers=2)
async def noop(x): pass
def noop_def(x): pass
async def run(function, count, progress):
    start = time.perf_counter()
    await pool.map(function, range(count), progress=progress)
    return time.perf_counter() - start
await run(noop, 100_000, True), await run(noop_def, 100_000, True)
counts = {f.__name__: int(3 * 200_000 / await run(f, 200_000, False)) for f in (noop, noop_def)}
"""

CELL = """
took = await run({function}, counts["{function}"], {watched})
print("took:", json.dumps([counts["{function}"], took]))
"""


def compare(*, pairs: int) -> Iterator[Ratio]:
    """Two kinds of items, each in as many cells as there are windows; of a few seconds each."""
    manager, client = start_new_kernel()
    try:
        _run(client, SETUP)
        for function in ("noop", "noop_def"):
            windows, updates = [], 0
            for watched in turns(pairs):
                text, seen = _run(client, CELL.format(function=function, watched=watched))
                count, seconds = json.loads(text.rpartition("took:")[2])
                windows.append(Window(watched, count, seconds))
                updates += seen
            name = {"noop": "coroutines", "noop_def": "functions"}[function]
            yield ratio(f"{name}, 2 workers, in a kernel", windows, looks=updates)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(client: object, code: str) -> tuple[str, int]:
    """What a cell has printed, and how many messages went to its widgets."""
    printed: list[str] = []
    updates = 0

    def hear(message: dict) -> None:
        nonlocal updates
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            printed.append(content["text"])
        elif kind == "comm_msg":
            updates += 1
        elif kind == "error":
            raise RuntimeError("\n".join(content["traceback"]))

    client.execute_interactive(code, output_hook=hear, timeout=TIMEOUT)
    return "".join(printed), updates
