"""One fault on one pool, in a process that may hang, break, or be killed: ``python -m benchmarks.faults.one``."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from benchmarks.faults.outcomes import Outcome
from benchmarks.faults.pools import POOLS
from benchmarks.faults.scenes import FAULTS


def main() -> None:
    """Run it, and leave its outcome in the folder."""
    title, fault, name = sys.argv[1:]
    # A shell starts what it puts into the background deaf to Stop, and whatever that starts inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(name)
    try:
        outcome = FAULTS[fault].strike(POOLS[title], folder)
    except BaseException:  # noqa: BLE001  # it is told, and shown as what it is: no outcome
        outcome = Outcome("?", detail=traceback.format_exc())
    folder.joinpath("outcome.part").write_text(json.dumps(dataclasses.asdict(outcome)))
    folder.joinpath("outcome.part").rename(folder / "outcome.json")
    # Not by closing the pool: whether that hangs after a fault is another question, and somebody cleans up behind us.
    os._exit(0)


if __name__ == "__main__":
    main()
