"""What a job shows in a terminal: bars at its foot, and lines above them. And in a log: now and then a line."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from aiopool import terminal
from aiopool.bars import Bars
from aiopool.options import MapOptions
from aiopool.surfaces import Displayed, Printed
from aiopool.telemetry import JobSnapshot, PoolSnapshot
from aiopool.terminal import TerminalSurface
from tests.pool.board import DEADLINE, until
from tests.pool.scripts import script, start
from tests.pool.terminals import Terminal

HELD = """
import os, sys, time
import aiopool
from aiopool import Pool, pmap, terminal

def held(x):
    if x == 2:
        print("hello from two")
    if x == 3:
        raise ValueError("three")
    while x >= 4 and not os.path.exists("go"):
        time.sleep(0.01)
    return x
"""


def go(folder: Path) -> None:
    """Let the items end."""
    (folder / "go").touch()


def picture(elapsed: float, done: int = 0, **more: object) -> JobSnapshot:
    """A job."""
    given = {"state": "running", "total": 100, "failed": 0, "in_flight": 2, **more}
    return JobSnapshot(id=1, name="fetch", done=done, elapsed=elapsed, **given)  # type: ignore[arg-type]


def pool_of(*jobs: JobSnapshot) -> PoolSnapshot:
    """Its pool."""
    return PoolSnapshot("pool", "open", 1, (), jobs)


# --- in a terminal ---------------------------------------------------------------------------------------------------


def test_several_jobs_have_a_bar_each_and_leave_a_line_each(tmp_path: Path) -> None:
    """The bars stand below each other while they run, what workers print above them, and no torn line is left."""
    file = script(
        tmp_path,
        HELD
        + """
if __name__ == "__main__":
    with Pool(2) as pool:
        first = pool.map(held, range(2, 8), on_error="return", desc="first")
        while not first.snapshot().failed:
            time.sleep(0.01)
        second = pool.map(held, range(4, 8), desc="second")
        first.result()
        second.result()
    print("end")
""",
    )
    with Terminal(file) as shown:
        seen = [
            re.escape("[item 0] hello from two"),
            r"first:  33%\|█+\S? +\| 2/6 \[.*, 1 failed\]",
            r"second:   0%\| +\| 0/4 \[.*\]",
        ]
        # What is read may end in the middle of a line.
        shown.until(lambda lines: re.fullmatch("\n".join(seen), "\n".join(lines)), "two bars below a line")
        go(tmp_path)
        lines = shown.finish()
    assert lines[0] == "[item 0] hello from two"
    assert lines[-1] == "end"
    bars = sorted(lines[1:-1])
    assert [bar[: bar.index("[")].replace("█", "") for bar in bars] == ["first: 100%|| 6/6 ", "second: 100%|| 4/4 "]
    assert "1 failed" in bars[0]


def test_a_narrow_terminal_shows_what_matters_on_one_line(tmp_path: Path) -> None:
    """No line is wider than the terminal: one that went on in the next row could not be taken back."""
    source = HELD + "\nif __name__ == '__main__':\n    pmap(held, range(4, 8), desc='a' * 60).result()\n"
    with Terminal(script(tmp_path, source), columns=30) as shown:
        lines = shown.until(lambda lines: any("aaa" in line for line in lines), "the bar")
        assert len(lines) == 1
        assert len(lines[0]) < 30
        go(tmp_path)
        assert len(shown.finish()) == 1
    with Terminal(script(tmp_path, source.replace("'a' * 60", "'job'")), columns=30) as shown:
        assert shown.finish() in ([], ["job: 100% 4/4"])


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        ("job.result()", "aiopool.errors.JobStopped: Stopped: 0 of 4 done"),
        ("time.sleep(60)", "KeyboardInterrupt"),
        ("asyncio.run(job.wait())", "KeyboardInterrupt"),
    ],
)
def test_ctrl_c_leaves_the_bar_and_a_traceback_on_lines_of_its_own(tmp_path: Path, wait: str, said: str) -> None:
    """The line of the bar is not written into, and it is there once, wherever the script was interrupted."""
    main = f"job = pmap(held, range(4, 8), desc='long')\n    {wait}"
    source = f"{HELD}\nimport asyncio\nif __name__ == '__main__':\n    {main}\n"
    with Terminal(script(tmp_path, source)) as shown:
        # All of it: it is the terminal that puts ^C where the cursor is.
        shown.until(lambda lines: any(re.fullmatch(r"long:   0%.*\| 0/4 \[.*\]", line) for line in lines), "the bar")
        shown.press_ctrl_c()
        lines = shown.finish()
    assert lines[0].startswith("long:   0%|")
    assert lines[1] == "Traceback (most recent call last):"
    assert said in "".join(lines)
    assert sum("long:" in line for line in lines) == 1


def test_a_bar_of_the_users_own_is_the_only_one(tmp_path: Path) -> None:
    """``for x in tqdm(job)``: two that draw on the same line would tear each other."""
    source = (
        HELD
        + """
from tqdm import tqdm
if __name__ == "__main__":
    job = pmap(held, range(2, 8), on_error="return", desc="ours")
    for x in tqdm(job, desc="mine", total=6):
        pass
"""
    )
    with Terminal(script(tmp_path, source)) as shown:
        shown.until(lambda lines: any("mine:" in line and "/6" in line for line in lines), "the user's bar")
        shown.until(lambda lines: any("hello from two" in line for line in lines), "what a worker printed")
        go(tmp_path)
        lines = shown.finish()
    assert lines[0] == "[item 0] hello from two"
    assert lines[1].startswith("mine: 100%|")
    assert len(lines) == 2
    assert "ours" not in shown.written


def test_nothing_is_shown_of_calls_nor_with_progress_false(tmp_path: Path) -> None:
    """However long it takes; lines of workers come all the same."""
    source = (
        HELD
        + """
if __name__ == "__main__":
    jobs = [pmap(held, [4, 2], progress=False), aiopool.get_pool().submit(held, 5)]
    time.sleep(0.9)
    print("slept")
    open("go", "w").close()
    [job.result() for job in jobs]
"""
    )
    with Terminal(script(tmp_path, source)) as shown:
        assert sorted(shown.finish()) == ["[item 1] hello from two", "slept"]
        assert "\x1b" not in shown.written


def test_progress_text_writes_lines_in_a_terminal_too(tmp_path: Path) -> None:
    """Lines as in a log, and no bar."""
    source = (
        HELD
        + """
if __name__ == "__main__":
    terminal.FIRST_LINE = 0.6
    pmap(held, range(4, 8), progress="text", desc="spelt out").result()
"""
    )
    with Terminal(script(tmp_path, source)) as shown:
        shown.until(lambda lines: lines and lines[0].startswith("spelt out: 0 of 4, "), "a line")
        go(tmp_path)
        lines = shown.finish()
    assert lines[-1].startswith("spelt out: 4 done, ")
    assert "█" not in shown.written


# --- in a log --------------------------------------------------------------------------------------------------------


def test_a_log_has_a_line_now_and_then_and_a_last_one(tmp_path: Path) -> None:
    """On standard error, which is no terminal; a job that is shorter than the time until the first writes none."""
    source = (
        HELD
        + """
if __name__ == "__main__":
    terminal.FIRST_LINE = 60.0
    pmap(held, range(4), on_error="return", desc="short").result()
    terminal.FIRST_LINE = 0.6
    pmap(held, range(4, 8), desc="long").result()
"""
    )
    process = start(script(tmp_path, source), cwd=tmp_path)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        go(tmp_path)
        out, rest = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert re.fullmatch(r"long: 0 of 4, \d in flight, 0/s, [\d.]+ s\n", first), first
    assert rest.splitlines()[-1].startswith("long: 4 done, ")
    assert "\x1b" not in first + rest
    assert "\r" not in first + rest
    assert out == "[item 2] hello from two\n"


def test_lines_come_after_five_seconds_and_then_more_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the most thirty seconds apart."""
    said: list[tuple[float, str]] = []
    now = 0.0
    monkeypatch.setattr(terminal, "say", lambda text, _: said.append((now, text)))
    surface = TerminalSurface.of("fetch", progress="text")
    surface.begin(1)
    assert surface.view is not None
    while now < 200:
        now += 0.1
        surface.view.refresh(pool_of(picture(now)), ())
    times = [when for when, _ in said]
    gaps = [round(b - a, 1) for a, b in itertools.pairwise(times)]
    assert times[0] == pytest.approx(5, abs=0.2)
    assert gaps[0] == pytest.approx(5, abs=0.2)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(30, abs=0.3)
    surface.close(picture(now, 100, state="done"))
    assert len(said) == len(times) + 1


def test_a_job_that_wrote_no_line_ends_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most are over before there is anything to say."""
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", lambda text, _: said.append(text))
    surface = TerminalSurface.of("fetch", progress="text")
    surface.begin(1)
    assert surface.view is not None
    surface.view.refresh(pool_of(picture(4.9)), ())
    surface.close(picture(4.95, 100, state="done"))
    assert said == []


def test_a_job_that_waits_for_a_reader_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """In a line as in a bar: nobody would know why it stands still."""
    surface = TerminalSurface.of("fetch", progress="text")
    surface.begin(1)
    assert surface.view is not None
    surface.view.refresh(pool_of(picture(6.0, 50, waits_for_reader=True)), ())
    shown = Bars()
    shown.move("job", picture(6.0, 50, waits_for_reader=True, retried=3, resting=2), 8.0)
    line, bar = capsys.readouterr().err.split("\n")
    assert "2 waiting to run again" in bar
    assert line.endswith(", waiting for a reader")
    assert "waiting for a reader" in bar
    assert "3 retried" in bar


# --- lines of workers ------------------------------------------------------------------------------------------------


def test_lines_of_workers_say_who_printed_them_and_go_to_their_own_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error stays standard error: what a script's output is piped into is not given warnings to read."""
    maps, calls = TerminalSurface("fetch"), TerminalSurface("fetch", as_one=True)
    maps.write([Printed(0, 7, "a"), Printed(1, None, "b"), Printed(0, 7, "c", error=True)])
    calls.write([Printed(0, 0, "d"), Printed(2, None, "e")])
    maps.display(Displayed(0, 3, {"text/plain": "two\nlines"}, {}))
    out, err = capsys.readouterr()
    assert out == "[item 7] a\n[worker 1] b\n[fetch] d\n[worker 2] e\n[item 3] two\n[item 3] lines\n"
    assert err == "[item 7] c\n"


@pytest.mark.parametrize(
    ("kind", "label"), [("once", "[hello] "), ("submit", "[hello] "), ("broadcast", "[worker 0] ")]
)
def test_the_first_line_says_who_printed_it_however_soon_it_comes(fresh, monkeypatch, kind: str, label: str) -> None:
    """Also before whoever starts the job has come to hold it."""
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", lambda text, _: said.append(text))
    monkeypatch.setattr(terminal, "FIRST_LINE", 2 * DEADLINE)  # of how far it is, which a slow machine may say
    monkeypatch.setattr(TerminalSurface, "hold", lambda *_: until(lambda: said, what="the line has come"))

    def hello() -> None:
        print("hello")  # noqa: T201 - that is what it is about

    pool = fresh(1)
    if kind == "once":
        job = pool.open_once(hello, MapOptions.of({"desc": "hello"}))
    elif kind == "submit":
        job = pool.submit(hello)
    else:
        job = pool.broadcast(hello)
    job.result(DEADLINE)
    assert said == [f"{label}hello\n"]


def test_many_jobs_do_not_fill_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten bars are shown at the most, and how many jobs there are besides."""
    shown = Bars()
    for number in range(30):
        shown.move(number, picture(6.0, 50), 8.0)
        shown._next = 0.0
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert last.count("fetch:") == 9
    assert "... 21 more jobs" in last
