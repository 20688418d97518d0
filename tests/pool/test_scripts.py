"""Scripts: no guard, no second run, no harm from what lies beside them, no process left behind."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.pool.board import DEADLINE, Board
from tests.pool.scripts import SRC, alive, beside_progress, gone, run, script, start

SOON = 3.0
"""Seconds within which nobody is left of a script: two are the promise, the rest is for a busy machine."""

MAPS = """
    import asyncio, os, sys
    from aiopool import Pool, pmap

    with open("runs", "a") as runs:
        runs.write("run ")

    FACTOR = 2

    class Page:
        def __init__(self, x):
            self.x = x

    def helper(x):
        return FACTOR * x

    def double(x):
        return helper(x)

    async def double_later(x):
        await asyncio.sleep(0)
        return helper(x)

    def page(x):
        return Page(x)

    async def main():
        async with Pool(workers=2) as pool:
            return await pool.map(double_later, range(5))

    with Pool(workers=2) as pool:
        assert pool.map(double, range(5)).result(20) == [0, 2, 4, 6, 8]
        assert pool.map(double_later, range(5)).result(20) == [0, 2, 4, 6, 8]
        assert pool.map(lambda x: FACTOR * x, range(5)).result(20) == [0, 2, 4, 6, 8]
        assert all(type(each) is Page for each in pool.map(page, range(3)).result(20))
        assert pool.submit(double, 21).result(20) == 42
    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
    print("done", open("runs").read().count("run"))
"""


# --- how a script may be run -----------------------------------------------------------------------------------------


def test_a_script_without_a_guard_works_and_is_run_once(tmp_path):
    """``python script.py``, with functions and classes of ``__main__``."""
    assert run(script(tmp_path, MAPS), cwd=tmp_path) == "done 1\n"


def test_a_module_run_with_m_works_and_is_run_once(tmp_path):
    """``python -m pkg`` and ``python -m pkg.module``."""
    script(tmp_path, "", "pkg/__init__.py")
    script(tmp_path, MAPS, "pkg/__main__.py")
    script(tmp_path, MAPS, "pkg/module.py")
    assert run("-m", "pkg", cwd=tmp_path) == "done 1\n"
    assert run("-m", "pkg.module", cwd=tmp_path) == "done 2\n"


def test_a_script_from_standard_input_works(tmp_path):
    """``python - < script``; its lines are nowhere on disk."""
    import textwrap

    assert run("-", cwd=tmp_path, stdin=textwrap.dedent(MAPS)) == "done 1\n"


def test_a_script_given_on_the_command_line_works(tmp_path):
    """``python -c``."""
    source = "from aiopool import pmap; f = lambda x: 2 * x; print(pmap(f, range(3)).result(20))"
    assert run("-c", source, cwd=tmp_path) == "[0, 2, 4]\n"


@pytest.mark.parametrize("flags", [["-O"], ["-I"], ["-X", "dev"], ["-W", "error"]])
def test_the_flags_of_the_interpreter_are_no_obstacle(tmp_path, flags):
    """And nothing warns."""
    source = f"""
        import sys; sys.path.insert(0, {SRC!r})
        from aiopool import Pool
        with Pool(workers=1) as pool:
            print(pool.map(lambda x: 2 * x, range(3)).result(20), pool.submit(lambda: __debug__).result(20))
    """
    assert run(*flags, script(tmp_path, source), cwd=tmp_path) == f"[0, 2, 4] {'-O' not in flags}\n"


def test_a_script_with_helper_modules_beside_it_works(tmp_path):
    """Workers find them where the script does."""
    script(tmp_path, "def double(x): return 2 * x", "helpers.py")
    script(tmp_path, "def triple(x): return 3 * x", "lib/more.py")
    source = """
        import sys
        from aiopool import Pool
        sys.path.append("lib")
        import helpers, more
        with Pool(workers=1) as pool:
            print(pool.map(helpers.double, [1]).result(20), pool.map(lambda x: more.triple(x), [1]).result(20))
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "[2] [3]\n"


def test_modules_that_shadow_the_standard_library_harm_nothing(tmp_path):
    """A ``signal.py``, ``types.py`` or any other in the folder, as beside a notebook.

    They harm neither a worker's start nor its errors, cancels and prints. The caller has imported the true ones
    before; a worker must, too.
    """
    for name in sys.stdlib_module_names:
        script(tmp_path, f"raise ImportError('the trap {name} was imported')", f"traps/{name}.py")
    for name in ("cloudpickle", "aiopool", "psutil"):
        script(tmp_path, f"raise ImportError('the trap {name} was imported')", f"traps/{name}.py")
    source = """
        import asyncio, time, threading, sys, os
        from aiopool import Pool, NotPicklable
        with Pool(workers=1) as warm:
            warm.map(abs, [1]).result(20)

        sys.path.insert(0, "")
        assert os.listdir(".").count("signal.py") == 1

        async def later(x):
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
            return x

        def fails(x):
            try:
                raise ValueError("mine")
            except ValueError as error:
                raise ExceptionGroup("group", [error, KeyError(x)]) from error

        def deep(x):
            return deep(x + 1)

        def prints(x):
            print("printed", x)

        with Pool(workers=2, grace=0.3, initializer=prints, initargs=(0,)) as pool:
            assert pool.map(abs, range(3)).result(20) == [0, 1, 2]
            assert pool.map(later, range(3)).result(20) == [0, 1, 2]
            (failure,) = pool.map(fails, [1], on_error="return").result(20)
            assert isinstance(failure.error, ExceptionGroup), failure.error
            (failure,) = pool.map(deep, [1], on_error="return").result(20)
            assert isinstance(failure.error, RecursionError), failure.error
            (failure,) = pool.map(lambda x: threading.Lock(), [1], on_error="return").result(20)
            assert isinstance(failure.error, NotPicklable), failure.error
            for fn in (time.sleep, asyncio.sleep):
                job = pool.map(fn, [3600])
                while not job.snapshot().in_flight:
                    time.sleep(0.01)
                job.cancel()
            pool.restart().result(20)
            assert pool.map(lambda x: -x, range(3), concurrency=4).result(20) == [0, -1, -2]
        print("done")
    """
    out = run(script(tmp_path, source, "elsewhere/script.py"), cwd=tmp_path / "traps")
    assert out.splitlines()[-1] == "done"
    assert "trap" not in out


def test_code_that_imports_a_module_beside_it_gets_that_one(tmp_path):
    """The caller's ``sys.path`` holds in workers, once they are up: what is not imported yet comes from there."""
    script(tmp_path, "WHOSE = 'mine'", "colorsys.py")
    source = """
        from aiopool import Pool
        def whose(x):
            import colorsys
            return colorsys.WHOSE
        with Pool(workers=1) as pool:
            print(pool.map(whose, [1]).result(20))
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "['mine']\n"


def test_a_worker_works_where_its_caller_does(tmp_path):
    """In its working directory, with its environment."""
    source = """
        import os
        os.environ["MINE"] = "yes"
        os.makedirs("sub")
        os.chdir("sub")
        from aiopool import Pool
        with Pool(workers=1) as pool:
            cwd, mine = pool.submit(lambda: (os.getcwd(), os.environ["MINE"])).result(20)
            print(os.path.basename(cwd), mine)
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "sub yes\n"


# --- how a script may end --------------------------------------------------------------------------------------------

ENDINGS = {
    "open pool": "pool = Pool(workers=2); print(pool.map(abs, range(3)).result(20))",
    "shared pool": "print(pmap(abs, range(3)).result(20))",
    "unused pool": "pool = Pool(workers=2); print([0, 1, 2])",
    "running def": "pool = Pool(workers=2); pool.map(time.sleep, [3600] * 4); up(pool); print([0, 1, 2])",
    "running coroutines": "pool = Pool(workers=2); pool.map(asyncio.sleep, [3600] * 4); up(pool); print([0, 1, 2])",
    "starting workers": "pool = Pool(workers=2); pool.map(time.sleep, [3600] * 4); print([0, 1, 2])",
    "endless input": "pool = Pool(workers=2); pool.map(abs, itertools.count()); up(pool); print([0, 1, 2])",
    "blocked input": "pool = Pool(workers=2); pool.map(abs, blocked()); print([0, 1, 2])",
    "loop that is over": "asyncio.run(start()); print([0, 1, 2])",
    "sys.exit": "pool = Pool(workers=2); pool.map(abs, range(3)).result(20); print([0, 1, 2]); sys.exit(0)",
}

PREAMBLE = """
import asyncio, itertools, sys, time
from aiopool import Pool, pmap

def up(pool):
    while not [info for info in pool.snapshot().workers if info.state == "busy"]:
        time.sleep(0.01)

def blocked():
    yield 1
    time.sleep(3600)

async def start():
    global pool
    pool = Pool(workers=2)
    await pool.map(abs, range(3))
    pool.map(asyncio.sleep, [3600])
"""


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_script_whose_pool_is_never_closed_ends_at_once_and_leaves_nobody(tmp_path, ending):
    """Whatever runs, without a word of complaint."""
    tell = (
        "\nimport psutil, atexit\n"
        "atexit.register(lambda: print(*[c.pid for c in psutil.Process().children()]))\n"
        "print('at', time.monotonic())\n"
    )
    source = PREAMBLE + ending.replace("sys.exit(0)", "") + tell + ("sys.exit(0)\n" if "sys.exit" in ending else "")
    file = tmp_path / "script.py"
    file.write_text(source)
    out = run(file, cwd=tmp_path).splitlines()
    ended = time.monotonic()
    assert out[0] == "[0, 1, 2]"
    assert ended - float(out[1].removeprefix("at ")) < 3
    gone([int(pid) for pid in out[2].split()], SOON)


@pytest.mark.parametrize("take_away", ["", "vars(os).pop('pidfd_open', None)"], ids=["as here", "as on macOS"])
def test_a_call_that_a_thread_makes_after_the_scripts_end_has_its_worker(tmp_path, take_away):
    """An interpreter that waits for its threads starts no further one, and none is needed."""
    source = f"""
        import os, threading
        {take_away}
        from aiopool import Pool
        pool = Pool(workers=1)
        def late():
            threading.main_thread().join()
            print(pool.submit(abs, -1).result(20))
        threading.Thread(target=late).start()
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "1\n"


def test_an_error_that_ends_a_script_is_shown_and_leaves_nobody(tmp_path):
    """The traceback, the exit code, no process."""
    source = """
        from aiopool import Pool
        with Pool(workers=2) as pool:
            print(*pool.broadcast(lambda: __import__("os").getpid()).result(20), flush=True)
            pool.map(lambda x: 1 / x, [0]).result(20)
    """
    process = start(script(tmp_path, source), cwd=tmp_path)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "item 0 (0), worker " in err
    gone([int(pid) for pid in out.split()], SOON)


BUSY = {
    "idle": ("pool.broadcast(os.getpid).result(20)", 0),
    "def in C": ("pool.map(sleeps, range(4))", 2),
    "def in Python": ("pool.map(spins, range(4))", 2),
    "coroutines": ("pool.map(waits, range(40))", 4),
    "coroutine that blocks": ("pool.map(blocks, range(4))", 2),
    "C code that holds the GIL": ("pool.map(holds_the_gil, range(4))", 2),
    "threads": ("pool.map(sleeps, range(4), concurrency=4)", 4),
    "printing": ("pool.map(floods, range(2))", 2),
}

KILLED = """
import asyncio, os, sys, time
from aiopool import Pool

def mark():
    with open("marks.board", "a") as file:
        file.write("\\n")

def sleeps(x):
    mark()
    time.sleep(3600)

def spins(x):
    mark()
    while True:
        pass

async def waits(x):
    mark()
    await asyncio.sleep(3600)

async def blocks(x):
    mark()
    time.sleep(3600)

def holds_the_gil(x):
    import ctypes
    mark()
    ctypes.PyDLL(None).sleep(3600)

def floods(x):
    mark()
    # Not before both have begun: nobody reads on, and a full pipe holds the pool's thread, which sends the other.
    while len(open("marks.board").read()) < 2:
        time.sleep(0.01)
    while True:
        print("x" * 1000)

pool = Pool(workers=2)
pool.broadcast(os.getpid).result(20)
job = {job}
print(*[worker.info.pid for worker in pool.workers], flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize(("job", "running"), BUSY.values(), ids=BUSY)
def test_a_script_that_is_killed_leaves_no_orphan(tmp_path, job, running):
    """``kill -9``: two seconds later no worker is left, idle or busy."""
    file = tmp_path / "script.py"
    file.write_text(KILLED.replace("{job}", job))
    process = start(file, cwd=tmp_path)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        pids = [int(pid) for pid in next(line for line in lines if line[0].isdigit()).split()]
        assert len(pids) == 2
        Board(tmp_path).wait("marks", running)
        assert all(map(alive, pids))
        process.kill()
        process.wait(DEADLINE)
        gone(pids, SOON)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def test_a_script_that_is_terminated_leaves_no_orphan(tmp_path):
    """SIGTERM ends Python without a word; the workers notice."""
    file = tmp_path / "script.py"
    file.write_text(KILLED.replace("{job}", "pool.map(sleeps, range(4))"))
    process = start(file, cwd=tmp_path)
    try:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        Board(tmp_path).wait("marks", 2)
        process.terminate()
        process.wait(DEADLINE)
        gone(pids, SOON)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def test_ctrl_c_in_a_script_stops_the_job_and_leaves_no_orphan(tmp_path):
    """The blocking wait raises JobStopped, which ends the script, with its workers."""
    source = """
        import os, signal, sys, threading, time
        from aiopool import JobStopped, Pool
        def waits():
            while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                time.sleep(0.01)
            open("waits.board", "a").write("\\n")
        def mark(x):
            with open("marks.board", "a") as file:
                file.write("\\n")
            time.sleep(3600)
        with Pool(workers=2, grace=0.3) as pool:
            print(*pool.broadcast(os.getpid).result(20), flush=True)
            threading.Thread(target=waits).start()
            try:
                pool.map(mark, range(4)).result()
            except JobStopped as error:
                print(error, flush=True)
                print(pool.map(abs, [-1]).result(20), flush=True)
    """
    process = start(script(tmp_path, source), cwd=tmp_path, start_new_session=True)
    try:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        Board(tmp_path).wait("marks", 2)
        Board(tmp_path).wait("waits")  # A moment before, it would be a KeyboardInterrupt.
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline().startswith("Stopped: 0 of 4 done")
        assert time.monotonic() - begun < 5
        assert process.stdout.readline() == "[1]\n"
        process.wait(DEADLINE)
        assert process.returncode == 0
        gone(pids, SOON)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def test_a_forked_child_of_the_script_does_not_keep_its_workers(tmp_path):
    """It inherits the pipes; when the script is killed, the workers go all the same."""
    source = """
        import os, time, sys
        from aiopool import Pool
        pool = Pool(workers=2)
        pids = pool.broadcast(os.getpid).result(20)
        child = os.fork()
        if child == 0:
            time.sleep(3600)
        print(child, *pids, flush=True)
        time.sleep(3600)
    """
    process = start("-W", "ignore", script(tmp_path, source), cwd=tmp_path)
    forked = 0
    try:
        assert process.stdout is not None
        forked, *pids = (int(pid) for pid in process.stdout.readline().split())
        process.kill()
        process.wait(DEADLINE)
        gone(pids, SOON)
    finally:
        process.kill()
        if forked:
            os.kill(forked, signal.SIGKILL)
        process.communicate(timeout=DEADLINE)


def test_two_scripts_beside_each_other_do_not_disturb_each_other(tmp_path):
    """Nothing is shared by name."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    processes = [start(script(tmp_path / name, MAPS), cwd=tmp_path / name) for name in ("one", "two")]
    for process in processes:
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out, beside_progress(err)) == (0, "done 1\n", "")
