"""What the system has for shared pages: mappings without a descriptor each, holes in files, what was written to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from mmap import PAGESIZE, PROT_READ, PROT_WRITE

from aiopool._payload.files import identity
from aiopool._payload.limits import memory_limit

__all__ = [
    "FAILED",
    "MAY_MOVE",
    "POPULATE_WRITE",
    "WRITE",
    "address_of",
    "has_children",
    "is_clean",
    "madvise",
    "memory_bytes",
    "mmap",
    "mremap",
    "munmap",
    "punch",
]

FAILED = ctypes.c_void_p(-1).value
POPULATE_WRITE = 23
MAY_MOVE = 1
WRITE = PROT_READ | PROT_WRITE

_PUNCH_HOLE_KEEP_SIZE = 3
_FLAGS = 7 if sys.byteorder == "little" else 0
_FILES = b"\x00\xa0\xa1"
"""What the highest byte of an entry of a pagemap says of a page that is not there, or is there and is of a file."""


class _Buffer(ctypes.Structure):
    """``Py_buffer``."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("length", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


@contextlib.contextmanager
def address_of(view: memoryview) -> Iterator[int]:
    """Where it stands, also of what must not be written to, which ctypes gives no address of."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        yield buffer.address
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


_libc = ctypes.CDLL(None, use_errno=True)
mmap = _libc.mmap
mmap.restype = ctypes.c_void_p
mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
munmap = _libc.munmap
munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
madvise = _libc.madvise
madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
mremap = getattr(_libc, "mremap", None)
if mremap is not None:
    mremap.restype = ctypes.c_void_p
    mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
_fallocate = getattr(_libc, "fallocate64", None)  # glibc's name; elsewhere offsets have 64 bits anyway.
_fallocate = _fallocate or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch(fd: int, expected: tuple[int, int], offset: int, length: int) -> None:
    """Give the memory of a part of this file back to the system, where that can be done."""
    with contextlib.suppress(OSError):
        if _fallocate is not None and identity(fd) == expected:
            _fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, offset, length)


def is_clean(address: int, size: int) -> bool:
    """Whether nobody has written into a private mapping: all its pages are the file's. False where none can tell."""
    try:
        # Not opened once: in a forked child it would tell of the parent.
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries = os.pread(fd, size // PAGESIZE * 8, address // PAGESIZE * 8)
        finally:
            os.close(fd)
    except OSError:
        return False
    return len(entries) == size // PAGESIZE * 8 and not entries[_FLAGS::8].translate(None, _FILES)


def memory_bytes() -> int:
    """How much memory there is for this process: the machine's, or what its container may have of it."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        total = 8 << 30
    return min(total, memory_limit() or total)


def has_children() -> bool:
    """Whether there are processes that this one has started; those that have ended and were not waited for count."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:
        return True  # Not there on some platforms; who knows.
    return True
