"""A real kernel, for what is measured in cells: its own process, a client that takes all its messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import start_new_kernel

TIMEOUT = 120.0
TOLD = "told:"


class Kernel:
    """Runs cells. A cell calls ``tell(value)`` to give something back; the value must go into JSON."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.run(f"import json\ndef tell(value): print({TOLD!r}, json.dumps(value), sep='')")

    def run(self, code: str) -> Any:
        """One cell; what it told, None if nothing."""
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                raise RuntimeError("\n".join(content["traceback"]))

        self._client.execute_interactive(code, output_hook=hear, timeout=TIMEOUT)
        _, told, value = "".join(printed).rpartition(TOLD)
        return json.loads(value) if told else None


@contextmanager
def kernel() -> Iterator[Kernel]:
    """One that lasts as long as the block."""
    manager, client = start_new_kernel()
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
