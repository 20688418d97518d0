"""``%aiopool`` and its subcommands: each says one line of what happens, and waits for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.harness import HELD, Kernel, Signs

pytestmark = pytest.mark.kernel

# Loading has a thread open the pool: what it does must be over.
CLOSED = """
[thread.join() for thread in threading.enumerate() if thread.name == "aiopool-warm-up"]
aiopool.get_pool().terminate()
aiopool.configure(workers=2, concurrency=None, threads_per_worker="auto")
"""


@pytest.fixture(autouse=True)
def _loaded(kernel: Kernel) -> None:
    """Without a shared pool, and with the settings of every test."""
    kernel.run("%load_ext aiopool")
    kernel.run(CLOSED)


def says(kernel: Kernel, line: str) -> str:
    """What a line prints; it has no value."""
    cell = kernel.run(line)
    assert cell.output is None
    assert cell.printed("stderr") == ""
    return cell.printed().rstrip("\n")


def refused(kernel: Kernel, line: str) -> str:
    """The one line with which it is refused."""
    cell = kernel.run_any(line)
    text = cell.printed("stderr")
    assert cell.reply["status"] == "error" or text
    assert cell.traceback == ""
    (told,) = text.splitlines()
    assert told.startswith("UsageError: ")
    return told.removeprefix("UsageError: ")


@pytest.mark.core
def test_resize_says_what_happens_and_happens(kernel: Kernel) -> None:
    """More, fewer, as many; a value may be an expression, and IPython's own ways to insert one work."""
    kernel.run("aiopool.get_pool()\nn = 3")
    assert says(kernel, "%aiopool resize n + 1") == "4 workers from now on, they start when there is work."
    assert kernel.value("aiopool.get_pool().size") == 4
    kernel.run("await aiopool.get_pool().broadcast(os.getpid)")
    assert says(kernel, "%aiopool resize {n + 3}") == "6 workers from now on: 2 more start when there is work."
    assert says(kernel, "%aiopool resize $n") == "3 workers from now on: 1 ends as soon as what it runs has."
    kernel.run("await aiopool.get_pool().resize(3)")
    assert says(kernel, "%aiopool resize 3") == "3 workers from now on."
    assert kernel.value("sum(worker.state != 'retiring' for worker in aiopool.get_pool().workers)") == 3


def test_restart_replaces_the_workers(kernel: Kernel) -> None:
    """One line at once; then there are others."""
    assert says(kernel, "aiopool.get_pool()\n%aiopool restart") == "No worker runs: there is nothing to restart."
    before = kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    assert says(kernel, "%aiopool restart") == "2 workers are replaced, each as soon as what it runs has ended."
    after = kernel.value("await aiopool.get_pool().broadcast(os.getpid)")
    assert not {*before} & {*after}


def test_restart_now_kills_what_hangs_and_runs_it_again(kernel: Kernel, signs: Signs) -> None:
    """An item that never ends is run once more, in another worker."""
    kernel.run(HELD.replace("sign(x)", "sign(f'{x}-{os.getpid()}')"))
    kernel.run("job = pmap(held, [1])")
    signs.wait_for(1)
    assert says(kernel, "%aiopool restart now") == "1 worker is killed and replaced; what ran there runs again."
    signs.wait_for(2)
    signs.allow("go")
    assert kernel.value("await job") == [1]


def test_close_lets_jobs_end_and_the_next_map_opens_another_pool(kernel: Kernel, signs: Signs) -> None:
    """What runs, runs on."""
    kernel.run(HELD)
    kernel.run("job = pmap(held, [1])\nold = aiopool.get_pool()")
    signs.wait_for(1)
    said = says(kernel, "%aiopool close")
    assert said.startswith("The shared pool takes no new jobs: the next pmap(...) or %%aiopool cell opens another.")
    assert said.endswith("1 job runs to the end in this one.")
    signs.allow("go")
    assert kernel.value("await job") == [1]
    assert kernel.value("aiopool.get_pool() is old") is False


@pytest.mark.parametrize("line", ["", " restart", " close"])
def test_without_a_shared_pool_it_says_so_and_opens_none(kernel: Kernel, line: str) -> None:
    """Nothing that was asked for is left to do."""
    assert says(kernel, f"%aiopool{line}").startswith("No shared pool is open")


def test_resize_without_a_shared_pool_says_how_the_next_one_gets_its_size(kernel: Kernel) -> None:
    """And that works."""
    said = says(kernel, "%aiopool resize 3")
    _, _, line = said.partition(": ")
    assert says(kernel, line) == "From now on: workers 3."
    assert kernel.value("aiopool.get_pool().size") == 3


@pytest.mark.core
def test_jobs_are_listed_and_cancelled_by_name_by_number_and_all(kernel: Kernel, signs: Signs) -> None:
    """Those of that name, the one of that number, the one started last, and every one."""
    kernel.run(HELD + "async def other(x):\n    return await held(-x)\n")
    kernel.run("one, two, three = pmap(held, [1]), pmap(other, [2]), pmap(held, [3])")
    signs.wait_for(3)
    listed = says(kernel, "%aiopool jobs").splitlines()
    # Another test's last failed job may be listed, too, and may be called so.
    names = dict(found.groups() for line in listed if (found := re.match(r" *(\d+)  (held|other): ", line)))
    ids = kernel.value("[str(job.id) for job in (one, two, three)]")
    assert [names[number] for number in ids] == ["held", "other", "held"]
    assert says(kernel, "%aiopool cancel") == ("Cancelled held: 0 of 1 done: aiopool.last_job().partial(), .retry()")
    assert kernel.value("(one.done(), two.done(), await three.wait(10))") == (False, False, True)
    assert says(kernel, "%aiopool cancel other").startswith("Cancelled other: 0 of 1 done")
    assert says(kernel, f"%aiopool cancel {kernel.value('one.id')}").startswith("Cancelled held: 0 of 1 done")
    assert kernel.value("(await one.wait(10), await two.wait(10), three.done())") == (True, True, True)
    assert says(kernel, "%aiopool cancel all") == "No job runs."
    kernel.run("jobs = [pmap(held, [x]) for x in (4, 5)]")
    assert says(kernel, "%aiopool cancel all").count("Cancelled held") == 2
    assert kernel.value("[await job.wait(10) for job in jobs]") == [True, True]


def test_a_job_that_does_not_run_cannot_be_cancelled_and_those_that_do_are_named(kernel: Kernel, signs: Signs) -> None:
    """One line, with what there is."""
    assert refused(kernel, "%aiopool cancel nobody") == "no job runs that is called nobody: none runs at all"
    kernel.run(HELD)
    kernel.run("job = pmap(held, [1])")
    assert refused(kernel, "%aiopool cancel hold").startswith("no job runs that is called hold: there is held (")


@pytest.mark.core
def test_configure_takes_every_keyword_as_a_flag(kernel: Kernel) -> None:
    """Dashes or underscores, expressions, words without quotes, switches; alone it shows what is set."""
    kernel.run("n = 2")
    assert says(kernel, "%aiopool configure --concurrency 64 --workers n+1") == (
        "From now on: concurrency 64, workers 3."
    )
    assert says(kernel, "%aiopool configure --threads_per_worker=2 --nested-loops --max-memory-per-worker 2GB") == (
        "From now on: threads_per_worker 2, nested_loops True, max_memory_per_worker 2.0 GB."
    )
    assert says(kernel, "%aiopool configure --no-nested-loops --max-tasks-per-worker None --engine local") == (
        "From now on: nested_loops False, max_tasks_per_worker None: no limit, engine local."
    )
    shown = says(kernel, "%aiopool configure")
    assert re.search(r"^concurrency +64$", shown, re.MULTILINE)
    assert re.search(r"^workers +3$", shown, re.MULTILINE)
    assert re.search(r"^max_memory_per_worker +2\.0 GB$", shown, re.MULTILINE)
    says(kernel, "%aiopool configure --workers None --max-memory-per-worker None")
    assert "None: as many as this machine bears, " in says(kernel, "%aiopool configure")


def test_configure_says_when_another_pool_is_opened(kernel: Kernel) -> None:
    """Some settings are a pool's from its beginning."""
    kernel.run("aiopool.get_pool()")
    assert says(kernel, "%aiopool configure --workers 1") == "From now on: workers 1."
    assert says(kernel, "%aiopool configure --threads-per-worker 1") == (
        "From now on: threads_per_worker 1. The next job opens another shared pool."
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("resise 8", "did you mean %aiopool resize?"),
        ("stop", "write %aiopool cancel"),
        ("config --workers 2", "write %aiopool configure"),
        ("scale 8", "write %aiopool resize 8"),
        ("8", "write %aiopool resize 8"),
        ("--workers 8", "write %aiopool configure --workers 8"),
        ("url in urls", "two percent signs: %%aiopool url in urls"),
        ("frobnicate", "there are resize, restart, close, jobs, cancel, configure, help"),
        ("resize", "how many workers? Write %aiopool resize 8"),
        ("resize +2", "not how many more"),
        ("resize 0", "workers=0: workers must be a whole number, 1 or more"),
        ("resize many", "many has no value: NameError: name 'many' is not defined"),
        ("resize 8 9", "8 9 has no value: SyntaxError"),
        ("restart later", "write %aiopool restart, or %aiopool restart now"),
        ("close it", "takes nothing more"),
        ("jobs all", "takes nothing more"),
        ("configure workers=4", "two minus signs, as in --workers 4"),
        ("configure --workers", "--workers has no value: write it behind, as in --workers 4"),
        ("configure --workers 0", "must be a whole number, 1 or more"),
        ("configure --workers 2 --workers 3", "--workers stands there twice"),
        ("configure --max-workers 3", "--max-workers is not an option of configure; write --workers ..."),
        (
            "configure --timeout 3",
            "--timeout is not an option of configure; it is one of a map: pmap(fn, data, timeout=",
        ),
        ("configure --workrs 3", "did you mean --workers ...?"),
        ("configure --engine slurm", "there is 'local'"),
        ("configure --max-memory-per-worker 5", "10 MB or more"),
        ("configure --workers (3", "never closed"),
        ("configure --threads-per-worker unheard_of", "unheard_of has no value: NameError"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_what_to_write(kernel: Kernel, line: str, told: str) -> None:
    """No traceback: it is a line that was typed, not a program that failed."""
    kernel.run("aiopool.get_pool()")
    assert told in refused(kernel, f"%aiopool {line}")


def test_help_tells_every_subcommand(kernel: Kernel) -> None:
    """``help``, ``--help`` and ``-h`` are the same."""
    told = says(kernel, "%aiopool help")
    assert says(kernel, "%aiopool --help") == says(kernel, "%aiopool -h") == told
    for word in ("resize", "restart", "restart now", "close", "jobs", "cancel", "cancel all", "configure"):
        assert f"%aiopool {word} " in told


def test_it_works_in_a_terminal_without_a_kernel(tmp_path: Path) -> None:
    """IPython without a kernel: the same lines; the pool shows itself as text."""
    script = """
import aiopool, os, threading
%load_ext aiopool
[thread.join() for thread in threading.enumerate() if thread.name == "aiopool-warm-up"];
%aiopool close
%aiopool
%aiopool configure --workers 2
aiopool.get_pool().broadcast(os.getpid).result();
%aiopool resize 3
%aiopool
%aiopool jobs
%aiopool close
%aiopool nonsense
"""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor"),
            *("--InteractiveShell.ast_node_interactivity=all", "-c", script),
        ],
        cwd=tmp_path,
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = run.stdout + run.stderr
    assert "No shared pool is open" in told, told
    assert "From now on: workers 2." in told
    assert "3 workers from now on: 1 more starts when there is work." in told
    assert "shared open" in told
    assert "getpid: 2 done" in told
    assert "UsageError: %aiopool knows no nonsense" in told
    assert "Traceback" not in told
