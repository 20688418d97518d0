"""A real Jupyter kernel, driven as a front end drives it: run a cell, read what it shows, press Stop, restart, kill.

Nothing here waits without a deadline. When one passes, the stacks of the kernel's threads and what the cell has shown
so far are in the failure, and the kernel is killed.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, NoReturn, Self

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from traitlets import default

import aiopool
from tests import without

DEADLINE = 40.0
"""Seconds that a cell may take, unless a test says otherwise."""

GONE_WITHIN = 2.0
"""Seconds after which nothing may be left of a kernel's workers."""

RESTART_WITHIN = 4.0
"""Seconds, on a machine that stands still now and then; the promise is 1, and the summary says how it was. For a child
that stays, or that nobody reaps, ipykernel waits 14, and Jupyter, which would end that after 2.5, is patient here."""

POLL = 0.01

HELD = """
async def held(x):
    sign(x)
    while not os.path.exists(os.path.join(SIGNS, "go")):
        await asyncio.sleep(0.01)
    return x
"""
"""A coroutine that says where it is, and waits until the test lets go; for a kernel that has signs."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")

_PREPARE = """
__import__("faulthandler").register(__import__("signal").SIGUSR1, file=open({stacks!r}, "w"), all_threads=True)
"""

FIRST_CELL = """
import asyncio, enum, functools, os, sys, threading, time
from dataclasses import dataclass
import aiopool
from aiopool import Pool, pmap
aiopool.configure(workers=2)
"""


class OwnKernelManager(KernelManager):
    """Starts the kernel of this very interpreter, whatever else is registered on the machine."""

    @default("kernel_spec_manager")
    def _only_ours(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share" / "jupyter" / "kernels")])

    @default("shutdown_wait_time")
    def _patient(self) -> float:
        # It waits for half of it. By its own 5 s a slow machine and a child that stays would look alike.
        return 40.0


class Message:
    """One message that a cell has caused, with the moment at which it was read here."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.kind: str = raw["header"]["msg_type"]
        self.content: dict[str, Any] = raw["content"]
        self.sent: float = raw["header"]["date"].timestamp()
        self.read = time.monotonic()

    def __repr__(self) -> str:
        return f"{self.kind} {str(self.content)[:500]}"


class Shown:
    """One display: what stood there, one after another, its texts, and when each was sent."""

    def __init__(self, display_id: str | None) -> None:
        self.display_id = display_id
        self.data: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.sent: list[float] = []

    def add(self, message: Message) -> None:
        """Note another text."""
        self.data.append(message.content["data"])
        self.texts.append(message.content["data"].get("text/plain", ""))
        self.sent.append(message.sent)

    @property
    def is_panel(self) -> bool:
        """Whether it is a panel, or a place for one."""
        return (self.display_id or "").startswith("aiopool-panel-")

    @property
    def widget(self) -> str | None:
        """The name of its widget, None where it has none at present."""
        view = self.data[-1].get("application/vnd.jupyter.widget-view+json")
        return None if view is None else str(view["model_id"])


class Widget:
    """A widget as a browser knows it: every state that it was sent."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.name = name
        self.states: list[dict[str, Any]] = []
        self.sent: list[float] = []
        self.details: dict[str, str] = {}
        self.page: dict[str, Any] = {}
        self.closed = False
        self._kernel = kernel
        self._clicks = 0

    def take(self, message: Message) -> None:
        """Note what it is told."""
        self.closed = self.closed or message.kind == "comm_close"
        told = message.content.get("data", {}).get("state", {})
        self.details = told.get("details", self.details)
        self.page = told.get("page", self.page)
        if "state" in told:
            self.states.append(told["state"])
            self.sent.append(message.sent)

    @property
    def state(self) -> dict[str, Any]:
        """How it is."""
        return self.states[-1]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The rows of its jobs."""
        rows: list[dict[str, Any]] = self.state["jobs"]
        return rows

    def click(self, action: str, row: int = 0, subshell: str | None = None, **more: object) -> int:
        """Click on a button, mostly of a job's row; returns the click's number."""
        self._clicks += 1
        content: dict[str, object] = {"action": action, "click": self._clicks, **more}
        if action != "fold":
            content["job"] = self.jobs[row]["key"]
        self._kernel.click(self.name, content, subshell)
        return self._clicks

    def wait_for(self, there: Callable[[dict[str, Any]], object], what: str, seconds: float = DEADLINE) -> Self:
        """Wait for a state."""
        deadline = time.monotonic() + seconds
        while not (self.states and there(self.state)):
            if time.monotonic() > deadline:
                self._kernel.give_up(f"{what} did not come within {seconds:g} s; the state is {self.states[-1:]}")
            self._kernel.read_message(min(0.1, max(0.0, deadline - time.monotonic())))
        return self


class Cell:
    """A cell that was sent to the kernel, and everything that has come under it."""

    def __init__(self, kernel: Kernel, source: str, msg_id: str) -> None:
        self.source = source
        self.msg_id = msg_id
        self.messages: list[Message] = []
        self.ended: float | None = None
        self.reply: dict[str, Any] = {}
        self._kernel = kernel

    # --- waiting ---------------------------------------------------------------------------------------------------

    def widget(self) -> Widget:
        """Wait for the widget of its panel."""
        self.wait_for(lambda cell: any(panel.widget for panel in cell.panels), "the widget of a panel")
        return self._kernel.widget(next(panel.widget for panel in self.panels if panel.widget))

    def wait_for(self, there: Callable[[Self], object], what: str, seconds: float = DEADLINE) -> Self:
        """Read messages until something is there."""
        deadline = time.monotonic() + seconds
        while not there(self):
            if time.monotonic() > deadline:
                self._kernel.give_up(f"{what} did not come within {seconds:g} s", self)
            self._kernel.read_message(min(0.1, max(0.0, deadline - time.monotonic())))
        return self

    def finish(self, seconds: float = DEADLINE) -> Self:
        """Wait for the end of the cell, whatever it is."""
        self.wait_for(lambda cell: cell.ended is not None, "the end of the cell", seconds)
        self.reply = self._kernel.reply_to(self)
        return self

    # --- what it showed --------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The n of ``In[n]``."""
        return int(self.reply["execution_count"])

    def printed(self, stream: str = "stdout") -> str:
        """What stands under the cell as printed."""
        return "".join(
            message.content["text"]
            for message in self.messages
            if message.kind == "stream" and message.content["name"] == stream
        )

    @property
    def output(self) -> str | None:
        """The text of ``Out[n]``, None if there is none."""
        texts = [m.content["data"]["text/plain"] for m in self.messages if m.kind == "execute_result"]
        return texts[0] if texts else None

    @property
    def value(self) -> Any:
        """What stands in ``Out[n]``, read as a literal."""
        assert self.output is not None, self.messages
        return ast.literal_eval(self.output)

    @property
    def error(self) -> dict[str, Any] | None:
        """The content of the error message, None if there is none."""
        errors = [message.content for message in self.messages if message.kind == "error"]
        assert len(errors) < 2
        return errors[0] if errors else None

    @property
    def traceback(self) -> str:
        """The traceback as it stands under the cell, without colours; empty if there is none."""
        return "" if self.error is None else _ANSI.sub("", "\n".join(self.error["traceback"]))

    @property
    def displays(self) -> list[Shown]:
        """What was displayed, each with its later texts, but for panels."""
        return [shown for shown in self._shown() if not shown.is_panel]

    @property
    def panels(self) -> list[Shown]:
        """The panels under it, as they were displayed; the places that were kept for one, too."""
        return [shown for shown in self._shown() if shown.is_panel]

    def _shown(self) -> list[Shown]:
        shown: list[Shown] = []
        for message in self.messages:
            if message.kind not in ("display_data", "update_display_data"):
                continue
            display_id = message.content.get("transient", {}).get("display_id")
            if message.kind == "display_data":
                shown.append(Shown(display_id))
                shown[-1].add(message)
            else:
                next(one for one in shown if one.display_id == display_id).add(message)
        return shown

    @property
    def began(self) -> float:
        """When the kernel began to run it, by the kernel's clock."""
        return next(message.sent for message in self.messages if message.kind == "execute_input")


class Kernel:
    """A kernel process and its one client."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.broken = False
        self._stacks = cwd / ".stacks"
        self.widgets: dict[str, Widget] = {}
        self._cells: dict[str, Cell] = {}
        self._places: dict[str, Cell] = {}
        self._manager = OwnKernelManager(kernel_name="python3")
        # Absolute: the tests may have been started with a relative one, and the kernel runs elsewhere.
        source = str(Path(aiopool.__file__).parent.parent)
        own = {"PYTHONPATH": without.python_path(source), "IPYTHONDIR": str(cwd / ".ipython"), "PYTHONUNBUFFERED": "1"}
        self._manager.start_kernel(
            cwd=str(cwd),
            env=os.environ | own,
            extra_arguments=["--HistoryManager.hist_file=:memory:", "--log-level=ERROR"],
        )
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self.prepare()

    def prepare(self) -> None:
        """Wait until the kernel answers, and let it write its stacks when asked to."""
        self._client.wait_for_ready(timeout=DEADLINE)
        self._cells.clear()
        self._begin(_PREPARE.format(stacks=str(self._stacks)), silent=True).finish()
        self.run(FIRST_CELL)

    def __repr__(self) -> str:
        return f"<Kernel {self.pid}>"

    # --- cells -----------------------------------------------------------------------------------------------------

    def run(self, source: str, seconds: float = DEADLINE) -> Cell:
        """Run a cell that must not fail."""
        cell = self.run_any(source, seconds)
        if cell.error is not None:
            source = textwrap.indent(cell.source, "    ")
            pytest.fail(f"the cell failed:\n{source}\n{cell.printed()}{cell.traceback}")
        return cell

    def fail(self, source: str, seconds: float = DEADLINE) -> Cell:
        """Run a cell that must fail."""
        cell = self.run_any(source, seconds)
        if cell.error is None:
            pytest.fail(f"the cell did not fail:\n{textwrap.indent(cell.source, '    ')}\n{cell.messages}")
        return cell

    def run_any(self, source: str, seconds: float = DEADLINE) -> Cell:
        """Run a cell to its end, whatever it is."""
        return self.begin(source).finish(seconds)

    def value(self, source: str, seconds: float = DEADLINE) -> Any:
        """Run a cell and return what its last line shows."""
        return self.run(source, seconds).value

    def begin(self, source: str, cell_id: str | None = None, subshell: str | None = None) -> Cell:
        """Send a cell and return at once; ``cell_id`` is the front end's name for it, where it gives one."""
        metadata = {} if cell_id is None else {"cellId": cell_id}
        return self._begin(source, silent=False, metadata=metadata, subshell=subshell)

    def _begin(
        self, source: str, *, silent: bool, metadata: dict[str, str] | None = None, subshell: str | None = None
    ) -> Cell:
        source = textwrap.dedent(source).strip("\n")
        content = {
            "code": source,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": True,
        }
        request = self._client.session.msg("execute_request", content, metadata=metadata)
        if subshell is not None:
            request["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(request)
        cell = Cell(self, source, request["header"]["msg_id"])
        self._cells[cell.msg_id] = cell
        return cell

    def read_message(self, seconds: float) -> None:
        """Read one message, if one comes, and put it under its cell."""
        try:
            raw = self._client.get_iopub_msg(timeout=seconds)
        except Empty:
            if not self._manager.is_alive() and not self.broken:
                self.give_up("the kernel has died", *self._cells.values())
            return
        message = Message(raw)
        if message.kind.startswith("comm_"):
            self._note_widget(message)
        cell = self._cells.get(raw["parent_header"].get("msg_id"))
        display_id = message.content.get("transient", {}).get("display_id")
        if message.kind == "update_display_data":
            # As front ends do it: whichever cell runs, the display is changed where it stands.
            cell = self._places.get(display_id, cell)
        if cell is None:
            return
        if message.kind == "display_data" and display_id:
            self._places[display_id] = cell
        cell.messages.append(message)
        if message.kind == "status" and message.content["execution_state"] == "idle":
            cell.ended = message.read

    def _note_widget(self, message: Message) -> None:
        name, data = message.content["comm_id"], message.content.get("data", {})
        if message.kind == "comm_open" and "_esm" in data.get("state", {}):
            self.widgets[name] = Widget(self, name)
        if (widget := self.widgets.get(name)) is not None:
            widget.take(message)

    def widget(self, name: str) -> Widget:
        """The widget of that name."""
        self.until(lambda: name in self.widgets, "the widget")
        return self.widgets[name]

    def click(self, name: str, content: object, subshell: str | None = None) -> None:
        """Send what a widget's view in the browser sends, on the way that JupyterLab takes with a ``subshell``."""
        data = {"comm_id": name, "data": {"method": "custom", "content": content}}
        message = self._client.session.msg("comm_msg", data)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def new_subshell(self) -> str:
        """Open another shell beside the main one."""
        self._client.control_channel.send(self._client.session.msg("create_subshell_request", {}))
        while True:
            reply = self._client.control_channel.get_msg(timeout=DEADLINE)
            if reply["msg_type"] == "create_subshell_reply":
                return str(reply["content"]["subshell_id"])

    def complete(self, code: str, at: int | None = None) -> dict[str, Any]:
        """Press Tab at that place of a cell, by default at its end."""
        content: dict[str, Any] = self._client.complete(code, at, reply=True, timeout=DEADLINE)["content"]
        return content

    def reply_to(self, cell: Cell) -> dict[str, Any]:
        """Read the reply to a cell; it is sent before the kernel says that it is idle."""
        while True:
            try:
                reply = self._client.get_shell_msg(timeout=DEADLINE)
            except Empty:
                self.give_up("the reply did not come", cell)
            if reply["parent_header"].get("msg_id") == cell.msg_id:
                content: dict[str, Any] = reply["content"]
                return content

    def until(self, there: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        """Wait for something outside the kernel's messages: a file, the end of a process."""
        deadline = time.monotonic() + seconds
        while not there():
            if time.monotonic() > deadline:
                self.give_up(f"{what} did not come within {seconds:g} s", *self._cells.values())
            time.sleep(POLL)

    # --- its processes ---------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        pid = self._manager.provisioner.pid  # type: ignore[union-attr]
        assert isinstance(pid, int)
        return pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self.broken and bool(self._manager.is_alive())

    def children(self) -> list[psutil.Process]:
        """Every process that the kernel has, or that one of these has."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def workers(self) -> list[int]:
        """The process ids of the shared pool's workers."""
        pids = self.value("sorted(worker.info.pid for worker in aiopool.get_pool().workers)")
        assert isinstance(pids, list)
        return pids

    def interrupt(self) -> float:
        """Press Stop as Jupyter Server does: SIGINT to the kernel's process group. Returns when that was."""
        pressed = time.monotonic()
        self._manager.interrupt_kernel()
        return pressed

    def restart(self) -> float:
        """Restart as Jupyter Server does; returns the seconds until the old kernel was gone and the new one started."""
        began = time.monotonic()
        self._manager.restart_kernel(now=False)
        seconds = time.monotonic() - began
        self.prepare()
        return seconds

    def shutdown(self) -> float:
        """Shut down as Jupyter Server does; returns the seconds that this took."""
        began = time.monotonic()
        self._manager.shutdown_kernel(now=False)
        self.broken = True
        return time.monotonic() - began

    def kill(self) -> None:
        """``kill -9`` of the kernel alone."""
        self.broken = True
        os.kill(self.pid, signal.SIGKILL)

    def kill_group(self) -> None:
        """Kill the kernel with all of its process group, as Jupyter Server does where a shutdown takes too long."""
        self.broken = True
        os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing behind, in whatever state it is."""
        self.broken = True
        self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)

    # --- when it goes wrong ----------------------------------------------------------------------------------------

    def give_up(self, why: str, *cells: Cell) -> NoReturn:
        """Fail, and tell all there is to tell."""
        told = [why, f"the kernel {'lives' if self.is_alive else 'is dead'}"]
        for cell in cells[-2:]:
            shown = "\n".join(f"    {message!r}" for message in [*cell.messages[:10], "...", *cell.messages[10:][-5:]])
            told.append(f"the cell\n{textwrap.indent(cell.source, '    ')}\nhas shown\n{shown}")
        if self.is_alive:
            told.append("its processes:\n" + "\n".join(f"    {_described(child)}" for child in self.children()))
            told.append("its stacks:\n" + textwrap.indent(self._read_stacks(), "    "))
        self.broken = True
        pytest.fail("\n".join(told))

    def _read_stacks(self) -> str:
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 2.0
        size = -1
        # Written by a signal handler, thread by thread: it is all there when no more comes.
        while time.monotonic() < deadline:
            now = self._stacks.stat().st_size
            if now and now == size:
                break
            size = now
            time.sleep(0.1)
        return self._stacks.read_text()


class Signs:
    """Files by which items say where they are, whatever the kernel does meanwhile. In the kernel: ``sign(name)``."""

    def __init__(self, kernel: Kernel, folder: Path) -> None:
        self._kernel = kernel
        self._folder = folder
        folder.mkdir()
        kernel.run(
            f"""
            SIGNS = {str(folder)!r}
            def sign(name):
                open(os.path.join(SIGNS, str(name)), "x").close()
            def signed():
                return sorted(os.listdir(SIGNS))
            """
        )

    def names(self) -> list[str]:
        """Which signs there are."""
        return sorted(path.name for path in self._folder.iterdir())

    def allow(self, name: str) -> None:
        """Give a sign to items that wait for it."""
        (self._folder / name).touch()

    def forbid(self, name: str) -> None:
        """Take it back."""
        (self._folder / name).unlink()

    def wait_for(self, count: int, seconds: float = DEADLINE) -> None:
        """Wait for so many signs."""
        self._kernel.until(lambda: len(self.names()) >= count, f"{count} signs of items", seconds)


@contextmanager
def patient(kernel: Kernel) -> Iterator[None]:
    """Jobs are shown 2.5 seconds in, not half of one: also on a machine that stands still what is quick ends before."""
    kernel.run("import aiopool._runtime.views\naiopool._runtime.views.SHOW_AFTER = 2.5")
    yield
    kernel.run("aiopool._runtime.views.SHOW_AFTER = 0.5")


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()} {process.cpu_times()}"
    except psutil.Error as error:
        return repr(error)


def gone(processes: Iterable[psutil.Process], seconds: float = GONE_WITHIN) -> float:
    """Wait until all have ended, and return how long that took. One that nobody has reaped yet has ended too."""
    began = time.monotonic()
    left = list(processes)
    while left := [process for process in left if _runs(process)]:
        if time.monotonic() - began > seconds:
            pytest.fail(f"still there after {seconds:g} s: {[_described(process) for process in left]}")
        time.sleep(POLL)
    return time.monotonic() - began


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
