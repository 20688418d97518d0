"""Takes away from this interpreter what ``AIOPOOL_WITHOUT`` names; Python imports it when it starts."""

from __future__ import annotations

import errno
import os


def _no_libc_version(name: str) -> str:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as with musl


def take_away(names: str) -> None:
    """``pidfd``: a process is waited for by a thread. ``memfd``: pages are files. ``aio``: as without glibc."""
    for name in filter(None, names.split(",")):
        if name == "aio":
            os.confstr = _no_libc_version
            continue
        function = {"pidfd": "pidfd_open", "memfd": "memfd_create"}[name]
        if hasattr(os, function):
            delattr(os, function)


take_away(os.environ.get("AIOPOOL_WITHOUT", ""))
