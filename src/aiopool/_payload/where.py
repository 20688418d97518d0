"""Where a fresh interpreter finds what this room needs beyond the standard library."""

from __future__ import annotations

from pathlib import Path

import cloudpickle


def folder() -> str:
    """The folder on ``sys.path`` that cloudpickle was imported from."""
    return str(Path(cloudpickle.__file__).parent.parent)
