"""The worker half in a real process: reads commands, answers each. Started by ``processes.Child``."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import struct
import sys

from aiopool import _payload as payload
from aiopool._payload.functions import is_async


class Server:
    """One function, and a loop to run it on."""

    def __init__(self) -> None:
        self.function = None
        self.retry_on = ()
        self.loop = asyncio.new_event_loop()

    def answer(self, command: str, data: object) -> bytes:
        """``V`` and a value, or ``E`` and an error, as the payload room writes them."""
        try:
            return b"V" + payload.dump_value(getattr(self, command)(data))
        except BaseException as error:  # noqa: BLE001
            return b"E" + payload.dump_error(error)

    def load(self, data):
        """Take a function."""
        self.function, self.retry_on = payload.load_job(data)

    def shared(self, data):
        """Call it with a plain value."""
        return self._call(payload.load_shared(data)[0])

    def item(self, data):
        """Call it with a value of its own."""
        return self._call(payload.load_item(memoryview(data)))

    def judge(self, value):
        """Whether what the function raises may be tried again."""
        try:
            self._call(value)
        except BaseException as error:  # noqa: BLE001
            return payload.may_retry(error, self.retry_on)

    def judge_item(self, data):
        """The same, with a value of its own."""
        return self.judge(payload.load_item(memoryview(data)))

    def look(self, expression):
        """Look around in this process."""
        return eval(expression, {"sys": sys, "function": self.function, "payload": payload})

    def _call(self, value):
        result = self.function(value)
        if inspect.iscoroutine(result) and is_async(self.function):
            return self.loop.run_until_complete(result)
        return result


def main() -> None:
    """Serve until the parent closes the pipe. Prints of user code go to stderr."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server()
    while header := source.read(8):
        answer = server.answer(*pickle.loads(source.read(struct.unpack("<Q", header)[0])))
        sink.write(struct.pack("<Q", len(answer)) + answer)
        sink.flush()
    server.loop.close()


if __name__ == "__main__":
    main()
