"""Failures for which nobody has asked, from a script's side: what is said of them, when, and of which not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aiopool import _payload
from aiopool._payload import dump_error
from aiopool._runtime.results import Ending, RawFailure, Results
from aiopool._runtime.telling import told
from aiopool._runtime.unheard import what_failed
from tests.job.driver import Driver
from tests.pool.board import DEADLINE
from tests.pool.scripts import beside_progress, script, start

FAILS = """
    import sys, time
    from aiopool import Pool, pmap, terminal
    from aiopool._runtime import unheard
    say, said = terminal.say, []
    terminal.say = lambda *args: (say(*args), said.append(args))
    def fetch(x):
        if x == 2:
            raise ValueError("no page")
        return x
    def ended(job):
        until = time.monotonic() + 20
        while job.snapshot().state == "running" and time.monotonic() < until:
            time.sleep(0.01)
    pool = Pool(workers=1)
"""

HAS_IT = ". aiopool.jobs() has the job: .failures, .retry()\n"
MAP = f"fetch failed: ValueError: no page (item 2){HAS_IT}"
CALL = "fetch failed: ValueError: no page. Nobody waited for it.\n"

SCRIPTS = {
    "a map, a second after its end": ("job = pool.map(fetch, range(4)); ended(job); time.sleep(1.5)", MAP),
    "a map, at the end of the script": ("job = pool.map(fetch, range(4)); ended(job)", MAP),
    "a map, when its pool has ended": ("with pool: pool.map(fetch, range(4))", MAP),
    "a map whose job is asked after its pool has ended": (
        "with pool:\n        job = pool.map(fetch, range(4))\n    len(job.failures)",
        "",
    ),
    "a map that is awaited at once": ("try: pool.map(fetch, range(4)).result()\n    except ValueError: pass", ""),
    "a map that is awaited late": (
        """unheard.ASKED_WITHIN = 20.0  # the machine may stand still
    job = pool.map(fetch, range(4)); ended(job)
    try: job.result()
    except ValueError: pass
""",
        "",
    ),
    "a call whose handle was let go": (
        """pool.submit(fetch, 2)
    ended(last := pool.submit(fetch, 1))
    until = time.monotonic() + 20
    while not said and time.monotonic() < until:
        time.sleep(0.01)
    sys.stderr.write("later\\n")
""",
        CALL + "later\n",
    ),
    "a call whose handle is held": (
        "handle = pool.submit(fetch, 2); ended(handle); time.sleep(1.5); sys.stderr.write('later\\n')",
        "later\n" + CALL,
    ),
    "calls whose handles are asked one after another": (
        """handles = [pool.submit(fetch, x) for x in (2, 2, 1)]
    ended(handles[-1])
    time.sleep(1.5)
    for handle in handles[:2]:
        try: handle.result()
        except ValueError: pass
""",
        "",
    ),
    "a job that was cancelled": (
        "job = pool.map(time.sleep, [20] * 4); job.cancel(); ended(job); time.sleep(1.2)",
        "",
    ),
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_script_says_on_standard_error_what_nobody_asked(tmp_path: Path, what: str) -> None:
    """Once; of a call not as long as somebody holds its handle, because many may be asked one after another."""
    source, expected = SCRIPTS[what]
    process = start(script(tmp_path, f"{FAILS}    {source}\n"), cwd=tmp_path, stdin=subprocess.DEVNULL)
    try:
        _, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert (process.returncode, beside_progress(err)) == (0, expected)


# --- what is said -----------------------------------------------------------------------------------------------------


class Rude(Exception):
    """An exception of the user's that does something when it is shown."""

    def __str__(self) -> str:
        raise AssertionError("shown on the pool's thread")

    __repr__ = __str__


class Text(str):
    """A text that is none of Python's own."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("shown on the pool's thread")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\n  page"), "ValueError: no page"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(2, "No such file", "x.csv"), "FileNotFoundError: [Errno 2] No such file: 'x.csv'"),
        (Rude("x"), "Rude"),
        (ValueError(Text("x")), "ValueError"),
        (ValueError(object()), "ValueError"),
    ],
)
def test_an_error_is_told_without_running_the_users_code(error: Exception, line: str) -> None:
    """Its class and its text; the class alone, where the text would be made by somebody's code."""
    assert told(error) == line


@pytest.mark.parametrize("text", ["x" * 10_000, "x" * 188 + "y", "x" * 189, "a\tb\n\x1b[31mc", ""])
def test_an_error_is_told_alike_here_and_from_a_worker(text: str) -> None:
    """It is one line among others, of printable characters: a long one is cut."""
    error = ValueError(text)
    assert told(error) == _payload.told(dump_error(error))
    assert len(told(error)) <= 200
    assert told(error).isprintable()


def failed(*failures: RawFailure, size: int | None, how: str = "failed", error: Exception | None = None) -> Results:
    """Results that have ended."""
    results = Results(size)
    for failure in failures:
        results.fail(failure)
    if size is None:
        results.set_total(9)
    results.end(Ending(how, error))  # type: ignore[arg-type]
    return results


def test_what_is_said_of_an_end() -> None:
    """The first failure in the order in which they came; of an end that was wanted, nothing."""
    one, other = RawFailure(7, dump_error(ValueError("boom"))), RawFailure(3, KeyError("x"))
    assert what_failed("f", failed(one, size=9), of_call=False) == "f failed: ValueError: boom (item 7)"
    assert what_failed("f", failed(one, size=1), of_call=True) == "f failed: ValueError: boom"
    assert what_failed("f", failed(size=9, error=OSError("disk")), of_call=False) == "f failed: OSError: disk"
    done = failed(one, other, size=None, how="done")
    assert what_failed("f", done, of_call=False) == "f: 2 of 9 failed, the first: ValueError: boom (item 7)"
    assert what_failed("f", failed(size=9, how="done"), of_call=False) == ""
    for how in ("cancelled", "stopped"):
        assert what_failed("f", failed(one, size=9, how=how), of_call=False) == ""


def test_who_waits_or_reads_at_the_end_has_heard_of_it() -> None:
    """A loop that is in its body gets the error with its next turn; one that was left does not."""
    with Driver(3) as driver:
        driver.deliver([0])
        reader = iter(driver.job)
        assert next(reader) == 0
        driver.fail(1, ValueError("boom"))
        driver.end("failed")
        driver.flush()
        assert driver.results.news.heard
    for look in ("failures", "records", "partial"):
        with Driver(3, on_error="return") as driver:
            driver.deliver([0])
            reader = iter(driver.job)
            assert next(reader) == 0
            del reader
            driver.fail(1, ValueError("boom"))
            driver.end("failed")
            driver.flush()
            assert not driver.results.news.heard
            driver.job.failures if look == "failures" else getattr(driver.job, look)()
            assert driver.results.news.heard
