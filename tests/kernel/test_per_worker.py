"""``@per_worker`` in a notebook: defined in a cell, tried by hand, used by a map, edited, and gone with the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Kernels
from tests.kernel.harness import Kernel, Signs

pytestmark = pytest.mark.kernel

SESSION = """
@aiopool.per_worker
async def session():
    mine = LOG
    with open(mine, "a") as log:
        print("open", os.getpid(), file=log)
    yield {"version": (VERSION, 1)}
    with open(mine, "a") as log:
        print("close", os.getpid(), file=log)
"""

FETCH = """
async def fetch(n):
    s = await session()
    return s["version"]
"""


@pytest.fixture
def log(kernel: Kernel, tmp_path: Path) -> Iterator[Path]:
    """Where openings and closings are written down, in a notebook with one fresh worker whose first cells are run."""
    file = tmp_path / "log"
    kernel.run(f"LOG, VERSION = {str(file)!r}, 'a'")
    kernel.run("pool = aiopool.get_pool()\npool.resize(1).result(), pool.restart().result()")
    kernel.run(SESSION)
    kernel.run(FETCH)
    yield file
    if kernel.is_alive:
        kernel.run("pool.resize(2).result()")


def lines(log: Path, word: str) -> list[str]:
    """The processes that have done this."""
    return [line.split()[-1] for line in log.read_text().splitlines() if line.startswith(word)]


@pytest.mark.core
def test_a_function_is_tried_by_hand_and_then_mapped(kernel: Kernel, log: Path) -> None:
    """In the kernel and in the worker it is opened once, however many cells use it."""
    assert kernel.value("await fetch(0)") == ("a", 1)
    assert kernel.value("[await fetch(0), await fetch(1)]") == [("a", 1)] * 2
    for _ in range(2):
        assert kernel.value("await pmap(fetch, range(50), batch=1)") == [("a", 1)] * 50
    opened = lines(log, "open")
    assert len(opened) == len(set(opened)) == 2
    assert str(kernel.pid) in opened
    assert lines(log, "close") == []


def test_an_edited_cell_opens_it_anew_and_one_that_was_only_run_again_does_not(kernel: Kernel, log: Path) -> None:
    """In the kernel and in the workers; what was open before is closed in both."""
    show = "await fetch(0), (await pmap(fetch, range(20)))[-1]"
    assert kernel.value(show) == (("a", 1), ("a", 1))
    kernel.run("# another comment\n" + SESSION)
    assert kernel.value(show) == (("a", 1), ("a", 1))
    opened = lines(log, "open")
    assert len(opened) == len(set(opened))
    kernel.run(SESSION.replace("(VERSION, 1)", "(VERSION, 2)"))
    assert kernel.value(show) == (("a", 2), ("a", 2))
    kernel.until(lambda: set(lines(log, "close")) == set(opened), "the closing of the old ones")


def test_a_global_that_it_reads_and_that_was_changed_opens_it_anew(kernel: Kernel, log: Path) -> None:
    """A key, a path: what the next cell says counts."""
    show = "await fetch(0), (await pmap(fetch, range(20)))[-1]"
    assert kernel.value(show) == (("a", 1), ("a", 1))
    kernel.run("VERSION = 'b'")
    assert kernel.value(show) == (("b", 1), ("b", 1))
    kernel.until(lambda: len(lines(log, "close")) == 2, "the closing of the old ones")


def test_stop_while_it_opens_leaves_it_opening(kernel: Kernel, signs: Signs) -> None:
    """Stop ends the wait at once, and the next cell finds open what was being opened."""
    kernel.run(
        """
        @aiopool.per_worker
        async def slow():
            sign("opening")
            while "go" not in signed():
                await asyncio.sleep(0.01)
            return "open"
        """
    )
    cell = kernel.begin("await slow()")
    signs.wait_for(1)
    kernel.interrupt()
    assert cell.finish().error is not None
    signs.allow("go")
    assert kernel.value("await slow()") == "open"


def test_a_failed_opening_shows_the_line_of_the_cell(kernel: Kernel) -> None:
    """Under a cell that awaits it, and under one that maps; our own lines are not in the way."""
    kernel.run(
        """
        @aiopool.per_worker
        async def broken():
            await asyncio.sleep(0)
            raise ConnectionError("no route")
        async def use(n):
            return await broken()
        """
    )
    for source in ("await use(0)", "await pmap(use, range(3))"):
        cell = kernel.fail(source)
        assert cell.error is not None
        assert cell.error["ename"] == "ConnectionError"
        assert 'raise ConnectionError("no route")' in cell.traceback
        assert "return await broken()" in cell.traceback
        assert "resources.py" not in cell.traceback
        assert "lives.py" not in cell.traceback


def test_a_forgotten_call_is_told_under_the_cell(kernel: Kernel, log: Path) -> None:
    """``session.get`` has the words that are missing."""
    assert "session is a per-worker resource: write (await session()).get" in kernel.fail("session.get").traceback
    assert not log.exists()


@pytest.fixture
def quiet_kernel(kernels: Kernels, capfd: pytest.CaptureFixture[str]) -> Iterator[Kernel]:
    """A kernel whose own standard error the test can read."""
    fresh = kernels.fresh()
    yield fresh
    fresh.close()


def test_a_kernel_that_used_them_by_hand_ends_without_a_word(
    quiet_kernel: Kernel, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The sync ones are closed, and the async ones make no noise; nor do their workers."""
    quiet_kernel.run(f"LOG, VERSION = {str(tmp_path / 'log')!r}, 'a'")
    quiet_kernel.run(SESSION)
    quiet_kernel.run(FETCH)
    quiet_kernel.run(
        """
        @aiopool.per_worker
        def model():
            yield "model"
            with open(LOG, "a") as log:
                print("close model", os.getpid(), file=log)
        async def use(n):
            return model(), await fetch(n)
        """
    )
    quiet_kernel.run("await use(0), await pmap(use, range(10))")
    pid = str(quiet_kernel.pid)
    capfd.readouterr()
    quiet_kernel.shutdown()
    told = capfd.readouterr()
    assert told.out + told.err == ""
    assert pid in lines(tmp_path / "log", "close model")
