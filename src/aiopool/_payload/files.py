"""Files without a name, for memory that processes share: gone with their last holder, of whatever that dies."""

from __future__ import annotations

import fcntl
import os

__all__ = ["anonymous", "identity"]


def anonymous(name: str) -> int:
    """A file that grows and never shrinks; inheritable only where it is passed on by hand."""
    try:
        # Missing on some platforms, and refused in some sandboxes.
        fd = os.memfd_create(f"aiopool-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        import tempfile  # with all that it knows of copying and packing

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    # Who has mapped what is cut off afterwards is ended by a signal when it looks there.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def identity(fd: int) -> tuple[int, int]:
    """Which file that is: an item's code may close what it finds open, and what it opens next gets the number."""
    told = os.fstat(fd)
    return told.st_dev, told.st_ino
