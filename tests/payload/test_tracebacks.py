"""Tracebacks: the right file, line and column, in plain text and as a notebook shows them."""

from __future__ import annotations

import io
import linecache
import pickle
import queue
import re
import textwrap
import time
import traceback

import pytest

from aiopool import _payload as payload
from aiopool._payload import tracebacks
from aiopool._payload.tracebacks import Frame, build, read
from tests.payload.processes import SRC

FETCH = """
import json

async def fetch(url):
    text = await download(
        url,
        retries=3,
    )
    return parse(text)

async def download(url, retries):
    return "{" + url

def parse(text):
    data = (lambda t: json.loads(t)["rows"])(text)
    return data
"""


def test_a_plain_traceback_shows_the_lines_of_the_cell(notebook, child):
    """In the worker's text and in the kernel's own, alike, with carets, from the first frame on."""
    name = notebook.cell(FETCH)
    error = child.failure(notebook["fetch"], "x")
    lines = "".join(traceback.format_exception(error))
    shown = lines[lines.index(f'  File "{name}"') :]
    assert f'  File "{name}", line 8, in fetch\n    return parse(text)\n' in shown
    assert f'  File "{name}", line 14, in parse\n    data = (lambda t: json.loads(t)["rows"])(text)\n' in shown
    assert re.search(rf'  File "{name}", line 14, in <lambda>\n.*\n +[~^]+\n', shown)
    assert "json.decoder.JSONDecodeError: Expecting property name" in shown
    assert "_payload" not in lines
    assert "cloudpickle" not in lines


def test_the_text_of_the_worker_is_that_of_the_kernel(notebook, child):
    """So a RemoteError, or a log of the worker, reads the same."""
    notebook.cell("class E(Exception):\n    def __init__(self, *, a): ...\n    def __reduce__(self): 1 / 0\n")
    notebook.cell(
        """
        def f(x):
            try:
                return {}["k"]
            except KeyError as error:
                error.add_note("a note")
                raise SystemExit("two\\nlines") from error
        """
    )
    error = child.failure(notebook["f"])
    text = "".join(traceback.format_exception(error))
    told = error.traceback_text
    assert told.endswith("SystemExit: two\nlines\n")
    assert told.removesuffix("SystemExit: two\nlines\n") == text[: text.rindex("aiopool.errors.ItemExited")]


def test_lines_of_a_method_of_an_argument_are_known_in_the_worker(notebook, child):
    """The class came with an argument; its source did too."""
    notebook.cell("class P:\n    def m(self):\n        return self.nothing\n")
    notebook.cell("def f(make):\n    return [p.m() for p in make]")
    child.start(notebook["f"])
    kind, answer = child.ask("item", payload.dump_items([[notebook["P"]()]]).blobs[0])
    assert kind == b"E"
    assert "    return self.nothing\n           ^^^^^^^^^^^^\n" in pickle.loads(answer)[1]


def test_the_source_of_cells_stays_in_the_worker(notebook, child):
    """``linecache.checkcache`` drops what is not on disk, unless it came from elsewhere."""
    name = notebook.cell("def f(x): return x  # the line")
    child.run(notebook["f"], 1)
    look = f"(__import__('linecache').checkcache(), __import__('linecache').getline({name!r}, 1))[1]"
    assert child.look(look) == "def f(x): return x  # the line\n"


def test_sources_of_helpers_in_other_cells_travel_too(notebook):
    """And no file that the worker could read for itself."""
    one = notebook.cell("def helper(x): return 1 / x")
    two = notebook.cell("from textwrap import dedent\ndef f(x): return helper(x), dedent")
    data = payload.dump_function(notebook["f"]).data
    assert set(pickle.load(io.BytesIO(data))) == {one, two}


def frames_of(function) -> tuple[Frame, ...]:
    """What a function's exception is told as."""
    try:
        function()
    except Exception as error:  # noqa: BLE001
        return read(error.__traceback__.tb_next)
    raise AssertionError("no exception")


def several_lines():
    """A call over several lines."""
    return int(
        "ab",
        base=10,
    )


def test_built_frames_have_the_positions_of_the_real_ones():
    """Line, end line, both columns, name and qualified name."""
    frames = frames_of(several_lines)
    built = build(frames)
    assert [frame[:9] for frame in read(built)] == [tuple(frame) for frame in frames]
    assert built.tb_frame.f_code.co_firstlineno == several_lines.__code__.co_firstlineno
    assert built.tb_lineno == several_lines.__code__.co_firstlineno + 2


@pytest.mark.parametrize(
    "change",
    [
        {"line": 0},
        {"line": 10, "end_line": 3},
        {"column": None},
        {"end_line": None},
        {"column": 50, "end_column": 3},
        {"first_line": 1_000_000},
        {"name": "<module>", "qualname": "<module>"},
        {"name": "<listcomp>"},
        {"name": "ünïcode"},
        {"filename": "<string>"},
        {"filename": ""},
    ],
)
def test_odd_positions_give_a_frame_or_none_but_never_fail(change):
    """Bytecode that tools have rewritten has odd positions."""
    frame = frames_of(several_lines)[-1]._replace(**change)
    built = build([frame, frame])
    assert traceback.format_tb(built) is not None
    if built is not None:
        assert built.tb_frame.f_code.co_name == frame.name


def test_a_hundred_frames_of_one_line_are_compiled_once(notebook):
    """Recursion is common, and a notebook shows many failures."""
    notebook.cell("def down(n): return down(n - 1) if n else 1 / 0")
    frames = frames_of(lambda: notebook["down"](100))
    compiled = tracebacks._compile.cache_info().misses
    built = build(frames)
    assert tracebacks._compile.cache_info().misses - compiled <= 3
    assert len(list(traceback.walk_tb(built))) == 102


# --- in a real kernel ----------------------------------------------------------------------------------------------


class Kernel:
    """Runs cells; gives what they print, and the traceback that a front end shows."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager

        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel()
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=30)

    def close(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def run(self, source: str) -> str:
        """Run one cell; gives its printed text and its traceback, without colours."""
        sent = self._client.execute(textwrap.dedent(source).strip())
        out, deadline = "", time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != sent:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                out += content["text"]
            elif message["msg_type"] == "error":
                out += "\n".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return re.sub(r"\x1b\[[0-9;]*m", "", out)
        raise TimeoutError(source)


@pytest.fixture(scope="module")
def kernel():
    """One kernel with a worker; cell 1 has been run."""
    pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    runner = Kernel()
    try:
        root = SRC.removesuffix("/src")
        out = runner.run(
            f"import sys\nsys.path[:0] = [{SRC!r}, {root!r}]\n"
            "from tests.payload.processes import Child\nchild = Child()"
        )
        assert out == ""
        yield runner
        runner.run("child.__exit__()")
    finally:
        runner.close()


@pytest.mark.kernel
def test_a_notebook_marks_the_line_of_the_cell(kernel):
    """As if the cell had run there: cell number, function, arrow at the line, and the lines around it."""
    kernel.run(FETCH)
    shown = kernel.run("raise child.failure(fetch, 'x')")
    number = int(re.search(r"Cell In\[(\d+)\], line 8, in fetch", shown).group(1))
    assert f"Cell In[{number + 1}], line 1" in shown
    assert "----> 8     return parse(text)" in shown
    assert f"Cell In[{number}], line 14, in parse" in shown
    assert '---> 14     data = (lambda t: json.loads(t)["rows"])(text)' in shown
    assert "json/decoder.py" in shown, "frames of the standard library are shown as always"
    assert "JSONDecodeError: Expecting property name" in shown
    assert "ipykernel_" not in shown


@pytest.mark.kernel
def test_a_notebook_shows_notes_causes_and_wrapped_exits_with_their_lines(kernel):
    """The whole chain points into cells."""
    kernel.run(
        """
        class Broken(Exception):
            def __init__(self, code, what):
                super().__init__(f"{code}: {what}")
        def f(x):
            try:
                return {}["k"]
            except KeyError as error:
                raise Broken(3, "no k") from error
        def g(x):
            raise SystemExit(
                "bye"
            )
        """
    )
    shown = kernel.run(
        "error = child.failure(f); error.add_note('in item 7'); assert type(error) is Broken; raise error"
    )
    assert '----> 6         return {}["k"]' in shown
    assert "The above exception was the direct cause of the following exception" in shown
    assert '----> 8         raise Broken(3, "no k") from error' in shown
    assert shown.rstrip().endswith("Broken: 3: no k\nin item 7")
    shown = kernel.run("raise child.failure(g)")
    assert "ItemExited: the item raised SystemExit: bye" in shown
    assert re.search(r"---> 10     raise SystemExit\(", shown)


@pytest.mark.kernel
def test_a_notebooks_own_classes_stay_as_they_are(kernel):
    """In a real ``__main__``: dataclass, enum and pydantic, there and back; run again after a change."""
    kernel.run(
        """
        import enum, dataclasses, pydantic
        class Color(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            n = 0
            def up(self):
                Point.n += 1
                return Point(self.x + step)
        class Model(pydantic.BaseModel):
            points: list[Point]
            color: Color
        step = 1
        def f(m):
            assert isinstance(m, Model) and m.color is Color.RED
            return Model(points=[p.up() for p in m.points], color=Color.RED)
        """
    )
    job = (
        "got, = child.run(f, Model(points=[Point(1)], color=Color.RED))\n"
        "print(type(got) is Model, type(got.points[0]) is Point, got.color is Color.RED, got.points[0].x, Point.n)"
    )
    assert kernel.run(job) == "True True True 2 0\n"
    kernel.run("step = 10")
    assert kernel.run(job) == "True True True 11 0\n"


@pytest.mark.kernel
def test_a_notebook_names_what_cannot_travel(kernel):
    """`get_ipython`, a connection, a lock: in the call, in one sentence."""
    kernel.run(
        "import threading\nip = get_ipython()\nlock = threading.Lock()\ndef f(x): return ip\ndef g(x): return lock"
    )
    shown = kernel.run("child.start(f)")
    assert shown.rstrip().endswith(
        "NotPicklable: `f` uses the global `ip` (ipykernel.zmqshell.ZMQInteractiveShell), which cannot travel to "
        "another process. It lives in the notebook's kernel. Return a value from the function, and use it "
        "here on the results."
    )
    assert "`g` uses the global `lock` (_thread.lock), which cannot travel" in kernel.run("child.start(g)")


def test_linecache_of_the_kernel_is_not_touched(notebook, child):
    """Rebuilding frames reads nothing and caches nothing."""
    notebook.cell("def f(x): return 1 / x")
    before = set(linecache.cache)
    error = child.failure(notebook["f"], 0)
    assert type(error) is ZeroDivisionError
    assert set(linecache.cache) == before
