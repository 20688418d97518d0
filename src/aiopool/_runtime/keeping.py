"""System calls that take next to no time, without letting go of the GIL.

``os`` and ``fcntl`` let go of it for a third of a microsecond. Where another thread waits for it, that takes it, and
keeps it for as long as it has something to do: the pool's own thread while calls come by the thousand, and the kernel's
for five milliseconds where the pool's asks.
"""

from __future__ import annotations

import ctypes
import os
import sys
import termios

__all__ = ["folder", "readable"]

SIZE = 4096

_system = ctypes.PyDLL(None)

_getcwd = _system.getcwd
_getcwd.restype = ctypes.c_char_p
_getcwd.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_buffer = ctypes.create_string_buffer(SIZE)

_last = b"", ""

_ioctl = _system.ioctl
_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
# Elsewhere its last argument, of which there may be any number, may be passed in another way.
_HAS_IOCTL = sys.platform == "linux"


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


def readable(fd: int) -> int:
    """How many bytes the pipe holds; -1 where that must be asked for in the plain way, which says what is wrong."""
    count = ctypes.c_int()
    if not _HAS_IOCTL or _ioctl(fd, termios.FIONREAD, ctypes.byref(count)):
        return -1
    return count.value
