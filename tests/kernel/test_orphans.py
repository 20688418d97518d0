"""Nobody survives a kernel: not its workers, and not what their items have started, however the kernel ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernel.harness import GONE_WITHIN, RESTART_WITHIN, Kernel, Signs, gone

pytestmark = pytest.mark.kernel

GIL_SECONDS = 3.0
SHM = Path("/dev/shm")

START = """
import subprocess
def start():
    subprocess.Popen(["sleep", "1000"])
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
"""

WORK = {
    "idle": "async def work(x):\n    start()\n    sign(x)",
    "coroutines": "async def work(x):\n    start()\n    sign(x)\n    await asyncio.sleep(3600)",
    "a Python loop": "def work(x):\n    start()\n    sign(x)\n    while True:\n        pass",
    "the GIL held": "def work(x):\n    start()\n    sign(x)\n    return 3 ** 10 ** 8",
}


def kinds(*core: str) -> list[object]:
    """Each state of the workers; some also on the oldest ipykernel."""
    gil = pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
    marks = {kind: [gil] if "GIL" in kind else [] for kind in WORK}
    return [pytest.param(kind, marks=[*marks[kind], *([pytest.mark.core] if kind in core else [])]) for kind in WORK]


class Household:
    """The workers of a kernel, and what their items have started."""

    def __init__(self, kernel: Kernel, folder: Path, kind: str) -> None:
        """Bring the workers into that state."""
        signs = Signs(kernel, folder)
        kernel.run(START + WORK[kind])
        kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
        kernel.run("job = pmap(work, range(2), batch=1)")
        signs.wait_for(2)
        if kind == "idle":
            kernel.value("await job")
        self.processes = kernel.children()
        assert len(self.processes) == 6

    def gone(self, kind: str) -> float:
        """Wait until nobody is left; the seconds that this took."""
        return gone(self.processes, GIL_SECONDS if "GIL" in kind else GONE_WITHIN)

    def kill(self) -> None:
        """Whatever became of the test."""
        for process in self.processes:
            # One that nobody has reaped yet is said to run, and may be reaped just now.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def household(own_kernel: Kernel, tmp_path: Path) -> Iterator[Callable[[str], Household]]:
    """A maker of households, which leaves none, and nothing in shared memory."""
    made: list[Household] = []
    before = shared_memory()

    def make(kind: str) -> Household:
        made.append(Household(own_kernel, tmp_path / f"signs {len(made)}", kind))
        return made[-1]

    yield make
    own_kernel.close()
    for each in made:
        each.kill()
    assert not shared_memory() - before


def shared_memory() -> set[str]:
    """What has a name there, of this project."""
    return {each.name for each in SHM.iterdir() if "aiopool" in each.name} if SHM.exists() else set()


Figure = Callable[[str, float], None]


@pytest.mark.parametrize("kind", kinds("idle", "a Python loop", "the GIL held"))
def test_a_killed_kernel_takes_everybody_along(
    own_kernel: Kernel, household: Callable[[str], Household], figure: Figure, kind: str
) -> None:
    """``kill -9``: nobody of the kernel's process is there to look after them, and the workers may be beyond reach."""
    everybody = household(kind)
    own_kernel.kill()
    figure(f"workers and their children gone after kill -9, {kind}", everybody.gone(kind))


@pytest.mark.parametrize("kind", kinds("idle", "coroutines", "the GIL held"))
def test_a_restart_takes_everybody_along_and_is_quick(
    own_kernel: Kernel, household: Callable[[str], Household], figure: Figure, kind: str
) -> None:
    """The next kernel works; the figure is to be less than a second, whatever the workers do."""
    everybody = household(kind)
    seconds = own_kernel.restart()
    figure(f"restart with children of items, {kind}", seconds)
    everybody.gone(kind)
    assert own_kernel.value("await pmap(abs, [-1])") == [1]
    assert seconds < RESTART_WITHIN


@pytest.mark.parametrize("kind", kinds("coroutines"))
def test_a_shutdown_takes_everybody_along(
    own_kernel: Kernel, household: Callable[[str], Household], figure: Figure, kind: str
) -> None:
    """The kernel ends by itself, in time."""
    everybody = household(kind)
    figure(f"shutdown with children of items, {kind}", own_kernel.shutdown())
    everybody.gone(kind)


def test_a_kernel_that_exits_takes_everybody_along(
    own_kernel: Kernel, household: Callable[[str], Household], figure: Figure
) -> None:
    """``os._exit`` in a cell: no handler is run."""
    everybody = household("a Python loop")
    own_kernel.broken = True
    own_kernel.begin("os._exit(1)")
    figure("workers and their children gone after os._exit", everybody.gone("a Python loop"))


def test_a_restart_by_killing_the_group_leaves_no_worker(
    own_kernel: Kernel, household: Callable[[str], Household]
) -> None:
    """Workers die at the same instant as the kernel: what an item has put into a session of its own survives that."""
    everybody = household("coroutines")
    sessions = {process.pid: os.getsid(process.pid) for process in everybody.processes}
    apart = [process for process in everybody.processes if sessions[process.pid] == process.pid]
    assert len(apart) == 2
    own_kernel.broken = True
    own_kernel.kill_group()
    gone([process for process in everybody.processes if process not in apart])
    assert all(psutil.pid_exists(process.pid) for process in apart)
