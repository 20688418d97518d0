"""Scripts whose standard output or error is not what Python has put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pool.scripts import run, script

SCRIPT = """
import sys
from aiopool import Pool

class Tee:
    def __init__(self, *streams):
        self.streams = streams

    def write(self, text):
        for stream in self.streams:
            stream.write(text)

    def flush(self):
        pass

def talk(x):
    print("line", x)
    print("error", x, file=sys.stderr)
    return x

if __name__ == "__main__":
    {setup}
    with Pool(workers=1) as pool:
        done = pool.map(talk, range(3)).result()
    sys.__stdout__.write(f"{{list(done)}}\\n")
"""


@pytest.mark.parametrize(
    ("setup", "shows"),
    [
        ("sys.stderr = Tee(sys.stdout)", True),
        ("sys.stdout = Tee(sys.stdout); sys.stderr = Tee(sys.stdout)", True),
        ("sys.stderr = open('closed', 'w'); sys.stderr.close()", False),
        ("sys.stderr = None", False),
    ],
    ids=["tee of errors", "tee of both", "closed", "none"],
)
def test_a_script_may_put_anything_into_the_place_of_its_streams(tmp_path: Path, setup: str, *, shows: bool) -> None:
    """A job neither fails nor loses lines because a stream has no ``isatty``, or was closed."""
    out = run(script(tmp_path, SCRIPT.format(setup=setup)), cwd=tmp_path)
    assert out.count("[item") == (6 if shows else 3)
    assert out.endswith("[0, 1, 2]\n")
