"""What importing costs: a script gets nothing of notebooks, and a fresh worker only what is on a list."""

from __future__ import annotations

import json
import os

import pytest

from aiopool._worker.known import NAMES
from tests.pool.scripts import run, script

HEAVY = {
    "IPython", "ipywidgets", "anywidget", "ipykernel", "jupyter_client", "traitlets", "tornado", "zmq", "numpy",
    "pandas", "matplotlib", "tqdm", "nest_asyncio2", "uvloop", "distributed", "pydantic",
}  # fmt: skip
"""Never imported by a script that maps."""

AFTER_THE_START = {
    "lzma", "multiprocessing.spawn", "multiprocessing.util", "psutil", "runpy", "secrets", "shutil", "tempfile",
}  # fmt: skip
"""Not imported before the first worker has been started: it comes up meanwhile."""

WORKER_OURS = {
    "aiopool",
    "aiopool._core",
    "aiopool._core.columns",
    "aiopool._core.frames",
    "aiopool._core.records",
    "aiopool._core.wire",
    "aiopool._payload",
    "aiopool._worker",
    "aiopool.errors",
    "aiopool.frozen",
    "aiopool.inside",
}
"""What of ours a worker may know; with the modules of the rooms ``_payload`` and ``_worker``."""

WORKER_OTHERS = {"cloudpickle", "bare"}
"""The one package of somebody else in a fresh worker, and the user's own module."""

WORKER_STANDARD = {
    # What the interpreter brings, and small ones.
    "__future__", "__main__", "_abc", "_ast", "_asyncio", "_blake2", "_bootlocale", "_codecs", "_collections",
    "_collections_abc", "_colorize", "_compat_pickle", "_contextvars", "_ctypes", "_frozen_importlib",
    "_frozen_importlib_external", "_functools", "_hashlib", "_heapq", "_imp", "_io", "_json", "_locale",
    "_opcode", "_opcode_metadata", "_operator", "_pickle", "_posixsubprocess", "_queue", "_scproxy", "_signal",
    "_sitebuiltins", "_socket", "_sre", "_ssl", "_stat", "_string", "_struct", "_thread", "_tokenize", "_typing",
    "_uuid", "_warnings", "_weakref", "_weakrefset", "abc", "array", "atexit", "binascii", "builtins", "codecs",
    "copyreg", "encodings", "errno", "fcntl", "gc", "genericpath", "io", "itertools", "keyword", "marshal", "math",
    "mmap", "operator", "os", "posix", "posixpath", "reprlib", "site", "stat", "sys", "time", "weakref",
    "zipimport", "zlib",
    # What ours, asyncio and cloudpickle ask for.
    "ast", "asyncio", "base64", "collections", "concurrent", "contextlib", "contextvars", "copy", "ctypes",
    "dataclasses", "dis", "enum", "faulthandler", "functools", "hashlib", "heapq", "importlib", "inspect", "json",
    "linecache", "locale", "logging", "opcode", "pickle", "platform", "queue", "re", "select", "selectors",
    "signal", "socket", "ssl", "string", "struct", "subprocess", "textwrap", "threading", "token", "tokenize",
    "traceback", "types", "typing", "uuid", "warnings",
}  # fmt: skip


def tops(modules):
    """The first names of dotted names."""
    return {module.partition(".")[0] for module in modules}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The modules of a fresh script after each of its steps, and of its worker."""
    folder = tmp_path_factory.mktemp("imports")
    script(folder, "import sys\ndef modules(_):\n    return ' '.join(sys.modules)\n", "bare.py")
    file = script(
        folder,
        """
        import sys
        at_start = sorted(sys.modules)
        from bare import modules
        import aiopool
        imported = sorted(sys.modules)
        from aiopool import Pool, pmap
        aiopool.configure(workers=1)
        opened = sorted(sys.modules)
        pool = aiopool.get_pool()
        pooled = sorted(sys.modules)
        bare = pool.map(modules, ["2", "3"]).result(30)[1].split()
        fresh, = pool.broadcast(lambda: sorted(__import__("sys").modules)).result(30)
        pmap(abs, [1, 2]).result(30)

        async def later(x):
            return [x]

        pmap(later, [1, 2]).result(30)
        try:
            pmap(lambda x: 1 / 0, [1]).result(30)
        except ZeroDivisionError:
            pass
        used, = aiopool.get_pool().broadcast(lambda: sorted(__import__("sys").modules)).result(30)
        import json
        print(json.dumps([at_start, imported, opened, pooled, sorted(sys.modules), bare, fresh, used]))
        """,
    )
    names = ("at_start", "imported", "opened", "pooled", "mapped", "bare", "fresh", "used")
    return dict(zip(names, map(set, json.loads(run(file, cwd=folder))), strict=True))


def test_importing_aiopool_imports_next_to_nothing(seen):
    """Neither IPython nor ipywidgets nor numpy, and not even asyncio or cloudpickle: names are loaded when used."""
    assert seen["imported"] - seen["at_start"] - {"bare", "__future__"} == {"aiopool"}


def test_opening_a_pool_and_mapping_imports_nothing_of_notebooks(seen):
    """Nor numpy, nor a progress bar that nobody sees."""
    assert not tops(seen["opened"] - seen["at_start"]) & HEAVY
    assert not tops(seen["mapped"] - seen["at_start"]) & HEAVY
    assert not {module for module in seen["mapped"] if module.startswith("aiopool.jupyter")}


def test_making_a_pool_leaves_for_later_what_its_first_worker_does_not_wait_for(seen):
    """Such as psutil: that is imported while the process comes up, which takes longer."""
    assert "aiopool.engines.local" in seen["pooled"]
    # Where there is no file in memory alone one is made in a folder for the time being, before a worker can have it.
    files = set() if hasattr(os, "memfd_create") else {"lzma", "shutil", "tempfile"}
    assert seen["pooled"] & AFTER_THE_START == files


def test_a_worker_that_runs_functions_of_modules_knows_neither_asyncio_nor_cloudpickle(seen):
    """Nor what these ask for: it would take longer than all else of its start."""
    # By Python itself, from 3.13 on, for whatever it is started with -c; and once it is ready, by the guard.
    brought = {"linecache", "_ctypes", "ctypes"}
    assert not tops(seen["bare"]) & NAMES - brought


def test_what_a_worker_of_ours_imports_later_is_found_where_it_was_at_its_start(seen):
    """The list of it is whole: otherwise a module of the same name beside the notebook would stand in for it."""
    assert tops(seen["used"]) - tops(seen["bare"]) <= NAMES | {"aiopool"}


@pytest.mark.parametrize("which", ["bare", "fresh", "used"])
def test_a_worker_imports_only_what_is_on_the_list(seen, which):
    """When it is fresh, and after items and an error: what is imported later was asked for by the user's code."""
    new = seen[which] - seen["at_start"]
    ours = {module for module in new if module.startswith("aiopool")}
    assert {
        module for module in ours if not module.startswith(("aiopool._payload.", "aiopool._worker."))
    } <= WORKER_OURS
    assert tops(new) - {"aiopool"} - WORKER_OTHERS - WORKER_STANDARD == set()


def test_a_worker_does_not_know_multiprocessing(seen):
    """It is no child of its resource tracker, and starts none."""
    assert "multiprocessing" not in tops(seen["used"])
