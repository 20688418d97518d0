"""A notebook without a kernel, and a worker process without a pool: what the payload room needs to be tried."""

from __future__ import annotations

import hashlib
import linecache
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Self

from aiopool import _payload as payload

SRC = str(Path(payload.__file__).parents[2])


class Notebook:
    """Cells that run in one ``__main__``-like namespace, compiled as ipykernel does: into files that do not exist."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def cell(self, source: str) -> str:
        """Run a cell; gives the name of its file."""
        source = textwrap.dedent(source).strip("\n") + "\n"
        name = f"/tmp/ipykernel_{os.getpid()}/{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}.py"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec", dont_inherit=True), self.names)
        return name

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


class Child:
    """A worker process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": SRC},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            assert self._process.wait(20) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def ask(self, command: str, data: object) -> tuple[bytes, bytes]:
        """Send a command, wait for what it answers: its kind and its bytes."""
        message = pickle.dumps((command, data))
        self._process.stdin.write(struct.pack("<Q", len(message)) + message)
        self._process.stdin.flush()
        size = struct.unpack("<Q", self._process.stdout.read(8))[0]
        answer = self._process.stdout.read(size)
        return answer[:1], answer[1:]

    def get(self, command: str, data: object) -> Any:
        """The value that a command answers; an error is raised as the kernel would raise it."""
        kind, answer = self.ask(command, data)
        if kind == b"E":
            raise payload.load_error(answer)
        return payload.load_value(answer)

    def look(self, expression: str) -> Any:
        """The value of an expression in the worker."""
        return self.get("look", expression)

    def start(self, function: Any) -> None:
        """A job begins."""
        self.get("load", payload.dump_function(function).data)

    def items(self, *values: object) -> list[Any]:
        """What the job's function gives for each value."""
        encoded = payload.dump_items(values)
        for _, refusal in encoded.refused:
            raise refusal
        shared = iter(payload.load_shared(encoded.shared))
        return [
            self.get("shared", payload.dump_shared([next(shared)])) if blob is None else self.get("item", blob)
            for blob in encoded.blobs or (None,) * len(values)
        ]

    def run(self, function: Any, *values: object) -> list[Any]:
        """A whole job."""
        self.start(function)
        return self.items(*values)

    def failure(self, function: Any, value: object = None) -> BaseException:
        """The exception of an item, as the kernel has it before anybody raises it."""
        self.start(function)
        kind, answer = self.ask("shared", payload.dump_shared([value]))
        assert kind == b"E", f"no failure, but {payload.load_value(answer)!r}"
        return payload.load_error(answer)
