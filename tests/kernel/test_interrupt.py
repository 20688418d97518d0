"""Stop works: the prompt is back at once, finished results are kept, and the next cell finds everything in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import pytest

from tests.kernel.harness import Cell, Kernel, Signs, gone

pytestmark = pytest.mark.kernel

ARRIVED = """
def watch(previous):
    # Says when the results of the first two items of the next job are in the kernel.
    def look():
        while (job := aiopool.last_job()) is previous or job.snapshot().finished < 2:
            time.sleep(0.005)
        sign("arrived")
    threading.Thread(target=look, daemon=True).start()
"""

WITHIN = 1.0
"""The limit of these tests in seconds, for a busy machine; the promise is 0.3, and the summary says how it was."""

STOPPED = re.compile(r"Stopped: (\d+) of (\d+) done: aiopool\.last_job\(\)\.partial\(\), \.retry\(\)")

WORK = {
    # The first two items end; all others say where they are and stay there.
    "coroutines": """
    async def work(x):
        sign(x)
        if x < 2:
            return x * 10
        await asyncio.sleep(3600)
    """,
    "time.sleep": """
    def work(x):
        sign(x)
        if x < 2:
            return x * 10
        time.sleep(3600)
    """,
    "a Python loop": """
    def work(x):
        sign(x)
        if x < 2:
            return x * 10
        while True:
            pass
    """,
    "a coroutine that holds its loop": """
    async def work(x):
        sign(x)
        if x < 2:
            return x * 10
        while True:
            pass
    """,
}


@dataclass(frozen=True)
class Wait:
    """How a cell waits, and what it shows when it is stopped."""

    source: str
    shows: str


WAITS = {
    "await": Wait("await pmap(work, range(8))", "CancelledError"),
    "async for": Wait("async for _ in pmap(work, range(8)):\n    pass", "CancelledError"),
    "async for as_completed": Wait("async for _ in pmap(work, range(8)).as_completed():\n    pass", "CancelledError"),
    "result": Wait("pmap(work, range(8)).result()", "JobStopped"),
    "result, where the cell awaits too": Wait("await asyncio.sleep(0)\npmap(work, range(8)).result()", "JobStopped"),
    "for": Wait("for _ in pmap(work, range(8)):\n    pass", "JobStopped"),
    "gather": Wait("await asyncio.gather(pmap(work, range(8)), asyncio.sleep(3600))", "CancelledError"),
}


def begin(kernel: Kernel, signs: Signs, source: str, items: int) -> Cell:
    """Begin a cell that starts a job, and wait until so many items of it have begun and two have their results."""
    kernel.run(ARRIVED)
    cell = kernel.begin(f"watch(aiopool.last_job())\n{source}")
    signs.wait_for(items + 1)
    kernel.until(lambda: "arrived" in signs.names(), "two results")
    return cell


def press_stop(kernel: Kernel, cell: Cell, note: Callable[[str, float], None], name: str) -> Cell:
    """Interrupt the cell, and see it end in time."""
    pressed = kernel.interrupt()
    cell.finish()
    assert cell.ended is not None
    note(f"from Stop to the prompt, {name}", cell.ended - pressed)
    assert cell.ended - pressed < WITHIN
    assert kernel.is_alive
    return cell


def shown_line(cell: Cell) -> str:
    """The one line that is shown for a stop."""
    assert cell.error is not None
    (line,) = cell.error["traceback"]
    assert cell.printed("stderr") == ""
    return str(line)


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=[pytest.mark.core] if how in ("await", "result") else []) for how in ("await", "result")],
)
def test_stop_brings_the_prompt_back_whatever_the_items_do(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], how: str, kind: str
) -> None:
    """One line is shown, results stay with the job, the workers live on and run the next cell."""
    kernel.run(WORK[kind])
    kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    workers = kernel.workers()
    assert len(workers) == 2
    cell = begin(kernel, signs, WAITS[how].source, 4)
    press_stop(kernel, cell, figure, f"{how}, {kind}")

    assert cell.error is not None
    assert cell.error["ename"] == WAITS[how].shows
    found = STOPPED.fullmatch(shown_line(cell))
    assert found, cell.error["traceback"]
    assert found.groups() == ("2", "8")
    state = "[job.snapshot().state, job.done(), job.partial(fill=None)]"
    kernel.run("job = aiopool.last_job()\nawait job.wait(10)")
    assert kernel.value(state) == ["stopped", True, [0, 10] + [None] * 6]
    assert kernel.value("await pmap(abs, [-1, -2, -3, -4], batch=1)") == [1, 2, 3, 4]
    assert set(workers) <= set(kernel.workers())


@pytest.mark.parametrize("how", [how for how in WAITS if how not in ("await", "result")])
def test_stop_ends_every_kind_of_wait(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], how: str
) -> None:
    """The job that the cell reads is stopped; it can be retried from where it was."""
    kernel.run(WORK["coroutines"])
    cell = begin(kernel, signs, WAITS[how].source, 8)
    press_stop(kernel, cell, figure, how)
    assert cell.error is not None
    assert cell.error["ename"] == WAITS[how].shows
    if how != "gather":
        assert STOPPED.fullmatch(shown_line(cell)), cell.error["traceback"]
    kernel.run("job = aiopool.last_job()\nawait job.wait(10)")
    assert kernel.value("[job.snapshot().state, job.partial(fill=None)]") == ["stopped", [0, 10] + [None] * 6]
    assert kernel.value("await job.retry(lambda x: -x)") == [0, 10, -2, -3, -4, -5, -6, -7]


@pytest.mark.core
@pytest.mark.parametrize("how", ["await", "await, 5 times", "result", "result, 5 times"])
@pytest.mark.parametrize("kind", ["coroutines", "time.sleep"])
def test_stop_is_pressed_several_times(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], kind: str, how: str
) -> None:
    """Each press finds the one before it at work, or nothing: kernel, workers and the next cell are unharmed."""
    how, _, times = how.partition(", ")
    kernel.run(WORK[kind])
    kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    workers = kernel.workers()
    cell = begin(kernel, signs, WAITS[how].source, 4)
    for _ in range(4 if times else 1):
        kernel.interrupt()
    pressed = kernel.interrupt()
    # Not for the reply: a press that comes when ours has ended the wait may strike the kernel's own code, which then
    # says so and forgets what it was about to send.
    cell.wait_for(lambda cell: cell.ended is not None, "the end of the cell")
    assert cell.ended is not None
    figure(f"from Stop to the prompt, {how}, pressed {times or 'twice'}", cell.ended - pressed)
    assert cell.ended - pressed < WITHIN
    if cell.error is None:
        assert "KeyboardInterrupt" in cell.printed() + cell.printed("stderr") or how == "result"
    else:
        assert cell.error["ename"] in (WAITS[how].shows, "KeyboardInterrupt")
    assert kernel.value("job = aiopool.last_job()\nawait pmap(abs, [-1, -2])") == [1, 2]
    assert kernel.value("await job.wait(10), job.partial(fill=None)") == (True, [0, 10] + [None] * 6)
    assert set(workers) <= set(kernel.workers())


def test_stop_in_another_cell_leaves_a_background_job_alone(kernel: Kernel, signs: Signs) -> None:
    """What the stopped cell neither awaits nor iterates runs on, in the same processes."""
    kernel.run(
        """
        async def waits(x):
            sign(x)
            while not os.path.exists(os.path.join(SIGNS, "go")):
                await asyncio.sleep(0.01)
            return os.getpid()
        job = pmap(waits, range(4))
        """
    )
    signs.wait_for(4)
    workers = kernel.workers()
    # A bare await is not ours: it feels the stop when the loop next wakes, so something wakes it here.
    ticking = (
        "async def tick():\n    while True:\n        await asyncio.sleep(0.02)\nticker = asyncio.create_task(tick())\n"
    )
    for source in ("print('here')\ntime.sleep(3600)", f"{ticking}print('here')\nawait asyncio.sleep(3600)"):
        cell = kernel.begin(source)
        cell.wait_for(lambda cell: "here" in cell.printed(), "the print of the cell")
        kernel.interrupt()
        assert cell.finish().error is not None
    kernel.run("ticker.cancel()")
    assert kernel.value(f"sign('go')\nset(await job) <= set({workers})") is True
    assert set(workers) <= set(kernel.workers())


def test_stop_while_the_kernel_is_idle_harms_nobody(kernel: Kernel, signs: Signs) -> None:
    """The signal goes to the whole process group: the workers ignore it, busy or not, and the job goes on."""
    kernel.run(
        """
        def waits(x):
            sign(x)
            while not os.path.exists(os.path.join(SIGNS, "go")):
                time.sleep(0.01)
            return x
        job = pmap(waits, range(4))
        """
    )
    signs.wait_for(2)
    workers = kernel.workers()
    kernel.interrupt()
    kernel.interrupt()
    assert kernel.value("sign('go')\nawait job") == [0, 1, 2, 3]
    assert set(workers) <= set(kernel.workers())


def test_stop_while_workers_start_harms_none_of_them(own_kernel: Kernel, figure: Callable[[str, float], None]) -> None:
    """SIGINT is blocked across the start, so the first cell may be stopped at any moment of it."""
    own_kernel.run("async def hold(x):\n    await asyncio.sleep(3600)")
    for round_ in range(5):
        own_kernel.run("aiopool.get_pool().restart(now=True).result()" if round_ else "aiopool.get_pool()")
        cell = own_kernel.begin("job = pmap(hold, range(4))\nprint('started')\nawait job")
        cell.wait_for(lambda cell: "started" in cell.printed(), "the start")
        press_stop(own_kernel, cell, figure, "await, workers starting")
        assert STOPPED.fullmatch(shown_line(cell))
        assert own_kernel.value("await pmap(abs, [-1, -2, -3])") == [1, 2, 3]
        assert own_kernel.run("aiopool.get_pool()").output is not None


@pytest.mark.core
def test_a_cell_may_catch_the_stop(kernel: Kernel, signs: Signs) -> None:
    """``except asyncio.CancelledError`` around the await: the cell goes on with what there is."""
    kernel.run(WORK["coroutines"])
    caught = """
job = pmap(work, range(8))
try:
    await job
except asyncio.CancelledError:
    print("stopped")
job.partial(fill=None)
"""
    cell = begin(kernel, signs, caught, 8)
    kernel.interrupt()
    assert cell.finish().error is None
    assert cell.printed() == "stopped\n"
    assert cell.value == [0, 10] + [None] * 6


def test_coroutines_that_are_stopped_clean_up(kernel: Kernel, signs: Signs) -> None:
    """They get a CancelledError, run their ``finally``, and the session they closed is closed before the next job."""
    kernel.run(
        """
        async def work(x):
            sign(x)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                sign(f"cancelled {x}")
                raise
            finally:
                await asyncio.sleep(0.01)
                sign(f"closed {x}")
        def work_in_turn(x):
            sign(x)
            try:
                time.sleep(3600)
            finally:
                sign(f"closed {x}")
        """
    )
    cell = kernel.begin("await pmap(work, range(3))")
    signs.wait_for(3)
    kernel.interrupt()
    cell.finish()
    signs.wait_for(9)
    assert signs.names() == sorted(f"{word}{x}" for word in ("", "cancelled ", "closed ") for x in range(3))
    cell = kernel.begin("await pmap(work_in_turn, range(10, 12), batch=1)")
    signs.wait_for(11)
    kernel.interrupt()
    cell.finish()
    signs.wait_for(13)
    assert {"closed 10", "closed 11"} <= set(signs.names())


def test_stop_in_with_pool_ends_the_pool(kernel: Kernel, signs: Signs, figure: Callable[[str, float], None]) -> None:
    """Leaving ``with Pool`` through a stop terminates it: no process is left."""
    kernel.run(WORK["coroutines"])
    for how, source in {
        "async with": "async with Pool(workers=2, grace=60) as pool:\n    await pool.map(work, range(8))",
        "with": "with Pool(workers=2, grace=60) as pool:\n    pool.map(work, range(20, 28)).result()",
        "with, at its end": "with Pool(workers=2, grace=60) as pool:\n    job = pool.map(work, range(40, 48))",
        "async with, at its end": (
            "async with Pool(workers=2, grace=60) as pool:\n    job = pool.map(work, range(60, 68))"
        ),
    }.items():
        others = {child.pid for child in kernel.children()}
        begun = len(signs.names())
        cell = kernel.begin(source)
        signs.wait_for(begun + 8)
        press_stop(kernel, cell, figure, how)
        assert cell.error is not None
        others.update(kernel.workers())  # The shared pool may have replaced one of its own.
        gone([child for child in kernel.children() if child.pid not in others])
        assert kernel.value("pool.join(30)\n[pool.closed, pool.snapshot().state]") == [True, "closed"]


DEAF = {
    "threads": """
    options = {"concurrency": 8}
    def work(x):
        sign(x)
        if x < 2:
            return x * 10
        time.sleep(3600)
    """,
    "a def that catches everything": """
    options = {}
    def work(x):
        sign(x)
        if x < 2:
            return x * 10
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                pass
    """,
    "a coroutine that catches everything": """
    options = {}
    async def work(x):
        sign(x)
        if x < 2:
            return x * 10
        while True:
            try:
                await asyncio.sleep(3600)
            except BaseException:
                pass
    """,
}


GRACE = 8.0
"""Seconds: so long that the next job has time, on a busy machine, too, to end before anybody is killed."""


@pytest.mark.parametrize("kind", DEAF)
def test_stop_does_not_wait_for_items_that_ignore_it(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], kind: str
) -> None:
    """The prompt is back, the next cell finds workers at once, and what does not end is killed after the grace."""
    kernel.run(DEAF[kind])
    pids = kernel.value(f"pool = Pool(workers=2, grace={GRACE})\nawait pool.broadcast(os.getpid)")
    deaf = [psutil.Process(pid) for pid in pids]
    # Each of the two has items that are deaf then.
    cell = begin(kernel, signs, "await pool.map(work, range(8), **options)", 4 if kind.startswith("a def") else 8)
    press_stop(kernel, cell, figure, kind)
    assert STOPPED.fullmatch(shown_line(cell))
    following = kernel.begin("await pool.map(abs, [-1, -2, -3, -4], batch=1)").finish()
    assert following.value == [1, 2, 3, 4]
    assert following.ended is not None
    assert cell.ended is not None
    figure(f"from the prompt to the end of the next job, {kind}", following.ended - cell.ended)
    # Before the grace is over: nobody waits for the kill.
    assert following.ended - cell.ended < GRACE - 0.5
    assert kernel.value("aiopool.last_job().done() and aiopool.jobs()[0].partial(fill=None)") == [0, 10] + [None] * 6
    gone(deaf, seconds=GRACE + 5)
    kernel.run("pool.close()")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_stop_does_not_wait_for_the_input(
    kernel: Kernel, signs: Signs, figure: Callable[[str, float], None], kind: str
) -> None:
    """A generator that does not come back; what it gave before is computed and kept. An async one is closed."""
    sleep = "await asyncio.sleep(3600)"
    if kind == "def":
        sleep = "while 'go' not in signed(): time.sleep(0.01)"
    kernel.run(
        f"""
        {kind} slow():
            try:
                yield 1
                yield 2
                sign("reading")
                {sleep}
            finally:
                sign("closed")
        async def work(x):
            sign(x)
            return x * 10
        """
    )
    cell = begin(kernel, signs, "await pmap(work, slow())", 3)
    press_stop(kernel, cell, figure, f"input is {kind}")
    assert kernel.value("await pmap(abs, [-1, -2])") == [1, 2]
    assert kernel.value("aiopool.jobs()[0].partial()") == [10, 20]
    signs.allow("go")
    kernel.until(lambda: "closed" in signs.names(), "the end of the generator")


CALLS = {
    "a map": "pool.map(work, range(4))",
    "a submit": "pool.submit(work, 1)",
    "a map and its result": "pool.map(work, range(4)).result(10)",
    "a loop": "for _ in pool.map(work, range(4)): pass",
    "the picture of a job": "repr(done)",
    "a cancel": "done.cancel()",
    "partial results": "done.partial()",
    "a retry": "failed.retry()",
}


@pytest.mark.parametrize("call", CALLS)
def test_stop_at_any_moment_of_a_call_leaves_the_pool_in_order(kernel: Kernel, call: str) -> None:
    """In a cell without an ``await`` Python raises KeyboardInterrupt wherever it is: here, at one place after another.

    Python looks for signals where a function begins and where one that is written in C has ended. Those places count
    that lie in our code, or that it calls; what Python's own library makes of an interrupt is its own affair.
    """
    kernel.run(
        """
        def work(x):
            return 1 / x
        def struck(call, at):
            # Calls it, and raises at the at-th such place; returns how many there were until then.
            places = 0
            def is_ours(frame):
                return frame is not None and str(frame.f_globals.get("__name__")).startswith("aiopool")
            def profile(frame, event, _):
                nonlocal places
                if event in ("call", "c_return") and (is_ours(frame) or event == "call" and is_ours(frame.f_back)):
                    places += 1
                    if places == at:
                        sys.setprofile(None)
                        raise KeyboardInterrupt
            sys.setprofile(profile)
            try:
                call()
            except (KeyboardInterrupt, aiopool.JobStopped, ZeroDivisionError):
                pass
            except aiopool.RemoteError:
                # The error of the item was just being read.
                pass
            finally:
                sys.setprofile(None)
            return places
        """
    )
    kernel.run(
        f"""
        pool = Pool(workers=1)
        pool.map(abs, [1]).result(10)
        done = pool.map(abs, range(4))
        done.result(10)
        failed = pool.map(work, [0, 1])
        await failed.wait(10)
        def call():
            {CALLS[call]}
        places = struck(call, 0)
        for at in range(1, places, max(1, places // 100)):
            struck(call, at)
            assert pool.map(abs, [-1, -2]).result(10) == [1, 2], at
        pool.close()
        pool.join(10)
        """,
        seconds=100,
    )
    assert kernel.value("places") > 1
