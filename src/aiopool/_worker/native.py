"""What the C library does at the end of the parent, in threads and handlers of its own; see :mod:`.guard`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from aiopool._worker.guard import SHELL

__all__ = ["last_resort", "wait"]

PR_SET_PDEATHSIG = 1
SIGEV_THREAD = 2


def last_resort(parent: int) -> None:
    """Have the system tell when the parent ends, should a child that C code forked of it hold the pipe then.

    The signal, which nothing else uses, calls ``alarm`` with its own number, 16: so many seconds later SIGALRM ends
    this process. It follows the thread that started us, which is the pool's own and lives as long as its workers.
    """
    if sys.platform == "linux" and hasattr(signal, "SIGSTKFLT"):
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(signal.SIGSTKFLT, ctypes.cast(libc.alarm, ctypes.c_void_p))
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGSTKFLT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # It died before we had asked.


class _Event(ctypes.Structure):
    """``struct sigevent``."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("reserved", ctypes.c_char * 32),
    )


class _Read(ctypes.Structure):
    """``struct aiocb``."""

    _fields_ = (
        ("file", ctypes.c_int),
        ("operation", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("event", _Event),
        ("private", ctypes.c_char * 128),
    )


class _Native:
    """A read that ends with the parent; what the library needs of it must live as long as the process."""

    def __init__(self, lifeline: int, command: str) -> None:
        self._command = ctypes.create_string_buffer(os.fsencode(command))
        self._buffer = ctypes.create_string_buffer(1)
        self._read = _Read(file=lifeline, buffer=ctypes.addressof(self._buffer), size=1)
        for used in (self._command, self._buffer, self._read):
            # Never freed, also not where this interpreter ends before the parent.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(used))
        libc = ctypes.CDLL(None)
        self._read.event.notify = SIGEV_THREAD
        self._read.event.value = ctypes.addressof(self._command)
        self._read.event.function = ctypes.cast(libc.system, ctypes.c_void_p).value
        self.waits: bool = libc.aio_read(ctypes.byref(self._read)) == 0


def wait(lifeline: int, command: str) -> bool:
    """Begin to wait for the end of the parent, upon which the command is run; False where this C library does not."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32 or not os.access(SHELL, os.X_OK):
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
    except (ValueError, OSError):
        return False  # As the C libraries say it that do not know the name; musl refuses it as an argument.
    return _Native(lifeline, command).waits
