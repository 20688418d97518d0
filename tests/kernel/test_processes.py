"""The kernel's worker processes: what they do not run, and that none is left, whatever becomes of the kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kernel.conftest import Kernels
from tests.kernel.harness import DEADLINE, RESTART_WITHIN, Kernel, Signs, gone

pytestmark = pytest.mark.kernel

# --- what a worker runs -----------------------------------------------------------------------------------------------


@pytest.mark.core
def test_workers_are_the_only_processes_and_belong_to_the_kernels_group(kernel: Kernel) -> None:
    """No resource tracker, no fork server; killing the group takes the workers along."""
    kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    workers = kernel.workers()
    assert len(workers) == 2
    # Of the workers of other tests what looks for their children may still be there.
    kernel.until(lambda: sorted(child.pid for child in kernel.children()) == workers, "the workers, and nobody else")
    children = workers
    assert {os.getpgid(child) for child in children} == {os.getpgid(kernel.pid)}


@pytest.mark.core
def test_a_script_that_is_the_kernels_main_file_is_not_run_again(kernel: Kernel, tmp_path: Path) -> None:
    """Some front ends give ``__main__`` a ``__file__``; a spawned process must not run that."""
    script, trace = tmp_path / "notebook.py", tmp_path / "it ran"
    script.write_text(f"open({str(trace)!r}, 'w').close()\nraise SystemExit(3)\n")
    kernel.run(f"import __main__\n__main__.__file__ = {str(script)!r}\ndef where(_):\n    return os.getpid(), __name__")
    cell = kernel.run_any(
        """
        async with Pool(workers=1) as pool:
            found = await pool.map(where, range(2))
        await asyncio.gather(*(pool.submit(where, 0) for pool in [aiopool.get_pool()]))
        [len(found), found[0][0] != os.getpid(), found[0][1]]
        """
    )
    kernel.run("del __main__.__file__")
    assert cell.error is None, cell.traceback
    assert cell.value == [2, True, "__main__"]
    assert not trace.exists()


SHADOWS = (
    "signal",
    "types",
    "random",
    "queue",
    "select",
    "token",
    "traceback",
    "json",
    "pickle",
    "asyncio",
    "selectors",
)


@pytest.mark.core
def test_modules_beside_the_notebook_that_are_named_like_pythons_harm_nothing(kernels: Kernels, tmp_path: Path) -> None:
    """A worker starts and works as if they were not there; a function that uses their namesakes gets those."""
    kernel = kernels.fresh(tmp_path)
    try:
        # After the start: of these modules the kernel has its own, and this is about the workers.
        for name in SHADOWS:
            (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py beside the notebook was imported')\n")
        kernel.run(
            """
            import json, random
            @dataclass
            class Row:
                n: int
            async def later(x):
                await asyncio.sleep(0)
                print("later", x)
                return Row(x)
            def turn(x):
                return json.loads(json.dumps([x, random.Random(x).random() < 2]))
            def fail(x):
                return 1 / x
            """
        )
        cell = kernel.run(
            """
            rows = await pmap(later, range(3))
            turned = await pmap(turn, range(3))
            threads = await pmap(turn, range(6), concurrency=6)
            failed = await pmap(fail, [0, 1], on_error="return")
            [rows == [Row(0), Row(1), Row(2)], turned, len(threads), type(failed[0].error).__name__, failed[1]]
            """
        )
        assert cell.value == [True, [[0, True], [1, True], [2, True]], 6, "ZeroDivisionError", 1.0]
        assert len(kernel.workers()) == 2
        assert "beside the notebook" not in cell.printed()
    finally:
        kernel.close()


# --- what is left of them ---------------------------------------------------------------------------------------------

BUSY = {
    "idle": "async def work(x):\n    sign(x)",
    "coroutines": "async def work(x):\n    sign(x)\n    await asyncio.sleep(3600)",
    "time.sleep": "def work(x):\n    sign(x)\n    time.sleep(3600)",
    "a Python loop": "def work(x):\n    sign(x)\n    while True:\n        pass",
    "deaf": """
def work(x):
    sign(x)
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
""",
}

GIL = {"a C call that holds the GIL": "def work(x):\n    sign(x)\n    return sum(range(10**11))"}

CELLS = {
    "in the background": "job = pmap(work, range(2), batch=1)",
    "awaited": "await pmap(work, range(2), batch=1)",
    "in result()": "pmap(work, range(2), batch=1).result()",
}


def with_workers(kernel: Kernel, folder: Path, kind: str, where: str = "in the background") -> list[psutil.Process]:
    """Bring the workers into that state, and return them."""
    signs = Signs(kernel, folder)
    kernel.run((BUSY | GIL)[kind])
    kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    cell = kernel.begin(CELLS[where])
    signs.wait_for(2)
    if where == "in the background":
        cell.finish()
    if kind == "idle":
        kernel.value("await job")
    children = kernel.children()
    assert len(children) == 2
    return children


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        pytest.param("idle", "in the background", marks=pytest.mark.core),
        pytest.param("coroutines", "awaited", marks=pytest.mark.core),
        ("time.sleep", "in result()"),
        ("a Python loop", "in the background"),
        ("deaf", "in the background"),
    ],
)
def test_restart_and_shutdown_are_quick_and_leave_no_worker(
    own_kernel: Kernel, tmp_path: Path, figure: Callable[[str, float], None], kind: str, where: str
) -> None:
    """Whatever the workers do, also while a cell waits for them; the kernel that was restarted works."""
    children = with_workers(own_kernel, tmp_path / "before", kind, where)
    seconds = own_kernel.restart()
    figure(f"restart, {kind}, {where}", seconds)
    gone(children)
    assert seconds < RESTART_WITHIN
    children = with_workers(own_kernel, tmp_path / "after", kind, where)
    seconds = own_kernel.shutdown()
    figure(f"shutdown, {kind}, {where}", seconds)
    gone(children)
    assert seconds < RESTART_WITHIN


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=[pytest.mark.core] if kind in ("idle", "a Python loop") else []) for kind in BUSY),
        *(pytest.param(kind, marks=pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")) for kind in GIL),
    ],
)
def test_a_killed_kernel_leaves_no_worker(
    own_kernel: Kernel, tmp_path: Path, figure: Callable[[str, float], None], kind: str
) -> None:
    """``kill -9`` of the kernel alone, out of memory for instance: the workers notice by themselves."""
    children = with_workers(own_kernel, tmp_path / "signs", kind)
    own_kernel.kill()
    figure(f"workers gone after kill -9, {kind}", gone(children))


def test_a_kernel_killed_while_its_workers_start_leaves_none(
    own_kernel: Kernel, figure: Callable[[str, float], None]
) -> None:
    """They find the pipe closed when they come to read it."""
    cell = own_kernel.begin(
        "pool = Pool(workers=4)\njob = pool.map(abs, range(8), batch=1)\nprint('here')\ntime.sleep(3600)"
    )
    process = psutil.Process(own_kernel.pid)
    own_kernel.until(process.children, "a child")
    children = process.children()
    own_kernel.kill()
    figure("workers gone after kill -9, starting", gone(children))
    assert cell.error is None


def test_a_kernel_that_ends_by_itself_leaves_no_worker(own_kernel: Kernel, tmp_path: Path) -> None:
    """``exit()`` in a cell, with a job running."""
    children = with_workers(own_kernel, tmp_path / "signs", "coroutines")
    process = psutil.Process(own_kernel.pid)
    own_kernel.begin("exit()")
    own_kernel.broken = True
    process.wait(timeout=DEADLINE)
    gone(children)


def test_a_dropped_pool_leaves_no_worker(kernel: Kernel) -> None:
    """A pool that nobody closed, and nobody holds any more, ends by itself."""
    others = {child.pid for child in kernel.children()}
    kernel.run("dropped = Pool(workers=2)\nassert await dropped.map(abs, range(4), batch=1) == [0, 1, 2, 3]")
    mine = [child for child in kernel.children() if child.pid not in others]
    assert mine
    # The session holds the last job, and that its pool.
    kernel.run("del dropped\nimport gc\nassert await pmap(abs, [1]) == [1]\n_ = gc.collect()")
    gone(mine)
