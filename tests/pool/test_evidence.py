"""Deaths of memory: what is claimed, from which counters, and how the error reads that a user gets."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from aiopool import WorkerLost, WorkerStartFailed
from aiopool._runtime import machine
from aiopool._runtime import words as words_of
from aiopool._runtime.evidence import FRESH_SECONDS, Evidence
from aiopool._runtime.output import LINE_CHARS, Event, Text
from aiopool._runtime.proxy import WorkerProxy
from aiopool._runtime.words import TOLD_LINES, LastWords
from aiopool.engines.base import Death, Marks
from aiopool.telemetry import size
from tests.pool import work
from tests.pool.board import DEADLINE, Board, until
from tests.pool.scripts import script, start

# ruff: noqa: T201  # items print

GB = 10**9
NOW = 1000.0


class System:
    """The files of a system that counts its victims, as a test writes them."""

    def __init__(self, folder: Path) -> None:
        self.cgroup = folder / "cgroup"
        self.own = folder / "own"
        self.vmstat = folder / "vmstat"

    def write(self, **files: str) -> None:
        """``own``, ``vmstat``."""
        for name, text in files.items():
            getattr(self, name).write_text(text)

    def put(self, path: str, text: str) -> None:
        """One file below the root of control groups."""
        file = self.cgroup / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def evidence(self) -> Evidence:
        """What begins to watch it now."""
        return Evidence(NOW, self.cgroup, self.own, self.vmstat)


@pytest.fixture
def system(tmp_path, monkeypatch) -> System:
    """A machine of 64 GB, without any file yet."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GB))
    return System(tmp_path)


def version_2(system: System, killed: int, folder: str = "") -> None:
    """A container of version 2, with 4 GB."""
    system.write(own=f"0::/{folder}\n")
    system.put(f"{folder}/memory.max", f"{4 * GB}\n")
    system.put(f"{folder}/memory.events", f"low 0\nhigh 0\nmax 61\noom {killed}\noom_kill {killed}\noom_group_kill 0\n")


def version_1(system: System, killed: int, folder: str = "") -> None:
    """A container of version 1, with 4 GB; what it is called outside is not to be seen in it."""
    system.write(own="5:cpu,cpuacct:/docker/1234\n4:memory:/docker/1234\n0::/\n")
    system.put(f"memory/{folder}/memory.limit_in_bytes", f"{4 * GB}\n")
    system.put(f"memory/{folder}/memory.oom_control", f"oom_kill_disable 0\nunder_oom 0\noom_kill {killed}\n")


# --- counters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [version_1, version_2])
def test_a_victim_of_the_container_is_told_with_what_there_was_and_what_to_do(system, container):
    """Once: the next death has another cause."""
    container(system, 3)
    watching = system.evidence()
    assert watching.hint(NOW + 1, 3 * GB, 3 * GB) == ""
    container(system, 4)
    assert watching.hint(NOW + 2, 3_100_000_000, 3 * GB) == (
        "The system's out-of-memory killer ended a process of this container at that time; the worker took 3.1 GB, "
        "the container has 4.0 GB: use fewer workers or smaller items, or set max_memory_per_worker."
    )
    assert watching.hint(NOW + 2.1, 3 * GB, 4 * GB) == ""


@pytest.mark.parametrize("container", [version_1, version_2])
def test_victims_that_were_counted_together_explain_as_many_deaths(system, container):
    """Also of workers whose memory nobody had looked at."""
    container(system, 0)
    watching = system.evidence()
    container(system, 2)
    for _ in range(2):
        hint = watching.hint(NOW + 1, None, 0)
        assert "out-of-memory killer ended a process" in hint
        assert "the worker took" not in hint
    assert watching.hint(NOW + 1, None, 0) == ""


def test_a_victim_of_long_ago_explains_nothing(system):
    """Neither from before the pool, nor one that was seen to die while all workers lived."""
    version_2(system, 7)
    watching = system.evidence()
    version_2(system, 8)
    watching.look(NOW + 1)
    assert watching.hint(NOW + 2 + FRESH_SECONDS, 4 * GB, 4 * GB) == ""


def test_the_group_that_is_seen_under_its_own_name_counts(system):
    """Not the one around it, whose victims are others' processes."""
    version_2(system, 0, "user.slice/session-3.scope")
    system.put("user.slice/memory.events", "oom_kill 0\n")
    watching = system.evidence()
    system.put("user.slice/memory.events", "oom_kill 9\n")
    assert watching.hint(NOW + 1, GB, GB) == ""
    version_2(system, 1, "user.slice/session-3.scope")
    assert "this container" in watching.hint(NOW + 1, GB, GB)


def test_the_machines_number_counts_only_where_no_group_has_one(system):
    """It is about everybody's processes: in a container it says nothing of one's own."""
    system.write(vmstat="pgfault 12\noom_kill 0\n")
    alone = system.evidence()
    version_2(system, 0)
    contained = system.evidence()
    system.write(vmstat="pgfault 13\noom_kill 1\n")
    assert contained.hint(NOW + 1, GB, GB) == ""
    (system.cgroup / "memory.max").unlink()
    told = alone.hint(NOW + 1, GB, GB)
    assert "a process of this machine at that time; the worker took 1.0 GB, the machine has 64.0 GB" in told


def test_where_nobody_counts_a_guess_is_called_one(system):
    """As on macOS, or a kernel without the counter; and only where the workers together had come near the limit."""
    system.write(own="4:memory:/\n")
    system.put("memory/memory.limit_in_bytes", f"{4 * GB}\n")
    system.put("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    watching = system.evidence()
    assert watching.hint(NOW + 1, GB, 3 * GB) == ""
    assert watching.hint(NOW + 1, GB, 3_600_000_000).startswith("A guess: this container may have run out of memory. ")


@pytest.mark.parametrize("container", [version_1, version_2])
def test_where_victims_are_counted_nothing_is_guessed(system, container):
    """However full it was: had it been that, it would have been counted."""
    container(system, 3)
    assert system.evidence().hint(NOW + 1, 4 * GB, 4 * GB) == ""


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom_killer 3\n"])
def test_a_file_that_says_nothing_is_as_none(system, text):
    """No error, no claim."""
    system.put("memory.events", text)
    assert system.evidence().hint(NOW + 1, GB, GB) == ""


# --- how it reads ----------------------------------------------------------------------------------------------------


@pytest.fixture
def dies_of_memory(system: System, board: Board, monkeypatch) -> Callable[[int], int]:
    """A function whose item 2 is killed as the system does it, in a container that counts it."""
    version_2(system, 0)
    real = Evidence.__init__
    monkeypatch.setattr(
        Evidence, "__init__", lambda self, now: real(self, now, system.cgroup, system.own, system.vmstat)
    )
    file = str(system.cgroup / "memory.events")

    def item(x: int) -> int:
        if x == 2:
            os.write(1, b"loading\n")
            board.mark("begun", os.getpid())
            board.wait("go")
            killed = len(board.marks("begun"))
            with open(file, "w") as events:  # noqa: PTH123
                events.write(f"oom_kill {killed}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    return item


def test_a_worker_killed_for_memory_says_so_in_its_error(fresh, dies_of_memory, board: Board):
    """Short in the first line; then what points at memory, then the worker's last words, then the input."""
    pool = fresh(1)
    job = pool.map(dies_of_memory, range(4), on_error="return")
    (pid,) = board.wait("begun")
    board.mark("go")
    error = job.result(DEADLINE)[2].error
    assert isinstance(error, WorkerLost)
    assert error.pid != int(pid)  # It was run again, alone, and died again.
    assert (error.exitcode, error.signal, error.reason) == (-signal.SIGKILL, "SIGKILL", "")
    assert error.memory is None or error.memory > 10**7
    first, second, third, last = str(error).splitlines()
    assert first.endswith("was killed by SIGKILL while it ran this item")
    assert len(first) < 100
    assert second == error.hint
    assert second.startswith("The system's out-of-memory killer ended a process of this container at that time; ")
    assert third == "The last lines of worker 0:"
    assert last == error.stderr == "loading"
    assert error.__notes__ == [f"item 2 (2), worker 0 (pid {error.pid})"]


@pytest.mark.usefixtures("dies_of_memory")
def test_a_death_without_evidence_claims_nothing(fresh, board: Board):
    """A SIGKILL from outside is just that, and memory stays a number."""
    pool = fresh(1)

    def item(_: int) -> None:
        board.mark("at work", os.getpid())
        board.wait("never")

    job = pool.map(item, [1], rerun_lost=False, on_error="return")
    (pid,) = board.wait("at work")
    until(lambda: pool.snapshot().workers[0].memory, what="it was looked at")
    os.kill(int(pid), signal.SIGKILL)
    error = job.result(DEADLINE)[0].error
    assert (error.signal, error.hint, error.reason) == ("SIGKILL", "", "")
    assert error.memory > 10**7
    assert str(error) == f"worker 0 (pid {pid}, {size(error.memory)}) was killed by SIGKILL while it ran this item"


TAKES_TOO_MUCH = """
    import os, sys, time
    from pathlib import Path

    if len(sys.argv) > 1:
        (Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))

    from aiopool import Pool, WorkerLost

    def take(x):
        taken = []
        while x == 2:
            # Not all at once: nobody could have looked before it is too much, and the system's killer takes the
            # memory back before it lets the process die, and with it what the process has had at most.
            taken.append(b"x" * 10_000_000)
            time.sleep(0.2)
        return x

    with Pool(workers=1) as pool:
        values = pool.map(take, range(4), on_error="return", progress=False).result()
        lost = values.pop(2).error
        assert isinstance(lost, WorkerLost), lost
        assert values == [0, 1, 3], values
        assert pool.map(abs, [-1], progress=False).result() == [1]
        print(lost.signal, lost.memory, str(lost))
"""


def made_group(limit: int) -> Path | str:
    """A control group below the one that the tests run in, so that nothing that holds for it is left; or why not."""
    if sys.platform != "linux":
        return "there are no control groups on this platform"
    why = "this process is in no group of a memory controller that can be seen here"
    _, _, *folders = machine.groups(machine.CGROUP, machine.OWN_CGROUP, "memory")
    for folder in folders:
        mine = folder / f"aiopool-test-{os.getpid()}"
        try:
            mine.mkdir()
        except OSError as error:
            why = str(error)
            continue
        for file in ("memory.max", "memory.limit_in_bytes"):
            try:
                # Not created where it is not there: these are no usual files.
                with (mine / file).open("r+") as limiting:
                    limiting.write(str(limit))
                # With swap the victim would only become slow.
                swap = mine / "memory.swap.max"
                if swap.exists():
                    swap.write_text("0")
            except OSError as error:
                why = str(error)
            else:
                return mine
        mine.rmdir()
    return why


def test_the_systems_own_killer_is_recognised(tmp_path, request):
    """In a real control group with 200 MB where one can be made; else the same with faked files. It says which."""
    group = made_group(200_000_000)
    how = "in a real control group" if isinstance(group, Path) else f"with faked files: {group}"
    request.node.user_properties.append(("out of memory was tested", how))
    if isinstance(group, str):
        given = [request.getfixturevalue(name) for name in ("fresh", "dies_of_memory", "board")]
        test_a_worker_killed_for_memory_says_so_in_its_error(*given)
        return
    process = start(script(tmp_path, TAKES_TOO_MUCH), group, cwd=tmp_path)
    try:
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
        until(lambda: not (group / "cgroup.procs").read_text(), what="nobody is left in the group")
        group.rmdir()
    assert process.returncode == 0, out + err
    signal_name, memory, told = out.split(" ", 2)
    assert signal_name == "SIGKILL"
    assert 100_000_000 < int(memory) <= 220_000_000
    assert "The system's out-of-memory killer ended a process of this container at that time; the worker took 1" in told
    assert "the container has 200 MB: use fewer workers" in told


# --- last words ------------------------------------------------------------------------------------------------------


def words(text: str) -> str:
    """What is kept of what a worker printed."""
    kept = LastWords()
    kept.add(text.splitlines())
    return str(kept)


def test_the_last_lines_are_kept():
    """The last of very many."""
    assert words("\n".join(map(str, range(1000)))) == "\n".join(map(str, range(1000 - TOLD_LINES, 1000)))


def test_of_a_crash_the_users_own_frames_are_told(fresh):
    """What faulthandler writes of us, of threads of ours and of extension modules is in nobody's way."""

    def crash(_: int) -> None:
        import ctypes

        os.write(1, b"before\n")
        ctypes.string_at(0)

    error = fresh(1).map(crash, [1], on_error="return").result(DEADLINE)[0].error
    assert error.signal == "SIGSEGV"
    lines = error.stderr.splitlines()
    assert lines[:2] == ["before", "Fatal Python error: Segmentation fault"]
    assert "(most recent call first):" in lines[2]
    assert [line.rpartition(" in ")[2] for line in lines[3:]] == ["string_at", "crash"]
    assert str(error).endswith(f"\nThe last lines of worker 0:\n{error.stderr}")


@pytest.mark.parametrize("how", ["exit", "crash"])
def test_what_the_worker_said_before_the_job_is_not_told(fresh, how):
    """Neither of an initializer nor of jobs before, nor of C code; where it crashed is."""

    def talk(x: int) -> None:
        print(f"earlier {x}")
        os.write(1, b"earlier C\n")

    def die(_: int) -> None:
        import ctypes

        print("mine")
        if how == "crash":
            ctypes.string_at(0)
        os._exit(3)

    pool = fresh(1, initializer=lambda: print("hello"))
    pool.map(talk, range(40)).result(DEADLINE)
    error = pool.map(die, [1], on_error="return", rerun_lost=False).result(DEADLINE)[0].error
    lines = error.stderr.splitlines()
    assert lines[0] == "mine"
    assert not [line for line in lines if "earlier" in line or "hello" in line]
    assert lines[1:2] == (["Fatal Python error: Segmentation fault"] if how == "crash" else [])
    assert ("in die" in lines[-1]) == (how == "crash")
    assert str(error).endswith(f"\nThe last lines of worker 0:\n{error.stderr}")


def test_a_worker_that_said_nothing_in_the_job_has_no_last_lines(fresh):
    """Better nothing than what is somebody else's."""

    def talk(x: int) -> None:
        print(f"earlier {x}")

    pool = fresh(1)
    pool.map(talk, range(40)).result(DEADLINE)
    error = pool.map(lambda _: os._exit(3), [1], on_error="return", rerun_lost=False).result(DEADLINE)[0].error
    assert error.stderr == ""
    assert str(error).endswith(" exited with code 3 while it ran this item")


def test_last_lines_since_a_job_came_are_right_when_many_were_dropped():
    """What is kept is less than what was said, and the count goes on."""
    kept = LastWords()
    kept.add([f"earlier {number}" for number in range(1000)])
    before = kept.count
    kept.add(["mine", "too"])
    assert kept.after(before) == "mine\ntoo"
    kept.add([str(number) for number in range(1000)])
    assert kept.after(before) == str(kept)


def test_the_beginning_of_a_long_crash_is_kept():
    """It says what happened and where; what follows is where it came from."""
    frames = "\n".join(f'  File "/home/me/deep.py", line {line} in down' for line in range(100))
    modules = f"Extension modules: {', '.join(f'numpy.core.module_{number}' for number in range(300))} (total: 300)"
    thread = "Current thread 0x00007efe (most recent call first):"
    crash = f"Fatal Python error: Stack overflow\n\n{thread}\n{frames}\n  ...\n\n{modules}"
    told = words(f"one\ntwo\n{crash}").splitlines()
    assert told[:4] == ["one", "two", "Fatal Python error: Stack overflow", thread]
    assert told[4] == '  File "/home/me/deep.py", line 0 in down'
    assert len(told) <= TOLD_LINES + 4
    assert "Extension" not in "\n".join(told)


def test_of_threads_those_are_told_that_run_the_users_code():
    """Whatever the standard library does for ours."""
    ours = Path(words_of.__file__).parents[1] / "_worker"

    def frame(file: str | Path) -> str:
        return f'  File "{file}", line 7 in run'

    blocks = [
        ["Fatal Python error: Segmentation fault", ""],
        ["Thread 0x1 [aiopool-link] (most recent call first):", frame("/lib/os.py"), frame(ours / "link.py"), ""],
        ["Thread 0x2 (most recent call first):", frame("/home/me/mine.py"), frame("/lib/threading.py"), ""],
        ["Thread 0x3 (most recent call first):", "  <no Python frame>", ""],
        ["Current thread 0x4 (most recent call first):", frame(ours / "runner.py"), frame("<string>"), ""],
        ["Extension modules: numpy (total: 1)", "and after"],
    ]
    assert words("\n".join(line for block in blocks for line in block)).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "Thread 0x2 (most recent call first):",
        frame("/home/me/mine.py"),
        "and after",
    ]


def test_the_loop_below_a_coroutine_is_not_told():
    """The lines of asyncio that every coroutine stands on say nothing; those above a line of the user's are kept."""
    library = Path(asyncio.__file__).parent

    def frame(file: str | Path, name: str) -> str:
        return f'  File "{file}", line 7 in {name}'

    users = [
        frame("/home/me/mine.py", "crash"),
        frame(library / "runners.py", "run"),
        frame("/home/me/mine.py", "item"),
    ]
    loop = [frame(library / "events.py", "_run"), frame(library / "base_events.py", "_run_once")]
    head = ["Fatal Python error: Aborted", "", "Current thread 0x1 (most recent call first):"]
    told = words("\n".join([*head, *users, *loop, frame(library / "base_events.py", "run_forever")]))
    assert told.splitlines() == [head[0], head[2], *users]


# --- what is shown at once -------------------------------------------------------------------------------------------

MODULES = f"Extension modules: {', '.join(f'numpy.core.module_{number}' for number in range(100))} (total: 100)"
CRASH = [
    "Fatal Python error: Segmentation fault",
    "",
    "Thread 0x00007efe [aiopool-link] (most recent call first):",
    '  File "/home/me/mine.py", line 7 in run',
    "",
    "Current thread 0x00007efd (most recent call first):",
    "  Garbage-collecting",
    '  File "/home/me/mine.py", line 8 in <module>',
    "",
    MODULES,
]


@pytest.fixture
def printing() -> tuple[WorkerProxy, list[str]]:
    """A worker, and what is shown of what it prints."""
    shown: list[str] = []

    def show(_: object, events: Sequence[Event]) -> None:
        shown.extend(line for event in events if isinstance(event, Text) for line in event.lines)

    return WorkerProxy(1, 0, lambda *_: None, lambda *_: None, show), shown


@pytest.mark.parametrize("step", [7, LINE_CHARS, 100_000])
def test_a_crash_leaves_one_line_below_the_cell(printing, step):
    """However it comes in parts; the rest is the error's."""
    proxy, shown = printing
    text = "\n".join(["before", *CRASH]).encode()
    for place in range(0, len(text), step):
        proxy.printed(text[place : place + step])
    proxy.died(Death(-11, Marks()))
    assert shown == ["before", CRASH[0]]
    assert '"/home/me/mine.py", line 8' in proxy.tail()


@pytest.mark.parametrize("goes_on", [lambda proxy: proxy.printed(b"after\n"), WorkerProxy.end_line])
def test_a_crash_that_the_worker_outlives_is_shown_in_full(printing, goes_on):
    """It was that of a program which an item has started, and stands in no error of ours."""
    proxy, shown = printing
    proxy.printed("".join(f"{line}\n" for line in CRASH).encode())
    assert shown == CRASH[:1]
    goes_on(proxy)
    assert shown[: len(CRASH)] == CRASH


def test_of_a_crash_that_is_made_up_for_one_line_is_shown(fresh, board: Board, capfd):
    """An item whose second run succeeds leaves no page of frames behind."""

    def crash(_: int) -> int:
        import ctypes

        if not board.marks("crashed"):
            board.mark("crashed")
            ctypes.string_at(0)
        return 1

    assert fresh(1).map(crash, [1]).result(DEADLINE) == [1]
    out = "".join(capfd.readouterr())
    assert out.count("Fatal Python error") == 1
    assert "most recent call first" not in out
    assert " File " not in out


# --- workers that cannot start ---------------------------------------------------------------------------------------


def ends_by_itself() -> None:
    """End without a word."""
    os._exit(3)


def says_something_and_is_killed() -> None:
    """As if somebody from outside had."""
    os.write(1, b"half way\n")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    """Wait for something that never comes."""
    time.sleep(3600)


WORKER = r"worker \d \(pid \d+\) "
DIED = rf"\d in a row died: {WORKER}"
DID_NOT = rf"\d in a row did not: {WORKER}"
HANGS_FOR = 11
"""Seconds: a slow machine needs some until a worker comes to its initializer. It tells where it hangs 2 s before."""
HUNG = r"Timeout \(0:00:0\d[.\d]*\)!\nThread .*\n.* in "
WORDS = r"\nThe last lines of worker \d:\n"


@pytest.mark.parametrize(
    ("initializer", "start_timeout", "told"),
    [
        (ends_by_itself, 60, f"{DIED}exited with code 3"),
        (says_something_and_is_killed, 60, f"{DIED}was killed by SIGKILL, and not by the pool{WORDS}half way"),
        (hangs, HANGS_FOR, f"{DID_NOT}was killed, because it did not start within {HANGS_FOR} s{WORDS}{HUNG}hangs"),
    ],
)
def test_workers_that_do_not_start_say_how_they_ended(fresh, initializer, start_timeout, told):
    """With the exit code or the signal, how many there were, and the last words of one: where it hung, if it did."""
    # By value: importing this module takes longer than that.
    namespace = dict(initializer.__globals__, __name__="__main__")
    by_value = type(initializer)(initializer.__code__, namespace, initializer.__name__)
    pool = fresh(3, initializer=by_value, start_timeout=start_timeout)
    with pytest.raises(WorkerStartFailed, match=f"^workers cannot start, {told}$"):
        pool.map(work.double, range(4)).result(DEADLINE)
