"""The working directory, asked for without letting go of the GIL.

``os.getcwd`` lets go of it for a third of a microsecond. Where another thread waits for it, as the pool's does while
calls come by the thousand, that takes it, and keeps it for as long as it has something to do.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["folder"]

SIZE = 4096

_getcwd = ctypes.PyDLL(None).getcwd
_getcwd.restype = ctypes.c_char_p
_getcwd.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_buffer = ctypes.create_string_buffer(SIZE)


_last: tuple[bytes | None, str] = b"", ""


def folder() -> str:
    """As ``os.getcwd``, with its errors."""
    global _last  # noqa: PLW0603
    # Nobody else runs between the call and the copy that it returns.
    found: bytes | None = _getcwd(_buffer, SIZE)
    last = _last
    if found == last[0] and found is not None:
        return last[1]
    if found is None:
        return os.getcwd()  # noqa: PTH109  # a pathlib one costs ten times as much
    _last = last = found, os.fsdecode(found)
    return last[1]
