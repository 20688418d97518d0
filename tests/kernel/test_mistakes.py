"""The ten commonest mistakes of newcomers, made in cells: the message stands under the cell, at the user's line.

What each message must say is tested in tests/pool/test_mistakes.py; here, that a notebook shows it, and nothing else.
"""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Kernel
from tests.kernel.test_errors import files_of, frames_of, marked_lines

pytestmark = pytest.mark.kernel

NOTEBOOK = """
import threading
urls = ["a", "b", "c"]
lock, limit = threading.Lock(), asyncio.Semaphore(5)
used = (url for url in urls)
with Pool(workers=1) as closed:
    pass
class Client:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
async def make(): return Client()
client = await make()
server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
_, http = await asyncio.open_connection(*server.sockets[0].getsockname())
http.close()
server.close()
async def fetch(url): return url * 2
async def locked(url):
    async with lock: return url
async def limited(url):
    async with limit: return url
async def by_client(url): return await client.get(url)
async def by_http(url): http.write(url)
pages = await pmap(fetch, used)
"""

MISTAKES = {
    "await forgotten": ("pmap(fetch, urls)[0]", "TypeError", "await it first, as in `results = await pmap(...)`"),
    "called": ("await pmap(fetch(urls), urls)", "InputError", "Pass the function itself: pmap(fetch, data)"),
    "data first": ("await pmap(urls, fetch)", "InputError", "The function comes first"),
    "generator reused": ("await pmap(fetch, used)", "InputError", "has been used up: it gives its values once"),
    "lock": ("await pmap(locked, urls)", "NotPicklable", "`locked` uses the global `lock` (_thread.lock)"),
    "client": (
        "await pmap(by_client, urls)",
        "NotPicklable",
        "`by_client` uses the global `client`, which has the attribute `loop`",
    ),
    "async client": (
        "await pmap(by_http, urls)",
        "NotPicklable",
        "`by_http` uses the global `http` (asyncio.streams.StreamWriter)",
    ),
    "not iterable": ("await pmap(fetch, 10)", "InputError", "int cannot be iterated: pass a list"),
    "queue": ("await pmap(fetch, asyncio.Queue())", "InputError", "while (item := await queue.get()) is not None"),
    "option": ("await pmap(fetch, urls, concurency=3)", "OptionError", "did you mean concurrency=...?"),
    "pool closed": ("await closed.map(fetch, urls)", "PoolClosed", "open another one with Pool()"),
    "semaphore": ("await pmap(limited, urls)", "NotPicklable", "Write pmap(..., concurrency=N) instead"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_under_the_cell_at_the_users_line(kernel: Kernel, mistake: str) -> None:
    """One frame, the arrow at the line, the message that says what to write, no warning beside it."""
    call, name, said = MISTAKES[mistake]
    if not kernel.value("'limited' in globals()"):
        kernel.run(NOTEBOOK)
    failed = kernel.fail(f"before = 1\nresult = {call}\nafter = 2")
    assert failed.error is not None
    assert failed.error["ename"] == name
    assert said in failed.error["evalue"]
    assert frames_of(failed) == [(failed.number, 2)]
    assert marked_lines(failed) == [f"result = {call}"]
    assert files_of(failed) == []
    assert failed.printed("stderr") == ""


def test_a_huge_global_is_told_at_the_line_of_the_call(kernel: Kernel) -> None:
    """Its name, its size and what to write; the results come all the same, and it is said once."""
    kernel.run("table = bytes(12_000_000)\nasync def score(x):\n    return x + len(table)")
    cell = kernel.run("job = pmap(score, [1])\nawait job")
    assert cell.value == [12_000_001]
    told = cell.printed("stderr")
    assert re.match(r".*:1: UserWarning: `score` uses the global `table` \(bytes, 12.0 MB\), which is sent to", told)
    assert "job = pmap(score, [1])" in told
    assert "aiopool.get_pool().put(table)" in told
    assert kernel.run("await pmap(score, [1])").printed("stderr") == ""


def test_what_the_message_about_a_huge_global_says_works(kernel: Kernel) -> None:
    """Copied from it into the next cell."""
    kernel.run("table = bytes(12_000_000)\nasync def score(x, table):\n    return x + len(table)")
    cell = kernel.run("ref = aiopool.get_pool().put(table)\nawait pmap(functools.partial(score, table=ref), [1])")
    assert cell.value == [12_000_001]
    assert cell.printed("stderr") == ""


def test_a_job_that_was_not_awaited_can_still_be(kernel: Kernel) -> None:
    """The mistake costs nothing: the next cell awaits the same job."""
    kernel.run("async def fetch(url): return url * 2")
    failed = kernel.fail("pages = pmap(fetch, ['a', 'b'])\nfirst = pages[0]")
    assert failed.error is not None
    assert failed.error["ename"] == "TypeError"
    assert kernel.value("await pages") == ["aa", "bb"]
