"""What a job shows under its cell with ``progress="text"``: one line, changed in place, if it is worth watching."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import HELD, Cell, Kernel, Signs, patient

pytestmark = pytest.mark.kernel


def first_shown(cell: Cell) -> bool:
    """Whether the line is there."""
    return bool(cell.displays)


@pytest.mark.core
def test_a_job_that_was_not_awaited_is_shown_and_nothing_is_lost(kernel: Kernel, signs: Signs) -> None:
    """Whoever forgets the ``await`` sees a job that runs; printed, it says how it is in a line."""
    kernel.run(HELD)
    cell = kernel.run("pmap(held, range(3))")
    assert cell.output is None
    assert "held: " in cell.panels[0].texts[-1]
    assert cell.printed("stderr") == ""
    shown = kernel.run("print(aiopool.last_job())").printed()
    assert re.fullmatch(r"<Job held: 0 of 3(, \d in flight)?(, 0/s)?, (\d\.\d|\d\d) s>\n", shown), shown
    # Not `_`: where another cell has assigned one of its own, IPython leaves that alone.
    assert kernel.value(f"sign('go')\nawait Out[{cell.number}]") == [0, 1, 2]
    assert kernel.run("aiopool.last_job()").panels[0].texts[-1].startswith("held: 3 done, ")
    assert kernel.run("print(aiopool.last_job())").printed().startswith("<Job held: 3 done, ")


@pytest.mark.core
def test_a_line_appears_after_half_a_second_and_changes_in_place(kernel: Kernel, signs: Signs) -> None:
    """One display, updated under the same id, at most ten times a second; the last text says how it ended."""
    kernel.run(HELD)
    cell = kernel.begin("await pmap(held, range(3), desc='reading', progress='text')")
    running = "reading: 0 of 3, 3 in flight"
    # On a slow machine the first ones may have come before the workers.
    cell.wait_for(lambda cell: "".join("".join(each.texts) for each in cell.displays).count(running) >= 4, "updates")
    signs.allow("go")
    cell.finish()
    assert cell.error is None, cell.traceback
    assert cell.value == [0, 1, 2]
    (shown,) = cell.displays
    assert shown.display_id
    assert 0.5 <= shown.sent[0] - cell.began < 10
    # One that was late is followed by one in time.
    gaps = [b - a for a, b in zip(shown.sent, shown.sent[1:-1], strict=False)]
    assert sum(gaps) / len(gaps) > 0.07
    assert all("reading: 0 of 3" in text for text in shown.texts[:4])
    assert "reading: 3 done, " in shown.texts[-1]
    assert all("\n" not in text for text in shown.texts)
    assert [m.kind for m in cell.messages if m.kind in ("display_data", "execute_result")] == [
        "display_data",
        "execute_result",
    ]


def test_a_job_that_is_done_at_once_shows_nothing(kernel: Kernel) -> None:
    """No line, no print: only what the cell itself shows."""
    kernel.run("await aiopool.get_pool().broadcast(os.getpid)\nasync def quick(x):\n    return x")
    with patient(kernel):
        cell = kernel.run("await pmap(quick, range(200), progress='text')\nawait asyncio.sleep(2.7)")
    assert cell.displays == []
    assert cell.printed() == cell.printed("stderr") == ""


@pytest.mark.core
def test_no_progress_shows_nothing(kernel: Kernel, signs: Signs) -> None:
    """``progress=False``, however long it takes."""
    kernel.run(HELD)
    cell = kernel.begin(
        """
        job = pmap(held, range(3), progress=False)
        await asyncio.sleep(0.9)
        sign("go")
        await job
        """
    ).finish()
    assert cell.value == [0, 1, 2]
    assert cell.displays == cell.panels == []


def test_the_line_of_a_background_job_stays_under_its_cell(kernel: Kernel, signs: Signs) -> None:
    """It goes on under the cell that started the job, while others run and print."""
    kernel.run(HELD)
    started = kernel.run("job = pmap(held, range(3), progress='text')")
    other = kernel.run("for i in range(10):\n    time.sleep(0.1)\n    print(i)")
    started.wait_for(lambda cell: first_shown(cell) and len(cell.displays[0].texts) >= 3, "a line with updates")
    last = kernel.run("sign('go')\nawait job")
    started.wait_for(lambda cell: "held: 3 done, " in cell.displays[0].texts[-1], "the last line")
    assert len(started.displays) == 1
    assert other.displays == last.displays == []
    assert last.value == [0, 1, 2]


def test_several_jobs_have_a_line_each(kernel: Kernel, signs: Signs) -> None:
    """With ids of their own."""
    kernel.run(HELD)
    cell = kernel.begin(
        """
        jobs = [
            pmap(held, range(2), desc="first", progress="text"),
            pmap(held, range(2, 5), desc="second", progress="text"),
        ]
        await asyncio.gather(*jobs)
        """
    )
    cell.wait_for(lambda cell: len(cell.displays) == 2, "both lines")
    signs.allow("go")
    cell.finish()
    assert cell.error is None, cell.traceback
    first, second = cell.displays
    assert first.display_id != second.display_id
    assert "first: 2 done, " in first.texts[-1]
    assert "second: 3 done, " in second.texts[-1]


def test_the_last_line_tells_of_failures_and_of_a_stop(kernel: Kernel, signs: Signs) -> None:
    """It says what came of the job, however it ended."""
    kernel.run(HELD)
    kernel.run("async def fails(x):\n    await held(x)\n    raise ValueError(x)")
    cell = kernel.begin("await pmap(held, range(3), progress='text')").wait_for(first_shown, "the line")
    kernel.interrupt()
    cell.finish()
    cell.wait_for(lambda cell: "held: 0 of 3, stopped" in cell.displays[0].texts[-1], "the last line")
    source = "got = await pmap(fails, range(10, 13), on_error='return', progress='text')"
    cell = kernel.begin(source).wait_for(first_shown, "the line")
    signs.allow("go")
    cell.finish()
    assert "fails: 0 done, 3 failed" in cell.displays[0].texts[-1]


def test_a_line_is_shown_whatever_the_job_is_called(kernel: Kernel, signs: Signs) -> None:
    """Half of a character, which no message can carry, is replaced; also where a second run of the cell says more."""
    kernel.run(HELD)
    source = r"job = pmap(held, range(3), progress='text', desc='h \ud83d x')"
    cell = kernel.begin(source, "cell 1").wait_for(first_shown, "the line").finish()
    assert "h \N{REPLACEMENT CHARACTER} x: 0 of 3" in cell.displays[0].texts[0]
    again = kernel.begin("pass", "cell 1").finish()
    assert [shown.texts for shown in again.displays] == [
        ["h \N{REPLACEMENT CHARACTER} x, started by the last run of this cell, was cancelled: 0 of 3 done"]
    ]
    assert again.printed("stderr") == again.printed() == ""


@pytest.mark.core
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_prints_of_workers_come_under_the_cell(kernel: Kernel, kind: str) -> None:
    """With the item in front, whole lines, standard error too, and all of it before the cell ends."""
    kernel.run(
        f"""
        {kind} chatty(x):
            print("item", x)
            print("second line of", x)
            sys.stderr.write(f"warning {{x}}\\n")
            return x
        """
    )
    cell = kernel.run("await pmap(chatty, range(4))")
    assert cell.value == [0, 1, 2, 3]
    lines = cell.printed().splitlines()
    assert sorted(lines) == sorted(f"[item {x}] {what} {x}" for what in ("item", "second line of") for x in range(4))
    assert sorted(cell.printed("stderr").splitlines()) == [f"[item {x}] warning {x}" for x in range(4)]


def test_a_line_that_was_not_ended_ends_with_its_job(kernel: Kernel) -> None:
    """What the next job prints stands on a line of its own, under its own cell."""
    for end, text in (("", "no end"), ("\\n", "next")):
        cell = kernel.run(f"_ = await aiopool.get_pool().broadcast(lambda: print('{text}', end='{end}'))")
        assert sorted(cell.printed().splitlines()) == [f"[worker 0] {text}", f"[worker 1] {text}"]


def test_prints_of_a_background_job_come_under_the_cell_that_started_it(kernel: Kernel, signs: Signs) -> None:
    """Not under the one that happens to run."""
    kernel.run(HELD + "\nasync def chatty(x):\n    await held(x)\n    print('hello from', x)")
    started = kernel.run("job = pmap(chatty, range(3))")
    other = kernel.run(
        "sign('go')\nfor i in range(3):\n    print('mine', i)\nwhile not job.done():\n    time.sleep(0.01)"
    )
    started.wait_for(lambda cell: cell.printed().count("hello from") == 3, "the prints")
    assert other.printed() == "mine 0\nmine 1\nmine 2\n"


def test_the_pool_describes_itself_in_one_line(kernel: Kernel) -> None:
    """Pool, its snapshot, a worker: each reads like a status bar; below the pool its workers."""
    # Where one was slow to get free there is one more than there are places, for a moment.
    kernel.until(lambda: len(kernel.workers()) <= 2, "the end of the worker that was one too many")
    kernel.run("_ = await aiopool.get_pool().broadcast(os.getpid)")
    pool, worker, snapshot = (
        kernel.run(f"pool = aiopool.get_pool()\n{what}").output
        for what in ("pool", "pool.workers[0]", "print(pool.snapshot())")
    )
    assert pool is not None
    assert re.fullmatch(r"<Pool shared open \| 2 of 2 workers \(2 idle\) \| 0 jobs>", pool.partition("\n")[0])
    assert worker is not None
    assert re.fullmatch(r"<worker 0 \(pid \d+\) idle, (\d+ MB, )?0 in flight, [\d,]+ done>", worker)
    assert snapshot is None
