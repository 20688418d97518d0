"""What workers take over of this process, when they start and with every job: variables, folder, path, logs, warnings.

The tests change their own process, which is the workers' kernel here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import textwrap
import timeit
import warnings
from pathlib import Path
from typing import Any

import pytest

from aiopool import OptionError, Pool
from aiopool._runtime import environment
from aiopool._runtime.machine import usable_cpus
from tests.pool import work
from tests.pool.board import DEADLINE, Board
from tests.pool.pools import shortly
from tests.pool.scripts import beside_progress, run, script


def variable(name: str) -> str | None:
    """An item: a variable of its worker."""
    return os.environ.get(name)


async def variable_later(name: str) -> str | None:
    """The same as a coroutine."""
    return os.environ.get(name)


def set_variables(values: dict[str, str]) -> None:
    """An initializer that changes its own worker."""
    os.environ.update(values)


def folder() -> str:
    """An item: where its worker is."""
    return str(Path.cwd())


def level(name: str) -> int:
    """An item: the level of a logger in its worker."""
    return logging.getLogger(name).level


@pytest.fixture(autouse=True)
def levels_of_this_process(monkeypatch):
    """Levels that a test sets are its own."""
    yield
    logging.disable(logging.NOTSET)
    for name in ("aiopool-test", "aiopool-test.child"):
        logging.getLogger(name).setLevel(logging.NOTSET)


# --- variables -------------------------------------------------------------------------------------------------------


def test_variables_that_change_reach_workers_that_run_before_the_first_item(pool, monkeypatch):
    """Set, changed, deleted; for a map, a submit, a broadcast; for a ``def`` and an ``async def``."""
    pool.broadcast(work.pid).result(DEADLINE)
    monkeypatch.setenv("AIOPOOL_TEST", "1")
    assert pool.map(variable, ["AIOPOOL_TEST"] * 4, batch=1).result(DEADLINE) == ["1"] * 4
    monkeypatch.setenv("AIOPOOL_TEST", "zwei \udc80 ü\n")
    assert pool.map(variable_later, ["AIOPOOL_TEST"] * 4, batch=1).result(DEADLINE) == ["zwei \udc80 ü\n"] * 4
    monkeypatch.setenv("AIOPOOL_TEST", "3")
    assert pool.submit(variable, "AIOPOOL_TEST").result(DEADLINE) == "3"
    monkeypatch.delenv("AIOPOOL_TEST")
    assert pool.broadcast(lambda: os.environ.get("AIOPOOL_TEST")).result(DEADLINE) == [None, None]


def test_a_job_sees_what_its_call_saw(fresh, monkeypatch):
    """Also where its worker starts only after the next line has changed it again."""
    pool = fresh(1)
    monkeypatch.setenv("AIOPOOL_TEST", "at the call")
    handle = pool.submit(variable, "AIOPOOL_TEST")
    monkeypatch.setenv("AIOPOOL_TEST", "later")
    assert handle.result(DEADLINE) == "at the call"
    assert pool.submit(variable, "AIOPOOL_TEST").result(DEADLINE) == "later"


async def test_an_older_job_does_not_set_a_worker_back(fresh, board: Board, monkeypatch):
    """The first job comes to the second worker after a newer one has: that stands as it is."""
    pool = fresh(2)
    await shortly(pool.broadcast(work.pid))
    monkeypatch.setenv("AIOPOOL_TEST", "old")

    async def held(x: int) -> str | None:
        board.mark("in")
        await board.wait_async("go")
        return os.environ.get("AIOPOOL_TEST")

    old = pool.map(held, range(3), concurrency=1)
    await board.wait_async("in")
    monkeypatch.setenv("AIOPOOL_TEST", "new")
    assert await shortly(pool.map(variable_later, ["AIOPOOL_TEST"] * 8, batch=1)) == ["new"] * 8
    pool.restart()
    board.mark("go")
    # Its other items come to a worker that was started after the change.
    assert (await shortly(old))[1:] == ["new", "new"]


def test_what_a_worker_has_set_itself_stays_until_the_kernel_changes_it(fresh, monkeypatch):
    """Only changes travel: an initializer's variables are not touched by the change of another one."""
    monkeypatch.setenv("AIOPOOL_BOTH", "the kernel's")
    own = ["AIOPOOL_OWN", "AIOPOOL_BOTH"]
    pool = fresh(1, initializer=set_variables, initargs=(dict.fromkeys(own, "mine"),))
    assert pool.map(variable, own).result(DEADLINE) == ["mine", "mine"]
    monkeypatch.setenv("AIOPOOL_TEST", "1")
    assert pool.map(variable, own).result(DEADLINE) == ["mine", "mine"]
    monkeypatch.setenv("AIOPOOL_OWN", "new")
    monkeypatch.delenv("AIOPOOL_BOTH")
    assert pool.map(variable, own).result(DEADLINE) == ["new", None]


def test_what_only_holds_for_a_kernel_does_not_travel(fresh, monkeypatch):
    """Neither at the start nor later: its parent's pid, its colours."""
    names = ["JPY_PARENT_PID", "JPY_SESSION_NAME", "FORCE_COLOR", "CLICOLOR_FORCE"]
    for name in names:
        monkeypatch.setenv(name, "1")
    pool = fresh(1)
    assert pool.map(variable, names).result(DEADLINE) == [None] * 4
    for name in names:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("AIOPOOL_TEST", "1")
    assert pool.map(variable, [*names, "AIOPOOL_TEST"]).result(DEADLINE) == [None] * 4 + ["1"]


# --- the working directory and the path of imports -------------------------------------------------------------------


def test_workers_follow_into_another_folder(pool, monkeypatch, tmp_path):
    """Relative file names mean the same there as here."""
    pool.broadcast(work.pid).result(DEADLINE)
    (tmp_path / "data.txt").write_text("found")
    monkeypatch.chdir(tmp_path)
    assert pool.map(lambda name: Path(name).read_text(), ["data.txt"] * 4, batch=1).result(DEADLINE) == ["found"] * 4


def test_a_folder_that_is_gone_is_said_once_and_harms_nobody(fresh, monkeypatch, tmp_path, capfd):
    """Removed before the workers came to it: they stay where they are."""
    here = folder()
    gone = tmp_path / "gone"
    gone.mkdir()
    pool = fresh(1)
    pool.submit(work.pid).result(DEADLINE)
    monkeypatch.chdir(gone)
    taken = environment.take()
    gone.rmdir()
    monkeypatch.setattr(environment, "take", lambda **_: taken)
    assert [pool.submit(folder).result(DEADLINE) for _ in range(3)] == [here] * 3
    monkeypatch.undo()
    err = capfd.readouterr().err
    assert err.count("could not take over the kernel's folder") == 1
    assert str(gone) in err


def test_the_folder_is_the_same_however_it_is_asked_for(monkeypatch, tmp_path):
    """Without letting go of the GIL: one with a long path, one whose name is no text, one that is gone."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for name in ("a", os.fsdecode(b"b\xff"), *["c" * 200] * 30, "gone"):
        Path(name).mkdir()
        os.chdir(name)
        if name == "gone":
            Path(f"../{name}").rmdir()
        folders.append(environment.take(keep_gil=True).state["folder"])
        assert environment.take(keep_gil=False).state["folder"] == folders[-1]
    assert folders[0] == str(tmp_path / "a")
    assert len(folders[-2]) > 4096
    assert folders[-1] is None
    monkeypatch.undo()
    assert environment.take(keep_gil=True).state["folder"] == folder()


def test_a_kernel_in_a_folder_that_is_gone_runs_its_jobs(fresh, monkeypatch, tmp_path):
    """Its workers start, and those that run stay where they are."""
    here = folder()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)  # With a relative entry in it, Python does not even start there.
    running = fresh(1)
    assert running.submit(folder).result(DEADLINE) == here
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert running.submit(folder).result(DEADLINE) == here
    assert fresh(1).submit(work.double, 2).result(DEADLINE) == 4


def test_imports_come_from_where_they_come_here(pool, monkeypatch, tmp_path):
    """Entries added since the workers started, also relative ones, and the empty one, which means the folder."""
    pool.broadcast(work.pid).result(DEADLINE)
    for name in ("absolute", "relative", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"aiopool_{name}.py").write_text(f"NAME = {name!r}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "absolute"), "relative", ""])

    def names() -> list[str]:
        import aiopool_absolute  # type: ignore[import-not-found]
        import aiopool_relative  # type: ignore[import-not-found]

        return [aiopool_absolute.NAME, aiopool_relative.NAME]

    def here() -> str:
        import aiopool_here  # type: ignore[import-not-found]

        return aiopool_here.NAME  # type: ignore[no-any-return]

    assert pool.broadcast(names).result(DEADLINE) == [["absolute", "relative"]] * 2
    monkeypatch.chdir(tmp_path / "here")
    assert pool.broadcast(here).result(DEADLINE) == ["here", "here"]


def test_a_relative_entry_means_the_folder_that_the_kernel_is_in_now(fresh, monkeypatch, tmp_path):
    """Although the worker has looked into the folder of that name elsewhere."""
    for name in ("first", "second"):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / "lib" / f"aiopool_{name}.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, "lib"])
    pool = fresh(1)

    def load(name: str) -> str:
        __import__(f"aiopool_{name}")
        return name

    for name in ("first", "second"):
        monkeypatch.chdir(tmp_path / name)
        assert pool.submit(load, name).result(DEADLINE) == name


def test_what_a_worker_has_added_to_its_path_stays(fresh, monkeypatch, tmp_path):
    """In front or behind, when the kernel's changes."""

    def add() -> None:
        sys.path.insert(0, "/in front")
        sys.path.append("/behind")

    pool = fresh(1, initializer=add)
    pool.submit(work.pid).result(DEADLINE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    path = pool.submit(lambda: sys.path).result(DEADLINE)
    assert path == ["/in front", *sys.path, "/behind"]


# --- logs ------------------------------------------------------------------------------------------------------------


def test_levels_of_loggers_travel(pool, monkeypatch):
    """Of the root and of named ones, set, changed and taken back; and the level that is disabled."""
    root = logging.getLogger()
    before = root.level
    pool.broadcast(work.pid).result(DEADLINE)
    ours = logging.getLogger("aiopool-test")
    try:
        root.setLevel(logging.ERROR)
        ours.setLevel(logging.DEBUG)
        assert pool.map(level, ["", "aiopool-test"]).result(DEADLINE) == [logging.ERROR, logging.DEBUG]
    finally:
        root.setLevel(before)
    ours.setLevel(logging.INFO)
    assert pool.map(level, ["", "aiopool-test"]).result(DEADLINE) == [before, logging.INFO]
    ours.setLevel(logging.NOTSET)
    assert pool.submit(level, "aiopool-test").result(DEADLINE) == logging.NOTSET
    logging.disable(logging.WARNING)
    assert pool.submit(lambda: logging.root.manager.disable).result(DEADLINE) == logging.WARNING


def test_a_level_that_an_item_has_set_stays(fresh, monkeypatch):
    """As long as the kernel does not set that one."""

    def set_level() -> None:
        logging.getLogger("aiopool-test.child").setLevel(logging.CRITICAL)

    pool = fresh(1, initializer=set_level)
    pool.submit(work.pid).result(DEADLINE)
    logging.getLogger("aiopool-test").setLevel(logging.DEBUG)
    assert pool.map(level, ["aiopool-test", "aiopool-test.child"]).result(DEADLINE) == [
        logging.DEBUG,
        logging.CRITICAL,
    ]
    logging.getLogger("aiopool-test.child").setLevel(logging.INFO)
    assert pool.submit(level, "aiopool-test.child").result(DEADLINE) == logging.INFO


LOGGING = """
    import logging, sys
    from aiopool import Pool

    def told(x):
        logging.getLogger("mine").info("info %d", x)
        logging.getLogger("mine").debug("debug")
        logging.warning("warning")
        return len(logging.root.handlers)

    sys.stderr = sys.stdout  # To see them in one order.
    with Pool(workers=1) as pool:
        for set_up in {changes}:
            set_up()
            print(pool.submit(told, 7).result(20))
"""


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ("lambda: None,", ["[told] WARNING:root:warning", "1"]),
        (
            "lambda: logging.basicConfig(level=logging.INFO, stream=sys.stdout),",
            ["[told] INFO:mine:info 7", "[told] WARNING:root:warning", "1"],
        ),
        (
            """
            lambda: None,
            lambda: logging.basicConfig(level=20, stream=sys.stdout, format="{name}!{message}", style="{", force=True),
            lambda: logging.basicConfig(level=30, stream=sys.stdout, format="%(message)s", force=True),
            lambda: logging.root.handlers.clear(),
            """,
            [
                *["[told] WARNING:root:warning", "1"],
                *["[told] INFO:mine:info 7", "[told] WARNING:root:warning", "1"],
                *["[told] WARNING:root:warning", "1"] * 2,
            ],
        ),
        (
            """
            lambda: logging.basicConfig(level=20, stream=sys.stdout, format="{name}!{message}", style="{", force=True),
            lambda: logging.basicConfig(level=30, stream=sys.stdout, format="%(message)s", force=True),
            """,
            ["[told] mine!info 7", "[told] root!warning", "1", "[told] warning", "1"],
        ),
        ("lambda: logging.root.addHandler(logging.NullHandler()),", ["[told] WARNING:root:warning", "1"]),
        (
            """
            lambda: logging.basicConfig(level=20, filename="log"),
            """,
            ["[told] INFO:mine:info 7", "[told] WARNING:root:warning", "1"],
        ),
    ],
    ids=["nothing set", "basicConfig", "after the item's own", "changed", "a handler that is silent", "a file only"],
)
def test_a_worker_logs_where_and_how_the_kernel_does(tmp_path, changes, lines):
    """A line of an item stands under its job, in the format of the kernel's root logger, from its level on.

    Where the kernel's has no handler, or the item has made one itself, the worker is left alone.
    """
    file = script(tmp_path, textwrap.dedent(LOGGING).format(changes=f"[{textwrap.dedent(changes).strip()}]"))
    assert run(file, cwd=tmp_path).splitlines() == lines


def test_an_initializer_may_set_up_logging_as_in_any_process(tmp_path):
    """Although the kernel's root logger writes lines to its console: those of this worker go where it says."""
    source = """
        import logging, sys
        from aiopool import Pool

        def set_up():
            logging.basicConfig(level=logging.INFO, filename="worker.log", format="%(message)s")

        logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
        with Pool(workers=1, initializer=set_up) as pool:
            pool.submit(logging.info, "to the file").result(20)
        print(open("worker.log").read(), end="")
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "to the file\n"


# --- warnings --------------------------------------------------------------------------------------------------------


def outcome(text: str, category: type[Warning] = UserWarning) -> str:
    """An item: what becomes of a warning in its worker."""
    with warnings.catch_warnings(record=True) as shown:
        try:
            warnings.warn(text, category, stacklevel=1)
        except Warning:
            return "raised"
    return "shown" if shown else "ignored"


def test_filters_of_warnings_travel(pool):
    """By action, text and category; in the order that they have here."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert pool.submit(outcome, "plain").result(DEADLINE) == "shown"
        warnings.filterwarnings("ignore", message="a part")
        warnings.filterwarnings("error", category=DeprecationWarning)
        assert pool.map(outcome, ["plain", "A PARTY"]).result(DEADLINE) == ["shown", "ignored"]
        assert pool.submit(outcome, "old", DeprecationWarning).result(DEADLINE) == "raised"
        warnings.filterwarnings("error", message="a part", append=False)
        assert pool.submit(outcome, "a part").result(DEADLINE) == "raised"


def test_a_filter_holds_for_a_category_that_the_worker_has_not_imported_yet(pool, tmp_path, monkeypatch):
    """And does not import it: a filter for a big library's warnings must not load that library everywhere."""
    (tmp_path / "aiopool_categories.py").write_text("class Odd(UserWarning): pass\nclass Odder(Odd): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import aiopool_categories  # type: ignore[import-not-found]

    def odd(name: str) -> str:
        import aiopool_categories

        return outcome("x", getattr(aiopool_categories, name))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.simplefilter("error", aiopool_categories.Odd)
        assert pool.broadcast(lambda: "aiopool_categories" in sys.modules).result(DEADLINE) == [False, False]
        assert pool.map(odd, ["Odd", "Odder"]).result(DEADLINE) == ["raised", "raised"]
        assert pool.submit(outcome, "x").result(DEADLINE) == "shown"


def test_a_filter_that_a_library_has_added_in_a_worker_stays(fresh):
    """Behind those of the kernel."""

    def ignore_mine() -> None:
        warnings.filterwarnings("ignore", message="mine")

    with warnings.catch_warnings():
        warnings.resetwarnings()
        pool = fresh(1, initializer=ignore_mine)
        assert pool.submit(outcome, "mine").result(DEADLINE) == "ignored"
        warnings.filterwarnings("error", message="other")
        assert pool.map(outcome, ["mine", "other"]).result(DEADLINE) == ["ignored", "raised"]
        warnings.filterwarnings("error", message="mine")
        assert pool.submit(outcome, "mine").result(DEADLINE) == "raised"


def test_a_filter_that_nobody_can_have_made_is_left_out(pool, monkeypatch):
    """A call must not fail for it."""
    strange: Any = [("ignore",), None, ("error", 1, 2, 3, 4), *warnings.filters]
    monkeypatch.setattr(warnings, "filters", strange)
    assert pool.submit(work.double, 1).result(DEADLINE) == 2


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_look_that_finds_nothing_new_costs_a_submit_nothing():
    """Less than 20 us, with a thousand loggers; and it gives the same snapshot, so that nothing is sent."""
    for number in range(1000):
        logging.getLogger(f"aiopool-test.many.{number}")
    first = environment.take()
    assert environment.take() is first
    assert min(timeit.repeat(environment.take, number=100, repeat=20)) / 100 < 20e-6


# --- threads of libraries --------------------------------------------------------------------------------------------

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"]


@pytest.mark.parametrize(
    ("given", "machine", "told"),
    [
        ("auto", (8.0, 3), "2"),
        ("auto", (1.5, 4), "1"),
        ("auto", (6.7, 1), "6"),
        (5, (8.0, 2), "5"),
        (None, (8, 2), None),
    ],
)
def test_libraries_are_told_how_many_threads_they_may_start(fresh, monkeypatch, given, machine, told):
    """By default so many that all workers together keep all cores busy; None leaves them alone."""
    cores, workers = machine
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("aiopool._runtime.starts.usable_cores", lambda: cores)
    pool = fresh(workers, threads_per_worker=given)
    assert pool.map(variable, THREADS, concurrency=1).result(DEADLINE) == [told] * 4


def test_a_number_of_threads_that_the_user_has_set_stays(fresh, monkeypatch):
    """Before the workers start, and later."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    pool = fresh(1, threads_per_worker=3)
    assert pool.map(variable, THREADS).result(DEADLINE) == ["7", "3", "3", "3"]
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    assert pool.map(variable, THREADS).result(DEADLINE) == ["7", "3", "5", "3"]


def test_numpy_starts_no_more_threads_than_it_is_told(fresh, monkeypatch):
    """After a product of matrices that is worth several."""
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc tells the threads of a process on Linux only")
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)

    def threads() -> int:
        import numpy as np

        np.ones((600, 600)) @ np.ones((600, 600))
        return len(list(Path("/proc/self/task").iterdir()))

    alone = fresh(1, threads_per_worker=1).submit(threads).result(DEADLINE)
    # It starts no more than there are cores, whatever it is told.
    assert fresh(1, threads_per_worker=2).submit(threads).result(DEADLINE) == alone + min(1, usable_cpus() - 1)


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "all"])
def test_a_number_of_threads_that_cannot_be_is_refused(given):
    """In the call, with what it must be."""
    with pytest.raises(OptionError, match="threads_per_worker"):
        Pool(workers=1, threads_per_worker=given)


# --- figures ---------------------------------------------------------------------------------------------------------

INLINE = "module://matplotlib_inline.backend_inline"


@pytest.mark.parametrize(
    ("kernels", "workers"),
    [
        (None, environment.WORKER_BACKEND),
        (INLINE, environment.WORKER_BACKEND),
        ("inline", environment.WORKER_BACKEND),
        ("module://ipympl.backend_nbagg", environment.WORKER_BACKEND),
        ("widget", environment.WORKER_BACKEND),
        ("notebook", environment.WORKER_BACKEND),
        ("Agg", "Agg"),
        ("pdf", "pdf"),
    ],
)
def test_a_backend_of_kernels_is_replaced_and_any_other_choice_stays(fresh, monkeypatch, kernels, workers):
    """When workers start, and when it is changed later."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if kernels is not None:
        monkeypatch.setenv("MPLBACKEND", kernels)
    pool = fresh(1)
    assert pool.submit(variable, "MPLBACKEND").result(DEADLINE) == workers
    monkeypatch.setenv("MPLBACKEND", "svg")
    assert pool.submit(variable, "MPLBACKEND").result(DEADLINE) == "svg"
    monkeypatch.setenv("MPLBACKEND", kernels or "")
    assert pool.submit(variable, "MPLBACKEND").result(DEADLINE) == workers


def test_an_item_plots_shows_and_saves(fresh, fonts, monkeypatch, tmp_path, capfd):
    """As in a notebook's cell, ``show`` displays, and leaves no figure open; warnings are errors here."""
    monkeypatch.setenv("MPLBACKEND", INLINE)
    monkeypatch.setenv("DISPLAY", ":99")
    pool = fresh(1)

    def plot(file: str) -> tuple[list[int], list[int], str]:
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        axes.plot([1, 2, 3])
        figure.show()
        open_after_show = plt.get_fignums()
        plt.savefig(file)
        plt.show()
        plt.show(block=True)
        return open_after_show, plt.get_fignums(), mpl.get_backend()

    async def plot_later(file: str) -> tuple[list[int], list[int], str]:
        await asyncio.sleep(0)
        return plot(file)

    for number, fn in enumerate((plot, plot_later)):
        file = tmp_path / f"{number}.png"
        assert pool.submit(fn, str(file)).result(DEADLINE) == ([1], [], environment.WORKER_BACKEND)
        assert file.read_bytes().startswith(b"\x89PNG")
        out, err = capfd.readouterr()
        assert out == f"[{fn.__name__}] <Figure size 640x480 with 1 Axes>\n" * 2
        assert beside_progress(err) == ""
