"""A module of the user's own that was edited is used in its new form by the next job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aiopool._runtime.modules import Modules
from aiopool._worker import modules as inside
from tests.pool import work
from tests.pool.board import Board, until
from tests.pool.pools import children, shortly


class Helper:
    """A module in a folder on the path, and the item that uses it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.file = folder / f"{name}.py"
        self._length = 0

    def write(self, said: str) -> None:
        """Edit it. Each form is longer than the last: Python tells two of one second by their length only."""
        self._length += 1
        self.file.write_text(f"def say(x=None):\n    return {said!r}\n" + "#" * self._length)

    @property
    def use(self) -> Callable[[object], Any]:
        """The item."""
        name = self.name

        def use(_: object = None) -> Any:
            import importlib

            return importlib.import_module(name).say()

        return use


@pytest.fixture
def helper(tmp_path, monkeypatch, request) -> Helper:
    """A module of this test's own."""
    monkeypatch.syspath_prepend(tmp_path)
    return Helper(tmp_path, f"aiopool_helper_{request.node.name.partition('[')[0]}"[:60])


async def test_the_next_job_uses_the_edited_module(fresh, helper):
    """On every worker that had imported the older form; a map, a submit, a broadcast."""
    pool = fresh(2)
    helper.write("one")
    assert await shortly(pool.broadcast(helper.use)) == ["one", "one"]
    helper.write("two")
    assert await shortly(pool.map(helper.use, range(4), batch=1)) == ["two"] * 4
    helper.write("three")
    assert await shortly(pool.submit(helper.use)) == "three"
    helper.write("four")
    assert await shortly(pool.broadcast(helper.use)) == ["four", "four"]
    until(lambda: len(pool.workers) == 2, what="the older workers have left")


async def test_a_function_of_the_module_itself_is_the_new_one(fresh, helper):
    """It travels by its name, whatever form of it the kernel still has."""
    pool = fresh(1)
    helper.write("one")
    module = __import__(helper.name)
    assert await shortly(pool.map(module.say, [1])) == ["one"]
    helper.write("two")
    assert module.say() == "one"
    assert await shortly(pool.map(module.say, [1])) == ["two"]


async def test_workers_that_have_not_imported_it_stay(fresh, helper):
    """And so do all where nothing was edited."""
    pool = fresh(2)
    helper.write("one")
    pids = await shortly(pool.broadcast(work.pid))
    assert await shortly(pool.submit(helper.use)) == "one"
    assert await shortly(pool.broadcast(work.pid)) == pids
    helper.write("two")
    after = await shortly(pool.broadcast(work.pid))
    assert len(set(after) & set(pids)) == 1


async def test_running_items_end_with_the_form_that_they_began_with(fresh, helper, board: Board):
    """Their workers take nothing new and leave when the items have ended; nothing runs twice."""
    pool = fresh(1)
    helper.write("one")
    use = helper.use
    await shortly(pool.submit(use))

    def held(x: int) -> tuple[int, Any]:
        board.mark("started")
        board.wait("go")
        return os.getpid(), use(x)

    job = pool.submit(held, 0)
    await board.wait_async("started")
    helper.write("two")
    assert await shortly(pool.submit(use)) == "two"
    board.mark("go")
    pid, said = await shortly(job)
    assert said == "one"
    assert len(board.marks("started")) == 1
    until(lambda: pid not in children(), what="the older worker has left")


async def test_what_an_initializer_has_imported_counts(fresh, helper):
    """Before any item has run."""
    helper.write("one")
    use = helper.use
    pool = fresh(1, initializer=use)
    await shortly(pool.submit(work.pid))
    helper.write("two")
    assert await shortly(pool.submit(use)) == "two"


async def test_an_edit_while_the_item_that_imported_it_runs_counts(fresh, helper, board: Board):
    """Whether it was before or after the import, nobody knows: the worker is replaced."""
    pool = fresh(1)
    helper.write("one")
    use = helper.use
    await shortly(pool.submit(work.pid))

    def held() -> Any:
        said = use()
        board.mark("imported")
        board.wait("edited")
        return said

    job = pool.submit(held)
    await board.wait_async("imported")
    helper.write("two")
    board.mark("edited")
    assert await shortly(job) == "one"
    assert await shortly(pool.submit(use)) == "two"


async def test_what_an_item_imports_counts_long_before_it_ends(fresh, helper, board: Board):
    """A job beside it gets the new form, and the item its own."""
    pool = fresh(1)
    helper.write("one")
    use = helper.use

    async def held() -> Any:
        said = use()
        board.mark("imported")
        await board.wait_async("go")
        return said, use()

    async def use_later() -> Any:
        return use()

    job = pool.submit(held)
    await board.wait_async("imported")
    file = str(helper.file)
    known = pool._driver._modules._workers
    until(lambda: any(file in files for files in list(known.values())), what="the kernel knows of the import")
    helper.write("two")
    assert await shortly(pool.submit(use_later)) == "two"
    board.mark("go")
    assert await shortly(job) == ("one", "one")


async def test_a_package_counts_with_all_its_files(fresh, tmp_path, monkeypatch):
    """Its ``__init__`` and its modules."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "aiopool_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("X = 1")
    pool = fresh(1)

    def part() -> Any:
        from aiopool_package import part  # type: ignore[import-not-found]

        return part.X

    assert await shortly(pool.submit(part)) == 1
    (package / "part.py").write_text("X = 22")
    assert await shortly(pool.submit(part)) == 22


async def test_a_file_that_was_removed_replaces_nobody(fresh, helper):
    """There is no newer form."""
    pool = fresh(1)
    helper.write("one")
    assert await shortly(pool.submit(helper.use)) == "one"
    helper.file.unlink()
    assert await shortly(pool.submit(helper.use)) == "one"


async def test_it_can_be_switched_off(fresh, helper):
    """Then the form that a worker has imported stays, as in any Python process."""
    pool = fresh(1, reload_modules=False)
    helper.write("one")
    assert await shortly(pool.submit(helper.use)) == "one"
    helper.write("two")
    assert await shortly(pool.submit(helper.use)) == "one"


# --- what counts as the user's own -----------------------------------------------------------------------------------


class Parent:
    """What a worker has told."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}

    def __call__(self, frame: Any) -> None:
        """Take it in as the kernel does."""
        known = Modules()
        known.note(1, frame.data)
        self.files.update(known._workers[1])


def test_only_the_users_own_files_are_told(tmp_path, monkeypatch):
    """Neither Python's, nor installed ones, nor ours, nor what has no file that could be edited."""
    for name in ("own.py", "site-packages/installed.py", "dist-packages/installed2.py", "only.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    told = Parent()
    watch = inside.Modules(told)
    watch.watch()
    told.files.clear()

    class Lazy:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("it was looked into")

    class Plain:
        __slots__ = ()

    def module(**attributes: object) -> Any:
        return type("Module", (), {"__init__": lambda self: self.__dict__.update(attributes)})()

    monkeypatch.chdir(tmp_path)
    modules = {
        "own": module(__file__="own.py"),
        "gone": module(__file__=str(tmp_path / "gone.py")),
        "zipped": module(__file__=str(tmp_path / "own.py" / "inside.py")),
        "installed": module(__file__=str(tmp_path / "site-packages" / "installed.py")),
        "installed2": module(__file__=str(tmp_path / "dist-packages" / "installed2.py")),
        "compiled": module(__file__=str(tmp_path / "only.pyc")),
        "namespace": module(__file__=None),
        "nothing": None,
        "lazy": Lazy(),
        "plain": Plain(),
        "ours": module(__file__=inside.__file__),
        "python's": module(__file__=os.__file__),
    }
    for name, each in modules.items():
        monkeypatch.setitem(sys.modules, f"aiopool_test_{name}", each)
    watch.look()
    found = (tmp_path / "own.py").stat()
    assert set(told.files) == {str(tmp_path / "own.py")}
    told.files.clear()
    watch.look()
    assert told.files == {}
    assert found.st_size == 0


def test_a_file_whose_edit_may_be_older_or_newer_than_its_import_is_never_current(tmp_path, monkeypatch):
    """Edited since the last look: unsure. Before it, or by a clock that is ahead: the form that it has now.

    Files have the time of the system's last tick, which is some ms old.
    """
    now = inside.time.time_ns()
    second = 1_000_000_000
    told = Parent()
    monkeypatch.setattr(inside.time, "time_ns", lambda: now)
    watch = inside.Modules(told)
    watch.watch()
    told.files.clear()
    expected = {}
    times = {"before": now - second, "a tick": now - 9_000_000, "between": now + second, "ahead": now + 10 * second}
    for name, changed in times.items():
        file = tmp_path / f"{name}.py"
        file.write_text("x")
        os.utime(file, ns=(changed, changed))
        monkeypatch.setitem(sys.modules, f"aiopool_test_{name}", type(sys)(name))
        sys.modules[f"aiopool_test_{name}"].__file__ = str(file)
        expected[str(file)] = inside.UNSURE if name in {"a tick", "between"} else (changed, 1)
    monkeypatch.setattr(inside.time, "time_ns", lambda: now + 2 * second)
    watch.look()
    assert told.files == expected


# --- what the kernel does with it ------------------------------------------------------------------------------------


def noted(modules: Modules, worker: int, files: list[Path], *, size: int | None = None) -> None:
    """Tell as a worker does."""
    import json

    stamps = [(str(file), file.stat().st_mtime_ns, file.stat().st_size if size is None else size) for file in files]
    modules.note(worker, json.dumps(stamps).encode())


def test_a_worker_is_outdated_once(tmp_path, monkeypatch):
    """By time or by size; and until it is gone it is not named again."""
    # No look takes long, whatever else the machine does: after two that did, the next one would have to wait.
    monkeypatch.setattr("aiopool._runtime.modules.time", SimpleNamespace(monotonic=lambda: 100.0))
    file = tmp_path / "a.py"
    file.write_text("x")
    modules = Modules()
    noted(modules, 1, [file])
    noted(modules, 2, [file], size=7)
    assert modules.outdated() == [2]
    assert modules.outdated() == []
    os.utime(file, ns=(1, 1))
    assert modules.outdated() == [1]
    noted(modules, 3, [file], size=7)
    modules.forget(3)
    assert modules.outdated() == []


def test_looks_that_take_long_are_not_taken_for_every_submit(tmp_path, monkeypatch):
    """On a slow disk they take a tenth of the time; one that was slow by chance changes nothing."""
    modules = Modules()
    file = tmp_path / "a.py"
    file.write_text("")
    clock, slow, looks = [100.0], [0.0], []

    def stat(path: str) -> os.stat_result:
        clock[0] += slow[0]
        looks.append(path)
        return file.stat()

    monkeypatch.setattr("aiopool._runtime.modules.os", SimpleNamespace(stat=stat))
    monkeypatch.setattr("aiopool._runtime.modules.time", SimpleNamespace(monotonic=lambda: clock[0]))
    noted(modules, 1, [file])
    for seconds in (0.0, 10.0, 0.0):
        slow[0] = seconds
        assert modules.outdated() == []
    assert len(looks) == 3
    slow[0] = 0.01
    begun = clock[0]
    for _ in range(10_000):
        modules.outdated()
        clock[0] += 0.001
    assert 0.08 < (len(looks) - 3) * 0.01 / (clock[0] - begun) < 0.12
    file.write_text("edited")
    clock[0] += 1
    assert modules.outdated() == [1]
