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

_last = b"", ""


def folder() -> str:
    """As ``os.getcwd``, with its errors."""
    global _last  # noqa: PLW0603  # what it was last is mostly what it is
    # Nobody else runs between the call and the copy that it returns.
    found: bytes | None = _getcwd(_buffer, SIZE)
    if found is None:  # Gone, or a path too long for that.
        return os.getcwd()  # noqa: PTH109  # a pathlib one costs ten times as much
    last = _last
    if found != last[0]:
        _last = last = found, os.fsdecode(found)
    return last[1]
