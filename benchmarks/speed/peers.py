"""Who is installed here, in which version, and who is not."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from benchmarks.speed.subjects import Contender, Size, Subject

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def wanted(text: str) -> list[str]:
    """The names in a file of requirements."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [re.split(r"[<>=!~\[; ]", line)[0] for line in lines if line]


def version(name: str) -> str | None:
    """Of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def present(subject: Subject, size: Size) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can be measured, and why not the others."""
    can, cannot = [], {}
    for contender in subject.contenders:
        if contender.slow and size is Size.QUICK:
            cannot[contender.title] = "left out of a quick run"
        elif contender.distribution and version(contender.distribution) is None:
            cannot[contender.title] = f"{contender.distribution} is not installed"
        else:
            can.append(contender)
    return can, cannot


def all_versions() -> tuple[dict[str, str], dict[str, str]]:
    """Of what the requirements name: what is there, and what is missing."""
    names = wanted(REQUIREMENTS.read_text(encoding="utf-8"))
    found = {name: version(name) for name in names}
    there = {name: number for name, number in found.items() if number is not None}
    return there, {name: "it is not installed here" for name in names if name not in there}
