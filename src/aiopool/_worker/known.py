"""What a worker imports later than it starts is the true one, whatever lies in the folder of the user.

A fresh worker does without asyncio, cloudpickle and what they ask for. Somebody else's ``platform.py`` beside the
notebook, where the kernel had imported the true one long before, must not stand in for it when they are needed.
"""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["NAMES", "find_now"]

NAMES = frozenset(
    (
        "_ast", "_asyncio", "_blake2", "_colorize", "_ctypes", "_hashlib", "_locale", "_opcode", "_opcode_metadata",
        "_posixsubprocess", "_socket", "_ssl", "_string", "_tokenize", "_uuid", "_wmi", "ast", "asyncio", "atexit",
        "base64", "binascii", "cloudpickle", "concurrent", "copy", "ctypes", "dataclasses", "dis", "hashlib", "inspect",
        "json", "linecache", "locale", "logging", "msvcrt", "opcode", "platform", "selectors", "socket", "ssl",
        "string", "subprocess", "textwrap", "token", "tokenize", "traceback", "uuid", "zlib",
    )
)  # fmt: skip
"""What asyncio, cloudpickle, tracebacks, displays and the guard ask for, of what is not there when a worker starts.

Two of them are Windows's: not to be found is what they are asked for elsewhere.
"""


class _Known:
    """Finds these where they are found now."""

    def __init__(self) -> None:
        self._path = list(sys.path)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks for it."""
        if path is not None or name not in NAMES:
            return None
        spec = BuiltinImporter.find_spec(name) or PathFinder.find_spec(name, self._path, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def find_now() -> None:
    """Before the path becomes the kernel's."""
    sys.meta_path.insert(0, _Known())
