"""A pool that nobody closes: it says so when it is dropped, and at the interpreter's end it goes without a word."""

from __future__ import annotations

import gc
import os
import sys
import time
import warnings
from pathlib import Path

import pytest

import aiopool
from aiopool import Pool
from aiopool.registry import registry
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.pools import children, ended, our_threads
from tests.pool.scripts import alive, beside_progress, start


def collected(*, some: bool = False) -> list[str]:
    """Collect what nobody holds; what was warned of. ``some``: wait for it, the pool's own thread may let go late."""
    registry.last = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        if some:
            until(lambda: caught or gc.collect() < 0, what="a warning")
    return [f"{each.category.__name__}: {each.message}, {Path(each.filename).name}:{each.lineno}" for each in caught]


@pytest.mark.parametrize("used", [True, False])
def test_a_pool_that_is_dropped_unclosed_says_so_and_ends(used):
    """Which pool, where it was opened, and what to write; its workers are gone."""
    collected()
    before, threads = children(), our_threads()
    pool = Pool(workers=2, name="forgotten")
    line = sys._getframe().f_lineno - 1
    if used:
        assert pool.map(work.double, range(4), batch=1).result(DEADLINE) == [0, 2, 4, 6]
    del pool
    (told,) = collected(some=True)
    assert told == (
        "ResourceWarning: the pool 'forgotten' was never closed: use `with Pool(...) as pool:`, or pool.close(), "
        f"{Path(__file__).name}:{line}"
    )
    until(lambda: children() <= before, what="the workers are gone")
    until(lambda: our_threads() <= threads, what="the threads are gone")


@pytest.mark.parametrize("end", ["close", "terminate", "with", "with an error"])
def test_a_pool_that_was_ended_says_nothing(end):
    """In whatever way."""
    collected()
    pool = Pool(workers=1)
    assert pool.submit(work.double, 1).result(DEADLINE) == 2
    if end == "with":
        with pool:
            pass
    elif end == "with an error":
        with pytest.raises(KeyError), pool:
            raise KeyError
    else:
        getattr(pool, end)()
    del pool
    assert collected() == []


def test_a_closed_pool_that_is_dropped_ends_its_jobs_first(board: Board):
    """To close it is all that has to be done."""
    pool = Pool(workers=1)
    pool.submit(work.double, 1).result(DEADLINE)
    job = pool.map(lambda x: board.wait("go") and x, range(2))
    until(lambda: job.snapshot().in_flight)
    pool.close()
    del pool
    assert collected() == []
    board.mark("go")
    assert job.result(DEADLINE) == [0, 1]


def test_a_pool_whose_job_is_held_is_not_dropped():
    """It goes with the last of its jobs."""
    collected()
    before = children()
    job = Pool(workers=1).map(work.double, range(3))
    assert collected() == []
    assert job.result(DEADLINE) == [0, 2, 4]
    del job
    assert len(collected(some=True)) == 1
    until(lambda: children() <= before, what="the workers are gone")


def test_the_shared_pool_is_nobodys_to_close():
    """Another one takes its place without a word, whatever became of it."""
    aiopool.configure(workers=1)
    try:
        assert aiopool.pmap(work.double, [1]).result(DEADLINE) == [2]
        collected()
        aiopool.configure(reload_modules=False)
        assert collected() == []
        assert aiopool.pmap(work.double, [1]).result(DEADLINE) == [2]
        ended(aiopool.get_pool())
        assert aiopool.pmap(work.double, [1]).result(DEADLINE) == [2]
        assert collected() == []
    finally:
        ended(aiopool.get_pool())
        aiopool.configure(workers=None, reload_modules=True)


# --- the interpreter's end --------------------------------------------------------------------------------------------

EXITS = {
    "def": "job = pool.map(lambda x: item() or time.sleep(1000), range(2), batch=1)",
    "a Python loop": "job = pool.map(spin, range(2), batch=1)",
    "coroutines": "job = pool.map(later, range(20))",
    "C code": "job = pool.map(lambda x: item() or ctypes.PyDLL(None).sleep(1000), range(2), batch=1)",
    "unheld": "pool.map(lambda x: item() or time.sleep(1000), range(2), batch=1)",
    "shared": "aiopool.configure(workers=2); pmap(lambda x: item() or time.sleep(1000), range(2), batch=1)",
    "a thread waits": "job = pool.map(later, range(2)); "
    "threading.Thread(target=wait, args=(job,), daemon=True).start()",
    "started by a thread": "thread = threading.Thread(target=pool.map, args=(later, range(2))); "
    "thread.start(); thread.join()",
}

HOW = {
    "at the end": ("pass", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise LookupError('of the script')", 1, "LookupError: of the script"),
}

PREAMBLE = """
import asyncio, ctypes, os, subprocess, sys, threading, time
import aiopool
from aiopool import Pool, pmap
def item():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open("family.board", "a") as file:
        file.write(f"{os.getpid()}\\n{child.pid}\\n")
def spin(x):
    item()
    while True:
        pass
async def later(x):
    item()
    await asyncio.sleep(1000)
def wait(job):
    try:
        job.result()
    except BaseException:
        pass
def begun():
    until = time.monotonic() + 20
    while not os.path.exists("family.board") or open("family.board").read().count("\\n") < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("what", "how"),
    [(what, "at the end") for what in EXITS] + [("def", "sys.exit"), ("def", "an exception")],
)
def test_a_program_that_ends_with_jobs_running_takes_everybody_along(tmp_path, what, how):
    """Soon, with its own exit code, and nothing of ours on standard error. Also given with ``-c``."""
    end, code, said = HOW[how]
    made = "" if what == "shared" else "pool = Pool(workers=2)\n"
    source = f"{PREAMBLE}\n{made}{EXITS[what]}\nbegun()\nprint(time.time(), flush=True)\n{end}\n"
    process = start("-W", "always:the pool:ResourceWarning", "-c", source, cwd=tmp_path)
    out, err = process.communicate(timeout=DEADLINE)
    try:
        assert process.returncode == code, err
        assert err.strip().endswith(said)
        assert said or not beside_progress(err)
        assert time.time() - float(out) < 15
        family = [int(pid) for pid in Board(tmp_path).marks("family")]
        until(lambda: not [pid for pid in family if alive(pid)], what="everybody is gone")
    finally:
        for pid in map(int, Board(tmp_path).marks("family")):
            if alive(pid):
                os.kill(pid, 9)
