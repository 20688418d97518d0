"""Runs tests as on a system that lacks something: ``AIOPOOL_WITHOUT=pidfd,memfd make test``, say.

What is to be lacking is taken away in the process of the tests (``tests/conftest.py``) and, by way of the
``sitecustomize`` beside this, in every interpreter that they start: scripts, kernels and workers.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "AIOPOOL_WITHOUT"


def python_path(*folders: str) -> str:
    """What PYTHONPATH must be for an interpreter that finds these folders and lacks what shall be lacking."""
    ours = [str(Path(__file__).parent)] if os.environ.get(VARIABLE) else []
    return os.pathsep.join([*ours, *folders])
