"""What a library would bring: classes that another process imports."""

from __future__ import annotations

import asyncio
import threading
from typing import Self


class Guarded:
    """Holds a lock for its own use, and can be pickled."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def get(self, x: int) -> int:
        """Double it, one at a time."""
        async with self.lock:
            return 2 * x


class Client:
    """As many an async client: it remembers the loop on which it was made, somewhere inside."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = {"connections": [(loop,)]}

    def close(self) -> None:
        """Close the loop."""
        self._pool["connections"][0][0].close()


class AsyncClient:
    """One that was not used yet, and so knows no loop."""

    def __init__(self) -> None:
        self._guard = threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
