"""One contender, in a process of its own: ``python -m benchmarks.speed.one SUBJECT CONTENDER SIZE FD``.

It gets ready and says so through the file descriptor; then it measures once for each line that it reads. Whatever a
pool prints goes elsewhere. A spawned child of another pool imports this module anew: it imports what is light.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, TextIO


def main() -> None:
    """Serve until the input ends."""
    key, title, size, descriptor = sys.argv[1:]
    # Whoever is measured starts processes: they must not hold the way by which it is seen that this one has ended.
    os.set_inheritable(int(descriptor), False)  # noqa: FBT003 - not inheritable
    with os.fdopen(int(descriptor), "w") as answers:
        try:
            _serve(answers, key, title, size)
        except BaseException:
            _tell(answers, {"error": traceback.format_exc()})
            raise


def _serve(answers: TextIO, key: str, title: str, size: str) -> None:
    from benchmarks.speed.subjects import Size, subject

    found = next(contender for contender in subject(key).contenders if contender.title == title)
    with found.open(Size(size)) as turn:
        _tell(answers, {})
        for _ in sys.stdin:
            _tell(answers, {"metrics": dict(turn())})


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
