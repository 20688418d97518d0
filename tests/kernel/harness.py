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
from collections.abc import Callable, Iterable
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

DEADLINE = 20.0
"""Seconds that a cell may take, unless a test says otherwise."""

GONE_WITHIN = 2.0
"""Seconds after which nothing may be left of a kernel's workers."""

POLL = 0.01

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
    """One display: the texts that stood there, one after another, and when each was sent."""

    def __init__(self, display_id: str | None) -> None:
        self.display_id = display_id
        self.texts: list[str] = []
        self.sent: list[float] = []

    def add(self, message: Message) -> None:
        """Note another text."""
        self.texts.append(message.content["data"].get("text/plain", ""))
        self.sent.append(message.sent)


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
        """What was displayed, each with its later texts."""
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
        self._cells: dict[str, Cell] = {}
        self._manager = OwnKernelManager(kernel_name="python3")
        # Absolute: the tests may have been started with a relative one, and the kernel runs elsewhere.
        source = str(Path(aiopool.__file__).parent.parent)
        own = {"PYTHONPATH": source, "IPYTHONDIR": str(cwd / ".ipython"), "PYTHONUNBUFFERED": "1"}
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

    def begin(self, source: str, cell_id: str | None = None) -> Cell:
        """Send a cell and return at once; ``cell_id`` is the front end's name for it, where it gives one."""
        return self._begin(source, silent=False, metadata={} if cell_id is None else {"cellId": cell_id})

    def _begin(self, source: str, *, silent: bool, metadata: dict[str, str] | None = None) -> Cell:
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
        cell = self._cells.get(raw["parent_header"].get("msg_id"))
        if cell is None:
            return
        message = Message(raw)
        cell.messages.append(message)
        if message.kind == "status" and message.content["execution_state"] == "idle":
            cell.ended = message.read

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

    def wait_for(self, count: int, seconds: float = DEADLINE) -> None:
        """Wait for so many signs."""
        self._kernel.until(lambda: len(self.names()) >= count, f"{count} signs of items", seconds)


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
