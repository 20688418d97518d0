"""What is said where nobody reads: a pipe to ``less``, a terminal that Ctrl-S has stopped. The pool goes on."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiopool import writers
from aiopool.bars import Bars
from aiopool.telemetry import JobSnapshot
from tests.pool.board import DEADLINE, until
from tests.pool.scripts import beside_progress, script, start
from tests.pool.terminals import Terminal

TALK = """
import os, sys, time, warnings
from pathlib import Path
from aiopool import Pool, pmap, writers

def talk(x):
    for line in range(50):
        print(x, line, "y" * 200)
    return x

def be_behind():
    # Lines have a way of their own, and may come after the results.
    while not writers.is_behind(sys.stdout):
        time.sleep(0.01)

def held(x):
    while not os.path.exists("go"):
        time.sleep(0.01)
    return talk(x)

class Tee:
    def __init__(self, *streams):
        self.streams = streams

    def write(self, text):
        for stream in self.streams:
            stream.write(text)
            stream.flush()

    def flush(self):
        pass
"""

LINE = re.compile(r"\[item (\d+)\] (\d+) (\d+) y{200}")


@contextlib.contextmanager
def running(source: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A script that is not read unless the test does."""
    process = start(script(folder, TALK + source), cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def there(folder: Path, name: str) -> None:
    """Wait until the script has made this file."""
    until((folder / name).exists, DEADLINE, f"the script comes to {name!r}, though nobody reads")


def of_workers(out: str) -> dict[int, list[int]]:
    """The numbers of the lines of each item."""
    lines: dict[int, list[int]] = {}
    for line in out.splitlines():
        found = LINE.fullmatch(line)
        assert found, line[:100]
        assert found[1] == found[2]
        lines.setdefault(int(found[1]), []).append(int(found[3]))
    return lines


# --- pipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sys.stdout", "Tee(sys.stdout)"])
def test_a_pool_goes_on_and_a_script_ends_though_nobody_reads(tmp_path: Path, place: str) -> None:
    """The pipe is full after 64 KiB. The job ends all the same, and the script soon after; what is left is counted."""
    source = f"""
if __name__ == "__main__":
    writers.GIVE_UP = 0.3
    sys.stdout = {place}
    with Pool(workers=2) as pool:
        Path("done").write_text(str(pool.map(talk, range(20)).result()))
"""
    with running(source, tmp_path) as process:
        assert process.wait(DEADLINE) == 0
        assert (tmp_path / "done").read_text() == str(list(range(20)))
        out, err = process.communicate()
    *whole, torn = out.split("\n")
    said = beside_progress(err)
    told = re.fullmatch(r"\[aiopool\] nobody read on: the last ([\d,]+) lines were not shown\n", said)
    assert told, err
    # What was being written while they were counted is in both.
    assert 1000 <= len(whole) + int(told[1].replace(",", "")) <= 1020, torn


@pytest.mark.parametrize("place", ["sys.stdout", "Tee(sys.stdout)"])
def test_who_reads_late_gets_every_line_in_order(tmp_path: Path, place: str) -> None:
    """The job has ended before; the end of the script waits for a reader that takes its time."""
    source = f"""
if __name__ == "__main__":
    writers.GIVE_UP = 20.0
    sys.stdout = {place}
    pmap(talk, range(20)).result()
    Path("done").touch()
"""
    with running(source, tmp_path) as process:
        there(tmp_path, "done")
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    assert of_workers(out) == {item: list(range(50)) for item in range(20)}
    assert beside_progress(err) == ""


def test_what_is_too_much_is_counted_and_said_when_reading_goes_on(tmp_path: Path) -> None:
    """A line in the place of those that are missing says how many they are."""
    source = """
if __name__ == "__main__":
    writers.MOST_KEPT = 50_000
    writers.GIVE_UP = 20.0
    pmap(talk, range(20)).result()
    while not any(writer._dropped for writer in list(writers._writers.values())):
        time.sleep(0.01)
    Path("done").touch()
"""
    with running(source, tmp_path) as process:
        there(tmp_path, "done")
        out, err = process.communicate(timeout=DEADLINE)
    notes = re.findall(r"^\[aiopool\] ([\d,]+) lines? left out here, while nobody read them$", out, re.MULTILINE)
    assert notes, (err, out[-300:])
    shown = "\n".join(line for line in out.splitlines() if not line.startswith("[aiopool]"))
    assert sum(map(len, of_workers(shown).values())) + sum(int(note.replace(",", "")) for note in notes) == 1000


def test_ctrl_c_ends_a_script_whose_lines_nobody_reads(tmp_path: Path) -> None:
    """It did not come through before: the pool's own thread stood in the write."""
    source = """
if __name__ == "__main__":
    writers.GIVE_UP = 0.3
    with Pool(workers=2) as pool:
        pool.map(talk, range(20)).result()
        job = pool.map(held, range(2))
        while job.snapshot().in_flight < 2:
            time.sleep(0.01)
        Path("waits").touch()
        job.result()
"""
    with running(source, tmp_path) as process:
        there(tmp_path, "waits")
        process.send_signal(signal.SIGINT)
        # It may strike a moment before it waits.
        assert process.wait(DEADLINE) in (1, -signal.SIGINT)
        assert process.stderr is not None
        assert re.search("JobStopped: Stopped: 0 of 2 done|KeyboardInterrupt", process.stderr.read())


def test_a_fork_leaves_to_its_parent_what_waits(tmp_path: Path) -> None:
    """Each line comes once, and the child's own ones, too."""
    source = """
if __name__ == "__main__":
    writers.GIVE_UP = 20.0
    pmap(talk, range(20)).result()
    be_behind()
    warnings.simplefilter("ignore")  # From 3.12 on Python itself says of a fork that there are threads.
    if os.fork() == 0:
        writers.write(sys.stderr, "from the child\\n")
        os._exit(0 if not writers.is_behind(sys.stdout) else 1)
    assert os.wait()[1] == 0
    assert writers.is_behind(sys.stdout)
    Path("done").touch()
"""
    with running(source, tmp_path) as process:
        there(tmp_path, "done")
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
    assert beside_progress(err) == "from the child\n"
    assert of_workers(out) == {item: list(range(50)) for item in range(20)}


def test_one_stream_that_nobody_reads_does_not_hold_up_another(tmp_path: Path) -> None:
    """``script.py | less``: standard error is the terminal."""
    source = """
if __name__ == "__main__":
    writers.GIVE_UP = 0.1
    pmap(talk, range(20)).result()
    be_behind()
    writers.write(sys.stderr, "still to be read\\n")
    assert not writers.is_behind(sys.stderr)
    Path("done").touch()
"""
    with running(source, tmp_path) as process:
        there(tmp_path, "done")
        assert process.stderr is not None
        assert next(line for line in process.stderr if beside_progress(line)) == "still to be read\n"


# --- terminals -------------------------------------------------------------------------------------------------------


def test_a_terminal_that_was_stopped_shows_all_of_it_when_it_goes_on(tmp_path: Path) -> None:
    """Ctrl-S: the job goes on. Ctrl-Q: every line is there once, in order, and only the newest of the bars."""
    source = """
def go_on(x):
    while not os.path.exists(f"go{x}"):
        time.sleep(0.01)
    print("line of", x)

if __name__ == "__main__":
    writers.GIVE_UP = 20.0
    job = pmap(go_on, range(8), concurrency=8, desc="job")
    while not job.done():
        time.sleep(0.01)
        Path(f"{job.snapshot().done} done").touch()
    job.result()
    Path("end").touch()
"""
    with Terminal(script(tmp_path, TALK + source)) as shown:
        shown.until(lambda lines: any("job:" in line for line in lines), "the bar")
        shown.press("\x13")
        written = len(shown.written)
        for number in range(8):
            (tmp_path / f"go{number}").touch()
        there(tmp_path, "end")
        shown.press("\x11")
        lines = shown.finish()
        assert shown.written[written:].count("job:") < 20
    of_items = [line for line in lines if line.startswith("[item")]
    assert sorted(of_items) == [f"[item {number}] line of {number}" for number in range(8)]
    assert len(lines) == 9
    assert lines[-1].startswith("job: 100%")


# --- one after the other ---------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The end from which is read, and a stream of Python's on the other one."""
    here, there = os.pipe()
    with io.open(there, "w", encoding="utf-8") as stream:  # noqa: UP020 - a descriptor
        yield here, stream
        # It ends only when its reader goes, or reads on.
        os.close(here)
        until(lambda: not writers.is_behind(stream), DEADLINE, "the writer has ended")


def read_all(fd: int, size: int) -> str:
    """Read so many bytes."""
    parts = []
    while size:
        parts.append(os.read(fd, size))
        size -= len(parts[-1])
    return b"".join(parts).decode()


def test_where_somebody_reads_everything_is_out_at_once_and_no_thread_is_begun(pipe) -> None:
    """After what the script itself has printed and not flushed."""
    here, stream = pipe
    before = set(threading.enumerate())
    stream.write("before, ")
    writers.write(stream, "now \N{SNOWMAN} \udc80\n")
    assert os.read(here, 1000).decode() == "before, now \N{SNOWMAN} \\udc80\n"
    assert not any(thread.name == "aiopool-writer" for thread in set(threading.enumerate()) - before)


def test_a_write_that_would_block_returns_and_the_first_one_waits_a_moment_only(pipe) -> None:
    """Later ones do not wait at all, until somebody has read."""
    here, stream = pipe
    text = "x" * 999 + "\n"
    began = time.monotonic()
    for _ in range(200):
        writers.write(stream, text)
        writers.settle(stream)
    assert time.monotonic() - began < writers.PATIENCE + 10
    assert writers.is_behind(stream)
    assert read_all(here, 200 * len(text)) == 200 * text
    until(lambda: not writers.is_behind(stream), DEADLINE, "all is out")


def test_what_alone_is_too_much_comes_if_nothing_waits_before_it(pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be missing where somebody reads, and with it all that comes later."""
    here, stream = pipe
    monkeypatch.setattr(writers, "MOST_KEPT", 1000)
    text = 100 * ("x" * 999 + "\n")
    writers.write(stream, text)
    writers.write(stream, "one\ntwo\n")
    assert read_all(here, len(text)) == text
    assert os.read(here, 1000) == b"[aiopool] 2 lines left out here, while nobody read them\n"
    until(lambda: not writers.is_behind(stream), DEADLINE, "all is out")
    writers.write(stream, "three\n")
    assert os.read(here, 1000) == b"three\n"


def test_a_reader_that_goes_away_ends_it(pipe) -> None:
    """``| head``: nothing is kept for nobody."""
    here, stream = pipe
    for _ in range(200):
        writers.write(stream, "x" * 999 + "\n")
    assert writers.is_behind(stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, here)
    os.close(nothing)
    until(lambda: not writers.is_behind(stream), DEADLINE, "the writer has given up")
    writers.write(stream, "nobody\n")
    until(lambda: not writers.is_behind(stream), DEADLINE, "the writer has given up once more")


def test_bars_are_not_drawn_while_what_was_said_waits(pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten a second would be drawn one after the other when reading goes on; the newest is enough."""
    here, stream = pipe
    monkeypatch.setattr("sys.stderr", stream)
    shown = Bars()

    def move(done: int) -> None:
        shown._next = 0.0
        shown.move("job", JobSnapshot(1, "job", "running", 100, done, 0, 1, 1.0), 1.0)

    move(1)
    text = 200 * ("x" * 999 + "\n")
    shown.above(lambda: writers.write(stream, text))
    for done in range(2, 60):
        move(done)
    first = read_all(here, 200_000)
    until(lambda: not writers.is_behind(stream), DEADLINE, "all is out")
    move(60)
    rest = first + os.read(here, 10_000).decode(errors="ignore")
    assert re.findall(r"(\d+)/100", rest) == ["1", "60"]
    assert rest.index("1/100") < rest.index("xxx") < rest.index("60/100")
