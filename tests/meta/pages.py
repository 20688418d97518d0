"""A page of the documentation as a reader uses it: what it shows, block after block, in one notebook or in files.

A fence that begins with ``python`` is code. Above it may stand ``<!-- not run: reason -->``, or
``<!-- raises: NameOfTheError -->``. Where the first line is ``# name.py`` the block is part of that file.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|raises): (?P<word>.*?) -->\n+)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
FILE = re.compile(r"# (\S+\.py)\n")

SCENE = """
import asyncio, ctypes, functools, os, subprocess, time, urllib.request
from pathlib import Path
import aiopool
from aiopool import Failure, Pool, pmap

urls = [f"{server}/{number}" for number in range(8)]
pages = [f"page {number}" for number in range(8)]
data = list(range(8))
paths = []
for number in range(4):
    paths.append(Path(f"{number}.dat"))
    paths[-1].write_bytes(bytes(100))
Path("pages").mkdir()

def load(url):
    with urllib.request.urlopen(url) as response:
        return response.read().decode()

async def fetch(url):
    return await asyncio.to_thread(load, url)

mended_fetch = fetch

def parse(page):
    return 1 / (int(page.split()[1]) - 3)

async def score(x):
    return x * x

job = pmap(parse, pages, on_error="return", progress=False)
job.result()
"""
"""What every page takes for granted: the reader's own functions and data. ``job`` is one that has a failure."""


@dataclass(frozen=True)
class Block:
    """One piece of code: at which line of its page, what stands above it, in which file it belongs."""

    code: str
    line: int
    mark: str
    word: str
    file: str


def blocks(page: Path) -> list[Block]:
    """What the page shows, in its order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        code = match["code"]
        file = FILE.match(code)
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(code, line, match["mark"] or "", match["word"] or "", file[1] if file else ""))
    return found


class _Answers(BaseHTTPRequestHandler):
    """A server that has a page for whatever it is asked."""

    def do_GET(self) -> None:
        body = f"the page {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass  # what it would say stands on nobody's page


@contextmanager
def a_server() -> Iterator[str]:
    """The address of a server on this machine, on a thread of its own: blocks may block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def run_as_cell(code: str, namespace: dict[str, Any], page: Path, line: int) -> None:
    """Run it as a cell is run: it may await. Its lines are those of the page."""
    name = page.name
    tree = compile("\n" * line + code, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = eval(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.isawaitable(done):
        async with asyncio.timeout(30):
            await done


async def play(page: Path, folder: Path) -> None:
    """Run the page from top to bottom in an empty folder, where it may leave what it likes."""
    files: dict[str, None] = {}
    with a_server() as address:
        namespace: dict[str, Any] = {"__name__": "__main__", "server": address}
        await run_as_cell(SCENE, namespace, Path("scene.py"), 0)
        for block in blocks(page):
            if block.file:
                with (folder / block.file).open("a", encoding="utf-8") as file:
                    file.write(block.code)
                files[block.file] = None
            elif block.mark == "raises":
                await _run_to_its_error(block, namespace, page)
            elif not block.mark:
                await run_as_cell(block.code, namespace, page, block.line)
    for file in files:
        _run_file(file, folder)


async def _run_to_its_error(block: Block, namespace: dict[str, Any], page: Path) -> None:
    try:
        await run_as_cell(block.code, namespace, page, block.line)
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        assert type(error).__name__ == block.word, f"{page}:{block.line}: {error!r}"  # noqa: PT017 - the same
    else:
        raise AssertionError(f"{page}:{block.line} did not raise {block.word}")


def _run_file(name: str, folder: Path) -> None:
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if name.startswith("test_") else []
    # Where this run finds aiopool; and pytest without the plugins that a reader need not have, which take seconds.
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        [sys.executable, *command, name],
        check=False,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
